/* A set of distinct names that numbers them in order of first appearance. */
#ifndef KTC_NAME_TABLE_H
#define KTC_NAME_TABLE_H

#include "status.h"
#include "names/text.h"

typedef struct {
    uint32_t hash; /* upper half of the name's hash: says where to look, and spares most comparisons
                      of text */
    uint32_t number; /* number of the name plus one; 0 marks a free slot */
} ktc_name_slot;

typedef struct {
    ktc_name_slot *slots; /* a power of two, at most half of it taken */
    size_t mask;
    ktc_text *names; /* by number; borrowed views, the bytes must outlive the table */
    size_t count;
    size_t capacity;
    uint64_t lengths; /* a bit for every length of a name, the last one for all from 63 on: spares
                         most hashing */
} ktc_name_table;

/* Makes room for `capacity` distinct names. KTC_NO_MEMORY or KTC_OVERFLOW leave *table safe to
 * free. */
ktc_status ktc_name_table_create(ktc_name_table *table, size_t capacity);

/* Frees what create made; a zeroed table may be freed too. */
void ktc_name_table_free(ktc_name_table *table);

/* The name's number. A name not seen before gets the next one (so the answer equals the old count).
 * Beyond the capacity the table grows; KTC_NO_INDEX when it cannot. */
size_t ktc_name_table_add(ktc_name_table *table, ktc_text name);

/* The name's number, or KTC_NO_INDEX. */
size_t ktc_name_table_find(const ktc_name_table *table, ktc_text name);

#endif
