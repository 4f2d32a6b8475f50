/* A piece of UTF-8 text that somebody else owns: names and parts of names are passed about as views, never copied. */
#ifndef KTC_TEXT_H
#define KTC_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const char *bytes; /* never NULL, not terminated */
    size_t length;     /* in bytes */
} ktc_text;

/* Stands for "no such thing" wherever an index is expected. */
#define KTC_NO_INDEX SIZE_MAX

static inline bool
ktc_text_equals(ktc_text first, ktc_text second)
{
    return first.length == second.length && memcmp(first.bytes, second.bytes, first.length) == 0;
}

/* The text from byte `start` up to byte `end`; start <= end <= length. */
static inline ktc_text
ktc_text_slice(ktc_text text, size_t start, size_t end)
{
    return (ktc_text){text.bytes + start, end - start};
}

/* A 64-bit hash, eight bytes at a time. Names come from model code and from files that are small beside their tensors, so
 * speed and spread matter here, not secrecy. */
static inline uint64_t
ktc_text_hash(ktc_text text)
{
    const uint64_t odd_multiplier = UINT64_C(0xFF51AFD7ED558CCD);
    uint64_t hash = UINT64_C(0x9E3779B97F4A7C15) ^ (uint64_t)text.length;
    size_t done = 0;
    while (done < text.length) {
        uint64_t word = 0;
        size_t step = text.length - done < 8 ? text.length - done : 8;
        memcpy(&word, text.bytes + done, step);
        hash = (hash ^ word) * odd_multiplier;
        hash ^= hash >> 32;
        done += step;
    }
    return hash;
}

#endif
