/* Sums of many weighted exponentials, as moments by quadrature are. */
#ifndef EDGEINFER_EXPONENTIAL_SUMS_H
#define EDGEINFER_EXPONENTIAL_SUMS_H

#include <stddef.h>

enum { EI_EXPONENTIALS = 8 /* terms that are summed side by side */ };

/* sums[0] = sum of weight[i] e^{x_i}, sums[1] = sum of weight[i] time[i] e^{x_i}, x_i = theta time[i] - peak,
 * over i < count, a multiple of EI_EXPONENTIALS; the same bits on every processor. peak is at least every
 * theta time[i] whose weight is not 0. Each e^x has a relative error <= 4e-16, but that x < -700 counts as
 * -700: e^-700 is 1e-304. NaN where theta time[i] or peak is infinite. */
void ei_exponential_sums(size_t count, const double *time, const double *weight, double theta, double peak,
                         double sums[2]);

#endif
