/* Ends for a chain in which constant stages may have several servers of one queue each. Seconds.
 *
 * First come, first served, jobs leave `c` servers of one constant time d in their order, job k from the
 * server that job k - c had: with C_i the sojourn time in the stages before of the i-th job backwards from
 * the tagged one and S_i the sum of i interarrival times, the tagged job's wait and what comes before it take
 *   sup_{j >= 0} [j d + C_{jc} - S_{jc}].
 * This is the walk of walk.h with every c-th job alone: interarrival times are sums of c, and the C_{jc} may
 * be drawn afresh by the same proof, as they fall with every later interarrival time and grow with every
 * service. Servers that follow another constant stage of no less than d / c never let a job wait, for c
 * departures of that are no less than d apart: then D_k = max(A_k, D_{k-c}) + d = A_k + d by induction. */
#ifndef EDGEINFER_SEVERAL_SERVERS_H
#define EDGEINFER_SEVERAL_SERVERS_H

#include <stddef.h>

#include "edgeinfer/arrival.h"
#include "edgeinfer/service.h"

/* Given:    stages[stage_count], servers[stage_count] >= 1, more than one where a stage is constant alone;
 *           arrival: a renewal process of its own rate; deadline[count], s, may be inf
 * Returned: upper[count] >= P(W > deadline); 1 where a load is one or more, where no bound was found, and
 *           before several servers behind other arrivals than Poisson, Erlang, Gamma and periodic ones
 * Status:   EI_ERR_EMPTY, EI_ERR_DOMAIN, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED */
EI_WARN_UNUSED int ei_several_servers_upper(const ei_service *stages, const size_t *servers,
                                            size_t stage_count, const ei_arrival *arrival, size_t count,
                                            const double *deadline, double *upper, ei_monitor monitor);

/* The same from below of the wait at servers of a constant `service` > 0, alone: lower[count] <= P(wait >
 * time[count]), 0 where there is no bound. */
EI_WARN_UNUSED int ei_several_servers_wait_lower(double service, size_t servers, const ei_arrival *arrival,
                                                 size_t count, const double *time, double *lower,
                                                 ei_monitor monitor);

#endif
