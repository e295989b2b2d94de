/* Which samples a sample of bounded size keeps, and their rows copied to their places.
 *
 * A part of the module `_native`, which adds `sampling_functions` to its functions. Arrays come as addresses of
 * contiguous values that the caller keeps alive. Every function has a counterpart in numpy or torch beside its caller.
 */

#include "_native.h"

#include <stdlib.h>

#define LONG_BYTES 4000000 /* from so many bytes on, other Python threads may run meanwhile */

/* splitmix64 of running numbers, as `dropdiag.sketches.mixing.mixed` has it. */
static PyObject *mix(PyObject *self, PyObject *args)
{
    unsigned long long first, address;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "KnK", &first, &n, &address))
        return NULL;
    uint64_t *keys = (uint64_t *)(uintptr_t)address;
    for (Py_ssize_t i = 0; i < n; i++) {
        uint64_t key = (first + (uint64_t)i) * 0x9E3779B97F4A7C15u;
        key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9u;
        key = (key ^ (key >> 27)) * 0x94D049BB133111EBu;
        keys[i] = key ^ (key >> 31);
    }
    Py_RETURN_NONE;
}

/* Return the k-th smallest of n keys, from 0, which are put in another order (Hoare's quickselect). */
static uint64_t select_key(uint64_t *keys, Py_ssize_t n, Py_ssize_t k)
{
    Py_ssize_t low = 0, high = n - 1;
    while (low < high) {
        uint64_t pivot = keys[low + (high - low) / 2]; /* hashes: any is as good as a random one */
        Py_ssize_t i = low, j = high;
        while (i <= j) {
            while (keys[i] < pivot)
                i++;
            while (keys[j] > pivot)
                j--;
            if (i <= j) {
                uint64_t held = keys[i];
                keys[i++] = keys[j];
                keys[j--] = held;
            }
        }
        if (k <= j)
            high = j;
        else if (k >= i)
            low = i;
        else
            break;
    }
    return keys[k];
}

/* The key up to which `most` of all keys are kept, and how many equal to it are among these. */
typedef struct {
    uint64_t key;
    Py_ssize_t equal;
} Limit;

static int find_limit(const uint64_t *kept, Py_ssize_t n, Py_ssize_t most, const uint64_t *keys, Py_ssize_t count,
                      Limit *limit)
{
    uint64_t *all = malloc((n + count) * sizeof *all), greatest = 0;
    Py_ssize_t size = n;
    if (all == NULL)
        return 0;
    memcpy(all, kept, n * sizeof *all);
    for (Py_ssize_t i = 0; i < n; i++)
        greatest = kept[i] > greatest ? kept[i] : greatest;
    for (Py_ssize_t i = 0; i < count; i++)
        if (n < most || keys[i] < greatest)
            all[size++] = keys[i];
    limit->key = select_key(all, size, most - 1);
    limit->equal = most;
    for (Py_ssize_t i = 0; i < size; i++)
        limit->equal -= all[i] < limit->key;
    free(all);
    return 1;
}

static int is_kept(uint64_t key, Limit *limit)
{
    return key < limit->key || (key == limit->key && limit->equal-- > 0);
}

static PyObject *choose(PyObject *self, PyObject *args)
{
    unsigned long long of_kept, of_keys, of_chosen, of_places;
    Py_ssize_t n, most, count;
    if (!PyArg_ParseTuple(args, "KnnKnKK", &of_kept, &n, &most, &of_keys, &count, &of_chosen, &of_places))
        return NULL;
    const uint64_t *kept = (const uint64_t *)(uintptr_t)of_kept;
    const uint64_t *keys = (const uint64_t *)(uintptr_t)of_keys;
    int64_t *chosen = (int64_t *)(uintptr_t)of_chosen, *places = (int64_t *)(uintptr_t)of_places;
    Py_ssize_t free_places = 0, found = 0;
    Limit limit = {UINT64_MAX, count};
    if (n + count > most && !find_limit(kept, n, most, keys, count, &limit))
        return PyErr_NoMemory();
    for (Py_ssize_t place = 0; place < n; place++)
        if (!is_kept(kept[place], &limit))
            places[free_places++] = place;
    for (Py_ssize_t place = n; place < most && free_places < count; place++)
        places[free_places++] = place;
    for (Py_ssize_t i = 0; i < count && found < free_places; i++)
        if (is_kept(keys[i], &limit))
            chosen[found++] = i;
    return PyLong_FromSsize_t(found);
}

static PyObject *copy_rows(PyObject *self, PyObject *args)
{
    unsigned long long source, of_chosen, target, of_places;
    Py_ssize_t n, bytes;
    if (!PyArg_ParseTuple(args, "KKKKnn", &source, &of_chosen, &target, &of_places, &n, &bytes))
        return NULL;
    const char *from = (const char *)(uintptr_t)source;
    char *to = (char *)(uintptr_t)target;
    const int64_t *chosen = (const int64_t *)(uintptr_t)of_chosen, *places = (const int64_t *)(uintptr_t)of_places;
    PyThreadState *state = n * bytes >= LONG_BYTES ? PyEval_SaveThread() : NULL;
    for (Py_ssize_t k = 0; k < n; k++)
        memcpy(to + places[k] * bytes, from + chosen[k] * bytes, bytes);
    if (state != NULL)
        PyEval_RestoreThread(state);
    Py_RETURN_NONE;
}

PyMethodDef sampling_functions[] = {
    {"mix", mix, METH_VARARGS, "mix(first, n, keys): write splitmix64 of the numbers from `first` on."},
    {"choose", choose, METH_VARARGS,
     "choose(kept, n, most, keys, count, chosen, places): of the keys kept and given, the lowest are to be kept; write "
     "which are chosen and where they are to be put, and return how many."},
    {"copy_rows", copy_rows, METH_VARARGS,
     "copy_rows(source, chosen, target, places, n, bytes): copy n rows of so many bytes."},
    {NULL, NULL, 0, NULL}};
