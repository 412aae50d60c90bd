#define EI_GLUE_MAIN
#include "glue.h"

static PyObject *core_error, *too_large_error;

PyObject *ei_raise(const char *where, int status) {
    switch (status) {
    case EI_ERR_NO_MEMORY:
        return PyErr_NoMemory();
    case EI_ERR_INTERRUPTED:
        if (!PyErr_Occurred())
            PyErr_SetNone(PyExc_KeyboardInterrupt);
        return NULL;
    case EI_ERR_DOMAIN:
    case EI_ERR_EMPTY:
    case EI_ERR_UNSTABLE:
        return PyErr_Format(PyExc_ValueError, "%s: %s", where, ei_status_text(status));
    default:
        return PyErr_Format(status == EI_ERR_TOO_LARGE ? too_large_error : core_error, "%s: %s", where,
                            ei_status_text(status));
    }
}

int ei_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type) {
    if (*type == NULL) /* a module that is loaded again knows the objects of the first */
        *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *type == NULL ? -1 : PyModule_AddType(module, *type);
}

void ei_delete(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_Free(object);
    Py_DECREF(type); /* each instance of a type made at run time holds it */
}

static int poll_signals(void *context) {
    (void)context;
    PyGILState_STATE state = PyGILState_Ensure();
    int stop = PyErr_CheckSignals();
    PyGILState_Release(state);
    return stop;
}

ei_monitor ei_python_monitor(void) {
    return (ei_monitor){.poll = poll_signals, .context = NULL};
}

int ei_read_elements(PyObject *rate_object, PyObject *deadline_object, PyArrayObject **rates,
                     PyArrayObject **deadlines) {
    *rates = (PyArrayObject *)PyArray_FROMANY(rate_object, NPY_FLOAT64, 1, 1, NPY_ARRAY_IN_ARRAY);
    *deadlines = (PyArrayObject *)PyArray_FROMANY(deadline_object, NPY_FLOAT64, 1, 1, NPY_ARRAY_IN_ARRAY);
    if (*rates == NULL || *deadlines == NULL)
        return -1;
    if (PyArray_SIZE(*rates) != PyArray_SIZE(*deadlines)) {
        PyErr_SetString(PyExc_ValueError, "arrival_rate and deadline must have one length");
        return -1;
    }
    return 0;
}

static int execute(PyObject *module) {
    static int (*const topics[])(PyObject *) = {ei_add_fading,     ei_add_transfer, ei_add_service,
                                                ei_add_compound,   ei_add_bound,    ei_add_bracket,
                                                ei_add_simulation, ei_add_cell};
    if (PyArray_ImportNumPyAPI() < 0)
        return -1;
    import_umath1(-1);
    core_error = PyErr_NewExceptionWithDoc("edgeinfer._core.CoreError",
                                           "A computation of the core that could not be finished.",
                                           PyExc_RuntimeError, NULL);
    if (core_error == NULL || PyModule_AddObjectRef(module, "CoreError", core_error) < 0)
        return -1;
    too_large_error = PyErr_NewExceptionWithDoc(
        "edgeinfer._core.TooLargeError", "A computation of the core that would exceed its memory limit.",
        core_error, NULL);
    if (too_large_error == NULL || PyModule_AddObjectRef(module, "TooLargeError", too_large_error) < 0)
        return -1;
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++)
        if (topics[i](module) < 0)
            return -1;
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static struct PyModuleDef definition = {.m_base = PyModuleDef_HEAD_INIT,
                                        .m_name = "edgeinfer._core",
                                        .m_doc = "The C core of edgeinfer.",
                                        .m_size = 0,
                                        .m_slots = slots};

PyMODINIT_FUNC PyInit__core(void) {
    return PyModuleDef_Init(&definition);
}
