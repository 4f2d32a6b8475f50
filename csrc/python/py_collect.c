/* Collection at the boundary: names in, layers with the indices of their tensors out. Grouping is done by the kernel.
 */
#include "python/module.h"
#include "python/args.h"
#include "python/errors.h"
#include "python/names.h"
#include "python/state.h"
#include "kernels/name_group.h"

/* Raises AlignmentError for two tensors of which one would replace the other. */
static void
raise_clash(const ktc_state *state, const ktc_names *names, const ktc_name_groups *groups)
{
    PyErr_Format(
        state->alignment_error,
        "unstacked tensor %R would replace tensor %R, which is already collected under the same layer name; leave one "
        "of them out through skip_weights, or rename it in the state dict",
        ktc_names_get(names, groups->clash_second), ktc_names_get(names, groups->clash_first));
}

/* A new list of (layer name, empty list), or NULL. */
static PyObject *
empty_layers(const ktc_name_groups *groups)
{
    PyObject *layers = PyList_New((Py_ssize_t)groups->layers.count);
    for (size_t layer = 0; layers != NULL && layer < groups->layers.count; layer++) {
        PyObject *name = ktc_names_string(groups->layers.names[layer]);
        PyObject *indices = PyList_New(0);
        PyObject *pair = name == NULL || indices == NULL ? NULL : PyTuple_Pack(2, name, indices);
        Py_XDECREF(name);
        Py_XDECREF(indices);
        if (pair == NULL) {
            Py_CLEAR(layers);
        }
        else {
            PyList_SET_ITEM(layers, (Py_ssize_t)layer, pair);
        }
    }
    return layers;
}

/* Puts every index into the list of its layer or among the skipped. 0, or -1 with an exception set. */
static int
distribute(const ktc_name_groups *groups, size_t count, PyObject *layers, PyObject *skipped)
{
    for (size_t index = 0; index < count; index++) {
        size_t layer = groups->layer_of[index];
        /* borrowed: from a list that no other code has seen yet */
        PyObject *list =
            layer == KTC_NO_INDEX ? skipped : PyTuple_GET_ITEM(PyList_GET_ITEM(layers, (Py_ssize_t)layer), 1);
        PyObject *number = PyLong_FromSize_t(index);
        int appended = number == NULL ? -1 : PyList_Append(list, number);
        Py_XDECREF(number);
        if (appended < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
ktc_py_collect_stack(PyObject *module, PyObject *const *arguments, Py_ssize_t argument_count)
{
    PyObject *result = NULL;
    PyObject *layers = NULL;
    PyObject *skipped = NULL;
    ktc_names names = {0};
    ktc_names skip = {0};
    ktc_names unstack = {0};
    ktc_name_table skip_table = {0};
    ktc_name_table unstack_table = {0};
    ktc_name_groups groups = {0};

    if (!ktc_args_count_is("stack_by_layer", argument_count, 3)) {
        goto done;
    }
    if (ktc_names_open(arguments[0], "names", &names) < 0 || ktc_names_open(arguments[1], "skip", &skip) < 0 ||
        ktc_names_open(arguments[2], "unstack", &unstack) < 0 || ktc_names_make_table(&skip, &skip_table) < 0 ||
        ktc_names_make_table(&unstack, &unstack_table) < 0) {
        goto done;
    }
    ktc_status status = ktc_name_groups_make(names.texts, names.count, &skip_table, &unstack_table, &groups);
    if (status == KTC_NAME_CLASH) {
        raise_clash(ktc_state_get(module), &names, &groups);
        goto done;
    }
    if (status != KTC_OK) {
        ktc_error_from_status(status, "stack_by_layer");
        goto done;
    }
    layers = empty_layers(&groups);
    skipped = PyList_New(0);
    if (layers == NULL || skipped == NULL || distribute(&groups, names.count, layers, skipped) < 0) {
        goto done;
    }
    result = PyTuple_Pack(2, layers, skipped);
done:
    ktc_name_groups_free(&groups);
    ktc_name_table_free(&skip_table);
    ktc_name_table_free(&unstack_table);
    ktc_names_close(&names);
    ktc_names_close(&skip);
    ktc_names_close(&unstack);
    Py_XDECREF(layers);
    Py_XDECREF(skipped);
    return result;
}

PyDoc_STRVAR(stack_doc,
             "stack_by_layer(names, skip, unstack, /)\n--\n\n"
             "Layers in order of first appearance with the indices of their tensors, and the indices skipped.");

PyMethodDef ktc_py_collect_methods[] = {
    {"stack_by_layer", (PyCFunction)(void (*)(void))ktc_py_collect_stack, METH_FASTCALL, stack_doc},
    {NULL, NULL, 0, NULL},
};
