/* What the rooms of the plugin share: its state, its line in the log, and how it cuts a connection. */
#ifndef BIRTHMARK_GATE_GATE_H
#define BIRTHMARK_GATE_GATE_H

#include "answer.h"
#include "connections.h"
#include "denyfile.h"
#include "identity.h"
#include "issuerfiles.h"
#include "lease.h"
#include "options.h"
#include "pending.h"
#include "policy.h"

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define GATE_NAME "birthmark gate: "

/* The user name that a connection gets once it is let in, by which every later access is judged. */
#define GATE_DEVICE_USER "device:"
#define GATE_CONTROL_USER "control:"

struct gate {
    mosquitto_plugin_id_t *plugin;
    struct options options;
    struct identity_rules rules;
    ASN1_OBJECT *control_eku;
    ASN1_OBJECT *deny_eku;
    struct issuerfiles issuers;
    struct denyfile deny;
    struct pending pending;
    enum lease_state lease; /* as it was last logged */
    bool cut_again;         /* someone who is denied is still connected: look at the next tick */
    struct connections connections;
    struct connection *slots;
    uint32_t *buckets;
    struct counters counters;
    time_t last_tick;
    unsigned int lines_this_second;
    uint64_t spared_before;
};

/* Log one refusal: what was tried, by whom, and why not.
 * identity [in]  as far as it is known; empty strings where it is not
 * topic    [in]  NULL where there is none
 * reason   [in]  a stable name
 */
void gate_log_refusal(struct gate *gate, const char *what, struct mosquitto *client, const struct identity *identity,
                      const char *topic, const char *reason);

/* Begin a new second: lines may be logged again, and those that were spared are counted in one line. */
void gate_log_next_second(struct gate *gate);

/* Read role and id out of a user name; false where it is not one that this gate gave. */
bool gate_read_user(const char *user, enum policy_role *role, const char **id);

/* Why the deny list, or a command that runs ahead of it, refuses an identity; or NULL. */
const char *gate_denied(const struct gate *gate, const struct identity *identity);

/* Cut one connection, without its will: whoever is cut has nothing more to say. The slot is free afterwards. */
void gate_cut(struct gate *gate, const struct connection *connection, const char *reason);

/* Read the deny file, or keep the list in force; cut who is denied now. */
bool gate_reload_deny_file(struct gate *gate);

/* Whether new connections may be let in. A change is one line in the log. */
enum lease_state gate_judge_lease(struct gate *gate, struct moment now);

/* Read both CA files and put them in force together, or keep what is in force. */
bool gate_reload_issuers(struct gate *gate);

/* The broker's events; userdata is the gate. */
int gate_on_connect(int event, void *data, void *userdata);
int gate_on_disconnect(int event, void *data, void *userdata);
int gate_on_access(int event, void *data, void *userdata);
int gate_on_reload(int event, void *data, void *userdata);
int gate_on_tick(int event, void *data, void *userdata);
int gate_on_control(int event, void *data, void *userdata);

#endif
