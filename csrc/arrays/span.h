/* Which bytes an array with strides can touch, relative to its first element. */
#ifndef KTC_SPAN_H
#define KTC_SPAN_H

#include <stddef.h>

#include "status.h"

typedef struct {
    ptrdiff_t low;  /* the lowest byte, zero or negative */
    ptrdiff_t high; /* one past the highest byte; equal to low when there is no element */
} ktc_span;

/* Fills *span; KTC_OVERFLOW when an offset does not fit, KTC_BAD_SHAPE for a negative length.
 * Arrays are borrowed, ndim long. */
ktc_status ktc_span_measure(int ndim, const ptrdiff_t *shape, const ptrdiff_t *strides,
                            ptrdiff_t item_size, ktc_span *span);

/* 1 when two spans, each from its own first element, share a byte, else 0. */
int ktc_span_overlaps(const void *first, ktc_span first_span, const void *second,
                      ktc_span second_span);

#endif
