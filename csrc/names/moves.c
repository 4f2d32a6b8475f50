/* Few and short moves are played as they come. Others are played backwards: shifting a list for
 * every move would cost the square of its length. Instead every insertion is given a slot of its
 * own in a list that nothing falls off: count slots plus one for each insertion. Once the last
 * element is handled all slots exist; going back through the elements, each finds its slot as the
 * k-th of those that existed at its time, and an insertion's slot is then struck out, because
 * before it the slot was not there. The first to claim a slot on the way back is the last that was
 * written to it. What ends in the first `count` slots is the result. */
#include "names/moves.h"

#include <stdlib.h>
#include <string.h>

int64_t
ktc_moves_clip(int64_t place, size_t count)
{
    if (place < 0) {
        place += (int64_t)count;
    }
    if (place < 0) {
        return 0;
    }
    return place > (int64_t)count ? (int64_t)count : place;
}

size_t
ktc_moves_find_forward(const int64_t *places, size_t count)
{
    for (size_t index = 0; index < count; index++) {
        if (places[index] > (int64_t)index) {
            return index;
        }
    }
    return KTC_NO_INDEX;
}

/* The slots that exist: a bit for each, and a binary tree with the number of bits set below every
 * node. */
typedef struct {
    uint64_t *words;
    uint32_t *totals; /* node 1 is the root, node k has the children 2k and 2k + 1, the leaves are
                         the words */
    size_t leaf_count;
} slot_set;

static int
bits_set(uint64_t word)
{
    word -= (word >> 1) & UINT64_C(0x5555555555555555);
    word = (word & UINT64_C(0x3333333333333333)) + ((word >> 2) & UINT64_C(0x3333333333333333));
    word = (word + (word >> 4)) & UINT64_C(0x0F0F0F0F0F0F0F0F);
    return (int)((word * UINT64_C(0x0101010101010101)) >> 56);
}

static void
slot_set_free(slot_set *slots)
{
    free(slots->words);
    free(slots->totals);
}

static ktc_status
slot_set_create(slot_set *slots, size_t count)
{
    *slots = (slot_set){0};
    if (count > UINT32_MAX) {
        return KTC_OVERFLOW;
    }
    slots->leaf_count = 1;
    while (slots->leaf_count * 64 < count) {
        slots->leaf_count *= 2;
    }
    slots->words = calloc(slots->leaf_count, sizeof *slots->words);
    slots->totals = calloc(2 * slots->leaf_count, sizeof *slots->totals);
    if (slots->words == NULL || slots->totals == NULL) {
        slot_set_free(slots);
        return KTC_NO_MEMORY;
    }
    for (size_t word = 0; word < slots->leaf_count; word++) {
        size_t first = word * 64;
        if (first < count) {
            slots->words[word] =
                count - first >= 64 ? UINT64_MAX : (UINT64_C(1) << (count - first)) - 1;
        }
        slots->totals[slots->leaf_count + word] = (uint32_t)bits_set(slots->words[word]);
    }
    for (size_t node = slots->leaf_count - 1; node > 0; node--) {
        slots->totals[node] = slots->totals[2 * node] + slots->totals[2 * node + 1];
    }
    return KTC_OK;
}

/* Position of the bit number `rank` (from 0) among those set in the word. */
static size_t
bit_in_word(uint64_t word, uint32_t rank)
{
    size_t position = 0;
    for (int width = 32; width > 0; width /= 2) {
        uint64_t lower = word & ((UINT64_C(1) << width) - 1);
        uint32_t below = (uint32_t)bits_set(lower);
        if (rank < below) {
            word = lower;
        }
        else {
            rank -= below;
            word >>= width;
            position += (size_t)width;
        }
    }
    return position;
}

/* The slot number `rank` (from 0) of those that exist, struck out when `strike` is set. There must
 * be that many. */
static size_t
slot_set_select(slot_set *slots, size_t rank, bool strike)
{
    uint32_t left = (uint32_t)rank;
    size_t node = 1;
    slots->totals[node] -= strike;
    while (node < slots->leaf_count) {
        node *= 2;
        if (left >= slots->totals[node]) {
            left -= slots->totals[node];
            node++;
        }
        slots->totals[node] -= strike;
    }
    size_t word = node - slots->leaf_count;
    size_t bit = bit_in_word(slots->words[word], left);
    if (strike) {
        slots->words[word] &= ~(UINT64_C(1) << bit);
    }
    return word * 64 + bit;
}

/* Steps over which plain shifting goes, for each name on average, before the slots are the quicker
 * way. */
#define SHIFTED_EACH 8

/* 1 when every move leads backwards, and all of them together not far. */
static int
moves_are_short(const int64_t *places, size_t count)
{
    size_t steps = 0;
    for (size_t index = 0; index < count; index++) {
        if (places[index] == KTC_STAYS) {
            continue;
        }
        if (places[index] > (int64_t)index) {
            return 0;
        }
        steps += index - (size_t)places[index];
    }
    return steps / SHIFTED_EACH <= count;
}

/* Short moves backwards: whatever is behind the names placed so far is still empty, so inserting
 * shifts those few names only. */
static void
play_by_shifting(const int64_t *places, size_t count, size_t *order)
{
    for (size_t index = 0; index < count; index++) {
        size_t place = places[index] == KTC_STAYS ? index : (size_t)places[index];
        memmove(order + place + 1, order + place, (index - place) * sizeof *order);
        order[place] = index;
    }
}

ktc_status
ktc_moves_play(const int64_t *places, size_t count, size_t *order)
{
    size_t moved = 0;
    if (moves_are_short(places, count)) {
        play_by_shifting(places, count, order);
        return KTC_OK;
    }
    for (size_t index = 0; index < count; index++) {
        moved += places[index] != KTC_STAYS;
        order[index] = KTC_NO_INDEX;
    }
    slot_set slots;
    ktc_status status = slot_set_create(&slots, count + moved);
    if (status != KTC_OK) {
        return status;
    }
    for (size_t index = count; index > 0; index--) {
        int64_t place = places[index - 1];
        bool inserted = place != KTC_STAYS;
        size_t slot = slot_set_select(&slots, inserted ? (size_t)place : index - 1, inserted);
        if (slot < count && order[slot] == KTC_NO_INDEX) {
            order[slot] = index - 1;
        }
    }
    slot_set_free(&slots);
    return KTC_OK;
}
