/* An Infra CA and signers of its own, made up for one run of a test. */
#ifndef BIRTHMARK_GATE_SIGNING_H
#define BIRTHMARK_GATE_SIGNING_H

#include "check.h"
#include "issuers.h"

#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdint.h>

#define SIGNING_PURPOSE "1.3.6.1.4.1.99999.7"

/* A certificate and its key. */
struct signing {
    X509 *certificate;
    EVP_PKEY *key;
};

static inline void signing_extend(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    CHECK(extension != NULL && X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

/* Make a CA (issuer NULL), or a signer of serial number `serial` with the extended key usage `purpose`. */
static inline struct signing signing_make(const struct signing *issuer, const char *curve, long serial,
                                          const char *purpose, time_t not_before, time_t not_after)
{
    struct signing made = {X509_new(), EVP_EC_gen(curve)};
    X509_NAME *name;

    CHECK(made.certificate != NULL && made.key != NULL);
    name = X509_get_subject_name(made.certificate);
    CHECK(X509_set_version(made.certificate, 2) == 1);
    CHECK(ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), serial) == 1);
    CHECK(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                     (const unsigned char *)(issuer != NULL ? "srv-deny-list" : "Infra CA"), -1, -1,
                                     0) == 1);
    CHECK(X509_set_issuer_name(made.certificate,
                               issuer != NULL ? X509_get_subject_name(issuer->certificate) : name) == 1);
    CHECK(ASN1_TIME_set(X509_getm_notBefore(made.certificate), not_before) != NULL);
    CHECK(ASN1_TIME_set(X509_getm_notAfter(made.certificate), not_after) != NULL);
    CHECK(X509_set_pubkey(made.certificate, made.key) == 1);
    signing_extend(made.certificate, NID_basic_constraints, issuer != NULL ? "critical,CA:FALSE" : "critical,CA:TRUE");
    signing_extend(made.certificate, NID_key_usage, issuer != NULL ? "critical,digitalSignature" : "critical,keyCertSign");
    if (purpose != NULL) {
        signing_extend(made.certificate, NID_ext_key_usage, purpose);
    }
    CHECK(X509_sign(made.certificate, issuer != NULL ? issuer->key : made.key, EVP_sha256()) > 0);
    return made;
}

static inline void signing_free(struct signing made)
{
    X509_free(made.certificate);
    EVP_PKEY_free(made.key);
}

/* Append "NAME BASE64" to `text`, a buffer that is long enough. */
static inline void signing_append(char *text, const char *name, const unsigned char *octets, size_t length)
{
    size_t at = strlen(text);

    at += (size_t)sprintf(text + at, "%s ", name);
    at += (size_t)EVP_EncodeBlock((unsigned char *)text + at, octets, (int)length);
    memcpy(text + at, "\n", sizeof "\n");
}

/* Return `body` with the signer's two lines behind it; to be freed. */
static inline char *signing_sign(const char *body, const struct signing *signer)
{
    char *text = malloc(strlen(body) + 8192);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    unsigned char signature[128];
    size_t length = sizeof signature;
    unsigned char *der = NULL;
    int der_length = i2d_X509(signer->certificate, &der);

    CHECK(text != NULL && context != NULL && der_length > 0);
    memcpy(text, body, strlen(body) + 1);
    signing_append(text, "signer", der, (size_t)der_length);
    CHECK(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, signer->key) == 1);
    CHECK(EVP_DigestSign(context, signature, &length, (const unsigned char *)text, strlen(text)) == 1);
    signing_append(text, "signature", signature, length);
    EVP_MD_CTX_free(context);
    OPENSSL_free(der);
    return text;
}

#endif
