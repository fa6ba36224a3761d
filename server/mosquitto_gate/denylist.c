#include "denylist.h"

#include "identity.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

#define HEADER "birthmark-deny 1 "
#define DEVICE "device "
#define SERIAL "serial "
#define END "end "

/* Take the next line: end it with NUL, and return it, or NULL where no complete line is left.
 * at [in,out]  where it begins; moved behind it
 */
static const char *take_line(char *text, size_t length, size_t *at)
{
    char *line = text + *at;
    char *end = *at < length ? memchr(line, '\n', length - *at) : NULL;

    /* A NUL inside a line would hide what follows it from every string function. */
    if (end == NULL || memchr(line, '\0', (size_t)(end - line)) != NULL) {
        return NULL;
    }
    *end = '\0';
    *at += (size_t)(end - line) + 1;
    return line;
}

/* Read a decimal number in its one canonical form, at most 2^63. */
static bool read_number(const char *text, uint64_t *out)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t value = 0;

    if (digits == 0 || digits > 18 || text[digits] != '\0' || (text[0] == '0' && digits > 1)) {
        return false;
    }
    for (size_t i = 0; i < digits; i++) {
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    *out = value;
    return true;
}

static bool is_serial(const char *text)
{
    size_t digits = strspn(text, "0123456789abcdef");

    return digits >= 1 && digits <= IDENTITY_SERIAL_MAX && text[digits] == '\0' && text[0] != '0';
}

static bool is_entry(const char *line)
{
    if (strncmp(line, DEVICE, strlen(DEVICE)) == 0) {
        return text_is_id(line + strlen(DEVICE), strlen(line + strlen(DEVICE)));
    }
    return strncmp(line, SERIAL, strlen(SERIAL)) == 0 && is_serial(line + strlen(SERIAL));
}

size_t denylist_lines_needed(const char *text, size_t length)
{
    size_t lines = 0;

    for (size_t i = 0; i < length; i++) {
        lines += text[i] == '\n';
    }
    return lines;
}

enum denylist_status denylist_parse(char *text, size_t length, uint32_t *lines, size_t capacity, struct denylist *out)
{
    struct denylist list = {.text = text, .lines = lines};
    uint64_t stated = 0;
    size_t at = 0;
    const char *line = length <= DENYLIST_FILE_MAX ? take_line(text, length, &at) : NULL;
    const char *previous = "";

    if (line == NULL || strncmp(line, HEADER, strlen(HEADER)) != 0 ||
        !read_number(line + strlen(HEADER), &list.version)) {
        return DENYLIST_BAD_HEADER;
    }
    while ((line = take_line(text, length, &at)) != NULL && strncmp(line, END, strlen(END)) != 0) {
        if (!is_entry(line) || list.count >= capacity) {
            return DENYLIST_BAD_ENTRY;
        }
        if (strcmp(previous, line) >= 0) {
            return DENYLIST_UNSORTED;
        }
        lines[list.count++] = (uint32_t)(line - text);
        previous = line;
    }
    if (line == NULL || !read_number(line + strlen(END), &stated) || stated != list.count || at != length) {
        return DENYLIST_BAD_END;
    }
    *out = list;
    return DENYLIST_OK;
}

bool denylist_has(const struct denylist *list, const char *kind, const char *value)
{
    char wanted[sizeof DEVICE + TEXT_ID_MAX + 1];
    int length = snprintf(wanted, sizeof wanted, "%s %s", kind, value);
    size_t low = 0;
    size_t high = list->count;

    if (length < 0 || (size_t)length >= sizeof wanted) {
        return false; /* longer than any entry can be */
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(wanted, list->text + list->lines[middle]);

        if (order == 0) {
            return true;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return false;
}

const char *denylist_status_name(enum denylist_status status)
{
    switch (status) {
    case DENYLIST_OK:
        return "ok";
    case DENYLIST_UNREADABLE:
        return "can't be read";
    case DENYLIST_NO_MEMORY:
        return "does not fit into memory";
    case DENYLIST_BAD_HEADER:
        return "does not begin with 'birthmark-deny 1 VERSION'";
    case DENYLIST_BAD_ENTRY:
        return "has a line that is neither 'device ID' nor 'serial HEX'";
    case DENYLIST_UNSORTED:
        return "is not in ascending order, or has an entry twice";
    case DENYLIST_BAD_END:
        return "is cut short: its last line is not 'end COUNT'";
    case DENYLIST_OLDER:
        return "is older than the list in force (birthmark broker sync writes a newer one)";
    }
    return "unknown status";
}
