/* Owns the Python functions of the streams: values into a file, and compared with one. The GIL is
 * held only to tell of progress and to look for signals, once for each box that was written. */
#include "python/args.h"
#include "python/arrays.h"
#include "python/errors.h"
#include "python/module.h"
#include "python/state.h"
#include "stream/stream_values.h"

#include <errno.h>

/* What a step needs: the thread that gave the GIL away, and the caller's function or NULL. */
typedef struct {
    PyThreadState *thread;
    PyObject *step;
} step_context;

static int
step_told(void *pointer, ptrdiff_t bytes)
{
    step_context *context = pointer;
    int answer = -1;
    PyEval_RestoreThread(context->thread);
    if (PyErr_CheckSignals() < 0) {
        goto done;
    }
    if (context->step != NULL) {
        PyObject *result = PyObject_CallFunction(context->step, "n", (Py_ssize_t)bytes);
        if (result == NULL) {
            goto done;
        }
        Py_DECREF(result);
    }
    answer = 0;
done:
    context->thread = PyEval_SaveThread();
    return answer;
}

/* Reads a tuple of two integers, (descriptor, number): 0, or -1 with the exception set. */
static int
read_pair(const char *name, const char *argument, PyObject *pair, int *descriptor,
          long long *number)
{
    if (!PyTuple_Check(pair)) {
        PyErr_Format(PyExc_TypeError, "%s: expected a tuple for '%s', got %.100s", name, argument,
                     Py_TYPE(pair)->tp_name);
        return -1;
    }
    return PyArg_ParseTuple(pair, "iL", descriptor, number) ? 0 : -1;
}

/* The buffer of the stream: 0, or -1 with the exception set. */
static int
take_buffer(const char *name, PyObject *object, ktc_stream *stream)
{
    if (!ktc_args_is_array(name, "buffer", object)) {
        return -1;
    }
    PyArrayObject *buffer = (PyArrayObject *)object;
    if (PyArray_TYPE(buffer) != NPY_UINT8 || !PyArray_ISCARRAY(buffer)) {
        PyErr_Format(PyExc_TypeError, "%s: expected a writeable C-order uint8 array for 'buffer'",
                     name);
        return -1;
    }
    ptrdiff_t misplaced = (ptrdiff_t)((size_t)PyArray_DATA(buffer) % 64);
    ptrdiff_t skipped = misplaced == 0 ? 0 : 64 - misplaced;
    ptrdiff_t size = (ptrdiff_t)PyArray_NBYTES(buffer);
    stream->buffer = PyArray_BYTES(buffer) + (skipped < size ? skipped : size);
    stream->size = skipped < size ? size - skipped : 0;
    return 0;
}

/* Where the values come from: 0, or -1 with the exception set. */
static int
take_source(const char *name, PyObject *object, PyObject *origin, ktc_stream_source *source)
{
    long long address = 0;
    if (!ktc_args_is_array(name, "values", object)) {
        return -1;
    }
    PyArrayObject *values = (PyArrayObject *)object;
    if (PyDataType_REFCHK(PyArray_DESCR(values))) {
        PyErr_Format(PyExc_TypeError, "%s: expected plain bytes, got dtype %R", name,
                     PyArray_DESCR(values));
        return -1;
    }
    *source = (ktc_stream_source){.ndim = PyArray_NDIM(values),
                                  .shape = PyArray_SHAPE(values),
                                  .strides = PyArray_STRIDES(values),
                                  .item_size = (ptrdiff_t)PyArray_ITEMSIZE(values),
                                  .memory = PyArray_BYTES(values),
                                  .descriptor = -1};
    if (origin == Py_None) {
        return 0;
    }
    if (read_pair(name, "origin", origin, &source->descriptor, &address) < 0) {
        return -1;
    }
    source->position = (int64_t)((uintptr_t)source->memory - (uintptr_t)address);
    return 0;
}

typedef ktc_status (*stream_function)(const ktc_stream_source *, const ktc_stream_target *,
                                      ktc_stream *);

/* Reads the arguments and runs the stream, without the GIL: the status, KTC_STOPPED with an
 * exception set. */
static ktc_status
stream_called(PyObject *module, PyObject *const *args, Py_ssize_t count, const char *name,
              stream_function function)
{
    ktc_stream_source source;
    ktc_stream_target target;
    long long position;
    step_context context = {NULL, NULL};
    ktc_stream stream = {
        .set = ktc_state_get(module)->instruction_set, .step = step_told, .context = &context};

    if (!ktc_args_count_is(name, count, 5) || take_source(name, args[0], args[1], &source) < 0 ||
        read_pair(name, "target", args[2], &target.descriptor, &position) < 0 ||
        take_buffer(name, args[3], &stream) < 0) {
        return KTC_STOPPED;
    }
    target.position = (int64_t)position;
    if (args[4] != Py_None) {
        if (!PyCallable_Check(args[4])) {
            PyErr_Format(PyExc_TypeError, "%s: expected a callable or None for 'step', got %.100s",
                         name, Py_TYPE(args[4])->tp_name);
            return KTC_STOPPED;
        }
        context.step = args[4];
    }
    context.thread = PyEval_SaveThread();
    ktc_status status = function(&source, &target, &stream);
    PyEval_RestoreThread(context.thread);
    if (status == KTC_SYSTEM_ERROR) {
        errno = stream.error_number;
        PyErr_SetFromErrno(PyExc_OSError);
        return KTC_STOPPED;
    }
    if (status != KTC_OK && status != KTC_STOPPED && status != KTC_DIFFERENT) {
        ktc_error_from_status(status, name);
        return KTC_STOPPED;
    }
    return status;
}

PyDoc_STRVAR(write_doc, "write_values(values, origin, target, buffer, step, /)\n--\n\n"
                        "Write an array in C order into a file, through a buffer.");

static PyObject *
ktc_py_stream_write(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (stream_called(module, args, count, "write_values", ktc_stream_write) == KTC_STOPPED) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(holds_doc, "holds_values(values, origin, target, buffer, step, /)\n--\n\n"
                        "Whether a file holds an array in C order, bit for bit.");

static PyObject *
ktc_py_stream_holds(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    ktc_status status = stream_called(module, args, count, "holds_values", ktc_stream_compare);
    return status == KTC_STOPPED ? NULL : PyBool_FromLong(status == KTC_OK);
}

PyMethodDef ktc_py_stream_methods[] = {
    {"write_values", (PyCFunction)(void (*)(void))ktc_py_stream_write, METH_FASTCALL, write_doc},
    {"holds_values", (PyCFunction)(void (*)(void))ktc_py_stream_holds, METH_FASTCALL, holds_doc},
    {NULL, NULL, 0, NULL},
};
