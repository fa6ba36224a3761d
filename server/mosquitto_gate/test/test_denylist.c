#include "denylist.h"

#include "check.h"

/* Parse a copy of `text` that lies between guards, with exactly as many lines as it needs. */
struct parsed {
    enum denylist_status status;
    struct denylist list;
    struct guarded text;
    struct guarded lines;
};

static struct parsed parse_bytes(const char *bytes, size_t length)
{
    size_t needed = denylist_lines_needed(bytes, length);
    struct parsed parsed = {
        .text = guarded_make(length),
        .lines = guarded_make(needed * sizeof(uint32_t)),
    };

    memcpy(parsed.text.middle, bytes, length);
    parsed.status = denylist_parse((char *)parsed.text.middle, length, (uint32_t *)(void *)parsed.lines.middle, needed,
                                   &parsed.list);
    return parsed;
}

static struct parsed parse(const char *text)
{
    return parse_bytes(text, strlen(text));
}

static void release(struct parsed parsed)
{
    guarded_free(parsed.text);
    guarded_free(parsed.lines);
}

static void refuse(const char *text, enum denylist_status wanted)
{
    struct parsed parsed = parse(text);

    CHECK(parsed.status == wanted);
    CHECK(parsed.list.count == 0 && parsed.list.text == NULL);
    release(parsed);
}

static void an_empty_list_denies_nobody(void)
{
    struct parsed parsed = parse("birthmark-deny 2 7 100 200\nend 0\n");

    CHECK(parsed.status == DENYLIST_OK);
    CHECK(parsed.list.version == 7 && parsed.list.count == 0);
    CHECK(!denylist_has(&parsed.list, "device", "dev-1"));
    CHECK(!denylist_has(&parsed.list, "serial", "1"));
    release(parsed);
}

static void every_entry_is_found_and_nothing_else(void)
{
    struct parsed parsed = parse("birthmark-deny 2 2 100 200\ndevice dev-1\ndevice dev-2\nserial 1f\nserial 20\nend 4\n");

    CHECK(parsed.status == DENYLIST_OK);
    CHECK(denylist_has(&parsed.list, "device", "dev-1"));
    CHECK(denylist_has(&parsed.list, "device", "dev-2"));
    CHECK(denylist_has(&parsed.list, "serial", "1f"));
    CHECK(denylist_has(&parsed.list, "serial", "20"));
    CHECK(!denylist_has(&parsed.list, "device", "dev-"));
    CHECK(!denylist_has(&parsed.list, "device", "dev-10"));
    CHECK(!denylist_has(&parsed.list, "serial", "1"));
    CHECK(!denylist_has(&parsed.list, "device", "1f"));
    release(parsed);
}

static void the_longest_entries_are_found_and_longer_ones_are_not(void)
{
    static const char id[] = "0123456789012345678901234567890123456789012345678901234567890123";
    static const char serial[] = "f123456789012345678901234567890123456789";
    char text[512];
    char longer[sizeof id + 1];
    struct parsed parsed;

    snprintf(text, sizeof text, "birthmark-deny 2 1 100 200\ndevice %s\nserial %s\nend 2\n", id, serial);
    snprintf(longer, sizeof longer, "%sx", id);
    parsed = parse(text);
    CHECK(parsed.status == DENYLIST_OK);
    CHECK(denylist_has(&parsed.list, "device", id));
    CHECK(denylist_has(&parsed.list, "serial", serial));
    CHECK(!denylist_has(&parsed.list, "device", longer));
    release(parsed);
}

static void a_file_cut_short_anywhere_is_refused(void)
{
    static const char whole[] = "birthmark-deny 2 2 100 200\ndevice dev-1\nserial 1f\nend 2\n";

    for (size_t length = 0; length < strlen(whole); length++) {
        struct parsed parsed = parse_bytes(whole, length);

        CHECK(parsed.status != DENYLIST_OK);
        release(parsed);
    }
}

static void what_is_not_a_deny_file_is_refused(void)
{
    refuse("", DENYLIST_BAD_HEADER);
    refuse("\n", DENYLIST_BAD_HEADER);
    refuse("device dev-1\n", DENYLIST_BAD_HEADER);
    refuse("birthmark-deny 2 1\nend 0\n", DENYLIST_BAD_HEADER);
    refuse("birthmark-deny 1 1\nend 0\n", DENYLIST_BAD_HEADER);
    refuse("birthmark-deny 2\nend 0\n", DENYLIST_BAD_HEADER);
    refuse("birthmark-deny 2 -1 100 200\nend 0\n", DENYLIST_BAD_HEADER);
    refuse("birthmark-deny 2 1 100\nend 0\n", DENYLIST_BAD_HEADER);
    refuse("birthmark-deny 2 1 100 \nend 0\n", DENYLIST_BAD_HEADER);
    refuse("birthmark-deny 2 1  200\nend 0\n", DENYLIST_BAD_HEADER);
    refuse("birthmark-deny 2 1 100 200 \nend 0\n", DENYLIST_BAD_HEADER);
    refuse("birthmark-deny 2 1 100 200 300\nend 0\n", DENYLIST_BAD_HEADER);
    refuse("birthmark-deny 2 1 -100 200\nend 0\n", DENYLIST_BAD_HEADER);
    refuse("birthmark-deny 2 01 100 200\nend 0\n", DENYLIST_BAD_HEADER);
    refuse("birthmark-deny 2 1234567890123456789 100 200\nend 0\n", DENYLIST_BAD_HEADER);
    refuse("birthmark-deny 2 1 100 200\r\nend 0\r\n", DENYLIST_BAD_HEADER);
}

static void a_lease_has_a_length_and_at_most_a_week(void)
{
    struct parsed parsed = parse("birthmark-deny 2 7 1800000000 1800604800\nend 0\n");

    CHECK(parsed.status == DENYLIST_OK);
    CHECK(parsed.list.issued_s == 1800000000 && parsed.list.until_s == 1800604800);
    release(parsed);
    refuse("birthmark-deny 2 7 1800000000 1800604801\nend 0\n", DENYLIST_BAD_LEASE);
    refuse("birthmark-deny 2 7 1800000000 1800000000\nend 0\n", DENYLIST_BAD_LEASE);
    refuse("birthmark-deny 2 7 1800000000 1799999999\nend 0\n", DENYLIST_BAD_LEASE);
    refuse("birthmark-deny 2 7 0 999999999999999999\nend 0\n", DENYLIST_BAD_LEASE);
}

static void a_malformed_entry_is_refused(void)
{
    refuse("birthmark-deny 2 1 100 200\n\nend 1\n", DENYLIST_BAD_ENTRY);
    refuse("birthmark-deny 2 1 100 200\ndevice\nend 1\n", DENYLIST_BAD_ENTRY);
    refuse("birthmark-deny 2 1 100 200\ndevice \nend 1\n", DENYLIST_BAD_ENTRY);
    refuse("birthmark-deny 2 1 100 200\ndevice Dev\nend 1\n", DENYLIST_BAD_ENTRY);
    refuse("birthmark-deny 2 1 100 200\ndevice a b\nend 1\n", DENYLIST_BAD_ENTRY);
    refuse("birthmark-deny 2 1 100 200\nserial 0\nend 1\n", DENYLIST_BAD_ENTRY);
    refuse("birthmark-deny 2 1 100 200\nserial 01\nend 1\n", DENYLIST_BAD_ENTRY);
    refuse("birthmark-deny 2 1 100 200\nserial 1F\nend 1\n", DENYLIST_BAD_ENTRY);
    refuse("birthmark-deny 2 1 100 200\nserial f1234567890123456789012345678901234567890\nend 1\n", DENYLIST_BAD_ENTRY);
    refuse("birthmark-deny 2 1 100 200\nhost a\nend 1\n", DENYLIST_BAD_ENTRY);
}

static void disorder_is_refused(void)
{
    refuse("birthmark-deny 2 1 100 200\ndevice b\ndevice a\nend 2\n", DENYLIST_UNSORTED);
    refuse("birthmark-deny 2 1 100 200\ndevice a\ndevice a\nend 2\n", DENYLIST_UNSORTED);
    refuse("birthmark-deny 2 1 100 200\nserial 1\ndevice a\nend 2\n", DENYLIST_UNSORTED);
}

static void a_wrong_end_is_refused(void)
{
    refuse("birthmark-deny 2 1 100 200\ndevice a\nend 2\n", DENYLIST_BAD_END);
    refuse("birthmark-deny 2 1 100 200\ndevice a\nend 0\n", DENYLIST_BAD_END);
    refuse("birthmark-deny 2 1 100 200\nend 0\ndevice a\n", DENYLIST_BAD_END);
    refuse("birthmark-deny 2 1 100 200\nend 0\n\n", DENYLIST_BAD_END);
    refuse("birthmark-deny 2 1 100 200\nend \n", DENYLIST_BAD_END);
}

static void a_nul_hides_nothing(void)
{
    static const char text[] = "birthmark-deny 2 1 100 200\ndevice a\0b\nend 1\n";
    struct parsed parsed = parse_bytes(text, sizeof text - 1);

    CHECK(parsed.status == DENYLIST_BAD_END);
    release(parsed);
}

int main(void)
{
    RUN(an_empty_list_denies_nobody);
    RUN(every_entry_is_found_and_nothing_else);
    RUN(the_longest_entries_are_found_and_longer_ones_are_not);
    RUN(a_file_cut_short_anywhere_is_refused);
    RUN(what_is_not_a_deny_file_is_refused);
    RUN(a_lease_has_a_length_and_at_most_a_week);
    RUN(a_malformed_entry_is_refused);
    RUN(disorder_is_refused);
    RUN(a_wrong_end_is_refused);
    RUN(a_nul_hides_nothing);
    return 0;
}
