/* Three exponential servers and more, one behind the other, fed by renewal arrivals: what two_exponentials.h
 * is for two. Exact behind periodic arrivals, near exact from both sides for three behind others. Seconds;
 * rates in 1/s.
 *
 * Walks. Let the rates be mu_1 > .. > mu_N (equal ones are the limit), W the sojourn time in all and S_k the
 * time between the arrivals of jobs -k and 0. Of the services of the k latest jobs, x_1 + .. + x_j the
 * largest sum along j paths that have no job's service in common (Greene 1974): x_1 is the longest path, and
 * W > T if x_1 is ever above b = T + S_{k-1}. The x of one job more have the density mu_1 .. mu_N h(x') /
 * h(x) on x_1' > x_1 > x_2' > x_2 > .., h(x) = det e^{-mu_i x_j} up to a sign (O'Connell 2003; Dieker and
 * Warren 2009), from x = 0 on, by the limit. Steps of det f_i(x_j) have the mean det of the integrals of f_i
 * from x_j on. (Harish-Chandra, Itzykson and Zuber:) det e^{-z_i x_j} is the product of all z_i - z_j and x_i
 * - x_j, i < j, and of I(z; x) = E e^{-sum of z_i X_ii}, X = U diag(x) U*, U uniform over the unitary
 * matrices, up to a number.
 *
 * Linear term. With q_i(y) = nu_i / mu_i e^{-theta_i y}, 1 for y < 0, as in two_exponentials.h, let h F be
 * the sum over i of the determinant h with row i times q_i(b - x_j). While x_1 < b F is harmonic: a step and
 * the time between arrivals leave q_i what it is. F is a sum of numbers times E e^{theta_i (X_ii - b)} under
 * the weight e^{-sum mu X}, bounded, and falls to 0 where x_1 never crosses b. Its mean after the first job
 * is, with w_i = prod_{j != i} (nu_i - mu_j) / (mu_i - mu_j), L = sum of w_i e^{-theta_i T}, the sum over j =
 * 0 .. N - 1 of divided differences over mu_1 .. mu_{j+1} of e^{-theta T} (nu - mu_1) .. (nu - mu_j), a
 * function of mu. Behind periodic arrivals b is no random number: h with all rows times 1 - q_i is harmonic
 * and 0 where x_1 crosses, P(W <= T) = det (1 - E), E_ij the divided difference over mu_1 .. mu_i of
 * e^{-theta T} (nu - mu_1) .. (nu - mu_{j-1}): L is E's trace.
 *
 * Three stages behind other arrivals. Where x_1 crosses, given b and Y_j = b - x_j of the others, the density
 * of O = x_1 - b is in proportion to h, so that O is stochastically larger than exponential of rate mu_1, and
 * the mean of F is 1 + l: with u(z) = (1, z e^{z Y_2}, z e^{z Y_3}) 1 + l = sum_i det(u(mu) with row i
 * u(nu_i)) / det u(mu). Let n(z) be the quadratic with n(mu_i) = nu_i, g_j(z) = (1 + z Y_j) e^{z Y_j} the
 * derivative of u_j. Subtract rows: l is a mean, with weights det g_j(z_i) > 0 over z_1 > z_2 of [mu_2, mu_1]
 * and [mu_3, mu_2], of rho = (n'(z_1) det(g(n(z_1)), g(z_2)) + n'(z_2) det(g(z_1), g(n(z_2)))) / det(g(z_1),
 * g(z_2)). With k = g_3 / g_2, which grows, p(z) = n'(z) g_2(n(z)) / g_2(z) and the mean value theorem rho =
 * p(z_1) + p(z_2) - p(z) + p(z) n'(z) k'(n(z)) / k'(z) - p'(z) (k(z) - k(n(z))) / k'(z) at a z between. Let
 * theta = z - n(z), which lies in [theta_3, theta_1] as n' < 1, n > 0, Y = Y_2, w = 1 / (1 + n Y), s = max
 * |n'|. k' = d (f + 1 / (1 + z Y)^2) e^{d z}, d = Y_3 - Y, f = (1 + z Y_3) / (1 + z Y) >= 1, which grows:
 * k'(n) <= (1 + w^2) k'(z) and k(z) - k(n) <= theta (1 + w^2) k'(z). |p| <= s e^{-theta Y}, |p'| <= e^{-theta
 * Y} (|n''| + s (1 + s) Y (1 + w)). Y (1 + w) (1 + w^2) is no more than 4 Y, nor Y + 1 / n. So |l| <= c
 * e^{-eta Y}, eta < theta_3, c = 2 s (3 s if n' changes its sign) + 2 s^2 + 2 theta_1 |n''| + s (1 + s) min(4
 * m, m + theta_1 / min n), m = theta_3 / (e (theta_3 - eta)) the most of theta Y e^{-(theta - eta) Y}. L = P
 * + E[l; x_1 crosses], |L - P| <= c P at eta = 0. If 0 <= n' <= n / z, n'' <= 0, then p >= 0 >= p' and l >=
 * 0: P <= L.
 *
 * For eta >= g > 0, kappa = eta + g, with mu_1 mu_2 mu_3 E e^{-(2 eta - g) t} <= (mu_1 + g) (mu_2 - eta)
 * (mu_3 - eta), e^{-(2 eta - g) b} times the ratio of I for (mu_1 + g, mu_2 - eta, mu_3 - eta) and I for mu
 * is a positive supermartingale, of mean e^{-(2 eta - g) T} mu_1 mu_2 mu_3 / ((mu_1 + g) ..) at most after
 * the first job. The ratio is e^{eta (x_1 + x_2 + x_3)} times the mean of e^{-kappa X_11} under the weight
 * e^{-sum mu X}, and no less than with U uniform: the two values of X outside its first row and column, l_1 >
 * l_2, have a density on x_1 > l_1 > x_2 > l_2 > x_3 in proportion to l_1 - l_2, which is log-supermodular,
 * X_11 = sum of x - sum of l, and the weight's mean given them is an increasing function of l as mu_1 is the
 * largest: it is correlated positively with e^{kappa (l_1 + l_2)}. With U uniform X_11 <= x_3 + v A, A = x_1
 * - x_3, v of density 2 v on [0, 1]: the mean is no less than e^{-kappa x_3} psi(kappa A), psi(a) = 2 (1 - (1
 * + a) e^{-a}) / a^2. Where x_1 crosses, all that is at least e^{eta (O - Y) + g Y_3} psi >= e^{-eta Y}
 * e^{(eta - g) O} C, C = min e^{g A} psi(kappa A), whose place, log psi being convex, defines g. So |L - P|
 * <= c / C (mu_1 - eta + g) / mu_1 mu_1 mu_2 mu_3 / ((mu_1 + g) (mu_2 - eta) (mu_3 - eta)) e^{-(2 eta - g)
 * T}.
 *
 * A time between arrivals later L has its mean by a factor E e^{-theta t} = nu / mu, also a function of mu.
 *
 * Rounding. All that makes L and E is put into intervals; of equal rates divided differences are derivatives,
 * by power series of theta in mu. W grows with each service: times that are too near to tell are put
 * together, to the longest (upper end) or the shortest. */
#ifndef EDGEINFER_EXPONENTIALS_H
#define EDGEINFER_EXPONENTIALS_H

#include <stddef.h>

#include "edgeinfer/arrival.h"
#include "edgeinfer/lattice.h"
#include "edgeinfer/status.h"

enum {
    EI_EXPONENTIALS = 8,       /* stages at most */
    EI_EXPONENTIALS_TILTS = 24 /* bounds of |L - P| */
};

typedef struct {
    double low, high;
} ei_exponentials_number;

typedef struct {
    ei_exponentials_number term[EI_EXPONENTIALS];
} ei_exponentials_series;

/* One end of P(W > T). */
typedef struct {
    ei_end end;
    size_t count, terms;                                            /* stages; as many as are equal */
    ei_exponentials_number mu[EI_EXPONENTIALS];                     /* 1/s, the fastest first */
    ei_exponentials_number apart[EI_EXPONENTIALS][EI_EXPONENTIALS]; /* mu_i - mu_j, 1/s */
    ei_exponentials_series theta[EI_EXPONENTIALS];                  /* at mu_i, powers of mu - mu_i */
    int exact, above;                                               /* whether E counts; whether P <= L */
    double peak[2];                          /* s: where lower ends by the two that follow are the largest */
    double off;                              /* |L - P| <= off P, */
    double log_scale[EI_EXPONENTIALS_TILTS]; /* and e^{log_scale - tail T} */
    double tail[EI_EXPONENTIALS_TILTS];      /* 1/s */
} ei_exponentials;

/* The largest eta up to `most` for which the supermartingale of its remainder is one, or of two stages' with
 * less = 0: rates mu of the slower two and of the fastest stage (INFINITY: none), g = eta * less. *log_scale
 * is what it begins with. 0: none is found. */
double ei_exponentials_tilt(const double slow[2], double fast, const ei_arrival *arrival, double less,
                            double most, double *log_scale);

/* `count` services of mean times > 0, of any order, behind a renewal process at whose rate loads are below
 * one. Status: EI_ERR_ACCURACY where there are no such ends. */
EI_WARN_UNUSED int ei_exponentials_init(ei_exponentials *self, ei_end end, const double *times, size_t count,
                                        const ei_arrival *arrival);

/* The end of P(W > time). */
double ei_exponentials_sf(const ei_exponentials *self, double time);

/* A lower end of E P(W > time + t), t a time between arrivals. */
double ei_exponentials_behind(const ei_exponentials *self, const ei_arrival *arrival, double time);

#endif
