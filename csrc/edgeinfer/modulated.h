/* Markov-modulated Poisson arrivals seen from a request backwards in time: phases follow the reversed chain,
 * of rates stationary_j generator_ji / stationary_i from i to j, and with D those less the rates of arrivals
 * on the diagonal, L the latter, the time t to the request before, and the phase there, have the density e^{D
 * t} L. Seconds; matrices by rows. */
#ifndef EDGEINFER_MODULATED_H
#define EDGEINFER_MODULATED_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/status.h"

/* D into matrix[count][count]. */
void ei_modulated_reversed(const ei_arrival *self, double *matrix);

/* product[n][n] = left right, and is neither. */
void ei_modulated_multiply(const double *left, const double *right, double *product, size_t n);

/* Whether phases that are ahead in the order of their rates stay ahead: behind two phases of which one has
 * more arrivals, the rate at which it is left for those up to any phase below both, backwards in time, is the
 * smaller one, and for those from any phase above both on the larger one. Two phases always. */
int ei_modulated_is_monotone(const ei_arrival *self);

/* E[e^{-theta t}; phase at the end] into transform[count][count], theta >= 0: (theta - D)^{-1} L.
 * Status: EI_ERR_TOO_LARGE above EI_ARRIVAL_PHASES phases. */
EI_WARN_UNUSED int ei_modulated_transform(const ei_arrival *self, double theta, double *transform);

/* -log of the largest eigenvalue of that, from below by Collatz and Wielandt: the eigenvector's least ratio.
 * eigenvector[count]: right one, the least entry of a phase that requests meet 1; transform: as above, or
 * NULL. NaN above EI_ARRIVAL_PHASES phases. */
double ei_modulated_exponent(const ei_arrival *self, double theta, double *eigenvector, double *transform);

/* What paths through several stages of a walk add up to. With M the transform at theta, a stage of log MGF
 * c_k(theta) that takes n_k more jobs has the moment e^{n_k c_k} M^{n_k}: all numbers of jobs together alpha
 * prod_k (1 - e^{c_k} M)^{-1} g, alpha the phases' shares of requests, g_j = e^{theta end_j}. The logarithm
 * is convex in theta, since every term is a mean of exponentials. Each 1 - e^{c_k} M is eliminated without
 * pivots: it is an M-matrix, so that its inverse is positive and the sum converges, where all pivots are
 * positive.
 * Given:    cumulant[stages], c_k, and slope[stages], its derivative, s; end[count], s, NULL: 0
 * Returned: *value, the sum's logarithm from above, and its derivative, s; infinite where it does not
 * converge Status:   EI_ERR_NO_MEMORY. */
EI_WARN_UNUSED int ei_modulated_paths(const ei_arrival *self, double theta, size_t stages,
                                      const double *cumulant, const double *slope, const double *end,
                                      double *value, double *derivative);

/* Over one step h: decay = e^{D h}, first = int (1 - t / h) e^{D t} dt L, second = int t / h e^{D t} dt L,
 * over 0 .. h, by uniformization, sums of positive terms. The mass of t at point 0 is `first`, at 1 second +
 * decay first, and at each later one decay times that before.
 * Status: EI_ERR_TOO_LARGE where too much happens in a step, EI_ERR_NO_MEMORY. */
EI_WARN_UNUSED int ei_modulated_step(const ei_arrival *self, double step, double *decay, double *first,
                                     double *second);

#endif
