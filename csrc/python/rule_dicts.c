/* Owns the reading of alignment dictionaries. Works on lists of its own, so that nothing can change
 * meanwhile. */
#include "python/rule_dicts.h"

#include "python/errors.h"
#include "python/names.h"

PyObject *
ktc_rule_dict_key(const ktc_rule_dict *rules, size_t number)
{
    /* borrowed: from a list that nobody else has ever seen */
    return PyList_GET_ITEM(rules->keys, (Py_ssize_t)number);
}

PyObject *
ktc_rule_dict_value(const ktc_rule_dict *rules, size_t number)
{
    /* borrowed: from a list that nobody else has ever seen */
    return PyList_GET_ITEM(rules->values, (Py_ssize_t)number);
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

/* Reads the items one by one; stacks get the room that was made for them. 0, or -1 with an
 * exception set. */
static int
read_items(const char *what, int stacks_allowed, ktc_rule_dict *rules, size_t count)
{
    for (size_t number = 0; number < count; number++) {
        PyObject *key = ktc_rule_dict_key(rules, number);
        PyObject *value = ktc_rule_dict_value(rules, number);
        ktc_rule *rule = &rules->set.rules[number];
        ktc_text text;
        if (!PyUnicode_CheckExact(key)) {
            PyErr_Format(PyExc_TypeError, "%s must have str keys only, not %.100s", what,
                         Py_TYPE(key)->tp_name);
            return -1;
        }
        if (ktc_names_view(key, &text) < 0) {
            return -1;
        }
        (void)ktc_name_table_add(&rules->set.keys, text);
        if (stacks_allowed && PyDict_CheckExact(value)) {
            ktc_rule_dict *stack = &rules->stacks[rules->stack_count++];
            rule->kind = KTC_RULE_STACK;
            rule->stack = &stack->set;
            if (ktc_rule_dict_open(value, what, 0, stack) < 0) {
                return -1;
            }
        }
        else if (read_value(value, rule) < 0) {
            return -1;
        }
    }
    return 0;
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

int
ktc_rule_dict_open(PyObject *dict, const char *what, int stacks_allowed, ktc_rule_dict *rules)
{
    *rules = (ktc_rule_dict){0};
    if (!PyDict_CheckExact(dict)) {
        PyErr_Format(PyExc_TypeError, "%s must be a dict, not %.100s", what,
                     Py_TYPE(dict)->tp_name);
        return -1;
    }
    if (read_lists(dict, rules) < 0) {
        return -1;
    }
    size_t count = (size_t)PyList_GET_SIZE(rules->keys);
    size_t room = count == 0 ? 1 : count;
    ktc_status status = ktc_name_table_create(&rules->set.keys, count);
    if (status != KTC_OK) {
        ktc_error_from_status(status, what);
        return -1;
    }
    rules->set.rules = PyMem_Calloc(room, sizeof *rules->set.rules);
    rules->stacks = stacks_allowed ? PyMem_Calloc(room, sizeof *rules->stacks) : NULL;
    if (rules->set.rules == NULL || (stacks_allowed && rules->stacks == NULL)) {
        PyErr_NoMemory();
        return -1;
    }
    return read_items(what, stacks_allowed, rules, count);
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
    Py_XDECREF(rules->keys);
    Py_XDECREF(rules->values);
    *rules = (ktc_rule_dict){0};
}

size_t
ktc_rule_dict_number(const ktc_rule_dict *rules, const ktc_rule *rule)
{
    for (size_t number = 0; number < rules->set.keys.count; number++) {
        if (&rules->set.rules[number] == rule) {
            return number;
        }
    }
    return KTC_NO_INDEX;
}

/* `stack` is NULL for the rules of the dictionary itself. */
static int
list_unused(const ktc_rule_dict *rules, const char *what, PyObject *stack, PyObject *list)
{
    size_t next_stack = 0;
    for (size_t number = 0; number < rules->set.keys.count; number++) {
        const ktc_rule *rule = &rules->set.rules[number];
        PyObject *key = ktc_rule_dict_key(rules, number);
        const ktc_rule_dict *inner =
            rule->kind == KTC_RULE_STACK ? &rules->stacks[next_stack++] : NULL;
        if (!rule->used) {
            PyObject *path = stack == NULL ? Py_BuildValue("(sO)", what, key)
                                           : Py_BuildValue("(sOO)", what, stack, key);
            int appended = path == NULL ? -1 : PyList_Append(list, path);
            Py_XDECREF(path);
            if (appended < 0) {
                return -1;
            }
        }
        else if (inner != NULL && list_unused(inner, what, key, list) < 0) {
            return -1;
        }
    }
    return 0;
}

int
ktc_rule_dict_list_unused(const ktc_rule_dict *rules, const char *what, PyObject *list)
{
    return list_unused(rules, what, NULL, list);
}
