#include "edgeinfer/interval.h"

#include <gsl/gsl_cdf.h>
#include <math.h>

double ei_student_quantile(double probability, double freedom) {
    if (!(probability > 0 && probability < 1 && freedom > 0))
        return NAN;
    return gsl_cdf_tdist_Pinv(probability, freedom);
}
