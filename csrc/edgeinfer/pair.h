/* A lower end for a chain, from paths that stay in two of its stages at once. Renewal arrivals.
 *
 * Jobs are counted backwards from the tagged job 0, S_i is the sum of i interarrival times t_1, t_2, .. Of
 * all paths take those that are in the second stage, of services C, for jobs 0 .. i, in the first one, of
 * services A, for jobs i .. n, and pass the stages between them at job i (O_i in all) and those before the
 * first one at job n (E_n). Each is one of the chain's paths but for one service of every other stage, at a
 * job which these do not depend on: W is no shorter than the longest of these paths and one service of each
 * other stage, all independent. A constant stage's first service is left out everywhere.
 *
 * With P_1, P_2 the longest paths that have come to the two stages by the job at hand, q = T - P_1 <= y = T -
 * P_2 is a Markov chain. The probability f(q, y) of a path longer than T obeys
 *   f = P(E > q) + P(E <= q) m,  m(q, y) = E w(q + t, y + t),  w(q, y) = E g(q, y - C),
 *   g(q, y) = E v(min(q, y - O), y),  v(q, y) = E f(q - A, y),  f = v = g = 1 for q < 0 or y < 0,
 * and falls with both. Every iterate from a lower bound is one; it begins with one stage alone. W > T has
 * probability w(inf, T). g(inf, y) is what comes behind a service of the second stage if that is all there
 * is: for three stages it stands as `alone` in the pair of the second and the third, where it is f(q, inf),
 * and so on.
 *
 * Lattice. Functions are kept at points (q, y) a step h apart and are between them, along q and along y, of
 * the form a + b e^{-x q}, x near the decay rate, so that a true tail bends little: in e^{-xq} the function
 * is a polygon, and a shift, which multiplies e^{-xq}, leaves it one. So E f(q - A) is exact at the points
 * with A's atoms (services rounded down to h / 32) shared between the points beside them. A shift by (c + z)
 * h moves the kink of point n into cell n + c, where the polygon is below its chord by at most D_n (p - 1) (r
 * - p) / (p (r - 1)^2), r = e^{xh}, p = e^{xzh}, D_n = (f_{n-1} - f_n - r (f_n - f_{n+1}))^+; both ends of a
 * cell are lowered by the mean of that, and both factors are at most 1 / (sqrt(r) + 1)^2 <= 1/4. Shifts along
 * q leave all bounds along y as they are, and the other way round; t shifts along both, and has the largest D
 * of the points that come into question. Jump at zero: f = (1 - f(0)) 1{q < 0} + a polygon that is f(0)
 * there. The first part gives P(A > q), which is lowered by what it is below its chords. min(q, y - o), o a
 * point: the line q = y - o is a diagonal of squares. With their corners' values a at (0, 0), b at (1, 0),
 * the values to keep are a, a, c, e, and their interpolation is above the function by at most X (1 - Y) (a -
 * b) on the side of small q (X <= Y the places in e^{-xq}) and Y (1 - Y) (a - b) on the other: corners are
 * lowered by (a - b) / 4. Beyond q = y functions are continued by their own equations, f so that it does not
 * bend where another row would be needed: nothing there enters what is below. Leads d = y - q: rows up to
 * some d = K h. Beyond, f(q, y) >= f(q, inf), or >= f(y - K h, y), whichever is the better one. A service's
 * end at d > (K - 2) h counts as beyond, with the least of the last three rows and that up to (K + 1) h, so
 * that in all squares that have a part in the last rows each corner is below what is kept there, and in all
 * others below what is so bounded. A negative value at a corner: all squares that meet there are taken to be
 * 0. Rounding errors of all sums, of some thousand positive terms and their bends, are below 1e-12 of these,
 * 1e-11 is taken off.
 *
 * Less a constant. Where services and times between arrivals are all q shorter, a path is so by q for each of
 * the stages that it is in, whatever the job where it leaves them: q may be the least service of them all, as
 * in lindley.h, E being less one q where it has a service of a stage that `alone` follows.
 *
 * Arrivals that are not Poisson. Periodic ones: the interval is a whole number of steps, so that functions
 * move along the diagonal and nothing is rounded; what is in the last cell of the lattice counts as 0 there.
 * Others: times are rounded up to h / 128, and those of less than 1e-12 of the law are left out; with them
 * functions are what they are at the points, a product of two weights for each corner of a square, and kinks
 * take off the most that they may in each cell that a time ends in. */
#ifndef EDGEINFER_PAIR_H
#define EDGEINFER_PAIR_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/ends.h"
#include "edgeinfer/walk.h"

enum { EI_PAIR_LEAST = 16 }; /* points and leads */

typedef struct {
    const ei_arrival *arrival;         /* renewal */
    double decay, horizon;             /* x, 1/s; s, where the lattice ends or later */
    size_t points, leads;              /* EI_PAIR_LEAST .. ; EI_PAIR_LEAST .. points */
    ei_added_stage first, second;      /* floors are not looked at */
    const ei_lattice *between, *ahead; /* O and E, from below; NULL or sf NULL: 0 */
    const ei_lattice *alone;           /* that of another pair of as many points, or NULL */
    ei_monitor monitor;
} ei_pair;

/* *law: lower bounds of P(the longest of the paths > i step). *alone: of g(inf, i step), with the first
 * stage's service in the deadline where it is constant. Loads below one. Both are the caller's to free, also
 * after an error. Status: EI_ERR_DOMAIN, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_pair_lower(ei_lattice *law, ei_lattice *alone, const ei_pair *given);

#endif
