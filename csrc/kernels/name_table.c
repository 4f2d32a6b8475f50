/* Open addressing with linear probing over small slots; the texts stand apart, densely, in order of first appearance.
 */
#include "kernels/name_table.h"

#include <stdlib.h>

ktc_status
ktc_name_table_create(ktc_name_table *table, size_t capacity)
{
    *table = (ktc_name_table){0};
    if (capacity > UINT32_MAX / 4) {
        return KTC_OVERFLOW;
    }
    size_t slot_count = 8;
    while (slot_count < 2 * capacity) {
        slot_count *= 2;
    }
    table->slots = calloc(slot_count, sizeof *table->slots);
    table->names = calloc(capacity == 0 ? 1 : capacity, sizeof *table->names);
    if (table->slots == NULL || table->names == NULL) {
        ktc_name_table_free(table);
        return KTC_NO_MEMORY;
    }
    table->mask = slot_count - 1;
    table->capacity = capacity;
    return KTC_OK;
}

void
ktc_name_table_free(ktc_name_table *table)
{
    free(table->slots);
    free(table->names);
    *table = (ktc_name_table){0};
}

/* The slot that holds the name, or the free one where it belongs. */
static ktc_name_slot *
slot_of(const ktc_name_table *table, ktc_text name, uint64_t hash)
{
    uint32_t upper = (uint32_t)(hash >> 32);
    size_t at = (size_t)hash & table->mask;
    for (;;) {
        ktc_name_slot *slot = &table->slots[at];
        if (slot->number == 0 || (slot->hash == upper && ktc_text_equals(table->names[slot->number - 1], name))) {
            return slot;
        }
        at = (at + 1) & table->mask;
    }
}

size_t
ktc_name_table_add(ktc_name_table *table, ktc_text name)
{
    uint64_t hash = ktc_text_hash(name);
    ktc_name_slot *slot = slot_of(table, name, hash);
    if (slot->number == 0) {
        table->names[table->count] = name;
        table->count++;
        slot->hash = (uint32_t)(hash >> 32);
        slot->number = (uint32_t)table->count;
    }
    return slot->number - 1;
}

size_t
ktc_name_table_find(const ktc_name_table *table, ktc_text name)
{
    if (table->count == 0) {
        return KTC_NO_INDEX;
    }
    const ktc_name_slot *slot = slot_of(table, name, ktc_text_hash(name));
    return slot->number == 0 ? KTC_NO_INDEX : slot->number - 1;
}
