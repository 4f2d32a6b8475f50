/* Owns the import of NumPy's function table and the making of arrays that nobody else holds. */
#define KTC_ARRAYS_IMPORT
#include "python/arrays.h"
#include "python/errors.h"
#include "arrays/permute_plan.h"
#include "arrays/permute_run.h"
#include "arrays/span.h"
#include "stream/guard.h"

/* Kernels take ptrdiff_t where NumPy has npy_intp. */
typedef char same_size[sizeof(npy_intp) == sizeof(ptrdiff_t) ? 1 : -1];

int
ktc_arrays_import(void)
{
    return PyArray_ImportNumPyAPI();
}

int
ktc_array_is_plain(PyArrayObject *array)
{
    PyArray_Descr *type = PyArray_DESCR(array);
    if (PyDataType_REFCHK(type)) {
        return 0;
    }
    return PyTypeNum_ISBOOL(type->type_num) || PyTypeNum_ISINTEGER(type->type_num) ||
           PyTypeNum_ISFLOAT(type->type_num) || PyTypeNum_ISUSERDEF(type->type_num);
}

/* 1 when an array lies in the memory of its owner, else 0 with the exception set: __setstate__ can
 * take an owner its memory and leave views of it behind. */
static int
lies_in(PyArrayObject *array, PyArrayObject *owner)
{
    ktc_span span = {0, 0};
    ktc_status status =
        ktc_span_measure(PyArray_NDIM(array), PyArray_SHAPE(array), PyArray_STRIDES(array),
                         (ptrdiff_t)PyArray_ITEMSIZE(array), &span);
    uintptr_t first = (uintptr_t)PyArray_DATA(owner);
    uintptr_t low = (uintptr_t)PyArray_DATA(array) + (uintptr_t)span.low;
    uintptr_t high = (uintptr_t)PyArray_DATA(array) + (uintptr_t)span.high;
    if (status == KTC_OK && (span.low == span.high || !PyArray_CHKFLAGS(owner, NPY_ARRAY_OWNDATA) ||
                             (low >= first && high <= first + (uintptr_t)PyArray_NBYTES(owner)))) {
        return 1;
    }
    PyErr_SetString(PyExc_ValueError, "an array reaches beyond the memory of its base");
    return 0;
}

PyObject *
ktc_pin(PyObject *object)
{
    PyObject *owner = object;
    for (PyObject *next = object; next != NULL;) {
        owner = next;
        next = PyArray_Check(owner)        ? PyArray_BASE((PyArrayObject *)owner)
               : PyMemoryView_Check(owner) ? PyMemoryView_GET_BASE(owner)
                                           : NULL;
    }
    if (!PyArray_Check(owner)) {
        return Py_NewRef(owner); /* its buffer is exported, so that it cannot be resized */
    }
    if (PyArray_Check(object) && !lies_in((PyArrayObject *)object, (PyArrayObject *)owner)) {
        return NULL;
    }
    /* An array that is referred to weakly cannot be resized, not even with refcheck=False. */
    PyObject *weak = PyWeakref_NewRef(owner, NULL);
    PyObject *pin = weak == NULL ? NULL : PyTuple_Pack(2, owner, weak);
    Py_XDECREF(weak);
    return pin;
}

int
ktc_kernel_run(const char *function, PyObject *pin, ptrdiff_t bytes, void (*work)(void *context),
               void *context)
{
    ktc_status status = KTC_OK;
    int is_guarded = !PyTuple_Check(pin);
    PyThreadState *thread = bytes < KTC_GIL_RELEASE_BYTES ? NULL : PyEval_SaveThread();
    if (is_guarded) {
        ktc_guard_open();
        status = ktc_guard_run(work, context);
        ktc_guard_close();
    }
    else {
        work(context);
    }
    if (thread != NULL) {
        PyEval_RestoreThread(thread);
    }
    if (status != KTC_OK) {
        ktc_error_from_status(status, function);
        return -1;
    }
    return 0;
}

int
ktc_array_copy_into(PyArrayObject *source, PyArrayObject *target,
                    ktc_instruction_set instruction_set)
{
    int answer = -1;
    ktc_permutation one = {
        .source = PyArray_DATA(source), .target = PyArray_DATA(target), .set = instruction_set};
    PyObject *from = ktc_pin((PyObject *)source);
    PyObject *to = ktc_pin((PyObject *)target);
    if (from == NULL || to == NULL) {
        goto done;
    }
    ktc_status status = ktc_permute_plan_make(PyArray_NDIM(source), PyArray_SHAPE(source),
                                              PyArray_STRIDES(source), PyArray_STRIDES(target),
                                              (ptrdiff_t)PyArray_ITEMSIZE(source), &one.plan);
    if (status != KTC_OK) {
        ktc_error_from_status(status, "copy_strided");
        goto done;
    }
    answer = ktc_kernel_run("copy_strided", from, one.plan.bytes, ktc_permutation_run, &one);
done:
    Py_XDECREF(from);
    Py_XDECREF(to);
    return answer;
}

/* A new base-class array of its own memory, C order, native byte order: a new reference, or NULL
 * with the exception set. */
static PyArrayObject *
fresh_copy(PyArrayObject *source, ktc_instruction_set instruction_set)
{
    PyArray_Descr *type = PyArray_DESCR(source);
    if (!PyArray_ISNOTSWAPPED(source)) {
        /* Rare enough to leave the swapping of bytes to NumPy. */
        PyArray_Descr *native = PyArray_DescrNewByteorder(type, NPY_NATIVE);
        int flags = NPY_ARRAY_CARRAY | NPY_ARRAY_ENSURECOPY | NPY_ARRAY_ENSUREARRAY;
        return native == NULL ? NULL : (PyArrayObject *)PyArray_FromArray(source, native, flags);
    }
    Py_INCREF(type);
    PyArrayObject *copy = (PyArrayObject *)PyArray_NewFromDescr(
        &PyArray_Type, type, PyArray_NDIM(source), PyArray_SHAPE(source), NULL, NULL, 0, NULL);
    if (copy != NULL && ktc_array_copy_into(source, copy, instruction_set) < 0) {
        Py_CLEAR(copy);
    }
    return copy;
}

int
ktc_held_open(ktc_held *held, PyArrayObject *source, ktc_instruction_set instruction_set)
{
    *held = (ktc_held){NULL, NULL};
    held->array = PyArray_ISCARRAY_RO(source) ? (PyArrayObject *)Py_NewRef((PyObject *)source)
                                              : fresh_copy(source, instruction_set);
    held->pin = held->array == NULL ? NULL : ktc_pin((PyObject *)held->array);
    return held->pin == NULL ? -1 : 0;
}

void
ktc_held_close(ktc_held *held)
{
    Py_CLEAR(held->array);
    Py_CLEAR(held->pin);
}

int
ktc_array_shapes_equal(const char *function, PyArrayObject *first, PyArrayObject *second)
{
    PyObject *first_shape = NULL;
    PyObject *second_shape = NULL;
    if (PyArray_SAMESHAPE(first, second)) {
        return 1;
    }
    first_shape = PyObject_GetAttrString((PyObject *)first, "shape");
    if (first_shape == NULL) {
        goto done;
    }
    second_shape = PyObject_GetAttrString((PyObject *)second, "shape");
    if (second_shape == NULL) {
        goto done;
    }
    PyErr_Format(PyExc_ValueError, "%s: expected two arrays of one shape, got %R and %R", function,
                 first_shape, second_shape);
done:
    Py_XDECREF(first_shape);
    Py_XDECREF(second_shape);
    return 0;
}
