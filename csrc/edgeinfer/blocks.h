/* Upper ends for several stages that are nearly as slow as each other, behind bursts above all, where times
 * of services are short beside times of delay. Renewal arrivals.
 *
 * The sum over all paths counts every job at which a path may change its stage, 1 / (1 - M_k D) of them for
 * stage k, though paths that change at neighbouring jobs are nearly the same. Here changes are counted by
 * blocks of n jobs, and of those within a block the largest path is taken, by Doob's inequality.
 *
 * Jobs are counted backwards from the tagged one, 0; t are the times between them, S_j = t_1 + .. + t_j, M_k
 * = E e^{theta X_k}, D = E e^{-theta t}. V_k(j) is the longest path that enters stage k at job j - 1, the
 * oldest of j jobs, on to the last stage N of job 0, so that W > T iff V_1(j) - S_{j-1} > T for some j >= 1.
 * Stage 1 is slowed until M_1 D = 1, which is an upper bound: the law of X_1 moves up by a constant.
 *
 * Let phi_qp be at least D^n times the moment of the longest path through n jobs, on stage p at the newest
 * and on q at the oldest, phi_pp = (M_p D)^n < 1 for p > 1, and c_1 = 1, c_p = sum_{q < p} c_q phi_qp /
 * (1 - phi_pp). Then Psi_b = sum_p c_p e^{theta (V_p(b n) - S_{b n - 1})} is a supermartingale in b, the
 * services and times of a block being independent of the past, and E Psi_1 <= c_N / D, as there is no time
 * before job 0. If j is the first job with V_1(j) - S_{j-1} > T and b its block, that path goes on with
 * services of stage 1 to the block's end: E[Psi_b | up to j] >= e^{theta T} (M_1 D)^{bn - j} = e^{theta T}.
 * So P(W > T) <= c_N e^{-theta T} / D.
 *
 * phi_qp by norms of an order r > 1. Let H_m(i) be e^{theta path} of the longest path through i jobs from
 * stage q at the first of them on to stage m at the last: H_m(i) = max over i' <= i of H_{m-1}(i') times
 * e^{theta X_m} of jobs i', .., i (the job of the change is served at both). With Q the law under which these
 * X_m are tilted by r theta, E H_m(i)^r = M_m(r theta)^i E_Q max_i' Y(i')^r, Y(i') = H_{m-1}(i') e^{-theta
 * (X_m of the jobs before i')}; and as H_{m-1}(i' + 1) >= H_{m-1}(i') e^{theta X_{m-1}}, Y is a submartingale
 * of Q if M_{m-1}(theta) >= M_m(r theta) / M_m((r - 1) theta). So with norms of order r, by Doob,
 *   |H_m(i)| <= r / (r - 1) M_m(r theta)^{1/r} |H_{m-1}(i)|,  |H_q(i)| = M_q(r theta)^{i/r}.
 * Stages are slowed by constants, all but the last of them as little as makes that so. Where |H_{m-1}(i)| <=
 * C g^i and mu = M_m(r theta)^{1/r} < g, Minkowski's inequality gives 1 / (1 - mu / g) in the place of r / (r
 * - 1), too. Last, phi_qp <= D^n |H_p(n)|. All this holds from the oldest job to the newest and from the
 * newest to the oldest, with any r, for each pair of stages apart.
 *
 * Stages 1, .., a before others, quicker ones: A_j = V_{a+1}(j + 1) - S_j is independent of C_j, the longest
 * path through them on to job j less the times between its jobs, and W > T iff A_j + C_j > T for some j. With
 * P' for the chain without them, P(C_j > x) <= a e^{-eta x}, eta > theta, N(y) the mean number of jobs with
 * A_j > y, and any time c,
 *   P(W > T) <= P'(W > T - c) + sum_j E[a e^{-eta (T - A_j)}; A_j <= T - c]
 *            <= P'(W > T - c) + a e^{-eta T} int_{-inf}^{T - c} eta e^{eta y} N(y) dy.
 * Let b be the first block with such a job, of which it has n at most. As above, now with a + 1 as stage 1,
 * P(b exists) and c_p E[e^{theta (V_p(bn) - S - y)}; b exists] are at most c_N e^{-theta y} / D. For a theta'
 * < theta with M D < 1, M of stage a + 1, sum_{q <= p} u_q phi_qp <= u_p - [p = a + 1] for u = c / (1 - (M
 * D)^n), all at theta', so that the sum over later blocks of e^{theta' (V_{a+1} - S - y)} at their ends has,
 * given V_p at the end of b, a mean of at most sum_p u_p e^{theta' (V_p(bn) - S - y)}, and each stands for n
 * (M D)^{-(n-1)} times what its jobs add, as paths go on to their block's end. And e^{theta' x} <= 1 +
 * e^{theta x}. So
 *   N(y) <= R e^{-theta y},  R = c_N / D n [1 + (M D)^{-(n-1)} sum_p u_p (1 + 1 / c_p)],
 *   P(W > T) <= P'(W > T - c) + a R eta / (eta - theta) e^{-theta T - (eta - theta) c}.
 * a is the product of M_k, k <= a, and of 1 / (1 - M_k D), 1 < k <= a (bound.h), or by blocks as above.
 *
 * Neighbouring constant stages are one, and what they take once is taken from T. Of the moments' errors
 * (service.h) each is taken to the safe side; sums of the laws that are known from above alone have, from
 * below, the moments of their means. */
#ifndef EDGEINFER_BLOCKS_H
#define EDGEINFER_BLOCKS_H

#include "edgeinfer/ends.h"

enum { EI_BLOCKS_STAGES = 12 }; /* neighbouring constant ones are one; of more nothing is tried */

/* Cuts upper ends where probes' ends are wide. Status: EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED, and of
 * ei_service_log_mgf. */
EI_WARN_UNUSED int ei_blocks_ends(const ei_batch *self, const ei_service *stages, size_t stage_count);

#endif
