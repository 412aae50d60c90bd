/* Upper bounds on the violation probability P(W > T) of a tandem of FIFO stages with renewal arrivals, or
 * Markov-modulated ones, by moment generating functions. All in the log domain, so that 1e-300 and below keep
 * their accuracy; 0 where no bound below one exists. kappa_k(theta) = log(M_k(theta) E e^{-theta t}), M_k the
 * MGF of stage k's service time and t an interarrival time: E e^{-theta t} = lambda / (lambda + theta) for
 * Poisson arrivals.
 *
 * Adjacent deterministic stages d, e are one stage first: (d + e) once and max(d, e) for every further job,
 * exactly. Deterministic stages with a random one between are not: with two jobs that arrive together, d X d
 * gives max(X1 + X2, d + X2, d + X1) + 2d where d d X gives max(X1 + X2, d + X2) + 2d.
 *
 * union: of the path representation W = max over n_1..n_K >= 0 of the sum of n_k + 1 services at each stage k
 * less the n_1 + .. + n_K interarrival times between, every term's exponential moment is prod_k M_k exp(n_k
 * kappa_k), so P(W > T) <= inf e^{-theta T} prod_k M_k / (1 - e^{kappa_k}). lundberg: the first stage's part
 * of a path is its far end; with the rest of the path fixed it is a random walk whose exponential is a
 * supermartingale where kappa_1 <= 0, so Doob's maximal inequality bounds its supremum by its first term: the
 * factor 1 / (1 - e^{kappa_1}) goes, and theta may reach the root of kappa_1, Lundberg's exponent. Behind
 * Markov-modulated arrivals E e^{-theta t} is a matrix M(theta) of phases: the sum over n_1..n_K is that of
 * modulated.h. The far end of a path is then a supermartingale with the factor g(J), J the phase reached, if
 * M_1 M g <= g. With h the right eigenvector of M(theta*), theta* the end of the interval, g = h^{theta /
 * theta*} is one for all theta: the entries of M_1 M are log-convex in theta, and 1 = g is one at 0, so
 * that Hoelder's inequality gives the others; and with h >= 1 where requests are, g >= 1 there. corrected,
 * for Poisson arrivals alone: equations (6)-(10) of the paper on the slot grid, for deterministic stages and
 * at most one random one. A stage of time d has S(tau) >= floor(tau / d); for services of MGF M started
 * afresh, E e^{-theta S(tau)} <= min(1, e^{theta - eta tau}) where M(eta) = e^theta (Wald). (The paper's
 * fluid link, E[e^{-theta R slot / J}]^tau, lets transfers share a slot, and can be faster than transfers
 * that start with a slot of their own.) A violation means A - S >= 1 for integers, and an interval without
 * arrivals violates nothing, so the sum starts at tau = 1; T is a slot shorter, since arrivals count at the
 * slot's end. printed: (7)-(12) to the letter. NOT a bound; kept for the record. */
#ifndef EDGEINFER_BOUND_H
#define EDGEINFER_BOUND_H

#include <stddef.h>

#include "edgeinfer/arrival.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

typedef enum { EI_BOUND_UNION, EI_BOUND_LUNDBERG, EI_BOUND_CORRECTED, EI_BOUND_PRINTED } ei_bound_method;

/* Given:    stages[stage_count]; method; arrival: a renewal process, of which element i has the shape at the
 * rate arrival_rate[i], or a Markov-modulated one (ei_arrival_has_bounds), whose mean rate that must be; NULL
 * for Poisson arrivals, which `corrected` and `printed` need; arrival_rate[count],
 *           1/s, > 0; deadline[count], s (any sign); slot, s, > 0: the grid of `corrected` and `printed`
 * Returned: log_bound[count] (<= 0), theta[count] that attains it (0 where the bound is 1)
 * Status:   EI_ERR_EMPTY, EI_ERR_DOMAIN (also a pipeline whose shape the method does not take),
 *           EI_ERR_TOO_LARGE, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED */
EI_WARN_UNUSED int ei_violation_bound(const ei_service *stages, size_t stage_count, ei_bound_method method,
                                      const ei_arrival *arrival, double slot, size_t count,
                                      const double *arrival_rate, const double *deadline, double *log_bound,
                                      double *theta, ei_monitor monitor);

/* The decay rate of P(W > T) that the bounds reach, 1/s: the least root of a kappa_k, or abscissa; 0 where a
 * stage is unstable. */
EI_WARN_UNUSED int ei_decay_rate(const ei_service *stages, size_t stage_count, const ei_arrival *arrival,
                                 double *value);

#endif
