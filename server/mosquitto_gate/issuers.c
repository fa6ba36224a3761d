#include "issuers.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

enum issuers_status issuers_load(const char *path, struct issuers *out)
{
    enum issuers_status status = ISSUERS_OK;
    BIO *file = BIO_new_file(path, "r");
    X509 *certificate;

    out->count = 0;
    if (file == NULL) {
        ERR_clear_error();
        return ISSUERS_UNREADABLE;
    }
    while (status == ISSUERS_OK && (certificate = PEM_read_bio_X509(file, NULL, NULL, NULL)) != NULL) {
        if (out->count == ISSUERS_MAX) {
            status = ISSUERS_TOO_MANY;
        } else if (X509_check_ca(certificate) != 1) {
            status = ISSUERS_NOT_A_CA;
        } else {
            out->certificates[out->count++] = certificate;
            continue;
        }
        X509_free(certificate);
    }
    /* The end of the file is the one error that is none; anything else means that part of it was not read. */
    if (status == ISSUERS_OK && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
        status = ISSUERS_UNREADABLE;
    }
    BIO_free(file);
    ERR_clear_error();
    if (status == ISSUERS_OK && out->count == 0) {
        status = ISSUERS_UNREADABLE;
    }
    if (status != ISSUERS_OK) {
        issuers_release(out);
    }
    return status;
}

void issuers_release(struct issuers *issuers)
{
    for (size_t i = 0; i < issuers->count; i++) {
        X509_free(issuers->certificates[i]);
    }
    issuers->count = 0;
}

const X509 *issuers_signer(const struct issuers *issuers, X509 *leaf)
{
    const X509 *signer = NULL;

    for (size_t i = 0; signer == NULL && i < issuers->count; i++) {
        X509 *ca = issuers->certificates[i];

        /* Names and key identifiers first: a signature is only checked where they fit. */
        if (X509_check_issued(ca, leaf) == X509_V_OK && X509_verify(leaf, X509_get0_pubkey(ca)) == 1) {
            signer = ca;
        }
    }
    return signer;
}

bool issuers_share_a_key(const struct issuers *a, const struct issuers *b)
{
    for (size_t i = 0; i < a->count; i++) {
        for (size_t k = 0; k < b->count; k++) {
            if (EVP_PKEY_eq(X509_get0_pubkey(a->certificates[i]), X509_get0_pubkey(b->certificates[k])) == 1) {
                return true;
            }
        }
    }
    return false;
}

void issuers_fingerprint(const X509 *certificate, char out[ISSUERS_FINGERPRINT_MAX + 1])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[ISSUERS_FINGERPRINT_MAX / 2];
    unsigned int length = 0;

    out[0] = '\0';
    if (X509_digest(certificate, EVP_sha256(), digest, &length) != 1 || length != sizeof digest) {
        return;
    }
    for (size_t i = 0; i < sizeof digest; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[ISSUERS_FINGERPRINT_MAX] = '\0';
}

const char *issuers_status_name(enum issuers_status status)
{
    switch (status) {
    case ISSUERS_OK:
        return "ok";
    case ISSUERS_UNREADABLE:
        return "no certificate could be read";
    case ISSUERS_NOT_A_CA:
        return "holds a certificate that is not a CA's";
    case ISSUERS_TOO_MANY:
        return "holds more certificates than the gate takes";
    }
    return "unknown status";
}
