/* What both ends of two stages at once (pair.h, pair_upper.h) do with rows of their lattice. Rows do not
 * overlap. */
#ifndef EDGEINFER_PAIR_ROWS_H
#define EDGEINFER_PAIR_ROWS_H

#include <stddef.h>

#include "edgeinfer/arrival.h"
#include "edgeinfer/status.h"
#include "edgeinfer/walk.h"

/* to[i] += factor from[i], i < count. */
void ei_add_products(double *restrict to, const double *restrict from, double factor, size_t count);

/* to[i] += factor from[i - shift], 0 <= i < count, 0 <= i - shift < known; factor >= 0. */
void ei_add_shifted(double *restrict to, const double *restrict from, double factor, ptrdiff_t shift,
                    ptrdiff_t count, ptrdiff_t known);

/* Sums over many rows, each in the order of c and with the same bits as by the functions above. Row k of a
 * function, `points` numbers, begins k points behind what is given, which is its row 0; what stands behind
 * its last row may be read and has to be finite.
 * served: to_k[i] += factor[c] from_{k+c}[i-c], -1 <= k, 0 <= c < count, k + c < end, c <= i.
 * drained: to_k[i] += factor[c] from_{k-c}[i], 0 <= k < end, 0 <= c < count, k - c >= first. */
void ei_add_served(double *restrict to, const double *restrict from, const double *restrict factor,
                   ptrdiff_t count, ptrdiff_t end, ptrdiff_t points);
void ei_add_drained(double *restrict to, const double *restrict from, const double *restrict factor,
                    ptrdiff_t count, ptrdiff_t first, ptrdiff_t end, ptrdiff_t points);

/* to[i] += sum of factor[c] from[i + c], c < terms, i < count; `from` has count + terms numbers and
 * EI_PAIR_PAD more that may be read and have to be finite. */
enum { EI_PAIR_PAD = 32 };
void ei_add_ahead(double *restrict to, const double *restrict from, const double *restrict factor,
                  ptrdiff_t terms, ptrdiff_t count);

/* to[i] = max(to[i], from[i]), i < count. */
void ei_raise_row(double *restrict to, const double *restrict from, size_t count);

/* By how much a row bends downwards (EI_LOWER) or upwards between its neighbours, relative to exponentials
 * that fall by `ratio` a step: the positive part of before - here - ratio (here - after), or of its negative.
 */
void ei_find_bend(double *restrict to, const double *restrict before, const double *restrict here,
                  const double *restrict after, double ratio, size_t count, ei_end end);

/* The most that such a bend is away from a chord, over itself. */
double ei_most_bend(double ratio);

/* The row before the first one, from its second point on, so that along the diagonal it does not bend: first,
 * next: those two rows, 1 before the latter. */
void ei_continue_row(double *restrict below, const double *restrict first, const double *restrict next,
                     double ratio, ptrdiff_t points);

/* Bends along q and along y; of the row before the first one, those of the cell before, too. */
void ei_add_bends(double *restrict to, const double *restrict along, const double *restrict across,
                  int before_first, ptrdiff_t points);

/* The largest |new / old - 1|, relative to the new ones, of those above `nothing`. */
double ei_relative_change(const double *old, const double *new, ptrdiff_t count, double nothing);

/* Steps to an interval of periodic arrivals, of about so many seconds each; 0: they are not periodic. Few
 * samples are as little between points as may be. */
ptrdiff_t ei_pair_interval(const ei_arrival *arrival, const ei_added_stage *first,
                           const ei_added_stage *second, double step);

/* Of an interarrival time t ~ Exp: kept, P(t > a cell); of t in a cell, E of the weights that its near and
 * its far end have between exponentials, and of products of two of them. */
typedef struct {
    double kept, near, far, both, nearest, farthest;
} ei_wait_weights;

/* rate: arrivals a cell; exponent: by which the exponentials grow over a cell, > 0. */
ei_wait_weights ei_wait_weights_of(double rate, double exponent);

/* The same of other renewal times, c steps away, rounded down (upper) or up to parts of a step: E of a
 * function of q, of one of (q, y) at its own row, and at the rows beside it, y one more here and one less a
 * step further; and the chance of a time inside of the cell. */
typedef struct {
    ptrdiff_t count;                      /* 0: none */
    double *line, *own, *beside, *chance; /* [count]; line: owned */
} ei_wait_law;

/* At most `limit` steps: further times are that long (upper), or left out. Nothing for Poisson and periodic
 * arrivals. Status: EI_ERR_NO_MEMORY, EI_ERR_ACCURACY; *self is the caller's to free, also after an error. */
EI_WARN_UNUSED int ei_wait_law_init(ei_wait_law *self, const ei_arrival *arrival, double step,
                                    double exponent, size_t limit, ei_end end);
void ei_wait_law_free(ei_wait_law *self);

/* A row at t later: to[points], and *more, by how much at most it bends away from that; of the row, of those
 * beside it, the one below a step further, and of its bends, as `from` of ei_add_ahead. */
void ei_wait_row(const ei_wait_law *self, const double *here, const double *beside, const double *bent,
                 double most, ptrdiff_t points, double *restrict to, double *restrict more);

#endif
