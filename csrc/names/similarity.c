/* Words in common, with and without regard to their order. Names are short: the plain table of the
 * subsequence is fastest. */
#include "names/similarity.h"

#include <stdbool.h>

typedef struct {
    const int64_t *words;
    size_t count;
} phrase;

static phrase
phrase_of(const ktc_word_lists *lists, size_t name)
{
    const int64_t *words = lists->words + lists->starts[name];
    size_t count = (size_t)(lists->starts[name + 1] - lists->starts[name]);
    size_t left_out = count > KTC_MOST_WORDS ? count - KTC_MOST_WORDS : 0;
    return (phrase){words + left_out, count - left_out};
}

static double
weight_of(phrase name, const double *weights)
{
    double total = 0.0;
    for (size_t index = 0; index < name.count; index++) {
        total += weights[name.words[index]];
    }
    return total;
}

/* Weight of the heaviest common subsequence, row by row. */
static double
common_in_order(phrase first, phrase second, const double *weights)
{
    double row[KTC_MOST_WORDS + 1] = {0.0};
    for (size_t one = 0; one < first.count; one++) {
        double corner = 0.0;
        for (size_t two = 0; two < second.count; two++) {
            double above = row[two + 1];
            double best = above > row[two] ? above : row[two];
            if (first.words[one] == second.words[two] &&
                corner + weights[first.words[one]] > best) {
                best = corner + weights[first.words[one]];
            }
            row[two + 1] = best;
            corner = above;
        }
    }
    return row[second.count];
}

/* Weight of the words that both have, each as often as both have it. */
static double
common_at_all(phrase first, phrase second, const double *weights)
{
    bool taken[KTC_MOST_WORDS] = {false};
    double total = 0.0;
    for (size_t one = 0; one < first.count; one++) {
        for (size_t two = 0; two < second.count; two++) {
            if (!taken[two] && first.words[one] == second.words[two]) {
                taken[two] = true;
                total += weights[first.words[one]];
                break;
            }
        }
    }
    return total;
}

ktc_status
ktc_word_lists_check(const ktc_word_lists *lists, size_t word_count)
{
    if (lists->starts[0] != 0) {
        return KTC_BAD_INDEX;
    }
    for (size_t name = 0; name < lists->count; name++) {
        if (lists->starts[name + 1] < lists->starts[name]) {
            return KTC_BAD_INDEX;
        }
    }
    for (int64_t index = 0; index < lists->starts[lists->count]; index++) {
        if (lists->words[index] < 0 || (uint64_t)lists->words[index] >= word_count) {
            return KTC_BAD_INDEX;
        }
    }
    return KTC_OK;
}

double
ktc_name_similarity(const ktc_word_lists *first, size_t one, const ktc_word_lists *second,
                    size_t two, const double *weights)
{
    phrase left = phrase_of(first, one);
    phrase right = phrase_of(second, two);
    double together = weight_of(left, weights) + weight_of(right, weights);
    if (!(together > 0.0)) {
        return 0.0;
    }
    return (common_in_order(left, right, weights) + common_at_all(left, right, weights)) / together;
}
