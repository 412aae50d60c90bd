/* Quantiles for confidence intervals. */
#ifndef EDGEINFER_INTERVAL_H
#define EDGEINFER_INTERVAL_H

/* Quantile of Student's t with `freedom` > 0 degrees of freedom at `probability` in (0, 1); NaN outside. */
double ei_student_quantile(double probability, double freedom);

/* Quantile of the beta law with parameters a, b > 0 at `probability` in (0, 1); NaN outside. Relative error
 * below 1e-6, or, where both parameters are above 10^4, an error below 1e-2 standard deviations. */
double ei_beta_quantile(double probability, double a, double b);

#endif
