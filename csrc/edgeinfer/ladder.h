/* An exponential server behind Markov-modulated arrivals, MMPP/M/1, near exact from both sides. Seconds;
 * rates in 1/s.
 *
 * Phases backwards as in modulated.h. U_ij is the chance that a sum of services, of rate mu, less as many
 * times between arrivals is once above 0, with phase j at that job, if i is the phase before. Services have
 * no memory, so that the sum passes the level by an exponential time of rate mu, whatever the phase, and with
 * every level there may be another one: over y more the phases of who passes are e^{-mu (1 - U) y}. After a
 * time t the sum is t below 0, hence U = int e^{D t} L e^{-mu (1 - U) t} dt, or U = Psi(U), Psi(V) = (mu - D
 * - mu V)^{-1} L, and with 1 a column of ones q(y) = U e^{-mu (1 - U) y} 1 is the chance that the sum is once
 * above y, and s(y) = e^{-mu (1 - U) y} 1 with one service more: a wait and a sojourn time above y.
 *
 * Any W >= 0 with W = Psi(W) and W 1 < 1 will do: s' = -mu s + mu W s says that s(z) is the mean of q(z - B),
 * 1 where B > z, with B a service; so q(y) is the mean of q(y + t - B), bounded, and tends to 0 as the sum
 * drifts down, and is that chance. Psi grows with V as long as mu - D - mu V is an M-matrix. If Psi(V') <=
 * V', V' 1 < 1, V <= V' and V <= Psi(V), powers of Psi take V up to such a W <= V': V <= W <= V', and both
 * tails grow with the matrix. V and V' are what Newton's steps lead to less and plus X = E + mu (mu - D - mu
 * V)^{-1} X V, the derivative of Psi by which a rounding E of Psi comes back, and both inequalities are
 * checked.
 *
 * Slopes. s(y) e^{theta y} = e^{-(mu - theta) y} e^{mu U y} 1 is a mean of A^n x, x = 1, over a Poisson
 * number n of mean (mu - theta) y, A = mu / (mu - theta) U; and -s'(y) e^{theta y} / theta with x = mu /
 * theta (1 - U) 1. If X bounds all A^n x and P = mu / (mu - theta) E[e^{-theta t}; phase at the request
 * before], alpha P^l X is such a bound in the mean over phases at job l, of weights e^{theta (B_0 + .. +
 * B_{l-1} - S_l)}. For any matrix A >= 0 the A^n x with n < 2 m are no more than the larger one, entry by
 * entry, of x_m and A^m x_m, where x_m is no less than those with n < m; if A^m x_m <= x_m, none is more than
 * x_m.
 *
 * Rounding. mu - D - mu V is eliminated by its sums of rows and what is beside its diagonal: sums, products
 * and quotients of positive numbers alone, so that the result is as good as those, entry by entry. */
#ifndef EDGEINFER_LADDER_H
#define EDGEINFER_LADDER_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/lattice.h"
#include "edgeinfer/status.h"

typedef struct {
    size_t count;
    double rate;                                             /* mu, 1/s */
    double shares[EI_ARRIVAL_PHASES];                        /* of the phases that requests meet */
    double ladder[2][EI_ARRIVAL_PHASES * EI_ARRIVAL_PHASES]; /* U from below and above, by rows */
} ei_ladder;

/* Markov-modulated arrivals. Status: EI_ERR_TOO_LARGE above EI_ARRIVAL_PHASES phases; EI_ERR_ACCURACY where
 * rounding hides U, or the load is too near to one. */
EI_WARN_UNUSED int ei_ladder_init(ei_ladder *self, const ei_arrival *arrival, double rate);

/* An end of P(sojourn time > time) and P(wait > time), time >= 0. */
void ei_ladder_tails(const ei_ladder *self, ei_end end, double time, double *sojourn, double *wait);

/* The same of P(sojourn time > time) alone, any time; an upper end is never 0. */
double ei_ladder_sf(const ei_ladder *self, ei_end end, double time);

/* vector[n] = e^{-x (1 - M)} 1 from an end, M[n][n] >= 0 of sums of rows of at most 1, n <= EI_ARRIVAL_PHASES
 * + 1, x >= 0. */
void ei_ladder_survive(const double *matrix, size_t n, ei_end end, double x, double *vector);

/* The largest alpha P^l X from above, 0 < theta < mu: of s, or of its slope. EI_ERR_ACCURACY: there is none.
 */
EI_WARN_UNUSED int ei_ladder_most(const ei_ladder *self, const ei_arrival *arrival, double theta, int slope,
                                  double *most);

/* vector[count] = U vector, U from that end. */
void ei_ladder_climb(const ei_ladder *self, ei_end end, double *vector);

#endif
