/* Any bytes on the console, into a buffer that is just large enough. */
#include "check.h"
#include "frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct guarded buffer = guarded_make(96 + FRAME_OVERHEAD);
    struct frame_reader reader;

    frame_begin(&reader, buffer.middle, buffer.size);
    for (size_t i = 0; i < size; i++) {
        if (frame_take(&reader, data[i]) == FRAME_PACKET) {
            size_t length;
            const uint8_t *packet = frame_packet(&reader, &length);

            CHECK(packet == buffer.middle + 2 && length <= 96);
        }
    }
    guarded_free(buffer);
    return 0;
}
