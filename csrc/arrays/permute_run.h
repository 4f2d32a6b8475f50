/* Runs a planned strided copy. */
#ifndef KTC_PERMUTE_RUN_H
#define KTC_PERMUTE_RUN_H

#include "arrays/instruction_set.h"
#include "arrays/permute_plan.h"

/* Moves all elements of the plan. `source` and `target` are the first elements that the plan was
 * made for, of any alignment; they must not share memory. Cannot fail, allocates nothing, may run
 * in several threads at once. `set` must be available. */
void ktc_permute_run(const ktc_permute_plan *plan, const void *source, void *target,
                     ktc_instruction_set set);

/* The same as a function of one argument, a ktc_permutation. */
typedef struct {
    ktc_permute_plan plan;
    const void *source;
    void *target;
    ktc_instruction_set set;
} ktc_permutation;

void ktc_permutation_run(void *permutation);

#endif
