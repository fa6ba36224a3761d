#include "enroll_group.h"

#include "members.h"

#include <string.h>

static const struct smp_result ok = {0, SMP_RC_OK};
static const struct smp_result invalid = {0, SMP_RC_INVALID};
static const struct smp_result full = {0, SMP_RC_TOO_LARGE};

/* TPM 2.0 Library Part 2 §6.5.2 (TPM_CC): what birthmark-agent and libtss2 say while a device is enrolled. */
static const uint32_t allowed[] = {
    0x120, /* EvictControl: an AK that an older agent left */
    0x122, /* NV_UndefineSpace, of our own index */
    0x12a, /* NV_DefineSpace */
    0x131, /* CreatePrimary */
    0x137, /* NV_Write */
    0x143, /* SelfTest */
    0x144, /* Startup */
    0x147, /* ActivateCredential */
    0x148, /* Certify */
    0x14e, /* NV_Read */
    0x151, /* PolicySecret */
    0x153, /* Create */
    0x157, /* Load */
    0x158, /* Quote */
    0x15d, /* Sign */
    0x161, /* ContextLoad */
    0x162, /* ContextSave */
    0x165, /* FlushContext */
    0x169, /* NV_ReadPublic */
    0x171, /* PolicyOR */
    0x173, /* ReadPublic */
    0x176, /* StartAuthSession */
    0x17a, /* GetCapability */
    0x17b, /* GetRandom */
    0x17e, /* PCR_Read */
    0x189, /* PolicyGetDigest: for an EK of the high range */
};

static struct smp_result refuse(enum enroll_group_rc rc)
{
    return (struct smp_result){ENROLL_GROUP_ID, (uint16_t)rc};
}

static bool is_allowed(uint32_t code)
{
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++) {
        if (allowed[i] == code) {
            return true;
        }
    }
    return false;
}

/* The end of the string that begins after the quote at `at`: where its closing quote is, or length. */
static size_t string_end(const uint8_t *text, size_t length, size_t at)
{
    while (at < length && text[at] != '"') {
        at += text[at] == '\\' ? 2U : 1U;
    }
    return at < length ? at : length;
}

static size_t skip_space(const uint8_t *text, size_t length, size_t at)
{
    while (at < length && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r')) {
        at++;
    }
    return at;
}

static bool copy_serial(const uint8_t *text, size_t length, size_t at, char serial[ENROLL_SERIAL_MAX + 1])
{
    if (at >= length || text[at] != '"') {
        return false;
    }
    const size_t begin = at + 1, end = string_end(text, length, begin);

    if (end == length || end == begin || end - begin > ENROLL_SERIAL_MAX) {
        return false;
    }
    for (size_t i = begin; i < end; i++) {
        if (text[i] <= ' ' || text[i] > '~' || text[i] == '\\') {
            return false;
        }
    }
    memcpy(serial, text + begin, end - begin);
    serial[end - begin] = '\0';
    return true;
}

bool enroll_record_serial(const uint8_t *record, size_t length, char serial[ENROLL_SERIAL_MAX + 1])
{
    static const char name[] = "serial";
    unsigned depth = 0;

    serial[0] = '\0';
    for (size_t at = 0; at < length; at++) {
        if (record[at] == '{' || record[at] == '[') {
            depth++;
        } else if (record[at] == '}' || record[at] == ']') {
            depth -= depth > 0 ? 1U : 0U;
        } else if (record[at] == '"') {
            const size_t begin = at + 1, end = string_end(record, length, begin);
            const size_t colon = skip_space(record, length, end + 1);

            if (depth == 1 && end - begin == sizeof name - 1 && memcmp(record + begin, name, sizeof name - 1) == 0 &&
                colon < length && record[colon] == ':') {
                return copy_serial(record, length, skip_space(record, length, colon + 1), serial);
            }
            at = end;
        }
    }
    return false;
}

static bool put_text(zcbor_state_t *answer, const char *name, const char *value)
{
    return zcbor_tstr_put_term(answer, name, 16) && zcbor_tstr_put_term(answer, value, 128);
}

static struct smp_result identify(void *context, const uint8_t *body, size_t length, zcbor_state_t *answer)
{
    const struct enroll_group *group = context;
    char serial[ENROLL_SERIAL_MAX + 1];
    struct image image;
    const enum image_status checked = slots_check(group->slots, group->slots->running, &image);
    const char *signature = checked == IMAGE_OK ? "ok" : checked == IMAGE_NONE || checked == IMAGE_NOT_SIGNED ? "none" : "bad";

    (void)body;
    (void)length;
    (void)enroll_record_serial(group->settings->record, group->settings->record_length, serial);
    return put_text(answer, "serial", serial) && put_text(answer, "fw", group->version) &&
                   zcbor_tstr_put_lit(answer, "slot") && zcbor_uint32_put(answer, group->slots->running) &&
                   put_text(answer, "sig", signature) &&
                   put_text(answer, "mode", group->settings->locked ? "locked" : "factory") &&
                   put_text(answer, "mac", group->mac)
               ? ok
               : full;
}

static struct smp_result tpm(void *context, const uint8_t *body, size_t length, zcbor_state_t *answer)
{
    struct enroll_group *group = context;
    struct member command = {.name = "c", .kind = MEMBER_OCTETS};
    size_t response_length = 0;

    if (group->settings->locked) {
        return refuse(ENROLL_LOCKED);
    }
    if (!members_read(body, length, &command, 1) || !command.seen || command.length > TPM_COMMAND_MAX) {
        return invalid;
    }
    if (command.length < TPM_HEADER_BYTES || tpm_size(command.bytes) != command.length) {
        return invalid;
    }
    if (!is_allowed(tpm_code(command.bytes))) {
        return refuse(ENROLL_NOT_ALLOWED);
    }
    if (group->tpm.transact(group->tpm.context, command.bytes, command.length, group->response,
                            sizeof group->response, &response_length) != TPM_OK) {
        return refuse(ENROLL_NO_TPM);
    }
    return zcbor_tstr_put_lit(answer, "r") &&
                   zcbor_bstr_encode_ptr(answer, (const char *)group->response, response_length)
               ? ok
               : full;
}

static struct smp_result from_settings(enum settings_status status)
{
    switch (status) {
    case SETTINGS_OK:
        return ok;
    case SETTINGS_LOCKED:
        return refuse(ENROLL_LOCKED);
    case SETTINGS_TOO_LARGE:
        return refuse(ENROLL_BAD_RECORD);
    case SETTINGS_FLASH_FAILED:
    default:
        return refuse(ENROLL_NOT_KEPT);
    }
}

static struct smp_result provision(void *context, const uint8_t *body, size_t length, zcbor_state_t *answer)
{
    struct enroll_group *group = context;
    struct member record = {.name = "record", .kind = MEMBER_OCTETS};
    char serial[ENROLL_SERIAL_MAX + 1];

    (void)answer;
    if (group->settings->locked) {
        return refuse(ENROLL_LOCKED);
    }
    if (!members_read(body, length, &record, 1) || !record.seen) {
        return invalid;
    }
    if (!enroll_record_serial(record.bytes, record.length, serial)) {
        return refuse(ENROLL_BAD_RECORD);
    }
    return from_settings(settings_keep(group->settings, record.bytes, record.length));
}

static struct smp_result record(void *context, const uint8_t *body, size_t length, zcbor_state_t *answer)
{
    const struct enroll_group *group = context;

    (void)body;
    (void)length;
    if (group->settings->locked) {
        return refuse(ENROLL_LOCKED);
    }
    return zcbor_tstr_put_lit(answer, "record") &&
                   zcbor_bstr_encode_ptr(answer, (const char *)group->settings->record,
                                         group->settings->record_length)
               ? ok
               : full;
}

static struct smp_result lock(void *context, const uint8_t *body, size_t length, zcbor_state_t *answer)
{
    struct enroll_group *group = context;

    (void)body;
    (void)length;
    (void)answer;
    return from_settings(settings_lock(group->settings));
}

struct smp_group enroll_group(struct enroll_group *group, struct settings *settings, const struct slots *slots,
                              struct tpm attached, const char *version, const char *mac)
{
    static const struct smp_command commands[] = {
        {SMP_OP_READ, 0, identify},
        {SMP_OP_WRITE, 1, tpm},
        {SMP_OP_WRITE, 2, provision},
        {SMP_OP_READ, 3, record},
        {SMP_OP_WRITE, 4, lock},
    };

    *group = (struct enroll_group){
        .settings = settings, .slots = slots, .tpm = attached, .version = version, .mac = mac};
    return (struct smp_group){ENROLL_GROUP_ID, group, commands, sizeof commands / sizeof commands[0]};
}
