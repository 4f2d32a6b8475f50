/* How failures become Python exceptions: once, here, at the edge. Helpers set the exception and
 * return NULL, so that a failing line is one return. */
#ifndef KTC_ERRORS_H
#define KTC_ERRORS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "status.h"

/* The exception for a kernel's refusal, `where` naming the function. Always NULL. */
void *ktc_error_from_status(ktc_status status, const char *where);

/* Raises an exception with arguments in the format of Py_BuildValue, two or more. Always NULL. */
void *ktc_error_raise(PyObject *error_class, const char *format, ...);

#endif
