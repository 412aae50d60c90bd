/* Markov-modulated Poisson arrivals seen from a request backwards in time: phases follow the reversed chain,
 * of rates stationary_j generator_ji / stationary_i from i to j, and with D those less the rates of arrivals
 * on the diagonal, L the latter, the time t to the request before, and the phase there, have the density e^{D
 * t} L. Seconds; matrices by rows. */
#ifndef EDGEINFER_MODULATED_H
#define EDGEINFER_MODULATED_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/status.h"

/* E[e^{-theta t}; phase at the end] into transform[count][count], theta >= 0: (theta - D)^{-1} L.
 * Status: EI_ERR_NO_MEMORY. */
EI_WARN_UNUSED int ei_modulated_transform(const ei_arrival *self, double theta, double *transform);

/* -log of the largest eigenvalue of that. Infinite without memory. */
double ei_modulated_exponent(const ei_arrival *self, double theta);

/* Over one step h: decay = e^{D h}, first = int (1 - t / h) e^{D t} dt L, second = int t / h e^{D t} dt L,
 * over 0 .. h, by uniformization, sums of positive terms. The mass of t at point 0 is `first`, at 1 second +
 * decay first, and at each later one decay times that before.
 * Status: EI_ERR_TOO_LARGE where too much happens in a step, EI_ERR_NO_MEMORY. */
EI_WARN_UNUSED int ei_modulated_step(const ei_arrival *self, double step, double *decay, double *first,
                                     double *second);

#endif
