/* Owns the Python functions that decode quantized weights: types, shapes, and which codes, factors
 * and rows belong together. */
#include "python/args.h"
#include "python/arrays.h"
#include "python/errors.h"
#include "python/module.h"
#include "python/state.h"
#include "arrays/dequantize.h"
#include "arrays/permute_plan.h"
#include "stream/pair.h"

#include <string.h>

/* 1 when codes can be read where they lie, from row to row by any step, else 0 with TypeError. */
static int
codes_are(const char *function, PyArrayObject *codes, int type)
{
    if (PyArray_EquivTypenums(PyArray_TYPE(codes), type) && PyArray_NDIM(codes) == 2 &&
        PyArray_ISALIGNED(codes) && PyArray_ISNOTSWAPPED(codes) &&
        (PyArray_DIM(codes, 1) < 2 || PyArray_SIZE(codes) == 0 ||
         PyArray_STRIDE(codes, 1) == PyArray_ITEMSIZE(codes))) {
        return 1;
    }
    PyErr_Format(PyExc_TypeError,
                 "%s: codes must be an aligned array of two axes, of dtype %s, the last axis "
                 "contiguous",
                 function, type == NPY_UINT8 ? "uint8" : "uint32");
    return 0;
}

/* Opens an array of one type and shape (`rows` -1: one axis, of `columns`): 0, or -1 with the
 * exception set. */
static int
open_factors(const char *function, const char *argument, PyArrayObject *array, int type,
             npy_intp rows, npy_intp columns, ktc_held *held)
{
    int ndim = rows < 0 ? 1 : 2;
    if (!PyArray_EquivTypenums(PyArray_TYPE(array), type)) {
        PyErr_Format(PyExc_TypeError, "%s: '%s' cannot have the dtype %R", function, argument,
                     PyArray_DESCR(array));
        return -1;
    }
    if (PyArray_NDIM(array) != ndim || PyArray_DIM(array, ndim - 1) != columns ||
        (ndim == 2 && PyArray_DIM(array, 0) != rows)) {
        PyErr_Format(PyExc_ValueError, "%s: '%s' does not fit the shape of the codes", function,
                     argument);
        return -1;
    }
    return ktc_held_open(held, array, KTC_PORTABLE);
}

/* The type that numbers are rounded to: 1, or 0 with the exception set. */
static int
type_of(const char *function, const char *dtype, ktc_element_type *type)
{
    if (ktc_element_type_find(dtype, type) &&
        (*type == KTC_BFLOAT16 || *type == KTC_FLOAT16 || *type == KTC_FLOAT32)) {
        return 1;
    }
    PyErr_Format(PyExc_TypeError, "%s: expected bfloat16, float16 or float32, got '%.100s'",
                 function, dtype);
    return 0;
}

/* The array for the numbers, bfloat16 as uint16: a new one for `into` None, else that one, which is
 * theirs or float32. A new reference, or NULL with the exception set. */
static PyArrayObject *
open_target(const char *function, const char *dtype, npy_intp rows, npy_intp columns,
            PyObject *into, ktc_decoded *target)
{
    npy_intp shape[2] = {rows, columns};
    ktc_permute_plan plan; /* refuses elements that share memory */
    if (!type_of(function, dtype, &target->type)) {
        return NULL;
    }
    int number = target->type == KTC_BFLOAT16
                     ? NPY_UINT16
                     : (target->type == KTC_FLOAT16 ? NPY_FLOAT16 : NPY_FLOAT32);
    if (into != Py_None && !PyArray_Check(into)) {
        PyErr_Format(PyExc_TypeError, "%s: the target must be an array or None", function);
        return NULL;
    }
    PyArrayObject *array =
        (PyArrayObject *)(into == Py_None ? PyArray_SimpleNew(2, shape, number) : Py_NewRef(into));
    if (array == NULL) {
        return NULL;
    }
    target->is_widened = number != NPY_FLOAT32 && PyArray_TYPE(array) == NPY_FLOAT32;
    if ((PyArray_TYPE(array) != number && !target->is_widened) || PyArray_NDIM(array) != 2 ||
        PyArray_DIM(array, 0) != rows || PyArray_DIM(array, 1) != columns ||
        !PyArray_ISBEHAVED(array) ||
        ktc_permute_plan_make(2, shape, PyArray_STRIDES(array), PyArray_STRIDES(array),
                              PyArray_ITEMSIZE(array), &plan) != KTC_OK) {
        PyErr_Format(PyExc_ValueError,
                     "%s: expected a writable target of %zd x %zd elements, of dtype %s or float32",
                     function, (Py_ssize_t)rows, (Py_ssize_t)columns,
                     target->type == KTC_BFLOAT16 ? "uint16" : dtype);
        Py_DECREF(array);
        return NULL;
    }
    target->elements = PyArray_DATA(array);
    target->rows = rows;
    target->columns = columns;
    target->row_stride = PyArray_STRIDE(array, 0);
    target->column_stride = PyArray_STRIDE(array, 1);
    return array;
}

/* From so many bytes on two threads decode, in so many parts. */
#define PAIR_BYTES ((npy_intp)2 << 20)
#define PARTS 16

/* What the threads share: codes of one of two kinds, and which lines of the target are to come. */
typedef struct {
    const ktc_float_codes *floats;
    const ktc_whole_codes *whole;
    ktc_decoded target;
    ktc_instruction_set set;
    npy_intp bytes;
    ktc_lock lock;
    ptrdiff_t next;
    ptrdiff_t lines;   /* of the target */
    ptrdiff_t at_once; /* of them */
    ktc_status status; /* of the first thing that went wrong */
} decode_work;

/* Decodes parts as long as any is left. */
static void
parts_decode(void *context)
{
    decode_work *work = context;
    ktc_decoded part = work->target;
    ktc_lock_take(&work->lock);
    while (work->next < work->lines && work->status == KTC_OK) {
        part.first = work->next;
        part.end =
            work->at_once < work->lines - part.first ? part.first + work->at_once : work->lines;
        work->next = part.end;
        ktc_lock_give(&work->lock);
        ktc_status status = work->floats != NULL ? ktc_decode_floats(work->floats, &part, work->set)
                                                 : ktc_decode_whole(work->whole, &part, work->set);
        ktc_lock_take(&work->lock);
        work->status = work->status == KTC_OK ? status : work->status;
    }
    ktc_lock_give(&work->lock);
}

static void
decode_run(void *context)
{
    decode_work *work = context;
    work->lines = work->at_once = ktc_decoded_lines(&work->target);
    if (work->bytes < PAIR_BYTES || !ktc_pair_is_worthwhile()) {
        parts_decode(work);
        return;
    }
    ptrdiff_t least = work->lines / PARTS / KTC_DECODED_LINES + 1;
    work->at_once = least * KTC_DECODED_LINES;
    ktc_pair_run(parts_decode, work, work);
}

/* 1 with *format filled, or 0 with the exception set. */
static int
format_of(const char *function, const char *text, ktc_small_float *format)
{
    static const char names[][16] = {[KTC_FLOAT8_E4M3FN] = "float8_e4m3fn",
                                     [KTC_FLOAT8_E5M2] = "float8_e5m2",
                                     [KTC_FLOAT4_E2M1FN] = "float4_e2m1fn"};
    for (int number = 0; number <= KTC_FLOAT4_E2M1FN; number++) {
        if (strcmp(text, names[number]) == 0) {
            *format = (ktc_small_float)number;
            return 1;
        }
    }
    PyErr_Format(PyExc_TypeError,
                 "%s: expected float8_e4m3fn, float8_e5m2 or float4_e2m1fn, got '%.100s'", function,
                 text);
    return 0;
}

static npy_intp
blocks_in(npy_intp extent, npy_intp block)
{
    return extent / block + (extent % block != 0);
}

PyDoc_STRVAR(decode_floats_doc,
             "decode_floats(codes, format, scales, columns, block_rows, block_columns, dtype, "
             "into=None, /)\n--\n\n"
             "Floating-point numbers of 8 or 4 bits, times one factor for each block.");

static PyObject *
ktc_py_decode_floats(PyObject *module, PyObject *args)
{
    static const char name[] = "decode_floats";
    PyArrayObject *codes;
    PyArrayObject *scales;
    PyArrayObject *target = NULL;
    PyObject *answer = NULL;
    PyObject *pin = NULL;
    Py_ssize_t columns;
    Py_ssize_t block_rows;
    Py_ssize_t block_columns;
    const char *format;
    const char *dtype;
    PyObject *into = Py_None;
    PyObject *target_pin = NULL;
    ktc_held held = {NULL, NULL};
    ktc_float_codes found;
    decode_work work = {
        .floats = &found, .set = ktc_state_instruction_set(module), .lock = KTC_LOCK_FREE};

    if (!PyArg_ParseTuple(args, "O!sO!nnns|O:decode_floats", &PyArray_Type, &codes, &format,
                          &PyArray_Type, &scales, &columns, &block_rows, &block_columns, &dtype,
                          &into) ||
        !format_of(name, format, &found.format) || !codes_are(name, codes, NPY_UINT8)) {
        return NULL;
    }
    npy_intp rows = PyArray_DIM(codes, 0);
    npy_intp room = PyArray_DIM(codes, 1) * (found.format == KTC_FLOAT4_E2M1FN ? 2 : 1);
    if (columns < 0 || columns > room || block_rows < 1 || block_columns < 1) {
        return PyErr_Format(PyExc_ValueError,
                            "%s: %zd columns in blocks of %zd x %zd do not fit the codes", name,
                            columns, block_rows, block_columns);
    }
    if (open_factors(name, "scales", scales, NPY_FLOAT32, blocks_in(rows, block_rows),
                     blocks_in(columns, block_columns), &held) < 0 ||
        (pin = ktc_pin((PyObject *)codes)) == NULL ||
        (target = open_target(name, dtype, rows, columns, into, &work.target)) == NULL ||
        (target_pin = ktc_pin((PyObject *)target)) == NULL) {
        goto done;
    }
    found.codes = PyArray_DATA(codes);
    found.pitch = PyArray_STRIDE(codes, 0);
    found.scales = PyArray_DATA(held.array);
    found.block_rows = block_rows;
    found.block_columns = block_columns;
    work.bytes = PyArray_NBYTES(target);
    if (ktc_kernel_run(name, pin, work.bytes, decode_run, &work) == 0) {
        answer = Py_NewRef((PyObject *)target);
    }
done:
    ktc_held_close(&held);
    Py_XDECREF(pin);
    Py_XDECREF(target_pin);
    Py_XDECREF(target);
    return answer;
}

PyDoc_STRVAR(
    decode_whole_doc,
    "decode_whole(words, scales, zeros, groups, bits, packs_rows, dtype, into=None, /)\n--\n\n"
    "(code - zero) * scale of codes of 4 or 8 bits, packed into words of 32.");

static PyObject *
ktc_py_decode_whole(PyObject *module, PyObject *args)
{
    static const char name[] = "decode_whole";
    PyArrayObject *words;
    PyArrayObject *scales;
    PyArrayObject *zeros;
    PyArrayObject *groups;
    PyArrayObject *target = NULL;
    PyObject *answer = NULL;
    PyObject *pin = NULL;
    int bits;
    int packs_rows;
    const char *dtype;
    PyObject *into = Py_None;
    PyObject *target_pin = NULL;
    ktc_held of_scales = {NULL, NULL};
    ktc_held of_zeros = {NULL, NULL};
    ktc_held of_groups = {NULL, NULL};
    ktc_whole_codes found;
    decode_work work = {
        .whole = &found, .set = ktc_state_instruction_set(module), .lock = KTC_LOCK_FREE};

    if (!PyArg_ParseTuple(args, "O!O!O!O!ips|O:decode_whole", &PyArray_Type, &words, &PyArray_Type,
                          &scales, &PyArray_Type, &zeros, &PyArray_Type, &groups, &bits,
                          &packs_rows, &dtype, &into) ||
        !codes_are(name, words, NPY_UINT32)) {
        return NULL;
    }
    if (bits != 4 && bits != 8) {
        return PyErr_Format(PyExc_ValueError, "%s: codes of %d bits, expected 4 or 8", name, bits);
    }
    npy_intp rows = PyArray_DIM(words, 0);
    npy_intp columns = PyArray_DIM(words, 1);
    npy_intp *packed = packs_rows ? &rows : &columns;
    if (*packed > PY_SSIZE_T_MAX / (32 / bits)) {
        return ktc_error_from_status(KTC_OVERFLOW, name);
    }
    *packed *= 32 / bits;
    npy_intp count = PyArray_NDIM(scales) == 2 ? PyArray_DIM(scales, 0) : 0;
    if (open_factors(name, "scales", scales, NPY_FLOAT32, count, columns, &of_scales) < 0 ||
        open_factors(name, "zeros", zeros, NPY_FLOAT32, count, columns, &of_zeros) < 0 ||
        open_factors(name, "groups", groups, NPY_INT32, -1, rows, &of_groups) < 0 ||
        (pin = ktc_pin((PyObject *)words)) == NULL ||
        (target = open_target(name, dtype, rows, columns, into, &work.target)) == NULL ||
        (target_pin = ktc_pin((PyObject *)target)) == NULL) {
        goto done;
    }
    found = (ktc_whole_codes){.words = PyArray_DATA(words),
                              .pitch = PyArray_STRIDE(words, 0) / (npy_intp)sizeof(uint32_t),
                              .bits = bits,
                              .packs_rows = packs_rows,
                              .scales = PyArray_DATA(of_scales.array),
                              .zeros = PyArray_DATA(of_zeros.array),
                              .groups = count,
                              .group_of_row = PyArray_DATA(of_groups.array)};
    work.bytes = PyArray_NBYTES(target);
    if (ktc_kernel_run(name, pin, work.bytes, decode_run, &work) < 0) {
        goto done;
    }
    if (work.status != KTC_OK) {
        PyErr_Format(PyExc_ValueError, "%s: a row names a group that is none of the %zd", name,
                     (Py_ssize_t)count);
        goto done;
    }
    answer = Py_NewRef((PyObject *)target);
done:
    ktc_held_close(&of_scales);
    ktc_held_close(&of_zeros);
    ktc_held_close(&of_groups);
    Py_XDECREF(pin);
    Py_XDECREF(target_pin);
    Py_XDECREF(target);
    return answer;
}

PyMethodDef ktc_py_dequantize_methods[] = {
    {"decode_floats", ktc_py_decode_floats, METH_VARARGS, decode_floats_doc},
    {"decode_whole", ktc_py_decode_whole, METH_VARARGS, decode_whole_doc},
    {NULL, NULL, 0, NULL},
};
