#include "check.h"
#include "frame.h"

static uint8_t line[8192];
static size_t line_length;

static void collect(void *context, const uint8_t *bytes, size_t length)
{
    (void)context;
    CHECK(length <= sizeof line - line_length);
    memcpy(line + line_length, bytes, length);
    line_length += length;
}

static enum frame_status feed(struct frame_reader *reader, const uint8_t *bytes, size_t length)
{
    enum frame_status last = FRAME_MORE;

    for (size_t i = 0; i < length; i++) {
        const enum frame_status status = frame_take(reader, bytes[i]);

        last = status != FRAME_MORE ? status : last;
    }
    return last;
}

static void write_packet(const uint8_t *packet, size_t length)
{
    line_length = 0;
    frame_write(packet, length, collect, NULL);
}

static void the_checksum_is_xmodem(void)
{
    CHECK(frame_crc16((const uint8_t *)"123456789", 9) == 0x31c3);
}

static void a_packet_of_any_length_comes_back(void)
{
    struct guarded buffer = guarded_make(4608 + FRAME_OVERHEAD);
    static uint8_t packet[4608];

    for (size_t i = 0; i < sizeof packet; i++) {
        packet[i] = (uint8_t)(i * 7);
    }
    for (size_t length = 1; length <= sizeof packet; length += length < 400 ? 1 : 263) {
        struct frame_reader reader;
        size_t got = 0;

        frame_begin(&reader, buffer.middle, buffer.size);
        write_packet(packet, length);
        CHECK(feed(&reader, line, line_length) == FRAME_PACKET);
        CHECK(memcmp(frame_packet(&reader, &got), packet, length) == 0 && got == length);
    }
    guarded_free(buffer);
}

static void its_lines_are_no_longer_than_127(void)
{
    static const uint8_t packet[1000];
    size_t begin = 0;

    write_packet(packet, sizeof packet);
    for (size_t i = 0; i < line_length; i++) {
        if (line[i] == '\n') {
            CHECK(i + 1 - begin <= 127);
            begin = i + 1;
        }
    }
    CHECK(begin == line_length);
}

static void one_packet_too_large_is_dropped_and_the_next_is_taken(void)
{
    struct guarded buffer = guarded_make(64 + FRAME_OVERHEAD);
    struct frame_reader reader;
    static const uint8_t packet[300] = {1};

    frame_begin(&reader, buffer.middle, buffer.size);
    write_packet(packet, sizeof packet);
    CHECK(feed(&reader, line, line_length) == FRAME_DROPPED);
    write_packet(packet, 64);
    CHECK(feed(&reader, line, line_length) == FRAME_PACKET);
    guarded_free(buffer);
}

static void a_changed_character_is_noticed(void)
{
    struct guarded buffer = guarded_make(64 + FRAME_OVERHEAD);
    static const uint8_t packet[32] = {5, 6, 7};

    write_packet(packet, sizeof packet);
    for (size_t i = 2; i + 1 < line_length; i++) {
        struct frame_reader reader;
        const uint8_t was = line[i];

        line[i] = was == 'A' ? 'B' : 'A';
        frame_begin(&reader, buffer.middle, buffer.size);
        CHECK(feed(&reader, line, line_length) != FRAME_PACKET);
        line[i] = was;
    }
    guarded_free(buffer);
}

static void text_between_packets_is_skipped(void)
{
    struct guarded buffer = guarded_make(64 + FRAME_OVERHEAD);
    struct frame_reader reader;
    static const uint8_t packet[8] = {9};
    static const uint8_t text[] = "*** Booting ***\r\n\x06oops\n\x04\x14QUJD\n";

    frame_begin(&reader, buffer.middle, buffer.size);
    CHECK(feed(&reader, text, sizeof text - 1) == FRAME_MORE);
    write_packet(packet, sizeof packet);
    CHECK(feed(&reader, line, line_length) == FRAME_PACKET);
    guarded_free(buffer);
}

int main(void)
{
    RUN(the_checksum_is_xmodem);
    RUN(a_packet_of_any_length_comes_back);
    RUN(its_lines_are_no_longer_than_127);
    RUN(one_packet_too_large_is_dropped_and_the_next_is_taken);
    RUN(a_changed_character_is_noticed);
    RUN(text_between_packets_is_skipped);
    return 0;
}
