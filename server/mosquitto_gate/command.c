#include "command.h"

#include <stdbool.h>
#include <string.h>

#define CURSOR_DIGITS_MAX 9U

struct word {
    const char *text;
    size_t length;
};

/* Take the next word; words are separated by exactly one space. An empty word means that there is none. */
static struct word take_word(const char **rest, size_t *length)
{
    const char *space = *length > 0 ? memchr(*rest, ' ', *length) : NULL;
    struct word word = {*rest, space != NULL ? (size_t)(space - *rest) : *length};
    size_t taken = word.length + (space != NULL ? 1 : 0);

    *rest = taken > 0 ? *rest + taken : *rest;
    *length -= taken;
    return word;
}

static bool word_is(struct word word, const char *wanted)
{
    return word.length == strlen(wanted) && memcmp(word.text, wanted, word.length) == 0;
}

static bool read_cursor(struct word word, uint32_t *out)
{
    uint32_t value = 0;

    if (word.length > CURSOR_DIGITS_MAX) {
        return false;
    }
    for (size_t i = 0; i < word.length; i++) {
        if (word.text[i] < '0' || word.text[i] > '9') {
            return false;
        }
        value = value * 10 + (uint32_t)(word.text[i] - '0');
    }
    *out = value;
    return true;
}

enum command_status command_parse(const char *payload, size_t length, struct command *out)
{
    struct word tag;
    struct word verb;
    struct word argument;

    memset(out, 0, sizeof *out);
    tag = take_word(&payload, &length);
    verb = take_word(&payload, &length);
    argument = take_word(&payload, &length);
    if (!text_is_id(tag.text, tag.length) || tag.length > COMMAND_TAG_MAX) {
        return COMMAND_MALFORMED;
    }
    memcpy(out->tag, tag.text, tag.length);
    if (length > 0) {
        return COMMAND_MALFORMED;
    }
    if (word_is(verb, "list")) {
        out->verb = COMMAND_LIST;
        return read_cursor(argument, &out->cursor) ? COMMAND_OK : COMMAND_MALFORMED;
    }
    if (word_is(verb, "stats")) {
        out->verb = COMMAND_STATS;
        return argument.length == 0 ? COMMAND_OK : COMMAND_MALFORMED;
    }
    if (word_is(verb, "kick")) {
        out->verb = COMMAND_KICK;
        if (!text_is_id(argument.text, argument.length)) {
            return COMMAND_MALFORMED;
        }
        memcpy(out->id, argument.text, argument.length);
        return COMMAND_OK;
    }
    return COMMAND_UNKNOWN_VERB;
}

const char *command_status_name(enum command_status status)
{
    switch (status) {
    case COMMAND_OK:
        return "ok";
    case COMMAND_MALFORMED:
        return "malformed";
    case COMMAND_UNKNOWN_VERB:
        return "unknown-verb";
    }
    return "unknown-status";
}
