/* A random bottleneck b with stages behind it: an upper end of P(W > T) for Poisson arrivals, in the notation
 * of `exponential` in chain.h, y_l = T - Q_{l-1} - (B_0 + .. + B_{l-1} - S_l) what is left of T at job l
 * before the step delta_l of Q_l is taken. Seconds; rates in 1/s.
 *
 * Let V fall from 1 below 0 and V >= G(V), G as in walk.h with the C'. Then V(what is left), or 1 once it is
 * crossed, is a supermartingale from job to job but for the steps of Q_l, and these make
 *   P(W > T) <= E V(T - N_0) + sum_{l >= 1} E [V(y_l - delta_l) - V(y_l)],
 * N_0 one service of each stage behind b. The last interarrival time in y_l, t_l, is independent of all else
 * in y_l and delta_l: V may be replaced by m(y) = E V(y + t), and y_l by z_l = y_l - t_l. m is smooth, -m' =
 * rate (V - m). Let -m'(y) <= D e^{-theta y} for all y. (Below 0 it is rate e^{rate y} (1 - m(0)), so that D
 * >= rate (1 - m(0)) will do there.) With M the moment generating function of b's services and M(theta) rate
 * / (rate + theta) <= 1, the factor e^{theta (B_0 + .. + B_{l-1} - S_{l-1})} of e^{-theta z_l} is at most 1 +
 * theta / rate in the mean, and tilts: under services of b with density e^{theta b} / M(theta), by which Q
 * becomes Q~, the sum is a telescope,
 *   sum_{l >= 1} .. <= (D / theta) (1 + theta / rate) e^{-theta T} E [e^{theta Q~} - e^{theta N_0}].
 * Q~ is the sojourn time in the stages behind b fed every tilted service, whose exponents are beyond theta
 * where b is the slowest of them: M_c(s) M(theta - s) / M(theta) is below 1 at s = theta for each stage c.
 *
 * Any smaller theta will do. With g = M(theta) E e^{-theta t} the l-th term has a factor g^l more, and the
 * sum is the mean over a number of jobs, another one after each with probability g, of what it was: Q~ is of
 * so many jobs. With phases P / g takes the place of P. So stages behind b may be as slow as b.
 *
 * E e^{theta Q~}. Let F(i..n; t) be E e^{theta W}, now W the sojourn time in stages i .. n fed every t, where
 * after each request there may be no other one, and L = E[e^{-theta t}; another]. With any stage k of them,
 * and t' its services under density e^{theta b} / M_k(theta), another one with probability M_k(theta) L,
 *   F(i..n; t) <= F(i..k; t) F(k+1..n; t').
 * Proof: with k in the place of b, R_l and Q_l as below and W_l as there, W_0 = R_0 + N_0 and W_l =
 * max(W_{l-1}, R_l + Z_l + Q_l), Z_l = B_0 + .. + B_{l-1} - S_l, where R_l + Z_l + Q_{l-1} <= W_{l-1}. So
 * e^{theta W_l} - e^{theta W_{l-1}} <= e^{theta (R_l + Z_l)} (e^{theta Q_l} - e^{theta Q_{l-1}}), R_l
 * independent of the rest, and in the mean that is F(i..k; t) (M_k L)^l E' [e^{theta Q_l} - e^{theta
 * Q_{l-1}}], E' tilted; the sum over l of these, with F(i..k; t) E e^{theta N_0}, is F(i..k; t) times the
 * mean of e^{theta Q} with as many jobs as t' allows. Of all ways to cut the stages behind b into runs whose
 * stages are added one by one (lindley.h) the best is taken, from the last stage on. L stays what it is from
 * run to run, but for rounding.
 *
 * D is asked for up to some z only. Stop at the first l with z_l > z, which is known before t_l and comes no
 * later if interarrival times are longer, as walk.h's proof needs. W > T by a path that is still in b or
 * before it at job l adds at most P(W > z): what such a path has of the jobs before l is no more than Q_{l-1}
 * + B_0 + .. + B_{l-1}, and the rest, the sojourn time of job l at most, is independent of z_l. P(W > z) by
 * Chernoff's bound, or by this one with another z. With no stage before b, e^{-theta (y_j - B_j)} is at least
 * 1 at the first job j with B_j > y_j, which is when W > T, and from job to job a supermartingale but for the
 * steps of Q_j, which do not depend on B_j:
 *   P(W > z) <= M(theta) e^{-theta z} E e^{theta Q~}.
 * Of a sum (exchange.h), as V is at most M(theta) e^{-theta x} (Lundberg), D = rate M(theta) will do for all
 * y; as M(theta) <= 1 + theta / rate, that is (1 + theta / rate) e^{-theta z} [E e^{theta Q~} + (rate /
 * theta) (E e^{theta Q~} - E e^{theta N_0})].
 *
 * And from some y_0 on only, for V falls by whole services at first. As Q_l is N_l - B_0 - .. - B_{l-1} where
 * it grows, z_l - delta_l < y_0 says there that N_l - S_{l-1} > T - y_0. Let that be a violation, too. At the
 * first such l, whatever came before, t_l is at most 1 / rate with probability 1 - 1 / e, so that it adds no
 * more than P(W' > T - y_0 - 1 / rate) / (1 - 1 / e), W' the sojourn time in the stages behind b alone, fed
 * by the chain's own arrivals.
 *
 * The law of a run, of which F is a moment, is also bounded as in the next paragraph, by the slowest random
 * stage k of it in the place of b, with the exponent of k behind times t, which is beyond theta, and with V
 * from adding k to those before it in the run: nothing there asks whether another request comes. The better
 * one at each point counts, also for stages that are added to it. Else a quick stage behind an exponential
 * one meets its sojourn times drawn afresh at each request.
 *
 * Other arrivals. With several phases V and m have one, that of job l and of job l - 1, and P = M(theta)
 * E[e^{-theta t}; phase at the job before] takes the place of M(theta) rate / (rate + theta); there is an h >
 * 0 with P h <= h; one phase: h = 1. Phases have to be monotone (modulated.h) where stages stand before b,
 * and P(W > z) is that of the phase which is met then, at most P(W > z) over the least share of a phase. Let
 * X be spread evenly over a length a, independent of all else. The bound in the mean over T - X is one, too:
 * then m falls by m(y - a) - m(y) in a length a, for any law of t. With that at most a theta s_i e^{-theta y}
 * in phase i, and as phases are independent of services, P(W > T) <= E V(T - X - N_0) + K e^{-theta T} E
 * [e^{theta Q~} - e^{theta N_0}] + P(W > z), K the largest over j >= 0 of M(theta) alpha P^j s, alpha the
 * shares of phases of requests; beyond some j it is at most alpha h times the largest (P^j s)_i / h_i. Here V
 * is linear between its lattice's points, which lindley.h checked for such a V, and m(y) at a point a sum
 * over t split between points, exact but for what lies beyond the lattice. Far below 0 the rest of m's fall
 * counts at once. V itself may be spread as well, V(y - a) - V(y) <= a theta s_i e^{-theta y}: then e^{-theta
 * y_l} stands in the place of e^{-theta z_l}, K is the largest over j >= 1 of alpha P^j s, and some lengths a
 * up to a decay time are tried. Where b is exponential V is smooth, -V' <= theta s_i e^{-theta y}, with no X;
 * and Q~ is fed by Poisson arrivals of b's rate less theta, so that its moment may be known better, or not.
 *
 * The law v of R_l, the sojourn time of job l in the stages up to and with b, may take V's place: R_l is
 * independent of y_l and delta_l, and, W_l being W with Q_l in the place of all later Q, W_l > T >= W_{l-1}
 * asks that R_l is in (y_l - delta_l, y_l], so that P(W > T) <= P(R_0 + N_0 > T) + sum_l E [v(y_l - delta_l)
 * - v(y_l)], and so on as above. It asks for a bound of v from above and for one of v itself from below,
 * which that of b's own queue is.
 *
 * V. On walk.h's lattice v^ >= G(v^) for all y if it is constant between the points, services and times
 * being rounded. With lindley.h u >= G(u) for its u, and V(x) = E u(x - B) >= G(V) lies between two tables:
 * an upper one, and a lower one by the lower ends of the same sums. m is taken from below, 0 beyond the
 * lattice; V - m in a cell is no more than V at its beginning less m at its end.
 *
 * Tilted services are rounded down to a lattice, which makes L of all runs behind larger, too. With N(x) = E
 * [e^{theta B}; B > x] from below and L(x) = E [e^{theta B}; B <= x] from above, N / (N + L) is a lower bound
 * of the tilted P(B > x). */
#ifndef EDGEINFER_TILTED_H
#define EDGEINFER_TILTED_H

#include <stddef.h>

#include "edgeinfer/arrival.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"
#include "edgeinfer/walk.h"

/* A law P(W > T) <= once(T) + slope after(T) + P(W > z), whose slope grows with z. Each z is a share of the
 * furthest, and counts where it is the best. */
enum { EI_TAIL_ENDS = 64 };
typedef struct {
    double furthest;                 /* s */
    double slope[EI_TAIL_ENDS];      /* of z = ei_tail_end, inf where it is not known */
    double log_beyond[EI_TAIL_ENDS]; /* log P(W > z) from above, 0 where it is not known */
    double log_of_phase;             /* log of how much more than that it is given a phase, at most */
    int is_sum;                      /* whether these are no probabilities: see exchange.h */
} ei_tail;

static inline double ei_tail_end(const ei_tail *self, size_t e) {
    return self->furthest * (double)(e + 1) / EI_TAIL_ENDS;
}

/* Cuts *law by once and after at its points; its shift is the caller's to set before. What it says beyond
 * each z counts in turn. */
void ei_split_tail(ei_upper_law *law, const double *once, const double *after, const ei_tail *tail);

typedef struct {
    const ei_upper_law *v; /* V, or v, from above */
    const double *least;   /* [v's points], and from below in the cell behind each, for Poisson arrivals */
    const ei_service *service; /* of b */
    double floor;              /* s, put under its services */
    const ei_arrival *arrival;
    double theta;                     /* 1/s, of ei_tilted_exponent */
    int alone;                        /* whether no stage is before b, behind arrivals of one phase */
    const double *log_moment;         /* of e^{theta Q~}, from above, by other means; NULL: not known */
    const ei_added_stage *rest;       /* [rest_count], behind b, constant delays left out */
    size_t rest_count;                /* >= 1 */
    const ei_upper_law *alone_behind; /* of what is behind b alone, see above; NULL: not known */
    ei_tail tail;   /* all but its slope; it ends some interarrival times before v's lattice */
    double horizon; /* s */
    size_t points;  /* of the result */
    int nested;     /* whether b is itself behind another one */
    ei_monitor monitor;
} ei_tilted;

/* theta with M(theta) E e^{-theta t} <= 1, just below `decay`. EI_ERR_UNSTABLE: none. */
EI_WARN_UNUSED int ei_tilted_exponent(const ei_added_stage *stage, const ei_arrival *arrival, double decay,
                                      double *theta);

/* Returned: *self, the caller's to free, at points + 1 points up to the horizon
 * Status:   EI_ERR_UNSTABLE, EI_ERR_ACCURACY or EI_ERR_TOO_LARGE where there is no such bound;
 *           EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED; *self is then empty */
EI_WARN_UNUSED int ei_tilted_law(ei_upper_law *self, const ei_tilted *given);

/* The sojourn time in stages that are fed every `period`, from above, each added to the better law of those
 * before it, as of a run above. At most `points` points up to the horizon. Returned and status: as above. */
EI_WARN_UNUSED int ei_tilted_run(ei_upper_law *self, const ei_added_stage *stages, size_t count,
                                 double period, double horizon, size_t points, ei_monitor monitor);

#endif
