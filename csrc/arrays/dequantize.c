/* Owns the walk over rows and tiles, and which factors belong to them; a row is decoded by
 * dequantize_row. What is not stored row after row goes through a tile that stays in the
 * second-level cache: of codes where columns are contiguous, of numbers otherwise. */
#include "arrays/dequantize.h"

#include "arrays/dequantize_row.h"
#include "arrays/permute_run.h"
#include "arrays/permute_tiles.h"

/* Columns at a time, a multiple of those of a word: their factors stay in the first-level cache. */
#define CHUNK 1024
#define TILE_COLUMNS KTC_DECODED_LINES

/* See ktc_row: so many columns may have one factor without its being written out. */
#define SHARED_COLUMNS 16

/* Bytes of a column in a tile: several cache lines of the target. */
#define TILE_COLUMN_BYTES 512

/* Rows and bytes of each of the codes that are transposed at a time, in the second-level cache.
 * Long runs of the target: 256 rows cost a third more. The bytes are at most KTC_DECODED_LINES
 * columns.
 */
#define TURNED_ROWS 1024
#define TURNED_BYTES 128

/* From this size on, numbers go past the caches, as permute_transpose says; what is smaller may be
 * a part that is written to a file next. */
#define STREAM_FROM_BYTES (8 << 20)

/* One of two kinds of codes, with the factors of the numbers that are being decoded. */
typedef struct {
    const ktc_float_codes *floats;
    const ktc_whole_codes *whole;
    const ktc_decoded *target;
    ptrdiff_t item_size;
    ptrdiff_t end; /* of the target's lines */
    ktc_instruction_set set;
    ktc_stream_copy stream; /* NULL where numbers stay in the caches */
    ktc_row row;
    float scales[CHUNK];
} decoder;

static ptrdiff_t
smaller(ptrdiff_t first, ptrdiff_t second)
{
    return first < second ? first : second;
}

/* The factor of each of `count` numbers from `left` on; those of their blocks are `step` apart. */
static void
spread_scales(const float *of_blocks, ptrdiff_t step, ptrdiff_t block_length, ptrdiff_t left,
              ptrdiff_t count, float *scales)
{
    ptrdiff_t block = left / block_length;
    ptrdiff_t end = smaller(block_length - left % block_length, count);
    for (ptrdiff_t at = 0; at < count; block++) {
        float scale = of_blocks[block * step];
        for (; at < end; at++) {
            scales[at] = scale;
        }
        end += smaller(block_length, count - end);
    }
}

/* Blocks side by side. */
static ptrdiff_t
blocks_across(const decoder *one)
{
    ptrdiff_t columns = one->target->columns;
    ptrdiff_t block = one->floats->block_columns;
    return columns / block + (columns % block != 0);
}

/* Finds the codes and factors of a part of a row. `is_first`: the row before had other columns. */
static void
find_floats(decoder *one, ptrdiff_t row, ptrdiff_t left, int is_first)
{
    const ktc_float_codes *codes = one->floats;
    ptrdiff_t block = codes->block_columns;
    const float *of_blocks = codes->scales + row / codes->block_rows * blocks_across(one);
    int is_one_block = one->row.count <= block - left % block;
    one->row.codes =
        codes->codes + row * codes->pitch + (one->row.kind == E2M1FN ? left / 2 : left);
    if (is_one_block || (block % SHARED_COLUMNS == 0 && left % block == 0)) {
        one->row.scales = of_blocks + left / block;
        one->row.scale_columns = is_one_block ? one->row.count : block;
        return;
    }
    if (is_first || row % codes->block_rows == 0) {
        spread_scales(of_blocks, 1, block, left, one->row.count, one->scales);
    }
    one->row.scales = one->scales;
    one->row.scale_columns = 1;
}

/* The same for whole numbers: 0 where the row's group does not exist. */
static int
find_whole(decoder *one, ptrdiff_t row, ptrdiff_t left)
{
    const ktc_whole_codes *codes = one->whole;
    ptrdiff_t columns = one->target->columns;
    ptrdiff_t in_word = 32 / codes->bits;
    ptrdiff_t group = codes->group_of_row[row];
    if (group < 0 || group >= codes->groups) {
        return 0;
    }
    ptrdiff_t first = group * columns + left;
    one->row.scales = codes->scales + first;
    one->row.zeros = codes->zeros + first;
    one->row.scale_columns = 1;
    one->row.shift = codes->bits * (int)(row % in_word);
    one->row.codes = codes->words + (codes->packs_rows ? row / in_word * codes->pitch + left
                                                       : row * codes->pitch + left / in_word);
    return 1;
}

/* Decodes what was found into memory that is contiguous, straight or past the caches. */
static void
decode_run(decoder *one, char *numbers)
{
    float run[CHUNK];
    one->row.numbers = one->stream == NULL ? (void *)numbers : run;
    ktc_row_decode(&one->row, one->set);
    if (one->stream != NULL) {
        one->stream((const char *)run, numbers, one->row.count * one->item_size);
    }
}

/* Decodes a part of each row from `top` to `bottom`, `pitch` bytes apart. */
static ktc_status
decode_rows(decoder *one, ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t left, char *numbers,
            ptrdiff_t pitch)
{
    for (ptrdiff_t row = top; row < bottom; row++) {
        if (one->floats != NULL) {
            find_floats(one, row, left, row == top);
        }
        else if (!find_whole(one, row, left)) {
            return KTC_BAD_INDEX;
        }
        decode_run(one, numbers + (row - top) * pitch);
    }
    return KTC_OK;
}

static ktc_row_numbers
wanted_of(const ktc_decoded *target)
{
    if (target->type == KTC_FLOAT32) {
        return TO_FLOAT32;
    }
    if (target->is_widened) {
        return target->type == KTC_BFLOAT16 ? BY_BFLOAT16 : BY_FLOAT16;
    }
    return target->type == KTC_BFLOAT16 ? TO_BFLOAT16 : TO_FLOAT16;
}

static ptrdiff_t
item_size_of(const ktc_decoded *target)
{
    return target->is_widened || target->type == KTC_FLOAT32 ? 4 : 2;
}

ptrdiff_t
ktc_decoded_lines(const ktc_decoded *target)
{
    return target->column_stride == item_size_of(target) ? target->rows : target->columns;
}

/* Straight into rows of the target, each from end to end, as memory gives codes fastest. */
static ktc_status
decode_in_place(decoder *one)
{
    const ktc_decoded *target = one->target;
    ktc_status status = KTC_OK;
    for (ptrdiff_t row = target->first; row < one->end; row++) {
        char *numbers = (char *)target->elements + row * target->row_stride;
        for (ptrdiff_t left = 0; left < target->columns && status == KTC_OK; left += CHUNK) {
            one->row.count = smaller(CHUNK, target->columns - left);
            status = decode_rows(one, row, row + 1, left, numbers + left * one->item_size, 0);
        }
    }
    return status;
}

/* One byte of each of `one->row.count` rows from `top` on, which lie one behind the other, into one
 * or two columns of the target. */
static void
decode_turned_byte(decoder *one, ptrdiff_t top, ptrdiff_t byte, int is_first)
{
    const ktc_float_codes *codes = one->floats;
    const ktc_decoded *target = one->target;
    ptrdiff_t in_byte = codes->format == KTC_FLOAT4_E2M1FN ? 2 : 1;
    ptrdiff_t end = smaller((byte + 1) * in_byte, target->columns);
    for (ptrdiff_t column = byte * in_byte; column < end; column++) {
        if (is_first || column % codes->block_columns == 0) {
            spread_scales(codes->scales + column / codes->block_columns, blocks_across(one),
                          codes->block_rows, top, one->row.count, one->scales);
            is_first = 0;
        }
        one->row.shift = (int)(column % in_byte) * 4;
        decode_run(one, (char *)target->elements + column * target->column_stride +
                            top * target->row_stride);
    }
}

/* Into columns that are contiguous: codes are transposed, which are shorter than their numbers. */
static ktc_status
decode_turned(decoder *one)
{
    uint8_t turned[TURNED_BYTES * TURNED_ROWS];
    const ktc_float_codes *codes = one->floats;
    ptrdiff_t rows = one->target->rows;
    ptrdiff_t in_byte = codes->format == KTC_FLOAT4_E2M1FN ? 2 : 1;
    ptrdiff_t bytes = (one->end + in_byte - 1) / in_byte;
    ktc_permute_plan plan;
    one->row.kind = one->row.kind == E2M1FN ? E2M1FN_IN_BYTES : one->row.kind;
    one->row.scales = one->scales;
    one->row.scale_columns = 1;
    for (ptrdiff_t left = one->target->first / in_byte; left < bytes; left += TURNED_BYTES) {
        for (ptrdiff_t top = 0; top < rows; top += TURNED_ROWS) {
            ptrdiff_t shape[2] = {smaller(TURNED_ROWS, rows - top),
                                  smaller(TURNED_BYTES, bytes - left)};
            ptrdiff_t from[2] = {codes->pitch, 1};
            ptrdiff_t to[2] = {1, shape[0]};
            ktc_status status = ktc_permute_plan_make(2, shape, from, to, 1, &plan);
            if (status != KTC_OK) {
                return status;
            }
            ktc_permute_run(&plan, codes->codes + top * codes->pitch + left, turned, one->set);
            one->row.count = shape[0];
            for (ptrdiff_t byte = 0; byte < shape[1]; byte++) {
                one->row.codes = turned + byte * shape[0];
                decode_turned_byte(one, top, left + byte, byte == 0);
            }
        }
    }
    return KTC_OK;
}

/* Through tiles, which are then copied in the order of the target. */
static ktc_status
decode_by_tiles(decoder *one)
{
    float tile[TILE_COLUMNS * TILE_COLUMN_BYTES / sizeof(float)];
    const ktc_decoded *target = one->target;
    ptrdiff_t tile_rows = TILE_COLUMN_BYTES / one->item_size;
    ptrdiff_t strides[2] = {target->row_stride, target->column_stride};
    ktc_permute_plan plan;
    for (ptrdiff_t left = target->first; left < one->end; left += TILE_COLUMNS) {
        one->row.count = smaller(TILE_COLUMNS, one->end - left);
        for (ptrdiff_t top = 0; top < target->rows; top += tile_rows) {
            ptrdiff_t shape[2] = {smaller(tile_rows, target->rows - top), one->row.count};
            ptrdiff_t tile_strides[2] = {shape[1] * one->item_size, one->item_size};
            ktc_status status =
                ktc_permute_plan_make(2, shape, tile_strides, strides, one->item_size, &plan);
            if (status == KTC_OK) {
                status = decode_rows(one, top, top + shape[0], left, (char *)tile, tile_strides[0]);
            }
            if (status != KTC_OK) {
                return status;
            }
            ktc_permute_run(&plan, tile,
                            (char *)target->elements + top * strides[0] + left * strides[1],
                            one->set);
        }
    }
    return KTC_OK;
}

static ktc_status
decode(decoder *one)
{
    const ktc_decoded *target = one->target;
    if (target->type != KTC_FLOAT16 && target->type != KTC_BFLOAT16 &&
        target->type != KTC_FLOAT32) {
        return KTC_BAD_TYPE;
    }
    one->row.wanted = wanted_of(target);
    one->item_size = item_size_of(target);
    one->end = target->end != 0 ? target->end : ktc_decoded_lines(target);
    int is_in_place = target->column_stride == one->item_size;
    if (!is_in_place && (one->floats == NULL || target->row_stride != one->item_size)) {
        return decode_by_tiles(one);
    }
    ktc_tiles tiles = {0};
    if (ktc_tiles_find(one->set, one->item_size, &tiles) &&
        target->rows * target->columns * one->item_size >= STREAM_FROM_BYTES) {
        one->stream = tiles.stream_copy;
    }
    ktc_status status = is_in_place ? decode_in_place(one) : decode_turned(one);
    if (one->stream != NULL) {
        tiles.stream_finish();
    }
    return status;
}

ktc_status
ktc_decode_floats(const ktc_float_codes *codes, const ktc_decoded *target, ktc_instruction_set set)
{
    static const ktc_row_codes kinds[] = {
        [KTC_FLOAT8_E4M3FN] = E4M3FN, [KTC_FLOAT8_E5M2] = E5M2, [KTC_FLOAT4_E2M1FN] = E2M1FN};
    decoder one = {
        .floats = codes, .target = target, .set = set, .row = {.kind = kinds[codes->format]}};
    return decode(&one);
}

ktc_status
ktc_decode_whole(const ktc_whole_codes *codes, const ktc_decoded *target, ktc_instruction_set set)
{
    ktc_row_codes kind =
        codes->packs_rows ? IN_WORDS : (codes->bits == 4 ? WORDS_OF_8 : WORDS_OF_4);
    decoder one = {
        .whole = codes, .target = target, .set = set, .row = {.kind = kind, .bits = codes->bits}};
    return decode(&one);
}
