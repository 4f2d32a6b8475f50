/* How failures become Python exceptions: once, here, at the edge. Helpers set the exception and
 * return NULL, so that a failing line is one return. */
#ifndef KTC_ERRORS_H
#define KTC_ERRORS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "status.h"

/* The exception for a kernel's refusal, `where` naming the function. Always NULL. */
void *ktc_error_from_status(ktc_status status, const char *where);

/* Raises `error_class(message, (message,))`, the form of TransferError, from a PyUnicode_FromFormat
 * format. The exception that was being raised, if there was one, becomes the cause. Always NULL. */
void *ktc_error_with_problem(PyObject *error_class, const char *format, ...);

/* Adds a note to the exception being raised, which keeps its type and its place; a note that cannot
 * be added is left out. */
void ktc_error_add_note(const char *format, ...);

#endif
