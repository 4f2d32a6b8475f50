/* Owns the Python functions of static alignment: assignment and name similarity. */
#include "python/args.h"
#include "python/arrays.h"
#include "python/errors.h"
#include "python/module.h"
#include "names/assign.h"
#include "names/patterns.h"

/* The argument as a one-dimensional C-order array of `type`, borrowed from the caller: NULL with
 * the exception set for anything else. */
static PyArrayObject *
vector(const char *function, const char *name, PyObject *argument, int type)
{
    if (!ktc_args_is_array(function, name, argument)) {
        return NULL;
    }
    PyArrayObject *array = (PyArrayObject *)argument;
    if (PyArray_TYPE(array) != type || PyArray_NDIM(array) != 1 || !PyArray_ISCARRAY_RO(array)) {
        PyErr_Format(PyExc_TypeError, "%s: '%s' must be a contiguous vector of %s", function, name,
                     type == NPY_INT64 ? "int64" : "float64");
        return NULL;
    }
    return array;
}

/* Length of a vector of starts less one, checked against the vector that it divides: -1 with the
 * exception set when they do not fit. */
static Py_ssize_t
list_count(const char *function, PyArrayObject *starts, PyArrayObject *items)
{
    npy_intp length = PyArray_SIZE(starts);
    const int64_t *values = PyArray_DATA(starts);
    if (length < 1 || values[length - 1] != PyArray_SIZE(items)) {
        PyErr_Format(PyExc_ValueError, "%s: the last of the starts must be the number of items",
                     function);
        return -1;
    }
    return length - 1;
}

static PyObject *
ktc_py_static_assign(PyObject *Py_UNUSED(module), PyObject *const *arguments,
                     Py_ssize_t argument_count)
{
    static const char *const name = "assign";
    PyObject *result = NULL;
    PyObject *chosen = NULL;
    PyObject *margins = NULL;

    if (!ktc_args_count_is(name, argument_count, 6)) {
        return NULL;
    }
    PyArrayObject *starts = vector(name, "starts", arguments[0], NPY_INT64);
    PyArrayObject *columns =
        starts == NULL ? NULL : vector(name, "columns", arguments[1], NPY_INT64);
    PyArrayObject *costs =
        columns == NULL ? NULL : vector(name, "costs", arguments[2], NPY_FLOAT64);
    PyArrayObject *alone = costs == NULL ? NULL : vector(name, "alone", arguments[3], NPY_FLOAT64);
    if (alone == NULL) {
        return NULL;
    }
    Py_ssize_t column_count = PyLong_AsSsize_t(arguments[4]);
    double limit = PyFloat_AsDouble(arguments[5]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    npy_intp rows = list_count(name, starts, columns);
    if (rows < 0) {
        return NULL;
    }
    if (column_count < 0 || PyArray_SIZE(costs) != PyArray_SIZE(columns) ||
        PyArray_SIZE(alone) != rows) {
        return PyErr_Format(PyExc_ValueError, "%s: the vectors do not fit together", name);
    }
    ktc_assign_table table = {
        .row_count = (size_t)rows,
        .column_count = (size_t)column_count,
        .starts = PyArray_DATA(starts),
        .columns = PyArray_DATA(columns),
        .costs = PyArray_DATA(costs),
        .alone = PyArray_DATA(alone),
    };
    ktc_status status = ktc_assign_check(&table);
    if (status != KTC_OK) {
        return PyErr_Format(PyExc_ValueError, "%s: %s", name,
                            status == KTC_BAD_INDEX ? "entries must be lists of existing columns"
                                                    : "costs must be finite and not negative");
    }
    chosen = PyArray_SimpleNew(1, &rows, NPY_INT64);
    margins = PyArray_SimpleNew(1, &rows, NPY_FLOAT64);
    if (chosen == NULL || margins == NULL) {
        goto done;
    }
    int64_t *chosen_data = PyArray_DATA((PyArrayObject *)chosen);
    double *margins_data = PyArray_DATA((PyArrayObject *)margins);
    Py_BEGIN_ALLOW_THREADS
    status = ktc_assign_run(&table, limit, chosen_data, margins_data);
    Py_END_ALLOW_THREADS
    if (status != KTC_OK) {
        ktc_error_from_status(status, name);
        goto done;
    }
    result = PyTuple_Pack(2, chosen, margins);
done:
    Py_XDECREF(chosen);
    Py_XDECREF(margins);
    return result;
}

/* Opens (starts, words) as lists of words: 0, or -1 with an exception set. */
static int
word_lists(const char *function, PyObject *starts_argument, PyObject *words_argument,
           size_t word_count, ktc_word_lists *lists)
{
    PyArrayObject *starts = vector(function, "starts", starts_argument, NPY_INT64);
    PyArrayObject *words =
        starts == NULL ? NULL : vector(function, "words", words_argument, NPY_INT64);
    if (words == NULL) {
        return -1;
    }
    Py_ssize_t count = list_count(function, starts, words);
    if (count < 0) {
        return -1;
    }
    *lists = (ktc_word_lists){PyArray_DATA(starts), PyArray_DATA(words), (size_t)count};
    if (ktc_word_lists_check(lists, word_count) != KTC_OK) {
        PyErr_Format(PyExc_ValueError, "%s: each name must be a list of known words", function);
        return -1;
    }
    return 0;
}

/* Opens two vectors as pairs of existing names: 0, or -1 with an exception set. */
static int
name_pairs(const char *function, PyObject *ones_argument, PyObject *twos_argument,
           const ktc_word_lists *first, const ktc_word_lists *second, ktc_name_pairs *pairs)
{
    PyArrayObject *ones = vector(function, "ones", ones_argument, NPY_INT64);
    PyArrayObject *twos = ones == NULL ? NULL : vector(function, "twos", twos_argument, NPY_INT64);
    if (twos == NULL) {
        return -1;
    }
    if (PyArray_SIZE(ones) != PyArray_SIZE(twos)) {
        PyErr_Format(PyExc_ValueError, "%s: each pair has two names", function);
        return -1;
    }
    *pairs = (ktc_name_pairs){PyArray_DATA(ones), PyArray_DATA(twos), (size_t)PyArray_SIZE(ones)};
    for (size_t pair = 0; pair < pairs->count; pair++) {
        int64_t one = pairs->ones[pair];
        int64_t two = pairs->twos[pair];
        if (one < 0 || two < 0 || (uint64_t)one >= first->count || (uint64_t)two >= second->count) {
            PyErr_Format(PyExc_IndexError, "%s: pair %zu is of names that do not exist", function,
                         pair);
            return -1;
        }
    }
    return 0;
}

static PyObject *
ktc_py_static_similarities(PyObject *Py_UNUSED(module), PyObject *const *arguments,
                           Py_ssize_t argument_count)
{
    static const char *const name = "name_similarities";
    ktc_word_lists first;
    ktc_word_lists second;
    ktc_name_pairs pairs;

    if (!ktc_args_count_is(name, argument_count, 7)) {
        return NULL;
    }
    PyArrayObject *weights = vector(name, "weights", arguments[4], NPY_FLOAT64);
    if (weights == NULL) {
        return NULL;
    }
    size_t word_count = (size_t)PyArray_SIZE(weights);
    if (word_lists(name, arguments[0], arguments[1], word_count, &first) < 0 ||
        word_lists(name, arguments[2], arguments[3], word_count, &second) < 0 ||
        name_pairs(name, arguments[5], arguments[6], &first, &second, &pairs) < 0) {
        return NULL;
    }
    npy_intp count = (npy_intp)pairs.count;
    PyObject *result = PyArray_SimpleNew(1, &count, NPY_FLOAT64);
    if (result == NULL) {
        return NULL;
    }
    double *values = PyArray_DATA((PyArrayObject *)result);
    const double *weight = PyArray_DATA(weights);
    Py_BEGIN_ALLOW_THREADS
    for (size_t pair = 0; pair < pairs.count; pair++) {
        size_t one = (size_t)pairs.ones[pair];
        size_t two = (size_t)pairs.twos[pair];
        values[pair] = ktc_name_similarity(&first, one, &second, two, weight);
    }
    Py_END_ALLOW_THREADS
    return result;
}

/* Lists of parts, none longer than the kernel's table, and how many different parts there are: 0,
 * or -1 with an exception set. */
static int
part_lists(const char *function, PyObject *starts, PyObject *parts, ktc_word_lists *lists,
           size_t *count)
{
    if (word_lists(function, starts, parts, UINT32_MAX, lists) < 0) {
        return -1;
    }
    *count = 0;
    for (int64_t index = 0; index < lists->starts[lists->count]; index++) {
        size_t part = (size_t)lists->words[index];
        *count = part >= *count ? part + 1 : *count;
    }
    for (size_t name = 0; name < lists->count; name++) {
        if (lists->starts[name + 1] - lists->starts[name] > KTC_MOST_WORDS) {
            PyErr_Format(PyExc_ValueError, "%s: a name has more than %d parts", function,
                         KTC_MOST_WORDS);
            return -1;
        }
    }
    return 0;
}

/* 0 when each entry is -1 or an existing name, none twice; -1 with an exception set otherwise. */
static int
check_matched(const char *function, const int64_t *matched, size_t count, size_t second_count)
{
    int answer = -1;
    char *taken = PyMem_Calloc(second_count + 1, 1);
    if (taken == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t one = 0; one < count; one++) {
        if (matched[one] < -1 || matched[one] >= (int64_t)second_count ||
            (matched[one] >= 0 && taken[matched[one]]++ != 0)) {
            PyErr_Format(PyExc_ValueError, "%s: a match must be -1 or an existing name, each once",
                         function);
            goto done;
        }
    }
    answer = 0;
done:
    PyMem_Free(taken);
    return answer;
}

static PyObject *
ktc_py_static_patterns(PyObject *Py_UNUSED(module), PyObject *const *arguments,
                       Py_ssize_t argument_count)
{
    static const char *const name = "name_patterns";
    ktc_naming naming;
    ktc_name_pairs pairs;

    if (!ktc_args_count_is(name, argument_count, 7)) {
        return NULL;
    }
    PyArrayObject *matched = vector(name, "matched", arguments[4], NPY_INT64);
    if (matched == NULL ||
        part_lists(name, arguments[0], arguments[1], &naming.first, &naming.first_part_count) < 0 ||
        part_lists(name, arguments[2], arguments[3], &naming.second, &naming.second_part_count) <
            0 ||
        name_pairs(name, arguments[5], arguments[6], &naming.first, &naming.second, &pairs) < 0) {
        return NULL;
    }
    naming.matched = PyArray_DATA(matched);
    if ((size_t)PyArray_SIZE(matched) != naming.first.count) {
        return PyErr_Format(PyExc_ValueError, "%s: each first name needs its match, or -1", name);
    }
    if (check_matched(name, naming.matched, naming.first.count, naming.second.count) < 0) {
        return NULL;
    }
    npy_intp count = (npy_intp)pairs.count;
    PyObject *result = PyArray_SimpleNew(1, &count, NPY_FLOAT64);
    if (result == NULL) {
        return NULL;
    }
    ktc_status status;
    double *scores = PyArray_DATA((PyArrayObject *)result);
    Py_BEGIN_ALLOW_THREADS
    status = ktc_name_patterns_score(&naming, &pairs, scores);
    Py_END_ALLOW_THREADS
    if (status != KTC_OK) {
        Py_DECREF(result);
        return ktc_error_from_status(status, name);
    }
    return result;
}

PyDoc_STRVAR(assign_doc, "assign(starts, columns, costs, alone, column_count, limit, /)\n--\n\n"
                         "(column of each row or -1, by how much the total grows without it) of "
                         "the cheapest assignment.");
PyDoc_STRVAR(similarities_doc,
             "name_similarities(starts, words, starts, words, weights, ones, twos, /)\n--\n\n"
             "Likeness, 0 to 1, of pairs of names that are lists of words.");

PyDoc_STRVAR(
    patterns_doc,
    "name_patterns(starts, parts, starts, parts, matched, ones, twos, /)\n--\n\n"
    "How well pairs of names follow the scheme of the settled ones, 0 to 1, -1 for unknown.");

PyMethodDef ktc_py_static_methods[] = {
    {"assign", (PyCFunction)(void (*)(void))ktc_py_static_assign, METH_FASTCALL, assign_doc},
    {"name_similarities", (PyCFunction)(void (*)(void))ktc_py_static_similarities, METH_FASTCALL,
     similarities_doc},
    {"name_patterns", (PyCFunction)(void (*)(void))ktc_py_static_patterns, METH_FASTCALL,
     patterns_doc},
    {NULL, NULL, 0, NULL},
};
