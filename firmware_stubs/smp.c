#include "smp.h"

#define MEMBERS_MAX 12U
#define BACKUPS 4U
#define VERSION(op) ((op) >> 3 & 3U)

static const struct smp_command *find(const struct smp_group *groups, size_t count, uint16_t id, uint8_t op,
                                      uint8_t command, void **context)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; groups[i].id == id && k < groups[i].count; k++) {
            const struct smp_command *each = &groups[i].commands[k];

            if (each->op == op && each->command == command) {
                *context = groups[i].context;
                return each;
            }
        }
    }
    return NULL;
}

/* The map of an error. Returns its length: two or three dozen bytes, which every buffer has. */
static size_t put_error(uint8_t *out, size_t capacity, struct smp_result result, unsigned version)
{
    ZCBOR_STATE_E(state, BACKUPS, out, capacity, 1);
    bool ok = zcbor_map_start_encode(state, MEMBERS_MAX);

    if (result.group != 0 && version > 0) {
        ok = ok && zcbor_tstr_put_lit(state, "err") && zcbor_map_start_encode(state, MEMBERS_MAX) &&
             zcbor_tstr_put_lit(state, "group") && zcbor_uint32_put(state, result.group) &&
             zcbor_tstr_put_lit(state, "rc") && zcbor_uint32_put(state, result.rc) &&
             zcbor_map_end_encode(state, MEMBERS_MAX);
    } else {
        ok = ok && zcbor_tstr_put_lit(state, "rc") &&
             zcbor_uint32_put(state, result.group != 0 ? SMP_RC_UNKNOWN : result.rc);
    }
    ok = ok && zcbor_map_end_encode(state, MEMBERS_MAX);
    return ok ? (size_t)(state->payload - out) : 0;
}

static size_t put_answer(const struct smp_command *command, void *context, const uint8_t *body, size_t length,
                         uint8_t *out, size_t capacity, unsigned version)
{
    ZCBOR_STATE_E(state, BACKUPS, out, capacity, 1);
    struct smp_result result = {0, SMP_RC_TOO_LARGE};

    if (zcbor_map_start_encode(state, MEMBERS_MAX)) {
        result = command->handler(context, body, length, state);
        if (result.rc == SMP_RC_OK) {
            if (zcbor_map_end_encode(state, MEMBERS_MAX)) {
                return (size_t)(state->payload - out);
            }
            result = (struct smp_result){0, SMP_RC_TOO_LARGE};
        }
    }
    return put_error(out, capacity, result, version);
}

size_t smp_answer(const struct smp_group *groups, size_t count, const uint8_t *request, size_t length, uint8_t *answer,
                  size_t capacity)
{
    if (length < SMP_HEADER_BYTES || capacity < SMP_PACKET_MAX) {
        return 0;
    }
    const uint8_t op = request[0] & 7U;
    const size_t body_length = (size_t)request[2] << 8 | request[3];

    if ((op != SMP_OP_READ && op != SMP_OP_WRITE) || body_length != length - SMP_HEADER_BYTES) {
        return 0;
    }
    void *context = NULL;
    const uint16_t id = (uint16_t)(request[4] << 8 | request[5]);
    const struct smp_command *command = find(groups, count, id, op, request[7], &context);
    uint8_t *const body = answer + SMP_HEADER_BYTES;
    const size_t room = capacity - SMP_HEADER_BYTES;
    const unsigned version = VERSION(request[0]);
    const size_t answered =
        command != NULL
            ? put_answer(command, context, request + SMP_HEADER_BYTES, body_length, body, room, version)
            : put_error(body, room, (struct smp_result){0, SMP_RC_NOT_SUPPORTED}, version);

    answer[0] = (uint8_t)((request[0] & 0x18U) | (op + 1U));
    answer[1] = 0;
    answer[2] = (uint8_t)(answered >> 8);
    answer[3] = (uint8_t)answered;
    answer[4] = request[4];
    answer[5] = request[5];
    answer[6] = request[6];
    answer[7] = request[7];
    return SMP_HEADER_BYTES + answered;
}
