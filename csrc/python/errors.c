/* Owns the wording of kernel refusals and the care taken of exceptions that users raise; leaves the
 * rest to the callers. */
#include "python/errors.h"

/* The exception being raised, normalized and taken out of the thread's hands: a new reference, or
 * NULL if there is none. */
static PyObject *
take_raised(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type = NULL;
    PyObject *value = NULL;
    PyObject *traceback = NULL;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value != NULL && traceback != NULL) {
        (void)PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

/* Raises it again. Steals the reference. */
static void
put_raised(PyObject *exception)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exception);
#else
    PyObject *type = Py_NewRef((PyObject *)Py_TYPE(exception));
    PyErr_Restore(type, exception, PyException_GetTraceback(exception));
#endif
}

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
ktc_error_with_problem(PyObject *error_class, const char *format, ...)
{
    PyObject *cause = take_raised();
    PyObject *message = NULL;
    PyObject *problems = NULL;
    PyObject *exception = NULL;

    va_list arguments;
    va_start(arguments, format);
    message = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    if (message == NULL) {
        goto done;
    }
    problems = PyTuple_Pack(1, message);
    if (problems == NULL) {
        goto done;
    }
    exception = PyObject_CallFunctionObjArgs(error_class, message, problems, NULL);
    if (exception == NULL) {
        goto done;
    }
    if (cause != NULL) {
        PyException_SetCause(exception, Py_NewRef(cause));
        PyException_SetContext(exception, Py_NewRef(cause));
    }
    PyErr_SetObject(error_class, exception);
done:
    Py_XDECREF(cause);
    Py_XDECREF(message);
    Py_XDECREF(problems);
    Py_XDECREF(exception);
    return NULL;
}

/* Appends to exception.__notes__ where there is no add_note (Python 3.10). 0, or -1 with an
 * exception set. */
static int
append_note(PyObject *exception, PyObject *note)
{
    int answer = -1;
    PyObject *notes = PyObject_GetAttrString(exception, "__notes__");
    if (notes == NULL) {
        PyErr_Clear();
        notes = PyList_New(0);
        if (notes == NULL || PyObject_SetAttrString(exception, "__notes__", notes) < 0) {
            goto done;
        }
    }
    if (PyList_Check(notes)) {
        answer = PyList_Append(notes, note);
    }
done:
    Py_XDECREF(notes);
    return answer;
}

void
ktc_error_add_note(const char *format, ...)
{
    PyObject *exception = take_raised();
    PyObject *note = NULL;
    PyObject *result = NULL;

    if (exception == NULL) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    note = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    if (note != NULL) {
        if (PyObject_HasAttrString(exception, "add_note")) {
            result = PyObject_CallMethod(exception, "add_note", "O", note);
        }
        else {
            (void)append_note(exception, note);
        }
    }
    /* Whatever went wrong with the note, the user's own exception is the one to be seen. */
    PyErr_Clear();
    Py_XDECREF(note);
    Py_XDECREF(result);
    put_raised(exception);
}
