/* What does the gate make of a certificate? The tests ask this program, with certificates that they make up.
 *
 *     identify FLEET.pem INFRA.pem TRUST-DOMAIN CONTROL-EKU NOW LEAF.der
 *
 * prints STATUS ROLE ID SERIAL NOT-AFTER.
 */
#include "identity.h"

#include "check.h"

#include <openssl/err.h>

static X509 *read_leaf(const char *path)
{
    BIO *file = BIO_new_file(path, "r");
    X509 *leaf = file != NULL ? d2i_X509_bio(file, NULL) : NULL;

    BIO_free(file);
    ERR_clear_error();
    return leaf;
}

int main(int argc, char **argv)
{
    struct guarded out = guarded_make(sizeof(struct identity));
    struct identity *identity = (struct identity *)(void *)out.middle;
    struct identity_rules rules = {0};
    ASN1_OBJECT *control_eku;
    X509 *leaf;

    CHECK(argc == 7);
    CHECK(issuers_load(argv[1], &rules.fleet) == ISSUERS_OK);
    CHECK(issuers_load(argv[2], &rules.infra) == ISSUERS_OK);
    control_eku = OBJ_txt2obj(argv[4], 1);
    rules.trust_domain = argv[3];
    rules.control_eku = control_eku;
    leaf = read_leaf(argv[6]);
    enum identity_status status = identity_read(leaf, &rules, (time_t)strtoll(argv[5], NULL, 10), identity);
    printf("%s %s %s %s %lld\n", identity_status_name(status), identity->role == POLICY_CONTROL ? "control" : "device",
           identity->id[0] != '\0' ? identity->id : "-", identity->serial[0] != '\0' ? identity->serial : "-",
           (long long)identity->not_after);
    CHECK(ERR_peek_error() == 0); /* nothing is left for the broker's next SSL call to stumble over */
    X509_free(leaf);
    ASN1_OBJECT_free(control_eku);
    issuers_release(&rules.fleet);
    issuers_release(&rules.infra);
    guarded_free(out);
    return 0;
}
