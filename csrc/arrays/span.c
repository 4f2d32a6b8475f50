/* Owns the arithmetic of extents; who may overlap whom is for the callers to say. */
#include "arrays/span.h"

#include <stdint.h>

#include "arrays/checked.h"

ktc_status
ktc_span_measure(int ndim, const ptrdiff_t *shape, const ptrdiff_t *strides, ptrdiff_t item_size,
                 ktc_span *span)
{
    int is_empty = 0;
    ktc_span found = {0, item_size};
    for (int axis = 0; axis < ndim; axis++) {
        if (shape[axis] < 0) {
            return KTC_BAD_SHAPE;
        }
        is_empty |= shape[axis] == 0;
    }
    if (is_empty) {
        span->low = span->high = 0;
        return KTC_OK;
    }
    for (int axis = 0; axis < ndim; axis++) {
        ptrdiff_t reach;
        if (!ktc_checked_multiply(shape[axis] - 1, strides[axis], &reach)) {
            return KTC_OVERFLOW;
        }
        ptrdiff_t *end = reach < 0 ? &found.low : &found.high;
        if (!ktc_checked_add(*end, reach, end)) {
            return KTC_OVERFLOW;
        }
    }
    ptrdiff_t
        extent; /* must fit as well, so that later sums and negations of strides cannot overflow */
    if (found.low == PTRDIFF_MIN || !ktc_checked_add(found.high, -found.low, &extent)) {
        return KTC_OVERFLOW;
    }
    *span = found;
    return KTC_OK;
}

int
ktc_span_overlaps(const void *first, ktc_span first_span, const void *second, ktc_span second_span)
{
    /* Unsigned arithmetic wraps where pointer arithmetic outside an object would be undefined. */
    uintptr_t first_low = (uintptr_t)first + (uintptr_t)first_span.low;
    uintptr_t first_high = (uintptr_t)first + (uintptr_t)first_span.high;
    uintptr_t second_low = (uintptr_t)second + (uintptr_t)second_span.low;
    uintptr_t second_high = (uintptr_t)second + (uintptr_t)second_span.high;
    return first_low < first_high && second_low < second_high && first_low < second_high &&
           second_low < first_high;
}
