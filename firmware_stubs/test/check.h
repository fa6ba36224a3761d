/* Checks for the unit tests, and buffers with guard bytes around them. */
#ifndef BIRTHMARK_CHECK_H
#define BIRTHMARK_CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

#define CHECK_TEXT(got, wanted)                                                                       \
    do {                                                                                              \
        const char *got_ = (got);                                                                     \
        const char *wanted_ = (wanted);                                                               \
        if (strcmp(got_, wanted_) != 0) {                                                             \
            fprintf(stderr, "%s:%d: got \"%s\", want \"%s\"\n", __FILE__, __LINE__, got_, wanted_);   \
            exit(1);                                                                                  \
        }                                                                                             \
    } while (0)

/* A test is a function; its name is what it shows. */
#define RUN(test)                     \
    do {                              \
        test();                       \
        printf("ok  %s\n", #test);    \
    } while (0)

#define GUARD_BYTES 32U
#define GUARD_VALUE 0xA5

/* Memory of `size` bytes between two guards; free with guarded_free(), which checks them. */
struct guarded {
    unsigned char *whole;
    unsigned char *middle;
    size_t size;
};

static inline struct guarded guarded_make(size_t size)
{
    struct guarded made = {malloc(size + 2 * GUARD_BYTES), NULL, size};

    CHECK(made.whole != NULL);
    memset(made.whole, GUARD_VALUE, size + 2 * GUARD_BYTES);
    made.middle = made.whole + GUARD_BYTES;
    return made;
}

static inline void guarded_free(struct guarded made)
{
    for (size_t i = 0; i < GUARD_BYTES; i++) {
        CHECK(made.whole[i] == GUARD_VALUE);
        CHECK(made.middle[made.size + i] == GUARD_VALUE);
    }
    free(made.whole);
}

#endif
