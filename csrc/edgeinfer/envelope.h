/* The cheapest combination of functions that lies above another: a linear program of few variables and many
 * rows, by the dual simplex method. A row that rounding leaves violated is for the caller to see. */
#ifndef EDGEINFER_ENVELOPE_H
#define EDGEINFER_ENVELOPE_H

#include <stddef.h>

enum { EI_ENVELOPE_WIDTH = 10 };

/* x[width], width <= EI_ENVELOPE_WIDTH, with weight . x least, weight >= 0, under row . x >= target for each
 * of rows[count][width], -limit <= x_i <= limit, and x_0 >= 0: near to it, where there is one. */
void ei_envelope_fit(const double *rows, const double *target, size_t count, size_t width,
                     const double *weight, double limit, double *x);

#endif
