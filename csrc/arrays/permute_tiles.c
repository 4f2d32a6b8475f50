/* Owns the choice of tiles and the portable ones. */
#include "arrays/permute_tiles.h"

#include <stdint.h>
#include <string.h>

int
ktc_tiles_find(ktc_instruction_set set, ptrdiff_t item_size, ktc_tiles *tiles)
{
#ifdef KTC_HAS_X86
    if (set == KTC_AVX512) {
        return ktc_tiles_find_avx512(item_size, tiles);
    }
    if (set == KTC_AVX2) {
        return ktc_tiles_find_avx2(item_size, tiles);
    }
#else
    (void)set;
#endif
    return ktc_tiles_find_portable(item_size, tiles);
}

/* A portable panel: tiles of 8 x 8 elements with constant bounds, which compilers unroll and keep
 * in registers as far as they can. Elements move by memcpy, which is one move for a known size and
 * allows any alignment. */
#define PORTABLE_SIDE 8

#define DEFINE_PORTABLE_PANEL(name, type)                                                          \
    static void name(const char *source, ptrdiff_t row_stride, ptrdiff_t rows,                     \
                     char *const *targets, ptrdiff_t columns, ptrdiff_t ahead)                     \
    {                                                                                              \
        (void)ahead;                                                                               \
        const ptrdiff_t size = (ptrdiff_t)sizeof(type);                                            \
        for (ptrdiff_t row_next = 0; row_next < rows; row_next += PORTABLE_SIDE) {                 \
            ptrdiff_t row = row_next + PORTABLE_SIDE > rows ? rows - PORTABLE_SIDE : row_next;     \
            for (ptrdiff_t column_next = 0; column_next < columns; column_next += PORTABLE_SIDE) { \
                ptrdiff_t column =                                                                 \
                    column_next + PORTABLE_SIDE > columns ? columns - PORTABLE_SIDE : column_next; \
                const char *corner = source + row * row_stride + column * size;                    \
                for (ptrdiff_t across = 0; across < PORTABLE_SIDE; across++) {                     \
                    type tile[PORTABLE_SIDE];                                                      \
                    for (ptrdiff_t down = 0; down < PORTABLE_SIDE; down++) {                       \
                        memcpy(&tile[down], corner + down * row_stride + across * size,            \
                               sizeof(type));                                                      \
                    }                                                                              \
                    memcpy(targets[column + across] + row * size, tile, sizeof tile);              \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

DEFINE_PORTABLE_PANEL(panel_of_1_bytes, uint8_t)
DEFINE_PORTABLE_PANEL(panel_of_2_bytes, uint16_t)
DEFINE_PORTABLE_PANEL(panel_of_4_bytes, uint32_t)
DEFINE_PORTABLE_PANEL(panel_of_8_bytes, uint64_t)

int
ktc_tiles_find_portable(ptrdiff_t item_size, ktc_tiles *tiles)
{
    *tiles = (ktc_tiles){.tile_rows = PORTABLE_SIDE, .tile_columns = PORTABLE_SIDE};
    switch (item_size) {
    case 1:
        tiles->panel_copy = panel_of_1_bytes;
        return 1;
    case 2:
        tiles->panel_copy = panel_of_2_bytes;
        return 1;
    case 4:
        tiles->panel_copy = panel_of_4_bytes;
        return 1;
    case 8:
        tiles->panel_copy = panel_of_8_bytes;
        return 1;
    default:
        return 0;
    }
}
