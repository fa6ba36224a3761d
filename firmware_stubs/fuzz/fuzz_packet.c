/* Any packets at all, to a whole device: each begins with its length. What boots from slot 1 is signed, whatever they say. */
#include "device.h"

static struct device device;
static uint8_t answer[SMP_PACKET_MAX];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image image;
    const struct image_source source = {.context = &device.slot[1], .size = MODEL_SIZE, .read = model_read};

    device_begin(&device);
    while (size > 2) {
        size_t length = (size_t)data[0] << 8 | data[1];

        data += 2;
        size -= 2;
        length = length < size ? length : size;
        const size_t answered = smp_answer(device.server.groups, SERVER_GROUPS, data, length, answer, sizeof answer);

        CHECK(answered <= sizeof answer);
        data += length;
        size -= length;
    }
    if (image_read(&source, &image) == IMAGE_OK) {
        CHECK(slots_check(&device.server.slots, 1, &image) == IMAGE_OK);
    }
    CHECK(memcmp(device.slot[0].bytes, good, sizeof good) == 0);
    return 0;
}
