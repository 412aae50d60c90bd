/* An upper end for a chain in which a stage a and a stage b behind it are nearly as slow as each other: the
 * two are followed at once. Renewal arrivals. Seconds; rates in 1/s.
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
 * With q = T - Z - g <= y = T - Z what is left of the deadline beside the longest paths to a and to b, the
 * probability f(q, y) of a violation obeys
 *   f = c(q) + (1 - c(q)) m,  m(q, y) = E w(q + t, y + t),  w(q, y) = E g(q, y - B),
 *   g(q, y) = E v(min(q, y - Q'), y),  v(q, y) = E f(q - A, y),  c(q) = P(C' > q),  P(W' > T) = w(inf, T),
 * f = v = g = 1 for q < 0 or y < 0, and falls with both. The right sides grow with f, so that every iterate
 * from an upper bound is one.
 *
 * Lattice: that of pair.h, from above. Functions are polygons in e^{-xq} along q and in e^{-xy} along y. In a
 * shift by (c + z) h (services rounded up to h / 128) the kink of point n gets into cell n + c, where the
 * polygon is above its chord by D_n (p - 1) (r - p) / (p (r - 1)^2) at most, now with D_n = (r (f_n -
 * f_{n+1}) - (f_{n-1} - f_n))^+: both ends of a cell are raised by the mean of that. Jump at zero: f = (1 -
 * f(0)) 1{q < 0} + a polygon that is f(0) there and bends at 0; P(A > q) is bounded by chords. min(q, y - o),
 * o a point: the values of a square that the line q = y - o crosses, a at (0, 0), b at (1, 0), c at (0, 1)
 * and e at (1, 1), become a, a, c, e, and the interpolation of these is no less but for X (1 - X) ((c - e) -
 * (a - b))^+, so that corners are raised by a quarter of that. Between points o is shared out as a service
 * is, and a kink of v along q, which lies on the line y = n h + o then, raises both ends of the cell of y
 * that it is in. c + (1 - c) m is above its chord by a quarter of the product of the falls of c and m in the
 * cell. Values may be above 1; then m stands for c + (1 - c) m.
 *
 * Leads y - q of more than K h: for q in cell i and y >= (i + K) h a function is no more than on the line y =
 * (i + K) h, which is bounded by its corners, of leads K h at i and (K - 1) h at i + 1. So the larger one of
 * the last two rows is taken for the last one, and this for all that is beyond.
 *
 * Where they begin, and beyond the lattice. What is late has come by the path that is in a, or by one that
 * leaves b later: f <= v1(q) + w1(y), v1 the law of the walk in a alone with the C', and w1 that of the walk
 * in b with the C' = Q' + A + v1's, drawn afresh at each job. These are walks on a line, solved in the same
 * way from Chernoff's bounds downwards on a longer lattice, beyond which those stay: for theta with L M_A < 1
 * and L M_B < 1, M the moments of the services and L = E e^{-theta t}, v1 <= M_C / (1 - L M_A) e^{-theta q}
 * =: v e^{-theta q}, and with a path leaving b, g <= M_A M_Q v / (1 - L M_B) e^{-theta y}. All sums are of
 * positive terms but for the bends, and their rounding errors are covered by a factor.
 *
 * Services and times less a constant, as in pair.h: W' is 2 q less.
 *
 * Arrivals that are not Poisson, as in pair.h, rounded down. What is beyond the lattice is what walks on a
 * line give, for periodic arrivals in its last cell, too. These begin with what lindley.h knows of them,
 * which is less than Chernoff's bound. */
#ifndef EDGEINFER_PAIR_UPPER_H
#define EDGEINFER_PAIR_UPPER_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/walk.h"

typedef struct {
    const ei_arrival *arrival;           /* renewal */
    double decay, horizon;               /* 1/s, of the slower stage; s, up to where the law is wanted */
    size_t points;                       /* steps of the lattice up to the horizon, about */
    ei_added_stage before, bottleneck;   /* a, b; not both deterministic */
    const ei_upper_law *between, *ahead; /* of Q' and of C'; lattice.sf NULL: 0 */
    ei_monitor monitor;
} ei_pair_walk;

/* Upper bounds of P(W' > x), the last service of deterministic stages left out, up to the horizon; log_scale
 * and decay are the caller's to set. *self is the caller's to free, also after an error. Loads below one.
 * Status: EI_ERR_DOMAIN, EI_ERR_UNSTABLE where no exponent serves, EI_ERR_ACCURACY where paths have too many
 * jobs, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_pair_upper(ei_upper_law *self, const ei_pair_walk *given);

#endif
