/* Ends for a chain of any number of stages with any service laws. Adjacent deterministic stages are merged,
 * so that the parts of the chain are random stages and deterministic ones, each a constant delay beside a
 * server of the longest of its times; delays are added at last.
 *
 * Lower ends (queue, link): W >= Wq(M/G/1 of stage b) + B_0 + one service of every other stage, all
 * independent: stages before b give that of the job that starts the path, and those behind b that of job 0.
 *
 * Upper ends.
 * added_stage: the first stage alone, M/G/1 or M/D/1, and one stage added after the other as in walk.h.
 * bottleneck_first: let R_j be the longest path from job j backwards through the stages up to b, and N_j the
 * longest through those behind b for jobs j, .., 0, so that W = max_j [R_j + N_j - S_j]. A path may stay on
 * b: with m <= B, R_j <= R_0 + S_j - j m. Hence W <= R_0 + Q, Q = sup_j [N_j - j m], independent of R_0, and
 * Q is the sojourn time in the stages behind b fed every m seconds. Any floor f may be put under b: services
 * max(B, f) are no shorter, and m = f. R_0 and Q by adding stages. */
#ifndef EDGEINFER_CHAIN_H
#define EDGEINFER_CHAIN_H

#include <stddef.h>

#include "edgeinfer/ends.h"
#include "edgeinfer/service.h"

/* Raises lower ends and cuts upper ends where the formulas above are better. Loads below one.
 * Status: EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED, EI_ERR_DOMAIN. */
EI_WARN_UNUSED int ei_chain_ends(const ei_batch *self, const ei_service *stages, size_t stage_count);

/* The same for renewal arrivals but periodic ones: both ends of the slowest parts by lindley.h, the upper end
 * with all parts added one after the other, too; and for Markov-modulated arrivals.
 *
 * Behind those the proof of walk.h fails, as Harris' inequality needs independent interarrival times. What
 * the parts before b are fed by is then a service of b every m seconds (bottleneck_first): a path that is in
 * them for the jobs j, .., i would be no shorter on b, so that R_0 <= sup_i [A_i + C_i], C_i the longest path
 * through the parts before b, backwards from job i, less m a job: functions of the services before b alone.
 * Given all interarrival times and phases and the services of b, the C_i are increasing functions of
 * independent times and hence associated, so that drawing each afresh from its law is an upper bound, and
 * that of walk.h with the phase of the job as a part of the state. The part b and those behind it, Q, are as
 * for Poisson arrivals: nothing there needs more of the arrivals than that they are there. */
EI_WARN_UNUSED int ei_renewal_ends(const ei_batch *self, const ei_service *stages, size_t stage_count);

/* The bracket for a job every 1 / arrival_rate seconds; arguments and status as for ei_violation_bracket.
 * Upper: all parts added to each other as in walk.h, for any renewal arrivals. Lower: a path that begins at
 * job -i, takes the random parts before part b there, stays on b for the jobs that follow, and takes b and
 * what is behind it at job 0 is as long as C_i - i (interval - m), m the shortest service of b, C_i
 * independent and of one law, and a service of every part from b on, independent of them. Constant stages
 * alone never let a job wait: both ends are the truth. */
EI_WARN_UNUSED int ei_periodic_bracket(const ei_service *stages, size_t stage_count, size_t count,
                                       const double *arrival_rate, const double *deadline, double *lower,
                                       double *upper, uint8_t *lower_method, uint8_t *upper_method,
                                       ei_monitor monitor);

#endif
