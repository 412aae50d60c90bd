#include "glue.h"

#include "edgeinfer/fading.h"
#include "edgeinfer/interval.h"

#include <fenv.h>

#define ARGUMENT(i) (*(double *)(arguments[i] + k * steps[i]))
#define GAIN(i) (&(ei_gain){ARGUMENT(i), ARGUMENT(i + 1), ARGUMENT(i + 2), ARGUMENT(i + 3)})

static void mean_rate_loop(char **arguments, const npy_intp *dimensions, const npy_intp *steps, void *data) {
    (void)data;
    for (npy_intp k = 0; k < dimensions[0]; k++)
        *(npy_int *)(arguments[7] + k * steps[7]) =
            ei_faded_rate(ARGUMENT(0), ARGUMENT(1), GAIN(2), (double *)(arguments[6] + k * steps[6]));
    feclearexcept(FE_ALL_EXCEPT); /* the status says it; NumPy need not warn */
}

static void log_slot_mgf_loop(char **arguments, const npy_intp *dimensions, const npy_intp *steps,
                              void *data) {
    (void)data;
    for (npy_intp k = 0; k < dimensions[0]; k++)
        *(npy_int *)(arguments[7] + k * steps[7]) =
            ei_faded_log_slot_mgf(ARGUMENT(0), ARGUMENT(1), GAIN(2), (double *)(arguments[6] + k * steps[6]));
    feclearexcept(FE_ALL_EXCEPT); /* the status says it; NumPy need not warn */
}

static void gain_law_loop(char **arguments, const npy_intp *dimensions, const npy_intp *steps, void *data) {
    (void)data;
    for (npy_intp k = 0; k < dimensions[0]; k++) {
        ei_gain_tails(GAIN(1), ARGUMENT(0), &ARGUMENT(5), &ARGUMENT(6));
        ARGUMENT(7) = ei_gain_density(GAIN(1), ARGUMENT(0));
    }
    feclearexcept(FE_ALL_EXCEPT);
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
    static const char faded[] = {NPY_DOUBLE, NPY_DOUBLE, NPY_DOUBLE, NPY_DOUBLE,
                                 NPY_DOUBLE, NPY_DOUBLE, NPY_DOUBLE, NPY_INT};
    static const char reals[] = {NPY_DOUBLE, NPY_DOUBLE, NPY_DOUBLE, NPY_DOUBLE};
    static PyUFuncGenericFunction mean_rate[] = {mean_rate_loop};
    static PyUFuncGenericFunction log_slot_mgf[] = {log_slot_mgf_loop};
    static const char gains[] = {NPY_DOUBLE, NPY_DOUBLE, NPY_DOUBLE, NPY_DOUBLE,
                                 NPY_DOUBLE, NPY_DOUBLE, NPY_DOUBLE, NPY_DOUBLE};
    static PyUFuncGenericFunction gain_law[] = {gain_law_loop};
    static PyUFuncGenericFunction student_quantile[] = {student_quantile_loop};
    static PyUFuncGenericFunction beta_quantile[] = {beta_quantile_loop};
    if (add_ufunc(module, "mean_rate", mean_rate, faded, 6, 2,
                  "(bandwidth, mean_snr, shape, mixing, scale, users) -> (bit/s, status)") < 0 ||
        add_ufunc(module, "log_slot_mgf", log_slot_mgf, faded, 6, 2,
                  "(a, mean_snr, shape, mixing, scale, users) -> (log E[(1 + s g)^-a], status)") < 0 ||
        add_ufunc(module, "gain_law", gain_law, gains, 5, 3,
                  "(gain, shape, mixing, scale, users) -> (P(g <= gain), P(g > gain), density)") < 0 ||
        add_ufunc(module, "student_quantile", student_quantile, reals, 2, 1,
                  "(probability, degrees of freedom) -> quantile of Student's t") < 0)
        return -1;
    return add_ufunc(module, "beta_quantile", beta_quantile, reals, 3, 1,
                     "(probability, a, b) -> quantile of the beta law");
}
