/* Owns the walk over rows and tiles, and which factors belong to them; a row is decoded by
 * dequantize_row. What is not stored row after row goes through a tile that stays in the
 * second-level cache. */
#include "arrays/dequantize.h"

#include "arrays/dequantize_row.h"
#include "arrays/permute_run.h"

/* Columns at a time, a multiple of those of a word: their factors stay in the first-level cache. */
#define CHUNK 1024
#define TILE_COLUMNS 256

/* See ktc_row: so many columns may have one factor without its being written out. */
#define SHARED_COLUMNS 16

/* Bytes of a column in a tile: several cache lines of the target. */
#define TILE_COLUMN_BYTES 512

/* One of two kinds of codes, with the factors of the columns that are being decoded. */
typedef struct {
    const ktc_float_codes *floats;
    const ktc_whole_codes *whole;
    ktc_row row;
    float scales[CHUNK];
} decoder;

static ptrdiff_t
smaller(ptrdiff_t first, ptrdiff_t second)
{
    return first < second ? first : second;
}

/* The factor of each of `count` columns from `left` on. */
static void
spread_scales(const float *of_blocks, ptrdiff_t block_columns, ptrdiff_t left, ptrdiff_t count,
              float *scales)
{
    ptrdiff_t block = left / block_columns;
    ptrdiff_t end = smaller(block_columns - left % block_columns, count);
    for (ptrdiff_t at = 0; at < count; block++) {
        float scale = of_blocks[block];
        for (; at < end; at++) {
            scales[at] = scale;
        }
        end += smaller(block_columns, count - end);
    }
}

/* Finds the codes and factors of a part of a row. `is_first`: the row before had other columns. */
static void
find_floats(decoder *one, ptrdiff_t columns, ptrdiff_t row, ptrdiff_t left, int is_first)
{
    const ktc_float_codes *codes = one->floats;
    ptrdiff_t block = codes->block_columns;
    ptrdiff_t blocks = columns / block + (columns % block != 0);
    const float *of_blocks = codes->scales + row / codes->block_rows * blocks;
    int is_one_block = one->row.count <= block - left % block;
    one->row.codes =
        codes->codes + row * codes->pitch + (one->row.kind == E2M1FN ? left / 2 : left);
    if (is_one_block || (block % SHARED_COLUMNS == 0 && left % block == 0)) {
        one->row.scales = of_blocks + left / block;
        one->row.scale_columns = is_one_block ? one->row.count : block;
        return;
    }
    if (is_first || row % codes->block_rows == 0) {
        spread_scales(of_blocks, block, left, one->row.count, one->scales);
    }
    one->row.scales = one->scales;
    one->row.scale_columns = 1;
}

/* The same for whole numbers: 0 where the row's group does not exist. */
static int
find_whole(decoder *one, ptrdiff_t columns, ptrdiff_t row, ptrdiff_t left)
{
    const ktc_whole_codes *codes = one->whole;
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

/* Decodes a part of each row from `top` to `bottom`, `pitch` bytes apart. */
static ktc_status
decode_rows(decoder *one, ptrdiff_t columns, ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t left,
            char *numbers, ptrdiff_t pitch, ktc_instruction_set set)
{
    for (ptrdiff_t row = top; row < bottom; row++) {
        if (one->floats != NULL) {
            find_floats(one, columns, row, left, row == top);
        }
        else if (!find_whole(one, columns, row, left)) {
            return KTC_BAD_INDEX;
        }
        one->row.numbers = numbers + (row - top) * pitch;
        ktc_row_decode(&one->row, set);
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

/* Straight into rows of the target. */
static ktc_status
decode_in_place(decoder *one, const ktc_decoded *target, ktc_instruction_set set)
{
    ktc_status status = KTC_OK;
    for (ptrdiff_t left = 0; left < target->columns && status == KTC_OK; left += CHUNK) {
        one->row.count = smaller(CHUNK, target->columns - left);
        status = decode_rows(one, target->columns, 0, target->rows, left,
                             (char *)target->elements + left * target->column_stride,
                             target->row_stride, set);
    }
    return status;
}

/* Through tiles, which are then copied in the order of the target. */
static ktc_status
decode_by_tiles(decoder *one, const ktc_decoded *target, ptrdiff_t item_size,
                ktc_instruction_set set)
{
    float tile[TILE_COLUMNS * TILE_COLUMN_BYTES / sizeof(float)];
    ptrdiff_t tile_rows = TILE_COLUMN_BYTES / item_size;
    ptrdiff_t strides[2] = {target->row_stride, target->column_stride};
    ktc_permute_plan plan;
    for (ptrdiff_t left = 0; left < target->columns; left += TILE_COLUMNS) {
        one->row.count = smaller(TILE_COLUMNS, target->columns - left);
        for (ptrdiff_t top = 0; top < target->rows; top += tile_rows) {
            ptrdiff_t shape[2] = {smaller(tile_rows, target->rows - top), one->row.count};
            ptrdiff_t tile_strides[2] = {shape[1] * item_size, item_size};
            ktc_status status =
                ktc_permute_plan_make(2, shape, tile_strides, strides, item_size, &plan);
            if (status == KTC_OK) {
                status = decode_rows(one, target->columns, top, top + shape[0], left, (char *)tile,
                                     tile_strides[0], set);
            }
            if (status != KTC_OK) {
                return status;
            }
            ktc_permute_run(&plan, tile,
                            (char *)target->elements + top * strides[0] + left * strides[1], set);
        }
    }
    return KTC_OK;
}

static ktc_status
decode(decoder *one, const ktc_decoded *target, ktc_instruction_set set)
{
    if (target->type != KTC_FLOAT16 && target->type != KTC_BFLOAT16 &&
        target->type != KTC_FLOAT32) {
        return KTC_BAD_TYPE;
    }
    one->row.wanted = wanted_of(target);
    ptrdiff_t item_size = one->row.wanted == TO_BFLOAT16 || one->row.wanted == TO_FLOAT16 ? 2 : 4;
    return target->column_stride == item_size ? decode_in_place(one, target, set)
                                              : decode_by_tiles(one, target, item_size, set);
}

ktc_status
ktc_decode_floats(const ktc_float_codes *codes, const ktc_decoded *target, ktc_instruction_set set)
{
    static const ktc_row_codes kinds[] = {
        [KTC_FLOAT8_E4M3FN] = E4M3FN, [KTC_FLOAT8_E5M2] = E5M2, [KTC_FLOAT4_E2M1FN] = E2M1FN};
    decoder one = {.floats = codes, .row = {.kind = kinds[codes->format]}};
    return decode(&one, target, set);
}

ktc_status
ktc_decode_whole(const ktc_whole_codes *codes, const ktc_decoded *target, ktc_instruction_set set)
{
    ktc_row_codes kind =
        codes->packs_rows ? IN_WORDS : (codes->bits == 4 ? WORDS_OF_8 : WORDS_OF_4);
    decoder one = {.whole = codes, .row = {.kind = kind, .bits = codes->bits}};
    return decode(&one, target, set);
}
