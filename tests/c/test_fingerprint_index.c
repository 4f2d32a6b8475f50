/* Look-up of fingerprints against a walk over all keys. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "arrays/fingerprint_index.h"

#define MOST 60

static void
fill_sorted(random_source *random, double *keys, size_t count)
{
    for (size_t place = 0; place < count; place++) {
        double *key = keys + place * KTC_FINGERPRINT_NUMBERS;
        for (int number = 0; number < KTC_FINGERPRINT_NUMBERS; number++) {
            key[number] = (double)random_between(random, -9, 9) / 4.0;
        }
        key[0] = (double)place / 16.0 + key[0] * 0.0;
    }
}

static void
test_nearest_and_window_equal_a_walk_over_all_keys(random_source *random, long cases)
{
    double keys[MOST * KTC_FINGERPRINT_NUMBERS];
    for (long number = 0; number < cases; number++) {
        size_t count = (size_t)random_between(random, 0, MOST);
        double wanted[KTC_FINGERPRINT_NUMBERS] = {(double)random_between(random, -2, 66) / 16.0,
                                                  0.25, -0.5, 1.0, 0.0};
        double within = (double)random_between(random, 1, 40) / 16.0;
        size_t first;
        size_t last;
        double best = INFINITY;
        fill_sorted(random, keys, count);
        const ktc_fingerprint_index index = {keys, count};
        ktc_fingerprint_window(&index, wanted, within, &first, &last);
        CHECK(first <= last && last <= count);
        for (size_t place = 0; place < count; place++) {
            double apart = ktc_fingerprint_distance(keys + place * KTC_FINGERPRINT_NUMBERS, wanted);
            best = apart < within && apart < best ? apart : best;
            CHECK(!(apart < within) || (place >= first && place < last));
        }
        double nearest = ktc_fingerprint_nearest(&index, wanted, within);
        CHECK(isinf(best) ? isinf(nearest) : fabs(nearest - best) < 1e-15);
    }
}

int
main(int count, char **arguments)
{
    random_source random = random_from_arguments(count, arguments);
    test_nearest_and_window_equal_a_walk_over_all_keys(
        &random, cases_from_arguments(count, arguments, 20000));
    return 0;
}
