/* Module state: all that the extension keeps between calls. Owned by the module object, never
 * static. */
#ifndef KTC_STATE_H
#define KTC_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "arrays/instruction_set.h"

typedef struct {
    PyObject *names_error;               /* _core.NamesError */
    ktc_instruction_set instruction_set; /* chosen once at import, passed down to kernels */
} ktc_state;

/* The state of the module; never NULL for a module that was executed. */
static inline ktc_state *
ktc_state_get(PyObject *module)
{
    return (ktc_state *)PyModule_GetState(module);
}

#endif
