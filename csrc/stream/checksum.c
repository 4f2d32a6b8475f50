/* Owns the arithmetic of the checksum, and the walk over a file that it is of. */
#include "stream/checksum.h"

#include <string.h>

#include "stream/pair.h"
#include "stream/positional.h"

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define KTC_HAS_SSE2
#endif

/* What the numbers of two neighboring words differ by, before the last bit is set: it goes through
 * all of 2^32 and is far from any simple fraction of that. */
#define STEP 0x9E3779B1u

static uint64_t
product(uint32_t word, uint32_t number)
{
    return (uint64_t)word * (number | 1);
}

/* Of up to 4 bytes of one word, `lead` bytes behind its start. */
static uint64_t
sum_partly(const char *bytes, size_t length, size_t lead, uint32_t number)
{
    uint32_t word = 0;
    memcpy((char *)&word + lead, bytes, length);
    return product(word, number);
}

#ifdef KTC_HAS_SSE2
#define TOGETHER 32

static __m128i
sum_four(const char *bytes, __m128i numbers, __m128i sum)
{
    const __m128i one = _mm_set1_epi32(1);
    __m128i words = _mm_loadu_si128((const __m128i *)bytes);
    numbers = _mm_or_si128(numbers, one);
    sum = _mm_add_epi64(sum, _mm_mul_epu32(words, numbers));
    return _mm_add_epi64(sum,
                         _mm_mul_epu32(_mm_srli_epi64(words, 32), _mm_srli_epi64(numbers, 32)));
}

/* Of as many whole words as are taken together. */
static uint64_t
sum_together(const char *bytes, ptrdiff_t length, uint32_t number)
{
    const __m128i step = _mm_set1_epi32((int)(4 * STEP));
    __m128i numbers = _mm_setr_epi32((int)number, (int)(number + STEP), (int)(number + 2 * STEP),
                                     (int)(number + 3 * STEP));
    __m128i even = _mm_setzero_si128();
    __m128i odd = _mm_setzero_si128();
    for (const char *end = bytes + length; bytes < end; bytes += TOGETHER) {
        even = sum_four(bytes, numbers, even);
        numbers = _mm_add_epi32(numbers, step);
        odd = sum_four(bytes + 16, numbers, odd);
        numbers = _mm_add_epi32(numbers, step);
    }
    uint64_t sums[2];
    _mm_storeu_si128((__m128i *)sums, _mm_add_epi64(even, odd));
    return sums[0] + sums[1];
}
#else
#define TOGETHER 4

static uint64_t
sum_together(const char *bytes, ptrdiff_t length, uint32_t number)
{
    uint64_t sum = 0;
    for (ptrdiff_t place = 0; place < length; place += 4, number += STEP) {
        sum += sum_partly(bytes + place, 4, 0, number);
    }
    return sum;
}
#endif

uint64_t
ktc_checksum(const char *bytes, ptrdiff_t length, uint64_t position)
{
    uint32_t number = (uint32_t)(position / 4) * STEP;
    size_t lead = (size_t)(position % 4);
    uint64_t sum = 0;
    if (lead != 0) {
        ptrdiff_t count = length < (ptrdiff_t)(4 - lead) ? length : (ptrdiff_t)(4 - lead);
        sum = sum_partly(bytes, (size_t)count, lead, number);
        bytes += count;
        length -= count;
        number += STEP;
    }
    ptrdiff_t whole = length - length % TOGETHER;
    sum += sum_together(bytes, whole, number);
    number += (uint32_t)(whole / 4) * STEP;
    for (ptrdiff_t place = whole; place < length; place += 4, number += STEP) {
        sum +=
            sum_partly(bytes + place, (size_t)(length - place < 4 ? length - place : 4), 0, number);
    }
    return sum;
}

/* What is read at a time: it stays in the second-level cache until it is summed. */
#define READ_PART ((ptrdiff_t)1 << 18)

/* From so many bytes on two threads read. */
#define PAIR_BYTES ((ptrdiff_t)4 << 20)

/* What the threads share. */
typedef struct {
    ktc_lock lock;
    ktc_file_part *part; /* what is left of it */
    uint64_t checksum;
    ktc_status status; /* of the first thing that went wrong */
} walk;

typedef struct {
    walk *walk;
    char *buffer;
    ptrdiff_t size;
} reader;

/* Sums parts as long as any is left. */
static void
parts_sum(void *context)
{
    reader *own = context;
    walk *shared = own->walk;
    ktc_file_part *part = shared->part;
    ktc_lock_take(&shared->lock);
    while (part->length > 0 && shared->status == KTC_OK) {
        int64_t position = part->position;
        ptrdiff_t count = part->length < own->size ? part->length : own->size;
        int error_number = 0;
        part->position += count;
        part->length -= count;
        ktc_lock_give(&shared->lock);
        ktc_status status =
            ktc_read_at(part->descriptor, own->buffer, count, position, &error_number);
        uint64_t checksum =
            status == KTC_OK ? ktc_checksum(own->buffer, count, (uint64_t)position) : 0;
        ktc_lock_take(&shared->lock);
        shared->checksum += checksum;
        if (status != KTC_OK && shared->status == KTC_OK) {
            shared->status = status;
            part->error_number = error_number;
        }
    }
    ktc_lock_give(&shared->lock);
}

ktc_status
ktc_checksum_of_file(ktc_file_part *part, uint64_t *checksum)
{
    walk shared = {.lock = KTC_LOCK_FREE, .part = part};
    ptrdiff_t half = part->size / 2 < READ_PART ? part->size / 2 : READ_PART;
    reader own = {&shared, part->buffer, half};
    reader other = {&shared, part->buffer + half, half};
    if (part->length >= PAIR_BYTES && ktc_pair_is_worthwhile()) {
        ktc_pair_run(parts_sum, &own, &other);
    }
    else {
        parts_sum(&own);
    }
    *checksum = shared.checksum;
    return shared.status;
}
