/* Denials that a command told, until the list that has them is in force.
 *
 * A revocation is on the server's disk before the command is sent, in a list of a stated version. The command is only
 * faster: what it told is forgotten once that list, or a newer one, is in force, and then that list alone decides. So a
 * command can close a door that is open, and never open one: a signed list does that.
 *
 * Rules: a table of fixed size; when it is full nothing is forgotten, and the next command is refused.
 */
#ifndef BIRTHMARK_GATE_PENDING_H
#define BIRTHMARK_GATE_PENDING_H

#include "text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PENDING_MAX 1024U
#define PENDING_ENTRY_MAX (sizeof "device " - 1U + TEXT_ID_MAX)

struct pending_entry {
    char entry[PENDING_ENTRY_MAX + 1]; /* "device ID" or "serial HEX", as in the list */
    uint64_t version;                  /* of the first list that has it */
};

struct pending {
    struct pending_entry entries[PENDING_MAX];
    size_t count;
};

/* Remember "KIND VALUE" until a list of `version` is in force; false where the table is full. */
bool pending_add(struct pending *pending, const char *kind, const char *value, uint64_t version);

/* Whether "KIND VALUE" is remembered. */
bool pending_has(const struct pending *pending, const char *kind, const char *value);

/* Forget what the list of `version`, now in force, has or had. */
void pending_settle(struct pending *pending, uint64_t version);

#endif
