/* How a strided array that is too large for memory is cut: boxes that fit a buffer, with long runs
 * on both sides. */
#ifndef KTC_STREAM_BOX_H
#define KTC_STREAM_BOX_H

#include <stddef.h>

#include "arrays/axes.h"

/* A part of an array: for each of its axes where it starts and how many entries it takes. */
typedef struct {
    ptrdiff_t start[KTC_MAX_NDIM];
    ptrdiff_t length[KTC_MAX_NDIM];
} ktc_box;

/* Where the elements of one box lie in one file or memory: `run` bytes that follow each other,
 * repeated along the axes `axes` (numbers of the array's axes, the slowest first); `count` of
 * these. */
typedef struct {
    ptrdiff_t run;
    int count;
    int axes[KTC_MAX_NDIM];
} ktc_runs;

/* A box as the source's bytes are read into a buffer: the runs to read, the strides that the buffer
 * then has (those of the list's axes), how far the first element lies behind the first byte read,
 * and the bytes of buffer that it takes.
 */
typedef struct {
    ktc_runs runs;
    ptrdiff_t strides[KTC_MAX_NDIM];
    ptrdiff_t first;
    ptrdiff_t size;
} ktc_box_reading;

/* The box that takes the whole array. */
void ktc_box_take_all(const ktc_axes *axes, ktc_box *box);

/* The lengths of the boxes into which `axes`, of elements of item_size bytes, are cut so that none
 * takes more than `room` bytes (one element at least). Runs in the target become as long as there
 * is room for, once those in the source have `source_run` bytes. */
void ktc_box_choose(const ktc_axes *axes, ptrdiff_t item_size, ptrdiff_t room, ptrdiff_t source_run,
                    ktc_box *box);

/* The runs of a box in the target. */
void ktc_box_find_writing(const ktc_axes *axes, ptrdiff_t item_size, const ktc_box *box,
                          ktc_runs *runs);

/* The runs of a box in the source. Runs that lie close together are read with what is between them,
 * unless that takes more than `room`; without it no box takes more than its elements do. */
void ktc_box_find_reading(const ktc_axes *axes, ptrdiff_t item_size, const ktc_box *box,
                          ptrdiff_t room, ktc_box_reading *reading);

#endif
