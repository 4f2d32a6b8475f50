/* Owns what can be said of the axes of a strided copy before it is known how it is done. */
#include "arrays/axes.h"

#include "arrays/checked.h"

void
ktc_axes_remove(ktc_axes *list, int place)
{
    list->count--;
    for (int axis = place; axis < list->count; axis++) {
        list->axes[axis] = list->axes[axis + 1];
    }
}

/* 1 when one step of the slow axis equals all steps of the fast one. */
static int
stride_continues(ptrdiff_t slow_stride, ptrdiff_t fast_stride, ptrdiff_t fast_length)
{
    ptrdiff_t whole;
    return ktc_checked_multiply(fast_length, fast_stride, &whole) && slow_stride == whole;
}

void
ktc_axes_merge(ktc_axes *list)
{
    int axis = 0;
    while (axis + 1 < list->count) {
        ktc_axis *slow = &list->axes[axis];
        const ktc_axis *fast = &list->axes[axis + 1];
        if (stride_continues(slow->target_stride, fast->target_stride, fast->length) &&
            stride_continues(slow->source_stride, fast->source_stride, fast->length)) {
            slow->length *= fast->length;
            slow->target_stride = fast->target_stride;
            slow->source_stride = fast->source_stride;
            ktc_axes_remove(list, axis + 1);
        }
        else {
            axis++;
        }
    }
}
