/* What a control identity may ask on $CONTROL/birthmark/v1. Pure: a payload in, a command out.
 *
 * One line of text:   TAG VERB [ARGUMENT]
 *
 *     TAG list [CURSOR]    connections from slot CURSOR on, a page at a time
 *     TAG find ID...       the connections with exactly these client ids, 1 to COMMAND_IDS_MAX of them
 *     TAG stats            counters, and which deny list is in force
 *     TAG issuers          the fingerprints of the Fleet and Infra CAs in force
 *     TAG kick ID          cut every connection of ID; it may come back at once
 *     TAG revoke HEX N     refuse that certificate, and cut who is connected with it
 *     TAG block ID N       refuse that device, and cut it
 *
 * N is the version of the first deny list that has the entry: the command runs ahead of a list that is on the disk
 * already, and does nothing where that list or a newer one is in force (pending.h).
 * TAG is 1 to 32 of a-z, 0-9 and '-', and comes back in the answer, which goes to the asking client alone.
 */
#ifndef BIRTHMARK_GATE_COMMAND_H
#define BIRTHMARK_GATE_COMMAND_H

#include "text.h"

#include <stddef.h>
#include <stdint.h>

#define COMMAND_TAG_MAX 32U
#define COMMAND_IDS_MAX 32U

enum command_verb {
    COMMAND_LIST = 1,
    COMMAND_STATS,
    COMMAND_ISSUERS,
    COMMAND_KICK,
    COMMAND_REVOKE,
    COMMAND_BLOCK,
    COMMAND_FIND,
};

struct command {
    char tag[COMMAND_TAG_MAX + 1];
    enum command_verb verb;
    char id[TEXT_ID_MAX + 1];         /* of kick and block */
    char serial[TEXT_SERIAL_MAX + 1]; /* of revoke */
    uint64_t version;                 /* of revoke and block */
    uint32_t cursor;                  /* of list */
    uint32_t id_count;                /* of find */
    char ids[COMMAND_IDS_MAX][TEXT_ID_MAX + 1];
};

enum command_status {
    COMMAND_OK = 0,
    COMMAND_MALFORMED,
    COMMAND_UNKNOWN_VERB,
};

/* Read a command.
 * payload [in]   need not be NUL-terminated; may be NULL where length is 0
 * length  [in]
 * out     [out]  complete only for COMMAND_OK; the tag is set, perhaps empty, in any case
 */
enum command_status command_parse(const char *payload, size_t length, struct command *out);

const char *command_status_name(enum command_status status);

#endif
