/* What a device keeps for good: the unit's record, and that it left factory mode. Two copies, a flash sector each.
 *
 * Rules:
 * - A copy is written whole into the sector that is not the newest's; a power cut leaves the one before it.
 * - Locked is locked: any good copy that says so is enough, and locking writes both. Cut before the first is whole, the
 *   device is in factory mode as before; from then on it is locked.
 * - Two broken copies: locked. What can't be read opens nothing. One beside a blank sector is the very first copy, cut short:
 *   factory mode, as both sectors of a locked device were written.
 */
#ifndef BIRTHMARK_SETTINGS_H
#define BIRTHMARK_SETTINGS_H

#include "flash.h"

#define SETTINGS_RECORD_MAX 1024U

enum settings_status {
    SETTINGS_OK = 0,
    SETTINGS_LOCKED,
    SETTINGS_TOO_LARGE,
    SETTINGS_FLASH_FAILED,
};

struct settings {
    const struct flash *flash; /* two sectors, each at least SETTINGS_RECORD_MAX + 32 bytes */
    uint32_t sequence;         /* of the newest copy; 0 before the first */
    unsigned newest;           /* its sector */
    bool locked;
    size_t record_length;
    uint8_t record[SETTINGS_RECORD_MAX];
};

/* Read what is there. SETTINGS_FLASH_FAILED: it can't be read, and is locked. */
enum settings_status settings_begin(struct settings *settings, const struct flash *flash);

/* Keep a record in place of the one before. */
enum settings_status settings_keep(struct settings *settings, const uint8_t *record, size_t length);

/* End factory mode. Fine to repeat: a device that lost power while it was locked is locked wholly by the next call. */
enum settings_status settings_lock(struct settings *settings);

#endif
