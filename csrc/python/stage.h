/* One alignment stage at the boundary: what py_align.c fills in and stage_errors.c puts into words.
 */
#ifndef KTC_STAGE_H
#define KTC_STAGE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "python/names.h"
#include "python/rule_dicts.h"
#include "python/state.h"

typedef struct {
    const ktc_state *state; /* borrowed */
    ktc_names names;        /* opened when a rule has an anchor, else only taken */
    ktc_rule_dict full;
    ktc_rule_dict tail;
    int64_t split;
    ktc_name_rules rules; /* both dictionaries, ready to be asked */
    Py_ssize_t number;    /* of the stage, for messages */
    int64_t *places;      /* by layer: where it is inserted, or KTC_STAYS */
    size_t *order;        /* by place: the layer that ends there, or KTC_NO_INDEX */
} ktc_stage;

#define KTC_FULL_DICT "full_name_align_dict"
#define KTC_TAIL_DICT "tail_align_dict"

/* Raise AlignmentError. The first is for a rule that cannot be applied (KTC_BAD_TYPE,
 * KTC_UNKNOWN_NAME), the second for the layer that `rule` moves forward; stage->order has been
 * played, with the hole that this leaves. */
void ktc_stage_raise_bad_rule(const ktc_stage *stage, ktc_status status,
                              const ktc_rule_problem *problem);
void ktc_stage_raise_forward(const ktc_stage *stage, size_t layer, const ktc_rule *rule);

#endif
