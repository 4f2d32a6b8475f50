/* Which existing names a mistyped one may have meant. */
#ifndef KTC_NAME_NEAREST_H
#define KTC_NAME_NEAREST_H

#include "names/text.h"

/* Fills `nearest` with the indices of at most `limit` different names like `wanted`, the most alike
 * first, and returns how many. Alike means that common beginning and common ending together make up
 * at least half of both names: right for the usual slips (a letter wrong, missing or too many,
 * another number) and linear in the length of all names. */
size_t ktc_name_nearest_find(const ktc_text *names, size_t count, ktc_text wanted, size_t limit,
                             size_t *nearest);

#endif
