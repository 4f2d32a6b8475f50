/* Owns the register tiles of 512-bit registers: each is a target cache line. */
#include "arrays/permute_tiles.h"

#ifdef KTC_HAS_X86

#include <immintrin.h>

#define KTC_WIDE_TARGET KTC_TARGET_AVX512
#define KTC_WIDE_BYTES 64
#define KTC_WIDE_LOW_1(first, second) _mm512_unpacklo_epi8(first, second)
#define KTC_WIDE_HIGH_1(first, second) _mm512_unpackhi_epi8(first, second)
#define KTC_WIDE_LOW_2(first, second) _mm512_unpacklo_epi16(first, second)
#define KTC_WIDE_HIGH_2(first, second) _mm512_unpackhi_epi16(first, second)
#define KTC_WIDE_LOW_4(first, second) _mm512_unpacklo_epi32(first, second)
#define KTC_WIDE_HIGH_4(first, second) _mm512_unpackhi_epi32(first, second)
#define KTC_WIDE_LOW_8(first, second) _mm512_unpacklo_epi64(first, second)
#define KTC_WIDE_HIGH_8(first, second) _mm512_unpackhi_epi64(first, second)

typedef __m512i ktc_wide;

KTC_TARGET_AVX512 static inline ktc_wide
ktc_wide_load(const char *source, ptrdiff_t stride)
{
    ktc_wide lanes = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)source));
    lanes = _mm512_inserti32x4(lanes, _mm_loadu_si128((const __m128i *)(source + stride)), 1);
    lanes = _mm512_inserti32x4(lanes, _mm_loadu_si128((const __m128i *)(source + 2 * stride)), 2);
    return _mm512_inserti32x4(lanes, _mm_loadu_si128((const __m128i *)(source + 3 * stride)), 3);
}

KTC_TARGET_AVX512 static inline void
ktc_wide_load_square(const char *source, ptrdiff_t stride, ktc_wide *pieces)
{
    ktc_wide row0 = _mm512_loadu_si512(source);
    ktc_wide row1 = _mm512_loadu_si512(source + stride);
    ktc_wide row2 = _mm512_loadu_si512(source + 2 * stride);
    ktc_wide row3 = _mm512_loadu_si512(source + 3 * stride);
    ktc_wide left01 = _mm512_shuffle_i32x4(row0, row1, 0x44);
    ktc_wide left23 = _mm512_shuffle_i32x4(row2, row3, 0x44);
    ktc_wide right01 = _mm512_shuffle_i32x4(row0, row1, 0xEE);
    ktc_wide right23 = _mm512_shuffle_i32x4(row2, row3, 0xEE);
    pieces[0] = _mm512_shuffle_i32x4(left01, left23, 0x88);
    pieces[1] = _mm512_shuffle_i32x4(left01, left23, 0xDD);
    pieces[2] = _mm512_shuffle_i32x4(right01, right23, 0x88);
    pieces[3] = _mm512_shuffle_i32x4(right01, right23, 0xDD);
}

KTC_TARGET_AVX512 static inline ktc_wide
ktc_wide_load_run(const char *source)
{
    return _mm512_loadu_si512(source);
}

KTC_TARGET_AVX512 static inline void
ktc_wide_store(char *target, ktc_wide value, int is_streaming)
{
    if (is_streaming) {
        _mm512_stream_si512((void *)target, value);
    }
    else {
        _mm512_storeu_si512((void *)target, value);
    }
}

#include "arrays/permute_tiles_wide.h"

int
ktc_tiles_find_avx512(ptrdiff_t item_size, ktc_tiles *tiles)
{
    return ktc_wide_tiles_find(item_size, tiles);
}

#endif
