/* The 2-d core's innermost level: register tiles, one implementation for each instruction set.
 *
 * The narrowest tile is 16 bytes of source columns wide (16, 8, 4 or 2 elements) and one or two
 * registers of target rows tall: tall because each target column then gets whole cache lines, which
 * streaming stores need. */
#ifndef KTC_PERMUTE_TILES_H
#define KTC_PERMUTE_TILES_H

#include <stddef.h>

#include "arrays/instruction_set.h"

/* Copies `rows` x `columns` elements: element (row, column) at source + row * row_stride + column *
 * item_size goes to targets[column] + row * item_size. Both counts are at least one tile; what is
 * left over at the ends is covered by a last tile that overlaps the one before, so elements may be
 * written twice. All pointers of any alignment, borrowed. `ahead`: where the source is expected
 * outside the caches, how many bytes behind each of its lines lies one to ask for meanwhile; else
 * 0. */
typedef void (*ktc_panel_copy)(const char *source, ptrdiff_t row_stride, ptrdiff_t rows,
                               char *const *targets, ptrdiff_t columns, ptrdiff_t ahead);

/* Copies bytes past the caches: whole cache lines by streaming stores, the ends by plain ones. Any
 * alignment on both sides. */
typedef void (*ktc_stream_copy)(const char *source, char *target, ptrdiff_t length);

typedef struct {
    ptrdiff_t tile_rows;
    ptrdiff_t tile_columns; /* of the narrowest tile */
    ktc_panel_copy panel_copy;
    /* The next three are NULL where plain stores are all there is. */
    ktc_panel_copy panel_stream; /* as panel_copy, with streaming stores: whole tiles of rows, each
                                    target on a 64-byte boundary */
    ktc_stream_copy stream_copy;
    void (*stream_finish)(void); /* makes streamed bytes visible to other threads; to be called
                                    once, after all of them */
} ktc_tiles;

/* The tiles for elements of item_size bytes: 1 with *tiles filled, or 0 when there are none for
 * that size. */
int ktc_tiles_find(ktc_instruction_set set, ptrdiff_t item_size, ktc_tiles *tiles);

/* The same for one set each; permute_tiles.c chooses between them. */
int ktc_tiles_find_portable(ptrdiff_t item_size, ktc_tiles *tiles);
int ktc_tiles_find_avx2(ptrdiff_t item_size, ktc_tiles *tiles);
int ktc_tiles_find_avx512(ptrdiff_t item_size, ktc_tiles *tiles);

#endif
