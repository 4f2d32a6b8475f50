/* The two alignment dictionaries as rule sets for the kernel. */
#ifndef KTC_RULE_DICTS_H
#define KTC_RULE_DICTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "names/rules.h"

typedef struct ktc_rule_dict ktc_rule_dict;

struct ktc_rule_dict {
    PyObject *path; /* a tuple: the name of the argument, and below it the key of a stack */
    PyObject *keys; /* lists of our own, in the order of the rules, which keep their texts alive */
    PyObject *values;
    ktc_rule_set set;
    ktc_rule_dict *stacks; /* the dictionaries of single stacks; owned */
    size_t stack_count;
};

/* Opens a dict with str keys; `what` names the argument. With `stacks_allowed` a nested dict holds
 * the rules of one stack. A value that cannot be a rule is no error here: it becomes one when a
 * layer is found for it. 0, or -1 with an exception set; *rules is safe to close after either. */
int ktc_rule_dict_open(PyObject *dict, const char *what, int stacks_allowed, ktc_rule_dict *rules);
void ktc_rule_dict_close(ktc_rule_dict *rules);

/* The path of a rule as a tuple, (what, key) or (what, stack, key): a new reference, Py_None when
 * it does not belong to this dictionary or its stacks, or NULL with an exception set. */
PyObject *ktc_rule_dict_path_of(const ktc_rule_dict *rules, const ktc_rule *rule);

/* Appends the path of every rule that has applied to no layer to `list`. 0 or -1. */
int ktc_rule_dict_list_unused(const ktc_rule_dict *rules, PyObject *list);

#endif
