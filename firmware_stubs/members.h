/* A request's CBOR map, read into a table that the caller lays out: only what was asked for, once, of the kind wanted.
 *
 * Members that nobody asked for are skipped if they are plain values; lists, maps and tags are refused, so that reading needs
 * no more stack for deeper input. Every byte is consumed, or the map is refused.
 */
#ifndef BIRTHMARK_MEMBERS_H
#define BIRTHMARK_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum member_kind { MEMBER_NUMBER, MEMBER_OCTETS, MEMBER_TEXT, MEMBER_FLAG };

struct member {
    const char *name;
    enum member_kind kind;
    bool seen;            /* [out] */
    uint64_t number;      /* [out] of MEMBER_NUMBER; 0 or 1 of MEMBER_FLAG */
    const uint8_t *bytes; /* [out] of MEMBER_OCTETS and MEMBER_TEXT: into the request */
    size_t length;        /* [out] */
};

/* Read `body` into `members`; false for anything that is not exactly one such map. */
bool members_read(const uint8_t *body, size_t length, struct member *members, size_t count);

#endif
