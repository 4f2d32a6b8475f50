/* Owns the walk over the boxes of one array, and what is done with each of them. */
#include "stream/stream_values.h"

#include <string.h>

#include "arrays/checked.h"
#include "arrays/permute_plan.h"
#include "arrays/permute_run.h"
#include "arrays/span.h"
#include "stream/positional.h"
#include "stream/stream_box.h"

/* What is permuted or moved at a time when the values are at hand: a second-level cache's worth. */
#define BYTES_AT_ONCE ((ptrdiff_t)1 << 20)

/* What is only moved is both read and written there. */
#define BYTES_MOVED_AT_ONCE (BYTES_AT_ONCE / 2)

/* Bytes of a run in the source that make a part worth taking: some cache lines in memory; in a file
 * a read call is worth that much copying. A write call is worth more, so what room there is goes to
 * the runs of the target. */
#define RUN_IN_MEMORY 256
#define RUN_IN_FILE 4096

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
    char *read_buffer;
    char *write_buffer;
    ptrdiff_t room; /* of either buffer */
} work;

/* Bytes of the target that are compared at a time. */
#define BYTES_COMPARED_AT_ONCE 65536

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
    char found[BYTES_COMPARED_AT_ONCE];
    while (length > 0) {
        ptrdiff_t count = length < BYTES_COMPARED_AT_ONCE ? length : BYTES_COMPARED_AT_ONCE;
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

/* 1 when all bytes from `low` to `high` of a file around `position` have places that fit. */
static int
positions_fit(int64_t position, ptrdiff_t low, ptrdiff_t high)
{
    return position >= 0 && position + low >= 0 && position <= INT64_MAX - high;
}

/* The axes of more than one entry, merged, with the strides of the target. */
static ktc_status
axes_make(const ktc_stream_source *source, const ktc_stream_target *target, ktc_axes *axes,
          ptrdiff_t *bytes)
{
    ktc_span span;
    ktc_status status;
    axes->count = 0;
    *bytes = source->item_size;
    if (source->ndim < 0 || source->ndim > KTC_MAX_NDIM) {
        return KTC_BAD_AXES;
    }
    status =
        ktc_span_measure(source->ndim, source->shape, source->strides, source->item_size, &span);
    if (status != KTC_OK) {
        return status;
    }
    if (span.low == span.high) {
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
    if (!positions_fit(target->position, 0, *bytes) ||
        (source->descriptor >= 0 && !positions_fit(source->position, span.low, span.high))) {
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

/* Steps `index` to the next repetition of the runs, the last axis fastest, and *offset by `strides`
 * with it: 1, or 0 after the last one. */
static int
runs_step(const work *current, const ktc_runs *runs, ptrdiff_t *index, const ptrdiff_t *strides,
          ptrdiff_t *offset)
{
    for (int place = runs->count - 1; place >= 0; place--) {
        int axis = runs->axes[place];
        *offset += strides[axis];
        if (++index[place] < current->box.length[axis]) {
            return 1;
        }
        *offset -= current->box.length[axis] * strides[axis];
        index[place] = 0;
    }
    return 0;
}

/* Reads the box into the buffer; `offset` is that of its first element from the array's. */
static ktc_status
box_read(const work *current, const ktc_box_reading *reading, ptrdiff_t offset)
{
    const ktc_stream_source *source = current->source;
    ptrdiff_t index[KTC_MAX_NDIM] = {0};
    ptrdiff_t strides[KTC_MAX_NDIM];
    ptrdiff_t step = 0;
    char *to = current->read_buffer;
    for (int axis = 0; axis < current->axes.count; axis++) {
        strides[axis] = current->axes.axes[axis].source_stride;
    }
    do {
        int64_t position = source->position + offset + step - reading->first;
        ktc_status status = ktc_read_at(source->descriptor, to, reading->runs.run, position,
                                        &current->stream->error_number);
        if (status != KTC_OK) {
            return status;
        }
        to += reading->runs.run;
    } while (runs_step(current, &reading->runs, index, strides, &step));
    return KTC_OK;
}

/* Puts the box, which lies in C order at `from`; `offset` is that of its first element in the
 * target. */
static ktc_status
box_put(const work *current, const char *from, ptrdiff_t offset)
{
    ktc_runs runs;
    ptrdiff_t index[KTC_MAX_NDIM] = {0};
    ptrdiff_t strides[KTC_MAX_NDIM];
    ptrdiff_t step = 0;
    ktc_box_find_writing(&current->axes, current->source->item_size, &current->box, &runs);
    for (int axis = 0; axis < current->axes.count; axis++) {
        strides[axis] = current->axes.axes[axis].target_stride;
    }
    do {
        int64_t position = current->target->position + offset + step;
        ktc_status status =
            current->put(from, runs.run, position, current->target, current->stream);
        if (status != KTC_OK) {
            return status;
        }
        from += runs.run;
    } while (runs_step(current, &runs, index, strides, &step));
    return KTC_OK;
}

/* The box in C order: in the write buffer, or where it lies when it is in that order already. */
static ktc_status
box_permute(const work *current, const char *from, const ptrdiff_t *source_strides,
            const char **permuted)
{
    ktc_permute_plan plan;
    ptrdiff_t target_strides[KTC_MAX_NDIM];
    ptrdiff_t step = current->source->item_size;
    for (int axis = current->axes.count - 1; axis >= 0; axis--) {
        target_strides[axis] = step;
        step *= current->box.length[axis];
    }
    ktc_status status =
        ktc_permute_plan_make(current->axes.count, current->box.length, source_strides,
                              target_strides, current->source->item_size, &plan);
    if (status != KTC_OK) {
        return status;
    }
    *permuted = from;
    if (plan.kind != KTC_PLAN_COPY) {
        ktc_permute_run(&plan, from, current->write_buffer, current->stream->set);
        *permuted = current->write_buffer;
    }
    return KTC_OK;
}

static ktc_status
box_move(const work *current, ptrdiff_t source_offset, ptrdiff_t target_offset)
{
    ktc_status status;
    ktc_box_reading reading;
    const char *from = current->source->memory + source_offset;
    const char *permuted;
    ptrdiff_t memory_strides[KTC_MAX_NDIM];
    const ptrdiff_t *strides = memory_strides;
    ptrdiff_t bytes = current->source->item_size;
    for (int axis = 0; axis < current->axes.count; axis++) {
        memory_strides[axis] = current->axes.axes[axis].source_stride;
        bytes *= current->box.length[axis];
    }
    if (current->source->descriptor >= 0) {
        ktc_box_find_reading(&current->axes, current->source->item_size, &current->box,
                             current->room, &reading);
        if (reading.size <= current->room) {
            status = box_read(current, &reading, source_offset);
            if (status != KTC_OK) {
                return status;
            }
            from = current->read_buffer + reading.first;
            strides = reading.strides;
        }
    }
    status = box_permute(current, from, strides, &permuted);
    if (status == KTC_OK) {
        status = box_put(current, permuted, target_offset);
    }
    if (status == KTC_OK && current->stream->step(current->stream->context, bytes) < 0) {
        return KTC_STOPPED;
    }
    return status;
}

/* Goes on to the next box, the last axis fastest; those at the end of an axis are shorter. 1, or 0
 * after the last one.
 */
static int
box_step(work *current, const ktc_box *whole)
{
    for (int axis = current->axes.count - 1; axis >= 0; axis--) {
        ptrdiff_t length = current->axes.axes[axis].length;
        ptrdiff_t start = current->box.start[axis] + whole->length[axis];
        int goes_on = start < length;
        current->box.start[axis] = goes_on ? start : 0;
        ptrdiff_t rest = length - current->box.start[axis];
        current->box.length[axis] = rest < whole->length[axis] ? rest : whole->length[axis];
        if (goes_on) {
            return 1;
        }
    }
    return 0;
}

/* 1 when the elements already lie in the order of the target, one after the other. */
static int
is_only_moved(const ktc_axes *axes, ptrdiff_t item_size)
{
    return axes->count == 0 || (axes->count == 1 && axes->axes[0].source_stride == item_size);
}

/* Puts all boxes of `current`, whose buffers and box are chosen. */
static ktc_status
boxes_move(work *current)
{
    const ktc_box whole = current->box;
    ktc_status status;
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

/* Values in memory, or in a file and only moved. */
static ktc_status
move_through_cache(work *current)
{
    ptrdiff_t item_size = current->source->item_size;
    ptrdiff_t most = is_only_moved(&current->axes, item_size) ? BYTES_MOVED_AT_ONCE : BYTES_AT_ONCE;
    ptrdiff_t room = current->room < most ? current->room : most;
    ktc_box_choose(&current->axes, item_size, room, RUN_IN_MEMORY, &current->box);
    return boxes_move(current);
}

/* The whole array fits into the buffer beside what is written at a time: it is read once, and
 * permuted from there. */
static ktc_status
move_through_buffer(work *current, const ktc_box_reading *reading)
{
    ktc_status status = box_read(current, reading, 0);
    if (status != KTC_OK) {
        return status;
    }
    ktc_stream_source in_buffer = *current->source;
    in_buffer.descriptor = -1;
    in_buffer.memory = current->read_buffer + reading->first;
    current->source = &in_buffer;
    for (int axis = 0; axis < current->axes.count; axis++) {
        current->axes.axes[axis].source_stride = reading->strides[axis];
    }
    current->write_buffer =
        current->stream->buffer + (current->stream->size - BYTES_AT_ONCE) / 64 * 64;
    current->room = BYTES_AT_ONCE;
    return move_through_cache(current);
}

static ktc_status
stream_run(const ktc_stream_source *source, const ktc_stream_target *target, ktc_stream *stream,
           put_function put)
{
    work current = {.put = put, .source = source, .target = target, .stream = stream};
    ktc_box_reading reading;
    ptrdiff_t bytes;
    ktc_status status = axes_make(source, target, &current.axes, &bytes);
    if (status != KTC_OK || bytes == 0) {
        return status;
    }
    current.room = stream->size / 2 / 64 * 64;
    current.read_buffer = stream->buffer;
    current.write_buffer = stream->buffer + current.room;
    if (current.room < source->item_size) {
        return KTC_NO_MEMORY;
    }
    if (source->descriptor < 0 || is_only_moved(&current.axes, source->item_size)) {
        return move_through_cache(&current);
    }
    ktc_box_take_all(&current.axes, &current.box);
    ptrdiff_t room = (stream->size - BYTES_AT_ONCE) / 64 * 64;
    ktc_box_find_reading(&current.axes, source->item_size, &current.box, room, &reading);
    if (reading.size <= room) {
        return move_through_buffer(&current, &reading);
    }
    ktc_box_choose(&current.axes, source->item_size, current.room, RUN_IN_FILE, &current.box);
    return boxes_move(&current);
}

ktc_status
ktc_stream_write(const ktc_stream_source *source, const ktc_stream_target *target,
                 ktc_stream *stream)
{
    return stream_run(source, target, stream, put_written);
}

ktc_status
ktc_stream_compare(const ktc_stream_source *source, const ktc_stream_target *target,
                   ktc_stream *stream)
{
    return stream_run(source, target, stream, put_compared);
}
