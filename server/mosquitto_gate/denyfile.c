#include "denyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Read exactly `length` bytes; anything less is a file that changes under our hands, and is read again later. */
static bool read_whole(int descriptor, char *text, size_t length)
{
    size_t done = 0;

    while (done < length) {
        ssize_t got = read(descriptor, text + done, length - done);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        done += (size_t)got;
    }
    return true;
}

/* Whether a signed list may follow the one in force. */
static enum denylist_status judge(const struct denyfile *file, const struct denylist *list, const struct signer *signer)
{
    /* By the list's own time: whether that is long ago is the lease's question. */
    if (list->issued_s < signer->not_before || list->issued_s > signer->not_after) {
        return DENYLIST_SIGNER_OUTDATED;
    }
    if (denylist_has(&file->list, "serial", signer->serial)) {
        return DENYLIST_SIGNER_DENIED;
    }
    /* A backup put back, or a copy kept by someone, must not let the revoked in again. */
    return list->version < file->list.version ? DENYLIST_OLDER : DENYLIST_OK;
}

/* Verify and read `text`, and put its list in force: then `text` belongs to the file. */
static enum denylist_status take_text(struct denyfile *file, char *text, size_t length, struct moment now)
{
    struct denylist list = {0};
    struct signer signer;
    enum denylist_status status;
    uint32_t *lines;
    size_t needed;

    file->signature = signature_verify(text, length, file->infra, file->purpose, &length, &signer);
    if (file->signature != SIGNATURE_OK) {
        return DENYLIST_BAD_SIGNATURE;
    }
    needed = denylist_lines_needed(text, length);
    lines = calloc(needed + 1, sizeof *lines);
    status = lines == NULL ? DENYLIST_NO_MEMORY : denylist_parse(text, length, lines, needed, &list);
    status = status == DENYLIST_OK ? judge(file, &list, &signer) : status;
    if (status != DENYLIST_OK) {
        free(lines);
        return status;
    }
    /* The same list again, as at SIGHUP, does not begin a new lease. */
    if (file->text == NULL || list.version != file->list.version) {
        lease_begin(&file->lease, list.issued_s, list.until_s, now);
    }
    free(file->lines);
    free(file->text);
    file->lines = lines;
    file->text = text;
    file->list = list;
    return DENYLIST_OK;
}

static enum denylist_status load_open(struct denyfile *file, int descriptor, struct moment now)
{
    enum denylist_status status = DENYLIST_UNREADABLE;
    char *text = NULL;
    size_t length;

    if (fstat(descriptor, &file->seen) != 0 || !S_ISREG(file->seen.st_mode) || file->seen.st_size < 1 ||
        file->seen.st_size > (off_t)DENYLIST_FILE_MAX) {
        return DENYLIST_UNREADABLE;
    }
    length = (size_t)file->seen.st_size;
    text = malloc(length);
    if (text == NULL) {
        return DENYLIST_NO_MEMORY;
    }
    if (read_whole(descriptor, text, length)) {
        status = take_text(file, text, length, now);
    }
    if (status != DENYLIST_OK) {
        free(text);
    }
    return status;
}

enum denylist_status denyfile_load(struct denyfile *file, struct moment now)
{
    int descriptor = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    enum denylist_status status = DENYLIST_UNREADABLE;

    if (descriptor >= 0) {
        status = load_open(file, descriptor, now);
        (void)close(descriptor);
    } else {
        memset(&file->seen, 0, sizeof file->seen);
    }
    file->stale = status != DENYLIST_OK;
    return status;
}

const char *denyfile_problem(const struct denyfile *file, enum denylist_status status)
{
    return status == DENYLIST_BAD_SIGNATURE ? signature_status_name(file->signature) : denylist_status_name(status);
}

bool denyfile_changed(const struct denyfile *file)
{
    struct stat now;

    if (stat(file->path, &now) != 0) {
        memset(&now, 0, sizeof now);
    }
    return now.st_dev != file->seen.st_dev || now.st_ino != file->seen.st_ino || now.st_size != file->seen.st_size ||
           now.st_mtim.tv_sec != file->seen.st_mtim.tv_sec || now.st_mtim.tv_nsec != file->seen.st_mtim.tv_nsec;
}

void denyfile_release(struct denyfile *file)
{
    free(file->lines);
    free(file->text);
    file->lines = NULL;
    file->text = NULL;
    memset(&file->list, 0, sizeof file->list);
}
