/* Owns the comparison of two outputs or two sets of weights in one pass. */
#include "arrays/compare.h"

#include <math.h>

static void
note_place(double first, double second, ktc_comparison *found)
{
    int first_is_finite = isfinite(first) != 0;
    int second_is_finite = isfinite(second) != 0;
    if (first_is_finite && fabs(first) > found->largest_magnitude) {
        found->largest_magnitude = fabs(first);
    }
    if (first_is_finite && second_is_finite) {
        double difference = fabs(first - second);
        if (difference > found->largest_difference) {
            found->largest_difference = difference;
        }
    }
    else if (!(isnan(first) && isnan(second)) && first != second) {
        found->unlike++;
    }
}

ktc_status
ktc_compare_run(const void *first, const void *second, ktc_element_type type, ptrdiff_t count,
                ktc_comparison *comparison)
{
    ktc_comparison found = {0.0, 0.0, 0};
    if (type == KTC_FLOAT32) {
        const float *left = first;
        const float *right = second;
        for (ptrdiff_t index = 0; index < count; index++) {
            note_place((double)left[index], (double)right[index], &found);
        }
    }
    else if (type == KTC_FLOAT64) {
        const double *left = first;
        const double *right = second;
        for (ptrdiff_t index = 0; index < count; index++) {
            note_place(left[index], right[index], &found);
        }
    }
    else {
        return KTC_BAD_TYPE;
    }
    *comparison = found;
    return KTC_OK;
}
