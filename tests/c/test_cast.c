/* Casts against what the formats' definitions say: all half values one by one, and a slow search
 * for the nearest one.
 */
#include <math.h>
#include <string.h>

#include "check.h"
#include "arrays/cast.h"

/* A half-size format read off its definition: sign, exponent and fraction as numbers, no tricks
 * with bits. */
static double
value_of_half(unsigned half, int fraction_bits)
{
    int exponent_bits = 15 - fraction_bits;
    int bias = (1 << (exponent_bits - 1)) - 1;
    int field = (int)(half >> fraction_bits) & ((1 << exponent_bits) - 1);
    double fraction = (double)(half & ((1u << fraction_bits) - 1)) / (double)(1 << fraction_bits);
    double sign = (half & 0x8000u) != 0 ? -1.0 : 1.0;
    if (field == (1 << exponent_bits) - 1) {
        return fraction == 0.0 ? sign * (double)INFINITY : (double)NAN;
    }
    return sign * (field == 0 ? ldexp(fraction, 1 - bias) : ldexp(1.0 + fraction, field - bias));
}

static int
same_number(double first, double second)
{
    return (isnan(first) && isnan(second)) ||
           (first == second && signbit(first) == signbit(second));
}

static void
test_every_half_value_widens_exactly(ktc_element_type type, int fraction_bits,
                                     ktc_instruction_set set)
{
    enum { COUNT = 65536 };
    uint16_t *halves = malloc(COUNT * sizeof *halves);
    float *floats = malloc(COUNT * sizeof *floats);
    double *doubles = malloc(COUNT * sizeof *doubles);
    ktc_cast_losses losses;
    CHECK(halves != NULL && floats != NULL && doubles != NULL);
    for (int index = 0; index < COUNT; index++) {
        halves[index] = (uint16_t)index;
    }
    CHECK(ktc_cast_run(halves, type, floats, KTC_FLOAT32, COUNT, set, &losses) == KTC_OK);
    CHECK(losses.out_of_range == 0 && losses.rounded == 0);
    CHECK(ktc_cast_run(halves, type, doubles, KTC_FLOAT64, COUNT, set, &losses) == KTC_OK);
    CHECK(losses.out_of_range == 0 && losses.rounded == 0);
    for (int index = 0; index < COUNT; index++) {
        double expected = value_of_half((unsigned)index, fraction_bits);
        CHECK(same_number((double)floats[index], expected) &&
              same_number(doubles[index], expected));
    }
    free(halves);
    free(floats);
    free(doubles);
}

/* Between two neighboring halves: below the middle goes down, above it goes up, the middle itself
 * goes to the even one. */
static void
test_narrowing_takes_the_nearest_half(ktc_element_type type, int fraction_bits)
{
    unsigned infinity = ((1u << (15 - fraction_bits)) - 1u) << fraction_bits;
    for (unsigned half = 0; half + 1 < infinity; half++) {
        double low = value_of_half(half, fraction_bits);
        double high = value_of_half(half + 1, fraction_bits);
        double middle = (low + high) / 2;
        double numbers[6] = {
            low, nextafter(middle, 0), middle, nextafter(middle, INFINITY), high, -middle};
        unsigned even = half % 2 == 0 ? half : half + 1;
        unsigned expected[6] = {half, half, even, half + 1, half + 1, even | 0x8000u};
        uint16_t narrowed[6];
        ktc_cast_losses losses;
        CHECK(ktc_cast_run(numbers, KTC_FLOAT64, narrowed, type, 6, KTC_PORTABLE, &losses) ==
              KTC_OK);
        for (int index = 0; index < 6; index++) {
            CHECK(narrowed[index] == expected[index]);
        }
        CHECK(losses.rounded == 4 && losses.out_of_range == 0);
    }
}

static void
test_numbers_beyond_a_half_are_counted(void)
{
    const double numbers[] = {65519.0, 65520.0, -1e300, INFINITY, -INFINITY, NAN};
    uint16_t halves[6];
    ktc_cast_losses losses;
    CHECK(ktc_cast_run(numbers, KTC_FLOAT64, halves, KTC_FLOAT16, 6, KTC_PORTABLE, &losses) ==
          KTC_OK);
    CHECK(halves[0] == 0x7BFF && halves[1] == 0x7C00 && halves[2] == 0xFC00 &&
          halves[3] == 0x7C00 && halves[4] == 0xFC00);
    CHECK((halves[5] & 0x7FFF) > 0x7C00);
    CHECK(losses.out_of_range == 2 && losses.rounded == 1);
}

static void
test_integers_keep_limits_and_count_what_they_lose(void)
{
    const double numbers[] = {-129.0, -128.9, -128.0, 127.9, 128.0, 1.5, NAN, INFINITY, 3.0};
    int8_t bytes[9];
    const int8_t expected[] = {-128, -128, -128, 127, 127, 1, 0, 127, 3};
    ktc_cast_losses losses;
    CHECK(ktc_cast_run(numbers, KTC_FLOAT64, bytes, KTC_INT8, 9, KTC_PORTABLE, &losses) == KTC_OK);
    CHECK(memcmp(bytes, expected, sizeof expected) == 0);
    CHECK(losses.out_of_range == 4 && losses.rounded == 3);

    const int64_t large[] = {INT64_MAX, INT64_MIN, (INT64_C(1) << 53) + 1, INT64_C(1) << 53, -1};
    double doubles[5];
    uint64_t naturals[5];
    CHECK(ktc_cast_run(large, KTC_INT64, doubles, KTC_FLOAT64, 5, KTC_PORTABLE, &losses) == KTC_OK);
    CHECK(losses.out_of_range == 0 && losses.rounded == 2);
    CHECK(ktc_cast_run(large, KTC_INT64, naturals, KTC_UINT64, 5, KTC_PORTABLE, &losses) == KTC_OK);
    CHECK(naturals[0] == (uint64_t)INT64_MAX && naturals[1] == 0 && naturals[4] == 0 &&
          losses.out_of_range == 2);

    const double limits[] = {0x1p63, -0x1p63, 0x1p64, -1.0};
    int64_t wide[4];
    CHECK(ktc_cast_run(limits, KTC_FLOAT64, wide, KTC_INT64, 4, KTC_PORTABLE, &losses) == KTC_OK);
    CHECK(wide[0] == INT64_MAX && wide[1] == INT64_MIN && wide[2] == INT64_MAX && wide[3] == -1);
    CHECK(losses.out_of_range == 2 && losses.rounded == 0);
}

/* An integer just above the middle of two float32 numbers: rounding to float64 first would end in
 * the middle and round down. */
static void
test_large_integers_are_rounded_once(void)
{
    const uint64_t just_above = (UINT64_C(1) << 62) + (UINT64_C(1) << 38) + 1;
    float narrowed;
    ktc_cast_losses losses;
    CHECK(ktc_cast_run(&just_above, KTC_UINT64, &narrowed, KTC_FLOAT32, 1, KTC_PORTABLE, &losses) ==
          KTC_OK);
    CHECK(narrowed == 0x1.000002p62f && losses.rounded == 1);
}

/* The way of every pair of types: small numbers that all types hold come through unchanged, across
 * block borders. */
static void
test_small_numbers_survive_every_pair_of_types(void)
{
    enum { COUNT = 1300 };
    double start[COUNT];
    double back[COUNT];
    double between[COUNT];
    double other[COUNT];
    ktc_cast_losses losses;
    for (int index = 0; index < COUNT; index++) {
        start[index] = index % 2;
    }
    for (int first = 0; first < KTC_ELEMENT_TYPE_COUNT; first++) {
        for (int second = 0; second < KTC_ELEMENT_TYPE_COUNT; second++) {
            CHECK(ktc_cast_run(start, KTC_FLOAT64, between, (ktc_element_type)first, COUNT,
                               KTC_PORTABLE, &losses) == KTC_OK);
            CHECK(ktc_cast_run(between, (ktc_element_type)first, other, (ktc_element_type)second,
                               COUNT, KTC_PORTABLE, &losses) == KTC_OK);
            CHECK(losses.out_of_range == 0 && losses.rounded == 0);
            CHECK(ktc_cast_run(other, (ktc_element_type)second, back, KTC_FLOAT64, COUNT,
                               KTC_PORTABLE, &losses) == KTC_OK);
            CHECK(memcmp(start, back, sizeof start) == 0);
        }
    }
}

static void
test_names_find_their_types(void)
{
    ktc_element_type type;
    for (int known = 0; known < KTC_ELEMENT_TYPE_COUNT; known++) {
        CHECK(ktc_element_type_find(ktc_element_type_name((ktc_element_type)known), &type) &&
              (int)type == known);
    }
    CHECK(!ktc_element_type_find("float", &type) && !ktc_element_type_find("", &type));
    ktc_cast_losses losses;
    CHECK(ktc_cast_run(NULL, KTC_ELEMENT_TYPE_COUNT, NULL, KTC_FLOAT32, 0, KTC_PORTABLE, &losses) ==
          KTC_BAD_TYPE);
}

int
main(void)
{
    for (int set = 0; set < KTC_INSTRUCTION_SET_COUNT; set++) {
        if (ktc_instruction_set_is_available((ktc_instruction_set)set)) {
            test_every_half_value_widens_exactly(KTC_FLOAT16, 10, (ktc_instruction_set)set);
            test_every_half_value_widens_exactly(KTC_BFLOAT16, 7, (ktc_instruction_set)set);
        }
    }
    test_narrowing_takes_the_nearest_half(KTC_FLOAT16, 10);
    test_narrowing_takes_the_nearest_half(KTC_BFLOAT16, 7);
    test_numbers_beyond_a_half_are_counted();
    test_integers_keep_limits_and_count_what_they_lose();
    test_large_integers_are_rounded_once();
    test_small_numbers_survive_every_pair_of_types();
    test_names_find_their_types();
    return 0;
}
