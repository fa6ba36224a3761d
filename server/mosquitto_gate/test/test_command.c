#include "command.h"

#include "check.h"

static struct guarded guard;

static enum command_status parse(const char *payload, struct command **out)
{
    guard = guarded_make(sizeof **out);
    *out = (struct command *)(void *)guard.middle;
    return command_parse(payload, strlen(payload), *out);
}

static void each_command_is_read(void)
{
    struct command *command;

    CHECK(parse("7 list", &command) == COMMAND_OK);
    CHECK(command->verb == COMMAND_LIST && command->cursor == 0);
    CHECK_TEXT(command->tag, "7");
    guarded_free(guard);
    CHECK(parse("a-1 list 100", &command) == COMMAND_OK);
    CHECK(command->cursor == 100);
    guarded_free(guard);
    CHECK(parse("8 stats", &command) == COMMAND_OK && command->verb == COMMAND_STATS);
    guarded_free(guard);
    CHECK(parse("9 kick dev-1", &command) == COMMAND_OK && command->verb == COMMAND_KICK);
    CHECK_TEXT(command->id, "dev-1");
    guarded_free(guard);
}

static void anything_else_is_refused(void)
{
    static const char *const malformed[] = {
        "",          " ",           "list",      " list",        "7  list",  "7 list -1",     "7 list 1234567890",
        "7 list x",  "7 list 1 2",  "7 stats x", "7 kick",       "7 kick ",  "7 kick Dev",    "7 kick a b",
        "T list",    "7\nlist",     "7 kick +",  "7 kick a/b",   "\"7\" list", "123456789012345678901234567890123 list",
    };
    struct command *command;

    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        CHECK(parse(malformed[i], &command) != COMMAND_OK);
        guarded_free(guard);
    }
    CHECK(parse("7 revoke a", &command) == COMMAND_UNKNOWN_VERB);
    CHECK_TEXT(command->tag, "7"); /* so that the asker learns which of its commands it was */
    guarded_free(guard);
    CHECK(command_parse(NULL, 0, &(struct command){0}) == COMMAND_MALFORMED);
}

int main(void)
{
    RUN(each_command_is_read);
    RUN(anything_else_is_refused);
    return 0;
}
