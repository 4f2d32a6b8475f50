/* Owns the loops over registers of 16 codes. Small floats of 8 bits are, shifted, numbers of half
 * precision, which the processor widens, subnormal ones too. */
#include "arrays/dequantize_row.h"

#ifdef KTC_HAS_X86

#include <immintrin.h>

#if defined(__GNUC__) || defined(__clang__)
#define INLINED KTC_TARGET_AVX2 static inline __attribute__((always_inline))
#else
#define INLINED static __forceinline
#endif

/* Codes at a time. */
#define STEP 16

/* 16 numbers. */
typedef struct {
    __m256 low;
    __m256 high;
} numbers;

INLINED numbers
widen_halves(__m128i low, __m128i high)
{
    return (numbers){_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)};
}

INLINED numbers
widen_e5m2(__m128i codes)
{
    __m128i zero = _mm_setzero_si128();
    return widen_halves(_mm_unpacklo_epi8(zero, codes), _mm_unpackhi_epi8(zero, codes));
}

INLINED numbers
widen_e4m3fn(__m128i codes)
{
    __m256i most = _mm256_set1_epi16(0x3F80);
    /* The sign is spread over the upper byte; one copy of it stays. */
    __m256i halves = _mm256_and_si256(_mm256_slli_epi16(_mm256_cvtepi8_epi16(codes), 7),
                                      _mm256_set1_epi16((short)0xBF80));
    __m256i is_nan = _mm256_cmpeq_epi16(_mm256_and_si256(halves, most), most);
    halves = _mm256_or_si256(halves, _mm256_and_si256(is_nan, _mm256_set1_epi16(0x7E00)));
    numbers wide =
        widen_halves(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
    /* Exponents of half precision count from another number. */
    __m256 factor = _mm256_set1_ps(256.0f);
    return (numbers){_mm256_mul_ps(wide.low, factor), _mm256_mul_ps(wide.high, factor)};
}

/* Lower halves of eight bytes before upper ones: bytes 0 to 7, 8 to 15. */
INLINED __m128i
half_bytes(const uint8_t *codes)
{
    __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)codes);
    __m128i low = _mm_set1_epi8(15);
    return _mm_unpacklo_epi64(_mm_and_si128(bytes, low),
                              _mm_and_si128(_mm_srli_epi16(bytes, 4), low));
}

INLINED numbers
widen_e2m1fn(const uint8_t *codes)
{
    const __m128i in_turn = _mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    /* The upper bytes of 0, 0.5, 1, 1.5, 2, 3, 4 and 6 in half precision. */
    const __m128i table =
        _mm_setr_epi8(0x00, 0x38, 0x3C, 0x3E, 0x40, 0x42, 0x44, 0x46, (char)0x80, (char)0xB8,
                      (char)0xBC, (char)0xBE, (char)0xC0, (char)0xC2, (char)0xC4, (char)0xC6);
    return widen_e5m2(_mm_shuffle_epi8(table, _mm_shuffle_epi8(half_bytes(codes), in_turn)));
}

INLINED numbers
widen_bytes(__m128i codes)
{
    return (numbers){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes)),
                     _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(codes, 8)))};
}

INLINED __m256
widen_words(const uint32_t *words, int bits, int shift)
{
    __m256i found = _mm256_loadu_si256((const __m256i *)(const void *)words);
    found = _mm256_srl_epi32(found, _mm_cvtsi32_si128(shift));
    return _mm256_cvtepi32_ps(_mm256_and_si256(found, _mm256_set1_epi32((1 << bits) - 1)));
}

/* The numbers of 16 columns from `at` on, before zeros and factors. */
INLINED numbers
widen(const ktc_row *row, ktc_row_codes kind, ptrdiff_t at)
{
    const uint8_t *bytes = row->codes;
    const uint32_t *words = row->codes;
    const __m128i awq_of_8 = _mm_setr_epi8(0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15);
    const __m128i awq_of_4 = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
    switch (kind) {
    case E4M3FN:
        return widen_e4m3fn(_mm_loadu_si128((const __m128i *)(const void *)(bytes + at)));
    case E5M2:
        return widen_e5m2(_mm_loadu_si128((const __m128i *)(const void *)(bytes + at)));
    case E2M1FN:
        return widen_e2m1fn(bytes + at / 2);
    case WORDS_OF_8:
        return widen_bytes(_mm_shuffle_epi8(half_bytes(bytes + at / 2), awq_of_8));
    case WORDS_OF_4:
        return widen_bytes(_mm_shuffle_epi8(
            _mm_loadu_si128((const __m128i *)(const void *)(bytes + at)), awq_of_4));
    default:
        return (numbers){widen_words(words + at, row->bits, row->shift),
                         widen_words(words + at + 8, row->bits, row->shift)};
    }
}

/* float32 with the bits of the nearest bfloat16 in the upper half; what is below is of no use. */
INLINED __m256i
round_bfloat16(__m256 value)
{
    __m256i bits = _mm256_castps_si256(value);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    __m256 nan = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
    return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7FC00000), _mm256_castps_si256(nan));
}

INLINED __m256
round_to_bfloat16(__m256 value)
{
    __m256i upper = _mm256_set1_epi32((int)0xFFFF0000u);
    return _mm256_castsi256_ps(_mm256_and_si256(round_bfloat16(value), upper));
}

INLINED __m128i
round_float16(__m256 value)
{
    return _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT);
}

INLINED void
store(numbers found, ktc_row_numbers wanted, void *target, ptrdiff_t at)
{
    uint16_t *halves = (uint16_t *)target + at;
    float *floats = (float *)target + at;
    switch (wanted) {
    case TO_BFLOAT16: {
        __m256i packed = _mm256_packus_epi32(_mm256_srli_epi32(round_bfloat16(found.low), 16),
                                             _mm256_srli_epi32(round_bfloat16(found.high), 16));
        _mm256_storeu_si256((__m256i *)(void *)halves, _mm256_permute4x64_epi64(packed, 0xD8));
        return;
    }
    case TO_FLOAT16:
        _mm_storeu_si128((__m128i *)(void *)halves, round_float16(found.low));
        _mm_storeu_si128((__m128i *)(void *)(halves + 8), round_float16(found.high));
        return;
    case BY_BFLOAT16:
        found = (numbers){round_to_bfloat16(found.low), round_to_bfloat16(found.high)};
        break;
    case BY_FLOAT16:
        found = widen_halves(round_float16(found.low), round_float16(found.high));
        break;
    default:
        break;
    }
    _mm256_storeu_ps(floats, found.low);
    _mm256_storeu_ps(floats + 8, found.high);
}

/* `is_shared`: registers of columns have one factor. */
INLINED ptrdiff_t
decode(const ktc_row *row, ktc_row_codes kind, ktc_row_numbers wanted, int is_shared)
{
    ptrdiff_t end = row->count - row->count % STEP;
    for (ptrdiff_t at = 0; at < end;) {
        numbers scales;
        ptrdiff_t run = end;
        if (is_shared) {
            scales.low = scales.high = _mm256_set1_ps(row->scales[at / row->scale_columns]);
            run = row->scale_columns < end - at ? at + row->scale_columns : end;
        }
        for (; at < run; at += STEP) {
            numbers found = widen(row, kind, at);
            if (!is_shared) {
                scales.low = _mm256_loadu_ps(row->scales + at);
                scales.high = _mm256_loadu_ps(row->scales + at + 8);
            }
            if (kind >= IN_WORDS) {
                found.low = _mm256_sub_ps(found.low, _mm256_loadu_ps(row->zeros + at));
                found.high = _mm256_sub_ps(found.high, _mm256_loadu_ps(row->zeros + at + 8));
            }
            found.low = _mm256_mul_ps(found.low, scales.low);
            found.high = _mm256_mul_ps(found.high, scales.high);
            store(found, wanted, row->numbers, at);
        }
    }
    return end;
}

#define DECODE(kind, wanted)                                                                   \
    (kind) < IN_WORDS && row->scale_columns > 1 ? decode(row, kind, wanted, (kind) < IN_WORDS) \
                                                : decode(row, kind, wanted, 0)

/* With constants, so that each loop is one of its own. */
#define DEFINE_DECODE(name, kind)                             \
    KTC_TARGET_AVX2 static ptrdiff_t name(const ktc_row *row) \
    {                                                         \
        switch (row->wanted) {                                \
        case TO_BFLOAT16:                                     \
            return DECODE(kind, TO_BFLOAT16);                 \
        case TO_FLOAT16:                                      \
            return DECODE(kind, TO_FLOAT16);                  \
        case BY_BFLOAT16:                                     \
            return DECODE(kind, BY_BFLOAT16);                 \
        case BY_FLOAT16:                                      \
            return DECODE(kind, BY_FLOAT16);                  \
        default:                                              \
            return DECODE(kind, TO_FLOAT32);                  \
        }                                                     \
    }

DEFINE_DECODE(decode_e4m3fn, E4M3FN)
DEFINE_DECODE(decode_e5m2, E5M2)
DEFINE_DECODE(decode_e2m1fn, E2M1FN)
DEFINE_DECODE(decode_in_words, IN_WORDS)
DEFINE_DECODE(decode_words_of_8, WORDS_OF_8)
DEFINE_DECODE(decode_words_of_4, WORDS_OF_4)

ptrdiff_t
ktc_row_decode_avx2(const ktc_row *row)
{
    switch (row->kind) {
    case E4M3FN:
        return decode_e4m3fn(row);
    case E5M2:
        return decode_e5m2(row);
    case E2M1FN:
        return decode_e2m1fn(row);
    case IN_WORDS:
        return decode_in_words(row);
    case WORDS_OF_8:
        return decode_words_of_8(row);
    default:
        return decode_words_of_4(row);
    }
}

#endif
