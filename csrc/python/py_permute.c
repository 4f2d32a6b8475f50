/* Owns the Python functions that move elements or look at them: strided copies and views. The
 * moving itself is in the kernels. */
#include "python/args.h"
#include "python/arrays.h"
#include "python/errors.h"
#include "python/module.h"
#include "python/state.h"
#include "arrays/axes.h"
#include "arrays/permute_run.h"
#include "arrays/span.h"

/* The bytes that an array's elements lie in. 0, or -1 with the exception set. */
static int
array_span(PyArrayObject *array, const char *function, ktc_span *span)
{
    ktc_status status =
        ktc_span_measure(PyArray_NDIM(array), PyArray_SHAPE(array), PyArray_STRIDES(array),
                         (ptrdiff_t)PyArray_ITEMSIZE(array), span);
    if (status != KTC_OK) {
        ktc_error_from_status(status, function);
        return -1;
    }
    return 0;
}

/* Everything that memory safety and the kernel need, before a byte moves: 0, or -1 with the
 * exception set. */
static int
copy_strided_check(PyArrayObject *source, PyArrayObject *target)
{
    ktc_span source_span;
    ktc_span target_span;
    if (!ktc_array_is_plain(source)) {
        PyErr_Format(PyExc_TypeError, "copy_strided: expected plain numbers, got dtype %R",
                     PyArray_DESCR(source));
        return -1;
    }
    if (!PyArray_EquivTypes(PyArray_DESCR(source), PyArray_DESCR(target))) {
        PyErr_Format(PyExc_TypeError,
                     "copy_strided: expected source and target of one dtype, got %R and %R; cast "
                     "the source first",
                     PyArray_DESCR(source), PyArray_DESCR(target));
        return -1;
    }
    if (!ktc_array_shapes_equal("copy_strided", source, target)) {
        return -1;
    }
    if (!PyArray_ISWRITEABLE(target)) {
        PyErr_SetString(PyExc_ValueError, "copy_strided: the target is read-only");
        return -1;
    }
    if (array_span(source, "copy_strided", &source_span) < 0 ||
        array_span(target, "copy_strided", &target_span) < 0) {
        return -1;
    }
    if (ktc_span_overlaps(PyArray_DATA(source), source_span, PyArray_DATA(target), target_span)) {
        PyErr_SetString(
            PyExc_ValueError,
            "copy_strided: source and target share memory; give a target of its own memory");
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(
    copy_strided_doc,
    "copy_strided(source, target, /)\n--\n\n"
    "Copy all elements of one array into another of the same shape and type, any strides.");

static PyObject *
ktc_py_permute_copy_strided(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (!ktc_args_count_is("copy_strided", count, 2) ||
        !ktc_args_is_array("copy_strided", "source", args[0]) ||
        !ktc_args_is_array("copy_strided", "target", args[1])) {
        return NULL;
    }
    PyArrayObject *source = (PyArrayObject *)args[0];
    PyArrayObject *target = (PyArrayObject *)args[1];
    if (copy_strided_check(source, target) < 0 ||
        ktc_array_copy_into(source, target, ktc_state_instruction_set(module)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(copy_strided_all_doc,
             "copy_strided_all(sources, targets, /)\n--\n\n"
             "As copy_strided, for the arrays of two tuples: everything is checked before the\n"
             "first element moves, and then nothing can fail or interrupt it.");

/* Checks and plans one copy: 0, or -1 with the exception set. What owns the memory of both sides is
 * added to `pins`. */
static int
prepare_copy(PyObject *from, PyObject *to, PyObject *pins, ktc_permutation *copy)
{
    if (!ktc_args_is_array("copy_strided_all", "source", from) ||
        !ktc_args_is_array("copy_strided_all", "target", to) ||
        copy_strided_check((PyArrayObject *)from, (PyArrayObject *)to) < 0) {
        return -1;
    }
    PyArrayObject *source = (PyArrayObject *)from;
    PyArrayObject *target = (PyArrayObject *)to;
    ktc_status status = ktc_permute_plan_make(PyArray_NDIM(source), PyArray_SHAPE(source),
                                              PyArray_STRIDES(source), PyArray_STRIDES(target),
                                              (ptrdiff_t)PyArray_ITEMSIZE(source), &copy->plan);
    if (status != KTC_OK) {
        ktc_error_from_status(status, "copy_strided_all");
        return -1;
    }
    copy->source = PyArray_DATA(source);
    copy->target = PyArray_DATA(target);
    for (int side = 0; side < 2; side++) {
        PyObject *pin = ktc_pin(side == 0 ? from : to);
        int failed = pin == NULL || PyList_Append(pins, pin) < 0;
        Py_XDECREF(pin);
        if (failed) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
ktc_py_permute_copy_strided_all(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (!ktc_args_count_is("copy_strided_all", count, 2)) {
        return NULL;
    }
    if (!PyTuple_CheckExact(args[0]) || !PyTuple_CheckExact(args[1]) ||
        PyTuple_GET_SIZE(args[0]) != PyTuple_GET_SIZE(args[1])) {
        PyErr_SetString(PyExc_TypeError, "copy_strided_all: expected two tuples of as many arrays");
        return NULL;
    }
    Py_ssize_t pairs = PyTuple_GET_SIZE(args[0]);
    PyObject *answer = NULL;
    PyObject *pins = PyList_New(0);
    ktc_permutation *copies = PyMem_New(ktc_permutation, (size_t)pairs + 1);
    if (copies == NULL) {
        PyErr_NoMemory();
    }
    if (pins == NULL || copies == NULL) {
        goto done;
    }
    for (Py_ssize_t pair = 0; pair < pairs; pair++) {
        copies[pair].set = ktc_state_instruction_set(module);
        if (prepare_copy(PyTuple_GET_ITEM(args[0], pair), PyTuple_GET_ITEM(args[1], pair), pins,
                         &copies[pair]) < 0) {
            goto done;
        }
    }
    Py_BEGIN_ALLOW_THREADS;
    for (Py_ssize_t pair = 0; pair < pairs; pair++) {
        ktc_permutation_run(&copies[pair]);
    }
    Py_END_ALLOW_THREADS;
    answer = Py_NewRef(Py_None);
done:
    PyMem_Free(copies);
    Py_XDECREF(pins);
    return answer;
}

/* Reads a sequence of integers into `numbers`: how many, or -1 with the exception set. */
static int
read_numbers(PyObject *sequence, npy_intp *numbers)
{
    PyArray_Dims dims = {NULL, 0};
    if (!PyArray_IntpConverter(sequence, &dims)) {
        return -1;
    }
    int count = dims.len;
    if (count < 0 || count > KTC_MAX_NDIM) {
        PyErr_Format(PyExc_ValueError, "strided_view: expected at most %d axes", KTC_MAX_NDIM);
        count = -1;
    }
    for (int place = 0; place < count; place++) {
        numbers[place] = dims.ptr[place];
    }
    PyDimMem_FREE(dims.ptr);
    return count;
}

PyDoc_STRVAR(strided_view_doc, "strided_view(array, start, shape, strides, /)\n--\n\n"
                               "A view on elements of an array, `start` bytes from its first one "
                               "on, checked to lie among them.");

static PyObject *
ktc_py_permute_strided_view(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    npy_intp shape[KTC_MAX_NDIM];
    npy_intp strides[KTC_MAX_NDIM];
    ktc_span outer;
    ktc_span inner;

    if (!ktc_args_count_is("strided_view", count, 4) ||
        !ktc_args_is_array("strided_view", "array", args[0])) {
        return NULL;
    }
    Py_ssize_t start = PyNumber_AsSsize_t(args[1], PyExc_OverflowError);
    if (start == -1 && PyErr_Occurred()) {
        return NULL;
    }
    int ndim = read_numbers(args[2], shape);
    int stride_count = ndim < 0 ? -1 : read_numbers(args[3], strides);
    if (stride_count < 0) {
        return NULL;
    }
    if (ndim != stride_count) {
        return PyErr_Format(PyExc_ValueError, "strided_view: %d axes, but %d strides", ndim,
                            stride_count);
    }
    /* Only now, since numbers of other classes run code of their own. */
    PyArrayObject *array = (PyArrayObject *)args[0];
    PyArray_Descr *type = PyArray_DESCR(array);
    if (PyDataType_REFCHK(type)) {
        return PyErr_Format(PyExc_TypeError, "strided_view: expected plain bytes, got dtype %R",
                            type);
    }
    ktc_status status =
        ktc_span_measure(ndim, shape, strides, (ptrdiff_t)PyArray_ITEMSIZE(array), &inner);
    if (status != KTC_OK) {
        return ktc_error_from_status(status, "strided_view");
    }
    if (array_span(array, "strided_view", &outer) < 0) {
        return NULL;
    }
    if (inner.low < inner.high && (start < outer.low - inner.low || inner.high > outer.high ||
                                   start > outer.high - inner.high)) {
        PyErr_SetString(PyExc_ValueError,
                        "strided_view: the view reaches beyond the array's elements");
        return NULL;
    }
    Py_INCREF(type);
    PyObject *view =
        PyArray_NewFromDescr(&PyArray_Type, type, ndim, shape, strides,
                             PyArray_BYTES(array) + (inner.low < inner.high ? start : 0),
                             PyArray_ISWRITEABLE(array) ? NPY_ARRAY_WRITEABLE : 0, NULL);
    if (view != NULL && PyArray_SetBaseObject((PyArrayObject *)view, Py_NewRef(args[0])) < 0) {
        Py_CLEAR(view);
    }
    return view;
}

PyMethodDef ktc_py_permute_methods[] = {
    {"strided_view", (PyCFunction)(void (*)(void))ktc_py_permute_strided_view, METH_FASTCALL,
     strided_view_doc},
    {"copy_strided", (PyCFunction)(void (*)(void))ktc_py_permute_copy_strided, METH_FASTCALL,
     copy_strided_doc},
    {"copy_strided_all", (PyCFunction)(void (*)(void))ktc_py_permute_copy_strided_all,
     METH_FASTCALL, copy_strided_all_doc},
    {NULL, NULL, 0, NULL},
};
