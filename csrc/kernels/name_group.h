/* Collects tensor names by the layer they belong to. */
#ifndef KTC_NAME_GROUP_H
#define KTC_NAME_GROUP_H

#include "kernels/name_table.h"

typedef struct {
    ktc_name_table layers; /* the layers found, numbered in order of first appearance */
    size_t *layer_of;      /* by tensor: number of its layer, KTC_NO_INDEX for a skipped one */
    size_t clash_first;    /* with KTC_NAME_CLASH: a tensor that a later, unstacked one would replace ... */
    size_t clash_second;   /* ... and that later one */
} ktc_name_groups;

/* Groups `count` tensor names. A tensor whose last part is in `skip` is left out; one whose last part is in `unstack`
 * makes a layer of its own under its full name; any other joins the layer named by all but its last part.
 * KTC_NAME_CLASH when an unstacked tensor would replace others that stand under the same layer name. *groups is safe to
 * free after any answer. */
ktc_status ktc_name_groups_make(const ktc_text *names, size_t count, const ktc_name_table *skip,
                                const ktc_name_table *unstack, ktc_name_groups *groups);

void ktc_name_groups_free(ktc_name_groups *groups);

#endif
