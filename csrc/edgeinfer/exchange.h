/* An upper end of a chain whose slowest stage b comes last, by that of the chain in the opposite order, where
 * b comes first and tilted.h needs no sojourn times drawn afresh. Seconds; rates in 1/s.
 *
 * Let L_j be the longest path from job j at the first stage, a, to job 0 at the last, so that W = sup_j [L_j
 * - S_j]. With drift downwards there is a last j with L_j - S_j > T. Then no path is longer than T that goes
 * on from that one on a alone, with the services X_{j+1}, .. of a, and these and the times between them are
 * independent of L_j and S_j given the phase i of job j. With R_a the sojourn time in a alone, and t the time
 * to the request before a job of phase i, which finds R_a,
 *   P(W > T) <= sum_j E k_a(T - L_j + S_j),   k_a(y) = P(t + y > R_a) for y < 0, else 0.
 *
 * In a bound V of b alone, tilted.h, 1 - m takes the place of that chance: k_b(y) = 1 - m(y) for y < 0, m(y)
 * = E V(y + t), else 0. Let k_a <= factor k_b, so that P(W > T) <= factor sum_j E k_b(T - L_j + S_j). Each
 * term depends on the law of L_j alone, S_j being independent of it, and that is the same if jobs 0 .. j are
 * numbered the other way and stages follow each other in the opposite order, b first. In that order, with
 * the notation of tilted.h, V(x) >= E [k_b(x - B) + V(x - B + t)] for all x, and applied to what is left of T
 * at each job in turn
 *   sum_j E k_b(T - L_j + S_j) <= E V(T - N_0) + sum_{l >= 1} E [V(y_l - delta_l) - V(y_l)],
 * which tilted.h bounds. There is no stage before b, so that phases need not be monotone. What is left out
 * behind the first l with z_l > z adds at most the sum over j of P(L_j - S_j > z), given a phase: the bound
 * `union` of bound.h is one of that sum, `lundberg` and the law itself are not. Behind Poisson arrivals that
 * which tilted.h has for P(W > z) with no stage before b is one: it is of the least V, which has the largest
 * k_b.
 *
 * The factor. With Poisson arrivals k_a(y) = (1 - load of a) e^{rate y} and k_b(y) = (1 - m(0)) e^{rate y}.
 * With Markov-modulated arrivals k(y) = e^{-D y} k(0-), D of modulated.h, so that the largest ratio at y = 0-
 * will do, over all phases. With renewal times whose law is a mixture of exponential ones (hyperexponential,
 * and gamma of a shape of at most 1) k(y) = E F(R - y), F(x) = P(t > x), and F(e + x) / F(e) grows with e, to
 * at most e^{-least x} with the least rate of the mixture. The ratio is taken over cells of e = -y, as k
 * falls with e, and beyond the last point E it is at most E e^{-least R_a} F(E) / k_b(-E). R_a from below by
 * lindley.h. */
#ifndef EDGEINFER_EXCHANGE_H
#define EDGEINFER_EXCHANGE_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/status.h"
#include "edgeinfer/walk.h"

/* Whether there is a factor behind such arrivals. */
int ei_may_exchange(const ei_arrival *arrival);

/* Given:    v of b, by phase; first: stage a, `reach` s of whose sojourn times are followed
 * Status:   EI_ERR_ACCURACY or EI_ERR_TOO_LARGE where there is no factor, EI_ERR_NO_MEMORY,
 *           EI_ERR_INTERRUPTED */
EI_WARN_UNUSED int ei_exchange_factor(double *factor, const ei_upper_law *v, const ei_added_stage *first,
                                      double reach, const ei_arrival *arrival, ei_monitor monitor);

#endif
