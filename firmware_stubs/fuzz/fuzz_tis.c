/* A TPM that answers anything on the bus: time-outs and refusals, and no byte outside the response. */
#include "check.h"
#include "tis_spi.h"

struct garbage {
    const uint8_t *data;
    size_t size;
    uint32_t clock;
};

static void garbage_select(void *context, bool selected)
{
    (void)context;
    (void)selected;
}

static bool garbage_exchange(void *context, const uint8_t *out, uint8_t *in, size_t length)
{
    struct garbage *garbage = context;

    (void)out;
    for (size_t i = 0; in != NULL && i < length; i++) {
        in[i] = garbage->size > 0 ? (garbage->size--, *garbage->data++) : 0xff;
    }
    return true;
}

static uint32_t garbage_now(void *context)
{
    struct garbage *garbage = context;

    return garbage->clock += 20;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t get_random[12] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8};
    struct garbage garbage = {data, size, 0};
    struct tis_spi spi = {&garbage, garbage_select, garbage_exchange, garbage_now};
    const struct tis_bus bus = tis_spi_bus(&spi);
    struct guarded response = guarded_make(128);
    struct tis tis;
    size_t length = 0;

    if (tis_begin(&tis, &bus, 500) == TPM_OK) {
        const struct tpm tpm = tis_tpm(&tis);

        if (tpm.transact(tpm.context, get_random, sizeof get_random, response.middle, response.size, &length) == TPM_OK) {
            CHECK(length >= TPM_HEADER_BYTES && length <= response.size);
        }
    }
    guarded_free(response);
    return 0;
}
