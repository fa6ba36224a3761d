#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
