/* One M/G/1 queue and what is independent of its wait: certified ends of P(Wq + Y_1 + .. + Y_m > t). Y may be
 * the job's own service, the service of a job of another kind (own wait and own service are independent, so
 * that what is known of the job tells nothing of its wait), and delays that nobody queues for. Seconds; rates
 * in 1/s.
 *
 * Wq is a sum of a geometric number of ladder heights H (Pollaczek, Khinchine): P(H > x) = rate E (S - x)^+,
 * as a law of total mass rho = rate E S. Its tail at lattice points is known from above and below twice over,
 * by sums of the service's ends beyond x and by rho less those up to x; the better of each is taken, so that
 * the mass is right and only the place of a height is rounded, by a step. Larger heights make a larger sum.
 * With masses a_i weighed by e^{theta t}, theta below the queue's decay, and their transform a^, that of the
 * wait is (1 - rho) / (1 - a^), |1 - a^| >= 1 - sum a
 * =: g. Errors: with eta = ei_fourier_error, a^ is right to e = 2 eta sum a, so that the quotient is right to
 * (1 - rho) (e + 2 u) / g^2, the factors of the Y to 2 eta each as their sums are scaled to 1, and the
 * inverse to 2 eta of its largest input, (1 - rho) / g. Heights and times beyond the lattice are later than
 * any point of it (upper ends) or at its last one (lower ends). What lies beyond the transform's length is
 * bounded by exponential moments of the rounded laws at a second theta: it is added to upper ends, and taken
 * from all masses of lower ones, onto which it may have been folded. */
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
