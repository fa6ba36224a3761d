#include "pending.h"

#include <stdio.h>
#include <string.h>

/* Write "KIND VALUE"; false where it is longer than any entry can be. */
static bool make_entry(const char *kind, const char *value, char out[PENDING_ENTRY_MAX + 1])
{
    int length = snprintf(out, PENDING_ENTRY_MAX + 1, "%s %s", kind, value);

    return length > 0 && (size_t)length <= PENDING_ENTRY_MAX;
}

static size_t find(const struct pending *pending, const char *entry)
{
    size_t at = 0;

    while (at < pending->count && strcmp(pending->entries[at].entry, entry) != 0) {
        at++;
    }
    return at;
}

bool pending_add(struct pending *pending, const char *kind, const char *value, uint64_t version)
{
    char entry[PENDING_ENTRY_MAX + 1];
    size_t at;

    if (!make_entry(kind, value, entry)) {
        return false;
    }
    at = find(pending, entry);
    if (at == PENDING_MAX) {
        return false;
    }
    if (at == pending->count) {
        memcpy(pending->entries[at].entry, entry, sizeof entry);
        pending->entries[at].version = 0;
        pending->count++;
    }
    if (version > pending->entries[at].version) {
        pending->entries[at].version = version;
    }
    return true;
}

bool pending_has(const struct pending *pending, const char *kind, const char *value)
{
    char entry[PENDING_ENTRY_MAX + 1];

    return pending->count > 0 && make_entry(kind, value, entry) && find(pending, entry) < pending->count;
}

void pending_settle(struct pending *pending, uint64_t version)
{
    size_t kept = 0;

    for (size_t at = 0; at < pending->count; at++) {
        if (pending->entries[at].version > version) {
            pending->entries[kept++] = pending->entries[at];
        }
    }
    pending->count = kept;
}
