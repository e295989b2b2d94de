/* What the files of the compiled loops share. */

#ifndef DROPDIAG_NATIVE_H
#define DROPDIAG_NATIVE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

#define BLOCK 4096   /* values that are converted or compared at a time: they stay in the first cache */
#define LONG 1000000 /* from so many values on, other Python threads may run meanwhile */
#define LANES 16

/* Chosen when the module is loaded, by what the processor can do. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define DISPATCHED __attribute__((target_clones("avx2", "default")))
#else
#define DISPATCHED
#endif

typedef struct {
    const char *data;
    size_t n;
    int width; /* 4: float32, 2: bfloat16 */
} Values;

/* Find a tensor's values: 1 where they can be read as they lie, 0 where not, -1 for an error. */
int locate(PyObject *tensor, Values *values);
int as_address(PyObject *number, void **address);
int enough(const char *name, Py_ssize_t given, Py_ssize_t wanted);

/* Give n values from `start` on as float32, from where they lie or through `room`, which takes BLOCK of them. */
const float *some(const Values *values, size_t start, size_t n, float *room);

extern PyMethodDef mask_functions[], sampling_functions[], statistics_functions[];

#endif
