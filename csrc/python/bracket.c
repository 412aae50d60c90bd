#include "glue.h"

#include "edgeinfer/bracket.h"
#include "edgeinfer/several_servers.h"
#include "edgeinfer/single.h"

/* Ends and methods, [count] each. */
typedef struct {
    PyArrayObject *lower, *upper, *lower_method, *upper_method;
} answer;

static int answer_init(answer *self, npy_intp count) {
    self->lower = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_FLOAT64);
    self->upper = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_FLOAT64);
    self->lower_method = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_UINT8);
    self->upper_method = (PyArrayObject *)PyArray_SimpleNew(1, &count, NPY_UINT8);
    return self->lower && self->upper && self->lower_method && self->upper_method ? 0 : -1;
}

static void answer_free(answer *self) {
    Py_XDECREF(self->lower);
    Py_XDECREF(self->upper);
    Py_XDECREF(self->lower_method);
    Py_XDECREF(self->upper_method);
}

static PyObject *violation_bracket(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *stage_objects, *rate_object, *deadline_object, *arrival_object = NULL, *result = NULL;
    int effort = EI_EFFORT_FAST;
    ei_arrival arrival = {.kind = EI_ARRIVAL_POISSON, .parameter = {1}};
    ei_stage_list list;
    PyArrayObject *rates = NULL, *deadlines = NULL;
    answer ends = {NULL, NULL, NULL, NULL};
    if (!PyArg_ParseTuple(arguments, "OOO|Oi:violation_bracket", &stage_objects, &rate_object,
                          &deadline_object, &arrival_object, &effort) ||
        (arrival_object != NULL && ei_read_arrival(arrival_object, &arrival) < 0) ||
        ei_stage_list_init(&list, stage_objects) < 0)
        return NULL;
    if (ei_read_elements(rate_object, deadline_object, &rates, &deadlines) < 0 ||
        answer_init(&ends, PyArray_SIZE(rates)) < 0)
        goto out;
    int status;
    Py_BEGIN_ALLOW_THREADS;
    status = ei_violation_bracket(
        list.stages, list.count, &arrival, (ei_effort)effort, (size_t)PyArray_SIZE(rates),
        PyArray_DATA(rates), PyArray_DATA(deadlines), PyArray_DATA(ends.lower), PyArray_DATA(ends.upper),
        PyArray_DATA(ends.lower_method), PyArray_DATA(ends.upper_method), ei_python_monitor());
    Py_END_ALLOW_THREADS;
    result = status == EI_OK ? PyTuple_Pack(4, ends.lower, ends.upper, ends.lower_method, ends.upper_method)
                             : ei_raise("violation_bracket", status);
out:
    Py_XDECREF(rates);
    Py_XDECREF(deadlines);
    answer_free(&ends);
    ei_stage_list_free(&list);
    return result;
}

static PyObject *queue_bracket(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *queue_object, *other_objects, *rate_object, *deadline_object, *result = NULL;
    ei_stage_list queue, others;
    PyArrayObject *rates = NULL, *deadlines = NULL;
    answer ends = {NULL, NULL, NULL, NULL};
    if (!PyArg_ParseTuple(arguments, "OOOO:queue_bracket", &queue_object, &other_objects, &rate_object,
                          &deadline_object) ||
        ei_stage_list_init(&queue, queue_object) < 0)
        return NULL;
    if (ei_stage_list_init(&others, other_objects) < 0) {
        ei_stage_list_free(&queue);
        return NULL;
    }
    if (queue.count != 1) {
        PyErr_SetString(PyExc_ValueError, "queue_bracket: the queue must be one stage");
        goto out;
    }
    if (ei_read_elements(rate_object, deadline_object, &rates, &deadlines) < 0 ||
        answer_init(&ends, PyArray_SIZE(rates)) < 0)
        goto out;
    int status;
    Py_BEGIN_ALLOW_THREADS;
    status = ei_single_bracket(queue.stages, others.stages, others.count, (size_t)PyArray_SIZE(rates),
                               PyArray_DATA(rates), PyArray_DATA(deadlines), PyArray_DATA(ends.lower),
                               PyArray_DATA(ends.upper), PyArray_DATA(ends.lower_method),
                               PyArray_DATA(ends.upper_method), ei_python_monitor());
    Py_END_ALLOW_THREADS;
    result = status == EI_OK ? PyTuple_Pack(4, ends.lower, ends.upper, ends.lower_method, ends.upper_method)
                             : ei_raise("queue_bracket", status);
out:
    Py_XDECREF(rates);
    Py_XDECREF(deadlines);
    answer_free(&ends);
    ei_stage_list_free(&queue);
    ei_stage_list_free(&others);
    return result;
}

static PyObject *several_servers_upper(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *stage_objects, *server_object, *arrival_object, *deadline_object;
    ei_arrival arrival;
    ei_stage_list list;
    PyArrayObject *servers = NULL, *deadlines = NULL, *upper = NULL;
    if (!PyArg_ParseTuple(arguments, "OOOO:several_servers_upper", &stage_objects, &server_object,
                          &arrival_object, &deadline_object) ||
        ei_read_arrival(arrival_object, &arrival) < 0 || ei_stage_list_init(&list, stage_objects) < 0)
        return NULL;
    servers = (PyArrayObject *)PyArray_FROMANY(server_object, NPY_UINTP, 1, 1, NPY_ARRAY_IN_ARRAY);
    deadlines = (PyArrayObject *)PyArray_FROMANY(deadline_object, NPY_FLOAT64, 0, 0, NPY_ARRAY_IN_ARRAY);
    if (servers == NULL || deadlines == NULL)
        goto out;
    if ((size_t)PyArray_SIZE(servers) != list.count) {
        PyErr_SetString(PyExc_ValueError, "servers must have an entry for each stage");
        goto out;
    }
    upper = (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM(deadlines), PyArray_DIMS(deadlines), NPY_FLOAT64);
    if (upper == NULL)
        goto out;
    int status;
    Py_BEGIN_ALLOW_THREADS;
    status = ei_several_servers_upper(list.stages, PyArray_DATA(servers), list.count, &arrival,
                                      (size_t)PyArray_SIZE(deadlines), PyArray_DATA(deadlines),
                                      PyArray_DATA(upper), ei_python_monitor());
    Py_END_ALLOW_THREADS;
    if (status != EI_OK) {
        ei_raise("several_servers_upper", status);
        Py_CLEAR(upper);
    }
out:
    Py_XDECREF(servers);
    Py_XDECREF(deadlines);
    ei_stage_list_free(&list);
    return (PyObject *)upper;
}

static PyObject *several_servers_wait_lower(PyObject *module, PyObject *arguments) {
    (void)module;
    double service;
    Py_ssize_t servers;
    PyObject *arrival_object, *time_object;
    ei_arrival arrival;
    if (!PyArg_ParseTuple(arguments, "dnOO:several_servers_wait_lower", &service, &servers, &arrival_object,
                          &time_object) ||
        ei_read_arrival(arrival_object, &arrival) < 0)
        return NULL;
    if (servers < 1) {
        PyErr_SetString(PyExc_ValueError, "servers must be >= 1");
        return NULL;
    }
    PyArrayObject *lower = NULL, *times = (PyArrayObject *)PyArray_FROMANY(time_object, NPY_FLOAT64, 0, 0,
                                                                           NPY_ARRAY_IN_ARRAY);
    if (times == NULL || (lower = (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM(times), PyArray_DIMS(times),
                                                                     NPY_FLOAT64)) == NULL)
        goto out;
    int status;
    Py_BEGIN_ALLOW_THREADS;
    status = ei_several_servers_wait_lower(service, (size_t)servers, &arrival, (size_t)PyArray_SIZE(times),
                                           PyArray_DATA(times), PyArray_DATA(lower), ei_python_monitor());
    Py_END_ALLOW_THREADS;
    if (status != EI_OK) {
        ei_raise("several_servers_wait_lower", status);
        Py_CLEAR(lower);
    }
out:
    Py_XDECREF(times);
    return (PyObject *)lower;
}

static PyMethodDef methods[] = {
    {"violation_bracket", violation_bracket, METH_VARARGS, "Certified bracket of P(W > deadline)."},
    {"queue_bracket", queue_bracket, METH_VARARGS, "Certified bracket of P(Wq + others > deadline)."},
    {"several_servers_upper", several_servers_upper, METH_VARARGS,
     "Upper ends of P(W > deadline) with several servers of one queue."},
    {"several_servers_wait_lower", several_servers_wait_lower, METH_VARARGS,
     "Lower ends of P(wait > time) at several servers of one queue."},
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
        [EI_BRACKET_SINGLE_QUEUE] = "single_queue",
        [EI_BRACKET_JOINT] = "joint",
        [EI_BRACKET_CONSTANT_FIRST] = "constant_first",
        [EI_BRACKET_CONSTANT_LAST] = "constant_last",
        [EI_BRACKET_EXPONENTIAL] = "exponential",
        [EI_BRACKET_TWO_STAGES] = "two_stages",
        [EI_BRACKET_ALONE] = "alone",
        [EI_BRACKET_TILTED] = "tilted",
        [EI_BRACKET_BLOCKS] = "blocks",
    };
    PyObject *tuple = PyTuple_New(EI_BRACKET_METHODS);
    if (tuple == NULL)
        return -1;
    for (Py_ssize_t i = 0; i < EI_BRACKET_METHODS; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);
        if (name == NULL || PyTuple_SetItem(tuple, i, name) < 0) {
            Py_DECREF(tuple);
            return -1;
        }
    }
    int failed = PyModule_AddObjectRef(module, "BRACKET_METHODS", tuple);
    Py_DECREF(tuple);
    return failed < 0 ? -1 : PyModule_AddFunctions(module, methods);
}
