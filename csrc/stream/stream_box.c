/* Owns the choice of boxes and the runs of bytes that they are made of; touches no file and no
 * element. */
#include "stream/stream_box.h"

/* A partial run is cut to a multiple of this many elements: the copy kernel's tiles are no wider.
 */
#define ELEMENTS_TOGETHER 32

static ptrdiff_t
absolute(ptrdiff_t number)
{
    return number < 0 ? -number : number;
}

/* The axes from the fastest in the source to the slowest. Insertion sort: a handful of axes. */
static void
order_by_source(const ktc_axes *axes, int *order)
{
    for (int axis = 0; axis < axes->count; axis++) {
        int place = axis;
        while (place > 0 && absolute(axes->axes[order[place - 1]].source_stride) >
                                absolute(axes->axes[axis].source_stride)) {
            order[place] = order[place - 1];
            place--;
        }
        order[place] = axis;
    }
}

/* The elements of a box that follow each other on one side, whose axes are in `order` from the
 * fastest on; *next is the first axis that the box does not take whole, -1 when there is none. */
static ptrdiff_t
run_length(const ktc_axes *axes, const ktc_box *box, const int *order, int *next)
{
    ptrdiff_t run = 1;
    *next = -1;
    for (int place = 0; place < axes->count; place++) {
        run *= box->length[order[place]];
        if (box->length[order[place]] < axes->axes[order[place]].length) {
            *next = order[place];
            break;
        }
    }
    return run;
}

static ptrdiff_t
smaller(ptrdiff_t first, ptrdiff_t second)
{
    return first < second ? first : second;
}

void
ktc_box_choose(const ktc_axes *axes, ptrdiff_t item_size, ptrdiff_t room, ptrdiff_t source_run,
               ktc_box *box)
{
    int by_source[KTC_MAX_NDIM];
    int by_target[KTC_MAX_NDIM];
    ptrdiff_t most = room / item_size;
    ptrdiff_t taken = 1;
    order_by_source(axes, by_source);
    for (int axis = 0; axis < axes->count; axis++) {
        by_target[axis] = axes->count - 1 - axis;
        box->start[axis] = 0;
        box->length[axis] = 1;
    }
    /* One length doubles at a time, as long as there is room. */
    for (;;) {
        int in_source;
        int in_target;
        (void)run_length(axes, box, by_target, &in_target);
        int is_long = run_length(axes, box, by_source, &in_source) >= source_run / item_size;
        int growing = in_source < 0 || (in_target >= 0 && is_long) ? in_target : in_source;
        if (growing < 0) {
            return;
        }
        ptrdiff_t length = box->length[growing];
        ptrdiff_t others = taken / length;
        ptrdiff_t longest = smaller(axes->axes[growing].length, most / others);
        if (longest <= length) {
            return;
        }
        ptrdiff_t longer = smaller(longest, 2 * length);
        if (longer > ELEMENTS_TOGETHER && longer < axes->axes[growing].length) {
            longer -= longer % ELEMENTS_TOGETHER;
        }
        if (longer <= length) {
            return;
        }
        box->length[growing] = longer;
        taken = others * longer;
    }
}

void
ktc_box_find_runs(const ktc_axes *axes, ptrdiff_t item_size, const ktc_box *box, ktc_runs *runs)
{
    int axis = axes->count - 1;
    runs->run = item_size;
    runs->count = 0;
    for (; axis >= 0 && axes->axes[axis].target_stride == runs->run; axis--) {
        runs->run *= box->length[axis];
    }
    for (int outer = 0; outer <= axis; outer++) {
        if (box->length[outer] > 1) {
            runs->axes[runs->count++] = outer;
        }
    }
}
