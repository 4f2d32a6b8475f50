/* A strided array and a file that holds its values in C order: written there, or compared with what
 * is there, through a small buffer, part by part. */
#ifndef KTC_STREAM_VALUES_H
#define KTC_STREAM_VALUES_H

#include <stddef.h>
#include <stdint.h>

#include "arrays/element_type.h"
#include "arrays/instruction_set.h"
#include "status.h"

/* The array. `memory` is its first element. When the same bytes lie in a file, small arrays are
 * read from there, which is faster than touching a mapping page by page: `descriptor` is that file,
 * `position` where the first element lies in it; -1 when there is none. With `is_widened` the
 * elements are KTC_FLOAT16 or KTC_BFLOAT16, and the target has them as float32. */
typedef struct {
    int ndim;
    const ptrdiff_t *shape;
    const ptrdiff_t *strides; /* in bytes */
    ptrdiff_t item_size;
    const char *memory;
    int descriptor;
    int64_t position;
    int is_widened;
    ktc_element_type type;
} ktc_stream_source;

typedef struct {
    int descriptor;
    int64_t position; /* of the first element */
} ktc_stream_target;

/* What the stream may use, and whom it tells. `buffer` of `size` bytes, on a cache line. `step` is
 * called after each part with its number of bytes in the target, and answers 0, or -1 to stop. With
 * `is_summed`, `checksum` is that of what was written, at its places in the target. */
typedef struct {
    char *buffer;
    ptrdiff_t size;
    ktc_instruction_set set;
    int (*step)(void *context, ptrdiff_t bytes);
    void *context;
    int error_number; /* of the system, beside KTC_SYSTEM_ERROR */
    int is_summed;
    uint64_t checksum;
} ktc_stream;

/* KTC_BAD_AXES, KTC_BAD_SHAPE and KTC_OVERFLOW as in ktc_permute_plan_make, KTC_BAD_TYPE for what
 * cannot be widened, KTC_NO_MEMORY for a buffer too small for an element; KTC_SYSTEM_ERROR,
 * KTC_CUT_SHORT (a file ends before, mapped or not) and KTC_STOPPED when a part has been written.
 */
ktc_status ktc_stream_write(const ktc_stream_source *source, const ktc_stream_target *target,
                            ktc_stream *stream);

/* The same without writing: KTC_DIFFERENT when the file holds other bytes than the array. */
ktc_status ktc_stream_compare(const ktc_stream_source *source, const ktc_stream_target *target,
                              ktc_stream *stream);

#endif
