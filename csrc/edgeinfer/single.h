/* One M/G/1 queue and what is independent of its wait: certified ends of P(Wq + Y_1 + .. + Y_m > t). Y may be
 * the job's own service, the service of a job of another kind (own wait and own service are independent, so
 * that what is known of the job tells nothing of its wait), and delays that nobody queues for. Seconds; rates
 * in 1/s.
 *
 * Wq is a sum of a geometric number of ladder heights H (Pollaczek, Khinchine): G(x) = P(H > x) = rate E (S -
 * x)^+ of total mass rho = rate E S, which is convex. Larger heights make a larger sum. G is known at half
 * steps in closed form, or from above and below twice over, by sums of the service's ends beyond x and by rho
 * less those up to x. Chords of it are above it and tangents below it: two heights that are uniform within
 * each step of a lattice h, with masses that fall from step to step. What the smaller one lacks of mass is
 * put at 0, where it adds nothing: all masses over 1 less that.
 *
 * Sums of such heights are known at the lattice points without any rounding. With L the step that a height is
 * in, n of them make the sum of their L and of n uniform times, which is in each of the n steps that follow
 * with the probabilities A(n, k) / n!, A Euler's numbers. Their generating function sum_n x^n sum_k A(n, k)
 * z^k / n! = (z - 1) / (z - e^{(z - 1) x}) gives, with x(z) the transform of L and phi = (e^{(z - 1) x} - 1)
 * / (z - 1), that of the wait in steps, rounded up: (1 - rho) (1 + z phi / (1 - phi)). Weighed by e^{theta
 * t}, r = e^{theta h}, theta below the queue's decay; (1 - phi)^{-1} has coefficients >= 0, so that |1 - phi|
 * >= 1 - phi(r) =: r g. Errors: with eta = ei_fourier_error, x is right to 2 eta sum x, phi to e^{(1 + r)
 * x(r)} times that and some roundings =: e, as |dphi / dx| = |e^{(z - 1) x}|, the transform to (1 - rho) e /
 * g^2, and its inverse to 2 eta of its largest input, (1 - rho) / g. Heights beyond the lattice are later
 * than any point of it (upper ends) or in its last step (lower ends). What lies beyond the transform's length
 * is bounded by exponential moments at a second theta: it is added to upper ends, and taken from all masses
 * of lower ones, onto which it may have been folded.
 *
 * Between lattice points. The density of the wait, f = (1 - rho) p + f * p, p that of a height, rises within
 * (s, t) by at most p(0) P(s < Wq <= t), as p falls. So the tail is above its chord by at most h / 4 times
 * the rise over a step, and no lower than with the slope that the next step has less the rise over both. With
 * one Y, P(Wq + Y > t) = P(Wq = 0) P(Y > t) + P(Wq > t) + int f(s) P(Y > t - s) ds, slopes of such a bound in
 * place of f, and for the integral over a step sums of Y's ends on a finer lattice or a closed form. With
 * several, all are rounded to h, and transforms are multiplied. */
#ifndef EDGEINFER_SINGLE_H
#define EDGEINFER_SINGLE_H

#include <stddef.h>

#include "edgeinfer/ends.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

/* Raises lower and cuts upper ends of the batch, whose pipeline is not looked at, by P(Wq + Y_1 + .. >
 * deadline) down to about 1e-20. Loads below one; a queue too near to one for the accuracy of its law gets no
 * upper end. Status: EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED, EI_ERR_DOMAIN. */
EI_WARN_UNUSED int ei_single_ends(const ei_batch *self, const ei_service *service, const ei_service *others,
                                  size_t other_count);

/* The bracket of P(Wq + Y_1 + .. + Y_m > deadline): arguments, results and status as for
 * ei_violation_bracket. */
EI_WARN_UNUSED int ei_single_bracket(const ei_service *service, const ei_service *others, size_t other_count,
                                     size_t count, const double *arrival_rate, const double *deadline,
                                     double *lower, double *upper, uint8_t *lower_method,
                                     uint8_t *upper_method, ei_monitor monitor);

#endif
