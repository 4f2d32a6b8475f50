/* Names: how they are cut, numbered, grouped, and which are alike. */
#include <string.h>

#include "check.h"
#include "names/group.h"
#include "names/split.h"

static ktc_text
text_of(const char *string)
{
    return (ktc_text){string, strlen(string)};
}

static int
is(ktc_text text, const char *expected)
{
    return ktc_text_equals(text, text_of(expected));
}

static void
check_tensor_name(const char *name, const char *whole, const char *layer, const char *last)
{
    ktc_tensor_name found = ktc_tensor_name_split(text_of(name));
    CHECK(is(found.whole, whole) && is(found.layer, layer) && is(found.last, last));
}

static void
test_tensor_names_are_cut_at_the_last_separator(void)
{
    check_tensor_name("a.b.weight", "a.b.weight", "a.b", "weight");
    check_tensor_name("a.b/kernel:0", "a.b/kernel", "a.b", "kernel");
    check_tensor_name("cls_token", "cls_token", "", "cls_token");
    check_tensor_name("a.", "a.", "a", "");
    check_tensor_name(".a", ".a", "", "a");
    check_tensor_name("", "", "", "");
    check_tensor_name("x", "x", "", "x");
}

static void
test_colon_and_one_character_are_cut_whatever_its_bytes(void)
{
    check_tensor_name("k:x", "k", "", "k");
    check_tensor_name("k:10", "k:10", "", "k:10");
    check_tensor_name("k:", "k:", "", "k:");
    check_tensor_name(":0", "", "", "");
    check_tensor_name("a/k:\xC3\xA9", "a/k", "a", "k");    /* e with an accent: two bytes */
    check_tensor_name("k:\xE9\x87\x8D", "k", "", "k");     /* three bytes */
    check_tensor_name("k:\xF0\x9F\x98\x80", "k", "", "k"); /* four bytes */
    check_tensor_name("k:\xC3\xA9"
                      "0",
                      "k:\xC3\xA9"
                      "0",
                      "",
                      "k:\xC3\xA9"
                      "0");
}

static void
check_layer_name(const char *name, int64_t split, const char *stack, const char *head,
                 const char *tail)
{
    ktc_layer_name found = ktc_layer_name_split(text_of(name), split);
    CHECK(is(found.stack, stack) && is(found.head, head) && is(found.tail, tail));
}

static void
test_layer_names_are_cut_after_so_many_parts(void)
{
    check_layer_name("s1_b1_attn_gamma", 2, "s1", "s1_b1", "attn_gamma");
    check_layer_name("s1_b1_attn_gamma", 1, "s1", "s1", "b1_attn_gamma");
    check_layer_name("s1_b1_attn_gamma", 0, "s1", "", "s1_b1_attn_gamma");
    check_layer_name("s1_b1_attn_gamma", 4, "s1", "s1_b1_attn_gamma", "");
    check_layer_name("s1_b1_attn_gamma", INT64_MAX, "s1", "s1_b1_attn_gamma", "");
    check_layer_name("s1_b1_attn_gamma", -1, "s1", "s1_b1_attn", "gamma");
    check_layer_name("s1_b1_attn_gamma", -3, "s1", "s1", "b1_attn_gamma");
    check_layer_name("s1_b1_attn_gamma", -4, "s1", "", "s1_b1_attn_gamma");
    check_layer_name("s1_b1_attn_gamma", INT64_MIN, "s1", "", "s1_b1_attn_gamma");
    check_layer_name("stem", 2, "stem", "stem", "");
    check_layer_name("_a_", 1, "", "", "a_");
    check_layer_name("", 2, "", "", "");
}

static void
test_table_numbers_names_in_order_of_first_appearance(size_t capacity)
{
    char bytes[1000][8];
    ktc_name_table table;
    CHECK(ktc_name_table_create(&table, capacity) == KTC_OK);
    CHECK(ktc_name_table_find(&table, text_of("n1")) == KTC_NO_INDEX);
    for (size_t number = 0; number < 1000; number++) {
        (void)snprintf(bytes[number], sizeof bytes[number], "n%zu", number);
        CHECK(ktc_name_table_add(&table, text_of(bytes[number])) == number);
        CHECK(ktc_name_table_add(&table, text_of(bytes[number / 2])) == number / 2);
    }
    CHECK(table.count == 1000);
    CHECK(ktc_name_table_find(&table, text_of("n999")) == 999);
    CHECK(ktc_name_table_find(&table, text_of("n1000")) == KTC_NO_INDEX);
    ktc_name_table_free(&table);
    ktc_name_table_free(&table);
    CHECK(ktc_name_table_create(&table, SIZE_MAX) == KTC_OVERFLOW);
    ktc_name_table_free(&table);
}

/* A table of the given names. */
static ktc_name_table
table_of(const char *const *names, size_t count)
{
    ktc_name_table table;
    CHECK(ktc_name_table_create(&table, count) == KTC_OK);
    for (size_t index = 0; index < count; index++) {
        (void)ktc_name_table_add(&table, text_of(names[index]));
    }
    return table;
}

/* Groups all names; the status of the last one added. */
static ktc_status
make_groups(ktc_name_groups *groups, const ktc_text *names, size_t count,
            const ktc_name_table *skip, const ktc_name_table *unstack)
{
    ktc_status status = ktc_name_groups_create(groups, count, skip, unstack);
    for (size_t index = 0; status == KTC_OK && index < count; index++) {
        status = ktc_name_groups_add(groups, names[index]);
    }
    return status;
}

static void
test_groups_gather_skip_and_unstack(void)
{
    const char *const skip_names[] = {"n"};
    const char *const unstack_names[] = {"g"};
    const ktc_text names[] = {text_of("a.w"), text_of("b.w"), text_of("a.n"), text_of("a.g"),
                              text_of("a.b")};
    ktc_name_table skip = table_of(skip_names, 1);
    ktc_name_table unstack = table_of(unstack_names, 1);
    ktc_name_groups groups;
    CHECK(make_groups(&groups, names, 5, &skip, &unstack) == KTC_OK);
    CHECK(groups.layers.count == 3);
    CHECK(is(groups.layers.names[0], "a") && is(groups.layers.names[1], "b") &&
          is(groups.layers.names[2], "a.g"));
    CHECK(groups.layer_of[0] == 0 && groups.layer_of[1] == 1 && groups.layer_of[2] == KTC_SKIPPED);
    CHECK(groups.layer_of[3] == 2 && groups.layer_of[4] == 0);
    ktc_name_groups_free(&groups);
    CHECK(make_groups(&groups, names, 0, &skip, &unstack) == KTC_OK);
    CHECK(groups.layers.count == 0);
    ktc_name_groups_free(&groups);
    ktc_name_table_free(&skip);
    ktc_name_table_free(&unstack);
}

static void
test_groups_refuse_an_unstacked_tensor_in_the_place_of_others(void)
{
    const char *const unstack_names[] = {"g"};
    const ktc_text names[] = {text_of("x.w"), text_of("a.g.w"), text_of("a.g.b"), text_of("a.g")};
    ktc_name_table skip = table_of(NULL, 0);
    ktc_name_table unstack = table_of(unstack_names, 1);
    ktc_name_groups groups;
    CHECK(make_groups(&groups, names, 4, &skip, &unstack) == KTC_NAME_CLASH);
    CHECK(groups.clash_first == 1 && groups.count == 4);
    ktc_name_groups_free(&groups);
    ktc_name_table_free(&skip);
    ktc_name_table_free(&unstack);
}

int
main(void)
{
    test_tensor_names_are_cut_at_the_last_separator();
    test_colon_and_one_character_are_cut_whatever_its_bytes();
    test_layer_names_are_cut_after_so_many_parts();
    test_table_numbers_names_in_order_of_first_appearance(1000);
    test_table_numbers_names_in_order_of_first_appearance(0);
    test_groups_gather_skip_and_unstack();
    test_groups_refuse_an_unstacked_tensor_in_the_place_of_others();
    return 0;
}
