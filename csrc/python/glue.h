/* Shared by the files of csrc/python, the only ones that include Python.h. They convert, release the GIL
 * around one call of the core and map its status; no formula lives here. */
#ifndef EDGEINFER_GLUE_H
#define EDGEINFER_GLUE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define PY_ARRAY_UNIQUE_SYMBOL edgeinfer_ARRAY_API
#define PY_UFUNC_UNIQUE_SYMBOL edgeinfer_UFUNC_API
#ifndef EI_GLUE_MAIN
#define NO_IMPORT_ARRAY
#define NO_IMPORT_UFUNC
#endif
#include <numpy/arrayobject.h>
#include <numpy/ufuncobject.h>

#include "edgeinfer/arrival.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

/* Each topic adds its functions and types to the module: 0, or -1 with an exception set. */
int ei_add_fading(PyObject *module);
int ei_add_transfer(PyObject *module);
int ei_add_service(PyObject *module);
int ei_add_compound(PyObject *module);
int ei_add_bound(PyObject *module);
int ei_add_bracket(PyObject *module);
int ei_add_simulation(PyObject *module);
int ei_add_cell(PyObject *module);

/* Makes a type of its spec, keeps it in `type` and adds it to the module: 0, or -1 with an exception set.
 * ei_delete is what the type's dealloc ends with. */
int ei_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type);
void ei_delete(PyObject *object);

/* Sets the Python exception for a negative status and returns NULL: MemoryError, KeyboardInterrupt (the one
 * that is set stays), ValueError, or _core.CoreError. `where` names the function in the message. */
PyObject *ei_raise(const char *where, int status);

/* A monitor whose poll takes the GIL and runs PyErr_CheckSignals. */
ei_monitor ei_python_monitor(void);
/* For loops over elements of some 100 ns each: a look at the monitor now and then. EI_OK or
 * EI_ERR_INTERRUPTED. */
static inline int ei_python_step(npy_intp element) {
    return element % 4096 == 4095 && ei_stopped(ei_python_monitor()) ? EI_ERR_INTERRUPTED : EI_OK;
}

/* The stages of a pipeline as the core sees them. From a _core.Stages object, whose stages are borrowed, or
 * from a sequence whose items are tuples ("deterministic", seconds), ("exponential", mean), ("transfer",
 * Transfer), ("samples", float64 array), ("channel", (bits, rates, start, jumps, slot, offset, mean rate,
 * spread)), ("compound", Compound), ("repetition", (blocks, outage, slot)), each with a delay in seconds as a
 * third item where it is not 0. `owners` keeps alive what `stages` points into or is borrowed from. init: 0,
 * or -1 with an exception set; free is legal after a failed init. */
typedef struct {
    ei_service *stages;
    double *delays; /* as ei_tandem has them; of a deadline the caller takes them off */
    size_t count;
    PyObject *owners;
    int borrowed;
} ei_stage_list;
int ei_stage_list_init(ei_stage_list *self, PyObject *stages);
void ei_stage_list_free(ei_stage_list *self);

/* Four words of uint64; the place of a name among `choices`; ("poisson", (rate,)) and so on,
 * ("markov_modulated", (rates, generator, stationary law)), ("recorded", (intervals,)), ("batch", (arrival,
 * P(size > 0), ..)) with float64 arrays, which are borrowed: each 0 or more, or -1 with an exception set. */
int ei_read_entropy(PyObject *object, uint64_t entropy[4]);
int ei_read_choice(const char *name, const char *value, const char *const choices[], int count);
int ei_read_arrival(PyObject *object, ei_arrival *arrival);

/* Two arrays of float64 of one length: 0, or -1 with an exception set; new references or NULL, the caller's.
 */
int ei_read_elements(PyObject *rate_object, PyObject *deadline_object, PyArrayObject **rates,
                     PyArrayObject **deadlines);

/* The law inside a _core.Transfer object (borrowed), or NULL with TypeError set. */
const ei_transfer *ei_transfer_of(PyObject *object);
/* The same of a _core.Compound. */
const ei_compound *ei_compound_of(PyObject *object);

#endif
