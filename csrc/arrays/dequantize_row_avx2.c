/* Owns the decoder of a row with 256-bit registers: 16 numbers are two of them. */
#include "arrays/dequantize_row.h"

#ifdef KTC_HAS_X86

#include <immintrin.h>

#define WIDE_TARGET KTC_TARGET_AVX2
#define INLINED WIDE_TARGET KTC_INLINED

typedef struct {
    __m256 low;
    __m256 high;
} numbers;

INLINED numbers
load(const float *floats)
{
    return (numbers){_mm256_loadu_ps(floats), _mm256_loadu_ps(floats + 8)};
}

INLINED void
store_floats(float *floats, numbers values)
{
    _mm256_storeu_ps(floats, values.low);
    _mm256_storeu_ps(floats + 8, values.high);
}

INLINED numbers
spread(float value)
{
    return (numbers){_mm256_set1_ps(value), _mm256_set1_ps(value)};
}

INLINED numbers
subtract(numbers from, numbers values)
{
    return (numbers){_mm256_sub_ps(from.low, values.low), _mm256_sub_ps(from.high, values.high)};
}

INLINED numbers
multiply(numbers values, numbers by)
{
    return (numbers){_mm256_mul_ps(values.low, by.low), _mm256_mul_ps(values.high, by.high)};
}

INLINED numbers
widen_halves(__m256i halves)
{
    return (numbers){_mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
                     _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1))};
}

INLINED numbers
widen_bytes(__m128i codes)
{
    return (numbers){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes)),
                     _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(codes, 8)))};
}

INLINED __m256
widen_eight_words(const uint32_t *words, int bits, int shift)
{
    __m256i found = _mm256_loadu_si256((const __m256i *)(const void *)words);
    found = _mm256_srl_epi32(found, _mm_cvtsi32_si128(shift));
    return _mm256_cvtepi32_ps(_mm256_and_si256(found, _mm256_set1_epi32((1 << bits) - 1)));
}

INLINED numbers
widen_words(const uint32_t *words, int bits, int shift)
{
    return (numbers){widen_eight_words(words, bits, shift),
                     widen_eight_words(words + 8, bits, shift)};
}

/* The bits of the nearest bfloat16, each in 32. */
INLINED __m256i
round_eight_bfloat16(__m256 value)
{
    __m256i bits = _mm256_castps_si256(value);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    __m256 nan = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
    rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7FC00000), _mm256_castps_si256(nan));
    return _mm256_srli_epi32(rounded, 16);
}

INLINED __m256i
round_bfloat16(numbers values)
{
    __m256i packed =
        _mm256_packus_epi32(round_eight_bfloat16(values.low), round_eight_bfloat16(values.high));
    return _mm256_permute4x64_epi64(packed, 0xD8);
}

INLINED __m256
widen_eight_bfloat16(__m128i halves)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

INLINED numbers
widen_bfloat16(__m256i halves)
{
    return (numbers){widen_eight_bfloat16(_mm256_castsi256_si128(halves)),
                     widen_eight_bfloat16(_mm256_extracti128_si256(halves, 1))};
}

INLINED __m256i
round_float16(numbers values)
{
    return _mm256_set_m128i(_mm256_cvtps_ph(values.high, _MM_FROUND_TO_NEAREST_INT),
                            _mm256_cvtps_ph(values.low, _MM_FROUND_TO_NEAREST_INT));
}

#include "arrays/dequantize_row_wide.h"

ptrdiff_t
ktc_row_decode_avx2(const ktc_row *row)
{
    return ktc_row_decode_wide(row);
}

#endif
