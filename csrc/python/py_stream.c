/* Owns the Python functions of the streams: values into a file, and compared with one, by their
 * bits or by a checksum. The GIL is held only to tell of progress and to look for signals, once for
 * each box that was written. */
#include "python/args.h"
#include "python/arrays.h"
#include "python/errors.h"
#include "python/module.h"
#include "python/state.h"
#include "arrays/axes.h"
#include "arrays/span.h"
#include "stream/checksum.h"
#include "stream/positional.h"
#include "stream/stream_values.h"

#include <errno.h>

/* All that one call holds on to. */
typedef struct {
    const char *name; /* of the function */
    PyThreadState *thread;
    PyObject *step; /* the caller's function, borrowed, or NULL */
    Py_buffer buffer;
    PyObject *pins[2];    /* of the values and of the buffer */
    const void *owned[2]; /* where the memory of the arrays was that own it, or NULL */
    npy_intp bytes[2];    /* and how large */
    ptrdiff_t shape[KTC_MAX_NDIM];
    ptrdiff_t strides[KTC_MAX_NDIM];
} call;

/* Keeps the memory of the values or the buffer where it is. 0, or -1 with the exception set. */
static int
call_pin(call *current, int index, PyObject *object)
{
    PyObject *pin = ktc_pin(object);
    current->pins[index] = pin;
    if (pin != NULL && PyTuple_Check(pin)) {
        /* borrowed: from a tuple that nobody else has seen */
        PyArrayObject *owner = (PyArrayObject *)PyTuple_GET_ITEM(pin, 0);
        current->owned[index] = PyArray_DATA(owner);
        current->bytes[index] = PyArray_NBYTES(owner);
    }
    return pin == NULL ? -1 : 0;
}

/* 1 when the memory is where it was, else 0 with the exception set: __setstate__ alone can take it
 * away from an array that is pinned. */
static int
call_is_whole(const call *current)
{
    for (int index = 0; index < 2; index++) {
        if (current->owned[index] == NULL) {
            continue;
        }
        /* Borrowed: from a tuple that nobody else has seen. Smaller memory may lie at the same
         * address. */
        PyArrayObject *owner = (PyArrayObject *)PyTuple_GET_ITEM(current->pins[index], 0);
        if (PyArray_DATA(owner) != current->owned[index] ||
            PyArray_NBYTES(owner) < current->bytes[index]) {
            PyErr_Format(PyExc_RuntimeError, "%s: an array lost its memory meanwhile",
                         current->name);
            return 0;
        }
    }
    return 1;
}

static void
call_close(call *current)
{
    PyBuffer_Release(&current->buffer);
    Py_CLEAR(current->pins[0]);
    Py_CLEAR(current->pins[1]);
}

static int
step_told(void *pointer, ptrdiff_t bytes)
{
    call *current = pointer;
    int answer = -1;
    PyEval_RestoreThread(current->thread);
    if (PyErr_CheckSignals() < 0) {
        goto done;
    }
    if (current->step != NULL) {
        PyObject *result = PyObject_CallFunction(current->step, "n", (Py_ssize_t)bytes);
        if (result == NULL) {
            goto done;
        }
        Py_DECREF(result);
    }
    answer = call_is_whole(current) ? 0 : -1;
done:
    current->thread = PyEval_SaveThread();
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
take_buffer(call *current, PyObject *object, ktc_stream *stream)
{
    Py_buffer *buffer = &current->buffer;
    if (PyObject_GetBuffer(object, buffer, PyBUF_WRITABLE | PyBUF_ND | PyBUF_FORMAT) < 0 ||
        strcmp(buffer->format, "B") != 0) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%s: expected a writeable buffer of bytes for 'buffer'",
                     current->name);
        return -1;
    }
    ptrdiff_t misplaced = (ptrdiff_t)((size_t)buffer->buf % 64);
    ptrdiff_t skipped = misplaced == 0 ? 0 : 64 - misplaced;
    skipped = skipped < buffer->len ? skipped : buffer->len;
    stream->buffer = (char *)buffer->buf + skipped;
    stream->size = buffer->len - skipped;
    return call_pin(current, 1, object);
}

/* Where the values come from: 0, or -1 with the exception set. */
static int
take_source(call *current, PyObject *object, ktc_stream_source *source)
{
    if (!ktc_args_is_array(current->name, "values", object)) {
        return -1;
    }
    PyArrayObject *values = (PyArrayObject *)object;
    if (PyDataType_REFCHK(PyArray_DESCR(values))) {
        PyErr_Format(PyExc_TypeError, "%s: expected plain bytes, got dtype %R", current->name,
                     PyArray_DESCR(values));
        return -1;
    }
    source->ndim = PyArray_NDIM(values);
    source->item_size = (ptrdiff_t)PyArray_ITEMSIZE(values);
    source->memory = PyArray_BYTES(values);
    /* Copies: an array that gets another shape frees the old one. */
    for (int axis = 0; axis < source->ndim; axis++) {
        current->shape[axis] = PyArray_DIM(values, axis);
        current->strides[axis] = PyArray_STRIDE(values, axis);
    }
    source->shape = current->shape;
    source->strides = current->strides;
    return call_pin(current, 0, object);
}

typedef ktc_status (*stream_function)(const ktc_stream_source *, const ktc_stream_target *,
                                      ktc_stream *);

/* Reads the arguments, those first that may run code of their own: 0, or -1 with the exception set.
 */
static int
call_open(call *current, PyObject *const *args, Py_ssize_t count, ktc_stream_source *source,
          ktc_stream_target *target, ktc_stream *stream)
{
    long long address = 0;
    long long position;
    if (!ktc_args_count_is(current->name, count, 6) ||
        read_pair(current->name, "target", args[2], &target->descriptor, &position) < 0 ||
        (args[1] != Py_None &&
         read_pair(current->name, "origin", args[1], &source->descriptor, &address) < 0)) {
        return -1;
    }
    target->position = (int64_t)position;
    if (args[4] != Py_None) {
        if (!PyCallable_Check(args[4])) {
            PyErr_Format(PyExc_TypeError, "%s: expected a callable or None for 'step', got %.100s",
                         current->name, Py_TYPE(args[4])->tp_name);
            return -1;
        }
        current->step = args[4];
    }
    if (args[5] != Py_None) {
        const char *type = ktc_args_text(current->name, "widened", args[5]);
        source->is_widened = type != NULL;
        if (type == NULL) {
            return -1;
        }
        if (!ktc_element_type_find(type, &source->type)) {
            source->type = KTC_ELEMENT_TYPE_COUNT;
        }
    }
    if (take_source(current, args[0], source) < 0 || take_buffer(current, args[3], stream) < 0) {
        return -1;
    }
    ktc_span span;
    ktc_span room = {0, stream->size};
    if (ktc_span_measure(source->ndim, source->shape, source->strides, source->item_size, &span) ==
            KTC_OK &&
        ktc_span_overlaps(source->memory, span, stream->buffer, room)) {
        PyErr_Format(PyExc_ValueError, "%s: values and buffer share memory", current->name);
        return -1;
    }
    source->position = (int64_t)((uintptr_t)source->memory - (uintptr_t)address);
    return 0;
}

static void
set_error(ktc_status status, int error_number, const char *name)
{
    if (status == KTC_SYSTEM_ERROR) {
        errno = error_number;
        PyErr_SetFromErrno(PyExc_OSError);
        return;
    }
    ktc_error_from_status(status, name);
}

/* Reads the arguments and runs the stream, without the GIL: the status, KTC_STOPPED with an
 * exception set. */
static ktc_status
stream_called(ktc_stream *stream, PyObject *const *args, Py_ssize_t count, const char *name,
              stream_function function)
{
    ktc_status status = KTC_STOPPED;
    call current = {.name = name};
    ktc_stream_source source = {.descriptor = -1};
    ktc_stream_target target;

    stream->step = step_told;
    stream->context = &current;
    if (call_open(&current, args, count, &source, &target, stream) == 0) {
        current.thread = PyEval_SaveThread();
        status = function(&source, &target, stream);
        PyEval_RestoreThread(current.thread);
    }
    call_close(&current);
    if (status != KTC_OK && status != KTC_STOPPED && status != KTC_DIFFERENT) {
        set_error(status, stream->error_number, name);
        return KTC_STOPPED;
    }
    return status;
}

PyDoc_STRVAR(write_doc,
             "write_values(values, origin, target, buffer, step, widened, is_summed, /)\n--\n\n"
             "Write an array in C order into a file, through a buffer. The checksum of what was "
             "written, at its places in the file, or 0 where none is asked for.");

static PyObject *
ktc_py_stream_write(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    ktc_stream stream = {.set = ktc_state_instruction_set(module)};
    if (!ktc_args_count_is("write_values", count, 7)) {
        return NULL;
    }
    stream.is_summed = PyObject_IsTrue(args[6]);
    if (stream.is_summed < 0 ||
        stream_called(&stream, args, count - 1, "write_values", ktc_stream_write) == KTC_STOPPED) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(stream.checksum);
}

PyDoc_STRVAR(holds_doc, "holds_values(values, origin, target, buffer, step, widened, /)\n--\n\n"
                        "Whether a file holds an array in C order, bit for bit.");

static PyObject *
ktc_py_stream_holds(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    ktc_stream stream = {.set = ktc_state_instruction_set(module)};
    ktc_status status = stream_called(&stream, args, count, "holds_values", ktc_stream_compare);
    return status == KTC_STOPPED ? NULL : PyBool_FromLong(status == KTC_OK);
}

PyDoc_STRVAR(checksum_doc, "checksum_of_file(source, size, buffer, /)\n--\n\n"
                           "The checksum of bytes of a file, as `write_values` gives it.");

static PyObject *
ktc_py_stream_checksum(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    const char *name = "checksum_of_file";
    call current = {.name = name};
    ktc_stream room = {0};
    ktc_file_part part = {0};
    long long position = 0;
    uint64_t checksum = 0;
    ktc_status status = KTC_STOPPED;

    if (!ktc_args_count_is(name, count, 3) ||
        read_pair(name, "source", args[0], &part.descriptor, &position) < 0) {
        return NULL;
    }
    part.position = (int64_t)position;
    part.length = (ptrdiff_t)PyLong_AsSsize_t(args[1]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    if (part.position < 0 || part.length < 0 || part.position > INT64_MAX - part.length) {
        return PyErr_Format(PyExc_ValueError, "%s: a file has no such bytes", name);
    }
    if (take_buffer(&current, args[2], &room) == 0) {
        part.buffer = room.buffer;
        part.size = room.size;
        status = KTC_NO_MEMORY;
        if (part.size >= 2) {
            current.thread = PyEval_SaveThread();
            status = ktc_checksum_of_file(&part, &checksum);
            PyEval_RestoreThread(current.thread);
        }
    }
    call_close(&current);
    if (status != KTC_OK) {
        if (status != KTC_STOPPED) {
            set_error(status, part.error_number, name);
        }
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(checksum);
}

PyDoc_STRVAR(flush_doc, "begin_flush(target, size, /)\n--\n\n"
                        "Have the system begin to write bytes of a file to the disk.");

static PyObject *
ktc_py_stream_flush(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    const char *name = "begin_flush";
    int descriptor;
    long long position;
    if (!ktc_args_count_is(name, count, 2) ||
        read_pair(name, "target", args[0], &descriptor, &position) < 0) {
        return NULL;
    }
    long long size = PyLong_AsLongLong(args[1]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    ktc_flush_begin(descriptor, position, size);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyMethodDef ktc_py_stream_methods[] = {
    {"write_values", (PyCFunction)(void (*)(void))ktc_py_stream_write, METH_FASTCALL, write_doc},
    {"holds_values", (PyCFunction)(void (*)(void))ktc_py_stream_holds, METH_FASTCALL, holds_doc},
    {"checksum_of_file", (PyCFunction)(void (*)(void))ktc_py_stream_checksum, METH_FASTCALL,
     checksum_doc},
    {"begin_flush", (PyCFunction)(void (*)(void))ktc_py_stream_flush, METH_FASTCALL, flush_doc},
    {NULL, NULL, 0, NULL},
};
