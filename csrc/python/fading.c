#include "glue.h"

#include "edgeinfer/fading.h"
#include "edgeinfer/interval.h"

#include <fenv.h>

static void ergodic_rate_loop(char **arguments, const npy_intp *dimensions, const npy_intp *steps,
                              void *data) {
    (void)data;
    for (npy_intp i = 0; i < dimensions[0]; i++)
        *(npy_int *)(arguments[3] + i * steps[3]) = ei_ergodic_rate(*(double *)(arguments[0] + i * steps[0]),
                                                                    *(double *)(arguments[1] + i * steps[1]),
                                                                    (double *)(arguments[2] + i * steps[2]));
    feclearexcept(FE_ALL_EXCEPT); /* the status says it; NumPy need not warn */
}

static void log_slot_mgf_loop(char **arguments, const npy_intp *dimensions, const npy_intp *steps,
                              void *data) {
    (void)data;
    for (npy_intp i = 0; i < dimensions[0]; i++)
        *(npy_int *)(arguments[3] + i * steps[3]) = ei_log_slot_mgf(
            *(double *)(arguments[0] + i * steps[0]), *(double *)(arguments[1] + i * steps[1]),
            (double *)(arguments[2] + i * steps[2]), NULL);
    feclearexcept(FE_ALL_EXCEPT); /* the status says it; NumPy need not warn */
}

static void student_quantile_loop(char **arguments, const npy_intp *dimensions, const npy_intp *steps,
                                  void *data) {
    (void)data;
    for (npy_intp i = 0; i < dimensions[0]; i++)
        *(double *)(arguments[2] + i * steps[2]) = ei_student_quantile(
            *(double *)(arguments[0] + i * steps[0]), *(double *)(arguments[1] + i * steps[1]));
    feclearexcept(FE_ALL_EXCEPT); /* the status says it; NumPy need not warn */
}

static void beta_quantile_loop(char **arguments, const npy_intp *dimensions, const npy_intp *steps,
                               void *data) {
    (void)data;
    for (npy_intp i = 0; i < dimensions[0]; i++)
        *(double *)(arguments[3] + i * steps[3]) = ei_beta_quantile(*(double *)(arguments[0] + i * steps[0]),
                                                                    *(double *)(arguments[1] + i * steps[1]),
                                                                    *(double *)(arguments[2] + i * steps[2]));
    feclearexcept(FE_ALL_EXCEPT); /* the status says it; NumPy need not warn */
}

static int add_ufunc(PyObject *module, const char *name, PyUFuncGenericFunction *loop, const char *types,
                     int inputs, int outputs, const char *documentation) {
    static void *const data[] = {NULL};
    PyObject *ufunc =
        PyUFunc_FromFuncAndData(loop, data, types, 1, inputs, outputs, PyUFunc_None, name, documentation, 0);
    int result = ufunc == NULL ? -1 : PyModule_AddObjectRef(module, name, ufunc);
    Py_XDECREF(ufunc);
    return result;
}

int ei_add_fading(PyObject *module) {
    static const char with_status[] = {NPY_DOUBLE, NPY_DOUBLE, NPY_DOUBLE, NPY_INT};
    static const char reals[] = {NPY_DOUBLE, NPY_DOUBLE, NPY_DOUBLE, NPY_DOUBLE};
    static PyUFuncGenericFunction ergodic_rate[] = {ergodic_rate_loop};
    static PyUFuncGenericFunction log_slot_mgf[] = {log_slot_mgf_loop};
    static PyUFuncGenericFunction student_quantile[] = {student_quantile_loop};
    static PyUFuncGenericFunction beta_quantile[] = {beta_quantile_loop};
    if (add_ufunc(module, "ergodic_rate", ergodic_rate, with_status, 2, 2,
                  "(bandwidth, mean_snr) -> (bit/s, status)") < 0 ||
        add_ufunc(module, "log_slot_mgf", log_slot_mgf, with_status, 2, 2,
                  "(a, mean_snr) -> (log E[(1 + s g)^-a], status)") < 0 ||
        add_ufunc(module, "student_quantile", student_quantile, reals, 2, 1,
                  "(probability, degrees of freedom) -> quantile of Student's t") < 0)
        return -1;
    return add_ufunc(module, "beta_quantile", beta_quantile, reals, 3, 1,
                     "(probability, a, b) -> quantile of the beta law");
}
