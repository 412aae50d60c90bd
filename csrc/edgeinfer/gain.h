/* Power gains of fading: the largest of `users` independent gains, each `scale` times a Gamma(shape + N)
 * variable, N ~ Poisson(mixing). That is the field's common laws:
 *   Rayleigh                  shape 1, mixing 0, scale 1
 *   Nakagami m                shape m, mixing 0, scale 1 / m
 *   Rician K                  shape 1, mixing K, scale 1 / (1 + K)
 *   L branches, maximal ratio shape and mixing L times those of a branch, its scale (the mean is then L)
 *   best of n users           users n */
#ifndef EDGEINFER_GAIN_H
#define EDGEINFER_GAIN_H

#include "edgeinfer/rng.h"
#include "edgeinfer/status.h"

typedef struct {
    double shape;  /* in [0.1, 1e4], a whole number where mixing > 0 */
    double mixing; /* in [0, 1e4] */
    double scale;  /* > 0 */
    double users;  /* a whole number in [1, 1e4] */
} ei_gain;

static inline ei_gain ei_gain_rayleigh(void) {
    return (ei_gain){1, 0, 1, 1};
}

/* Status: EI_ERR_DOMAIN for parameters outside their range. */
EI_WARN_UNUSED int ei_gain_verify(const ei_gain *self);

/* P(g <= x) and P(g > x), x >= 0; relative errors of both are below 1e-11, of shapes below 100 below 1e-13,
 * down to 1e-250, below which they may be 0. Series of positive terms: of the gamma law's two tails, and over
 * N from where its terms are largest. */
void ei_gain_tails(const ei_gain *self, double x, double *below, double *above);

/* Density at x >= 0, inf at 0 where power < 1. Relative error as of the tails. */
double ei_gain_density(const ei_gain *self, double x);

/* log of what the density over x^(power - 1) tends to as x -> 0. */
double ei_gain_log_start(const ei_gain *self);

/* P(g <= x) ~ x^power as x -> 0. */
static inline double ei_gain_power(const ei_gain *self) {
    return self->shape * self->users;
}

/* A gain by rejection (Marsaglia and Tsang, ACM TOMS 26, 2000, and the polar method), of operations whose
 * bits are the same on every machine. */
double ei_gain_draw(const ei_gain *self, ei_rng *rng);

#endif
