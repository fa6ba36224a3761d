#include "text.h"

#include "check.h"

static void an_id_is_1_to_64_of_its_alphabet(void)
{
    char long_id[TEXT_ID_MAX + 1];

    memset(long_id, 'a', sizeof long_id);
    CHECK(text_is_id("dev-1", 5));
    CHECK(text_is_id(long_id, TEXT_ID_MAX));
    CHECK(!text_is_id(long_id, TEXT_ID_MAX + 1));
    CHECK(!text_is_id("", 0));
    CHECK(!text_is_id("Dev", 3));
    CHECK(!text_is_id("a_b", 3));
    CHECK(!text_is_id("a/b", 3));
    CHECK(!text_is_id("a+", 2));
    CHECK(!text_is_id("a\0b", 3));
    CHECK(!text_is_id("d\xc3\xa9v", 4));
}

static void a_serial_number_is_1_to_40_digits_without_leading_zeros(void)
{
    char long_serial[TEXT_SERIAL_MAX + 1];

    memset(long_serial, 'f', sizeof long_serial);
    CHECK(text_is_serial("1f2e", 4) && text_is_serial("9", 1));
    CHECK(text_is_serial(long_serial, TEXT_SERIAL_MAX) && !text_is_serial(long_serial, TEXT_SERIAL_MAX + 1));
    CHECK(!text_is_serial("", 0) && !text_is_serial("0", 1) && !text_is_serial("01", 2));
    CHECK(!text_is_serial("1F", 2) && !text_is_serial("1g", 2) && !text_is_serial("1\0f", 3));
}

static void a_number_is_decimal_and_canonical(void)
{
    uint64_t number = 5;

    CHECK(text_read_number("0", 1, &number) && number == 0);
    CHECK(text_read_number("123x", 3, &number) && number == 123);
    CHECK(text_read_number("999999999999999999", 18, &number) && number == 999999999999999999U);
    CHECK(!text_read_number("1000000000000000000", 19, &number));
    CHECK(!text_read_number("", 0, &number) && !text_read_number("00", 2, &number) && !text_read_number("01", 2, &number));
    CHECK(!text_read_number("-1", 2, &number) && !text_read_number(" 1", 2, &number) && !text_read_number("1\0", 2, &number));
    CHECK(number == 999999999999999999U);
}

static void what_a_stranger_sent_fits_one_line_of_the_log(void)
{
    struct guarded out = guarded_make(TEXT_LOGGABLE_MAX + 1);
    char *shown = (char *)out.middle;
    char long_text[500];

    text_loggable("dev-1\nbirthmark gate: let in \"x\\", shown);
    CHECK_TEXT(shown, "dev-1?birthmark?gate:?let?in??x?");
    text_loggable(NULL, shown);
    CHECK_TEXT(shown, "-");
    text_loggable("", shown);
    CHECK_TEXT(shown, "-");
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    text_loggable(long_text, shown);
    CHECK(strlen(shown) == TEXT_LOGGABLE_MAX);
    CHECK_TEXT(shown + TEXT_LOGGABLE_MAX - 4, "x...");
    guarded_free(out);
}

static void a_text_that_does_not_fit_stays_whole_and_says_so(void)
{
    struct guarded out = guarded_make(8);
    struct text text;

    text_begin(&text, (char *)out.middle, out.size);
    text_append(&text, "%s", "1234");
    text_append(&text, "%s", "567");
    CHECK(!text.overflow);
    CHECK_TEXT(text.buffer, "1234567");
    text_append(&text, "%s", "8");
    CHECK(text.overflow);
    CHECK_TEXT(text.buffer, "1234567");
    text_append(&text, "%s", "");
    CHECK(text.length == 7);
    guarded_free(out);
}

int main(void)
{
    RUN(an_id_is_1_to_64_of_its_alphabet);
    RUN(a_serial_number_is_1_to_40_digits_without_leading_zeros);
    RUN(a_number_is_decimal_and_canonical);
    RUN(what_a_stranger_sent_fits_one_line_of_the_log);
    RUN(a_text_that_does_not_fit_stays_whole_and_says_so);
    return 0;
}
