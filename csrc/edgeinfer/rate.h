/* The rate of one slot of a fading link in units of the bandwidth: r = log2(1 + s g), g a gain (gain.h).
 * Every law of a link is made from these functions alone. */
#ifndef EDGEINFER_RATE_H
#define EDGEINFER_RATE_H

#include <gsl/gsl_math.h>
#include <math.h>
#include <stddef.h>

#include "edgeinfer/gain.h"
#include "edgeinfer/status.h"

typedef struct {
    double mean_snr; /* s, linear */
    double range;    /* P(r > range) = e^-80 < 1e-34: the largest rate that matters */
    double low;      /* P(r < low) = e^-80, the smallest; 0 where that is far below the range */
    double spread;   /* standard deviation; NaN of Rayleigh fading, which does not need it */
    double power;    /* P(r < x) ~ x^power as x -> 0; 0 where that is 1 or makes the density smooth */
    ei_gain gain;
    int rayleigh; /* closed forms */
} ei_rate;

static inline ei_rate ei_rate_of(double mean_snr) {
    return (ei_rate){.mean_snr = mean_snr,
                     .range = log1p(80 * mean_snr) / M_LN2,
                     .spread = NAN,
                     .gain = ei_gain_rayleigh(),
                     .rayleigh = 1};
}

/* Given: mean_snr > 0, gain. Status: EI_ERR_DOMAIN, also where 1 + s g rounds to 1. */
EI_WARN_UNUSED int ei_rate_init(ei_rate *self, double mean_snr, const ei_gain *gain);

double ei_rate_faded_density(const ei_rate *self, double r);
double ei_rate_faded_cdf(const ei_rate *self, double value);
double ei_rate_faded_sf(const ei_rate *self, double value);

static inline double ei_rate_density(const ei_rate *self, double r) {
    if (!self->rayleigh)
        return ei_rate_faded_density(self, r);
    return M_LN2 / self->mean_snr * exp2(r) * exp(-expm1(M_LN2 * r) / self->mean_snr);
}

/* P(r < value). */
static inline double ei_rate_cdf(const ei_rate *self, double value) {
    if (!self->rayleigh)
        return ei_rate_faded_cdf(self, value);
    return -expm1(-expm1(M_LN2 * value) / self->mean_snr);
}

/* P(r >= value). */
static inline double ei_rate_sf(const ei_rate *self, double value) {
    if (!self->rayleigh)
        return ei_rate_faded_sf(self, value);
    return exp(-expm1(M_LN2 * value) / self->mean_snr);
}

/* What density / r^(power - 1) tends to as r -> 0. */
double ei_rate_start(const ei_rate *self);

/* E[r] and the standard deviation of r, each to 1e-12 relative, and log E[e^{-exponent ln 2 r}] = log E[(1 +
 * s g)^-exponent], exponent >= 0, to 1e-11 of the MGF; of any fading but Rayleigh, whose closed forms are in
 * fading.h. */
void ei_rate_moments(const ei_rate *self, double *mean, double *spread);
double ei_rate_log_mgf(const ei_rate *self, double exponent);

/* Nodes, descending, and weights of the n-point Gauss-Legendre rule on [-1, 1]. */
void ei_gauss_legendre(size_t n, double *restrict node, double *restrict weight);

/* The same for integrals over [0, 1], ascending, of what goes like a power of the distance from either end,
 * `power` > 0 the least power of their integrals: Gauss-Legendre after a substitution that flattens both
 * ends. */
void ei_flattened_legendre(size_t n, double power, double *restrict node, double *restrict weight);

#endif
