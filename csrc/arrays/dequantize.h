/* Numbers out of the codes of quantized weights, into memory of any strides. Each value is computed
 * in float32 and rounded once, to nearest even. */
#ifndef KTC_DEQUANTIZE_H
#define KTC_DEQUANTIZE_H

#include <stddef.h>
#include <stdint.h>

#include "arrays/element_type.h"
#include "arrays/instruction_set.h"
#include "status.h"

/* What both kernels fill: `rows` x `columns` elements of KTC_FLOAT16, KTC_BFLOAT16 or KTC_FLOAT32,
 * `row_stride` and `column_stride` bytes apart, no two of which share memory. */
typedef struct {
    void *elements;
    ktc_element_type type; /* that numbers are rounded to */
    int is_widened;        /* elements are float32 whatever the type */
    ptrdiff_t rows;
    ptrdiff_t columns;
    ptrdiff_t row_stride;
    ptrdiff_t column_stride;
    ptrdiff_t first; /* of the lines that are filled, all if `end` is 0 */
    ptrdiff_t end;
} ktc_decoded;

/* Lines that may be filled by themselves, in any order: rows where columns lie side by side, else
 * columns, and then from multiples of KTC_DECODED_LINES on. */
ptrdiff_t ktc_decoded_lines(const ktc_decoded *target);
#define KTC_DECODED_LINES 256

/* Numbers of less than a byte or of one, without infinities where the name ends in "fn". */
typedef enum { KTC_FLOAT8_E4M3FN, KTC_FLOAT8_E5M2, KTC_FLOAT4_E2M1FN } ktc_small_float;

/* Small floating-point numbers, one in a byte or two, the lower half first, times a factor that all
 * of a block share. */
typedef struct {
    const uint8_t *codes;
    ptrdiff_t pitch; /* bytes from row to row */
    ktc_small_float format;
    const float *scales; /* one for each block, row after row */
    ptrdiff_t block_rows;
    ptrdiff_t block_columns;
} ktc_float_codes;

/* The caller has checked that every block has a scale. KTC_BAD_TYPE for other element types. `set`
 * must be available. */
ktc_status ktc_decode_floats(const ktc_float_codes *codes, const ktc_decoded *target,
                             ktc_instruction_set set);

/* Whole numbers, several in a word: (code - zero) * scale. The codes of a word are rows, the lowest
 * bits first, or columns in the order of AWQ: those of even numbers, then those of odd ones. */
typedef struct {
    const uint32_t *words;
    ptrdiff_t pitch; /* words from row to row of words */
    int bits;        /* 4 or 8 */
    int packs_rows;
    const float *scales; /* groups x columns */
    const float *zeros;  /* groups x columns */
    ptrdiff_t groups;
    const int32_t *group_of_row;
} ktc_whole_codes;

/* KTC_BAD_INDEX for a group that does not exist; rows before it may be written. `set` must be
 * available. */
ktc_status ktc_decode_whole(const ktc_whole_codes *codes, const ktc_decoded *target,
                            ktc_instruction_set set);

#endif
