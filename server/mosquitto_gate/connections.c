#include "connections.h"

#include <string.h>

/* 64-bit FNV-1a. Only authenticated clients get here, by ids that the CA gave them. */
static uint32_t bucket_of(const struct connections *table, const char *client_id)
{
    uint64_t hash = 0xcbf29ce484222325U;

    for (const char *c = client_id; *c != '\0'; c++) {
        hash = (hash ^ (unsigned char)*c) * 0x100000001b3U;
    }
    return (uint32_t)(hash % table->capacity);
}

static uint32_t find_slot(const struct connections *table, const char *client_id)
{
    uint32_t slot = table->buckets[bucket_of(table, client_id)];

    while (slot != CONNECTIONS_NONE && strcmp(table->slots[slot].client_id, client_id) != 0) {
        slot = table->slots[slot].next;
    }
    return slot;
}

void connections_begin(struct connections *table, struct connection *slots, uint32_t *buckets, uint32_t capacity)
{
    memset(table, 0, sizeof *table);
    memset(slots, 0, capacity * sizeof *slots);
    table->slots = slots;
    table->buckets = buckets;
    table->capacity = capacity;
    for (uint32_t i = 0; i < capacity; i++) {
        buckets[i] = CONNECTIONS_NONE;
        slots[i].next = i + 1 < capacity ? i + 1 : CONNECTIONS_NONE;
    }
}

enum connections_status connections_put(struct connections *table, const char *client_id,
                                        const struct identity *identity, const void *client)
{
    size_t length = strlen(client_id);
    uint32_t slot;

    if (length == 0 || length > CONNECTIONS_CLIENT_ID_MAX) {
        return CONNECTIONS_BAD_CLIENT_ID;
    }
    slot = find_slot(table, client_id);
    if (slot == CONNECTIONS_NONE) {
        uint32_t bucket = bucket_of(table, client_id);

        slot = table->free_slot;
        if (slot == CONNECTIONS_NONE) {
            return CONNECTIONS_FULL;
        }
        table->free_slot = table->slots[slot].next;
        table->slots[slot].next = table->buckets[bucket];
        table->buckets[bucket] = slot;
        memcpy(table->slots[slot].client_id, client_id, length + 1);
        table->count++;
    }
    table->slots[slot].identity = *identity;
    table->slots[slot].client = client;
    if (table->count == 1 || identity->not_after < table->earliest_not_after) {
        table->earliest_not_after = identity->not_after;
    }
    return CONNECTIONS_OK;
}

void connections_remove(struct connections *table, const char *client_id, const void *client)
{
    uint32_t *link = &table->buckets[bucket_of(table, client_id)];
    struct connection *found;
    uint32_t slot;

    while (*link != CONNECTIONS_NONE && strcmp(table->slots[*link].client_id, client_id) != 0) {
        link = &table->slots[*link].next;
    }
    slot = *link;
    if (slot == CONNECTIONS_NONE || table->slots[slot].client != client) {
        return;
    }
    found = &table->slots[slot];
    *link = found->next;
    memset(found, 0, sizeof *found);
    found->next = table->free_slot;
    table->free_slot = slot;
    table->count--;
}

const struct connection *connections_find(const struct connections *table, const char *client_id)
{
    uint32_t slot = find_slot(table, client_id);

    return slot == CONNECTIONS_NONE ? NULL : &table->slots[slot];
}

const struct connection *connections_at(const struct connections *table, uint32_t slot)
{
    if (slot >= table->capacity || table->slots[slot].client_id[0] == '\0') {
        return NULL;
    }
    return &table->slots[slot];
}

bool connections_any_ended(const struct connections *table, time_t now)
{
    return table->count > 0 && now > table->earliest_not_after;
}

void connections_note_earliest(struct connections *table)
{
    bool first = true;

    for (uint32_t slot = 0; slot < table->capacity; slot++) {
        const struct connection *connection = connections_at(table, slot);

        if (connection != NULL && (first || connection->identity.not_after < table->earliest_not_after)) {
            table->earliest_not_after = connection->identity.not_after;
            first = false;
        }
    }
}
