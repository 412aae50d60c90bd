/* Importance sampling of P(W > T), W the stationary sojourn time of a tandem with Poisson arrivals, on the
 * backward recursion of the path representation: with P_k the longest path of the jobs seen so far that has
 * reached stage k, P_K' = P_K - t + S_K,  P_k' = max(P_k - t, P_{k+1}') + S_k,  stop when P_1 > T. theta* is
 * the least root over the stages of M_k(theta) lambda / (lambda + theta) = 1; interarrival times are drawn at
 * the rate lambda + theta*, and where a random stage is the bottleneck its service times are tilted by
 * e^{theta* S}, too, so that every step's drift is upward and every path ends. The first job's random
 * services are tilted in any case. Laws of links and samples are tabulated, and the likelihood ratio is that
 * of the table, exactly. */
#ifndef EDGEINFER_RARE_H
#define EDGEINFER_RARE_H

#include <stddef.h>
#include <stdint.h>

#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

typedef struct {
    double value, standard_error;
    double replications, effective_sample_size; /* (sum w)^2 / sum w^2 */
    double largest_weight_share;                /* max w / sum w: a large one says that weights were missed */
    double tilt;                                /* theta*, 1/s */
} ei_rare_result;

/* Given:    stages[stage_count]; arrival_rate, 1/s; deadline, s; relative_error: standard error over value at
 * which to stop; max_replications; entropy; threads Status:   EI_OK; EI_ERR_ACCURACY with *result filled
 * where max_replications did not reach relative_error; EI_ERR_UNSTABLE, EI_ERR_DOMAIN, EI_ERR_EMPTY,
 * EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED The result does not depend on `threads`. */
EI_WARN_UNUSED int ei_rare_violation(const ei_service *stages, size_t stage_count, double arrival_rate,
                                     double deadline, double relative_error, double max_replications,
                                     const uint64_t entropy[4], size_t threads, ei_rare_result *result,
                                     ei_monitor monitor);

#endif
