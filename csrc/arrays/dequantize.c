/* Owns both kernels that decode quantized weights. A row is unpacked to one code a byte, a chunk at
 * a time, then scaled in one loop, which the compiler vectorizes for each instruction set. */
#include "arrays/dequantize.h"

#include "arrays/widen.h"

#if defined(__GNUC__) || defined(__clang__)
#define INLINED static inline __attribute__((always_inline))
#else
#define INLINED static inline
#endif

/* Columns at a time, even: what is unpacked for them stays in the first-level cache. */
#define CHUNK 1024

/* How codes become numbers: those of ktc_small_float, and whole ones. */
enum { WHOLE = KTC_FLOAT4_E2M1FN + 1 };

static inline ptrdiff_t
smaller(ptrdiff_t first, ptrdiff_t second)
{
    return first < second ? first : second;
}

/* A choice that compilers do not turn into a branch, so that they can vectorize loops over it. */
INLINED uint32_t
choose(int condition, uint32_t first, uint32_t second)
{
    uint32_t mask = (uint32_t)0 - (uint32_t)condition;
    return (first & mask) | (second & ~mask);
}

INLINED float
widen_small(uint32_t code, int bits, int fraction_bits, uint32_t bias)
{
    uint32_t magnitude = (code & ((1u << (bits - 1)) - 1u)) << (23 - fraction_bits);
    uint32_t sign = (code >> (bits - 1)) << 31;
    uint32_t normal = magnitude + ((127u - bias) << 23);
    /* A subnormal number is its fraction times a power of two: see ktc_widen_float16. */
    uint32_t one = (128u - bias) << 23;
    uint32_t subnormal =
        ktc_bits_of_float(ktc_float_of_bits(magnitude + one) - ktc_float_of_bits(one));
    return ktc_float_of_bits(choose(magnitude < (1u << 23), subnormal, normal) | sign);
}

INLINED float
widen_e4m3fn(uint8_t code)
{
    float value = widen_small(code, 8, 3, 7);
    return ktc_float_of_bits(
        choose((code & 0x7Fu) == 0x7Fu, 0x7FC00000u, ktc_bits_of_float(value)));
}

INLINED float
widen_e5m2(uint8_t code)
{
    uint32_t bits = ktc_bits_of_float(widen_small(code, 8, 2, 15));
    uint32_t special = ((uint32_t)(code & 0x7Fu) << 21) | 0x7F800000u | ((uint32_t)code >> 7 << 31);
    return ktc_float_of_bits(choose((code & 0x7Fu) >= 0x7Cu, special, bits));
}

INLINED float
widen_e2m1fn(uint8_t code)
{
    return widen_small(code, 4, 1, 1);
}

INLINED uint16_t
narrow_bfloat16(float value)
{
    uint32_t bits = ktc_bits_of_float(value);
    uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    return (uint16_t)choose((bits & 0x7FFFFFFFu) > 0x7F800000u, 0x7FC0u, rounded);
}

INLINED uint16_t
narrow_float16(float value)
{
    uint32_t bits = ktc_bits_of_float(value);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7FFFFFFFu;
    uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
    uint32_t chosen = (rounded - (112u << 23)) >> 13;
    /* The last place of 0.5 is that of a subnormal half, so the sum is rounded as wanted. */
    uint32_t subnormal = ktc_bits_of_float(ktc_float_of_bits(magnitude) + 0.5f) - (126u << 23);
    chosen = choose(magnitude < (113u << 23), subnormal, chosen);
    chosen = choose(rounded >= (143u << 23), 0x7C00u, chosen);
    chosen = choose(magnitude > 0x7F800000u, 0x7E00u, chosen);
    return (uint16_t)(chosen | sign);
}

/* How the codes of a row lie: one in a byte, two in a byte, one in each word, or several in a word
 * in the order of AWQ. */
typedef enum { BYTES, HALF_BYTES, IN_WORDS, WHOLE_WORDS } packing;

/* A part of a row: codes with a factor each, whole ones with a zero each. */
typedef struct {
    packing packing;
    const void *codes;
    int bits;  /* of a code in words */
    int shift; /* of the code in each word */
    const float *scales;
    const float *zeros;
    ptrdiff_t count;
} row_part;

INLINED void
unpack_columns(const uint32_t *words, int bits, ptrdiff_t count, uint8_t *codes)
{
    int in_word = 32 / bits;
    uint32_t mask = (1u << bits) - 1u;
    for (ptrdiff_t index = 0; index < count / in_word; index++) {
        for (int pair = 0; pair < in_word / 2; pair++) {
            uint8_t *target = codes + index * in_word + 2 * pair;
            target[0] = (uint8_t)((words[index] >> (bits * pair)) & mask);
            target[1] = (uint8_t)((words[index] >> (16 + bits * pair)) & mask);
        }
    }
}

/* One code a byte: those of the part, put into `unpacked` unless they lie so. */
INLINED const uint8_t *
unpack(const row_part *part, uint8_t *unpacked)
{
    const uint8_t *bytes = part->codes;
    const uint32_t *words = part->codes;
    ptrdiff_t count = part->count;
    uint32_t mask = (1u << part->bits) - 1u;
    switch (part->packing) {
    case BYTES:
        return bytes;
    case HALF_BYTES:
        for (ptrdiff_t at = 0; at < (count + 1) / 2; at++) {
            unpacked[2 * at] = bytes[at] & 15u;
            unpacked[2 * at + 1] = (uint8_t)(bytes[at] >> 4);
        }
        break;
    case IN_WORDS:
        for (ptrdiff_t at = 0; at < count; at++) {
            unpacked[at] = (uint8_t)((words[at] >> part->shift) & mask);
        }
        break;
    case WHOLE_WORDS:
        if (part->bits == 4) {
            unpack_columns(words, 4, count, unpacked);
        }
        else {
            unpack_columns(words, 8, count, unpacked);
        }
        break;
    }
    return unpacked;
}

#define LOOP(type, narrowed, number)                              \
    for (ptrdiff_t at = 0; at < count; at++) {                    \
        ((type *)elements)[at] = narrowed((number) * scales[at]); \
    }                                                             \
    break

#define LOOPS(kind, number)                      \
    case 3 * (kind):                             \
        LOOP(uint16_t, narrow_bfloat16, number); \
    case 3 * (kind) + 1:                         \
        LOOP(uint16_t, narrow_float16, number);  \
    case 3 * (kind) + 2:                         \
        LOOP(float, , number)

#define DEFINE_SCALE(name, mark)                                                                 \
    mark static void name(const row_part *part, int kind, ktc_element_type type, void *elements) \
    {                                                                                            \
        uint8_t unpacked[CHUNK];                                                                 \
        const uint8_t *codes = unpack(part, unpacked);                                           \
        const float *scales = part->scales;                                                      \
        const float *zeros = part->zeros;                                                        \
        ptrdiff_t count = part->count;                                                           \
        switch (3 * kind + (type == KTC_BFLOAT16 ? 0 : (type == KTC_FLOAT16 ? 1 : 2))) {         \
            LOOPS(KTC_FLOAT8_E4M3FN, widen_e4m3fn(codes[at]));                                   \
            LOOPS(KTC_FLOAT8_E5M2, widen_e5m2(codes[at]));                                       \
            LOOPS(KTC_FLOAT4_E2M1FN, widen_e2m1fn(codes[at]));                                   \
            LOOPS(WHOLE, (float)codes[at] - zeros[at]);                                          \
        }                                                                                        \
    }

DEFINE_SCALE(scale_part, )
DEFINE_SCALE(scale_part_avx2, KTC_TARGET_AVX2)
DEFINE_SCALE(scale_part_avx512, KTC_TARGET_AVX512)

typedef void (*scale_function)(const row_part *, int, ktc_element_type, void *);

static scale_function
scale_function_of(ktc_instruction_set set)
{
    return set == KTC_AVX512 ? scale_part_avx512 : (set == KTC_AVX2 ? scale_part_avx2 : scale_part);
}

/* Where an element of the target lies: NULL for element types that are not made here. */
static void *
element_at(const ktc_decoded *target, ptrdiff_t row, ptrdiff_t column)
{
    ptrdiff_t place = row * target->columns + column;
    switch (target->type) {
    case KTC_FLOAT16:
    case KTC_BFLOAT16:
        return (uint16_t *)target->elements + place;
    case KTC_FLOAT32:
        return (float *)target->elements + place;
    default:
        return NULL;
    }
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

ktc_status
ktc_decode_floats(const ktc_float_codes *codes, const ktc_decoded *target, ktc_instruction_set set)
{
    float scales[CHUNK];
    int in_byte = codes->format == KTC_FLOAT4_E2M1FN ? 2 : 1;
    scale_function scale = scale_function_of(set);
    if (element_at(target, 0, 0) == NULL) {
        return KTC_BAD_TYPE;
    }
    const float *of_blocks = codes->scales;
    ptrdiff_t blocks =
        target->columns / codes->block_columns + (target->columns % codes->block_columns != 0);
    for (ptrdiff_t top = 0; top < target->rows; top += codes->block_rows, of_blocks += blocks) {
        ptrdiff_t bottom = top + smaller(codes->block_rows, target->rows - top);
        for (ptrdiff_t left = 0; left < target->columns; left += CHUNK) {
            row_part part = {.packing = in_byte == 2 ? HALF_BYTES : BYTES,
                             .scales = scales,
                             .count = smaller(CHUNK, target->columns - left)};
            spread_scales(of_blocks, codes->block_columns, left, part.count, scales);
            for (ptrdiff_t row = top; row < bottom; row++) {
                part.codes = codes->codes + row * codes->pitch + left / in_byte;
                scale(&part, (int)codes->format, target->type, element_at(target, row, left));
            }
        }
    }
    return KTC_OK;
}

ktc_status
ktc_decode_whole(const ktc_whole_codes *codes, const ktc_decoded *target, ktc_instruction_set set)
{
    int in_word = 32 / codes->bits;
    scale_function scale = scale_function_of(set);
    if (element_at(target, 0, 0) == NULL) {
        return KTC_BAD_TYPE;
    }
    for (ptrdiff_t row = 0; row < target->rows; row++) {
        ptrdiff_t group = codes->group_of_row[row];
        if (group < 0 || group >= codes->groups) {
            return KTC_BAD_INDEX;
        }
        for (ptrdiff_t left = 0; left < target->columns; left += CHUNK) {
            ptrdiff_t first = group * target->columns + left;
            row_part part = {.packing = codes->packs_rows ? IN_WORDS : WHOLE_WORDS,
                             .bits = codes->bits,
                             .shift = codes->bits * (int)(row % in_word),
                             .scales = codes->scales + first,
                             .zeros = codes->zeros + first,
                             .count = smaller(CHUNK, target->columns - left)};
            part.codes = codes->words + (codes->packs_rows ? row / in_word * codes->pitch + left
                                                           : row * codes->pitch + left / in_word);
            scale(&part, WHOLE, target->type, element_at(target, row, left));
        }
    }
    return KTC_OK;
}
