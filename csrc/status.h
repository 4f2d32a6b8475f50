/* What a kernel answers. Kernels never see Python: they return one of these, and the boundary
 * (csrc/python/errors.c) turns it into an exception that names the user's things. */
#ifndef KTC_STATUS_H
#define KTC_STATUS_H

typedef enum {
    KTC_OK = 0,
    KTC_NO_MEMORY,    /* an allocation failed */
    KTC_OVERFLOW,     /* a size or an offset does not fit its type */
    KTC_BAD_AXES,     /* not a permutation, or axes that do not match the shape */
    KTC_BAD_SHAPE,    /* two shapes that must agree do not */
    KTC_OVERLAP,      /* two elements that must be apart share memory */
    KTC_BAD_TYPE,     /* an element type or a pair of types that the kernel does not know */
    KTC_BAD_STACK,    /* a rule that stands where those of a stack belong */
    KTC_UNKNOWN_NAME, /* a name that is not in its list */
    KTC_NAME_CLASH,   /* two things under one name, where one would replace the other */
    KTC_BAD_INDEX,    /* an index outside its list */
    KTC_SYSTEM_ERROR, /* the system refused to read or write; its number is kept beside the status
                       */
    KTC_CUT_SHORT,    /* a file ends before what is wanted of it */
    KTC_STOPPED,      /* the caller asked to stop */
    KTC_DIFFERENT,    /* what was compared is not the same */
} ktc_status;

#endif
