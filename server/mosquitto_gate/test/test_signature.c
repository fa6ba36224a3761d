#include "signature.h"

#include "signing.h"

#include <openssl/err.h>

#define BODY "birthmark-deny 2 7 100 200\nend 0\n"

static struct signing ca;
static struct signing signer;
static struct issuers infra;
static ASN1_OBJECT *purpose;

/* Verify a copy that lies between guards. */
static enum signature_status verify_bytes(const char *text, size_t length, size_t *body_length, struct signer *out)
{
    struct guarded copy = guarded_make(length);
    enum signature_status status;

    memcpy(copy.middle, text, length);
    status = signature_verify((const char *)copy.middle, length, &infra, purpose, body_length, out);
    guarded_free(copy);
    CHECK(ERR_peek_error() == 0); /* nothing is left for the broker's next SSL call to stumble over */
    return status;
}

static enum signature_status verify(const char *text)
{
    size_t body_length = 0;
    struct signer out;

    return verify_bytes(text, strlen(text), &body_length, &out);
}

static void a_signed_text_is_taken_and_its_signer_named(void)
{
    char *text = signing_sign(BODY, &signer);
    size_t body_length = 0;
    struct signer out;

    CHECK(verify_bytes(text, strlen(text), &body_length, &out) == SIGNATURE_OK);
    CHECK(body_length == strlen(BODY));
    CHECK_TEXT(out.serial, "1f2e");
    CHECK(out.not_before == 1000 && out.not_after == 2000);
    free(text);
}

static void no_byte_of_it_can_be_changed_or_left_out(void)
{
    char *text = signing_sign(BODY, &signer);
    size_t length = strlen(text);
    size_t body_length = 0;
    struct signer out;

    for (size_t i = 0; i < length; i++) {
        text[i] ^= 1;
        CHECK(verify_bytes(text, length, &body_length, &out) != SIGNATURE_OK);
        text[i] ^= 1;
    }
    for (size_t shorter = 0; shorter < length; shorter++) {
        CHECK(verify_bytes(text, shorter, &body_length, &out) != SIGNATURE_OK);
    }
    CHECK(body_length == 0); /* a text that is refused tells nothing */
    CHECK(verify_bytes(text, length, &body_length, &out) == SIGNATURE_OK);
    free(text);
}

static void refuse(const struct signing *by, enum signature_status wanted)
{
    char *text = signing_sign(BODY, by);

    CHECK(verify(text) == wanted);
    free(text);
}

static void only_our_own_signers_count(void)
{
    struct signing foreign_ca = signing_make(NULL, "P-256", 1, NULL, 0, 5000);
    struct signing foreign = signing_make(&foreign_ca, "P-256", 2, SIGNING_PURPOSE, 1000, 2000);
    struct signing control = signing_make(&ca, "P-256", 3, "clientAuth", 1000, 2000);
    struct signing bare = signing_make(&ca, "P-256", 4, NULL, 1000, 2000);
    struct signing other_curve = signing_make(&ca, "secp256k1", 5, SIGNING_PURPOSE, 1000, 2000);
    struct signing negative = signing_make(&ca, "P-256", -5, SIGNING_PURPOSE, 1000, 2000);

    refuse(&foreign, SIGNATURE_UNKNOWN_SIGNER);
    refuse(&control, SIGNATURE_NOT_A_SIGNER);
    refuse(&bare, SIGNATURE_NOT_A_SIGNER);
    refuse(&other_curve, SIGNATURE_BAD_SIGNER);
    refuse(&negative, SIGNATURE_BAD_SIGNER);
    refuse(&ca, SIGNATURE_NOT_A_SIGNER); /* the CA itself signs certificates, not lists */
    signing_free(foreign_ca);
    signing_free(foreign);
    signing_free(control);
    signing_free(bare);
    signing_free(other_curve);
    signing_free(negative);
}

static void a_certificate_without_its_key_signs_nothing(void)
{
    struct signing other = signing_make(&ca, "P-256", 6, SIGNING_PURPOSE, 1000, 2000);
    struct signing thief = {signer.certificate, other.key};

    refuse(&thief, SIGNATURE_WRONG);
    signing_free(other);
}

static void anything_else_at_the_end_is_no_signature(void)
{
    static const char *const others[] = {
        "",
        "\n",
        "signature AAAA\n",
        "signer AAAA\nsignature AAAA",
        "signer \nsignature \n",
        "signer AAA\nsignature AAAA\n",
        "signer AA=A\nsignature AAAA\n",
        "signer AAB=\nsignature AAAA\n",
        "signer AB==\nsignature AAAA\n",
        "signer ====\nsignature AAAA\n",
        "signer AAAA\nsignature  AAA\n",
        "signer AAAA\nsignature AAAA\n\n",
        "signature AAAA\nsigner AAAA\n",
        "signer AAAA\n\nsignature AAAA\n",
    };
    char *long_line = malloc(2 * SIGNATURE_CERTIFICATE_MAX + 64);

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        CHECK(verify(others[i]) == SIGNATURE_MISSING);
    }
    CHECK(verify("signer AAAA\nsignature AAAA\n") == SIGNATURE_BAD_SIGNER);
    CHECK(long_line != NULL);
    memcpy(long_line, "signer ", sizeof "signer ");
    memset(long_line + 7, 'A', 2 * SIGNATURE_CERTIFICATE_MAX - 2);
    memcpy(long_line + 5 + 2 * SIGNATURE_CERTIFICATE_MAX, "\nsignature AAAA\n", sizeof "\nsignature AAAA\n");
    CHECK(verify(long_line) == SIGNATURE_MISSING);
    free(long_line);
}

int main(void)
{
    ca = signing_make(NULL, "P-256", 1, NULL, 0, 5000);
    signer = signing_make(&ca, "P-256", 0x1f2e, SIGNING_PURPOSE, 1000, 2000);
    purpose = OBJ_txt2obj(SIGNING_PURPOSE, 1);
    infra = (struct issuers){{ca.certificate}, 1};
    RUN(a_signed_text_is_taken_and_its_signer_named);
    RUN(no_byte_of_it_can_be_changed_or_left_out);
    RUN(only_our_own_signers_count);
    RUN(a_certificate_without_its_key_signs_nothing);
    RUN(anything_else_at_the_end_is_no_signature);
    signing_free(signer);
    signing_free(ca);
    ASN1_OBJECT_free(purpose);
    return 0;
}
