#include "issuerfiles.h"

#include "answer.h"
#include "signing.h"

#include <openssl/pem.h>
#include <unistd.h>

static char folder[] = "/tmp/birthmark-issuerfiles-XXXXXX";
static char fleet_path[128];
static char infra_path[128];
static struct signing fleet_ca;
static struct signing other_ca;
static struct signing infra_ca;

/* Put a file in place as a writer does that never leaves half of one: under another name, then renamed. */
static void install(const char *path, const char *text, const X509 *const *certificates, size_t count)
{
    char next[160];
    FILE *file;

    snprintf(next, sizeof next, "%s.new", path);
    file = fopen(next, "w");
    CHECK(file != NULL && fputs(text, file) >= 0);
    for (size_t i = 0; i < count; i++) {
        CHECK(PEM_write_X509(file, certificates[i]) == 1);
    }
    CHECK(fclose(file) == 0 && rename(next, path) == 0);
}

static void install_one(const char *path, const struct signing *ca)
{
    const X509 *const certificates[] = {ca->certificate};

    install(path, "", certificates, 1);
}

struct scene {
    struct issuers fleet;
    struct issuers infra;
    struct issuerfiles files;
};

static void begin(struct scene *scene)
{
    enum issuers_status why;

    memset(scene, 0, sizeof *scene);
    scene->files.fleet_path = fleet_path;
    scene->files.infra_path = infra_path;
    scene->files.fleet = &scene->fleet;
    scene->files.infra = &scene->infra;
    install_one(fleet_path, &fleet_ca);
    install_one(infra_path, &infra_ca);
    CHECK(issuerfiles_changed(&scene->files));
    CHECK(issuerfiles_load(&scene->files, &why) == ISSUERFILES_OK);
    CHECK(!issuerfiles_changed(&scene->files) && !scene->files.stale);
}

static void end(struct scene *scene)
{
    issuers_release(&scene->fleet);
    issuers_release(&scene->infra);
}

static void a_file_that_is_replaced_is_seen_once_and_put_in_force(void)
{
    const X509 *const both[] = {fleet_ca.certificate, other_ca.certificate};
    enum issuers_status why;
    struct scene scene;

    begin(&scene);
    install(fleet_path, "", both, 2);
    CHECK(issuerfiles_changed(&scene.files));
    CHECK(issuerfiles_load(&scene.files, &why) == ISSUERFILES_OK);
    CHECK(!issuerfiles_changed(&scene.files));
    CHECK(scene.fleet.count == 2 && scene.infra.count == 1);
    end(&scene);
}

static void keep(struct scene *scene, enum issuerfiles_status wanted, enum issuers_status wanted_why)
{
    enum issuers_status why = ISSUERS_OK;

    CHECK(issuerfiles_changed(&scene->files));
    CHECK(issuerfiles_load(&scene->files, &why) == wanted && why == wanted_why);
    CHECK(scene->files.stale && !issuerfiles_changed(&scene->files)); /* one complaint for each change */
    CHECK(scene->fleet.count == 1 && X509_cmp(scene->fleet.certificates[0], fleet_ca.certificate) == 0);
    CHECK(scene->infra.count == 1 && X509_cmp(scene->infra.certificates[0], infra_ca.certificate) == 0);
}

static void what_cannot_stand_leaves_both_in_force(void)
{
    const X509 *const one[] = {other_ca.certificate};
    enum issuers_status why;
    struct scene scene;

    begin(&scene);
    install_one(fleet_path, &other_ca); /* sound, but never alone */
    install(infra_path, "garbage", NULL, 0);
    keep(&scene, ISSUERFILES_INFRA, ISSUERS_UNREADABLE);
    install(fleet_path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", one, 1);
    keep(&scene, ISSUERFILES_FLEET, ISSUERS_UNREADABLE);
    CHECK(unlink(fleet_path) == 0);
    keep(&scene, ISSUERFILES_FLEET, ISSUERS_UNREADABLE);
    install_one(fleet_path, &infra_ca);
    install_one(infra_path, &infra_ca);
    keep(&scene, ISSUERFILES_SHARED, ISSUERS_OK);
    install_one(fleet_path, &other_ca);
    CHECK(issuerfiles_changed(&scene.files));
    CHECK(issuerfiles_load(&scene.files, &why) == ISSUERFILES_OK && !scene.files.stale);
    CHECK(X509_cmp(scene.fleet.certificates[0], other_ca.certificate) == 0);
    end(&scene);
}

static void a_leaf_and_too_many_are_refused(void)
{
    const X509 *many[ISSUERS_MAX + 1];
    struct signing leaf = signing_make(&infra_ca, "P-256", 9, NULL, 1000, 2000);
    struct scene scene;

    for (size_t i = 0; i <= ISSUERS_MAX; i++) {
        many[i] = other_ca.certificate;
    }
    begin(&scene);
    install_one(fleet_path, &leaf);
    keep(&scene, ISSUERFILES_FLEET, ISSUERS_NOT_A_CA);
    install(fleet_path, "", many, ISSUERS_MAX + 1);
    keep(&scene, ISSUERFILES_FLEET, ISSUERS_TOO_MANY);
    end(&scene);
    signing_free(leaf);
}

static void all_fingerprints_fit_into_one_answer(void)
{
    struct guarded out = guarded_make(ANSWER_MAX);
    struct issuers full = {.count = ISSUERS_MAX};
    char fingerprint[ISSUERS_FINGERPRINT_MAX + 1];
    struct text text;

    for (size_t i = 0; i < ISSUERS_MAX; i++) {
        full.certificates[i] = fleet_ca.certificate;
    }
    text_begin(&text, (char *)out.middle, out.size);
    answer_issuers(&text, "12345678901234567890123456789012", &full, &full, true);
    CHECK(!text.overflow);
    issuers_fingerprint(fleet_ca.certificate, fingerprint);
    CHECK(strlen(fingerprint) == ISSUERS_FINGERPRINT_MAX);
    CHECK(strspn(fingerprint, "0123456789abcdef") == ISSUERS_FINGERPRINT_MAX);
    CHECK(strstr(text.buffer, fingerprint) != NULL);
    guarded_free(out);
}

int main(void)
{
    CHECK(mkdtemp(folder) != NULL);
    snprintf(fleet_path, sizeof fleet_path, "%s/fleet-ca.pem", folder);
    snprintf(infra_path, sizeof infra_path, "%s/infra-ca.pem", folder);
    fleet_ca = signing_make(NULL, "P-256", 1, NULL, 1000, 2000);
    other_ca = signing_make(NULL, "P-256", 2, NULL, 1000, 2000);
    infra_ca = signing_make(NULL, "P-256", 3, NULL, 1000, 2000);
    RUN(a_file_that_is_replaced_is_seen_once_and_put_in_force);
    RUN(what_cannot_stand_leaves_both_in_force);
    RUN(a_leaf_and_too_many_are_refused);
    RUN(all_fingerprints_fit_into_one_answer);
    signing_free(fleet_ca);
    signing_free(other_ca);
    signing_free(infra_ca);
    CHECK(unlink(fleet_path) == 0 && unlink(infra_path) == 0 && rmdir(folder) == 0);
    return 0;
}
