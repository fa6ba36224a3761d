#include "image.h"

#include <bearssl_ec.h>
#include <bearssl_hash.h>
#include <string.h>

#define MAGIC 0x96f3b83dU
#define TLV_MAGIC 0x6907U
#define TLV_PROTECTED_MAGIC 0x6908U
#define TLV_HEAD_BYTES 4U
#define TLV_SHA256 0x10U
#define TLV_SHA384 0x11U
#define TLV_SHA512 0x12U
#define TLV_RSA2048 0x20U
#define TLV_ECDSA 0x22U
#define TLV_ED25519 0x24U
#define TLV_COUNTER 0x50U
#define SIGNATURE_MAX 72U /* ECDSA-Sig-Value on P-256, DER */
#define FLAG_ENCRYPTED 0x0cU
#define CHUNK_BYTES 256U

struct tlvs {
    uint8_t hash[IMAGE_HASH_BYTES];
    uint8_t signature[SIGNATURE_MAX];
    size_t signature_length;
    uint32_t counter;
    bool has_hash, has_counter;
};

static uint32_t le16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
}

static uint32_t le32(const uint8_t *bytes)
{
    return le16(bytes) | le16(bytes + 2) << 16;
}

static bool read_at(const struct image_source *source, size_t offset, uint8_t *out, size_t length)
{
    return offset <= source->size && length <= source->size - offset &&
           source->read(source->context, offset, out, length);
}

static enum image_status take_tlv(const struct image_source *source, uint32_t type, size_t offset, size_t length,
                                  bool protected_area, struct tlvs *out)
{
    uint8_t counter[4];

    switch (type) {
    case TLV_SHA256:
        if (protected_area || out->has_hash || length != IMAGE_HASH_BYTES) {
            return IMAGE_BAD_TLVS;
        }
        out->has_hash = true;
        return read_at(source, offset, out->hash, length) ? IMAGE_OK : IMAGE_UNREADABLE;
    case TLV_ECDSA:
        if (protected_area || out->signature_length != 0 || length == 0 || length > SIGNATURE_MAX) {
            return IMAGE_BAD_TLVS;
        }
        out->signature_length = length;
        return read_at(source, offset, out->signature, length) ? IMAGE_OK : IMAGE_UNREADABLE;
    case TLV_COUNTER:
        /* Outside the protected area nobody has signed it. */
        if (!protected_area || out->has_counter || length != sizeof counter) {
            return IMAGE_BAD_TLVS;
        }
        if (!read_at(source, offset, counter, sizeof counter)) {
            return IMAGE_UNREADABLE;
        }
        out->has_counter = true;
        out->counter = le32(counter);
        return IMAGE_OK;
    case TLV_SHA384:
    case TLV_SHA512:
    case TLV_RSA2048:
    case TLV_ED25519:
        return IMAGE_BAD_TLVS;
    default:
        return IMAGE_OK; /* KEYHASH and what else a bootloader may want: nothing of it is believed */
    }
}

/* Read one area of TLVs at *at, and leave *at behind it. */
static enum image_status take_area(const struct image_source *source, size_t *at, bool protected_area, struct tlvs *out)
{
    uint8_t head[TLV_HEAD_BYTES];

    if (!read_at(source, *at, head, sizeof head) ||
        le16(head) != (protected_area ? TLV_PROTECTED_MAGIC : TLV_MAGIC)) {
        return IMAGE_BAD_TLVS;
    }
    const size_t size = le16(head + 2);

    if (size < TLV_HEAD_BYTES || size > source->size - *at) {
        return IMAGE_BAD_TLVS;
    }
    const size_t end = *at + size;
    size_t offset = *at + TLV_HEAD_BYTES;

    while (offset < end) {
        if (end - offset < TLV_HEAD_BYTES || !read_at(source, offset, head, sizeof head)) {
            return IMAGE_BAD_TLVS;
        }
        const size_t length = le16(head + 2);

        offset += TLV_HEAD_BYTES;
        if (length > end - offset) {
            return IMAGE_BAD_TLVS;
        }
        const enum image_status status = take_tlv(source, le16(head), offset, length, protected_area, out);

        if (status != IMAGE_OK) {
            return status;
        }
        offset += length;
    }
    *at = end;
    return IMAGE_OK;
}

static enum image_status hash_up_to(const struct image_source *source, size_t end, uint8_t out[IMAGE_HASH_BYTES])
{
    br_sha256_context sha;
    uint8_t chunk[CHUNK_BYTES];

    br_sha256_init(&sha);
    for (size_t at = 0; at < end;) {
        const size_t length = end - at < CHUNK_BYTES ? end - at : CHUNK_BYTES;

        if (!read_at(source, at, chunk, length)) {
            return IMAGE_UNREADABLE;
        }
        br_sha256_update(&sha, chunk, length);
        at += length;
    }
    br_sha256_out(&sha, out);
    return IMAGE_OK;
}

static enum image_status read_whole(const struct image_source *source, struct image *image, struct tlvs *tlvs)
{
    uint8_t header[IMAGE_HEADER_BYTES], hash[IMAGE_HASH_BYTES];

    if (!read_at(source, 0, header, sizeof header)) {
        return source->size < sizeof header ? IMAGE_NONE : IMAGE_UNREADABLE;
    }
    if (le32(header) != MAGIC) {
        return IMAGE_NONE;
    }
    const size_t header_size = le16(header + 8), protected_size = le16(header + 10), program = le32(header + 12);

    if (header_size < IMAGE_HEADER_BYTES || program == 0 || (le32(header + 16) & FLAG_ENCRYPTED) != 0) {
        return IMAGE_BAD_HEADER;
    }
    if (header_size > source->size || program > source->size - header_size) {
        return IMAGE_TOO_LARGE;
    }
    size_t at = header_size + program;
    enum image_status status;

    memset(tlvs, 0, sizeof *tlvs);
    if (protected_size != 0) {
        const size_t begin = at;

        status = take_area(source, &at, true, tlvs);
        if (status != IMAGE_OK) {
            return status;
        }
        if (at - begin != protected_size) {
            return IMAGE_BAD_TLVS;
        }
    }
    const size_t hashed = at;

    status = take_area(source, &at, false, tlvs);
    if (status != IMAGE_OK) {
        return status;
    }
    if (!tlvs->has_hash) {
        return IMAGE_BAD_TLVS;
    }
    status = hash_up_to(source, hashed, hash);
    if (status != IMAGE_OK) {
        return status;
    }
    if (memcmp(hash, tlvs->hash, sizeof hash) != 0) { /* public data: no need of constant time */
        return IMAGE_BAD_HASH;
    }
    *image = (struct image){
        .version = {header[20], header[21], (uint16_t)le16(header + 22), le32(header + 24)},
        .counter = tlvs->counter,
        .total = at,
    };
    memcpy(image->hash, hash, sizeof hash);
    return IMAGE_OK;
}

enum image_status image_read(const struct image_source *source, struct image *image)
{
    struct tlvs tlvs;

    return read_whole(source, image, &tlvs);
}

enum image_status image_verify(const struct image_source *source, const uint8_t point[IMAGE_POINT_BYTES],
                               struct image *image)
{
    struct tlvs tlvs;
    struct image read;
    unsigned char q[IMAGE_POINT_BYTES];
    const enum image_status status = read_whole(source, &read, &tlvs);

    if (status != IMAGE_OK) {
        return status;
    }
    if (tlvs.signature_length == 0) {
        return IMAGE_NOT_SIGNED;
    }
    memcpy(q, point, sizeof q); /* BearSSL's structure wants it writable */
    const br_ec_public_key key = {.curve = BR_EC_secp256r1, .q = q, .qlen = sizeof q};

    if (br_ecdsa_i15_vrfy_asn1(&br_ec_p256_m15, read.hash, sizeof read.hash, &key, tlvs.signature,
                               tlvs.signature_length) != 1) {
        return IMAGE_BAD_SIGNATURE;
    }
    *image = read;
    return IMAGE_OK;
}

int image_version_compare(const struct image_version *a, const struct image_version *b)
{
    const uint32_t left = (uint32_t)a->major << 24 | (uint32_t)a->minor << 16 | a->revision;
    const uint32_t right = (uint32_t)b->major << 24 | (uint32_t)b->minor << 16 | b->revision;

    return left < right ? -1 : left > right ? 1 : 0;
}
