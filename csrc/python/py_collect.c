/* Collection at the boundary: names in, layers with the indices of their tensors out. Grouping is
 * done by the kernel.
 */
#include "python/module.h"
#include "python/args.h"
#include "python/errors.h"
#include "python/names.h"
#include "python/state.h"
#include "names/group.h"

/* What the caller has given, as tuples of our own. */
typedef struct {
    PyObject *names; /* str only */
    PyObject *items; /* one for each name */
} tensors;

/* Groups the names. 0, or -1 with an exception set; *groups is safe to free after either. Each name
 * is looked at once, from its type to its last byte: among 300,000 they fit no cache. */
static int
group(const ktc_state *state, const tensors *given, const ktc_name_table *skip,
      const ktc_name_table *unstack, ktc_name_groups *groups)
{
    size_t count = (size_t)PyTuple_GET_SIZE(given->names);
    ktc_status status = ktc_name_groups_create(groups, count, skip, unstack);
    for (size_t index = 0; status == KTC_OK && index < count; index++) {
        ktc_text text;
        if (ktc_names_view_item(given->names, index, "names", &text) < 0) {
            return -1;
        }
        status = ktc_name_groups_add(groups, text);
    }
    if (status == KTC_NAME_CLASH) {
        ktc_error_raise(state->names_error, "nn", (Py_ssize_t)groups->clash_first,
                        (Py_ssize_t)groups->count - 1);
    }
    else if (status != KTC_OK) {
        ktc_error_from_status(status, "stack_by_layer");
    }
    return status == KTC_OK ? 0 : -1;
}

/* A list that is being filled: how many items it has room for, then how many it has got. */
typedef struct {
    PyObject *list; /* borrowed from the dict of layers; nobody else has seen it */
    size_t count;
} filling;

/* A new dict of layer names to lists with room for their items, or NULL. */
static PyObject *
empty_layers(const ktc_name_groups *groups, filling *fillings)
{
    PyObject *layers = PyDict_New();
    for (size_t layer = 0; layers != NULL && layer < groups->layers.count; layer++) {
        PyObject *name = ktc_names_string(groups->layers.names[layer]);
        PyObject *list = PyList_New((Py_ssize_t)fillings[layer].count);
        if (name == NULL || list == NULL || PyDict_SetItem(layers, name, list) < 0) {
            Py_CLEAR(layers);
        }
        fillings[layer] = (filling){list, 0};
        Py_XDECREF(name);
        Py_XDECREF(list);
    }
    return layers;
}

/* Puts every item into the list of its layer or among the skipped. 0, or -1 with an exception set;
 * nothing fails once the first item is in its list. */
static int
distribute(const ktc_name_groups *groups, PyObject *items, PyObject **layers, PyObject **skipped)
{
    /* The last one is for the skipped. */
    size_t layer_count = groups->layers.count;
    filling *fillings = PyMem_Calloc(layer_count + 1, sizeof *fillings);
    if (fillings == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t index = 0; index < groups->count; index++) {
        size_t layer = groups->layer_of[index];
        fillings[layer == KTC_SKIPPED ? layer_count : layer].count++;
    }
    *skipped = PyList_New((Py_ssize_t)fillings[layer_count].count);
    fillings[layer_count] = (filling){*skipped, 0};
    *layers = *skipped == NULL ? NULL : empty_layers(groups, fillings);
    for (size_t index = 0; *layers != NULL && index < groups->count; index++) {
        size_t layer = groups->layer_of[index];
        filling *own = &fillings[layer == KTC_SKIPPED ? layer_count : layer];
        /* borrowed: from a tuple, which cannot change */
        PyObject *item = PyTuple_GET_ITEM(items, (Py_ssize_t)index);
        PyList_SET_ITEM(own->list, (Py_ssize_t)own->count++, Py_NewRef(item));
    }
    PyMem_Free(fillings);
    return *layers == NULL ? -1 : 0;
}

static PyObject *
ktc_py_collect_stack(PyObject *module, PyObject *const *arguments, Py_ssize_t argument_count)
{
    PyObject *result = NULL;
    PyObject *layers = NULL;
    PyObject *skipped = NULL;
    tensors given = {0};
    ktc_names skip = {0};
    ktc_names unstack = {0};
    ktc_name_table skip_table = {0};
    ktc_name_table unstack_table = {0};
    ktc_name_groups groups = {0};

    if (!ktc_args_count_is("stack_by_layer", argument_count, 4)) {
        goto done;
    }
    given.names = ktc_args_as_tuple("stack_by_layer", "names", arguments[0]);
    given.items = ktc_args_as_tuple("stack_by_layer", "items", arguments[1]);
    if (given.names == NULL || given.items == NULL) {
        goto done;
    }
    if (PyTuple_GET_SIZE(given.items) != PyTuple_GET_SIZE(given.names)) {
        PyErr_Format(PyExc_ValueError, "stack_by_layer: %zd names, but %zd items",
                     PyTuple_GET_SIZE(given.names), PyTuple_GET_SIZE(given.items));
        goto done;
    }
    if (ktc_names_open(arguments[2], "skip", &skip) < 0 ||
        ktc_names_open(arguments[3], "unstack", &unstack) < 0 ||
        ktc_names_make_table(&skip, &skip_table) < 0 ||
        ktc_names_make_table(&unstack, &unstack_table) < 0 ||
        group(ktc_state_get(module), &given, &skip_table, &unstack_table, &groups) < 0) {
        goto done;
    }
    /* Thousands of lists would set off Python's search for cycles again and again, and none of them
     * is part of one. */
    int collects = PyGC_Disable();
    int distributed = distribute(&groups, given.items, &layers, &skipped);
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
    ktc_names_close(&skip);
    ktc_names_close(&unstack);
    Py_XDECREF(given.names);
    Py_XDECREF(given.items);
    Py_XDECREF(layers);
    Py_XDECREF(skipped);
    return result;
}

PyDoc_STRVAR(
    stack_doc,
    "stack_by_layer(names, items, skip, unstack, /)\n--\n\n"
    "Layers in order of first appearance with the items of their tensors, and the items skipped.");
PyDoc_STRVAR(exactly_doc, "are_exactly(objects, types, /)\n--\n\n"
                          "Whether every object is of one of these types, and no subclass of it.");

static PyObject *
ktc_py_collect_are_exactly(PyObject *Py_UNUSED(module), PyObject *const *arguments,
                           Py_ssize_t argument_count)
{
    if (!ktc_args_count_is("are_exactly", argument_count, 2)) {
        return NULL;
    }
    PyObject *types = arguments[1];
    if (!PyTuple_Check(types)) {
        PyErr_Format(PyExc_TypeError, "are_exactly: expected a tuple for 'types', got %.100s",
                     Py_TYPE(types)->tp_name);
        return NULL;
    }
    PyObject *objects = ktc_args_as_tuple("are_exactly", "objects", arguments[0]);
    if (objects == NULL) {
        return NULL;
    }
    PyObject *answer = Py_True;
    /* The types are told apart by their addresses: nothing here runs any code. */
    for (Py_ssize_t index = 0; answer == Py_True && index < PyTuple_GET_SIZE(objects); index++) {
        /* borrowed: from a tuple, which cannot change */
        PyObject *type = (PyObject *)Py_TYPE(PyTuple_GET_ITEM(objects, index));
        Py_ssize_t place = 0;
        while (place < PyTuple_GET_SIZE(types) && PyTuple_GET_ITEM(types, place) != type) {
            place++;
        }
        if (place == PyTuple_GET_SIZE(types)) {
            answer = Py_False;
        }
    }
    Py_DECREF(objects);
    return Py_NewRef(answer);
}

PyMethodDef ktc_py_collect_methods[] = {
    {"stack_by_layer", (PyCFunction)(void (*)(void))ktc_py_collect_stack, METH_FASTCALL, stack_doc},
    {"are_exactly", (PyCFunction)(void (*)(void))ktc_py_collect_are_exactly, METH_FASTCALL,
     exactly_doc},
    {NULL, NULL, 0, NULL},
};
