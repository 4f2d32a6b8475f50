/* Owns the outer loops and the general case; the 2-d core with its register tiles is permute_tiles.
 */
#include "arrays/permute_run.h"
#include "arrays/permute_transpose.h"

#include <string.h>

/* A general copy works on square blocks of this many elements a side: the cache lines that one side
 * touches column by column (32 of 64 bytes) and the other row by row stay in a first-level cache of
 * 32 KiB until all of their elements are used. */
#define GENERAL_BLOCK 32

/* A counter over some axes of a plan, with the offsets that belong to it. */
typedef struct {
    ptrdiff_t index[KTC_MAX_NDIM];
    ptrdiff_t source_offset;
    ptrdiff_t target_offset;
} odometer;

/* Steps to the next place, the last axis fastest: 1, or 0 after the last place. */
static int
odometer_step(odometer *place, const ktc_axis *axes, int count)
{
    for (int axis = count - 1; axis >= 0; axis--) {
        place->source_offset += axes[axis].source_stride;
        place->target_offset += axes[axis].target_stride;
        if (++place->index[axis] < axes[axis].length) {
            return 1;
        }
        place->source_offset -= axes[axis].length * axes[axis].source_stride;
        place->target_offset -= axes[axis].length * axes[axis].target_stride;
        place->index[axis] = 0;
    }
    return 0;
}

/* One line of elements. The sizes are spelled out because a copy of known size is one move, and
 * memcpy allows any alignment. */
static void
line_copy(const char *source, ptrdiff_t source_stride, char *target, ptrdiff_t target_stride,
          ptrdiff_t count, ptrdiff_t item_size)
{
    switch (item_size) {
    case 1:
        for (; count > 0; count--, source += source_stride, target += target_stride) {
            *target = *source;
        }
        break;
    case 2:
        for (; count > 0; count--, source += source_stride, target += target_stride) {
            memcpy(target, source, 2);
        }
        break;
    case 4:
        for (; count > 0; count--, source += source_stride, target += target_stride) {
            memcpy(target, source, 4);
        }
        break;
    case 8:
        for (; count > 0; count--, source += source_stride, target += target_stride) {
            memcpy(target, source, 8);
        }
        break;
    case 16:
        for (; count > 0; count--, source += source_stride, target += target_stride) {
            memcpy(target, source, 16);
        }
        break;
    default:
        for (; count > 0; count--, source += source_stride, target += target_stride) {
            memcpy(target, source, (size_t)item_size);
        }
        break;
    }
}

static ptrdiff_t
smaller(ptrdiff_t first, ptrdiff_t second)
{
    return first < second ? first : second;
}

/* Two axes of any strides, in blocks. */
static void
plane_copy(const char *source, char *target, const ktc_axis *row, const ktc_axis *column,
           ptrdiff_t item_size)
{
    for (ptrdiff_t row_start = 0; row_start < row->length; row_start += GENERAL_BLOCK) {
        ptrdiff_t row_count = smaller(GENERAL_BLOCK, row->length - row_start);
        for (ptrdiff_t column_start = 0; column_start < column->length;
             column_start += GENERAL_BLOCK) {
            ptrdiff_t column_end =
                column_start + smaller(GENERAL_BLOCK, column->length - column_start);
            for (ptrdiff_t index = column_start; index < column_end; index++) {
                line_copy(source + row_start * row->source_stride + index * column->source_stride,
                          row->source_stride,
                          target + row_start * row->target_stride + index * column->target_stride,
                          row->target_stride, row_count, item_size);
            }
        }
    }
}

/* The row and the source's fastest column at one place of the outer axes. */
static void
general_run(const ktc_permute_plan *plan, const char *source, char *target)
{
    if (plan->column_count == 0) {
        line_copy(source, plan->row.source_stride, target, plan->row.target_stride,
                  plan->row.length, plan->item_size);
        return;
    }
    odometer place = {{0}, 0, 0};
    do {
        plane_copy(source + place.source_offset, target + place.target_offset, &plan->row,
                   &plan->columns[0], plan->item_size);
    } while (odometer_step(&place, plan->columns + 1, plan->column_count - 1));
}

/* The tiles to use for a plan: those of the set, or the smaller portable ones for short rows: 1, or
 * 0 when none fit. */
static int
tiles_choose(const ktc_permute_plan *plan, ktc_instruction_set set, ktc_tiles *tiles)
{
    if (plan->kind != KTC_PLAN_TRANSPOSE) {
        return 0;
    }
    return (ktc_tiles_find(set, plan->item_size, tiles) && ktc_transpose_fits(plan, tiles)) ||
           (ktc_tiles_find(KTC_PORTABLE, plan->item_size, tiles) &&
            ktc_transpose_fits(plan, tiles));
}

void
ktc_permute_run(const ktc_permute_plan *plan, const void *source, void *target,
                ktc_instruction_set set)
{
    const char *source_start = (const char *)source + plan->source_offset;
    char *target_start = (char *)target + plan->target_offset;
    ktc_tiles tiles;
    if (plan->kind == KTC_PLAN_EMPTY) {
        return;
    }
    if (plan->kind == KTC_PLAN_COPY) {
        memcpy(target_start, source_start, (size_t)plan->bytes);
        return;
    }
    int use_tiles = tiles_choose(plan, set, &tiles);
    odometer place = {{0}, 0, 0};
    do {
        const char *from = source_start + place.source_offset;
        char *to = target_start + place.target_offset;
        if (use_tiles) {
            ktc_transpose_run(plan, &tiles, from, to);
        }
        else {
            general_run(plan, from, to);
        }
    } while (odometer_step(&place, plan->outer, plan->outer_count));
}

void
ktc_permutation_run(void *permutation)
{
    const ktc_permutation *one = permutation;
    ktc_permute_run(&one->plan, one->source, one->target, one->set);
}
