#include "check.h"
#include "flash_model.h"
#include "images.h"
#include "slots.h"

static struct flash_model model;
static struct model_area area[2];
static struct flash flash[2];
static struct slots slots;

/* A device that runs `good` from slot 0, and has `other` in slot 1, or nothing. */
static void begin(const uint8_t *other, size_t length)
{
    const struct flash *const both[2] = {&flash[0], &flash[1]};

    model.power = MODEL_NEVER;
    for (unsigned i = 0; i < 2; i++) {
        flash[i] = model_flash(&area[i], &model, MODEL_SIZE);
    }
    memcpy(area[0].bytes, good, sizeof good);
    if (length > 0) {
        memcpy(area[1].bytes, other, length);
    }
    slots_begin(&slots, both, test_key, 0);
}

static enum slots_status upload(const uint8_t *image, size_t total, size_t sent, size_t chunk)
{
    enum slots_status status = slots_upload_begin(&slots, total);

    while (status == SLOTS_OK && slots.open && slots.next < sent) {
        const size_t left = sent - slots.next;

        status = slots_upload(&slots, image + slots.next, left < chunk ? left : chunk);
    }
    return status;
}

/* What a bootloader that checks hashes alone, as the one in our QEMU board does, would start from slot 1. */
static bool would_boot(void)
{
    struct image image;
    const struct image_source source = {.context = &area[1], .size = MODEL_SIZE, .read = model_read};

    return image_read(&source, &image) == IMAGE_OK;
}

static void a_newer_image_is_taken_at_any_chunk_size(void)
{
    for (size_t chunk = 4; chunk < 700; chunk += 37) {
        struct image image;

        begin(NULL, 0);
        CHECK(upload(newer, sizeof newer, sizeof newer, chunk) == SLOTS_OK);
        CHECK(!slots.open);
        CHECK(memcmp(area[1].bytes, newer, sizeof newer) == 0);
        CHECK(slots_check(&slots, 1, &image) == IMAGE_OK && image.version.minor == 3);
        CHECK(memcmp(area[0].bytes, good, sizeof good) == 0);
    }
}

static void refuse(const uint8_t *image, size_t total, enum slots_status why)
{
    begin(NULL, 0);
    CHECK(upload(image, total, total, 256) == why);
    CHECK(!slots.open);
    CHECK(!would_boot());
    for (size_t i = 0; i < HELD_BYTES; i++) {
        CHECK(area[1].bytes[i] == 0xff);
    }
}

static void what_is_wrong_is_refused_and_its_header_never_written(void)
{
    refuse(foreign, sizeof foreign, SLOTS_BAD_SIGNATURE);
    refuse(unsigned_image, sizeof unsigned_image, SLOTS_NOT_SIGNED);
    refuse(tampered, sizeof tampered, SLOTS_BAD_HASH);
    refuse(older, sizeof older, SLOTS_DOWNGRADE);
    refuse(good, sizeof good, SLOTS_DOWNGRADE);
    refuse(newer, sizeof newer - 1, SLOTS_BAD_TLVS);
    refuse(newer, 1000, SLOTS_BAD_LENGTH);
    refuse(newer + 1, sizeof newer - 1, SLOTS_NOT_AN_IMAGE);
}

static void an_image_longer_than_its_header_says_is_refused(void)
{
    static uint8_t longer[sizeof newer + 8];

    memcpy(longer, newer, sizeof newer);
    refuse(longer, sizeof longer, SLOTS_BAD_LENGTH);
}

static void what_does_not_fit_is_refused_before_anything_is_erased(void)
{
    begin(newer, sizeof newer);
    CHECK(slots_upload_begin(&slots, MODEL_SIZE + 1) == SLOTS_TOO_LARGE);
    CHECK(slots_upload_begin(&slots, HELD_BYTES) == SLOTS_BAD_LENGTH);
    CHECK(would_boot());
}

static void more_than_was_announced_is_refused(void)
{
    begin(NULL, 0);
    CHECK(slots_upload_begin(&slots, 1000) == SLOTS_OK);
    CHECK(slots_upload(&slots, newer, 1001) == SLOTS_BAD_LENGTH);
    CHECK(slots_upload(&slots, newer, 1) == SLOTS_NO_UPLOAD);
}

static void what_runs_is_never_erased(void)
{
    begin(NULL, 0);
    CHECK(slots_erase(&slots, 0) == SLOTS_RUNNING);
    CHECK(slots_erase(&slots, 2) == SLOTS_RUNNING);
    CHECK(slots_erase(&slots, 1) == SLOTS_OK);
}

static void a_lower_security_counter_is_refused(void)
{
    const struct flash *const both[2] = {&flash[0], &flash[1]};

    begin(NULL, 0);
    memset(area[0].bytes, 0xff, MODEL_SIZE);
    memcpy(area[0].bytes, counted, sizeof counted);
    slots_begin(&slots, both, test_key, 0);
    CHECK(slots.floor_counter == 7);
    slots.floor.minor = 0; /* the version alone would do */
    CHECK(upload(newer, sizeof newer, sizeof newer, 256) == SLOTS_DOWNGRADE);
}

/* The power goes after each unit in turn. After that, whatever slot 1 holds either does not boot, or is signed. */
static size_t cut_everywhere(const uint8_t *image, size_t length, const uint8_t *before, size_t before_length)
{
    size_t boots = 0;

    for (size_t power = 0;; power++) {
        struct image checked;

        begin(before, before_length);
        model.power = power;
        const enum slots_status status = upload(image, length, length, 512);

        if (would_boot()) {
            CHECK(slots_check(&slots, 1, &checked) == IMAGE_OK);
            boots++;
        }
        if (status != SLOTS_FLASH_FAILED) {
            CHECK(power > length / MODEL_UNIT / 2);
            return boots;
        }
    }
}

static void no_power_cut_leaves_unsigned_code_bootable(void)
{
    CHECK(cut_everywhere(foreign, sizeof foreign, NULL, 0) == 0);
    CHECK(cut_everywhere(unsigned_image, sizeof unsigned_image, NULL, 0) == 0);
    CHECK(cut_everywhere(newer, sizeof newer, NULL, 0) == 1); /* when its last unit is written, and not before */
    CHECK(cut_everywhere(foreign, sizeof foreign, newer, sizeof newer) == 1); /* before anything was erased */
}

int main(void)
{
    RUN(a_newer_image_is_taken_at_any_chunk_size);
    RUN(what_is_wrong_is_refused_and_its_header_never_written);
    RUN(an_image_longer_than_its_header_says_is_refused);
    RUN(what_does_not_fit_is_refused_before_anything_is_erased);
    RUN(more_than_was_announced_is_refused);
    RUN(what_runs_is_never_erased);
    RUN(a_lower_security_counter_is_refused);
    RUN(no_power_cut_leaves_unsigned_code_bootable);
    return 0;
}
