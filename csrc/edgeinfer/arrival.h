/* Arrival processes: the times between successive requests. Renewal processes draw them afresh; the others
 * keep a state. Seconds; rates in 1/s. */
#ifndef EDGEINFER_ARRIVAL_H
#define EDGEINFER_ARRIVAL_H

#include <stddef.h>

#include "edgeinfer/rng.h"

enum { EI_ARRIVAL_PHASES = 16 }; /* of a Markov-modulated process that has bounds, at most */

typedef enum {
    EI_ARRIVAL_POISSON,          /* parameter[0]: rate */
    EI_ARRIVAL_DETERMINISTIC,    /* parameter[0]: rate */
    EI_ARRIVAL_ERLANG,           /* parameter[0]: rate, [1]: phases, a whole number, 1 .. 1000 */
    EI_ARRIVAL_HYPEREXPONENTIAL, /* parameter[0]: probability of phase one, [1], [2]: the phases' rates */
    EI_ARRIVAL_GAMMA,            /* parameter[0]: rate, [1]: squared coefficient of variation, 1e-6 .. 1e3 */
    EI_ARRIVAL_MARKOV_MODULATED, /* Poisson at the rate of a phase, which follows a Markov chain */
    EI_ARRIVAL_RECORDED,         /* `intervals` in their order, round and round */
    /* For split.h and the exponent, from below, alone: a law on the points 0, step, .., (count - 1) step,
     * parameter[0] the step, s; rates[i] = P(t > i step), at the last that no request comes any more,
     * intervals[i] = E min(t, i step), s. */
    EI_ARRIVAL_LATTICE
} ei_arrival_kind;

typedef struct {
    ei_arrival_kind kind;
    double parameter[3];
    size_t count;             /* phases, or intervals */
    const double *rates;      /* [count], 1/s, >= 0, not all 0; pointers are not owned */
    const double *generator;  /* [count][count], 1/s; rows add up to 0 */
    const double *stationary; /* [count]: the generator's stationary law */
    const double *intervals;  /* [count], s, >= 0, not all 0 */
    /* Requests that come together: P(more than i of them), i = 0 .. batch_limit - 1. 0: each comes alone. */
    size_t batch_limit;
    const double *batch_above;
} ei_arrival;

/* Where a process is. */
typedef struct {
    size_t place;   /* phase, or the next interval */
    size_t waiting; /* requests of the batch that are still to come */
} ei_arrival_state;

/* Mean interarrival time, s; NaN for parameters outside their range. */
double ei_arrival_mean(const ei_arrival *self);
/* Whether interarrival times are independent and of one law. */
int ei_arrival_is_renewal(const ei_arrival *self);

/* Whether bounds take the process at a mean rate, 1/s: a renewal process at any, a Markov-modulated one of at
 * most EI_ARRIVAL_PHASES phases at its own. */
int ei_arrival_has_bounds(const ei_arrival *self, double rate);

double ei_arrival_rate(const ei_arrival *self); /* mean, 1/s */
/* Of a renewal process: the same sped up or slowed down to a mean rate > 0, 1/s. Others stay as they are. */
ei_arrival ei_arrival_at_rate(const ei_arrival *self, double rate);
/* -log E e^{-theta t} of an interarrival time t, theta >= 0 1/s, and its derivative, the mean of t (s) under
 * the tilt e^{-theta t}. Concave in theta. Of Markov-modulated arrivals of at most EI_ARRIVAL_PHASES phases
 * the limit of -log E e^{-theta (t_1 + .. + t_n)} / n, and its derivative NaN. */
double ei_arrival_exponent(const ei_arrival *self, double theta, double *slope);
/* An interarrival time drawn under that tilt, s. */
double ei_arrival_draw_tilted(const ei_arrival *self, double theta, ei_rng *rng);

/* In the stationary phase, or at any interval of the record. Renewal processes draw nothing. */
ei_arrival_state ei_arrival_start(const ei_arrival *self, ei_rng *rng);
/* The longest recorded interval, s; 0 without a record. */
double ei_arrival_longest(const ei_arrival *self);
/* The time from an arbitrary instant of the stationary process to its next request, s, with `state` behind
 * that. `longest` is what ei_arrival_longest gives. Renewal processes: U X, U uniform and X an interval drawn
 * in proportion to its length; records: likewise, by rejection, longest / mean trials on average. */
double ei_arrival_first(const ei_arrival *self, double longest, ei_arrival_state *state, ei_rng *rng);
/* The time to the next request, s. */
double ei_arrival_next(const ei_arrival *self, ei_arrival_state *state, ei_rng *rng);
/* The same of a renewal process. */
double ei_arrival_draw(const ei_arrival *self, ei_rng *rng);

#endif
