/* Alignment at the boundary: one stage of moves. The kernels rules and moves do the work; what a
 * refusal means is put into words in Python. */
#include "python/module.h"
#include "python/args.h"
#include "python/errors.h"
#include "python/names.h"
#include "python/rule_dicts.h"
#include "python/state.h"
#include "names/moves.h"

typedef struct {
    PyObject *error; /* NamesError, borrowed */
    ktc_names names; /* opened when a rule has an anchor, else only taken */
    ktc_rule_dict full;
    ktc_rule_dict tail;
    ktc_name_rules rules; /* both dictionaries, ready to be asked */
    int64_t *places;      /* by layer: where it is inserted, or KTC_STAYS */
    uint32_t *order;      /* by place: the layer that ends there */
} stage;

static void
stage_close(stage *current)
{
    ktc_name_rules_free(&current->rules);
    ktc_names_close(&current->names);
    ktc_rule_dict_close(&current->full);
    ktc_rule_dict_close(&current->tail);
    PyMem_Free(current->places);
    PyMem_Free(current->order);
}

/* Takes (names, tail_align_dict, full_name_align_dict, tail_split_position). 0, or -1 with an
 * exception set. */
static int
stage_open(stage *current, PyObject *const *arguments, Py_ssize_t argument_count)
{
    int overflow = 0;
    if (!ktc_args_count_is("move_stage", argument_count, 4)) {
        return -1;
    }
    if (!PyLong_CheckExact(arguments[3])) {
        PyErr_SetString(PyExc_TypeError, "tail_split_position must be int");
        return -1;
    }
    long long number = PyLong_AsLongLongAndOverflow(arguments[3], &overflow);
    int64_t split = overflow > 0 ? INT64_MAX : overflow < 0 ? INT64_MIN : (int64_t)number;
    if (ktc_names_take(arguments[0], "names", &current->names) < 0 ||
        ktc_rule_dict_open(arguments[1], "tail_align_dict", 1, &current->tail) < 0 ||
        ktc_rule_dict_open(arguments[2], "full_name_align_dict", 0, &current->full) < 0) {
        return -1;
    }
    size_t count = current->names.count;
    current->places = PyMem_Calloc(count + 1, sizeof *current->places);
    current->order = PyMem_Calloc(count + 1, sizeof *current->order);
    if (current->places == NULL || current->order == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    ktc_rule_set *full = &current->full.set;
    ktc_rule_set *tail = &current->tail.set;
    if (ktc_name_rules_have_anchors(full, tail) &&
        ktc_names_view_all(&current->names, "names") < 0) {
        return -1;
    }
    ktc_status status = count > UINT32_MAX
                            ? KTC_OVERFLOW
                            : ktc_name_rules_create(&current->rules, full, tail, split,
                                                    current->names.texts, count);
    if (status != KTC_OK) {
        ktc_error_from_status(status, "move_stage");
        return -1;
    }
    return 0;
}

/* Raises NamesError(reason, layer, path of the rule, places of all layers). */
static void
refuse(const stage *current, const char *reason, size_t layer, const ktc_rule *rule)
{
    PyObject *path = ktc_rule_dict_path_of(&current->full, rule);
    if (path == Py_None) {
        Py_SETREF(path, ktc_rule_dict_path_of(&current->tail, rule));
    }
    PyObject *places = PyList_New((Py_ssize_t)current->names.count);
    for (size_t index = 0; places != NULL && index < current->names.count; index++) {
        PyObject *place = PyLong_FromLongLong(current->places[index]);
        if (place == NULL) {
            Py_CLEAR(places);
            break;
        }
        PyList_SET_ITEM(places, (Py_ssize_t)index, place);
    }
    if (path != NULL && places != NULL) {
        ktc_error_raise(current->error, "snOO", reason, (Py_ssize_t)layer, path, places);
    }
    Py_XDECREF(path);
    Py_XDECREF(places);
}

/* Where a rule puts the layer, and which: 0, or -1 with an exception set. */
static int
place_of(const stage *current, size_t layer, const ktc_rule **applied)
{
    ktc_text name;
    if (ktc_names_view_item(current->names.objects, layer, "names", &name) < 0) {
        return -1;
    }
    ktc_status status =
        ktc_name_rules_place(&current->rules, name, layer, &current->places[layer], applied);
    if (status != KTC_OK) {
        const char *reason = status == KTC_UNKNOWN_NAME ? "anchor"
                             : status == KTC_BAD_STACK  ? "stack"
                                                        : "value";
        refuse(current, reason, layer, *applied);
        return -1;
    }
    return 0;
}

/* Finds the new order. 0, or -1 with an exception set: NamesError when a rule cannot be applied or
 * would lose a name. */
static int
stage_run(stage *current)
{
    const ktc_rule *applied;
    size_t count = current->names.count;
    for (size_t layer = 0; layer < count; layer++) {
        if (place_of(current, layer, &applied) < 0) {
            return -1;
        }
    }
    size_t forward = ktc_moves_find_forward(current->places, count);
    if (forward != KTC_NO_INDEX) {
        if (place_of(current, forward, &applied) == 0) {
            refuse(current, "forward", forward, applied);
        }
        return -1;
    }
    ktc_moves_play(current->places, count, current->order);
    return 0;
}

/* The names in their new order: a new tuple, or NULL. */
static PyObject *
ordered_names(const stage *current)
{
    Py_ssize_t count = (Py_ssize_t)current->names.count;
    PyObject *ordered = PyTuple_New(count);
    for (Py_ssize_t place = 0; ordered != NULL && place < count; place++) {
        PyObject *name = ktc_names_get(&current->names, current->order[place]);
        PyTuple_SET_ITEM(ordered, place, Py_NewRef(name));
    }
    return ordered;
}

/* The names that a rule moved to another place than their own, in the order of the input: a new
 * list, or NULL. */
static PyObject *
moved_names(const stage *current)
{
    PyObject *list = PyList_New(0);
    for (size_t layer = 0; list != NULL && layer < current->names.count; layer++) {
        int64_t place = current->places[layer];
        if (place != KTC_STAYS && place != (int64_t)layer &&
            PyList_Append(list, ktc_names_get(&current->names, layer)) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static PyObject *
ktc_py_align_move(PyObject *module, PyObject *const *arguments, Py_ssize_t argument_count)
{
    PyObject *result = NULL;
    PyObject *ordered = NULL;
    PyObject *moved = NULL;
    PyObject *unused = NULL;
    stage current = {.error = ktc_state_get(module)->names_error};

    if (stage_open(&current, arguments, argument_count) < 0 || stage_run(&current) < 0) {
        goto done;
    }
    ordered = ordered_names(&current);
    moved = moved_names(&current);
    unused = PyList_New(0);
    if (ordered == NULL || moved == NULL || unused == NULL ||
        ktc_rule_dict_list_unused(&current.tail, unused) < 0 ||
        ktc_rule_dict_list_unused(&current.full, unused) < 0) {
        goto done;
    }
    result = PyTuple_Pack(3, ordered, moved, unused);
done:
    stage_close(&current);
    Py_XDECREF(ordered);
    Py_XDECREF(moved);
    Py_XDECREF(unused);
    return result;
}

PyDoc_STRVAR(
    move_doc,
    "move_stage(names, tail_align_dict, full_name_align_dict, tail_split_position, /)\n--\n\n"
    "One stage of moves: the names in their new order, those that a rule moved, and the paths of "
    "the rules that applied to no layer.");

PyMethodDef ktc_py_align_methods[] = {
    {"move_stage", (PyCFunction)(void (*)(void))ktc_py_align_move, METH_FASTCALL, move_doc},
    {NULL, NULL, 0, NULL},
};
