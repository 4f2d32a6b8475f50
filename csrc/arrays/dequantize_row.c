/* Owns the portable decoder of a row, one code at a time, which also does what fills no registers.
 */
#include "arrays/dequantize_row.h"

#include "arrays/widen.h"

/* A small float by its bits: sign, exponent, fraction. */
static float
widen_small(uint32_t code, int bits, int fraction_bits, uint32_t bias)
{
    uint32_t magnitude = (code & ((1u << (bits - 1)) - 1u)) << (23 - fraction_bits);
    uint32_t sign = (code >> (bits - 1)) << 31;
    if (magnitude < (1u << 23)) {
        /* A subnormal number is its fraction times a power of two: see ktc_widen_float16. */
        uint32_t one = (128u - bias) << 23;
        float value = ktc_float_of_bits(magnitude + one) - ktc_float_of_bits(one);
        return ktc_float_of_bits(ktc_bits_of_float(value) | sign);
    }
    return ktc_float_of_bits((magnitude + ((127u - bias) << 23)) | sign);
}

static float
widen_e4m3fn(uint8_t code)
{
    return (code & 0x7Fu) == 0x7Fu ? ktc_float_of_bits(0x7FC00000u) : widen_small(code, 8, 3, 7);
}

static uint16_t
narrow_bfloat16(float value)
{
    uint32_t bits = ktc_bits_of_float(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
        return 0x7FC0u;
    }
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

static uint16_t
narrow_float16(float value)
{
    uint32_t bits = ktc_bits_of_float(value);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7FFFFFFFu;
    uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
    uint32_t chosen = (rounded - (112u << 23)) >> 13;
    if (magnitude > 0x7F800000u) {
        chosen = 0x7E00u;
    }
    else if (rounded >= (143u << 23)) {
        chosen = 0x7C00u;
    }
    else if (magnitude < (113u << 23)) {
        /* The last place of 0.5 is that of a subnormal half, so the sum is rounded as wanted. */
        chosen = ktc_bits_of_float(ktc_float_of_bits(magnitude) + 0.5f) - (126u << 23);
    }
    return (uint16_t)(chosen | sign);
}

/* The code of a column in words of `in_word` columns: those of even numbers first, then those of
 * odd ones. */
static uint32_t
code_in_word(const uint32_t *words, int in_word, ptrdiff_t column)
{
    int bits = 32 / in_word;
    int place = (int)(column % in_word);
    int shift = (place % 2) * 16 + place / 2 * bits;
    return (words[column / in_word] >> shift) & ((1u << bits) - 1u);
}

static float
number_at(const ktc_row *row, ptrdiff_t at)
{
    const uint8_t *bytes = row->codes;
    const uint32_t *words = row->codes;
    switch (row->kind) {
    case E4M3FN:
        return widen_e4m3fn(bytes[at]);
    case E5M2:
        return ktc_widen_float16((uint16_t)(bytes[at] << 8));
    case E2M1FN:
        return widen_small((uint32_t)bytes[at / 2] >> (at % 2 * 4) & 15u, 4, 1, 1);
    case E2M1FN_IN_BYTES:
        return widen_small((uint32_t)bytes[at] >> row->shift & 15u, 4, 1, 1);
    case IN_WORDS:
        return (float)((words[at] >> row->shift) & ((1u << row->bits) - 1u)) - row->zeros[at];
    case WORDS_OF_8:
        return (float)code_in_word(words, 8, at) - row->zeros[at];
    default:
        return (float)code_in_word(words, 4, at) - row->zeros[at];
    }
}

void
ktc_row_decode(const ktc_row *row, ktc_instruction_set set)
{
    ptrdiff_t at = 0;
#ifdef KTC_HAS_X86
    if (set != KTC_PORTABLE) {
        at = set == KTC_AVX512 ? ktc_row_decode_avx512(row) : ktc_row_decode_avx2(row);
    }
#else
    (void)set;
#endif
    for (; at < row->count; at++) {
        float value = number_at(row, at) * row->scales[at / row->scale_columns];
        switch (row->wanted) {
        case TO_BFLOAT16:
            ((uint16_t *)row->numbers)[at] = narrow_bfloat16(value);
            break;
        case TO_FLOAT16:
            ((uint16_t *)row->numbers)[at] = narrow_float16(value);
            break;
        case BY_BFLOAT16:
            ((float *)row->numbers)[at] = ktc_widen_bfloat16(narrow_bfloat16(value));
            break;
        case BY_FLOAT16:
            ((float *)row->numbers)[at] = ktc_widen_float16(narrow_float16(value));
            break;
        default:
            ((float *)row->numbers)[at] = value;
        }
    }
}
