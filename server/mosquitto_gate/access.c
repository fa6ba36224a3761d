/* Every read, write and subscription, wills and queued messages included. */
#include "gate.h"

static bool read_access(int access, enum policy_access *out, const char **what)
{
    switch (access) {
    case MOSQ_ACL_READ:
        *out = POLICY_READ;
        *what = "read";
        return true;
    case MOSQ_ACL_WRITE:
        *out = POLICY_WRITE;
        *what = "write";
        return true;
    case MOSQ_ACL_SUBSCRIBE:
        *out = POLICY_SUBSCRIBE;
        *what = "subscribe";
        return true;
    default:
        *what = "access";
        return false;
    }
}

static void log_refused_topic(struct gate *gate, const struct mosquitto_evt_acl_check *check, const char *what,
                              const char *reason)
{
    const char *client_id = mosquitto_client_id(check->client);
    const struct connection *found = client_id != NULL ? connections_find(&gate->connections, client_id) : NULL;
    const struct identity nobody = {0};

    gate->counters.refused_topics++;
    gate_log_refusal(gate, what, check->client, found != NULL ? &found->identity : &nobody, check->topic, reason);
}

int gate_on_access(int event, void *data, void *userdata)
{
    struct mosquitto_evt_acl_check *check = data;
    struct gate *gate = userdata;
    enum policy_verdict verdict = POLICY_OUTSIDE;
    enum policy_access access;
    enum policy_role role;
    const char *what;
    const char *id;

    (void)event;
    if (check->access == MOSQ_ACL_UNSUBSCRIBE) {
        return MOSQ_ERR_SUCCESS; /* giving something up needs no right */
    }
    if (!read_access(check->access, &access, &what) ||
        !gate_read_user(mosquitto_client_username(check->client), &role, &id)) {
        log_refused_topic(gate, check, what, "no-identity");
        return MOSQ_ERR_ACL_DENIED;
    }
    verdict = policy_check(role, id, access, check->topic);
    if (verdict != POLICY_ALLOWED) {
        log_refused_topic(gate, check, what, policy_verdict_name(verdict));
        return MOSQ_ERR_ACL_DENIED;
    }
    return MOSQ_ERR_SUCCESS;
}
