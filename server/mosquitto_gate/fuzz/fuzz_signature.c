/* Nobody forges: bytes are taken if we signed them, and no other bytes ever are. The keys are new in each run, so that
 * no corpus can hold a signature. */
#include "signature.h"

#include "../test/signing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct signing ca;
static struct signing signer;
static struct issuers infra;
static ASN1_OBJECT *purpose;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    ca = signing_make(NULL, "P-256", 1, NULL, 0, 5000);
    signer = signing_make(&ca, "P-256", 2, SIGNING_PURPOSE, 1000, 2000);
    purpose = OBJ_txt2obj(SIGNING_PURPOSE, 1);
    infra = (struct issuers){{ca.certificate}, 1};
    return 0;
}

static enum signature_status verify(const char *text, size_t length, size_t *body_length)
{
    char *copy = malloc(length > 0 ? length : 1); /* exactly as long, so that one byte more is noticed */
    enum signature_status status;
    struct signer out;

    CHECK(copy != NULL);
    memcpy(copy, text, length);
    status = signature_verify(copy, length, &infra, purpose, body_length, &out);
    free(copy);
    return status;
}

/* What comes in is a body that we sign: its signature is good, and not for a single bit flipped. */
static void sign_and_spoil(const uint8_t *data, size_t size)
{
    size_t at = size > 2 ? (size_t)data[0] << 8 | data[1] : 0;
    char *body = calloc(1, size + 1);
    size_t body_length = 0;
    size_t length;
    char *text;

    CHECK(body != NULL);
    memcpy(body, data, size);
    length = strlen(body);
    if (length > 0) {
        body[length - 1] = '\n';
    }
    text = signing_sign(body, &signer);
    CHECK(verify(text, strlen(text), &body_length) == SIGNATURE_OK && body_length == length);
    at %= strlen(text);
    text[at] ^= 1;
    CHECK(verify(text, strlen(text), &body_length) != SIGNATURE_OK);
    free(text);
    free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t body_length = 0;

    if (size > 0 && data[0] == 's') {
        sign_and_spoil(data + 1, size - 1);
    } else if (verify((const char *)data, size, &body_length) == SIGNATURE_OK) {
        abort();
    }
    return 0;
}
