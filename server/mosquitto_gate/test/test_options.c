#include "options.h"

#include "check.h"

static char *const complete[][2] = {
    {"trust_domain", "fleet.test"}, {"fleet_ca_file", "/f.pem"}, {"infra_ca_file", "/i.pem"},
    {"control_eku", "1.2.3"},       {"deny_file", "/deny"},      {"deny_eku", "1.2.4"},
    {"max_connections", "100"},
};
#define COMPLETE (sizeof complete / sizeof complete[0])

/* Read the complete options with one more, and without the one called `without`. */
static enum options_status read_with(char *key, char *value, const char *without, const char **where)
{
    struct guarded out = guarded_make(sizeof(struct options));
    struct mosquitto_opt given[COMPLETE + 1];
    enum options_status status;
    int count = 0;

    for (size_t i = 0; i < COMPLETE; i++) {
        if (strcmp(complete[i][0], without) != 0) {
            given[count++] = (struct mosquitto_opt){complete[i][0], complete[i][1]};
        }
    }
    if (key != NULL) {
        given[count++] = (struct mosquitto_opt){key, value};
    }
    status = options_read(given, count, (struct options *)(void *)out.middle, where);
    guarded_free(out);
    return status;
}

static void complete_options_are_read(void)
{
    const char *where = "";

    CHECK(read_with(NULL, NULL, "", &where) == OPTIONS_OK);
    CHECK(read_with("app_clients", "true", "", &where) == OPTIONS_OK);
    CHECK(read_with("app_clients", "false", "", &where) == OPTIONS_OK);
}

static void an_unknown_or_repeated_option_is_refused(void)
{
    const char *where = "";

    CHECK(read_with("control", "x", "", &where) == OPTIONS_UNKNOWN);
    CHECK_TEXT(where, "control");
    CHECK(read_with("deny_file", "/other", "", &where) == OPTIONS_REPEATED);
}

static void every_required_option_is_missed(void)
{
    for (size_t i = 0; i < COMPLETE; i++) {
        const char *where = "";

        CHECK(read_with(NULL, NULL, complete[i][0], &where) == OPTIONS_MISSING);
        CHECK_TEXT(where, complete[i][0]);
    }
}

static void a_value_that_cannot_be_read_is_refused(void)
{
    static char *const counts[] = {"0", "-1", "1000001", "x", "", "12345678", " 5", "5 "};
    char long_value[OPTIONS_VALUE_MAX + 2];
    const char *where = "";

    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        CHECK(read_with("max_connections", counts[i], "max_connections", &where) == OPTIONS_BAD_VALUE);
    }
    CHECK(read_with("app_clients", "yes", "", &where) == OPTIONS_BAD_VALUE);
    CHECK(read_with("deny_file", "", "deny_file", &where) == OPTIONS_BAD_VALUE);
    CHECK(read_with("deny_file", NULL, "deny_file", &where) == OPTIONS_BAD_VALUE);
    memset(long_value, 'a', sizeof long_value);
    long_value[OPTIONS_VALUE_MAX + 1] = '\0';
    CHECK(read_with("deny_file", long_value, "deny_file", &where) == OPTIONS_BAD_VALUE);
}

int main(void)
{
    RUN(complete_options_are_read);
    RUN(an_unknown_or_repeated_option_is_refused);
    RUN(every_required_option_is_missed);
    RUN(a_value_that_cannot_be_read_is_refused);
    return 0;
}
