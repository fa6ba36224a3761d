#include "frame.h"

#define LENGTH_BYTES 2U
#define CRC_BYTES 2U
#define LINE_BYTES 93U /* decoded: with marker and newline, a line of 127, which is the least that every client takes */
#define PACKET_MAX (UINT16_MAX - CRC_BYTES)

static const uint8_t first_marker[2] = {0x06, 0x09};
static const uint8_t next_marker[2] = {0x04, 0x14};

enum place {
    PLACE_TEXT = 0, /* somewhere in a line that is not ours */
    PLACE_LINE,     /* where a line begins */
    PLACE_FIRST,    /* after 06 */
    PLACE_NEXT,     /* after 04 */
    PLACE_BASE64,
};

static uint16_t crc16(uint16_t crc, uint8_t byte)
{
    crc = (uint16_t)(crc ^ (uint16_t)(byte << 8));
    for (unsigned bit = 0; bit < 8; bit++) {
        crc = (uint16_t)((crc & 0x8000U) != 0 ? (crc << 1) ^ 0x1021 : crc << 1);
    }
    return crc;
}

uint16_t frame_crc16(const uint8_t *data, size_t length)
{
    uint16_t crc = 0;

    for (size_t i = 0; i < length; i++) {
        crc = crc16(crc, data[i]);
    }
    return crc;
}

void frame_begin(struct frame_reader *reader, uint8_t *buffer, size_t capacity)
{
    *reader = (struct frame_reader){.buffer = buffer, .capacity = capacity, .place = PLACE_LINE};
}

static enum frame_status drop(struct frame_reader *reader)
{
    reader->begun = false;
    reader->length = 0;
    reader->place = PLACE_TEXT;
    return FRAME_DROPPED;
}

/* A character's six bits, or 64. */
static uint8_t sextet(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') {
        return (uint8_t)(c - 'A');
    }
    if (c >= 'a' && c <= 'z') {
        return (uint8_t)(c - 'a' + 26);
    }
    if (c >= '0' && c <= '9') {
        return (uint8_t)(c - '0' + 52);
    }
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

static void begin_line(struct frame_reader *reader, bool first)
{
    if (first) {
        reader->length = 0;
        reader->begun = true;
    }
    reader->quad = 0;
    reader->characters = 0;
    reader->padding = 0;
    reader->place = PLACE_BASE64;
}

/* Bytes that a packet has in all, or 0 as long as that is not known. */
static size_t wanted(const struct frame_reader *reader)
{
    return reader->length < LENGTH_BYTES ? 0 : LENGTH_BYTES + ((size_t)reader->buffer[0] << 8 | reader->buffer[1]);
}

static enum frame_status take_character(struct frame_reader *reader, uint8_t c)
{
    const uint8_t bits = sextet(c);

    if (c == '=' && reader->characters >= 2 && reader->padding < 2) {
        reader->padding++;
    } else if (bits == 64 || reader->padding > 0) {
        return drop(reader);
    }
    reader->quad = reader->quad << 6 | (bits & 63U & (c == '=' ? 0U : 63U));
    if (++reader->characters < 4) {
        return FRAME_MORE;
    }
    const size_t bytes = 3U - reader->padding;

    if (bytes > reader->capacity - reader->length) {
        return drop(reader);
    }
    for (size_t i = 0; i < bytes; i++) {
        reader->buffer[reader->length++] = (uint8_t)(reader->quad >> (16U - 8U * i));
    }
    reader->characters = 0;
    reader->quad = 0;
    return FRAME_MORE;
}

static enum frame_status end_line(struct frame_reader *reader)
{
    const size_t want = wanted(reader);

    reader->place = PLACE_LINE;
    if (reader->characters % 4 != 0 || want < LENGTH_BYTES + CRC_BYTES || reader->length > want) {
        (void)drop(reader);
        reader->place = PLACE_LINE;
        return FRAME_DROPPED;
    }
    if (reader->length < want) {
        return FRAME_MORE;
    }
    reader->begun = false;
    /* A CRC over data and its own CRC is 0. */
    return frame_crc16(reader->buffer + LENGTH_BYTES, want - LENGTH_BYTES) == 0 ? FRAME_PACKET : FRAME_DROPPED;
}

enum frame_status frame_take(struct frame_reader *reader, uint8_t byte)
{
    if (byte == '\n') {
        if (reader->place == PLACE_BASE64) {
            return end_line(reader);
        }
        reader->place = PLACE_LINE;
        return FRAME_MORE;
    }
    switch ((enum place)reader->place) {
    case PLACE_LINE:
        reader->place = byte == first_marker[0] ? PLACE_FIRST : byte == next_marker[0] ? PLACE_NEXT : PLACE_TEXT;
        return FRAME_MORE;
    case PLACE_FIRST:
        if (byte == first_marker[1]) {
            begin_line(reader, true);
        } else {
            reader->place = PLACE_TEXT;
        }
        return FRAME_MORE;
    case PLACE_NEXT:
        if (byte == next_marker[1] && reader->begun) {
            begin_line(reader, false);
        } else {
            reader->place = PLACE_TEXT;
        }
        return FRAME_MORE;
    case PLACE_BASE64:
        return byte == '\r' ? FRAME_MORE : take_character(reader, byte);
    case PLACE_TEXT:
    default:
        return FRAME_MORE;
    }
}

const uint8_t *frame_packet(const struct frame_reader *reader, size_t *length)
{
    *length = reader->length - LENGTH_BYTES - CRC_BYTES;
    return reader->buffer + LENGTH_BYTES;
}

static void put_base64(const uint8_t *bytes, size_t length, frame_put *put, void *context)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < length; i += 3) {
        const size_t left = length - i;
        const uint32_t quad = (uint32_t)bytes[i] << 16 | (uint32_t)(left > 1 ? bytes[i + 1] : 0) << 8 |
                              (uint32_t)(left > 2 ? bytes[i + 2] : 0);
        const uint8_t out[4] = {
            (uint8_t)alphabet[quad >> 18],
            (uint8_t)alphabet[quad >> 12 & 63U],
            (uint8_t)(left > 1 ? alphabet[quad >> 6 & 63U] : '='),
            (uint8_t)(left > 2 ? alphabet[quad & 63U] : '='),
        };
        put(context, out, sizeof out);
    }
}

void frame_write(const uint8_t *packet, size_t length, frame_put *put, void *context)
{
    const uint16_t crc = frame_crc16(packet, length);
    const size_t total = LENGTH_BYTES + length + CRC_BYTES;

    if (length > PACKET_MAX) {
        return;
    }
    for (size_t done = 0; done < total;) {
        uint8_t line[LINE_BYTES];
        size_t filled = 0;

        for (; filled < LINE_BYTES && done < total; done++) {
            const size_t at = done - LENGTH_BYTES; /* meaningful from the third byte on */

            if (done < LENGTH_BYTES) {
                line[filled++] = (uint8_t)((length + CRC_BYTES) >> (8U * (1U - done)));
            } else {
                line[filled++] = at < length ? packet[at] : (uint8_t)(crc >> (8U * (1U - (at - length))));
            }
        }
        put(context, done == filled ? first_marker : next_marker, sizeof first_marker);
        put_base64(line, filled, put, context);
        put(context, (const uint8_t *)"\n", 1);
    }
}
