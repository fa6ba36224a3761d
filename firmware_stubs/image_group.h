/* SMP group 1, "image": list, test and confirm (0), upload (1), erase (5).
 *
 * The bootloader starts the higher version of two good images, so there is no state to set: test and confirm say whether the
 * image named is one that may run, and refuse what is not signed by our key. There is no way back to a lower version.
 * Upload takes image 0 only, and answers with the offset that it wants next. The same upload announced again (same "sha",
 * same "len") goes on where it stood.
 *
 * Errors are those of Zephyr's image group, by number: enum image_group_rc.
 * Source: Zephyr, "MCUmgr: application/software image management group".
 */
#ifndef BIRTHMARK_IMAGE_GROUP_H
#define BIRTHMARK_IMAGE_GROUP_H

#include "slots.h"
#include "smp.h"

#define IMAGE_GROUP_ID 1U

enum image_group_rc {
    IMAGE_GROUP_NO_IMAGE = 3,
    IMAGE_GROUP_NO_TLVS = 4,      /* no signature */
    IMAGE_GROUP_INVALID_TLV = 5,  /* TLVs that can't be, or a signature that is not our key's */
    IMAGE_GROUP_FLASH_FAILED = 12,
    IMAGE_GROUP_INVALID_SLOT = 14,
    IMAGE_GROUP_NO_UPLOAD = 17,
    IMAGE_GROUP_INVALID_LENGTH = 21,
    IMAGE_GROUP_INVALID_HEADER = 22,
    IMAGE_GROUP_INVALID_HASH = 24,
    IMAGE_GROUP_OLDER = 27,
    IMAGE_GROUP_TOO_LARGE = 30,
    IMAGE_GROUP_CONFIRM_DENIED = 32,
};

struct image_group {
    struct slots *slots;
    uint8_t sha[IMAGE_HASH_BYTES]; /* of the upload that goes on */
    bool has_sha;
};

struct smp_group image_group(struct image_group *group, struct slots *slots);

#endif
