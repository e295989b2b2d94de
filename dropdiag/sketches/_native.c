/* Loops over tensors on the CPU: histogram on the universal bin grid, sums of absolute values, values in intervals.
 *
 * Those over masks, samples and moments are in files of their own beside this one.
 *
 * Tensors come as addresses, so that nothing here depends on torch's headers or its ABI; the module is built against
 * Python's limited API, so that one build serves every Python from 3.10. Callers see to it that the memory is there,
 * contiguous and aligned. Every function has a counterpart in torch beside its caller, which is used where this
 * module could not be built.
 */

#include "_native.h"

#define BINS 32768
#define OCTAVE 64       /* bins that share a sign and an exponent */
#define MAX_INTERVALS 16

static void count_float32(const uint32_t *bits, size_t n, int64_t *counts)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) { /* two values a load, and fewer turns */
        uint64_t two[2];
        memcpy(two, bits + i, sizeof two);
        counts[(uint32_t)two[0] >> 17]++;
        counts[two[0] >> 49]++;
        counts[(uint32_t)two[1] >> 17]++;
        counts[two[1] >> 49]++;
    }
    for (; i < n; i++)
        counts[bits[i] >> 17]++;
}

static void count_bfloat16(const uint16_t *bits, size_t n, int64_t *counts)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint64_t four;
        memcpy(&four, bits + i, sizeof four);
        counts[(four >> 1) & 0x7fff]++;
        counts[(four >> 17) & 0x7fff]++;
        counts[(four >> 33) & 0x7fff]++;
        counts[four >> 49]++;
    }
    for (; i < n; i++)
        counts[bits[i] >> 1]++;
}

/* A bfloat16 is the upper half of a float32. */
static void widen(const uint16_t *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)from[i] << 16;
        memcpy(&to[i], &bits, sizeof bits);
    }
}

DISPATCHED
static double absolute_sum(const float *x, size_t n)
{
    double lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++)
            lanes[k] += (double)fabsf(x[i + k]);
    double sum = 0;
    for (; i < n; i++)
        sum += (double)fabsf(x[i]);
    for (int k = 0; k < LANES; k++)
        sum += lanes[k];
    return sum;
}

DISPATCHED
static uint32_t inside(const float *x, size_t n, float low, float high)
{
    uint32_t found = 0;
    for (size_t i = 0; i < n; i++)
        found += (uint32_t)((x[i] >= low) & (x[i] <= high));
    return found;
}

DISPATCHED
static int any(const int64_t *counts)
{
    int64_t all = 0;
    for (int k = 0; k < OCTAVE; k++)
        all |= counts[k];
    return all != 0;
}

/* Tensors ------------------------------------------------------------------------------------------------------ */

/* Given once by `setup`: the types whose memory is read, the dtypes, and names of methods. */
static PyObject *tensor_type, *parameter_type, *float32, *bfloat16;
static PyObject *name_dtype, *name_is_cpu, *name_is_neg, *name_is_contiguous, *name_data_ptr, *name_numel;

static PyObject *setup(PyObject *self, PyObject *args)
{
    if (!PyArg_ParseTuple(args, "OOOO", &tensor_type, &parameter_type, &float32, &bfloat16))
        return NULL;
    Py_INCREF(tensor_type);
    Py_INCREF(parameter_type);
    Py_INCREF(float32);
    Py_INCREF(bfloat16);
    name_dtype = PyUnicode_InternFromString("dtype");
    name_is_cpu = PyUnicode_InternFromString("is_cpu");
    name_is_neg = PyUnicode_InternFromString("is_neg");
    name_is_contiguous = PyUnicode_InternFromString("is_contiguous");
    name_data_ptr = PyUnicode_InternFromString("data_ptr");
    name_numel = PyUnicode_InternFromString("numel");
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* Whether an attribute, or what a method returns, is `wanted`; -1 for an error. The reference is given up. */
static int is(PyObject *got, PyObject *wanted)
{
    if (got == NULL)
        return -1;
    Py_DECREF(got);
    return got == wanted;
}

static PyObject *call(PyObject *tensor, PyObject *name)
{
    PyObject *method = PyObject_GetAttr(tensor, name);
    PyObject *result = method == NULL ? NULL : PyObject_CallNoArgs(method);
    Py_XDECREF(method);
    return result;
}

static int dtype_width(PyObject *tensor)
{
    PyObject *dtype = PyObject_GetAttr(tensor, name_dtype);
    if (dtype == NULL)
        return -1;
    int width = dtype == float32 ? 4 : dtype == bfloat16 ? 2 : 0;
    Py_DECREF(dtype);
    return width;
}

int locate(PyObject *tensor, Values *values)
{
    PyObject *type = (PyObject *)Py_TYPE(tensor), *number;
    int yes;
    if (type != tensor_type && type != parameter_type)
        return 0;
    if ((values->width = dtype_width(tensor)) <= 0)
        return values->width;
    if ((yes = is(PyObject_GetAttr(tensor, name_is_cpu), Py_True)) <= 0)
        return yes;
    if ((yes = is(call(tensor, name_is_contiguous), Py_True)) <= 0)
        return yes;
    if ((yes = is(call(tensor, name_is_neg), Py_False)) <= 0)
        return yes;
    if ((number = call(tensor, name_numel)) == NULL)
        return -1;
    values->n = PyLong_AsSize_t(number);
    Py_DECREF(number);
    if ((number = call(tensor, name_data_ptr)) == NULL)
        return -1;
    values->data = PyLong_AsVoidPtr(number);
    Py_DECREF(number);
    return PyErr_Occurred() ? -1 : 1;
}

/* Arguments ---------------------------------------------------------------------------------------------------- */

int as_address(PyObject *number, void **address)
{
    *address = PyLong_AsVoidPtr(number);
    return *address != NULL || !PyErr_Occurred();
}

static int as_values(PyObject *const *args, Values *values)
{
    void *data;
    if (!as_address(args[0], &data))
        return 0;
    values->data = data;
    values->n = PyLong_AsSize_t(args[1]);
    values->width = (int)PyLong_AsLong(args[2]);
    if (PyErr_Occurred())
        return 0;
    if (values->width != 4 && values->width != 2) {
        PyErr_Format(PyExc_ValueError, "values are 4 (float32) or 2 (bfloat16) bytes wide, got %d", values->width);
        return 0;
    }
    return 1;
}

int enough(const char *name, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted)
        return 1;
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, got %zd", name, wanted, given);
    return 0;
}

const float *some(const Values *values, size_t start, size_t n, float *room)
{
    if (values->width == 4)
        return (const float *)values->data + start;
    widen((const uint16_t *)values->data + start, n, room);
    return room;
}

/* Give the block that begins at `start` as float32; return its length. */
static size_t block(const Values *values, size_t start, float *room, const float **x)
{
    size_t n = values->n - start < BLOCK ? values->n - start : BLOCK;
    *x = some(values, start, n, room);
    return n;
}

/* Functions ---------------------------------------------------------------------------------------------------- */

static void count_all(const Values *values, int64_t *counts, int beside)
{
    PyThreadState *state = values->n >= LONG || beside ? PyEval_SaveThread() : NULL;
    if (values->width == 4)
        count_float32((const uint32_t *)values->data, values->n, counts);
    else
        count_bfloat16((const uint16_t *)values->data, values->n, counts);
    if (state != NULL)
        PyEval_RestoreThread(state);
}

static double sum_all(const Values *values)
{
    const float *x;
    float room[BLOCK];
    double sum = 0;
    PyThreadState *state = values->n >= LONG ? PyEval_SaveThread() : NULL;
    for (size_t start = 0, n; start < values->n; start += n) {
        n = block(values, start, room, &x);
        sum += absolute_sum(x, n);
    }
    if (state != NULL)
        PyEval_RestoreThread(state);
    return sum;
}

static PyObject *count(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Values values;
    void *counts;
    if (!enough("count", given, 5) || !as_values(args, &values) || !as_address(args[3], &counts))
        return NULL;
    count_all(&values, counts, args[4] == Py_True);
    Py_RETURN_NONE;
}

static PyObject *count_tensor(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Values values;
    void *counts;
    if (!enough("count_tensor", given, 3) || !as_address(args[1], &counts))
        return NULL;
    size_t most = PyLong_AsSize_t(args[2]);
    int found = PyErr_Occurred() ? -1 : locate(args[0], &values);
    if (found < 0)
        return NULL;
    if (found == 0 || values.n > most)
        Py_RETURN_FALSE;
    count_all(&values, counts, 0);
    Py_RETURN_TRUE;
}

static PyObject *abs_sum(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Values values;
    if (!enough("abs_sum", given, 3) || !as_values(args, &values))
        return NULL;
    return PyFloat_FromDouble(sum_all(&values));
}

static PyObject *abs_sum_tensor(PyObject *self, PyObject *tensor)
{
    Values values;
    int found = locate(tensor, &values);
    if (found < 0)
        return NULL;
    if (found == 0)
        Py_RETURN_NONE;
    return PyFloat_FromDouble(sum_all(&values));
}

static PyObject *count_inside(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    Values values;
    const float *x;
    float room[BLOCK], bounds[2 * MAX_INTERVALS];
    uint64_t found[MAX_INTERVALS] = {0};
    PyThreadState *state = NULL;
    Py_ssize_t numbers = given - 3;
    if (numbers < 0 || numbers % 2 || numbers > 2 * MAX_INTERVALS) {
        PyErr_Format(PyExc_TypeError, "count_inside takes 3 arguments and up to %d pairs of bounds", MAX_INTERVALS);
        return NULL;
    }
    if (!as_values(args, &values))
        return NULL;
    for (Py_ssize_t k = 0; k < numbers; k++)
        bounds[k] = (float)PyFloat_AsDouble(args[3 + k]);
    if (PyErr_Occurred())
        return NULL;
    if (values.n >= LONG)
        state = PyEval_SaveThread();
    for (size_t start = 0, n; start < values.n; start += n) {
        n = block(&values, start, room, &x);
        for (Py_ssize_t k = 0; k < numbers / 2; k++)
            found[k] += inside(x, n, bounds[2 * k], bounds[2 * k + 1]);
    }
    if (state != NULL)
        PyEval_RestoreThread(state);
    PyObject *counts = PyTuple_New(numbers / 2);
    for (Py_ssize_t k = 0; counts != NULL && k < numbers / 2; k++) {
        PyObject *number = PyLong_FromUnsignedLongLong(found[k]);
        if (number == NULL || PyTuple_SetItem(counts, k, number) < 0) {
            Py_DECREF(counts);
            return NULL;
        }
    }
    return counts;
}

static PyObject *drain(PyObject *self, PyObject *const *args, Py_ssize_t given)
{
    void *address;
    uint16_t occupied[BINS];
    size_t found = 0;
    if (!enough("drain", given, 1) || !as_address(args[0], &address))
        return NULL;
    int64_t *counts = address;
    for (int start = 0; start < BINS; start += OCTAVE)
        if (any(counts + start))
            for (int bin = start; bin < start + OCTAVE; bin++)
                if (counts[bin])
                    occupied[found++] = (uint16_t)bin;
    PyObject *bins = PyBytes_FromStringAndSize((const char *)occupied, (Py_ssize_t)(found * sizeof *occupied));
    PyObject *taken = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(found * sizeof *counts));
    if (bins == NULL || taken == NULL) {
        Py_XDECREF(bins);
        Py_XDECREF(taken);
        return NULL;
    }
    char *to = PyBytes_AsString(taken);
    for (size_t k = 0; k < found; k++) {
        memcpy(to + k * sizeof *counts, &counts[occupied[k]], sizeof *counts);
        counts[occupied[k]] = 0;
    }
    return Py_BuildValue("(NN)", bins, taken);
}

static PyMethodDef functions[] = {
    {"setup", setup, METH_VARARGS, "setup(Tensor, Parameter, float32, bfloat16): what is read by `*_tensor`."},
    {"count_tensor", (PyCFunction)(void (*)(void))count_tensor, METH_FASTCALL,
     "count_tensor(tensor, counts, most): as count; False where it cannot be read, or has more values than `most`."},
    {"abs_sum_tensor", abs_sum_tensor, METH_O, "abs_sum_tensor(tensor): as abs_sum; None where it cannot be read."},
    {"count", (PyCFunction)(void (*)(void))count, METH_FASTCALL,
     "count(data, n, width, counts, beside): add values to 32,768 int64 counts; beside: let other threads run."},
    {"abs_sum", (PyCFunction)(void (*)(void))abs_sum, METH_FASTCALL,
     "abs_sum(data, n, width): sum of absolute values, in float64."},
    {"count_inside", (PyCFunction)(void (*)(void))count_inside, METH_FASTCALL,
     "count_inside(data, n, width, low, high, ...): number of values in each closed interval."},
    {"drain", (PyCFunction)(void (*)(void))drain, METH_FASTCALL,
     "drain(counts): occupied bins (uint16) and their counts (int64), as bytes; sets them to zero."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *created = PyModule_Create(&module);
    PyMethodDef *others[] = {mask_functions, sampling_functions, statistics_functions};
    for (size_t k = 0; created != NULL && k < sizeof others / sizeof *others; k++)
        if (PyModule_AddFunctions(created, others[k]) < 0)
            Py_CLEAR(created);
    return created;
}
