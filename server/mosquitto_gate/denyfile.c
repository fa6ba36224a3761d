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

static enum denylist_status load_open(struct denyfile *file, int descriptor)
{
    struct denylist list = {0};
    enum denylist_status status;
    uint32_t *lines = NULL;
    char *text = NULL;
    size_t length;
    size_t needed;

    if (fstat(descriptor, &file->seen) != 0 || !S_ISREG(file->seen.st_mode) || file->seen.st_size < 1 ||
        file->seen.st_size > (off_t)DENYLIST_FILE_MAX) {
        return DENYLIST_UNREADABLE;
    }
    length = (size_t)file->seen.st_size;
    text = malloc(length);
    if (text == NULL) {
        return DENYLIST_NO_MEMORY;
    }
    if (!read_whole(descriptor, text, length)) {
        free(text);
        return DENYLIST_UNREADABLE;
    }
    needed = denylist_lines_needed(text, length);
    lines = calloc(needed + 1, sizeof *lines);
    status = lines == NULL ? DENYLIST_NO_MEMORY : denylist_parse(text, length, lines, needed, &list);
    /* A backup put back, or a copy kept by someone, must not let the revoked in again. */
    if (status == DENYLIST_OK && list.version < file->list.version) {
        status = DENYLIST_OLDER;
    }
    if (status != DENYLIST_OK) {
        free(lines);
        free(text);
        return status;
    }
    free(file->lines);
    free(file->text);
    file->lines = lines;
    file->text = text;
    file->list = list;
    return DENYLIST_OK;
}

enum denylist_status denyfile_load(struct denyfile *file)
{
    int descriptor = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    enum denylist_status status = DENYLIST_UNREADABLE;

    if (descriptor >= 0) {
        status = load_open(file, descriptor);
        (void)close(descriptor);
    } else {
        memset(&file->seen, 0, sizeof file->seen);
    }
    file->stale = status != DENYLIST_OK;
    return status;
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
