/* Owns the walk over the parts of one array, and what is done with each of them. */
#include "stream/stream_values.h"

#include <string.h>

#include "arrays/checked.h"
#include "arrays/permute_plan.h"
#include "arrays/permute_run.h"
#include "arrays/span.h"
#include "arrays/widen.h"
#include "stream/guard.h"
#include "stream/positional.h"
#include "stream/stream_box.h"

/* Arrays from this size on are permuted straight from where they lie, mapped or not: to read them
 * first took as long again. Below, a mapping loses: a page fault costs more than the copy of a
 * page.
 */
#define LARGE_BYTES ((ptrdiff_t)1 << 20)

/* What is permuted or moved at a time, and the most that one write takes: a part that stays in the
 * second-level cache from its first line to its write, beside the source that streams through. With
 * 1 MiB a part took a third longer, and with 8 MiB, streamed past the caches, half as long again.
 */
#define PART ((ptrdiff_t)1 << 19)

/* Where a part of that size would fall into short runs in the target, it is doubled until they have
 * this many bytes, or it this size: writes of 64 KiB run at .7 of those of 1 MiB, of 16 KiB at .5.
 */
#define WRITTEN_RUN ((ptrdiff_t)1 << 16)
#define LARGEST_PART ((ptrdiff_t)1 << 22)

/* Bytes of a run in the source that make a part worth taking: two cache lines, or twice as many
 * where parts of up to twice the size hold them. With more, the parts of a vocabulary of 50,000
 * words have runs in the target that are too short. */
#define SOURCE_RUN 128

/* Bytes of the target that are compared at a time. */
#define COMPARED_PART 65536

/* What is done with bytes that belong at a place of the target: written, or compared. */
typedef ktc_status (*put_function)(const char *bytes, ptrdiff_t length, int64_t position,
                                   const ktc_stream_target *target, ktc_stream *stream);

typedef struct {
    put_function put;
    const ktc_stream_source *source;
    const ktc_stream_target *target;
    ktc_stream *stream;
    ktc_axes axes;
    ktc_box box;
    const char *memory; /* the array's first element, where it is read now */
    int is_far;         /* not where it was read just before, so most likely outside the caches */
    char *part;         /* room for a part in the order of the target, or as it was read */
    ptrdiff_t room;
    char *wide; /* room for some of it in the wider type */
    ptrdiff_t wide_room;
} work;

static ptrdiff_t
smaller(ptrdiff_t first, ptrdiff_t second)
{
    return first < second ? first : second;
}

static ktc_status
put_written(const char *bytes, ptrdiff_t length, int64_t position, const ktc_stream_target *target,
            ktc_stream *stream)
{
    return ktc_write_at(target->descriptor, bytes, length, position, &stream->error_number);
}

static ktc_status
put_compared(const char *bytes, ptrdiff_t length, int64_t position, const ktc_stream_target *target,
             ktc_stream *stream)
{
    char found[COMPARED_PART];
    while (length > 0) {
        ptrdiff_t count = smaller(length, COMPARED_PART);
        ktc_status status =
            ktc_read_at(target->descriptor, found, count, position, &stream->error_number);
        if (status != KTC_OK) {
            return status;
        }
        if (memcmp(bytes, found, (size_t)count) != 0) {
            return KTC_DIFFERENT;
        }
        bytes += count;
        length -= count;
        position += count;
    }
    return KTC_OK;
}

/* Bytes of the target for each byte of the source. */
static ptrdiff_t
growth_of(const ktc_stream_source *source)
{
    return source->is_widened ? 2 : 1;
}

/* 1 when all bytes from `low` to `high` of a file around `position` have places that fit. */
static int
positions_fit(int64_t position, ptrdiff_t low, ptrdiff_t high)
{
    return position >= 0 && position + low >= 0 && position <= INT64_MAX - high;
}

/* The axes of more than one entry, merged, with the strides of the target as if it had elements of
 * the same size; the bytes of all elements, and where these lie. */
static ktc_status
axes_make(const ktc_stream_source *source, const ktc_stream_target *target, ktc_axes *axes,
          ptrdiff_t *bytes, ktc_span *span)
{
    axes->count = 0;
    *bytes = source->item_size;
    if (source->ndim < 0 || source->ndim > KTC_MAX_NDIM) {
        return KTC_BAD_AXES;
    }
    if (source->is_widened &&
        (source->item_size != 2 || (source->type != KTC_FLOAT16 && source->type != KTC_BFLOAT16))) {
        return KTC_BAD_TYPE;
    }
    ktc_status status =
        ktc_span_measure(source->ndim, source->shape, source->strides, source->item_size, span);
    if (status != KTC_OK) {
        return status;
    }
    if (span->low == span->high) {
        *bytes = 0;
        return KTC_OK;
    }
    for (int axis = source->ndim - 1; axis >= 0; axis--) {
        ptrdiff_t target_stride = *bytes;
        if (!ktc_checked_multiply(source->shape[axis], *bytes, bytes)) {
            return KTC_OVERFLOW;
        }
        if (source->shape[axis] != 1) {
            axes->axes[axes->count++] =
                (ktc_axis){source->shape[axis], source->strides[axis], target_stride};
        }
    }
    ptrdiff_t written;
    if (!ktc_checked_multiply(*bytes, growth_of(source), &written) ||
        !positions_fit(target->position, 0, written) ||
        (source->descriptor >= 0 && !positions_fit(source->position, span->low, span->high))) {
        return KTC_OVERFLOW;
    }
    for (int low = 0, high = axes->count - 1; low < high; low++, high--) {
        ktc_axis moved = axes->axes[low];
        axes->axes[low] = axes->axes[high];
        axes->axes[high] = moved;
    }
    ktc_axes_merge(axes);
    return KTC_OK;
}

/* Puts `length` bytes of elements that belong `offset` bytes from the target's first one on. */
static ktc_status
put_run(const work *current, const char *from, ptrdiff_t length, ptrdiff_t offset)
{
    ptrdiff_t growth = growth_of(current->source);
    int64_t position = current->target->position + offset * growth;
    ptrdiff_t most = current->source->is_widened ? current->wide_room / growth : PART;
    ktc_status status = KTC_OK;
    while (status == KTC_OK && length > 0) {
        ptrdiff_t count = smaller(length, most);
        const char *bytes = from;
        if (current->source->is_widened) {
            ktc_widen(from, current->source->type, current->wide, count / 2, current->stream->set);
            bytes = current->wide;
        }
        status = current->put(bytes, count * growth, position, current->target, current->stream);
        from += count;
        length -= count;
        position += count * growth;
    }
    return status;
}

/* Tells of some bytes of the source that are done. */
static ktc_status
step(const work *current, ptrdiff_t bytes)
{
    ktc_stream *stream = current->stream;
    return stream->step(stream->context, bytes * growth_of(current->source)) < 0 ? KTC_STOPPED
                                                                                 : KTC_OK;
}

/* Steps `index` to the next repetition of the runs, the last axis fastest, and *offset with it: 1,
 * or 0 after the last one. */
static int
runs_step(const work *current, const ktc_runs *runs, ptrdiff_t *index, ptrdiff_t *offset)
{
    for (int place = runs->count - 1; place >= 0; place--) {
        int axis = runs->axes[place];
        ptrdiff_t stride = current->axes.axes[axis].target_stride;
        *offset += stride;
        if (++index[place] < current->box.length[axis]) {
            return 1;
        }
        *offset -= current->box.length[axis] * stride;
        index[place] = 0;
    }
    return 0;
}

/* Puts the box, which lies in C order in the part's room; `offset` is that of its first element in
 * the target. */
static ktc_status
box_put(const work *current, ptrdiff_t offset)
{
    ktc_runs runs;
    ktc_status status;
    ptrdiff_t index[KTC_MAX_NDIM] = {0};
    const char *from = current->part;
    ktc_box_find_runs(&current->axes, current->source->item_size, &current->box, &runs);
    do {
        status = put_run(current, from, runs.run, offset);
        from += runs.run;
    } while (status == KTC_OK && runs_step(current, &runs, index, &offset));
    return status;
}

/* Moves one box: `source_offset` and `target_offset` are those of its first element. */
static ktc_status
box_move(const work *current, ptrdiff_t source_offset, ptrdiff_t target_offset)
{
    ktc_permutation one = {.source = current->memory + source_offset,
                           .target = current->part,
                           .set = current->stream->set};
    ptrdiff_t source_strides[KTC_MAX_NDIM];
    ptrdiff_t target_strides[KTC_MAX_NDIM];
    ptrdiff_t bytes = current->source->item_size;
    for (int axis = current->axes.count - 1; axis >= 0; axis--) {
        source_strides[axis] = current->axes.axes[axis].source_stride;
        target_strides[axis] = bytes;
        bytes *= current->box.length[axis];
    }
    ktc_status status =
        ktc_permute_plan_make(current->axes.count, current->box.length, source_strides,
                              target_strides, current->source->item_size, &one.plan);
    if (status == KTC_OK) {
        one.plan.source_is_far = current->is_far;
        status = ktc_guard_run(ktc_permutation_run, &one);
    }
    if (status == KTC_OK) {
        status = box_put(current, target_offset);
    }
    return status == KTC_OK ? step(current, bytes) : status;
}

/* Goes on to the next box, the last axis fastest; those at the end of an axis are shorter. 1, or 0
 * after the last one. */
static int
box_step(work *current, const ktc_box *whole)
{
    for (int axis = current->axes.count - 1; axis >= 0; axis--) {
        ptrdiff_t length = current->axes.axes[axis].length;
        ptrdiff_t start = current->box.start[axis] + whole->length[axis];
        int goes_on = start < length;
        current->box.start[axis] = goes_on ? start : 0;
        current->box.length[axis] = smaller(length - current->box.start[axis], whole->length[axis]);
        if (goes_on) {
            return 1;
        }
    }
    return 0;
}

/* Chooses boxes of no more than `room` bytes: the bytes of their runs in the target, or PTRDIFF_MAX
 * when each box is one run. */
static ptrdiff_t
box_choose_within(work *current, ptrdiff_t room, ptrdiff_t source_run)
{
    ptrdiff_t item_size = current->source->item_size;
    ktc_runs runs;
    ktc_box_choose(&current->axes, item_size, smaller(current->room, room), source_run,
                   &current->box);
    ktc_box_find_runs(&current->axes, item_size, &current->box, &runs);
    return runs.count == 0 ? PTRDIFF_MAX : runs.run * growth_of(current->source);
}

/* Chooses the boxes in which all is moved. */
static void
box_choose(work *current)
{
    for (ptrdiff_t room = PART; room <= 2 * PART; room *= 2) {
        if (box_choose_within(current, room, 2 * SOURCE_RUN) == PTRDIFF_MAX) {
            return;
        }
    }
    ptrdiff_t room = PART;
    while (box_choose_within(current, room, SOURCE_RUN) < WRITTEN_RUN && room < LARGEST_PART) {
        room *= 2;
    }
}

/* Moves all, box by box. */
static ktc_status
move_boxes(work *current)
{
    ktc_status status;
    box_choose(current);
    const ktc_box whole = current->box;
    do {
        ptrdiff_t source_offset = 0;
        ptrdiff_t target_offset = 0;
        for (int axis = 0; axis < current->axes.count; axis++) {
            source_offset += current->box.start[axis] * current->axes.axes[axis].source_stride;
            target_offset += current->box.start[axis] * current->axes.axes[axis].target_stride;
        }
        status = box_move(current, source_offset, target_offset);
    } while (status == KTC_OK && box_step(current, &whole));
    return status;
}

/* The elements already lie in the order of the target, one after the other. */
static ktc_status
move_straight(const work *current, ptrdiff_t bytes)
{
    const ktc_stream_source *source = current->source;
    ptrdiff_t most = smaller(current->room, PART);
    /* What the system reads raises no signal. */
    int is_direct = current->put == put_written && !source->is_widened;
    ktc_status status = KTC_OK;
    for (ptrdiff_t done = 0; status == KTC_OK && done < bytes; done += most) {
        ptrdiff_t count = smaller(bytes - done, most);
        const char *from = current->part;
        if (source->descriptor >= 0) {
            status = ktc_read_at(source->descriptor, current->part, count, source->position + done,
                                 &current->stream->error_number);
        }
        else if (is_direct) {
            from = current->memory + done;
        }
        else {
            ktc_permutation one = {.plan = {.kind = KTC_PLAN_COPY, .bytes = count},
                                   .source = current->memory + done,
                                   .target = current->part};
            status = ktc_guard_run(ktc_permutation_run, &one);
        }
        if (status == KTC_OK) {
            status = put_run(current, from, count, done);
        }
        if (status == KTC_OK) {
            status = step(current, count);
        }
    }
    return status;
}

/* The whole array fits into the buffer beside a part of it: it is read once, and permuted from
 * there.
 */
static ktc_status
move_through_buffer(work *current, ktc_span span)
{
    ptrdiff_t size = span.high - span.low;
    char *whole = current->part;
    ktc_status status =
        ktc_read_at(current->source->descriptor, whole, size, current->source->position + span.low,
                    &current->stream->error_number);
    current->memory = whole - span.low;
    current->part += (size + 63) / 64 * 64;
    current->room -= (size + 63) / 64 * 64;
    return status == KTC_OK ? move_boxes(current) : status;
}

static ktc_status
stream_run(const ktc_stream_source *source, const ktc_stream_target *target, ktc_stream *stream,
           put_function put)
{
    work current = {.put = put,
                    .source = source,
                    .target = target,
                    .stream = stream,
                    .memory = source->memory,
                    .part = stream->buffer,
                    .room = stream->size / 64 * 64};
    ktc_span span;
    ptrdiff_t bytes;
    ktc_status status = axes_make(source, target, &current.axes, &bytes, &span);
    if (status != KTC_OK || bytes == 0) {
        return status;
    }
    if (source->is_widened) {
        current.wide_room = smaller(current.room / 2, PART) / 64 * 64;
        current.room -= current.wide_room;
        current.wide = current.part + current.room;
    }
    if (current.room < source->item_size || (source->is_widened && current.wide_room == 0)) {
        return KTC_NO_MEMORY;
    }
    const ktc_axis *only = &current.axes.axes[0];
    if (current.axes.count == 0 ||
        (current.axes.count == 1 && only->source_stride == source->item_size)) {
        return move_straight(&current, bytes);
    }
    ptrdiff_t room_for_all = current.room - smaller(PART, bytes) - 64;
    if (source->descriptor >= 0 && bytes < LARGE_BYTES && span.high - span.low <= room_for_all) {
        return move_through_buffer(&current, span);
    }
    current.is_far = 1;
    return move_boxes(&current);
}

ktc_status
ktc_stream_write(const ktc_stream_source *source, const ktc_stream_target *target,
                 ktc_stream *stream)
{
    ktc_guard_open();
    ktc_status status = stream_run(source, target, stream, put_written);
    ktc_guard_close();
    return status;
}

ktc_status
ktc_stream_compare(const ktc_stream_source *source, const ktc_stream_target *target,
                   ktc_stream *stream)
{
    ktc_guard_open();
    ktc_status status = stream_run(source, target, stream, put_compared);
    ktc_guard_close();
    return status;
}
