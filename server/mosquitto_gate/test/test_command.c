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
    CHECK(parse("8 issuers", &command) == COMMAND_OK && command->verb == COMMAND_ISSUERS);
    guarded_free(guard);
    CHECK(parse("9 kick dev-1", &command) == COMMAND_OK && command->verb == COMMAND_KICK);
    CHECK_TEXT(command->id, "dev-1");
    guarded_free(guard);
    CHECK(parse("12 find dev-1", &command) == COMMAND_OK && command->verb == COMMAND_FIND && command->id_count == 1);
    CHECK_TEXT(command->ids[0], "dev-1");
    guarded_free(guard);
    CHECK(parse("12 find a b c", &command) == COMMAND_OK && command->id_count == 3);
    CHECK_TEXT(command->ids[2], "c");
    guarded_free(guard);
    CHECK(parse("10 revoke 1f2e 7", &command) == COMMAND_OK && command->verb == COMMAND_REVOKE);
    CHECK_TEXT(command->serial, "1f2e");
    CHECK(command->version == 7);
    guarded_free(guard);
    CHECK(parse("11 block dev-1 1800000000000", &command) == COMMAND_OK && command->verb == COMMAND_BLOCK);
    CHECK_TEXT(command->id, "dev-1");
    CHECK(command->version == 1800000000000U);
    guarded_free(guard);
}

static void no_more_is_looked_for_than_has_room(void)
{
    char text[8 + 2 * (COMMAND_IDS_MAX + 1)] = "1 find";
    struct command *command;

    for (size_t i = 0; i < COMMAND_IDS_MAX; i++) {
        strcat(text, " a");
    }
    CHECK(parse(text, &command) == COMMAND_OK && command->id_count == COMMAND_IDS_MAX);
    guarded_free(guard);
    strcat(text, " b");
    CHECK(parse(text, &command) == COMMAND_MALFORMED);
    guarded_free(guard);
}

static void anything_else_is_refused(void)
{
    static const char *const malformed[] = {
        "",          " ",           "list",      " list",        "7  list",  "7 list -1",     "7 list 12345678901",
        "7 list x",  "7 list 1 2",  "7 issuers 1",  "7 stats x", "7 kick",       "7 kick ",  "7 kick Dev",    "7 kick a b",
        "T list",    "7\nlist",     "7 kick +",  "7 kick a/b", "7 find", "7 find ", "7 find  a", "7 find a  b", "7 find A", "7 find a B", "7 find a/b",   "7 revoke 1f",   "7 revoke 1f ", "7 revoke 01f 1",
        "7 revoke 1F 1", "7 revoke 1f -1", "7 revoke 1f 01", "7 revoke 1f 1 1", "7 block a", "7 block A 1", "7 block a x",
        "7 revoke 1234567890123456789012345678901234567890a 1", "7 block a 1234567890123456789", "7 list 01",   "\"7\" list", "123456789012345678901234567890123 list",
    };
    struct command *command;

    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        CHECK(parse(malformed[i], &command) != COMMAND_OK);
        guarded_free(guard);
    }
    CHECK(parse("7 unblock a", &command) == COMMAND_UNKNOWN_VERB);
    CHECK_TEXT(command->tag, "7"); /* so that the asker learns which of its commands it was */
    guarded_free(guard);
    CHECK(command_parse(NULL, 0, &(struct command){0}) == COMMAND_MALFORMED);
}

int main(void)
{
    RUN(each_command_is_read);
    RUN(no_more_is_looked_for_than_has_room);
    RUN(anything_else_is_refused);
    return 0;
}
