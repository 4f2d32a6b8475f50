/* Open addressing with linear probing over small slots; the texts stand apart, densely, in order of
 * first appearance.
 */
#include "names/table.h"

#include <stdlib.h>
#include <string.h>

/* Far below the limit of the numbers, so that no size here overflows. */
#define LARGEST_CAPACITY (UINT32_MAX / 4)

ktc_status
ktc_name_table_create(ktc_name_table *table, size_t capacity)
{
    *table = (ktc_name_table){0};
    if (capacity > LARGEST_CAPACITY) {
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

/* Twice the room. The slots move by their own hashes: no text is read. */
static ktc_status
grow(ktc_name_table *table)
{
    ktc_name_table larger;
    ktc_status status =
        ktc_name_table_create(&larger, table->capacity < 8 ? 16 : 2 * table->capacity);
    if (status != KTC_OK) {
        return status;
    }
    for (size_t old = 0; old <= table->mask; old++) {
        ktc_name_slot slot = table->slots[old];
        if (slot.number != 0) {
            size_t at = slot.hash & larger.mask;
            while (larger.slots[at].number != 0) {
                at = (at + 1) & larger.mask;
            }
            larger.slots[at] = slot;
        }
    }
    memcpy(larger.names, table->names, table->count * sizeof *table->names);
    larger.count = table->count;
    larger.lengths = table->lengths;
    ktc_name_table_free(table);
    *table = larger;
    return KTC_OK;
}

/* The slot that holds the name, or the free one where it belongs. */
static ktc_name_slot *
slot_of(const ktc_name_table *table, ktc_text name, uint32_t hash)
{
    size_t at = hash & table->mask;
    for (;;) {
        ktc_name_slot *slot = &table->slots[at];
        if (slot->number == 0 ||
            (slot->hash == hash && ktc_text_equals(table->names[slot->number - 1], name))) {
            return slot;
        }
        at = (at + 1) & table->mask;
    }
}

static uint32_t
hash_of(ktc_text name)
{
    return (uint32_t)(ktc_text_hash(name) >> 32);
}

static uint64_t
length_bit(ktc_text name)
{
    return UINT64_C(1) << (name.length < 63 ? name.length : 63);
}

size_t
ktc_name_table_add(ktc_name_table *table, ktc_text name)
{
    uint32_t hash = hash_of(name);
    ktc_name_slot *slot = slot_of(table, name, hash);
    if (slot->number != 0) {
        return slot->number - 1;
    }
    if (table->count == table->capacity) {
        if (grow(table) != KTC_OK) {
            return KTC_NO_INDEX;
        }
        slot = slot_of(table, name, hash);
    }
    table->names[table->count] = name;
    table->lengths |= length_bit(name);
    table->count++;
    slot->hash = hash;
    slot->number = (uint32_t)table->count;
    return table->count - 1;
}

size_t
ktc_name_table_find(const ktc_name_table *table, ktc_text name)
{
    if ((table->lengths & length_bit(name)) == 0) {
        return KTC_NO_INDEX;
    }
    const ktc_name_slot *slot = slot_of(table, name, hash_of(name));
    return slot->number == 0 ? KTC_NO_INDEX : slot->number - 1;
}
