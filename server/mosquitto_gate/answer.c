#include "answer.h"

#include <inttypes.h>

/* Room for one connection and the end of the answer: 97 + 64 + 40 characters of values, 20 digits, and names. */
#define ROOM_FOR_ONE 400U

_Static_assert(COMMAND_IDS_MAX * ROOM_FOR_ONE < ANSWER_MAX, "what was found has room in one answer");

static void append_connection(struct text *out, const struct connection *one, const char *comma)
{
    text_append(out, "%s{\"client\":\"%s\",\"id\":\"%s\",\"role\":\"%s\",\"serial\":\"%s\",\"not_after\":%jd}", comma,
                one->client_id, one->identity.id, one->identity.role == POLICY_CONTROL ? "control" : "device",
                one->identity.serial, (intmax_t)one->identity.not_after);
}

static const char *begin_connections(struct text *out, const char *tag)
{
    text_append(out, "{\"tag\":\"%s\",\"ok\":true,\"connections\":[", tag);
    return "";
}

void answer_find(struct text *out, const char *tag, const struct connections *table,
                 char ids[COMMAND_IDS_MAX][TEXT_ID_MAX + 1], uint32_t count)
{
    const char *comma = begin_connections(out, tag);

    for (uint32_t i = 0; i < count; i++) {
        const struct connection *one = connections_find(table, ids[i]);

        if (one != NULL) {
            append_connection(out, one, comma);
            comma = ",";
        }
    }
    text_append(out, "],\"next\":0}");
}

void answer_list(struct text *out, const char *tag, const struct connections *table, uint32_t cursor)
{
    const char *comma = begin_connections(out, tag);
    uint32_t slot = cursor;

    for (; slot < table->capacity && out->capacity - out->length > ROOM_FOR_ONE; slot++) {
        const struct connection *one = connections_at(table, slot);

        if (one != NULL) {
            append_connection(out, one, comma);
            comma = ",";
        }
    }
    text_append(out, "],\"next\":%" PRIu32 "}", slot < table->capacity ? slot : 0);
}

void answer_stats(struct text *out, const char *tag, const struct counters *counters, const struct connections *table,
                  const struct denyfile *deny, bool issuers_stale, struct moment now)
{
    text_append(out,
                "{\"tag\":\"%s\",\"ok\":true,\"connected\":%" PRIu32 ",\"capacity\":%" PRIu32
                ",\"accepted\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"refused_topics\":%" PRIu64 ",\"kicked\":%" PRIu64
                ",\"log_lines_spared\":%" PRIu64 ",\"deny_version\":%" PRIu64
                ",\"deny_entries\":%zu,\"deny_stale\":%s,\"lease_s\":%" PRId64 ",\"open\":%s,\"issuers_stale\":%s}",
                tag, table->count, table->capacity, counters->accepted, counters->refused, counters->refused_topics,
                counters->kicked, counters->log_lines_spared, deny->list.version, deny->list.count,
                deny->stale ? "true" : "false", lease_left(&deny->lease, now),
                lease_judge(&deny->lease, now) == LEASE_RUNNING ? "true" : "false", issuers_stale ? "true" : "false");
}

static void fingerprints(struct text *out, const char *name, const struct issuers *issuers)
{
    text_append(out, ",\"%s\":[", name);
    for (size_t i = 0; i < issuers->count; i++) {
        char hex[ISSUERS_FINGERPRINT_MAX + 1];

        issuers_fingerprint(issuers->certificates[i], hex);
        text_append(out, "%s\"%s\"", i > 0 ? "," : "", hex);
    }
    text_append(out, "]");
}

void answer_issuers(struct text *out, const char *tag, const struct issuers *fleet, const struct issuers *infra,
                    bool stale)
{
    text_append(out, "{\"tag\":\"%s\",\"ok\":true", tag);
    fingerprints(out, "fleet", fleet);
    fingerprints(out, "infra", infra);
    text_append(out, ",\"stale\":%s}", stale ? "true" : "false");
}

void answer_kicked(struct text *out, const char *tag, uint32_t kicked)
{
    text_append(out, "{\"tag\":\"%s\",\"ok\":true,\"kicked\":%" PRIu32 "}", tag, kicked);
}

void answer_error(struct text *out, const char *tag, const char *error)
{
    text_append(out, "{\"tag\":\"%s\",\"ok\":false,\"error\":\"%s\"}", tag, error);
}
