/* Which topics an identity may use. Pure: no broker, no state.
 *
 * Devices:  read and subscribe below devices/ID/down/, write below devices/ID/up/; nothing else, so no $share, no
 *           $SYS, no $CONTROL and no wildcard that reaches beyond their own branch.
 * Control:  read and subscribe below devices/ID/up/ and devices/+/up/, alone or as $share/birthmark/...; write below
 *           devices/ID/down/; publish to $CONTROL/birthmark/v1 and read its answers.
 *
 * birthmark_server.broker.policy is the same in Python; tests/gate/vectors/topics.txt holds both to one table.
 * Source of the topics: birthmark_wire.topics.
 */
#ifndef BIRTHMARK_GATE_POLICY_H
#define BIRTHMARK_GATE_POLICY_H

#define POLICY_CONTROL_TOPIC "$CONTROL/birthmark/v1"
#define POLICY_ANSWER_TOPIC "$CONTROL/birthmark/v1/response"

enum policy_role {
    POLICY_DEVICE = 1,
    POLICY_CONTROL = 2,
};

enum policy_access {
    POLICY_READ = 1,
    POLICY_WRITE = 2,
    POLICY_SUBSCRIBE = 3,
};

enum policy_verdict {
    POLICY_ALLOWED = 0,
    POLICY_OUTSIDE,         /* not below devices/ */
    POLICY_RESERVED,        /* begins with $ */
    POLICY_SHARED,          /* a shared subscription that is not ours */
    POLICY_ANOTHER_DEVICE,  /* another device's branch, or a wildcard over all of them */
    POLICY_WRONG_DIRECTION, /* neither up nor down as this access needs it */
    POLICY_NO_LEAF,         /* nothing below up/ or down/ */
};

/* Judge one access.
 * role   [in]  what the certificate made of this connection
 * id     [in]  the id in that certificate, NUL-terminated
 * access [in]  read a message, write one, or subscribe to a filter
 * topic  [in]  topic or filter as the broker saw it, NUL-terminated
 */
enum policy_verdict policy_check(enum policy_role role, const char *id, enum policy_access access, const char *topic);

/* The stable name of a verdict, as in the log and in birthmark_server.broker.policy. */
const char *policy_verdict_name(enum policy_verdict verdict);

#endif
