/* An upper end for X, D: a random stage before a constant one, of load_X and time d. Poisson arrivals.
 *
 * With the last job from which on a path is longer than T, exchange.h, and a the random stage,
 *   P(W > T) <= (1 - load_X) sum_j E [e^{-rate (L_j - S_j - T)}; L_j - S_j > T],
 * S_j a sum of j interarrival times. L_j = M_j + (j + 1) d in law, M_0 = X_0, M_j = X_j + (M_{j-1} - d)^+, so
 * that each term is E w_j(M_j), w_j(m) = p_j(m + (j + 1) d - T), p_j(z) = e^{-rate z} (rate z)^j / j! for z >
 * 0, else 0: a sum on one line. All that is lost is that paths may go on in both stages.
 *
 * f_j(m) = P(M_j > m) = E g(m - X), g(y) = f_{j-1}(y + d) for y >= 0, 1 for y < 0, from both sides by line.h.
 * Beyond its lattice f_j <= b_j e^{-theta m}, b_j = M (1 + D b_{j-1}), M = E e^{theta X}, D = e^{-theta d},
 * in upper ends, 0 in lower ones. In u = e^{-xm} those ends are polygons. So is one above w_j: with p'' =
 * rate^2 (p_{j-2} - 2 p_{j-1} + p_j), p' = rate (p_{j-1} - p_j), d2 w / du2 = (w'' + x w') / (x u)^2, and
 * p(z) <= e^{rate s} p(z + s), the chord of a cell of width h is at most h^2 / 8 e^{(rate + 2 x) h} (2 rate^2
 * p_{j-1} + x rate p_j) too low, with p at the cell's far end. E w(M) = w(0) + int w'(m) f(m) dm for that
 * polygon, cell by cell its change times the mean of f at both points: f from above where it rises, and below
 * where it falls. The first term is at most P(X > T - d).
 *
 * Beyond the last point, and from some job on, w_j <= P(S_j < M_j + (j + 1) d - T) <= e^{-theta (T - d)} (L /
 * D)^j e^{theta M_j}, L = rate / (rate + theta): with E e^{theta M_j} <= b_j the sum over j > J is at most
 * e^{-theta (T - d)} (L / D)^J (M L / D / (1 - L / D) + M L b_J) / (1 - M L), and where M_j > m the term is
 * at most e^{-theta (T - d) - eta m} (L / D)^j b_j, b of theta + eta.
 *
 * Lower ends: constant_first.h. */
#ifndef EDGEINFER_CONSTANT_LAST_H
#define EDGEINFER_CONSTANT_LAST_H

#include "edgeinfer/ends.h"

/* Cuts upper ends of a chain of a random stage and one of constant `time`, with `constant` seconds more,
 * `time` itself among them; where the random stage is not the slower one. Loads below one. Status:
 * EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED, EI_ERR_DOMAIN. */
EI_WARN_UNUSED int ei_constant_last_upper(const ei_batch *batch, const ei_service *random, double time,
                                          double constant);

#endif
