/* Checks of positional arguments. Each helper answers 1, or 0 with a TypeError that names the
 * function and the argument. */
#ifndef KTC_ARGS_H
#define KTC_ARGS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

int ktc_args_count_is(const char *function, Py_ssize_t given, Py_ssize_t expected);
int ktc_args_is_list(const char *function, const char *argument, PyObject *object);
int ktc_args_is_array(const char *function, const char *argument, PyObject *object);

/* What a list or tuple holds, as a tuple, which cannot change: a new reference (to an exact tuple
 * itself), or NULL with a TypeError set. */
PyObject *ktc_args_as_tuple(const char *function, const char *argument, PyObject *object);

/* The text of a str argument, UTF-8, borrowed from the object: NULL with the exception set when it
 * is something else.
 */
const char *ktc_args_text(const char *function, const char *argument, PyObject *object);

#endif
