/* SMP packets on a console: mcumgr's serial transport, without its transport's size limit.
 *
 *     06 09 BASE64 \n        the first line of a packet
 *     04 14 BASE64 \n        each further one; every line's base64 stands for itself
 *
 * Decoded and joined: two bytes of length (big-endian; of the packet and its CRC), the packet, CRC-16/XMODEM over the packet.
 * Whatever else is on the line is a console's text and is skipped. A packet with a wrong length, CRC or character is
 * dropped without an answer, as SMP has it: the client asks again.
 *
 * Source: Zephyr, "MCUmgr: SMP protocol over serial (console) transport".
 */
#ifndef BIRTHMARK_FRAME_H
#define BIRTHMARK_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_OVERHEAD 4U /* bytes that a reader's buffer needs beyond the largest packet */

enum frame_status {
    FRAME_MORE = 0, /* not a whole packet yet */
    FRAME_PACKET,   /* one is whole: frame_packet() */
    FRAME_DROPPED,  /* what was gathered is no packet, or too large a one */
};

struct frame_reader {
    uint8_t *buffer; /* length, packet and CRC */
    size_t capacity;
    size_t length;
    uint32_t quad; /* base64 characters that are not whole bytes yet */
    uint8_t characters;
    uint8_t padding;
    uint8_t place; /* enum place, in frame.c */
    bool begun;
};

/* CRC-16/XMODEM: polynomial 0x1021, begins with 0, no reflection. */
uint16_t frame_crc16(const uint8_t *data, size_t length);

/* Begin to read.
 * buffer   [in]  the caller's, for as long as the reader is used
 * capacity [in]  the largest packet and FRAME_OVERHEAD
 */
void frame_begin(struct frame_reader *reader, uint8_t *buffer, size_t capacity);

/* Take the next byte of the line. */
enum frame_status frame_take(struct frame_reader *reader, uint8_t byte);

/* The packet, in the reader's buffer, until the next byte is taken. Only after FRAME_PACKET.
 * length [out]  bytes, without length and CRC
 */
const uint8_t *frame_packet(const struct frame_reader *reader, size_t *length);

/* Where the bytes of a line go. */
typedef void frame_put(void *context, const uint8_t *bytes, size_t length);

/* Write a packet of at most 65533 bytes, in lines of at most 127. */
void frame_write(const uint8_t *packet, size_t length, frame_put *put, void *context);

#endif
