#include "gate.h"

#include <string.h>

#define LOG_LINES_PER_SECOND 200U

/* Whether one more line fits into this second: a client that tries without pause must not fill the disk. */
static bool may_log(struct gate *gate)
{
    if (gate->lines_this_second >= LOG_LINES_PER_SECOND) {
        gate->counters.log_lines_spared++;
        return false;
    }
    gate->lines_this_second++;
    return true;
}

void gate_log_refusal(struct gate *gate, const char *what, struct mosquitto *client, const struct identity *identity,
                      const char *topic, const char *reason)
{
    char client_id[TEXT_LOGGABLE_MAX + 1];
    char shown_topic[TEXT_LOGGABLE_MAX + 1];
    const char *address = mosquitto_client_address(client);

    if (!may_log(gate)) {
        return;
    }
    text_loggable(mosquitto_client_id(client), client_id);
    text_loggable(topic, shown_topic);
    mosquitto_log_printf(MOSQ_LOG_NOTICE,
                         GATE_NAME "refused %s: reason=%s id=%s serial=%s client_id=%s topic=%s address=%s", what,
                         reason, identity->id[0] != '\0' ? identity->id : "-",
                         identity->serial[0] != '\0' ? identity->serial : "-", client_id, shown_topic,
                         address != NULL ? address : "-");
}

void gate_log_next_second(struct gate *gate)
{
    uint64_t spared = gate->counters.log_lines_spared - gate->spared_before;

    gate->lines_this_second = 0;
    if (spared > 0) {
        mosquitto_log_printf(MOSQ_LOG_WARNING, GATE_NAME "%llu more refusals in the last second",
                             (unsigned long long)spared);
        gate->spared_before = gate->counters.log_lines_spared;
    }
}

bool gate_read_user(const char *user, enum policy_role *role, const char **id)
{
    if (user == NULL) {
        return false;
    }
    if (strncmp(user, GATE_CONTROL_USER, strlen(GATE_CONTROL_USER)) == 0) {
        *role = POLICY_CONTROL;
        *id = user + strlen(GATE_CONTROL_USER);
        return true;
    }
    if (strncmp(user, GATE_DEVICE_USER, strlen(GATE_DEVICE_USER)) == 0) {
        *role = POLICY_DEVICE;
        *id = user + strlen(GATE_DEVICE_USER);
        return true;
    }
    return false;
}

const char *gate_denied(const struct gate *gate, const struct identity *identity)
{
    if (denylist_has(&gate->deny.list, "serial", identity->serial) ||
        pending_has(&gate->pending, "serial", identity->serial)) {
        return "serial-denied";
    }
    if (denylist_has(&gate->deny.list, "device", identity->id) ||
        pending_has(&gate->pending, "device", identity->id)) {
        return "device-denied";
    }
    return NULL;
}

void gate_cut(struct gate *gate, const struct connection *connection, const char *reason)
{
    const struct connection copy = *connection; /* the broker tells gate_on_disconnect(), which frees the slot */

    mosquitto_log_printf(MOSQ_LOG_NOTICE, GATE_NAME "cut: reason=%s id=%s serial=%s client_id=%s", reason,
                         copy.identity.id, copy.identity.serial, copy.client_id);
    gate->counters.kicked++;
    (void)mosquitto_kick_client_by_clientid(copy.client_id, false);
    connections_remove(&gate->connections, copy.client_id, copy.client);
}
