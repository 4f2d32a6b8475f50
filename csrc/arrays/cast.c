/* Owns element type conversion. Every pair goes through blocks of one of three wide types that hold
 * the source's values exactly (float64; int64 and uint64 for the two types that float64 cannot
 * hold), so that 13 types need 13 readers and 3 x 13 writers, not 169 loops. The pairs that carry
 * nearly all weights have loops of their own. */
#include "arrays/cast.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "arrays/widen.h"

/* Elements a block: 4 KiB of wide values, a small part of a first-level cache of 32 KiB. */
#define BLOCK 512

typedef union {
    double numbers[BLOCK];
    int64_t integers[BLOCK];
    uint64_t naturals[BLOCK];
} wide_block;

typedef enum { WIDE_NUMBERS, WIDE_INTEGERS, WIDE_NATURALS } wide_kind;

static uint64_t
bits_of_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* A float64 rounded to a 16-bit format of `fraction_bits` bits of fraction, once: going through
 * float32 would round twice. */
static uint16_t
narrow_double(double value, int fraction_bits)
{
    int exponent_bits = 15 - fraction_bits;
    int bias = (1 << (exponent_bits - 1)) - 1;
    uint64_t bits = bits_of_double(value);
    uint16_t sign = (uint16_t)((bits >> 48) & 0x8000u);
    uint16_t infinity = (uint16_t)(((1u << exponent_bits) - 1u) << fraction_bits);
    int exponent = (int)((bits >> 52) & 0x7FF) - 1023;
    uint64_t fraction = bits & 0xFFFFFFFFFFFFFu;

    if (exponent == 1024) {
        uint16_t payload = (uint16_t)(fraction >> (52 - fraction_bits));
        uint16_t quiet = (uint16_t)((fraction != 0) << (fraction_bits - 1));
        return (uint16_t)(sign | infinity | payload | quiet);
    }
    if (exponent > bias) {
        return (uint16_t)(sign | infinity);
    }
    /* Below the smallest normal exponent the last place stays where it is, so more bits of the
     * fraction fall away. */
    int smallest = 1 - bias;
    int dropped = 52 - fraction_bits + (exponent < smallest ? smallest - exponent : 0);
    if (dropped > 53) {
        return sign; /* below half of the smallest subnormal; float64's own subnormals as well */
    }
    uint64_t significand = fraction | (UINT64_C(1) << 52);
    uint64_t kept = significand >> dropped;
    uint64_t remainder = significand & ((UINT64_C(1) << dropped) - 1);
    uint64_t half = UINT64_C(1) << (dropped - 1);
    kept += remainder > half || (remainder == half && (kept & 1u) != 0);
    /* A normal number carries its leading one into the exponent field, as does a rounding that runs
     * over. */
    uint64_t field = exponent < smallest ? 0 : (uint64_t)(exponent - smallest);
    return (uint16_t)(sign | (uint16_t)((field << fraction_bits) + kept));
}

/* Readers: `count` elements of one type into a wide block. */
#define READ_LOOP(type, member, expression)                 \
    do {                                                    \
        const type *elements = source;                      \
        for (ptrdiff_t index = 0; index < count; index++) { \
            type element = elements[index];                 \
            block->member[index] = expression;              \
        }                                                   \
    } while (0)

static wide_kind
block_read(const void *source, ktc_element_type type, ptrdiff_t count, wide_block *block)
{
    switch (type) {
    case KTC_BOOL:
        READ_LOOP(uint8_t, numbers, element != 0);
        break;
    case KTC_INT8:
        READ_LOOP(int8_t, numbers, element);
        break;
    case KTC_INT16:
        READ_LOOP(int16_t, numbers, element);
        break;
    case KTC_INT32:
        READ_LOOP(int32_t, numbers, element);
        break;
    case KTC_INT64:
        READ_LOOP(int64_t, integers, element);
        return WIDE_INTEGERS;
    case KTC_UINT8:
        READ_LOOP(uint8_t, numbers, element);
        break;
    case KTC_UINT16:
        READ_LOOP(uint16_t, numbers, element);
        break;
    case KTC_UINT32:
        READ_LOOP(uint32_t, numbers, element);
        break;
    case KTC_UINT64:
        READ_LOOP(uint64_t, naturals, element);
        return WIDE_NATURALS;
    case KTC_FLOAT16:
        READ_LOOP(uint16_t, numbers, (double)ktc_widen_float16(element));
        break;
    case KTC_BFLOAT16:
        READ_LOOP(uint16_t, numbers, (double)ktc_widen_bfloat16(element));
        break;
    case KTC_FLOAT32:
        READ_LOOP(float, numbers, (double)element);
        break;
    default:
        READ_LOOP(double, numbers, element);
        break;
    }
    return WIDE_NUMBERS;
}

/* Notes what happened to one number on its way to a floating-point type. */
static void
note_float(double before, double after, ktc_cast_losses *losses)
{
    losses->out_of_range += isfinite(before) && isinf(after);
    losses->rounded += isfinite(after) && before != after;
}

/* Writers: wide values into `count` elements of an integer type. Limits are compared in the wide
 * type; `highest + 1` is a power of two and exact as a float64, `highest` of 64 bits is not. */
#define WRITE_INTEGERS(type, lowest, highest)                                                   \
    do {                                                                                        \
        type *elements = target;                                                                \
        for (ptrdiff_t index = 0; index < count; index++) {                                     \
            if (kind == WIDE_NUMBERS) {                                                         \
                double number = block->numbers[index];                                          \
                double whole = trunc(number);                                                   \
                if (whole >= (double)(lowest) && whole < ((double)((highest) / 2 + 1)) * 2.0) { \
                    elements[index] = (type)whole;                                              \
                    losses->rounded += whole != number;                                         \
                }                                                                               \
                else {                                                                          \
                    elements[index] =                                                           \
                        isnan(number) ? 0 : (number < 0 ? (type)(lowest) : (type)(highest));    \
                    losses->out_of_range++;                                                     \
                }                                                                               \
            }                                                                                   \
            else if (kind == WIDE_INTEGERS) {                                                   \
                int64_t integer = block->integers[index];                                       \
                int too_low = integer < 0 && integer < (int64_t)(lowest);                       \
                int too_high = integer > 0 && (uint64_t)integer > (uint64_t)(highest);          \
                elements[index] =                                                               \
                    too_low ? (type)(lowest) : (too_high ? (type)(highest) : (type)integer);    \
                losses->out_of_range += too_low || too_high;                                    \
            }                                                                                   \
            else {                                                                              \
                uint64_t natural = block->naturals[index];                                      \
                int too_high = natural > (uint64_t)(highest);                                   \
                elements[index] = too_high ? (type)(highest) : (type)natural;                   \
                losses->out_of_range += too_high;                                               \
            }                                                                                   \
        }                                                                                       \
    } while (0)

/* A 64-bit integer as a float64 that the narrower types then round as they would have rounded the
 * integer itself: where float64 is too short, the bits that would be lost are folded into one bit
 * below all that any narrower type keeps. */
static double
number_for_narrowing(const wide_block *block, wide_kind kind, ptrdiff_t index)
{
    uint64_t magnitude;
    int is_negative = 0;
    if (kind == WIDE_NUMBERS) {
        return block->numbers[index];
    }
    if (kind == WIDE_INTEGERS) {
        int64_t integer = block->integers[index];
        is_negative = integer < 0;
        magnitude = is_negative ? UINT64_C(0) - (uint64_t)integer : (uint64_t)integer;
    }
    else {
        magnitude = block->naturals[index];
    }
    if (magnitude >> 53 != 0 && (magnitude & 0x7FF) != 0) {
        magnitude = (magnitude | 0x800) & ~UINT64_C(0x7FF);
    }
    return is_negative ? -(double)magnitude : (double)magnitude;
}

static void
block_write_float64(const wide_block *block, wide_kind kind, double *target, ptrdiff_t count,
                    ktc_cast_losses *losses)
{
    if (kind == WIDE_NUMBERS) {
        memcpy(target, block->numbers, (size_t)count * sizeof *target);
        return;
    }
    for (ptrdiff_t index = 0; index < count; index++) {
        if (kind == WIDE_INTEGERS) {
            int64_t integer = block->integers[index];
            double number = (double)integer;
            target[index] = number;
            losses->rounded += number >= 0x1p63 || (int64_t)number != integer;
        }
        else {
            uint64_t natural = block->naturals[index];
            double number = (double)natural;
            target[index] = number;
            losses->rounded += number >= 0x1p64 || (uint64_t)number != natural;
        }
    }
}

static void
block_write_float32(const wide_block *block, wide_kind kind, float *target, ptrdiff_t count,
                    ktc_cast_losses *losses)
{
    for (ptrdiff_t index = 0; index < count; index++) {
        double number = number_for_narrowing(block, kind, index);
        target[index] = (float)number;
        note_float(number, (double)target[index], losses);
    }
}

static void
block_write_halves(const wide_block *block, wide_kind kind, uint16_t *target, int is_bfloat16,
                   ptrdiff_t count, ktc_cast_losses *losses)
{
    for (ptrdiff_t index = 0; index < count; index++) {
        double number = number_for_narrowing(block, kind, index);
        uint16_t half = narrow_double(number, is_bfloat16 ? 7 : 10);
        target[index] = half;
        note_float(number,
                   (double)(is_bfloat16 ? ktc_widen_bfloat16(half) : ktc_widen_float16(half)),
                   losses);
    }
}

static void
block_write_bool(const wide_block *block, wide_kind kind, uint8_t *target, ptrdiff_t count,
                 ktc_cast_losses *losses)
{
    for (ptrdiff_t index = 0; index < count; index++) {
        double number = number_for_narrowing(block, kind, index);
        target[index] = number != 0.0;
        losses->rounded += number != 0.0 && number != 1.0;
    }
}

static void
block_write(const wide_block *block, wide_kind kind, void *target, ktc_element_type type,
            ptrdiff_t count, ktc_cast_losses *losses)
{
    switch (type) {
    case KTC_BOOL:
        block_write_bool(block, kind, target, count, losses);
        break;
    case KTC_INT8:
        WRITE_INTEGERS(int8_t, INT8_MIN, INT8_MAX);
        break;
    case KTC_INT16:
        WRITE_INTEGERS(int16_t, INT16_MIN, INT16_MAX);
        break;
    case KTC_INT32:
        WRITE_INTEGERS(int32_t, INT32_MIN, INT32_MAX);
        break;
    case KTC_INT64:
        WRITE_INTEGERS(int64_t, INT64_MIN, INT64_MAX);
        break;
    case KTC_UINT8:
        WRITE_INTEGERS(uint8_t, 0, UINT8_MAX);
        break;
    case KTC_UINT16:
        WRITE_INTEGERS(uint16_t, 0, UINT16_MAX);
        break;
    case KTC_UINT32:
        WRITE_INTEGERS(uint32_t, 0, UINT32_MAX);
        break;
    case KTC_UINT64:
        WRITE_INTEGERS(uint64_t, 0, UINT64_MAX);
        break;
    case KTC_FLOAT16:
        block_write_halves(block, kind, target, 0, count, losses);
        break;
    case KTC_BFLOAT16:
        block_write_halves(block, kind, target, 1, count, losses);
        break;
    case KTC_FLOAT32:
        block_write_float32(block, kind, target, count, losses);
        break;
    default:
        block_write_float64(block, kind, target, count, losses);
        break;
    }
}

/* The pairs that lose nothing and carry nearly all weights: 1 when done, 0 when the general way is
 * to be taken. */
static int
widen_directly(const void *source, ktc_element_type source_type, void *target,
               ktc_element_type target_type, ptrdiff_t count, ktc_instruction_set set)
{
    if (source_type == target_type) {
        memcpy(target, source, (size_t)(count * ktc_element_type_size(source_type)));
        return 1;
    }
    if (target_type != KTC_FLOAT32 || (source_type != KTC_FLOAT16 && source_type != KTC_BFLOAT16)) {
        return 0;
    }
    ktc_widen(source, source_type, target, count, set);
    return 1;
}

ktc_status
ktc_cast_run(const void *source, ktc_element_type source_type, void *target,
             ktc_element_type target_type, ptrdiff_t count, ktc_instruction_set set,
             ktc_cast_losses *losses)
{
    wide_block block;
    *losses = (ktc_cast_losses){0, 0};
    if ((int)source_type < 0 || source_type >= KTC_ELEMENT_TYPE_COUNT || (int)target_type < 0 ||
        target_type >= KTC_ELEMENT_TYPE_COUNT) {
        return KTC_BAD_TYPE;
    }
    if (count <= 0 || widen_directly(source, source_type, target, target_type, count, set)) {
        return KTC_OK;
    }
    for (ptrdiff_t start = 0; start < count; start += BLOCK) {
        ptrdiff_t part = count - start < BLOCK ? count - start : BLOCK;
        const char *from = (const char *)source + start * ktc_element_type_size(source_type);
        char *to = (char *)target + start * ktc_element_type_size(target_type);
        wide_kind kind = block_read(from, source_type, part, &block);
        block_write(&block, kind, to, target_type, part, losses);
    }
    return KTC_OK;
}
