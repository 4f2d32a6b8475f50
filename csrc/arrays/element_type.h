/* The element types that kernels compute with, by their usual names. */
#ifndef KTC_ELEMENT_TYPE_H
#define KTC_ELEMENT_TYPE_H

#include <stddef.h>

typedef enum {
    KTC_BOOL, /* one byte, zero or not */
    KTC_INT8,
    KTC_INT16,
    KTC_INT32,
    KTC_INT64,
    KTC_UINT8,
    KTC_UINT16,
    KTC_UINT32,
    KTC_UINT64,
    KTC_FLOAT16,  /* IEEE half: 5 bits of exponent, 10 of fraction */
    KTC_BFLOAT16, /* the upper half of a float32 */
    KTC_FLOAT32,
    KTC_FLOAT64,
    KTC_ELEMENT_TYPE_COUNT
} ktc_element_type;

/* Bytes of one element. */
ptrdiff_t ktc_element_type_size(ktc_element_type type);

/* "bool", "int8", ..., "bfloat16", "float32", "float64", as NumPy and torch spell them. */
const char *ktc_element_type_name(ktc_element_type type);

/* The type of a name: 1 with *type filled, or 0 when there is none. */
int ktc_element_type_find(const char *name, ktc_element_type *type);

#endif
