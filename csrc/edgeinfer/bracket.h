/* Certified two-sided brackets of the violation probability P(W > T) of a tandem with Poisson arrivals.
 *
 * With one random stage the deterministic stages before and after it merge exactly into a constant and one
 * server each: D (d1), X, D (d3), dm = max(d1, d3). The path representation in reversed time, S_m the sum of
 * m interarrival times and X_0, X_1, .. the service times from the last job backwards, reads W = sup over 0
 * <= l <= m of [d3 (l + 1) + X_l + .. + X_k + d1 (m - k + 1) - S_m], l <= k <= m. Wq(S) is the waiting time
 * of the M/G/1 queue with service S, independent of what it is added to.
 *
 * Lower ends.
 * queue: fix the switching jobs so that one job only uses X: W >= d1 + d3 + X + Wq(dm).
 * link: keep all jobs on X: W >= d1 + d3 + X + Wq(X).
 * handover: let R_l be the longest path that X hands over to d3 with job l, so that W = max_l R_l. It depends
 * on X_l, X_{l+1}, .. alone and is R_0 + l d3 - S_l in law. For j < l, R_j >= R_l - G_j, G_j = sum_{j <= i <
 * l} (d3 - X_i), for any path may stay on X longer; min_j G_j is d3 - U_{l-1} in law, U_m = X_m + (U_{m-1} -
 * d3)^+, U_0 = X_0, and independent of R_l. Hence W >= R_l + (U_{l-1} - d3)^+ for any l, R_0 by `link`.
 *
 * Upper ends.
 * single_server: every job of a path costs at most Y = max(dm, X), and the two that switch d1 and d3 more: W
 * <= d1 + d3 + Y + Wq(Y). overtaking, d1 > d3: a path costs d1 a job, plus what X and d3 change: W <= d1 + d3
 * + Wq(d1) + Z, Z = sup over k <= l of [sum_k^l X - (l - k) d1 - ..]; Z_n <= max(X_n + (Z_{n-1} - d1)^+,
 * Z_{n-1} - (d1 - d3)), and Z depends on the X's alone, so the terms are independent. associated: W = d1 + d3
 * + sup_m [m dm - S_m + V_m - m (dm - d3)], V_m = max(V_{m-1} + d1 - d3, U_m), U_m = X_m + (U_{m-1} - d3)^+
 * <= X_m + (V_{m-1} - d3)^+. The V_m are increasing functions of independent X's, hence associated (Esary,
 * Proschan, Walkup 1967): P(V_m <= x_m for all m) >= prod P(V_m <= x_m), so that drawing each V_m afresh from
 * its own law gives an upper bound: a walk with killing. Paths of more than M jobs are covered by a Chernoff
 * bound. moments: the bounds of bound.h, and the only ones for pipelines with several random stages.
 *
 * first_handover: W > T has a first l with R_l > T, and R_l - G_j <= R_j <= T for all j < l: P(W > T) <=
 * P(R_0 > T) + sum_{l >= 1} P(T < R_l <= T + d3 - U_{l-1}), the end of the sum by Chernoff's bound. This
 * needs bounds on R_0, that is on D (d1), X. Below: X alone. Above: X, D (d1), which is no faster (next
 * paragraph), by the same sum with d1 in d3's place and X alone, an M/G/1 queue, as R_0.
 *
 * X, D is no faster than D, X, whatever the arrivals. With M_m = max_{i <= m} (X_0 + .. + X_i - i d) and L_m
 * = X_m + (L_{m-1} - d)^+, L_0 = X_0, their sojourn times are d + sup_m (m d - S_m + M_m) and d + sup_m (m d
 * - S_m + L_m), so that it is enough that P(M_m <= c_m, m <= N) >= P(L_m <= c_m, m <= N) for any c. By
 * induction: let c = c_N and j < N the last index with c_j <= c; without one, drop all constraints but the
 * last on the right and use M_N = L_N in law. Drop those between on the right; on the left they follow from
 * the last, since M grows. Call the services after j in reverse order Y, and M^.. the maximum above over the
 * services in the order given. L_N <= c means that M^Y <= c and L_j <= c - (sum Y - (N - j) d), so by
 * induction for given Y the right side is at most P(A, M^{YX} <= c), A = {M_m <= c_m, m <= j}, where the left
 * side is P(A, M^{XY} <= c). Y moves past the X's one at a time: for orders P x Y Q and P Y x Q with P and Q
 * given, A says x <= a for some a, and both maxima are <= c iff, with c' what P leaves of c, the common
 * condition on sum Y + x + Q holds and (f) x <= c', M^Y <= c' + d - x, or (g) M^Y <= c', sum Y - (|Y| - 1) d
 * <= c' + d - x. Given x, (g) implies (f) for x < min(d, c'), (f) implies (g) beyond, and their expectations
 * over x and Y agree, for these are exchangeable; so the excess of (f) over (g) on x <= a is >= 0 for every
 * a.
 *
 * Lattices round services up and interarrival times down for upper ends, the other way for lower ends. */
#ifndef EDGEINFER_BRACKET_H
#define EDGEINFER_BRACKET_H

#include <stddef.h>
#include <stdint.h>

#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

enum {
    EI_BRACKET_UNSTABLE,      /* a stage's load is >= 1: both ends are 1 */
    EI_BRACKET_EXACT,         /* no random stage: M/D/1 */
    EI_BRACKET_TRIVIAL,       /* 0 for a lower end, 1 for an upper one */
    EI_BRACKET_QUEUE,         /* lower */
    EI_BRACKET_LINK,          /* lower */
    EI_BRACKET_HANDOVER,      /* lower */
    EI_BRACKET_SINGLE_SERVER, /* upper, as all below */
    EI_BRACKET_FIRST_HANDOVER,
    EI_BRACKET_OVERTAKING,
    EI_BRACKET_ASSOCIATED,
    EI_BRACKET_MOMENTS,
    EI_BRACKET_METHODS
};

/* Given:    stages[stage_count]; arrival_rate[count], 1/s, > 0; deadline[count], s, any sign, may be inf
 * Returned: lower[count] <= P(W > deadline) <= upper[count], and which formula gave each
 * Status:   EI_ERR_EMPTY, EI_ERR_DOMAIN, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED, EI_ERR_TOO_LARGE */
EI_WARN_UNUSED int ei_violation_bracket(const ei_service *stages, size_t stage_count, size_t count,
                                        const double *arrival_rate, const double *deadline, double *lower,
                                        double *upper, uint8_t *lower_method, uint8_t *upper_method,
                                        ei_monitor monitor);

#endif
