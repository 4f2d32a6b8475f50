/* Two threads at one piece of work, and the locks that they need. */
#ifndef KTC_PAIR_H
#define KTC_PAIR_H

#ifdef _WIN32
typedef int ktc_lock;
#define KTC_LOCK_FREE 0
#else
#include <pthread.h>
typedef pthread_mutex_t ktc_lock;
#define KTC_LOCK_FREE PTHREAD_MUTEX_INITIALIZER
#endif

/* Nothing on Windows, where there is never a second thread. */
void ktc_lock_take(ktc_lock *lock);
void ktc_lock_give(ktc_lock *lock);

/* 1 when this process may use a second processor. */
int ktc_pair_is_worthwhile(void);

/* Runs work(own) here and work(other) in a thread of its own, which takes no signal that another
 * one can take, and returns when both are done. Where no thread can be had work(other) is not run,
 * so both must take what they do from one list. */
void ktc_pair_run(void (*work)(void *context), void *own, void *other);

#endif
