#include "os_group.h"

#include "members.h"

static const struct smp_result ok = {0, SMP_RC_OK};
static const struct smp_result invalid = {0, SMP_RC_INVALID};
static const struct smp_result full = {0, SMP_RC_TOO_LARGE};

static struct smp_result echo(void *context, const uint8_t *body, size_t length, zcbor_state_t *answer)
{
    struct member text = {.name = "d", .kind = MEMBER_TEXT};

    (void)context;
    if (!members_read(body, length, &text, 1) || !text.seen) {
        return invalid;
    }
    return zcbor_tstr_put_lit(answer, "r") &&
                   zcbor_tstr_encode_ptr(answer, (const char *)text.bytes, text.length)
               ? ok
               : full;
}

static struct smp_result reset(void *context, const uint8_t *body, size_t length, zcbor_state_t *answer)
{
    struct os_group *group = context;

    (void)answer;
    if (length > 0 && !members_read(body, length, NULL, 0)) {
        return invalid;
    }
    group->reset = true;
    return ok;
}

static struct smp_result parameters(void *context, const uint8_t *body, size_t length, zcbor_state_t *answer)
{
    (void)context;
    (void)body;
    (void)length;
    return zcbor_tstr_put_lit(answer, "buf_size") && zcbor_uint32_put(answer, SMP_PACKET_MAX) &&
                   zcbor_tstr_put_lit(answer, "buf_count") && zcbor_uint32_put(answer, 1)
               ? ok
               : full;
}

struct smp_group os_group(struct os_group *group)
{
    static const struct smp_command commands[] = {
        {SMP_OP_READ, 0, echo},
        {SMP_OP_WRITE, 0, echo},
        {SMP_OP_WRITE, 5, reset},
        {SMP_OP_READ, 6, parameters},
    };

    group->reset = false;
    return (struct smp_group){0, group, commands, sizeof commands / sizeof commands[0]};
}
