/* Owns the register tiles of 256-bit registers: two of them, one below the other, fill a target
 * cache line. */
#include "arrays/permute_tiles.h"

#ifdef KTC_HAS_X86

#include <immintrin.h>

#define KTC_WIDE_TARGET KTC_TARGET_AVX2
#define KTC_WIDE_BYTES 32
#define KTC_WIDE_LOW_1(first, second) _mm256_unpacklo_epi8(first, second)
#define KTC_WIDE_HIGH_1(first, second) _mm256_unpackhi_epi8(first, second)
#define KTC_WIDE_LOW_2(first, second) _mm256_unpacklo_epi16(first, second)
#define KTC_WIDE_HIGH_2(first, second) _mm256_unpackhi_epi16(first, second)
#define KTC_WIDE_LOW_4(first, second) _mm256_unpacklo_epi32(first, second)
#define KTC_WIDE_HIGH_4(first, second) _mm256_unpackhi_epi32(first, second)
#define KTC_WIDE_LOW_8(first, second) _mm256_unpacklo_epi64(first, second)
#define KTC_WIDE_HIGH_8(first, second) _mm256_unpackhi_epi64(first, second)

typedef __m256i ktc_wide;

KTC_TARGET_AVX2 static inline ktc_wide
ktc_wide_load(const char *source, ptrdiff_t stride)
{
    ktc_wide lanes = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)source));
    return _mm256_inserti128_si256(lanes, _mm_loadu_si128((const __m128i *)(source + stride)), 1);
}

KTC_TARGET_AVX2 static inline void
ktc_wide_load_square(const char *source, ptrdiff_t stride, ktc_wide *pieces)
{
    ktc_wide upper = _mm256_loadu_si256((const __m256i *)(const void *)source);
    ktc_wide lower = _mm256_loadu_si256((const __m256i *)(const void *)(source + stride));
    pieces[0] = _mm256_permute2x128_si256(upper, lower, 0x20);
    pieces[1] = _mm256_permute2x128_si256(upper, lower, 0x31);
}

KTC_TARGET_AVX2 static inline ktc_wide
ktc_wide_load_run(const char *source)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)source);
}

KTC_TARGET_AVX2 static inline void
ktc_wide_store(char *target, ktc_wide value, int is_streaming)
{
    if (is_streaming) {
        _mm256_stream_si256((__m256i *)(void *)target, value);
    }
    else {
        _mm256_storeu_si256((__m256i *)(void *)target, value);
    }
}

#include "arrays/permute_tiles_wide.h"

int
ktc_tiles_find_avx2(ptrdiff_t item_size, ktc_tiles *tiles)
{
    return ktc_wide_tiles_find(item_size, tiles);
}

#endif
