/* What is read from a certificate in more than one room. Nothing here verifies anything.
 *
 * Rules: every function may leave errors in OpenSSL's queue; the room that calls clears it (ERR_clear_error()), or the
 * broker's next SSL call would take them for its own.
 */
#ifndef BIRTHMARK_GATE_CERTIFICATE_H
#define BIRTHMARK_GATE_CERTIFICATE_H

#include "text.h"

#include <openssl/x509.h>
#include <stdbool.h>
#include <time.h>

/* Write the serial number as the deny list has it: lower-case hex without leading zeros. False where it is not a
 * positive integer of at most 20 octets (RFC 5280 §4.1.2.2); then `out` is empty or unfinished. */
bool certificate_serial(const X509 *certificate, char out[TEXT_SERIAL_MAX + 1]);

/* Read a validity's time as seconds since 1970; false where it is none. */
bool certificate_time(const ASN1_TIME *value, time_t *out);

/* Whether `purpose` is among the extended key usages. */
bool certificate_has_purpose(const X509 *certificate, const ASN1_OBJECT *purpose);

#endif
