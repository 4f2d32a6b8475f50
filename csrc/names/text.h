/* A piece of UTF-8 text that somebody else owns: names and parts of names are passed about as
 * views, never copied. */
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

static inline uint64_t
ktc_text_mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0xFF51AFD7ED558CCD);
    return hash ^ (hash >> 32);
}

/* A 64-bit hash, eight bytes at a time; the last eight may overlap those before, so that no loop
 * over single bytes is needed. Names come from model code and from files that are small beside
 * their tensors: speed and spread matter here, not secrecy. */
static inline uint64_t
ktc_text_hash(ktc_text text)
{
    uint64_t hash = UINT64_C(0x9E3779B97F4A7C15) ^ (uint64_t)text.length;
    uint64_t word = 0;
    size_t done = 0;
    for (; done + 8 < text.length; done += 8) {
        memcpy(&word, text.bytes + done, 8);
        hash = ktc_text_mix(hash, word);
    }
    word = 0;
    if (text.length >= 8) {
        memcpy(&word, text.bytes + text.length - 8, 8);
    }
    else {
        for (size_t index = 0; index < text.length; index++) {
            word = word << 8 | (unsigned char)text.bytes[index];
        }
    }
    return ktc_text_mix(hash, word);
}

#endif
