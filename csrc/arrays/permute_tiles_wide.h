/* The register tiles that AVX2 and AVX-512 share: 16 source bytes or one register wide, one target
 * cache line (64 bytes) tall.
 *
 * A template, included once by permute_tiles_avx2.c and once by permute_tiles_avx512.c, which
 * before that define KTC_WIDE_TARGET         the mark of functions that use the set KTC_WIDE_BYTES
 * bytes of a register: 32 or 64 ktc_wide                its type ktc_wide_load           16-byte
 * pieces of rows `stride` bytes apart, one in each 128-bit lane ktc_wide_load_square    a whole
 * register of each of as many rows as it has lanes, `stride` bytes apart; piece k is what
 * ktc_wide_load gives 16 * k bytes further ktc_wide_load_run       one register from any address
 *   ktc_wide_store          one register to any address; streaming to a boundary of its own size
 * when `is_streaming` KTC_WIDE_LOW_1 to _8, KTC_WIDE_HIGH_1 to _8 the lower, the upper halves of
 * two registers' lanes interleaved, by elements of that many bytes
 */
#ifdef KTC_WIDE_BYTES

#include <string.h>

/* Rows of elements of item_size bytes that one register takes of each column. */
#define ROWS_OF(item_size) (KTC_WIDE_BYTES / (item_size))

/* 16-byte lanes of a register, and rows of elements of item_size bytes that one lane takes of each
 * column. */
#define LANES (KTC_WIDE_BYTES / 16)
#define ROWS_OF_LANE(item_size) (16 / (item_size))

/* Transposes 4 x 4 elements of four bytes in each lane of four registers and stores them as four
 * columns. `is_streaming` is a constant wherever this is inlined, here and below. */
KTC_WIDE_TARGET static inline void
ktc_wide_store_columns_of_4_bytes(const ktc_wide *rows, char *const *targets, ptrdiff_t shift,
                                  int is_streaming)
{
    ktc_wide low01 = KTC_WIDE_LOW_4(rows[0], rows[1]);
    ktc_wide high01 = KTC_WIDE_HIGH_4(rows[0], rows[1]);
    ktc_wide low23 = KTC_WIDE_LOW_4(rows[2], rows[3]);
    ktc_wide high23 = KTC_WIDE_HIGH_4(rows[2], rows[3]);
    ktc_wide_store(targets[0] + shift, KTC_WIDE_LOW_8(low01, low23), is_streaming);
    ktc_wide_store(targets[1] + shift, KTC_WIDE_HIGH_8(low01, low23), is_streaming);
    ktc_wide_store(targets[2] + shift, KTC_WIDE_LOW_8(high01, high23), is_streaming);
    ktc_wide_store(targets[3] + shift, KTC_WIDE_HIGH_8(high01, high23), is_streaming);
}

/* Eight columns: neighboring rows are interleaved into pairs, which then move as elements of four
 * bytes. */
KTC_WIDE_TARGET static inline void
ktc_wide_store_columns_of_2_bytes(const ktc_wide *rows, char *const *targets, ptrdiff_t shift,
                                  int is_streaming)
{
    ktc_wide low[4];
    ktc_wide high[4];
    for (int pair = 0; pair < 4; pair++) {
        low[pair] = KTC_WIDE_LOW_2(rows[2 * pair], rows[2 * pair + 1]);
        high[pair] = KTC_WIDE_HIGH_2(rows[2 * pair], rows[2 * pair + 1]);
    }
    ktc_wide_store_columns_of_4_bytes(low, targets, shift, is_streaming);
    ktc_wide_store_columns_of_4_bytes(high, targets + 4, shift, is_streaming);
}

/* Sixteen columns: the same once more. */
KTC_WIDE_TARGET static inline void
ktc_wide_store_columns_of_1_bytes(const ktc_wide *rows, char *const *targets, ptrdiff_t shift,
                                  int is_streaming)
{
    ktc_wide low[8];
    ktc_wide high[8];
    for (int pair = 0; pair < 8; pair++) {
        low[pair] = KTC_WIDE_LOW_1(rows[2 * pair], rows[2 * pair + 1]);
        high[pair] = KTC_WIDE_HIGH_1(rows[2 * pair], rows[2 * pair + 1]);
    }
    ktc_wide_store_columns_of_2_bytes(low, targets, shift, is_streaming);
    ktc_wide_store_columns_of_2_bytes(high, targets + 8, shift, is_streaming);
}

/* Two columns. */
KTC_WIDE_TARGET static inline void
ktc_wide_store_columns_of_8_bytes(const ktc_wide *rows, char *const *targets, ptrdiff_t shift,
                                  int is_streaming)
{
    ktc_wide_store(targets[0] + shift, KTC_WIDE_LOW_8(rows[0], rows[1]), is_streaming);
    ktc_wide_store(targets[1] + shift, KTC_WIDE_HIGH_8(rows[0], rows[1]), is_streaming);
}

/* Two tiles, both one register of rows tall: 16 source bytes wide, and a whole register wide, which
 * reads each source line once or twice instead of four times: with rows some multiple of 4 KiB
 * apart, the lines of one tile's rows are more than fit into their place in a first-level cache. */
#define KTC_WIDE_DEFINE_TILES(item_size)                                                          \
    KTC_WIDE_TARGET static inline void ktc_wide_narrow_tile_of_##item_size##_bytes(               \
        const char *source, ptrdiff_t row_stride, char *const *targets, ptrdiff_t shift,          \
        int is_streaming)                                                                         \
    {                                                                                             \
        ktc_wide rows[ROWS_OF_LANE(item_size)];                                                   \
        for (ptrdiff_t row = 0; row < ROWS_OF_LANE(item_size); row++) {                           \
            rows[row] =                                                                           \
                ktc_wide_load(source + row * row_stride, ROWS_OF_LANE(item_size) * row_stride);   \
        }                                                                                         \
        ktc_wide_store_columns_of_##item_size##_bytes(rows, targets, shift, is_streaming);        \
    }                                                                                             \
    KTC_WIDE_TARGET static inline void ktc_wide_broad_tile_of_##item_size##_bytes(                \
        const char *source, ptrdiff_t row_stride, char *const *targets, ptrdiff_t shift,          \
        int is_streaming)                                                                         \
    {                                                                                             \
        ktc_wide rows[LANES][ROWS_OF_LANE(item_size)];                                            \
        for (ptrdiff_t row = 0; row < ROWS_OF_LANE(item_size); row++) {                           \
            ktc_wide pieces[LANES];                                                               \
            ktc_wide_load_square(source + row * row_stride, ROWS_OF_LANE(item_size) * row_stride, \
                                 pieces);                                                         \
            for (ptrdiff_t piece = 0; piece < LANES; piece++) {                                   \
                rows[piece][row] = pieces[piece];                                                 \
            }                                                                                     \
        }                                                                                         \
        for (ptrdiff_t piece = 0; piece < LANES; piece++) {                                       \
            ktc_wide_store_columns_of_##item_size##_bytes(                                        \
                rows[piece], targets + piece * ROWS_OF_LANE(item_size), shift, is_streaming);     \
        }                                                                                         \
    }

KTC_WIDE_DEFINE_TILES(1)
KTC_WIDE_DEFINE_TILES(2)
KTC_WIDE_DEFINE_TILES(4)
KTC_WIDE_DEFINE_TILES(8)

/* A line of some rows, into the second-level cache: those of rows a multiple of 4 KiB apart would
 * push one another out of the first. */
KTC_WIDE_TARGET static inline void
ktc_wide_prefetch(const char *source, ptrdiff_t row_stride, ptrdiff_t rows)
{
    for (ptrdiff_t row = 0; row < rows; row++) {
        _mm_prefetch(source + row * row_stride, _MM_HINT_T1);
    }
}

/* Columns of the broad tile; with 16 registers of 32 bytes the one for two-byte elements would not
 * fit them. One-byte elements fit in no case, but what waits on the stack costs less than lines
 * that are read again. */
#define BROAD_COLUMNS(item_size) \
    ((KTC_WIDE_BYTES == 64 || (item_size) != 2 ? KTC_WIDE_BYTES : 16) / (item_size))

/* `columns` x one cache line of rows: a register that is half a line tall is followed by the one
 * below it. */
#define KTC_WIDE_DEFINE_LINE(item_size)                                                  \
    KTC_WIDE_TARGET static inline void ktc_wide_line_of_##item_size##_bytes(             \
        const char *source, ptrdiff_t row_stride, char *const *targets, ptrdiff_t shift, \
        ptrdiff_t columns, int is_streaming)                                             \
    {                                                                                    \
        const ptrdiff_t broad = BROAD_COLUMNS(item_size);                                \
        for (ptrdiff_t column = 0; column < columns;                                     \
             column += columns < broad ? columns : broad) {                              \
            for (ptrdiff_t row = 0; row < 64 / (item_size); row += ROWS_OF(item_size)) { \
                const char *corner = source + row * row_stride + column * (item_size);   \
                if (columns < broad || broad == ROWS_OF_LANE(item_size)) {               \
                    ktc_wide_narrow_tile_of_##item_size##_bytes(                         \
                        corner, row_stride, targets + column, shift + row * (item_size), \
                        is_streaming);                                                   \
                }                                                                        \
                else {                                                                   \
                    ktc_wide_broad_tile_of_##item_size##_bytes(                          \
                        corner, row_stride, targets + column, shift + row * (item_size), \
                        is_streaming);                                                   \
                }                                                                        \
            }                                                                            \
        }                                                                                \
    }

KTC_WIDE_DEFINE_LINE(1)
KTC_WIDE_DEFINE_LINE(2)
KTC_WIDE_DEFINE_LINE(4)
KTC_WIDE_DEFINE_LINE(8)

/* A panel, one source cache line of columns after the other, so that each target column gets its
 * lines in turn. */
#define KTC_WIDE_DEFINE_PANEL(name, item_size, is_streaming)                                     \
    KTC_WIDE_TARGET static void name(const char *source, ptrdiff_t row_stride, ptrdiff_t rows,   \
                                     char *const *targets, ptrdiff_t columns, ptrdiff_t ahead)   \
    {                                                                                            \
        const ptrdiff_t line = 64 / (item_size);                                                 \
        const ptrdiff_t narrow = 16 / (item_size);                                               \
        for (ptrdiff_t column_next = 0; column_next < columns;) {                                \
            int is_whole = columns - column_next >= line;                                        \
            ptrdiff_t column = columns - column_next >= narrow ? column_next : columns - narrow; \
            for (ptrdiff_t row_next = 0; row_next < rows; row_next += line) {                    \
                ptrdiff_t row = row_next + line > rows ? rows - line : row_next;                 \
                const char *corner = source + row * row_stride + column * (item_size);           \
                ptrdiff_t shift = row * (item_size);                                             \
                if (is_whole) {                                                                  \
                    if (ahead != 0) {                                                            \
                        ktc_wide_prefetch(corner + ahead, row_stride, line);                     \
                    }                                                                            \
                    ktc_wide_line_of_##item_size##_bytes(corner, row_stride, targets + column,   \
                                                         shift, line, is_streaming);             \
                }                                                                                \
                else {                                                                           \
                    ktc_wide_line_of_##item_size##_bytes(corner, row_stride, targets + column,   \
                                                         shift, narrow, is_streaming);           \
                }                                                                                \
            }                                                                                    \
            column_next = column + (is_whole ? line : narrow);                                   \
        }                                                                                        \
    }

KTC_WIDE_DEFINE_PANEL(ktc_wide_copy_of_1_bytes, 1, 0)
KTC_WIDE_DEFINE_PANEL(ktc_wide_stream_of_1_bytes, 1, 1)
KTC_WIDE_DEFINE_PANEL(ktc_wide_copy_of_2_bytes, 2, 0)
KTC_WIDE_DEFINE_PANEL(ktc_wide_stream_of_2_bytes, 2, 1)
KTC_WIDE_DEFINE_PANEL(ktc_wide_copy_of_4_bytes, 4, 0)
KTC_WIDE_DEFINE_PANEL(ktc_wide_stream_of_4_bytes, 4, 1)
KTC_WIDE_DEFINE_PANEL(ktc_wide_copy_of_8_bytes, 8, 0)
KTC_WIDE_DEFINE_PANEL(ktc_wide_stream_of_8_bytes, 8, 1)

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
    case 1:
        tiles->panel_copy = ktc_wide_copy_of_1_bytes;
        tiles->panel_stream = ktc_wide_stream_of_1_bytes;
        return 1;
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
