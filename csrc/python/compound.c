#include "glue.h"

#include "edgeinfer/compound.h"

typedef struct {
    PyObject_HEAD ei_compound *law;
    ei_stage_list round;
    PyObject *arguments; /* what it was made of, for pickle */
} CompoundObject;

static PyTypeObject *compound_type;

const ei_compound *ei_compound_of(PyObject *object) {
    if (!PyObject_TypeCheck(object, compound_type)) {
        PyErr_Format(PyExc_TypeError, "expected a Compound, got %R", Py_TYPE(object));
        return NULL;
    }
    return ((CompoundObject *)object)->law;
}

static PyObject *compound_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"round", "rounds", NULL};
    PyObject *round, *rounds;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "OO:Compound", names, &round, &rounds))
        return NULL;
    PyArrayObject *numbers = (PyArrayObject *)PyArray_FROMANY(rounds, NPY_FLOAT64, 1, 1, NPY_ARRAY_IN_ARRAY);
    CompoundObject *self = NULL;
    if (numbers == NULL || (self = (CompoundObject *)PyType_GenericAlloc(type, 0)) == NULL)
        goto out;
    self->arguments = PyTuple_Pack(2, round, numbers);
    if (self->arguments == NULL || ei_stage_list_init(&self->round, round) < 0) {
        Py_CLEAR(self);
        goto out;
    }
    int status;
    Py_BEGIN_ALLOW_THREADS;
    status = ei_compound_new(&self->law, self->round.stages, self->round.count, PyArray_DATA(numbers),
                             (size_t)PyArray_SIZE(numbers), ei_python_monitor());
    Py_END_ALLOW_THREADS;
    if (status != EI_OK) {
        Py_CLEAR(self);
        ei_raise("Compound", status);
    }
out:
    Py_XDECREF(numbers);
    return (PyObject *)self;
}

static void compound_dealloc(PyObject *object) {
    CompoundObject *self = (CompoundObject *)object;
    ei_compound_free(self->law);
    ei_stage_list_free(&self->round);
    Py_XDECREF(self->arguments);
    ei_delete(object);
}

/* P(S > time) from below and from above. */
static PyObject *compound_sf(PyObject *self, PyObject *argument) {
    PyObject *result = NULL;
    PyArrayObject *times = (PyArrayObject *)PyArray_FROMANY(argument, NPY_FLOAT64, 1, 1, NPY_ARRAY_IN_ARRAY),
                  *ends[2] = {NULL, NULL};
    if (times == NULL)
        return NULL;
    npy_intp count = PyArray_SIZE(times);
    for (int end = 0; end < 2; end++)
        if ((ends[end] = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_FLOAT64)) == NULL)
            goto out;
    const ei_compound *law = ((CompoundObject *)self)->law;
    const double *time = PyArray_DATA(times);
    for (npy_intp i = 0; i < count; i++) {
        if (PyErr_CheckSignals() < 0)
            goto out;
        ((double *)PyArray_DATA(ends[0]))[i] = ei_compound_lower(law, time[i]);
        ((double *)PyArray_DATA(ends[1]))[i] = ei_compound_upper(law, time[i]);
    }
    result = PyTuple_Pack(2, ends[0], ends[1]);
out:
    Py_DECREF(times);
    Py_XDECREF(ends[0]);
    Py_XDECREF(ends[1]);
    return result;
}

static PyObject *compound_mean(PyObject *self, void *closure) {
    (void)closure;
    return PyFloat_FromDouble(ei_compound_mean(((CompoundObject *)self)->law));
}

static PyGetSetDef compound_fields[] = {{"mean", compound_mean, NULL, "Mean, s.", NULL},
                                        {NULL, NULL, NULL, NULL, NULL}};

static PyObject *compound_size(PyObject *self, PyObject *nothing) {
    (void)nothing;
    return PyLong_FromSize_t(sizeof(CompoundObject) + ei_compound_size(((CompoundObject *)self)->law));
}

/* For pickle and copy: the law is built again. */
static PyObject *compound_reduce(PyObject *self, PyObject *nothing) {
    (void)nothing;
    return Py_BuildValue("OO", Py_TYPE(self), ((CompoundObject *)self)->arguments);
}

static PyMethodDef compound_methods[] = {
    {"sf", compound_sf, METH_O, "Lower and upper bounds of P(S > time)."},
    {"__sizeof__", compound_size, METH_NOARGS, "Bytes, law included."},
    {"__reduce__", compound_reduce, METH_NOARGS, "For pickle."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot compound_slots[] = {{Py_tp_doc, "Law of the time of a random number of rounds."},
                                       {Py_tp_new, compound_new},
                                       {Py_tp_dealloc, compound_dealloc},
                                       {Py_tp_methods, compound_methods},
                                       {Py_tp_getset, compound_fields},
                                       {0, NULL}};

static PyType_Spec compound_spec = {.name = "edgeinfer._core.Compound",
                                    .basicsize = sizeof(CompoundObject),
                                    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
                                    .slots = compound_slots};

int ei_add_compound(PyObject *module) {
    return ei_add_type(module, &compound_spec, &compound_type);
}
