/* A whole device on the host: the server over flash models, and a TPM that answers what it is told. */
#ifndef BIRTHMARK_DEVICE_H
#define BIRTHMARK_DEVICE_H

#include "flash_model.h"
#include "images.h"
#include "server.h"

struct device {
    struct flash_model model;
    struct model_area slot[2], kept;
    struct flash flash[2], settings;
    struct server server;
    unsigned commands; /* that its TPM has heard */
    enum tpm_status tpm_says;
    uint8_t out[16384]; /* the console's */
    size_t out_length;
};

static inline enum tpm_status device_tpm(void *context, const uint8_t *command, size_t length, uint8_t *response,
                                         size_t capacity, size_t *response_length)
{
    struct device *device = context;

    CHECK(length >= TPM_HEADER_BYTES && tpm_size(command) == length && capacity == TPM_COMMAND_MAX);
    device->commands++;
    memset(response, 0x5a, capacity); /* the largest response there is */
    *response_length = capacity;
    return device->tpm_says;
}

static inline void device_put(void *context, const uint8_t *bytes, size_t length)
{
    struct device *device = context;

    CHECK(length <= sizeof device->out - device->out_length);
    memcpy(device->out + device->out_length, bytes, length);
    device->out_length += length;
}

/* Start the server anew, as a reset does. */
static inline void device_restart(struct device *device)
{
    const struct server_board board = {
        .slots = {&device->flash[0], &device->flash[1]},
        .settings = &device->settings,
        .key = test_key,
        .running = 0,
        .tpm = {device, device_tpm},
        .version = "1.2.0",
        .mac = "02:00:00:00:00:01",
        .put = device_put,
        .console = device,
    };

    device->model.power = MODEL_NEVER;
    server_begin(&device->server, &board);
}

/* One that runs `good` from slot 0, with nothing else. */
static inline void device_begin(struct device *device)
{
    for (unsigned i = 0; i < 2; i++) {
        device->flash[i] = model_flash(&device->slot[i], &device->model, MODEL_SIZE);
    }
    device->settings = model_flash(&device->kept, &device->model, 2 * MODEL_SECTOR);
    memcpy(device->slot[0].bytes, good, sizeof good);
    device->commands = 0;
    device->tpm_says = TPM_OK;
    device->out_length = 0;
    device_restart(device);
}

#endif
