/* Importance sampling of P(W > T), W the stationary sojourn time of a tandem with renewal arrivals, by a
 * mixture over the ways through the stages; by that of ways.h where P(W > T) is small and the tilts below lie
 * where the table of a link has ended, and behind arrivals that depend on each other.
 *
 * Jobs are counted backwards from the tagged one, 0. With t the interarrival times, P_k the longest path of
 * the jobs so far that has reached stage k (paths start at the last stage K and move towards stage 1): P_K' =
 * P_K - t + S_K,  P_k' = max(P_k - t, P_{k+1}') + S_k. W > T iff P_1 > T at some job, and at once where any
 * P_k > T, since that path may move on with the same job.
 *
 * A hidden chain follows a path: on stage k, after its service, with the gap y = T - P_k, it moves on to k -
 * 1 at the same job with probability p_k(y), else it stays until the next job. While it is on k interarrival
 * times and the services of k are tilted by sigma_k(y), a service that it enters from k + 1 by s_k(y); all
 * other services are drawn plainly. Given all draws, the density of the draws over the plain one, summed over
 * all hidden paths, is D = sum_k alpha_k, and follows by alpha_k' = (1 - p_k) [alpha_k e^{-sigma t} /
 * L(sigma) e^{sigma S_k} / M_k(sigma)
 *              + p_{k+1} v_{k+1} e^{s S_k} / M_k(s)],
 * v the bracket of the stage entered from and L(sigma) = E e^{-sigma t}: tilts and p are functions of the
 * past draws, and the P_k are known.
 *
 * Unbiased: 1 / D is the plain density over that of the mixture up to the stopping time, and the mixture has
 * a density wherever the plain law has; the chain ends on stage 1 with sigma = theta_1, where the drift is
 * upward, so every replication stops. Hence E[1 / D] = P(the plain recursion ever stops) = P(W > T).
 *
 * Weights: let theta_k solve M_k(theta) L(theta) = 1 and tau_k be the least theta of stages
 * 1..k. sigma_k, s_k <= tau_k grow with y, as slopes of -log V_k and -log A_k, concave functions log V_k,
 * log A_k; a concave function is below its tangents, so e^{-sigma x} <= V_k(y) / V_k(y - x) for an x of
 * either sign, and since M_k(sigma) L(sigma) <= 1 for sigma <= tau_k a job on stage k
 * multiplies 1 / D by at most [V_k(before) / V_k(after)] / (1 - p_k). Taken along the hidden path that is the
 * longest path the product telescopes: 1 / D <= A_K(T) times the moves' M_k(s_k) V / (p A), all bounded,
 * times the stays' 1 / (1 - p_k): no way of being late has a weight beyond this one, however the stages
 * compare. (Tilts are rounded to levels, and V and A are read from a grid, which changes the constants only;
 * the weights stay exact.)
 *
 * V_k(y) approximates the expected number of ways from stage k over a gap y (the union bound): V_1 =
 * e^{-theta_1 y}, A_k = V_k with slopes no steeper than the saddle point of stages 1..k (the tilt under which
 * one service of each adds up to y; this is what matters at light loads), and, by the Green function of the
 * walk on stage k, V_k(y) = A_{k-1}(y) + int_0^y e^{-theta_k x} A_{k-1}(y - x) dx / d_k + int_0^inf A_{k-1}(y
 * + x) dx / m_k, d_k the drift a job under theta_k, m_k the plain one downwards; p_k = A_{k-1} / V_k is the
 * share of moving on now. For equal exponential stages this gives the polynomial before the exponential, for
 * stages far apart p_k = 1 - M_k(tau) L(tau).
 *
 * Services that are never longer than the period of periodic arrivals have no theta_k: any tilt has M_k L <=
 * 1, and paths end soon, so that ways.h is taken. Where all services are such, W is at most the sum of the
 * longest. Where ways.h refuses, FURTHEST / T is taken for theta_k. A path does not climb on such a stage,
 * and a replication may never stop; it is dropped, with weight 0, where sum_k e^{-tau_k (T - P_k)} prod_{i <
 * k} M_i(tau_k) / D, about what it can still add, is below e^{LOG_DROPPED} of the scale of the weights.
 *
 * Stopping: when the relative error is reached, with at least 64 replications of one stage or 128 a stage of
 * several, 100 times the squared skewness of the weights (four times Cochran's rule for a normal interval,
 * since stopping favours samples that missed the large weights) and no weight beyond 5 % of the sum. The
 * relative error is never taken for less than 3 / replications: n replications of nearly the same weight, as
 * where most requests are late, say nothing about ways that they did not meet, of probability q with
 * (1 - q)^n <= e^{-qn}, and z standard errors of 3 / n are more than -log(1 - confidence) / n for every
 * confidence up to 1 - 1e-6. Without any weight it is infinite. */
#ifndef EDGEINFER_RARE_H
#define EDGEINFER_RARE_H

#include <stddef.h>
#include <stdint.h>

#include "edgeinfer/arrival.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

typedef struct {
    double value, standard_error;
    double replications, effective_sample_size; /* (sum w)^2 / sum w^2 */
    double largest_weight_share;                /* max w / sum w: a large one says that weights were missed */
    double relative_error;                      /* standard error over value, also where those underflow */
    double needed;                              /* least replications for which the interval is sound */
    double
        known; /* transfers rarer than this are not sampled, of stage unsampled - 1, where they may count */
    size_t unsampled; /* 0: none */
} ei_rare_result;

/* Given:    stages[stage_count]; arrival, of those that backward.h takes; deadline, s; relative_error:
 * standard error over value at which to stop; max_replications >= 1, kept to exactly; entropy; threads.
 * Status:   EI_OK; EI_ERR_ACCURACY with *result filled where max_replications did not do, or a million of
 * them gave no value in the normal range of a double; EI_ERR_UNSTABLE, EI_ERR_TOO_LARGE (ways.h),
 * EI_ERR_DOMAIN, EI_ERR_EMPTY, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. Where the probability is far below the
 * least double the value is 0 without a replication. Replication k draws from stream k, and sums are taken in
 * one order: the result does not depend on `threads`. */
EI_WARN_UNUSED int ei_rare_violation(const ei_service *stages, size_t stage_count, const ei_arrival *arrival,
                                     double deadline, double relative_error, double max_replications,
                                     const uint64_t entropy[4], size_t threads, ei_rare_result *result,
                                     ei_monitor monitor);

#endif
