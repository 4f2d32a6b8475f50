/* Assignment against all assignments of small tables, tried one by one. */
#include <math.h>
#include <stdbool.h>

#include "check.h"
#include "names/assign.h"

#define MOST 5
#define LIMIT 50.0

typedef struct {
    int64_t starts[MOST + 1];
    int64_t columns[MOST * MOST];
    double costs[MOST * MOST];
    double alone[MOST];
    ktc_assign_table table;
} small_table;

static small_table
random_table(random_source *random)
{
    small_table made = {0};
    size_t rows = (size_t)random_between(random, 0, MOST);
    size_t columns = (size_t)random_between(random, 0, MOST);
    int64_t count = 0;
    for (size_t row = 0; row < rows; row++) {
        for (size_t column = 0; column < columns; column++) {
            if (random_between(random, 0, 3) > 0) {
                made.columns[count] = (int64_t)column;
                /* Whole numbers: ties are frequent, and sums exact. */
                made.costs[count++] = (double)random_between(random, 0, 9);
            }
        }
        made.starts[row + 1] = count;
        made.alone[row] = (double)random_between(random, 0, 12);
    }
    made.table = (ktc_assign_table){rows, columns, NULL, NULL, NULL, NULL};
    return made;
}

static ktc_assign_table
opened(const small_table *made)
{
    ktc_assign_table table = made->table;
    table.starts = made->starts;
    table.columns = made->columns;
    table.costs = made->costs;
    table.alone = made->alone;
    return table;
}

/* Least total cost from `row` on; the row `banned` may not have the column `banned_column` (-1: may
 * not stay alone). */
static double
least_total(const ktc_assign_table *table, size_t row, unsigned taken, size_t banned,
            int64_t banned_column)
{
    if (row == table->row_count) {
        return 0.0;
    }
    double best = INFINITY;
    if (row != banned || banned_column != -1) {
        best = table->alone[row] + least_total(table, row + 1, taken, banned, banned_column);
    }
    for (int64_t entry = table->starts[row]; entry < table->starts[row + 1]; entry++) {
        int64_t column = table->columns[entry];
        if (!(taken >> column & 1u) && !(row == banned && column == banned_column)) {
            double total = table->costs[entry] +
                           least_total(table, row + 1, taken | 1u << column, banned, banned_column);
            best = total < best ? total : best;
        }
    }
    return best;
}

/* Total cost of an answer, which is one: existing entries, no column twice. */
static double
total_of(const ktc_assign_table *table, const int64_t *chosen)
{
    double total = 0.0;
    unsigned taken = 0;
    for (size_t row = 0; row < table->row_count; row++) {
        bool found = chosen[row] == -1;
        if (found) {
            total += table->alone[row];
        }
        for (int64_t entry = table->starts[row]; !found && entry < table->starts[row + 1];
             entry++) {
            if (table->columns[entry] == chosen[row]) {
                total += table->costs[entry];
                found = true;
            }
        }
        CHECK(found);
        CHECK(chosen[row] == -1 || !(taken >> chosen[row] & 1u));
        taken |= chosen[row] == -1 ? 0u : 1u << chosen[row];
    }
    return total;
}

static void
test_answer_and_margins_equal_those_of_trying_everything(random_source *random, long cases)
{
    for (long number = 0; number < cases; number++) {
        small_table made = random_table(random);
        ktc_assign_table table = opened(&made);
        int64_t chosen[MOST];
        double margins[MOST];
        CHECK(ktc_assign_check(&table) == KTC_OK);
        CHECK(ktc_assign_run(&table, LIMIT, chosen, margins) == KTC_OK);
        double least = least_total(&table, 0, 0, MOST, -1);
        CHECK(fabs(total_of(&table, chosen) - least) < 1e-9);
        for (size_t row = 0; row < table.row_count; row++) {
            double without = least_total(&table, 0, 0, row, chosen[row]) - least;
            CHECK(fabs(margins[row] - (without < LIMIT ? without : LIMIT)) < 1e-9);
        }
    }
}

static void
test_bad_tables_are_refused(void)
{
    small_table made = {.starts = {0, 1},
                        .columns = {0},
                        .costs = {1.0},
                        .alone = {1.0},
                        .table = {1, 1, NULL, NULL, NULL, NULL}};
    ktc_assign_table table = opened(&made);
    CHECK(ktc_assign_check(&table) == KTC_OK);
    made.columns[0] = 1;
    CHECK(ktc_assign_check(&table) == KTC_BAD_INDEX);
    made.columns[0] = 0;
    made.costs[0] = -1.0;
    CHECK(ktc_assign_check(&table) == KTC_BAD_TYPE);
    made.costs[0] = NAN;
    CHECK(ktc_assign_check(&table) == KTC_BAD_TYPE);
    made.costs[0] = 0.0;
    made.alone[0] = INFINITY;
    CHECK(ktc_assign_check(&table) == KTC_BAD_TYPE);
    made.alone[0] = 0.0;
    made.starts[0] = 1;
    CHECK(ktc_assign_check(&table) == KTC_BAD_INDEX);
}

int
main(int count, char **arguments)
{
    random_source random = random_from_arguments(count, arguments);
    test_answer_and_margins_equal_those_of_trying_everything(
        &random, cases_from_arguments(count, arguments, 20000));
    test_bad_tables_are_refused();
    return 0;
}
