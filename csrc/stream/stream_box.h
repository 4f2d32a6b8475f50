/* How a strided array that is too large for a buffer is cut: boxes with long runs on both sides. */
#ifndef KTC_STREAM_BOX_H
#define KTC_STREAM_BOX_H

#include <stddef.h>

#include "arrays/axes.h"

/* A part of an array: for each of its axes where it starts and how many entries it takes. */
typedef struct {
    ptrdiff_t start[KTC_MAX_NDIM];
    ptrdiff_t length[KTC_MAX_NDIM];
} ktc_box;

/* Where the elements of one box lie in the target: `run` bytes that follow each other, repeated
 * along the axes `axes` (numbers of the array's axes, the slowest first); `count` of these. */
typedef struct {
    ptrdiff_t run;
    int count;
    int axes[KTC_MAX_NDIM];
} ktc_runs;

/* The lengths of the boxes into which `axes`, of elements of item_size bytes, are cut so that none
 * takes more than `room` bytes (one element at least). Runs in the target become as long as there
 * is room for, once those in the source have `source_run` bytes. */
void ktc_box_choose(const ktc_axes *axes, ptrdiff_t item_size, ptrdiff_t room, ptrdiff_t source_run,
                    ktc_box *box);

/* The runs of a box in the target. */
void ktc_box_find_runs(const ktc_axes *axes, ptrdiff_t item_size, const ktc_box *box,
                       ktc_runs *runs);

#endif
