#include "check.h"
#include "tis_model.h"

static struct tis_model model;
static struct tis_spi spi;
static struct tis_bus bus;
static struct tis tis;

static const uint8_t get_random[12] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8};
static uint8_t answer[300] = {0x80, 0x01, 0, 0, 1, 0x2c, 0, 0, 0, 0};

static void begin(void)
{
    for (size_t i = TPM_HEADER_BYTES; i < sizeof answer; i++) {
        answer[i] = (uint8_t)i;
    }
    model = (struct tis_model){.burst = 32, .answer = answer, .answer_length = sizeof answer, .gives = sizeof answer};
    spi = (struct tis_spi){&model, model_select, model_exchange, model_now};
    bus = tis_spi_bus(&spi);
    CHECK(tis_begin(&tis, &bus, 5000) == TPM_OK);
}

static enum tpm_status ask(size_t capacity)
{
    struct guarded response = guarded_make(capacity);
    const struct tpm tpm = tis_tpm(&tis);
    size_t length = 0;
    const enum tpm_status status =
        tpm.transact(tpm.context, get_random, sizeof get_random, response.middle, response.size, &length);

    if (status == TPM_OK) {
        CHECK(length == sizeof answer && memcmp(response.middle, answer, length) == 0);
    } else {
        CHECK(length == 0);
    }
    CHECK(!model.selected);
    guarded_free(response);
    return status;
}

static void a_command_gets_its_response_at_any_burst_count_and_wait(void)
{
    static const uint16_t bursts[] = {1, 3, 8, 32, 64, 65, 4096, 65535};

    for (size_t i = 0; i < sizeof bursts / sizeof bursts[0]; i++) {
        for (unsigned waits = 0; waits < 40; waits += 13) {
            begin();
            model.burst = bursts[i];
            model.waits = waits;
            CHECK(ask(TPM_COMMAND_MAX) == TPM_OK);
            CHECK(model.ready && !model.going); /* idle again */
            CHECK(ask(sizeof answer) == TPM_OK);
        }
    }
}

static void the_locality_is_taken_and_given_back(void)
{
    begin();
    CHECK(model.active);
    CHECK(tis_end(&tis) == TPM_OK && !model.active);
    model.no_locality = true;
    CHECK(tis_begin(&tis, &bus, 5000) == TPM_BUSY);
}

static void a_tpm_that_stalls_costs_time_and_no_more(void)
{
    begin();
    model.never_ready = true;
    CHECK(ask(TPM_COMMAND_MAX) == TPM_TIMEOUT);
    begin();
    model.never_answers = true;
    CHECK(ask(TPM_COMMAND_MAX) == TPM_TIMEOUT);
    CHECK(model.clock > 5000 && model.clock < 20000);
    begin();
    model.never_expects = true;
    CHECK(ask(TPM_COMMAND_MAX) == TPM_TIMEOUT);
    begin();
    model.burst = 0;
    CHECK(ask(TPM_COMMAND_MAX) == TPM_TIMEOUT);
    begin();
    model.waits = TIS_SPI_WAITS_MAX + 2;
    CHECK(ask(TPM_COMMAND_MAX) == TPM_BUS_FAILED);
    begin();
    model.dead_bus = true;
    CHECK(ask(TPM_COMMAND_MAX) == TPM_BUS_FAILED);
}

static void a_size_that_can_not_be_is_refused(void)
{
    begin();
    CHECK(ask(sizeof answer - 1) == TPM_BAD_RESPONSE); /* no room for it */
    answer[2] = 0xff;
    CHECK(ask(TPM_COMMAND_MAX) == TPM_BAD_RESPONSE);
    answer[2] = 0;
    answer[4] = 0;
    answer[5] = 9;
    CHECK(ask(TPM_COMMAND_MAX) == TPM_BAD_RESPONSE);
    answer[4] = 1;
    answer[5] = 0x2c;
    CHECK(ask(TPM_COMMAND_MAX) == TPM_OK); /* and the next one is well */
}

static void more_or_less_than_it_announced_is_refused(void)
{
    begin();
    model.gives = sizeof answer - 1;
    model.burst = 1;
    CHECK(ask(TPM_COMMAND_MAX) == TPM_BAD_RESPONSE);
    begin();
    model.gives = sizeof answer + 1;
    CHECK(ask(TPM_COMMAND_MAX) == TPM_BAD_RESPONSE);
}

static void a_command_of_another_length_than_it_says_is_not_sent(void)
{
    const struct tpm tpm = tis_tpm(&tis);
    uint8_t response[64];
    size_t length;

    begin();
    const unsigned before = model.selections;

    CHECK(tpm.transact(tpm.context, get_random, 11, response, sizeof response, &length) == TPM_BAD_COMMAND);
    CHECK(tpm.transact(tpm.context, get_random, 5, response, sizeof response, &length) == TPM_BAD_COMMAND);
    CHECK(tpm.transact(tpm.context, get_random, 12, response, 9, &length) == TPM_BAD_COMMAND);
    CHECK(model.selections == before);
}

int main(void)
{
    RUN(a_command_gets_its_response_at_any_burst_count_and_wait);
    RUN(the_locality_is_taken_and_given_back);
    RUN(a_tpm_that_stalls_costs_time_and_no_more);
    RUN(a_size_that_can_not_be_is_refused);
    RUN(more_or_less_than_it_announced_is_refused);
    RUN(a_command_of_another_length_than_it_says_is_not_sent);
    return 0;
}
