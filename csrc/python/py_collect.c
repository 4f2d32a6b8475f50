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

/* A new dict of layer names to lists with room for their items, which `lists` borrows, or NULL. The lists are not
 * complete yet: nobody else may see them. */
static PyObject *
empty_layers(const ktc_name_groups *groups, const size_t *member_counts, PyObject **lists)
{
    PyObject *layers = PyDict_New();
    for (size_t layer = 0; layers != NULL && layer < groups->layers.count; layer++) {
        PyObject *name = ktc_names_string(groups->layers.names[layer]);
        lists[layer] = PyList_New((Py_ssize_t)member_counts[layer]);
        if (name == NULL || lists[layer] == NULL || PyDict_SetItem(layers, name, lists[layer]) < 0) {
            Py_CLEAR(layers);
        }
        Py_XDECREF(name);
        Py_XDECREF(lists[layer]);
    }
    return layers;
}

/* Puts every item into the list of its layer or among the skipped. 0, or -1 with an exception set; nothing fails once
 * the first item is in its list. */
static int
distribute(const ktc_name_groups *groups, PyObject *items, PyObject **layers, PyObject **skipped)
{
    int answer = -1;
    size_t count = (size_t)PyTuple_GET_SIZE(items);
    /* The last one of each is for the skipped. */
    size_t layer_count = groups->layers.count;
    size_t *member_counts = PyMem_Calloc(layer_count + 1, sizeof *member_counts);
    size_t *placed = PyMem_Calloc(layer_count + 1, sizeof *placed);
    PyObject **lists = PyMem_Calloc(layer_count + 1, sizeof *lists);
    if (member_counts == NULL || placed == NULL || lists == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (size_t index = 0; index < count; index++) {
        size_t layer = groups->layer_of[index];
        member_counts[layer == KTC_NO_INDEX ? layer_count : layer]++;
    }
    *skipped = lists[layer_count] = PyList_New((Py_ssize_t)member_counts[layer_count]);
    *layers = *skipped == NULL ? NULL : empty_layers(groups, member_counts, lists);
    if (*layers == NULL) {
        goto done;
    }
    for (size_t index = 0; index < count; index++) {
        size_t layer = groups->layer_of[index];
        size_t number = layer == KTC_NO_INDEX ? layer_count : layer;
        /* borrowed: from a tuple that no other code has seen */
        PyObject *item = PyTuple_GET_ITEM(items, (Py_ssize_t)index);
        PyList_SET_ITEM(lists[number], (Py_ssize_t)placed[number]++, Py_NewRef(item));
    }
    answer = 0;
done:
    PyMem_Free(member_counts);
    PyMem_Free(placed);
    PyMem_Free(lists);
    return answer;
}

static PyObject *
ktc_py_collect_stack(PyObject *module, PyObject *const *arguments, Py_ssize_t argument_count)
{
    PyObject *result = NULL;
    PyObject *items = NULL;
    PyObject *layers = NULL;
    PyObject *skipped = NULL;
    ktc_names names = {0};
    ktc_names skip = {0};
    ktc_names unstack = {0};
    ktc_name_table skip_table = {0};
    ktc_name_table unstack_table = {0};
    ktc_name_groups groups = {0};

    if (!ktc_args_count_is("stack_by_layer", argument_count, 4)) {
        goto done;
    }
    if (!ktc_args_is_list("stack_by_layer", "items", arguments[1])) {
        goto done;
    }
    items = PyList_AsTuple(arguments[1]);
    if (items == NULL || ktc_names_open(arguments[0], "names", &names) < 0 ||
        ktc_names_open(arguments[2], "skip", &skip) < 0 || ktc_names_open(arguments[3], "unstack", &unstack) < 0 ||
        ktc_names_make_table(&skip, &skip_table) < 0 || ktc_names_make_table(&unstack, &unstack_table) < 0) {
        goto done;
    }
    if ((size_t)PyTuple_GET_SIZE(items) != names.count) {
        PyErr_Format(PyExc_ValueError, "stack_by_layer: %zu names, but %zd items", names.count,
                     PyTuple_GET_SIZE(items));
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
    /* Thousands of lists would set off Python's search for cycles again and again, and none of them is part of one. */
    int collects = PyGC_Disable();
    int distributed = distribute(&groups, items, &layers, &skipped);
    if (collects) {
        (void)PyGC_Enable();
    }
    if (distributed < 0) {
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
    Py_XDECREF(items);
    Py_XDECREF(layers);
    Py_XDECREF(skipped);
    return result;
}

PyDoc_STRVAR(stack_doc, "stack_by_layer(names, items, skip, unstack, /)\n--\n\n"
                        "Layers in order of first appearance with the items of their tensors, and the items skipped.");
PyDoc_STRVAR(exactly_doc, "are_exactly(objects, types, /)\n--\n\n"
                          "Whether every object in a list is of one of these types, and no subclass of it.");

static PyObject *
ktc_py_collect_are_exactly(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t argument_count)
{
    if (!ktc_args_count_is("are_exactly", argument_count, 2) ||
        !ktc_args_is_list("are_exactly", "objects", arguments[0])) {
        return NULL;
    }
    PyObject *types = arguments[1];
    if (!PyTuple_Check(types)) {
        PyErr_Format(PyExc_TypeError, "are_exactly: expected a tuple for 'types', got %.100s", Py_TYPE(types)->tp_name);
        return NULL;
    }
    /* The types are told apart by their addresses: nothing here runs any code, so the list stays as it is. */
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(arguments[0]); index++) {
        /* borrowed: for a look at its type */
        PyObject *type = (PyObject *)Py_TYPE(PyList_GET_ITEM(arguments[0], index));
        Py_ssize_t place = 0;
        while (place < PyTuple_GET_SIZE(types) && PyTuple_GET_ITEM(types, place) != type) {
            place++;
        }
        if (place == PyTuple_GET_SIZE(types)) {
            Py_RETURN_FALSE;
        }
    }
    Py_RETURN_TRUE;
}

PyMethodDef ktc_py_collect_methods[] = {
    {"stack_by_layer", (PyCFunction)(void (*)(void))ktc_py_collect_stack, METH_FASTCALL, stack_doc},
    {"are_exactly", (PyCFunction)(void (*)(void))ktc_py_collect_are_exactly, METH_FASTCALL, exactly_doc},
    {NULL, NULL, 0, NULL},
};
