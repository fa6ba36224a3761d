/* What changes while the broker runs: time, the deny file, the CA certificates. */
#include "gate.h"

static void cut_expired(struct gate *gate, time_t now)
{
    if (!connections_any_ended(&gate->connections, now)) {
        return;
    }
    for (uint32_t slot = 0; slot < gate->connections.capacity; slot++) {
        const struct connection *connection = connections_at(&gate->connections, slot);

        if (connection != NULL && now > connection->identity.not_after) {
            gate_cut(gate, connection, "expired");
        }
    }
    connections_note_earliest(&gate->connections);
}

static void cut_denied(struct gate *gate)
{
    gate->cut_again = false;
    for (uint32_t slot = 0; slot < gate->connections.capacity; slot++) {
        const struct connection *connection = connections_at(&gate->connections, slot);
        const char *denied = connection != NULL ? gate_denied(gate, &connection->identity) : NULL;

        if (denied != NULL) {
            gate_cut(gate, connection, denied);
        }
    }
}

bool gate_reload_deny_file(struct gate *gate)
{
    struct moment now = lease_moment();
    enum denylist_status status = denyfile_load(&gate->deny, now);

    if (status != DENYLIST_OK) {
        mosquitto_log_printf(MOSQ_LOG_ERR,
                             GATE_NAME "deny file %s %s; the list in force stays: version %llu, %zu entries",
                             gate->deny.path, denyfile_problem(&gate->deny, status), (unsigned long long)gate->deny.list.version,
                             gate->deny.list.count);
        return false;
    }
    mosquitto_log_printf(MOSQ_LOG_NOTICE, GATE_NAME "deny list version %llu in force, %zu entries, lease %lld s",
                         (unsigned long long)gate->deny.list.version, gate->deny.list.count,
                         (long long)lease_left(&gate->deny.lease, now));
    pending_settle(&gate->pending, gate->deny.list.version);
    (void)gate_judge_lease(gate, now);
    cut_denied(gate);
    return true;
}

enum lease_state gate_judge_lease(struct gate *gate, struct moment now)
{
    enum lease_state state = lease_judge(&gate->deny.lease, now);

    if (state == gate->lease) {
        return state;
    }
    gate->lease = state;
    switch (state) {
    case LEASE_RUNNING:
        mosquitto_log_printf(MOSQ_LOG_NOTICE, GATE_NAME "the lease runs: new connections are let in again");
        break;
    case LEASE_OVER:
        mosquitto_log_printf(MOSQ_LOG_ERR,
                             GATE_NAME "the lease of deny list version %llu is over: no new connections until a newer "
                                       "list comes (is birthmark serve running?)",
                             (unsigned long long)gate->deny.list.version);
        break;
    case LEASE_AHEAD:
        mosquitto_log_printf(MOSQ_LOG_ERR,
                             GATE_NAME "deny list version %llu is of this clock's future: no new connections until the "
                                       "clock is right",
                             (unsigned long long)gate->deny.list.version);
        break;
    }
    return state;
}

bool gate_reload_issuers(struct gate *gate)
{
    enum issuers_status why = ISSUERS_OK;
    enum issuerfiles_status status = issuerfiles_load(&gate->issuers, &why);

    switch (status) {
    case ISSUERFILES_OK:
        mosquitto_log_printf(MOSQ_LOG_NOTICE, GATE_NAME "%zu Fleet CAs and %zu Infra CAs in force",
                             gate->rules.fleet.count, gate->rules.infra.count);
        break;
    case ISSUERFILES_FLEET:
    case ISSUERFILES_INFRA:
        mosquitto_log_printf(MOSQ_LOG_ERR, GATE_NAME "CA file %s: %s",
                             status == ISSUERFILES_FLEET ? gate->issuers.fleet_path : gate->issuers.infra_path,
                             issuers_status_name(why));
        break;
    case ISSUERFILES_SHARED:
        mosquitto_log_printf(MOSQ_LOG_ERR, GATE_NAME "a Fleet CA and an Infra CA have the same key");
        break;
    }
    if (status != ISSUERFILES_OK && gate->rules.fleet.count > 0) {
        mosquitto_log_printf(MOSQ_LOG_ERR, GATE_NAME "the CA certificates in force stay");
    }
    return status == ISSUERFILES_OK;
}

int gate_on_reload(int event, void *data, void *userdata)
{
    struct gate *gate = userdata;

    (void)event;
    (void)data;
    (void)gate_reload_issuers(gate);
    (void)gate_reload_deny_file(gate);
    return MOSQ_ERR_SUCCESS;
}

int gate_on_tick(int event, void *data, void *userdata)
{
    struct mosquitto_evt_tick *tick = data;
    struct gate *gate = userdata;
    time_t now = time(NULL);
    bool deny_again = false;

    (void)event;
    tick->next_s = 1; /* from Mosquitto 2.1 on an idle broker ticks only when asked to */
    if (now == gate->last_tick) {
        return MOSQ_ERR_SUCCESS;
    }
    gate->last_tick = now;
    gate_log_next_second(gate);
    if (issuerfiles_changed(&gate->issuers)) {
        /* A deny list that was refused may be by a signer whose CA is in force only from here on. */
        deny_again = gate_reload_issuers(gate) && gate->deny.stale;
    }
    if (deny_again || denyfile_changed(&gate->deny)) {
        (void)gate_reload_deny_file(gate);
    }
    (void)gate_judge_lease(gate, lease_moment());
    if (gate->cut_again) {
        cut_denied(gate);
    }
    cut_expired(gate, now);
    return MOSQ_ERR_SUCCESS;
}
