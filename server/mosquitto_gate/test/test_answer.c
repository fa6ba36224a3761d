#include "answer.h"

#include "check.h"

#define CAPACITY 500U

static void a_page_ends_before_the_buffer_does_and_the_next_one_goes_on(void)
{
    static struct connection slots[CAPACITY];
    static uint32_t buckets[CAPACITY];
    struct guarded out = guarded_make(ANSWER_MAX);
    struct connections table;
    struct identity identity = {.role = POLICY_DEVICE, .not_after = 253402300799};
    uint32_t pages = 0;
    uint32_t seen = 0;
    uint32_t cursor = 0;
    const char *next = NULL;

    memset(identity.id, 'a', TEXT_ID_MAX);
    memset(identity.serial, 'f', TEXT_SERIAL_MAX);
    connections_begin(&table, slots, buckets, CAPACITY);
    for (uint32_t i = 0; i < CAPACITY; i++) {
        char client_id[CONNECTIONS_CLIENT_ID_MAX + 1];

        snprintf(client_id, sizeof client_id, "%s.%032u", identity.id, i);
        CHECK(connections_put(&table, client_id, &identity, NULL) == CONNECTIONS_OK);
    }
    do {
        struct text text;

        text_begin(&text, (char *)out.middle, out.size);
        answer_list(&text, "12345678901234567890123456789012", &table, cursor);
        CHECK(!text.overflow);
        for (const char *at = text.buffer; (at = strstr(at, "\"serial\"")) != NULL; at++) {
            seen++;
        }
        next = strstr(text.buffer, "\"next\":");
        CHECK(next != NULL && text.buffer[text.length - 1] == '}');
        next += strlen("\"next\":");
        CHECK(strcmp(next, "0}") == 0 || (uint32_t)strtoul(next, NULL, 10) > cursor);
        cursor = (uint32_t)strtoul(next, NULL, 10);
        pages++;
    } while (cursor != 0);
    CHECK(seen == CAPACITY);
    CHECK(pages > 1);
    guarded_free(out);
}

static void who_is_looked_for_is_found_by_the_whole_client_id(void)
{
    static struct connection slots[COMMAND_IDS_MAX + 1];
    static uint32_t buckets[COMMAND_IDS_MAX + 1];
    struct guarded out = guarded_make(ANSWER_MAX);
    struct connections table;
    struct identity identity = {.role = POLICY_DEVICE, .id = "dev-1", .serial = "1f", .not_after = 7};
    char ids[COMMAND_IDS_MAX][TEXT_ID_MAX + 1] = {"dev-2", "dev-1", "dev"};
    struct text text;

    connections_begin(&table, slots, buckets, COMMAND_IDS_MAX + 1);
    CHECK(connections_put(&table, "dev-1", &identity, NULL) == CONNECTIONS_OK);
    CHECK(connections_put(&table, "dev-1.app", &identity, NULL) == CONNECTIONS_OK);
    text_begin(&text, (char *)out.middle, out.size);
    answer_find(&text, "t", &table, ids, 3);
    CHECK_TEXT(text.buffer, "{\"tag\":\"t\",\"ok\":true,\"connections\":[{\"client\":\"dev-1\",\"id\":\"dev-1\","
                            "\"role\":\"device\",\"serial\":\"1f\",\"not_after\":7}],\"next\":0}");
    text_begin(&text, (char *)out.middle, out.size);
    answer_find(&text, "t", &table, ids, 1);
    CHECK_TEXT(text.buffer, "{\"tag\":\"t\",\"ok\":true,\"connections\":[],\"next\":0}");
    guarded_free(out);
}

static void the_most_that_can_be_found_has_room(void)
{
    static struct connection slots[COMMAND_IDS_MAX];
    static uint32_t buckets[COMMAND_IDS_MAX];
    struct guarded out = guarded_make(ANSWER_MAX);
    struct connections table;
    struct identity identity = {.role = POLICY_CONTROL, .not_after = 253402300799};
    char ids[COMMAND_IDS_MAX][TEXT_ID_MAX + 1];
    struct text text;

    memset(identity.id, 'a', TEXT_ID_MAX);
    memset(identity.serial, 'f', TEXT_SERIAL_MAX);
    connections_begin(&table, slots, buckets, COMMAND_IDS_MAX);
    for (uint32_t i = 0; i < COMMAND_IDS_MAX; i++) {
        snprintf(ids[i], sizeof ids[i], "%064u", i);
        CHECK(connections_put(&table, ids[i], &identity, NULL) == CONNECTIONS_OK);
    }
    text_begin(&text, (char *)out.middle, out.size);
    answer_find(&text, "12345678901234567890123456789012", &table, ids, COMMAND_IDS_MAX);
    CHECK(!text.overflow);
    guarded_free(out);
}

static void every_other_answer_is_one_json_object(void)
{
    char buffer[ANSWER_MAX];
    struct counters counters = {1, 2, 3, 4, 5};
    struct connections table = {.capacity = 9, .count = 8};
    struct denyfile deny = {.stale = true, .list = {.version = 6, .count = 7}};
    const struct moment now = {.wall_s = 1000, .boot_s = 10};
    struct text text;

    lease_begin(&deny.lease, 900, 1800, now);
    text_begin(&text, buffer, sizeof buffer);
    answer_stats(&text, "t", &counters, &table, &deny, true, now);
    CHECK_TEXT(buffer, "{\"tag\":\"t\",\"ok\":true,\"connected\":8,\"capacity\":9,\"accepted\":1,\"refused\":2,"
                       "\"refused_topics\":3,\"kicked\":4,\"log_lines_spared\":5,\"deny_version\":6,"
                       "\"deny_entries\":7,\"deny_stale\":true,\"lease_s\":800,\"open\":true,"
                       "\"issuers_stale\":true}");
    text_begin(&text, buffer, sizeof buffer);
    answer_issuers(&text, "t", &(struct issuers){0}, &(struct issuers){0}, false);
    CHECK_TEXT(buffer, "{\"tag\":\"t\",\"ok\":true,\"fleet\":[],\"infra\":[],\"stale\":false}");
    text_begin(&text, buffer, sizeof buffer);
    answer_kicked(&text, "t", 2);
    CHECK_TEXT(buffer, "{\"tag\":\"t\",\"ok\":true,\"kicked\":2}");
    text_begin(&text, buffer, sizeof buffer);
    answer_error(&text, "", "malformed");
    CHECK_TEXT(buffer, "{\"tag\":\"\",\"ok\":false,\"error\":\"malformed\"}");
}

int main(void)
{
    RUN(a_page_ends_before_the_buffer_does_and_the_next_one_goes_on);
    RUN(who_is_looked_for_is_found_by_the_whole_client_id);
    RUN(the_most_that_can_be_found_has_room);
    RUN(every_other_answer_is_one_json_object);
    return 0;
}
