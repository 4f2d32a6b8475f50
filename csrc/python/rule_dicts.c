/* Owns the reading of alignment dictionaries. Works on lists of its own, so that nothing can change
 * meanwhile. */
#include "python/rule_dicts.h"

#include "python/errors.h"
#include "python/names.h"

static int open_at(PyObject *dict, PyObject *path, int stacks_allowed, ktc_rule_dict *rules);

/* The path of what stands under `key`: a new tuple, or NULL. */
static PyObject *
path_to(PyObject *path, PyObject *key)
{
    PyObject *last = PyTuple_Pack(1, key);
    PyObject *whole = last == NULL ? NULL : PySequence_Concat(path, last);
    Py_XDECREF(last);
    return whole;
}

/* Reads one value that is no nested dictionary. 0, or -1 with an exception set. */
static int
read_value(PyObject *value, ktc_rule *rule)
{
    rule->kind = KTC_RULE_BAD;
    if (PyLong_CheckExact(value) || PyBool_Check(value)) {
        int overflow = 0;
        long long place = PyLong_AsLongLongAndOverflow(value, &overflow);
        rule->kind = KTC_RULE_PLACE;
        /* Beyond 64 bits it is beyond every list as well. */
        rule->place = overflow > 0 ? INT64_MAX : overflow < 0 ? INT64_MIN : (int64_t)place;
    }
    else if (PyUnicode_CheckExact(value)) {
        rule->kind = KTC_RULE_ANCHOR;
        return ktc_names_view(value, &rule->anchor);
    }
    return 0;
}

/* Reads one item; a stack gets the room that was made for it. 0, or -1 with an exception set. */
static int
read_item(int stacks_allowed, ktc_rule_dict *rules, size_t number)
{
    /* borrowed: from lists that nobody else has ever seen */
    PyObject *key = PyList_GET_ITEM(rules->keys, (Py_ssize_t)number);
    PyObject *value = PyList_GET_ITEM(rules->values, (Py_ssize_t)number);
    ktc_rule *rule = &rules->set.rules[number];
    ktc_text text;
    if (!PyUnicode_CheckExact(key)) {
        PyErr_Format(PyExc_TypeError, "the keys of %R must be str, not %.100s", rules->path,
                     Py_TYPE(key)->tp_name);
        return -1;
    }
    if (ktc_names_view(key, &text) < 0) {
        return -1;
    }
    (void)ktc_name_table_add(&rules->set.keys, text);
    if (!stacks_allowed || !PyDict_CheckExact(value)) {
        return read_value(value, rule);
    }
    ktc_rule_dict *stack = &rules->stacks[rules->stack_count++];
    rule->kind = KTC_RULE_STACK;
    rule->stack = &stack->set;
    PyObject *path = path_to(rules->path, key);
    return path == NULL ? -1 : open_at(value, path, 0, stack);
}

/* Takes keys and values out of a copy: the dict itself might be changed between the two. 0, or -1
 * with an exception set. */
static int
read_lists(PyObject *dict, ktc_rule_dict *rules)
{
    PyObject *copy = PyDict_Copy(dict);
    if (copy == NULL) {
        return -1;
    }
    rules->keys = PyDict_Keys(copy);
    rules->values = PyDict_Values(copy);
    Py_DECREF(copy);
    return rules->keys == NULL || rules->values == NULL ? -1 : 0;
}

/* Steals the path. */
static int
open_at(PyObject *dict, PyObject *path, int stacks_allowed, ktc_rule_dict *rules)
{
    *rules = (ktc_rule_dict){.path = path};
    if (!PyDict_CheckExact(dict)) {
        PyErr_Format(PyExc_TypeError, "%R must be a dict, not %.100s", path,
                     Py_TYPE(dict)->tp_name);
        return -1;
    }
    if (read_lists(dict, rules) < 0) {
        return -1;
    }
    size_t count = (size_t)PyList_GET_SIZE(rules->keys);
    ktc_status status = ktc_name_table_create(&rules->set.keys, count);
    if (status != KTC_OK) {
        ktc_error_from_status(status, "move_stage");
        return -1;
    }
    rules->set.rules = PyMem_Calloc(count + 1, sizeof *rules->set.rules);
    rules->stacks = PyMem_Calloc(stacks_allowed ? count + 1 : 1, sizeof *rules->stacks);
    if (rules->set.rules == NULL || rules->stacks == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t number = 0; number < count; number++) {
        if (read_item(stacks_allowed, rules, number) < 0) {
            return -1;
        }
    }
    return 0;
}

int
ktc_rule_dict_open(PyObject *dict, const char *what, int stacks_allowed, ktc_rule_dict *rules)
{
    PyObject *path = Py_BuildValue("(s)", what);
    *rules = (ktc_rule_dict){0};
    return path == NULL ? -1 : open_at(dict, path, stacks_allowed, rules);
}

void
ktc_rule_dict_close(ktc_rule_dict *rules)
{
    for (size_t stack = 0; stack < rules->stack_count; stack++) {
        ktc_rule_dict_close(&rules->stacks[stack]);
    }
    PyMem_Free(rules->stacks);
    PyMem_Free(rules->set.rules);
    ktc_name_table_free(&rules->set.keys);
    Py_XDECREF(rules->path);
    Py_XDECREF(rules->keys);
    Py_XDECREF(rules->values);
    *rules = (ktc_rule_dict){0};
}

PyObject *
ktc_rule_dict_path_of(const ktc_rule_dict *rules, const ktc_rule *rule)
{
    for (size_t number = 0; number < rules->set.keys.count; number++) {
        if (&rules->set.rules[number] == rule) {
            /* borrowed: from a list that nobody else has ever seen */
            return path_to(rules->path, PyList_GET_ITEM(rules->keys, (Py_ssize_t)number));
        }
    }
    for (size_t stack = 0; stack < rules->stack_count; stack++) {
        PyObject *found = ktc_rule_dict_path_of(&rules->stacks[stack], rule);
        if (found != Py_None) {
            return found;
        }
        Py_DECREF(found);
    }
    Py_RETURN_NONE;
}

int
ktc_rule_dict_list_unused(const ktc_rule_dict *rules, PyObject *list)
{
    size_t next_stack = 0;
    for (size_t number = 0; number < rules->set.keys.count; number++) {
        const ktc_rule *rule = &rules->set.rules[number];
        const ktc_rule_dict *inner =
            rule->kind == KTC_RULE_STACK ? &rules->stacks[next_stack++] : NULL;
        if (!rule->used) {
            /* borrowed: from a list that nobody else has ever seen */
            PyObject *path = path_to(rules->path, PyList_GET_ITEM(rules->keys, (Py_ssize_t)number));
            int appended = path == NULL ? -1 : PyList_Append(list, path);
            Py_XDECREF(path);
            if (appended < 0) {
                return -1;
            }
        }
        else if (inner != NULL && ktc_rule_dict_list_unused(inner, list) < 0) {
            return -1;
        }
    }
    return 0;
}
