#include "check.h"
#include "flash_model.h"
#include "settings.h"

static struct flash_model model;
static struct model_area area;
static struct flash flash;
static struct settings settings;

static const uint8_t one[] = "{\"serial\":\"A-1\"}", two[] = "{\"serial\":\"B-22\"}";

static void begin(void)
{
    model.power = MODEL_NEVER;
    flash = model_flash(&area, &model, 2 * MODEL_SECTOR);
    CHECK(settings_begin(&settings, &flash) == SETTINGS_OK);
}

static void restart(void)
{
    model.power = MODEL_NEVER;
    (void)settings_begin(&settings, &flash);
}

static bool keeps(const uint8_t *record, size_t length)
{
    return settings.record_length == length && memcmp(settings.record, record, length) == 0;
}

static void a_blank_device_is_in_factory_mode_and_has_no_record(void)
{
    begin();
    CHECK(!settings.locked && settings.record_length == 0);
}

static void a_record_survives_and_the_next_one_takes_its_place(void)
{
    begin();
    CHECK(settings_keep(&settings, one, sizeof one) == SETTINGS_OK);
    restart();
    CHECK(keeps(one, sizeof one));
    CHECK(settings_keep(&settings, two, sizeof two) == SETTINGS_OK);
    restart();
    CHECK(keeps(two, sizeof two) && !settings.locked);
}

static void a_record_that_is_too_long_is_refused(void)
{
    static const uint8_t longest[SETTINGS_RECORD_MAX + 1];

    begin();
    CHECK(settings_keep(&settings, longest, SETTINGS_RECORD_MAX + 1) == SETTINGS_TOO_LARGE);
    CHECK(settings_keep(&settings, longest, SETTINGS_RECORD_MAX) == SETTINGS_OK);
    restart();
    CHECK(keeps(longest, SETTINGS_RECORD_MAX));
}

static void locked_is_for_good(void)
{
    begin();
    CHECK(settings_keep(&settings, one, sizeof one) == SETTINGS_OK);
    CHECK(settings_lock(&settings) == SETTINGS_OK);
    CHECK(settings_lock(&settings) == SETTINGS_OK);
    restart();
    CHECK(settings.locked && keeps(one, sizeof one));
    CHECK(settings_keep(&settings, two, sizeof two) == SETTINGS_LOCKED);
}

static void one_copy_lost_is_still_locked_and_so_are_both(void)
{
    for (unsigned sector = 0; sector < 2; sector++) {
        begin();
        CHECK(settings_keep(&settings, one, sizeof one) == SETTINGS_OK);
        CHECK(settings_lock(&settings) == SETTINGS_OK);
        area.bytes[sector * MODEL_SECTOR + 33] ^= 1;
        restart();
        CHECK(settings.locked && keeps(one, sizeof one));
    }
    area.bytes[33] ^= 1;
    area.bytes[33] ^= 2;
    restart();
    CHECK(settings.locked && settings.record_length == 0);
}

static void a_cut_while_keeping_leaves_the_record_before_or_this_one(void)
{
    for (size_t power = 0;; power++) {
        begin();
        CHECK(settings_keep(&settings, one, sizeof one) == SETTINGS_OK);
        model.power = power;
        const enum settings_status status = settings_keep(&settings, two, sizeof two);

        restart();
        CHECK(!settings.locked);
        CHECK(keeps(status == SETTINGS_OK ? two : one, status == SETTINGS_OK ? sizeof two : sizeof one) ||
              keeps(two, sizeof two));
        if (status == SETTINGS_OK) {
            return;
        }
    }
}

static void a_cut_in_the_very_first_copy_leaves_a_device_that_can_be_made(void)
{
    for (size_t power = 0;; power++) {
        begin();
        model.power = power;
        const enum settings_status status = settings_keep(&settings, one, sizeof one);

        restart();
        CHECK(!settings.locked);
        CHECK(settings_keep(&settings, two, sizeof two) == SETTINGS_OK);
        restart();
        CHECK(keeps(two, sizeof two));
        if (status == SETTINGS_OK) {
            return;
        }
    }
}

/* Once a restart has seen it locked, it stays locked; the record is there either way. */
static void a_cut_while_locking_is_safe_either_way(void)
{
    bool was_locked = false;

    for (size_t power = 0;; power++) {
        begin();
        CHECK(settings_keep(&settings, one, sizeof one) == SETTINGS_OK);
        model.power = power;
        const enum settings_status status = settings_lock(&settings);

        CHECK(settings.locked);
        restart();
        CHECK(keeps(one, sizeof one));
        CHECK(settings.locked || !was_locked);
        was_locked = settings.locked;
        CHECK(settings_lock(&settings) == SETTINGS_OK);
        restart();
        CHECK(settings.locked && keeps(one, sizeof one));
        if (status == SETTINGS_OK) {
            CHECK(was_locked);
            return;
        }
    }
}

int main(void)
{
    RUN(a_blank_device_is_in_factory_mode_and_has_no_record);
    RUN(a_record_survives_and_the_next_one_takes_its_place);
    RUN(a_record_that_is_too_long_is_refused);
    RUN(locked_is_for_good);
    RUN(one_copy_lost_is_still_locked_and_so_are_both);
    RUN(a_cut_while_keeping_leaves_the_record_before_or_this_one);
    RUN(a_cut_in_the_very_first_copy_leaves_a_device_that_can_be_made);
    RUN(a_cut_while_locking_is_safe_either_way);
    return 0;
}
