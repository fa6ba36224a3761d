#include "denyfile.h"

#include "signing.h"

#include <unistd.h>

#define ISSUED 1500
#define BODY(version, entries) "birthmark-deny 2 " #version " 1500 2400\n" entries

static const struct moment now = {ISSUED + 10, 50};
static char path[] = "/tmp/birthmark-denyfile-XXXXXX";
static struct signing ca;
static struct signing signer;
static struct issuers infra;
static ASN1_OBJECT *purpose;

static struct denyfile begin(void)
{
    return (struct denyfile){.path = path, .infra = &infra, .purpose = purpose};
}

/* Replace the file as the server does: another one, renamed into place. */
static void put(const char *content)
{
    char temporary[sizeof path + 4];
    FILE *file;

    snprintf(temporary, sizeof temporary, "%s.new", path);
    file = fopen(temporary, "w");
    CHECK(file != NULL);
    CHECK(fputs(content, file) >= 0);
    CHECK(fclose(file) == 0);
    CHECK(rename(temporary, path) == 0);
}

static void put_signed_by(const char *body, const struct signing *by)
{
    char *text = signing_sign(body, by);

    put(text);
    free(text);
}

static void put_signed(const char *body)
{
    put_signed_by(body, &signer);
}

static void a_changed_file_is_noticed_and_read(void)
{
    struct denyfile file = begin();

    put_signed(BODY(1, "end 0\n"));
    CHECK(denyfile_load(&file, now) == DENYLIST_OK);
    CHECK(!denyfile_changed(&file));
    put_signed(BODY(2, "device a\nend 1\n"));
    CHECK(denyfile_changed(&file));
    CHECK(denyfile_load(&file, now) == DENYLIST_OK);
    CHECK(!denyfile_changed(&file));
    CHECK(file.list.version == 2 && denylist_has(&file.list, "device", "a"));
    denyfile_release(&file);
}

static void the_list_in_force_stays_while_the_file_is_unreadable(void)
{
    struct denyfile file = begin();

    put_signed(BODY(3, "device a\nend 1\n"));
    CHECK(denyfile_load(&file, now) == DENYLIST_OK && !file.stale);
    put("garbage");
    CHECK(denyfile_load(&file, now) == DENYLIST_BAD_SIGNATURE && file.stale);
    CHECK(strstr(denyfile_problem(&file, DENYLIST_BAD_SIGNATURE), "does not end with 'signer") != NULL);
    CHECK(denylist_has(&file.list, "device", "a"));
    CHECK(!denyfile_changed(&file)); /* it is said once, not every second */
    put("");
    CHECK(denyfile_load(&file, now) == DENYLIST_UNREADABLE);
    put_signed("garbage\n");
    CHECK(denyfile_load(&file, now) == DENYLIST_BAD_HEADER);
    put(BODY(4, "end 0\n"));
    CHECK(denyfile_load(&file, now) == DENYLIST_BAD_SIGNATURE);
    CHECK(unlink(path) == 0);
    CHECK(denyfile_changed(&file));
    CHECK(denyfile_load(&file, now) == DENYLIST_UNREADABLE && !denyfile_changed(&file));
    CHECK(file.list.version == 3 && denylist_has(&file.list, "device", "a"));
    put_signed(BODY(4, "end 0\n"));
    CHECK(denyfile_changed(&file));
    CHECK(denyfile_load(&file, now) == DENYLIST_OK && !file.stale);
    CHECK(!denylist_has(&file.list, "device", "a"));
    denyfile_release(&file);
}

static void an_older_file_does_not_replace_the_list_in_force(void)
{
    struct denyfile file = begin();

    put_signed(BODY(8, "device a\nend 1\n"));
    CHECK(denyfile_load(&file, now) == DENYLIST_OK);
    put_signed(BODY(7, "end 0\n"));
    CHECK(denyfile_changed(&file));
    CHECK(denyfile_load(&file, now) == DENYLIST_OLDER && file.stale && !denyfile_changed(&file));
    CHECK(file.list.version == 8 && denylist_has(&file.list, "device", "a"));
    put_signed(BODY(8, "device a\nend 1\n"));
    CHECK(denyfile_load(&file, now) == DENYLIST_OK && !file.stale); /* the same again, as at SIGHUP */
    put_signed(BODY(1800000000000, "end 0\n"));
    CHECK(denyfile_load(&file, now) == DENYLIST_OK && !denylist_has(&file.list, "device", "a"));
    denyfile_release(&file);
}

static void only_a_newer_list_begins_a_new_lease(void)
{
    const struct moment later = {now.wall_s - 600, now.boot_s + 800}; /* on a clock that was set back */
    struct denyfile file = begin();

    put_signed(BODY(1, "end 0\n"));
    CHECK(denyfile_load(&file, now) == DENYLIST_OK && lease_left(&file.lease, now) == 890);
    CHECK(denyfile_load(&file, later) == DENYLIST_OK && lease_left(&file.lease, later) == 90);
    put_signed(BODY(2, "end 0\n"));
    CHECK(denyfile_load(&file, later) == DENYLIST_OK && lease_left(&file.lease, later) == 900);
    denyfile_release(&file);
}

static void a_signer_counts_while_it_is_valid_and_not_denied(void)
{
    struct signing next = signing_make(&ca, "P-256", 0x99, SIGNING_PURPOSE, 1000, 2000);
    struct signing past = signing_make(&ca, "P-256", 0x98, SIGNING_PURPOSE, 1000, ISSUED - 1);
    struct signing future = signing_make(&ca, "P-256", 0x97, SIGNING_PURPOSE, ISSUED + 1, 2000);
    struct denyfile file = begin();

    put_signed_by(BODY(1, "end 0\n"), &past);
    CHECK(denyfile_load(&file, now) == DENYLIST_SIGNER_OUTDATED);
    put_signed_by(BODY(1, "end 0\n"), &future);
    CHECK(denyfile_load(&file, now) == DENYLIST_SIGNER_OUTDATED);
    put_signed(BODY(1, "end 0\n"));
    CHECK(denyfile_load(&file, now) == DENYLIST_OK);
    put_signed_by(BODY(2, "serial 1f2e\nend 1\n"), &next);
    CHECK(denyfile_load(&file, now) == DENYLIST_OK);
    put_signed(BODY(3, "end 0\n"));
    CHECK(denyfile_load(&file, now) == DENYLIST_SIGNER_DENIED && file.list.version == 2);
    denyfile_release(&file);
    signing_free(next);
    signing_free(past);
    signing_free(future);
}

static void a_folder_or_a_device_is_no_deny_file(void)
{
    struct denyfile file = begin();

    file.path = "/tmp";
    CHECK(denyfile_load(&file, now) == DENYLIST_UNREADABLE);
    file.path = "/dev/zero";
    CHECK(denyfile_load(&file, now) == DENYLIST_UNREADABLE);
}

int main(void)
{
    int descriptor = mkstemp(path);

    CHECK(descriptor >= 0 && close(descriptor) == 0);
    ca = signing_make(NULL, "P-256", 1, NULL, 0, 5000);
    signer = signing_make(&ca, "P-256", 0x1f2e, SIGNING_PURPOSE, 1000, 2000);
    purpose = OBJ_txt2obj(SIGNING_PURPOSE, 1);
    infra = (struct issuers){{ca.certificate}, 1};
    RUN(a_changed_file_is_noticed_and_read);
    RUN(the_list_in_force_stays_while_the_file_is_unreadable);
    RUN(an_older_file_does_not_replace_the_list_in_force);
    RUN(only_a_newer_list_begins_a_new_lease);
    RUN(a_signer_counts_while_it_is_valid_and_not_denied);
    RUN(a_folder_or_a_device_is_no_deny_file);
    CHECK(unlink(path) == 0);
    signing_free(signer);
    signing_free(ca);
    ASN1_OBJECT_free(purpose);
    return 0;
}
