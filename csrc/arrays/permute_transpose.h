/* The 2-d core: source[row][column] to target[place of column][row], in cache-sized blocks of
 * register tiles. */
#ifndef KTC_PERMUTE_TRANSPOSE_H
#define KTC_PERMUTE_TRANSPOSE_H

#include "arrays/permute_plan.h"
#include "arrays/permute_tiles.h"

/* 1 when the row and the columns of a transpose plan are long enough for whole tiles. */
int ktc_transpose_fits(const ktc_permute_plan *plan, const ktc_tiles *tiles);

/* Moves the plan's row x columns (not its outer axes) from `source` to `target`; only where
 * ktc_transpose_fits. */
void ktc_transpose_run(const ktc_permute_plan *plan, const ktc_tiles *tiles, const char *source,
                       char *target);

#endif
