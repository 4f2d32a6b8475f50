/* Fingerprints found again among many, sorted by their first number. */
#ifndef KTC_FINGERPRINT_INDEX_H
#define KTC_FINGERPRINT_INDEX_H

#include <stddef.h>

/* A fingerprint is so many numbers, all finite. */
#define KTC_FINGERPRINT_NUMBERS 5

typedef struct {
    const double *keys; /* count times KTC_FINGERPRINT_NUMBERS, sorted by the first of each */
    size_t count;
} ktc_fingerprint_index;

/* Largest difference of two fingerprints, that of their last numbers (the maxima, which rounding
 * moves most) counting half. */
double ktc_fingerprint_distance(const double *first, const double *second);

/* Distance from `wanted` to the nearest key, as far as it is below `limit`; INFINITY otherwise.
 * Looks outwards from the place of `wanted` and no further than the best key found so far allows.
 */
double ktc_fingerprint_nearest(const ktc_fingerprint_index *index, const double *wanted,
                               double limit);

/* The keys from *first up to *last, exclusive, are the only ones that may be nearer to `wanted`
 * than `within`. */
void ktc_fingerprint_window(const ktc_fingerprint_index *index, const double *wanted, double within,
                            size_t *first, size_t *last);

#endif
