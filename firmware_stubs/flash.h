/* Non-volatile memory, as a board has it: the first of the two things to port (tpm.h is the other).
 *
 * Offsets count from the area's own beginning. A write goes to erased bytes only, begins and ends at a multiple of `unit`,
 * and of a write that a power cut ends any part may have happened, but every unit wholly or not at all. An erase is by
 * whole sectors, in any order within one call, and may likewise be cut. Erased bytes read 0xff.
 */
#ifndef BIRTHMARK_FLASH_H
#define BIRTHMARK_FLASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLASH_UNIT_MAX 16U

struct flash {
    void *context;
    size_t size;   /* bytes, whole sectors */
    size_t sector; /* bytes */
    size_t unit;   /* bytes, a power of two, at most FLASH_UNIT_MAX */
    bool (*read)(void *context, size_t offset, uint8_t *out, size_t length);
    bool (*write)(void *context, size_t offset, const uint8_t *bytes, size_t length);
    bool (*erase)(void *context, size_t offset, size_t length);
};

#endif
