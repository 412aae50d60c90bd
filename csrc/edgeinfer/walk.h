/* Adding a stage to a chain: an upper end of P(W > x) for a tandem whose last stage has services B_0, B_1, ..
 * from the tagged job backwards, fed by any chain of stages whose sojourn times C_0, C_1, .. have a law known
 * from above. Seconds; rates in 1/s.
 *
 * With S_i the sum of i interarrival times and A_i = B_0 + .. + B_i - S_i, W = sup_{i >= 0} [A_i + C_i]. Let
 * C'_i be drawn afresh from the law of C, or from a larger one. Then P(W > x) <= P(sup_i [A_i + C'_i] > x).
 * Proof: put I_i = 1{A_i + C_i <= x} and R_i = I_i I_{i+1} .. ; given the B's and t_1 .. t_i, both I_i and
 * R_{i+1} grow with every later interarrival time and fall with every service of the stages before, so that
 * E[I_i R_{i+1} | ..] >= P(C <= x - A_i) E[R_{i+1} | ..] (Harris), and so on from i = 0. For any renewal
 * arrivals.
 *
 * So v(x) = P(sup_i [A_i + C'_i] > x) is the least non-negative solution of v = G(v), v(x) = E u(x - B), u =
 * c
 * + (1 - c) m, m(y) = E v(y + t), where c(y) = P(C' > y) and all are 1 below zero: any w >= G(w) is >= v, and
 * G of an upper bound is one.
 *
 * Poisson arrivals, on a lattice of step h with services rounded up and interarrival times down, P(t = i h) =
 * a q^i, q = e^{-rate h}, a = 1 - q: m_j = a v_j + q m_{j+1}, so with r = a / q, m_j - m_{j+1} = r (v_j -
 * m_j), and summed from j to infinity, with G_i = P(B > i h) and k = c (1 - m), m_j = r [sum_{i >= j} G_i +
 * sum_{n < j} u_n G_{j-1-n} + K_j],  K_j = sum_{n >= j} k_n, a forward recursion of positive terms once K is
 * known. Run with K_0 = 0 and K_{j+1} = K_j - k_j it ends in a solution that does not vanish at infinity but
 * tends to some tau; as the recursion is affine and m = 1, k = 0, K = (1 - load) / r solves it, too, (m -
 * tau) / (1 - tau) is the one that does, to some 1e-15 of 1. K from that, summed from the small end and made
 * larger by the factor 1 + delta, and the recursion once more give m^ to small relative error. Its v^_j =
 * m^_j + (m^_j - m^_{j+1}) / r satisfies v^_j - G(v^)_j = (1 + delta) k_j - c_j (1 - m^_j), so m^ is an upper
 * bound where m^_j >= m_j - delta (1 - m_j) for all j: this is checked, and that m^ <= 2, so that u = m^ + c
 * (1 - m^) loses no digits where c is near 1. Services beyond the lattice, of probability e, are cut to its
 * end and e (cells + 1 / r) is added to the sum of the G_i, which adds r (..)
 * >= e to v^: no less than they can. The sums' rounding errors, below 1e-13 each over at most 1e5 points, are
 * covered by a factor of 1 + 1e-8. */
#ifndef EDGEINFER_WALK_H
#define EDGEINFER_WALK_H

#include <stddef.h>

#include "edgeinfer/lattice.h"
#include "edgeinfer/status.h"

/* An upper bound of a survival function: at and between the lattice's points as there, beyond its end the
 * last value or e^{log_scale - decay time} where that is less. lattice.sf NULL: the time is 0. So that a
 * point is not missed by rounding, a law is read at a 1e-9th of a step later, which is to say that the time
 * is taken to be that much shorter; as it enters each path once, the sojourn time is `shift` longer than its
 * law says, at most.
 */
typedef struct {
    ei_lattice lattice;
    double log_scale, decay;
    double shift; /* s: of all laws that this one was made from */
    /* Of requests that meet each phase of Markov-modulated arrivals, all below that bound beyond the lattice,
     * of which that law is the mean; NULL: one law. */
    size_t phases;
    double *by_phase; /* [phases][lattice.count], owned */
} ei_upper_law;

void ei_upper_law_free(ei_upper_law *self);
/* 1 below 0. */
double ei_upper_law_sf(const ei_upper_law *self, double time);
/* Of the requests that meet a phase: a law with by_phase NULL for all phases. */
ei_upper_law ei_upper_law_of_phase(const ei_upper_law *self, size_t phase);
/* An upper bound of P(Y + Z > time), Y and Z independent, shifts included. */
double ei_upper_law_plus_sf(const ei_upper_law *self, const ei_upper_law *other, double time);

/* log E e^{theta C} of the law from above, of the phase where that is largest, 0 <= theta < decay. */
double ei_upper_law_log_moment(const ei_upper_law *law, double theta);

/* The stage that is added: services max(floor, law), or the time `again` of a deterministic one, whose last
 * service is then left out of the result. All are taken `less` shorter, where that is looked at (split.h and
 * what uses it), which is at most the shortest. But of a transfer: what is shorter than that counts as that,
 * or, from below, is left out. */
typedef struct {
    const ei_service *law; /* NULL: deterministic */
    double floor, again, less;
} ei_added_stage;

/* Returned: *self, the caller's to free, at `count` points of `step`; log_scale and decay are the caller's to
 * set.
 * Status: EI_ERR_UNSTABLE where rounding pushes the load over one, EI_ERR_ACCURACY where the check fails,
 * EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED; *self is then empty. */
EI_WARN_UNUSED int ei_add_stage_poisson(ei_upper_law *self, const ei_upper_law *before,
                                        const ei_added_stage *stage, double arrival_rate, double step,
                                        size_t count, ei_monitor monitor);

/* The same for exponential services of mean `time` and no rounding but that of c: with a = 1 - v, b = 1 - m,
 * mu = 1 / time and lambda the rate, a' = mu ((1 - c) b - a) and b' = lambda (b - a), a(0) = 0. So d = b - a
 * and b obey d' = -nu d + mu c b, nu = mu - lambda, and b' = lambda d, which only adds positive terms and is
 * solved exactly where c is constant, from d = b = 1 on, up to a factor l, the limit of b, which tends to 1:
 * l = lim b + lambda d / nu, whose derivative is (lambda mu / nu) c b. Hence v = (int_y^inf (lambda mu / nu)
 * c b + mu d / nu) / l, of positive terms; b is put at the end of a step in the integral, at its beginning in
 * l, and at most l beyond the lattice. d e^{nu y} grows, so that -v' = mu (d - c b) / l <= nu v(z) e^{nu (z -
 * y)} for all y <= z. */
EI_WARN_UNUSED int ei_add_stage_exponential(ei_upper_law *self, const ei_upper_law *before, double time,
                                            double arrival_rate, double step, size_t count);

/* The same for a job every `period` seconds, `period_points` of the lattice's steps: from a first bound by
 * exponential moments downwards by G. At most `limit` points; log_scale and decay are set, too. Of services
 * that are taken less the period is, too. */
EI_WARN_UNUSED int ei_add_stage_periodic(ei_upper_law *self, const ei_upper_law *before,
                                         const ei_added_stage *stage, double period, size_t period_points,
                                         size_t limit, ei_monitor monitor);

#endif
