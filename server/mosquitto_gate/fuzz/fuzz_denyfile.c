/* Any bytes are a deny list or refused; what was read is found again, and its end was there. */
#include "denylist.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t needed = denylist_lines_needed((const char *)data, size);
    char *text = malloc(size > 0 ? size : 1);
    uint32_t *lines = malloc(needed > 0 ? needed * sizeof *lines : 1);
    struct denylist list = {0};

    if (text == NULL || lines == NULL) {
        abort();
    }
    if (size > 0) {
        memcpy(text, data, size);
    }
    if (denylist_parse(text, size, lines, needed, &list) == DENYLIST_OK) {
        for (size_t i = 0; i < list.count; i++) {
            const char *entry = list.text + list.lines[i];
            char kind[] = "device";

            memcpy(kind, entry, sizeof kind - 1);
            if (!denylist_has(&list, kind, entry + sizeof kind)) {
                abort();
            }
        }
    }
    free(lines);
    free(text);
    return 0;
}
