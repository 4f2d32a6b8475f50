/* Owns the Python function that casts: names of element types, NumPy's numbers for them, the array
 * that is filled. */
#include "python/args.h"
#include "python/arrays.h"
#include "python/errors.h"
#include "python/module.h"
#include "python/state.h"
#include "arrays/cast.h"

/* The element type that a name stands for: 1, or 0 with the exception set. */
static int
element_type_of(const char *argument, PyObject *name, ktc_element_type *type)
{
    const char *text = ktc_args_text("cast", argument, name);
    if (text == NULL) {
        return 0;
    }
    if (!ktc_element_type_find(text, type)) {
        PyErr_Format(PyExc_TypeError,
                     "cast: %s %R is not supported; supported are bool, int8 to int64, uint8 to "
                     "uint64, float16, bfloat16, "
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

typedef struct {
    const void *source;
    ktc_element_type source_type;
    void *target;
    ktc_element_type target_type;
    ptrdiff_t count;
    ktc_instruction_set set;
    ktc_cast_losses losses;
} cast_work;

static void
cast_run(void *context)
{
    cast_work *work = context;
    /* The types are known, so it cannot fail. */
    (void)ktc_cast_run(work->source, work->source_type, work->target, work->target_type,
                       work->count, work->set, &work->losses);
}

PyDoc_STRVAR(
    cast_doc,
    "cast(source, source_type, target_type, /)\n--\n\n"
    "Convert to another element type: (new C-order array, values out of range, values rounded).");

static PyObject *
ktc_py_cast_run(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    PyObject *answer = NULL;
    ktc_held held = {NULL, NULL};
    PyArrayObject *target = NULL;
    ktc_element_type source_type;
    ktc_element_type target_type;

    if (!ktc_args_count_is("cast", count, 3) || !ktc_args_is_array("cast", "source", args[0]) ||
        !element_type_of("source_type", args[1], &source_type) ||
        !element_type_of("target_type", args[2], &target_type)) {
        return NULL;
    }
    PyArrayObject *source = (PyArrayObject *)args[0];
    if (!PyArray_EquivTypenums(PyArray_TYPE(source), numpy_type_of(source_type))) {
        return PyErr_Format(
            PyExc_TypeError, "cast: source_type %R does not fit an array of dtype %R%s", args[1],
            PyArray_DESCR(source),
            source_type == KTC_BFLOAT16 ? "; bfloat16 travels as uint16, use .view(numpy.uint16)"
                                        : "");
    }
    ktc_instruction_set set = ktc_state_instruction_set(module);
    if (ktc_held_open(&held, source, set) < 0) {
        goto done;
    }
    target = (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM(held.array), PyArray_SHAPE(held.array),
                                                numpy_type_of(target_type));
    if (target == NULL) {
        goto done;
    }
    cast_work work = {.source = PyArray_DATA(held.array),
                      .source_type = source_type,
                      .target = PyArray_DATA(target),
                      .target_type = target_type,
                      .count = PyArray_SIZE(target),
                      .set = set};
    if (ktc_kernel_run("cast", held.pin, PyArray_NBYTES(held.array) + PyArray_NBYTES(target),
                       cast_run, &work) < 0) {
        goto done;
    }
    answer = Py_BuildValue("(Onn)", target, (Py_ssize_t)work.losses.out_of_range,
                           (Py_ssize_t)work.losses.rounded);
done:
    ktc_held_close(&held);
    Py_XDECREF(target);
    return answer;
}

PyMethodDef ktc_py_cast_methods[] = {
    {"cast", (PyCFunction)(void (*)(void))ktc_py_cast_run, METH_FASTCALL, cast_doc},
    {NULL, NULL, 0, NULL},
};
