#include "connections.h"

#include "check.h"

#define CAPACITY 3U

static struct connections table;
static struct guarded slots;
static struct guarded buckets;

static void begin(void)
{
    slots = guarded_make(CAPACITY * sizeof(struct connection));
    buckets = guarded_make(CAPACITY * sizeof(uint32_t));
    connections_begin(&table, (struct connection *)(void *)slots.middle, (uint32_t *)(void *)buckets.middle, CAPACITY);
}

static void end(void)
{
    guarded_free(slots);
    guarded_free(buckets);
}

static enum connections_status put(const char *client_id, time_t not_after, const void *client)
{
    struct identity identity = {.role = POLICY_DEVICE, .not_after = not_after};

    snprintf(identity.id, sizeof identity.id, "%s", client_id);
    return connections_put(&table, client_id, &identity, client);
}

static void what_was_put_is_found_until_it_is_removed(void)
{
    int client;

    begin();
    CHECK(connections_find(&table, "a") == NULL);
    CHECK(put("a", 10, &client) == CONNECTIONS_OK);
    CHECK(table.count == 1);
    CHECK_TEXT(connections_find(&table, "a")->identity.id, "a");
    connections_remove(&table, "a", &client);
    CHECK(connections_find(&table, "a") == NULL && table.count == 0);
    connections_remove(&table, "a", &client);
    CHECK(table.count == 0);
    end();
}

static void a_full_table_refuses_and_forgets_nobody(void)
{
    int client;

    begin();
    CHECK(put("a", 1, &client) == CONNECTIONS_OK);
    CHECK(put("b", 1, &client) == CONNECTIONS_OK);
    CHECK(put("c", 1, &client) == CONNECTIONS_OK);
    CHECK(put("d", 1, &client) == CONNECTIONS_FULL);
    CHECK(put("b", 2, &client) == CONNECTIONS_OK); /* a take-over needs no new slot */
    CHECK(connections_find(&table, "a") != NULL && connections_find(&table, "d") == NULL);
    connections_remove(&table, "b", &client);
    CHECK(put("d", 1, &client) == CONNECTIONS_OK);
    CHECK(connections_find(&table, "c") != NULL && connections_find(&table, "d") != NULL);
    end();
}

static void the_end_of_the_old_client_does_not_remove_the_new_one(void)
{
    int old;
    int young;

    begin();
    CHECK(put("a", 1, &old) == CONNECTIONS_OK);
    CHECK(put("a", 2, &young) == CONNECTIONS_OK);
    connections_remove(&table, "a", &old);
    CHECK(connections_find(&table, "a")->identity.not_after == 2);
    connections_remove(&table, "a", &young);
    CHECK(table.count == 0);
    end();
}

static void a_client_id_that_does_not_fit_is_refused(void)
{
    char client_id[CONNECTIONS_CLIENT_ID_MAX + 2];
    struct identity identity = {.not_after = 1};

    begin();
    memset(client_id, 'a', sizeof client_id);
    client_id[CONNECTIONS_CLIENT_ID_MAX + 1] = '\0';
    CHECK(connections_put(&table, client_id, &identity, NULL) == CONNECTIONS_BAD_CLIENT_ID);
    client_id[CONNECTIONS_CLIENT_ID_MAX] = '\0';
    CHECK(connections_put(&table, client_id, &identity, NULL) == CONNECTIONS_OK);
    CHECK(connections_put(&table, "", &identity, NULL) == CONNECTIONS_BAD_CLIENT_ID);
    end();
}

static void the_earliest_end_is_known(void)
{
    int client;

    begin();
    CHECK(!connections_any_ended(&table, 1000));
    CHECK(put("a", 20, &client) == CONNECTIONS_OK);
    CHECK(put("b", 10, &client) == CONNECTIONS_OK);
    CHECK(!connections_any_ended(&table, 10));
    CHECK(connections_any_ended(&table, 11));
    connections_remove(&table, "b", &client);
    connections_note_earliest(&table);
    CHECK(!connections_any_ended(&table, 20));
    CHECK(connections_any_ended(&table, 21));
    end();
}

static void a_walk_sees_every_slot_and_ends(void)
{
    int client;
    uint32_t seen = 0;

    begin();
    CHECK(put("a", 1, &client) == CONNECTIONS_OK);
    CHECK(put("b", 1, &client) == CONNECTIONS_OK);
    connections_remove(&table, "a", &client);
    for (uint32_t slot = 0; slot < table.capacity; slot++) {
        seen += connections_at(&table, slot) != NULL;
    }
    CHECK(seen == 1);
    CHECK(connections_at(&table, CAPACITY) == NULL && connections_at(&table, CONNECTIONS_NONE) == NULL);
    end();
}

int main(void)
{
    RUN(what_was_put_is_found_until_it_is_removed);
    RUN(a_full_table_refuses_and_forgets_nobody);
    RUN(the_end_of_the_old_client_does_not_remove_the_new_one);
    RUN(a_client_id_that_does_not_fit_is_refused);
    RUN(the_earliest_end_is_known);
    RUN(a_walk_sees_every_slot_and_ends);
    return 0;
}
