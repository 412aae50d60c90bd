/* An upper end for a chain in which a stage a and a stage b behind it are nearly as slow as each other: the
 * two are followed at once. Poisson arrivals. Seconds; rates in 1/s.
 *
 * The walk. In the notation of pair.h, jobs counted backwards, W is the longest path that is in b for jobs 0
 * .. i, in a for jobs i .. n, passes the stages between them at some of the jobs around i and those before a
 * at jobs from n on. Let C'_n be drawn afresh, for every n, from the law of the sojourn time in the stages
 * before a, as in walk.h; its proof holds, given all services from a on. Stages between: with a floor m under
 * a, A >= m, a path that is in them for the jobs i .. j may stay in a instead from i on, and is longer than
 * that by Q_i at most, the supremum over j of what it has between less (j - i) m: the sojourn time in the
 * stages between fed every m seconds, backwards in time. (Likewise with a floor under b, and a path that
 * stays in b up to j.) Given all other services the Q_i are increasing functions of independent ones and
 * hence associated, and W <= x iff Q_i <= x_i for all i, so that they may be drawn afresh, too. With g the
 * excess of the longest path to a over Z_i = B_0 + .. + B_i - S_i,
 *   g_i = A_i + max(g_{i-1} - B_i, Q'_i),  W' = max_i [Z_i + g_i + C'_i],  P(W > T) <= P(W' > T),
 * and (T - Z_i, g_i) is a Markov chain.
 *
 * Lattices. W' is a maximum of sums, convex in each A, B, Q', C' and interarrival time and growing or falling
 * with it, so that laws on a lattice of step h below and above theirs in the increasing convex order, means
 * kept (joint_laws.h), bound E (W' - y)^+; their error is of second order in h. Let u(y, r) be the
 * probability of a violation where y is left of the deadline and r = (g - B)^+ carried over:
 *   u(y, r) = P(g > y) + E[c(y - g) + (1 - c(y - g)) E m(y + t, g); g <= y],  g = A + max(r, Q'),
 *   m(y, g) = P(B > y) + E[u(y - B, (g - B)^+); B <= y],  c(x) = P(C' > x),  P(W' > y) = m(y, 0).
 * The right side grows with u, so that sweeps from an upper bound downwards give upper bounds, and from 0
 * upwards lower ones. What a truncated law leaves out counts as late in upper ends, as no time in lower ones.
 *
 * Where they begin, and beyond the lattice. A path goes on in a, or is one that has come from b since: u(y,
 * r) <= v(y - r) + w(y), v the law of the sojourn time through a and the stages before, and w(y) >= u(y, 0)
 * the walk in b with that, and Q', drawn afresh. From below u(y, r) >= v(y - r), w(y), w with one service of
 * a. These are walks on a line, solved in the same way on a longer lattice, and beyond that lower bounds are
 * 0 and upper ones a e^{-theta (y - r)} + b e^{-theta y} (Chernoff) with M the moments of the services,
 *   a = M_A (M_C + L a),  b = a (M_Q - 1) + L M_B (a + b),  L = E e^{-theta t}.
 * A law that is shared between points h apart has a moment larger by e^{theta^2 h^2 / 8} at most (Hoeffding).
 *
 * From stop-loss to probability. Take the k interarrival times t_1 .. t_k out of all paths of more than k
 * jobs; Y is the longest of these, independent of the sum s of the k times, of Erlang's density f. With S(y)
 * = E (Y - y)^+ and x the mode of f, P(Y - s > T) = int f' S(T + .), f' > 0 up to x: by parts
 *   f(x) [S^(T + x) - S_(T + x)] + int_0^x f(s) P(Y^ > T + s) ds + int_x^inf f(s) P(Y_ > T + s) ds
 * is an upper end, ^ and _ being the laws on lattices above and below; S is linear between points and P
 * constant in cells. Paths of at most k jobs: for k = 1 the sum of one service each, otherwise Chernoff's
 * bound of all of them, e^{-theta T} M_C sum_n p_n, p_n = L M_A (p_{n-1} + M_B M_Q (L M_B)^{n-1} M_B). The
 * least end of several k is taken. All sums have positive terms; their rounding errors are covered by a
 * factor. */
#ifndef EDGEINFER_PAIR_UPPER_H
#define EDGEINFER_PAIR_UPPER_H

#include "edgeinfer/walk.h"

typedef struct {
    double arrival_rate, decay, horizon; /* 1/s; 1/s, of the slower stage; s, up to where the law is wanted */
    size_t points;                       /* steps of the lattice up to the horizon, about */
    ei_added_stage before, bottleneck;   /* a, b; not both deterministic */
    const ei_upper_law *between, *ahead; /* of Q' and of C'; lattice.sf NULL: 0 */
    ei_monitor monitor;
} ei_pair_walk;

/* Upper bounds of P(W' > x), the last service of deterministic stages left out, up to the horizon; log_scale
 * and decay are the caller's to set. *self is the caller's to free, also after an error. Loads below one.
 * Status: EI_ERR_DOMAIN, EI_ERR_UNSTABLE where no exponent serves, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_pair_upper(ei_upper_law *self, const ei_pair_walk *given);

#endif
