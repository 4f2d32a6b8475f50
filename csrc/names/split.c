/* The two ways of cutting names, by the conventions of keras_cv_attention_models 1.4.3. */
#include "names/split.h"

/* Length of the last character in bytes: UTF-8 continuation bytes are 10xxxxxx. */
static size_t
last_character_length(ktc_text text)
{
    size_t length = 1;
    while (length < text.length &&
           ((unsigned char)text.bytes[text.length - length] & 0xC0U) == 0x80U) {
        length++;
    }
    return length;
}

/* Index of the last byte equal to `wanted`, or KTC_NO_INDEX. */
static size_t
find_last(ktc_text text, char wanted)
{
    for (size_t at = text.length; at > 0; at--) {
        if (text.bytes[at - 1] == wanted) {
            return at - 1;
        }
    }
    return KTC_NO_INDEX;
}

ktc_tensor_name
ktc_tensor_name_split(ktc_text name)
{
    if (name.length > 0) {
        size_t ending = last_character_length(name) + 1;
        if (ending <= name.length && name.bytes[name.length - ending] == ':') {
            name = ktc_text_slice(name, 0, name.length - ending);
        }
    }
    /* Nearly no name has a slash, which memchr knows many bytes at a time; the last dot is near the
     * end. */
    bool has_slash = name.length > 0 && memchr(name.bytes, '/', name.length) != NULL;
    size_t separator = find_last(name, has_slash ? '/' : '.');
    if (separator == KTC_NO_INDEX) {
        return (ktc_tensor_name){name, ktc_text_slice(name, 0, 0), name};
    }
    return (ktc_tensor_name){name, ktc_text_slice(name, 0, separator),
                             ktc_text_slice(name, separator + 1, name.length)};
}

/* Index of the n-th "_" from the start, n counting from 1, or KTC_NO_INDEX. */
static size_t
find_underscore(ktc_text text, int64_t wanted)
{
    for (size_t at = 0; at < text.length; at++) {
        if (text.bytes[at] == '_' && --wanted == 0) {
            return at;
        }
    }
    return KTC_NO_INDEX;
}

static size_t
find_underscore_from_end(ktc_text text, int64_t wanted)
{
    for (size_t at = text.length; at > 0; at--) {
        if (text.bytes[at - 1] == '_' && --wanted == 0) {
            return at - 1;
        }
    }
    return KTC_NO_INDEX;
}

ktc_layer_name
ktc_layer_name_split(ktc_text name, int64_t split)
{
    ktc_text nothing = ktc_text_slice(name, 0, 0);
    size_t first = find_underscore(name, 1);
    ktc_text stack = first == KTC_NO_INDEX ? name : ktc_text_slice(name, 0, first);
    if (split == 0) {
        return (ktc_layer_name){stack, nothing, name};
    }
    /* Below -INT64_MAX no name has that many parts, and the number could not be negated. */
    int64_t from_end = split < -INT64_MAX ? INT64_MAX : -split;
    size_t at = split > 0 ? find_underscore(name, split) : find_underscore_from_end(name, from_end);
    if (at == KTC_NO_INDEX) {
        return split > 0 ? (ktc_layer_name){stack, name, nothing}
                         : (ktc_layer_name){stack, nothing, name};
    }
    return (ktc_layer_name){stack, ktc_text_slice(name, 0, at),
                            ktc_text_slice(name, at + 1, name.length)};
}
