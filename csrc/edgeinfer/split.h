/* Laws of services and of times between arrivals, split between the points of a lattice: a time (k + z) h, 0
 * <= z < 1, counts 1 - z at k and z at k + 1, which keeps its mean. Seconds.
 *
 * For w linear between the points E w(x - B) is then exact at the points: with X_k = E (B / h - k)^+ and D
 * the second difference it is w_j + (w_{j-1} - w_j) X_0 + sum_{k >= 1} X_k D_{j-k}, and the masses are
 * X_{k-1} - 2 X_k + X_{k+1}. Where X is known only between X^- and X^+, an upper bound takes X^+ and adds
 * sum_k (X^+_k - X^-_k) (-D_{j-k})^+, a lower one X^- and takes off the same with D^+. Between the points E
 * w(x - B) is not linear: B moves the kink of w at point n to the inside of the cell n + k, so that there it
 * is above its chord by at most sum_k E[z (1 - z); cell k] (-D_{j-k})^+, and below it by as much with D^+.
 * Both weights of a second difference together are its bend.
 *
 * Services beyond the last cell. Where P(B > x) is known from both sides only, an upper end would have what
 * is absolute of the error there, and under a tilt that is more than all else. So the longest services are
 * left out of both, of as much probability p as the last cell may have beyond it: P(B > x) - p where that is
 * above 0, and what is infinite with probability p is no shorter than B. For w that falls from 1 to 0 an
 * upper end is then p more, and a lower one has nothing of these. */
#ifndef EDGEINFER_SPLIT_H
#define EDGEINFER_SPLIT_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/walk.h"

#define EI_TIME_ERROR 1e-12

typedef struct {
    size_t phases, cells; /* 1 for services and renewal times */
    double *mass, *bend;  /* [phases][phases][cells], from the row's phase to the column's */
    double *error;        /* the same: how far a mass may be off by rounding */
    double beyond; /* a service's probability of more than (cells - 1) h, or of being left out, from above */
} ei_split;

void ei_split_free(ei_split *self);

/* P(S < time) from above, time at most the least service, but of a transfer. */
double ei_service_below(const ei_service *service, double time);

/* E z (1 - z) of a few samples less `less`, by which a lattice of that step bends; 0 for other laws, which
 * bend on all alike. */
double ei_split_bend(const ei_service *service, double less, double step);

/* Services longer than the last cell count as being there, or are left out; at most `limit` cells. A floor is
 * taken to be a point of the lattice. Status: EI_ERR_TOO_LARGE, EI_ERR_NO_MEMORY; *self is the caller's to
 * free, also after an error. */
EI_WARN_UNUSED int ei_split_service(ei_split *self, const ei_added_stage *stage, double step, size_t limit,
                                    ei_end end);

/* Times are cut to the last cell (upper), or left out (lower), beyond `limit` cells. A Markov-modulated
 * process is taken backwards in time. For v that falls. Status: EI_ERR_ACCURACY, too. */
EI_WARN_UNUSED int ei_split_time(ei_split *self, const ei_arrival *arrival, double step, size_t limit,
                                 ei_end end);

/* P(t > time) of a renewal time that is not periodic, right to EI_TIME_ERROR; NaN where it is not known. */
double ei_time_sf(const ei_arrival *arrival, double time);

#endif
