/* Owns the one-pass statistics by which a tensor is recognized in another layout. */
#include "arrays/fingerprint.h"

#include <math.h>

/* Independent chains of additions: one addition takes four cycles, so eight chains keep the unit
 * busy and let the compiler use vectors. */
#define CHAINS 8

typedef struct {
    double sum[CHAINS];
    double magnitudes[CHAINS];
    double squares[CHAINS];
    double cubes[CHAINS];
    double magnitude_cubes[CHAINS];
    double largest[CHAINS];
} chains;

static inline void
note(chains *found, int chain, double value)
{
    double magnitude = fabs(value);
    double square = value * value;
    found->sum[chain] += value;
    found->magnitudes[chain] += magnitude;
    found->squares[chain] += square;
    found->cubes[chain] += square * value;
    found->magnitude_cubes[chain] += square * magnitude;
    found->largest[chain] = magnitude > found->largest[chain] ? magnitude : found->largest[chain];
}

static void
read_float32(const float *values, ptrdiff_t count, chains *found)
{
    ptrdiff_t whole = count - count % CHAINS;
    for (ptrdiff_t index = 0; index < whole; index += CHAINS) {
        for (int chain = 0; chain < CHAINS; chain++) {
            note(found, chain, (double)values[index + chain]);
        }
    }
    for (ptrdiff_t index = whole; index < count; index++) {
        note(found, 0, (double)values[index]);
    }
}

static void
read_float64(const double *values, ptrdiff_t count, chains *found)
{
    ptrdiff_t whole = count - count % CHAINS;
    for (ptrdiff_t index = 0; index < whole; index += CHAINS) {
        for (int chain = 0; chain < CHAINS; chain++) {
            note(found, chain, values[index + chain]);
        }
    }
    for (ptrdiff_t index = whole; index < count; index++) {
        note(found, 0, values[index]);
    }
}

ktc_status
ktc_fingerprint_run(const void *values, ktc_element_type type, ptrdiff_t count,
                    ktc_fingerprint *fingerprint)
{
    chains found = {{0.0}, {0.0}, {0.0}, {0.0}, {0.0}, {0.0}};
    ktc_fingerprint total = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    if (type == KTC_FLOAT32) {
        read_float32(values, count, &found);
    }
    else if (type == KTC_FLOAT64) {
        read_float64(values, count, &found);
    }
    else {
        return KTC_BAD_TYPE;
    }
    for (int chain = 0; chain < CHAINS; chain++) {
        total.sum += found.sum[chain];
        total.magnitudes += found.magnitudes[chain];
        total.squares += found.squares[chain];
        total.cubes += found.cubes[chain];
        total.magnitude_cubes += found.magnitude_cubes[chain];
        total.largest = found.largest[chain] > total.largest ? found.largest[chain] : total.largest;
    }
    *fingerprint = total;
    return KTC_OK;
}
