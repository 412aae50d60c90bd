/* Arrivals seen from a request backwards in time, with the times of n steps under an exponential tilt, for
 * ways.h: what is behind a request is the phase i that it came in, and the requests r of its batch that came
 * before it. A step back takes t = 0 to the next one of the batch, else t to the batch before, of b requests,
 * in phase j. With the transform of a step between batches, M(sigma)_ij = E[e^{-sigma t}; j] (modulated.h; of
 * renewal processes a number), the mean of e^{-sigma (t_1 + .. + t_n)} from a state on is v_n(i, r): 1 for n
 * <= r, v_{n-r}(i, 0) for n > r > 0, and
 *   v_n(i, 0) = sum_j M_ij u_n(j),  u_n(j) = sum_b P(b) v_{n-1}(j, b - 1).
 * N_n is its mean over the states of a stationary request, whose phase is met in proportion to stationary_i
 * rate_i, and P(r) = P(b > r) / E b. The tilt of n steps weighs a start and all of them by e^{-sigma (t_1 +
 * ..
 * + t_n)} / N_n; of what is drawn up to where m steps are left, the likelihood ratio is e^{-sigma (..)} v_m /
 * N_n. It is drawn step by step: a start in proportion to v_n, phases by rates q_ij w_j / w_i, w = v_m(., 0)
 * and q the reversed chain's, and requests in phase i at rate_i u_m(i) / w_i: (sigma - D) w = L u is what
 * makes these the law of a chain; batches in proportion to P(b) v_{m-1}(j, b - 1). A tilt that knows only of
 * the eigenvector would hardly ever draw phases in which requests are few, as if all paths were long.
 *
 * With e the largest eigenvalue of M, h its right eigenvector, and z > 1 the root of E z^b = 1 / e, h_i z^r
 * is an eigenvector of the step of one request, of eigenvalue 1 / z: z^n N_n <= E[h_i z^r] / (least h_i z^r).
 */
#ifndef EDGEINFER_BACKWARD_H
#define EDGEINFER_BACKWARD_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/status.h"

enum { EI_BACKWARD_BATCH = 4096 }; /* requests of a batch, at most */

/* The tilt of a process by one sigma. z^n v_n(i, 0) is kept, which tends to the eigenvector. */
typedef struct {
    const ei_arrival *arrival; /* not owned */
    double sigma;              /* 1/s */
    double log_step;           /* log z: of a renewal process -log L */
    double log_start;          /* log of the bound of z^n N_n */
    size_t phases;             /* 0: v_n = L^n, and nothing below is needed */
    size_t batch;              /* requests, at most */
    double value, log_ahead;   /* e; log E z^r, r of a stationary request */
    double *transform, *back;  /* [phases][phases]: M / e; D, q beside its diagonal; owned, with the next */
    double *met;               /* [phases]: the phase of a stationary request */
    double *size, *ahead;      /* [batch], from the last to the first: e P(b) z^b; P(r) z^r / E z^r */
    double *more, *behind;     /* [batch], n from 0 on: e z^{n+1} P(b > n); z^n P(r >= n) / E z^r */
    double *left;              /* [phases + 1][kept]: z^n v_n, and its mean over `met`, at n - first; owned */
    size_t kept, first, known; /* those of first <= n < known are there */
} ei_backward;

/* Whether there is such a law: renewal processes, Markov-modulated ones of at most EI_ARRIVAL_PHASES phases,
 * and batches of these of at most EI_BACKWARD_BATCH requests. */
int ei_backward_takes(const ei_arrival *arrival);

/* Status: EI_ERR_NO_MEMORY. *self is to be freed in any case. */
EI_WARN_UNUSED int ei_backward_init(ei_backward *self, const ei_arrival *arrival, double sigma);
void ei_backward_free(ei_backward *self);

/* Makes room for v_n of the latest `kept` numbers n, no fewer than a batch has requests and one more, or 0
 * for just so many; none is known then. Status: EI_ERR_NO_MEMORY. */
EI_WARN_UNUSED int ei_backward_keep(ei_backward *self, size_t kept);

/* Finds the next v_n, and gives log N_n. */
double ei_backward_extend(ei_backward *self);

/* Under the tilt of `left` steps, which are known: a stationary request's state, log_mean being log N; and,
 * left > 0, the time back to the request before (s), with its state. */
ei_arrival_state ei_backward_start(const ei_backward *self, size_t left, double log_mean, ei_rng *rng);
double ei_backward_next(const ei_backward *self, size_t left, ei_arrival_state *state, ei_rng *rng);

/* v_left of a state, over e^{*log_scale}. */
double ei_backward_left(const ei_backward *self, size_t left, const ei_arrival_state *state,
                        double *log_scale);

#endif
