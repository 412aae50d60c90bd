/* A lower end for a chain, from paths that stay in two or three of its stages at once. Poisson arrivals.
 *
 * Jobs are counted backwards from the tagged job 0, S_i is the sum of i interarrival times t_1, t_2, .., and
 * b the stage that the walk follows exactly, with services B_i. Constant stages' first services are left out
 * everywhere. Of all paths take those that are in a stage c behind b for jobs 0 .. h, in b for jobs h .. i,
 * in a stage a before b for jobs i .. n, and pass the stages between a and b at job i (O_i in all) and those
 * before a, but not all of them, at job n (E_n). Each is one of the chain's paths but for one service of
 * every other stage, at a job which those do not depend on: W is no shorter than the longest of these paths
 * and one service of each other stage, all independent.
 *
 * Before b. With Z_i = B_0 + .. + B_i - S_i let g_i be how much longer than Z_i the longest path from job i
 * to stage a is: g_i = A_i + max(g_{i-1} - B_i, O_i). A path is longer than T where g_i + E_i > y_i = T -
 * Z_i. So (y, g) is a Markov chain. Let u_r(y) be the probability of such a job from one on whose y is known,
 * with r carried over from the job after it, u = 1 for y < 0. It falls with y and grows with r: with r and g
 * rounded down to levels there is a function u_k of y alone for each level, and
 *   u_k(y) = P(g + E > y) + sum_l P(g in l, g + E <= y) m_l(y),  g = A + max(r_k, O),
 *   m_l(y) = E w_l(y + t),  w_l(y) = E u_{k(g_l - B)}(y - B).
 * The right side grows with u, so that it makes a lower bound of any lower bound. It begins with the law of
 * b's own queue, P(B + Wq > y), in m's place, with few levels; what these come to is a bound of more, too.
 *
 * Behind b. Let P_c and P_b be the longest paths from the job at hand to stages c and b, d = P_b - P_c. A job
 * further, P_c has grown by C - t, P_b = max(P_b - t, P_c) + B: with e = (C - d)^+, by e + B - t, and d is
 * (d - C)^+ + B. With y = T - P_b, the probability of a violation falls with d; d is rounded up to levels,
 * the last of which is infinite: there c has no part any more, and u = u_0 of above. With that in all levels
 * as a beginning, each step counts one job of c more.
 *
 * Lattice. All functions are kept as lower bounds at points of step h that bound the function between them,
 * too, along the chord. Services are rounded down to atoms h / 32 apart: f(y) = E u(y - B) is then exact at
 * the points with atoms shared between the points beside them, and between them no further below the chord
 * than the atoms' z (1 - z) times the positive second differences of u (split.h); both ends of a cell are
 * lowered by that. E w(y + t) is exact at the points, and m'' = rate (m' - w') <= -rate w' bounds what it is
 * below the chord, rate h / 8 times the fall of w in the cell. The laws of A, O and E at the end of a path
 * are rounded down to points, so that what is above is constant in a cell, and falls to its next value: the
 * chord is below. At zero, where u falls from 1, the chord from (-h, 1) is. Sums are taken by Fourier
 * transform under the tilt e^{theta y}, their errors (lindley.h) taken off. */
#ifndef EDGEINFER_PAIR_H
#define EDGEINFER_PAIR_H

#include "edgeinfer/ends.h"
#include "edgeinfer/walk.h"

enum { EI_PAIR_PHASES = 32 };

typedef struct {
    double arrival_rate, decay, horizon;   /* 1/s; 1/s, of b's queue; s, where the lattice ends */
    size_t phases;                         /* levels, 2 .. EI_PAIR_PHASES */
    ei_added_stage bottleneck;             /* b; floors are not looked at */
    const ei_added_stage *before, *behind; /* a, c; NULL: none */
    const ei_lattice *between, *ahead;     /* O and E, from below; sf NULL: 0 */
    ei_monitor monitor;
} ei_pair;

/* Lower bounds of P(the longest of the paths > i step). Loads below one. *self is the caller's to free, also
 * after an error. Status: EI_ERR_DOMAIN, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_pair_lower(ei_lattice *self, const ei_pair *given);

#endif
