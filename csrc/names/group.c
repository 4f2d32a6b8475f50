/* The names come one by one, each while its bytes are at hand; layers are numbered by a name table.
 */
#include "names/group.h"

#include <stdlib.h>

#include "names/split.h"

/* Room for layers to begin with: how many there are shows only at the end, and a table of their
 * number, not of the tensors', stays in the caches. */
#define FIRST_ROOM 64

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
ktc_name_groups_create(ktc_name_groups *groups, size_t count, const ktc_name_table *skip,
                       const ktc_name_table *unstack)
{
    *groups = (ktc_name_groups){.skip = skip, .unstack = unstack};
    ktc_status status = ktc_name_table_create(&groups->layers, FIRST_ROOM);
    if (status != KTC_OK) {
        return status;
    }
    groups->layer_of = calloc(count == 0 ? 1 : count, sizeof *groups->layer_of);
    return groups->layer_of == NULL ? KTC_NO_MEMORY : KTC_OK;
}

ktc_status
ktc_name_groups_add(ktc_name_groups *groups, ktc_text name)
{
    ktc_tensor_name parts = ktc_tensor_name_split(name);
    size_t index = groups->count++;
    groups->layer_of[index] = KTC_SKIPPED;
    if (ktc_name_table_find(groups->skip, parts.last) != KTC_NO_INDEX) {
        return KTC_OK;
    }
    bool alone = ktc_name_table_find(groups->unstack, parts.last) != KTC_NO_INDEX;
    size_t layers_before = groups->layers.count;
    /* Most tensors follow one of their own layer: comparing is cheaper than hashing. */
    if (alone || layers_before == 0 ||
        !ktc_text_equals(parts.layer, groups->layers.names[groups->previous])) {
        size_t layer = ktc_name_table_add(&groups->layers, alone ? parts.whole : parts.layer);
        if (layer == KTC_NO_INDEX) {
            return KTC_NO_MEMORY;
        }
        if (alone && layer < layers_before) {
            groups->clash_first = first_member(groups, layer);
            return KTC_NAME_CLASH;
        }
        groups->previous = layer;
    }
    groups->layer_of[index] = (uint32_t)groups->previous;
    return KTC_OK;
}

void
ktc_name_groups_free(ktc_name_groups *groups)
{
    ktc_name_table_free(&groups->layers);
    free(groups->layer_of);
    *groups = (ktc_name_groups){0};
}
