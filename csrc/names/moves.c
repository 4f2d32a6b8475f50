/* Owns the order that moves lead to. */
#include "names/moves.h"

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

void
ktc_moves_play(const int64_t *places, size_t count, uint32_t *order)
{
    /* The list has a gap where the last element was inserted: [0, front) and the last `back` of
     * `order` are its two parts. Only what lies between two places that follow each other moves. */
    size_t front = 0;
    size_t back = 0;
    for (size_t index = 0; index < count; index++) {
        size_t place = places[index] == KTC_STAYS ? index : (size_t)places[index];
        uint32_t *rest = order + (count - back);
        if (place < front) {
            size_t moved = front - place;
            memmove(rest - moved, order + place, moved * sizeof *order);
            back += moved;
        }
        else if (place > front) {
            size_t moved = place - front;
            memmove(order + front, rest, moved * sizeof *order);
            back -= moved;
        }
        order[place] = (uint32_t)index;
        front = place + 1;
    }
}
