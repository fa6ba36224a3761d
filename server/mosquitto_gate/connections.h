/* Who is connected, with which certificate and until when. A table of fixed size, found by client id.
 *
 * Rules: the caller owns the memory and decides its size before the first client comes; nothing grows. A connection
 * stays in its slot for as long as it lives, so a walk over the slots in several steps sees every connection that
 * lives through it, and each once.
 */
#ifndef BIRTHMARK_GATE_CONNECTIONS_H
#define BIRTHMARK_GATE_CONNECTIONS_H

#include "identity.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define CONNECTIONS_APP_MAX 32U
#define CONNECTIONS_CLIENT_ID_MAX (TEXT_ID_MAX + 1U + CONNECTIONS_APP_MAX)
#define CONNECTIONS_NONE UINT32_MAX

struct connection {
    char client_id[CONNECTIONS_CLIENT_ID_MAX + 1]; /* empty where the slot is free */
    struct identity identity;
    const void *client; /* the broker's own handle: compared, never followed */
    uint32_t next;      /* in the same bucket, or in the list of free slots */
};

struct connections {
    struct connection *slots;
    uint32_t *buckets;
    uint32_t capacity;
    uint32_t count;
    uint32_t free_slot;
    time_t earliest_not_after; /* no connection ends before this; may be too early, never too late */
};

enum connections_status {
    CONNECTIONS_OK = 0,
    CONNECTIONS_FULL,
    CONNECTIONS_BAD_CLIENT_ID,
};

/* Begin an empty table.
 * slots    [in]  `capacity` of them, owned by the caller for as long as the table lives
 * buckets  [in]  `capacity` of them, likewise
 * capacity [in]  1 to CONNECTIONS_NONE - 1
 */
void connections_begin(struct connections *table, struct connection *slots, uint32_t *buckets, uint32_t capacity);

/* Note a connection; one of the same client id is replaced, as the broker itself does.
 * client_id [in]  1 to CONNECTIONS_CLIENT_ID_MAX bytes
 */
enum connections_status connections_put(struct connections *table, const char *client_id,
                                        const struct identity *identity, const void *client);

/* Forget a connection, unless another client has taken its id over meanwhile. */
void connections_remove(struct connections *table, const char *client_id, const void *client);

/* Return the connection of that client id, or NULL. Borrowed until the table changes. */
const struct connection *connections_find(const struct connections *table, const char *client_id);

/* Return the connection in slot `slot`, or NULL where it is free or there is none. */
const struct connection *connections_at(const struct connections *table, uint32_t slot);

/* Whether any connection may have ended by `now`. Once it says so, walk the slots and then call
 * connections_note_earliest(). */
bool connections_any_ended(const struct connections *table, time_t now);

/* Find the earliest end again. */
void connections_note_earliest(struct connections *table);

#endif
