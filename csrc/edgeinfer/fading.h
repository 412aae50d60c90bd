/* Mean rate and moment generating function of a fading slot, R = W log2(1 + s g); closed forms of Rayleigh
 * fading, g ~ Exp(1). */
#ifndef EDGEINFER_FADING_H
#define EDGEINFER_FADING_H

#include "edgeinfer/gain.h"
#include "edgeinfer/status.h"

/* Ergodic rate E[R] = (W / ln 2) e^{1/s} E1(1/s).
 * Given:    bandwidth W, Hz, > 0;  mean_snr s, linear, > 0
 * Returned: rate, bit/s (NaN on error)
 * Status:   EI_ERR_DOMAIN */
EI_WARN_UNUSED int ei_ergodic_rate(double bandwidth, double mean_snr, double *rate);

/* log E[(1 + s g)^-a] = log((1/s) U(1, 2 - a, 1/s)) (Tricomi's U).
 * With a = theta W slot / ln 2 this is the MGF of a slot's bits at -theta. Computed by the trapezoidal rule
 * on log log(1 + s g), a positive integrand that decays exponentially at one end and doubly exponentially at
 * the other: relative error of the MGF <= 1e-12 for s in [1e-3, 1e4], a in [1e-3, 1e3].
 * Given:    exponent a >= 0;  mean_snr s > 0
 * Returned: value (NaN on error)
 * Status:   EI_ERR_DOMAIN */
EI_WARN_UNUSED int ei_log_slot_mgf(double exponent, double mean_snr, double *value);

/* The same of any gain: the closed forms where it is that of Rayleigh, else quadrature of positive terms,
 * both to 1e-11 relative, log_mgf down to -650. Status: EI_ERR_DOMAIN. */
EI_WARN_UNUSED int ei_faded_rate(double bandwidth, double mean_snr, const ei_gain *gain, double *rate);
EI_WARN_UNUSED int ei_faded_log_slot_mgf(double exponent, double mean_snr, const ei_gain *gain,
                                         double *value);

#endif
