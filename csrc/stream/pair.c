/* Owns the second thread, from its start to its end within one call. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif

#include "stream/pair.h"

#ifdef _WIN32

void
ktc_lock_take(ktc_lock *lock)
{
    (void)lock;
}

void
ktc_lock_give(ktc_lock *lock)
{
    (void)lock;
}

int
ktc_pair_is_worthwhile(void)
{
    return 0;
}

void
ktc_pair_run(void (*work)(void *context), void *own, void *other)
{
    (void)other;
    work(own);
}

#else

#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

/* Kernels keep blocks of some 100 KiB on the stack; some systems give a thread no more than that.
 */
#define STACK_BYTES ((size_t)1 << 20)

void
ktc_lock_take(ktc_lock *lock)
{
    (void)pthread_mutex_lock(lock);
}

void
ktc_lock_give(ktc_lock *lock)
{
    (void)pthread_mutex_unlock(lock);
}

int
ktc_pair_is_worthwhile(void)
{
#ifdef __linux__
    cpu_set_t usable;
    if (sched_getaffinity(0, sizeof usable, &usable) == 0) {
        return CPU_COUNT(&usable) > 1;
    }
#endif
    return sysconf(_SC_NPROCESSORS_ONLN) > 1;
}

typedef struct {
    void (*work)(void *context);
    void *context;
} task;

static void *
task_run(void *pointer)
{
    const task *one = pointer;
    one->work(one->context);
    return NULL;
}

/* Starts a thread: 1, or 0 when there is none to be had. */
static int
thread_start(pthread_t *thread, task *one)
{
    pthread_attr_t attributes;
    sigset_t before;
    sigset_t others;
    if (pthread_attr_init(&attributes) != 0) {
        return 0;
    }
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    /* A new thread inherits what is blocked. What a faulty instruction raises never is. */
    (void)sigfillset(&others);
    (void)sigdelset(&others, SIGBUS);
    (void)sigdelset(&others, SIGFPE);
    (void)sigdelset(&others, SIGILL);
    (void)sigdelset(&others, SIGSEGV);
    (void)pthread_sigmask(SIG_BLOCK, &others, &before);
    int is_started = pthread_create(thread, &attributes, task_run, one) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return is_started;
}

void
ktc_pair_run(void (*work)(void *context), void *own, void *other)
{
    pthread_t thread;
    task one = {work, other};
    int is_started = thread_start(&thread, &one);
    work(own);
    if (is_started) {
        (void)pthread_join(thread, NULL);
    }
}

#endif
