#include "command.h"

#include <stdbool.h>
#include <string.h>

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
    uint64_t value = 0;

    if (word.length > 0 && (!text_read_number(word.text, word.length, &value) || value > UINT32_MAX)) {
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

static bool read_id(struct word word, char out[TEXT_ID_MAX + 1])
{
    if (!text_is_id(word.text, word.length)) {
        return false;
    }
    memcpy(out, word.text, word.length);
    return true;
}

static bool read_serial(struct word word, char out[TEXT_SERIAL_MAX + 1])
{
    if (!text_is_serial(word.text, word.length)) {
        return false;
    }
    memcpy(out, word.text, word.length);
    return true;
}

static bool read_version(struct word word, uint64_t *out)
{
    return text_read_number(word.text, word.length, out);
}

static bool read_ids(const char *rest, size_t length, struct command *out)
{
    while (length > 0) {
        if (out->id_count == COMMAND_IDS_MAX || !read_id(take_word(&rest, &length), out->ids[out->id_count])) {
            return false;
        }
        out->id_count++;
    }
    return out->id_count > 0;
}

/* Read the arguments of `out`'s verb; false where they are not as it wants them. */
static bool read_arguments(const char *rest, size_t length, struct command *out)
{
    struct word first;
    struct word second;

    if (out->verb == COMMAND_FIND) {
        return read_ids(rest, length, out);
    }
    first = take_word(&rest, &length);
    second = take_word(&rest, &length);
    if (length > 0) {
        return false;
    }
    switch (out->verb) {
    case COMMAND_LIST:
        return read_cursor(first, &out->cursor) && second.length == 0;
    case COMMAND_STATS:
    case COMMAND_ISSUERS:
        return first.length == 0 && second.length == 0;
    case COMMAND_KICK:
        return read_id(first, out->id) && second.length == 0;
    case COMMAND_REVOKE:
        return read_serial(first, out->serial) && read_version(second, &out->version);
    case COMMAND_BLOCK:
        return read_id(first, out->id) && read_version(second, &out->version);
    case COMMAND_FIND:
        break;
    }
    return false;
}

static const struct {
    const char *name;
    enum command_verb verb;
} verbs[] = {
    {"list", COMMAND_LIST},       {"find", COMMAND_FIND}, {"stats", COMMAND_STATS},
    {"issuers", COMMAND_ISSUERS}, {"kick", COMMAND_KICK}, {"revoke", COMMAND_REVOKE},
    {"block", COMMAND_BLOCK},
};

enum command_status command_parse(const char *payload, size_t length, struct command *out)
{
    struct word tag;
    struct word verb;

    memset(out, 0, sizeof *out);
    tag = take_word(&payload, &length);
    verb = take_word(&payload, &length);
    if (!text_is_id(tag.text, tag.length) || tag.length > COMMAND_TAG_MAX) {
        return COMMAND_MALFORMED;
    }
    memcpy(out->tag, tag.text, tag.length);
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (word_is(verb, verbs[i].name)) {
            out->verb = verbs[i].verb;
            return read_arguments(payload, length, out) ? COMMAND_OK : COMMAND_MALFORMED;
        }
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
