/* Alignment at the boundary: one stage of moves, and the names nearest to a mistyped one. The rules
 * are applied by the kernels rules and moves; what goes wrong is put into words by
 * stage_errors.c. */
#include "python/module.h"
#include "python/args.h"
#include "python/errors.h"
#include "python/stage.h"
#include "names/moves.h"

static void
stage_close(ktc_stage *stage)
{
    ktc_name_rules_free(&stage->rules);
    ktc_names_close(&stage->names);
    ktc_rule_dict_close(&stage->full);
    ktc_rule_dict_close(&stage->tail);
    PyMem_Free(stage->places);
    PyMem_Free(stage->order);
}

/* Takes (names, tail_align_dict, full_name_align_dict, tail_split_position, stage). 0, or -1 with
 * an exception set. */
static int
stage_open(ktc_stage *stage, PyObject *module, PyObject *const *arguments,
           Py_ssize_t argument_count)
{
    int overflow = 0;
    if (!ktc_args_count_is("move_stage", argument_count, 5)) {
        return -1;
    }
    if (!PyLong_CheckExact(arguments[3]) || !PyLong_CheckExact(arguments[4])) {
        PyErr_SetString(PyExc_TypeError, "tail_split_position and stage must be int");
        return -1;
    }
    stage->state = ktc_state_get(module);
    long long split = PyLong_AsLongLongAndOverflow(arguments[3], &overflow);
    stage->split = overflow > 0 ? INT64_MAX : overflow < 0 ? INT64_MIN : (int64_t)split;
    stage->number = PyLong_AsSsize_t(arguments[4]);
    if (stage->number == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (ktc_names_take(arguments[0], "names", &stage->names) < 0 ||
        ktc_rule_dict_open(arguments[1], KTC_TAIL_DICT, 1, &stage->tail) < 0 ||
        ktc_rule_dict_open(arguments[2], KTC_FULL_DICT, 0, &stage->full) < 0) {
        return -1;
    }
    size_t room = stage->names.count == 0 ? 1 : stage->names.count;
    stage->places = PyMem_Calloc(room, sizeof *stage->places);
    stage->order = PyMem_Calloc(room, sizeof *stage->order);
    if (stage->places == NULL || stage->order == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (ktc_name_rules_have_anchors(&stage->full.set, &stage->tail.set) &&
        ktc_names_view_all(&stage->names, "names") < 0) {
        return -1;
    }
    ktc_status status = ktc_name_rules_create(&stage->rules, &stage->full.set, &stage->tail.set,
                                              stage->split, stage->names.texts, stage->names.count);
    if (status != KTC_OK) {
        ktc_error_from_status(status, "move_stage");
        return -1;
    }
    return 0;
}

/* Where a rule puts the layer, and which: 0, or -1 with an exception set. */
static int
place_of(const ktc_stage *stage, size_t layer, int64_t *place, const ktc_rule **applied)
{
    ktc_text name;
    ktc_rule_problem problem;
    if (ktc_names_view_item(stage->names.objects, layer, "names", &name) < 0) {
        return -1;
    }
    ktc_status status = ktc_name_rules_place(&stage->rules, name, layer, place, applied, &problem);
    if (status != KTC_OK) {
        ktc_stage_raise_bad_rule(stage, status, &problem);
        return -1;
    }
    return 0;
}

/* Finds the new order. 0, or -1 with an exception set: AlignmentError when a rule cannot be applied
 * or would lose a name. */
static int
stage_run(ktc_stage *stage)
{
    const ktc_rule *applied;
    size_t count = stage->names.count;
    for (size_t layer = 0; layer < count; layer++) {
        if (place_of(stage, layer, &stage->places[layer], &applied) < 0) {
            return -1;
        }
    }
    ktc_status status = ktc_moves_play(stage->places, count, stage->order);
    if (status != KTC_OK) {
        ktc_error_from_status(status, "move_stage");
        return -1;
    }
    size_t forward = ktc_moves_find_forward(stage->places, count);
    if (forward != KTC_NO_INDEX) {
        int64_t place;
        if (place_of(stage, forward, &place, &applied) == 0) {
            ktc_stage_raise_forward(stage, forward, applied);
        }
        return -1;
    }
    return 0;
}

/* The names in their new order: a new tuple, or NULL. */
static PyObject *
ordered_names(const ktc_stage *stage)
{
    PyObject *ordered = PyTuple_New((Py_ssize_t)stage->names.count);
    for (size_t place = 0; ordered != NULL && place < stage->names.count; place++) {
        PyTuple_SET_ITEM(ordered, (Py_ssize_t)place,
                         Py_NewRef(ktc_names_get(&stage->names, stage->order[place])));
    }
    return ordered;
}

/* The names that a rule moved to another place than their own, in the order of the input: a new
 * list, or NULL. */
static PyObject *
moved_names(const ktc_stage *stage)
{
    PyObject *list = PyList_New(0);
    for (size_t layer = 0; list != NULL && layer < stage->names.count; layer++) {
        if (stage->places[layer] != KTC_STAYS && stage->places[layer] != (int64_t)layer &&
            PyList_Append(list, ktc_names_get(&stage->names, layer)) < 0) {
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
    ktc_stage stage = {0};

    if (stage_open(&stage, module, arguments, argument_count) < 0 || stage_run(&stage) < 0) {
        goto done;
    }
    ordered = ordered_names(&stage);
    moved = moved_names(&stage);
    unused = PyList_New(0);
    if (ordered == NULL || moved == NULL || unused == NULL ||
        ktc_rule_dict_list_unused(&stage.tail, KTC_TAIL_DICT, unused) < 0 ||
        ktc_rule_dict_list_unused(&stage.full, KTC_FULL_DICT, unused) < 0) {
        goto done;
    }
    result = PyTuple_Pack(3, ordered, moved, unused);
done:
    stage_close(&stage);
    Py_XDECREF(ordered);
    Py_XDECREF(moved);
    Py_XDECREF(unused);
    return result;
}

static PyObject *
ktc_py_align_nearest(PyObject *Py_UNUSED(module), PyObject *const *arguments,
                     Py_ssize_t argument_count)
{
    PyObject *result = NULL;
    ktc_names names = {0};
    ktc_text wanted;

    if (!ktc_args_count_is("nearest_names", argument_count, 3)) {
        goto done;
    }
    if (!PyUnicode_Check(arguments[1]) || !PyLong_CheckExact(arguments[2])) {
        PyErr_SetString(PyExc_TypeError, "nearest_names takes a list of str, a str and an int");
        goto done;
    }
    Py_ssize_t limit = PyLong_AsSsize_t(arguments[2]);
    if (limit == -1 && PyErr_Occurred()) {
        goto done;
    }
    if (limit < 0 || limit > 100) {
        PyErr_SetString(PyExc_ValueError, "limit must be between 0 and 100");
        goto done;
    }
    if (ktc_names_open(arguments[0], "names", &names) < 0 ||
        ktc_names_view(arguments[1], &wanted) < 0) {
        goto done;
    }
    result = ktc_names_nearest(&names, wanted, (size_t)limit);
done:
    ktc_names_close(&names);
    return result;
}

PyDoc_STRVAR(move_doc, "move_stage(names, tail_align_dict, full_name_align_dict, "
                       "tail_split_position, stage, /)\n--\n\n"
                       "One stage of moves: the names in their new order, those that a rule moved, "
                       "and the paths of the rules "
                       "that applied to no layer.");
PyDoc_STRVAR(nearest_doc, "nearest_names(names, wanted, limit, /)\n--\n\n"
                          "At most `limit` different names like `wanted`, the most alike first.");

PyMethodDef ktc_py_align_methods[] = {
    {"move_stage", (PyCFunction)(void (*)(void))ktc_py_align_move, METH_FASTCALL, move_doc},
    {"nearest_names", (PyCFunction)(void (*)(void))ktc_py_align_nearest, METH_FASTCALL,
     nearest_doc},
    {NULL, NULL, 0, NULL},
};
