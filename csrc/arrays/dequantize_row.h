/* Rows of codes into numbers: the loops of both decoders, one implementation for each instruction
 * set. */
#ifndef KTC_DEQUANTIZE_ROW_H
#define KTC_DEQUANTIZE_ROW_H

#include <stddef.h>
#include <stdint.h>

#include "arrays/instruction_set.h"

/* How the codes of a row lie and what they are: small floats, one in a byte or two, or in one half
 * of each byte; whole numbers, one in each word, or 8 or 4 in a word in the order of AWQ. */
typedef enum {
    E4M3FN,
    E5M2,
    E2M1FN,
    E2M1FN_IN_BYTES,
    IN_WORDS,
    WORDS_OF_8,
    WORDS_OF_4
} ktc_row_codes;

/* What they become: the type that they are rounded to, then maybe float32. */
typedef enum { TO_BFLOAT16, TO_FLOAT16, TO_FLOAT32, BY_BFLOAT16, BY_FLOAT16 } ktc_row_numbers;

/* A part of a row. `codes` begin at a whole byte or word. */
typedef struct {
    ktc_row_codes kind;
    ktc_row_numbers wanted;
    const void *codes;
    int bits;                /* of a code in words */
    int shift;               /* of the code in each word or byte */
    const float *scales;     /* a factor for as many columns each as the next says */
    ptrdiff_t scale_columns; /* 1, or a multiple of 16, or all */
    const float *zeros;      /* for whole numbers: what is taken off first */
    ptrdiff_t count;
    void *numbers;
} ktc_row;

/* Decodes a part of a row. `set` must be available. */
void ktc_row_decode(const ktc_row *row, ktc_instruction_set set);

/* Decodes as many columns from the first on as fill registers, and returns their number. */
ptrdiff_t ktc_row_decode_avx2(const ktc_row *row);
ptrdiff_t ktc_row_decode_avx512(const ktc_row *row);

#endif
