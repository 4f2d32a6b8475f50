/* Owns the walk over blocks and the choice between plain and streaming stores; moves no element itself. */
#include "kernels/permute_transpose.h"

#ifdef KTC_TUNE
#include <stdlib.h>
#define TUNE(name, value) (getenv(#name) ? atol(getenv(#name)) : (value))
#else
#define TUNE(name, value) (value)
#endif

#define COLUMN_BLOCK 64
#define ROW_BLOCK 512
#define SCRATCH_BYTES (512*1024)
#define STREAM_BYTES (4 << 20)

/* The places of one block of columns in the target. */
typedef struct {
    ptrdiff_t index[KTC_MAX_NDIM];
    ptrdiff_t offset;
} column_counter;

static void
column_step(column_counter *counter, const ktc_axis *columns, int count)
{
    for (int axis = 0; axis < count; axis++) {
        counter->offset += columns[axis].target_stride;
        if (++counter->index[axis] < columns[axis].length) {
            return;
        }
        counter->offset -= columns[axis].length * columns[axis].target_stride;
        counter->index[axis] = 0;
    }
}

static ptrdiff_t
column_total(const ktc_permute_plan *plan)
{
    ptrdiff_t total = 1;
    for (int axis = 0; axis < plan->column_count; axis++) {
        total *= plan->columns[axis].length;
    }
    return total;
}

/* The length of the next block: a rest shorter than one tile is taken along with the block before. */
static ptrdiff_t
block_length(ptrdiff_t rest, ptrdiff_t block, ptrdiff_t tile)
{
    return rest < block + tile ? rest : block;
}

int
ktc_transpose_fits(const ktc_permute_plan *plan, const ktc_tiles *tiles)
{
    return plan->row.length >= tiles->tile_rows && column_total(plan) >= tiles->tile_columns;
}

void
ktc_transpose_run(const ktc_permute_plan *plan, const ktc_tiles *tiles, const char *source, char *target)
{
    _Alignas(64) char scratch[SCRATCH_BYTES];
    char *targets[2*COLUMN_BLOCK*8];
    char *shifted[2*COLUMN_BLOCK*8];
    const ptrdiff_t item = plan->item_size;
    const ptrdiff_t rows = plan->row.length;
    const ptrdiff_t columns = column_total(plan);
    const ptrdiff_t rb = TUNE(RB, ROW_BLOCK), cb = TUNE(CB, COLUMN_BLOCK);
    int stream = tiles->stream_copy && plan->bytes >= TUNE(SB, STREAM_BYTES);
    column_counter counter = {{0}, 0};
    ptrdiff_t cl, rl;
    const ptrdiff_t pitch = (rb + tiles->tile_rows) * item;
    for (ptrdiff_t c = 0; c < columns; c += cl) {
        cl = block_length(columns - c, cb, tiles->tile_columns);
        for (ptrdiff_t k = 0; k < cl; k++) {
            targets[k] = target + counter.offset;
            column_step(&counter, plan->columns, plan->column_count);
        }
        for (ptrdiff_t r = 0; r < rows; r += rl) {
            rl = block_length(rows - r, rb, tiles->tile_rows);
            const char *from = source + r * plan->row.source_stride + c * item;
            if (stream) {
                for (ptrdiff_t k = 0; k < cl; k++) shifted[k] = scratch + k * pitch;
                tiles->panel_copy(from, plan->row.source_stride, rl, shifted, cl);
                for (ptrdiff_t k = 0; k < cl; k++) tiles->stream_copy(shifted[k], targets[k] + r * item, rl * item);
            } else {
                for (ptrdiff_t k = 0; k < cl; k++) shifted[k] = targets[k] + r * item;
                tiles->panel_copy(from, plan->row.source_stride, rl, shifted, cl);
            }
        }
    }
    if (stream) tiles->stream_finish();
}
