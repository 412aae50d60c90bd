#include "glue.h"

#include "edgeinfer/rare.h"
#include "edgeinfer/sampler.h"
#include "edgeinfer/tandem.h"

#include <string.h>

int ei_read_entropy(PyObject *object, uint64_t entropy[4]) {
    PyArrayObject *words = (PyArrayObject *)PyArray_FROMANY(object, NPY_UINT64, 1, 1, NPY_ARRAY_IN_ARRAY);
    if (words == NULL)
        return -1;
    int wrong = PyArray_SIZE(words) != 4;
    if (wrong)
        PyErr_SetString(PyExc_ValueError, "entropy must have 4 words");
    else
        memcpy(entropy, PyArray_DATA(words), 4 * sizeof *entropy);
    Py_DECREF(words);
    return wrong ? -1 : 0;
}

int ei_read_choice(const char *name, const char *value, const char *const choices[], int count) {
    for (int i = 0; i < count; i++)
        if (strcmp(value, choices[i]) == 0)
            return i;
    PyErr_Format(PyExc_ValueError, "%s = '%s' is not known", name, value);
    return -1;
}

/* The numbers of a float64 array, which are borrowed, and how many; NULL with an exception set. */
static const double *read_numbers(PyObject *object, size_t *count) {
    PyArrayObject *array = (PyArrayObject *)object;
    if (!PyArray_Check(object) || PyArray_TYPE(array) != NPY_FLOAT64 || !PyArray_ISCARRAY_RO(array)) {
        PyErr_SetString(PyExc_TypeError, "arrival: arrays must be float64 and contiguous");
        return NULL;
    }
    *count = (size_t)PyArray_SIZE(array);
    return PyArray_DATA(array);
}

static int read_modulated(PyObject *parameters, ei_arrival *arrival) {
    PyObject *rates, *generator, *stationary;
    size_t square, law;
    if (!PyArg_ParseTuple(parameters, "OOO", &rates, &generator, &stationary) ||
        (arrival->rates = read_numbers(rates, &arrival->count)) == NULL ||
        (arrival->generator = read_numbers(generator, &square)) == NULL ||
        (arrival->stationary = read_numbers(stationary, &law)) == NULL)
        return -1;
    if (square == arrival->count * arrival->count && law == arrival->count)
        return 0;
    PyErr_SetString(PyExc_ValueError, "arrival: rates, generator and stationary law must go together");
    return -1;
}

int ei_read_arrival(PyObject *object, ei_arrival *arrival) {
    static const char *const kinds[] = {"poisson", "deterministic",    "erlang",   "hyperexponential",
                                        "gamma",   "markov_modulated", "recorded", "batch"};
    enum { BATCH = 7 };
    const char *kind;
    PyObject *parameters, *inner;
    if (!PyTuple_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "arrival must be a tuple (kind, parameters)");
        return -1;
    }
    if (!PyArg_ParseTuple(object, "sO!", &kind, &PyTuple_Type, &parameters))
        return -1;
    int choice = ei_read_choice("arrival", kind, kinds, BATCH + 1), failed = 0;
    if (choice < 0)
        return -1;
    if (choice == BATCH) {
        PyObject *above;
        if (!PyArg_ParseTuple(parameters, "OO", &inner, &above) || ei_read_arrival(inner, arrival) < 0 ||
            (arrival->batch_above = read_numbers(above, &arrival->batch_limit)) == NULL)
            return -1;
    } else {
        *arrival = (ei_arrival){.kind = (ei_arrival_kind)choice};
        if (arrival->kind == EI_ARRIVAL_MARKOV_MODULATED)
            failed = read_modulated(parameters, arrival);
        else if (arrival->kind == EI_ARRIVAL_RECORDED)
            failed = !PyArg_ParseTuple(parameters, "O", &inner) ||
                     (arrival->intervals = read_numbers(inner, &arrival->count)) == NULL;
        else
            failed = !PyArg_ParseTuple(parameters, "d|dd", &arrival->parameter[0], &arrival->parameter[1],
                                       &arrival->parameter[2]);
    }
    if (failed)
        return -1;
    if (!(ei_arrival_mean(arrival) > 0)) {
        PyErr_Format(PyExc_ValueError, "arrival: parameters of '%s' outside their range", kind);
        return -1;
    }
    return 0;
}

/* A tuple of (kind, service, count, needed, probability), or None: *nodes is the caller's to free. */
static int read_nodes(PyObject *object, ei_node **nodes, size_t *count) {
    static const char *const kinds[] = {"server", "delay", "review", "servers", "fork", "branch"};
    *nodes = NULL;
    *count = 0;
    if (object == NULL || object == Py_None)
        return 0;
    if (!PyTuple_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "nodes must be a tuple");
        return -1;
    }
    Py_ssize_t size = PyTuple_Size(object);
    *nodes = PyMem_Calloc((size_t)size + 1, sizeof **nodes);
    if (*nodes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        const char *kind;
        Py_ssize_t service, branches, needed;
        PyObject *item = PyTuple_GetItem(object, i);
        if (!PyTuple_Check(item) ||
            !PyArg_ParseTuple(item, "snnnd", &kind, &service, &branches, &needed, &(*nodes)[i].probability))
            return -1;
        int choice = ei_read_choice("node", kind, kinds, 6);
        if (choice < 0)
            return -1;
        (*nodes)[i].kind = (ei_node_kind)choice;
        (*nodes)[i].service = (size_t)service;
        (*nodes)[i].count = (size_t)branches;
        (*nodes)[i].needed = (size_t)needed;
    }
    *count = (size_t)size;
    return 0;
}

static PyObject *simulate(PyObject *module, PyObject *arguments) {
    static const char *const services[] = {"tandem", "serial"};
    static const char *const links[] = {"table", "slots", "wall_clock"};
    (void)module;
    PyObject *stage_objects, *arrival_object, *deadline_object, *entropy_object, *result = NULL;
    PyObject *node_objects = NULL;
    const char *service, *link;
    Py_ssize_t jobs, warmup, replications, batches, threads;
    ei_tandem model = {.stages = NULL};
    ei_node *nodes = NULL;
    ei_stage_list list;
    if (!PyArg_ParseTuple(arguments, "OOOnnnnssOn|O:simulate", &stage_objects, &arrival_object,
                          &deadline_object, &jobs, &warmup, &replications, &batches, &service, &link,
                          &entropy_object, &threads, &node_objects))
        return NULL;
    if (jobs < 1 || warmup < 0 || replications < 1 || batches < 1 || threads < 1) {
        PyErr_SetString(PyExc_ValueError,
                        "jobs, replications, batches and threads must be >= 1, warmup >= 0");
        return NULL;
    }
    int serial = ei_read_choice("service", service, services, 2),
        link_mode = ei_read_choice("link", link, links, 3);
    if (serial < 0 || link_mode < 0 || ei_read_arrival(arrival_object, &model.arrival) < 0 ||
        ei_read_entropy(entropy_object, model.entropy) < 0 || ei_stage_list_init(&list, stage_objects) < 0)
        return NULL;
    PyArrayObject *violations = NULL, *waiting = NULL, *busy = NULL, *elapsed = NULL, *histogram = NULL,
                  *ends = NULL;
    PyArrayObject *deadlines =
        (PyArrayObject *)PyArray_FROMANY(deadline_object, NPY_FLOAT64, 1, 1, NPY_ARRAY_IN_ARRAY);
    if (deadlines == NULL || read_nodes(node_objects, &nodes, &model.node_count) < 0)
        goto out;
    model.nodes = nodes;
    model.stages = list.stages;
    model.stage_count = list.count;
    model.delays = list.delays;
    npy_intp shape[4] = {replications, batches, PyArray_SIZE(deadlines), (npy_intp)ei_tandem_width(&model)};
    npy_intp flat[3] = {replications, batches, shape[3]}, bins[2] = {shape[3], EI_HISTOGRAM_BINS};
    violations = (PyArrayObject *)PyArray_SimpleNew(4, shape, NPY_FLOAT64);
    waiting = (PyArrayObject *)PyArray_SimpleNew(3, flat, NPY_FLOAT64);
    busy = (PyArrayObject *)PyArray_SimpleNew(3, flat, NPY_FLOAT64);
    elapsed = (PyArrayObject *)PyArray_SimpleNew(2, flat, NPY_FLOAT64);
    histogram = (PyArrayObject *)PyArray_ZEROS(2, bins, NPY_UINT64, 0);
    ends = (PyArrayObject *)PyArray_SimpleNew(1, &flat[1], NPY_UINT64);
    if (!violations || !waiting || !busy || !elapsed || !histogram || !ends)
        goto out;
    model.deadlines = PyArray_DATA(deadlines);
    model.deadline_count = (size_t)shape[2];
    model.jobs = (uint64_t)jobs, model.warmup = (uint64_t)warmup;
    model.replications = (size_t)replications;
    model.batches = (size_t)batches;
    model.serial = serial;
    model.link = (ei_link_mode)link_mode;
    model.threads = (size_t)threads;
    ei_tandem_result output = {.violations = PyArray_DATA(violations),
                               .waiting = PyArray_DATA(waiting),
                               .busy = PyArray_DATA(busy),
                               .elapsed = PyArray_DATA(elapsed),
                               .histogram = PyArray_DATA(histogram)};
    for (npy_intp i = 0; i < batches; i++)
        ((npy_uint64 *)PyArray_DATA(ends))[i] = ei_tandem_batch_end(&model, (size_t)i);
    int status;
    Py_BEGIN_ALLOW_THREADS;
    status = ei_tandem_run(&model, &output, ei_python_monitor());
    Py_END_ALLOW_THREADS;
    result = status == EI_OK
                 ? Py_BuildValue("{sOsOsOsOsOsO}", "violations", violations, "waiting", waiting, "busy", busy,
                                 "elapsed", elapsed, "histogram", histogram, "ends", ends)
                 : ei_raise("simulate", status);
out:
    Py_XDECREF(deadlines);
    Py_XDECREF(violations);
    Py_XDECREF(waiting);
    Py_XDECREF(busy);
    Py_XDECREF(elapsed);
    Py_XDECREF(histogram);
    Py_XDECREF(ends);
    PyMem_Free(nodes);
    ei_stage_list_free(&list);
    return result;
}

static PyObject *rare_violation(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *stage_objects, *arrival_object, *entropy_object, *result = NULL;
    double deadline, relative_error, max_replications;
    ei_arrival arrival;
    Py_ssize_t threads;
    uint64_t entropy[4];
    ei_stage_list list;
    if (!PyArg_ParseTuple(arguments, "OOdddOn:rare_violation", &stage_objects, &arrival_object, &deadline,
                          &relative_error, &max_replications, &entropy_object, &threads) ||
        ei_read_arrival(arrival_object, &arrival) < 0 || ei_read_entropy(entropy_object, entropy) < 0)
        return NULL;
    if (threads < 1) {
        PyErr_SetString(PyExc_ValueError, "threads must be >= 1");
        return NULL;
    }
    if (ei_stage_list_init(&list, stage_objects) < 0)
        return NULL;
    int status;
    ei_rare_result answer = {.value = 0};
    Py_BEGIN_ALLOW_THREADS;
    status = ei_rare_violation(list.stages, list.count, &arrival, deadline, relative_error, max_replications,
                               entropy, (size_t)threads, &answer, ei_python_monitor());
    Py_END_ALLOW_THREADS;
    if (status != EI_OK && status != EI_ERR_ACCURACY)
        ei_raise("rare_violation", status);
    else
        result = Py_BuildValue("{sdsdsdsdsdsdsdsdsnsN}", "value", answer.value, "standard_error",
                               answer.standard_error, "replications", answer.replications,
                               "effective_sample_size", answer.effective_sample_size, "largest_weight_share",
                               answer.largest_weight_share, "relative_error", answer.relative_error, "needed",
                               answer.needed, "known", answer.known, "unsampled",
                               (Py_ssize_t)answer.unsampled - 1, "reached", PyBool_FromLong(status == EI_OK));
    ei_stage_list_free(&list);
    return result;
}

static PyObject *sample_rate(PyObject *module, PyObject *arguments) {
    (void)module;
    npy_intp count;
    double bandwidth, mean_snr;
    ei_gain gain;
    PyObject *entropy_object;
    uint64_t entropy[4];
    if (!PyArg_ParseTuple(arguments, "ndd(dddd)O:sample_rate", &count, &bandwidth, &mean_snr, &gain.shape,
                          &gain.mixing, &gain.scale, &gain.users, &entropy_object) ||
        ei_read_entropy(entropy_object, entropy) < 0)
        return NULL;
    if (count < 0) {
        PyErr_SetString(PyExc_ValueError, "count must be >= 0");
        return NULL;
    }
    PyArrayObject *rates = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_FLOAT64);
    if (rates == NULL)
        return NULL;
    int status;
    Py_BEGIN_ALLOW_THREADS;
    status = ei_sample_rate((size_t)count, bandwidth, mean_snr, &gain, entropy, PyArray_DATA(rates),
                            ei_python_monitor());
    Py_END_ALLOW_THREADS;
    if (status != EI_OK) {
        Py_DECREF(rates);
        return ei_raise("sample_rate", status);
    }
    return (PyObject *)rates;
}

static PyObject *sample_service(PyObject *module, PyObject *arguments) {
    static const char *const links[] = {"table", "slots"};
    (void)module;
    npy_intp count;
    PyObject *stage_object, *entropy_object;
    const char *link;
    uint64_t entropy[4];
    if (!PyArg_ParseTuple(arguments, "OnsO:sample_service", &stage_object, &count, &link, &entropy_object) ||
        ei_read_entropy(entropy_object, entropy) < 0)
        return NULL;
    int mode = ei_read_choice("link", link, links, 2);
    if (mode < 0)
        return NULL;
    if (count < 0) {
        PyErr_SetString(PyExc_ValueError, "count must be >= 0");
        return NULL;
    }
    ei_stage_list list;
    PyObject *stages = PyTuple_Pack(1, stage_object);
    if (stages == NULL)
        return NULL;
    int failed = ei_stage_list_init(&list, stages);
    Py_DECREF(stages);
    if (failed < 0)
        return NULL;
    PyArrayObject *times = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_FLOAT64);
    if (times != NULL) {
        int status;
        Py_BEGIN_ALLOW_THREADS;
        status = ei_sample_service((size_t)count, &list.stages[0], (ei_link_mode)mode, entropy,
                                   PyArray_DATA(times), ei_python_monitor());
        Py_END_ALLOW_THREADS;
        if (status != EI_OK) {
            Py_CLEAR(times);
            ei_raise("sample_service", status);
        }
    }
    ei_stage_list_free(&list);
    return (PyObject *)times;
}

static PyMethodDef methods[] = {
    {"simulate", simulate, METH_VARARGS, "Forward simulation of a tandem or serial path."},
    {"rare_violation", rare_violation, METH_VARARGS, "Importance sampling of a small violation probability."},
    {"sample_rate", sample_rate, METH_VARARGS, "Slot rates of a fading link, bit/s."},
    {"sample_service", sample_service, METH_VARARGS, "Service times of a stage, s."},
    {NULL, NULL, 0, NULL}};

int ei_add_simulation(PyObject *module) {
    if (PyModule_AddIntMacro(module, EI_HISTOGRAM_SHIFT) < 0 ||
        PyModule_AddIntMacro(module, EI_HISTOGRAM_STRIDE) < 0)
        return -1;
    return PyModule_AddFunctions(module, methods);
}
