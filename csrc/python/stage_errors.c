/* Puts into words why a stage is refused: which rule, at which layer, what would be lost, and what
 * to write instead. */
#include "python/stage.h"

#include "names/split.h"

/* "full_name_align_dict entry 'a': 3 at stage 0", a new reference, or NULL. Values that are no
 * rules are shown by type only, so that no foreign repr runs. */
static PyObject *
describe_rule(const ktc_stage *stage, const ktc_rule *rule)
{
    const ktc_rule_dict *owner = &stage->full;
    PyObject *path = NULL;
    PyObject *text = NULL;
    size_t number = ktc_rule_dict_number(&stage->full, rule);
    if (number != KTC_NO_INDEX) {
        path = PyUnicode_FromString(KTC_FULL_DICT);
    }
    else {
        owner = &stage->tail;
        number = ktc_rule_dict_number(owner, rule);
        path = number == KTC_NO_INDEX ? NULL : PyUnicode_FromString(KTC_TAIL_DICT);
    }
    size_t stack = 0;
    for (size_t outer = 0; number == KTC_NO_INDEX && outer < stage->tail.set.keys.count; outer++) {
        if (stage->tail.set.rules[outer].kind == KTC_RULE_STACK) {
            owner = &stage->tail.stacks[stack++];
            number = ktc_rule_dict_number(owner, rule);
            if (number != KTC_NO_INDEX) {
                path = PyUnicode_FromFormat(KTC_TAIL_DICT "[%R]",
                                            ktc_rule_dict_key(&stage->tail, outer));
            }
        }
    }
    if (path == NULL) {
        return NULL;
    }
    PyObject *value = ktc_rule_dict_value(owner, number);
    if (rule->kind == KTC_RULE_PLACE || rule->kind == KTC_RULE_ANCHOR) {
        text = PyUnicode_FromFormat("%U entry %R: %R at stage %zd", path,
                                    ktc_rule_dict_key(owner, number), value, stage->number);
    }
    else {
        text = PyUnicode_FromFormat("%U entry %R: <%.100s> at stage %zd", path,
                                    ktc_rule_dict_key(owner, number), Py_TYPE(value)->tp_name,
                                    stage->number);
    }
    Py_DECREF(path);
    return text;
}

/* "; the nearest names are ['a', 'b']", empty when nothing is near: a new reference, or NULL. */
static PyObject *
describe_nearest(const ktc_stage *stage, ktc_text wanted)
{
    PyObject *nearest = ktc_names_nearest(&stage->names, wanted, 3);
    if (nearest == NULL) {
        return NULL;
    }
    PyObject *text = PyList_GET_SIZE(nearest) == 0
                         ? PyUnicode_FromString("")
                         : PyUnicode_FromFormat("; the nearest names are %R", nearest);
    Py_DECREF(nearest);
    return text;
}

static void
raise_unknown_anchor(const ktc_stage *stage, const ktc_rule_problem *problem, PyObject *rule)
{
    ktc_text wanted = problem->rule->anchor;
    char *buffer = NULL;
    PyObject *name = NULL;
    PyObject *nearest = NULL;
    PyObject *layer = ktc_names_get(&stage->names, problem->layer);

    if (ktc_rule_dict_number(&stage->full, problem->rule) == KTC_NO_INDEX) {
        ktc_text head = ktc_layer_name_split(stage->names.texts[problem->layer], stage->split).head;
        buffer = PyMem_Malloc(head.length + wanted.length + 1);
        if (buffer == NULL) {
            PyErr_NoMemory();
            goto done;
        }
        wanted = ktc_name_rules_join(head, wanted, buffer);
    }
    name = ktc_names_string(wanted);
    nearest = describe_nearest(stage, wanted);
    if (name != NULL && nearest != NULL) {
        PyErr_Format(stage->state->alignment_error,
                     "%U is to put layer %R where layer %R stands, but there is no layer %R%U",
                     rule, layer, name, name, nearest);
    }
done:
    PyMem_Free(buffer);
    Py_XDECREF(name);
    Py_XDECREF(nearest);
}

void
ktc_stage_raise_bad_rule(const ktc_stage *stage, ktc_status status, const ktc_rule_problem *problem)
{
    PyObject *layer = ktc_names_get(&stage->names, problem->layer);
    PyObject *rule = describe_rule(stage, problem->rule);
    if (rule == NULL) {
        return;
    }
    if (status == KTC_UNKNOWN_NAME) {
        raise_unknown_anchor(stage, problem, rule);
    }
    else if (problem->in_stack_place) {
        PyErr_Format(stage->state->alignment_error,
                     "%U stands under the name of the stack of layer %R, where the dict with the "
                     "rules of that stack "
                     "belongs; give "
                     "that stack a dict, or name the layer that is meant in full_name_align_dict",
                     rule, layer);
    }
    else {
        PyErr_Format(stage->state->alignment_error,
                     "%U has a value of a wrong type for layer %R; allowed are an int (below 0 an "
                     "offset back from the "
                     "layer's own place, else a place from the start of the list), the name of "
                     "another layer (str), and, only "
                     "under the name of a stack in tail_align_dict, a dict",
                     rule, layer);
    }
    Py_DECREF(rule);
}

/* "'d'" or "'d' and 2 more": the layers that stage->order has no place for. A new reference, or
 * NULL. */
static PyObject *
describe_lost(const ktc_stage *stage)
{
    size_t lost = 0;
    size_t first_lost = 0;
    size_t count = stage->names.count;
    char *present = PyMem_Calloc(count, 1);
    if (present == NULL) {
        return PyErr_NoMemory();
    }
    for (size_t place = 0; place < count; place++) {
        if (stage->order[place] != KTC_NO_INDEX) {
            present[stage->order[place]] = 1;
        }
    }
    for (size_t layer = count; layer > 0; layer--) {
        if (!present[layer - 1]) {
            first_lost = layer - 1;
            lost++;
        }
    }
    PyMem_Free(present);
    PyObject *name = ktc_names_get(&stage->names, first_lost);
    return lost > 1 ? PyUnicode_FromFormat("names %R and %zu more", name, lost - 1)
                    : PyUnicode_FromFormat("name %R", name);
}

/* Says how to bring `layer` behind the layers up to `last` without loss: by moving those back over
 * it. A new reference or NULL. */
static PyObject *
advise_moving_back(const ktc_stage *stage, size_t layer, size_t last)
{
    size_t count = last - layer;
    PyObject *first = ktc_names_get(&stage->names, layer + 1);
    PyObject *final = ktc_names_get(&stage->names, last);
    if (count == 1) {
        return PyUnicode_FromFormat(
            "move the layer that is to go before it back instead: " KTC_FULL_DICT "={%R: -1}",
            first);
    }
    PyObject *second = ktc_names_get(&stage->names, layer + 2);
    const char *form = "move the %zu layers that are to go before it back instead: " KTC_FULL_DICT
                       "={%R: -1, %R: -1, ..., %R: -1}";
    if (count == 2) {
        form = "move the %zu layers that are to go before it back instead: " KTC_FULL_DICT
               "={%R: -1, %R: -1}";
    }
    else if (count == 3) {
        form = "move the %zu layers that are to go before it back instead: " KTC_FULL_DICT
               "={%R: -1, %R: -1, %R: -1}";
    }
    return PyUnicode_FromFormat(form, count, first, second, final);
}

/* The remedy for a forward move, in words: a new reference, or NULL. */
static PyObject *
advise_forward(const ktc_stage *stage, size_t layer, const ktc_rule *rule)
{
    size_t count = stage->names.count;
    size_t place = (size_t)stage->places[layer];
    if (rule->kind == KTC_RULE_PLACE && rule->place < 0) {
        if (layer == 0) {
            return PyUnicode_FromString("an offset before the start counts from the end of the "
                                        "list; the layer is the first "
                                        "already, so leave this entry out");
        }
        return PyUnicode_FromFormat(
            "an offset before the start counts from the end of the list; -%zu puts the layer first",
            layer);
    }
    if (rule->kind == KTC_RULE_ANCHOR) {
        if (place == layer + 1) {
            return PyUnicode_FromFormat("%R stands just before %R already, so leave this entry out",
                                        ktc_names_get(&stage->names, layer),
                                        ktc_names_get(&stage->names, place));
        }
        return advise_moving_back(stage, layer, place - 1);
    }
    if (layer + 1 == count) {
        return PyUnicode_FromString("the layer is the last already, so leave this entry out; to "
                                    "keep its own values on purpose, name it "
                                    "in keep_layers");
    }
    return advise_moving_back(stage, layer, place < count ? place : count - 1);
}

void
ktc_stage_raise_forward(const ktc_stage *stage, size_t layer, const ktc_rule *rule)
{
    PyObject *described = describe_rule(stage, rule);
    PyObject *lost = describe_lost(stage);
    PyObject *advice = advise_forward(stage, layer, rule);
    if (described != NULL && lost != NULL && advice != NULL) {
        PyErr_Format(
            stage->state->alignment_error,
            "%U moves layer %R forward, from place %zu to place %lld, and the %U would be lost; %U",
            described, ktc_names_get(&stage->names, layer), layer, (long long)stage->places[layer],
            lost, advice);
    }
    Py_XDECREF(described);
    Py_XDECREF(lost);
    Py_XDECREF(advice);
}
