/* Loops over what enters and leaves a dropout: units that its mask replaced, and its noise on each node. */

#include "_native.h"

#define ROWS 4 /* of a table: a value of each node, sums of distances from it and of their squares, and the noise */

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static PyThreadState *let_go(size_t n) { return n >= LONG ? PyEval_SaveThread() : NULL; }

static void take_back(PyThreadState *state)
{
    if (state != NULL)
        PyEval_RestoreThread(state);
}

/* Units that a mask replaced -------------------------------------------------------------------------------------- */

DISPATCHED
static void note_differing(const float *x, size_t n, float from, uint8_t *differs)
{
    for (size_t i = 0; i < n; i++)
        differs[i] = x[i] != from; /* NaN does */
}

static PyObject *differ(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Values values;
    void *to;
    float room[BLOCK];
    if (!enough("differ", given, 3) || !as_address(args[2], &to))
        return NULL;
    float from = (float)PyFloat_AsDouble(args[1]);
    int found = PyErr_Occurred() ? -1 : locate(args[0], &values);
    if (found < 0)
        return NULL;
    if (found == 0)
        Py_RETURN_FALSE;
    PyThreadState *state = let_go(values.n);
    for (size_t start = 0, n; start < values.n; start += n) {
        n = least(values.n - start, BLOCK);
        note_differing(some(&values, start, n, room), n, from, (uint8_t *)to + start);
    }
    take_back(state);
    Py_RETURN_TRUE;
}

DISPATCHED
static void tally(const uint8_t *live, const float *y, size_t n, float replaced, uint64_t *counted, uint64_t *kept)
{
    uint32_t lively = 0, remaining = 0;
    for (size_t i = 0; i < n; i++) {
        lively += live[i];
        remaining += live[i] & (uint8_t)(y[i] != replaced);
    }
    *counted += lively;
    *kept += remaining;
}

/* The same of units of several values each: one is live, or kept, if any of its values is. */
static void tally_units(
    const Values *y, const uint8_t *live, size_t unit, float replaced, float *room, uint64_t *counted, uint64_t *kept)
{
    for (size_t first = 0; first < y->n; first += unit) {
        int lively = 0, remains = 0;
        for (size_t start = first, n; start < first + unit && !(lively && remains); start += n) {
            n = least(first + unit - start, BLOCK);
            const float *x = some(y, start, n, room);
            for (size_t i = 0; i < n; i++) {
                lively |= live[start + i];
                remains |= x[i] != replaced;
            }
        }
        *counted += (uint64_t)lively;
        *kept += (uint64_t)(lively && remains);
    }
}

static PyObject *masked(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Values y;
    void *live;
    float room[BLOCK];
    uint64_t counted = 0, kept = 0;
    if (!enough("masked", given, 4) || !as_address(args[1], &live))
        return NULL;
    size_t unit = PyLong_AsSize_t(args[2]);
    float replaced = (float)PyFloat_AsDouble(args[3]);
    int found = PyErr_Occurred() ? -1 : locate(args[0], &y);
    if (found < 0)
        return NULL;
    if (found == 0 || unit == 0 || y.n % unit)
        Py_RETURN_NONE;
    PyThreadState *state = let_go(y.n);
    if (unit > 1)
        tally_units(&y, live, unit, replaced, room, &counted, &kept);
    else
        for (size_t start = 0, n; start < y.n; start += n) {
            n = least(y.n - start, BLOCK);
            tally((uint8_t *)live + start, some(&y, start, n, room), n, replaced, &counted, &kept);
        }
    take_back(state);
    return Py_BuildValue("(KK)", (unsigned long long)(counted - kept), (unsigned long long)counted);
}

/* Noise on each node ---------------------------------------------------------------------------------------------- */

DISPATCHED
static void add_row(const float *x, size_t n, const double *shift, double *first, double *second)
{
    for (size_t j = 0; j < n; j++) {
        double d = (double)x[j] - shift[j];
        first[j] += d;
        second[j] += d * d;
    }
}

DISPATCHED
static void add_stretch(const float *x, size_t n, double shift, double *first, double *second)
{
    double ones[LANES] = {0}, squares[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            double d = (double)x[i + k] - shift;
            ones[k] += d;
            squares[k] += d * d;
        }
    for (; i < n; i++) {
        double d = (double)x[i] - shift;
        ones[0] += d;
        squares[0] += d * d;
    }
    for (int k = 0; k < LANES; k++) {
        *first += ones[k];
        *second += squares[k];
    }
}

/* Values lie as outer x nodes x inner. */
static void add_nodes(const Values *values, size_t outer, size_t nodes, size_t inner, double *table)
{
    float room[BLOCK];
    double *shift = table, *first = table + nodes, *second = first + nodes;
    for (size_t j = 0; j < nodes; j++)
        shift[j] = (double)*some(values, j * inner, 1, room);
    for (size_t o = 0; o < outer; o++)
        if (inner == 1) {
            for (size_t j = 0, n; j < nodes; j += n) {
                n = least(nodes - j, BLOCK);
                add_row(some(values, o * nodes + j, n, room), n, shift + j, first + j, second + j);
            }
        } else {
            for (size_t j = 0; j < nodes; j++)
                for (size_t i = 0, n; i < inner; i += n) {
                    n = least(inner - i, BLOCK);
                    const float *x = some(values, (o * nodes + j) * inner + i, n, room);
                    add_stretch(x, n, shift[j], first + j, second + j);
                }
        }
}

static PyObject *node_noise(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Values values;
    void *address;
    if (!enough("node_noise", given, 7) || !as_address(args[6], &address))
        return NULL;
    size_t outer = PyLong_AsSize_t(args[1]), nodes = PyLong_AsSize_t(args[2]), inner = PyLong_AsSize_t(args[3]);
    double factor = PyFloat_AsDouble(args[4]), about = PyFloat_AsDouble(args[5]);
    int found = PyErr_Occurred() ? -1 : locate(args[0], &values);
    if (found < 0)
        return NULL;
    if (found == 0 || values.n == 0 || values.n != outer * nodes * inner)
        Py_RETURN_FALSE;
    PyThreadState *state = let_go(values.n);
    double *table = address, *first = table + nodes, *second = first + nodes, *noise = second + nodes;
    memset(first, 0, (ROWS - 1) * nodes * sizeof *table);
    add_nodes(&values, outer, nodes, inner, table);
    double n = (double)(outer * inner);
    for (size_t j = 0; j < nodes; j++) {
        double off = table[j] - about;
        noise[j] = factor * (second[j] + 2 * off * first[j] + n * off * off);
    }
    take_back(state);
    Py_RETURN_TRUE;
}

static PyObject *noise_ratio(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    void *address;
    if (!enough("noise_ratio", given, 3) || !as_address(args[0], &address))
        return NULL;
    size_t nodes = PyLong_AsSize_t(args[1]);
    double n = PyFloat_AsDouble(args[2]);
    if (PyErr_Occurred())
        return NULL;
    const double *first = (double *)address + nodes, *second = first + nodes, *noise = second + nodes;
    double sum = 0, all = 0;
    size_t varying = 0;
    for (size_t j = 0; j < nodes; j++) {
        double variance = second[j] - first[j] * first[j] / n;
        all += first[j];
        if (variance != 0) { /* NaN does: a diverged node is not left out */
            sum += noise[j] / variance;
            varying++;
        }
    }
    PyObject *ratio = varying ? PyFloat_FromDouble(sum / (double)varying) : (Py_INCREF(Py_None), Py_None);
    return Py_BuildValue("(NO)", ratio, isfinite(all) ? Py_True : Py_False);
}

PyMethodDef mask_functions[] = {
    {"differ", (PyCFunction)(void (*)(void))differ, METH_FASTCALL,
     "differ(tensor, value, differs): set a byte for each value, 1 where it is another; False where it cannot be read."},
    {"masked", (PyCFunction)(void (*)(void))masked, METH_FASTCALL,
     "masked(tensor, live, unit, replaced): units of so many values that a mask replaced, and live ones; or None."},
    {"node_noise", (PyCFunction)(void (*)(void))node_noise, METH_FASTCALL,
     "node_noise(tensor, outer, nodes, inner, factor, about, table): see `NodeNoise`; False where it cannot be read."},
    {"noise_ratio", (PyCFunction)(void (*)(void))noise_ratio, METH_FASTCALL,
     "noise_ratio(table, nodes, n): mean of noise over variance (or None), and whether all values are finite."},
    {NULL, NULL, 0, NULL}};
