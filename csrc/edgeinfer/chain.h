/* Ends for a chain of any number of stages with any service laws. Adjacent deterministic stages are merged,
 * so that the parts of the chain are random stages and deterministic ones, each a constant delay beside a
 * server of the longest of its times; delays are added at last.
 *
 * Exponential stages that come first, behind Poisson arrivals, are queues in equilibrium that look the same
 * backwards in time: a job's sojourn time in such a stage is independent of all departures before its own,
 * and those are Poisson (Burke 1956, Reich 1957). What follows depends on those and on services of its own.
 * So W is a sum of independent exponential times, 1 / time - rate each, and of the sojourn time in the rest
 * of the chain fed by Poisson arrivals, of which all ends below are; with no rest it is known (exponential).
 *
 * Lower ends. W is no shorter than the sojourn time in some of the stages and one service of each other, all
 * independent: the longest path through those passes each other stage at a job that does not depend on its
 * services. queue, link: those stages are b and the exponential ones before b, of which the sum is
 * independent as above, with Wq(M/G/1 of b) + B_0, Wq by a lattice and from below by lundberg.h, which does
 * not round. exponential: those stages are all exponential ones.
 *
 * Exponential stages that follow each other may be exchanged: the law of their departures given the arrivals
 * stays (Weber 1979). The slowest is put first.
 *
 * Upper ends.
 * added_stage: the first stage alone, M/G/1 or M/D/1, and one stage added after the other as in walk.h.
 * Where a server has so little time to spare that rounding services up to a lattice costs more than a share
 * of the probability, its stage is added as in lindley.h, too, and the smaller law is taken point by point.
 * bottleneck_first: let R_j be the longest path from job j backwards through the stages up to b, and N_j the
 * longest through those behind b for jobs j, .., 0, so that W = max_j [R_j + N_j - S_j]. A path may stay on
 * b: with m <= B, R_j <= R_0 + S_j - j m. Hence W <= R_0 + Q, Q = sup_j [N_j - j m], independent of R_0, and
 * Q is the sojourn time in the stages behind b fed every m seconds. Any floor f may be put under b: services
 * max(B, f) are no shorter, and m = f. R_0 and Q by adding stages, of a constant b by the runs of tilted.h,
 * too.
 * exponential: b is an exponential stage with others behind it, Q_j = max_{l <= j} [N_l - B_0 - .. -
 * B_{l-1}], N_l the longest path over those for jobs 0 .. l, Q_{-1} = 0, and R_j the sojourn time of job j
 * in the stages up to and with b, of law v, v(y) = P(R_j > y), so that W = max_j [R_j - S_j + B_0 + .. +
 * B_{j-1} + Q_j]. Let W_l be W with Q_l in the place of all later Q_j, and y_l what Q_{l-1}, B_0, ..,
 * B_{l-1} and t_1, .., t_l leave of T at job l; R_l is independent of all these and of the step delta_l =
 * Q_l - Q_{l-1}. W_l > T >= W_{l-1} asks that R_l is in (y_l - delta_l, y_l], and that no path which is in
 * b up to a job before l, and of no stage before b, is longer than T (not crossed before): P(W > T) <=
 * v(T) + sum_l E [v(y_l - delta_l) - v(y_l); not crossed before]. With theta = 1 / time - rate and k(y) =
 * min(1, e^{-theta y}), -v' <= -K k' makes this at most v(T) + K sum_l E [k(y_l - delta_l) - k(y_l); not
 * crossed before]. With no stages before b, v is k, and all of this holds with equality: that sum is P(E +
 * Q > T) - k(T), E of law k the sojourn time in b and Q that in the stages behind it fed by Poisson
 * arrivals, independent of E as above. So P(W > T) <= v(T) + K [P(E + Q > T) - e^{-theta T}]. K: R = B +
 * Y, Y >= R' - t for the job before and B exponential and independent of Y, so that with m(y) = E v(y + t)
 * and d = v - m, -v' = (v - P(Y > .)) / time <= d / time and m' = - rate d. Hence d e^{theta y} does not
 * fall; then m(z) >= rate d(z) / theta, d(z) <= theta time v(z), and -v'(y) <= theta v(z) e^{theta (z -
 * y)} for y <= z: K = v(z) e^{theta z} up to z, of any upper bound v(z). That y_l is once beyond z and W >
 * T still adds at most P(W > z), by the first such job's own sojourn time. The laws of the stages before
 * and behind b, and of those before an added stage, are the best of these, too.
 * tilted: the same for any random stage b, tilted.h, by smaller exponents where ends are wide still; where
 * two_stages are tried, once more with their law up to b; and for the slowest stage, if it is random, with
 * those before it in the opposite order behind it, exchange.h. Where others are behind it, but for
 * exponential ones behind an exponential one, that is the R_0 of bottleneck_first. two_stages: where ends are
 * wide still, the law of a run of stages whose last one is nearly as slow as one before it by following the
 * two at once (pair_upper.h), others added as above; or, with a floor under that last one, for the R_0 of
 * bottleneck_first. constant_first: a constant stage and a random one behind it, both ends, constant_first.h.
 * constant_last: the other way round, the lower end that of constant_first, constant_last.h; and the lower
 * end of a random stage between two constant ones, and the upper one, of samples that are made no shorter
 * than the faster one.
 */
#ifndef EDGEINFER_CHAIN_H
#define EDGEINFER_CHAIN_H

#include <stddef.h>

#include "edgeinfer/ends.h"
#include "edgeinfer/service.h"

/* Raises lower ends and cuts upper ends where the formulas above are better. Loads below one.
 * Status: EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED, EI_ERR_DOMAIN. */
EI_WARN_UNUSED int ei_chain_ends(const ei_batch *self, const ei_service *stages, size_t stage_count);

/* Raises lower ends of a chain of one part by lundberg.h. Status: the same. */
EI_WARN_UNUSED int ei_chain_lower_alone(const ei_batch *self, const ei_service *stages, size_t stage_count);

/* The same for renewal arrivals: both ends of the slowest parts by lindley.h, the upper end
 * with all parts added one after the other, too; and for Markov-modulated arrivals. A lone exponential stage
 * behind renewal arrivals, and the lower end of one with others behind it, by geometric.h. tilted: any random
 * part b that is slower than those behind it, tilted.h; Q~ behind an exponential one as in the next
 * paragraph. And the slowest part, if it is random, by the opposite order, as above, behind arrivals which
 * exchange.h takes.
 *
 * exponential, upper, where b comes first behind renewal arrivals, and behind periodic ones: Q_j, y_l and
 * delta_l as above, C_j the sojourn time of job j in the parts before b, drawn afresh as in walk.h, and v the
 * law of W without Q and with these, bounded by a w that is linear between the points of a lattice, and not
 * below what w itself gives when put into the equation of lindley.h: that is what its certificate says. So
 * w(y_l) is at least the chance that the rest crosses when Q stays, as long as y_l is on the lattice, and P(W
 * > T) <= w(T) + sum_l E [w(y_l - delta_l)
 * - w(y_l); not crossed before]. With theta the rate of geometric.h and k(y) = min(1, e^{-theta y}), -w' <=
 * -K k' by the slopes of w, and k(y) <= e^{-theta y}, this sum is at most K e^{-theta T} sum_l E e^{theta
 * Z_l} (e^{theta Q_l} - e^{theta Q_{l-1}}), Z_l = B_0 + .. + B_{l-1} - S_l, Q_{-1} = 0. As E e^{theta (B -
 * t)} <= 1 and services of b tilted by theta are exponential of rate 1 / time - theta, independent of the
 * times between arrivals, that is K e^{-theta T} (E e^{theta Q} - 1), Q the sojourn time in the parts
 * behind b fed by Poisson arrivals of that rate. The lattice's end is left as above. b first: w = k.
 *
 * Two or three exponential parts that come first behind any renewal arrivals, the slowest one, b, put last,
 * have v, the law of R in them, from two_exponentials.h or exponentials.h, and what stands for Poisson
 * arrivals holds with R_l the job's own. Its service B is independent of what comes before it, which is no
 * less than R - t of the job before, so that -v'(y) <= (v(y) - E v(y + t)) / E B: K is the largest that the
 * ends of v allow for up to z >= T, beyond which moments are added, and the sum is at most K e^{-theta T} (E
 * e^{theta Q} - 1), Q fed by Poisson arrivals as above, and at most K (P(R' > T) - e^{-theta T}), R' the
 * sojourn time in b and the parts behind it, of exponentials.h or by the same bound: alone they make the same
 * sum with k, and with equality. Lower, of four parts and more: the sojourn time in as many of the slowest
 * exponential parts as exponentials.h takes, and one service of every other part, which the longest path
 * through those meets somewhere.
 *
 * exponential, upper, where b comes first behind Markov-modulated arrivals: v, which has a phase, from
 * ladder.h, and with s_i the largest -v_i' e^{theta y} / theta the same sum is at most K e^{-theta T} (E
 * e^{theta Q} - 1), K the largest over l of the mean of s over phases at job l under the tilt: Z_l is
 * independent of services behind b, and R_l of all but the phase. No order of phases is needed. A time X that
 * is spread evenly over a length a may be added to R_l, and slopes are (v_i(y - a) - v_i(y)) / a then, which
 * are small where v falls steeply only once. And b may be slowed down, as W grows with services, where others
 * are nearly as slow.
 *
 * One or two exponential stages alone behind Markov-modulated arrivals: ladder.h, two_modulated.h; lower, of
 * three parts and more: the sojourn time in the two slowest exponential ones, and one service of every other.
 *
 * Behind Markov-modulated arrivals whose phases are not monotone (lindley.h) the proof of walk.h fails, and
 * behind others what follows may be better. What the parts before b are fed by is then a service of b every m
 * seconds (bottleneck_first): a path that is in them for the jobs j, .., i would be no shorter on b, so that
 * R_0 <= sup_i [A_i + C_i], C_i the longest path through the parts before b, backwards from job i, less m a
 * job: functions of the services before b alone. Given all interarrival times and phases and the services of
 * b, the C_i are increasing functions of independent times and hence associated, so that drawing each afresh
 * from its law is an upper bound, and that of walk.h with the phase of the job as a part of the state. The
 * part b and those behind it, Q, are as for Poisson arrivals: nothing there needs more of the arrivals than
 * that they are there.
 *
 * Both, where the queue of part b decays slowly for what a service lasts: what a lattice says of its first
 * decay times goes on as lundberg.h has it, behind the times C_i of the parts before b from above
 * (bottleneck_first). A walk that is alone has its overshoot known from below, 1 - theta E B if B is
 * exponential, at any load.
 *
 * Periodic arrivals. Upper: all parts added to each other as in lindley.h, at light loads by steps of its
 * equation (walk.h), too. Lower: one part's queue by lindley.h (link), or by the first jobs' waits from
 * an empty queue; and a path that begins at job -i, takes the random parts before part b there, stays on
 * b for the jobs that follow, and takes b and what is behind it at job 0 is as long as C_i - i (interval
 * - m), m the shortest service of b, C_i independent and of one law, and a service of every part from b
 * on, independent of them. Where ends are wide still, both of a constant part behind a random one by
 * last_exit.h. */
EI_WARN_UNUSED int ei_renewal_ends(const ei_batch *self, const ei_service *stages, size_t stage_count);

#endif
