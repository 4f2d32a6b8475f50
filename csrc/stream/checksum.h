/* A checksum of bytes at their places in a file, of which parts can be summed in any order. */
#ifndef KTC_CHECKSUM_H
#define KTC_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* The sum, modulo 2^64, of each word of 4 bytes times an odd number that its place gives, for
 * `length` bytes from `position` of the file on. A changed word, or two exchanged ones, change it;
 * the sums of parts add up to that of the whole. It guards against accidents, not against somebody
 * who wants to deceive. */
uint64_t ktc_checksum(const char *bytes, ptrdiff_t length, uint64_t position);

/* Part of a file. `buffer` of `size` bytes, at least two, is room to read it into. */
typedef struct {
    int descriptor;
    int64_t position;
    ptrdiff_t length;
    char *buffer;
    ptrdiff_t size;
    int error_number; /* of the system, beside KTC_SYSTEM_ERROR */
} ktc_file_part;

/* The checksum of what a file holds; two threads read where that is worth it. KTC_SYSTEM_ERROR, or
 * KTC_CUT_SHORT where the file ends before. */
ktc_status ktc_checksum_of_file(ktc_file_part *part, uint64_t *checksum);

#endif
