/* A TPM 2.0, however it is wired: the second thing to port. tpm_uart.h and tis.h are two ways.
 *
 * One command at a time; the driver returns the whole response, or why there is none. It does not read what it carries, beyond
 * the size in the header: what may be asked is enroll_group.h's.
 */
#ifndef BIRTHMARK_TPM_H
#define BIRTHMARK_TPM_H

#include <stddef.h>
#include <stdint.h>

#define TPM_HEADER_BYTES 10U
#define TPM_COMMAND_MAX 4096U /* TPM2_MAX_COMMAND_SIZE, and of a response */

enum tpm_status {
    TPM_OK = 0,
    TPM_BAD_COMMAND,  /* shorter than a header, or of another length than its header says */
    TPM_TIMEOUT,
    TPM_BAD_RESPONSE, /* a size that can't be, or bytes where none were due */
    TPM_BUS_FAILED,
    TPM_BUSY,         /* somebody else holds it */
};

struct tpm {
    void *context;
    /* Say one command and return its response.
     * command, length     [in]
     * response, capacity  [out]
     * response_length     [out]  set only for TPM_OK
     */
    enum tpm_status (*transact)(void *context, const uint8_t *command, size_t length, uint8_t *response,
                                size_t capacity, size_t *response_length);
};

/* The size that a command or response says of itself. header: TPM_HEADER_BYTES. */
static inline uint32_t tpm_size(const uint8_t *header)
{
    return (uint32_t)header[2] << 24 | (uint32_t)header[3] << 16 | (uint32_t)header[4] << 8 | header[5];
}

/* Its command code, or response code. */
static inline uint32_t tpm_code(const uint8_t *header)
{
    return (uint32_t)header[6] << 24 | (uint32_t)header[7] << 16 | (uint32_t)header[8] << 8 | header[9];
}

#endif
