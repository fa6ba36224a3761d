/* The CA certificates that decide what a client is: Fleet CAs make devices, Infra CAs make control identities.
 *
 * Trust: the files named in the broker's configuration. What the TLS layer verified is not enough: every certificate
 * under the root passes it, a birth, station or operator certificate as well.
 */
#ifndef BIRTHMARK_GATE_ISSUERS_H
#define BIRTHMARK_GATE_ISSUERS_H

#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>

#define ISSUERS_MAX 16U
#define ISSUERS_FINGERPRINT_MAX 64U /* hex digits of SHA-256 */

struct issuers {
    X509 *certificates[ISSUERS_MAX];
    size_t count;
};

enum issuers_status {
    ISSUERS_OK = 0,
    ISSUERS_UNREADABLE, /* no such file, or no certificate in it */
    ISSUERS_NOT_A_CA,   /* one of them may not sign certificates */
    ISSUERS_TOO_MANY,   /* more than ISSUERS_MAX */
};

/* Read all certificates of a PEM file.
 * path [in]
 * out  [out]  to be given to issuers_release(); empty unless ISSUERS_OK
 */
enum issuers_status issuers_load(const char *path, struct issuers *out);

/* Release the certificates and empty the set. */
void issuers_release(struct issuers *issuers);

/* Return the certificate whose key signed `leaf`, or NULL. Borrowed from `issuers`.
 * Does not prove that either of them is valid now, nor that `leaf` is anything but signed. May leave errors in
 * OpenSSL's queue.
 */
const X509 *issuers_signer(const struct issuers *issuers, X509 *leaf);

/* Whether any public key is in both sets: then the issuer would not tell a device from a control identity. */
bool issuers_share_a_key(const struct issuers *a, const struct issuers *b);

/* Write the SHA-256 fingerprint of a certificate, lower-case hex; an empty text where OpenSSL has no memory left. */
void issuers_fingerprint(const X509 *certificate, char out[ISSUERS_FINGERPRINT_MAX + 1]);

const char *issuers_status_name(enum issuers_status status);

#endif
