/* One exponential server behind renewal arrivals (GI/M/1), whose law is known: a request finds n before it
 * with probability (1 - s) s^n, s the root in (0, 1) of s = E e^{-mu (1 - s) t}, t a time between arrivals
 * and 1 / mu the mean service, so that its sojourn time is exponential of rate theta = mu (1 - s). Seconds;
 * rates in 1/s.
 *
 * theta is the root on (0, mu) of f(x) = -log(1 - x / mu) + log E e^{-x t}, which is convex, 0 at 0 and falls
 * there, loads being below one: below the root f < 0, above it f > 0. Both terms, a and b, come with errors
 * of some roundings of themselves and of e^a - 1 <= a e^a, as 1 less a number near to one is taken: the rate
 * is moved down (upper end) or up (lower end) until the sign of f is beyond those. */
#ifndef EDGEINFER_GEOMETRIC_H
#define EDGEINFER_GEOMETRIC_H

#include "edgeinfer/ends.h"

/* Both ends of the sojourn time in `service`, exponential, behind a renewal process, whose rate the batch's
 * arrival need not have. Loads below one. */
void ei_geometric_ends(const ei_batch *self, const ei_service *service, const ei_arrival *arrival);

#endif
