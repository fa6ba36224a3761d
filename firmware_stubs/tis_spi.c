#include "tis_spi.h"

#define BASE 0xD40000U
#define READ 0x80U
#define GO_ON 0x01U

static bool header(const struct tis_spi *spi, uint32_t offset, size_t length, bool read)
{
    const uint32_t address = BASE + offset;
    const uint8_t out[4] = {
        (uint8_t)((read ? READ : 0U) | (length - 1U)),
        (uint8_t)(address >> 16),
        (uint8_t)(address >> 8),
        (uint8_t)address,
    };
    uint8_t in[4] = {0};

    if (!spi->exchange(spi->context, out, in, sizeof out)) {
        return false;
    }
    for (unsigned waits = 0; (in[3] & GO_ON) == 0; waits++) {
        if (waits == TIS_SPI_WAITS_MAX || !spi->exchange(spi->context, NULL, in + 3, 1)) {
            return false;
        }
    }
    return true;
}

static bool transfer(const struct tis_spi *spi, uint32_t offset, const uint8_t *out, uint8_t *in, size_t length)
{
    if (length == 0 || length > TIS_TRANSFER_MAX) {
        return false;
    }
    spi->select(spi->context, true);
    const bool done = header(spi, offset, length, in != NULL) && spi->exchange(spi->context, out, in, length);

    spi->select(spi->context, false);
    return done;
}

static bool bus_read(void *context, uint32_t offset, uint8_t *out, size_t length)
{
    return transfer(context, offset, NULL, out, length);
}

static bool bus_write(void *context, uint32_t offset, const uint8_t *bytes, size_t length)
{
    return transfer(context, offset, bytes, NULL, length);
}

static uint32_t bus_now(void *context)
{
    const struct tis_spi *spi = context;

    return spi->now_ms(spi->context);
}

struct tis_bus tis_spi_bus(struct tis_spi *spi)
{
    return (struct tis_bus){spi, bus_read, bus_write, bus_now};
}
