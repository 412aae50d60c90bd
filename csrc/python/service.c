#include "glue.h"

#include <string.h>

/* A pipeline's stages, converted once: what every call of the core takes in a sequence of tuples' place. */
typedef struct {
    PyObject_HEAD ei_stage_list list;
} stages_object;

static PyTypeObject *stages_type;

/* (bits, rates, start or None, jumps or None, slot, offset, mean rate, spread). */
static int read_channel(PyObject *value, ei_service *stage, PyObject *owners) {
    PyObject *items[3];
    const double *numbers[3] = {NULL, NULL, NULL};
    size_t sizes[3] = {0, 0, 0};
    ei_channel *channel = &stage->channel;
    if (!PyArg_ParseTuple(value, "dOOOdddd", &stage->bits, &items[0], &items[1], &items[2], &channel->slot,
                          &channel->offset, &channel->mean_rate, &channel->spread))
        return -1;
    for (int i = 0; i < 3; i++) {
        if (items[i] == Py_None)
            continue;
        PyObject *array = PyArray_FROMANY(items[i], NPY_FLOAT64, 1, 3, NPY_ARRAY_IN_ARRAY);
        if (array == NULL)
            return -1;
        int failed = PyList_Append(owners, array);
        Py_DECREF(array);
        if (failed < 0)
            return -1;
        numbers[i] = PyArray_DATA((PyArrayObject *)array);
        sizes[i] = (size_t)PyArray_SIZE((PyArrayObject *)array);
    }
    channel->rates = numbers[0];
    channel->count = sizes[0];
    channel->start = numbers[1];
    channel->jumps = numbers[2];
    channel->levels = sizes[0] > 0 ? sizes[2] / sizes[0] / sizes[0] : 0;
    if (numbers[1] != NULL && (sizes[1] != sizes[0] || channel->levels * sizes[0] * sizes[0] != sizes[2])) {
        PyErr_SetString(PyExc_ValueError, "channel: rates, start and jumps must go together");
        return -1;
    }
    stage->kind = EI_SERVICE_CHANNEL;
    return 0;
}

static void free_repetition(PyObject *capsule) {
    ei_repetition_free(PyCapsule_GetPointer(capsule, NULL));
}

/* A new law of (blocks, outage, slot), which a capsule in `owners` keeps. */
static int read_repetition(PyObject *value, ei_service *stage, PyObject *owners) {
    Py_ssize_t blocks;
    double outage, slot;
    ei_repetition *law;
    if (!PyArg_ParseTuple(value, "ndd", &blocks, &outage, &slot))
        return -1;
    int status = ei_repetition_new(&law, blocks > 0 ? (size_t)blocks : 0, outage, slot);
    if (status != EI_OK) {
        ei_raise("repetition", status);
        return -1;
    }
    PyObject *capsule = PyCapsule_New(law, NULL, free_repetition);
    if (capsule == NULL) {
        ei_repetition_free(law);
        return -1;
    }
    int failed = PyList_Append(owners, capsule);
    Py_DECREF(capsule);
    stage->kind = EI_SERVICE_REPETITION;
    stage->repetition = law;
    return failed;
}

static int read_stage(PyObject *item, ei_service *stage, double *delay, PyObject *owners) {
    const char *kind;
    PyObject *value;
    if (!PyTuple_Check(item) ||
        !PyArg_ParseTuple(item, "sO|d;a stage is a tuple (kind, value) or (kind, value, delay)", &kind,
                          &value, delay)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "a stage is a tuple (kind, value) or (kind, value, delay)");
        return -1;
    }
    if (strcmp(kind, "deterministic") == 0 || strcmp(kind, "exponential") == 0) {
        stage->kind = kind[0] == 'd' ? EI_SERVICE_DETERMINISTIC : EI_SERVICE_EXPONENTIAL;
        stage->time = PyFloat_AsDouble(value);
        if (stage->time == -1 && PyErr_Occurred())
            return -1;
    } else if (strcmp(kind, "transfer") == 0) {
        stage->kind = EI_SERVICE_TRANSFER;
        stage->transfer = ei_transfer_of(value);
        if (stage->transfer == NULL || PyList_Append(owners, value) < 0)
            return -1;
    } else if (strcmp(kind, "compound") == 0) {
        stage->kind = EI_SERVICE_COMPOUND;
        stage->compound = ei_compound_of(value);
        if (stage->compound == NULL || PyList_Append(owners, value) < 0)
            return -1;
    } else if (strcmp(kind, "samples") == 0) {
        PyObject *array = PyArray_FROMANY(value, NPY_FLOAT64, 1, 1, NPY_ARRAY_IN_ARRAY);
        if (array == NULL)
            return -1;
        int failed = PyList_Append(owners, array);
        Py_DECREF(array);
        if (failed < 0)
            return -1;
        stage->kind = EI_SERVICE_SAMPLES;
        stage->samples = PyArray_DATA((PyArrayObject *)array);
        stage->sample_count = (size_t)PyArray_SIZE((PyArrayObject *)array);
    } else if (strcmp(kind, "channel") == 0) {
        if (read_channel(value, stage, owners) < 0)
            return -1;
    } else if (strcmp(kind, "repetition") == 0) {
        if (read_repetition(value, stage, owners) < 0)
            return -1;
    } else {
        PyErr_Format(PyExc_ValueError, "unknown kind of stage: %s", kind);
        return -1;
    }
    int status = ei_service_verify(stage);
    if (status != EI_OK) {
        ei_raise(kind, status);
        return -1;
    }
    return 0;
}

int ei_stage_list_init(ei_stage_list *self, PyObject *stages) {
    memset(self, 0, sizeof *self);
    if (PyObject_TypeCheck(stages, stages_type)) {
        *self = ((stages_object *)stages)->list;
        self->owners = Py_NewRef(stages);
        self->borrowed = 1;
        return 0;
    }
    PyObject *items = PySequence_Fast(stages, "stages must be a sequence of tuples");
    if (items == NULL)
        return -1;
    int result = -1;
    Py_ssize_t count = PySequence_Size(items);
    if (count == 0) {
        PyErr_SetString(PyExc_ValueError, "stages must not be empty");
        goto out;
    }
    self->owners = PyList_New(0);
    self->stages = PyMem_Calloc((size_t)count, sizeof *self->stages);
    self->delays = PyMem_Calloc((size_t)count, sizeof *self->delays);
    if (self->owners == NULL || self->stages == NULL || self->delays == NULL) {
        PyErr_NoMemory();
        goto out;
    }
    self->count = (size_t)count;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(items, i);
        int failed = item == NULL || read_stage(item, &self->stages[i], &self->delays[i], self->owners) < 0;
        Py_XDECREF(item);
        if (failed)
            goto out;
    }
    result = 0;
out:
    Py_DECREF(items);
    if (result < 0)
        ei_stage_list_free(self);
    return result;
}

void ei_stage_list_free(ei_stage_list *self) {
    if (!self->borrowed) {
        PyMem_Free(self->stages);
        PyMem_Free(self->delays);
    }
    Py_CLEAR(self->owners);
    memset(self, 0, sizeof *self);
}

static PyObject *service_moments(PyObject *module, PyObject *argument) {
    (void)module;
    ei_stage_list list;
    PyObject *result = NULL;
    if (ei_stage_list_init(&list, argument) < 0)
        return NULL;
    npy_intp count = (npy_intp)list.count;
    PyArrayObject *means = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_FLOAT64);
    PyArrayObject *variances = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_FLOAT64);
    if (means != NULL && variances != NULL) {
        for (size_t k = 0; k < list.count; k++) {
            ((double *)PyArray_DATA(means))[k] = ei_service_mean(&list.stages[k]);
            ((double *)PyArray_DATA(variances))[k] = ei_service_variance(&list.stages[k]);
        }
        result = PyTuple_Pack(2, means, variances);
    }
    Py_XDECREF(means);
    Py_XDECREF(variances);
    ei_stage_list_free(&list);
    return result;
}

/* (least, longest) of each stage. */
static PyObject *service_spans(PyObject *module, PyObject *argument) {
    (void)module;
    ei_stage_list list;
    if (ei_stage_list_init(&list, argument) < 0)
        return NULL;
    npy_intp shape[2] = {(npy_intp)list.count, 2};
    PyObject *spans = PyArray_SimpleNew(2, shape, NPY_FLOAT64);
    for (size_t k = 0; k < list.count && spans != NULL; k++) {
        double *span = (double *)PyArray_DATA((PyArrayObject *)spans) + 2 * k;
        span[0] = ei_service_minimum(&list.stages[k]);
        span[1] = ei_service_maximum(&list.stages[k]);
    }
    ei_stage_list_free(&list);
    return spans;
}

/* Of the first stage, at each theta. */
static PyObject *service_log_mgf(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *stages, *argument;
    ei_stage_list list;
    if (!PyArg_ParseTuple(arguments, "OO", &stages, &argument) || ei_stage_list_init(&list, stages) < 0)
        return NULL;
    PyArrayObject *thetas = (PyArrayObject *)PyArray_FROMANY(argument, NPY_FLOAT64, 1, 1, NPY_ARRAY_IN_ARRAY);
    PyObject *values = NULL;
    npy_intp count = thetas != NULL ? PyArray_SIZE(thetas) : 0;
    if (thetas != NULL)
        values = PyArray_SimpleNew(1, &count, NPY_FLOAT64);
    for (npy_intp i = 0; i < count && values != NULL; i++) {
        int status = ei_service_log_mgf(&list.stages[0], ((double *)PyArray_DATA(thetas))[i],
                                        (double *)PyArray_DATA((PyArrayObject *)values) + i, NULL);
        if (status != EI_OK)
            ei_raise("service_log_mgf", status);
        if (status != EI_OK || PyErr_CheckSignals() < 0)
            Py_CLEAR(values);
    }
    Py_XDECREF(thetas);
    ei_stage_list_free(&list);
    return values;
}

/* (first, masses): P(N = first + i) of the slots of a repetition. */
static PyObject *repetition_law(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_ssize_t blocks;
    double outage;
    ei_repetition *law;
    if (!PyArg_ParseTuple(arguments, "nd", &blocks, &outage))
        return NULL;
    int status = ei_repetition_new(&law, blocks > 0 ? (size_t)blocks : 0, outage, 1);
    if (status != EI_OK)
        return ei_raise("repetition_law", status);
    size_t first, count;
    const double *mass = ei_repetition_masses(law, &first, &count);
    npy_intp size = (npy_intp)count;
    PyObject *masses = PyArray_SimpleNew(1, &size, NPY_FLOAT64);
    if (masses != NULL)
        memcpy(PyArray_DATA((PyArrayObject *)masses), mass, count * sizeof *mass);
    ei_repetition_free(law);
    return masses == NULL ? NULL : Py_BuildValue("nN", (Py_ssize_t)first, masses);
}

static PyObject *stages_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"stages", NULL};
    PyObject *stages;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O:Stages", names, &stages))
        return NULL;
    stages_object *self = (stages_object *)PyType_GenericAlloc(type, 0);
    if (self != NULL && ei_stage_list_init(&self->list, stages) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void stages_free(PyObject *object) {
    ei_stage_list_free(&((stages_object *)object)->list);
    ei_delete(object);
}

static Py_ssize_t stages_count(PyObject *object) {
    return (Py_ssize_t)((stages_object *)object)->list.count;
}

static PyObject *stages_delays(PyObject *object, void *closure) {
    (void)closure;
    const ei_stage_list *list = &((stages_object *)object)->list;
    npy_intp count = (npy_intp)list->count;
    PyObject *delays = PyArray_SimpleNew(1, &count, NPY_FLOAT64);
    if (delays != NULL)
        memcpy(PyArray_DATA((PyArrayObject *)delays), list->delays, list->count * sizeof *list->delays);
    return delays;
}

static PyGetSetDef stages_fields[] = {{"delays", stages_delays, NULL, "Delays behind the stages, s.", NULL},
                                      {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot stages_slots[] = {
    {Py_tp_doc, "A pipeline's stages, converted once for every call that takes them."},
    {Py_tp_new, stages_new},
    {Py_tp_dealloc, stages_free},
    {Py_sq_length, stages_count},
    {Py_tp_getset, stages_fields},
    {0, NULL}};

static PyType_Spec stages_spec = {.name = "edgeinfer._core.Stages",
                                  .basicsize = sizeof(stages_object),
                                  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
                                  .slots = stages_slots};

static PyMethodDef methods[] = {
    {"service_moments", service_moments, METH_O, "Mean and variance of each stage's service time."},
    {"service_spans", service_spans, METH_O, "Least and longest service of each stage."},
    {"service_log_mgf", service_log_mgf, METH_VARARGS, "log E e^{theta S} of the first stage."},
    {"repetition_law", repetition_law, METH_VARARGS, "First number of slots, and the masses from it on."},
    {NULL, NULL, 0, NULL}};

int ei_add_service(PyObject *module) {
    return ei_add_type(module, &stages_spec, &stages_type) < 0 ? -1 : PyModule_AddFunctions(module, methods);
}
