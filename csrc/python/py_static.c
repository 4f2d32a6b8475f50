/* Owns the Python functions of static alignment: assignment and name similarity. */
#include "python/args.h"
#include "python/arrays.h"
#include "python/errors.h"
#include "python/module.h"
#include "names/assign.h"
#include "names/patterns.h"

#define MOST_VECTORS 7

/* Numbers of parts and of columns are below this, so that a hostile one does not ask for gigabytes
 * of counts. */
#define MOST_NUMBERS (1 << 24)

/* An array, not a pointer: tables of them need no relocation and lie in read-only memory. */
typedef char vector_name[10];

/* The vectors among the arguments of one call, as copies of our own: another thread that changes or
 * resizes an argument cannot make a kernel read outside of what was checked. */
typedef struct {
    const char *function;
    int count;
    PyArrayObject *copies[MOST_VECTORS]; /* by argument; NULL for one that is no vector */
} vectors;

/* Copies the arguments: `types` has 'i' for a vector of int64, 'f' for float64, '-' for something
 * else. 0, or -1 with the exception set; *taken is safe to free after either. */
static int
vectors_take(vectors *taken, PyObject *const *arguments, Py_ssize_t argument_count,
             const vector_name *names, const char *types)
{
    if (!ktc_args_count_is(taken->function, argument_count, (Py_ssize_t)strlen(types))) {
        return -1;
    }
    for (; types[taken->count] != '\0'; taken->count++) {
        int type = types[taken->count] == 'i' ? NPY_INT64 : NPY_FLOAT64;
        const char *name = names[taken->count];
        PyArrayObject *array = (PyArrayObject *)arguments[taken->count];
        if (types[taken->count] == '-') {
            continue;
        }
        if (!ktc_args_is_array(taken->function, name, arguments[taken->count])) {
            return -1;
        }
        if (PyArray_TYPE(array) != type || PyArray_NDIM(array) != 1 ||
            !PyArray_ISCARRAY_RO(array)) {
            PyErr_Format(PyExc_TypeError, "%s: '%s' must be a contiguous vector of %s",
                         taken->function, name, type == NPY_INT64 ? "int64" : "float64");
            return -1;
        }
        taken->copies[taken->count] = (PyArrayObject *)PyArray_FromArray(
            array, PyArray_DescrFromType(type),
            NPY_ARRAY_CARRAY | NPY_ARRAY_ENSURECOPY | NPY_ARRAY_ENSUREARRAY);
        if (taken->copies[taken->count] == NULL) {
            return -1;
        }
    }
    return 0;
}

static void
vectors_free(vectors *taken)
{
    for (int index = 0; index < MOST_VECTORS; index++) {
        Py_CLEAR(taken->copies[index]);
    }
}

static npy_intp
size_of(const vectors *taken, int index)
{
    return PyArray_SIZE(taken->copies[index]);
}

static void *
data_of(const vectors *taken, int index)
{
    return PyArray_DATA(taken->copies[index]);
}

/* Raises ValueError for the vectors. Always -1. */
static int
refuse(const vectors *taken, const char *problem)
{
    PyErr_Format(PyExc_ValueError, "%s: %s", taken->function, problem);
    return -1;
}

/* How many lists a vector of starts cuts another one into: -1 with the exception set when they do
 * not fit. */
static Py_ssize_t
list_count(const vectors *taken, int starts, int items)
{
    npy_intp length = size_of(taken, starts);
    const int64_t *values = data_of(taken, starts);
    if (length < 1 || values[length - 1] != size_of(taken, items)) {
        return refuse(taken, "the last of the starts must be the number of items");
    }
    return length - 1;
}

/* A new vector for results, or NULL. */
static PyArrayObject *
new_vector(npy_intp length, int type)
{
    return (PyArrayObject *)PyArray_SimpleNew(1, &length, type);
}

static PyObject *
ktc_py_static_assign(PyObject *Py_UNUSED(module), PyObject *const *arguments,
                     Py_ssize_t argument_count)
{
    static const vector_name names[] = {"starts", "columns", "costs", "alone"};
    PyObject *result = NULL;
    PyArrayObject *chosen = NULL;
    PyArrayObject *margins = NULL;
    vectors taken = {.function = "assign"};

    if (vectors_take(&taken, arguments, argument_count, names, "iiff--") < 0) {
        goto done;
    }
    Py_ssize_t column_count = PyLong_AsSsize_t(arguments[4]);
    double limit = PyErr_Occurred() ? 0.0 : PyFloat_AsDouble(arguments[5]);
    Py_ssize_t rows = PyErr_Occurred() ? -1 : list_count(&taken, 0, 1);
    if (rows < 0) {
        goto done;
    }
    if (column_count < 0 || column_count > MOST_NUMBERS ||
        size_of(&taken, 2) != size_of(&taken, 1) || size_of(&taken, 3) != rows) {
        (void)refuse(&taken, "the vectors do not fit together");
        goto done;
    }
    ktc_assign_table table = {
        .row_count = (size_t)rows,
        .column_count = (size_t)column_count,
        .starts = data_of(&taken, 0),
        .columns = data_of(&taken, 1),
        .costs = data_of(&taken, 2),
        .alone = data_of(&taken, 3),
    };
    ktc_status status = ktc_assign_check(&table);
    if (status != KTC_OK) {
        (void)refuse(&taken, status == KTC_BAD_INDEX ? "entries must be lists of existing columns"
                                                     : "costs must be finite and not negative");
        goto done;
    }
    chosen = new_vector(rows, NPY_INT64);
    margins = new_vector(rows, NPY_FLOAT64);
    if (chosen == NULL || margins == NULL) {
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    status = ktc_assign_run(&table, limit, PyArray_DATA(chosen), PyArray_DATA(margins));
    Py_END_ALLOW_THREADS
    result = status == KTC_OK ? PyTuple_Pack(2, chosen, margins)
                              : ktc_error_from_status(status, taken.function);
done:
    Py_XDECREF(chosen);
    Py_XDECREF(margins);
    vectors_free(&taken);
    return result;
}

/* Opens the vectors `starts` and the next one as lists of words: 0, or -1 with an exception set. */
static int
word_lists(const vectors *taken, int starts, size_t word_count, ktc_word_lists *lists)
{
    Py_ssize_t count = list_count(taken, starts, starts + 1);
    if (count < 0) {
        return -1;
    }
    *lists = (ktc_word_lists){data_of(taken, starts), data_of(taken, starts + 1), (size_t)count};
    if (ktc_word_lists_check(lists, word_count) != KTC_OK) {
        return refuse(taken, "each name must be a list of known words");
    }
    return 0;
}

/* Opens the last two vectors as pairs of existing names: 0, or -1 with an exception set. */
static int
name_pairs(const vectors *taken, const ktc_word_lists *first, const ktc_word_lists *second,
           ktc_name_pairs *pairs)
{
    if (size_of(taken, 5) != size_of(taken, 6)) {
        return refuse(taken, "each pair has two names");
    }
    *pairs = (ktc_name_pairs){data_of(taken, 5), data_of(taken, 6), (size_t)size_of(taken, 5)};
    for (size_t pair = 0; pair < pairs->count; pair++) {
        int64_t one = pairs->ones[pair];
        int64_t two = pairs->twos[pair];
        if (one < 0 || two < 0 || (uint64_t)one >= first->count || (uint64_t)two >= second->count) {
            PyErr_Format(PyExc_IndexError, "%s: pair %zu is of names that do not exist",
                         taken->function, pair);
            return -1;
        }
    }
    return 0;
}

static PyObject *
ktc_py_static_similarities(PyObject *Py_UNUSED(module), PyObject *const *arguments,
                           Py_ssize_t argument_count)
{
    static const vector_name names[] = {"starts",  "words", "starts", "words",
                                        "weights", "ones",  "twos"};
    PyArrayObject *result = NULL;
    ktc_word_lists first;
    ktc_word_lists second;
    ktc_name_pairs pairs;
    vectors taken = {.function = "name_similarities"};

    if (vectors_take(&taken, arguments, argument_count, names, "iiiifii") < 0) {
        goto done;
    }
    size_t word_count = (size_t)size_of(&taken, 4);
    if (word_lists(&taken, 0, word_count, &first) < 0 ||
        word_lists(&taken, 2, word_count, &second) < 0 ||
        name_pairs(&taken, &first, &second, &pairs) < 0) {
        goto done;
    }
    result = new_vector((npy_intp)pairs.count, NPY_FLOAT64);
    if (result == NULL) {
        goto done;
    }
    double *values = PyArray_DATA(result);
    Py_BEGIN_ALLOW_THREADS
    for (size_t pair = 0; pair < pairs.count; pair++) {
        values[pair] = ktc_name_similarity(&first, (size_t)pairs.ones[pair], &second,
                                           (size_t)pairs.twos[pair], data_of(&taken, 4));
    }
    Py_END_ALLOW_THREADS
done:
    vectors_free(&taken);
    return (PyObject *)result;
}

/* Lists of parts, none longer than the kernel's table, and how many different parts there are: 0,
 * or -1 with an exception set. */
static int
part_lists(const vectors *taken, int starts, ktc_word_lists *lists, size_t *count)
{
    if (word_lists(taken, starts, MOST_NUMBERS, lists) < 0) {
        return -1;
    }
    *count = 0;
    for (int64_t index = 0; index < lists->starts[lists->count]; index++) {
        size_t part = (size_t)lists->words[index];
        *count = part >= *count ? part + 1 : *count;
    }
    for (size_t name = 0; name < lists->count; name++) {
        if (lists->starts[name + 1] - lists->starts[name] > KTC_MOST_WORDS) {
            return refuse(taken, "a name has too many parts");
        }
    }
    return 0;
}

/* 0 when each entry is -1 or an existing name, none twice; -1 with an exception set otherwise. */
static int
check_matched(const vectors *taken, const ktc_naming *naming)
{
    int answer = 0;
    char *is_taken = PyMem_Calloc(naming->second.count + 1, 1);
    if (is_taken == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t one = 0; answer == 0 && one < naming->first.count; one++) {
        int64_t two = naming->matched[one];
        if (two < -1 || two >= (int64_t)naming->second.count ||
            (two >= 0 && is_taken[two]++ != 0)) {
            answer = refuse(taken, "a match must be -1 or an existing name, each once");
        }
    }
    PyMem_Free(is_taken);
    return answer;
}

static PyObject *
ktc_py_static_patterns(PyObject *Py_UNUSED(module), PyObject *const *arguments,
                       Py_ssize_t argument_count)
{
    static const vector_name names[] = {"starts",  "parts", "starts", "parts",
                                        "matched", "ones",  "twos"};
    PyArrayObject *result = NULL;
    ktc_naming naming;
    ktc_name_pairs pairs;
    vectors taken = {.function = "name_patterns"};

    if (vectors_take(&taken, arguments, argument_count, names, "iiiiiii") < 0 ||
        part_lists(&taken, 0, &naming.first, &naming.first_part_count) < 0 ||
        part_lists(&taken, 2, &naming.second, &naming.second_part_count) < 0 ||
        name_pairs(&taken, &naming.first, &naming.second, &pairs) < 0) {
        goto done;
    }
    naming.matched = data_of(&taken, 4);
    if ((size_t)size_of(&taken, 4) != naming.first.count) {
        (void)refuse(&taken, "each first name needs its match, or -1");
        goto done;
    }
    if (check_matched(&taken, &naming) < 0) {
        goto done;
    }
    result = new_vector((npy_intp)pairs.count, NPY_FLOAT64);
    if (result == NULL) {
        goto done;
    }
    ktc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = ktc_name_patterns_score(&naming, &pairs, PyArray_DATA(result));
    Py_END_ALLOW_THREADS
    if (status != KTC_OK) {
        Py_CLEAR(result);
        ktc_error_from_status(status, taken.function);
    }
done:
    vectors_free(&taken);
    return (PyObject *)result;
}

PyDoc_STRVAR(assign_doc, "assign(starts, columns, costs, alone, column_count, limit, /)\n--\n\n"
                         "(column of each row or -1, by how much the total grows without it) of "
                         "the cheapest assignment.");
PyDoc_STRVAR(similarities_doc,
             "name_similarities(starts, words, starts, words, weights, ones, twos, /)\n--\n\n"
             "Similarity, 0 to 1, of pairs of names that are lists of words.");
PyDoc_STRVAR(patterns_doc,
             "name_patterns(starts, parts, starts, parts, matched, ones, twos, /)\n--\n\n"
             "How well pairs of names follow the scheme of the settled ones, 0 to 1, -1 for "
             "unknown.");

PyMethodDef ktc_py_static_methods[] = {
    {"assign", (PyCFunction)(void (*)(void))ktc_py_static_assign, METH_FASTCALL, assign_doc},
    {"name_similarities", (PyCFunction)(void (*)(void))ktc_py_static_similarities, METH_FASTCALL,
     similarities_doc},
    {"name_patterns", (PyCFunction)(void (*)(void))ktc_py_static_patterns, METH_FASTCALL,
     patterns_doc},
    {NULL, NULL, 0, NULL},
};
