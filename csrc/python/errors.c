/* Owns the wording of kernel refusals that memory safety asks for; what else is refused is put into
 * words by the Python modules that call. */
#include "python/errors.h"

void *
ktc_error_from_status(ktc_status status, const char *where)
{
    switch (status) {
    case KTC_NO_MEMORY:
        PyErr_NoMemory();
        break;
    case KTC_OVERFLOW:
        PyErr_Format(PyExc_OverflowError, "%s: a size does not fit into this machine's memory",
                     where);
        break;
    case KTC_BAD_AXES:
        PyErr_Format(PyExc_ValueError, "%s: the axes are not a permutation of those of the array",
                     where);
        break;
    case KTC_BAD_SHAPE:
        PyErr_Format(PyExc_ValueError, "%s: the shapes do not fit together", where);
        break;
    case KTC_OVERLAP:
        PyErr_Format(PyExc_ValueError,
                     "%s: elements of the target share memory with each other; give an array of "
                     "its own memory",
                     where);
        break;
    case KTC_BAD_TYPE:
        PyErr_Format(PyExc_TypeError, "%s: the element type is not supported", where);
        break;
    case KTC_BAD_INDEX:
        PyErr_Format(PyExc_IndexError, "%s: an index lies outside its list", where);
        break;
    case KTC_CUT_SHORT:
        PyErr_Format(PyExc_OSError, "%s: the file was cut short while it was read", where);
        break;
    default:
        PyErr_Format(PyExc_SystemError, "%s: unexpected status %d", where, (int)status);
        break;
    }
    return NULL;
}

void *
ktc_error_raise(PyObject *error_class, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    PyObject *values = Py_VaBuildValue(format, arguments);
    va_end(arguments);
    if (values != NULL) {
        PyErr_SetObject(error_class, values);
        Py_DECREF(values);
    }
    return NULL;
}
