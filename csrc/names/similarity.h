/* How alike two names are, as sequences of words that are numbers already. */
#ifndef KTC_NAME_SIMILARITY_H
#define KTC_NAME_SIMILARITY_H

#include <stdint.h>

#include "status.h"
#include "names/text.h"

/* A name has no more words than this; a longer one is compared by its last ones, which tell its
 * layer. */
#define KTC_MOST_WORDS 32

/* Names as sequences of words: words starts[name] to starts[name + 1]. */
typedef struct {
    const int64_t *starts;
    const int64_t *words;
    size_t count;
} ktc_word_lists;

/* KTC_BAD_INDEX for lists that do not grow or words that are not below word_count. */
ktc_status ktc_word_lists_check(const ktc_word_lists *lists, size_t word_count);

/* 0 for names without a common word, 1 for equal ones: the mean of two fractions of the weight of
 * both names, what they have in common in the same order (longest common subsequence) and what they
 * have in common at all. weights[word] is positive. */
double ktc_name_similarity(const ktc_word_lists *first, size_t one, const ktc_word_lists *second,
                           size_t two, const double *weights);

#endif
