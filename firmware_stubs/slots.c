#include "slots.h"

#include <string.h>

static unsigned other(const struct slots *slots)
{
    return 1U - slots->running;
}

static const struct flash *target(const struct slots *slots)
{
    return slots->flash[other(slots)];
}

static struct image_source source_of(const struct flash *flash)
{
    return (struct image_source){.context = flash->context, .size = flash->size, .read = flash->read};
}

void slots_begin(struct slots *slots, const struct flash *const flash[SLOTS_COUNT], const uint8_t *key, unsigned running)
{
    struct image image;

    *slots = (struct slots){.flash = {flash[0], flash[1]}, .key = key, .running = running};
    const struct image_source source = source_of(flash[running]);

    if (image_read(&source, &image) == IMAGE_OK) {
        slots->floor = image.version;
        slots->floor_counter = image.counter;
    }
}

enum image_status slots_check(const struct slots *slots, unsigned slot, struct image *out)
{
    const struct image_source source = source_of(slots->flash[slot]);

    return image_verify(&source, slots->key, out);
}

enum slots_status slots_erase(struct slots *slots, unsigned slot)
{
    if (slot >= SLOTS_COUNT || slot == slots->running) {
        return SLOTS_RUNNING;
    }
    const struct flash *flash = slots->flash[slot];

    slots->open = false;
    if (!flash->erase(flash->context, 0, flash->sector) ||
        (flash->size > flash->sector && !flash->erase(flash->context, flash->sector, flash->size - flash->sector))) {
        return SLOTS_FLASH_FAILED;
    }
    return SLOTS_OK;
}

enum slots_status slots_upload_begin(struct slots *slots, size_t total)
{
    slots->open = false;
    if (total > target(slots)->size) {
        return SLOTS_TOO_LARGE;
    }
    if (total <= HELD_BYTES) {
        return SLOTS_BAD_LENGTH;
    }
    const enum slots_status erased = slots_erase(slots, other(slots));

    if (erased == SLOTS_OK) {
        memset(slots->held, 0xff, sizeof slots->held);
        slots->total = total;
        slots->next = 0;
        slots->open = true;
    }
    return erased;
}

/* The image as it will be: what is held back, then what is written. */
static bool read_upload(void *context, size_t offset, uint8_t *out, size_t length)
{
    const struct slots *slots = context;
    const struct flash *flash = target(slots);
    const size_t from_held = offset >= HELD_BYTES ? 0 : length < HELD_BYTES - offset ? length : HELD_BYTES - offset;

    if (from_held > 0) {
        memcpy(out, slots->held + offset, from_held);
    }
    return length == from_held ||
           flash->read(flash->context, offset + from_held, out + from_held, length - from_held);
}

static enum slots_status from_image(enum image_status status)
{
    switch (status) {
    case IMAGE_OK:
        return SLOTS_OK;
    case IMAGE_TOO_LARGE:
        return SLOTS_BAD_LENGTH; /* more than was announced: the source ends there */
    case IMAGE_BAD_TLVS:
        return SLOTS_BAD_TLVS;
    case IMAGE_BAD_HASH:
        return SLOTS_BAD_HASH;
    case IMAGE_NOT_SIGNED:
        return SLOTS_NOT_SIGNED;
    case IMAGE_BAD_SIGNATURE:
        return SLOTS_BAD_SIGNATURE;
    case IMAGE_UNREADABLE:
        return SLOTS_FLASH_FAILED;
    case IMAGE_NONE:
    case IMAGE_BAD_HEADER:
    default:
        return SLOTS_NOT_AN_IMAGE;
    }
}

static enum slots_status verify(struct slots *slots)
{
    struct image image;
    const struct image_source source = {.context = slots, .size = slots->total, .read = read_upload};
    const enum slots_status status = from_image(image_verify(&source, slots->key, &image));

    if (status != SLOTS_OK) {
        return status;
    }
    if (image.total != slots->total) {
        return SLOTS_BAD_LENGTH;
    }
    if (image_version_compare(&image.version, &slots->floor) <= 0 || image.counter < slots->floor_counter) {
        return SLOTS_DOWNGRADE;
    }
    return SLOTS_OK;
}

/* Verify, then write what was held back, the magic number last. */
static enum slots_status finish(struct slots *slots)
{
    const struct flash *flash = target(slots);
    const enum slots_status status = verify(slots);

    if (status != SLOTS_OK) {
        return status;
    }
    if (!flash->write(flash->context, flash->unit, slots->held + flash->unit, HELD_BYTES - flash->unit) ||
        !flash->write(flash->context, 0, slots->held, flash->unit)) {
        return SLOTS_FLASH_FAILED;
    }
    return SLOTS_OK;
}

/* Write bytes at slots->next, which is past what is held back, and return how many were taken. */
static bool write_body(struct slots *slots, const uint8_t *bytes, size_t length, size_t *taken)
{
    const struct flash *flash = target(slots);
    const size_t whole = length - length % flash->unit;
    const size_t rest = length - whole;
    uint8_t last[FLASH_UNIT_MAX];

    *taken = whole;
    if (whole > 0 && !flash->write(flash->context, slots->next, bytes, whole)) {
        return false;
    }
    if (rest == 0 || slots->next + length < slots->total) {
        return true;
    }
    memset(last, 0xff, sizeof last);
    memcpy(last, bytes + whole, rest);
    *taken = length;
    return flash->write(flash->context, slots->next + whole, last, flash->unit);
}

enum slots_status slots_upload(struct slots *slots, const uint8_t *bytes, size_t length)
{
    enum slots_status status = SLOTS_OK;

    if (!slots->open) {
        return SLOTS_NO_UPLOAD;
    }
    if (length > slots->total - slots->next) {
        slots->open = false;
        return SLOTS_BAD_LENGTH;
    }
    if (slots->next < HELD_BYTES) {
        const size_t part = length < HELD_BYTES - slots->next ? length : HELD_BYTES - slots->next;

        memcpy(slots->held + slots->next, bytes, part);
        slots->next += part;
        bytes += part;
        length -= part;
    }
    if (length > 0) {
        size_t taken = 0;

        if (!write_body(slots, bytes, length, &taken)) {
            status = SLOTS_FLASH_FAILED;
        }
        slots->next += taken;
    }
    if (status == SLOTS_OK && slots->next == slots->total) {
        status = finish(slots);
        slots->open = false;
    }
    if (status != SLOTS_OK) {
        slots->open = false;
    }
    return status;
}
