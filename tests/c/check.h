/* What every C test uses: a check that says where it failed, and random numbers with a seed that is
 * printed. A test program runs with the seed of its first argument, or 1; the second is the number
 * of random cases. */
#ifndef KTC_CHECK_H
#define KTC_CHECK_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

typedef struct {
    uint64_t state;
} random_source;

static inline uint64_t
random_bits(random_source *source)
{
    /* xorshift64*: small, and good enough to choose shapes with. */
    source->state ^= source->state >> 12;
    source->state ^= source->state << 25;
    source->state ^= source->state >> 27;
    return source->state * UINT64_C(0x2545F4914F6CDD1D);
}

/* A number from low to high, both included. */
static inline ptrdiff_t
random_between(random_source *source, ptrdiff_t low, ptrdiff_t high)
{
    return low + (ptrdiff_t)((random_bits(source) >> 33) % (uint64_t)(high - low + 1));
}

static inline random_source
random_from_arguments(int count, char **arguments)
{
    unsigned long long seed = count > 1 ? strtoull(arguments[1], NULL, 10) : 1;
    printf("%s: seed %llu\n", arguments[0], seed);
    return (random_source){seed * UINT64_C(0x9E3779B97F4A7C15) + 1};
}

static inline long
cases_from_arguments(int count, char **arguments, long usual)
{
    return count > 2 ? strtol(arguments[2], NULL, 10) : usual;
}

#endif
