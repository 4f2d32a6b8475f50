/* Counts of parts and of pairs of parts over the settled pairs, then one look at each pair that is
 * to be judged. */
#include "names/patterns.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

typedef struct {
    uint64_t key; /* 0 for an empty place */
    int64_t count;
} tally;

typedef struct {
    tally *places;
    size_t room; /* a power of two, at least twice the number of keys */
    int64_t *first_counts;
    int64_t *second_counts;
    double settled; /* number of settled pairs */
} counts;

static uint64_t
key_of(int64_t first_part, int64_t second_part)
{
    return ((uint64_t)first_part << 32 | (uint64_t)second_part) + 1;
}

static tally *
place_of(const counts *found, uint64_t key)
{
    size_t place = (size_t)ktc_text_mix(UINT64_C(0x9E3779B97F4A7C15), key) & (found->room - 1);
    while (found->places[place].key != 0 && found->places[place].key != key) {
        place = (place + 1) & (found->room - 1);
    }
    return &found->places[place];
}

static size_t
part_count(const ktc_word_lists *lists, int64_t name)
{
    return (size_t)(lists->starts[name + 1] - lists->starts[name]);
}

/* Room for every pair of parts of every settled pair. */
static size_t
room_for(const ktc_naming *naming)
{
    size_t needed = 16;
    for (size_t one = 0; one < naming->first.count; one++) {
        if (naming->matched[one] >= 0) {
            needed += 2 * part_count(&naming->first, (int64_t)one) *
                      part_count(&naming->second, naming->matched[one]);
        }
    }
    size_t room = 16;
    while (room < needed) {
        room *= 2;
    }
    return room;
}

static void
count_parts(const ktc_word_lists *lists, int64_t name, int64_t *part_counts)
{
    for (int64_t index = lists->starts[name]; index < lists->starts[name + 1]; index++) {
        part_counts[lists->words[index]]++;
    }
}

static void
count_settled(const ktc_naming *naming, counts *found)
{
    const ktc_word_lists *first = &naming->first;
    const ktc_word_lists *second = &naming->second;
    for (size_t one = 0; one < first->count; one++) {
        int64_t two = naming->matched[one];
        if (two < 0) {
            continue;
        }
        found->settled += 1.0;
        count_parts(first, (int64_t)one, found->first_counts);
        count_parts(second, two, found->second_counts);
        for (int64_t left = first->starts[one]; left < first->starts[one + 1]; left++) {
            for (int64_t right = second->starts[two]; right < second->starts[two + 1]; right++) {
                uint64_t key = key_of(first->words[left], second->words[right]);
                tally *place = place_of(found, key);
                place->key = key;
                place->count++;
            }
        }
    }
}

/* What a part counts: one bit when all settled names have it, more the fewer do. */
static double
weight_of(const counts *found, int64_t with_part)
{
    return log2(1.0 + found->settled / (double)with_part);
}

static bool
has_part(const ktc_word_lists *lists, int64_t name, int64_t part)
{
    for (int64_t index = lists->starts[name]; index < lists->starts[name + 1]; index++) {
        if (lists->words[index] == part) {
            return true;
        }
    }
    return false;
}

/* A pair that is judged, and what of the counts is its own: the settled pairs of its two names,
 * which may be one. They are left out, or each name would speak for what it has already, and
 * against everything else. */
typedef struct {
    int64_t one;
    int64_t two;
    int64_t settled_two; /* of `one`, or -1 */
    int64_t settled_one; /* of `two`, or -1 when it has none or is settled with `one` */
} judged;

static int64_t
others_with_left(const ktc_naming *naming, const counts *found, const judged *pair, int64_t part)
{
    int64_t own = (pair->settled_two >= 0 && has_part(&naming->first, pair->one, part)) +
                  (pair->settled_one >= 0 && has_part(&naming->first, pair->settled_one, part));
    return found->first_counts[part] - own;
}

static int64_t
others_with_right(const ktc_naming *naming, const counts *found, const judged *pair, int64_t part)
{
    int64_t own = (pair->settled_two >= 0 && has_part(&naming->second, pair->settled_two, part)) +
                  (pair->settled_one >= 0 && has_part(&naming->second, pair->two, part));
    return found->second_counts[part] - own;
}

/* How nearly two parts, which others have as well, go together there. */
static double
together(const ktc_naming *naming, const counts *found, const judged *pair, int64_t left,
         int64_t right, int64_t sum)
{
    int64_t both = place_of(found, key_of(left, right))->count;
    if (both > 0 && pair->settled_two >= 0) {
        both -= has_part(&naming->second, pair->settled_two, right);
    }
    if (both > 0 && pair->settled_one >= 0) {
        both -= has_part(&naming->first, pair->settled_one, left);
    }
    double count = (double)both;
    return both <= 0 ? 0.0 : 2.0 * count / (double)sum * count / (count + 1.0);
}

static double
score_of(const ktc_naming *naming, const counts *found, const judged *pair)
{
    const ktc_word_lists *first = &naming->first;
    const ktc_word_lists *second = &naming->second;
    int64_t others_of_right[KTC_MOST_WORDS] = {0};
    double best_of_right[KTC_MOST_WORDS] = {0.0};
    double total = 0.0;
    double weights = 0.0;
    int64_t from = second->starts[pair->two];
    int64_t count = second->starts[pair->two + 1] - from;
    for (int64_t index = 0; index < count; index++) {
        others_of_right[index] =
            others_with_right(naming, found, pair, second->words[from + index]);
    }
    for (int64_t left = first->starts[pair->one]; left < first->starts[pair->one + 1]; left++) {
        int64_t part = first->words[left];
        int64_t others = others_with_left(naming, found, pair, part);
        double best = 0.0;
        if (others <= 0) {
            continue;
        }
        for (int64_t index = 0; index < count; index++) {
            if (others_of_right[index] > 0) {
                double value = together(naming, found, pair, part, second->words[from + index],
                                        others + others_of_right[index]);
                best = value > best ? value : best;
                best_of_right[index] = value > best_of_right[index] ? value : best_of_right[index];
            }
        }
        double weight = weight_of(found, others);
        total += weight * best;
        weights += weight;
    }
    for (int64_t index = 0; index < count; index++) {
        if (others_of_right[index] > 0) {
            double weight = weight_of(found, others_of_right[index]);
            total += weight * best_of_right[index];
            weights += weight;
        }
    }
    return weights > 0.0 ? total / weights : -1.0;
}

ktc_status
ktc_name_patterns_score(const ktc_naming *naming, const ktc_name_pairs *pairs, double *scores)
{
    ktc_status status = KTC_NO_MEMORY;
    counts found = {.room = room_for(naming)};
    int64_t *settled_by = calloc(naming->second.count + 1, sizeof *settled_by);
    found.places = calloc(found.room, sizeof *found.places);
    found.first_counts = calloc(naming->first_part_count + 1, sizeof *found.first_counts);
    found.second_counts = calloc(naming->second_part_count + 1, sizeof *found.second_counts);
    if (settled_by == NULL || found.places == NULL || found.first_counts == NULL ||
        found.second_counts == NULL) {
        goto done;
    }
    for (size_t two = 0; two < naming->second.count; two++) {
        settled_by[two] = -1;
    }
    for (size_t one = 0; one < naming->first.count; one++) {
        if (naming->matched[one] >= 0) {
            settled_by[naming->matched[one]] = (int64_t)one;
        }
    }
    count_settled(naming, &found);
    for (size_t pair = 0; pair < pairs->count; pair++) {
        judged own = {pairs->ones[pair], pairs->twos[pair], naming->matched[pairs->ones[pair]],
                      settled_by[pairs->twos[pair]]};
        own.settled_one = own.settled_one == own.one ? -1 : own.settled_one;
        scores[pair] = score_of(naming, &found, &own);
    }
    status = KTC_OK;
done:
    free(settled_by);
    free(found.places);
    free(found.first_counts);
    free(found.second_counts);
    return status;
}
