/* Reading from a mapping whose file somebody cuts: the signal that would end the process ends the
 * reading. */
#ifndef KTC_GUARD_H
#define KTC_GUARD_H

#include "status.h"

/* To be called before and after a run of guarded work, in pairs; they may nest, and overlap in
 * several threads. The first puts our handler of SIGBUS before the one that is there, the last puts
 * that one back. */
void ktc_guard_open(void);
void ktc_guard_close(void);

/* Runs work(context) between the two. KTC_CUT_SHORT when it touched a page that its file has no
 * more: it was left in the middle, so it must own nothing and call nothing but kernels. */
ktc_status ktc_guard_run(void (*work)(void *context), void *context);

#endif
