/* Any payload is a command or refused, and what is echoed needs no escaping. */
#include "answer.h"
#include "command.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct connection slots[4];
    static uint32_t buckets[4];
    static char buffer[ANSWER_MAX];
    struct connections table;
    struct command command;
    struct text text;
    enum command_status status = command_parse((const char *)data, size, &command);
    size_t tag = strnlen(command.tag, sizeof command.tag);

    if (tag >= sizeof command.tag || text_id_span(command.tag, tag) != tag) {
        abort();
    }
    connections_begin(&table, slots, buckets, 4);
    text_begin(&text, buffer, sizeof buffer);
    if (status != COMMAND_OK) {
        answer_error(&text, command.tag, command_status_name(status));
    } else if (command.verb == COMMAND_LIST) {
        answer_list(&text, command.tag, &table, command.cursor);
    } else if (command.verb == COMMAND_ISSUERS) {
        answer_issuers(&text, command.tag, &(struct issuers){0}, &(struct issuers){0}, false);
    } else if (command.verb == COMMAND_FIND) {
        if (command.id_count == 0 || command.id_count > COMMAND_IDS_MAX) {
            abort();
        }
        for (uint32_t i = 0; i < command.id_count; i++) {
            size_t length = strnlen(command.ids[i], sizeof command.ids[i]);

            if (length == 0 || text_id_span(command.ids[i], length) != length) {
                abort();
            }
        }
        answer_find(&text, command.tag, &table, command.ids, command.id_count);
    }
    if (text.overflow) {
        abort();
    }
    return 0;
}
