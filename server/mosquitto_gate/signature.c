#include "signature.h"

#include "certificate.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <string.h>

#define SIGNER "signer "
#define SIGNATURE "signature "
#define BASE64_LENGTH(octets) ((octets) / 3U * 4U)

/* The value of a line "NAME VALUE", and where the line begins. */
struct line {
    size_t begins;
    const char *value;
    size_t value_length;
};

/* Find the last line of `text`, which must be complete and begin with `name`. */
static bool last_line(const char *text, size_t length, const char *name, struct line *out)
{
    size_t name_length = strlen(name);
    const char *before;
    size_t begins;

    if (length == 0 || text[length - 1] != '\n') {
        return false;
    }
    before = memrchr(text, '\n', length - 1);
    begins = before != NULL ? (size_t)(before - text) + 1 : 0;
    if (length - 1 - begins < name_length || memcmp(text + begins, name, name_length) != 0) {
        return false;
    }
    *out = (struct line){begins, text + begins + name_length, length - 1 - begins - name_length};
    return true;
}

static bool is_base64(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        bool padding = c == '=' && (i + 1 == length || (i + 2 == length && text[i + 1] == '='));

        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/' ||
              padding)) {
            return false;
        }
    }
    return length > 0 && length % 4 == 0;
}

/* Decode a value into `out` of `capacity` octets, a multiple of 3 and at most SIGNATURE_CERTIFICATE_MAX; return how many it has, 0 where it is none. */
static size_t decode(const struct line *line, unsigned char *out, size_t capacity)
{
    unsigned char again[BASE64_LENGTH(SIGNATURE_CERTIFICATE_MAX) + 1];
    size_t length = line->value_length;
    size_t octets;
    int decoded;

    if (length > BASE64_LENGTH(capacity) || !is_base64(line->value, length)) {
        return 0;
    }
    decoded = EVP_DecodeBlock(out, (const unsigned char *)line->value, (int)length);
    if (decoded < 3) {
        return 0;
    }
    /* It counts the padding as octets, and lets the bits that padding leaves over be anything. */
    octets = (size_t)decoded - (line->value[length - 1] == '=') - (line->value[length - 2] == '=');
    if (EVP_EncodeBlock(again, out, (int)octets) != (int)length || memcmp(again, line->value, length) != 0) {
        return 0;
    }
    return octets;
}

static bool has_p256_key(const X509 *certificate)
{
    const EVP_PKEY *key = X509_get0_pubkey(certificate);
    char group[32];

    return key != NULL && EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1 &&
           strcmp(group, "prime256v1") == 0;
}

static enum signature_status judge_signer(X509 *certificate, const struct issuers *infra, const ASN1_OBJECT *purpose,
                                          struct signer *out)
{
    if (!certificate_serial(certificate, out->serial) ||
        !certificate_time(X509_get0_notBefore(certificate), &out->not_before) ||
        !certificate_time(X509_get0_notAfter(certificate), &out->not_after) || !has_p256_key(certificate)) {
        return SIGNATURE_BAD_SIGNER;
    }
    if (issuers_signer(infra, certificate) == NULL) {
        return SIGNATURE_UNKNOWN_SIGNER;
    }
    return certificate_has_purpose(certificate, purpose) ? SIGNATURE_OK : SIGNATURE_NOT_A_SIGNER;
}

static bool is_signed_by(X509 *certificate, const char *text, size_t length, const unsigned char *signature,
                         size_t signature_length)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool verified =
        context != NULL &&
        EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, X509_get0_pubkey(certificate)) == 1 &&
        EVP_DigestVerify(context, signature, signature_length, (const unsigned char *)text, length) == 1;

    EVP_MD_CTX_free(context);
    return verified;
}

static X509 *read_certificate(const unsigned char *der, size_t length)
{
    const unsigned char *at = der;
    X509 *certificate = d2i_X509(NULL, &at, (long)length);

    if (certificate != NULL && at != der + length) {
        X509_free(certificate);
        return NULL;
    }
    return certificate;
}

enum signature_status signature_verify(const char *text, size_t length, const struct issuers *infra,
                                       const ASN1_OBJECT *purpose, size_t *body_length, struct signer *out)
{
    unsigned char der[SIGNATURE_CERTIFICATE_MAX];
    unsigned char octets[SIGNATURE_OCTETS_MAX];
    enum signature_status status = SIGNATURE_BAD_SIGNER;
    struct signer signer = {0};
    struct line signature;
    struct line named;
    size_t octets_length;
    size_t der_length;
    X509 *certificate;

    if (!last_line(text, length, SIGNATURE, &signature) || !last_line(text, signature.begins, SIGNER, &named)) {
        return SIGNATURE_MISSING;
    }
    octets_length = decode(&signature, octets, sizeof octets);
    der_length = decode(&named, der, sizeof der);
    if (octets_length == 0 || der_length == 0) {
        return SIGNATURE_MISSING;
    }
    certificate = read_certificate(der, der_length);
    if (certificate != NULL) {
        status = judge_signer(certificate, infra, purpose, &signer);
        if (status == SIGNATURE_OK && !is_signed_by(certificate, text, signature.begins, octets, octets_length)) {
            status = SIGNATURE_WRONG;
        }
        X509_free(certificate);
    }
    ERR_clear_error();
    if (status == SIGNATURE_OK) {
        *body_length = named.begins;
        *out = signer;
    }
    return status;
}

const char *signature_status_name(enum signature_status status)
{
    switch (status) {
    case SIGNATURE_OK:
        return "ok";
    case SIGNATURE_MISSING:
        return "does not end with 'signer BASE64' and 'signature BASE64'";
    case SIGNATURE_BAD_SIGNER:
        return "has a signer that is no certificate with a P-256 key";
    case SIGNATURE_UNKNOWN_SIGNER:
        return "has a signer that no Infra CA certified";
    case SIGNATURE_NOT_A_SIGNER:
        return "has a signer without the key purpose of one";
    case SIGNATURE_WRONG:
        return "has a signature that does not fit: it was changed";
    }
    return "unknown status";
}
