#include "glue.h"

#include "edgeinfer/bound.h"

#include <string.h>

static int read_method(const char *name, ei_bound_method *method) {
    static const char *const names[] = {"union", "lundberg", "corrected", "printed"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            *method = (ei_bound_method)i;
            return 0;
        }
    PyErr_Format(PyExc_ValueError,
                 "method = '%s': must be one of 'union', 'lundberg', 'corrected', 'printed'", name);
    return -1;
}

static PyObject *violation_bound(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *stage_objects, *rate_object, *deadline_object, *arrival_object = NULL, *result = NULL;
    ei_arrival arrival;
    const char *name;
    double slot;
    ei_bound_method method;
    ei_stage_list list;
    PyArrayObject *rates = NULL, *deadlines = NULL, *bounds = NULL, *thetas = NULL;
    if (!PyArg_ParseTuple(arguments, "OOOsd|O:violation_bound", &stage_objects, &rate_object,
                          &deadline_object, &name, &slot, &arrival_object) ||
        (arrival_object != NULL && ei_read_arrival(arrival_object, &arrival) < 0) ||
        read_method(name, &method) < 0 || ei_stage_list_init(&list, stage_objects) < 0)
        return NULL;
    if (ei_read_elements(rate_object, deadline_object, &rates, &deadlines) < 0)
        goto out;
    npy_intp count = PyArray_SIZE(rates);
    bounds = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_FLOAT64);
    thetas = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_FLOAT64);
    if (bounds == NULL || thetas == NULL)
        goto out;
    int status;
    Py_BEGIN_ALLOW_THREADS;
    status = ei_violation_bound(list.stages, list.count, method, arrival_object != NULL ? &arrival : NULL,
                                slot, (size_t)count, PyArray_DATA(rates), PyArray_DATA(deadlines),
                                PyArray_DATA(bounds), PyArray_DATA(thetas), ei_python_monitor());
    Py_END_ALLOW_THREADS;
    result = status == EI_OK ? PyTuple_Pack(2, bounds, thetas) : ei_raise("violation_bound", status);
out:
    Py_XDECREF(rates);
    Py_XDECREF(deadlines);
    Py_XDECREF(bounds);
    Py_XDECREF(thetas);
    ei_stage_list_free(&list);
    return result;
}

static PyMethodDef methods[] = {{"violation_bound", violation_bound, METH_VARARGS,
                                 "log of an upper bound on P(W > deadline), and its theta."},
                                {NULL, NULL, 0, NULL}};

int ei_add_bound(PyObject *module) {
    return PyModule_AddFunctions(module, methods);
}
