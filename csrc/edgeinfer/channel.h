/* A link whose rate goes from slot to slot on the wall clock's grid, whether bits come or not: by a Markov
 * chain of states, or through recorded rates, over again. Transfers that follow each other see the slots that
 * follow each other, so that their times depend. */
#ifndef EDGEINFER_CHANNEL_H
#define EDGEINFER_CHANNEL_H

#include <stddef.h>

#include "edgeinfer/rng.h"
#include "edgeinfer/status.h"

/* Arrays are not owned. */
typedef struct {
    const double *rates; /* [count], bit/s, >= 0 */
    size_t count;
    const double *start; /* [count], cumulative stationary law of the states, the last 1; NULL: the rates are
                            recorded, state i + 1 follows i and the first the last */
    const double *jumps; /* [levels][count][count], cumulative laws (columns) of the state 2^level slots after
                            each state (rows), the last 1; 2^levels slots on, any start is forgotten, or
                            levels = EI_CHANNEL_LEVELS */
    size_t levels;
    double slot;      /* s, > 0 */
    double offset;    /* s from the first slot's beginning on, of recorded rates; NaN: a random one */
    double mean_rate; /* bit/s, > 0 */
    double spread;    /* variance of the bits that a long time carries, over that time, bit^2/s, >= 0 */
} ei_channel;

enum { EI_CHANNEL_LEVELS = 53 }; /* slots are counted in doubles */

/* The slot of the last transfer's end: when it began, relative to the last arrival (s), its rate (bit/s or,
 * of fading links, in units of the bandwidth), and its state. */
typedef struct {
    double into, rate;
    size_t state;
} ei_wall_clock;

/* Checks all fields: EI_ERR_DOMAIN, EI_ERR_EMPTY (no states). */
EI_WARN_UNUSED int ei_channel_verify(const ei_channel *self);
/* A clock at time 0: in the stationary state, anywhere in its slot, or at the offset. */
ei_wall_clock ei_channel_start(const ei_channel *self, ei_rng *rng);
/* The time (s) that `bits` > 0 take from `start` on, which is not before the last transfer's end; the clock
 * goes on to there. */
double ei_channel_serve(const ei_channel *self, double bits, double start, ei_wall_clock *clock, ei_rng *rng);

#endif
