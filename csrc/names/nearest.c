/* Likeness by common beginning and ending, one pass over the names. */
#include "names/nearest.h"

/* Bytes in common at the beginning and, apart from those, at the end. */
static size_t
shared_bytes(ktc_text first, ktc_text second)
{
    size_t shorter = first.length < second.length ? first.length : second.length;
    size_t beginning = 0;
    while (beginning < shorter && first.bytes[beginning] == second.bytes[beginning]) {
        beginning++;
    }
    size_t ending = 0;
    while (ending < shorter - beginning &&
           first.bytes[first.length - 1 - ending] == second.bytes[second.length - 1 - ending]) {
        ending++;
    }
    return beginning + ending;
}

/* Likeness as a fraction, 2 * shared / (sum of lengths), compared without rounding. */
typedef struct {
    size_t shared;
    size_t total;
} likeness;

static bool
more_alike(likeness first, likeness second)
{
    return (uint64_t)first.shared * second.total > (uint64_t)second.shared * first.total;
}

static likeness
measure(ktc_text name, ktc_text wanted)
{
    return (likeness){shared_bytes(name, wanted), name.length + wanted.length};
}

static bool
is_listed(const ktc_text *names, const size_t *nearest, size_t found, ktc_text name)
{
    for (size_t place = 0; place < found; place++) {
        if (ktc_text_equals(names[nearest[place]], name)) {
            return true;
        }
    }
    return false;
}

size_t
ktc_name_nearest_find(const ktc_text *names, size_t count, ktc_text wanted, size_t limit,
                      size_t *nearest)
{
    const likeness least = {1, 4}; /* half of both names */
    size_t found = 0;
    for (size_t index = 0; index < count; index++) {
        likeness own = measure(names[index], wanted);
        bool full = found == limit;
        if (limit == 0 || more_alike(least, own) ||
            (full && !more_alike(own, measure(names[nearest[found - 1]], wanted))) ||
            is_listed(names, nearest, found, names[index])) {
            continue;
        }
        size_t place = full ? found - 1 : found++;
        while (place > 0 && more_alike(own, measure(names[nearest[place - 1]], wanted))) {
            nearest[place] = nearest[place - 1];
            place--;
        }
        nearest[place] = index;
    }
    return found;
}
