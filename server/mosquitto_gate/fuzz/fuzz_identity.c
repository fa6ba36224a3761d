/* Any certificate has an identity or is refused; every string that comes out is of its alphabet and ended.
 *
 * No input can guess a signature, so names are read behind one that is made here: the first byte chooses whether one of
 * our CAs signs the input anew, and which.
 */
#include "identity.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct identity_rules rules;
static EVP_PKEY *keys[2];

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static X509 *make_ca(EVP_PKEY *key, const char *name)
{
    X509 *ca = X509_new();
    X509_EXTENSION *basic = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");

    require(ca != NULL && basic != NULL && X509_set_version(ca, X509_VERSION_3) == 1);
    require(X509_NAME_add_entry_by_txt(X509_get_subject_name(ca), "CN", MBSTRING_ASC, (const unsigned char *)name, -1,
                                       -1, 0) == 1);
    require(X509_set_issuer_name(ca, X509_get_subject_name(ca)) == 1);
    require(X509_gmtime_adj(X509_getm_notBefore(ca), -3600) != NULL);
    require(X509_gmtime_adj(X509_getm_notAfter(ca), 86400L * 3650) != NULL);
    require(X509_set_pubkey(ca, key) == 1 && X509_add_ext(ca, basic, -1) == 1);
    require(X509_sign(ca, key, EVP_sha256()) > 0);
    X509_EXTENSION_free(basic);
    return ca;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    keys[0] = EVP_EC_gen("P-256");
    keys[1] = EVP_EC_gen("P-256");
    rules.fleet.certificates[0] = make_ca(keys[0], "Fuzz Fleet CA");
    rules.infra.certificates[0] = make_ca(keys[1], "Fuzz Infra CA");
    rules.fleet.count = 1;
    rules.infra.count = 1;
    rules.trust_domain = "fleet.test";
    rules.control_eku = OBJ_txt2obj("1.2.3.4", 1);
    return 0;
}

/* Sign the certificate as one of our CAs would have. */
static void sign(X509 *certificate, size_t which)
{
    const struct issuers *issuers = which == 0 ? &rules.fleet : &rules.infra;
    int index;

    (void)X509_set_issuer_name(certificate, X509_get_subject_name(issuers->certificates[0]));
    while ((index = X509_get_ext_by_NID(certificate, NID_authority_key_identifier, -1)) >= 0) {
        X509_EXTENSION_free(X509_delete_ext(certificate, index));
    }
    (void)X509_sign(certificate, keys[which], EVP_sha256());
}

static void check(const struct identity *identity, enum identity_status status)
{
    size_t serial = strnlen(identity->serial, sizeof identity->serial);
    size_t id = strnlen(identity->id, sizeof identity->id);

    require(serial < sizeof identity->serial && strspn(identity->serial, "0123456789abcdef") == serial);
    require(id < sizeof identity->id && text_id_span(identity->id, id) == id);
    if (status == IDENTITY_OK) {
        require(serial > 0 && id > 0);
        require((strncmp(identity->id, "srv-", 4) == 0) == (identity->role == POLICY_CONTROL));
    }
    require(ERR_peek_error() == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const unsigned char *der = data + 1;
    struct identity identity;
    X509 *certificate;

    if (size < 2) {
        return 0;
    }
    certificate = d2i_X509(NULL, &der, (long)(size - 1));
    if (certificate != NULL && data[0] % 3 != 0) {
        /* Signing encodes the certificate anew, and reading caches its extensions: so each gets a copy of its own. */
        sign(certificate, data[0] % 3 - 1);
    }
    ERR_clear_error();
    check(&identity, identity_read(certificate, &rules, (time_t)1800000000, &identity));
    X509_free(certificate);
    return 0;
}
