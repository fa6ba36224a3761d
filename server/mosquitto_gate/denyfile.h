/* The deny list on disk: read at start, on SIGHUP and whenever the file has changed.
 *
 * Rules: a list in force is only ever replaced by a complete one that is not older; else the old list stays.
 * Memory is the file's size, at most DENYLIST_FILE_MAX, and belongs to this room.
 */
#ifndef BIRTHMARK_GATE_DENYFILE_H
#define BIRTHMARK_GATE_DENYFILE_H

#include "denylist.h"

#include <stdbool.h>
#include <sys/stat.h>

struct denyfile {
    const char *path;
    struct denylist list;
    struct stat seen; /* the file as it was when last read, readable or not */
    bool stale;       /* the last attempt failed: `list` is older than the file */
    char *text;
    uint32_t *lines;
};

/* Read the file and put its list in force. DENYLIST_OLDER: its version is below that of the list in force.
 * file [in,out]  path set, the rest zero before the first call
 */
enum denylist_status denyfile_load(struct denyfile *file);

/* Whether the file is another one than when it was last read: device, inode, size or time of change. */
bool denyfile_changed(const struct denyfile *file);

/* Release the list. */
void denyfile_release(struct denyfile *file);

#endif
