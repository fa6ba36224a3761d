#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NUMBER_DIGITS_MAX 18U /* fits into 63 bits */

static bool is_id_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

size_t text_id_span(const char *text, size_t length)
{
    size_t span = 0;

    while (span < length && is_id_character(text[span])) {
        span++;
    }
    return span;
}

bool text_is_id(const char *text, size_t length)
{
    return length >= 1 && length <= TEXT_ID_MAX && text_id_span(text, length) == length;
}

bool text_is_serial(const char *text, size_t length)
{
    if (length < 1 || length > TEXT_SERIAL_MAX || text[0] == '0') {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f'))) {
            return false;
        }
    }
    return true;
}

bool text_read_number(const char *text, size_t length, uint64_t *out)
{
    uint64_t value = 0;

    if (length < 1 || length > NUMBER_DIGITS_MAX || (text[0] == '0' && length > 1)) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    *out = value;
    return true;
}

void text_loggable(const char *text, char out[TEXT_LOGGABLE_MAX + 1])
{
    size_t i = 0;

    if (text == NULL || text[0] == '\0') {
        memcpy(out, "-", sizeof "-");
        return;
    }
    for (; text[i] != '\0' && i < TEXT_LOGGABLE_MAX; i++) {
        bool plain = text[i] > ' ' && text[i] <= '~' && text[i] != '"' && text[i] != '\\';
        out[i] = plain ? text[i] : '?';
    }
    out[i] = '\0';
    if (text[i] != '\0') {
        memcpy(out + TEXT_LOGGABLE_MAX - 3, "...", sizeof "...");
    }
}

void text_begin(struct text *text, char *buffer, size_t capacity)
{
    text->buffer = buffer;
    text->capacity = capacity;
    text->length = 0;
    text->overflow = false;
    buffer[0] = '\0';
}

void text_append(struct text *text, const char *format, ...)
{
    size_t room = text->capacity - text->length;
    va_list arguments;
    int wanted;

    if (text->overflow) {
        return;
    }
    va_start(arguments, format);
    wanted = vsnprintf(text->buffer + text->length, room, format, arguments);
    va_end(arguments);
    if (wanted < 0 || (size_t)wanted >= room) {
        text->buffer[text->length] = '\0';
        text->overflow = true;
        return;
    }
    text->length += (size_t)wanted;
}
