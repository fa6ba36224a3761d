/* A TPM behind SPI, as the host's memory has it: the slave's side of tis_spi.h and of the FIFO's states.
 *
 * Everything that a bad TPM may do is a knob: wait states, a small or absurd burst count, silence, a wrong size.
 */
#ifndef BIRTHMARK_TIS_MODEL_H
#define BIRTHMARK_TIS_MODEL_H

#include "check.h"
#include "tis_spi.h"

struct tis_model {
    /* Knobs. */
    unsigned waits;         /* wait states before each transfer */
    uint16_t burst;         /* what STS says */
    bool no_locality, never_ready, never_answers, never_expects, dead_bus;
    const uint8_t *answer;  /* what it answers */
    size_t answer_length;
    size_t gives;           /* bytes that it really has; more or less than the answer's size says */
    /* State. */
    bool selected, active, ready, going;
    unsigned header_bytes, waits_left;
    uint8_t header[4];
    size_t position;        /* in the register that is accessed */
    uint8_t command[TPM_COMMAND_MAX + 64];
    size_t command_length, answered;
    size_t burst_used;      /* bytes since STS was read: never more than the burst count */
    uint32_t clock;
    unsigned selections;
};

static inline uint32_t model_now(void *context)
{
    struct tis_model *model = context;

    return model->clock++; /* a millisecond for each look */
}

static inline void model_select(void *context, bool selected)
{
    struct tis_model *model = context;

    CHECK(model->selected != selected);
    model->selected = selected;
    model->header_bytes = 0;
    model->position = 0;
    model->waits_left = model->waits;
    model->selections++;
}

static inline size_t model_expected(const struct tis_model *model)
{
    return model->command_length < 6 ? TPM_HEADER_BYTES : tpm_size(model->command);
}

static inline uint8_t model_status(const struct tis_model *model)
{
    uint8_t status = 0x80;

    if (model->ready && !model->never_ready && model->command_length == 0) {
        status |= 0x40;
    }
    if (model->ready && !model->going && !model->never_expects && model->command_length < model_expected(model)) {
        status |= 0x08;
    }
    if (model->going && !model->never_answers && model->answered < model->gives) {
        status |= 0x10;
    }
    return status;
}

static inline uint8_t model_get(struct tis_model *model, uint32_t offset, size_t at)
{
    if (offset == 0x000) {
        return (uint8_t)(0x80 | (model->active ? 0x20 : 0));
    }
    if (offset == 0x018) {
        if (at == 1) {
            model->burst_used = 0;
        }
        return at == 0 ? model_status(model) : at == 1 ? (uint8_t)model->burst : at == 2 ? (uint8_t)(model->burst >> 8) : 0;
    }
    CHECK(offset == 0x024);
    CHECK(++model->burst_used <= model->burst);
    const size_t next = model->answered++;

    return next < model->answer_length ? model->answer[next] : 0xff;
}

static inline void model_put(struct tis_model *model, uint32_t offset, uint8_t value)
{
    if (offset == 0x000) {
        model->active = value == 0x02 ? !model->no_locality : value == 0x20 ? false : model->active;
    } else if (offset == 0x018) {
        model->going = value == 0x20;
        model->ready = value == 0x40 || model->going;
        if (value == 0x40) {
            model->command_length = 0;
            model->answered = 0;
        }
    } else {
        CHECK(offset == 0x024 && model->ready && !model->going);
        CHECK(++model->burst_used <= model->burst);
        CHECK(model->command_length < sizeof model->command);
        model->command[model->command_length++] = value;
    }
}

static inline bool model_exchange(void *context, const uint8_t *out, uint8_t *in, size_t length)
{
    struct tis_model *model = context;

    CHECK(model->selected);
    if (model->dead_bus) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        uint8_t answer = 0;

        if (model->header_bytes < 4) {
            model->header[model->header_bytes++] = out[i];
            answer = model->header_bytes == 4 && model->waits_left == 0 ? 0x01 : 0x00;
        } else if (model->waits_left > 0) {
            answer = --model->waits_left == 0 ? 0x01 : 0x00;
        } else {
            const uint32_t address = (uint32_t)model->header[1] << 16 | (uint32_t)model->header[2] << 8 | model->header[3];

            CHECK((address & 0xfff000U) == 0xd40000U);
            CHECK(model->position < (model->header[0] & 0x3fU) + 1U);
            if ((model->header[0] & 0x80U) != 0) {
                answer = model_get(model, address & 0xfffU, model->position);
            } else {
                model_put(model, address & 0xfffU, out[i]);
            }
            model->position++;
        }
        if (in != NULL) {
            in[i] = answer;
        }
    }
    return true;
}

#endif
