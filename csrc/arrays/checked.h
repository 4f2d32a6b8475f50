/* Sizes and offsets that cannot overflow unseen: each operation answers 1 when the exact result
 * fits, else 0. */
#ifndef KTC_CHECKED_H
#define KTC_CHECKED_H

#include <stddef.h>
#include <stdint.h>

static inline int
ktc_checked_add(ptrdiff_t first, ptrdiff_t second, ptrdiff_t *sum)
{
    if ((second > 0 && first > PTRDIFF_MAX - second) ||
        (second < 0 && first < PTRDIFF_MIN - second)) {
        return 0;
    }
    *sum = first + second;
    return 1;
}

/* The first factor must not be negative: it is a length or a size. */
static inline int
ktc_checked_multiply(ptrdiff_t length, ptrdiff_t factor, ptrdiff_t *product)
{
    if (length < 0) {
        return 0;
    }
    if (length != 0 && (factor > PTRDIFF_MAX / length || factor < PTRDIFF_MIN / length)) {
        return 0;
    }
    *product = length * factor;
    return 1;
}

#endif
