#include "pending.h"

#include "check.h"

static void what_was_told_is_denied_until_its_list_is_in_force(void)
{
    struct guarded guard = guarded_make(sizeof(struct pending));
    struct pending *pending = (struct pending *)(void *)guard.middle;

    memset(pending, 0, sizeof *pending);
    CHECK(!pending_has(pending, "serial", "1f"));
    CHECK(pending_add(pending, "serial", "1f", 5));
    CHECK(pending_add(pending, "device", "dev-1", 6));
    CHECK(pending_has(pending, "serial", "1f") && pending_has(pending, "device", "dev-1"));
    CHECK(!pending_has(pending, "device", "1f") && !pending_has(pending, "serial", "1f0"));
    pending_settle(pending, 4);
    CHECK(pending->count == 2);
    pending_settle(pending, 5);
    CHECK(!pending_has(pending, "serial", "1f") && pending_has(pending, "device", "dev-1"));
    pending_settle(pending, 99);
    CHECK(pending->count == 0);
    guarded_free(guard);
}

static void what_is_told_twice_is_kept_once_and_for_the_later_list(void)
{
    struct pending pending = {0};

    CHECK(pending_add(&pending, "serial", "1f", 5));
    CHECK(pending_add(&pending, "serial", "1f", 8));
    CHECK(pending_add(&pending, "serial", "1f", 6));
    CHECK(pending.count == 1);
    pending_settle(&pending, 7);
    CHECK(pending_has(&pending, "serial", "1f"));
    pending_settle(&pending, 8);
    CHECK(pending.count == 0);
}

static void a_full_table_forgets_nothing(void)
{
    static struct pending pending;
    char serial[32];

    for (unsigned int i = 1; i <= PENDING_MAX; i++) {
        snprintf(serial, sizeof serial, "%x", i);
        CHECK(pending_add(&pending, "serial", serial, i));
    }
    CHECK(!pending_add(&pending, "serial", "ffff", 1));
    CHECK(pending_add(&pending, "serial", "1", 2)); /* it is there already */
    CHECK(pending_has(&pending, "serial", "1") && pending_has(&pending, "serial", "400"));
    pending_settle(&pending, 2);
    CHECK(pending.count == PENDING_MAX - 2);
    CHECK(pending_add(&pending, "serial", "ffff", 9999));
}

static void what_is_too_long_for_any_list_is_refused(void)
{
    struct pending pending = {0};
    char id[TEXT_ID_MAX + 2];

    memset(id, 'a', sizeof id);
    id[TEXT_ID_MAX] = '\0';
    CHECK(pending_add(&pending, "device", id, 1) && pending_has(&pending, "device", id));
    id[TEXT_ID_MAX] = 'a';
    id[TEXT_ID_MAX + 1] = '\0';
    CHECK(!pending_add(&pending, "device", id, 1) && !pending_has(&pending, "device", id));
}

int main(void)
{
    RUN(what_was_told_is_denied_until_its_list_is_in_force);
    RUN(what_is_told_twice_is_kept_once_and_for_the_later_list);
    RUN(a_full_table_forgets_nothing);
    RUN(what_is_too_long_for_any_list_is_refused);
    return 0;
}
