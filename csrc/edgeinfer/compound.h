/* The time of a random number of rounds: S = sum over n = 1 .. N of (X_n1 + .. + X_nm), all independent, each
 * round the services of m stages. Seconds.
 *
 * Law, certified from both sides. Constants of a round are summed to d; the other services are rounded up to
 * a lattice of step h, so that with k of them a round n d + (sum of the rounded services) - n k h <= S given
 * N = n <= n d + (sum of the rounded services), and n d is rounded down and up. Both ends are mixtures over n
 * of n-fold convolutions. They are taken by Fourier transform after the masses at t are weighed by e^{theta
 * t} and scaled to a sum of 1, theta > 0, for two theta, and each point takes the better answer. What comes
 * out is the weighed mass to delta = (moduli's error): with eta = ei_fourier_error, transforms are right to 2
 * eta (two sequences are one transform) and have moduli <= 1, so that products of n k of them are right to n
 * k (2 eta + 4 u) and their inverse to that + 2 eta. Upper ends take mass + delta, lower ones mass - delta -
 * alias, alias the mass beyond the transform's length by Chernoff's bound; it can only add to an upper end.
 * Beyond the lattice, an upper end is Chernoff's bound P(S > t) <= E e^{theta S} e^{-theta t}, which also
 * covers services longer than the lattice: S exceeds each of its parts. Services' laws known to a relative
 * error move a sum's survival function by no more than that each, as one after the other is replaced. */
#ifndef EDGEINFER_COMPOUND_H
#define EDGEINFER_COMPOUND_H

#include <stddef.h>

#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

/* ei_compound is declared in service.h. Given: stages[stage_count], copied, though what they point to is not
 * owned and must outlive the law; no stage may be a compound itself; rounds[round_count], P(N = n) for n = 0,
 * 1, ..: each >= 0, their sum 1 to within 1e-9. *self is the caller's to free, NULL on error; free(NULL) is
 * legal. Status: EI_ERR_EMPTY, EI_ERR_DOMAIN, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED, EI_ERR_TOO_LARGE (more
 * rounds than a lattice can tell apart). */
EI_WARN_UNUSED int ei_compound_new(ei_compound **self, const ei_service *stages, size_t stage_count,
                                   const double *rounds, size_t round_count, ei_monitor monitor);
void ei_compound_free(ei_compound *self);

/* Certified bounds of P(S > time), decreasing in time; 1 below 0. */
double ei_compound_upper(const ei_compound *self, double time);
double ei_compound_lower(const ei_compound *self, double time);

double ei_compound_mean(const ei_compound *self);     /* s; Wald: E[N] times that of a round */
double ei_compound_variance(const ei_compound *self); /* s^2; E[N] Var[X] + Var[N] E[X]^2 */
double ei_compound_minimum(const ei_compound *self);  /* infimum of the support, s */
double ei_compound_maximum(const ei_compound *self);  /* supremum of the support, s */
double ei_compound_extent(const ei_compound *self);   /* time with P(S > time) < 1e-20, s */
double ei_compound_abscissa(const ei_compound *self); /* supremum of theta with a finite MGF, 1/s */
/* log sum_n P(N = n) M(theta)^n, M the MGF of a round, and its derivative; either may be NULL. */
EI_WARN_UNUSED int ei_compound_log_mgf(const ei_compound *self, double theta, double *value,
                                       double *derivative);

/* What it was made of: stages of a round, and P(N = n), scaled to a sum of 1. */
const ei_service *ei_compound_stages(const ei_compound *self, size_t *count);
const double *ei_compound_rounds(const ei_compound *self, size_t *count);
size_t ei_compound_size(const ei_compound *self); /* bytes */

#endif
