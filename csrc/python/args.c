/* Owns the wording of wrong-argument errors. */
#include "python/args.h"
#include "python/arrays.h"

int
ktc_args_count_is(const char *function, Py_ssize_t given, Py_ssize_t expected)
{
    if (given == expected) {
        return 1;
    }
    PyErr_Format(PyExc_TypeError, "%s: expected %zd positional arguments, got %zd", function,
                 expected, given);
    return 0;
}

static int
refuse(const char *function, const char *argument, const char *expected, PyObject *object)
{
    PyErr_Format(PyExc_TypeError, "%s: expected %s for '%s', got %.100s", function, expected,
                 argument, Py_TYPE(object)->tp_name);
    return 0;
}

int
ktc_args_is_list(const char *function, const char *argument, PyObject *object)
{
    return PyList_Check(object) ? 1 : refuse(function, argument, "a list", object);
}

PyObject *
ktc_args_as_tuple(const char *function, const char *argument, PyObject *object)
{
    /* Neither of these runs the code of a subclass. */
    if (PyTuple_Check(object)) {
        return PyTuple_GetSlice(object, 0, PyTuple_GET_SIZE(object));
    }
    if (PyList_Check(object)) {
        return PyList_AsTuple(object);
    }
    (void)refuse(function, argument, "a list or tuple", object);
    return NULL;
}

int
ktc_args_is_array(const char *function, const char *argument, PyObject *object)
{
    return PyArray_Check(object) ? 1 : refuse(function, argument, "a numpy array", object);
}

const char *
ktc_args_text(const char *function, const char *argument, PyObject *object)
{
    Py_ssize_t length = 0;
    if (!PyUnicode_Check(object)) {
        (void)refuse(function, argument, "a str", object);
        return NULL;
    }
    const char *text = PyUnicode_AsUTF8AndSize(object, &length);
    if (text != NULL && strlen(text) != (size_t)length) {
        PyErr_Format(PyExc_ValueError, "%s: '%s' has a null character", function, argument);
        return NULL;
    }
    return text;
}
