/* Any bytes as an image: read or refused, and never verified unless it is one of ours. */
#include "check.h"
#include "image.h"
#include "images.h"

struct memory {
    const uint8_t *bytes;
    size_t size;
};

static bool read_memory(void *context, size_t offset, uint8_t *out, size_t length)
{
    const struct memory *memory = context;

    CHECK(offset <= memory->size && length <= memory->size - offset);
    memcpy(out, memory->bytes + offset, length);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory memory = {data, size};
    const struct image_source source = {.context = &memory, .size = size, .read = read_memory};
    struct image image;

    if (image_verify(&source, test_key, &image) == IMAGE_OK) {
        CHECK(image.total <= size);
        CHECK(image.total == sizeof good || image.total == sizeof counted);
    }
    return 0;
}
