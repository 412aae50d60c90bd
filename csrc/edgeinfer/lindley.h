/* Adding a stage to a chain behind arrivals that are not Poisson, and a lower end of one stage's own queue.
 * Seconds.
 *
 * In the notation of walk.h u(y) = c(y) + (1 - c(y)) m(y), m(y) = E v(y + t), v(x) = E u(x - B), u = 1 below
 * zero, c = 0 for a lower end: u = G(u), G growing. Behind Markov-modulated arrivals u, v and m have a phase
 * i, that of the request which the walk has reached, m_i(y) = sum_j E[v_j(y + t); phase j at the request
 * before] (modulated.h), and the law is the mean of v_i, phases weighed by their share of requests. c has a
 * phase, too. What walk.h's proof needs then: C's that do not depend on the arrivals, or monotone phases
 * (modulated.h). Given services B, the phase at request i and the time S_i, its I_i and R_{i+1} are functions
 * of the phases from there on, of the points of a Poisson process of the largest rate, thinned with marks to
 * the rate of the phase, and of services of the stages before. As R_{i+1} says that sums of services less S_j
 * are below x for all jobs j > i and all paths, both fall where a point is more, a rate larger or a service
 * longer. Those are associated, phases by Harris' theorem of 1977: from one state on a monotone chain with
 * all its states in one order has positive correlations. So E[I_i R_{i+1} | ..] >= P(C <= x - A_i | phase)
 * E[R_{i+1} | ..]. Bounds and certificate: half_line.h.
 *
 * Less a constant. Where services and the times between arrivals are all taken q less, W is q less, and u is
 * what it was: with q at most the least of either, lattices may be as fine as B - t varies, whatever size it
 * has. Of services that may be below q an upper end takes q, as the walk grows with them, but in Chernoff's
 * bound; a lower one leaves E[u(x - B); B < q] out of G. */
#ifndef EDGEINFER_LINDLEY_H
#define EDGEINFER_LINDLEY_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/walk.h"

/* log E e^{theta B} of the stage's services, floor included, from above. Status: of ei_service_log_mgf. */
EI_WARN_UNUSED int ei_added_stage_log_moment(const ei_added_stage *stage, double theta, double *value);

/* As ei_add_stage_poisson; arrivals of a renewal process, or Markov-modulated ones of at most
 * EI_ARRIVAL_PHASES phases; log_scale and decay are set, too. Fewer points where Chernoff's bound falls to
 * what services have beyond their table. EI_ERR_ACCURACY where no certificate is found. */
EI_WARN_UNUSED int ei_add_stage_lindley(ei_upper_law *self, const ei_upper_law *before,
                                        const ei_added_stage *stage, const ei_arrival *arrival, double step,
                                        size_t count, ei_monitor monitor);

/* The same with Lundberg's bound beyond the lattice, where lundberg.h has one that is less there than the sum
 * over all jobs: for a lattice of few decay times. C's that do not depend on the arrivals. */
EI_WARN_UNUSED int ei_add_stage_early(ei_upper_law *self, const ei_upper_law *before,
                                      const ei_added_stage *stage, const ei_arrival *arrival, double step,
                                      size_t count, ei_monitor monitor);

/* As ei_add_stage_lindley for random services. The law is that of a V >= G(V) from above, G as in walk.h, the
 * chords between its points such a V itself; and least[count], the caller's, for renewal arrivals, NULL: not
 * asked for, V from below in the cell behind each point: V(x) = E u(x - B) with a u >= G(u) that was checked,
 * and no more than Chernoff's bound, for which that holds, too. */
EI_WARN_UNUSED int ei_add_stage_enclosed(ei_upper_law *self, double *least, const ei_upper_law *before,
                                         const ei_added_stage *stage, const ei_arrival *arrival, double step,
                                         size_t count, ei_monitor monitor);

/* A lower bound of the law of the stage's sojourn time, waiting time for a deterministic one, at `count`
 * points of `step`. *self is the caller's to free, also after an error. by_phase[phases][count], the
 * caller's, NULL: not asked for, of the requests that meet each. */
EI_WARN_UNUSED int ei_lindley_sojourn_lower(ei_lattice *self, double *by_phase, const ei_added_stage *stage,
                                            const ei_arrival *arrival, double step, size_t count,
                                            ei_monitor monitor);

#endif
