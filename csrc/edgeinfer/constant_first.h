/* Both ends for D, X: a constant stage before a random one, in the notation of joint.h with d3 = 0 and d =
 * d1. Poisson arrivals.
 *
 * One walk. With d3 = 0, U_k = X_0 + .. + X_k, so that W = d + Q_0 + max_k [X_0 + .. + X_k - k d - E_k] asks
 * for what is left of the deadline alone. With N a mixture of geometric laws and psi(c) = P(X > c)
 *   T_i(c) = E f_i(c - X),  f_i(y) = (1 - s_i) H(y) + s_i T_i(y + d) for y >= 0, 1 for y < 0,
 *   H(y) = E F(y + d + e),  F = sum_i w_i T_i,  B_0(c) = E h(c - X),  B_j(c) = E g_j(c - X),
 * h = H and g_j(y) = B_{j-1}(y + d) for y >= 0, 1 for y < 0, and P(W > d + c) = P(Q_0 > c) + (1 - load)
 * B_0(c)
 * + sum_{j >= 1} E [B_j(c - Q_0); Q_0 <= c, j jobs before job 0 in its busy period].
 *
 * The first wait. Let p_k(l) be the probability that a busy period still has l > 0 jobs as its job k - 1
 * ends, p_0(1) = 1: p_{k+1} is the law of l - 1 + a, a of Poisson's law of mean rate d. Job j, if it is job i
 * of these, comes x = i d - tau, 0 < tau < d, before its start, and m jobs in that service before it: Q_0 has
 * the density (1 - load) rate e^{-rate tau} sum_m p_{j-i}(i - m) (rate tau)^m / m! there. Nothing is rounded.
 * Jobs from J on, and those behind a queue of more than so many, count as late in upper ends: in the mean l /
 * (1 - load) jobs are served before a queue of l is empty. So do jobs with more others before them in one
 * service than are followed, a share of at most load^n / n!.
 *
 * Lattice: that of line.h, and d is a whole number of steps. psi is kept apart where line.h does so: T_i =
 * alpha_i psi + a polygon, alpha_i = 1 - f_i(0). Idle times move kinks the other way.
 *
 * Beyond the lattice a_i e^{-theta c} stands for T_i in upper ends, from a sum over all jobs, a_i = M (1 + (1
 * - s_i) A + s_i D a_i), A = D L sum w_i a_i, M = E e^{theta X}, D = e^{-theta d}, L = E e^{-theta e}, read a
 * step before, so that each cell is below its last value; b_j = M (1 + D b_{j-1}), b_{-1} D = A, for B_j; 0
 * in lower ends.
 *
 * Certificate. Values that a sweep through these equations does not raise (upper) or lower (lower), alpha_i
 * among them, are bounds, as in half_line.h: what a function is on the wrong side by is at most its mean over
 * the walk's next place on the lattice, which the walk leaves. So any way to find them will do: Newton's
 * steps (constant_walk.c) towards what a sweep makes and a small share more, upper ends from the bound above,
 * lower ones from the upper ones. They end where what is missing falls too slowly.
 *
 * Deadlines have lattices of their own class, so that an element does not depend on others.
 *
 * Between two points c of P(W > d + c): the sum's polygon part has kinks that Q_0 moves into the cell as X
 * does, each D times at most 1 / (sqrt(r) + 1)^2; and the part (1 - B_j(0)) P(Q_0 > c; j) is between its
 * values at both points.
 *
 * Lower ends of X, D are those of D, X, whatever the arrivals, and so also where stages come before: of a
 * constant one, X, and another one those of both before X. Jobs counted backwards, with Z_j = X_0 + .. + X_j
 * - j d and c_j = T - (j + 1) d + S_j, W <= T asks of D, X that N_j <= c_j for all j, N_j the largest of Z_0,
 * .., Z_j, and of X, D that M_j <= c_j, M_j = X_j + (M_{j-1} - d)^+, M_0 = X_0. Given all arrivals, the
 * latter is no likelier, for jobs 0 .. n by induction: M_n <= c_n asks for X_n <= c_n and M_{n-1} <= c_n + d
 * - X_n, so that it is no likelier than, with b_j = min(c_j, .., c_{n-1}),
 *   X_n <= c_n,  Z_j <= b_j and Z_j + X_n - d <= c_n for all j < n.
 * b_j grows with j: let p be the first one with b_p > c_n, or n. Put X_n before X_p, which changes no law.
 * The sums now are Z_j <= b_j <= c_n for j < p, and from the p-th one on Z_{j-1} + X_n - d, or X_n if j = 0,
 * <= c_n, where c_p, .., c_{n-1} are no less than b_p > c_n: each N_j <= c_j. */
#ifndef EDGEINFER_CONSTANT_FIRST_H
#define EDGEINFER_CONSTANT_FIRST_H

#include "edgeinfer/ends.h"

enum { EI_CONSTANT_LOWER = 1, EI_CONSTANT_UPPER = 2 };

/* Raises lower and cuts upper ends of a chain of a stage of constant `time` and a random one, with `constant`
 * seconds more, `time` itself among them, up to some decay times: either or both, as `ends` says. Where other
 * constant stages come last, `time` is the slowest one's, and these are lower ends; or upper ones, if they
 * are no slower than any service (bracket.h). *found: whether it did. Loads below one. Status:
 * EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED, EI_ERR_DOMAIN. */
EI_WARN_UNUSED int ei_constant_first_ends(const ei_batch *batch, const ei_service *random, double time,
                                          double constant, int ends, int *found);

#endif
