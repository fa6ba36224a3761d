#include "lease.h"

#include "check.h"

#define ISSUED 1000000
#define UNTIL (ISSUED + 900)

static struct lease lease;

/* Begin a lease of 900 s that is seen `after_s` seconds after it was issued, 50 s after boot. */
static void begin(int64_t after_s)
{
    lease_begin(&lease, ISSUED, UNTIL, (struct moment){ISSUED + after_s, 50});
}

/* Judge it `passed_s` seconds later, on a wall clock that was set by `jump_s` meanwhile. */
static enum lease_state judge(int64_t after_s, int64_t passed_s, int64_t jump_s)
{
    return lease_judge(&lease, (struct moment){ISSUED + after_s + passed_s + jump_s, 50 + passed_s});
}

static void it_runs_until_its_end_and_no_second_longer(void)
{
    begin(0);
    CHECK(judge(0, 0, 0) == LEASE_RUNNING);
    CHECK(judge(0, 899, 0) == LEASE_RUNNING);
    CHECK(judge(0, 900, 0) == LEASE_OVER);
    begin(600);
    CHECK(lease_left(&lease, (struct moment){ISSUED + 600, 50}) == 300);
    CHECK(judge(600, 299, 0) == LEASE_RUNNING);
    CHECK(judge(600, 300, 0) == LEASE_OVER);
    begin(5000); /* a broker that starts with an old file */
    CHECK(judge(5000, 0, 0) == LEASE_OVER);
    CHECK(lease_left(&lease, (struct moment){ISSUED + 5000, 50}) == 0);
}

static void a_clock_set_back_does_not_prolong_it(void)
{
    begin(0);
    CHECK(judge(0, 800, -200) == LEASE_RUNNING);
    CHECK(judge(0, 900, -200) == LEASE_OVER);
    CHECK(judge(0, 900, -800) == LEASE_OVER);
    begin(600);
    CHECK(judge(600, 299, -600) == LEASE_RUNNING);
    CHECK(judge(600, 300, -600) == LEASE_OVER); /* not the whole 900 s once more */
}

static void a_clock_set_forward_ends_it(void)
{
    begin(0);
    CHECK(judge(0, 10, 3600) == LEASE_OVER);
    CHECK(judge(0, 20, 0) == LEASE_RUNNING); /* and it goes on when the clock is right again */
}

static void a_clock_that_is_behind_lets_nobody_in(void)
{
    begin(-LEASE_SKEW_S);
    CHECK(judge(-LEASE_SKEW_S, 0, 0) == LEASE_RUNNING);
    begin(-LEASE_SKEW_S - 1);
    CHECK(judge(-LEASE_SKEW_S - 1, 0, 0) == LEASE_AHEAD);
    begin(-ISSUED); /* 1970: no clock battery, and an old list on the disk */
    CHECK(judge(-ISSUED, 0, 0) == LEASE_AHEAD);
    CHECK(judge(-ISSUED, 30, ISSUED) == LEASE_RUNNING); /* the time is set, and the list is new */
    CHECK(judge(-ISSUED, 30, ISSUED + 3600) == LEASE_OVER); /* the time is set, and the list is old */
    CHECK(judge(-ISSUED, 900, 0) == LEASE_OVER);
}

static void both_clocks_are_read(void)
{
    struct moment now = lease_moment();

    CHECK(now.wall_s > 1700000000 && now.boot_s > 0);
}

int main(void)
{
    RUN(it_runs_until_its_end_and_no_second_longer);
    RUN(a_clock_set_back_does_not_prolong_it);
    RUN(a_clock_set_forward_ends_it);
    RUN(a_clock_that_is_behind_lets_nobody_in);
    RUN(both_clocks_are_read);
    return 0;
}
