/* MCUboot images: is this one whole, and signed by our key?
 *
 *     header (its own size says where the program begins), program, protected TLVs, TLVs
 *
 * Wanted: SHA-256 (TLV 0x10) over header, program and protected TLVs, and over that hash an ECDSA signature (0x22) by the
 * P-256 key given; one of each, and no other hash or signature. Numbers are little-endian.
 *
 * Trust: the key, and nothing that the image says. Does not prove that the image is newer than another: slots.h.
 * Source: MCUboot, docs/design.md "Image format"; boot/bootutil/include/bootutil/image.h.
 */
#ifndef BIRTHMARK_IMAGE_H
#define BIRTHMARK_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_HEADER_BYTES 32U
#define IMAGE_HASH_BYTES 32U
#define IMAGE_POINT_BYTES 65U

enum image_status {
    IMAGE_OK = 0,
    IMAGE_NONE,          /* no header is there */
    IMAGE_BAD_HEADER,    /* sizes that contradict each other */
    IMAGE_TOO_LARGE,     /* larger than the slot */
    IMAGE_BAD_TLVS,      /* cut off, missing, or twice there */
    IMAGE_BAD_HASH,      /* tampered with, or not wholly written */
    IMAGE_NOT_SIGNED,    /* no ECDSA signature */
    IMAGE_BAD_SIGNATURE, /* not by our key */
    IMAGE_UNREADABLE,    /* the memory can't be read */
};

struct image_version {
    uint8_t major, minor;
    uint16_t revision;
    uint32_t build;
};

struct image {
    struct image_version version;
    uint8_t hash[IMAGE_HASH_BYTES];
    uint32_t counter; /* security counter; 0 where it has none */
    size_t total;     /* bytes, all TLVs included */
};

/* Where an image's bytes come from. */
struct image_source {
    void *context;
    size_t size; /* bytes that may be read */
    bool (*read)(void *context, size_t offset, uint8_t *out, size_t length);
};

/* Read header and TLVs, and compare the hash; no signature yet.
 * source [in]
 * image  [out]  set only for IMAGE_OK
 */
enum image_status image_read(const struct image_source *source, struct image *image);

/* The same, and verify the signature.
 * point [in]  our public key: 04, x, y
 */
enum image_status image_verify(const struct image_source *source, const uint8_t point[IMAGE_POINT_BYTES],
                               struct image *image);

/* Below 0, 0 or above 0, as version a is lower, the same or higher; the build number counts for nothing, as in MCUboot. */
int image_version_compare(const struct image_version *a, const struct image_version *b);

#endif
