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

static void answer(struct gate *gate, const char *payload, size_t length, struct text *out)
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
    case COMMAND_STATS:
        answer_stats(out, command.tag, &gate->counters, &gate->connections, &gate->deny);
        break;
    case COMMAND_KICK:
        answer_kicked(out, command.tag, cut_id(gate, command.id));
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
    answer(gate, request->payload, request->payloadlen, &text);
    /* To the asking client alone. Where this fails it sees no answer, and asks again. */
    (void)mosquitto_broker_publish_copy(mosquitto_client_id(request->client), POLICY_ANSWER_TOPIC, (int)text.length,
                                        text.buffer, 1, false, NULL);
    return MOSQ_ERR_SUCCESS;
}
