/* Names as numbers: words in common, and what settled pairs teach about two naming schemes. */
#include <math.h>

#include "check.h"
#include "names/patterns.h"

static void
test_similarity_is_the_mean_of_common_words_in_order_and_at_all(void)
{
    const double weights[] = {1.0, 2.0, 4.0};
    const int64_t starts[] = {0, 2, 4, 4, 5};
    const int64_t words[] = {0, 1, 1, 0, 2};
    const ktc_word_lists names = {starts, words, 4};
    CHECK(ktc_word_lists_check(&names, 3) == KTC_OK);
    CHECK(ktc_word_lists_check(&names, 2) == KTC_BAD_INDEX);
    CHECK(fabs(ktc_name_similarity(&names, 0, &names, 0, weights) - 1.0) < 1e-12);
    /* (0 1) and (1 0): all in common, 2 of 3 in order. */
    CHECK(fabs(ktc_name_similarity(&names, 0, &names, 1, weights) - (2.0 + 3.0) / 6.0) < 1e-12);
    CHECK(ktc_name_similarity(&names, 0, &names, 3, weights) < 1e-12);
    CHECK(ktc_name_similarity(&names, 2, &names, 2, weights) < 1e-12);
}

static void
test_of_a_long_name_the_last_words_count(void)
{
    enum { LONG = KTC_MOST_WORDS + 8 };
    const double weights[] = {1.0, 1.0};
    int64_t words[LONG] = {0};
    const int64_t starts[] = {0, LONG};
    words[LONG - 1] = 1;
    const ktc_word_lists names = {starts, words, 1};
    CHECK(fabs(ktc_name_similarity(&names, 0, &names, 0, weights) - 1.0) < 1e-12);
}

static void
test_settled_pairs_teach_others_and_not_themselves(void)
{
    /* Names 0 and 1 on both sides end with part 0 and 1 on the first, 1 and 0 on the second side,
     * and so do 2 and 3. */
    const int64_t starts[] = {0, 1, 2, 3, 4};
    const int64_t first_parts[] = {0, 1, 0, 1};
    const int64_t second_parts[] = {1, 0, 1, 0};
    const int64_t matched[] = {0, 1, -1, -1};
    const ktc_naming naming = {{starts, first_parts, 4}, {starts, second_parts, 4}, 2, 2, matched};
    const int64_t ones[] = {2, 2, 0, 3};
    const int64_t twos[] = {2, 3, 0, 3};
    const ktc_name_pairs pairs = {ones, twos, 4};
    double scores[4];
    CHECK(ktc_name_patterns_score(&naming, &pairs, scores) == KTC_OK);
    CHECK(fabs(scores[0] - 0.5) < 1e-12); /* Dice's coefficient 1, times 1 / 2 for one pair */
    CHECK(fabs(scores[1]) < 1e-12);
    CHECK(scores[2] < 0.0); /* nothing but itself has its parts */
    CHECK(fabs(scores[3] - 0.5) < 1e-12);
}

int
main(int count, char **arguments)
{
    (void)random_from_arguments(count, arguments);
    test_similarity_is_the_mean_of_common_words_in_order_and_at_all();
    test_of_a_long_name_the_last_words_count();
    test_settled_pairs_teach_others_and_not_themselves();
    return 0;
}
