/* Flash in the host's memory that keeps the rules of flash.h, and whose power can be cut after any unit. */
#ifndef BIRTHMARK_FLASH_MODEL_H
#define BIRTHMARK_FLASH_MODEL_H

#include "check.h"
#include "flash.h"

#define MODEL_SECTOR 4096U
#define MODEL_UNIT 4U
#define MODEL_SIZE (4U * MODEL_SECTOR)
#define MODEL_NEVER SIZE_MAX

struct flash_model {
    size_t power; /* units that can still be written or erased, of all flash together, before the power goes */
};

struct model_area {
    struct flash_model *model;
    uint8_t bytes[MODEL_SIZE];
};

static inline bool model_power(struct flash_model *model)
{
    if (model->power == MODEL_NEVER) {
        return true;
    }
    if (model->power == 0) {
        return false;
    }
    model->power--;
    return true;
}

static inline bool model_read(void *context, size_t offset, uint8_t *out, size_t length)
{
    const struct model_area *area = context;

    CHECK(offset <= MODEL_SIZE && length <= MODEL_SIZE - offset);
    memcpy(out, area->bytes + offset, length);
    return true;
}

static inline bool model_write(void *context, size_t offset, const uint8_t *bytes, size_t length)
{
    struct model_area *area = context;

    CHECK(offset % MODEL_UNIT == 0 && length % MODEL_UNIT == 0);
    CHECK(offset <= MODEL_SIZE && length <= MODEL_SIZE - offset);
    for (size_t at = 0; at < length; at += MODEL_UNIT) {
        if (!model_power(area->model)) {
            return false;
        }
        for (size_t i = 0; i < MODEL_UNIT; i++) {
            CHECK(area->bytes[offset + at + i] == 0xff); /* erased first */
            area->bytes[offset + at + i] = bytes[at + i];
        }
    }
    return true;
}

static inline bool model_erase(void *context, size_t offset, size_t length)
{
    struct model_area *area = context;

    CHECK(offset % MODEL_SECTOR == 0 && length % MODEL_SECTOR == 0 && offset + length <= MODEL_SIZE);
    for (size_t at = 0; at < length; at += MODEL_SECTOR / 4) { /* an erase that is cut leaves part of a sector */
        if (!model_power(area->model)) {
            return false;
        }
        memset(area->bytes + offset + at, 0xff, MODEL_SECTOR / 4);
    }
    return true;
}

static inline struct flash model_flash(struct model_area *area, struct flash_model *model, size_t size)
{
    area->model = model;
    memset(area->bytes, 0xff, sizeof area->bytes);
    return (struct flash){area, size, MODEL_SECTOR, MODEL_UNIT, model_read, model_write, model_erase};
}

#endif
