/* Lists of str as views of their UTF-8 bytes, the form in which kernels take names. */
#ifndef KTC_NAMES_H
#define KTC_NAMES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "names/table.h"

typedef struct {
    PyObject *objects; /* a tuple of our own, which keeps the bytes alive */
    ktc_text *texts;   /* NULL when they are only taken, not opened */
    size_t count;
} ktc_names;

/* Opens a list or tuple of str; `what` names the argument in messages. 0, or -1 with an exception
 * set; *names is safe to close after either. */
int ktc_names_open(PyObject *list, const char *what, ktc_names *names);

/* The two steps of it, for names that are looked at one by one: only the tuple, then the views of
 * all. */
int ktc_names_take(PyObject *list, const char *what, ktc_names *names);
int ktc_names_view_all(ktc_names *names, const char *what);

void ktc_names_close(ktc_names *names);

/* The str at an index: borrowed from the tuple that *names owns. */
PyObject *ktc_names_get(const ktc_names *names, size_t index);

/* A view of one str, which must outlive it: 0, or -1 with an exception set (lone surrogates have no
 * UTF-8). */
int ktc_names_view(PyObject *string, ktc_text *text);

/* The same of an item of a tuple, which must be exactly str; `what` names the tuple in messages. */
int ktc_names_view_item(PyObject *tuple, size_t index, const char *what, ktc_text *text);

/* A new str with these bytes, or NULL with an exception set. */
PyObject *ktc_names_string(ktc_text text);

/* The set of the names: 0, or -1 with an exception set; *table is safe to free after either. */
int ktc_names_make_table(const ktc_names *names, ktc_name_table *table);

#endif
