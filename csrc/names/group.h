/* Collects tensor names by the layer they belong to. */
#ifndef KTC_NAME_GROUP_H
#define KTC_NAME_GROUP_H

#include "names/table.h"

/* As the layer of a tensor: it is left out. */
#define KTC_SKIPPED UINT32_MAX

typedef struct {
    const ktc_name_table *skip;    /* borrowed: last parts of the tensors to leave out */
    const ktc_name_table *unstack; /* borrowed: last parts of those that make layers of their own */
    ktc_name_table layers;         /* the layers found, numbered in order of first appearance */
    uint32_t *layer_of;            /* by tensor: number of its layer, or KTC_SKIPPED */
    size_t count;                  /* of the tensors so far */
    size_t previous;               /* the layer of the last tensor that was not left out */
    size_t clash_first; /* with KTC_NAME_CLASH: the tensor that the one added would have replaced */
} ktc_name_groups;

/* Makes room for `count` tensors. KTC_NO_MEMORY or KTC_OVERFLOW leave *groups safe to free. */
ktc_status ktc_name_groups_create(ktc_name_groups *groups, size_t count, const ktc_name_table *skip,
                                  const ktc_name_table *unstack);

/* Adds the next tensor; there must be room, and the bytes of its name must outlive the groups. A
 * tensor whose last part is in `skip` is left out; one whose last part is in `unstack` makes a
 * layer of its own under its full name; any other joins the layer named by all but its last part.
 * KTC_NAME_CLASH when an unstacked tensor would replace others that stand under the same layer
 * name. */
ktc_status ktc_name_groups_add(ktc_name_groups *groups, ktc_text name);

/* Frees what create made; zeroed groups may be freed too. */
void ktc_name_groups_free(ktc_name_groups *groups);

#endif
