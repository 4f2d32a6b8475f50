/* Streams: parts cover an array once, and every element lands where one obvious loop puts it. */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arrays/cast.h"
#include "check.h"
#include "stream/guard.h"
#include "stream/positional.h"
#include "stream/stream_box.h"
#include "stream/stream_values.h"

#define MOST_BYTES 200000

static int
count_step(void *context, ptrdiff_t bytes)
{
    *(ptrdiff_t *)context += bytes;
    return 0;
}

static int
stop_step(void *context, ptrdiff_t bytes)
{
    (void)context;
    (void)bytes;
    return -1;
}

/* A file without a name. */
static int
open_temporary(void)
{
    char path[] = "/tmp/ktc-test-XXXXXX";
    int descriptor = mkstemp(path);
    CHECK(descriptor >= 0 && unlink(path) == 0);
    return descriptor;
}

/* A half as a float32, by way of float64; the bits of a NaN, which that may change, are kept. */
static float
widen_slowly(const char *from, ktc_element_type type)
{
    uint16_t half;
    double wide;
    ktc_cast_losses losses;
    memcpy(&half, from, sizeof half);
    CHECK(ktc_cast_run(&half, type, &wide, KTC_FLOAT64, 1, KTC_PORTABLE, &losses) == KTC_OK);
    float single = (float)wide;
    if (isnan(wide)) {
        uint32_t shift = type == KTC_BFLOAT16 ? 16 : 13;
        uint32_t bits = (uint32_t)(half & 0x8000) << 16 | 0x7F800000 |
                        ((uint32_t)(half & 0x7FFF) << shift & 0x7FFFFF);
        memcpy(&single, &bits, sizeof single);
    }
    return single;
}

/* The slow twin: one element after the other, in C order. */
static ptrdiff_t
copy_slowly(const ktc_stream_source *source, char *to)
{
    ptrdiff_t index[4] = {0};
    ptrdiff_t done = 0;
    for (;;) {
        const char *from = source->memory;
        for (int axis = 0; axis < source->ndim; axis++) {
            from += index[axis] * source->strides[axis];
        }
        if (source->is_widened) {
            float single = widen_slowly(from, source->type);
            memcpy(to + done, &single, sizeof single);
            done += (ptrdiff_t)sizeof single;
        }
        else {
            memcpy(to + done, from, (size_t)source->item_size);
            done += source->item_size;
        }
        int axis = source->ndim - 1;
        while (axis >= 0 && ++index[axis] == source->shape[axis]) {
            index[axis--] = 0;
        }
        if (axis < 0) {
            return done;
        }
    }
}

/* A random array of up to four axes in random order, with gaps and backward axes: 1, or 0 when it
 * would be too large.
 */
static int
random_array(random_source *random, ptrdiff_t *shape, ptrdiff_t *strides, ktc_stream_source *source,
             ptrdiff_t *start)
{
    static const ptrdiff_t sizes[] = {1, 2, 4, 8, 3};
    int order[4] = {0, 1, 2, 3};
    source->ndim = (int)random_between(random, 0, 4);
    source->item_size = sizes[random_between(random, 0, 4)];
    source->shape = shape;
    source->strides = strides;
    ptrdiff_t step = source->item_size;
    *start = random_between(random, 0, 100);
    for (int axis = source->ndim - 1; axis > 0; axis--) {
        int other = (int)random_between(random, 0, axis);
        int moved = order[axis];
        order[axis] = order[other];
        order[other] = moved;
    }
    for (int place = 0; place < source->ndim; place++) {
        ptrdiff_t length = random_between(random, 1, 40);
        if (random_between(random, 0, 3) == 0) {
            step += random_between(random, 0, 6000);
        }
        int backwards = random_between(random, 0, 3) == 0;
        shape[order[place]] = length;
        strides[order[place]] = backwards ? -step : step;
        *start += backwards ? (length - 1) * step : 0;
        step *= length;
        if (step > MOST_BYTES / 2) {
            return 0;
        }
    }
    return 1;
}

static void
test_random_arrays_land_where_the_slow_twin_puts_them(random_source *random, long cases)
{
    char *memory = malloc(MOST_BYTES);
    char *expected = malloc(2 * MOST_BYTES);
    char *found = malloc(2 * MOST_BYTES);
    int source_file = open_temporary();
    int target_file = open_temporary();
    int error_number = 0;
    for (ptrdiff_t byte = 0; byte < MOST_BYTES; byte++) {
        memory[byte] = (char)random_bits(random);
    }
    CHECK(ktc_write_at(source_file, memory, MOST_BYTES, 0, &error_number) == KTC_OK);
    for (long number = 0; number < cases; number++) {
        ptrdiff_t shape[4];
        ptrdiff_t strides[4];
        ptrdiff_t start;
        ptrdiff_t told = 0;
        ktc_stream_source source = {.descriptor = -1};
        if (!random_array(random, shape, strides, &source, &start)) {
            continue;
        }
        source.memory = memory + start;
        if (source.item_size == 2 && random_between(random, 0, 1)) {
            source.is_widened = 1;
            source.type = random_between(random, 0, 1) ? KTC_FLOAT16 : KTC_BFLOAT16;
        }
        if (random_between(random, 0, 1)) {
            source.descriptor = source_file;
            source.position = start;
        }
        ptrdiff_t size =
            random_between(random, 1, 4) == 1 ? 3 << 20 : random_between(random, 128, 20000);
        ktc_stream stream = {.buffer = aligned_alloc(64, 3 << 20),
                             .size = size,
                             .set = (ktc_instruction_set)random_between(
                                 random, 0, (ptrdiff_t)ktc_instruction_set_best()),
                             .step = count_step,
                             .context = &told};
        ktc_stream_target target = {target_file, random_between(random, 0, 5000)};
        ptrdiff_t bytes = copy_slowly(&source, expected);
        CHECK(ktc_stream_write(&source, &target, &stream) == KTC_OK && told == bytes);
        CHECK(ktc_read_at(target_file, found, bytes, target.position, &error_number) == KTC_OK);
        CHECK(memcmp(expected, found, (size_t)bytes) == 0);
        CHECK(ktc_stream_compare(&source, &target, &stream) == KTC_OK);
        ptrdiff_t place = random_between(random, 0, bytes - 1);
        char flipped = (char)(found[place] ^ 1);
        CHECK(ktc_write_at(target_file, &flipped, 1, target.position + place, &error_number) ==
              KTC_OK);
        CHECK(ktc_stream_compare(&source, &target, &stream) == KTC_DIFFERENT);
        free(stream.buffer);
    }
    close(source_file);
    close(target_file);
    free(memory);
    free(expected);
    free(found);
}

/* Arrays on both sides of the size from which they are read straight from where they lie, in a
 * buffer that holds some parts of them only. */
static void
test_large_arrays_land_where_the_slow_twin_puts_them(random_source *random)
{
    static const ptrdiff_t shapes[][2] = {{512, 512},  {513, 1024}, {511, 512},  {300, 9000},
                                          {9000, 300}, {3, 700000}, {700000, 3}, {1500, 2900}};
    enum { MOST = 20 << 20, ROOM = 9 << 20 };
    char *memory = malloc(MOST);
    char *expected = malloc(2 * MOST);
    char *found = malloc(2 * MOST);
    int source_file = open_temporary();
    int target_file = open_temporary();
    int error_number = 0;
    for (ptrdiff_t byte = 0; byte < MOST; byte++) {
        memory[byte] = (char)random_bits(random);
    }
    CHECK(ktc_write_at(source_file, memory, MOST, 0, &error_number) == KTC_OK);
    for (size_t number = 0; number < 4 * sizeof shapes / sizeof shapes[0]; number++) {
        const ptrdiff_t *shape = shapes[number / 4];
        ptrdiff_t item_size = number % 4 < 2 ? 4 : 2;
        ptrdiff_t strides[] = {item_size, shape[0] * item_size};
        ptrdiff_t told = 0;
        ktc_stream_source source = {
            2, shape, strides, item_size, memory + 6, number % 2 ? source_file : -1, 6, 0, 0};
        source.is_widened = number % 4 == 3;
        source.type = KTC_BFLOAT16;
        ktc_stream stream = {.buffer = aligned_alloc(64, ROOM),
                             .size = ROOM,
                             .set = ktc_instruction_set_best(),
                             .step = count_step,
                             .context = &told};
        ktc_stream_target target = {target_file, 5};
        ptrdiff_t bytes = copy_slowly(&source, expected);
        CHECK(ktc_stream_write(&source, &target, &stream) == KTC_OK && told == bytes);
        CHECK(ktc_read_at(target_file, found, bytes, 5, &error_number) == KTC_OK);
        CHECK(memcmp(expected, found, (size_t)bytes) == 0);
        CHECK(ktc_stream_compare(&source, &target, &stream) == KTC_OK);
        free(stream.buffer);
    }
    close(source_file);
    close(target_file);
    free(memory);
    free(expected);
    free(found);
}

static void
test_boxes_fit_their_room_and_favor_long_runs_in_the_target(void)
{
    const ktc_axes matrix = {2, {{4096, 4, 16384}, {4096, 16384, 4}}};
    ktc_box box;
    ktc_runs runs;
    ktc_box_choose(&matrix, 4, 1 << 20, 256, &box);
    CHECK(box.length[0] * box.length[1] * 4 <= 1 << 20 && box.length[1] == 4096 &&
          box.length[0] == 64);
    ktc_box_find_runs(&matrix, 4, &box, &runs);
    CHECK(runs.run == 64 * 16384 && runs.count == 0);
    ktc_box_choose(&matrix, 4, 1 << 20, 4096, &box);
    CHECK(box.length[0] == 1024 && box.length[1] == 256);
    ktc_box_find_runs(&matrix, 4, &box, &runs);
    CHECK(runs.run == 1024 && runs.count == 1 && runs.axes[0] == 0);
    ktc_box_choose(&matrix, 4, 1, 4096, &box);
    CHECK(box.length[0] == 1 && box.length[1] == 1);
}

#define CUT_BYTES ((ptrdiff_t)6 << 20)

/* A file of CUT_BYTES, mapped, then cut to a half. */
static char *
cut_mapping(int file)
{
    CHECK(ftruncate(file, CUT_BYTES) == 0);
    void *mapped = mmap(NULL, CUT_BYTES, PROT_READ, MAP_SHARED, file, 0);
    CHECK(mapped != MAP_FAILED && ftruncate(file, CUT_BYTES / 2) == 0);
    return mapped;
}

static volatile sig_atomic_t signals_seen;

static void
see_signal(int number)
{
    (void)number;
    signals_seen++;
}

static void
touch(void *context)
{
    (void)*(volatile char *)context;
}

static void *
read_cut_mappings(void *context)
{
    const ptrdiff_t shape[] = {1024, CUT_BYTES / 4096};
    const ptrdiff_t strides[] = {4, 4096};
    int source_file = open_temporary();
    int target_file = open_temporary();
    char *mapped = cut_mapping(source_file);
    /* Room for one thread, and for two. */
    const ptrdiff_t sizes[] = {1 << 20, 9 << 20};
    char *buffer = aligned_alloc(64, 9 << 20);
    ptrdiff_t told = 0;
    (void)context;
    for (int round = 0; round < 50; round++) {
        ktc_stream stream = {.buffer = buffer,
                             .size = sizes[round % 2],
                             .set = ktc_instruction_set_best(),
                             .step = count_step,
                             .context = &told};
        ktc_stream_source source = {2, shape, strides, 4, mapped, -1, 0, 0, 0};
        ktc_stream_target target = {target_file, 0};
        CHECK(ktc_stream_write(&source, &target, &stream) == KTC_CUT_SHORT);
        CHECK(ktc_stream_compare(&source, &target, &stream) != KTC_OK);
        const ptrdiff_t line[] = {CUT_BYTES};
        const ptrdiff_t one[] = {1};
        ktc_stream_source straight = {1, line, one, 1, mapped, -1, 0, 0, 0};
        ktc_status status = ktc_stream_write(&straight, &target, &stream);
        CHECK(status == KTC_SYSTEM_ERROR || status == KTC_CUT_SHORT);
    }
    CHECK(munmap(mapped, CUT_BYTES) == 0);
    free(buffer);
    close(source_file);
    close(target_file);
    return NULL;
}

static void
test_a_cut_mapping_ends_the_reading_and_not_the_process(void)
{
    struct sigaction own = {.sa_handler = see_signal};
    struct sigaction before;
    struct sigaction after;
    pthread_t threads[4];
    CHECK(sigaction(SIGBUS, &own, &before) == 0);
    for (int number = 0; number < 4; number++) {
        CHECK(pthread_create(&threads[number], NULL, read_cut_mappings, NULL) == 0);
    }
    for (int number = 0; number < 4; number++) {
        CHECK(pthread_join(threads[number], NULL) == 0);
    }
    CHECK(signals_seen == 0);
    /* What is not our work goes to the handler that was there, which is put back in the end. */
    ktc_guard_open();
    CHECK(raise(SIGBUS) == 0 && signals_seen == 1);
    ktc_guard_close();
    CHECK(sigaction(SIGBUS, &before, &after) == 0 && after.sa_handler == see_signal);
    int file = open_temporary();
    char *mapped = cut_mapping(file);
    ktc_guard_open();
    CHECK(ktc_guard_run(touch, mapped) == KTC_OK);
    CHECK(ktc_guard_run(touch, mapped + CUT_BYTES - 1) == KTC_CUT_SHORT);
    ktc_guard_close();
    CHECK(munmap(mapped, CUT_BYTES) == 0);
    close(file);
}

static void
test_refusals_are_told(void)
{
    const ptrdiff_t shape[] = {10};
    const ptrdiff_t strides[] = {1};
    char memory[10] = "123456789";
    char buffer[1024];
    int file = open_temporary();
    ktc_stream stream = {.buffer = buffer, .size = sizeof buffer, .step = stop_step};
    ktc_stream_source source = {1, shape, strides, 1, memory, -1, 0, 0, 0};
    ktc_stream_target target = {file, 0};
    CHECK(ktc_stream_write(&source, &target, &stream) == KTC_STOPPED);
    ktc_stream_target nowhere = {-1, 0};
    CHECK(ktc_stream_write(&source, &nowhere, &stream) == KTC_SYSTEM_ERROR &&
          stream.error_number != 0);
    ktc_stream_source beyond = {1, shape, strides, 1, memory, file, 5, 0, 0};
    CHECK(ktc_stream_write(&beyond, &target, &stream) == KTC_CUT_SHORT);
    source.is_widened = 1;
    CHECK(ktc_stream_write(&source, &target, &stream) == KTC_BAD_TYPE);
    source.is_widened = 0;
    stream.size = 60;
    CHECK(ktc_stream_write(&source, &target, &stream) == KTC_NO_MEMORY);
    const ptrdiff_t negative[] = {-1};
    ktc_stream_source impossible = {1, negative, strides, 1, memory, -1, 0, 0, 0};
    CHECK(ktc_stream_write(&impossible, &target, &stream) == KTC_BAD_SHAPE);
    close(file);
}

int
main(int argc, char **argv)
{
    random_source random = random_from_arguments(argc, argv);
    test_random_arrays_land_where_the_slow_twin_puts_them(&random,
                                                          cases_from_arguments(argc, argv, 3000));
    test_large_arrays_land_where_the_slow_twin_puts_them(&random);
    test_a_cut_mapping_ends_the_reading_and_not_the_process();
    test_boxes_fit_their_room_and_favor_long_runs_in_the_target();
    test_refusals_are_told();
    return 0;
}
