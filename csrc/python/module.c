/* The module _core: its method tables joined, its state made and freed. What the functions do
 * stands in py_*.c. */
#include "python/module.h"
#include "python/arrays.h"
#include "python/state.h"
#include "arrays/instruction_set.h"

PyDoc_STRVAR(names_error_doc,
             "Names or rules that do not fit; the arguments say which, for the caller to "
             "put into words.");

static int
state_exec(PyObject *module)
{
    ktc_state *state = ktc_state_get(module);
    ktc_state_use_instruction_set(module, ktc_instruction_set_best());
    state->names_error = PyErr_NewExceptionWithDoc("keras_torch_convert._core.NamesError",
                                                   names_error_doc, NULL, NULL);
    return state->names_error == NULL
               ? -1
               : PyModule_AddObjectRef(module, "NamesError", state->names_error);
}

static int
numpy_exec(PyObject *Py_UNUSED(module))
{
    return ktc_arrays_import();
}

static int
methods_exec(PyObject *module)
{
    PyMethodDef *const tables[] = {
        ktc_py_collect_methods,         ktc_py_align_methods,       ktc_py_static_methods,
        ktc_py_permute_methods,         ktc_py_cast_methods,        ktc_py_compare_methods,
        ktc_py_dequantize_methods,      ktc_py_fingerprint_methods, ktc_py_stream_methods,
        ktc_py_instruction_set_methods,
    };
    for (size_t index = 0; index < sizeof(tables) / sizeof(tables[0]); index++) {
        if (PyModule_AddFunctions(module, tables[index]) < 0) {
            return -1;
        }
    }
    return PyModule_AddIntConstant(module, "GIL_RELEASE_BYTES", KTC_GIL_RELEASE_BYTES);
}

static int
state_traverse(PyObject *module, visitproc visit, void *arg)
{
    ktc_state *state = ktc_state_get(module);
    Py_VISIT(state->names_error);
    return 0;
}

static int
state_clear(PyObject *module)
{
    ktc_state *state = ktc_state_get(module);
    Py_CLEAR(state->names_error);
    return 0;
}

static void
state_free(void *module)
{
    (void)state_clear((PyObject *)module);
}

static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, numpy_exec},
    {Py_mod_exec, state_exec},
    {Py_mod_exec, methods_exec},
#if PY_VERSION_HEX >= 0x030C0000
    /* NumPy does not support sub-interpreters, so neither can an extension that uses its C API. */
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    /* Lists and dicts of callers are copied before anything is read from them, nothing borrowed
       comes from what others see, and what is kept between calls is here, written at import, but
       for the instruction set, which is atomic, and the guard of SIGBUS, which has a lock. As with
       NumPy, an array must not get another shape or memory while another thread uses it. */
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef core_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_core",
    .m_doc = PyDoc_STR("The C core of keras_torch_convert: names, alignment stages, strided "
                       "copies, casts and streams."),
    .m_size = sizeof(ktc_state),
    .m_slots = core_slots,
    .m_traverse = state_traverse,
    .m_clear = state_clear,
    .m_free = state_free,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&core_definition);
}
