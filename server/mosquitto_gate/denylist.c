#include "denylist.h"

#include "text.h"

#include <stdio.h>
#include <string.h>

#define HEADER "birthmark-deny 2 "
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

/* Read the number that `line` goes on with at `*at` up to `end`, and move behind it. */
static bool take_number(const char **at, char end, uint64_t *out)
{
    const char *stop = strchr(*at, end);

    if (stop == NULL || !text_read_number(*at, (size_t)(stop - *at), out)) {
        return false;
    }
    *at = stop + (end != '\0');
    return true;
}

static enum denylist_status read_header(const char *line, struct denylist *list)
{
    const char *at = line + strlen(HEADER);
    uint64_t issued;
    uint64_t until;

    if (strncmp(line, HEADER, strlen(HEADER)) != 0 || !take_number(&at, ' ', &list->version) ||
        !take_number(&at, ' ', &issued) || !take_number(&at, '\0', &until)) {
        return DENYLIST_BAD_HEADER;
    }
    list->issued_s = (int64_t)issued;
    list->until_s = (int64_t)until;
    return until > issued && until - issued <= DENYLIST_LEASE_MAX_S ? DENYLIST_OK : DENYLIST_BAD_LEASE;
}

static bool is_entry(const char *line)
{
    if (strncmp(line, DEVICE, strlen(DEVICE)) == 0) {
        return text_is_id(line + strlen(DEVICE), strlen(line + strlen(DEVICE)));
    }
    return strncmp(line, SERIAL, strlen(SERIAL)) == 0 &&
           text_is_serial(line + strlen(SERIAL), strlen(line + strlen(SERIAL)));
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
    enum denylist_status status = line != NULL ? read_header(line, &list) : DENYLIST_BAD_HEADER;
    const char *previous = "";
    const char *count;

    if (status != DENYLIST_OK) {
        return status;
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
    count = line != NULL ? line + strlen(END) : NULL;
    if (count == NULL || !take_number(&count, '\0', &stated) || stated != list.count || at != length) {
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
        return "does not begin with 'birthmark-deny 2 VERSION ISSUED UNTIL'";
    case DENYLIST_BAD_LEASE:
        return "has a lease that ends before it begins, or lasts longer than 7 days";
    case DENYLIST_BAD_ENTRY:
        return "has a line that is neither 'device ID' nor 'serial HEX'";
    case DENYLIST_UNSORTED:
        return "is not in ascending order, or has an entry twice";
    case DENYLIST_BAD_END:
        return "is cut short: its last line is not 'end COUNT'";
    case DENYLIST_BAD_SIGNATURE:
        return "is not signed as it must be";
    case DENYLIST_SIGNER_OUTDATED:
        return "was issued outside its signer's validity";
    case DENYLIST_SIGNER_DENIED:
        return "has a signer that the list in force denies";
    case DENYLIST_OLDER:
        return "is older than the list in force (birthmark broker sync writes a newer one)";
    }
    return "unknown status";
}
