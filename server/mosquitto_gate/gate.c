/* The Mosquitto plugin: who may connect, by certificate; what they may touch, by topic; and for how long.
 *
 * At CONNECT the client's certificate is read again (identity.h), the client id is bound to it, and the deny list is
 * asked. Only then does the connection get its user name, "device:ID" or "control:ID", by which every later access is
 * judged (policy.h); the broker keeps it with a persistent session, so it holds for messages that are queued while the
 * client is away, and for its will. Once a second expired connections are cut, and a changed deny file is read.
 *
 * Trust: the broker's configuration, its clock, and its TLS layer for possession of the certificate's key.
 * Rules: whatever can't be judged is refused; every refusal is one line in the log. Memory is allocated when the plugin
 * starts and when a deny file or CA file is read, never for a client.
 *
 * Plugin interface version 5: one file for Mosquitto 2.0.11 and later. The broker calls from one thread.
 */
#include "answer.h"
#include "command.h"
#include "connections.h"
#include "denyfile.h"
#include "identity.h"
#include "options.h"
#include "policy.h"

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <openssl/objects.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))
#define NAME "birthmark gate: "

/* From Mosquitto 2.1 on, a client with a persistent session goes offline by an event of its own. */
#define EVENT_CLIENT_OFFLINE 28

#define DEVICE_USER "device:"
#define CONTROL_USER "control:"

/* Control connections and take-overs need slots beyond what the listener admits. */
#define SPARE_SLOTS 64U
#define LOG_LINES_PER_SECOND 200U

struct gate {
    mosquitto_plugin_id_t *plugin;
    struct options options;
    struct identity_rules rules;
    ASN1_OBJECT *control_eku;
    struct denyfile deny;
    struct connections connections;
    struct connection *slots;
    uint32_t *buckets;
    struct counters counters;
    time_t last_tick;
    unsigned int lines_this_second;
    uint64_t spared_before;
};

/* ---- what is refused, and said so ---- */

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

static void log_refusal(struct gate *gate, const char *what, struct mosquitto *client, const struct identity *identity,
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
    mosquitto_log_printf(MOSQ_LOG_NOTICE, NAME "refused %s: reason=%s id=%s serial=%s client_id=%s topic=%s address=%s",
                         what, reason, identity->id[0] != '\0' ? identity->id : "-",
                         identity->serial[0] != '\0' ? identity->serial : "-", client_id, shown_topic,
                         address != NULL ? address : "-");
}

/* ---- CONNECT ---- */

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
static const char *judge_identity(const struct gate *gate, const struct identity *identity, const char *client_id)
{
    if (denylist_has(&gate->deny.list, "serial", identity->serial)) {
        return "serial-denied";
    }
    if (denylist_has(&gate->deny.list, "device", identity->id)) {
        return "device-denied";
    }
    if (client_id == NULL || !is_own_client_id(gate, identity, client_id)) {
        return "client-id-mismatch";
    }
    return NULL;
}

/* Let a judged identity in: note the connection and give it its user name. Return why not, or NULL. */
static const char *admit(struct gate *gate, struct mosquitto *client, const struct identity *identity)
{
    const char *prefix = identity->role == POLICY_CONTROL ? CONTROL_USER : DEVICE_USER;
    const char *client_id = mosquitto_client_id(client);
    char user[sizeof CONTROL_USER + TEXT_ID_MAX];
    struct text text;

    text_begin(&text, user, sizeof user);
    text_append(&text, "%s%s", prefix, identity->id);
    if (text.overflow || mosquitto_set_username(client, user) != MOSQ_ERR_SUCCESS) {
        return "no-memory";
    }
    return connections_put(&gate->connections, client_id, identity, client) == CONNECTIONS_OK ? NULL : "gate-full";
}

static int on_connect(int event, void *data, void *userdata)
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
        reason = judge_identity(gate, &identity, mosquitto_client_id(connect->client));
        reason = reason == NULL ? admit(gate, connect->client, &identity) : reason;
    }
    if (reason != NULL) {
        gate->counters.refused++;
        log_refusal(gate, "connect", connect->client, &identity, NULL, reason);
        return MOSQ_ERR_AUTH;
    }
    gate->counters.accepted++;
    return MOSQ_ERR_SUCCESS;
}

static int on_disconnect(int event, void *data, void *userdata)
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

/* ---- topics ---- */

/* Read the role and the id that on_connect() put into the user name; false where it was not ours. */
static bool read_user(const char *user, enum policy_role *role, const char **id)
{
    if (user == NULL) {
        return false;
    }
    if (strncmp(user, CONTROL_USER, strlen(CONTROL_USER)) == 0) {
        *role = POLICY_CONTROL;
        *id = user + strlen(CONTROL_USER);
        return true;
    }
    *role = POLICY_DEVICE;
    *id = user + strlen(DEVICE_USER);
    return strncmp(user, DEVICE_USER, strlen(DEVICE_USER)) == 0;
}

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
    log_refusal(gate, what, check->client, found != NULL ? &found->identity : &nobody, check->topic, reason);
}

static int on_access(int event, void *data, void *userdata)
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
        !read_user(mosquitto_client_username(check->client), &role, &id)) {
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

/* ---- cutting connections ---- */

/* Cut one connection, without its will: whoever is cut has nothing more to say. */
static void cut(struct gate *gate, const struct connection *connection, const char *reason)
{
    const struct connection copy = *connection; /* the broker tells on_disconnect(), which frees the slot */

    mosquitto_log_printf(MOSQ_LOG_NOTICE, NAME "cut: reason=%s id=%s serial=%s client_id=%s", reason, copy.identity.id,
                         copy.identity.serial, copy.client_id);
    gate->counters.kicked++;
    (void)mosquitto_kick_client_by_clientid(copy.client_id, false);
    connections_remove(&gate->connections, copy.client_id, copy.client);
}

static uint32_t cut_id(struct gate *gate, const char *id)
{
    uint32_t cuts = 0;

    for (uint32_t slot = 0; slot < gate->connections.capacity; slot++) {
        const struct connection *connection = connections_at(&gate->connections, slot);

        /* Never a control identity: it may be the one that asks. */
        if (connection != NULL && connection->identity.role == POLICY_DEVICE &&
            strcmp(connection->identity.id, id) == 0) {
            cut(gate, connection, "kick");
            cuts++;
        }
    }
    return cuts;
}

static void cut_expired(struct gate *gate, time_t now)
{
    if (!connections_any_ended(&gate->connections, now)) {
        return;
    }
    for (uint32_t slot = 0; slot < gate->connections.capacity; slot++) {
        const struct connection *connection = connections_at(&gate->connections, slot);

        if (connection != NULL && now > connection->identity.not_after) {
            cut(gate, connection, "expired");
        }
    }
    connections_note_earliest(&gate->connections);
}

static void cut_denied(struct gate *gate)
{
    for (uint32_t slot = 0; slot < gate->connections.capacity; slot++) {
        const struct connection *connection = connections_at(&gate->connections, slot);

        if (connection == NULL) {
            continue;
        }
        if (denylist_has(&gate->deny.list, "serial", connection->identity.serial)) {
            cut(gate, connection, "serial-denied");
        } else if (denylist_has(&gate->deny.list, "device", connection->identity.id)) {
            cut(gate, connection, "device-denied");
        }
    }
}

/* ---- what changes while the broker runs ---- */

static bool reload_deny_file(struct gate *gate)
{
    enum denylist_status status = denyfile_load(&gate->deny);

    if (status != DENYLIST_OK) {
        mosquitto_log_printf(MOSQ_LOG_ERR, NAME "deny file %s %s; the list in force stays: version %llu, %zu entries",
                             gate->deny.path, denylist_status_name(status), (unsigned long long)gate->deny.list.version,
                             gate->deny.list.count);
        return false;
    }
    mosquitto_log_printf(MOSQ_LOG_NOTICE, NAME "deny list version %llu in force, %zu entries",
                         (unsigned long long)gate->deny.list.version, gate->deny.list.count);
    cut_denied(gate);
    return true;
}

static bool load_issuers(const char *path, struct issuers *out)
{
    enum issuers_status status = issuers_load(path, out);

    if (status != ISSUERS_OK) {
        mosquitto_log_printf(MOSQ_LOG_ERR, NAME "CA file %s: %s", path, issuers_status_name(status));
    }
    return status == ISSUERS_OK;
}

/* Read both CA files and put them in force together, or keep what is in force. */
static bool reload_issuers(struct gate *gate)
{
    struct issuers fleet = {0};
    struct issuers infra = {0};
    bool loaded =
        load_issuers(gate->options.fleet_ca_file, &fleet) && load_issuers(gate->options.infra_ca_file, &infra);

    if (loaded && issuers_share_a_key(&fleet, &infra)) {
        mosquitto_log_printf(MOSQ_LOG_ERR, NAME "a Fleet CA and an Infra CA have the same key");
        loaded = false;
    }
    if (!loaded) {
        issuers_release(&fleet);
        issuers_release(&infra);
        return false;
    }
    issuers_release(&gate->rules.fleet);
    issuers_release(&gate->rules.infra);
    gate->rules.fleet = fleet;
    gate->rules.infra = infra;
    return true;
}

static int on_reload(int event, void *data, void *userdata)
{
    struct gate *gate = userdata;

    (void)event;
    (void)data;
    if (!reload_issuers(gate)) {
        mosquitto_log_printf(MOSQ_LOG_ERR, NAME "the CA certificates in force stay");
    }
    (void)reload_deny_file(gate);
    return MOSQ_ERR_SUCCESS;
}

static int on_tick(int event, void *data, void *userdata)
{
    struct gate *gate = userdata;
    time_t now = time(NULL);

    (void)event;
    (void)data;
    if (now == gate->last_tick) {
        return MOSQ_ERR_SUCCESS;
    }
    gate->last_tick = now;
    gate->lines_this_second = 0;
    if (gate->counters.log_lines_spared != gate->spared_before) {
        mosquitto_log_printf(MOSQ_LOG_WARNING, NAME "%llu more refusals in the last second",
                             (unsigned long long)(gate->counters.log_lines_spared - gate->spared_before));
        gate->spared_before = gate->counters.log_lines_spared;
    }
    if (denyfile_changed(&gate->deny)) {
        (void)reload_deny_file(gate);
    }
    cut_expired(gate, now);
    return MOSQ_ERR_SUCCESS;
}

/* ---- control ---- */

static int on_control(int event, void *data, void *userdata)
{
    struct mosquitto_evt_control *request = data;
    struct gate *gate = userdata;
    static char buffer[ANSWER_MAX]; /* the broker calls from one thread, and copies the answer */
    enum command_status status;
    enum policy_role role;
    struct command command;
    struct text answer;
    const char *id;

    (void)event;
    /* The topic's own check let only control identities this far; it is not asked for in vain twice. */
    if (!read_user(mosquitto_client_username(request->client), &role, &id) || role != POLICY_CONTROL) {
        return MOSQ_ERR_SUCCESS;
    }
    text_begin(&answer, buffer, sizeof buffer);
    status = command_parse(request->payload, request->payloadlen, &command);
    if (status != COMMAND_OK) {
        answer_error(&answer, command.tag, command_status_name(status));
    } else {
        switch (command.verb) {
        case COMMAND_LIST:
            answer_list(&answer, command.tag, &gate->connections, command.cursor);
            break;
        case COMMAND_STATS:
            answer_stats(&answer, command.tag, &gate->counters, &gate->connections, &gate->deny);
            break;
        case COMMAND_KICK:
            answer_kicked(&answer, command.tag, cut_id(gate, command.id));
            break;
        }
    }
    /* To the asking client alone. An error here is its own: it sees no answer, and asks again. */
    (void)mosquitto_broker_publish_copy(mosquitto_client_id(request->client), POLICY_ANSWER_TOPIC, (int)answer.length,
                                        answer.buffer, 1, false, NULL);
    return MOSQ_ERR_SUCCESS;
}

/* ---- the plugin's life ---- */

static void release(struct gate *gate)
{
    issuers_release(&gate->rules.fleet);
    issuers_release(&gate->rules.infra);
    denyfile_release(&gate->deny);
    ASN1_OBJECT_free(gate->control_eku);
    free(gate->slots);
    free(gate->buckets);
    free(gate);
}

static bool prepare(struct gate *gate)
{
    uint32_t capacity = gate->options.max_connections + SPARE_SLOTS;

    gate->control_eku = OBJ_txt2obj(gate->options.control_eku, 1);
    if (gate->control_eku == NULL) {
        mosquitto_log_printf(MOSQ_LOG_ERR, NAME "control_eku %s is not a dotted object identifier",
                             gate->options.control_eku);
        return false;
    }
    gate->rules.control_eku = gate->control_eku;
    gate->rules.trust_domain = gate->options.trust_domain;
    gate->deny.path = gate->options.deny_file;
    gate->slots = calloc(capacity, sizeof *gate->slots);
    gate->buckets = calloc(capacity, sizeof *gate->buckets);
    if (gate->slots == NULL || gate->buckets == NULL) {
        mosquitto_log_printf(MOSQ_LOG_ERR, NAME "no memory for %u connections", capacity);
        return false;
    }
    connections_begin(&gate->connections, gate->slots, gate->buckets, capacity);
    return reload_issuers(gate) && reload_deny_file(gate);
}

/* Every event the gate needs; without one of them it must not run. */
static const struct {
    int event;
    MOSQ_FUNC_generic_callback callback;
    const char *data;
} events[] = {
    {MOSQ_EVT_BASIC_AUTH, on_connect, NULL},
    {MOSQ_EVT_ACL_CHECK, on_access, NULL},
    {MOSQ_EVT_DISCONNECT, on_disconnect, NULL},
    {MOSQ_EVT_TICK, on_tick, NULL},
    {MOSQ_EVT_RELOAD, on_reload, NULL},
    {MOSQ_EVT_CONTROL, on_control, POLICY_CONTROL_TOPIC},
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
    (void)mosquitto_callback_register(gate->plugin, EVENT_CLIENT_OFFLINE, on_disconnect, NULL, gate);
    return MOSQ_ERR_SUCCESS;
}

static void unregister_events(struct gate *gate)
{
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        (void)mosquitto_callback_unregister(gate->plugin, events[i].event, events[i].callback, events[i].data);
    }
    (void)mosquitto_callback_unregister(gate->plugin, EVENT_CLIENT_OFFLINE, on_disconnect, NULL);
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
        mosquitto_log_printf(MOSQ_LOG_ERR, NAME "plugin_opt_%s: %s", where, options_status_name(status));
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
