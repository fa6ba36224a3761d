#include "members.h"

#include <string.h>
#include <zcbor_decode.h>

#define PAIRS_MAX 32U
#define MAJOR_TYPE(byte) ((byte) >> 5)
#define MAJOR_STRUCTURED 4U /* list; 5 is a map, 6 a tag */
#define MAJOR_SIMPLE 7U

static struct member *find(struct member *members, size_t count, const struct zcbor_string *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(members[i].name) == name->len && memcmp(members[i].name, name->value, name->len) == 0) {
            return &members[i];
        }
    }
    return NULL;
}

static bool read_value(zcbor_state_t *state, struct member *member)
{
    struct zcbor_string string = {NULL, 0};
    bool flag = false, ok = false;

    if (member->seen) {
        return false;
    }
    switch (member->kind) {
    case MEMBER_NUMBER:
        ok = zcbor_uint64_decode(state, &member->number);
        break;
    case MEMBER_FLAG:
        ok = zcbor_bool_decode(state, &flag);
        member->number = flag ? 1 : 0;
        break;
    case MEMBER_OCTETS:
        ok = zcbor_bstr_decode(state, &string);
        break;
    case MEMBER_TEXT:
        ok = zcbor_tstr_decode(state, &string);
        break;
    }
    member->bytes = string.value;
    member->length = string.len;
    member->seen = ok;
    return ok;
}

static bool skip_value(zcbor_state_t *state)
{
    struct zcbor_string string;
    int64_t number;
    uint64_t large;

    if (state->payload >= state->payload_end) {
        return false;
    }
    const unsigned major = MAJOR_TYPE(*state->payload);

    if (major == MAJOR_SIMPLE) {
        return zcbor_any_skip(state, NULL);
    }
    return major < MAJOR_STRUCTURED && (zcbor_uint64_decode(state, &large) || zcbor_int64_decode(state, &number) ||
                                        zcbor_bstr_decode(state, &string) || zcbor_tstr_decode(state, &string));
}

bool members_read(const uint8_t *body, size_t length, struct member *members, size_t count)
{
    if (length == 0) { /* zcbor wants a byte to look at */
        return false;
    }
    ZCBOR_STATE_D(state, 1, body, length, 1, 0);

    if (!zcbor_map_start_decode(state)) {
        return false;
    }
    for (size_t pairs = 0; !zcbor_array_at_end(state); pairs++) {
        struct zcbor_string name;

        if (pairs == PAIRS_MAX || !zcbor_tstr_decode(state, &name)) {
            return false;
        }
        struct member *member = find(members, count, &name);

        if (member != NULL ? !read_value(state, member) : !skip_value(state)) {
            return false;
        }
    }
    return zcbor_map_end_decode(state) && state->payload == body + length;
}
