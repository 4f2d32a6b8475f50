/* The loops over 16 codes that AVX2 and AVX-512 share. Small floats of 8 bits are, shifted, numbers
 * of half precision, which the processor widens, subnormal ones too.
 *
 * A template, included once by dequantize_row_avx2.c and once by dequantize_row_avx512.c, which
 * before that define WIDE_TARGET, the mark of functions that use the set, INLINED and, of 16
 * numbers each:
 *   numbers              their type
 *   load, store_floats   float32 from and to any address
 *   spread               the same number 16 times
 *   subtract, multiply   of two
 *   widen_halves         out of half precision
 *   widen_bytes          out of whole numbers of a byte
 *   widen_words          out of some bits of words
 *   widen_bfloat16       out of bfloat16
 *   round_bfloat16, round_float16   to the nearest, even ones where two are as near
 */
#ifdef WIDE_TARGET

/* Codes at a time. */
#define STEP 16

INLINED numbers
ktc_row_widen_e5m2(__m128i codes)
{
    return widen_halves(_mm256_slli_epi16(_mm256_cvtepu8_epi16(codes), 8));
}

INLINED numbers
ktc_row_widen_e4m3fn(__m128i codes)
{
    __m256i most = _mm256_set1_epi16(0x3F80);
    /* The sign is spread over the upper byte; one copy of it stays. */
    __m256i halves = _mm256_and_si256(_mm256_slli_epi16(_mm256_cvtepi8_epi16(codes), 7),
                                      _mm256_set1_epi16((short)0xBF80));
    __m256i is_nan = _mm256_cmpeq_epi16(_mm256_and_si256(halves, most), most);
    halves = _mm256_or_si256(halves, _mm256_and_si256(is_nan, _mm256_set1_epi16(0x7E00)));
    /* Exponents of half precision count from another number. */
    return multiply(widen_halves(halves), spread(256.0f));
}

/* Lower halves of eight bytes before upper ones: bytes 0 to 7, 8 to 15. */
INLINED __m128i
ktc_row_half_bytes(const uint8_t *codes)
{
    __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)codes);
    __m128i low = _mm_set1_epi8(15);
    return _mm_unpacklo_epi64(_mm_and_si128(bytes, low),
                              _mm_and_si128(_mm_srli_epi16(bytes, 4), low));
}

/* Codes in bytes. */
INLINED numbers
ktc_row_widen_e2m1fn(__m128i codes)
{
    /* The upper bytes of 0, 0.5, 1, 1.5, 2, 3, 4 and 6 in half precision. */
    const __m128i table =
        _mm_setr_epi8(0x00, 0x38, 0x3C, 0x3E, 0x40, 0x42, 0x44, 0x46, (char)0x80, (char)0xB8,
                      (char)0xBC, (char)0xBE, (char)0xC0, (char)0xC2, (char)0xC4, (char)0xC6);
    return ktc_row_widen_e5m2(_mm_shuffle_epi8(table, codes));
}

/* The numbers of 16 columns from `at` on, before zeros and factors. */
INLINED numbers
ktc_row_widen(const ktc_row *row, ktc_row_codes kind, ptrdiff_t at)
{
    const uint8_t *bytes = row->codes;
    const uint32_t *words = row->codes;
    const __m128i in_turn = _mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    const __m128i awq_of_8 = _mm_setr_epi8(0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15);
    const __m128i awq_of_4 = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
    switch (kind) {
    case E4M3FN:
        return ktc_row_widen_e4m3fn(_mm_loadu_si128((const __m128i *)(const void *)(bytes + at)));
    case E5M2:
        return ktc_row_widen_e5m2(_mm_loadu_si128((const __m128i *)(const void *)(bytes + at)));
    case E2M1FN:
        return ktc_row_widen_e2m1fn(_mm_shuffle_epi8(ktc_row_half_bytes(bytes + at / 2), in_turn));
    case E2M1FN_IN_BYTES:
        return ktc_row_widen_e2m1fn(_mm_and_si128(
            _mm_srl_epi16(_mm_loadu_si128((const __m128i *)(const void *)(bytes + at)),
                          _mm_cvtsi32_si128(row->shift)),
            _mm_set1_epi8(15)));
    case WORDS_OF_8:
        return widen_bytes(_mm_shuffle_epi8(ktc_row_half_bytes(bytes + at / 2), awq_of_8));
    case WORDS_OF_4:
        return widen_bytes(_mm_shuffle_epi8(
            _mm_loadu_si128((const __m128i *)(const void *)(bytes + at)), awq_of_4));
    default:
        return widen_words(words + at, row->bits, row->shift);
    }
}

INLINED void
ktc_row_store(numbers found, ktc_row_numbers wanted, void *target, ptrdiff_t at)
{
    __m256i *halves = (__m256i *)(void *)((uint16_t *)target + at);
    float *floats = (float *)target + at;
    switch (wanted) {
    case TO_BFLOAT16:
        _mm256_storeu_si256(halves, round_bfloat16(found));
        return;
    case TO_FLOAT16:
        _mm256_storeu_si256(halves, round_float16(found));
        return;
    case BY_BFLOAT16:
        store_floats(floats, widen_bfloat16(round_bfloat16(found)));
        return;
    case BY_FLOAT16:
        store_floats(floats, widen_halves(round_float16(found)));
        return;
    default:
        store_floats(floats, found);
    }
}

/* `is_shared`: registers of columns have one factor. */
INLINED ptrdiff_t
ktc_row_decode_as(const ktc_row *row, ktc_row_codes kind, ktc_row_numbers wanted, int is_shared)
{
    ptrdiff_t end = row->count - row->count % STEP;
    for (ptrdiff_t at = 0; at < end;) {
        numbers scales = spread(row->scales[is_shared ? at / row->scale_columns : 0]);
        ptrdiff_t run = is_shared ? at + row->scale_columns : end;
        for (run = run < end ? run : end; at < run; at += STEP) {
            numbers found = ktc_row_widen(row, kind, at);
            if (kind >= IN_WORDS) {
                found = subtract(found, load(row->zeros + at));
            }
            found = multiply(found, is_shared ? scales : load(row->scales + at));
            ktc_row_store(found, wanted, row->numbers, at);
        }
    }
    return end;
}

#define KTC_ROW_DECODE(kind, wanted)                              \
    (kind) < IN_WORDS && row->scale_columns > 1                   \
        ? ktc_row_decode_as(row, kind, wanted, (kind) < IN_WORDS) \
        : ktc_row_decode_as(row, kind, wanted, 0)

/* With constants, so that each loop is one of its own. */
#define KTC_ROW_DEFINE(name, kind)                        \
    WIDE_TARGET static ptrdiff_t name(const ktc_row *row) \
    {                                                     \
        switch (row->wanted) {                            \
        case TO_BFLOAT16:                                 \
            return KTC_ROW_DECODE(kind, TO_BFLOAT16);     \
        case TO_FLOAT16:                                  \
            return KTC_ROW_DECODE(kind, TO_FLOAT16);      \
        case BY_BFLOAT16:                                 \
            return KTC_ROW_DECODE(kind, BY_BFLOAT16);     \
        case BY_FLOAT16:                                  \
            return KTC_ROW_DECODE(kind, BY_FLOAT16);      \
        default:                                          \
            return KTC_ROW_DECODE(kind, TO_FLOAT32);      \
        }                                                 \
    }

KTC_ROW_DEFINE(ktc_row_decode_e4m3fn, E4M3FN)
KTC_ROW_DEFINE(ktc_row_decode_e5m2, E5M2)
KTC_ROW_DEFINE(ktc_row_decode_e2m1fn, E2M1FN)
KTC_ROW_DEFINE(ktc_row_decode_e2m1fn_in_bytes, E2M1FN_IN_BYTES)
KTC_ROW_DEFINE(ktc_row_decode_in_words, IN_WORDS)
KTC_ROW_DEFINE(ktc_row_decode_words_of_8, WORDS_OF_8)
KTC_ROW_DEFINE(ktc_row_decode_words_of_4, WORDS_OF_4)

static ptrdiff_t
ktc_row_decode_wide(const ktc_row *row)
{
    switch (row->kind) {
    case E4M3FN:
        return ktc_row_decode_e4m3fn(row);
    case E5M2:
        return ktc_row_decode_e5m2(row);
    case E2M1FN:
        return ktc_row_decode_e2m1fn(row);
    case E2M1FN_IN_BYTES:
        return ktc_row_decode_e2m1fn_in_bytes(row);
    case IN_WORDS:
        return ktc_row_decode_in_words(row);
    case WORDS_OF_8:
        return ktc_row_decode_words_of_8(row);
    default:
        return ktc_row_decode_words_of_4(row);
    }
}

#endif
