/* SMP group 64, "enrollment": what the station asks. The station's side is server/birthmark_server/factory/smp/group.py.
 *
 *     0 identify   read    {"serial", "fw", "slot", "sig": "ok" | "bad" | "none", "mode": "factory" | "locked", "mac"}
 *     1 tpm        write   {"c": one whole TPM command} -> {"r": its response}
 *     2 provision  write   {"record": the unit's record, JSON} -> {}
 *     3 provision  read    -> {"record"}
 *     4 lock       write   -> {}; fine to repeat
 *
 * All but identify and lock in factory mode only. Of TPM commands those pass that enrolling takes (allowed, in
 * enroll_group.c), by command code: no clearing, no change of authorizations, no lockout reset, no field upgrade. The list guards
 * against mistakes and against a thief of the cable, who could not do with the TPM what an owner does; it does
 * not make a TPM command harmless.
 */
#ifndef BIRTHMARK_ENROLL_GROUP_H
#define BIRTHMARK_ENROLL_GROUP_H

#include "settings.h"
#include "slots.h"
#include "smp.h"
#include "tpm.h"

#define ENROLL_GROUP_ID 64U
#define ENROLL_SERIAL_MAX 64U

enum enroll_group_rc {
    ENROLL_NOT_ALLOWED = 1,
    ENROLL_LOCKED = 2,
    ENROLL_NO_TPM = 3,       /* it does not answer, or not as one */
    ENROLL_BAD_RECORD = 4,   /* without a serial number, or too long */
    ENROLL_NOT_KEPT = 5,     /* the flash failed */
};

struct enroll_group {
    struct settings *settings;
    const struct slots *slots;
    struct tpm tpm;
    const char *version; /* of this firmware */
    const char *mac;     /* empty where it has none */
    uint8_t response[TPM_COMMAND_MAX];
};

/* Begin. The structures are the caller's, for as long as the group is used. */
struct smp_group enroll_group(struct enroll_group *group, struct settings *settings, const struct slots *slots,
                              struct tpm tpm, const char *version, const char *mac);

/* The "serial" of a record: in its outermost object, a string of 1 to ENROLL_SERIAL_MAX printable ASCII characters without
 * escapes.
 * serial [out]  NUL-terminated; empty where there is none
 * returns whether there is one
 */
bool enroll_record_serial(const uint8_t *record, size_t length, char serial[ENROLL_SERIAL_MAX + 1]);

#endif
