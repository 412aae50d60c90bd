/* Exact law of the transfer time X of J bits over a fading link with independent slots.
 *   slot rate R = W log2(1 + s g), g the gain, W = (1 - xi) B the effective bandwidth
 *   P(X > (n + f) slot) = P(R_1 + .. + R_n + f R_{n+1} < J / slot)
 * X has a density on (0, inf); time is in seconds throughout. */
#ifndef EDGEINFER_TRANSFER_H
#define EDGEINFER_TRANSFER_H

#include <stddef.h>

#include "edgeinfer/rate.h"
#include "edgeinfer/status.h"

typedef struct ei_transfer ei_transfer;

/* Builds the law of Rayleigh fading, g ~ Exp(1). Given: bits J > 0 (bit), bandwidth W > 0 (Hz, control
 * overhead already taken off), mean_snr s > 0 (linear), slot > 0 (s); monitor, polled. On success *self is
 * owned by the caller, immutable, and may be read from any number of threads; free with ei_transfer_free
 * (NULL is legal). On error *self is NULL. Tested from -40 to 90 dB, and from 1e-12 to 1e7 slots a transfer:
 * some 0.1 s at most, and below 1 MB kept. Status: EI_ERR_DOMAIN, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED,
 * EI_ERR_ACCURACY (beyond 1e8 slots). */
EI_WARN_UNUSED int ei_transfer_new(ei_transfer **self, double bits, double bandwidth, double mean_snr,
                                   double slot, ei_monitor monitor);
/* The same of any fading; a law that is narrow, or a broken power near 0, takes a few times longer. */
EI_WARN_UNUSED int ei_transfer_new_faded(ei_transfer **self, double bits, double bandwidth, double mean_snr,
                                         const ei_gain *gain, double slot, ei_monitor monitor);
/* The same law with its tail followed to P(X > time) = `tail`, 1e-289 .. 1e-20, to 1e-6 relative, but for
 * where fading so narrow that its least rates count ends it before. Up to thousands of slots more take up to
 * a second. */
EI_WARN_UNUSED int ei_transfer_new_tail(ei_transfer **self, const ei_transfer *law, double tail,
                                        ei_monitor monitor);
void ei_transfer_free(ei_transfer *self);

/* What the law was built from: bit, Hz, linear, s. */
void ei_transfer_parameters(const ei_transfer *self, double *bits, double *bandwidth, double *mean_snr,
                            double *slot);
/* The law of a slot's rate, which lives as long as the transfer's. */
const ei_rate *ei_transfer_rate(const ei_transfer *self);

/* P(X > time) and P(X <= time), each to 1e-6 relative down to 1e-12 and below, monotone in time to 1e-9
 * relative. After the first slot either is cut off near 1e-20. time < 0 counts as 0; +inf gives 0 and 1; NaN
 * gives NaN. */
double ei_transfer_sf(const ei_transfer *self, double time);
double ei_transfer_cdf(const ei_transfer *self, double time);
/* The former at count points i step, the same bits in a fraction of the time: sf[count]. */
void ei_transfer_sf_grid(const ei_transfer *self, double step, size_t count, double *sf);

/* Relative accuracy of sf that the two-sided bracket must allow for: |computed / true - 1| <= this, for sf >=
 * 1e-15; below it the absolute error is at most 1e-20. */
double ei_transfer_accuracy(const ei_transfer *self);

/* P(X > time) is followed down to this. */
double ei_transfer_tail(const ei_transfer *self);

/* Bytes that the law takes. */
size_t ei_transfer_size(const ei_transfer *self);

/* E[X] (s) and Var[X] (s^2). */
double ei_transfer_mean(const ei_transfer *self);
double ei_transfer_variance(const ei_transfer *self);

/* Time beyond which sf(time) < 1e-20 (s): where lattices over this law may end. */
double ei_transfer_extent(const ei_transfer *self);

/* log E[exp(theta X)], from above, and its derivative in theta (s); theta (1/s) of either sign. Beyond the m
 * slots where the tables end, for the best of some sigma > 0, P(X > (m + k) slot) = P(r_1 + .. + r_{m+k} < c)
 * <= e^{sigma c} (E e^{-sigma r})^{m+k},   k = 0, 1, .., or at most P(X > m slot) P(r < c)^k, for later slots
 * are independent and carry less than all each; what comes between k and k + 1 counts as if it came at k + 1,
 * and the sum over k is geometric. +inf where theta >= the abscissa. Either output may be NULL. */
EI_WARN_UNUSED int ei_transfer_log_mgf(const ei_transfer *self, double theta, double *value,
                                       double *derivative);
/* Supremum of theta up to which log_mgf is finite (1/s), as far as the bounds beyond the tables go; the law's
 * own is infinite. */
double ei_transfer_abscissa(const ei_transfer *self);

#endif
