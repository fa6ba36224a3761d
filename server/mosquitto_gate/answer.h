/* The gate's answers on $CONTROL/birthmark/v1/response: one JSON object each, never larger than ANSWER_MAX.
 *
 *     {"tag":"7","ok":true,"connections":[{"client":...,"id":...,"role":...,"serial":...,"not_after":...}],"next":0}
 *     {"tag":"8","ok":true,"connected":5,...}
 *     {"tag":"9","ok":true,"kicked":1}
 *     {"tag":"10","ok":true,"fleet":["e3b0..."],"infra":["9f86..."],"stale":false}
 *     {"tag":"","ok":false,"error":"malformed"}
 *
 * Every string in them is of an alphabet that needs no escaping: ids, hex and our own names.
 */
#ifndef BIRTHMARK_GATE_ANSWER_H
#define BIRTHMARK_GATE_ANSWER_H

#include "command.h"
#include "connections.h"
#include "denyfile.h"
#include "issuers.h"
#include "text.h"

#include <stdbool.h>
#include <stdint.h>

#define ANSWER_MAX 32768U

struct counters {
    uint64_t accepted;        /* CONNECTs let in */
    uint64_t refused;         /* CONNECTs refused */
    uint64_t refused_topics;  /* reads, writes and subscriptions refused */
    uint64_t kicked;          /* connections cut */
    uint64_t log_lines_spared; /* refusals that were counted but not logged one by one */
};

/* A page of connections from slot `cursor` on; "next" is the cursor of the page after it, 0 after the last. */
void answer_list(struct text *out, const char *tag, const struct connections *table, uint32_t cursor);

/* The connections with exactly these client ids, of those that are there; "next" is 0.
 * ids   [in]  the first `count` of them
 * count [in]  COMMAND_IDS_MAX at most
 */
void answer_find(struct text *out, const char *tag, const struct connections *table,
                 char ids[COMMAND_IDS_MAX][TEXT_ID_MAX + 1], uint32_t count);

/* What the gate has counted, which deny list is in force, and for how many seconds its lease runs.
 * issuers_stale [in]  the CA files say something else than what is in force
 */
void answer_stats(struct text *out, const char *tag, const struct counters *counters, const struct connections *table,
                  const struct denyfile *deny, bool issuers_stale, struct moment now);

/* The SHA-256 fingerprints of the CA certificates in force, in the files' order: ISSUERS_MAX of each kind at most, so that
 * all of them fit into one answer. stale [in]  the files say something else.
 */
void answer_issuers(struct text *out, const char *tag, const struct issuers *fleet, const struct issuers *infra,
                    bool stale);

/* How many connections were cut. */
void answer_kicked(struct text *out, const char *tag, uint32_t kicked);

/* Why a command was not understood. */
void answer_error(struct text *out, const char *tag, const char *error);

#endif
