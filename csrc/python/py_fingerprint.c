/* Owns the Python function of the fingerprint kernel. */
#include "python/args.h"
#include "python/arrays.h"
#include "python/errors.h"
#include "python/module.h"
#include "python/state.h"
#include "arrays/fingerprint.h"
#include "arrays/fingerprint_index.h"

#include <math.h>

typedef struct {
    const void *values;
    ktc_element_type type;
    ptrdiff_t count;
    ktc_fingerprint found;
} fingerprint_work;

static void
fingerprint_run(void *context)
{
    fingerprint_work *work = context;
    (void)ktc_fingerprint_run(work->values, work->type, work->count, &work->found);
}

PyDoc_STRVAR(fingerprint_doc, "fingerprint(array, /)\n--\n\n"
                              "(sum of x, of |x|, of x^2, of x^3, of |x|^3, largest |x|) of a "
                              "float32 or float64 array, in one pass.");

static PyObject *
ktc_py_fingerprint_of(PyObject *module, PyObject *argument)
{
    PyObject *answer = NULL;
    ktc_held held = {NULL, NULL};
    ktc_element_type type;

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
    if (ktc_held_open(&held, array, ktc_state_instruction_set(module)) < 0) {
        goto done;
    }
    fingerprint_work work = {
        .values = PyArray_DATA(held.array), .type = type, .count = PyArray_SIZE(held.array)};
    if (ktc_kernel_run("fingerprint", held.pin, PyArray_NBYTES(held.array), fingerprint_run,
                       &work) < 0) {
        goto done;
    }
    answer = Py_BuildValue("(dddddd)", work.found.sum, work.found.magnitudes, work.found.squares,
                           work.found.cubes, work.found.magnitude_cubes, work.found.largest);
done:
    ktc_held_close(&held);
    return answer;
}

/* Opens (keys, wanted, number): the pin of the keys, or NULL with an exception set. `wanted` has
 * room for one fingerprint. */
static PyObject *
look_up_open(const char *function, PyObject *const *arguments, Py_ssize_t argument_count,
             ktc_fingerprint_index *index, double *wanted, double *number)
{
    if (!ktc_args_count_is(function, argument_count, 3) ||
        !ktc_args_is_array(function, "keys", arguments[0])) {
        return NULL;
    }
    if (!PyTuple_Check(arguments[1]) || PyTuple_GET_SIZE(arguments[1]) != KTC_FINGERPRINT_NUMBERS) {
        return PyErr_Format(PyExc_TypeError, "%s: 'wanted' must be a tuple of %d numbers", function,
                            KTC_FINGERPRINT_NUMBERS);
    }
    for (Py_ssize_t place = 0; place < KTC_FINGERPRINT_NUMBERS; place++) {
        wanted[place] = PyFloat_AsDouble(PyTuple_GET_ITEM(arguments[1], place));
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    *number = PyFloat_AsDouble(arguments[2]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    /* Only now, since numbers of other classes run code of their own. */
    PyArrayObject *keys = (PyArrayObject *)arguments[0];
    if (PyArray_TYPE(keys) != NPY_FLOAT64 || PyArray_NDIM(keys) != 2 ||
        !PyArray_ISCARRAY_RO(keys) || PyArray_DIM(keys, 1) != KTC_FINGERPRINT_NUMBERS) {
        return PyErr_Format(PyExc_TypeError,
                            "%s: 'keys' must be a contiguous float64 array of %d columns", function,
                            KTC_FINGERPRINT_NUMBERS);
    }
    *index = (ktc_fingerprint_index){PyArray_DATA(keys), (size_t)PyArray_DIM(keys, 0)};
    return ktc_pin(arguments[0]);
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
    PyObject *pin =
        look_up_open("nearest_fingerprint", arguments, argument_count, &index, wanted, &limit);
    if (pin == NULL) {
        return NULL;
    }
    double nearest = has_nan(wanted) ? INFINITY : ktc_fingerprint_nearest(&index, wanted, limit);
    Py_DECREF(pin);
    return PyFloat_FromDouble(nearest);
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
    PyObject *pin =
        look_up_open("near_fingerprints", arguments, argument_count, &index, wanted, &within);
    if (pin == NULL) {
        return NULL;
    }
    PyObject *list = PyList_New(0);
    if (!has_nan(wanted)) {
        ktc_fingerprint_window(&index, wanted, within, &first, &last);
    }
    for (size_t place = first; list != NULL && place < last; place++) {
        const double *key = index.keys + place * KTC_FINGERPRINT_NUMBERS;
        double apart = ktc_fingerprint_distance(key, wanted);
        if (apart < within) {
            PyObject *pair = Py_BuildValue("(dn)", apart, (Py_ssize_t)place);
            if (pair == NULL || PyList_Append(list, pair) < 0) {
                Py_CLEAR(list);
            }
            Py_XDECREF(pair);
        }
    }
    Py_DECREF(pin);
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
