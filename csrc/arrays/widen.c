/* Owns the loops that widen: one for each instruction set, which the compiler vectorizes. */
#include "arrays/widen.h"

#define DEFINE_LOOP(name, mark, widened)                                          \
    mark static void name(const uint16_t *source, float *target, ptrdiff_t count) \
    {                                                                             \
        for (ptrdiff_t index = 0; index < count; index++) {                       \
            target[index] = widened(source[index]);                               \
        }                                                                         \
    }

DEFINE_LOOP(widen_bfloat16, , ktc_widen_bfloat16)
DEFINE_LOOP(widen_bfloat16_avx2, KTC_TARGET_AVX2, ktc_widen_bfloat16)
DEFINE_LOOP(widen_bfloat16_avx512, KTC_TARGET_AVX512, ktc_widen_bfloat16)
DEFINE_LOOP(widen_float16, , ktc_widen_float16)
DEFINE_LOOP(widen_float16_avx2, KTC_TARGET_AVX2, ktc_widen_float16)
DEFINE_LOOP(widen_float16_avx512, KTC_TARGET_AVX512, ktc_widen_float16)

void
ktc_widen(const void *source, ktc_element_type type, void *target, ptrdiff_t count,
          ktc_instruction_set set)
{
    int is_bfloat16 = type == KTC_BFLOAT16;
    if (set == KTC_AVX512) {
        (is_bfloat16 ? widen_bfloat16_avx512 : widen_float16_avx512)(source, target, count);
    }
    else if (set == KTC_AVX2) {
        (is_bfloat16 ? widen_bfloat16_avx2 : widen_float16_avx2)(source, target, count);
    }
    else {
        (is_bfloat16 ? widen_bfloat16 : widen_float16)(source, target, count);
    }
}
