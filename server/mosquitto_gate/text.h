/* Small, bounded text: ids, numbers, what may be logged, and replies that can't overflow.
 *
 * Rules: the caller owns every buffer; every output is NUL-terminated; nothing allocates.
 */
#ifndef BIRTHMARK_GATE_TEXT_H
#define BIRTHMARK_GATE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEXT_ID_MAX 64U
#define TEXT_SERIAL_MAX 40U /* hex digits: RFC 5280 §4.1.2.2 allows 20 octets */
#define TEXT_LOGGABLE_MAX 120U

/* How many leading characters of `text` are of the alphabet of ids, a-z 0-9 and '-'.
 * text   [in]  need not be NUL-terminated
 * length [in]  bytes of text that may be read
 */
size_t text_id_span(const char *text, size_t length);

/* Whether `text` is an id: 1 to TEXT_ID_MAX characters of a-z, 0-9 and '-' (birthmark_wire.ids). */
bool text_is_id(const char *text, size_t length);

/* Whether `text` is a serial number: 1 to TEXT_SERIAL_MAX digits of lower-case hex, the first not 0. */
bool text_is_serial(const char *text, size_t length);

/* Read a decimal number of 1 to 18 digits in its one canonical form; false, and `out` unchanged, for anything else. */
bool text_read_number(const char *text, size_t length, uint64_t *out);

/* Copy what a stranger sent so that it can stand in one line of a log: printable ASCII without quotes, backslash or
 * space; every other byte becomes '?'; what is too long ends in "...".
 * text [in]   NUL-terminated, or NULL, which becomes "-"
 * out  [out]  TEXT_LOGGABLE_MAX + 1 bytes
 */
void text_loggable(const char *text, char out[TEXT_LOGGABLE_MAX + 1]);

/* A reply under construction. `overflow` stays true once anything did not fit; the text before it stays whole. */
struct text {
    char *buffer;
    size_t capacity;
    size_t length;
    bool overflow;
};

/* Begin a text in `buffer` of `capacity` bytes, at least 1, the final NUL included. */
void text_begin(struct text *text, char *buffer, size_t capacity);

/* Append as printf would, or set `overflow` and append nothing. */
void text_append(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
