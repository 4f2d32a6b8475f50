/* Conversion between element types that counts what it cannot keep. */
#ifndef KTC_CAST_H
#define KTC_CAST_H

#include <stddef.h>

#include "arrays/element_type.h"
#include "arrays/instruction_set.h"
#include "status.h"

typedef struct {
    ptrdiff_t out_of_range; /* finite values that became infinite, and values (NaN and infinities
                               too) that an integer cannot hold */
    ptrdiff_t rounded;      /* other values that are not the same number any more */
} ktc_cast_losses;

/* Converts `count` contiguous elements, both sides aligned and apart from each other (borrowed);
 * adds to nothing, fills *losses. Floating point: round to nearest, ties to even, subnormal numbers
 * kept, NaN stays NaN. Integers: fractions are cut toward zero, values out of range become the
 * nearest limit, NaN becomes zero. bool: anything but zero is true; only 0 and 1 count as kept.
 * `set` must be available. KTC_BAD_TYPE for a type outside the enumeration. */
ktc_status ktc_cast_run(const void *source, ktc_element_type source_type, void *target,
                        ktc_element_type target_type, ptrdiff_t count, ktc_instruction_set set,
                        ktc_cast_losses *losses);

#endif
