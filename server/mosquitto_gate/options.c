#include "options.h"

#include <stdlib.h>
#include <string.h>

enum kind {
    KIND_TEXT,
    KIND_COUNT,
    KIND_SWITCH,
};

/* One option: where its value goes, and what it must look like. */
struct option {
    const char *name;
    enum kind kind;
    bool required;
    void *value;
    bool seen;
};

static bool read_count(const char *text, uint32_t *out)
{
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits > 7 || text[digits] != '\0') {
        return false;
    }
    *out = (uint32_t)strtoul(text, NULL, 10);
    return *out >= 1 && *out <= OPTIONS_CONNECTIONS_MAX;
}

static bool read_switch(const char *text, bool *out)
{
    *out = strcmp(text, "true") == 0;
    return *out || strcmp(text, "false") == 0;
}

static bool read_text(const char *text, char *out)
{
    size_t length = strlen(text);

    if (length == 0 || length > OPTIONS_VALUE_MAX) {
        return false;
    }
    memcpy(out, text, length + 1);
    return true;
}

static bool read_value(const struct option *option, const char *text)
{
    switch (option->kind) {
    case KIND_TEXT:
        return read_text(text, option->value);
    case KIND_COUNT:
        return read_count(text, option->value);
    case KIND_SWITCH:
        return read_switch(text, option->value);
    }
    return false;
}

static struct option *find(struct option *known, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(known[i].name, name) == 0) {
            return &known[i];
        }
    }
    return NULL;
}

enum options_status options_read(const struct mosquitto_opt *given, int count, struct options *out, const char **where)
{
    struct option known[] = {
        {"trust_domain", KIND_TEXT, true, out->trust_domain, false},
        {"fleet_ca_file", KIND_TEXT, true, out->fleet_ca_file, false},
        {"infra_ca_file", KIND_TEXT, true, out->infra_ca_file, false},
        {"control_eku", KIND_TEXT, true, out->control_eku, false},
        {"deny_file", KIND_TEXT, true, out->deny_file, false},
        {"deny_eku", KIND_TEXT, true, out->deny_eku, false},
        {"max_connections", KIND_COUNT, true, &out->max_connections, false},
        {"app_clients", KIND_SWITCH, false, &out->app_clients, false},
    };
    const size_t known_count = sizeof known / sizeof known[0];

    memset(out, 0, sizeof *out);
    for (int i = 0; i < count; i++) {
        struct option *option = find(known, known_count, given[i].key);

        *where = given[i].key;
        if (option == NULL) {
            return OPTIONS_UNKNOWN;
        }
        if (option->seen) {
            return OPTIONS_REPEATED;
        }
        if (given[i].value == NULL || !read_value(option, given[i].value)) {
            return OPTIONS_BAD_VALUE;
        }
        option->seen = true;
    }
    for (size_t i = 0; i < known_count; i++) {
        if (known[i].required && !known[i].seen) {
            *where = known[i].name;
            return OPTIONS_MISSING;
        }
    }
    return OPTIONS_OK;
}

const char *options_status_name(enum options_status status)
{
    switch (status) {
    case OPTIONS_OK:
        return "ok";
    case OPTIONS_UNKNOWN:
        return "there is no such option";
    case OPTIONS_REPEATED:
        return "given twice";
    case OPTIONS_BAD_VALUE:
        return "has a value that can't be read";
    case OPTIONS_MISSING:
        return "is missing";
    }
    return "unknown status";
}
