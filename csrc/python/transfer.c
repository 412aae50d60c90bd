#include "glue.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD ei_transfer *law;
    double bits, bandwidth, mean_snr, slot, mean, variance, abscissa, accuracy, extent;
    ei_gain gain;
} TransferObject;

static PyTypeObject *transfer_type;

const ei_transfer *ei_transfer_of(PyObject *object) {
    if (!PyObject_TypeCheck(object, transfer_type)) {
        PyErr_Format(PyExc_TypeError, "expected a Transfer, got %R", Py_TYPE(object));
        return NULL;
    }
    return ((TransferObject *)object)->law;
}

static PyObject *transfer_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"bits", "bandwidth", "mean_snr", "slot", "gain", NULL};
    double bits, bandwidth, mean_snr, slot;
    ei_gain gain = ei_gain_rayleigh();
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "dddd|(dddd):Transfer", names, &bits, &bandwidth,
                                     &mean_snr, &slot, &gain.shape, &gain.mixing, &gain.scale, &gain.users))
        return NULL;
    ei_transfer *law;
    int status;
    Py_BEGIN_ALLOW_THREADS;
    status = ei_transfer_new_faded(&law, bits, bandwidth, mean_snr, &gain, slot, ei_python_monitor());
    Py_END_ALLOW_THREADS;
    if (status != EI_OK)
        return ei_raise("Transfer", status);
    TransferObject *self = (TransferObject *)PyType_GenericAlloc(type, 0);
    if (self == NULL) {
        ei_transfer_free(law);
        return NULL;
    }
    self->law = law;
    self->gain = gain;
    self->bits = bits;
    self->bandwidth = bandwidth;
    self->mean_snr = mean_snr;
    self->slot = slot;
    self->mean = ei_transfer_mean(law);
    self->variance = ei_transfer_variance(law);
    self->abscissa = ei_transfer_abscissa(law);
    self->accuracy = ei_transfer_accuracy(law);
    self->extent = ei_transfer_extent(law);
    return (PyObject *)self;
}

static void transfer_dealloc(PyObject *self) {
    ei_transfer_free(((TransferObject *)self)->law);
    ei_delete(self);
}

/* Applies `function` to every element of one array argument, with the GIL released. */
static PyObject *map_times(PyObject *self, PyObject *argument,
                           double (*function)(const ei_transfer *, double)) {
    PyArrayObject *times = (PyArrayObject *)PyArray_FROMANY(argument, NPY_FLOAT64, 0, 0, NPY_ARRAY_IN_ARRAY);
    if (times == NULL)
        return NULL;
    PyArrayObject *values =
        (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM(times), PyArray_DIMS(times), NPY_FLOAT64);
    if (values != NULL) {
        const ei_transfer *law = ((TransferObject *)self)->law;
        const double *time = PyArray_DATA(times);
        double *value = PyArray_DATA(values);
        npy_intp count = PyArray_SIZE(times);
        int status = EI_OK;
        Py_BEGIN_ALLOW_THREADS;
        for (npy_intp i = 0; i < count && status == EI_OK; i++) {
            value[i] = function(law, time[i]);
            status = ei_python_step(i);
        }
        Py_END_ALLOW_THREADS;
        if (status != EI_OK) {
            Py_CLEAR(values);
            ei_raise("Transfer", status);
        }
    }
    Py_DECREF(times);
    return (PyObject *)values;
}

static PyObject *transfer_sf(PyObject *self, PyObject *time) {
    return map_times(self, time, ei_transfer_sf);
}

static PyObject *transfer_cdf(PyObject *self, PyObject *time) {
    return map_times(self, time, ei_transfer_cdf);
}

static PyObject *transfer_log_mgf(PyObject *self, PyObject *argument) {
    int status = EI_OK;
    PyObject *result = NULL;
    PyArrayObject *values = NULL, *slopes = NULL;
    PyArrayObject *thetas = (PyArrayObject *)PyArray_FROMANY(argument, NPY_FLOAT64, 0, 0, NPY_ARRAY_IN_ARRAY);
    if (thetas == NULL)
        goto out;
    values = (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM(thetas), PyArray_DIMS(thetas), NPY_FLOAT64);
    slopes = (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM(thetas), PyArray_DIMS(thetas), NPY_FLOAT64);
    if (values == NULL || slopes == NULL)
        goto out;
    const ei_transfer *law = ((TransferObject *)self)->law;
    const double *theta = PyArray_DATA(thetas);
    double *value = PyArray_DATA(values), *slope = PyArray_DATA(slopes);
    npy_intp count = PyArray_SIZE(thetas);
    Py_BEGIN_ALLOW_THREADS;
    for (npy_intp i = 0; i < count && status == EI_OK; i++)
        if ((status = ei_transfer_log_mgf(law, theta[i], &value[i], &slope[i])) == EI_OK)
            status = ei_python_step(i);
    Py_END_ALLOW_THREADS;
    result = status == EI_OK ? PyTuple_Pack(2, values, slopes) : ei_raise("Transfer.log_mgf", status);
out:
    Py_XDECREF(thetas);
    Py_XDECREF(values);
    Py_XDECREF(slopes);
    return result;
}

/* For pickle and copy: the law is built again from its parameters. */
static PyObject *transfer_reduce(PyObject *self, PyObject *nothing) {
    const TransferObject *object = (const TransferObject *)self;
    (void)nothing;
    return Py_BuildValue("O(dddd(dddd))", Py_TYPE(self), object->bits, object->bandwidth, object->mean_snr,
                         object->slot, object->gain.shape, object->gain.mixing, object->gain.scale,
                         object->gain.users);
}

static PyObject *transfer_sizeof(PyObject *self, PyObject *nothing) {
    (void)nothing;
    return PyLong_FromSize_t(sizeof(TransferObject) + ei_transfer_size(((TransferObject *)self)->law));
}

/* Immutable: a copy is the law itself. */
static PyObject *transfer_copy(PyObject *self, PyObject *memo) {
    (void)memo;
    return Py_NewRef(self);
}

static PyMemberDef members[] = {
    {"bits", T_DOUBLE, offsetof(TransferObject, bits), READONLY, "bit"},
    {"bandwidth", T_DOUBLE, offsetof(TransferObject, bandwidth), READONLY, "Hz, control overhead taken off"},
    {"mean_snr", T_DOUBLE, offsetof(TransferObject, mean_snr), READONLY, "linear"},
    {"slot", T_DOUBLE, offsetof(TransferObject, slot), READONLY, "s"},
    {"mean", T_DOUBLE, offsetof(TransferObject, mean), READONLY, "s"},
    {"variance", T_DOUBLE, offsetof(TransferObject, variance), READONLY, "s^2"},
    {"abscissa", T_DOUBLE, offsetof(TransferObject, abscissa), READONLY,
     "from which theta log_mgf is infinite, 1/s"},
    {"accuracy", T_DOUBLE, offsetof(TransferObject, accuracy), READONLY, "relative accuracy of sf"},
    {"extent", T_DOUBLE, offsetof(TransferObject, extent), READONLY,
     "time beyond which sf is below 1e-20, s"},
    {NULL, 0, 0, 0, NULL}};

static PyMethodDef methods[] = {
    {"sf", transfer_sf, METH_O, "P(X > time)."},
    {"cdf", transfer_cdf, METH_O, "P(X <= time)."},
    {"log_mgf", transfer_log_mgf, METH_O, "log E[exp(theta X)] and its derivative."},
    {"__reduce__", transfer_reduce, METH_NOARGS, NULL},
    {"__sizeof__", transfer_sizeof, METH_NOARGS, NULL},
    {"__copy__", transfer_copy, METH_NOARGS, NULL},
    {"__deepcopy__", transfer_copy, METH_O, NULL},
    {NULL, NULL, 0, NULL}};

static PyType_Slot transfer_slots[] = {{Py_tp_doc, "Exact law of the transfer time over a fading link."},
                                       {Py_tp_new, transfer_new},
                                       {Py_tp_dealloc, transfer_dealloc},
                                       {Py_tp_members, members},
                                       {Py_tp_methods, methods},
                                       {0, NULL}};

static PyType_Spec transfer_spec = {.name = "edgeinfer._core.Transfer",
                                    .basicsize = sizeof(TransferObject),
                                    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
                                    .slots = transfer_slots};

int ei_add_transfer(PyObject *module) {
    return ei_add_type(module, &transfer_spec, &transfer_type);
}
