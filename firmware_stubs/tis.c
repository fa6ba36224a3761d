#include "tis.h"

#define ACCESS 0x000U
#define ACCESS_VALID 0x80U
#define ACCESS_ACTIVE 0x20U
#define ACCESS_REQUEST 0x02U
#define STS 0x018U
#define STS_VALID 0x80U
#define STS_READY 0x40U
#define STS_GO 0x20U
#define STS_DATA 0x10U
#define STS_EXPECT 0x08U
#define FIFO 0x024U

/* The profile's time-outs. */
#define TIMEOUT_A_MS 750U
#define TIMEOUT_B_MS 2000U
#define TIMEOUT_C_MS 200U
#define TIMEOUT_D_MS 30U

static enum tpm_status read_status(const struct tis *tis, uint8_t *status)
{
    return tis->bus->read(tis->bus->context, STS, status, 1) ? TPM_OK : TPM_BUS_FAILED;
}

static enum tpm_status write_byte(const struct tis *tis, uint32_t offset, uint8_t value)
{
    return tis->bus->write(tis->bus->context, offset, &value, 1) ? TPM_OK : TPM_BUS_FAILED;
}

/* Wait until a register's bits under `mask` are `want`. */
static enum tpm_status await(const struct tis *tis, uint32_t offset, uint8_t mask, uint8_t want, uint32_t limit_ms)
{
    const uint32_t began = tis->bus->now_ms(tis->bus->context);

    for (;;) {
        uint8_t value;
        /* Asked before the register is read, so that a board that was held up looks once more. */
        const bool late = tis->bus->now_ms(tis->bus->context) - began > limit_ms;

        if (!tis->bus->read(tis->bus->context, offset, &value, 1)) {
            return TPM_BUS_FAILED;
        }
        if ((value & mask) == want) {
            return TPM_OK;
        }
        if (late) {
            return TPM_TIMEOUT;
        }
    }
}

/* Wait for a burst count above 0; burst: at most TIS_TRANSFER_MAX. */
static enum tpm_status await_burst(const struct tis *tis, size_t *burst)
{
    const uint32_t began = tis->bus->now_ms(tis->bus->context);

    for (;;) {
        uint8_t status[4];
        const bool late = tis->bus->now_ms(tis->bus->context) - began > TIMEOUT_D_MS;

        if (!tis->bus->read(tis->bus->context, STS, status, sizeof status)) {
            return TPM_BUS_FAILED;
        }
        const size_t count = (size_t)status[1] | (size_t)status[2] << 8;

        if (count > 0) {
            *burst = count < TIS_TRANSFER_MAX ? count : TIS_TRANSFER_MAX;
            return TPM_OK;
        }
        if (late) {
            return TPM_TIMEOUT;
        }
    }
}

/* Write `length` bytes in bursts. */
static enum tpm_status send(const struct tis *tis, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        size_t burst = 0;
        const enum tpm_status status = await_burst(tis, &burst);

        if (status != TPM_OK) {
            return status;
        }
        burst = burst < length ? burst : length;
        if (!tis->bus->write(tis->bus->context, FIFO, bytes, burst)) {
            return TPM_BUS_FAILED;
        }
        bytes += burst;
        length -= burst;
    }
    return TPM_OK;
}

/* Read `length` bytes in bursts; the TPM says before each that there is more. */
static enum tpm_status receive(const struct tis *tis, uint8_t *out, size_t length)
{
    while (length > 0) {
        size_t burst = 0;
        enum tpm_status status =
            await(tis, STS, STS_VALID | STS_DATA, STS_VALID | STS_DATA, TIMEOUT_C_MS);

        if (status == TPM_OK) {
            status = await_burst(tis, &burst);
        }
        if (status != TPM_OK) {
            return status == TPM_TIMEOUT ? TPM_BAD_RESPONSE : status; /* it announced more than it has */
        }
        burst = burst < length ? burst : length;
        if (!tis->bus->read(tis->bus->context, FIFO, out, burst)) {
            return TPM_BUS_FAILED;
        }
        out += burst;
        length -= burst;
    }
    return TPM_OK;
}

static enum tpm_status say(const struct tis *tis, const uint8_t *command, size_t length)
{
    enum tpm_status status = write_byte(tis, STS, STS_READY);

    if (status == TPM_OK) {
        status = await(tis, STS, STS_READY, STS_READY, TIMEOUT_B_MS);
    }
    if (status == TPM_OK) {
        status = send(tis, command, length - 1);
    }
    if (status == TPM_OK) { /* all but one byte: it must want more */
        status = await(tis, STS, STS_VALID | STS_EXPECT, STS_VALID | STS_EXPECT, TIMEOUT_C_MS);
    }
    if (status == TPM_OK) {
        status = send(tis, command + length - 1, 1);
    }
    if (status == TPM_OK) { /* and now no more */
        status = await(tis, STS, STS_VALID | STS_EXPECT, STS_VALID, TIMEOUT_C_MS);
    }
    return status == TPM_OK ? write_byte(tis, STS, STS_GO) : status;
}

static enum tpm_status hear(const struct tis *tis, uint8_t *response, size_t capacity, size_t *response_length)
{
    uint8_t value = 0;
    enum tpm_status status =
        await(tis, STS, STS_VALID | STS_DATA, STS_VALID | STS_DATA, tis->command_ms);

    if (status == TPM_OK) {
        status = receive(tis, response, TPM_HEADER_BYTES);
    }
    if (status != TPM_OK) {
        return status;
    }
    const uint32_t size = tpm_size(response);

    if (size < TPM_HEADER_BYTES || size > capacity) {
        return TPM_BAD_RESPONSE;
    }
    status = receive(tis, response + TPM_HEADER_BYTES, size - TPM_HEADER_BYTES);
    if (status == TPM_OK) {
        status = await(tis, STS, STS_VALID, STS_VALID, TIMEOUT_C_MS);
    }
    if (status == TPM_OK) {
        status = read_status(tis, &value);
    }
    if (status == TPM_OK && (value & STS_DATA) != 0) {
        return TPM_BAD_RESPONSE; /* it has more than it said */
    }
    if (status == TPM_OK) {
        *response_length = size;
    }
    return status;
}

static enum tpm_status transact(void *context, const uint8_t *command, size_t length, uint8_t *response, size_t capacity,
                                size_t *response_length)
{
    const struct tis *tis = context;

    if (length < TPM_HEADER_BYTES || length > TPM_COMMAND_MAX || tpm_size(command) != length ||
        capacity < TPM_HEADER_BYTES) {
        return TPM_BAD_COMMAND;
    }
    enum tpm_status status = say(tis, command, length);

    if (status == TPM_OK) {
        status = hear(tis, response, capacity, response_length);
    }
    /* Idle again; after a failure this aborts what it was doing. */
    const enum tpm_status idle = write_byte(tis, STS, STS_READY);

    return status == TPM_OK ? idle : status;
}

enum tpm_status tis_begin(struct tis *tis, const struct tis_bus *bus, uint32_t command_ms)
{
    *tis = (struct tis){bus, command_ms};
    enum tpm_status status = await(tis, ACCESS, ACCESS_VALID, ACCESS_VALID, TIMEOUT_A_MS);

    if (status == TPM_OK) {
        status = write_byte(tis, ACCESS, ACCESS_REQUEST);
    }
    if (status == TPM_OK) {
        status = await(tis, ACCESS, ACCESS_VALID | ACCESS_ACTIVE, ACCESS_VALID | ACCESS_ACTIVE, TIMEOUT_A_MS);
        status = status == TPM_TIMEOUT ? TPM_BUSY : status;
    }
    return status;
}

enum tpm_status tis_end(const struct tis *tis)
{
    return write_byte(tis, ACCESS, ACCESS_ACTIVE);
}

struct tpm tis_tpm(struct tis *tis)
{
    return (struct tpm){tis, transact};
}
