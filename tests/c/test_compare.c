/* Comparison of two arrays, and the extents of strided ones. */
#include <math.h>

#include "check.h"
#include "arrays/checked.h"
#include "arrays/compare.h"
#include "arrays/span.h"

static void
test_finite_differences_and_unlike_places_are_told_apart(void)
{
    const double first[] = {1.0, -4.0, NAN, INFINITY, INFINITY, NAN, 2.0};
    const double second[] = {1.5, -4.0, NAN, INFINITY, -INFINITY, 0.0, INFINITY};
    ktc_comparison found;
    CHECK(ktc_compare_run(first, second, KTC_FLOAT64, 7, &found) == KTC_OK);
    CHECK(found.largest_difference == 0.5 && found.largest_magnitude == 4.0 && found.unlike == 3);
}

/* float32 subtraction would overflow here, and lose the difference in the second place. */
static void
test_float32_is_compared_in_float64(void)
{
    const float first[] = {3e38f, 1.0f};
    const float second[] = {-3e38f, 1.0f};
    ktc_comparison found;
    CHECK(ktc_compare_run(first, second, KTC_FLOAT32, 2, &found) == KTC_OK);
    CHECK(found.largest_difference == (double)3e38f * 2 && found.unlike == 0);
    CHECK(ktc_compare_run(first, second, KTC_FLOAT32, 0, &found) == KTC_OK);
    CHECK(found.largest_difference == 0.0 && found.largest_magnitude == 0.0 && found.unlike == 0);
    CHECK(ktc_compare_run(first, second, KTC_FLOAT16, 2, &found) == KTC_BAD_TYPE);
}

static void
test_spans_cover_backward_axes_and_refuse_what_does_not_fit(void)
{
    ktc_span span;
    const ptrdiff_t shape[] = {3, 4};
    const ptrdiff_t strides[] = {-16, 4};
    const ptrdiff_t too_long[] = {PTRDIFF_MAX / 2, 4};
    const ptrdiff_t empty[] = {0, 4};
    CHECK(ktc_span_measure(2, shape, strides, 4, &span) == KTC_OK && span.low == -32 &&
          span.high == 16);
    CHECK(ktc_span_measure(2, shape, too_long, 4, &span) == KTC_OVERFLOW);
    CHECK(ktc_span_measure(2, empty, strides, 4, &span) == KTC_OK && span.low == span.high);
    const char memory[64] = {0};
    const ktc_span eight = {0, 8};
    CHECK(!ktc_span_overlaps(memory, eight, memory + 8, eight));
    CHECK(ktc_span_overlaps(memory, eight, memory + 7, eight));
    CHECK(!ktc_span_overlaps(memory, span, memory, eight));
}

static void
test_checked_arithmetic_refuses_what_does_not_fit(void)
{
    ptrdiff_t result;
    CHECK(ktc_checked_add(PTRDIFF_MAX, 0, &result) && !ktc_checked_add(PTRDIFF_MAX, 1, &result));
    CHECK(!ktc_checked_add(PTRDIFF_MIN, -1, &result));
    CHECK(ktc_checked_multiply(3, -5, &result) && result == -15);
    CHECK(ktc_checked_multiply(0, PTRDIFF_MIN, &result) && result == 0);
    CHECK(!ktc_checked_multiply(2, PTRDIFF_MAX / 2 + 1, &result) &&
          !ktc_checked_multiply(2, PTRDIFF_MIN, &result));
    CHECK(!ktc_checked_multiply(-1, 1, &result));
}

int
main(void)
{
    test_finite_differences_and_unlike_places_are_told_apart();
    test_float32_is_compared_in_float64();
    test_spans_cover_backward_axes_and_refuse_what_does_not_fit();
    test_checked_arithmetic_refuses_what_does_not_fit();
    return 0;
}
