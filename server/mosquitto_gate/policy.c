#include "policy.h"

#include "text.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define BRANCH "devices/"
#define SHARE "$share/"
#define OUR_SHARE "$share/birthmark/"

/* Return what follows `prefix` in `text`, or NULL where `text` does not begin with it. */
static const char *after(const char *text, const char *prefix)
{
    size_t length = strlen(prefix);

    return strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

/* Judge what follows the id: the direction, and something below it. */
static enum policy_verdict check_direction(const char *rest, const char *direction)
{
    const char *leaf = after(rest, direction);

    if (leaf == NULL) {
        return POLICY_WRONG_DIRECTION;
    }
    return leaf[0] == '\0' ? POLICY_NO_LEAF : POLICY_ALLOWED;
}

static enum policy_verdict check_device(const char *id, enum policy_access access, const char *topic)
{
    const char *rest;

    if (after(topic, SHARE) != NULL) {
        return POLICY_SHARED;
    }
    if (topic[0] == '$') {
        return POLICY_RESERVED;
    }
    rest = after(topic, BRANCH);
    if (rest == NULL) {
        return POLICY_OUTSIDE;
    }
    rest = after(rest, id);
    if (rest == NULL || rest[0] != '/') {
        return POLICY_ANOTHER_DEVICE;
    }
    return check_direction(rest, access == POLICY_WRITE ? "/up/" : "/down/");
}

/* Return what follows the device level of `topic` (an id, or '+' where allowed), or NULL. */
static const char *after_any_device(const char *topic, bool wildcard)
{
    size_t span = text_id_span(topic, strlen(topic));

    if (wildcard && topic[0] == '+' && topic[1] == '/') {
        return topic + 1;
    }
    return span >= 1 && span <= TEXT_ID_MAX && topic[span] == '/' ? topic + span : NULL;
}

static enum policy_verdict check_control(enum policy_access access, const char *topic)
{
    const char *rest = topic;

    if (access == POLICY_WRITE && strcmp(topic, POLICY_CONTROL_TOPIC) == 0) {
        return POLICY_ALLOWED;
    }
    if (access != POLICY_WRITE && strcmp(topic, POLICY_ANSWER_TOPIC) == 0) {
        return POLICY_ALLOWED;
    }
    if (after(topic, SHARE) != NULL) {
        rest = access == POLICY_SUBSCRIBE ? after(topic, OUR_SHARE) : NULL;
        if (rest == NULL) {
            return POLICY_SHARED;
        }
    }
    if (rest[0] == '$') {
        return POLICY_RESERVED;
    }
    rest = after(rest, BRANCH);
    if (rest == NULL) {
        return POLICY_OUTSIDE;
    }
    rest = after_any_device(rest, access == POLICY_SUBSCRIBE);
    if (rest == NULL) {
        return POLICY_ANOTHER_DEVICE;
    }
    return check_direction(rest, access == POLICY_WRITE ? "/down/" : "/up/");
}

enum policy_verdict policy_check(enum policy_role role, const char *id, enum policy_access access, const char *topic)
{
    return role == POLICY_CONTROL ? check_control(access, topic) : check_device(id, access, topic);
}

const char *policy_verdict_name(enum policy_verdict verdict)
{
    switch (verdict) {
    case POLICY_ALLOWED:
        return "allowed";
    case POLICY_OUTSIDE:
        return "topic-outside";
    case POLICY_RESERVED:
        return "topic-reserved";
    case POLICY_SHARED:
        return "shared-subscription";
    case POLICY_ANOTHER_DEVICE:
        return "another-device";
    case POLICY_WRONG_DIRECTION:
        return "wrong-direction";
    case POLICY_NO_LEAF:
        return "no-leaf";
    }
    return "unknown-verdict";
}
