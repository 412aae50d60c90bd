#include "edgeinfer/bound.h"

#include "edgeinfer/group.h"
#include "edgeinfer/slotted.h"

#include <math.h>

enum { SEARCH_STEPS = 32 };

static const double FURTHEST = 1e9;   /* exponent times deadline that is tried */
static const double ROUNDING = 1e-15; /* of 1 - e^kappa, which counts at loads near one */

/* Derivative of the logarithm of the bound at theta, and with value the logarithm itself; +inf outside the
 * region of convergence. Exact with value, from the tables without. */
static int evaluate(const ei_groups *list, const ei_arrival *arrival, double deadline, size_t skip,
                    double theta, double *derivative, double *value) {
    double arrivals_slope, arrivals = ei_arrival_exponent(arrival, theta, &arrivals_slope);
    double sum = -theta * deadline;
    *derivative = -deadline;
    for (size_t k = 0; k < list->count; k++) {
        const ei_group *self = &list->groups[k];
        double cumulant, cumulant_slope;
        int status = value != NULL ? ei_group_log_mgf(self, theta, &cumulant, &cumulant_slope)
                                   : ei_group_quick_log_mgf(self, theta, &cumulant, &cumulant_slope);
        if (status != EI_OK)
            return status;
        sum += self->service == NULL ? theta * self->once : cumulant;
        *derivative += self->service == NULL ? self->once : cumulant_slope;
        if (k == skip)
            continue;
        double rest = -expm1(cumulant - arrivals) - ROUNDING;
        if (!(rest > 0)) {
            *derivative = INFINITY;
            if (value != NULL)
                *value = INFINITY;
            return EI_OK;
        }
        sum -= log(rest);
        *derivative += (1 - rest) / rest * (cumulant_slope - arrivals_slope);
    }
    if (value != NULL)
        *value = sum;
    return EI_OK;
}

/* Any theta gives a bound: the minimum is flat, or at the end of the interval, and bisection is near enough.
 */
static int least_by_jobs(const ei_groups *list, const ei_arrival *arrival, double deadline, size_t skip,
                         double limit, double *log_bound, double *theta) {
    double low = 0, high = limit, slope, value;
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
    for (int halving = 0; limit > high && halving < 64; halving++) {
        if ((status = evaluate(list, arrival, deadline, skip, high / 2, &slope, NULL)) != EI_OK)
            return status;
        if (slope < 0)
            break;
        high /= 2;
    }
    for (int step = 0; step < SEARCH_STEPS; step++) {
        double middle = low + (high - low) / 2;
        if ((status = evaluate(list, arrival, deadline, skip, middle, &slope, NULL)) != EI_OK)
            return status;
        if (slope < 0)
            low = middle;
        else
            high = middle;
    }
    if ((status = evaluate(list, arrival, deadline, skip, low, &slope, &value)) != EI_OK)
        return status;
    if (value < 0) {
        *log_bound = value;
        *theta = low;
    }
    return EI_OK;
}

static int by_jobs(ei_groups *list, int lundberg, const ei_arrival *shape, size_t count,
                   const double *arrival_rate, const double *deadline, double *log_bound, double *theta,
                   ei_monitor monitor) {
    int status = EI_OK;
    double limit = 0;
    ei_arrival arrival = *shape;
    for (size_t k = 0; k < list->count; k++)
        if ((status = ei_group_tabulate(&list->groups[k])) != EI_OK)
            return status;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || arrival_rate[i] != arrival_rate[i - 1]) {
            arrival = ei_arrival_at_rate(shape, arrival_rate[i]);
            status = ei_groups_decay_rate(list, &arrival, &limit);
        }
        if (status == EI_OK)
            status = least_by_jobs(list, &arrival, deadline[i], lundberg ? 0 : list->count, limit,
                                   &log_bound[i], &theta[i]);
        if (status != EI_OK)
            return status;
        if (i % 64 == 63 && ei_stopped(monitor))
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
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
        !ei_arrival_is_renewal(arrival) || (!by_moments && arrival->kind != EI_ARRIVAL_POISSON))
        return EI_ERR_DOMAIN;
    for (size_t k = 0; k < stage_count; k++)
        if ((status = ei_service_verify_independent(&stages[k])) != EI_OK)
            return status;
    for (size_t i = 0; i < count; i++)
        if (!(arrival_rate[i] > 0) || !isfinite(arrival_rate[i]) || isnan(deadline[i]))
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
