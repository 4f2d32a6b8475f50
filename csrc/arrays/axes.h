/* The axes of a strided copy, simplified: size-1 axes dropped, neighbors merged. permute_plan and
 * the streams share them. */
#ifndef KTC_AXES_H
#define KTC_AXES_H

#include <stddef.h>

/* NumPy 2's limit; longer shapes are refused. */
#define KTC_MAX_NDIM 64

typedef struct {
    ptrdiff_t length;
    ptrdiff_t source_stride; /* in bytes, may be negative or zero */
    ptrdiff_t target_stride; /* in bytes, positive */
} ktc_axis;

/* Slowest in the target first. */
typedef struct {
    int count;
    ktc_axis axes[KTC_MAX_NDIM];
} ktc_axes;

/* Joins each axis with the next faster one where both sides step through the two as through one. */
void ktc_axes_merge(ktc_axes *list);

/* Takes the axis at `place` out of the list. */
void ktc_axes_remove(ktc_axes *list, int place);

#endif
