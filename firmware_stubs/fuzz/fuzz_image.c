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

/* Whether one of the images that our key signed has that hash. */
static bool is_ours(const uint8_t hash[IMAGE_HASH_BYTES])
{
    struct memory ours[] = {{good, sizeof good}, {newer, sizeof newer}, {older, sizeof older}, {counted, sizeof counted}};

    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        const struct image_source source = {.context = &ours[i], .size = ours[i].size, .read = read_memory};
        struct image image;

        CHECK(image_read(&source, &image) == IMAGE_OK);
        if (memcmp(image.hash, hash, IMAGE_HASH_BYTES) == 0) {
            return true;
        }
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory memory = {data, size};
    const struct image_source source = {.context = &memory, .size = size, .read = read_memory};
    struct image image;

    if (image_verify(&source, test_key, &image) == IMAGE_OK) {
        CHECK(image.total <= size);
        CHECK(is_ours(image.hash));
    }
    return 0;
}
