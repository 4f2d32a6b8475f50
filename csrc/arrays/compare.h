/* How far two arrays of numbers are apart. */
#ifndef KTC_COMPARE_H
#define KTC_COMPARE_H

#include <stddef.h>

#include "arrays/element_type.h"
#include "status.h"

typedef struct {
    double largest_difference; /* |first - second| over the places where both are finite; 0 when
                                  there is none */
    double largest_magnitude; /* |first| over the places where it is finite; 0 when there is none */
    ptrdiff_t
        unlike; /* places where only one is NaN or infinite, or the infinities differ in sign */
} ktc_comparison;

/* Compares `count` contiguous, aligned elements of one type, KTC_FLOAT32 or KTC_FLOAT64 (anything
 * else: KTC_BAD_TYPE). Differences are taken in float64. Both sides borrowed. */
ktc_status ktc_compare_run(const void *first, const void *second, ktc_element_type type,
                           ptrdiff_t count, ktc_comparison *comparison);

#endif
