#include "image_group.h"

#include "members.h"

#include <stdio.h>
#include <string.h>

static const struct smp_result ok = {0, SMP_RC_OK};
static const struct smp_result invalid = {0, SMP_RC_INVALID};
static const struct smp_result full = {0, SMP_RC_TOO_LARGE};

static struct smp_result refuse(enum image_group_rc rc)
{
    return (struct smp_result){IMAGE_GROUP_ID, (uint16_t)rc};
}

static struct smp_result from_slots(enum slots_status status)
{
    switch (status) {
    case SLOTS_OK:
        return ok;
    case SLOTS_TOO_LARGE:
        return refuse(IMAGE_GROUP_TOO_LARGE);
    case SLOTS_BAD_LENGTH:
        return refuse(IMAGE_GROUP_INVALID_LENGTH);
    case SLOTS_BAD_TLVS:
    case SLOTS_BAD_SIGNATURE:
        return refuse(IMAGE_GROUP_INVALID_TLV);
    case SLOTS_BAD_HASH:
        return refuse(IMAGE_GROUP_INVALID_HASH);
    case SLOTS_NOT_SIGNED:
        return refuse(IMAGE_GROUP_NO_TLVS);
    case SLOTS_DOWNGRADE:
        return refuse(IMAGE_GROUP_OLDER);
    case SLOTS_NO_UPLOAD:
        return refuse(IMAGE_GROUP_NO_UPLOAD);
    case SLOTS_FLASH_FAILED:
        return refuse(IMAGE_GROUP_FLASH_FAILED);
    case SLOTS_RUNNING:
        return refuse(IMAGE_GROUP_INVALID_SLOT);
    case SLOTS_NOT_AN_IMAGE:
    default:
        return refuse(IMAGE_GROUP_INVALID_HEADER);
    }
}

static bool put_flag(zcbor_state_t *answer, const char *name, bool value)
{
    return zcbor_tstr_put_term(answer, name, 16) && zcbor_bool_put(answer, value);
}

static bool put_image(zcbor_state_t *answer, const struct slots *slots, unsigned slot, const struct image *image,
                      bool bootable)
{
    const bool active = slot == slots->running;
    const bool next = !active && bootable && image_version_compare(&image->version, &slots->floor) > 0;
    char version[24];
    int length = snprintf(version, sizeof version, "%u.%u.%u", image->version.major, image->version.minor,
                          image->version.revision);

    if (image->version.build != 0) {
        length = snprintf(version, sizeof version, "%u.%u.%u.%lu", image->version.major, image->version.minor,
                          image->version.revision, (unsigned long)image->version.build);
    }
    return length > 0 && zcbor_map_start_encode(answer, 9) && zcbor_tstr_put_lit(answer, "image") &&
           zcbor_uint32_put(answer, 0) && zcbor_tstr_put_lit(answer, "slot") && zcbor_uint32_put(answer, slot) &&
           zcbor_tstr_put_lit(answer, "version") && zcbor_tstr_encode_ptr(answer, version, (size_t)length) &&
           zcbor_tstr_put_lit(answer, "hash") &&
           zcbor_bstr_encode_ptr(answer, (const char *)image->hash, sizeof image->hash) &&
           put_flag(answer, "bootable", bootable) && put_flag(answer, "pending", next) &&
           put_flag(answer, "confirmed", active) && put_flag(answer, "active", active) &&
           put_flag(answer, "permanent", next) && zcbor_map_end_encode(answer, 9);
}

static struct smp_result put_list(const struct slots *slots, zcbor_state_t *answer)
{
    bool fits = zcbor_tstr_put_lit(answer, "images") && zcbor_list_start_encode(answer, SLOTS_COUNT);

    for (unsigned slot = 0; fits && slot < SLOTS_COUNT; slot++) {
        const struct flash *flash = slots->flash[slot];
        const struct image_source source = {.context = flash->context, .size = flash->size, .read = flash->read};
        struct image image;

        if (image_read(&source, &image) == IMAGE_OK) {
            struct image verified;

            fits = put_image(answer, slots, slot, &image, slots_check(slots, slot, &verified) == IMAGE_OK);
        }
    }
    fits = fits && zcbor_list_end_encode(answer, SLOTS_COUNT) && zcbor_tstr_put_lit(answer, "splitStatus") &&
           zcbor_uint32_put(answer, 0);
    return fits ? ok : full;
}

static struct smp_result list(void *context, const uint8_t *body, size_t length, zcbor_state_t *answer)
{
    const struct image_group *group = context;

    (void)body;
    (void)length;
    return put_list(group->slots, answer);
}

/* Test and confirm: see image_group.h. Without a hash it is about what runs. */
static struct smp_result set_state(void *context, const uint8_t *body, size_t length, zcbor_state_t *answer)
{
    const struct image_group *group = context;
    struct member members[] = {{.name = "hash", .kind = MEMBER_OCTETS}, {.name = "confirm", .kind = MEMBER_FLAG}};
    const struct member *hash = &members[0], *confirm = &members[1];

    if (!members_read(body, length, members, 2) || (!hash->seen && confirm->number == 0)) {
        return invalid;
    }
    for (unsigned slot = 0; slot < SLOTS_COUNT; slot++) {
        const struct flash *flash = group->slots->flash[slot];
        const struct image_source source = {.context = flash->context, .size = flash->size, .read = flash->read};
        struct image image;

        if (image_read(&source, &image) != IMAGE_OK) {
            continue;
        }
        if (hash->seen ? hash->length == sizeof image.hash && memcmp(hash->bytes, image.hash, sizeof image.hash) == 0
                       : slot == group->slots->running) {
            return slots_check(group->slots, slot, &image) == IMAGE_OK ? put_list(group->slots, answer)
                                                                       : refuse(IMAGE_GROUP_CONFIRM_DENIED);
        }
    }
    return refuse(IMAGE_GROUP_NO_IMAGE);
}

/* The first chunk: it says how long the image is. Leaves slots->next at 0, or where the same upload stood. */
static struct smp_result begin(struct image_group *group, const struct member *total, const struct member *sha)
{
    if (!total->seen || (sha->seen && sha->length > sizeof group->sha)) {
        return invalid;
    }
    if (total->number > UINT32_MAX) {
        return refuse(IMAGE_GROUP_TOO_LARGE);
    }
    if (group->slots->open && group->has_sha && sha->seen && sha->length == sizeof group->sha &&
        memcmp(sha->bytes, group->sha, sizeof group->sha) == 0 && group->slots->total == total->number) {
        return ok;
    }
    group->has_sha = sha->seen && sha->length == sizeof group->sha;
    if (group->has_sha) {
        memcpy(group->sha, sha->bytes, sizeof group->sha);
    }
    return from_slots(slots_upload_begin(group->slots, (size_t)total->number));
}

static struct smp_result upload(void *context, const uint8_t *body, size_t length, zcbor_state_t *answer)
{
    struct image_group *group = context;
    struct slots *slots = group->slots;
    struct member members[] = {
        {.name = "off", .kind = MEMBER_NUMBER}, {.name = "len", .kind = MEMBER_NUMBER},
        {.name = "sha", .kind = MEMBER_OCTETS}, {.name = "data", .kind = MEMBER_OCTETS},
        {.name = "image", .kind = MEMBER_NUMBER},
    };
    const struct member *offset = &members[0], *data = &members[3], *image = &members[4];
    struct smp_result result = ok;

    if (!members_read(body, length, members, 5) || !offset->seen || !data->seen) {
        return invalid;
    }
    if (image->number != 0) {
        return refuse(IMAGE_GROUP_INVALID_SLOT);
    }
    if (offset->number == 0) {
        result = begin(group, &members[1], &members[2]);
    } else if (!slots->open) {
        result = refuse(IMAGE_GROUP_NO_UPLOAD);
    }
    if (result.rc == SMP_RC_OK && offset->number == slots->next) {
        result = from_slots(slots_upload(slots, data->bytes, data->length));
    }
    if (result.rc != SMP_RC_OK) {
        return result;
    }
    return zcbor_tstr_put_lit(answer, "off") && zcbor_size_put(answer, slots->next) ? ok : full;
}

static struct smp_result erase(void *context, const uint8_t *body, size_t length, zcbor_state_t *answer)
{
    const struct image_group *group = context;
    struct member slot = {.name = "slot", .kind = MEMBER_NUMBER, .number = 1U - group->slots->running};

    (void)answer;
    if (length > 0 && !members_read(body, length, &slot, 1)) {
        return invalid;
    }
    return slot.number < SLOTS_COUNT ? from_slots(slots_erase(group->slots, (unsigned)slot.number))
                                     : refuse(IMAGE_GROUP_INVALID_SLOT);
}

struct smp_group image_group(struct image_group *group, struct slots *slots)
{
    static const struct smp_command commands[] = {
        {SMP_OP_READ, 0, list},
        {SMP_OP_WRITE, 0, set_state},
        {SMP_OP_WRITE, 1, upload},
        {SMP_OP_WRITE, 5, erase},
    };

    *group = (struct image_group){.slots = slots};
    return (struct smp_group){IMAGE_GROUP_ID, group, commands, sizeof commands / sizeof commands[0]};
}
