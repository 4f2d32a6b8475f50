/* Which parts of two naming schemes go together, learned from pairs of names that are settled, and
 * how well other pairs follow it. */
#ifndef KTC_NAME_PATTERNS_H
#define KTC_NAME_PATTERNS_H

#include "names/similarity.h"

/* Each name is the list of its parts (beginnings, or endings), as numbers below first_part_count
 * and second_part_count. matched[one] is the second name settled for the first name `one`, -1 for
 * none. */
typedef struct {
    ktc_word_lists first;
    ktc_word_lists second;
    size_t first_part_count;
    size_t second_part_count;
    const int64_t *matched;
} ktc_naming;

/* A pair of names to judge; its entries exist. */
typedef struct {
    const int64_t *ones;
    const int64_t *twos;
    size_t count;
} ktc_name_pairs;

/* Fills scores[pair], 0 to 1: the mean, over the parts of both names that settled pairs have, of
 * how nearly each goes together with some part of the other name. Two parts go together as Dice's
 * coefficient of the settled pairs that have them says, 2 n(both) / (n(one) + n(other)), times n /
 * (n + 1) for n(both) = n, since few settled pairs say little. A part counts log2(1 + settled pairs
 * / those that have it). The settled pairs of the two names that are judged do not count. -1 where
 * no settled pair has any of the parts. Checked: the lists, and that `matched` are names or -1,
 * each once. KTC_NO_MEMORY leaves scores undefined. */
ktc_status ktc_name_patterns_score(const ktc_naming *naming, const ktc_name_pairs *pairs,
                                   double *scores);

#endif
