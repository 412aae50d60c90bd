/* P(r_1 + .. + r_n + f r_{n+1} < c) slot by slot, r_i the rates of independent slots: for transfers of few
 * slots. G_n(x) = P(r_1 + .. + r_n < x) and its complement H_n obey
 *   G_n(x) = int_0^x p(y) G_{n-1}(x - y) dy,  H_n(x) = P(r >= x) + int_0^x p(y) H_{n-1}(x - y) dy,
 * recursions of positive terms, so that small values of either keep their relative accuracy. They are run on
 * a uniform grid over [0, c] with Gregory's end corrections, H only up to the median. */
#ifndef EDGEINFER_RECURSION_H
#define EDGEINFER_RECURSION_H

#include "edgeinfer/rate.h"
#include "edgeinfer/status.h"

typedef struct ei_recursion ei_recursion;

/* Multiply-adds that all slots take, roughly: `slots` is the mean number, `spread` the standard deviation of
 * one slot's rate. */
double ei_recursion_work(const ei_rate *rate, double carry, double slots, double spread);

/* At n = 1 slot. carry: c > 0; tail: down to which G_n(c) is wanted, >= 1e-289. *self is owned by the caller,
 * NULL on error; free(NULL) is legal. Status: EI_ERR_NO_MEMORY, EI_ERR_TOO_LARGE (the grid). */
EI_WARN_UNUSED int ei_recursion_new(ei_recursion **self, const ei_rate *rate, double carry, double tail);
void ei_recursion_free(ei_recursion *self);

/* Goes on to n + 1 slots. */
void ei_recursion_advance(ei_recursion *self);

/* P(r_1 + .. + r_n < c). */
double ei_recursion_below(const ei_recursion *self);

/* log(P / (1 - P)) of P(r_1 + .. + r_n + f r_{n+1} < c), 0 <= f <= 1, for the n that has been reached. */
double ei_recursion_logit(ei_recursion *self, double f);

#endif
