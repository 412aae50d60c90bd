/* Certified two-sided brackets of the violation probability P(W > T) of a tandem with Poisson arrivals.
 *
 * With one random stage the deterministic stages before and after it merge exactly into a constant and one
 * server each: D (d1), X, D (d3), dm = max(d1, d3). The path representation in reversed time, S_m the sum of
 * m interarrival times and X_0, X_1, .. the service times from the last job backwards, reads W = sup over 0
 * <= l <= m of [d3 (l + 1) + X_l + .. + X_k + d1 (m - k + 1) - S_m], l <= k <= m. Wq(S) is the waiting time
 * of the M/G/1 queue with service S, independent of what it is added to.
 *
 * A deterministic stage beside a random one all of whose services are as long is a delay alone, of any
 * pipeline and behind any arrivals: a path that is in it for several jobs is no longer than one that is in
 * the random stage for these and in it for one of them. It is left out, and its time of the deadline.
 *
 * Lower ends.
 * queue: fix the switching jobs so that one job only uses X: W >= d1 + d3 + X + Wq(dm).
 * link: keep all jobs on X: W >= d1 + d3 + X + Wq(X).
 * handover: handover.h.
 *
 * Upper ends.
 * single_server: every job of a path costs at most Y = max(dm, X), and the two that switch d1 and d3 more: W
 * <= d1 + d3 + Y + Wq(Y). overtaking, associated: associated.h. moments: the bounds of bound.h, and the only
 * ones for pipelines with several random stages.
 *
 * joint: both ends, joint.h.
 *
 * first_handover: handover.h. A random stage alone: single.h; an exponential one behind renewal arrivals:
 * geometric.h, behind Markov-modulated ones: ladder.h.
 *
 * Lattices round services up and interarrival times down for upper ends, the other way for lower ends. */
#ifndef EDGEINFER_BRACKET_H
#define EDGEINFER_BRACKET_H

#include <stddef.h>
#include <stdint.h>

#include "edgeinfer/ends.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

/* Given:    stages[stage_count]; arrival: a renewal process, of which element i has the shape at the rate
 *           arrival_rate[i], or a Markov-modulated one (ei_arrival_has_bounds), NULL for Poisson arrivals;
 *           arrival_rate[count], 1/s, > 0; deadline[count], s, any sign, may be inf
 * effort:   joint.h is tried where ends are more than 1.9 apart, with the work of TIGHT where they stay so,
 *           or, TIGHT, where they are 1.04 apart, or, LIGHT, not at all;
 *           TIGHT before all else where three stages are nearly as slow as each other and the random one
 *           spreads. The lattice of pair_upper.h is finer, or, LIGHT, there is none
 * Returned: lower[count] <= P(W > deadline) <= upper[count], and which formula gave each
 * Status:   EI_ERR_EMPTY, EI_ERR_DOMAIN, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED, EI_ERR_TOO_LARGE */
EI_WARN_UNUSED int ei_violation_bracket(const ei_service *stages, size_t stage_count,
                                        const ei_arrival *arrival, ei_effort effort, size_t count,
                                        const double *arrival_rate, const double *deadline, double *lower,
                                        double *upper, uint8_t *lower_method, uint8_t *upper_method,
                                        ei_monitor monitor);

#endif
