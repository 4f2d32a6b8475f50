/* 16-bit floating-point numbers as float32, which holds each of them exactly. */
#ifndef KTC_WIDEN_H
#define KTC_WIDEN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "arrays/element_type.h"
#include "arrays/instruction_set.h"

static inline uint32_t
ktc_bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float
ktc_float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float
ktc_widen_bfloat16(uint16_t half)
{
    return ktc_float_of_bits((uint32_t)half << 16);
}

/* Branches only as selections, so that compilers can vectorize loops over it. */
static inline float
ktc_widen_float16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t magnitude = (uint32_t)(half & 0x7FFFu) << 13;
    /* Exponents count from 15 in a half, from 127 in a float; infinities and NaN keep the largest
     * exponent. */
    uint32_t normal = magnitude + ((127u - 15u) << 23);
    uint32_t special = magnitude | 0x7F800000u;
    /* A subnormal half is its fraction times 2^-24: put the fraction below a known float and
     * subtract that float. */
    float above = ktc_float_of_bits(magnitude + (113u << 23)) - ktc_float_of_bits(113u << 23);
    uint32_t subnormal = ktc_bits_of_float(above);
    uint32_t chosen = magnitude >= (31u << 23) ? special : normal;
    chosen = magnitude < (1u << 23) ? subnormal : chosen;
    return ktc_float_of_bits(chosen | sign);
}

/* `count` contiguous elements of KTC_FLOAT16 or KTC_BFLOAT16, both sides aligned and apart from
 * each other. `set` must be available. */
void ktc_widen(const void *source, ktc_element_type type, void *target, ptrdiff_t count,
               ktc_instruction_set set);

#endif
