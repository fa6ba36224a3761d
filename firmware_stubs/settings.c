#include "settings.h"

#include <string.h>

/* A copy: magic, sequence, locked (0 or 1), length, CRC-32 over these and the record, padding to 32; then the record. */
#define MAGIC 0x31534d42U /* "BMS1" */
#define HEAD_BYTES 32U
#define CRC_AT 16U

static void put32(uint8_t *out, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        out[i] = (uint8_t)(value >> (8U * i));
    }
}

static uint32_t get32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint32_t crc32(uint32_t crc, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = (crc & 1U) != 0 ? crc >> 1 ^ 0xedb88320U : crc >> 1;
        }
    }
    return crc;
}

static uint32_t crc_of(const uint8_t *head, const uint8_t *record, size_t length)
{
    return ~crc32(crc32(UINT32_MAX, head, CRC_AT), record, length);
}

enum copy { COPY_BLANK, COPY_GOOD, COPY_BROKEN };

/* Read one sector's copy; out is the whole of it, where it is good. */
static enum copy read_copy(const struct flash *flash, unsigned sector, struct settings *out)
{
    uint8_t head[HEAD_BYTES];
    const size_t at = sector * flash->sector;
    bool blank = true;

    if (!flash->read(flash->context, at, head, sizeof head)) {
        return COPY_BROKEN;
    }
    for (size_t i = 0; i < sizeof head; i++) {
        blank = blank && head[i] == 0xff;
    }
    if (blank) {
        return COPY_BLANK;
    }
    const uint32_t length = get32(head + 12);

    if (get32(head) != MAGIC || get32(head + 8) > 1 || length > SETTINGS_RECORD_MAX ||
        !flash->read(flash->context, at + HEAD_BYTES, out->record, length) ||
        crc_of(head, out->record, length) != get32(head + CRC_AT)) {
        return COPY_BROKEN;
    }
    out->sequence = get32(head + 4);
    out->locked = get32(head + 8) == 1;
    out->record_length = length;
    out->newest = sector;
    return COPY_GOOD;
}

enum settings_status settings_begin(struct settings *settings, const struct flash *flash)
{
    unsigned broken = 0;
    bool locked = false;
    uint32_t best = 0;
    int newest = -1;

    *settings = (struct settings){.flash = flash, .locked = true, .newest = 1};
    for (unsigned sector = 0; sector < 2; sector++) {
        const enum copy copy = read_copy(flash, sector, settings);

        if (copy == COPY_GOOD) {
            locked = locked || settings->locked;
            if (newest < 0 || settings->sequence > best) {
                newest = (int)sector;
                best = settings->sequence;
            }
        }
        broken += copy == COPY_BROKEN ? 1U : 0U;
    }
    if (newest >= 0) {
        if (read_copy(flash, (unsigned)newest, settings) != COPY_GOOD) {
            settings->locked = true;
            return SETTINGS_FLASH_FAILED;
        }
        settings->locked = locked;
        return SETTINGS_OK;
    }
    settings->sequence = 0;
    settings->record_length = 0;
    settings->newest = 1;
    settings->locked = broken == 2;
    return broken == 2 ? SETTINGS_FLASH_FAILED : SETTINGS_OK;
}

static enum settings_status write_copy(struct settings *settings, bool locked)
{
    const struct flash *flash = settings->flash;
    const unsigned sector = 1U - settings->newest;
    const size_t at = sector * flash->sector;
    /* Whole units: record and padding in one buffer, which is no larger than the record's bound. */
    uint8_t copy[HEAD_BYTES + SETTINGS_RECORD_MAX];
    const size_t length = settings->record_length;
    const size_t padded = (length + FLASH_UNIT_MAX - 1) / FLASH_UNIT_MAX * FLASH_UNIT_MAX;

    memset(copy, 0xff, sizeof copy);
    put32(copy, MAGIC);
    put32(copy + 4, settings->sequence + 1);
    put32(copy + 8, locked ? 1 : 0);
    put32(copy + 12, (uint32_t)length);
    memcpy(copy + HEAD_BYTES, settings->record, length);
    put32(copy + CRC_AT, crc_of(copy, copy + HEAD_BYTES, length));
    if (!flash->erase(flash->context, at, flash->sector) ||
        !flash->write(flash->context, at, copy, HEAD_BYTES + padded)) {
        return SETTINGS_FLASH_FAILED;
    }
    settings->newest = sector;
    settings->sequence++;
    return SETTINGS_OK;
}

enum settings_status settings_keep(struct settings *settings, const uint8_t *record, size_t length)
{
    if (settings->locked) {
        return SETTINGS_LOCKED;
    }
    if (length > SETTINGS_RECORD_MAX) {
        return SETTINGS_TOO_LARGE;
    }
    memcpy(settings->record, record, length);
    settings->record_length = length;
    return write_copy(settings, false);
}

enum settings_status settings_lock(struct settings *settings)
{
    settings->locked = true;
    const enum settings_status first = write_copy(settings, true);

    return first == SETTINGS_OK ? write_copy(settings, true) : first;
}
