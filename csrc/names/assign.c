/* Assignment by shortest augmenting paths. A row that stays alone has a column of its own, behind
 * all others, so that every row has one in the end. Reduced costs (cost - row potential - column
 * potential) are never negative, and zero on what is chosen. */
#include "names/assign.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#define NOTHING (-1)

typedef struct {
    double distance;
    int64_t column;
} waiting;

typedef struct {
    const ktc_assign_table *table;
    int64_t *column_of; /* by row */
    int64_t *row_of;    /* by column */
    double *row_potential;
    double *column_potential;
    double *distance; /* by column; INFINITY where no path has come by */
    int64_t *before;  /* by column: the row from which the path came */
    bool *settled;    /* by column */
    int64_t *touched; /* columns whose distance is finite */
    size_t touched_count;
    waiting *heap;
    size_t heap_count;
    size_t heap_room;
    int64_t *entry_starts; /* the entries of each column: entry_starts[column] to the next of
                              column_entries */
    int64_t *column_entries;
    int64_t *row_of_entry;
} search;

static bool
comes_first(waiting first, waiting second)
{
    return first.distance < second.distance ||
           (!(first.distance > second.distance) && first.column < second.column);
}

static ktc_status
heap_push(search *state, waiting item)
{
    if (state->heap_count == state->heap_room) {
        size_t room = state->heap_room * 2;
        waiting *heap =
            room > SIZE_MAX / sizeof *heap ? NULL : realloc(state->heap, room * sizeof *heap);
        if (heap == NULL) {
            return KTC_NO_MEMORY;
        }
        state->heap = heap;
        state->heap_room = room;
    }
    size_t place = state->heap_count++;
    while (place > 0 && comes_first(item, state->heap[(place - 1) / 2])) {
        state->heap[place] = state->heap[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    state->heap[place] = item;
    return KTC_OK;
}

static waiting
heap_pop(search *state)
{
    waiting first = state->heap[0];
    waiting last = state->heap[--state->heap_count];
    size_t place = 0;
    for (;;) {
        size_t child = 2 * place + 1;
        if (child >= state->heap_count) {
            break;
        }
        if (child + 1 < state->heap_count &&
            comes_first(state->heap[child + 1], state->heap[child])) {
            child++;
        }
        if (!comes_first(state->heap[child], last)) {
            break;
        }
        state->heap[place] = state->heap[child];
        place = child;
    }
    if (state->heap_count > 0) {
        state->heap[place] = last;
    }
    return first;
}

/* A path of `length` reaches a column by way of `row`. */
static ktc_status
arrive(search *state, double length, int64_t row, int64_t column)
{
    if (state->settled[column] || !(length < state->distance[column])) {
        return KTC_OK;
    }
    if (isinf(state->distance[column])) {
        state->touched[state->touched_count++] = column;
    }
    state->distance[column] = length;
    state->before[column] = row;
    return heap_push(state, (waiting){length, column});
}

/* Never below zero, but for rounding. */
static double
reduced(const search *state, int64_t row, int64_t column, double cost)
{
    double value = cost - state->row_potential[row] - state->column_potential[column];
    return value > 0.0 ? value : 0.0;
}

/* A path at `distance` has reached `row`; go on to one of its columns. */
static ktc_status
reach(search *state, double distance, int64_t row, int64_t column, double cost)
{
    return arrive(state, distance + reduced(state, row, column, cost), row, column);
}

/* On to every column of a row but `forbidden`. */
static ktc_status
reach_all(search *state, double distance, int64_t row, int64_t forbidden)
{
    const ktc_assign_table *table = state->table;
    int64_t own = (int64_t)table->column_count + row;
    ktc_status status = KTC_OK;
    for (int64_t entry = table->starts[row]; status == KTC_OK && entry < table->starts[row + 1];
         entry++) {
        if (table->columns[entry] != forbidden) {
            status = reach(state, distance, row, table->columns[entry], table->costs[entry]);
        }
    }
    if (status == KTC_OK && own != forbidden) {
        status = reach(state, distance, row, own, table->alone[row]);
    }
    return status;
}

static void
forget(search *state)
{
    for (size_t index = 0; index < state->touched_count; index++) {
        state->distance[state->touched[index]] = INFINITY;
        state->settled[state->touched[index]] = false;
    }
    state->touched_count = 0;
    state->heap_count = 0;
}

/* The column that is nearest of those still open, taken off the heap and settled, or NOTHING. */
static int64_t
settle_next(search *state)
{
    while (state->heap_count > 0) {
        int64_t column = heap_pop(state).column;
        if (!state->settled[column]) {
            state->settled[column] = true;
            return column;
        }
    }
    return NOTHING;
}

/* Gives `row` a column, moving others to other columns where that is cheaper. */
static ktc_status
augment(search *state, int64_t row)
{
    ktc_status status = reach_all(state, 0.0, row, NOTHING);
    int64_t column = NOTHING;
    while (status == KTC_OK) {
        column = settle_next(state); /* never NOTHING: the row's own column is free */
        if (state->row_of[column] == NOTHING) {
            break;
        }
        status = reach_all(state, state->distance[column], state->row_of[column], column);
    }
    if (status != KTC_OK) {
        return status;
    }
    double length = state->distance[column];
    state->row_potential[row] += length;
    for (size_t index = 0; index < state->touched_count; index++) {
        int64_t passed = state->touched[index];
        if (state->settled[passed] && state->row_of[passed] != NOTHING) {
            state->row_potential[state->row_of[passed]] += length - state->distance[passed];
            state->column_potential[passed] -= length - state->distance[passed];
        }
    }
    for (int64_t moving = NOTHING; moving != row;) {
        moving = state->before[column];
        int64_t previous = state->column_of[moving];
        state->row_of[column] = moving;
        state->column_of[moving] = column;
        column = previous;
    }
    forget(state);
    return KTC_OK;
}

/* What it costs that a column becomes free: it stays so, which costs its potential (never above
 * zero), or another row takes it whose own column becomes free, and so on. The paths are followed
 * backwards, from the column to the rows that could take it. */
static ktc_status
cost_of_freeing(search *state, int64_t freed, double *cost)
{
    const ktc_assign_table *table = state->table;
    double best = -state->column_potential[freed];
    ktc_status status = best > 0.0 ? arrive(state, 0.0, state->row_of[freed], freed) : KTC_OK;
    while (status == KTC_OK) {
        int64_t column = settle_next(state);
        if (column == NOTHING || !(state->distance[column] < best)) {
            break;
        }
        double distance = state->distance[column];
        double total = distance - state->column_potential[column];
        best = total < best ? total : best;
        if ((size_t)column >= table->column_count) {
            continue; /* only its own row can have it */
        }
        for (int64_t index = state->entry_starts[column];
             status == KTC_OK && index < state->entry_starts[column + 1]; index++) {
            int64_t entry = state->column_entries[index];
            int64_t row = state->row_of_entry[entry];
            if (state->column_of[row] != column) {
                double step = reduced(state, row, column, table->costs[entry]);
                status = arrive(state, distance + step, row, state->column_of[row]);
            }
        }
    }
    *cost = best;
    forget(state);
    return status;
}

/* What it costs to take its column away from a row: the shortest way from the row to that column,
 * by moving other rows, or to a free column, when its own becomes free. */
static ktc_status
margin_of(search *state, int64_t row, double limit, double *margin)
{
    int64_t own = state->column_of[row];
    double freeing = 0.0;
    double best = limit;
    ktc_status status = cost_of_freeing(state, own, &freeing);
    if (status == KTC_OK) {
        status = reach_all(state, 0.0, row, own);
    }
    while (status == KTC_OK) {
        int64_t column = settle_next(state);
        if (column == NOTHING || !(state->distance[column] < best)) {
            break;
        }
        double distance = state->distance[column];
        if (column == own) {
            best = distance;
        }
        else if (state->row_of[column] == NOTHING) {
            best = distance + freeing < best ? distance + freeing : best;
        }
        else {
            status = reach_all(state, distance, state->row_of[column], column);
        }
    }
    *margin = best;
    forget(state);
    return status;
}

ktc_status
ktc_assign_check(const ktc_assign_table *table)
{
    if (table->starts[0] != 0) {
        return KTC_BAD_INDEX;
    }
    for (size_t row = 0; row < table->row_count; row++) {
        if (table->starts[row + 1] < table->starts[row]) {
            return KTC_BAD_INDEX;
        }
        if (!(table->alone[row] >= 0.0) || isinf(table->alone[row])) {
            return KTC_BAD_TYPE;
        }
    }
    for (int64_t entry = 0; entry < table->starts[table->row_count]; entry++) {
        if (table->columns[entry] < 0 || (uint64_t)table->columns[entry] >= table->column_count) {
            return KTC_BAD_INDEX;
        }
        if (!(table->costs[entry] >= 0.0) || isinf(table->costs[entry])) {
            return KTC_BAD_TYPE;
        }
    }
    return KTC_OK;
}

/* The entries of the table sorted by column, counted twice as one sorts by counting. */
static void
list_by_column(search *state)
{
    const ktc_assign_table *table = state->table;
    for (size_t row = 0; row < table->row_count; row++) {
        for (int64_t entry = table->starts[row]; entry < table->starts[row + 1]; entry++) {
            state->row_of_entry[entry] = (int64_t)row;
            state->entry_starts[table->columns[entry] + 2]++;
        }
    }
    for (size_t column = 2; column < table->column_count + 2; column++) {
        state->entry_starts[column] += state->entry_starts[column - 1];
    }
    for (int64_t entry = 0; entry < table->starts[table->row_count]; entry++) {
        state->column_entries[state->entry_starts[table->columns[entry] + 1]++] = entry;
    }
}

static ktc_status
search_open(search *state, const ktc_assign_table *table)
{
    size_t rows = table->row_count + 1;
    size_t columns = table->column_count + rows;
    state->table = table;
    state->heap_room = 64;
    state->column_of = calloc(rows, sizeof *state->column_of);
    state->row_potential = calloc(rows, sizeof *state->row_potential);
    state->row_of = calloc(columns, sizeof *state->row_of);
    state->column_potential = calloc(columns, sizeof *state->column_potential);
    state->distance = calloc(columns, sizeof *state->distance);
    state->before = calloc(columns, sizeof *state->before);
    state->settled = calloc(columns, sizeof *state->settled);
    state->touched = calloc(columns, sizeof *state->touched);
    state->heap = calloc(state->heap_room, sizeof *state->heap);
    size_t entries = (size_t)table->starts[table->row_count];
    state->entry_starts = calloc(table->column_count + 2, sizeof *state->entry_starts);
    state->column_entries = calloc(entries + 1, sizeof *state->column_entries);
    state->row_of_entry = calloc(entries + 1, sizeof *state->row_of_entry);
    if (state->entry_starts == NULL || state->column_entries == NULL ||
        state->row_of_entry == NULL || state->column_of == NULL || state->row_potential == NULL ||
        state->row_of == NULL || state->column_potential == NULL || state->distance == NULL ||
        state->before == NULL || state->settled == NULL || state->touched == NULL ||
        state->heap == NULL) {
        return KTC_NO_MEMORY;
    }
    for (size_t row = 0; row < table->row_count; row++) {
        state->column_of[row] = NOTHING;
    }
    for (size_t column = 0; column < columns; column++) {
        state->row_of[column] = NOTHING;
        state->distance[column] = INFINITY;
    }
    list_by_column(state);
    return KTC_OK;
}

static void
search_close(search *state)
{
    free(state->column_of);
    free(state->row_potential);
    free(state->row_of);
    free(state->column_potential);
    free(state->distance);
    free(state->before);
    free(state->settled);
    free(state->touched);
    free(state->heap);
    free(state->entry_starts);
    free(state->column_entries);
    free(state->row_of_entry);
}

ktc_status
ktc_assign_run(const ktc_assign_table *table, double limit, int64_t *chosen, double *margins)
{
    search state = {0};
    ktc_status status = search_open(&state, table);
    int64_t rows = (int64_t)table->row_count;
    for (int64_t row = 0; status == KTC_OK && row < rows; row++) {
        status = augment(&state, row);
    }
    for (int64_t row = 0; status == KTC_OK && row < rows; row++) {
        chosen[row] =
            state.column_of[row] < (int64_t)table->column_count ? state.column_of[row] : NOTHING;
        status = margin_of(&state, row, limit, &margins[row]);
    }
    search_close(&state);
    return status;
}
