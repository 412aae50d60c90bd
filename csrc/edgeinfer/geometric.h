/* One exponential server behind renewal arrivals (GI/M/1), whose law is known: a request finds n before it
 * with probability (1 - s) s^n, s the root in (0, 1) of s = E e^{-mu (1 - s) t}, t a time between arrivals
 * and 1 / mu the mean service, so that its sojourn time is exponential of rate theta = mu (1 - s). Seconds;
 * rates in 1/s.
 *
 * theta is the root on (0, mu) of f(x) = -log(1 - x / mu) + log E e^{-x t}, which is convex, 0 at 0 and falls
 * there, loads being below one: below the root f < 0, above it f > 0. Both terms, a and b, come with errors
 * of some roundings of themselves and of e^a - 1 <= a e^a, as 1 less a number near to one is taken: the rate
 * is moved down (upper end) or up (lower end) until the sign of f is beyond those. Above half of mu, where
 * that is much, the root is looked for in log s, of which f is the negative: nothing is taken from 1 there
 * but s.
 *
 * Stages behind it. The n + 1 services of the sojourn time R make (1 - s) s^n mu^{n+1} r^n / n! e^{-mu r} =
 * theta e^{-theta r} times Poisson's law of mean (mu - theta) r at n, and the n departures are spread over r
 * evenly: given R = r, those of a Poisson process of rate mu - theta. Lower end: R + V + B_0, V the work that
 * such departures have left after r seconds at the stage behind, empty at first, B_0 its own service. On a
 * lattice of step h V_{k+1} = (V_k + X - h)^+ in law with X what comes in a step, each departure put to its
 * end and each service rounded down; P(R + V > j h) >= P(R > j h) + sum_{k < j} P(k h < R <= (k + 1) h) P(V_k
 * >= (j - k) h), as V grows with R. What departures before the request's arrival leave is left out. Upper
 * end: chain.h. */
#ifndef EDGEINFER_GEOMETRIC_H
#define EDGEINFER_GEOMETRIC_H

#include "edgeinfer/ends.h"
#include "edgeinfer/walk.h"

/* theta from below (upper end) or above (lower end). */
double ei_geometric_rate(const ei_service *service, const ei_arrival *arrival, ei_end end);

/* Both ends of the sojourn time in `service`, exponential, behind a renewal process, whose rate the batch's
 * arrival need not have. Loads below one. */
void ei_geometric_ends(const ei_batch *self, const ei_service *service, const ei_arrival *arrival);

/* A lower bound of the law of R + V at `count` points of `step`; *self is the caller's to free, also after an
 * error. Status: EI_ERR_ACCURACY where loads are too small, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_geometric_behind(ei_lattice *self, const ei_service *service, const ei_arrival *arrival,
                                       const ei_added_stage *behind, double step, size_t count,
                                       ei_monitor monitor);

#endif
