/* The Mosquitto plugin: who may connect, by certificate; what they may touch, by topic; and for how long.
 *
 * At CONNECT the client's certificate is read again (identity.h), the client id is bound to it, and the deny list is
 * asked, whose lease must not be over (lease.h). Only then does the connection get its user name, "device:ID" or
 * "control:ID", by which every later access is judged (policy.h); the broker keeps it with a persistent session, so it
 * holds for messages that are queued while the client is away, and for its will. Once a second expired connections are
 * cut, and changed CA files and a changed deny file are read.
 *
 * Trust: the broker's configuration, its clock, and its TLS layer for possession of the certificate's key.
 * Rules: whatever can't be judged is refused; every refusal is one line in the log. Memory is allocated when the plugin
 * starts and when a deny file or CA file is read, never for a client.
 *
 * Plugin interface version 5: one file for Mosquitto 2.0.11 and later. The broker calls from one thread.
 */
#include "gate.h"

#include <openssl/objects.h>
#include <stdlib.h>

#define EXPORTED __attribute__((visibility("default")))

/* From Mosquitto 2.1 on, a client with a persistent session goes offline by an event of its own. */
#define EVENT_CLIENT_OFFLINE 28

/* Control connections and take-overs need slots beyond what the listener admits. */
#define SPARE_SLOTS 64U

static void release(struct gate *gate)
{
    issuers_release(&gate->rules.fleet);
    issuers_release(&gate->rules.infra);
    denyfile_release(&gate->deny);
    ASN1_OBJECT_free(gate->control_eku);
    ASN1_OBJECT_free(gate->deny_eku);
    free(gate->slots);
    free(gate->buckets);
    free(gate);
}

static ASN1_OBJECT *read_purpose(const char *option, const char *dotted)
{
    ASN1_OBJECT *purpose = OBJ_txt2obj(dotted, 1);

    if (purpose == NULL) {
        mosquitto_log_printf(MOSQ_LOG_ERR, GATE_NAME "%s %s is not a dotted object identifier", option, dotted);
    }
    return purpose;
}

static bool prepare(struct gate *gate)
{
    uint32_t capacity = gate->options.max_connections + SPARE_SLOTS;

    gate->control_eku = read_purpose("control_eku", gate->options.control_eku);
    gate->deny_eku = read_purpose("deny_eku", gate->options.deny_eku);
    if (gate->control_eku == NULL || gate->deny_eku == NULL) {
        return false;
    }
    gate->rules.control_eku = gate->control_eku;
    gate->rules.trust_domain = gate->options.trust_domain;
    gate->issuers.fleet_path = gate->options.fleet_ca_file;
    gate->issuers.infra_path = gate->options.infra_ca_file;
    gate->issuers.fleet = &gate->rules.fleet;
    gate->issuers.infra = &gate->rules.infra;
    gate->deny.path = gate->options.deny_file;
    gate->deny.infra = &gate->rules.infra;
    gate->deny.purpose = gate->deny_eku;
    gate->slots = calloc(capacity, sizeof *gate->slots);
    gate->buckets = calloc(capacity, sizeof *gate->buckets);
    if (gate->slots == NULL || gate->buckets == NULL) {
        mosquitto_log_printf(MOSQ_LOG_ERR, GATE_NAME "no memory for %u connections", capacity);
        return false;
    }
    connections_begin(&gate->connections, gate->slots, gate->buckets, capacity);
    return gate_reload_issuers(gate) && gate_reload_deny_file(gate);
}

/* Every event the gate needs; without one of them it must not run. */
static const struct {
    int event;
    MOSQ_FUNC_generic_callback callback;
    const char *data;
} events[] = {
    {MOSQ_EVT_BASIC_AUTH, gate_on_connect, NULL},
    {MOSQ_EVT_ACL_CHECK, gate_on_access, NULL},
    {MOSQ_EVT_DISCONNECT, gate_on_disconnect, NULL},
    {MOSQ_EVT_TICK, gate_on_tick, NULL},
    {MOSQ_EVT_RELOAD, gate_on_reload, NULL},
    {MOSQ_EVT_CONTROL, gate_on_control, POLICY_CONTROL_TOPIC},
};

static int register_events(struct gate *gate)
{
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        int status =
            mosquitto_callback_register(gate->plugin, events[i].event, events[i].callback, events[i].data, gate);

        if (status != MOSQ_ERR_SUCCESS) {
            return status;
        }
    }
    /* 2.0 does not know this one, and needs it not: there every client that goes gets a disconnect event. */
    (void)mosquitto_callback_register(gate->plugin, EVENT_CLIENT_OFFLINE, gate_on_disconnect, NULL, gate);
    return MOSQ_ERR_SUCCESS;
}

static void unregister_events(struct gate *gate)
{
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        (void)mosquitto_callback_unregister(gate->plugin, events[i].event, events[i].callback, events[i].data);
    }
    (void)mosquitto_callback_unregister(gate->plugin, EVENT_CLIENT_OFFLINE, gate_on_disconnect, NULL);
}

EXPORTED int mosquitto_plugin_version(int supported_version_count, const int *supported_versions)
{
    for (int i = 0; i < supported_version_count; i++) {
        if (supported_versions[i] == MOSQ_PLUGIN_VERSION) {
            return MOSQ_PLUGIN_VERSION;
        }
    }
    return -1;
}

EXPORTED int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata, struct mosquitto_opt *options,
                                   int option_count)
{
    struct gate *gate = calloc(1, sizeof *gate);
    enum options_status status;
    const char *where = "";
    int registered;

    if (gate == NULL) {
        return MOSQ_ERR_NOMEM;
    }
    gate->plugin = identifier;
    status = options_read(options, option_count, &gate->options, &where);
    if (status != OPTIONS_OK) {
        mosquitto_log_printf(MOSQ_LOG_ERR, GATE_NAME "plugin_opt_%s: %s", where, options_status_name(status));
        release(gate);
        return MOSQ_ERR_INVAL;
    }
    if (!prepare(gate)) {
        release(gate);
        return MOSQ_ERR_INVAL;
    }
    registered = register_events(gate);
    if (registered != MOSQ_ERR_SUCCESS) {
        unregister_events(gate);
        release(gate);
        return registered;
    }
    *userdata = gate;
    return MOSQ_ERR_SUCCESS;
}

EXPORTED int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int option_count)
{
    (void)options;
    (void)option_count;
    if (userdata != NULL) {
        unregister_events(userdata);
        release(userdata);
    }
    return MOSQ_ERR_SUCCESS;
}
