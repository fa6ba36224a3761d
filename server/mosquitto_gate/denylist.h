/* The list of certificates and devices that are refused whatever else they show.
 *
 * Its text, written by birthmark_server.broker.denyfile, with the signer's two lines behind it (signature.h):
 *
 *     birthmark-deny 2 VERSION ISSUED UNTIL
 *     device ID
 *     serial HEX
 *     end COUNT
 *
 * one entry a line, in strictly ascending byte order; HEX is lower case without leading zeros; ISSUED and UNTIL are
 * seconds since 1970, the list's lease (lease.h). The first and the last line make a text that was cut short, or is not
 * ours, unreadable, never empty.
 *
 * Rules: denylist_parse() is pure and works in the caller's buffers. An entry is its own line, kept where it was read
 * and found by bisection: a million of them need their text and four bytes each.
 */
#ifndef BIRTHMARK_GATE_DENYLIST_H
#define BIRTHMARK_GATE_DENYLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DENYLIST_FILE_MAX (64U * 1024U * 1024U)
#define DENYLIST_LEASE_MAX_S (7U * 86400U)

struct denylist {
    const char *text;      /* each line ended by NUL */
    const uint32_t *lines; /* where each entry begins in text, ascending */
    size_t count;
    uint64_t version;
    int64_t issued_s;
    int64_t until_s;
};

enum denylist_status {
    DENYLIST_OK = 0,
    DENYLIST_UNREADABLE, /* the file could not be opened or read, or is larger than DENYLIST_FILE_MAX */
    DENYLIST_NO_MEMORY,
    DENYLIST_BAD_HEADER,
    DENYLIST_BAD_LEASE, /* it ends before it begins, or is longer than DENYLIST_LEASE_MAX_S */
    DENYLIST_BAD_ENTRY,
    DENYLIST_UNSORTED, /* not in strictly ascending order, or an entry twice */
    DENYLIST_BAD_END,  /* no last line, another count, or more after it */
    /* Of a file (denyfile.h): */
    DENYLIST_BAD_SIGNATURE,
    DENYLIST_SIGNER_OUTDATED, /* its signer's certificate was not valid when it was issued */
    DENYLIST_SIGNER_DENIED,   /* the list in force denies its signer */
    DENYLIST_OLDER,           /* its version is below that of the list in force */
};

/* How many line offsets denylist_parse() can need for `text`. */
size_t denylist_lines_needed(const char *text, size_t length);

/* Read a deny list.
 * text     [in,out]  the bytes before the signer's line; line ends become NUL; `out` borrows it
 * length   [in]      at most DENYLIST_FILE_MAX
 * lines    [out]     where the entries begin; `out` borrows it
 * capacity [in]      of lines, at least denylist_lines_needed()
 * out      [out]     unchanged unless DENYLIST_OK
 */
enum denylist_status denylist_parse(char *text, size_t length, uint32_t *lines, size_t capacity, struct denylist *out);

/* Whether the list has the entry "KIND VALUE": kind is "serial" or "device". */
bool denylist_has(const struct denylist *list, const char *kind, const char *value);

const char *denylist_status_name(enum denylist_status status);

#endif
