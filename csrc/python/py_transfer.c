/* Owns the Python functions of the transfer stage: strided copies, casts, comparison, user callbacks and the choice of
 * an instruction set. The work itself is in the kernels and in callback.c. */
#include "python/args.h"
#include "python/arrays.h"
#include "python/callback.h"
#include "python/errors.h"
#include "python/module.h"
#include "python/state.h"
#include "kernels/axes.h"
#include "kernels/cast.h"
#include "kernels/compare.h"
#include "kernels/span.h"

static ktc_instruction_set
chosen_set(PyObject *module)
{
    return (ktc_instruction_set)ktc_state_get(module)->instruction_set;
}

/* The bytes that an array's elements lie in. 0, or -1 with the exception set. */
static int
array_span(PyArrayObject *array, const char *function, ktc_span *span)
{
    ktc_status status = ktc_span_measure(PyArray_NDIM(array), PyArray_SHAPE(array), PyArray_STRIDES(array),
                                         (ptrdiff_t)PyArray_ITEMSIZE(array), span);
    if (status != KTC_OK) {
        ktc_error_from_status(status, function);
        return -1;
    }
    return 0;
}

/* 1 when two arrays have the same shape, else 0 with a ValueError that shows both. */
static int
shapes_are_equal(const char *function, PyArrayObject *first, PyArrayObject *second)
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
    PyErr_Format(PyExc_ValueError, "%s: expected two arrays of one shape, got %R and %R", function, first_shape,
                 second_shape);
done:
    Py_XDECREF(first_shape);
    Py_XDECREF(second_shape);
    return 0;
}

/* Everything that memory safety and the kernel need, before a byte moves: 0, or -1 with the exception set. */
static int
copy_strided_check(PyArrayObject *source, PyArrayObject *target)
{
    ktc_span source_span;
    ktc_span target_span;
    if (!ktc_array_is_plain(source)) {
        PyErr_Format(PyExc_TypeError, "copy_strided: expected plain numbers, got dtype %R", PyArray_DESCR(source));
        return -1;
    }
    if (!PyArray_EquivTypes(PyArray_DESCR(source), PyArray_DESCR(target))) {
        PyErr_Format(PyExc_TypeError,
                     "copy_strided: expected source and target of one dtype, got %R and %R; cast the source first",
                     PyArray_DESCR(source), PyArray_DESCR(target));
        return -1;
    }
    if (!shapes_are_equal("copy_strided", source, target)) {
        return -1;
    }
    if (!PyArray_ISWRITEABLE(target)) {
        PyErr_SetString(PyExc_ValueError, "copy_strided: the target is read-only");
        return -1;
    }
    if (array_span(source, "copy_strided", &source_span) < 0 || array_span(target, "copy_strided", &target_span) < 0) {
        return -1;
    }
    if (ktc_span_overlaps(PyArray_DATA(source), source_span, PyArray_DATA(target), target_span)) {
        PyErr_SetString(PyExc_ValueError,
                        "copy_strided: source and target share memory; give a target of its own memory");
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(copy_strided_doc, "copy_strided(source, target, /)\n--\n\n"
                               "Copy all elements of one array into another of the same shape and type, any strides.");

static PyObject *
ktc_py_transfer_copy_strided(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (!ktc_args_count_is("copy_strided", count, 2) || !ktc_args_is_array("copy_strided", "source", args[0]) ||
        !ktc_args_is_array("copy_strided", "target", args[1])) {
        return NULL;
    }
    PyArrayObject *source = (PyArrayObject *)args[0];
    PyArrayObject *target = (PyArrayObject *)args[1];
    if (copy_strided_check(source, target) < 0 || ktc_array_copy_into(source, target, chosen_set(module)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* The element type that a name stands for: 1, or 0 with the exception set. */
static int
element_type_of(const char *argument, PyObject *name, ktc_element_type *type)
{
    const char *text = ktc_args_text("cast", argument, name);
    if (text == NULL) {
        return 0;
    }
    if (!ktc_element_type_find(text, type)) {
        PyErr_Format(
            PyExc_TypeError,
            "cast: %s %R is not supported; supported are bool, int8 to int64, uint8 to uint64, float16, bfloat16, "
            "float32 and float64",
            argument, name);
        return 0;
    }
    return 1;
}

/* NumPy's number for an element type; bfloat16, which NumPy has not, travels as uint16. */
static int
numpy_type_of(ktc_element_type type)
{
    static const int numbers[KTC_ELEMENT_TYPE_COUNT] = {
        [KTC_BOOL] = NPY_BOOL,       [KTC_INT8] = NPY_INT8,       [KTC_INT16] = NPY_INT16,
        [KTC_INT32] = NPY_INT32,     [KTC_INT64] = NPY_INT64,     [KTC_UINT8] = NPY_UINT8,
        [KTC_UINT16] = NPY_UINT16,   [KTC_UINT32] = NPY_UINT32,   [KTC_UINT64] = NPY_UINT64,
        [KTC_FLOAT16] = NPY_FLOAT16, [KTC_BFLOAT16] = NPY_UINT16, [KTC_FLOAT32] = NPY_FLOAT32,
        [KTC_FLOAT64] = NPY_FLOAT64,
    };
    return numbers[type];
}

/* Runs the kernel, without the GIL when there is much to do: 0, or -1 with the exception set. */
static int
cast_run(PyArrayObject *source, ktc_element_type source_type, PyArrayObject *target, ktc_element_type target_type,
         ktc_cast_losses *losses)
{
    ktc_status status;
    const void *from = PyArray_DATA(source);
    void *to = PyArray_DATA(target);
    ptrdiff_t count = PyArray_SIZE(source);
    if (PyArray_NBYTES(source) + PyArray_NBYTES(target) < KTC_GIL_RELEASE_BYTES) {
        status = ktc_cast_run(from, source_type, to, target_type, count, losses);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        status = ktc_cast_run(from, source_type, to, target_type, count, losses);
        Py_END_ALLOW_THREADS
    }
    if (status != KTC_OK) {
        ktc_error_from_status(status, "cast");
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(cast_doc, "cast(source, source_type, target_type, /)\n--\n\n"
                       "Convert to another element type: (new C-order array, values out of range, values rounded).");

static PyObject *
ktc_py_transfer_cast(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    PyObject *answer = NULL;
    PyArrayObject *contiguous = NULL;
    PyArrayObject *target = NULL;
    ktc_element_type source_type;
    ktc_element_type target_type;
    ktc_cast_losses losses;

    if (!ktc_args_count_is("cast", count, 3) || !ktc_args_is_array("cast", "source", args[0]) ||
        !element_type_of("source_type", args[1], &source_type) ||
        !element_type_of("target_type", args[2], &target_type)) {
        return NULL;
    }
    PyArrayObject *source = (PyArrayObject *)args[0];
    if (!PyArray_EquivTypenums(PyArray_TYPE(source), numpy_type_of(source_type))) {
        return PyErr_Format(PyExc_TypeError, "cast: source_type %R does not fit an array of dtype %R%s", args[1],
                            PyArray_DESCR(source),
                            source_type == KTC_BFLOAT16 ? "; bfloat16 travels as uint16, use .view(numpy.uint16)" : "");
    }
    contiguous = ktc_array_as_contiguous(source, chosen_set(module));
    if (contiguous == NULL) {
        goto done;
    }
    target = (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM(contiguous), PyArray_SHAPE(contiguous),
                                                numpy_type_of(target_type));
    if (target == NULL) {
        goto done;
    }
    if (cast_run(contiguous, source_type, target, target_type, &losses) < 0) {
        goto done;
    }
    answer = Py_BuildValue("(Onn)", target, (Py_ssize_t)losses.out_of_range, (Py_ssize_t)losses.rounded);
done:
    Py_XDECREF(contiguous);
    Py_XDECREF(target);
    return answer;
}

PyDoc_STRVAR(compare_doc,
             "compare(first, second, /)\n--\n\n"
             "(largest |first - second|, largest |first|, places where only one is NaN or infinities differ).");

/* KTC_FLOAT32 or KTC_FLOAT64 for two arrays of one such type: 1, or 0 with a TypeError. */
static int
comparable_type_of(PyArrayObject *first, PyArrayObject *second, ktc_element_type *type)
{
    int number = PyArray_TYPE(first);
    if (number != PyArray_TYPE(second) || (number != NPY_FLOAT32 && number != NPY_FLOAT64)) {
        PyErr_Format(PyExc_TypeError,
                     "compare: expected two float32 or two float64 arrays, got %R and %R; cast them first",
                     PyArray_DESCR(first), PyArray_DESCR(second));
        return 0;
    }
    *type = number == NPY_FLOAT32 ? KTC_FLOAT32 : KTC_FLOAT64;
    return 1;
}

static PyObject *
ktc_py_transfer_compare(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    PyObject *answer = NULL;
    PyArrayObject *first = NULL;
    PyArrayObject *second = NULL;
    ktc_element_type type;
    ktc_comparison comparison;
    ktc_status status;

    if (!ktc_args_count_is("compare", count, 2) || !ktc_args_is_array("compare", "first", args[0]) ||
        !ktc_args_is_array("compare", "second", args[1]) ||
        !comparable_type_of((PyArrayObject *)args[0], (PyArrayObject *)args[1], &type) ||
        !shapes_are_equal("compare", (PyArrayObject *)args[0], (PyArrayObject *)args[1])) {
        return NULL;
    }
    first = ktc_array_as_contiguous((PyArrayObject *)args[0], chosen_set(module));
    if (first == NULL) {
        goto done;
    }
    second = ktc_array_as_contiguous((PyArrayObject *)args[1], chosen_set(module));
    if (second == NULL) {
        goto done;
    }
    const void *left = PyArray_DATA(first);
    const void *right = PyArray_DATA(second);
    ptrdiff_t size = PyArray_SIZE(first);
    if (PyArray_NBYTES(first) < KTC_GIL_RELEASE_BYTES) {
        status = ktc_compare_run(left, right, type, size, &comparison);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        status = ktc_compare_run(left, right, type, size, &comparison);
        Py_END_ALLOW_THREADS
    }
    if (status != KTC_OK) {
        ktc_error_from_status(status, "compare");
        goto done;
    }
    answer = Py_BuildValue("(ddn)", comparison.largest_difference, comparison.largest_magnitude,
                           (Py_ssize_t)comparison.unlike);
done:
    Py_XDECREF(first);
    Py_XDECREF(second);
    return answer;
}

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
            PyErr_Format(PyExc_TypeError, "apply_callbacks: expected arrays of plain numbers, got dtype %R",
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
        /* borrowed: `calls` is a tuple that only the caller holds, and so are the items of the pairs in it */
        PyObject *pair = PyTuple_GET_ITEM(calls, index);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 || !PyUnicode_Check(PyTuple_GET_ITEM(pair, 0)) ||
            !PyCallable_Check(PyTuple_GET_ITEM(pair, 1))) {
            PyErr_Format(PyExc_TypeError,
                         "apply_callbacks: expected tuples of a str and a callable in 'calls', got %.100s",
                         Py_TYPE(pair)->tp_name);
            return 0;
        }
    }
    return 1;
}

PyDoc_STRVAR(apply_callbacks_doc,
             "apply_callbacks(layer, arrays, calls, /)\n--\n\n"
             "Chain the user's functions on a list of arrays and check what they return: a list of new arrays.");

static PyObject *
ktc_py_transfer_apply_callbacks(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    PyObject *answer = NULL;
    PyObject *arrays = NULL;
    PyObject *calls = NULL;

    if (!ktc_args_count_is("apply_callbacks", count, 3) || ktc_args_text("apply_callbacks", "layer", args[0]) == NULL ||
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

PyDoc_STRVAR(strided_view_doc,
             "strided_view(array, start, shape, strides, /)\n--\n\n"
             "A view on elements of an array, `start` bytes from its first one on, checked to lie among them.");

static PyObject *
ktc_py_transfer_strided_view(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    npy_intp shape[KTC_MAX_NDIM];
    npy_intp strides[KTC_MAX_NDIM];
    ktc_span outer;
    ktc_span inner;

    if (!ktc_args_count_is("strided_view", count, 4) || !ktc_args_is_array("strided_view", "array", args[0])) {
        return NULL;
    }
    PyArrayObject *array = (PyArrayObject *)args[0];
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
        return PyErr_Format(PyExc_ValueError, "strided_view: %d axes, but %d strides", ndim, stride_count);
    }
    ktc_status status = ktc_span_measure(ndim, shape, strides, (ptrdiff_t)PyArray_ITEMSIZE(array), &inner);
    if (status != KTC_OK) {
        return ktc_error_from_status(status, "strided_view");
    }
    if (array_span(array, "strided_view", &outer) < 0) {
        return NULL;
    }
    if (inner.low < inner.high &&
        (start < outer.low - inner.low || inner.high > outer.high || start > outer.high - inner.high)) {
        PyErr_SetString(PyExc_ValueError, "strided_view: the view reaches beyond the array's elements");
        return NULL;
    }
    PyArray_Descr *type = PyArray_DESCR(array);
    Py_INCREF(type);
    PyObject *view = PyArray_NewFromDescr(&PyArray_Type, type, ndim, shape, strides, PyArray_BYTES(array) + start,
                                          PyArray_ISWRITEABLE(array) ? NPY_ARRAY_WRITEABLE : 0, NULL);
    if (view != NULL && PyArray_SetBaseObject((PyArrayObject *)view, Py_NewRef(args[0])) < 0) {
        Py_CLEAR(view);
    }
    return view;
}

PyDoc_STRVAR(instruction_sets_doc,
             "instruction_sets()\n--\n\nNames of the instruction sets that this machine can run.");

static PyObject *
ktc_py_transfer_instruction_sets(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *names = PyList_New(0);
    for (int set = 0; names != NULL && set < KTC_INSTRUCTION_SET_COUNT; set++) {
        if (!ktc_instruction_set_is_available((ktc_instruction_set)set)) {
            continue;
        }
        PyObject *name = PyUnicode_FromString(ktc_instruction_set_name((ktc_instruction_set)set));
        if (name == NULL || PyList_Append(names, name) < 0) {
            Py_CLEAR(names);
        }
        Py_XDECREF(name);
    }
    return names;
}

PyDoc_STRVAR(instruction_set_doc, "instruction_set()\n--\n\nName of the instruction set that the kernels use.");

static PyObject *
ktc_py_transfer_instruction_set(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return PyUnicode_FromString(ktc_instruction_set_name(chosen_set(module)));
}

PyDoc_STRVAR(use_instruction_set_doc,
             "use_instruction_set(name, /)\n--\n\n"
             "Let the kernels use one of instruction_sets() from now on; meant for tests and benchmarks.");

static PyObject *
ktc_py_transfer_use_instruction_set(PyObject *module, PyObject *name)
{
    const char *text = ktc_args_text("use_instruction_set", "name", name);
    if (text == NULL) {
        return NULL;
    }
    for (int set = 0; set < KTC_INSTRUCTION_SET_COUNT; set++) {
        if (strcmp(text, ktc_instruction_set_name((ktc_instruction_set)set)) == 0 &&
            ktc_instruction_set_is_available((ktc_instruction_set)set)) {
            ktc_state_get(module)->instruction_set = set;
            Py_RETURN_NONE;
        }
    }
    PyErr_Format(PyExc_ValueError,
                 "use_instruction_set: %R is not available on this machine; instruction_sets() lists those that are",
                 name);
    return NULL;
}

PyMethodDef ktc_py_transfer_methods[] = {
    {"strided_view", (PyCFunction)(void (*)(void))ktc_py_transfer_strided_view, METH_FASTCALL, strided_view_doc},
    {"copy_strided", (PyCFunction)(void (*)(void))ktc_py_transfer_copy_strided, METH_FASTCALL, copy_strided_doc},
    {"cast", (PyCFunction)(void (*)(void))ktc_py_transfer_cast, METH_FASTCALL, cast_doc},
    {"apply_callbacks", (PyCFunction)(void (*)(void))ktc_py_transfer_apply_callbacks, METH_FASTCALL,
     apply_callbacks_doc},
    {"compare", (PyCFunction)(void (*)(void))ktc_py_transfer_compare, METH_FASTCALL, compare_doc},
    {"instruction_sets", ktc_py_transfer_instruction_sets, METH_NOARGS, instruction_sets_doc},
    {"instruction_set", ktc_py_transfer_instruction_set, METH_NOARGS, instruction_set_doc},
    {"use_instruction_set", ktc_py_transfer_use_instruction_set, METH_O, use_instruction_set_doc},
    {NULL, NULL, 0, NULL},
};
