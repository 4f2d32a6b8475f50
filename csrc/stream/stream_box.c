/* Owns the choice of boxes and the runs of bytes that they are made of; touches no file and no
 * element. */
#include "stream/stream_box.h"

/* A gap up to this long between two runs is read along: a call to the system takes as long as
 * copying some kilobytes.
 */
#define GAP_READ_ALONG 4096

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
ktc_box_take_all(const ktc_axes *axes, ktc_box *box)
{
    for (int axis = 0; axis < axes->count; axis++) {
        box->start[axis] = 0;
        box->length[axis] = axes->axes[axis].length;
    }
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
ktc_box_find_writing(const ktc_axes *axes, ptrdiff_t item_size, const ktc_box *box, ktc_runs *runs)
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

/* The reading with gaps of up to `gap` bytes read along. */
static void
find_reading(const ktc_axes *axes, ptrdiff_t item_size, const ktc_box *box, ptrdiff_t gap,
             ktc_box_reading *reading)
{
    int order[KTC_MAX_NDIM];
    int place = 0;
    order_by_source(axes, order);
    reading->runs.run = item_size;
    reading->runs.count = 0;
    reading->first = 0;
    for (; place < axes->count; place++) {
        const ktc_axis *axis = &axes->axes[order[place]];
        ptrdiff_t length = box->length[order[place]];
        ptrdiff_t step = absolute(axis->source_stride);
        if (length > 1 && step > reading->runs.run && step - reading->runs.run > gap) {
            break;
        }
        ptrdiff_t reach = (length - 1) * step;
        reading->strides[order[place]] = axis->source_stride;
        reading->first += axis->source_stride < 0 ? reach : 0;
        reading->runs.run += reach;
    }
    reading->size = reading->runs.run;
    /* The rest are repetitions of the run, which stand side by side in the buffer. */
    for (; place < axes->count; place++) {
        ptrdiff_t length = box->length[order[place]];
        reading->strides[order[place]] = reading->size;
        reading->size *= length;
        if (length > 1) {
            for (int other = reading->runs.count++; other >= 0; other--) {
                reading->runs.axes[other] =
                    other > 0 ? reading->runs.axes[other - 1] : order[place];
            }
        }
    }
}

void
ktc_box_find_reading(const ktc_axes *axes, ptrdiff_t item_size, const ktc_box *box, ptrdiff_t room,
                     ktc_box_reading *reading)
{
    find_reading(axes, item_size, box, GAP_READ_ALONG, reading);
    if (reading->size > room) {
        find_reading(axes, item_size, box, 0, reading);
    }
}
