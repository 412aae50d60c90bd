/* Quantiles for confidence intervals. */
#ifndef EDGEINFER_INTERVAL_H
#define EDGEINFER_INTERVAL_H

/* Quantile of Student's t with `freedom` > 0 degrees of freedom at `probability` in (0, 1); NaN outside. */
double ei_student_quantile(double probability, double freedom);

#endif
