/* A TPM behind a UART: a whole command one way, its whole response the other, nothing between. */
#ifndef BIRTHMARK_TPM_UART_H
#define BIRTHMARK_TPM_UART_H

#include "tpm.h"

#include <stdbool.h>

struct tpm_uart {
    void *context;
    void (*put)(void *context, uint8_t byte);
    bool (*get)(void *context, uint8_t *byte); /* false where none is there yet */
    uint32_t (*now_ms)(void *context);         /* may wrap */
    uint32_t limit_ms;                         /* for the whole response; an RSA key takes a TPM a minute to make */
};

/* The transport as a TPM. uart: the caller's. */
struct tpm tpm_uart(struct tpm_uart *uart);

#endif
