/* One pass over the names; layers are numbered by a name table. */
#include "kernels/name_group.h"

#include <stdlib.h>

#include "kernels/name_split.h"

static size_t
first_member(const ktc_name_groups *groups, size_t layer)
{
    size_t index = 0;
    while (groups->layer_of[index] != layer) {
        index++;
    }
    return index;
}

ktc_status
ktc_name_groups_make(const ktc_text *names, size_t count, const ktc_name_table *skip, const ktc_name_table *unstack,
                     ktc_name_groups *groups)
{
    *groups = (ktc_name_groups){0};
    ktc_status status = ktc_name_table_create(&groups->layers, count);
    if (status != KTC_OK) {
        return status;
    }
    groups->layer_of = calloc(count == 0 ? 1 : count, sizeof *groups->layer_of);
    if (groups->layer_of == NULL) {
        return KTC_NO_MEMORY;
    }
    size_t previous = 0;
    for (size_t index = 0; index < count; index++) {
        ktc_tensor_name name = ktc_tensor_name_split(names[index]);
        groups->layer_of[index] = KTC_NO_INDEX;
        if (ktc_name_table_find(skip, name.last) != KTC_NO_INDEX) {
            continue;
        }
        bool alone = ktc_name_table_find(unstack, name.last) != KTC_NO_INDEX;
        size_t layers_before = groups->layers.count;
        /* Most tensors follow one of their own layer: comparing is cheaper than hashing. */
        if (!alone && layers_before > 0 && ktc_text_equals(name.layer, groups->layers.names[previous])) {
            groups->layer_of[index] = previous;
            continue;
        }
        size_t layer = ktc_name_table_add(&groups->layers, alone ? name.whole : name.layer);
        if (alone && layer < layers_before) {
            groups->clash_first = first_member(groups, layer);
            groups->clash_second = index;
            return KTC_NAME_CLASH;
        }
        groups->layer_of[index] = layer;
        previous = layer;
    }
    return KTC_OK;
}

void
ktc_name_groups_free(ktc_name_groups *groups)
{
    ktc_name_table_free(&groups->layers);
    free(groups->layer_of);
    groups->layer_of = NULL;
}
