/* Strided copies, planned: two sides of one shape are simplified (size-1 axes dropped, neighbors
 * merged, runs that are contiguous on both sides folded into larger elements) until one of three
 * shapes of work is left, which permute_run does. */
#ifndef KTC_PERMUTE_PLAN_H
#define KTC_PERMUTE_PLAN_H

#include <stddef.h>

#include "arrays/axes.h"
#include "status.h"

typedef enum {
    KTC_PLAN_EMPTY,     /* no element */
    KTC_PLAN_COPY,      /* one run of item_size bytes */
    KTC_PLAN_TRANSPOSE, /* the 2-d core: `row` is contiguous in the target, `columns` together are
                           contiguous in the source */
    KTC_PLAN_GENERAL /* any strides: `row` is the target's fastest axis, `columns[0]` the source's
                      */
} ktc_plan_kind;

typedef struct {
    ktc_plan_kind kind;
    ptrdiff_t item_size;     /* of the elements that are moved, after folding */
    ptrdiff_t bytes;         /* moved in all */
    ptrdiff_t source_offset; /* from the given first element to the plan's, not zero when an axis
                                was turned round */
    ptrdiff_t target_offset;
    int source_is_far; /* 0 as made: to be set where the source lies outside the caches, while a
                          target that is too small to be streamed past them lies within */
    ktc_axis row;
    int column_count;               /* 0 for a general plan of one axis */
    ktc_axis columns[KTC_MAX_NDIM]; /* fastest in the source first */
    int outer_count;
    ktc_axis outer[KTC_MAX_NDIM]; /* slowest in the target first */
} ktc_permute_plan;

/* Plans the copy of `shape` elements of item_size bytes from source_strides to target_strides
 * (bytes); all borrowed, ndim long. KTC_BAD_AXES: more than KTC_MAX_NDIM axes. KTC_BAD_SHAPE: a
 * negative length, or an item size below 1. KTC_OVERFLOW: a size does not fit. KTC_OVERLAP: two
 * target elements would share memory. *plan is undefined after a failure. */
ktc_status ktc_permute_plan_make(int ndim, const ptrdiff_t *shape, const ptrdiff_t *source_strides,
                                 const ptrdiff_t *target_strides, ptrdiff_t item_size,
                                 ktc_permute_plan *plan);

#endif
