/* TIS registers over SPI: four bytes of header, wait states, then the data.
 *
 *     bit 7 read, bits 5..0 length - 1; 24 bits of address, 0xD40000 and the register (locality 0)
 *
 * While the header's last byte goes out the TPM answers with a bit: 1 goes on, 0 asks to wait, and is asked again with one
 * byte each. Source: TCG PC Client Platform TPM Profile (PTP) 1.05, §7.4 "SPI hardware protocol".
 */
#ifndef BIRTHMARK_TIS_SPI_H
#define BIRTHMARK_TIS_SPI_H

#include "tis.h"

#define TIS_SPI_WAITS_MAX 4096U

struct tis_spi {
    void *context;
    void (*select)(void *context, bool selected); /* chip select, active low on the wire */
    /* Clock `length` bytes out and as many in; out NULL: zeros; in NULL: not wanted. */
    bool (*exchange)(void *context, const uint8_t *out, uint8_t *in, size_t length);
    uint32_t (*now_ms)(void *context);
};

/* The bus over SPI. spi: the caller's. */
struct tis_bus tis_spi_bus(struct tis_spi *spi);

#endif
