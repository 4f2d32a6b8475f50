/* Owns the decoder of a row with 512-bit registers. */
#include "arrays/dequantize_row.h"

#ifdef KTC_HAS_X86

#include <immintrin.h>

#define WIDE_TARGET KTC_TARGET_AVX512
#define INLINED WIDE_TARGET KTC_INLINED

typedef __m512 numbers;

INLINED numbers
load(const float *floats)
{
    return _mm512_loadu_ps(floats);
}

INLINED void
store_floats(float *floats, numbers values)
{
    _mm512_storeu_ps(floats, values);
}

INLINED numbers
spread(float value)
{
    return _mm512_set1_ps(value);
}

INLINED numbers
subtract(numbers from, numbers values)
{
    return _mm512_sub_ps(from, values);
}

INLINED numbers
multiply(numbers values, numbers by)
{
    return _mm512_mul_ps(values, by);
}

INLINED numbers
widen_halves(__m256i halves)
{
    return _mm512_cvtph_ps(halves);
}

INLINED numbers
widen_bytes(__m128i codes)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes));
}

INLINED numbers
widen_words(const uint32_t *words, int bits, int shift)
{
    __m512i found = _mm512_srl_epi32(_mm512_loadu_si512(words), _mm_cvtsi32_si128(shift));
    return _mm512_cvtepi32_ps(_mm512_and_si512(found, _mm512_set1_epi32((1 << bits) - 1)));
}

INLINED __m256i
round_bfloat16(numbers values)
{
    __m512i bits = _mm512_castps_si512(values);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    __mmask16 nan = _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q);
    rounded = _mm512_mask_blend_epi32(nan, rounded, _mm512_set1_epi32(0x7FC00000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

INLINED numbers
widen_bfloat16(__m256i halves)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

INLINED __m256i
round_float16(numbers values)
{
    return _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT);
}

#include "arrays/dequantize_row_wide.h"

ptrdiff_t
ktc_row_decode_avx512(const ktc_row *row)
{
    return ktc_row_decode_wide(row);
}

#endif
