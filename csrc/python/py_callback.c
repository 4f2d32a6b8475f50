/* Owns the Python function that runs callbacks: its arguments. What happens to them is in
 * callback.c. */
#include "python/args.h"
#include "python/arrays.h"
#include "python/callback.h"
#include "python/module.h"
#include "python/state.h"

/* 1 when every item of our own tuple is an array of plain numbers, else 0 with a TypeError. */
static int
are_plain_arrays(PyObject *arrays)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(arrays); index++) {
        /* borrowed: `arrays` is a tuple that only the caller holds */
        PyObject *item = PyTuple_GET_ITEM(arrays, index);
        if (!ktc_args_is_array("apply_callbacks", "arrays[...]", item)) {
            return 0;
        }
        if (!ktc_array_is_plain((PyArrayObject *)item)) {
            PyErr_Format(PyExc_TypeError,
                         "apply_callbacks: expected arrays of plain numbers, got dtype %R",
                         PyArray_DESCR((PyArrayObject *)item));
            return 0;
        }
    }
    return 1;
}

/* 1 when every item of our own tuple is a (str, callable) tuple, else 0 with a TypeError. */
static int
are_calls(PyObject *calls)
{
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(calls); index++) {
        /* borrowed: `calls` is a tuple that only the caller holds, and so are the items of the
         * pairs in it */
        PyObject *pair = PyTuple_GET_ITEM(calls, index);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 ||
            !PyUnicode_Check(PyTuple_GET_ITEM(pair, 0)) ||
            !PyCallable_Check(PyTuple_GET_ITEM(pair, 1))) {
            PyErr_Format(
                PyExc_TypeError,
                "apply_callbacks: expected tuples of a str and a callable in 'calls', got %.100s",
                Py_TYPE(pair)->tp_name);
            return 0;
        }
    }
    return 1;
}

PyDoc_STRVAR(apply_callbacks_doc, "apply_callbacks(layer, arrays, calls, /)\n--\n\n"
                                  "Chain the user's functions on a list of arrays and check what "
                                  "they return: a list of new arrays.");

static PyObject *
ktc_py_callback_apply(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    PyObject *answer = NULL;
    PyObject *arrays = NULL;
    PyObject *calls = NULL;

    if (!ktc_args_count_is("apply_callbacks", count, 3) ||
        ktc_args_text("apply_callbacks", "layer", args[0]) == NULL ||
        !ktc_args_is_list("apply_callbacks", "arrays", args[1]) ||
        !ktc_args_is_list("apply_callbacks", "calls", args[2])) {
        return NULL;
    }
    arrays = PyList_AsTuple(args[1]);
    if (arrays == NULL) {
        goto done;
    }
    calls = PyList_AsTuple(args[2]);
    if (calls == NULL || !are_plain_arrays(arrays) || !are_calls(calls)) {
        goto done;
    }
    answer = ktc_callback_chain(ktc_state_get(module), args[0], arrays, calls);
done:
    Py_XDECREF(arrays);
    Py_XDECREF(calls);
    return answer;
}

PyMethodDef ktc_py_callback_methods[] = {
    {"apply_callbacks", (PyCFunction)(void (*)(void))ktc_py_callback_apply, METH_FASTCALL,
     apply_callbacks_doc},
    {NULL, NULL, 0, NULL},
};
