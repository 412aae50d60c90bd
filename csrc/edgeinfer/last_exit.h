/* A constant stage behind a random one that periodic arrivals feed: both ends of the law of the time in both,
 * but for one service of the constant stage. Seconds.
 *
 * Requests come every a seconds, R_n is the sojourn time of the n-th request before the tagged one up to and
 * with the random stage, of services X, and the constant one takes m < a. With f = a - m the time in both is
 * m + W, W = sup_{n >= 0} [R_n - n f]. Where W > x there is a last request that exceeds x, counted in time:
 * the least n with R_n > x + n f, so that P(W > x) is the sum over n of the chance that n is that one.
 *
 * Upper end. The j-th request after the n-th has a sojourn time of no less than R_n + X_1 + .. + X_j - j a,
 * with services that do not depend on R_n. Let o = R_n - x - n f > 0 and Y_j = X_1 + .. + X_j - j m. If n is
 * the last, Y_j <= -o for all j = 1 .. n: let phi_n(o) be the chance of that, 0 for o <= 0, phi_0 = 1. Then
 * P(W > x) <= sum_n E phi_n(R_n - x - n f). No stage before the random one makes this untrue.
 *
 * Lower end, of no stage before the random one. The sojourn time of the j-th request after the n-th is the
 * larger one of that and of what it would be with nobody before it, which W is no less than: given R_n, n is
 * the last if both stay below what they must, two events that grow with every shorter service, so that
 * (Harris) their chance is at least phi_n(o) P(W <= x): P(W > x) >= P(W <= x) sum_n E phi_n(R_n - x - n f).
 *
 * phi. phi_n(o) = 1 - v_n(m - o), v_n(x) = E u_{n-1}(x - X), where u_n(y) is the chance that Y exceeds y
 * within n steps, 1 for y < 0: v_n(x) = E u_{n-1}(x - X), u_n(y) = v_n(y + m), u_0(y) = 0, iterates of the
 * G of lindley.h for requests every m seconds, of which half_line.h has bounds from both sides. They fall
 * with n, as phi_n does, and to no less than 1 - v, v of lindley.h. phi_n falls with o, and is 0 beyond m.
 *
 * Lattice. a and m are multiples of its step, m rounded up (upper) or down, of all that may be taken the one
 * where that moves m the least. phi is taken constant in each cell, so that E phi_n is a sum of terms phi P(R
 * in cell), and by parts one of positive multiples of P(R > .), from above, less such, from below. R from
 * both sides by lindley.h; beyond the lattice from above by its bound of moments and from below 0. */
#ifndef EDGEINFER_LAST_EXIT_H
#define EDGEINFER_LAST_EXIT_H

#include "edgeinfer/walk.h"

typedef struct {
    const ei_added_stage *random; /* the random stage, without a floor, less what the times are less, too */
    const ei_upper_law *before; /* of the sojourn time in stages before it; a lower end does not look at it */
    double interval, time;      /* s: a and m */
    double horizon;             /* s, of the laws */
    ei_monitor monitor;
} ei_last_exit;

/* W from above; log_scale and decay are set, too. *law is the caller's to free, empty after an error.
 * Status: EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED, EI_ERR_ACCURACY where no lattice fits, EI_ERR_UNSTABLE. */
EI_WARN_UNUSED int ei_last_exit_upper(ei_upper_law *law, const ei_last_exit *given);
/* W from below. The same. */
EI_WARN_UNUSED int ei_last_exit_lower(ei_lattice *law, const ei_last_exit *given);

#endif
