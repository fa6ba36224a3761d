/* The two slots that a bootloader chooses from, and an upload into the one that does not run.
 *
 * Rules:
 * - What runs is never touched.
 * - The first HELD_BYTES of an upload, its header among them, stay in RAM until the whole image is verified by our key. They
 *   are written last, their first unit, with the magic number, after all others. So at any power cut the slot is without
 *   a magic number, or holds an image that was verified: no unsigned code is ever bootable.
 * - Erasing begins with the header's sector, for the same reason.
 * - An upload's version is higher than that of the image that runs, and its security counter no lower.
 */
#ifndef BIRTHMARK_SLOTS_H
#define BIRTHMARK_SLOTS_H

#include "flash.h"
#include "image.h"

#define SLOTS_COUNT 2U
#define HELD_BYTES 512U

enum slots_status {
    SLOTS_OK = 0,
    SLOTS_NOT_AN_IMAGE, /* its first bytes are no header */
    SLOTS_TOO_LARGE,
    SLOTS_BAD_LENGTH,   /* shorter than a header, longer than said, or not as long as its header says */
    SLOTS_BAD_TLVS,
    SLOTS_BAD_HASH,
    SLOTS_NOT_SIGNED,
    SLOTS_BAD_SIGNATURE,
    SLOTS_DOWNGRADE,
    SLOTS_NO_UPLOAD,    /* none is going on */
    SLOTS_FLASH_FAILED,
    SLOTS_RUNNING,      /* not while it runs */
};

struct slots {
    const struct flash *flash[SLOTS_COUNT];
    const uint8_t *key; /* IMAGE_POINT_BYTES */
    unsigned running;
    struct image_version floor; /* of what runs */
    uint32_t floor_counter;
    /* The upload. */
    bool open;
    size_t total, next;
    uint8_t held[HELD_BYTES];
};

/* Begin. flash: the caller's, both of one shape, their unit a divisor of HELD_BYTES. key: our public key, 04, x, y.
 * running: 0 or 1. What runs sets the floor for versions; where it is no whole image, there is no floor. */
void slots_begin(struct slots *slots, const struct flash *const flash[SLOTS_COUNT], const uint8_t *key, unsigned running);

/* Check the image in a slot, signature included. */
enum image_status slots_check(const struct slots *slots, unsigned slot, struct image *out);

/* Erase a slot. SLOTS_RUNNING for the one that runs. An upload that is going on ends. */
enum slots_status slots_erase(struct slots *slots, unsigned slot);

/* Begin an upload of `total` bytes into the slot that does not run. */
enum slots_status slots_upload_begin(struct slots *slots, size_t total);

/* Take the next bytes, at slots->next, which moves on: less than `length` where the flash can't write the odd rest yet, which
 * is then to be sent again. The last ones verify the image and make it bootable; slots->open is false then. Any failure
 * ends the upload, and leaves nothing that boots.
 */
enum slots_status slots_upload(struct slots *slots, const uint8_t *bytes, size_t length);

#endif
