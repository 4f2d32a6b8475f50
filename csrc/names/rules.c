/* Looks up each layer in the full-name dictionary, then in the tail dictionary in force, and turns
 * the value into a place. */
#include "names/rules.h"

#include <stdlib.h>

#include "names/moves.h"
#include "names/split.h"

static bool
has_anchor(const ktc_rule_set *set, size_t *longest)
{
    bool found = false;
    for (size_t number = 0; number < set->keys.count; number++) {
        const ktc_rule *rule = &set->rules[number];
        if (rule->kind == KTC_RULE_ANCHOR) {
            found = true;
            *longest = rule->anchor.length > *longest ? rule->anchor.length : *longest;
        }
        else if (rule->kind == KTC_RULE_STACK) {
            found |= has_anchor(rule->stack, longest);
        }
    }
    return found;
}

bool
ktc_name_rules_have_anchors(const ktc_rule_set *full, const ktc_rule_set *tail)
{
    size_t longest = 0;
    return has_anchor(full, &longest) || has_anchor(tail, &longest);
}

void
ktc_name_rules_free(ktc_name_rules *rules)
{
    ktc_name_table_free(&rules->names);
    free(rules->last_index);
    free(rules->joined);
    *rules = (ktc_name_rules){0};
}

ktc_status
ktc_name_rules_create(ktc_name_rules *rules, ktc_rule_set *full, ktc_rule_set *tail, int64_t split,
                      const ktc_text *names, size_t count)
{
    *rules = (ktc_name_rules){.full = full, .tail = tail, .split = split, .count = count};
    if (names == NULL) {
        return KTC_OK;
    }
    size_t longest_anchor = 0;
    (void)has_anchor(full, &longest_anchor);
    (void)has_anchor(tail, &longest_anchor);
    ktc_status status = ktc_name_table_create(&rules->names, count);
    if (status != KTC_OK) {
        return status;
    }
    rules->last_index = calloc(count == 0 ? 1 : count, sizeof *rules->last_index);
    if (rules->last_index == NULL) {
        return KTC_NO_MEMORY;
    }
    size_t longest_name = 0;
    for (size_t index = 0; index < count; index++) {
        longest_name = names[index].length > longest_name ? names[index].length : longest_name;
        rules->last_index[ktc_name_table_add(&rules->names, names[index])] = index;
    }
    rules->joined = malloc(longest_name + longest_anchor + 1);
    return rules->joined == NULL ? KTC_NO_MEMORY : KTC_OK;
}

/* The name that an anchor of the tail dictionary stands for. */
static ktc_text
join(ktc_text head, ktc_text anchor, char *buffer)
{
    memcpy(buffer, head.bytes, head.length);
    buffer[head.length] = '_';
    memcpy(buffer + head.length + 1, anchor.bytes, anchor.length);
    return (ktc_text){buffer, head.length + 1 + anchor.length};
}

static bool
contains(ktc_text text, ktc_text wanted)
{
    for (size_t start = 0; start + wanted.length <= text.length; start++) {
        if (memcmp(text.bytes + start, wanted.bytes, wanted.length) == 0) {
            return true;
        }
    }
    return false;
}

static ktc_rule *
find_rule(const ktc_rule_set *set, ktc_text key)
{
    size_t number = ktc_name_table_find(&set->keys, key);
    return number == KTC_NO_INDEX ? NULL : &set->rules[number];
}

/* The tail rule for a layer, NULL if there is none. A key equal to the layer's stack decides what
 * is asked: its dictionary alone, even an empty one. A flat anchor under such a key keeps all tail
 * rules from the stack's layers, as in the reference, where the tail is looked up inside that
 * string: an error if it is found there. */
static ktc_status
find_tail_rule(const ktc_rule_set *tail, const ktc_layer_name *name, ktc_rule **found)
{
    *found = NULL;
    if (tail->keys.count == 0) {
        return KTC_OK;
    }
    ktc_rule *stack_rule = find_rule(tail, name->stack);
    if (stack_rule == NULL) {
        *found = find_rule(tail, name->tail);
    }
    else if (stack_rule->kind == KTC_RULE_STACK) {
        stack_rule->used = true;
        *found = find_rule(stack_rule->stack, name->tail);
    }
    else if (stack_rule->kind != KTC_RULE_ANCHOR || contains(stack_rule->anchor, name->tail)) {
        *found = stack_rule;
        return KTC_BAD_STACK;
    }
    return KTC_OK;
}

/* The index that an anchor means, counted in the input of this stage, or KTC_NO_INDEX. */
static size_t
find_anchor(const ktc_name_rules *rules, ktc_text name)
{
    size_t number = ktc_name_table_find(&rules->names, name);
    return number == KTC_NO_INDEX ? KTC_NO_INDEX : rules->last_index[number];
}

/* Where `rule` puts the layer with this index; `head` is NULL for a rule of the full dictionary. */
static ktc_status
place_of(const ktc_name_rules *rules, const ktc_rule *rule, const ktc_text *head, size_t index,
         int64_t *place)
{
    if (rule->kind == KTC_RULE_PLACE) {
        *place = ktc_moves_clip(rule->place < 0 ? (int64_t)index + rule->place : rule->place,
                                rules->count);
        return KTC_OK;
    }
    if (rule->kind != KTC_RULE_ANCHOR) {
        return KTC_BAD_TYPE;
    }
    ktc_text name = head == NULL ? rule->anchor : join(*head, rule->anchor, rules->joined);
    size_t anchor = find_anchor(rules, name);
    *place = (int64_t)anchor;
    return anchor == KTC_NO_INDEX ? KTC_UNKNOWN_NAME : KTC_OK;
}

ktc_status
ktc_name_rules_place(const ktc_name_rules *rules, ktc_text name, size_t index, int64_t *place,
                     const ktc_rule **applied)
{
    ktc_layer_name parts = {0};
    const ktc_text *head = NULL;
    ktc_rule *rule = find_rule(rules->full, name);
    ktc_status status = KTC_OK;
    *place = KTC_STAYS;
    if (rule == NULL) {
        parts = ktc_layer_name_split(name, rules->split);
        head = &parts.head;
        status = find_tail_rule(rules->tail, &parts, &rule);
    }
    *applied = rule;
    if (status != KTC_OK || rule == NULL) {
        return status;
    }
    rule->used = true;
    return place_of(rules, rule, head, index, place);
}
