/* Owns the walk over blocks and the choice between plain and streaming stores; moves no element
 * itself. */
#include "arrays/permute_transpose.h"

#include <string.h>

/* From this size on, target lines go past the caches. Measured on an AVX-512 server core (1 MiB
 * second level, 32 MiB third): below, a plain store finds the line in a cache; above, reading a
 * line only to overwrite it costs more (0.38 of memcpy's speed against 0.55 at 8 MiB, 0.6 against
 * 0.9 at 64 MiB). */
#define STREAM_FROM_BYTES (4 << 20)

/* Rows a block in the caches: a second-level TLB holds at least 1024 pages of 4 KiB, one of each
 * source row; short rows of 512 no longer stay in a first-level cache. */
#define BLOCK_ROWS 256

/* Tiles of rows a block beyond the caches: few, so that the lines asked for ahead are still there
 * when their column's turn comes, but more than one, so that memory gets some neighboring lines of
 * each target row. Source rows a multiple of ALIASED_PITCH apart compete for the same places of the
 * caches. One tile cost a third, 32 tiles a tenth. */
#define FAR_TILES 4
#define FAR_TILES_ALIASED 2
#define ALIASED_PITCH 4096

/* How far ahead source lines are asked for there: 128 to 384 bytes measured alike, 64 and 512 lost
 * a tenth. */
#define FAR_AHEAD_BYTES 256

/* Columns a block in the caches and through scratch: 1 KiB of each float32 row, enough for the
 * hardware to prefetch. Fewer lost up to a third. */
#define BLOCK_COLUMNS 256

/* Columns a block beyond the caches: each target row may lie on pages of its own, and a
 * second-level TLB holds at least 1024. */
#define FAR_COLUMNS 1024

/* Where target rows start at different places of their cache lines, runs of 256 bytes of each
 * column are transposed into scratch (100 kB in all, in the second-level cache) and streamed from
 * there in whole lines; what is left of a line waits for the next run, so that lines are broken
 * only at the ends of a block. Longer blocks have fewer ends: 2048 rows gained a fifth over 512. */
#define SCRATCH_RUN_BYTES 256
#define SCRATCH_BLOCK_ROWS 2048

/* The last block of a walk takes a rest shorter than one tile along, so every buffer has room for
 * one tile more: 64 bytes of rows, or 16 columns, at most. */
#define CACHE_LINE 64
#define TILE_COLUMNS_MAX 16

/* A counter over the columns, fastest in the source first. */
typedef struct {
    ptrdiff_t index[KTC_MAX_NDIM];
    ptrdiff_t target_offset;
} column_counter;

/* What the walk needs at every block. */
typedef struct {
    const ktc_permute_plan *plan;
    const ktc_tiles *tiles;
    const char *source;
    char *target;
    ptrdiff_t rows;
    ptrdiff_t columns;
    int is_far; /* too large for the caches: streaming stores, and source lines asked for ahead */
    int source_is_far; /* of a target in the caches: one tile of rows is read from end to end, as
                          memory gives it fastest, while the next one is asked for */
} transpose;

/* One block: rows from `row` on, of the columns whose first elements in the target are `targets`,
 * the first of them `column`. */
typedef struct {
    ptrdiff_t row;
    ptrdiff_t row_count;
    ptrdiff_t column;
    ptrdiff_t column_count;
    char *targets[FAR_COLUMNS + TILE_COLUMNS_MAX];
} block;

static ptrdiff_t
column_total(const ktc_permute_plan *plan)
{
    ptrdiff_t total = 1;
    for (int axis = 0; axis < plan->column_count; axis++) {
        total *= plan->columns[axis].length;
    }
    return total;
}

/* The length of the next block: a rest shorter than one tile is taken along with the block before.
 */
static ptrdiff_t
block_length(ptrdiff_t rest, ptrdiff_t length, ptrdiff_t tile)
{
    return rest < length + tile ? rest : length;
}

/* Fills the block's targets and moves the counter on. */
static void
block_find_targets(block *current, const transpose *work, column_counter *counter)
{
    for (ptrdiff_t index = 0; index < current->column_count; index++) {
        current->targets[index] =
            work->target + counter->target_offset + current->row * work->plan->item_size;
        for (int axis = 0; axis < work->plan->column_count; axis++) {
            const ktc_axis *column = &work->plan->columns[axis];
            counter->target_offset += column->target_stride;
            if (++counter->index[axis] < column->length) {
                break;
            }
            counter->target_offset -= column->length * column->target_stride;
            counter->index[axis] = 0;
        }
    }
}

/* Goes on to the rows below. */
static void
block_step_down(block *current, const transpose *work)
{
    for (ptrdiff_t index = 0; index < current->column_count; index++) {
        current->targets[index] += current->row_count * work->plan->item_size;
    }
    current->row += current->row_count;
}

static void
block_copy(const block *current, const transpose *work, ktc_panel_copy panel)
{
    const ktc_permute_plan *plan = work->plan;
    const char *corner =
        work->source + current->row * plan->row.source_stride + current->column * plan->item_size;
    ptrdiff_t ahead = work->is_far ? FAR_AHEAD_BYTES : 0;
    if (work->source_is_far && current->row + current->row_count < work->rows) {
        ahead = current->row_count * plan->row.source_stride;
    }
    panel(corner, plan->row.source_stride, current->row_count, current->targets,
          current->column_count, ahead);
}

/* Writes one run of one column, transposed at `from`, to `to`. `before` bytes in front of it wait
 * from the run before; those after its last whole line are kept for the next one, unless there is
 * none. */
static void
run_stream(char *from, char *to, ptrdiff_t length, ptrdiff_t before, int is_last,
           const ktc_tiles *tiles)
{
    ptrdiff_t after = is_last ? 0 : (ptrdiff_t)((size_t)(to + length) % CACHE_LINE);
    tiles->stream_copy(from - before, to - before, before + length - after);
    memcpy(from - CACHE_LINE, from + length - CACHE_LINE, CACHE_LINE);
}

static void
block_stream_through_scratch(const block *current, const transpose *work)
{
    /* For each column: a line that waits, a run, and a tile more in the last run. */
    enum { PITCH = CACHE_LINE + SCRATCH_RUN_BYTES + CACHE_LINE };
    char scratch[(BLOCK_COLUMNS + TILE_COLUMNS_MAX) * PITCH];
    const ptrdiff_t item_size = work->plan->item_size;
    const ptrdiff_t end = current->row + current->row_count;
    block run = *current;
    for (ptrdiff_t index = 0; index < current->column_count; index++) {
        run.targets[index] = scratch + index * PITCH + CACHE_LINE;
    }
    for (; run.row < end; run.row += run.row_count) {
        run.row_count =
            block_length(end - run.row, SCRATCH_RUN_BYTES / item_size, work->tiles->tile_rows);
        block_copy(&run, work, work->tiles->panel_copy);
        ptrdiff_t offset = (run.row - current->row) * item_size;
        for (ptrdiff_t index = 0; index < current->column_count; index++) {
            char *to = current->targets[index] + offset;
            ptrdiff_t before = offset == 0 ? 0 : (ptrdiff_t)((size_t)to % CACHE_LINE);
            run_stream(run.targets[index], to, run.row_count * item_size, before,
                       run.row + run.row_count == end, work->tiles);
        }
    }
}

static ptrdiff_t
block_rows_of(const transpose *work, ktc_panel_copy panel)
{
    if (panel == NULL) {
        return SCRATCH_BLOCK_ROWS;
    }
    if (!work->is_far) {
        return work->source_is_far ? work->tiles->tile_rows : BLOCK_ROWS;
    }
    int is_aliased = work->plan->row.source_stride % ALIASED_PITCH == 0;
    return (is_aliased ? FAR_TILES_ALIASED : FAR_TILES) * work->tiles->tile_rows;
}

/* Columns before the first that starts on a source cache line in all rows (at least one tile of
 * them, so maybe a line more), or 0: loads of whole lines are worth most where they touch only one.
 * Not for bytes, of which the narrow tiles before it would cost more. */
static ptrdiff_t
columns_before_line(const transpose *work)
{
    ptrdiff_t item_size = work->plan->item_size;
    ptrdiff_t misplaced = (ptrdiff_t)((size_t)work->source % CACHE_LINE);
    if (misplaced == 0 || item_size == 1 || misplaced % item_size != 0 ||
        work->plan->row.source_stride % CACHE_LINE != 0) {
        return 0;
    }
    ptrdiff_t columns = (CACHE_LINE - misplaced) / item_size;
    return columns < work->tiles->tile_columns ? columns + CACHE_LINE / item_size : columns;
}

/* Walks over rows [row_start, row_end), down all of them before the next columns: the pages of a
 * block's target rows are done with before others come. `panel` NULL: through scratch. */
static void
walk(const transpose *work, ptrdiff_t row_start, ptrdiff_t row_end, ktc_panel_copy panel)
{
    const ktc_tiles *tiles = work->tiles;
    ptrdiff_t block_rows = block_rows_of(work, panel);
    int is_wide = work->source_is_far || (work->is_far && panel != NULL);
    ptrdiff_t block_columns = is_wide ? FAR_COLUMNS : BLOCK_COLUMNS;
    ptrdiff_t before_line = columns_before_line(work);
    column_counter counter = {{0}, 0};
    block current;
    for (current.column = 0; current.column < work->columns;
         current.column += current.column_count) {
        ptrdiff_t length = current.column == 0 && before_line > 0 ? before_line : block_columns;
        current.column_count =
            block_length(work->columns - current.column, length, tiles->tile_columns);
        current.row = row_start;
        block_find_targets(&current, work, &counter);
        while (current.row < row_end) {
            current.row_count = block_length(row_end - current.row, block_rows, tiles->tile_rows);
            if (panel != NULL) {
                block_copy(&current, work, panel);
            }
            else {
                block_stream_through_scratch(&current, work);
            }
            block_step_down(&current, work);
        }
    }
}

/* 1 when every target row starts at the same place of its cache line, a whole number of elements
 * before the next one.
 */
static int
rows_are_in_step(const transpose *work)
{
    for (int axis = 0; axis < work->plan->column_count; axis++) {
        if (work->plan->columns[axis].target_stride % CACHE_LINE != 0) {
            return 0;
        }
    }
    return (size_t)work->target % (size_t)work->plan->item_size == 0;
}

/* Streams straight from registers; the rows before the first and after the last whole cache line
 * are covered by plain tiles, which overlap the streamed ones. */
static void
stream_in_step(const transpose *work)
{
    const ktc_tiles *tiles = work->tiles;
    ptrdiff_t misplaced = (ptrdiff_t)((size_t)work->target % CACHE_LINE);
    ptrdiff_t row_start = (CACHE_LINE - misplaced) % CACHE_LINE / work->plan->item_size;
    ptrdiff_t row_end = row_start + (work->rows - row_start) / tiles->tile_rows * tiles->tile_rows;
    if (row_start > 0) {
        walk(work, 0, tiles->tile_rows, tiles->panel_copy);
    }
    walk(work, row_start, row_end, tiles->panel_stream);
    if (row_end < work->rows) {
        walk(work, work->rows - tiles->tile_rows, work->rows, tiles->panel_copy);
    }
}

int
ktc_transpose_fits(const ktc_permute_plan *plan, const ktc_tiles *tiles)
{
    return plan->row.length >= tiles->tile_rows && column_total(plan) >= tiles->tile_columns;
}

void
ktc_transpose_run(const ktc_permute_plan *plan, const ktc_tiles *tiles, const char *source,
                  char *target)
{
    transpose work = {plan, tiles, source, target, plan->row.length, column_total(plan), 0, 0};
    /* Short target rows have more broken cache lines than whole ones. */
    int rows_are_long = work.rows >= 4 * tiles->tile_rows;
    work.is_far = plan->bytes >= STREAM_FROM_BYTES && tiles->stream_copy != NULL && rows_are_long;
    if (!work.is_far) {
        work.source_is_far = plan->source_is_far;
        walk(&work, 0, work.rows, tiles->panel_copy);
        return;
    }
    if (rows_are_in_step(&work)) {
        stream_in_step(&work);
    }
    else {
        walk(&work, 0, work.rows, NULL);
    }
    tiles->stream_finish();
}
