/* Owns the Python function that compares two arrays value by value. */
#include "python/args.h"
#include "python/arrays.h"
#include "python/errors.h"
#include "python/module.h"
#include "python/state.h"
#include "arrays/compare.h"

/* KTC_FLOAT32 or KTC_FLOAT64 for two arrays of one such type: 1, or 0 with a TypeError. */
static int
comparable_type_of(PyArrayObject *first, PyArrayObject *second, ktc_element_type *type)
{
    int number = PyArray_TYPE(first);
    if (number != PyArray_TYPE(second) || (number != NPY_FLOAT32 && number != NPY_FLOAT64)) {
        PyErr_Format(
            PyExc_TypeError,
            "compare: expected two float32 or two float64 arrays, got %R and %R; cast them first",
            PyArray_DESCR(first), PyArray_DESCR(second));
        return 0;
    }
    *type = number == NPY_FLOAT32 ? KTC_FLOAT32 : KTC_FLOAT64;
    return 1;
}

typedef struct {
    const void *first;
    const void *second;
    ktc_element_type type;
    ptrdiff_t count;
    ktc_comparison found;
} compare_work;

static void
compare_run(void *context)
{
    compare_work *work = context;
    (void)ktc_compare_run(work->first, work->second, work->type, work->count, &work->found);
}

PyDoc_STRVAR(compare_doc, "compare(first, second, /)\n--\n\n"
                          "(largest |first - second|, largest |first|, places where only one is "
                          "NaN or infinities differ).");

static PyObject *
ktc_py_compare_run(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    PyObject *answer = NULL;
    ktc_held first = {NULL, NULL};
    ktc_held second = {NULL, NULL};
    ktc_instruction_set set = ktc_state_instruction_set(module);
    ktc_element_type type;

    if (!ktc_args_count_is("compare", count, 2) ||
        !ktc_args_is_array("compare", "first", args[0]) ||
        !ktc_args_is_array("compare", "second", args[1]) ||
        !comparable_type_of((PyArrayObject *)args[0], (PyArrayObject *)args[1], &type)) {
        return NULL;
    }
    /* The shapes are those of what is held: another thread may change an array meanwhile. */
    if (ktc_held_open(&first, (PyArrayObject *)args[0], set) < 0 ||
        ktc_held_open(&second, (PyArrayObject *)args[1], set) < 0 ||
        !ktc_array_shapes_equal("compare", first.array, second.array)) {
        goto done;
    }
    compare_work work = {.first = PyArray_DATA(first.array),
                         .second = PyArray_DATA(second.array),
                         .type = type,
                         .count = PyArray_SIZE(first.array)};
    PyObject *pin = PyTuple_Check(first.pin) ? second.pin : first.pin;
    if (ktc_kernel_run("compare", pin, PyArray_NBYTES(first.array), compare_run, &work) < 0) {
        goto done;
    }
    answer = Py_BuildValue("(ddn)", work.found.largest_difference, work.found.largest_magnitude,
                           (Py_ssize_t)work.found.unlike);
done:
    ktc_held_close(&first);
    ktc_held_close(&second);
    return answer;
}

PyMethodDef ktc_py_compare_methods[] = {
    {"compare", (PyCFunction)(void (*)(void))ktc_py_compare_run, METH_FASTCALL, compare_doc},
    {NULL, NULL, 0, NULL},
};
