#include "edgeinfer/several_servers.h"

#include "edgeinfer/bound.h"
#include "edgeinfer/lindley.h"

#include <math.h>
#include <stdlib.h>

enum { POINTS = 8192 };
static const double FURTHEST = 46; /* decay times after which the lattice ends */
static const double LEAST_DECAY = 1e-250;

/* The arrivals of every c-th job; EI_ERR_ACCURACY where they are of no kind that walks know. */
static int every(const ei_arrival *arrival, size_t c, ei_arrival *thinned) {
    double variation = 1; /* squared coefficient of variation */
    *thinned = *arrival;
    if (c == 1)
        return EI_OK;
    thinned->parameter[0] /= (double)c;
    if (arrival->kind == EI_ARRIVAL_DETERMINISTIC)
        return EI_OK;
    if (arrival->kind == EI_ARRIVAL_ERLANG)
        variation = 1 / arrival->parameter[1];
    else if (arrival->kind == EI_ARRIVAL_GAMMA)
        variation = arrival->parameter[1];
    else if (arrival->kind != EI_ARRIVAL_POISSON)
        return EI_ERR_ACCURACY;
    thinned->kind = EI_ARRIVAL_GAMMA;
    thinned->parameter[1] = variation / (double)c;
    return ei_arrival_mean(thinned) > 0 ? EI_OK : EI_ERR_ACCURACY;
}

/* A stage's queue, or that of adjacent constant stages of one server each. */
typedef struct {
    ei_service service;
    ei_arrival arrival;
    size_t servers;
} queue;

/* Whether every job is served at once behind `last`, or where `last` is and what comes is no slower. */
static int is_covered(const queue *last, const ei_service *next, size_t servers) {
    return last->service.kind == EI_SERVICE_DETERMINISTIC && next->kind == EI_SERVICE_DETERMINISTIC &&
           last->servers == 1 && next->time <= last->service.time * (double)servers;
}

/* Parts the chain into queues[stage_count]; *constant: the constant stages' own times. */
static int part_chain(const ei_service *stages, const size_t *servers, size_t stage_count,
                      const ei_arrival *arrival, queue *queues, size_t *queue_count, double *constant) {
    *queue_count = 0;
    *constant = 0;
    for (size_t k = 0; k < stage_count; k++) {
        queue *last = *queue_count > 0 ? &queues[*queue_count - 1] : NULL;
        int status = ei_service_verify_independent(&stages[k]);
        if (status != EI_OK)
            return status;
        if (servers[k] < 1 || (servers[k] > 1 && stages[k].kind != EI_SERVICE_DETERMINISTIC))
            return EI_ERR_DOMAIN;
        if (stages[k].kind == EI_SERVICE_DETERMINISTIC)
            *constant += stages[k].time;
        if (ei_service_mean(&stages[k]) == 0 || (last != NULL && is_covered(last, &stages[k], servers[k])))
            continue;
        /* A constant stage in front of a slower one of one server each: only the slower one counts. */
        int joins = last != NULL && last->servers == 1 && servers[k] == 1 &&
                    last->service.kind == EI_SERVICE_DETERMINISTIC &&
                    stages[k].kind == EI_SERVICE_DETERMINISTIC;
        if (!joins)
            last = &queues[(*queue_count)++];
        *last = (queue){.service = stages[k], .servers = servers[k]};
        if ((status = every(arrival, servers[k], &last->arrival)) != EI_OK)
            return status;
    }
    return EI_OK;
}

/* The law of the wait, and of what comes before it, with all queues of the chain added one after the other.
 */
static int add_all(ei_upper_law *law, const queue *queues, size_t queue_count, ei_monitor monitor) {
    double mean = 0, slowest = INFINITY;
    int status = EI_OK;
    for (size_t k = 0; k < queue_count && status == EI_OK; k++) {
        double decay;
        status = ei_decay_rate(&queues[k].service, 1, &queues[k].arrival, &decay);
        slowest = fmin(slowest, fmax(decay, LEAST_DECAY));
        mean += ei_service_mean(&queues[k].service);
    }
    for (size_t k = 0; k < queue_count && status == EI_OK; k++) {
        const ei_service *service = &queues[k].service;
        const int constant = service->kind == EI_SERVICE_DETERMINISTIC;
        const ei_added_stage stage = {constant ? NULL : service, 0, constant ? service->time : 0, 0};
        ei_upper_law next;
        double step = (mean + FURTHEST / slowest) / POINTS;
        if (constant)
            step = service->time / ceil(service->time / step);
        status = ei_add_stage_lindley(&next, law, &stage, &queues[k].arrival, step, POINTS, monitor);
        ei_upper_law_free(law);
        *law = next;
    }
    return status;
}

int ei_several_servers_upper(const ei_service *stages, const size_t *servers, size_t stage_count,
                             const ei_arrival *arrival, size_t count, const double *deadline, double *upper,
                             ei_monitor monitor) {
    size_t queue_count;
    double constant;
    ei_upper_law law = {.decay = 0};
    const ei_upper_law none = {.decay = 0};
    if (stage_count == 0)
        return EI_ERR_EMPTY;
    queue *queues = malloc(stage_count * sizeof *queues);
    int status = EI_ERR_NO_MEMORY;
    if (queues == NULL)
        goto out;
    if ((status = part_chain(stages, servers, stage_count, arrival, queues, &queue_count, &constant)) ==
            EI_OK &&
        !ei_arrival_is_renewal(arrival))
        status = EI_ERR_ACCURACY;
    if (status == EI_OK)
        status = add_all(&law, queues, queue_count, monitor);
    const int missing = ei_no_bound(status);
    for (size_t i = 0; i < count && (status == EI_OK || missing); i++)
        upper[i] = missing              ? 1
                   : isinf(deadline[i]) ? 0
                                        : ei_upper_law_plus_sf(&law, &none, deadline[i] - constant);
    if (missing)
        status = EI_OK;
out:
    free(queues);
    ei_upper_law_free(&law);
    return status;
}

int ei_several_servers_wait_lower(double service, size_t servers, const ei_arrival *arrival, size_t count,
                                  const double *time, double *lower, ei_monitor monitor) {
    const ei_service law = {.kind = EI_SERVICE_DETERMINISTIC, .time = service};
    const ei_added_stage stage = {NULL, 0, service, 0};
    ei_lattice wait = {.sf = NULL};
    ei_arrival thinned;
    double decay;
    if (servers < 1 || !(service > 0) || !isfinite(service) || !(ei_arrival_mean(arrival) > 0))
        return EI_ERR_DOMAIN;
    int status = ei_arrival_is_renewal(arrival) ? every(arrival, servers, &thinned) : EI_ERR_ACCURACY;
    if (status == EI_OK)
        status = ei_decay_rate(&law, 1, &thinned, &decay);
    if (status == EI_OK) {
        double step = (service + FURTHEST / fmax(decay, LEAST_DECAY)) / POINTS;
        status = ei_lindley_sojourn_lower(&wait, NULL, &stage, &thinned, service / ceil(service / step),
                                          POINTS, monitor);
    }
    const int missing = ei_no_bound(status);
    for (size_t i = 0; i < count && (status == EI_OK || missing); i++)
        lower[i] = time[i] < 0 ? 1 : missing || isinf(time[i]) ? 0 : ei_lattice_lower(&wait, time[i]);
    ei_lattice_free(&wait);
    return missing ? EI_OK : status;
}
