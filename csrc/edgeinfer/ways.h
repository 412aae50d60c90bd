/* Importance sampling of P(W > T) by a mixture over the lengths of paths (paths: rare.h): component J follows
 * a path through J jobs before the tagged one, all of it under one tilt sigma_J, and ends there.
 *
 * With M_k the transforms of the services, L(sigma) = E e^{-sigma t}, h_J(sigma) = L^J sum over n_1 + .. +
 * n_K = J of prod M_k^{n_k + 1} is the mean of sum e^{sigma P}, P the lengths of all paths of J jobs, and P(a
 * path of J jobs is longer than T) <= b_J = e^{-sigma_J T} h_J(sigma_J) by Markov's inequality, for sigma_J
 * about the best on a grid. Component J takes one of those paths in proportion to its term, tilts the times
 * on it, and draws all others plainly: its density over the plain one after J jobs is sum e^{sigma_J P} /
 * h_J, before them its conditional mean given what is drawn. Replications take component J with probability
 * b_J / S, S the sum of b_J, stop where any path is longer than T, with weight 1 / D, D the density of the
 * mixture (the balance heuristic), and have weight 0 where they end first.
 *
 * Unbiased, but for paths of more than the last J jobs: every stop at job J has a density, in component J at
 * least. Those left out add up to less than e^{-LEFT_OUT} S, again by Markov's inequality, at one sigma where
 * g = L max M_k < 1: h_{J+1} <= g h_J (J + K) / (J + 1), since each monomial of degree J + 1 is a factor
 * times one of degree J, counted degree times on the left, degree + 1 times over all K factors on the right.
 *
 * Weights: at a stop at job J a path is longer than T, so that D >= (b_J / S) e^{sigma_J T} / h_J = 1 / S. No
 * weight is beyond S, the union of the bounds, however far services reach beyond T, and whatever is before
 * the root of M L = 1: this holds where a single service is late, where rare.h's tilts overshoot. (A service
 * counts as the middle of its cell, which moves the bound a little, and no weight.)
 *
 * Arrivals that depend on each other (backward.h): N_J stands for L^J in h_J, and what is left of component J
 * at job i has the mean v_{J-i} of the state for L^{J-i}. Of those left out z^J N_J is below its bound.
 *
 * Paths' densities: with x_k = L M_k / g and A_k(i) the sum over ways to stage k of the likelihood ratios of
 * what is on them, in units of g a job, A_k' = (x_k A_k e^{-sigma t} / L + A_{k+1}') e^{sigma S_k} / M_k, one
 * recursion for all components of a sigma, with 1 / z for L behind arrivals that depend on each other. The
 * ways from stage k on through j jobs more have f_k(j) = x_k f_k(j - 1) + f_{k-1}(j), f_k(0) = 1, and D sums
 * A_k(i) f_k(J - i) / f_K(J) z^{-i} v_{J-i} / N_J over components and stages. */
#ifndef EDGEINFER_WAYS_H
#define EDGEINFER_WAYS_H

#include <stddef.h>
#include <stdint.h>

#include "edgeinfer/arrival.h"
#include "edgeinfer/parallel.h"
#include "edgeinfer/rng.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

typedef struct ei_ways ei_ways;

/* Given:    stages[stage_count] and arrival, of those that backward.h takes, which are kept: a stable system;
 *           deadline >= 0, s; monitor, polled
 * Returned: *self, the caller's, immutable; NULL on error; free(NULL) is legal. Links are followed into their
 * tails. Status:   EI_ERR_TOO_LARGE where paths of thousands of jobs count; EI_ERR_ACCURACY or
 * EI_ERR_TOO_LARGE where a link has no such tail; EI_ERR_DOMAIN, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_ways_new(ei_ways **self, const ei_service *stages, size_t stage_count,
                               const ei_arrival *arrival, double deadline, int with_tail, ei_monitor monitor);
void ei_ways_free(ei_ways *self);

/* log S: P(W > T) <= S (1 + e^{-LEFT_OUT}), for the tabulated laws. */
double ei_ways_log_bound(const ei_ways *self);

/* Whether the law of the k-th stage of mean > 0 ends short of where it may matter; *known: down to where P(S
 * > time) is followed. */
int ei_ways_ends_short(const ei_ways *self, size_t k, double *known);

/* Numbers that a draw works in. */
size_t ei_ways_scratch(const ei_ways *self);

/* The weight of a replication, over S; a negative status where `run` is stopped. *jobs counts those drawn. */
double ei_ways_draw(const ei_ways *self, ei_rng *rng, double *restrict scratch, uint64_t *jobs,
                    ei_parallel *run);

#endif
