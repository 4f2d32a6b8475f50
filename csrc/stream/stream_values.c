/* Owns the walk over the parts of one array, and what is done with each of them. */
#include "stream/stream_values.h"

#include <string.h>

#include "arrays/checked.h"
#include "arrays/permute_plan.h"
#include "arrays/permute_run.h"
#include "arrays/span.h"
#include "arrays/widen.h"
#include "stream/checksum.h"
#include "stream/guard.h"
#include "stream/pair.h"
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

/* With this many bytes of the target two threads share the work: one permutes while the other
 * writes, each what lies in the cache of its own processor. They take a third to half less time
 * than one alone, a thread's start some 50 us. One that wrote what the other had permuted gained a
 * sixth. */
#define PAIR_BYTES ((ptrdiff_t)2 << 20)

/* So much they do before the second one ends and the caller is told: `step` may do what it likes,
 * also with the memory at which they work. */
#define ROUND_BYTES ((ptrdiff_t)32 << 20)

/* What the threads share: `lock` is of all that follows it. */
typedef struct {
    ktc_lock writing; /* the system lets one thread at a time write into a file; to wait for that
                         inside costs more */
    ktc_lock lock;
    ktc_box whole; /* the lengths of all boxes but those at the ends of an axis */
    ktc_box next;
    int is_over;       /* there is no next one */
    ktc_status status; /* of the first thing that went wrong */
    int error_number;
    ptrdiff_t left; /* bytes of the source that this round may still take on */
    ptrdiff_t done; /* that it has done */
    uint64_t checksum;
} walk;

/* What one thread works with. */
typedef struct work work;

/* What is done with bytes that belong at a place of the target: written, or compared. */
typedef ktc_status (*put_function)(work *current, const char *bytes, ptrdiff_t length,
                                   int64_t position);

struct work {
    put_function put;
    const ktc_stream_source *source;
    const ktc_stream_target *target;
    const ktc_stream *stream;
    walk *walk;
    int error_number;
    uint64_t checksum; /* of what this thread has written since it last said so */
    ktc_axes axes;
    ktc_box box;
    ptrdiff_t bytes;    /* of the box */
    const char *memory; /* the array's first element, where it is read now */
    int is_far;         /* not where it was read just before, so most likely outside the caches */
    int is_straight;    /* the elements already lie in the order of the target */
    char *part;         /* room for a part in the order of the target, or as it was read */
    ptrdiff_t room;
    char *wide; /* room for some of it in the wider type */
    ptrdiff_t wide_room;
};

static ptrdiff_t
smaller(ptrdiff_t first, ptrdiff_t second)
{
    return first < second ? first : second;
}

typedef struct {
    const char *bytes;
    ptrdiff_t length;
    int64_t position;
    uint64_t checksum;
} summing;

static void
summing_run(void *context)
{
    summing *one = context;
    one->checksum = ktc_checksum(one->bytes, one->length, (uint64_t)one->position);
}

static ktc_status
put_written(work *current, const char *bytes, ptrdiff_t length, int64_t position)
{
    ktc_lock_take(&current->walk->writing);
    ktc_status status =
        ktc_write_at(current->target->descriptor, bytes, length, position, &current->error_number);
    ktc_lock_give(&current->walk->writing);
    if (status == KTC_OK && current->stream->is_summed) {
        /* Guarded: they may lie in the mapping still. */
        summing one = {bytes, length, position, 0};
        status = ktc_guard_run(summing_run, &one);
        current->checksum += one.checksum;
    }
    return status;
}

static ktc_status
put_compared(work *current, const char *bytes, ptrdiff_t length, int64_t position)
{
    char found[COMPARED_PART];
    while (length > 0) {
        ptrdiff_t count = smaller(length, COMPARED_PART);
        ktc_status status = ktc_read_at(current->target->descriptor, found, count, position,
                                        &current->error_number);
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

/* 1 when nothing is to be done but to write: what the system reads raises no signal. */
static int
is_direct(const work *current)
{
    return current->is_straight && current->source->descriptor < 0 && current->put == put_written &&
           !current->source->is_widened;
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
put_run(work *current, const char *from, ptrdiff_t length, ptrdiff_t offset)
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
        status = current->put(current, bytes, count * growth, position);
        from += count;
        length -= count;
        position += count * growth;
    }
    return status;
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

/* Puts the box, which lies in C order at `from`; `offset` is that of its first element in the
 * target. */
static ktc_status
box_put(work *current, const char *from, ptrdiff_t offset)
{
    ktc_runs runs;
    ktc_status status;
    ptrdiff_t index[KTC_MAX_NDIM] = {0};
    ktc_box_find_runs(&current->axes, current->source->item_size, &current->box, &runs);
    do {
        status = put_run(current, from, runs.run, offset);
        from += runs.run;
    } while (status == KTC_OK && runs_step(current, &runs, index, &offset));
    return status;
}

/* Moves the box from `offset` bytes behind the array's first element into the part's room. */
static ktc_status
box_permute(const work *current, ptrdiff_t offset)
{
    ktc_permutation one = {
        .source = current->memory + offset, .target = current->part, .set = current->stream->set};
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
    return status;
}

static ktc_status
box_move(work *current)
{
    const ktc_stream_source *source = current->source;
    const char *from = current->part;
    ptrdiff_t source_offset = 0;
    ptrdiff_t target_offset = 0;
    ktc_status status = KTC_OK;
    for (int axis = 0; axis < current->axes.count; axis++) {
        source_offset += current->box.start[axis] * current->axes.axes[axis].source_stride;
        target_offset += current->box.start[axis] * current->axes.axes[axis].target_stride;
    }
    if (current->is_straight && source->descriptor >= 0) {
        status = ktc_read_at(source->descriptor, current->part, current->bytes,
                             source->position + source_offset, &current->error_number);
    }
    else if (is_direct(current)) {
        from = current->memory + source_offset;
    }
    else {
        status = box_permute(current, source_offset);
    }
    return status == KTC_OK ? box_put(current, from, target_offset) : status;
}

/* Steps to the next box, the last axis fastest; those at the end of an axis are shorter. 1, or 0
 * after the last one. */
static int
box_step(const ktc_axes *axes, const ktc_box *whole, ktc_box *box)
{
    for (int axis = axes->count - 1; axis >= 0; axis--) {
        ptrdiff_t length = axes->axes[axis].length;
        ptrdiff_t start = box->start[axis] + whole->length[axis];
        int goes_on = start < length;
        box->start[axis] = goes_on ? start : 0;
        box->length[axis] = smaller(length - box->start[axis], whole->length[axis]);
        if (goes_on) {
            return 1;
        }
    }
    return 0;
}

/* Takes the next box of this round: 1, or 0 when there is none, or something went wrong. */
static int
box_take(work *current)
{
    walk *shared = current->walk;
    ktc_lock_take(&shared->lock);
    int is_there = !shared->is_over && shared->left > 0 && shared->status == KTC_OK;
    if (is_there) {
        current->box = shared->next;
        current->bytes = current->source->item_size;
        for (int axis = 0; axis < current->axes.count; axis++) {
            current->bytes *= current->box.length[axis];
        }
        shared->left -= current->bytes;
        shared->is_over = !box_step(&current->axes, &shared->whole, &shared->next);
    }
    ktc_lock_give(&shared->lock);
    return is_there;
}

/* One thread's work: boxes, as long as the round has any. */
static void
boxes_move(void *context)
{
    work *current = context;
    walk *shared = current->walk;
    while (box_take(current)) {
        ktc_status status = box_move(current);
        ktc_lock_take(&shared->lock);
        shared->done += current->bytes;
        shared->checksum += current->checksum;
        current->checksum = 0;
        if (status != KTC_OK && shared->status == KTC_OK) {
            shared->status = status;
            shared->error_number = current->error_number;
        }
        ktc_lock_give(&shared->lock);
    }
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

/* Gives a thread its room for parts. 1, or 0 when that is too small for an element. */
static int
room_take(work *current, char *buffer, ptrdiff_t size)
{
    current->part = buffer;
    current->room = size / 64 * 64;
    if (current->source->is_widened) {
        current->wide_room = smaller(current->room / 2, PART) / 64 * 64;
        current->room -= current->wide_room;
        current->wide = current->part + current->room;
    }
    return current->room >= current->source->item_size &&
           (!current->source->is_widened || current->wide_room > 0);
}

/* Moves all, box by box. */
static ktc_status
move_boxes(work *current, ptrdiff_t bytes)
{
    const ktc_stream *stream = current->stream;
    walk *shared = current->walk;
    work other = *current;
    ptrdiff_t half = stream->size / 128 * 64;
    int is_shared = current->is_far && !is_direct(current) && half >= 2 * PART &&
                    bytes * growth_of(current->source) >= PAIR_BYTES && ktc_pair_is_worthwhile();
    if (is_shared) {
        (void)room_take(current, stream->buffer, half);
        (void)room_take(&other, stream->buffer + half, half);
    }
    box_choose(current);
    shared->whole = current->box;
    shared->next = current->box;
    while (!shared->is_over && shared->status == KTC_OK) {
        shared->left = is_shared ? ROUND_BYTES : 1;
        shared->done = 0;
        if (is_shared) {
            ktc_pair_run(boxes_move, current, &other);
        }
        else {
            boxes_move(current);
        }
        if (shared->status == KTC_OK &&
            stream->step(stream->context, shared->done * growth_of(current->source)) < 0) {
            shared->status = KTC_STOPPED;
        }
    }
    current->error_number = shared->error_number;
    return shared->status;
}

/* The whole array fits into the buffer beside a part of it: it is read once, and permuted from
 * there.
 */
static ktc_status
move_through_buffer(work *current, ktc_span span, ptrdiff_t bytes)
{
    ptrdiff_t size = span.high - span.low;
    char *whole = current->part;
    ktc_status status = ktc_read_at(current->source->descriptor, whole, size,
                                    current->source->position + span.low, &current->error_number);
    current->memory = whole - span.low;
    current->part += (size + 63) / 64 * 64;
    current->room -= (size + 63) / 64 * 64;
    return status == KTC_OK ? move_boxes(current, bytes) : status;
}

static ktc_status
move(work *current)
{
    const ktc_stream_source *source = current->source;
    ktc_span span;
    ptrdiff_t bytes;
    ktc_status status = axes_make(source, current->target, &current->axes, &bytes, &span);
    if (status != KTC_OK || bytes == 0) {
        return status;
    }
    if (!room_take(current, current->stream->buffer, current->stream->size)) {
        return KTC_NO_MEMORY;
    }
    const ktc_axis *only = &current->axes.axes[0];
    current->is_straight = current->axes.count == 0 ||
                           (current->axes.count == 1 && only->source_stride == source->item_size);
    ptrdiff_t room_for_all = current->room - smaller(PART, bytes) - 64;
    if (!current->is_straight && source->descriptor >= 0 && bytes < LARGE_BYTES &&
        span.high - span.low <= room_for_all) {
        return move_through_buffer(current, span, bytes);
    }
    current->is_far = 1;
    return move_boxes(current, bytes);
}

static ktc_status
stream_run(const ktc_stream_source *source, const ktc_stream_target *target, ktc_stream *stream,
           put_function put)
{
    walk shared = {.writing = KTC_LOCK_FREE, .lock = KTC_LOCK_FREE};
    work current = {.put = put,
                    .source = source,
                    .target = target,
                    .stream = stream,
                    .walk = &shared,
                    .memory = source->memory};
    ktc_guard_open();
    ktc_status status = move(&current);
    ktc_guard_close();
    stream->error_number = current.error_number;
    stream->checksum = shared.checksum;
    return status;
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
