/* The time of a transfer of whole blocks, each sent in a slot of its own and repeated until it gets through:
 * S = slot N, N the slots until `blocks` of them succeeded, each with probability p = 1 - outage = 1 - q
 * independently, so that N - blocks is negative binomial, P(N = m) = C(m - 1, blocks - 1) p^blocks q^(m -
 * blocks). Seconds.
 *
 * Masses come from their ratios P(N = m + 1) / P(N = m) = q m / (m - blocks + 1), outwards from the largest,
 * and are scaled to a sum of 1. All terms are positive, so that each is right to 3 u for every slot between
 * it and the largest one, and so are their sums; below 1e-290 of the largest they are left out. */
#ifndef EDGEINFER_REPETITION_H
#define EDGEINFER_REPETITION_H

#include <stddef.h>

#include "edgeinfer/status.h"

typedef struct ei_repetition ei_repetition;

/* Largest outage and mean number of slots, which keep the table below some 2e6 entries. */
#define EI_REPETITION_OUTAGE 0.999
#define EI_REPETITION_SLOTS 1e6

/* Given: blocks >= 1, outage in [0, EI_REPETITION_OUTAGE], blocks / (1 - outage) <= EI_REPETITION_SLOTS, slot
 * > 0 (s). *self is the caller's, immutable, NULL on error; free(NULL) is legal.
 * Status: EI_ERR_DOMAIN, EI_ERR_NO_MEMORY. */
EI_WARN_UNUSED int ei_repetition_new(ei_repetition **self, size_t blocks, double outage, double slot);
void ei_repetition_free(ei_repetition *self);

double ei_repetition_sf(const ei_repetition *self, double time); /* P(S > time); 1 below 0 */
double ei_repetition_accuracy(const ei_repetition *self);        /* relative error of that */
double ei_repetition_mean(const ei_repetition *self);            /* s */
double ei_repetition_variance(const ei_repetition *self);        /* s^2 */
double ei_repetition_minimum(const ei_repetition *self);         /* s */
double ei_repetition_extent(const ei_repetition *self);          /* time with P(S > time) < 1e-20, s */
double ei_repetition_abscissa(const ei_repetition *self); /* supremum of theta with a finite MGF, 1/s */
/* log E e^{theta S} = blocks log(p e^{theta slot} / (1 - q e^{theta slot})) and its derivative (s), +inf from
 * the abscissa on; either may be NULL. */
EI_WARN_UNUSED int ei_repetition_log_mgf(const ei_repetition *self, double theta, double *value,
                                         double *derivative);

/* P(N = first + i), i < count; owned by the law. */
const double *ei_repetition_masses(const ei_repetition *self, size_t *first, size_t *count);
double ei_repetition_slot(const ei_repetition *self);
/* The time with P(S > time - slot) >= u > P(S > time), u in (0, 1]: a draw where u is uniform. */
double ei_repetition_quantile(const ei_repetition *self, double u);

#endif
