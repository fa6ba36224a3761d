/* The TIS driver on QEMU's `virt` machine (Cortex-A15), bare metal, against QEMU's own tpm-tis-device.
 *
 * Asks for 8 random bytes twice and says on the UART what came: "random HEX" each, then "done", or "failed STATUS".
 * The device lies where QEMU's platform bus puts the first one.
 */
#include "tis.h"

#define UART_DATA (*(volatile uint32_t *)0x09000000)
#define TIS 0x0c000000U
#define COMMAND_MS 20000U

int main(void);

static bool bus_read(void *context, uint32_t offset, uint8_t *out, size_t length)
{
    const volatile uint8_t *base = context;

    for (size_t i = 0; i < length; i++) {
        /* A FIFO is one register; all others lie byte by byte. */
        out[i] = base[offset + (offset == 0x024 ? 0 : i)];
    }
    return true;
}

static bool bus_write(void *context, uint32_t offset, const uint8_t *bytes, size_t length)
{
    volatile uint8_t *base = context;

    for (size_t i = 0; i < length; i++) {
        base[offset + (offset == 0x024 ? 0 : i)] = bytes[i];
    }
    return true;
}

/* The generic timer, 62.5 MHz in QEMU: CNTFRQ says so. */
static uint32_t now_ms(void *context)
{
    uint32_t low, high, frequency;

    (void)context;
    __asm volatile("mrrc p15, 0, %0, %1, c14" : "=r"(low), "=r"(high));
    __asm volatile("mrc p15, 0, %0, c14, c0, 0" : "=r"(frequency));
    return (uint32_t)(((uint64_t)high << 32 | low) / (frequency / 1000U));
}

static void say(const char *text)
{
    while (*text != '\0') {
        UART_DATA = (uint8_t)*text++;
    }
}

static void say_hex(const uint8_t *bytes, size_t length)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < length; i++) {
        UART_DATA = (uint8_t)digits[bytes[i] >> 4];
        UART_DATA = (uint8_t)digits[bytes[i] & 15U];
    }
}

static enum tpm_status run(const struct tpm *tpm)
{
    static const uint8_t startup[12] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0};
    static const uint8_t get_random[12] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8};
    static uint8_t response[TPM_COMMAND_MAX];
    size_t length = 0;
    enum tpm_status status = tpm->transact(tpm->context, startup, sizeof startup, response, sizeof response, &length);

    for (unsigned i = 0; status == TPM_OK && i < 2; i++) {
        status = tpm->transact(tpm->context, get_random, sizeof get_random, response, sizeof response, &length);
        if (status == TPM_OK) {
            status = length == 20 && tpm_code(response) == 0 ? TPM_OK : TPM_BAD_RESPONSE;
        }
        if (status == TPM_OK) {
            say("random ");
            say_hex(response + 12, 8);
            say("\n");
        }
    }
    return status;
}

int main(void)
{
    static struct tis tis;
    static const struct tis_bus bus = {(void *)TIS, bus_read, bus_write, now_ms};
    enum tpm_status status = tis_begin(&tis, &bus, COMMAND_MS);

    if (status == TPM_OK) {
        const struct tpm tpm = tis_tpm(&tis);

        status = run(&tpm);
    }
    if (status == TPM_OK) {
        status = tis_end(&tis);
    }
    if (status == TPM_OK) {
        say("done\n");
    } else {
        const uint8_t code = (uint8_t)status;

        say("failed ");
        say_hex(&code, 1);
        say("\n");
    }
    for (;;) {
    }
}

__asm(".section .vectors, \"ax\"\n.global reset_handler\nreset_handler:\n ldr sp, =stack_top\n bl main\n b .\n");
