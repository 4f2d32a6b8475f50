/* One alignment stage on bare numbers: every element of a list stays or is moved, and the new order
 * comes out. */
#ifndef KTC_MOVES_H
#define KTC_MOVES_H

#include "status.h"
#include "names/text.h"

/* As a place: the element is not moved. */
#define KTC_STAYS ((int64_t)-1)

/* What Python's list.insert makes of a place in a list of `count` elements: negative ones count
 * from the end, and whatever lies outside goes to the nearer end. The answer is between 0 and
 * count. */
int64_t ktc_moves_clip(int64_t place, size_t count);

/* The first element that moves to a place after its own index, or KTC_NO_INDEX. */
size_t ktc_moves_find_forward(const int64_t *places, size_t count);

/* Plays the stage. A list of `count` empty places is filled element by element: element i with
 * KTC_STAYS is written at place i; any other is inserted at its place, and all from there on shift
 * by one. order[place] becomes the element that ends there. No element may move forward: that would
 * leave a hole which nothing fills later, and for each hole one element would fall off the end. */
void ktc_moves_play(const int64_t *places, size_t count, uint32_t *order);

#endif
