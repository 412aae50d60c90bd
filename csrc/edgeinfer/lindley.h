/* Adding a stage to a chain behind arrivals that are not Poisson, and a lower end of one stage's own queue.
 * Seconds.
 *
 * In the notation of walk.h u(y) = c(y) + (1 - c(y)) m(y), m(y) = E v(y + t), v(x) = E u(x - B), u = 1 below
 * zero, c = 0 for a lower end: u = G(u), G growing. Behind Markov-modulated arrivals u, v and m have a phase
 * i, that of the request which the walk has reached, m_i(y) = sum_j E[v_j(y + t); phase j at the request
 * before] (modulated.h), and the law is the mean of v_i, phases weighed by their share of requests; walk.h's
 * proof then needs C's that do not depend on the arrivals.
 *
 * Bounds. u is bounded by a function w that is linear between the points of a lattice, and G(w) again by one,
 * G^+(w) above it or G^-(w) below it, with laws split as in split.h: the error is of the lattice's second
 * order, but at zero, where u jumps, and in c, which is read at the point before, where it is of the first
 * order once a path. Before each step functions are made monotone, outwards.
 *
 * Certificate. Beyond the lattice w is Chernoff's bound (upper) or 0 (lower). If w >= G^+(w) on the lattice,
 * then w >= u: d = max(u - w, 0) is 0 beyond it and d <= E d(y + t - B) on it, hence at most the largest d
 * times the probability that the walk stays on the lattice for n steps, which vanishes. Lower ends likewise.
 * So any way to find w will do. With several phases the walk with its phase is what
 * stays on the lattice. w is looked for by w <- w + A^{-1} (G^+-(w) - w), A = 1 - (1 - c) K, K the
 * linear part of G on the lattice, by GMRES with the inverse of 1 - K on a circle as preconditioner, under a
 * tilt e^{theta y} that makes K a contraction. Then w is moved outwards by some epsilon times s_i e^{-theta
 * y}, s = 1 + E[e^{theta (B - t)} s], of which G takes off more than epsilon but for the bends, or by the
 * same corrections towards G^+-(w) and some more; and that it is what it must be is checked, point by point,
 * with the rounding errors. What is nearest to the lattice's end is the loosest.
 *
 * Sums are taken by Fourier transform under the tilt, so that small probabilities keep their accuracy. Each
 * pass moves a transform by at most 2 ei_fourier_error of its 2-norm (a pass of radix 4 by 14 u), and by
 * Parseval a sum by 7 times ei_fourier_error times the 2-norms of its two factors. */
#ifndef EDGEINFER_LINDLEY_H
#define EDGEINFER_LINDLEY_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/walk.h"

/* As ei_add_stage_poisson; arrivals of a renewal process, but not periodic ones, or Markov-modulated ones of
 * at most EI_ARRIVAL_PHASES phases; log_scale and decay are set, too. EI_ERR_ACCURACY where no certificate is
 * found. */
EI_WARN_UNUSED int ei_add_stage_lindley(ei_upper_law *self, const ei_upper_law *before,
                                        const ei_added_stage *stage, const ei_arrival *arrival, double step,
                                        size_t count, ei_monitor monitor);

/* A lower bound of the law of the stage's sojourn time, waiting time for a deterministic one, at `count`
 * points of `step`. *self is the caller's to free, also after an error. */
EI_WARN_UNUSED int ei_lindley_sojourn_lower(ei_lattice *self, const ei_added_stage *stage,
                                            const ei_arrival *arrival, double step, size_t count,
                                            ei_monitor monitor);

#endif
