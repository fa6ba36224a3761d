/* Commands of control identities on $CONTROL/birthmark/v1 (command.h), and their answers (answer.h). */
#include "command.h"
#include "gate.h"

#include <string.h>

static uint32_t cut_id(struct gate *gate, const char *id)
{
    uint32_t cuts = 0;

    for (uint32_t slot = 0; slot < gate->connections.capacity; slot++) {
        const struct connection *connection = connections_at(&gate->connections, slot);

        /* Never a control identity: it may be the one that asks. */
        if (connection != NULL && connection->identity.role == POLICY_DEVICE &&
            strcmp(connection->identity.id, id) == 0) {
            gate_cut(gate, connection, "kick");
            cuts++;
        }
    }
    return cuts;
}

/* Whether a connection is what a revoke or block command names. */
static bool is_named(const struct connection *connection, const struct command *command)
{
    return command->verb == COMMAND_REVOKE ? strcmp(connection->identity.serial, command->serial) == 0
                                           : strcmp(connection->identity.id, command->id) == 0;
}

/* Deny what the command names ahead of the list that has it, and cut who is connected with it. */
static void deny_now(struct gate *gate, const struct command *command, const void *asking, struct text *out)
{
    const char *kind = command->verb == COMMAND_REVOKE ? "serial" : "device";
    const char *value = command->verb == COMMAND_REVOKE ? command->serial : command->id;
    uint32_t cuts = 0;

    if (command->version > gate->deny.list.version && !pending_add(&gate->pending, kind, value, command->version)) {
        answer_error(out, command->tag, "full");
        return;
    }
    for (uint32_t slot = 0; slot < gate->connections.capacity; slot++) {
        const struct connection *connection = connections_at(&gate->connections, slot);
        bool named = connection != NULL && is_named(connection, command);
        const char *denied = named ? gate_denied(gate, &connection->identity) : NULL;

        if (denied != NULL && connection->client == asking) {
            gate->cut_again = true; /* the broker is still at work on its message */
        } else if (denied != NULL) {
            gate_cut(gate, connection, denied);
            cuts++;
        }
    }
    answer_kicked(out, command->tag, cuts);
}

static void answer(struct gate *gate, const char *payload, size_t length, const void *asking, struct text *out)
{
    struct command command;
    enum command_status status = command_parse(payload, length, &command);

    if (status != COMMAND_OK) {
        answer_error(out, command.tag, command_status_name(status));
        return;
    }
    switch (command.verb) {
    case COMMAND_LIST:
        answer_list(out, command.tag, &gate->connections, command.cursor);
        break;
    case COMMAND_FIND:
        answer_find(out, command.tag, &gate->connections, command.ids, command.id_count);
        break;
    case COMMAND_STATS:
        answer_stats(out, command.tag, &gate->counters, &gate->connections, &gate->deny, gate->issuers.stale,
                     lease_moment());
        break;
    case COMMAND_ISSUERS:
        answer_issuers(out, command.tag, &gate->rules.fleet, &gate->rules.infra, gate->issuers.stale);
        break;
    case COMMAND_KICK:
        answer_kicked(out, command.tag, cut_id(gate, command.id));
        break;
    case COMMAND_REVOKE:
    case COMMAND_BLOCK:
        deny_now(gate, &command, asking, out);
        break;
    }
}

int gate_on_control(int event, void *data, void *userdata)
{
    struct mosquitto_evt_control *request = data;
    struct gate *gate = userdata;
    char buffer[ANSWER_MAX];
    struct text text;
    enum policy_role role;
    const char *id;

    (void)event;
    /* The topic's own check let nobody else this far; a command is worth asking twice. */
    if (!gate_read_user(mosquitto_client_username(request->client), &role, &id) || role != POLICY_CONTROL) {
        return MOSQ_ERR_SUCCESS;
    }
    text_begin(&text, buffer, sizeof buffer);
    answer(gate, request->payload, request->payloadlen, request->client, &text);
    /* To the asking client alone. Where this fails it sees no answer, and asks again. */
    (void)mosquitto_broker_publish_copy(mosquitto_client_id(request->client), POLICY_ANSWER_TOPIC, (int)text.length,
                                        text.buffer, 1, false, NULL);
    return MOSQ_ERR_SUCCESS;
}
