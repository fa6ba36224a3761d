/* The SMP server: a request's packet in, an answer's packet out. What the commands do is the groups' (*_group.h).
 *
 * Packet: op, flags, length (2 bytes), group (2), sequence, command, then `length` bytes of CBOR; big-endian. The lower three
 * bits of op are 0 read, 1 its answer, 2 write, 3 its answer; the next two bits are the version, 0 or 1 (SMP "version 2").
 * Errors: of a group {"err": {"group", "rc"}}, of SMP itself {"rc"}; to version 0 always {"rc"}.
 *
 * Source: Zephyr, "MCUmgr: SMP protocol specification".
 */
#ifndef BIRTHMARK_SMP_H
#define BIRTHMARK_SMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zcbor_encode.h>

#define SMP_HEADER_BYTES 8U
#define SMP_PACKET_MAX 4608U /* a TPM command of 4096 bytes and what stands around it, with room */
#define SMP_OP_READ 0U
#define SMP_OP_WRITE 2U

/* SMP's own errors (MGMT_ERR). */
#define SMP_RC_OK 0U
#define SMP_RC_UNKNOWN 1U
#define SMP_RC_INVALID 3U
#define SMP_RC_TOO_LARGE 7U /* the answer does not fit */
#define SMP_RC_NOT_SUPPORTED 8U

/* What a command answers with, beside what it has put into the map. rc 0: all is well. group: whose error, 0 for SMP's. */
struct smp_result {
    uint16_t group;
    uint16_t rc;
};

/* A command. body: the request's CBOR; answer: inside the answer's map. */
typedef struct smp_result smp_handler(void *context, const uint8_t *body, size_t length, zcbor_state_t *answer);

struct smp_command {
    uint8_t op; /* SMP_OP_READ or SMP_OP_WRITE */
    uint8_t command;
    smp_handler *handler;
};

struct smp_group {
    uint16_t id;
    void *context; /* handed to its commands */
    const struct smp_command *commands;
    size_t count;
};

/* Answer one packet.
 * groups, count      [in]
 * request, length    [in]
 * answer, capacity   [out]  SMP_PACKET_MAX bytes at least
 * returns the answer's length, or 0 where none is due: what came is no request.
 */
size_t smp_answer(const struct smp_group *groups, size_t count, const uint8_t *request, size_t length, uint8_t *answer,
                  size_t capacity);

#endif
