/* Owns the Python function of the fingerprint kernel. */
#include "python/args.h"
#include "python/arrays.h"
#include "python/errors.h"
#include "python/module.h"
#include "python/state.h"
#include "arrays/fingerprint.h"
#include "arrays/fingerprint_index.h"

#include <math.h>

PyDoc_STRVAR(fingerprint_doc, "fingerprint(array, /)\n--\n\n"
                              "(sum of x, of |x|, of x^2, of x^3, of |x|^3, largest |x|) of a "
                              "float32 or float64 array, in one pass.");

static PyObject *
ktc_py_fingerprint_of(PyObject *module, PyObject *argument)
{
    PyObject *answer = NULL;
    PyArrayObject *contiguous = NULL;
    ktc_fingerprint found = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    ktc_element_type type;
    ktc_status status;

    if (!ktc_args_is_array("fingerprint", "array", argument)) {
        return NULL;
    }
    PyArrayObject *array = (PyArrayObject *)argument;
    if (PyArray_TYPE(array) != NPY_FLOAT32 && PyArray_TYPE(array) != NPY_FLOAT64) {
        return PyErr_Format(
            PyExc_TypeError,
            "fingerprint: expected a float32 or float64 array, got %R; cast it first",
            PyArray_DESCR(array));
    }
    type = PyArray_TYPE(array) == NPY_FLOAT32 ? KTC_FLOAT32 : KTC_FLOAT64;
    contiguous = ktc_array_as_contiguous(array, ktc_state_get(module)->instruction_set);
    if (contiguous == NULL) {
        goto done;
    }
    const void *values = PyArray_DATA(contiguous);
    ptrdiff_t count = PyArray_SIZE(contiguous);
    if (PyArray_NBYTES(contiguous) < KTC_GIL_RELEASE_BYTES) {
        status = ktc_fingerprint_run(values, type, count, &found);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        status = ktc_fingerprint_run(values, type, count, &found);
        Py_END_ALLOW_THREADS
    }
    if (status != KTC_OK) {
        ktc_error_from_status(status, "fingerprint");
        goto done;
    }
    answer = Py_BuildValue("(dddddd)", found.sum, found.magnitudes, found.squares, found.cubes,
                           found.magnitude_cubes, found.largest);
done:
    Py_XDECREF(contiguous);
    return answer;
}

/* Opens (keys, wanted, number): 0, or -1 with an exception set. `wanted` has room for one
 * fingerprint. */
static int
look_up_open(const char *function, PyObject *const *arguments, Py_ssize_t argument_count,
             ktc_fingerprint_index *index, double *wanted, double *number)
{
    if (!ktc_args_count_is(function, argument_count, 3) ||
        !ktc_args_is_array(function, "keys", arguments[0])) {
        return -1;
    }
    PyArrayObject *keys = (PyArrayObject *)arguments[0];
    if (PyArray_TYPE(keys) != NPY_FLOAT64 || PyArray_NDIM(keys) != 2 ||
        !PyArray_ISCARRAY_RO(keys) || PyArray_DIM(keys, 1) != KTC_FINGERPRINT_NUMBERS) {
        PyErr_Format(PyExc_TypeError, "%s: 'keys' must be a contiguous float64 array of %d columns",
                     function, KTC_FINGERPRINT_NUMBERS);
        return -1;
    }
    if (!PyTuple_Check(arguments[1]) || PyTuple_GET_SIZE(arguments[1]) != KTC_FINGERPRINT_NUMBERS) {
        PyErr_Format(PyExc_TypeError, "%s: 'wanted' must be a tuple of %d numbers", function,
                     KTC_FINGERPRINT_NUMBERS);
        return -1;
    }
    for (Py_ssize_t place = 0; place < KTC_FINGERPRINT_NUMBERS; place++) {
        wanted[place] = PyFloat_AsDouble(PyTuple_GET_ITEM(arguments[1], place));
    }
    *number = PyFloat_AsDouble(arguments[2]);
    if (PyErr_Occurred()) {
        return -1;
    }
    *index = (ktc_fingerprint_index){PyArray_DATA(keys), (size_t)PyArray_DIM(keys, 0)};
    return 0;
}

static int
has_nan(const double *wanted)
{
    for (int number = 0; number < KTC_FINGERPRINT_NUMBERS; number++) {
        if (isnan(wanted[number])) {
            return 1;
        }
    }
    return 0;
}

static PyObject *
ktc_py_fingerprint_nearest(PyObject *Py_UNUSED(module), PyObject *const *arguments,
                           Py_ssize_t argument_count)
{
    ktc_fingerprint_index index;
    double wanted[KTC_FINGERPRINT_NUMBERS];
    double limit;
    if (look_up_open("nearest_fingerprint", arguments, argument_count, &index, wanted, &limit) <
        0) {
        return NULL;
    }
    return PyFloat_FromDouble(has_nan(wanted) ? INFINITY
                                              : ktc_fingerprint_nearest(&index, wanted, limit));
}

static PyObject *
ktc_py_fingerprint_near(PyObject *Py_UNUSED(module), PyObject *const *arguments,
                        Py_ssize_t argument_count)
{
    ktc_fingerprint_index index;
    double wanted[KTC_FINGERPRINT_NUMBERS];
    double within;
    size_t first = 0;
    size_t last = 0;
    if (look_up_open("near_fingerprints", arguments, argument_count, &index, wanted, &within) < 0) {
        return NULL;
    }
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    if (!has_nan(wanted)) {
        ktc_fingerprint_window(&index, wanted, within, &first, &last);
    }
    for (size_t place = first; place < last; place++) {
        double apart =
            ktc_fingerprint_distance(index.keys + place * KTC_FINGERPRINT_NUMBERS, wanted);
        if (apart < within) {
            PyObject *pair = Py_BuildValue("(dn)", apart, (Py_ssize_t)place);
            if (pair == NULL || PyList_Append(list, pair) < 0) {
                Py_XDECREF(pair);
                Py_DECREF(list);
                return NULL;
            }
            Py_DECREF(pair);
        }
    }
    return list;
}

PyDoc_STRVAR(nearest_doc, "nearest_fingerprint(keys, wanted, limit, /)\n--\n\n"
                          "Distance to the nearest key below `limit`, else infinity.");
PyDoc_STRVAR(near_doc, "near_fingerprints(keys, wanted, within, /)\n--\n\n"
                       "[(distance, place)] of all keys nearer than `within`.");

PyMethodDef ktc_py_fingerprint_methods[] = {
    {"fingerprint", ktc_py_fingerprint_of, METH_O, fingerprint_doc},
    {"nearest_fingerprint", (PyCFunction)(void (*)(void))ktc_py_fingerprint_nearest, METH_FASTCALL,
     nearest_doc},
    {"near_fingerprints", (PyCFunction)(void (*)(void))ktc_py_fingerprint_near, METH_FASTCALL,
     near_doc},
    {NULL, NULL, 0, NULL},
};
