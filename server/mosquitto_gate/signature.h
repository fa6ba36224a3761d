/* A text that one of our own signed. It is verified before a line of it is read.
 *
 *     TEXT
 *     signer BASE64       the signer's certificate, DER
 *     signature BASE64    ECDSA (P-256, SHA-256) over all that stands before this line, DER
 *
 * Trust: the Infra CAs given, and of what they issued only a certificate with the key purpose given.
 *
 * Does not prove that the signer's certificate is valid at any time, nor that it is not revoked: whoever reads the text
 * asks that, with what is returned here.
 */
#ifndef BIRTHMARK_GATE_SIGNATURE_H
#define BIRTHMARK_GATE_SIGNATURE_H

#include "issuers.h"
#include "text.h"

#include <stddef.h>
#include <time.h>

#define SIGNATURE_CERTIFICATE_MAX 4095U /* octets of DER, a multiple of 3 */
#define SIGNATURE_OCTETS_MAX 72U        /* of an ECDSA-Sig-Value on P-256, a multiple of 3 */

struct signer {
    char serial[TEXT_SERIAL_MAX + 1];
    time_t not_before;
    time_t not_after;
};

enum signature_status {
    SIGNATURE_OK = 0,
    SIGNATURE_MISSING,        /* the last two lines are not signer and signature, or are too long */
    SIGNATURE_BAD_SIGNER,     /* not a certificate, or without a serial number, a validity or a P-256 key */
    SIGNATURE_UNKNOWN_SIGNER, /* no Infra CA signed it */
    SIGNATURE_NOT_A_SIGNER,   /* it lacks the key purpose */
    SIGNATURE_WRONG,
};

/* Verify a text.
 * text        [in]   need not be NUL-terminated
 * length      [in]
 * infra       [in]
 * purpose     [in]   the extended key usage that makes a signer
 * body_length [out]  how much of it comes before the signer's line; set only for SIGNATURE_OK
 * out         [out]  set only for SIGNATURE_OK
 */
enum signature_status signature_verify(const char *text, size_t length, const struct issuers *infra,
                                       const ASN1_OBJECT *purpose, size_t *body_length, struct signer *out);

/* The rest of a sentence that begins with the text's name. */
const char *signature_status_name(enum signature_status status);

#endif
