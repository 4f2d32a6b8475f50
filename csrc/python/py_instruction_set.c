/* Owns the Python functions that tell and choose the instruction set of the kernels. */
#include "python/args.h"
#include "python/module.h"
#include "python/state.h"
#include "arrays/instruction_set.h"

PyDoc_STRVAR(instruction_sets_doc,
             "instruction_sets()\n--\n\nNames of the instruction sets that this machine can run.");

static PyObject *
ktc_py_instruction_set_list(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *names = PyList_New(0);
    for (int set = 0; names != NULL && set < KTC_INSTRUCTION_SET_COUNT; set++) {
        if (!ktc_instruction_set_is_available((ktc_instruction_set)set)) {
            continue;
        }
        PyObject *name = PyUnicode_FromString(ktc_instruction_set_name((ktc_instruction_set)set));
        if (name == NULL || PyList_Append(names, name) < 0) {
            Py_CLEAR(names);
        }
        Py_XDECREF(name);
    }
    return names;
}

PyDoc_STRVAR(instruction_set_doc,
             "instruction_set()\n--\n\nName of the instruction set that the kernels use.");

static PyObject *
ktc_py_instruction_set_name(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return PyUnicode_FromString(ktc_instruction_set_name(ktc_state_instruction_set(module)));
}

PyDoc_STRVAR(
    use_instruction_set_doc,
    "use_instruction_set(name, /)\n--\n\n"
    "Let the kernels use one of instruction_sets() from now on; meant for tests and benchmarks.");

static PyObject *
ktc_py_instruction_set_use(PyObject *module, PyObject *name)
{
    const char *text = ktc_args_text("use_instruction_set", "name", name);
    if (text == NULL) {
        return NULL;
    }
    for (int set = 0; set < KTC_INSTRUCTION_SET_COUNT; set++) {
        if (strcmp(text, ktc_instruction_set_name((ktc_instruction_set)set)) == 0 &&
            ktc_instruction_set_is_available((ktc_instruction_set)set)) {
            ktc_state_use_instruction_set(module, (ktc_instruction_set)set);
            Py_RETURN_NONE;
        }
    }
    PyErr_Format(PyExc_ValueError,
                 "use_instruction_set: %R is not available on this machine; instruction_sets() "
                 "lists those that are",
                 name);
    return NULL;
}

PyMethodDef ktc_py_instruction_set_methods[] = {
    {"instruction_sets", ktc_py_instruction_set_list, METH_NOARGS, instruction_sets_doc},
    {"instruction_set", ktc_py_instruction_set_name, METH_NOARGS, instruction_set_doc},
    {"use_instruction_set", ktc_py_instruction_set_use, METH_O, use_instruction_set_doc},
    {NULL, NULL, 0, NULL},
};
