#include "denyfile.h"

#include "check.h"

#include <unistd.h>

static char path[] = "/tmp/birthmark-denyfile-XXXXXX";

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

static void a_changed_file_is_noticed_and_read(void)
{
    struct denyfile file = {.path = path};

    put("birthmark-deny 1 1\nend 0\n");
    CHECK(denyfile_load(&file) == DENYLIST_OK);
    CHECK(!denyfile_changed(&file));
    put("birthmark-deny 1 2\ndevice a\nend 1\n");
    CHECK(denyfile_changed(&file));
    CHECK(denyfile_load(&file) == DENYLIST_OK);
    CHECK(!denyfile_changed(&file));
    CHECK(file.list.version == 2 && denylist_has(&file.list, "device", "a"));
    denyfile_release(&file);
}

static void the_list_in_force_stays_while_the_file_is_unreadable(void)
{
    struct denyfile file = {.path = path};

    put("birthmark-deny 1 3\ndevice a\nend 1\n");
    CHECK(denyfile_load(&file) == DENYLIST_OK && !file.stale);
    put("garbage");
    CHECK(denyfile_load(&file) == DENYLIST_BAD_HEADER && file.stale);
    CHECK(denylist_has(&file.list, "device", "a"));
    CHECK(!denyfile_changed(&file)); /* it is said once, not every second */
    put("");
    CHECK(denyfile_load(&file) == DENYLIST_UNREADABLE);
    CHECK(unlink(path) == 0);
    CHECK(denyfile_changed(&file));
    CHECK(denyfile_load(&file) == DENYLIST_UNREADABLE && !denyfile_changed(&file));
    CHECK(file.list.version == 3 && denylist_has(&file.list, "device", "a"));
    put("birthmark-deny 1 4\nend 0\n");
    CHECK(denyfile_changed(&file));
    CHECK(denyfile_load(&file) == DENYLIST_OK && !file.stale);
    CHECK(!denylist_has(&file.list, "device", "a"));
    denyfile_release(&file);
}

static void an_older_file_does_not_replace_the_list_in_force(void)
{
    struct denyfile file = {.path = path};

    put("birthmark-deny 1 8\ndevice a\nend 1\n");
    CHECK(denyfile_load(&file) == DENYLIST_OK);
    put("birthmark-deny 1 7\nend 0\n");
    CHECK(denyfile_changed(&file));
    CHECK(denyfile_load(&file) == DENYLIST_OLDER && file.stale && !denyfile_changed(&file));
    CHECK(file.list.version == 8 && denylist_has(&file.list, "device", "a"));
    put("birthmark-deny 1 8\ndevice a\nend 1\n");
    CHECK(denyfile_load(&file) == DENYLIST_OK && !file.stale); /* the same again, as at SIGHUP */
    put("birthmark-deny 1 1800000000000\nend 0\n");
    CHECK(denyfile_load(&file) == DENYLIST_OK && !denylist_has(&file.list, "device", "a"));
    denyfile_release(&file);
}

static void a_folder_or_a_device_is_no_deny_file(void)
{
    struct denyfile folder = {.path = "/tmp"};
    struct denyfile device = {.path = "/dev/zero"};

    CHECK(denyfile_load(&folder) == DENYLIST_UNREADABLE);
    CHECK(denyfile_load(&device) == DENYLIST_UNREADABLE);
}

int main(void)
{
    int descriptor = mkstemp(path);

    CHECK(descriptor >= 0 && close(descriptor) == 0);
    RUN(a_changed_file_is_noticed_and_read);
    RUN(the_list_in_force_stays_while_the_file_is_unreadable);
    RUN(an_older_file_does_not_replace_the_list_in_force);
    RUN(a_folder_or_a_device_is_no_deny_file);
    CHECK(unlink(path) == 0);
    return 0;
}
