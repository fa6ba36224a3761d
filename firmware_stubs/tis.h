/* A TPM's own interface: the FIFO ("TIS"), memory-mapped or over SPI (tis_spi.h).
 *
 * One locality, 0. Each wait has its limit, and each size its bound: a TPM that answers garbage, stalls or lies about its
 * burst count costs time, never memory. After any failure the TPM is told to drop what it was doing.
 *
 * Source: TCG PC Client Platform TPM Profile (PTP) 1.05, §6.5 "FIFO Interface".
 */
#ifndef BIRTHMARK_TIS_H
#define BIRTHMARK_TIS_H

#include "tpm.h"

#include <stdbool.h>

/* How registers are reached. length: 1 to 64 bytes, all at one register. */
struct tis_bus {
    void *context;
    bool (*read)(void *context, uint32_t offset, uint8_t *out, size_t length);
    bool (*write)(void *context, uint32_t offset, const uint8_t *bytes, size_t length);
    uint32_t (*now_ms)(void *context); /* may wrap */
};

#define TIS_TRANSFER_MAX 64U

struct tis {
    const struct tis_bus *bus;
    uint32_t command_ms; /* the longest that a command may take */
};

/* Take locality 0. TPM_BUSY where it is not given within TIMEOUT_A. */
enum tpm_status tis_begin(struct tis *tis, const struct tis_bus *bus, uint32_t command_ms);

/* Give it back. */
enum tpm_status tis_end(const struct tis *tis);

/* The interface as a TPM. tis: begun, and the caller's. */
struct tpm tis_tpm(struct tis *tis);

#endif
