/* For how long a deny list may be believed to be the newest. Pure: the time is handed in.
 *
 * A list says when it was issued and until when it holds. Two clocks judge that: the wall clock, by which the list was
 * issued, and the time since boot, which nobody can set. The lease is over as soon as one of them says so:
 *
 *     wall clock set forward     over at once; the next list, issued by a right clock, is over as well: certificates
 *                                would be misjudged by the same clock
 *     wall clock set back        ends when it would have ended; it is never prolonged
 *     wall clock behind the issuer's by more than LEASE_SKEW_S (no clock battery, time not yet set): not begun
 *     machine asleep             the time since boot goes on (CLOCK_BOOTTIME)
 */
#ifndef BIRTHMARK_GATE_LEASE_H
#define BIRTHMARK_GATE_LEASE_H

#include <stdint.h>

#define LEASE_SKEW_S 300 /* how far two machines' clocks may be apart; as in birthmark_server.ca.profile.BACKDATED */

/* One moment on both clocks, in seconds. */
struct moment {
    int64_t wall_s;
    int64_t boot_s;
};

struct lease {
    int64_t issued_s; /* wall clock */
    int64_t until_s;  /* wall clock */
    int64_t ends_s;   /* since boot: never later than a whole lease after it was first seen */
};

enum lease_state {
    LEASE_RUNNING = 0,
    LEASE_OVER,
    LEASE_AHEAD, /* issued in this clock's future */
};

/* Read both clocks. */
struct moment lease_moment(void);

/* Begin the lease of a list that is seen for the first time. */
void lease_begin(struct lease *lease, int64_t issued_s, int64_t until_s, struct moment now);

/* Seconds until it is over, 0 where it is. */
int64_t lease_left(const struct lease *lease, struct moment now);

/* Whether new connections may be let in by this list. */
enum lease_state lease_judge(const struct lease *lease, struct moment now);

/* The reason of a refused connection. */
const char *lease_state_name(enum lease_state state);

#endif
