#include "lease.h"

#include <time.h>

static int64_t lesser(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

struct moment lease_moment(void)
{
    struct timespec boot = {0};

    (void)clock_gettime(CLOCK_BOOTTIME, &boot);
    return (struct moment){(int64_t)time(NULL), (int64_t)boot.tv_sec};
}

void lease_begin(struct lease *lease, int64_t issued_s, int64_t until_s, struct moment now)
{
    lease->issued_s = issued_s;
    lease->until_s = until_s;
    lease->ends_s = now.boot_s + lesser(until_s - issued_s, until_s - now.wall_s);
}

int64_t lease_left(const struct lease *lease, struct moment now)
{
    int64_t left = lesser(lease->until_s - now.wall_s, lease->ends_s - now.boot_s);

    return left > 0 ? left : 0;
}

enum lease_state lease_judge(const struct lease *lease, struct moment now)
{
    if (lease_left(lease, now) == 0) {
        return LEASE_OVER;
    }
    return lease->issued_s > now.wall_s + LEASE_SKEW_S ? LEASE_AHEAD : LEASE_RUNNING;
}

const char *lease_state_name(enum lease_state state)
{
    switch (state) {
    case LEASE_RUNNING:
        return "running";
    case LEASE_OVER:
        return "lease-over";
    case LEASE_AHEAD:
        return "clock-behind";
    }
    return "unknown-state";
}
