/* Look-up by bisection on the first number of each key. */
#include "arrays/fingerprint_index.h"

#include <math.h>

static const double *
key_at(const ktc_fingerprint_index *index, size_t place)
{
    return index->keys + place * KTC_FINGERPRINT_NUMBERS;
}

/* The first place whose key begins with `value` or more; with more than `value` when `behind`. */
static size_t
place_of(const ktc_fingerprint_index *index, double value, int behind)
{
    size_t low = 0;
    size_t high = index->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        double own = key_at(index, middle)[0];
        if (own < value || (behind && !(own > value))) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

double
ktc_fingerprint_distance(const double *first, const double *second)
{
    double largest =
        fabs(first[KTC_FINGERPRINT_NUMBERS - 1] - second[KTC_FINGERPRINT_NUMBERS - 1]) / 2.0;
    for (int number = 0; number < KTC_FINGERPRINT_NUMBERS - 1; number++) {
        double apart = fabs(first[number] - second[number]);
        largest = apart > largest ? apart : largest;
    }
    return largest;
}

double
ktc_fingerprint_nearest(const ktc_fingerprint_index *index, const double *wanted, double limit)
{
    size_t place = place_of(index, wanted[0], 0);
    double best = limit;
    int found = 0;
    for (size_t next = place; next < index->count && key_at(index, next)[0] - wanted[0] < best;
         next++) {
        double apart = ktc_fingerprint_distance(key_at(index, next), wanted);
        found |= apart < best;
        best = apart < best ? apart : best;
    }
    for (size_t next = place; next > 0 && wanted[0] - key_at(index, next - 1)[0] < best; next--) {
        double apart = ktc_fingerprint_distance(key_at(index, next - 1), wanted);
        found |= apart < best;
        best = apart < best ? apart : best;
    }
    return found ? best : INFINITY;
}

void
ktc_fingerprint_window(const ktc_fingerprint_index *index, const double *wanted, double within,
                       size_t *first, size_t *last)
{
    *first = place_of(index, wanted[0] - within, 0);
    *last = place_of(index, wanted[0] + within, 1);
}
