/* From a client certificate to an identity.
 *
 * Trust: the issuers given, and the clock. The certificate is only what the TLS layer let in, perhaps by a resumed
 * session and so long after it was last verified: signature, validity and names are all checked here again.
 *
 * Rules: the issuer decides the role. Exactly one CN, of the alphabet of ids. A device's one URI SAN is
 * spiffe://TRUST-DOMAIN/device/CN, and its id does not begin with "srv-". A control identity carries the control
 * role as an extended key usage, and its id begins with "srv-", so no device ever shares a client id with one.
 */
#ifndef BIRTHMARK_GATE_IDENTITY_H
#define BIRTHMARK_GATE_IDENTITY_H

#include "issuers.h"
#include "policy.h"
#include "text.h"

#include <openssl/x509.h>
#include <time.h>

#define IDENTITY_RESERVED_PREFIX "srv-"

struct identity_rules {
    struct issuers fleet;
    struct issuers infra;
    const char *trust_domain;
    const ASN1_OBJECT *control_eku;
};

struct identity {
    enum policy_role role;
    char id[TEXT_ID_MAX + 1];
    char serial[TEXT_SERIAL_MAX + 1]; /* lower-case hex without leading zeros, as in the deny file */
    time_t not_after;
};

enum identity_status {
    IDENTITY_OK = 0,
    IDENTITY_NO_CERTIFICATE,
    IDENTITY_BAD_SERIAL,
    IDENTITY_BAD_NAME,       /* not exactly one CN, or not an id */
    IDENTITY_UNKNOWN_ISSUER, /* signed by neither a Fleet CA nor an Infra CA */
    IDENTITY_BAD_TIME,       /* a validity that can't be read */
    IDENTITY_NOT_YET_VALID,
    IDENTITY_EXPIRED,
    IDENTITY_ISSUER_EXPIRED,
    IDENTITY_RESERVED_NAME, /* a device called srv-... */
    IDENTITY_BAD_URI,       /* not exactly one URI SAN, or not the id's */
    IDENTITY_NOT_CONTROL,   /* an Infra CA's, but not a control identity */
};

/* Read the identity that `certificate` gives its holder at `now`.
 * certificate [in]   NULL where the client showed none
 * rules       [in]
 * now         [in]
 * out         [out]  complete only for IDENTITY_OK; otherwise id and serial hold what could be read, or are empty, and
 *                    are for the log alone
 */
enum identity_status identity_read(X509 *certificate, const struct identity_rules *rules, time_t now,
                                   struct identity *out);

/* The stable name of a status, as in the log. */
const char *identity_status_name(enum identity_status status);

#endif
