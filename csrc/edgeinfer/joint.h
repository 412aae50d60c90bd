/* Both ends for D (d1), X, D (d3) where all three loads are near to equal, in the notation of bracket.h.
 *
 * One walk. Let Q_k be the wait of job k at the first stage, jobs counted backwards, d = d1 - d3, and U_k =
 * X_k + (U_{k-1} - d3)^+, U_0 = X_0. Where Q_k > 0, Q_k = Q_{k+1} + d1 - t_{k+1}; else an idle time e ~
 * Exp(rate) lies before job k's arrival, independent of all that is older, and job k + 1 is the last of a
 * busy period of N jobs, of Borel's law. With E_k the sum of the idle times among jobs 0 .. k, W = d1 + d3 +
 * Q_0 + M,  M = max_k [U_k - k d - E_k], X, e, N independent of each other and of (Q_0, j), j the number of
 * jobs before job 0 in its busy period. So (c, U), c what is left of the deadline, is a Markov chain but for
 * the rest of the busy period, and with N a mixture of geometric laws (joint_laws.h) so it is with the
 * component. Let T_i(c, u) be the probability of a violation where the next job belongs to a busy period of
 * component i and finds u = (U - d3)^+, and H(c, u) where its busy period has ended: U' = X + u, T_i = P(U' >
 * c) + E [(1 - s_i) H(c, u') + s_i T_i(c + d, u'); U' <= c], H = E sum_i w_i T_i(c
 * + d + e, u). The walk starts with j + 1 jobs without an idle time, of which j is followed step by step.
 *
 * Lattices. M is convex and increasing in the X, convex and decreasing in the e, and increasing in N and Q,
 * so that laws of X and e below and above in the convex order, and mixtures below and above P(N > n), give
 * the same for E (M - y)^+. U and X live on d3 + hu Z, c on a lattice q times as fine that holds d. Where d
 * is too small for that, the faster constant stage is slowed down to the other (upper) or the slower one made
 * faster (lower).
 *
 * In the first busy period, of the most jobs, c takes coarse steps too. Laws are replaced job after job from
 * job 0 on, and E M is convex in each given all before it, so that the lattice may depend on that: those of
 * its wait and of X are others for each j and for u = 0, so that c - U is always a multiple of hu where (U -
 * d3)^+ > 0. Then no test U > c changes within a step of c, and with H's mean over the q rows of the step
 * comes the mean over a step of P(Y > y): see finish in joint_first.c for its use.
 *
 * From stop-loss to probability. Take the r interarrival times before job 0 out of all paths of more than r
 * jobs: the supremum over these is then Y = (r + 1) d1 + d3 + Q_r + M with r more jobs before the busy period
 * of job r ends, independent of the sum s of the r times, of Erlang's density f, and W > T iff Y - s > T or a
 * path of at most r jobs is longer than T. With S(y) = E (Y - y)^+, P(Y - s > T) = int f'(x) S(T + x) dx, for
 * r = 1 and f(0) S(T) = rate S(T) with it, = A - B, A where f rises and B where it falls, up to (r - 1) /
 * rate and beyond. Hence A_lower - B_upper and A_upper - B_lower are its ends, and relative errors of S count
 * (A + B) / (A - B) times: 1 + 2 rate / theta at a decay rate theta for r = 1, which is large at high loads,
 * and less for more of them, little more than 1 for r of some rate / theta. For r = 1 this is done for X_0 <=
 * z = T - d1 - d3, and P(X_0 > z) added. Otherwise paths of at most r jobs, no longer than d1 + d3 and r
 * times max(X, dm) whatever the arrivals, are left out of lower ends and bounded by E e^{theta max(X, dm)} =
 * E e^{theta X} + e^{theta dm} E (1 - e^{theta (X - dm)})^+ in upper ones; r is chosen so that this is small.
 *
 * Beyond the lattice. g_i(c, u) = a_i e^{-theta (c - u)} + b_i e^{-theta c} with
 *   A = D L sum w_i a_i, B = D L sum w_i b_i, G_i = (1 - s_i) A + s_i D a_i >= 1, a_i >= m G_i,
 *   b_i = k G_i + (1 - s_i) B + s_i D b_i,
 *   m = E e^{theta (X - d3)}, k = E (1 - e^{theta (X - d3)})^+, D = e^{-theta d}, L = E e^{-theta e}
 * is no less than what the equations above make of it: U' > c has 1 <= G_i e^{theta (u' - c)}, and e^{theta
 * u'} is e^{theta (u + X - d3)} or 1, at most 1 - e^{theta (X - d3)} more, so that its mean is at most m
 * e^{theta u} + k. It serves with a_i = max(m (1 - s_i) A / (1 - s_i m D), 1 / D) and the least A >= 1 that
 * is no less than D L sum w_i a_i. (1 - e^{theta (x - d3)})^+ is concave up to d3, so that to share X
 * between two points adds nothing to k but where d3 is between them, at most theta hu / 4. It bounds T_i
 * (here c counts from d3).
 *
 * Uncut. If u is not cut at 0 the walk is one of v = c - u alone: t_i(v) = P(X - d3 > v) + E [(1 - s_i)
 * h(w) + s_i t_i(w + d); w >= 0], w = v - (X - d3), h(w) = E sum_i w_i t_i(w + d + e), with sweeps from
 * min(1, a_i e^{-theta v}) downwards or from 0 upwards, each of which is an end. As u is at least what it
 * would be uncut, t_i(c - u) <= T_i(c, u); and up to the first job with U' < d3 both walks are the same,
 * from where on at most r_i e^{-theta c'}, r_i = a_i + b_i, is left. As m + k >= 1, r_i >= (1 - s_i) D L
 * sum_i w_i r_i + s_i D r_i, so that this never rises on average: T_i(c, u) <= t_i(c - u) + r_i e^{-theta
 * c} for each theta. These are T_i beyond the lattice, and where sweeps begin. B likewise, from h on or
 * from t_i, but for u = 0, of which X's lattice is another: there it is r_i e^{-theta c}, or 0.
 *
 * Sweeps. For d > 0 c only grows, and one sweep down solves the equations. For d = 0 a row's T_i = f_i + s_i
 * P T_i, P a job's law from u to u' within the row, f_i of H alone: 1 - s_i P is factored once for all rows.
 * Where idle times may be 0 the row's F is in its H, and comes from the bound downwards some times.
 *
 * For d < 0 a sweep S, from the lowest row upwards, follows one idle time and the busy period behind it to
 * its end, and F = S F, up to rows that are known. GMRES finds F roughly, from anywhere, and exponents make
 * ends of it. Where nothing is late S becomes S0, and with A_i = m (1 - s_i) / (1 - s_i m D) and g =
 * e^{-theta (c - u)} + B e^{-theta c}, F <= g has H <= D L g, rows below being found anew, and, from the
 * lowest row on, T_i <= D L [A_i e^{-theta (c - u)} + B_i e^{-theta c}] with B_i (1 - s_i D) = k (1 - s_i +
 * s_i D A_i) + (1 - s_i) B. So S0 g <= K g where K is no less than D L sum w_i A_i and D L sum w_i B_i / B,
 * both less than 1 where G_i has an A above and B is large. If S F - F <= y g, then F + y g / (1 - K) is no
 * less than what S makes of it, and hence an upper end of all F = S F; if F - S F <= y g, F - y g / (1 - K)
 * is a lower one. So is the least, or largest, of those of all exponents, and of the bound or 0; from there
 * one sweep more gives T_i and H.
 *
 * Waits. Q has no moment at the steepest of these exponents: T_i falls faster in c than Y's tail in y, so
 * that Y's lattice is longer than c's; where job 0 is beyond the latter, a and b of its busy period are taken
 * one job on (upper), to m max(D a, 1) and k max(D a, 1) + D b, or nothing is late (lower). Y's own tail: E
 * [e^{theta Q}; j] <= (1 - load) (e^{theta d1} rate / (rate + theta))^j and the same bound. First busy
 * periods of more than some J jobs before job r: from above a geometric number more than J with waits by
 * joint_laws.h, so that J jobs follow T_i in place of H, of a component s_i of weight 0 whose waits fall
 * faster than those that go with the largest of the others where Y does, or, at high loads and where E X <
 * d1, more without end, s_i = 1, where m D < 1, with all waits but those of up to J jobs; from below J. Waits
 * beyond the lattice count as late in upper ends. M grows with Q: of the waits of one j the short ones that
 * are of no account, weighed by e^{theta Q}, are taken for longer ones in upper ends and left out of lower
 * ones, and the longest likewise count as late or not. A service that is shared between two points hu apart
 * has an exponential moment larger by e^{theta^2 hu^2 / 8} at most (Hoeffding). All terms are positive; their
 * rounding errors are covered by a factor. */
#ifndef EDGEINFER_JOINT_H
#define EDGEINFER_JOINT_H

#include "edgeinfer/ends.h"

/* Raises lower and cuts upper ends of Poisson arrivals, both constant stages present, where they are further
 * apart than by `enough`, with at most the work that the effort allows; each element by lattices of its own
 * class of deadlines, which the class's latest one decides on, so that an element does not depend on others;
 * but ends need not fall from one class to the next. Status: EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED,
 * EI_ERR_DOMAIN. */
EI_WARN_UNUSED int ei_joint_ends(const ei_batch *self, double enough);

#endif
