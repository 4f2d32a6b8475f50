/* A strided array and a file that holds its values in C order: written there, or compared with what
 * is there, through a small buffer, box by box. */
#ifndef KTC_STREAM_VALUES_H
#define KTC_STREAM_VALUES_H

#include <stddef.h>
#include <stdint.h>

#include "arrays/instruction_set.h"
#include "status.h"

/* The array. `memory` is its first element. When the same bytes lie in a file, they are read from
 * there, which is faster than touching a mapping page by page and never holds more memory than the
 * buffer: `descriptor` is that file, `position` where the first element lies in it; -1 when there
 * is none. */
typedef struct {
    int ndim;
    const ptrdiff_t *shape;
    const ptrdiff_t *strides; /* in bytes */
    ptrdiff_t item_size;
    const char *memory;
    int descriptor;
    int64_t position;
} ktc_stream_source;

typedef struct {
    int descriptor;
    int64_t position; /* of the first element */
} ktc_stream_target;

/* What the stream may use, and whom it tells. `buffer` of `size` bytes, on a cache line; half of it
 * is for either side. `step` is called after each box with its number of bytes, and answers 0, or
 * -1 to stop. */
typedef struct {
    char *buffer;
    ptrdiff_t size;
    ktc_instruction_set set;
    int (*step)(void *context, ptrdiff_t bytes);
    void *context;
    int error_number; /* of the system, beside KTC_SYSTEM_ERROR */
} ktc_stream;

/* KTC_BAD_AXES, KTC_BAD_SHAPE and KTC_OVERFLOW as in ktc_permute_plan_make, KTC_NO_MEMORY for a
 * buffer too small for two elements; KTC_SYSTEM_ERROR, KTC_CUT_SHORT and KTC_STOPPED when a part
 * has been written. */
ktc_status ktc_stream_write(const ktc_stream_source *source, const ktc_stream_target *target,
                            ktc_stream *stream);

/* The same without writing: KTC_DIFFERENT when the file holds other bytes than the array. */
ktc_status ktc_stream_compare(const ktc_stream_source *source, const ktc_stream_target *target,
                              ktc_stream *stream);

#endif
