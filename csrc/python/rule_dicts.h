/* The two alignment dictionaries as rule sets for the kernel. */
#ifndef KTC_RULE_DICTS_H
#define KTC_RULE_DICTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "names/rules.h"

typedef struct ktc_rule_dict ktc_rule_dict;

struct ktc_rule_dict {
    PyObject *keys; /* lists of our own, in the order of the rules, which keep their texts alive */
    PyObject *values;
    ktc_rule_set set;
    ktc_rule_dict *stacks; /* the dictionaries of single stacks; owned */
    size_t stack_count;
};

/* Opens a dict with str keys; `what` names the argument in messages. With `stacks_allowed` a nested
 * dict holds the rules of one stack. A value that cannot be a rule is no error here: it becomes one
 * when a layer is found for it. 0, or -1 with an exception set; *rules is safe to close after
 * either. */
int ktc_rule_dict_open(PyObject *dict, const char *what, int stacks_allowed, ktc_rule_dict *rules);
void ktc_rule_dict_close(ktc_rule_dict *rules);

/* Key and value of the rule number `number`: borrowed from the list that *rules owns. */
PyObject *ktc_rule_dict_key(const ktc_rule_dict *rules, size_t number);
PyObject *ktc_rule_dict_value(const ktc_rule_dict *rules, size_t number);

/* Number of a rule that belongs to this dictionary itself, not to one of its stacks; else
 * KTC_NO_INDEX. */
size_t ktc_rule_dict_number(const ktc_rule_dict *rules, const ktc_rule *rule);

/* Appends a tuple (what, key) or (what, stack, key) to `list` for every rule that has applied to no
 * layer. 0 or -1. */
int ktc_rule_dict_list_unused(const ktc_rule_dict *rules, const char *what, PyObject *list);

#endif
