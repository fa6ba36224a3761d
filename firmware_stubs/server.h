/* A device's SMP server, whole: framing, groups, slots and settings, in one structure that the board owns. */
#ifndef BIRTHMARK_SERVER_H
#define BIRTHMARK_SERVER_H

#include "enroll_group.h"
#include "frame.h"
#include "image_group.h"
#include "os_group.h"

#define SERVER_GROUPS 3U

struct server_board {
    const struct flash *slots[SLOTS_COUNT];
    const struct flash *settings;
    const uint8_t *key; /* that signs our images: 04, x, y */
    unsigned running;   /* the slot that was started */
    struct tpm tpm;
    const char *version;
    const char *mac;
    frame_put *put; /* the console */
    void *console;
};

struct server {
    struct slots slots;
    struct settings settings;
    struct os_group os;
    struct image_group image;
    struct enroll_group enroll;
    struct smp_group groups[SERVER_GROUPS];
    struct frame_reader reader;
    frame_put *put;
    void *console;
    uint8_t request[SMP_PACKET_MAX + FRAME_OVERHEAD];
    uint8_t answer[SMP_PACKET_MAX];
};

void server_begin(struct server *server, const struct server_board *board);

/* Take the console's next byte; answer where it ends a request. Returns whether the board is to reset: then let the answer
 * drain first. */
bool server_take(struct server *server, uint8_t byte);

#endif
