/* Two exponential servers, one behind the other, fed by renewal arrivals: GI/M/1 and ./M/1. The sojourn time
 * in both, near exact from both sides, and exact behind periodic arrivals. Seconds; rates in 1/s.
 *
 * Services of job -k at the two stages are a_k and b_k, of rates mu_1 and mu_2, S_k the time between the
 * arrivals of jobs -k and 0. D = mu_1 - mu_2 > 0: the stages may be exchanged (Weber 1979), and equal rates
 * are the limit. After the k latest jobs let V be the sum of their b's, U the longest path from job 1 - k at
 * the first stage to job 0 at the second, x_1 = U, and x_2 the sum of all their services less U; at first all
 * are 0. With one job more, U' = a + max(U, V + b), V' = V + b, x_2' = x_2 + min(b, x_1 - V), so that x_1' >=
 * x_1 >= x_2' >= x_2. W is the largest U - S_{k-1}: W > T if x_1 is ever above T + S_{k-1}.
 *
 * Given x_1, x_2 of all numbers of jobs up to k, V has a density in proportion to e^{D v} on [x_2, x_1], and
 * with one job more x' has the density mu_1 mu_2 h(x') / h(x), h(x) = (e^{-mu_2 x_1 - mu_1 x_2} - e^{-mu_1
 * x_1 - mu_2 x_2}) / D (O'Connell 2003). Proof: of (V, a, b) the density given x is Z^{-1} mu_1 mu_2 e^{D V -
 * mu_1 a - mu_2 b}, Z = int e^{D v} over [x_2, x_1]. Where b < x_1 - V, (x_1', x_2', V') = (x_1 + a, x_2 + b,
 * V + b), else (V' + a, x_1 + x_2 - V, V + b): both are one to one with unit Jacobians, onto x_2' <= V' < x_1
 * and onto x_1 <= V' <= x_1', and in both the density becomes Z^{-1} mu_1 mu_2 e^{D V' - mu_1 (x_1' + x_2' -
 * x_1 - x_2)}. Z e^{-mu_1 (x_1 + x_2)} = h. The first job: mu_1 mu_2 h(x_1, 0).
 *
 * Let theta_i be the rate of geometric.h of mu_i alone, nu_i = mu_i - theta_i, b = T + S_{k-1}, y_i = b - x_i
 * and q_i(y) = P(a sum of services of rate mu_i less as many interarrival times is once > y) = nu_i / mu_i
 * e^{-theta_i y}, 1 for y < 0. Let F(x) be such that
 *   D h F = (q_2(y_1) + q_1(y_2)) e^{-mu_2 x_1 - mu_1 x_2} - (q_1(y_1) + q_2(y_2)) e^{-mu_1 x_1 - mu_2 x_2}.
 * While y_1 > 0 the mean of F after a step is F: each term is a function of x_1 times one of x_2 less the
 * same of x_2 and x_1, of which the integral over x_1' > x_1 > x_2' > x_2 is again such, of the integrals
 * from x_1 and from x_2 on; int_x mu_i e^{-mu_i x'} = e^{-mu_i x}, and only one q, which is the mean of
 * itself after a step and the time between arrivals, is in it. With r = (theta_1 - theta_2) / D, its mean
 * after the first job is L = (e^{-theta_2 T} (mu_1 - nu_2) - e^{-theta_1 T} (mu_2 - nu_1)) / D = e^{-theta_2
 * T} (2 - r + (theta_1 - D) r T (1 - e^{-r D T}) / (r D T)). F is bounded before x_1 crosses b, and tends to
 * 0 where it never does, as both y grow. Where it crosses, O = -y_1 given y_2 = Y has a density in proportion
 * to h, e^{-mu_2 (Y + O)} - e^{-mu_1 (Y + O)}, and the mean of F is 1 + l(Y), l(Y) = e^{-mu_2 Y} (nu_1
 * e^{nu_1 Y} - nu_2 e^{nu_2 Y}) / (mu_1 e^{D Y} - mu_2). Hence L = P(W > T) + E[l(Y); x_1 crosses]. l has the
 * sign of nu_1 - nu_2 = D (1 - r). With e^{mu_2 Y} its two differences are integrals of (1 + n Y) e^{n Y}
 * over n from nu_2 to nu_1 and from mu_2 to mu_1; put n = nu_2 + (1 - r) (m - mu_2) into the former: m - n
 * lies between theta_1 and theta_2, so that |l(Y)| <= |1 - r| e^{-theta_2 Y}. So |L - P| <= |1 - r| P. And
 * for 0 < eta <= theta_2 with mu_1 mu_2 E e^{-2 eta t} <= (mu_1 - eta) (mu_2 - eta), e^{eta (x_1 + x_2 - 2
 * b)} is a supermartingale, x_1 + x_2 being the sum of all services; where x_1 crosses it is e^{eta (O - Y)},
 * and O is stochastically larger than exponential of rate mu_1. So |L - P| <= |1 - r| e^{-2 eta T} mu_2 /
 * (mu_2 - eta). Poisson arrivals have nu_i = rate, r = 1, L = P. Behind periodic ones b is no random number,
 * the product q_1 q_2 is harmonic, too, and P = L + (r - 1) e^{-(theta_1 + theta_2) T}.
 *
 * A lower end besides: W is no shorter than the sojourn time at one stage and one service of the other, of
 * rates theta_1 and mu_2, or theta_2 and mu_1, which are independent.
 *
 * Rounding. theta_i are put into intervals (geometric.h), and what follows from them, r among it: at equal
 * rates the derivative theta / (mu (1 - nu m)), m the mean of t under the tilt e^{-theta t}. Rates that are
 * too near to tell are put together: W grows with each service. */
#ifndef EDGEINFER_TWO_EXPONENTIALS_H
#define EDGEINFER_TWO_EXPONENTIALS_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/lattice.h"
#include "edgeinfer/service.h"

/* One end of P(W > T). */
typedef struct {
    ei_end end;
    double decay;               /* theta_2, 1/s */
    double once, growth, apart; /* of L: 2 - r, (theta_1 - D) r, which may be < 0, and r D: 1, 1/s, 1/s */
    double off;                 /* |1 - r| if that moves this end, else 0 */
    double log_tail, tail;      /* |L - P| / off <= e^{log_tail - tail T}; 1/s */
    double more, faster;        /* what periodic arrivals add, more e^{-faster T}; 1/s */
    double alone[2][2];         /* rates of two independent times whose sum W is no shorter than, 1/s */
} ei_two_exponentials;

/* Services exponential, of any order, behind a renewal process at whose rate loads are below one. Status:
 * EI_ERR_ACCURACY where there are no such ends. */
EI_WARN_UNUSED int ei_two_exponentials_init(ei_two_exponentials *self, ei_end end, const ei_service *one,
                                            const ei_service *other, const ei_arrival *arrival);

/* The end of P(W > time). */
double ei_two_exponentials_sf(const ei_two_exponentials *self, double time);

/* A lower end of E P(W > time + t), t a time between arrivals. */
double ei_two_exponentials_behind(const ei_two_exponentials *self, const ei_arrival *arrival, double time);

/* An upper end is at most e^{*log_scale - *decay t} for all t >= time. EI_ERR_ACCURACY: it need not fall. */
EI_WARN_UNUSED int ei_two_exponentials_beyond(const ei_two_exponentials *self, double time, double *log_scale,
                                              double *decay);

#endif
