/* Owns names and sizes of element types. */
#include "arrays/element_type.h"

#include <string.h>

typedef struct {
    char name[12]; /* an array, not a pointer: the table then needs no relocation and lies in
                      read-only memory */
    ptrdiff_t size;
} type_facts;

static const type_facts facts[KTC_ELEMENT_TYPE_COUNT] = {
    [KTC_BOOL] = {"bool", 1},         [KTC_INT8] = {"int8", 1},
    [KTC_INT16] = {"int16", 2},       [KTC_INT32] = {"int32", 4},
    [KTC_INT64] = {"int64", 8},       [KTC_UINT8] = {"uint8", 1},
    [KTC_UINT16] = {"uint16", 2},     [KTC_UINT32] = {"uint32", 4},
    [KTC_UINT64] = {"uint64", 8},     [KTC_FLOAT16] = {"float16", 2},
    [KTC_BFLOAT16] = {"bfloat16", 2}, [KTC_FLOAT32] = {"float32", 4},
    [KTC_FLOAT64] = {"float64", 8},
};

ptrdiff_t
ktc_element_type_size(ktc_element_type type)
{
    return facts[type].size;
}

const char *
ktc_element_type_name(ktc_element_type type)
{
    return facts[type].name;
}

int
ktc_element_type_find(const char *name, ktc_element_type *type)
{
    for (int candidate = 0; candidate < KTC_ELEMENT_TYPE_COUNT; candidate++) {
        if (strcmp(name, facts[candidate].name) == 0) {
            *type = (ktc_element_type)candidate;
            return 1;
        }
    }
    return 0;
}
