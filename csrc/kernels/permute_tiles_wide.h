/* The register tiles that AVX2 and AVX-512 share: 16 source bytes wide, one target cache line (64 bytes) tall.
 *
 * A template, included once by permute_tiles_avx2.c and once by permute_tiles_avx512.c, which before that define
 *   KTC_WIDE_TARGET         the mark of functions that use the set
 *   KTC_WIDE_BYTES          bytes of a register: 32 or 64
 *   ktc_wide                its type
 *   ktc_wide_load           16-byte pieces of rows `stride` bytes apart, one in each 128-bit lane
 *   ktc_wide_load_run       one register from any address
 *   ktc_wide_store          one register to any address; streaming to a boundary of its own size when `is_streaming`
 *   KTC_WIDE_LOW_2 to _8, KTC_WIDE_HIGH_2 to _8
 *                           the lower, the upper halves of two registers' lanes interleaved, by elements of that many
 * bytes
 */
#ifdef KTC_WIDE_BYTES

#include <string.h>

/* Rows of elements of item_size bytes that one register takes of each column. */
#define ROWS_OF(item_size) (KTC_WIDE_BYTES / (item_size))

/* Transposes 4 x 4 elements of four bytes in each lane of four registers and stores them as four columns.
 * `is_streaming` is a constant wherever this is inlined, here and below. */
KTC_WIDE_TARGET static inline void
ktc_wide_store_columns_of_4_bytes(ktc_wide row0, ktc_wide row1, ktc_wide row2, ktc_wide row3, char *const *targets,
                                  ptrdiff_t shift, int is_streaming)
{
    ktc_wide low01 = KTC_WIDE_LOW_4(row0, row1);
    ktc_wide high01 = KTC_WIDE_HIGH_4(row0, row1);
    ktc_wide low23 = KTC_WIDE_LOW_4(row2, row3);
    ktc_wide high23 = KTC_WIDE_HIGH_4(row2, row3);
    ktc_wide_store(targets[0] + shift, KTC_WIDE_LOW_8(low01, low23), is_streaming);
    ktc_wide_store(targets[1] + shift, KTC_WIDE_HIGH_8(low01, low23), is_streaming);
    ktc_wide_store(targets[2] + shift, KTC_WIDE_LOW_8(high01, high23), is_streaming);
    ktc_wide_store(targets[3] + shift, KTC_WIDE_HIGH_8(high01, high23), is_streaming);
}

/* Eight columns: neighbouring rows are interleaved into pairs, which then move as elements of four bytes. */
KTC_WIDE_TARGET static inline void
ktc_wide_tile_of_2_bytes(const char *source, ptrdiff_t row_stride, char *const *targets, ptrdiff_t shift,
                         int is_streaming)
{
    ktc_wide low[4];
    ktc_wide high[4];
    for (int pair = 0; pair < 4; pair++) {
        ktc_wide even = ktc_wide_load(source + 2 * pair * row_stride, 8 * row_stride);
        ktc_wide odd = ktc_wide_load(source + (2 * pair + 1) * row_stride, 8 * row_stride);
        low[pair] = KTC_WIDE_LOW_2(even, odd);
        high[pair] = KTC_WIDE_HIGH_2(even, odd);
    }
    ktc_wide_store_columns_of_4_bytes(low[0], low[1], low[2], low[3], targets, shift, is_streaming);
    ktc_wide_store_columns_of_4_bytes(high[0], high[1], high[2], high[3], targets + 4, shift, is_streaming);
}

/* Four columns. */
KTC_WIDE_TARGET static inline void
ktc_wide_tile_of_4_bytes(const char *source, ptrdiff_t row_stride, char *const *targets, ptrdiff_t shift,
                         int is_streaming)
{
    ktc_wide_store_columns_of_4_bytes(
        ktc_wide_load(source, 4 * row_stride), ktc_wide_load(source + row_stride, 4 * row_stride),
        ktc_wide_load(source + 2 * row_stride, 4 * row_stride), ktc_wide_load(source + 3 * row_stride, 4 * row_stride),
        targets, shift, is_streaming);
}

/* Two columns. */
KTC_WIDE_TARGET static inline void
ktc_wide_tile_of_8_bytes(const char *source, ptrdiff_t row_stride, char *const *targets, ptrdiff_t shift,
                         int is_streaming)
{
    ktc_wide even = ktc_wide_load(source, 2 * row_stride);
    ktc_wide odd = ktc_wide_load(source + row_stride, 2 * row_stride);
    ktc_wide_store(targets[0] + shift, KTC_WIDE_LOW_8(even, odd), is_streaming);
    ktc_wide_store(targets[1] + shift, KTC_WIDE_HIGH_8(even, odd), is_streaming);
}

/* A panel of tiles; a register that is half a cache line tall is followed by the one below it. */
#define KTC_WIDE_DEFINE_PANEL(name, tile, item_size, is_streaming)                                                   \
    KTC_WIDE_TARGET static void name(const char *source, ptrdiff_t row_stride, ptrdiff_t rows, char *const *targets, \
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
                if (KTC_WIDE_BYTES < 64) {                                                                           \
                    tile(corner + ROWS_OF(item_size) * row_stride, row_stride, targets + column,                     \
                         row * (item_size) + KTC_WIDE_BYTES, is_streaming);                                          \
                }                                                                                                    \
            }                                                                                                        \
        }                                                                                                            \
    }

KTC_WIDE_DEFINE_PANEL(ktc_wide_copy_of_2_bytes, ktc_wide_tile_of_2_bytes, 2, 0)
KTC_WIDE_DEFINE_PANEL(ktc_wide_stream_of_2_bytes, ktc_wide_tile_of_2_bytes, 2, 1)
KTC_WIDE_DEFINE_PANEL(ktc_wide_copy_of_4_bytes, ktc_wide_tile_of_4_bytes, 4, 0)
KTC_WIDE_DEFINE_PANEL(ktc_wide_stream_of_4_bytes, ktc_wide_tile_of_4_bytes, 4, 1)
KTC_WIDE_DEFINE_PANEL(ktc_wide_copy_of_8_bytes, ktc_wide_tile_of_8_bytes, 8, 0)
KTC_WIDE_DEFINE_PANEL(ktc_wide_stream_of_8_bytes, ktc_wide_tile_of_8_bytes, 8, 1)

/* Whole cache lines by streaming stores, the two ends by plain ones. */
KTC_WIDE_TARGET static void
ktc_wide_stream_copy(const char *source, char *target, ptrdiff_t length)
{
    ptrdiff_t head = (ptrdiff_t)((64 - ((size_t)target & 63)) & 63);
    if (head > length) {
        head = length;
    }
    memcpy(target, source, (size_t)head);
    ptrdiff_t done = head;
    for (; done + 64 <= length; done += 64) {
        for (ptrdiff_t part = done; part < done + 64; part += KTC_WIDE_BYTES) {
            ktc_wide_store(target + part, ktc_wide_load_run(source + part), 1);
        }
    }
    memcpy(target + done, source + done, (size_t)(length - done));
}

static void
ktc_wide_stream_finish(void)
{
    _mm_sfence();
}

/* As ktc_tiles_find. */
static int
ktc_wide_tiles_find(ptrdiff_t item_size, ktc_tiles *tiles)
{
    *tiles = (ktc_tiles){.tile_rows = 64 / item_size,
                         .tile_columns = 16 / item_size,
                         .stream_copy = ktc_wide_stream_copy,
                         .stream_finish = ktc_wide_stream_finish};
    switch (item_size) {
    case 2:
        tiles->panel_copy = ktc_wide_copy_of_2_bytes;
        tiles->panel_stream = ktc_wide_stream_of_2_bytes;
        return 1;
    case 4:
        tiles->panel_copy = ktc_wide_copy_of_4_bytes;
        tiles->panel_stream = ktc_wide_stream_of_4_bytes;
        return 1;
    case 8:
        tiles->panel_copy = ktc_wide_copy_of_8_bytes;
        tiles->panel_stream = ktc_wide_stream_of_8_bytes;
        return 1;
    default:
        return 0;
    }
}

#endif
