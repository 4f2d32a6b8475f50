/* Owns the questions to the processor; what to do with the answers is the caller's. */
#include "arrays/instruction_set.h"

#if defined(KTC_HAS_X86) && defined(_MSC_VER) && !defined(__clang__)
#include <immintrin.h>
#include <intrin.h>

/* The processor has the set (leaf 7) and F16C (leaf 1), and the operating system saves its
 * registers (extended control register 0). */
static int
processor_has(ktc_instruction_set set)
{
    int registers[4];
    __cpuid(registers, 0);
    if (registers[0] < 7) {
        return 0;
    }
    __cpuid(registers, 1);
    if ((registers[2] & (1 << 27)) == 0 || (registers[2] & (1 << 29)) == 0) {
        return 0;
    }
    unsigned long long saved = _xgetbv(0);
    __cpuidex(registers, 7, 0);
    if (set == KTC_AVX2) {
        return (saved & 0x6) == 0x6 && (registers[1] & (1 << 5)) != 0;
    }
    return (saved & 0xE6) == 0xE6 && (registers[1] & (1 << 16)) != 0 &&
           (registers[1] & (1 << 30)) != 0;
}
#elif defined(KTC_HAS_X86)
#include <cpuid.h>

static int
processor_has(ktc_instruction_set set)
{
    unsigned registers[4];
    if (!__get_cpuid(1, &registers[0], &registers[1], &registers[2], &registers[3]) ||
        (registers[2] & bit_F16C) == 0) {
        return 0;
    }
    __builtin_cpu_init();
    if (set == KTC_AVX2) {
        return __builtin_cpu_supports("avx2") != 0;
    }
    return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0;
}
#else
static int
processor_has(ktc_instruction_set set)
{
    (void)set;
    return 0;
}
#endif

int
ktc_instruction_set_is_available(ktc_instruction_set set)
{
    if (set == KTC_PORTABLE) {
        return 1;
    }
    if (set != KTC_AVX2 && set != KTC_AVX512) {
        return 0;
    }
    return processor_has(set);
}

ktc_instruction_set
ktc_instruction_set_best(void)
{
    if (ktc_instruction_set_is_available(KTC_AVX512)) {
        return KTC_AVX512;
    }
    return ktc_instruction_set_is_available(KTC_AVX2) ? KTC_AVX2 : KTC_PORTABLE;
}

const char *
ktc_instruction_set_name(ktc_instruction_set set)
{
    switch (set) {
    case KTC_AVX2:
        return "avx2";
    case KTC_AVX512:
        return "avx512";
    default:
        return "portable";
    }
}
