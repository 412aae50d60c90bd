/* Adding a stage to a chain whose arrivals are a renewal process, and a lower end of one stage's own queue.
 * Seconds.
 *
 * In the notation of walk.h u(y) = c(y) + (1 - c(y)) m(y), m(y) = E v(y + t), v(x) = E u(x - B), u = 1 below
 * zero. For an upper end (lower: c = 0) u is bounded by a function that is linear between the points of a
 * lattice of step h, and stays a bound when the right side is taken of it. At the points that is exact with
 * the laws of B and t split between the two points beside each value in proportion, which keeps their means:
 * the error of rounding, of order h, does not arise. Between the points E w(x - B) is not linear: B = (k + z)
 * h moves the kink of w at the point n to the inside of the cell n + k, so that the function is above its
 * chord by at most sum_k E[z (1 - z); cell k] (-w''_{j - k})^+ there, w'' the second difference, and below it
 * by as much with (w'')^+. This is added to both ends of the cell, or taken off. It is of order h^2; at zero,
 * where u jumps, of order h once a path. c is read at the point before.
 *
 * Upper ends begin with Chernoff's bound, which also stands beyond the lattice; lower ends with 0, which
 * stays there. Each sweep gives a bound, whenever it ends. Sums are taken by Fourier transform under a tilt,
 * so that small probabilities keep their accuracy, and their rounding errors, below 64 DBL_EPSILON times the
 * product of the norms, are added or taken off. */
#ifndef EDGEINFER_RENEWAL_H
#define EDGEINFER_RENEWAL_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/walk.h"

/* As ei_add_stage_poisson, any renewal arrivals but periodic ones; log_scale and decay are set, too. */
EI_WARN_UNUSED int ei_add_stage_renewal(ei_upper_law *self, const ei_upper_law *before,
                                        const ei_added_stage *stage, const ei_arrival *arrival, double step,
                                        size_t count, ei_monitor monitor);

/* A lower bound of the law of the stage's sojourn time, waiting time for a deterministic one, at `count`
 * points of `step`. *self is the caller's to free, also after an error. */
EI_WARN_UNUSED int ei_renewal_sojourn_lower(ei_lattice *self, const ei_added_stage *stage,
                                            const ei_arrival *arrival, double step, size_t count,
                                            ei_monitor monitor);

#endif
