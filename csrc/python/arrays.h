/* The one door to NumPy's C API: every other boundary file asks for arrays here. */
#ifndef KTC_ARRAYS_H
#define KTC_ARRAYS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define PY_ARRAY_UNIQUE_SYMBOL ktc_numpy_api
#ifndef KTC_ARRAYS_IMPORT
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include <stddef.h>

#include "arrays/instruction_set.h"

/* Kernels that touch at least this many bytes run without the GIL. Handing the GIL over and taking
 * it back costs up to a few microseconds under contention; a kernel needs that long for about 64
 * KiB, the threshold that xxhash uses as well. */
#define KTC_GIL_RELEASE_BYTES 65536

/* Loads NumPy's function table: 0, or -1 with the exception set. */
int ktc_arrays_import(void);

/* 1 when the elements are booleans, integers or real floating-point numbers (types registered by
 * other packages, such as bfloat16, included), 0 for objects, strings, complex numbers, dates and
 * records. */
int ktc_array_is_plain(PyArrayObject *array);

/* 1 when two arrays have the same shape, else 0 with a ValueError, in the name of `function`, that
 * shows both. */
int ktc_array_shapes_equal(const char *function, PyArrayObject *first, PyArrayObject *second);

/* Keeps the memory of an array, or of another object whose buffer is exported, where it is: what
 * owns it lives on and refuses to be resized. A new reference, to be given up after use: a tuple of
 * the array that owns the memory and a weak reference, or the owner itself when that is no array.
 * NULL with the exception set. */
PyObject *ktc_pin(PyObject *object);

/* Runs work(context), a kernel: without the GIL when it touches as many bytes as make that worth
 * it. When `pin`, of what is read, is no array's own memory, a file that is cut meanwhile ends it.
 * 0, or -1 with OSError set in the name of `function`. */
int ktc_kernel_run(const char *function, PyObject *pin, ptrdiff_t bytes,
                   void (*work)(void *context), void *context);

/* Copies source into target with the strided-copy kernel: 0, or -1 with the exception set. Both
 * borrowed. The caller has checked that types, shapes and target (writeable, not sharing memory
 * with source) fit. */
int ktc_array_copy_into(PyArrayObject *source, PyArrayObject *target,
                        ktc_instruction_set instruction_set);

/* An array to be read without the GIL. */
typedef struct {
    PyArrayObject *array; /* C-contiguous, aligned and native: the one given, or a fresh copy */
    PyObject *pin;
} ktc_held;

/* 0, or -1 with the exception set; *held is safe to give up after either. */
int ktc_held_open(ktc_held *held, PyArrayObject *source, ktc_instruction_set instruction_set);
void ktc_held_close(ktc_held *held);

#endif
