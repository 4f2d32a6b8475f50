/* Minimum-cost assignment on a sparse table: rows to columns, each column at most once. */
#ifndef KTC_ASSIGN_H
#define KTC_ASSIGN_H

#include <stdint.h>

#include "status.h"
#include "names/text.h"

/* Which columns each row may have and at what cost: entries starts[row] to starts[row + 1] of
 * `columns` and `costs`. Costs are finite and not negative. A row may also stay without a column,
 * at its cost in `alone`. */
typedef struct {
    size_t row_count;
    size_t column_count;
    const int64_t *starts;
    const int64_t *columns;
    const double *costs;
    const double *alone;
} ktc_assign_table;

/* KTC_BAD_INDEX for entries that are no lists of existing columns, KTC_BAD_TYPE for costs that are
 * negative or not finite. */
ktc_status ktc_assign_check(const ktc_assign_table *table);

/* Finds an assignment of least total cost. chosen[row] becomes the column or -1. margins[row]
 * becomes by how much the total grows when the row may not have what it got and everything else is
 * chosen anew, `limit` when it is that much or more.
 *
 * Shortest augmenting paths with potentials (Jonker and Volgenant, Computing 38, 1987), each path
 * by a heap over the entries that it meets: a row that can have its cheapest column costs no more
 * than its own entries. The same table gives the same answer. `table` has been checked.
 * KTC_NO_MEMORY leaves both results undefined. */
ktc_status ktc_assign_run(const ktc_assign_table *table, double limit, int64_t *chosen,
                          double *margins);

#endif
