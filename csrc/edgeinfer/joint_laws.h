/* The lattice laws of joint.h: what stands in for services, idle times, busy periods and the first wait,
 * below (EI_LOWER) or above (EI_UPPER) them in the increasing convex order, or in the order of probabilities
 * where that is easier. Seconds; rates in 1/s. */
#ifndef EDGEINFER_JOINT_LAWS_H
#define EDGEINFER_JOINT_LAWS_H

#include <stddef.h>

#include "edgeinfer/lattice.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

enum { EI_JOINT_FINE = 512, EI_JOINT_TYPES = 24 };

/* Survival function of a service at start + k step / fine, rounded up or down by its accuracy. */
typedef struct {
    double start, step;
    size_t fine;  /* points of a step: a multiple of 2 parts, at least EI_JOINT_FINE */
    size_t count; /* a whole number of steps, and one */
    ei_end end;
    double beyond; /* s: at least (upper) the integral of the survival function beyond the last point */
    double *sf;    /* [count]; owned */
    int exponential;
} ei_joint_service;

EI_WARN_UNUSED int ei_joint_service_init(ei_joint_service *self, const ei_service *service, double start,
                                         double step, size_t steps, size_t parts, ei_end end);
void ei_joint_service_free(ei_joint_service *self);

/* Masses at start + i step. tail[i]: what is later than point i, at[i] or sooner: upto[i]; mass beyond the
 * last point, which is later than any deadline, counts in the tails (upper) or is left out (lower). */
typedef struct {
    size_t begin, count; /* masses before `begin` are of no account: 1e-13 in all, for what rises with X */
    double *mass, *tail, *upto; /* [count]; one block, owned by mass */
    double decay; /* where not 0, masses from point `regular` on are those of a geometric law without end, */
    size_t regular; /* no less (upper) and no more (lower) than the law's */
} ei_joint_law;

/* On the lattice that begins at fine point `from`, less than a step behind the first one, where the service
 * still lasts longer. Of the part of the law up to fine point `limit`, or of all of it (limit >= count). With
 * pi(x) = E (X - x)^+ of the law rounded to the fine points: upper, pi at the lattice points, which is to
 * share each value between its two neighbours in proportion; lower, at each point the smaller of the tangents
 * at the two cell middles beside it, and of that the lower convex hull: in no cell is that above pi. Where
 * the service begins such a tangent may be below m - x, m the mean, at its cell's left end, and what remains
 * has a smaller mean: then it is the line from (x, m - x) there that touches pi in the cell. The others stay
 * above m - x to the right, too, as their slopes are no steeper, so that the mean is kept if the law is wider
 * than a cell. A tail below `least` counts as later than all deadlines, or is left out. */
EI_WARN_UNUSED int ei_joint_law_init(ei_joint_law *self, const ei_joint_service *service, size_t from,
                                     size_t limit, double least);
void ei_joint_law_free(ei_joint_law *self);

/* An idle time, Exp(rate), on the lattice of `step`: masses at 0, 1, 2 steps, and rest decay^(i - 3) at i
 * >= 3. rate step < 0.5. */
typedef struct {
    double mass[3], rest, decay;
} ei_joint_idle;

ei_joint_idle ei_joint_idle_law(double rate, double step, ei_end end);

/* The number of jobs N of a busy period of M/D/1, of Borel's law, as a mixture of geometric ones: sum of
 * weight_i ratio_i^n is at most (lower) or at least (upper) P(N > n) for all n >= 0. P(N > n) are the moments
 * of a measure on [0, load e^{1 - load}], as n^{n-1} / n! = (1 / pi) int_0^pi (v^2 + (1 - v cot v)^2) (sin v
 * e^{v cot v} / v)^n dv (Kalugin, Jeffrey, Corless 2012), so that Gauss's rule has an error of one sign for
 * powers, and Radau's with a node at the end the other. That holds for each part of the measure, too: more
 * than one, of as many nodes each, with ends in geometric progression, resolve n up to `longest`. The
 * inequality is checked as far as P(N > n) > 1e-30. Status: EI_ERR_ACCURACY where rounding spoils it. */
typedef struct {
    size_t count;
    double weight[EI_JOINT_TYPES], ratio[EI_JOINT_TYPES];
} ei_joint_busy;

EI_WARN_UNUSED int ei_joint_busy_init(ei_joint_busy *self, double load, size_t parts, double longest,
                                      size_t count, ei_end end);

/* Q, the wait of a job, and j, the jobs before it in its busy period: masses of Q = x > 0 for one j after the
 * other. With r_j(x) e^{rate x} the density, r_{j+1}(x) = C R_j((x - d)^+), C = rate e^{-rate d}, R_j(x) =
 * int_x^inf r_j; r_1 = (1 - rate d) C on (0, d). On (0, d) r_j is constant, and convex beyond for j > 1, and
 * it falls, so that a cell's chord bounds it from above, and its integral from below when g^2 / 8 times the
 * change D of its slope is taken off, g the cell's width. With e^{rate x}, upper ends have the chord's mass
 * at the cell's ends, its mean kept. Lower ones have all mass at one place: with m the chord's mass, M its
 * moment about the left end a, and l = g^2 / 8 D e^{rate b} or more what is too much, E (Q - y)^+ in the cell
 * is at least M - m (y - a) - l (b - y) for y <= b, that of a mass of m - l at a + (M - g l) / (m - l). */
typedef struct {
    ei_end sides;
    double rate, service, step;            /* s: of the cells */
    size_t per_service, jobs, size, limit; /* cells: that are in use, and at most */
    double beyond;
    double share[4]; /* of a cell's mass and of its moment over g that r at its ends has */
    double *r[2], *integral[2], *mass[2], *right[2], *kept[2], *growth; /* [limit + 1]; one block, owned by
                                                                           r[0]; right: moment over g */
} ei_joint_wait;

/* At j = 1, for waits up to `end`, s, or a little more; beyond: at least P(Q > end), whatever j, by which, or
 * by those of Erlang's density, which r_j is without the condition that the queue is never empty, the
 * integrals from above are made larger. Longer waits are not in the masses and tails that follow. sides:
 * EI_LOWER for both ends of these, EI_UPPER for the upper one alone. */
EI_WARN_UNUSED int ei_joint_wait_init(ei_joint_wait *self, ei_end sides, double rate, double service,
                                      size_t per_service, double end, double beyond);
void ei_joint_wait_free(ei_joint_wait *self);
void ei_joint_wait_advance(ei_joint_wait *self);
/* Masses at start + i step, i < count, start <= 0, above or below in the increasing convex order; what lies
 * beyond is put at the last point. Status: EI_ERR_NO_MEMORY. */
EI_WARN_UNUSED int ei_joint_wait_masses(const ei_joint_wait *self, ei_end end, double start, double step,
                                        size_t count, double *mass);

/* As ei_joint_wait_masses, from above, of waits with n >= 1 jobs more before them than `jobs` > 1 have: of
 * the sum over n of s^n w(x) at least, where w e^{-rate x} >= r_j, j = `jobs`. v(x) = e^{-(rate + decay) x}
 * has C int_(x - d)^+^inf v <= s v(x), s = e^{decay d} rate / (rate + decay), which is least at rate + decay
 * = 1 / d and 1 where decay is that of all waits. So r_j <= p v makes r_{j+n} <= p s^n v, and p v e^{rate x}
 * stands for w, and so does, with the largest s, the least of this for several decays, from that with rate +
 * decay = 1 / d on: p is the largest r_j / v. Beyond some x it is not looked for, as r_j is at most the
 * density without the condition that the queue is never empty, Erlang's, whose ratio to v rises and falls.
 * Overwrites masses of this end, which ei_joint_wait_advance finds anew. */
void ei_joint_wait_longer_masses(ei_joint_wait *self, double decay, double start, double step, size_t count,
                                 double *mass);

/* Adds P(Q > start + k step, Q > 0, j) for k < count to tail, from above or below. */
void ei_joint_wait_add_tails(const ei_joint_wait *self, ei_end end, double start, double step, size_t count,
                             double *tail);

#endif
