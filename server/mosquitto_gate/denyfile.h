/* The deny list on disk: read at start, on SIGHUP and whenever the file has changed.
 *
 * Trust: the Infra CAs, and of what they issued only certificates with the signer's key purpose. Whoever carries the
 * file, or could write it, is not trusted: with an older one, or none, the lease runs out.
 *
 * Rules: a list in force is only ever replaced by a complete one that is signed and not older; else the old list stays.
 * Memory is the file's size, at most DENYLIST_FILE_MAX, and belongs to this room.
 */
#ifndef BIRTHMARK_GATE_DENYFILE_H
#define BIRTHMARK_GATE_DENYFILE_H

#include "denylist.h"
#include "lease.h"
#include "signature.h"

#include <stdbool.h>
#include <sys/stat.h>

struct denyfile {
    const char *path;
    const struct issuers *infra;
    const ASN1_OBJECT *purpose; /* the extended key usage of its signer */
    struct denylist list;
    struct lease lease;
    struct stat seen; /* the file as it was when last read, readable or not */
    enum signature_status signature; /* of the last attempt */
    bool stale;       /* the last attempt failed: `list` is older than the file */
    char *text;
    uint32_t *lines;
};

/* Read the file and put its list in force. DENYLIST_OLDER: its version is below that of the list in force.
 * file [in,out]  path, infra and purpose set, the rest zero before the first call
 * now  [in]      when a lease that is new here begins
 */
enum denylist_status denyfile_load(struct denyfile *file, struct moment now);

/* What was wrong with the file: the rest of a sentence that begins with its name. */
const char *denyfile_problem(const struct denyfile *file, enum denylist_status status);

/* Whether the file is another one than when it was last read: device, inode, size or time of change. */
bool denyfile_changed(const struct denyfile *file);

/* Release the list. */
void denyfile_release(struct denyfile *file);

#endif
