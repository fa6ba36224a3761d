#include "issuerfiles.h"

#include <string.h>

static void look(const char *path, struct stat *out)
{
    if (stat(path, out) != 0) {
        memset(out, 0, sizeof *out);
    }
}

static bool differs(const char *path, const struct stat *seen)
{
    struct stat now;

    look(path, &now);
    return now.st_dev != seen->st_dev || now.st_ino != seen->st_ino || now.st_size != seen->st_size ||
           now.st_ctim.tv_sec != seen->st_ctim.tv_sec || now.st_ctim.tv_nsec != seen->st_ctim.tv_nsec;
}

static enum issuerfiles_status read_both(const struct issuerfiles *files, struct issuers *fleet, struct issuers *infra,
                                         enum issuers_status *why)
{
    *why = issuers_load(files->fleet_path, fleet);
    if (*why != ISSUERS_OK) {
        return ISSUERFILES_FLEET;
    }
    *why = issuers_load(files->infra_path, infra);
    if (*why != ISSUERS_OK) {
        return ISSUERFILES_INFRA;
    }
    return issuers_share_a_key(fleet, infra) ? ISSUERFILES_SHARED : ISSUERFILES_OK;
}

enum issuerfiles_status issuerfiles_load(struct issuerfiles *files, enum issuers_status *why)
{
    struct issuers fleet = {0};
    struct issuers infra = {0};
    enum issuerfiles_status status;

    /* Looked at before it is read: what is replaced meanwhile is read again at the next look. */
    look(files->fleet_path, &files->fleet_seen);
    look(files->infra_path, &files->infra_seen);
    status = read_both(files, &fleet, &infra, why);
    files->stale = status != ISSUERFILES_OK;
    if (files->stale) {
        issuers_release(&fleet);
        issuers_release(&infra);
        return status;
    }
    issuers_release(files->fleet);
    issuers_release(files->infra);
    *files->fleet = fleet;
    *files->infra = infra;
    return ISSUERFILES_OK;
}

bool issuerfiles_changed(const struct issuerfiles *files)
{
    return differs(files->fleet_path, &files->fleet_seen) || differs(files->infra_path, &files->infra_seen);
}
