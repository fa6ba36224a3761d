#include "check.h"
#include "device.h"

static struct device device;
static uint8_t answer[SMP_PACKET_MAX];
static size_t answered;

/* Ask with SMP version 2. body: CBOR, as bytes of a literal. */
static void ask(uint8_t op, uint8_t group, uint8_t command, const void *body, size_t length)
{
    struct guarded request = guarded_make(SMP_HEADER_BYTES + length);
    const uint8_t header[SMP_HEADER_BYTES] = {(uint8_t)(op | 8U), 0, (uint8_t)(length >> 8), (uint8_t)length, 0, group, 42, command};

    memcpy(request.middle, header, sizeof header);
    memcpy(request.middle + sizeof header, body, length);
    answered = smp_answer(device.server.groups, SERVER_GROUPS, request.middle, request.size, answer, sizeof answer);
    guarded_free(request);
    if (answered > 0) {
        CHECK(answered >= SMP_HEADER_BYTES && answer[0] == ((op + 1U) | 8U) && answer[6] == 42 && answer[7] == command);
        CHECK(((size_t)answer[2] << 8 | answer[3]) == answered - SMP_HEADER_BYTES);
    }
}

static bool says(const void *body, size_t length)
{
    return answered == SMP_HEADER_BYTES + length && memcmp(answer + SMP_HEADER_BYTES, body, length) == 0;
}

#define ASK(op, group, command, body) ask(op, group, command, body, sizeof body - 1)
/* zcbor's maps are of indefinite length: bf ... ff. */
#define SAYS(body) says("\xbf" body "\xff", sizeof body + 1)
#define SAYS_RC(rc) SAYS("\x62rc" rc)
#define SAYS_ERR(group, rc) SAYS("\x63" "err\xbf\x65group" group "\x62rc" rc "\xff")
#define READ SMP_OP_READ
#define WRITE SMP_OP_WRITE

static void an_echo_comes_back(void)
{
    device_begin(&device);
    ASK(WRITE, 0, 0, "\xa1\x61" "d\x65hello");
    CHECK(SAYS("\x61r\x65hello"));
}

static void what_is_no_request_gets_no_answer(void)
{
    device_begin(&device);
    answered = smp_answer(device.server.groups, SERVER_GROUPS, (const uint8_t *)"\x02\0\0\0\0\0\0", 7, answer, sizeof answer);
    CHECK(answered == 0);
    ASK(1, 0, 0, "\xa0"); /* an answer */
    CHECK(answered == 0);
    answered = smp_answer(device.server.groups, SERVER_GROUPS, (const uint8_t *)"\x02\0\0\x05\0\0\0\0\xa0", 9, answer, sizeof answer);
    CHECK(answered == 0);
}

static void what_is_not_known_is_not_supported(void)
{
    device_begin(&device);
    ASK(READ, 9, 0, "\xa0");
    CHECK(SAYS_RC("\x08"));
    ASK(READ, 64, 1, "\xa0"); /* tpm is a write */
    CHECK(SAYS_RC("\x08"));
}

static void a_map_that_is_none_is_invalid(void)
{
    device_begin(&device);
    ASK(WRITE, 0, 0, "");
    CHECK(SAYS_RC("\x03"));
    ASK(WRITE, 0, 0, "\xa1\x61" "d\x01"); /* a number for text */
    CHECK(SAYS_RC("\x03"));
    ASK(WRITE, 0, 0, "\xa2\x61" "d\x61x\x61" "d\x61y"); /* twice */
    CHECK(SAYS_RC("\x03"));
    ASK(WRITE, 0, 0, "\xa1\x61" "d\x61x\x00"); /* and more behind it */
    CHECK(SAYS_RC("\x03"));
    ASK(WRITE, 0, 0, "\xa2\x61" "d\x61x\x61z\x81\x81\x00"); /* a list nobody asked for */
    CHECK(SAYS_RC("\x03"));
    ASK(WRITE, 0, 0, "\xa2\x61" "d\x61x\x61z\xf6"); /* a plain value nobody asked for */
    CHECK(SAYS("\x61r\x61x"));
}

static void the_parameters_tell_how_large_a_packet_may_be(void)
{
    device_begin(&device);
    ASK(READ, 0, 6, "\xa0");
    CHECK(SAYS("\x68" "buf_size\x19\x12\x00\x69" "buf_count\x01"));
}

static void a_tpm_command_that_is_not_on_the_list_never_reaches_it(void)
{
    device_begin(&device);
    ASK(WRITE, 64, 1, "\xa1\x61" "c\x4c\x80\x01\0\0\0\x0c\0\0\x01\x26\0\0"); /* TPM2_Clear */
    CHECK(SAYS_ERR("\x18\x40", "\x01"));
    ASK(WRITE, 64, 1, "\xa1\x61" "c\x4c\x80\x01\0\0\0\x0d\0\0\x01\x7b\0\0"); /* another length than it says */
    CHECK(SAYS_RC("\x03"));
    ASK(WRITE, 64, 1, "\xa1\x61" "c\x41\x80");
    CHECK(SAYS_RC("\x03"));
    CHECK(device.commands == 0);
}

static void the_largest_response_fits(void)
{
    device_begin(&device);
    ASK(WRITE, 64, 1, "\xa1\x61" "c\x4c\x80\x01\0\0\0\x0c\0\0\x01\x7b\0\x08");
    CHECK(device.commands == 1);
    CHECK(answered == SMP_HEADER_BYTES + 1 + 2 + 3 + TPM_COMMAND_MAX + 1);
    device.tpm_says = TPM_TIMEOUT;
    ASK(WRITE, 64, 1, "\xa1\x61" "c\x4c\x80\x01\0\0\0\x0c\0\0\x01\x7b\0\x08");
    CHECK(SAYS_ERR("\x18\x40", "\x03"));
}

static void a_record_is_kept_and_given_back_until_it_is_locked(void)
{
    device_begin(&device);
    ASK(WRITE, 64, 2, "\xa1\x66record\x50{\"serial\":\"A-1\"}");
    CHECK(SAYS(""));
    device_restart(&device);
    ASK(READ, 64, 3, "\xa0");
    CHECK(SAYS("\x66record\x50{\"serial\":\"A-1\"}"));
    ASK(WRITE, 64, 4, "\xa0");
    CHECK(SAYS(""));
    device_restart(&device);
    for (uint8_t command = 1; command <= 3; command++) {
        ASK(command == 3 ? READ : WRITE, 64, command, "\xa1\x61" "c\x4c\x80\x01\0\0\0\x0c\0\0\x01\x7b\0\x08");
        CHECK(SAYS_ERR("\x18\x40", "\x02"));
    }
    CHECK(device.commands == 0);
    ASK(READ, 64, 0, "\xa0");
    CHECK(SAYS("\x66serial\x63" "A-1\x62" "fw\x65" "1.2.0\x64slot\x00\x63sig\x62ok\x64mode\x66locked"
               "\x63mac\x71" "02:00:00:00:00:01"));
}

static void a_record_without_a_serial_number_is_refused(void)
{
    static const char *const bad[] = {"", "{}", "{\"a\":{\"serial\":\"A\"}}", "{\"serial\":1}", "{\"serial\":\"\"}",
                                      "{\"serial\":\"a\\n\"}", "{\"serial\":\"A", "{\"x\":\"serial\"}"};
    char serial[ENROLL_SERIAL_MAX + 1];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(!enroll_record_serial((const uint8_t *)bad[i], strlen(bad[i]), serial));
        CHECK_TEXT(serial, "");
    }
    CHECK(enroll_record_serial((const uint8_t *)"{\"x\":\"\\\"\", \"serial\" : \"B-2\"}", 28, serial));
    CHECK_TEXT(serial, "B-2");
}

static void a_reset_is_answered_first(void)
{
    static const uint8_t packet[] = "\x0a\0\0\x01\0\0\x07\x05\xa0";
    static uint8_t line[64];
    size_t length;

    device_begin(&device);
    frame_write(packet, sizeof packet - 1, device_put, &device);
    length = device.out_length;
    memcpy(line, device.out, length);
    device.out_length = 0;
    for (size_t i = 0; i < length; i++) {
        CHECK(server_take(&device.server, line[i]) == (i + 1 == length));
    }
    CHECK(device.out_length > 0);
}

int main(void)
{
    RUN(an_echo_comes_back);
    RUN(what_is_no_request_gets_no_answer);
    RUN(what_is_not_known_is_not_supported);
    RUN(a_map_that_is_none_is_invalid);
    RUN(the_parameters_tell_how_large_a_packet_may_be);
    RUN(a_tpm_command_that_is_not_on_the_list_never_reaches_it);
    RUN(the_largest_response_fits);
    RUN(a_record_is_kept_and_given_back_until_it_is_locked);
    RUN(a_record_without_a_serial_number_is_refused);
    RUN(a_reset_is_answered_first);
    return 0;
}
