/* The rate of one slot of a Rayleigh-fading link in units of the bandwidth: r = log2(1 + s g), g ~ Exp(1). */
#ifndef EDGEINFER_RATE_H
#define EDGEINFER_RATE_H

#include <gsl/gsl_math.h>
#include <math.h>
#include <stddef.h>

typedef struct {
    double mean_snr; /* s, linear */
    double range;    /* P(r > range) = e^-80 < 1e-34: the largest rate that matters */
} ei_rate;

static inline ei_rate ei_rate_of(double mean_snr) {
    return (ei_rate){mean_snr, log1p(80 * mean_snr) / M_LN2};
}

static inline double ei_rate_density(const ei_rate *self, double r) {
    return M_LN2 / self->mean_snr * exp2(r) * exp(-expm1(M_LN2 * r) / self->mean_snr);
}

/* P(r < value). */
static inline double ei_rate_cdf(const ei_rate *self, double value) {
    return -expm1(-expm1(M_LN2 * value) / self->mean_snr);
}

/* P(r >= value). */
static inline double ei_rate_sf(const ei_rate *self, double value) {
    return exp(-expm1(M_LN2 * value) / self->mean_snr);
}

/* Nodes, descending, and weights of the n-point Gauss-Legendre rule on [-1, 1]. */
void ei_gauss_legendre(size_t n, double *restrict node, double *restrict weight);

#endif
