/* Owns the Python function of the fingerprint kernel. */
#include "python/args.h"
#include "python/arrays.h"
#include "python/errors.h"
#include "python/module.h"
#include "python/state.h"
#include "kernels/fingerprint.h"

PyDoc_STRVAR(fingerprint_doc,
             "fingerprint(array, /)\n--\n\n"
             "(sum of x, of |x|, of x^2, of x^3, of |x|^3, largest |x|) of a float32 or float64 array, in one pass.");

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
        return PyErr_Format(PyExc_TypeError, "fingerprint: expected a float32 or float64 array, got %R; cast it first",
                            PyArray_DESCR(array));
    }
    type = PyArray_TYPE(array) == NPY_FLOAT32 ? KTC_FLOAT32 : KTC_FLOAT64;
    contiguous = ktc_array_as_contiguous(array, (ktc_instruction_set)ktc_state_get(module)->instruction_set);
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
    answer = Py_BuildValue("(dddddd)", found.sum, found.magnitudes, found.squares, found.cubes, found.magnitude_cubes,
                           found.largest);
done:
    Py_XDECREF(contiguous);
    return answer;
}

PyMethodDef ktc_py_fingerprint_methods[] = {
    {"fingerprint", ktc_py_fingerprint_of, METH_O, fingerprint_doc},
    {NULL, NULL, 0, NULL},
};
