/* Strided copies against a loop that moves one element at a time, in every instruction set of this
 * machine. The whole of the target's memory is compared, so that a byte written between or beside
 * its elements is seen. */
#include <string.h>

#include "check.h"
#include "arrays/permute_plan.h"
#include "arrays/permute_run.h"
#include "arrays/span.h"

typedef struct {
    int ndim;
    ptrdiff_t shape[KTC_MAX_NDIM];
    ptrdiff_t source_strides[KTC_MAX_NDIM];
    ptrdiff_t target_strides[KTC_MAX_NDIM];
    ptrdiff_t item_size;
} copy_case;

static void
copy_slowly(const copy_case *work, int axis, const char *source, char *target)
{
    if (axis == work->ndim) {
        memcpy(target, source, (size_t)work->item_size);
        return;
    }
    for (ptrdiff_t index = 0; index < work->shape[axis]; index++) {
        copy_slowly(work, axis + 1, source + index * work->source_strides[axis],
                    target + index * work->target_strides[axis]);
    }
}

static void
print_case(const copy_case *work)
{
    fprintf(stderr, "item size %td", work->item_size);
    for (int axis = 0; axis < work->ndim; axis++) {
        fprintf(stderr, ", axis %td (%td to %td)", work->shape[axis], work->source_strides[axis],
                work->target_strides[axis]);
    }
    fprintf(stderr, "\n");
}

/* Runs one case in all instruction sets, on memory of exactly the size that it may touch,
 * `misplaced` bytes off alignment. */
static void
check_case(const copy_case *work, ptrdiff_t misplaced)
{
    ktc_span from;
    ktc_span to;
    ktc_permute_plan plan;
    CHECK(ktc_span_measure(work->ndim, work->shape, work->source_strides, work->item_size, &from) ==
          KTC_OK);
    CHECK(ktc_span_measure(work->ndim, work->shape, work->target_strides, work->item_size, &to) ==
          KTC_OK);
    size_t source_size = (size_t)(from.high - from.low + misplaced);
    size_t target_size = (size_t)(to.high - to.low + misplaced);
    char *source = malloc(source_size + 1);
    char *expected = malloc(target_size + 1);
    char *target = malloc(target_size + 1);
    CHECK(source != NULL && expected != NULL && target != NULL);
    for (size_t index = 0; index < source_size; index++) {
        source[index] = (char)(index * 31 + index / 251);
    }
    const char *source_start = source + misplaced - from.low;
    memset(expected, 0x55, target_size);
    copy_slowly(work, 0, source_start, expected + misplaced - to.low);
    CHECK(ktc_permute_plan_make(work->ndim, work->shape, work->source_strides, work->target_strides,
                                work->item_size, &plan) == KTC_OK);
    for (int set = 0; set < KTC_INSTRUCTION_SET_COUNT; set++) {
        if (!ktc_instruction_set_is_available((ktc_instruction_set)set)) {
            continue;
        }
        memset(target, 0x55, target_size);
        ktc_permute_run(&plan, source_start, target + misplaced - to.low, (ktc_instruction_set)set);
        if (memcmp(target, expected, target_size) != 0) {
            fprintf(stderr, "%s differs: ", ktc_instruction_set_name((ktc_instruction_set)set));
            print_case(work);
            CHECK(!"the fast copy equals the slow one");
        }
    }
    free(source);
    free(expected);
    free(target);
}

/* Strides of an array whose axes lie in a random order, with gaps and backward axes now and then.
 */
static void
random_strides(random_source *random, const copy_case *work, ptrdiff_t *strides)
{
    int order[KTC_MAX_NDIM];
    ptrdiff_t step = work->item_size;
    for (int axis = 0; axis < work->ndim; axis++) {
        int other = (int)random_between(random, 0, axis);
        order[axis] = order[other];
        order[other] = axis;
    }
    for (int place = 0; place < work->ndim; place++) {
        int axis = order[place];
        if (random_between(random, 0, 5) == 0) {
            step += random_between(random, 1, 2 * work->item_size + 1);
        }
        strides[axis] = step;
        step *= work->shape[axis] > 0 ? work->shape[axis] : 1;
        if (random_between(random, 0, 7) == 0) {
            strides[axis] = -strides[axis];
        }
    }
}

static void
test_random_cases_equal_the_slow_copy(random_source *random, long count)
{
    const ptrdiff_t item_sizes[] = {1, 2, 3, 4, 8, 16, 24};
    for (long number = 0; number < count; number++) {
        copy_case work;
        work.ndim = (int)random_between(random, 0, 5);
        work.item_size = item_sizes[random_between(random, 0, 6)];
        for (int axis = 0; axis < work.ndim; axis++) {
            ptrdiff_t longest = work.ndim <= 2 ? 150 : (work.ndim == 3 ? 40 : 9);
            work.shape[axis] =
                random_between(random, random_between(random, 0, 20) == 0 ? 0 : 1, longest);
        }
        random_strides(random, &work, work.source_strides);
        random_strides(random, &work, work.target_strides);
        if (work.ndim > 0 && random_between(random, 0, 9) == 0) {
            work.source_strides[random_between(random, 0, work.ndim - 1)] = 0;
        }
        check_case(&work, random_between(random, 0, 3) == 0 ? random_between(random, 1, 63) : 0);
    }
}

/* A torch kernel (out, in, height * width) into Keras order, both dense: the case that all of this
 * is about. */
static void
check_kernel_transpose(ptrdiff_t out, ptrdiff_t in, ptrdiff_t window, ptrdiff_t item_size,
                       ptrdiff_t misplaced)
{
    copy_case work = {.ndim = 3, .shape = {window, in, out}, .item_size = item_size};
    work.source_strides[0] = item_size;
    work.source_strides[1] = window * item_size;
    work.source_strides[2] = in * window * item_size;
    work.target_strides[0] = in * out * item_size;
    work.target_strides[1] = out * item_size;
    work.target_strides[2] = item_size;
    check_case(&work, misplaced);
}

static void
test_kernels_of_all_small_sizes_are_transposed(void)
{
    for (ptrdiff_t item_size = 1; item_size <= 8; item_size *= 2) {
        for (ptrdiff_t out = 1; out <= 70; out++) {
            for (ptrdiff_t in = 1; in <= 36; in++) {
                check_kernel_transpose(out, in, 1, item_size, 0);
            }
            check_kernel_transpose(out, 3, 9, item_size, 2);
        }
    }
}

/* Source rows that all start at one place of their cache lines, wherever that is: the first columns
 * go alone. */
static void
test_source_rows_in_step_with_cache_lines_start_anywhere(void)
{
    for (ptrdiff_t item_size = 1; item_size <= 8; item_size *= 2) {
        for (ptrdiff_t misplaced = 0; misplaced < 64; misplaced++) {
            check_kernel_transpose(101, 96, 1, item_size, misplaced);
            check_kernel_transpose(65, 64 / item_size, 1, item_size, misplaced);
        }
    }
}

/* 4 MiB and more use streaming stores: target rows in step with the cache lines, and not; rows and
 * columns that end inside a block. */
static void
test_large_kernels_are_streamed_unharmed(void)
{
    check_kernel_transpose(1024, 1040, 1, 4, 0);
    check_kernel_transpose(1024, 1040, 1, 4, 20);
    check_kernel_transpose(1025, 1031, 1, 4, 0);
    check_kernel_transpose(1025, 1024, 1, 4, 52);
    check_kernel_transpose(2080, 1037, 1, 2, 4);
    check_kernel_transpose(2080, 2051, 1, 1, 3);
    check_kernel_transpose(528, 131, 9, 8, 16);
    check_kernel_transpose(529, 131, 9, 8, 3);
    check_kernel_transpose(70001, 17, 1, 4, 0);
    check_kernel_transpose(70000, 17, 1, 4, 0);
}

static void
test_plans_take_the_expected_shape(void)
{
    ktc_permute_plan plan;
    /* (512, 512, 3, 3) OIHW to HWIO: one row axis, and (I, H * W) contiguous in the source. */
    const ptrdiff_t shape[] = {3, 3, 512, 512};
    const ptrdiff_t source[] = {12, 4, 36, 18432};
    const ptrdiff_t target[] = {3145728, 1048576, 2048, 4};
    CHECK(ktc_permute_plan_make(4, shape, source, target, 4, &plan) == KTC_OK);
    CHECK(plan.kind == KTC_PLAN_TRANSPOSE && plan.outer_count == 0 && plan.column_count == 2);
    CHECK(plan.row.length == 512 && plan.columns[0].length == 9 && plan.columns[1].length == 512);
    /* The same layout on both sides is one run. */
    CHECK(ktc_permute_plan_make(4, shape, target, target, 4, &plan) == KTC_OK);
    CHECK(plan.kind == KTC_PLAN_COPY && plan.item_size == 3 * 3 * 512 * 512 * 4);
    /* Pairs that stay together become elements of eight bytes. */
    const ptrdiff_t pairs[] = {30, 20, 2};
    const ptrdiff_t pairs_source[] = {8, 240, 4};
    const ptrdiff_t pairs_target[] = {160, 8, 4};
    CHECK(ktc_permute_plan_make(3, pairs, pairs_source, pairs_target, 4, &plan) == KTC_OK);
    CHECK(plan.kind == KTC_PLAN_TRANSPOSE && plan.item_size == 8);
}

static void
test_impossible_copies_are_refused(void)
{
    ktc_permute_plan plan;
    const ptrdiff_t shape[] = {3, 4};
    const ptrdiff_t dense[] = {16, 4};
    const ptrdiff_t repeated[] = {0, 4};
    const ptrdiff_t interleaved[] = {4, 4};
    const ptrdiff_t negative_shape[] = {3, -1};
    const ptrdiff_t huge_shape[] = {PTRDIFF_MAX / 4, 8};
    const ptrdiff_t huge_strides[] = {PTRDIFF_MIN, 4};
    CHECK(ktc_permute_plan_make(2, shape, dense, repeated, 4, &plan) == KTC_OVERLAP);
    CHECK(ktc_permute_plan_make(2, shape, dense, interleaved, 4, &plan) == KTC_OVERLAP);
    CHECK(ktc_permute_plan_make(2, negative_shape, dense, dense, 4, &plan) == KTC_BAD_SHAPE);
    CHECK(ktc_permute_plan_make(2, shape, dense, dense, 0, &plan) == KTC_BAD_SHAPE);
    CHECK(ktc_permute_plan_make(KTC_MAX_NDIM + 1, shape, dense, dense, 4, &plan) == KTC_BAD_AXES);
    CHECK(ktc_permute_plan_make(2, huge_shape, dense, dense, 4, &plan) == KTC_OVERFLOW);
    CHECK(ktc_permute_plan_make(2, shape, huge_strides, dense, 4, &plan) == KTC_OVERFLOW);
    CHECK(ktc_permute_plan_make(2, shape, repeated, dense, 4, &plan) == KTC_OK);
}

int
main(int count, char **arguments)
{
    random_source random = random_from_arguments(count, arguments);
    test_plans_take_the_expected_shape();
    test_impossible_copies_are_refused();
    test_kernels_of_all_small_sizes_are_transposed();
    test_random_cases_equal_the_slow_copy(&random, cases_from_arguments(count, arguments, 3000));
    test_source_rows_in_step_with_cache_lines_start_anywhere();
    test_large_kernels_are_streamed_unharmed();
    return 0;
}
