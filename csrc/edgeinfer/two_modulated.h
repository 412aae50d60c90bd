/* Two exponential servers, one behind the other, fed by Markov-modulated arrivals. Seconds; rates in 1/s.
 *
 * All of two_exponentials.h with phases: mu_1 > mu_2, D = mu_1 - mu_2, jobs backwards, x_1 >= x_2, h, b = T +
 * S_{k-1} and y_i = b - x_i are what they are there, and j is the phase at the last job so far, backwards in
 * time (modulated.h). x is a function of the services, independent of S and j. With q_i(y, j), 1 for y < 0,
 * of ladder.h,
 *   D h F = (q_2(y_1, j) + q_1(y_2, j)) e^{-mu_2 x_1 - mu_1 x_2}
 *           - (q_1(y_1, j) + q_2(y_2, j)) e^{-mu_1 x_1 - mu_2 x_2}
 * makes F its own mean after a step while y_1 > 0, for the same reason: only one q is in each term, the mean
 * of itself after a step, a time between arrivals and the phase there. The mean of F after the first job is
 *   L = (mu_1 (s_2(T) + q_1(T)) - mu_2 (s_1(T) + q_2(T))) / D,
 * sojourn times and waits in each server alone, and where x_1 crosses, given y_2 = Y and j, it is 1 + l_j(Y),
 * l(Y) = (mu_1 q_1(Y) e^{D Y} - mu_2 q_2(Y)) / (mu_1 e^{D Y} - mu_2): L = P(W > T) + E[l_j(Y); x_1 crosses].
 * As q_i(Y) = U_i e^{-mu_i (1 - U_i) Y} 1, numerator and denominator times e^{mu_2 Y} are power series, and
 * l(Y) is a mean over m = 1, 2, .., with weights in proportion to (mu_1^m - mu_2^m) Y^{m-1} / (m - 1)!
 * whatever j is, of a_m = ((mu_1 U_1)^m 1 - (mu_2 U_2)^m 1) / (mu_1^m - mu_2^m).
 *
 * For 0 < z_2 < z_1 < mu_1 and s = mu_1 + mu_2 - z_1 - z_2 > 0 let h_z be h with z_i in the place of mu_i,
 * M(s) = (s - D)^{-1} L the transform of modulated.h, and v > 0 with mu_1 mu_2 M(s) v <= z_1 z_2 v. G = v_j
 * e^{-s b} h_z / h is a supermartingale: the integral of h_z over a step is h_z / (z_1 z_2), for the same
 * reason. With >= it is a submartingale, bounded until x_1 crosses, as h_z / h <= e^{s x_1} max(1, D / (z_1 -
 * z_2)), and falls to 0 where it never does. But for a factor mu_1 mu_2 / (z_1 z_2) of both, its mean after
 * the first job is e^{-s T} times that of v, and where x_1 crosses it is v_j times the same mean over m of
 *   w_m = H_m(z) / H_m(mu), H_m(z) = (z_1^m - z_2^m) / (z_1 - z_2).
 * w falls with m: R_m = H_{m+1} / H_m = z_1 + z_2 - z_1 z_2 / R_{m-1} grows with both z_i; if z_2 > mu_2, z_1
 * may be raised to mu_1 + mu_2 - z_2 <= mu_1, where the sum is that of the mu_i and the product no less.
 *
 * So if +a_m, or -a_m, is at most a + sum_i c_i v_i w_{i,m} for all m and all phases of requests, a >= 0,
 * then L - P, or P - L, is at most a P + sum_i c_i e^{-s_i T} E v_i: supermartingales where c_i > 0,
 * submartingales where c_i < 0. The former gives a lower end, the latter an upper one. Such a and c, least at
 * some T, are sought by envelope.h, and hold at all T: a is made as large as all m up to some N ask for, and
 * what lies beyond it. Powers of U fall with m as U 1 <= 1, and so does w.
 *
 * Phases differ by more than v says. With other eigenvectors v, of any signs, G is its own mean but for
 * rounding: |mu_1 mu_2 M(s) v / (z_1 z_2) - v| <= miss v+, v+ and z+ those of a supermartingale G+ that falls
 * by a factor 1 - d or more in the mean, at s+ <= s with z_1 <= z_1+. As h_z e^{-s b} <= C h_{z+} e^{-s+ b}
 * while b >= x_1, C = max(1, (z_1+ - z_2+) / (z_1 - z_2)), all steps together are off by (miss C / d) e^{-s+
 * T} E v+ at most, which is added: mu_1 mu_2 / (z_1 z_2) is no less for z than for z+. Those of the second
 * largest eigenvalue are taken where it is real, which is smaller, so that s is larger and E v e^{-s T}
 * hardly counts.
 *
 * A lower end besides, as there: W is no shorter than the sojourn time in the slower server and one service
 * of the faster one, which are independent.
 *
 * Rates that are too near to tell are moved apart: W grows with each service. */
#ifndef EDGEINFER_TWO_MODULATED_H
#define EDGEINFER_TWO_MODULATED_H

#include "edgeinfer/ladder.h"
#include "edgeinfer/service.h"

enum { EI_MODULATED_FUNCTIONS = 9, EI_MODULATED_ENVELOPES = 8 };

/* One end of P(W > T). */
typedef struct {
    ei_end end;
    ei_ladder ladder[2];                     /* of the faster server and of the slower one */
    double decay[2][EI_MODULATED_FUNCTIONS]; /* s_i, 1/s, of sub- and supermartingales, */
    double start[2][EI_MODULATED_FUNCTIONS]; /* and E v_i */
    double most[EI_MODULATED_ENVELOPES];     /* a */
    double factor[EI_MODULATED_ENVELOPES][EI_MODULATED_FUNCTIONS]; /* c */
    double slack[EI_MODULATED_ENVELOPES], slack_decay;             /* times e^{-s T}: 1, 1/s */
} ei_two_modulated;

/* Services exponential, of any order, behind Markov-modulated arrivals. Status: EI_ERR_TOO_LARGE above
 * EI_ARRIVAL_PHASES phases, EI_ERR_NO_MEMORY; EI_ERR_ACCURACY where there are no such ends. */
EI_WARN_UNUSED int ei_two_modulated_init(ei_two_modulated *self, ei_end end, const ei_service *one,
                                         const ei_service *other, const ei_arrival *arrival);

/* The end of P(W > time). */
double ei_two_modulated_sf(const ei_two_modulated *self, double time);

#endif
