#include "tpm_uart.h"

static enum tpm_status receive(const struct tpm_uart *uart, uint8_t *response, size_t capacity, size_t *response_length)
{
    const uint32_t began = uart->now_ms(uart->context);
    size_t want = TPM_HEADER_BYTES, got = 0;

    while (got < want) {
        uint8_t byte;

        if (!uart->get(uart->context, &byte)) {
            if (uart->now_ms(uart->context) - began > uart->limit_ms) {
                return TPM_TIMEOUT;
            }
            continue;
        }
        response[got++] = byte;
        if (got == TPM_HEADER_BYTES) {
            want = tpm_size(response);
            if (want < TPM_HEADER_BYTES || want > capacity) {
                return TPM_BAD_RESPONSE;
            }
        }
    }
    *response_length = got;
    return TPM_OK;
}

static enum tpm_status transact(void *context, const uint8_t *command, size_t length, uint8_t *response, size_t capacity,
                                size_t *response_length)
{
    const struct tpm_uart *uart = context;
    uint8_t stale;

    if (length < TPM_HEADER_BYTES || tpm_size(command) != length || capacity < TPM_HEADER_BYTES) {
        return TPM_BAD_COMMAND;
    }
    /* What a response that came too late has left; bounded, as a line that never falls silent would hold us here. */
    for (size_t i = 0; i < TPM_COMMAND_MAX && uart->get(uart->context, &stale); i++) {
    }
    for (size_t i = 0; i < length; i++) {
        uart->put(uart->context, command[i]);
    }
    return receive(uart, response, capacity, response_length);
}

struct tpm tpm_uart(struct tpm_uart *uart)
{
    return (struct tpm){uart, transact};
}
