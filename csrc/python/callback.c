/* Owns the dealings with functions of the user. After any call that can run Python code nothing
 * borrowed is still valid: lists are turned into tuples of our own before anything runs, and what
 * comes back is turned into such a tuple before it is looked at. */
#include "python/callback.h"
#include "python/arrays.h"
#include "python/errors.h"

/* Which call of which layer is running, for messages; the key is in words, with the quotes that it
 * needs. Borrowed. */
typedef struct {
    const ktc_state *state;
    PyObject *layer;
    PyObject *key;
} call_place;

/* Says on the user's own exception where it came from. */
static void
note_place(const call_place *place)
{
    ktc_error_add_note("raised by the function of additional_transfer key %U for layer %R",
                       place->key, place->layer);
}

/* A tuple of the items of a list or tuple (subclasses too, without running their code), NULL with a
 * TransferError otherwise. */
static PyObject *
items_of_result(const call_place *place, PyObject *result)
{
    if (PyList_Check(result)) {
        return PyList_AsTuple(result);
    }
    if (PyTuple_Check(result)) {
        return PyTuple_GetSlice(result, 0, PyTuple_GET_SIZE(result));
    }
    const char *remedy = result == Py_None
                             ? "return the list at the end of the function"
                             : "put the arrays into a list, in the order of the layer's weights";
    ktc_error_with_problem(place->state->transfer_error,
                           "layer %R, additional_transfer key %U: expected a list of arrays from "
                           "the function, got %.100s; %s",
                           place->layer, place->key, Py_TYPE(result)->tp_name, remedy);
    return NULL;
}

/* A TransferError about item number `index` of a result; `array` is what numpy made of it, or NULL.
 * Always NULL. */
static PyArrayObject *
refuse_item(const call_place *place, Py_ssize_t index, PyObject *item, PyArrayObject *array)
{
    const char *start = "expected a list of arrays of plain numbers from the function, got";
    if (array == NULL) {
        return ktc_error_with_problem(place->state->transfer_error,
                                      "layer %R, additional_transfer key %U: %s %.100s as item "
                                      "%zd, which numpy cannot turn into an array",
                                      place->layer, place->key, start, Py_TYPE(item)->tp_name,
                                      index);
    }
    return ktc_error_with_problem(
        place->state->transfer_error,
        "layer %R, additional_transfer key %U: %s %.100s as item %zd (as an array: %R)",
        place->layer, place->key, start, Py_TYPE(item)->tp_name, index, PyArray_DESCR(array));
}

/* One item of a result as a base-class array of plain numbers: a new reference, or NULL with the
 * exception set. */
static PyArrayObject *
array_of_item(const call_place *place, Py_ssize_t index, PyObject *item)
{
    PyArrayObject *array =
        (PyArrayObject *)PyArray_FromAny(item, NULL, 0, 0, NPY_ARRAY_ENSUREARRAY, NULL);
    if (array == NULL) {
        if (PyErr_ExceptionMatches(PyExc_ValueError) || PyErr_ExceptionMatches(PyExc_TypeError)) {
            return refuse_item(place, index, item, NULL);
        }
        note_place(place);
        return NULL;
    }
    if (!ktc_array_is_plain(array)) {
        (void)refuse_item(place, index, item, array);
        Py_CLEAR(array);
    }
    return array;
}

/* The arrays of a result as a tuple of our own: a new reference, or NULL with the exception set. */
static PyObject *
arrays_of_result(const call_place *place, PyObject *result)
{
    PyObject *arrays = NULL;
    PyObject *items = items_of_result(place, result);
    if (items == NULL) {
        goto done;
    }
    arrays = PyTuple_New(PyTuple_GET_SIZE(items));
    for (Py_ssize_t index = 0; arrays != NULL && index < PyTuple_GET_SIZE(items); index++) {
        /* borrowed: `items` is a tuple that only we hold */
        PyArrayObject *array = array_of_item(place, index, PyTuple_GET_ITEM(items, index));
        if (array == NULL) {
            Py_CLEAR(arrays);
            break;
        }
        PyTuple_SET_ITEM(arrays, index, (PyObject *)array);
    }
done:
    Py_XDECREF(items);
    return arrays;
}

/* Runs one function on a fresh list of the arrays: a new tuple of arrays, or NULL with the
 * exception set. */
static PyObject *
call_once(const call_place *place, PyObject *function, PyObject *arrays)
{
    PyObject *list = NULL;
    PyObject *result = NULL;
    PyObject *answer = NULL;

    list = PySequence_List(arrays);
    if (list == NULL) {
        goto done;
    }
    if (Py_EnterRecursiveCall(" while running a function of additional_transfer")) {
        goto done;
    }
    result = PyObject_CallOneArg(function, list);
    Py_LeaveRecursiveCall();
    if (result == NULL) {
        note_place(place);
        goto done;
    }
    answer = arrays_of_result(place, result);
done:
    Py_XDECREF(list);
    Py_XDECREF(result);
    return answer;
}

/* Copies that nobody else holds, so that what was checked stays what is written: a new list, or
 * NULL with the exception set. */
static PyObject *
fresh_list(const ktc_state *state, PyObject *arrays)
{
    Py_ssize_t count = PyTuple_GET_SIZE(arrays);
    PyObject *list = PyList_New(count);
    for (Py_ssize_t index = 0; list != NULL && index < count; index++) {
        /* borrowed: `arrays` is a tuple that only we hold */
        PyArrayObject *array = (PyArrayObject *)PyTuple_GET_ITEM(arrays, index);
        PyArrayObject *copy = ktc_array_fresh_copy(array, state->instruction_set);
        if (copy == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, index, (PyObject *)copy);
    }
    return list;
}

PyObject *
ktc_callback_chain(const ktc_state *state, PyObject *layer, PyObject *arrays, PyObject *calls)
{
    PyObject *answer = NULL;
    PyObject *current = Py_NewRef(arrays);
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(calls); index++) {
        /* borrowed: the caller holds `calls`, a tuple of its own, and each pair is a tuple inside
         * it */
        PyObject *pair = PyTuple_GET_ITEM(calls, index);
        call_place place = {state, layer, PyTuple_GET_ITEM(pair, 0)};
        PyObject *next = call_once(&place, PyTuple_GET_ITEM(pair, 1), current);
        if (next == NULL) {
            goto done;
        }
        Py_SETREF(current, next);
    }
    answer = fresh_list(state, current);
done:
    Py_DECREF(current);
    return answer;
}
