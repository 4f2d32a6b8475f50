/* Owns the register tiles of 256-bit registers: 16 source bytes wide, 32 target bytes tall, two of them one below the
 * other so that a target cache line is filled at once. */
#include "kernels/permute_tiles.h"

#ifdef KTC_HAS_X86

#include <immintrin.h>
#include <string.h>

/* Two 16-byte pieces of source rows, one in each half of a register. */
KTC_TARGET_AVX2 static inline __m256i
load_halves(const char *source, ptrdiff_t half_stride)
{
    __m256i halves = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)source));
    return _mm256_inserti128_si256(halves, _mm_loadu_si128((const __m128i *)(source + half_stride)), 1);
}

/* `is_streaming` is a constant wherever this is inlined, here and below: a streaming store needs a 32-byte boundary. */
KTC_TARGET_AVX2 static inline void
store(char *target, __m256i value, int is_streaming)
{
    if (is_streaming) {
        _mm256_stream_si256((__m256i *)(void *)target, value);
    }
    else {
        _mm256_storeu_si256((__m256i *)(void *)target, value);
    }
}

/* Transposes 4 x 4 elements of four bytes in each half of four registers and stores them as four columns. */
KTC_TARGET_AVX2 static inline void
store_columns_of_4_bytes(__m256i row0, __m256i row1, __m256i row2, __m256i row3, char *const *targets, ptrdiff_t shift,
                         int is_streaming)
{
    __m256i low01 = _mm256_unpacklo_epi32(row0, row1);
    __m256i high01 = _mm256_unpackhi_epi32(row0, row1);
    __m256i low23 = _mm256_unpacklo_epi32(row2, row3);
    __m256i high23 = _mm256_unpackhi_epi32(row2, row3);
    store(targets[0] + shift, _mm256_unpacklo_epi64(low01, low23), is_streaming);
    store(targets[1] + shift, _mm256_unpackhi_epi64(low01, low23), is_streaming);
    store(targets[2] + shift, _mm256_unpacklo_epi64(high01, high23), is_streaming);
    store(targets[3] + shift, _mm256_unpackhi_epi64(high01, high23), is_streaming);
}

/* 16 rows of 8 columns: neighbouring rows are interleaved into pairs, which then move as elements of four bytes. */
KTC_TARGET_AVX2 static inline void
tile_of_2_bytes(const char *source, ptrdiff_t row_stride, char *const *targets, ptrdiff_t shift, int is_streaming)
{
    __m256i low[4];
    __m256i high[4];
    for (int pair = 0; pair < 4; pair++) {
        __m256i even = load_halves(source + 2 * pair * row_stride, 8 * row_stride);
        __m256i odd = load_halves(source + (2 * pair + 1) * row_stride, 8 * row_stride);
        low[pair] = _mm256_unpacklo_epi16(even, odd);
        high[pair] = _mm256_unpackhi_epi16(even, odd);
    }
    store_columns_of_4_bytes(low[0], low[1], low[2], low[3], targets, shift, is_streaming);
    store_columns_of_4_bytes(high[0], high[1], high[2], high[3], targets + 4, shift, is_streaming);
}

/* 8 rows of 4 columns. */
KTC_TARGET_AVX2 static inline void
tile_of_4_bytes(const char *source, ptrdiff_t row_stride, char *const *targets, ptrdiff_t shift, int is_streaming)
{
    store_columns_of_4_bytes(load_halves(source, 4 * row_stride), load_halves(source + row_stride, 4 * row_stride),
                             load_halves(source + 2 * row_stride, 4 * row_stride),
                             load_halves(source + 3 * row_stride, 4 * row_stride), targets, shift, is_streaming);
}

/* 4 rows of 2 columns. */
KTC_TARGET_AVX2 static inline void
tile_of_8_bytes(const char *source, ptrdiff_t row_stride, char *const *targets, ptrdiff_t shift, int is_streaming)
{
    __m256i even = load_halves(source, 2 * row_stride);
    __m256i odd = load_halves(source + row_stride, 2 * row_stride);
    store(targets[0] + shift, _mm256_unpacklo_epi64(even, odd), is_streaming);
    store(targets[1] + shift, _mm256_unpackhi_epi64(even, odd), is_streaming);
}

#define DEFINE_PANEL(name, tile, item_size, is_streaming)                                                            \
    KTC_TARGET_AVX2 static void name(const char *source, ptrdiff_t row_stride, ptrdiff_t rows, char *const *targets, \
                                     ptrdiff_t columns)                                                              \
    {                                                                                                                \
        const ptrdiff_t tile_rows = 64 / (item_size);                                                                \
        const ptrdiff_t tile_columns = 16 / (item_size);                                                             \
        for (ptrdiff_t row_next = 0; row_next < rows; row_next += tile_rows) {                                       \
            ptrdiff_t row = row_next + tile_rows > rows ? rows - tile_rows : row_next;                               \
            for (ptrdiff_t column_next = 0; column_next < columns; column_next += tile_columns) {                    \
                ptrdiff_t column = column_next + tile_columns > columns ? columns - tile_columns : column_next;      \
                const char *corner = source + row * row_stride + column * (item_size);                               \
                tile(corner, row_stride, targets + column, row * (item_size), is_streaming);                         \
                tile(corner + tile_rows / 2 * row_stride, row_stride, targets + column, row * (item_size) + 32,      \
                     is_streaming);                                                                                  \
            }                                                                                                        \
        }                                                                                                            \
    }

DEFINE_PANEL(copy_of_2_bytes, tile_of_2_bytes, 2, 0)
DEFINE_PANEL(stream_of_2_bytes, tile_of_2_bytes, 2, 1)
DEFINE_PANEL(copy_of_4_bytes, tile_of_4_bytes, 4, 0)
DEFINE_PANEL(stream_of_4_bytes, tile_of_4_bytes, 4, 1)
DEFINE_PANEL(copy_of_8_bytes, tile_of_8_bytes, 8, 0)
DEFINE_PANEL(stream_of_8_bytes, tile_of_8_bytes, 8, 1)

/* Whole cache lines by streaming stores, the two ends by plain ones. */
KTC_TARGET_AVX2 static void
stream_copy(const char *source, char *target, ptrdiff_t length)
{
    ptrdiff_t head = (ptrdiff_t)((64 - ((size_t)target & 63)) & 63);
    if (head > length) {
        head = length;
    }
    memcpy(target, source, (size_t)head);
    ptrdiff_t done = head;
    for (; done + 64 <= length; done += 64) {
        __m256i first = _mm256_loadu_si256((const __m256i *)(source + done));
        __m256i second = _mm256_loadu_si256((const __m256i *)(source + done + 32));
        _mm256_stream_si256((__m256i *)(target + done), first);
        _mm256_stream_si256((__m256i *)(target + done + 32), second);
    }
    memcpy(target + done, source + done, (size_t)(length - done));
}

static void
stream_finish(void)
{
    _mm_sfence();
}

int
ktc_tiles_find_avx2(ptrdiff_t item_size, ktc_tiles *tiles)
{
    *tiles = (ktc_tiles){.tile_rows = 64 / item_size,
                         .tile_columns = 16 / item_size,
                         .stream_copy = stream_copy,
                         .stream_finish = stream_finish};
    switch (item_size) {
    case 2:
        tiles->panel_copy = copy_of_2_bytes;
        tiles->panel_stream = stream_of_2_bytes;
        return 1;
    case 4:
        tiles->panel_copy = copy_of_4_bytes;
        tiles->panel_stream = stream_of_4_bytes;
        return 1;
    case 8:
        tiles->panel_copy = copy_of_8_bytes;
        tiles->panel_stream = stream_of_8_bytes;
        return 1;
    default:
        return 0;
    }
}

#endif
