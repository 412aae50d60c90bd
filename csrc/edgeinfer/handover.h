/* Ends where the random stage of D (d1), X, D (d3) is the bottleneck, in the notation of bracket.h.
 *
 * Lower.
 * handover: let R_l be the longest path that X hands over to d3 with job l, so that W = max_l R_l. It depends
 * on X_l, X_{l+1}, .. alone and is R_0 + l d3 - S_l in law. For j < l, R_j >= R_l - G_j, G_j = sum_{j <= i <
 * l} (d3 - X_i), for any path may stay on X longer; min_j G_j is d3 - U_{l-1} in law, U_m = X_m + (U_{m-1} -
 * d3)^+, U_0 = X_0, and independent of R_l. Hence W >= R_l + (U_{l-1} - d3)^+ for any l, R_0 by `link`.
 *
 * Upper.
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
 * a. */
#ifndef EDGEINFER_HANDOVER_H
#define EDGEINFER_HANDOVER_H

#include "edgeinfer/ends.h"

/* Lower ends `link` and `handover`, upper ends `first_handover`.
 * Status: EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_bracket_link(const ei_batch *self);

#endif
