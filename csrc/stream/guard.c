/* Owns the handler of SIGBUS, and with it the only state of the extension that is not the module's:
 * a handler is given no context, so that it finds by static variables what was there before, and by
 * a thread's own one whether this thread is at guarded work. */
#ifndef _WIN32
#define _XOPEN_SOURCE 700
#endif

#include "stream/guard.h"

#ifdef _WIN32

/* There a file cannot be cut while it is mapped. */
void
ktc_guard_open(void)
{
}

void
ktc_guard_close(void)
{
}

ktc_status
ktc_guard_run(void (*work)(void *context), void *context)
{
    work(context);
    return KTC_OK;
}

#else

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

/* Where this thread goes on after a signal, NULL when it is not at guarded work. glibc has room for
 * it in memory that every thread has from its start on, so that a handler need not allocate. */
#ifdef __GLIBC__
__attribute__((tls_model("initial-exec")))
#endif
static _Thread_local sigjmp_buf *volatile guard_landing;

static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction guard_previous;
static int guard_users;

static void
on_signal(int number, siginfo_t *information, void *machine)
{
    if (guard_landing != NULL) {
        siglongjmp(*guard_landing, 1);
    }
    if ((guard_previous.sa_flags & SA_SIGINFO) != 0) {
        guard_previous.sa_sigaction(number, information, machine);
    }
    else if (guard_previous.sa_handler != SIG_DFL && guard_previous.sa_handler != SIG_IGN) {
        guard_previous.sa_handler(number);
    }
    else {
        /* The instruction runs again and meets what the system does with it. */
        (void)sigaction(number, &guard_previous, NULL);
    }
}

void
ktc_guard_open(void)
{
    (void)pthread_mutex_lock(&guard_lock);
    if (guard_users++ == 0) {
        struct sigaction own = {.sa_flags = SA_SIGINFO | SA_ONSTACK};
        own.sa_sigaction = on_signal;
        (void)sigemptyset(&own.sa_mask);
        (void)sigaction(SIGBUS, &own, &guard_previous);
    }
    (void)pthread_mutex_unlock(&guard_lock);
}

void
ktc_guard_close(void)
{
    (void)pthread_mutex_lock(&guard_lock);
    if (--guard_users == 0) {
        struct sigaction now;
        /* Somebody who came after us keeps his place, and calls us when he means what was before.
         */
        if (sigaction(SIGBUS, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 &&
            now.sa_sigaction == on_signal) {
            (void)sigaction(SIGBUS, &guard_previous, NULL);
        }
    }
    (void)pthread_mutex_unlock(&guard_lock);
}

ktc_status
ktc_guard_run(void (*work)(void *context), void *context)
{
    sigjmp_buf landing;
    if (sigsetjmp(landing, 1) != 0) {
        guard_landing = NULL;
        return KTC_CUT_SHORT;
    }
    guard_landing = &landing;
    work(context);
    guard_landing = NULL;
    return KTC_OK;
}

#endif
