/* Where a name is cut: tensor names into layer and last part, Keras layer names into stack, head
 * and tail. */
#ifndef KTC_NAME_SPLIT_H
#define KTC_NAME_SPLIT_H

#include "names/text.h"

typedef struct {
    ktc_text whole; /* the name without an ending such as ":0" */
    ktc_text layer; /* all but the last part and its separator; empty for a name of one part */
    ktc_text last;  /* the last part */
} ktc_tensor_name;

/* Cuts the name of a tensor. When the last but one character is ":", the last two are dropped first
 * ("c/kernel:0"), whatever the last one is; characters count, not bytes. Parts are separated by "/"
 * if there is one, else by ".". */
ktc_tensor_name ktc_tensor_name_split(ktc_text name);

typedef struct {
    ktc_text stack; /* the part before the first "_" */
    ktc_text
        head; /* the first `split` parts; all but the last -split ones when split is negative */
    ktc_text tail; /* the rest */
} ktc_layer_name;

/* Cuts the name of a Keras layer, whose parts are separated by "_". A split beyond the parts leaves
 * the tail empty, a negative one beyond them the head. */
ktc_layer_name ktc_layer_name_split(ktc_text name, int64_t split);

#endif
