/* Owns the simplification of strided copies; moves no data. */
#include "arrays/permute_plan.h"

#include "arrays/checked.h"
#include "arrays/span.h"

/* Takes axes of size above 1 and turns those round that run backwards in the target. */
static void
axes_collect(ktc_axes *list, int ndim, const ptrdiff_t *shape, const ptrdiff_t *source_strides,
             const ptrdiff_t *target_strides, ktc_permute_plan *plan)
{
    list->count = 0;
    for (int axis = 0; axis < ndim; axis++) {
        if (shape[axis] == 1) {
            continue;
        }
        ktc_axis taken = {shape[axis], source_strides[axis], target_strides[axis]};
        if (taken.target_stride < 0) {
            plan->source_offset += (taken.length - 1) * taken.source_stride;
            plan->target_offset += (taken.length - 1) * taken.target_stride;
            taken.source_stride = -taken.source_stride;
            taken.target_stride = -taken.target_stride;
        }
        list->axes[list->count++] = taken;
    }
}

/* Insertion sort: a handful of axes, and the order of equal strides is kept. */
static void
axes_sort_by_target(ktc_axes *list)
{
    for (int axis = 1; axis < list->count; axis++) {
        ktc_axis moving = list->axes[axis];
        int place = axis;
        while (place > 0 && list->axes[place - 1].target_stride < moving.target_stride) {
            list->axes[place] = list->axes[place - 1];
            place--;
        }
        list->axes[place] = moving;
    }
}

/* 1 when every axis steps over all that the faster ones span, so that no target element is written
 * twice. */
static int
axes_are_apart_in_target(const ktc_axes *list, ptrdiff_t item_size)
{
    ptrdiff_t extent = item_size;
    for (int axis = list->count - 1; axis >= 0; axis--) {
        const ktc_axis *current = &list->axes[axis];
        if (current->target_stride < extent) {
            return 0;
        }
        extent += (current->length - 1) * current->target_stride;
    }
    return 1;
}

/* A run that is contiguous on both sides becomes the element: (n, m, 2) to (m, n, 2) of floats is a
 * transpose of 8-byte items. */
static void
axes_fold_contiguous(ktc_axes *list, ktc_permute_plan *plan)
{
    if (list->count > 0) {
        const ktc_axis *fastest = &list->axes[list->count - 1];
        if (fastest->target_stride == plan->item_size &&
            fastest->source_stride == plan->item_size) {
            plan->item_size *= fastest->length;
            list->count--;
        }
    }
}

/* Moves those axes into plan->columns that the source steps through as one contiguous run, fastest
 * first. */
static void
columns_take_contiguous(ktc_axes *list, ktc_permute_plan *plan)
{
    ptrdiff_t expected = plan->item_size;
    int axis = 0;
    while (axis < list->count) {
        if (list->axes[axis].source_stride == expected) {
            expected *= list->axes[axis].length;
            plan->columns[plan->column_count++] = list->axes[axis];
            ktc_axes_remove(list, axis);
            axis = 0;
        }
        else {
            axis++;
        }
    }
}

static ptrdiff_t
absolute(ptrdiff_t number)
{
    return number < 0 ? -number : number;
}

/* Moves the axis with the shortest step in the source into plan->columns. */
static void
columns_take_fastest(ktc_axes *list, ktc_permute_plan *plan)
{
    int best = 0;
    for (int axis = 1; axis < list->count; axis++) {
        if (absolute(list->axes[axis].source_stride) <= absolute(list->axes[best].source_stride)) {
            best = axis;
        }
    }
    plan->columns[plan->column_count++] = list->axes[best];
    ktc_axes_remove(list, best);
}

static void
classify(ktc_axes *list, ktc_permute_plan *plan)
{
    if (list->count == 0) {
        plan->kind = KTC_PLAN_COPY;
        return;
    }
    plan->row = list->axes[--list->count];
    plan->kind = KTC_PLAN_GENERAL;
    if (plan->row.target_stride == plan->item_size) {
        columns_take_contiguous(list, plan);
    }
    if (plan->column_count > 0) {
        plan->kind = KTC_PLAN_TRANSPOSE;
    }
    else if (list->count > 0 && absolute(plan->row.source_stride) > plan->item_size) {
        columns_take_fastest(list, plan);
    }
    plan->outer_count = list->count;
    for (int axis = 0; axis < list->count; axis++) {
        plan->outer[axis] = list->axes[axis];
    }
}

ktc_status
ktc_permute_plan_make(int ndim, const ptrdiff_t *shape, const ptrdiff_t *source_strides,
                      const ptrdiff_t *target_strides, ptrdiff_t item_size, ktc_permute_plan *plan)
{
    ktc_span span;
    if (ndim < 0 || ndim > KTC_MAX_NDIM) {
        return KTC_BAD_AXES;
    }
    if (item_size < 1) {
        return KTC_BAD_SHAPE;
    }
    *plan = (ktc_permute_plan){.kind = KTC_PLAN_EMPTY, .item_size = item_size, .bytes = item_size};
    ktc_status status = ktc_span_measure(ndim, shape, source_strides, item_size, &span);
    if (status == KTC_OK) {
        status = ktc_span_measure(ndim, shape, target_strides, item_size, &span);
    }
    if (status != KTC_OK) {
        return status;
    }
    if (span.low == span.high) {
        plan->bytes = 0;
        return KTC_OK;
    }
    for (int axis = 0; axis < ndim; axis++) {
        if (!ktc_checked_multiply(shape[axis], plan->bytes, &plan->bytes)) {
            return KTC_OVERFLOW;
        }
    }
    ktc_axes list;
    axes_collect(&list, ndim, shape, source_strides, target_strides, plan);
    axes_sort_by_target(&list);
    if (!axes_are_apart_in_target(&list, item_size)) {
        return KTC_OVERLAP;
    }
    ktc_axes_merge(&list);
    axes_fold_contiguous(&list, plan);
    classify(&list, plan);
    return KTC_OK;
}
