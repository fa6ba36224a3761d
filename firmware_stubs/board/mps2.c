/* Arm MPS2 AN385 (Cortex-M3) as QEMU has it: UART0 is the console, UART1 the log, UART2 the TPM.
 *
 * The flash is RAM that the bootloader shares with us (MCUboot in RAM_LOAD mode, its slots at the addresses below), and so lasts
 * until the power goes; a reset keeps it. Linked by ramload.ld it is started by MCUboot, by xip.ld it starts by itself.
 */
#include "image_key.h"
#include "server.h"
#include "tpm_uart.h"

#include <stdio.h>
#include <string.h>

#define SLOT_BYTES 0x80000U
#define SLOT0 0x20050000U
#define SLOT1 0x200D0000U
#define LOADED 0x20240000U      /* where MCUboot has copied our image to, header and all */
#define SETTINGS 0x21000000U    /* in the board's 16 MB of PSRAM, which the bootloader leaves alone */
#define SETTINGS_ERASED 0x21010000U
#define ERASED_MARK 0x45524153U
#define SECTOR_BYTES 4096U
#define CPU_HZ 25000000U
#define TPM_LIMIT_MS 110000U /* less than the station waits */

struct uart {
    volatile uint32_t data, state, control, interrupt, divider;
};
#define STATE_FULL 1U
#define STATE_RECEIVED 2U
#define CONSOLE ((struct uart *)0x40004000)
#define LOG ((struct uart *)0x40005000)
#define TPM ((struct uart *)0x40006000)

#define VTOR (*(volatile uint32_t *)0xE000ED08)
#define AIRCR (*(volatile uint32_t *)0xE000ED0C)
#define AIRCR_RESET 0x05FA0004U
#define SYST_CSR (*(volatile uint32_t *)0xE000E010)
/* CMSDK timer 0: counts down at CPU_HZ. */
#define TIMER_CONTROL (*(volatile uint32_t *)0x40000000)
#define TIMER_VALUE (*(volatile uint32_t *)0x40000004)
#define TIMER_RELOAD (*(volatile uint32_t *)0x40000008)

int main(void);
void reset_handler(void);

static void uart_begin(struct uart *uart)
{
    uart->divider = 16;
    uart->control = 3; /* transmit and receive */
}

static void uart_put(void *context, uint8_t byte)
{
    struct uart *uart = context;

    while ((uart->state & STATE_FULL) != 0) {
    }
    uart->data = byte;
}

static bool uart_get(void *context, uint8_t *byte)
{
    const struct uart *uart = context;

    if ((uart->state & STATE_RECEIVED) == 0) {
        return false;
    }
    *byte = (uint8_t)uart->data;
    return true;
}

static void console_put(void *context, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uart_put(context, bytes[i]);
    }
}

static void log_line(const char *text)
{
    console_put(LOG, (const uint8_t *)text, strlen(text));
    console_put(LOG, (const uint8_t *)"\r\n", 2);
}

/* Milliseconds, from a counter that wraps after 171 s: seen often enough, as whoever waits asks all the time. */
static uint32_t now_ms(void *context)
{
    static uint32_t last = UINT32_MAX, ms, rest;
    const uint32_t value = TIMER_VALUE;
    const uint32_t ticks = last - value + rest;

    (void)context;
    last = value;
    ms += ticks / (CPU_HZ / 1000U);
    rest = ticks % (CPU_HZ / 1000U);
    return ms;
}

static bool flash_read(void *context, size_t offset, uint8_t *out, size_t length)
{
    memcpy(out, (const uint8_t *)context + offset, length);
    return true;
}

static bool flash_write(void *context, size_t offset, const uint8_t *bytes, size_t length)
{
    memcpy((uint8_t *)context + offset, bytes, length);
    return true;
}

static bool flash_erase(void *context, size_t offset, size_t length)
{
    memset((uint8_t *)context + offset, 0xff, length);
    return true;
}

static struct flash flash_at(uintptr_t address, size_t size)
{
    return (struct flash){(void *)address, size, SECTOR_BYTES, 4, flash_read, flash_write, flash_erase};
}

/* RAM_LOAD tells nobody which slot it took: the one whose header is the one that was copied. */
static unsigned running_slot(void)
{
    const void *loaded = (const void *)LOADED;

    return memcmp(loaded, (const void *)SLOT0, HELD_BYTES) != 0 && memcmp(loaded, (const void *)SLOT1, HELD_BYTES) == 0
               ? 1
               : 0;
}

/* RAM comes up as zeros, flash as erased: once after power-on. */
static void settings_come_up(const struct flash *settings)
{
    volatile uint32_t *mark = (volatile uint32_t *)SETTINGS_ERASED;

    if (*mark != ERASED_MARK) {
        (void)settings->erase(settings->context, 0, settings->size);
        *mark = ERASED_MARK;
    }
}

static void drain_and_reset(void)
{
    const uint32_t began = now_ms(NULL);

    while (now_ms(NULL) - began < 50U) {
    }
    AIRCR = AIRCR_RESET;
    for (;;) {
    }
}

int main(void)
{
    static struct server server;
    static struct flash slot0, slot1, settings;
    static struct tpm_uart uart = {TPM, uart_put, uart_get, now_ms, TPM_LIMIT_MS};
    char line[64];
    struct image image;
    uint8_t byte;

    uart_begin(CONSOLE);
    uart_begin(LOG);
    uart_begin(TPM);
    TIMER_RELOAD = UINT32_MAX;
    TIMER_VALUE = UINT32_MAX;
    TIMER_CONTROL = 1;
    slot0 = flash_at(SLOT0, SLOT_BYTES);
    slot1 = flash_at(SLOT1, SLOT_BYTES);
    settings = flash_at(SETTINGS, 2 * SECTOR_BYTES);
    settings_come_up(&settings);
    const struct server_board board = {
        .slots = {&slot0, &slot1},
        .settings = &settings,
        .key = image_key,
        .running = running_slot(),
        .tpm = tpm_uart(&uart),
        .version = FIRMWARE_VERSION,
        .mac = "",
        .put = console_put,
        .console = CONSOLE,
    };

    server_begin(&server, &board);
    const bool signed_by_us = slots_check(&server.slots, board.running, &image) == IMAGE_OK;

    (void)snprintf(line, sizeof line, "birthmark %s, slot %u, signature %s", FIRMWARE_VERSION, board.running,
                   signed_by_us ? "ok" : "not ours");
    log_line(line);
    for (;;) {
        if (uart_get(CONSOLE, &byte) && server_take(&server, byte)) {
            drain_and_reset();
        }
    }
}

extern uint32_t data_from[], data_begin[], data_end[], bss_begin[], bss_end[], stack_top[];
extern void (*const vectors[16])(void);

void reset_handler(void)
{
    __asm volatile("cpsid i");
    VTOR = (uint32_t)(uintptr_t)vectors;
    SYST_CSR = 0; /* the bootloader leaves it ticking */
    if (&data_from[0] != &data_begin[0]) {
        for (uint32_t *from = data_from, *to = data_begin; to < &data_end[0];) {
            *to++ = *from++;
        }
    }
    for (uint32_t *to = bss_begin; to < &bss_end[0];) {
        *to++ = 0;
    }
    (void)main();
    for (;;) {
    }
}

static void fault(void)
{
    uart_begin(LOG);
    log_line("birthmark: fault");
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) void (*const vectors[16])(void) = {
    (void (*)(void))(uintptr_t)stack_top, reset_handler, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0,
    fault, fault,
};
