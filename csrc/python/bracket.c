#include "glue.h"

#include "edgeinfer/bracket.h"

static PyObject *violation_bracket(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *stage_objects, *rate_object, *deadline_object, *arrival_object = NULL, *result = NULL;
    ei_arrival arrival = {.kind = EI_ARRIVAL_POISSON, .parameter = {1}};
    ei_stage_list list;
    PyArrayObject *rates = NULL, *deadlines = NULL, *lower = NULL, *upper = NULL;
    PyArrayObject *lower_method = NULL, *upper_method = NULL;
    if (!PyArg_ParseTuple(arguments, "OOO|O:violation_bracket", &stage_objects, &rate_object,
                          &deadline_object, &arrival_object) ||
        (arrival_object != NULL && ei_read_arrival(arrival_object, &arrival) < 0) ||
        ei_stage_list_init(&list, stage_objects) < 0)
        return NULL;
    if (ei_read_elements(rate_object, deadline_object, &rates, &deadlines) < 0)
        goto out;
    npy_intp count = PyArray_SIZE(rates);
    lower = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_FLOAT64);
    upper = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_FLOAT64);
    lower_method = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_UINT8);
    upper_method = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_UINT8);
    if (!lower || !upper || !lower_method || !upper_method)
        goto out;
    int status;
    Py_BEGIN_ALLOW_THREADS;
    status =
        ei_violation_bracket(list.stages, list.count, &arrival, (size_t)count, PyArray_DATA(rates),
                             PyArray_DATA(deadlines), PyArray_DATA(lower), PyArray_DATA(upper),
                             PyArray_DATA(lower_method), PyArray_DATA(upper_method), ei_python_monitor());
    Py_END_ALLOW_THREADS;
    result = status == EI_OK ? PyTuple_Pack(4, lower, upper, lower_method, upper_method)
                             : ei_raise("violation_bracket", status);
out:
    Py_XDECREF(rates);
    Py_XDECREF(deadlines);
    Py_XDECREF(lower);
    Py_XDECREF(upper);
    Py_XDECREF(lower_method);
    Py_XDECREF(upper_method);
    ei_stage_list_free(&list);
    return result;
}

static PyMethodDef methods[] = {
    {"violation_bracket", violation_bracket, METH_VARARGS, "Certified bracket of P(W > deadline)."},
    {NULL, NULL, 0, NULL}};

int ei_add_bracket(PyObject *module) {
    static const char *const names[EI_BRACKET_METHODS] = {
        [EI_BRACKET_UNSTABLE] = "unstable",
        [EI_BRACKET_EXACT] = "exact",
        [EI_BRACKET_TRIVIAL] = "trivial",
        [EI_BRACKET_QUEUE] = "queue",
        [EI_BRACKET_LINK] = "link",
        [EI_BRACKET_HANDOVER] = "handover",
        [EI_BRACKET_SINGLE_SERVER] = "single_server",
        [EI_BRACKET_FIRST_HANDOVER] = "first_handover",
        [EI_BRACKET_OVERTAKING] = "overtaking",
        [EI_BRACKET_ASSOCIATED] = "associated",
        [EI_BRACKET_ADDED_STAGE] = "added_stage",
        [EI_BRACKET_BOTTLENECK_FIRST] = "bottleneck_first",
        [EI_BRACKET_MOMENTS] = "moments",
    };
    PyObject *tuple = PyTuple_New(EI_BRACKET_METHODS);
    if (tuple == NULL)
        return -1;
    for (Py_ssize_t i = 0; i < EI_BRACKET_METHODS; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);
        if (name == NULL) {
            Py_DECREF(tuple);
            return -1;
        }
        PyTuple_SET_ITEM(tuple, i, name);
    }
    int failed = PyModule_AddObjectRef(module, "BRACKET_METHODS", tuple);
    Py_DECREF(tuple);
    return failed < 0 ? -1 : PyModule_AddFunctions(module, methods);
}
