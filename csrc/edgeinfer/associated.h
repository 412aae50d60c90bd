/* Upper ends where a deterministic stage is the bottleneck: D (d1), X, D (d3) in the notation of bracket.h.
 *
 * overtaking, d1 > d3: a path costs d1 a job, plus what X and d3 change: W <= d1 + d3
 * + Wq(d1) + Z, Z = sup over k <= l of [sum_k^l X - (l - k) d1 - ..]; Z_n <= max(X_n + (Z_{n-1} - d1)^+,
 * Z_{n-1} - (d1 - d3)), and Z depends on the X's alone, so the terms are independent. associated: W = d1 + d3
 * + sup_m [m dm - S_m + V_m - m (dm - d3)], V_m = max(V_{m-1} + d1 - d3, U_m), U_m = X_m + (U_{m-1} - d3)^+
 * <= X_m + (V_{m-1} - d3)^+. The V_m are increasing functions of independent X's, hence associated (Esary,
 * Proschan, Walkup 1967): P(V_m <= x_m for all m) >= prod P(V_m <= x_m), so that drawing each V_m afresh from
 * its own law gives an upper bound: a walk with killing. Paths of more than M jobs are covered by a Chernoff
 * bound. */
#ifndef EDGEINFER_ASSOCIATED_H
#define EDGEINFER_ASSOCIATED_H

#include "edgeinfer/ends.h"

/* law: X rounded up; waiting: Wq(d1). Nothing happens where the lattice does not hold the law of Z.
 * Status: EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_upper_overtaking(const ei_batch *self, const ei_lattice *law, const ei_md1 *waiting);
EI_WARN_UNUSED int ei_upper_associated(const ei_batch *self);

#endif
