/* Loops over float32 values on the CPU: moments, norms of changes, nodes that never leave an interval.
 *
 * A part of the module `_native`, which adds `statistics_functions` to its functions. Tensors come as addresses of contiguous
 * float32 values that the caller keeps alive; sums are of float64. Every function has a counterpart in torch beside its
 * caller.
 */

#include "_native.h"

#include <stdlib.h>

#define INSIDE 0        /* the codes of `dropdiag.sketches.always_inside` */
#define UNKNOWN 1
#define OUTSIDE 2

static double total(const double *lanes)
{
    double sum = 0;
    for (int k = 0; k < LANES; k++)
        sum += lanes[k];
    return sum;
}

/* Moments ------------------------------------------------------------------------------------------------------ */

typedef struct {
    double sum, absolute;
    float low, high;
} Extent;

typedef struct {
    double second, third, fourth;
} Powers;

DISPATCHED
static void extend(const float *x, size_t n, Extent *extent)
{
    double sum[LANES] = {0}, absolute[LANES] = {0};
    float low[LANES], high[LANES];
    size_t i = 0;
    for (int k = 0; k < LANES; k++)
        low[k] = extent->low, high[k] = extent->high;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            float value = x[i + k];
            sum[k] += (double)value;
            absolute[k] += (double)fabsf(value);
            low[k] = value < low[k] ? value : low[k];
            high[k] = value > high[k] ? value : high[k];
        }
    for (int k = 0; i < n; i++, k++) {
        sum[k] += (double)x[i];
        absolute[k] += (double)fabsf(x[i]);
        low[k] = x[i] < low[k] ? x[i] : low[k];
        high[k] = x[i] > high[k] ? x[i] : high[k];
    }
    extent->sum += total(sum);
    extent->absolute += total(absolute);
    for (int k = 0; k < LANES; k++) {
        extent->low = low[k] < extent->low ? low[k] : extent->low;
        extent->high = high[k] > extent->high ? high[k] : extent->high;
    }
}

DISPATCHED
static void add_powers(const float *x, size_t n, double mean, Powers *powers)
{
    double second[LANES] = {0}, third[LANES] = {0}, fourth[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            double d = (double)x[i + k] - mean, square = d * d;
            second[k] += square;
            third[k] += square * d;
            fourth[k] += square * square;
        }
    for (int k = 0; i < n; i++, k++) {
        double d = (double)x[i] - mean, square = d * d;
        second[k] += square;
        third[k] += square * d;
        fourth[k] += square * square;
    }
    powers->second += total(second);
    powers->third += total(third);
    powers->fourth += total(fourth);
}

static PyObject *moments(PyObject *self, PyObject *args)
{
    unsigned long long address;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "Kn", &address, &n))
        return NULL;
    const float *x = (const float *)(uintptr_t)address;
    Extent extent = {0, 0, INFINITY, -INFINITY};
    Powers powers = {0, 0, 0};
    PyThreadState *state = n >= LONG ? PyEval_SaveThread() : NULL;
    for (Py_ssize_t i = 0; i < n; i += BLOCK)
        extend(x + i, n - i < BLOCK ? n - i : BLOCK, &extent);
    double mean = extent.sum / n;
    for (Py_ssize_t i = 0; i < n; i += BLOCK)
        add_powers(x + i, n - i < BLOCK ? n - i : BLOCK, mean, &powers);
    if (state != NULL)
        PyEval_RestoreThread(state);
    if (isnan(extent.absolute)) /* a value is NaN, which no comparison shows */
        extent.low = extent.high = NAN;
    return Py_BuildValue("(ddddddd)", mean, powers.second, powers.third, powers.fourth, extent.absolute / n,
                         (double)extent.low, (double)extent.high);
}

/* Changes ------------------------------------------------------------------------------------------------------ */

DISPATCHED
static void add_squares(const float *before, const float *now, size_t n, double *moved, double *was)
{
    double of_change[LANES] = {0}, of_before[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            double a = (double)before[i + k], d = (double)now[i + k] - a;
            of_change[k] += d * d;
            of_before[k] += a * a;
        }
    for (int k = 0; i < n; i++, k++) {
        double a = (double)before[i], d = (double)now[i] - a;
        of_change[k] += d * d;
        of_before[k] += a * a;
    }
    *moved += total(of_change);
    *was += total(of_before);
}

static PyObject *change_squares(PyObject *self, PyObject *args)
{
    unsigned long long first, second;
    Py_ssize_t n;
    double moved = 0, was = 0;
    if (!PyArg_ParseTuple(args, "KKn", &first, &second, &n))
        return NULL;
    const float *before = (const float *)(uintptr_t)first, *now = (const float *)(uintptr_t)second;
    PyThreadState *state = n >= LONG ? PyEval_SaveThread() : NULL;
    for (Py_ssize_t i = 0; i < n; i += BLOCK)
        add_squares(before + i, now + i, n - i < BLOCK ? n - i : BLOCK, &moved, &was);
    if (state != NULL)
        PyEval_RestoreThread(state);
    return Py_BuildValue("(dd)", moved, was);
}

/* Nodes that never leave a set of intervals -------------------------------------------------------------------- */

typedef struct {
    float low, high;
} Interval;

static int lies_in(float x, const Interval *intervals, Py_ssize_t n)
{
    for (Py_ssize_t k = 0; k < n; k++)
        if (x >= intervals[k].low && x <= intervals[k].high)
            return 1;
    return 0;
}

/* Return the code of some values of one node; the first of `intervals` is where they are known. */
static int8_t code_of(const float *x, Py_ssize_t n, const Interval *intervals, Py_ssize_t of_set)
{
    int8_t code = INSIDE;
    for (Py_ssize_t i = 0; i < n; i++)
        if (!lies_in(x[i], intervals, 1))
            code = UNKNOWN;
        else if (!lies_in(x[i], intervals + 1, of_set))
            return OUTSIDE;
    return code;
}

/* Raise the codes of nodes over values of shape (before, nodes, after). A node that is OUTSIDE is not looked at any
 * more: `open` has room for the numbers of those that are. */
static void raise_codes(const float *x, const Py_ssize_t *shape, const Interval *intervals, Py_ssize_t of_set,
                        int8_t *codes, Py_ssize_t *open)
{
    Py_ssize_t nodes = shape[1], after = shape[2], left = 0;
    for (Py_ssize_t node = 0; node < nodes; node++)
        if (codes[node] != OUTSIDE)
            open[left++] = node;
    for (Py_ssize_t row = 0; row < shape[0] && left > 0; row++, x += nodes * after) {
        Py_ssize_t kept = 0;
        for (Py_ssize_t k = 0; k < left; k++) {
            Py_ssize_t node = open[k];
            int8_t code = code_of(x + node * after, after, intervals, of_set);
            codes[node] = code > codes[node] ? code : codes[node];
            open[kept] = node;
            kept += code != OUTSIDE;
        }
        left = kept;
    }
}

static Interval *as_intervals(PyObject *pairs, Py_ssize_t n)
{
    Interval *intervals = malloc(n * sizeof *intervals);
    if (intervals == NULL)
        return (Interval *)PyErr_NoMemory();
    for (Py_ssize_t k = 0; k < n; k++) {
        PyObject *pair = PyTuple_GetItem(pairs, k);
        if (pair == NULL || !PyArg_ParseTuple(pair, "ff", &intervals[k].low, &intervals[k].high)) {
            free(intervals);
            return NULL;
        }
    }
    return intervals;
}

static PyObject *always_inside(PyObject *self, PyObject *args)
{
    unsigned long long address, of_codes;
    Py_ssize_t shape[3];
    PyObject *pairs;
    if (!PyArg_ParseTuple(args, "K(nnn)KO!", &address, &shape[0], &shape[1], &shape[2], &of_codes, &PyTuple_Type, &pairs))
        return NULL;
    Py_ssize_t n = PyTuple_Size(pairs);
    if (n == 0) {
        PyErr_SetString(PyExc_TypeError, "always_inside takes one pair of bounds at least: where values are known");
        return NULL;
    }
    Interval *intervals = as_intervals(pairs, n);
    if (intervals == NULL)
        return NULL;
    Py_ssize_t *open = malloc(shape[1] * sizeof *open);
    if (open == NULL) {
        free(intervals);
        return PyErr_NoMemory();
    }
    PyThreadState *state = shape[0] * shape[1] * shape[2] >= LONG ? PyEval_SaveThread() : NULL;
    raise_codes((const float *)(uintptr_t)address, shape, intervals, n - 1, (int8_t *)(uintptr_t)of_codes, open);
    if (state != NULL)
        PyEval_RestoreThread(state);
    free(open);
    free(intervals);
    Py_RETURN_NONE;
}

PyMethodDef statistics_functions[] = {
    {"moments", moments, METH_VARARGS,
     "moments(data, n): mean, sums of powers 2 to 4 of deviations from it, mean |x|, minimum and maximum."},
    {"change_squares", change_squares, METH_VARARGS,
     "change_squares(before, now, n): sums of squares of the change, and of what was before."},
    {"always_inside", always_inside, METH_VARARGS,
     "always_inside(data, (before, nodes, after), codes, ((low, high), ...)): raise each node's int8 code. The first "
     "pair is where values are known, the others are the set."},
    {NULL, NULL, 0, NULL}};
