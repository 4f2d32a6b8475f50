/* Sums that stay the same whatever the order of the elements and however many zeros are among them.
 */
#ifndef KTC_FINGERPRINT_H
#define KTC_FINGERPRINT_H

#include <stddef.h>

#include "arrays/element_type.h"
#include "status.h"

typedef struct {
    double sum;             /* of x */
    double magnitudes;      /* of |x| */
    double squares;         /* of x^2 */
    double cubes;           /* of x^3 */
    double magnitude_cubes; /* of |x|^3 */
    double largest;         /* of |x|; 0 for no elements */
} ktc_fingerprint;

/* Reads `count` contiguous, aligned elements of KTC_FLOAT32 or KTC_FLOAT64 (anything else:
 * KTC_BAD_TYPE) once. Sums are in float64. A NaN makes every sum NaN, `largest` excepted. Borrowed.
 */
ktc_status ktc_fingerprint_run(const void *values, ktc_element_type type, ptrdiff_t count,
                               ktc_fingerprint *fingerprint);

#endif
