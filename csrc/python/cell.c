#include "glue.h"

#include "edgeinfer/cell.h"

#include <string.h>

/* What a cell points into. All zero is legal to free. */
typedef struct {
    ei_cell cell;
    ei_stage_list services;
    ei_cell_class *classes;
    ei_cell_stage *stages; /* of all classes */
    ei_cell_node *nodes;
    ei_cell_band *bands;
    PyObject *owners; /* of arrays that are pointed into */
} cell_arguments;

static void arguments_free(cell_arguments *self) {
    ei_stage_list_free(&self->services);
    PyMem_Free(self->classes);
    PyMem_Free(self->stages);
    PyMem_Free(self->nodes);
    PyMem_Free(self->bands);
    Py_XDECREF(self->owners);
}

/* A tuple of (kind, server, service, count, needed, probability), kept in `owners`. */
static int read_parts(PyObject *tuple, ei_cell_stage *stage, PyObject *owners) {
    static const char *const kinds[] = {"server", "delay", "review", "servers", "fork", "branch"};
    const Py_ssize_t size = PyTuple_Size(tuple);
    npy_intp bytes = (npy_intp)((size_t)size * sizeof(ei_cell_part));
    PyObject *array = PyArray_ZEROS(1, &bytes, NPY_UINT8, 0);
    if (array == NULL)
        return -1;
    ei_cell_part *parts = PyArray_DATA((PyArrayObject *)array);
    int failed = PyList_Append(owners, array);
    Py_DECREF(array);
    for (Py_ssize_t i = 0; !failed && i < size; i++) {
        const char *kind;
        Py_ssize_t server, service, count, needed;
        PyObject *item = PyTuple_GetItem(tuple, i);
        if (!PyTuple_Check(item) || !PyArg_ParseTuple(item, "snnnnd", &kind, &server, &service, &count,
                                                      &needed, &parts[i].probability))
            return -1;
        int choice = ei_read_choice("part", kind, kinds, 6);
        if (choice < 0)
            return -1;
        parts[i].kind = (ei_node_kind)choice;
        parts[i].server = (size_t)server;
        parts[i].service = (size_t)service;
        parts[i].count = (size_t)count;
        parts[i].needed = (size_t)needed;
    }
    stage->parts = parts;
    stage->part_count = (size_t)size;
    return failed;
}

/* (place, server, service), and latency, skip and parts where they are needed. */
static int read_stage(PyObject *item, ei_cell_stage *stage, PyObject *owners) {
    static const char *const places[] = {"own", "delay", "node", "band", "parts"};
    const char *place;
    Py_ssize_t server, service;
    PyObject *parts = NULL;
    if (!PyArg_ParseTuple(item, "snn|ddO!", &place, &server, &service, &stage->latency, &stage->skip,
                          &PyTuple_Type, &parts))
        return -1;
    int choice = ei_read_choice("place", place, places, 5);
    if (choice < 0)
        return -1;
    stage->place = (ei_place)choice;
    stage->server = (size_t)server; /* what is negative is too large then, and refused */
    stage->service = (size_t)service;
    return parts != NULL ? read_parts(parts, stage, owners) : 0;
}

/* An array of doubles that `owners` keeps. */
static const double *keep_numbers(PyObject *object, size_t *size, PyObject *owners) {
    PyObject *array = PyArray_FROMANY(object, NPY_FLOAT64, 1, 1, NPY_ARRAY_IN_ARRAY);
    if (array == NULL)
        return NULL;
    int failed = PyList_Append(owners, array);
    Py_DECREF(array);
    *size = (size_t)PyArray_SIZE((PyArrayObject *)array);
    return failed < 0 ? NULL : PyArray_DATA((PyArrayObject *)array);
}

/* None, or (first, last, rounds, right or None). */
static int read_loop(PyObject *item, ei_cell_class *class, PyObject *owners) {
    Py_ssize_t first, last;
    PyObject *rounds, *right;
    size_t size;
    if (item == Py_None)
        return 0;
    if (!PyTuple_Check(item) || !PyArg_ParseTuple(item, "nnOO", &first, &last, &rounds, &right))
        return -1;
    class->loop_first = (size_t)first;
    class->loop_last = (size_t)last;
    if ((class->rounds = keep_numbers(rounds, &class->round_count, owners)) == NULL)
        return -1;
    if (right == Py_None)
        return 0;
    if ((class->right = keep_numbers(right, &size, owners)) == NULL)
        return -1;
    if (size != class->round_count) {
        PyErr_SetString(PyExc_ValueError, "right must have a number for each of rounds");
        return -1;
    }
    return 0;
}

/* (count, arrival, stages, fallback stages, servers, priority, weight, deadline, nearest or None, loop or
 * None); the stages go to `stages`. */
static int read_class(PyObject *item, ei_cell_class *class, ei_cell_stage *stages, PyObject *owners) {
    PyObject *arrival, *main, *fallback, *nearest, *loop;
    Py_ssize_t count, servers;
    if (!PyArg_ParseTuple(item, "nOO!O!ndddOO", &count, &arrival, &PyTuple_Type, &main, &PyTuple_Type,
                          &fallback, &servers, &class->priority, &class->weight, &class->deadline, &nearest,
                          &loop))
        return -1;
    if (count < 0 || servers < 0) {
        PyErr_SetString(PyExc_ValueError, "count and servers must be >= 0");
        return -1;
    }
    if (ei_read_arrival(arrival, &class->arrival) < 0)
        return -1;
    class->count = (size_t)count;
    class->server_count = (size_t)servers;
    class->stages = stages;
    class->stage_count = (size_t)PyTuple_Size(main);
    class->fallback_count = (size_t)PyTuple_Size(fallback);
    for (Py_ssize_t k = 0; k < PyTuple_Size(main); k++)
        if (read_stage(PyTuple_GetItem(main, k), stages++, owners) < 0)
            return -1;
    for (Py_ssize_t k = 0; k < PyTuple_Size(fallback); k++)
        if (read_stage(PyTuple_GetItem(fallback, k), stages++, owners) < 0)
            return -1;
    if (read_loop(loop, class, owners) < 0)
        return -1;
    if (nearest == Py_None)
        return 0;
    PyObject *array = PyArray_FROMANY(nearest, NPY_UINT32, 1, 1, NPY_ARRAY_IN_ARRAY);
    if (array == NULL)
        return -1;
    int failed = PyList_Append(owners, array);
    Py_DECREF(array);
    if (failed < 0)
        return -1;
    if (PyArray_SIZE((PyArrayObject *)array) != count) {
        PyErr_SetString(PyExc_ValueError, "nearest must have one node for each terminal");
        return -1;
    }
    class->nearest = PyArray_DATA((PyArrayObject *)array);
    return 0;
}

static int read_classes(cell_arguments *self, PyObject *tuple) {
    const Py_ssize_t count = PyTuple_Size(tuple);
    size_t stages = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GetItem(tuple, i);
        for (Py_ssize_t k = 2; k <= 3 && PyTuple_Check(item) && PyTuple_Size(item) > k; k++)
            if (PyTuple_Check(PyTuple_GetItem(item, k)))
                stages += (size_t)PyTuple_Size(PyTuple_GetItem(item, k));
    }
    self->owners = PyList_New(0);
    self->classes = PyMem_Calloc((size_t)count + 1, sizeof *self->classes);
    self->stages = PyMem_Calloc(stages + 1, sizeof *self->stages);
    if (self->owners == NULL || self->classes == NULL || self->stages == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    ei_cell_stage *next = self->stages;
    for (Py_ssize_t i = 0; i < count; i++) {
        ei_cell_class *class = &self->classes[i];
        if (read_class(PyTuple_GetItem(tuple, i), class, next, self->owners) < 0)
            return -1;
        next += class->stage_count + class->fallback_count;
    }
    self->cell.classes = self->classes;
    self->cell.class_count = (size_t)count;
    return 0;
}

static int read_nodes(cell_arguments *self, PyObject *tuple) {
    static const char *const schedulers[] = {"fifo", "priority", "edf", "processor_sharing"};
    const Py_ssize_t count = PyTuple_Size(tuple);
    self->nodes = PyMem_Calloc((size_t)count + 1, sizeof *self->nodes);
    if (self->nodes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        ei_cell_node *node = &self->nodes[i];
        const char *scheduler;
        Py_ssize_t servers, limit, capacity;
        if (!PyArg_ParseTuple(PyTuple_GetItem(tuple, i), "nsnddn", &servers, &scheduler, &limit,
                              &node->batch_wait, &node->batch_fixed, &capacity))
            return -1;
        int choice = ei_read_choice("scheduler", scheduler, schedulers, 4);
        if (choice < 0)
            return -1;
        if (servers < 1 || limit < 1 || capacity < 0) {
            PyErr_SetString(PyExc_ValueError, "servers and limit must be >= 1, capacity >= 0");
            return -1;
        }
        node->servers = (size_t)servers;
        node->scheduler = (ei_node_scheduler)choice;
        node->batch_limit = (size_t)limit;
        node->capacity = (size_t)capacity;
    }
    self->cell.nodes = self->nodes;
    self->cell.node_count = (size_t)count;
    return 0;
}

static int read_bands(cell_arguments *self, PyObject *tuple) {
    static const char *const schedulers[] = {"equal_share", "round_robin", "edf", "proportional_fair",
                                             "max_rate"};
    const Py_ssize_t count = PyTuple_Size(tuple);
    self->bands = PyMem_Calloc((size_t)count + 1, sizeof *self->bands);
    if (self->bands == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        ei_cell_band *band = &self->bands[i];
        const char *scheduler;
        if (!PyArg_ParseTuple(PyTuple_GetItem(tuple, i), "sdd", &scheduler, &band->slot, &band->averaging))
            return -1;
        int choice = ei_read_choice("scheduler", scheduler, schedulers, 5);
        if (choice < 0)
            return -1;
        band->scheduler = (ei_band_scheduler)choice;
    }
    self->cell.bands = self->bands;
    self->cell.band_count = (size_t)count;
    return 0;
}

static PyObject *run(const ei_cell *cell) {
    const npy_intp rows = (npy_intp)ei_cell_rows(cell), replications = (npy_intp)cell->replications,
                   batches = (npy_intp)cell->batches, classes = (npy_intp)cell->class_count;
    npy_intp row_shape[] = {replications, batches, rows, EI_SUMS + (npy_intp)cell->deadline_count};
    npy_intp class_shape[] = {replications, batches, classes, EI_CLASS_SUMS + (npy_intp)cell->deadline_count};
    npy_intp node_shape[] = {replications, batches, (npy_intp)cell->node_count, EI_NODE_SUMS};
    npy_intp band_shape[] = {replications, batches, (npy_intp)cell->band_count, EI_BAND_SUMS};
    npy_intp fair_shape[] = {replications, classes, EI_FAIR_SUMS};
    npy_intp bins[] = {rows, EI_CELL_BINS};
    PyObject *arrays[] = {
        PyArray_ZEROS(4, row_shape, NPY_FLOAT64, 0),  PyArray_ZEROS(4, class_shape, NPY_FLOAT64, 0),
        PyArray_ZEROS(4, node_shape, NPY_FLOAT64, 0), PyArray_ZEROS(4, band_shape, NPY_FLOAT64, 0),
        PyArray_ZEROS(3, fair_shape, NPY_FLOAT64, 0), PyArray_ZEROS(2, bins, NPY_UINT64, 0)};
    PyObject *answer = NULL;
    int status = EI_ERR_NO_MEMORY, complete = 1;
    void *data[6];
    for (int i = 0; i < 6; i++) {
        complete = complete && arrays[i] != NULL;
        data[i] = arrays[i] != NULL ? PyArray_DATA((PyArrayObject *)arrays[i]) : NULL;
    }
    if (complete) {
        const ei_cell_result result = {data[0], data[1], data[2], data[3], data[4], data[5]};
        Py_BEGIN_ALLOW_THREADS;
        status = ei_cell_run(cell, &result, ei_python_monitor());
        Py_END_ALLOW_THREADS;
    }
    if (status == EI_OK)
        answer = Py_BuildValue("{sOsOsOsOsOsO}", "rows", arrays[0], "classes", arrays[1], "nodes", arrays[2],
                               "bands", arrays[3], "fairness", arrays[4], "histogram", arrays[5]);
    else if (status == EI_ERR_UNSTABLE)
        ei_raise("simulate_cell: a queue grows without end", status);
    else
        ei_raise("simulate_cell", status);
    for (int i = 0; i < 6; i++)
        Py_XDECREF(arrays[i]);
    return answer;
}

static PyObject *simulate_cell(PyObject *module, PyObject *arguments) {
    static const char *const assignments[] = {"nearest", "random", "least_loaded"};
    (void)module;
    PyObject *services, *classes, *nodes, *bands, *deadline_object, *entropy, *answer = NULL;
    PyArrayObject *deadlines = NULL;
    const char *assignment;
    Py_ssize_t batches, replications, threads;
    cell_arguments self;
    memset(&self, 0, sizeof self);
    ei_cell *cell = &self.cell;
    if (!PyArg_ParseTuple(arguments, "OO!O!O!sOddnnOn:simulate_cell", &services, &PyTuple_Type, &classes,
                          &PyTuple_Type, &nodes, &PyTuple_Type, &bands, &assignment, &deadline_object,
                          &cell->warmup, &cell->duration, &batches, &replications, &entropy, &threads))
        return NULL;
    if (batches < 1 || replications < 1 || threads < 1) {
        PyErr_SetString(PyExc_ValueError, "batches, replications and threads must be >= 1");
        return NULL;
    }
    int choice = ei_read_choice("assignment", assignment, assignments, 3);
    if (choice < 0 || ei_read_entropy(entropy, cell->entropy) < 0 ||
        ei_stage_list_init(&self.services, services) < 0)
        return NULL;
    deadlines = (PyArrayObject *)PyArray_FROMANY(deadline_object, NPY_FLOAT64, 1, 1, NPY_ARRAY_IN_ARRAY);
    if (deadlines == NULL || read_classes(&self, classes) < 0 || read_nodes(&self, nodes) < 0 ||
        read_bands(&self, bands) < 0)
        goto out;
    cell->assignment = (ei_assignment)choice;
    cell->services = self.services.stages;
    cell->service_count = self.services.count;
    cell->deadlines = PyArray_DATA(deadlines);
    cell->deadline_count = (size_t)PyArray_SIZE(deadlines);
    cell->batches = (size_t)batches;
    cell->replications = (size_t)replications;
    cell->threads = (size_t)threads;
    answer = run(cell);
out:
    Py_XDECREF(deadlines);
    arguments_free(&self);
    return answer;
}

static PyMethodDef methods[] = {
    {"simulate_cell", simulate_cell, METH_VARARGS, "Event-driven simulation of a cell."},
    {NULL, NULL, 0, NULL}};

int ei_add_cell(PyObject *module) {
    if (PyModule_AddIntMacro(module, EI_CELL_BINS) < 0 || PyModule_AddIntMacro(module, EI_CELL_FIRST_BIN) < 0)
        return -1;
    return PyModule_AddFunctions(module, methods);
}
