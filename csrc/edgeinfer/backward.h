/* Arrivals seen from a request backwards in time, under exponential tilts, for ways.h: what is behind a
 * request is the phase i that it came in, and the requests r of its batch that came before it. A step back
 * takes t = 0 to the next one of the batch, else t to the batch before, of b requests, in phase j. With the
 * transform of a step between batches, M(sigma)_ij = E[e^{-sigma t}; j] (modulated.h; of renewal processes a
 * number), its largest eigenvalue e and right eigenvector h, and z > 1 the root of E z^b = 1 / e, the state
 * has h_i z^r as an eigenvector of the step of one request, of eigenvalue 1 / z. The tilt weighs steps by
 * e^{-sigma t} times z and what the eigenvector grows by: 1 within a batch, e^{-sigma t} z^b h_j / h_i
 * between batches, both of mean 1. Phases then follow rates q_ij h_j / h_i, q the reversed chain's, and
 * requests in phase i come at rate_i / e: (sigma - D) e h = L h is what makes these the law of a chain.
 * Batches have sizes weighed by z^b. A stationary request's phase is met in proportion to stationary_i
 * rate_i, P(r) = P(b > r) / E b; the tilt weighs the start by h_i z^r, of mean N. The weights of a start and
 * n steps multiply to e^{-sigma (t_1 + .. + t_n)} z^n h_i z^r / N, of the last state. */
#ifndef EDGEINFER_BACKWARD_H
#define EDGEINFER_BACKWARD_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/status.h"

enum { EI_BACKWARD_BATCH = 4096 }; /* requests of a batch, at most */

/* A tilt of a process; renewal processes need but sigma and log_step. */
typedef struct {
    const ei_arrival *arrival; /* not owned */
    double sigma;              /* 1/s */
    double log_step;           /* log z: of a renewal process -log L */
    double log_start;          /* log of N over the least h_i z^r of a request */
    double log_mean;           /* log N */
    ei_arrival tilted;         /* of a modulated process: as it is drawn */
    double *log_h;             /* [count], or NULL; owned, with what `tilted` points to, and what follows */
    double *first;             /* [count], the start's law, added up */
    double *size, *ahead;      /* [batch_limit], laws of b - 1 and of the start's r, added up */
} ei_backward;

/* Whether there is such a law: renewal processes, Markov-modulated ones of at most EI_ARRIVAL_PHASES phases,
 * and batches of these of at most EI_BACKWARD_BATCH requests. */
int ei_backward_takes(const ei_arrival *arrival);

/* Status: EI_ERR_NO_MEMORY. *self is to be freed in any case. */
EI_WARN_UNUSED int ei_backward_init(ei_backward *self, const ei_arrival *arrival, double sigma);
void ei_backward_free(ei_backward *self);

/* Under the tilt: a stationary request's state, and the time back to the request before (s), with its state.
 */
ei_arrival_state ei_backward_start(const ei_backward *self, ei_rng *rng);
double ei_backward_next(const ei_backward *self, ei_arrival_state *state, ei_rng *rng);

/* The logarithm of their likelihood ratios, of whatever tilt they were drawn under. */
double ei_backward_start_ratio(const ei_backward *self, const ei_arrival_state *state);
double ei_backward_ratio(const ei_backward *self, double interval, const ei_arrival_state *from,
                         const ei_arrival_state *to);

#endif
