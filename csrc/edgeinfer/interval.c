#include "edgeinfer/interval.h"

#include <gsl/gsl_cdf.h>
#include <math.h>

double ei_student_quantile(double probability, double freedom) {
    if (!(probability > 0 && probability < 1 && freedom > 0))
        return NAN;
    return gsl_cdf_tdist_Pinv(probability, freedom);
}

double ei_beta_quantile(double probability, double a, double b) {
    if (!(probability > 0 && probability < 1 && a > 0 && b > 0) || !isfinite(a) || !isfinite(b))
        return NAN;
    /* log(x / (1 - x)) is nearly normal where both parameters are large, and there GSL's series fails. */
    if (a > 1e4 && b > 1e4)
        return 1 / (1 + exp(-log(a / b) - (1 / b - 1 / a) / 2 -
                            sqrt(1 / a + 1 / b) * gsl_cdf_ugaussian_Pinv(probability)));
    double low = -745, high = 40;
    for (int i = 0; i < 80 && high - low > 1e-11; i++) {
        double middle = low + (high - low) / 2, x = 1 / (1 + exp(-middle));
        int above = probability < 0.5 ? gsl_cdf_beta_P(x, a, b) > probability
                                      : gsl_cdf_beta_Q(x, a, b) < 1 - probability;
        *(above ? &high : &low) = middle;
    }
    return 1 / (1 + exp(-high));
}
