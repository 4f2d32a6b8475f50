/* Which vector instructions the kernels may use. Chosen once by the caller (module state keeps it)
 * and passed down: there is no global switch. */
#ifndef KTC_INSTRUCTION_SET_H
#define KTC_INSTRUCTION_SET_H

typedef enum {
    KTC_PORTABLE = 0, /* plain C11, on every machine */
    KTC_AVX2,         /* 256-bit registers, and conversion of half precision (F16C) */
    KTC_AVX512,       /* 512-bit registers: the foundation and the byte-and-word sets */
    KTC_INSTRUCTION_SET_COUNT
} ktc_instruction_set;

#if defined(__x86_64__) || defined(_M_X64)
#define KTC_HAS_X86 1
#endif

/* Functions that use intrinsics say so one by one, so that no file needs its own compiler flags and
 * nothing outside them can run an instruction that the machine lacks. MSVC needs no such mark. */
#if defined(KTC_HAS_X86) && (defined(__GNUC__) || defined(__clang__))
#define KTC_TARGET_AVX2 __attribute__((target("avx2,f16c")))
#define KTC_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,f16c")))
#else
#define KTC_TARGET_AVX2
#define KTC_TARGET_AVX512
#endif

/* For functions whose arguments are constants in each call, so that each becomes code of its own.
 */
#if defined(__GNUC__) || defined(__clang__)
#define KTC_INLINED static inline __attribute__((always_inline))
#else
#define KTC_INLINED static __forceinline
#endif

/* 1 when this machine (processor and operating system) can run the set, otherwise 0. */
int ktc_instruction_set_is_available(ktc_instruction_set set);

/* The widest set available. */
ktc_instruction_set ktc_instruction_set_best(void);

/* "portable", "avx2" or "avx512". */
const char *ktc_instruction_set_name(ktc_instruction_set set);

#endif
