/* Moves: one stage against a list that is really shifted, and the rules that say where to. */
#include <string.h>

#include "check.h"
#include "names/moves.h"
#include "names/rules.h"

#define LONGEST 300
#define HOLE UINT32_MAX

/* What the reference does, with memmove: fill, insert and let the last fall off. */
static void
play_slowly(const int64_t *places, size_t count, uint32_t *order)
{
    for (size_t place = 0; place < count; place++) {
        order[place] = HOLE;
    }
    for (size_t index = 0; index < count; index++) {
        if (places[index] == KTC_STAYS) {
            order[index] = (uint32_t)index;
        }
        else if (places[index] < (int64_t)count) {
            size_t place = (size_t)places[index];
            memmove(order + place + 1, order + place, (count - place - 1) * sizeof *order);
            order[place] = (uint32_t)index;
        }
    }
}

static int
has_hole(const uint32_t *order, size_t count)
{
    for (size_t place = 0; place < count; place++) {
        if (order[place] == HOLE) {
            return 1;
        }
    }
    return 0;
}

static void
test_places_are_clipped_like_those_of_list_insert(void)
{
    CHECK(ktc_moves_clip(2, 5) == 2);
    CHECK(ktc_moves_clip(99, 5) == 5);
    CHECK(ktc_moves_clip(-1, 5) == 4);
    CHECK(ktc_moves_clip(-5, 5) == 0);
    CHECK(ktc_moves_clip(-6, 5) == 0);
    CHECK(ktc_moves_clip(INT64_MIN, 5) == 0);
    CHECK(ktc_moves_clip(INT64_MAX, 5) == 5);
    CHECK(ktc_moves_clip(3, 0) == 0);
}

static void
test_stage_equals_a_list_that_is_really_shifted(random_source *random, long cases)
{
    int64_t places[LONGEST];
    uint32_t order[LONGEST];
    uint32_t expected[LONGEST];
    for (long number = 0; number < cases; number++) {
        size_t count = (size_t)random_between(random, 0, number % 4 == 0 ? LONGEST : 8);
        ptrdiff_t reach =
            random_between(random, 0, 2); /* 0: backwards only, 1: a little forward, 2: anywhere */
        for (size_t index = 0; index < count; index++) {
            ptrdiff_t own = (ptrdiff_t)index;
            ptrdiff_t last = (ptrdiff_t)count;
            ptrdiff_t highest = reach == 2 ? last : own + reach < last ? own + reach : last;
            places[index] = random_between(random, 0, 2) == 0
                                ? KTC_STAYS
                                : (int64_t)random_between(random, 0, highest);
        }
        play_slowly(places, count, expected);
        int is_lossless = ktc_moves_find_forward(places, count) == KTC_NO_INDEX;
        CHECK(has_hole(expected, count) != is_lossless);
        if (is_lossless) {
            ktc_moves_play(places, count, order);
            CHECK(memcmp(order, expected, count * sizeof *order) == 0);
        }
    }
}

static void
test_first_forward_move_is_found(void)
{
    const int64_t places[] = {KTC_STAYS, 1, 0, 4, 5};
    CHECK(ktc_moves_find_forward(places, 5) == 3);
    CHECK(ktc_moves_find_forward(places, 3) == KTC_NO_INDEX);
}

/* A dictionary of one rule. */
typedef struct {
    ktc_rule rule;
    ktc_rule_set set;
} one_rule;

static void
one_rule_create(one_rule *owner, const char *key, ktc_rule rule)
{
    owner->rule = rule;
    owner->set.rules = &owner->rule;
    CHECK(ktc_name_table_create(&owner->set.keys, 1) == KTC_OK);
    if (key != NULL) {
        (void)ktc_name_table_add(&owner->set.keys, (ktc_text){key, strlen(key)});
    }
}

static void
one_rule_free(one_rule *owner)
{
    ktc_name_table_free(&owner->set.keys);
}

/* Applies one tail rule and one full-name rule to s1_b1_x s1_b1_y s2_b1_y, split 2. NULL keys: no
 * rule. */
static ktc_status
apply(const char *tail_key, ktc_rule tail_rule, const char *full_key, ktc_rule full_rule,
      int64_t *places, size_t *failed)
{
    const ktc_text names[] = {{"s1_b1_x", 7}, {"s1_b1_y", 7}, {"s2_b1_y", 7}};
    const ktc_rule *applied;
    ktc_name_rules rules;
    one_rule tail;
    one_rule full;
    one_rule_create(&tail, tail_key, tail_rule);
    one_rule_create(&full, full_key, full_rule);
    const bool anchors = ktc_name_rules_have_anchors(&full.set, &tail.set);
    ktc_status status =
        ktc_name_rules_create(&rules, &full.set, &tail.set, 2, anchors ? names : NULL, 3);
    for (size_t index = 0; status == KTC_OK && index < 3; index++) {
        *failed = index;
        status = ktc_name_rules_place(&rules, names[index], index, &places[index], &applied);
    }
    ktc_name_rules_free(&rules);
    one_rule_free(&tail);
    one_rule_free(&full);
    return status;
}

static ktc_rule
place_rule(int64_t place)
{
    return (ktc_rule){.kind = KTC_RULE_PLACE, .place = place};
}

static ktc_rule
anchor_rule(const char *anchor)
{
    return (ktc_rule){.kind = KTC_RULE_ANCHOR, .anchor = {anchor, strlen(anchor)}};
}

static void
test_rules_become_places(void)
{
    ktc_rule none = {0};
    size_t failed;
    int64_t places[3];
    CHECK(apply("y", place_rule(-1), NULL, none, places, &failed) == KTC_OK);
    CHECK(places[0] == KTC_STAYS && places[1] == 0 && places[2] == 1);
    CHECK(apply("y", place_rule(0), "s2_b1_y", place_rule(1), places, &failed) == KTC_OK);
    CHECK(places[0] == KTC_STAYS && places[1] == 0 && places[2] == 1);
    CHECK(apply(NULL, none, "s2_b1_y", anchor_rule("s1_b1_x"), places, &failed) == KTC_OK);
    CHECK(places[2] == 0);
    CHECK(apply(NULL, none, "absent", place_rule(0), places, &failed) == KTC_OK);
    CHECK(places[0] == KTC_STAYS && places[1] == KTC_STAYS && places[2] == KTC_STAYS);
}

static void
test_rules_that_cannot_be_applied_are_told(void)
{
    ktc_rule none = {0};
    ktc_rule bad = {.kind = KTC_RULE_BAD};
    size_t failed;
    int64_t places[3];
    CHECK(apply("y", anchor_rule("x"), NULL, none, places, &failed) == KTC_UNKNOWN_NAME);
    CHECK(failed == 2);
    CHECK(apply(NULL, none, "s1_b1_x", anchor_rule("z"), places, &failed) == KTC_UNKNOWN_NAME);
    CHECK(failed == 0);
    CHECK(apply("x", bad, NULL, none, places, &failed) == KTC_BAD_TYPE);
    CHECK(failed == 0);
    CHECK(apply("s2", place_rule(-1), NULL, none, places, &failed) == KTC_BAD_STACK);
    CHECK(failed == 2);
    CHECK(apply("s2", anchor_rule("yes"), NULL, none, places, &failed) == KTC_BAD_STACK);
    CHECK(failed == 2);
    CHECK(apply("s2", anchor_rule("z"), NULL, none, places, &failed) == KTC_OK);
}

static void
test_rules_of_a_stack_replace_the_others(void)
{
    const ktc_text names[] = {{"s1_b1_x", 7}, {"s1_b1_y", 7}};
    const ktc_rule *applied[2];
    ktc_name_rules rules;
    int64_t places[2];
    one_rule inner;
    one_rule tail;
    one_rule full;
    one_rule_create(&inner, "y", place_rule(-1));
    one_rule_create(&tail, "s1", (ktc_rule){.kind = KTC_RULE_STACK, .stack = &inner.set});
    one_rule_create(&full, NULL, (ktc_rule){0});
    CHECK(!ktc_name_rules_have_anchors(&full.set, &tail.set));
    CHECK(ktc_name_rules_create(&rules, &full.set, &tail.set, 2, NULL, 2) == KTC_OK);
    for (size_t index = 0; index < 2; index++) {
        CHECK(ktc_name_rules_place(&rules, names[index], index, &places[index], &applied[index]) ==
              KTC_OK);
    }
    CHECK(places[0] == KTC_STAYS && places[1] == 0);
    CHECK(applied[0] == NULL && applied[1] == &inner.rule);
    CHECK(inner.rule.used && tail.rule.used && !full.rule.used);
    ktc_name_rules_free(&rules);
    inner.rule = anchor_rule("x");
    CHECK(ktc_name_rules_have_anchors(&full.set, &tail.set));
    one_rule_free(&inner);
    one_rule_free(&tail);
    one_rule_free(&full);
}

int
main(int count, char **arguments)
{
    random_source random = random_from_arguments(count, arguments);
    test_places_are_clipped_like_those_of_list_insert();
    test_stage_equals_a_list_that_is_really_shifted(&random,
                                                    cases_from_arguments(count, arguments, 20000));
    test_first_forward_move_is_found();
    test_rules_become_places();
    test_rules_that_cannot_be_applied_are_told();
    test_rules_of_a_stack_replace_the_others();
    return 0;
}
