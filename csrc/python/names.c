/* Owns the passage from Python's strings to views of bytes. Nothing here runs a user's code. */
#include "python/names.h"

#include "python/args.h"
#include "python/errors.h"

int
ktc_names_view(PyObject *string, ktc_text *text)
{
    Py_ssize_t length = 0;
    const char *bytes = PyUnicode_AsUTF8AndSize(string, &length);
    if (bytes == NULL) {
        return -1;
    }
    *text = (ktc_text){bytes, (size_t)length};
    return 0;
}

int
ktc_names_view_item(PyObject *tuple, size_t index, const char *what, ktc_text *text)
{
    /* borrowed: from a tuple, which cannot change */
    PyObject *name = PyTuple_GET_ITEM(tuple, (Py_ssize_t)index);
    /* Exactly str: a subclass could bring its own repr into messages. */
    if (!PyUnicode_CheckExact(name)) {
        PyErr_Format(PyExc_TypeError, "%s must hold str only, not %.100s (at index %zu)", what,
                     Py_TYPE(name)->tp_name, index);
        return -1;
    }
    return ktc_names_view(name, text);
}

PyObject *
ktc_names_string(ktc_text text)
{
    return PyUnicode_DecodeUTF8(text.bytes, (Py_ssize_t)text.length, NULL);
}

int
ktc_names_take(PyObject *list, const char *what, ktc_names *names)
{
    *names = (ktc_names){0};
    names->objects = ktc_args_as_tuple("names", what, list);
    if (names->objects == NULL) {
        return -1;
    }
    names->count = (size_t)PyTuple_GET_SIZE(names->objects);
    return 0;
}

int
ktc_names_view_all(ktc_names *names, const char *what)
{
    names->texts = PyMem_Calloc(names->count == 0 ? 1 : names->count, sizeof *names->texts);
    if (names->texts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t index = 0; index < names->count; index++) {
        if (ktc_names_view_item(names->objects, index, what, &names->texts[index]) < 0) {
            return -1;
        }
    }
    return 0;
}

int
ktc_names_open(PyObject *list, const char *what, ktc_names *names)
{
    return ktc_names_take(list, what, names) < 0 ? -1 : ktc_names_view_all(names, what);
}

void
ktc_names_close(ktc_names *names)
{
    PyMem_Free(names->texts);
    Py_XDECREF(names->objects);
    *names = (ktc_names){0};
}

PyObject *
ktc_names_get(const ktc_names *names, size_t index)
{
    /* Borrowed from a tuple, which cannot change while *names holds it. */
    return PyTuple_GET_ITEM(names->objects, (Py_ssize_t)index);
}

int
ktc_names_make_table(const ktc_names *names, ktc_name_table *table)
{
    ktc_status status = ktc_name_table_create(table, names->count);
    if (status != KTC_OK) {
        ktc_error_from_status(status, "table of names");
        return -1;
    }
    for (size_t index = 0; index < names->count; index++) {
        (void)ktc_name_table_add(table, names->texts[index]);
    }
    return 0;
}
