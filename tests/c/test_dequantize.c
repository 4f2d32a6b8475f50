/* Codes of quantized weights against a slow decoder, in rows and blocks of all sizes. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "arrays/dequantize.h"

static const ktc_small_float FORMATS[] = {KTC_FLOAT8_E4M3FN, KTC_FLOAT8_E5M2, KTC_FLOAT4_E2M1FN};

/* Read off the definition: sign, exponent and fraction as numbers. */
static double
value_of(unsigned code, ktc_small_float format)
{
    int fraction_bits = format == KTC_FLOAT8_E4M3FN ? 3 : (format == KTC_FLOAT8_E5M2 ? 2 : 1);
    int bits = format == KTC_FLOAT4_E2M1FN ? 4 : 8;
    int bias = (1 << (bits - fraction_bits - 2)) - 1;
    int field = (int)(code >> fraction_bits) & ((1 << (bits - 1 - fraction_bits)) - 1);
    double fraction = (double)(code & ((1u << fraction_bits) - 1)) / (double)(1 << fraction_bits);
    double sign = code >> (bits - 1) != 0 ? -1.0 : 1.0;
    if (format == KTC_FLOAT8_E4M3FN && (code & 0x7Fu) == 0x7Fu) {
        return (double)NAN;
    }
    if (format == KTC_FLOAT8_E5M2 && field == 31) {
        return fraction == 0.0 ? sign * (double)INFINITY : (double)NAN;
    }
    return sign * (field == 0 ? ldexp(fraction, 1 - bias) : ldexp(1.0 + fraction, field - bias));
}

/* Row after row, or column after column. */
static ktc_decoded
target_of(float *found, ptrdiff_t rows, ptrdiff_t columns, int transposed)
{
    ktc_decoded target = {found, KTC_FLOAT32, 0, rows, columns, 4 * columns, 4, 0, 0};
    if (transposed) {
        target.row_stride = 4;
        target.column_stride = 4 * rows;
    }
    return target;
}

/* Leaves the lines after the first ones for a second part, sometimes: 1, or 0 where there is none.
 */
static int
part_take(random_source *source, ktc_decoded *target)
{
    if (ktc_decoded_lines(target) <= KTC_DECODED_LINES || random_between(source, 0, 1) == 0) {
        return 0;
    }
    target->end = KTC_DECODED_LINES;
    return 1;
}

static void
part_next(ktc_decoded *target)
{
    target->first = target->end;
    target->end = ktc_decoded_lines(target);
}

static void
check_floats(random_source *source, ktc_instruction_set set)
{
    ktc_small_float format = FORMATS[random_between(source, 0, 2)];
    ptrdiff_t rows = random_between(source, 0, 5) * random_between(source, 1, 60),
              columns = random_between(source, 0, 1100);
    ptrdiff_t block_rows = random_between(source, 1, 6);
    ptrdiff_t block_columns = random_between(source, 1, 1200);
    ptrdiff_t blocks = columns / block_columns + (columns % block_columns != 0);
    int in_byte = format == KTC_FLOAT4_E2M1FN ? 2 : 1;
    ptrdiff_t pitch = (columns + in_byte - 1) / in_byte;
    /* Just as large as they must be, so that the sanitizers see a step too far. */
    uint8_t *codes = malloc((size_t)(rows * pitch) + 1);
    float *scales = malloc((size_t)((rows / block_rows + 1) * blocks + 1) * sizeof *scales);
    float *found = malloc((size_t)(rows * columns) * sizeof *found + 1);
    for (ptrdiff_t at = 0; at < rows * pitch; at++) {
        codes[at] = (uint8_t)random_bits(source);
    }
    for (ptrdiff_t at = 0; at < (rows / block_rows + 1) * blocks; at++) {
        scales[at] =
            ldexpf((float)random_between(source, -9, 9), (int)random_between(source, -3, 3));
    }
    ktc_float_codes given = {codes, pitch, format, scales, block_rows, block_columns};
    int transposed = (int)random_between(source, 0, 1);
    ktc_decoded target = target_of(found, rows, columns, transposed);
    int is_parted = part_take(source, &target);
    CHECK(ktc_decode_floats(&given, &target, set) == KTC_OK);
    if (is_parted) {
        part_next(&target);
        CHECK(ktc_decode_floats(&given, &target, set) == KTC_OK);
    }
    for (ptrdiff_t row = 0; row < rows; row++) {
        for (ptrdiff_t column = 0; column < columns; column++) {
            unsigned code = codes[row * pitch + column / in_byte];
            code = in_byte == 2 ? (code >> (4 * (column % 2))) & 15u : code;
            float scale = scales[row / block_rows * blocks + column / block_columns];
            float expected = (float)(value_of(code, format) * (double)scale);
            float got = found[transposed ? column * rows + row : row * columns + column];
            CHECK(got == expected || (isnan(got) && isnan(expected)));
        }
    }
    target.type = KTC_FLOAT64;
    CHECK(ktc_decode_floats(&given, &target, set) == KTC_BAD_TYPE);
    free(codes);
    free(scales);
    free(found);
}

static void
check_whole(random_source *source, ktc_instruction_set set)
{
    static const int AWQ[2][8] = {{0, 2, 4, 6, 1, 3, 5, 7}, {0, 2, 1, 3}};
    int bits = random_between(source, 0, 1) != 0 ? 4 : 8;
    int in_word = 32 / bits;
    int packs_rows = (int)random_between(source, 0, 1);
    ptrdiff_t rows = in_word * random_between(source, 0, 3);
    ptrdiff_t columns = in_word * random_between(source, 0, 140);
    ptrdiff_t groups = random_between(source, 1, 3);
    ptrdiff_t pitch = packs_rows ? columns : columns / in_word;
    ptrdiff_t words = pitch * (packs_rows ? rows / in_word : rows);
    uint32_t *codes = malloc((size_t)words * sizeof *codes + 1);
    float *scales = malloc((size_t)(groups * columns) * sizeof *scales + 1);
    float *zeros = malloc((size_t)(groups * columns) * sizeof *zeros + 1);
    int32_t *group_of_row = malloc((size_t)rows * sizeof *group_of_row + 1);
    float *found = malloc((size_t)(rows * columns) * sizeof *found + 1);
    for (ptrdiff_t at = 0; at < words; at++) {
        codes[at] = (uint32_t)random_bits(source);
    }
    for (ptrdiff_t at = 0; at < groups * columns; at++) {
        scales[at] = (float)random_between(source, -99, 99) / 64.0f;
        zeros[at] = (float)random_between(source, 0, 256);
    }
    for (ptrdiff_t row = 0; row < rows; row++) {
        group_of_row[row] = (int32_t)random_between(source, 0, groups - 1);
    }
    ktc_whole_codes given = {codes, pitch, bits, packs_rows, scales, zeros, groups, group_of_row};
    int transposed = (int)random_between(source, 0, 1);
    ktc_decoded target = target_of(found, rows, columns, transposed);
    int is_parted = part_take(source, &target);
    CHECK(ktc_decode_whole(&given, &target, set) == KTC_OK);
    if (is_parted) {
        part_next(&target);
        CHECK(ktc_decode_whole(&given, &target, set) == KTC_OK);
        target.first = target.end = 0;
    }
    for (ptrdiff_t row = 0; row < rows; row++) {
        for (ptrdiff_t column = 0; column < columns; column++) {
            int place = (int)(row % in_word);
            if (!packs_rows) {
                for (place = 0; AWQ[bits == 8][place] != column % in_word; place++) {
                }
            }
            uint32_t word =
                codes[packs_rows ? row / in_word * pitch + column : row * pitch + column / in_word];
            double code = (double)((word >> (bits * place)) & ((1u << bits) - 1u));
            ptrdiff_t factor = group_of_row[row] * columns + column;
            CHECK(found[transposed ? column * rows + row : row * columns + column] ==
                  (float)((code - (double)zeros[factor]) * (double)scales[factor]));
        }
    }
    if (rows > 0 && columns > 0) {
        group_of_row[random_between(source, 0, rows - 1)] = random_bits(source) % 2 ? -1 : 3;
        CHECK(ktc_decode_whole(&given, &target, set) == KTC_BAD_INDEX);
    }
    free(codes);
    free(scales);
    free(zeros);
    free(group_of_row);
    free(found);
}

int
main(int count, char **arguments)
{
    random_source source = random_from_arguments(count, arguments);
    long cases = cases_from_arguments(count, arguments, 2000);
    for (int set = 0; set < KTC_INSTRUCTION_SET_COUNT; set++) {
        if (ktc_instruction_set_is_available((ktc_instruction_set)set)) {
            for (long number = 0; number < cases / KTC_INSTRUCTION_SET_COUNT; number++) {
                check_floats(&source, (ktc_instruction_set)set);
                check_whole(&source, (ktc_instruction_set)set);
            }
        }
    }
    return 0;
}
