/* The two CA files on disk: read together at start, on SIGHUP and whenever one of them has changed.
 *
 * Trust: whoever may write them; they are named in the broker's configuration (issuers.h says what they decide).
 *
 * Rules: a set in force is only ever replaced by a whole one; else both old ones stay. Two files can't be replaced at one
 * moment, so a reader may see a new one beside an old one: each pair is checked as any other.
 */
#ifndef BIRTHMARK_GATE_ISSUERFILES_H
#define BIRTHMARK_GATE_ISSUERFILES_H

#include "issuers.h"

#include <stdbool.h>
#include <sys/stat.h>

struct issuerfiles {
    const char *fleet_path;
    const char *infra_path;
    struct issuers *fleet; /* in force; released by whom they belong to */
    struct issuers *infra;
    struct stat fleet_seen; /* the files as they were when last read, readable or not */
    struct stat infra_seen;
    bool stale; /* the last attempt failed: what is in force is not what the files say */
};

enum issuerfiles_status {
    ISSUERFILES_OK = 0,
    ISSUERFILES_FLEET,  /* the Fleet CA file can't stand: `why` says it */
    ISSUERFILES_INFRA,  /* the Infra CA file can't stand */
    ISSUERFILES_SHARED, /* a Fleet CA and an Infra CA have the same key */
};

/* Read both files and put them in force, or keep what is in force.
 * files [in,out]  paths and sets given, the rest zero before the first call
 * why   [out]     what was wrong with the file
 */
enum issuerfiles_status issuerfiles_load(struct issuerfiles *files, enum issuers_status *why);

/* Whether one of the files is another one than when it was last read: device, inode, size or time of change. */
bool issuerfiles_changed(const struct issuerfiles *files);

#endif
