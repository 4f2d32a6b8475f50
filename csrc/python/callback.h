/* The only place that calls functions of the user. */
#ifndef KTC_CALLBACK_H
#define KTC_CALLBACK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "python/state.h"

/* Chains the user's calls, a tuple of (key, function) pairs, on a tuple of arrays (both borrowed):
 * each call gets a fresh list of what the one before returned. A new reference to a list of arrays
 * of their own memory, or NULL with the exception set: the user's own exception with a note of
 * layer and key, or a TransferError that says what came back instead of a list of arrays. */
PyObject *ktc_callback_chain(const ktc_state *state, PyObject *layer, PyObject *arrays,
                             PyObject *calls);

#endif
