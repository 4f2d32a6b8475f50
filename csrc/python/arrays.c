/* Owns the import of NumPy's function table and the making of arrays that nobody else holds. */
#define KTC_ARRAYS_IMPORT
#include "python/arrays.h"
#include "python/errors.h"
#include "arrays/permute_plan.h"
#include "arrays/permute_run.h"

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

int
ktc_array_copy_into(PyArrayObject *source, PyArrayObject *target,
                    ktc_instruction_set instruction_set)
{
    ktc_permute_plan plan;
    ktc_status status =
        ktc_permute_plan_make(PyArray_NDIM(source), PyArray_SHAPE(source), PyArray_STRIDES(source),
                              PyArray_STRIDES(target), (ptrdiff_t)PyArray_ITEMSIZE(source), &plan);
    if (status != KTC_OK) {
        ktc_error_from_status(status, "copy_strided");
        return -1;
    }
    const void *from = PyArray_DATA(source);
    void *to = PyArray_DATA(target);
    if (plan.bytes < KTC_GIL_RELEASE_BYTES) {
        ktc_permute_run(&plan, from, to, instruction_set);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        ktc_permute_run(&plan, from, to, instruction_set);
        Py_END_ALLOW_THREADS
    }
    return 0;
}

PyArrayObject *
ktc_array_fresh_copy(PyArrayObject *source, ktc_instruction_set instruction_set)
{
    PyArrayObject *copy = NULL;
    if (!PyArray_ISNOTSWAPPED(source)) {
        /* Rare enough to leave the swapping of bytes to NumPy. */
        PyArray_Descr *native = PyArray_DescrNewByteorder(PyArray_DESCR(source), NPY_NATIVE);
        if (native == NULL) {
            return NULL;
        }
        return (PyArrayObject *)PyArray_FromArray(
            source, native, NPY_ARRAY_CARRAY | NPY_ARRAY_ENSURECOPY | NPY_ARRAY_ENSUREARRAY);
    }
    PyArray_Descr *type = PyArray_DESCR(source);
    Py_INCREF(type);
    copy = (PyArrayObject *)PyArray_NewFromDescr(&PyArray_Type, type, PyArray_NDIM(source),
                                                 PyArray_SHAPE(source), NULL, NULL, 0, NULL);
    if (copy != NULL && ktc_array_copy_into(source, copy, instruction_set) < 0) {
        Py_CLEAR(copy);
    }
    return copy;
}

PyArrayObject *
ktc_array_as_contiguous(PyArrayObject *source, ktc_instruction_set instruction_set)
{
    if (PyArray_ISCARRAY_RO(source)) {
        return (PyArrayObject *)Py_NewRef((PyObject *)source);
    }
    return ktc_array_fresh_copy(source, instruction_set);
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
