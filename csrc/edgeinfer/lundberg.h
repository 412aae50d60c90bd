/* Lundberg's bounds of the sojourn time in a part of a chain, both ways, far beyond a lattice. Seconds.
 *
 * In the notation of lindley.h, with C's that do not depend on the arrivals (bottleneck_first of chain.h) or
 * none, and i the phase of the request that the walk has reached, let v_i(x) = P(R > x | i), R = sup_n [B_0 +
 * .. + B_n - S_n + C_n], be known up to some time, and M(theta) = E[e^{-theta t}; phase of the request
 * before].
 *
 * Upper. Let E e^{theta B} M(theta) h <= h and E e^{eta B} M(eta) g >= rho g, h, g >= 1, rho > 1, eta >
 * theta, and W_i(x) = K h_i e^{-theta x} - L g_i e^{-eta x},  so that  W_i(x) - E W_j(x + t - B) >= L (rho -
 * 1) e^{-eta x}. A walk from x >= z steps to x + t - B, or R is no longer than the C of its job, or B > b + x
 * - z, b the longest B, or some time where B has no end; it goes on until one of these or it is below z, by l
 * at most, b or with periodic arrivals b less the interval. As c(x) <= a e^{-eta x} and P(B > b + y) <= k
 * e^{-eta y} for x >= z and y >= 0, W with L (rho - 1) = a + k e^{eta z} is at least v there if it is so
 * between z - l and z: K >= e^{theta x} (v_i(x) + L g_i e^{-eta x}) / h_i,  z - l <= x < z. The v of a
 * deterministic part leaves its last service out (walk.h): R is compared with x - B, and below 0, where a
 * walk has crossed, v is 1. Of a random one C is compared with x - B, c has a mean of at most a E e^{eta B}
 * e^{-eta x}, a over all times from z - b on, and z >= b, so that R is no longer than B nowhere else. Where
 * no law is known, all this is for x - B in the place of x, as for a deterministic part, and v is 1 before z:
 * P(R > x) has one more factor E e^{theta B} then, for x - B >= z - l.
 *
 * Lower, without C's (Ross 1974). With E e^{theta B} M(theta) h >= h the walk that stops below z has a mean
 * of e^{theta S} h that does not fall, and tends to 0 where it never stops; B is cut off at l, of transfers
 * their extent, which moves moments by less than their error. So v_i(x) >= K h_i e^{-theta x}, x >= z, with
 * K <= e^{theta x} v_i(x) / h_i for z - l <= x < z. Without a law, for x - B in the place of x: given where
 * the walk was and t, a B that makes it cross exceeds some s >= 0, behind periodic arrivals no less than the
 * interval, and what it crosses by is B - s, so that K <= 1 / (m h_i) with m >= m(s) = E[e^{theta (B - s)} |
 * B > s] for all these: e^{theta l}, or 1 / (1 - theta E B) of an exponential B. Of others on a lattice of
 * step d, from the last cell backwards: m(s) <= e^{theta d} max(1, m(s + d)), as B is either beyond s + d or
 * no more than d beyond s, and m(s) P(B > s) = P(B > s) + int_s theta e^{theta (y - s)} P(B > y) dy, of ends
 * of B's law. log E e^{theta B} of a repetition is n (log(1 - q) + theta d - log(1 - e^a)), a = log q +
 * theta d, to some 1e-15 (|log(1 - q)| + theta d) n and 1e-15 n |log q| e^a / (1 - e^a), both of which are
 * far below 1e-12 times its slope over d, n / (1 - e^a).
 *
 * The law is the mean of v_i over phases that requests meet. z, and eta, are those with the best K that was
 * found: all are right. A law is read so that its value holds over each cell. */
#ifndef EDGEINFER_LUNDBERG_H
#define EDGEINFER_LUNDBERG_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/walk.h"

/* P(R > x) is at most, or at least, e^{log_scale - decay x} for x >= from, s. */
typedef struct {
    double log_scale, decay, from;
    double moment;                       /* log E e^{decay B} */
    double log_phase[EI_ARRIVAL_PHASES]; /* what is added to log_scale for a request that meets a phase */
} ei_lundberg;

/* l, s. */
double ei_lundberg_longest(const ei_added_stage *stage, const ei_arrival *arrival);

/* exponent: about the largest theta, 1/s; law: of R, waiting time of a deterministic stage, from the side of
 * `end`, sf NULL: none; by_phase[phases][law->count] of Markov-modulated arrivals, else NULL; before: C, of
 * an upper end, no lattice: 0. Status: EI_ERR_ACCURACY where there is no such bound, EI_ERR_NO_MEMORY, and
 * those of moments. */
EI_WARN_UNUSED int ei_lundberg_find(ei_lundberg *self, ei_end end, const ei_added_stage *stage,
                                    const ei_arrival *arrival, double exponent, const ei_lattice *law,
                                    const double *by_phase, const ei_upper_law *before);

#endif
