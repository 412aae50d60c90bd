/* P(r_1 + .. + r_n + f r_{n+1} < c) for many slots, r_i the rates of independent slots. With K(z) = log
 * E[e^{-z r}] P(.. < c)  =  1 / (2 pi i) int e^{n K(z) + K(f z) + z c} dz / z  over Re z = sigma > 0, P(.. >=
 * c) = -1 / (2 pi i) int e^{n K(z) + K(f z) + z c} dz / z  over Re z = sigma < 0, by the trapezoidal rule
 * through the saddle point of the smaller of the two. A step of 2 pi / L adds to P(x < c) the terms e^{-sigma
 * m L} P(x < c + m L), m != 0: for m of sigma's sign at most e^{-|sigma| L}, for the other, in the tilted
 * law, beyond 16 standard deviations. E[e^{-z r}] is a sum over Gauss-Legendre nodes. Relative errors are
 * about 1e-15 times the slots, since n K(z) carries the rounding of K n times. n may be any real number: the
 * answer is then the analytic one between whole slots. */
#ifndef EDGEINFER_INVERSION_H
#define EDGEINFER_INVERSION_H

#include "edgeinfer/rate.h"
#include "edgeinfer/status.h"

typedef struct ei_inversion ei_inversion;

enum { EI_INVERSION_FRACTIONS = 12 }; /* fractions f of one call */

/* carry: c > 0. *self is owned by the caller, NULL on error; free(NULL) is legal. Status: EI_ERR_NO_MEMORY.
 */
EI_WARN_UNUSED int ei_inversion_new(ei_inversion **self, const ei_rate *rate, double carry);
void ei_inversion_free(ei_inversion *self);

/* Mean and standard deviation of one slot's rate. */
void ei_inversion_moments(const ei_inversion *self, double *mean, double *spread);

/* P(r_1 + .. + r_n >= c) < tail for n <= *first, and P(r_1 + .. + r_n < c) < tail for n >= *last, by
 * Chernoff's bound. */
void ei_inversion_span(const ei_inversion *self, double tail, double *first, double *last);

/* log E e^{-sigma r} at exponents that rise as far as the nodes resolve it: sigma[] and log_moment[], at most
 * `limit`, their number returned. By Chernoff, P(r_1 + .. + r_n < c) <= exp(sigma c + n log_moment). */
size_t ei_inversion_moments_below(const ei_inversion *self, size_t limit, double *sigma, double *log_moment);

/* logit[i][j] = log(P / (1 - P)) at n[i] > 0 and fraction[j] in [0, 1]; the n near each other, within about
 * the standard deviation of the number of slots. Status: EI_ERR_ACCURACY. */
EI_WARN_UNUSED int ei_inversion_logits(ei_inversion *self, size_t rows, const double *n,
                                       const double fraction[EI_INVERSION_FRACTIONS],
                                       double (*logit)[EI_INVERSION_FRACTIONS]);

#endif
