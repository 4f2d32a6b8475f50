/* Which rule of the two dictionaries applies to a layer, and to which place it moves the layer. */
#ifndef KTC_NAME_RULES_H
#define KTC_NAME_RULES_H

#include "names/table.h"

typedef enum {
    KTC_RULE_PLACE,  /* an integer: below 0 an offset from the layer's own index, else a place */
    KTC_RULE_ANCHOR, /* a name: the layer goes where that one stands in the input */
    KTC_RULE_STACK,  /* the rules of one stack, only in the tail dictionary */
    KTC_RULE_BAD,    /* a value of another type, an error once a layer is found for it */
} ktc_rule_kind;

typedef struct ktc_rule_set ktc_rule_set;

typedef struct {
    ktc_rule_kind kind;
    int64_t place;
    ktc_text anchor;
    ktc_rule_set *stack; /* borrowed */
    bool used;           /* set once the rule has applied to a layer, or its stack has been met */
} ktc_rule;

/* One dictionary: rule k belongs to the name number k of the table. Its owner frees both. */
struct ktc_rule_set {
    ktc_name_table keys;
    ktc_rule *rules;
};

/* The rules of one stage, ready to be asked. All is borrowed but the index of anchors. */
typedef struct {
    ktc_rule_set *full;
    ktc_rule_set *tail;
    int64_t split;
    size_t count;         /* of the layers */
    ktc_name_table names; /* the names of the layers, only when a rule has an anchor ... */
    size_t *last_index;   /* ... with, for each, the last index where it stands */
    char *joined;         /* room for a head, "_" and an anchor */
} ktc_name_rules;

/* Whether some rule has an anchor. */
bool ktc_name_rules_have_anchors(const ktc_rule_set *full, const ktc_rule_set *tail);

/* Makes the index of anchors. `names` are those of all layers, whose bytes must outlive the rules;
 * NULL when no rule has an anchor. KTC_NO_MEMORY or KTC_OVERFLOW leave *rules safe to free. */
ktc_status ktc_name_rules_create(ktc_name_rules *rules, ktc_rule_set *full, ktc_rule_set *tail,
                                 int64_t split, const ktc_text *names, size_t count);

void ktc_name_rules_free(ktc_name_rules *rules);

/* Where the layer with this name and index is inserted (0 to count) or KTC_STAYS, and in *applied
 * the rule that says so, or NULL. The full dictionary overrides the tail one. *applied is at fault
 * with KTC_BAD_TYPE (its value is no rule), KTC_BAD_STACK (its key is the layer's stack, so it
 * should have been a dictionary) and KTC_UNKNOWN_NAME (its anchor). */
ktc_status ktc_name_rules_place(const ktc_name_rules *rules, ktc_text name, size_t index,
                                int64_t *place, const ktc_rule **applied);

#endif
