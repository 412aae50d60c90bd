#include "edgeinfer/bound.h"

#include "edgeinfer/group.h"
#include "edgeinfer/modulated.h"
#include "edgeinfer/slotted.h"

#include <math.h>
#include <stdlib.h>

enum { SEARCH_STEPS = 32 };

static const double FURTHEST = 1e9;   /* exponent times deadline that is tried */
static const double NEAR = 1e-10;     /* of the least logarithm, at which the search ends */
static const double ROUNDING = 1e-15; /* of 1 - e^kappa, which counts at loads near one */

/* What bounds by moments are made of. */
typedef struct {
    const ei_groups *list;
    ei_arrival arrival;
    int lundberg;
    double limit;                  /* 1/s: exponents stay below */
    double end[EI_ARRIVAL_PHASES]; /* s, of Markov-modulated arrivals: see bound.h */
    double *cumulant, *slope;      /* [list->count], scratch */
} moments;

/* Derivative of the logarithm of the bound at theta, and with value the logarithm itself; +inf outside the
 * region of convergence. Exact with value, from the tables without. */
static int evaluate(const moments *self, double deadline, double theta, double *derivative, double *value) {
    const int modulated = self->arrival.kind == EI_ARRIVAL_MARKOV_MODULATED;
    double arrivals_slope,
        arrivals = modulated ? 0 : ei_arrival_exponent(&self->arrival, theta, &arrivals_slope);
    double sum = -theta * deadline;
    int status;
    size_t count = 0;
    *derivative = -deadline;
    for (size_t k = 0; k < self->list->count; k++) {
        const ei_group *group = &self->list->groups[k];
        double cumulant, slope;
        status = value != NULL ? ei_group_log_mgf(group, theta, &cumulant, &slope)
                               : ei_group_quick_log_mgf(group, theta, &cumulant, &slope);
        if (status != EI_OK)
            return status;
        sum += group->service == NULL ? theta * group->once : cumulant;
        *derivative += group->service == NULL ? group->once : slope;
        if (k == 0 && self->lundberg)
            continue;
        self->cumulant[count] = cumulant;
        self->slope[count++] = slope;
        if (modulated)
            continue;
        double rest = -expm1(cumulant - arrivals) - ROUNDING;
        if (!(rest > 0)) {
            *derivative = INFINITY;
            if (value != NULL)
                *value = INFINITY;
            return EI_OK;
        }
        sum -= value != NULL ? log(rest) : 0;
        *derivative += (1 - rest) / rest * (slope - arrivals_slope);
    }
    if (modulated) {
        double paths, paths_slope;
        status = ei_modulated_paths(&self->arrival, theta, count, self->cumulant, self->slope,
                                    self->lundberg ? self->end : NULL, &paths, &paths_slope);
        if (status != EI_OK)
            return status;
        sum += paths;
        *derivative += paths_slope;
    }
    if (value != NULL)
        *value = sum;
    return EI_OK;
}

/* Any theta gives a bound: the minimum is flat, or at the end of the interval, and bisection is near enough.
 * The logarithm is convex, so that it is at most -slope (high - low) above its least at a `low` of that
 * slope. */
static int least_by_jobs(const moments *self, double deadline, double *log_bound, double *theta) {
    double low = 0, high = self->limit, slope, descent = -INFINITY, value;
    int status;
    *log_bound = *theta = 0;
    if (!(high > 0) || !(deadline > 0))
        return EI_OK;
    if (isinf(high)) {
        *log_bound = -INFINITY;
        return EI_OK;
    }
    /* Services that never exceed a period have no root. */
    high = fmin(high, FURTHEST / deadline);
    for (int halving = 0; self->limit > high && halving < 64; halving++) {
        if ((status = evaluate(self, deadline, high / 2, &slope, NULL)) != EI_OK)
            return status;
        if (slope < 0)
            break;
        high /= 2;
    }
    for (int step = 0; step < SEARCH_STEPS && !(descent * (low - high) < NEAR); step++) {
        double middle = low + (high - low) / 2;
        if ((status = evaluate(self, deadline, middle, &slope, NULL)) != EI_OK)
            return status;
        if (slope < 0) {
            low = middle;
            descent = slope;
        } else {
            high = middle;
        }
    }
    if ((status = evaluate(self, deadline, low, &slope, &value)) != EI_OK)
        return status;
    if (value < 0) {
        *log_bound = value;
        *theta = low;
    }
    return EI_OK;
}

/* The process at a rate, the limit of exponents there, and what ends Markov-modulated paths. */
static int set_rate(moments *self, const ei_arrival *shape, double rate) {
    self->arrival = ei_arrival_at_rate(shape, rate);
    int status = ei_groups_decay_rate(self->list, &self->arrival, &self->limit);
    if (status != EI_OK || self->arrival.kind != EI_ARRIVAL_MARKOV_MODULATED || !self->lundberg ||
        !(self->limit > 0) || isinf(self->limit))
        return status;
    if (isnan(ei_modulated_exponent(&self->arrival, self->limit, self->end, NULL)))
        return EI_ERR_TOO_LARGE;
    for (size_t i = 0; i < self->arrival.count; i++)
        self->end[i] = log(self->end[i]) / self->limit;
    return EI_OK;
}

static int by_jobs(ei_groups *list, int lundberg, const ei_arrival *shape, size_t count,
                   const double *arrival_rate, const double *deadline, double *log_bound, double *theta,
                   ei_monitor monitor) {
    int status = EI_OK;
    moments self = {.list = list, .lundberg = lundberg, .cumulant = malloc(2 * list->count * sizeof(double))};
    if (self.cumulant == NULL)
        return EI_ERR_NO_MEMORY;
    self.slope = self.cumulant + list->count;
    for (size_t k = 0; k < list->count && status == EI_OK; k++)
        status = ei_group_tabulate(&list->groups[k]);
    for (size_t i = 0; i < count && status == EI_OK; i++) {
        if (i == 0 || arrival_rate[i] != arrival_rate[i - 1])
            status = set_rate(&self, shape, arrival_rate[i]);
        if (status == EI_OK)
            status = least_by_jobs(&self, deadline[i], &log_bound[i], &theta[i]);
        if (status == EI_OK && i % 64 == 63 && ei_stopped(monitor))
            status = EI_ERR_INTERRUPTED;
    }
    free(self.cumulant);
    return status;
}

int ei_violation_bound(const ei_service *stages, size_t stage_count, ei_bound_method method,
                       const ei_arrival *arrival, double slot, size_t count, const double *arrival_rate,
                       const double *deadline, double *log_bound, double *theta, ei_monitor monitor) {
    int status = EI_OK;
    ei_groups list = {NULL, 0};
    const ei_arrival poisson = {.kind = EI_ARRIVAL_POISSON, .parameter = {1}};
    int by_moments = method == EI_BOUND_UNION || method == EI_BOUND_LUNDBERG;
    if (arrival == NULL)
        arrival = &poisson;
    if (stage_count == 0)
        return EI_ERR_EMPTY;
    if (!(slot > 0) || !isfinite(slot) || !(ei_arrival_mean(arrival) > 0) ||
        (!by_moments && arrival->kind != EI_ARRIVAL_POISSON))
        return EI_ERR_DOMAIN;
    for (size_t k = 0; k < stage_count; k++)
        if ((status = ei_service_verify_independent(&stages[k])) != EI_OK)
            return status;
    for (size_t i = 0; i < count; i++)
        if (!(arrival_rate[i] > 0) || !isfinite(arrival_rate[i]) || isnan(deadline[i]) ||
            !ei_arrival_has_bounds(arrival, arrival_rate[i]))
            return EI_ERR_DOMAIN;
    if ((status = ei_groups_init(&list, stages, stage_count)) != EI_OK)
        goto out;
    if (by_moments)
        status = by_jobs(&list, method == EI_BOUND_LUNDBERG, arrival, count, arrival_rate, deadline,
                         log_bound, theta, monitor);
    else
        status = ei_slotted_bound(&list, method == EI_BOUND_PRINTED, slot, count, arrival_rate, deadline,
                                  log_bound, theta, monitor);
out:
    ei_groups_free(&list);
    return status;
}

int ei_decay_rate(const ei_service *stages, size_t stage_count, const ei_arrival *arrival, double *value) {
    ei_groups list = {NULL, 0};
    int status = ei_groups_init(&list, stages, stage_count);
    if (status == EI_OK)
        status = ei_groups_decay_rate(&list, arrival, value);
    ei_groups_free(&list);
    return status;
}
