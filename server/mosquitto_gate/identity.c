#include "identity.h"

#include "certificate.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define DEVICE_URI_MAX 512U

static enum identity_status read_name(const X509 *certificate, char out[TEXT_ID_MAX + 1])
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    const ASN1_STRING *value;
    const char *text;
    size_t length;

    if (index < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, index) >= 0) {
        return IDENTITY_BAD_NAME;
    }
    value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index));
    text = (const char *)ASN1_STRING_get0_data(value);
    length = (size_t)ASN1_STRING_length(value);
    if (!text_is_id(text, length)) {
        return IDENTITY_BAD_NAME;
    }
    memcpy(out, text, length);
    out[length] = '\0';
    return IDENTITY_OK;
}

static enum identity_status check_validity(const X509 *certificate, const X509 *signer, time_t now, time_t *not_after)
{
    time_t not_before;
    time_t signer_not_after;

    if (!certificate_time(X509_get0_notBefore(certificate), &not_before) ||
        !certificate_time(X509_get0_notAfter(certificate), not_after) ||
        !certificate_time(X509_get0_notAfter(signer), &signer_not_after)) {
        return IDENTITY_BAD_TIME;
    }
    if (now < not_before) {
        return IDENTITY_NOT_YET_VALID;
    }
    if (now > *not_after) {
        return IDENTITY_EXPIRED;
    }
    return now > signer_not_after ? IDENTITY_ISSUER_EXPIRED : IDENTITY_OK;
}

static bool is_text(const ASN1_STRING *value, const char *wanted)
{
    size_t length = strlen(wanted);

    return (size_t)ASN1_STRING_length(value) == length && memcmp(ASN1_STRING_get0_data(value), wanted, length) == 0;
}

static enum identity_status check_uri(const X509 *certificate, const char *trust_domain, const char *id)
{
    char wanted[DEVICE_URI_MAX];
    int length = snprintf(wanted, sizeof wanted, "spiffe://%s/device/%s", trust_domain, id);
    /* NULL too where the extension is there twice: then it names nobody. */
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    size_t uris = 0;
    bool matched = false;

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type == GEN_URI) {
            uris++;
            matched = is_text(name->d.uniformResourceIdentifier, wanted);
        }
    }
    GENERAL_NAMES_free(names);
    return length > 0 && (size_t)length < sizeof wanted && uris == 1 && matched ? IDENTITY_OK : IDENTITY_BAD_URI;
}

static enum identity_status check_role(const X509 *certificate, const struct identity_rules *rules,
                                       const struct identity *identity)
{
    bool reserved = strncmp(identity->id, IDENTITY_RESERVED_PREFIX, strlen(IDENTITY_RESERVED_PREFIX)) == 0;

    if (identity->role == POLICY_CONTROL) {
        if (!certificate_has_purpose(certificate, rules->control_eku)) {
            return IDENTITY_NOT_CONTROL;
        }
        return reserved ? IDENTITY_OK : IDENTITY_BAD_NAME;
    }
    return reserved ? IDENTITY_RESERVED_NAME : check_uri(certificate, rules->trust_domain, identity->id);
}

static enum identity_status read_all(X509 *certificate, const struct identity_rules *rules, time_t now,
                                     struct identity *out)
{
    /* Both are read before either is judged, so that a refusal's line in the log has all there is. */
    enum identity_status serial = certificate_serial(certificate, out->serial) ? IDENTITY_OK : IDENTITY_BAD_SERIAL;
    enum identity_status name = read_name(certificate, out->id);
    enum identity_status status = IDENTITY_OK;
    const X509 *signer = issuers_signer(&rules->fleet, certificate);

    out->role = POLICY_DEVICE;
    if (signer == NULL) {
        signer = issuers_signer(&rules->infra, certificate);
        out->role = POLICY_CONTROL;
    }
    if (signer == NULL) {
        return IDENTITY_UNKNOWN_ISSUER;
    }
    if (serial != IDENTITY_OK || name != IDENTITY_OK) {
        return serial != IDENTITY_OK ? serial : name;
    }
    status = check_validity(certificate, signer, now, &out->not_after);
    return status == IDENTITY_OK ? check_role(certificate, rules, out) : status;
}

enum identity_status identity_read(X509 *certificate, const struct identity_rules *rules, time_t now,
                                   struct identity *out)
{
    enum identity_status status;

    memset(out, 0, sizeof *out);
    if (certificate == NULL) {
        return IDENTITY_NO_CERTIFICATE;
    }
    status = read_all(certificate, rules, now, out);
    /* What OpenSSL could not read or verify leaves errors behind, which the broker's next SSL call would take for its
     * own. */
    ERR_clear_error();
    return status;
}

const char *identity_status_name(enum identity_status status)
{
    switch (status) {
    case IDENTITY_OK:
        return "ok";
    case IDENTITY_NO_CERTIFICATE:
        return "no-certificate";
    case IDENTITY_BAD_SERIAL:
        return "bad-serial";
    case IDENTITY_BAD_NAME:
        return "bad-name";
    case IDENTITY_UNKNOWN_ISSUER:
        return "unknown-issuer";
    case IDENTITY_BAD_TIME:
        return "bad-validity";
    case IDENTITY_NOT_YET_VALID:
        return "not-yet-valid";
    case IDENTITY_EXPIRED:
        return "expired";
    case IDENTITY_ISSUER_EXPIRED:
        return "issuer-expired";
    case IDENTITY_RESERVED_NAME:
        return "reserved-name";
    case IDENTITY_BAD_URI:
        return "bad-uri";
    case IDENTITY_NOT_CONTROL:
        return "not-control";
    }
    return "unknown-status";
}
