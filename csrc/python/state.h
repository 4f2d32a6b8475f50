/* Module state: all that the extension keeps between calls. Owned by the module object, never
 * static. */
#ifndef KTC_STATE_H
#define KTC_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "arrays/instruction_set.h"

typedef struct {
    PyObject *names_error;        /* _core.NamesError */
    volatile int instruction_set; /* chosen once at import, passed down to kernels */
} ktc_state;

/* The state of the module; never NULL for a module that was executed. */
static inline ktc_state *
ktc_state_get(PyObject *module)
{
    return (ktc_state *)PyModule_GetState(module);
}

/* Read and written by any thread at any time; elsewhere than with GCC and Clang an aligned int is
 * atomic by itself. */
static inline ktc_instruction_set
ktc_state_instruction_set(PyObject *module)
{
#ifdef __GNUC__
    return (ktc_instruction_set)__atomic_load_n(&ktc_state_get(module)->instruction_set,
                                                __ATOMIC_RELAXED);
#else
    return (ktc_instruction_set)ktc_state_get(module)->instruction_set;
#endif
}

static inline void
ktc_state_use_instruction_set(PyObject *module, ktc_instruction_set set)
{
#ifdef __GNUC__
    __atomic_store_n(&ktc_state_get(module)->instruction_set, (int)set, __ATOMIC_RELAXED);
#else
    ktc_state_get(module)->instruction_set = (int)set;
#endif
}

#endif
