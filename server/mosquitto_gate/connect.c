/* CONNECT and its end: the certificate is read again, the client id bound to it, the deny list asked, and its lease. */
#include "gate.h"

#include <string.h>

/* Whether `client_id` is the identity's own: its id, or ID.APP where that is allowed. Control identities may always
 * add a suffix, so that the replicas of a server can share one certificate. */
static bool is_own_client_id(const struct gate *gate, const struct identity *identity, const char *client_id)
{
    size_t length = strlen(identity->id);
    const char *app = client_id + length;
    bool apps = gate->options.app_clients || identity->role == POLICY_CONTROL;

    if (strncmp(client_id, identity->id, length) != 0) {
        return false;
    }
    if (app[0] == '\0') {
        return true;
    }
    return apps && app[0] == '.' && strlen(app + 1) <= CONNECTIONS_APP_MAX && text_is_id(app + 1, strlen(app + 1));
}

/* Why a proven identity is still not let in, or NULL. */
static const char *judge_identity(const struct gate *gate, const struct identity *identity, const char *client_id,
                                  enum lease_state lease)
{
    const char *denied = gate_denied(gate, identity);

    if (denied != NULL) {
        return denied;
    }
    if (client_id == NULL || !is_own_client_id(gate, identity, client_id)) {
        return "client-id-mismatch";
    }
    return lease == LEASE_RUNNING ? NULL : lease_state_name(lease);
}

/* Let a judged identity in: note the connection and give it its user name. Return why not, or NULL. */
static const char *admit(struct gate *gate, struct mosquitto *client, const struct identity *identity)
{
    const char *prefix = identity->role == POLICY_CONTROL ? GATE_CONTROL_USER : GATE_DEVICE_USER;
    const char *client_id = mosquitto_client_id(client);
    char user[sizeof GATE_CONTROL_USER + TEXT_ID_MAX];
    struct text text;

    text_begin(&text, user, sizeof user);
    text_append(&text, "%s%s", prefix, identity->id);
    if (text.overflow || mosquitto_set_username(client, user) != MOSQ_ERR_SUCCESS) {
        return "no-memory";
    }
    return connections_put(&gate->connections, client_id, identity, client) == CONNECTIONS_OK ? NULL : "gate-full";
}

int gate_on_connect(int event, void *data, void *userdata)
{
    struct mosquitto_evt_basic_auth *connect = data;
    struct gate *gate = userdata;
    X509 *certificate = mosquitto_client_certificate(connect->client);
    struct identity identity;
    enum identity_status status = identity_read(certificate, &gate->rules, time(NULL), &identity);
    const char *reason = NULL;

    (void)event;
    X509_free(certificate);
    if (status != IDENTITY_OK) {
        reason = identity_status_name(status);
    } else {
        reason = judge_identity(gate, &identity, mosquitto_client_id(connect->client),
                                gate_judge_lease(gate, lease_moment()));
        reason = reason == NULL ? admit(gate, connect->client, &identity) : reason;
    }
    if (reason != NULL) {
        gate->counters.refused++;
        gate_log_refusal(gate, "connect", connect->client, &identity, NULL, reason);
        return MOSQ_ERR_AUTH;
    }
    gate->counters.accepted++;
    return MOSQ_ERR_SUCCESS;
}

int gate_on_disconnect(int event, void *data, void *userdata)
{
    struct mosquitto_evt_disconnect *disconnect = data;
    struct gate *gate = userdata;
    const char *client_id = mosquitto_client_id(disconnect->client);

    (void)event;
    if (client_id != NULL) {
        connections_remove(&gate->connections, client_id, disconnect->client);
    }
    return MOSQ_ERR_SUCCESS;
}
