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
    RUN(what_a_stranger_sent_fits_one_line_of_the_log);
    RUN(a_text_that_does_not_fit_stays_whole_and_says_so);
    return 0;
}
