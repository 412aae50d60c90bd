#include "edgeinfer/bound.h"

#include "edgeinfer/fading.h"

#include <gsl/gsl_math.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    PER_OCTAVE = 32, /* tabulated exponents */
    LOWEST = -1074,  /* octave */
    OCTAVES = 2098,
    BISECTIONS = 52,
    SEARCH_STEPS = 32,
    SERIES = 16384 /* slots of the series that are summed before the remainder */
};

static const double ROUNDING = 1e-15; /* of 1 - e^kappa, which counts at loads near one */

/* A stage as the bounds see it: `once` for the first job of its part of a path, the service for every further
 * one. */
typedef struct {
    const ei_service *service; /* NULL: deterministic */
    double once, again;        /* s, for a deterministic stage */
    double abscissa;           /* 1/s */
    double *table; /* [OCTAVES * PER_OCTAVE + 1][2], log MGF and slope, or 0 where not yet asked for */
} group;

typedef struct {
    group *groups;
    size_t count;
} group_list;

static void group_list_free(group_list *self) {
    if (self->groups != NULL)
        for (size_t k = 0; k < self->count; k++)
            free(self->groups[k].table);
    free(self->groups);
}

static int group_list_init(group_list *self, const ei_service *stages, size_t count) {
    self->count = 0;
    self->groups = calloc(count, sizeof *self->groups);
    if (self->groups == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < count; k++) {
        int deterministic = stages[k].kind == EI_SERVICE_DETERMINISTIC;
        group *last = self->count > 0 ? &self->groups[self->count - 1] : NULL;
        if (deterministic && last != NULL && last->service == NULL) {
            last->once += stages[k].time;
            last->again = fmax(last->again, stages[k].time);
            continue;
        }
        group *added = &self->groups[self->count++];
        added->service = deterministic ? NULL : &stages[k];
        added->once = added->again = deterministic ? stages[k].time : 0;
        added->abscissa = deterministic ? INFINITY : ei_service_abscissa(&stages[k]);
    }
    return EI_OK;
}

static int log_mgf(const group *self, double theta, double *value, double *slope) {
    if (self->service == NULL) {
        *value = theta * self->again;
        *slope = self->again;
        return EI_OK;
    }
    return ei_service_log_mgf(self->service, theta, value, slope);
}

static int node(const group *self, size_t i, const double **values) {
    double *at = self->table + 2 * i;
    *values = at;
    if (at[1] != 0)
        return EI_OK;
    double fraction = 0.5 + (double)(i % PER_OCTAVE) / (2 * PER_OCTAVE);
    return log_mgf(self, ldexp(fraction, (int)(i / PER_OCTAVE) + LOWEST), &at[0], &at[1]);
}

/* Cubic Hermite interpolation between values at fixed exponents, which are computed when first asked for:
 * near enough for a search, and the same whatever else is asked for. */
static int quick_log_mgf(const group *self, double theta, double *value, double *slope) {
    if (self->table == NULL || !(theta > 0))
        return log_mgf(self, theta, value, slope);
    int octave, status;
    double position = (frexp(theta, &octave) - 0.5) * 2 * PER_OCTAVE, x = position - floor(position);
    size_t i = (size_t)(octave - LOWEST) * PER_OCTAVE + (size_t)position;
    const double *left, *right;
    if ((status = node(self, i, &left)) != EI_OK || (status = node(self, i + 1, &right)) != EI_OK)
        return status;
    if (!(right[0] < INFINITY))
        return log_mgf(self, theta, value, slope);
    double step = ldexp(1, octave) / (2 * PER_OCTAVE), rise = right[0] - left[0];
    double up = left[1] * step, down = right[1] * step, b = 3 * rise - 2 * up - down,
           c = up + down - 2 * rise;
    *value = left[0] + x * (up + x * (b + x * c));
    *slope = (up + x * (2 * b + x * 3 * c)) / step;
    return EI_OK;
}

/* The root of kappa beyond 0, or the abscissa: theta must stay below. Infinite for no work at all. */
static int exponent_limit(const group *self, double arrival_rate, double *limit) {
    double low = 0, value, slope, mean;
    *limit = 0;
    int status = log_mgf(self, 0, &value, &mean);
    if (status != EI_OK)
        return status;
    if (!(arrival_rate * mean < 1))
        return EI_OK;
    if (mean == 0)
        *limit = INFINITY;
    double high = 1 / mean;
    for (int i = 0; i < 2000 && mean > 0; i++) {
        if (high >= self->abscissa)
            high = self->abscissa;
        if ((status = log_mgf(self, high, &value, &slope)) != EI_OK)
            return status;
        if (!(value < log1p(high / arrival_rate)) || high >= self->abscissa)
            break;
        low = high;
        high *= 2;
    }
    for (int i = 0; i < BISECTIONS && mean > 0; i++) {
        double middle = low + (high - low) / 2;
        if ((status = log_mgf(self, middle, &value, &slope)) != EI_OK)
            return status;
        if (value < log1p(middle / arrival_rate))
            low = middle;
        else
            high = middle;
    }
    if (mean > 0)
        *limit = low;
    return EI_OK;
}

static int tabulate(group *self) {
    if (self->service == NULL || self->service->kind == EI_SERVICE_EXPONENTIAL)
        return EI_OK;
    self->table = calloc(2 * (OCTAVES * PER_OCTAVE + 1), sizeof *self->table);
    return self->table == NULL ? EI_ERR_NO_MEMORY : EI_OK;
}

/* Derivative of the logarithm of the bound at theta, and with value the logarithm itself; +inf outside the
 * region of convergence. Exact with value, from the tables without. */
static int evaluate(const group_list *list, double arrival_rate, double deadline, size_t skip, double theta,
                    double *derivative, double *value) {
    const double arrivals = log1p(theta / arrival_rate), arrivals_slope = 1 / (arrival_rate + theta);
    double sum = -theta * deadline;
    *derivative = -deadline;
    for (size_t k = 0; k < list->count; k++) {
        const group *self = &list->groups[k];
        double cumulant, cumulant_slope;
        int status = value != NULL ? log_mgf(self, theta, &cumulant, &cumulant_slope)
                                   : quick_log_mgf(self, theta, &cumulant, &cumulant_slope);
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

/* The least of the limits of all groups. */
static int decay_rate(const group_list *list, double arrival_rate, double *value) {
    *value = INFINITY;
    for (size_t k = 0; k < list->count; k++) {
        double limit;
        int status = exponent_limit(&list->groups[k], arrival_rate, &limit);
        if (status != EI_OK)
            return status;
        *value = fmin(*value, limit);
    }
    return EI_OK;
}

/* Any theta gives a bound: the minimum is flat, or at the end of the interval, and bisection is near enough.
 */
static int least_by_jobs(const group_list *list, double arrival_rate, double deadline, size_t skip,
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
    for (int step = 0; step < SEARCH_STEPS; step++) {
        double middle = low + (high - low) / 2;
        if ((status = evaluate(list, arrival_rate, deadline, skip, middle, &slope, NULL)) != EI_OK)
            return status;
        if (slope < 0)
            low = middle;
        else
            high = middle;
    }
    if ((status = evaluate(list, arrival_rate, deadline, skip, low, &slope, &value)) != EI_OK)
        return status;
    if (value < 0) {
        *log_bound = value;
        *theta = low;
    }
    return EI_OK;
}

static int by_jobs(group_list *list, int lundberg, size_t count, const double *arrival_rate,
                   const double *deadline, double *log_bound, double *theta, ei_monitor monitor) {
    int status = EI_OK;
    double limit = 0;
    for (size_t k = 0; k < list->count; k++)
        if ((status = tabulate(&list->groups[k])) != EI_OK)
            return status;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || arrival_rate[i] != arrival_rate[i - 1])
            status = decay_rate(list, arrival_rate[i], &limit);
        if (status == EI_OK)
            status = least_by_jobs(list, arrival_rate[i], deadline[i], lundberg ? 0 : list->count, limit,
                                   &log_bound[i], &theta[i]);
        if (status != EI_OK)
            return status;
        if (monitor.poll != NULL && i % 64 == 63 && monitor.poll(monitor.context) != 0)
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
}

/* The pipeline on the slot grid: deterministic groups, and at most one random stage. */
typedef struct {
    double *period; /* slots a further job takes at each deterministic group; [count] */
    double *delay;  /* slots before the first job leaves the group */
    size_t count, hops;
    int has_link;
    const group *random;
    double slot;
    double exponent, mean_snr; /* printed: of the slot MGF at theta = 1 */
} slot_view;

static int slot_view_init(slot_view *self, const group_list *list, double slot, int printed) {
    memset(self, 0, sizeof *self);
    self->slot = slot;
    self->hops = list->count;
    self->period = malloc(2 * list->count * sizeof *self->period);
    if (self->period == NULL)
        return EI_ERR_NO_MEMORY;
    self->delay = self->period + list->count;
    for (size_t k = 0; k < list->count; k++) {
        const group *part = &list->groups[k];
        if (part->service == NULL) {
            self->delay[self->count] = part->once / slot;
            self->period[self->count++] = fmax(part->again / slot, 1e-9);
        } else if (!printed && !self->has_link) {
            self->has_link = 1;
            self->random = part;
        } else if (part->service->kind == EI_SERVICE_TRANSFER && !self->has_link) {
            double bits, bandwidth, link_slot;
            ei_transfer_parameters(part->service->transfer, &bits, &bandwidth, &self->mean_snr, &link_slot);
            if (!(fabs(link_slot - slot) <= 1e-9 * slot))
                return EI_ERR_DOMAIN;
            self->has_link = 1;
            self->exponent = bandwidth * link_slot / bits / M_LN2;
        } else {
            return EI_ERR_DOMAIN;
        }
    }
    return EI_OK;
}

/* eta with log M(eta) = theta, rounded down. By Wald's identity for the number N(t) of services done in a
 * busy time t, E e^{-theta (N + 1) + eta (S_1 + .. + S_{N+1})} = 1 and the sum exceeds t, so E e^{-theta
 * N(t)} <= e^{theta - eta t}. */
static int renewal_exponent(const group *self, double theta, double *eta) {
    double low = 0, high, value, slope, mean;
    int status = log_mgf(self, 0, &value, &mean);
    if (status != EI_OK)
        return status;
    high = fmin(theta / mean, self->abscissa); /* the logarithm of an MGF lies above its tangent at 0 */
    for (int i = 0; i < 60 && high - low > 1e-9 * high; i++) {
        /* Newton from the right side, where a convex function makes it monotone; bisection where it diverges.
         */
        if ((status = log_mgf(self, high, &value, &slope)) != EI_OK)
            return status;
        double next = value < INFINITY && slope > 0 ? high - (value - theta) / slope : low + (high - low) / 2;
        if (!(value < INFINITY)) {
            double below;
            if ((status = log_mgf(self, next, &below, NULL)) != EI_OK)
                return status;
            if (below < theta) {
                low = next;
                continue;
            }
        } else if (high - next < 1e-10 * high) {
            low = fmax(low, next * (1 - 1e-8));
            break;
        }
        high = fmax(next, low);
    }
    *eta = fmax(low, 0);
    return EI_OK;
}

/* E e^{-theta S(tau)} <= min(1, exp(lead - decay tau)), and so 1 for tau < lead / decay, of each hop. */
static int hop_bounds(const slot_view *self, double theta, double *lead, double *decay) {
    for (size_t k = 0; k < self->count; k++) {
        decay[k] = theta / self->period[k];
        lead[k] = self->delay[k] * decay[k];
    }
    if (self->has_link) {
        double rate;
        int status = renewal_exponent(self->random, theta, &rate);
        if (status != EI_OK)
            return status;
        decay[self->count] = rate * self->slot;
        lead[self->count] = theta;
    }
    return EI_OK;
}

/* log of e^{-theta} sum_{tau >= 1} M_A(theta, tau) M_S(-theta, tau + horizon), M_S the convolution of the
 * hops' bounds, scaled by e^{rate tau} so that nothing under- or overflows. work: [3][size]. +inf where the
 * series diverges. */
static int corrected_value(const slot_view *self, double theta, double arrivals, double horizon, size_t size,
                           double *restrict work, double *value) {
    double lead[64], decay[64], growth = arrivals * expm1(theta), rate = INFINITY;
    int status = hop_bounds(self, theta, lead, decay);
    if (status != EI_OK)
        return status;
    for (size_t k = 0; k < self->hops; k++)
        rate = fmin(rate, decay[k]);
    *value = INFINITY;
    if (!(growth < rate))
        return EI_OK;
    double *current = work, *next = work + size, *suffix = work + 2 * size, step = exp(rate), grown = 1;
    for (size_t k = 0; k < self->hops; k++) {
        size_t flat = (size_t)fmin(ceil(lead[k] / decay[k]), (double)size);
        if (k == 0) {
            for (size_t tau = 0; tau < size; tau++)
                current[tau] = exp(rate * (double)tau + fmin(0, lead[k] - decay[k] * (double)tau));
            continue;
        }
        /* Convolve with a flat part, a sliding sum under the scaling, and a geometric one. The sliding sum
         * adds what is left of one block of `flat` to what there is of the next: subtraction would blow up
         * under the scaling. */
        double ratio = exp(rate - decay[k]),
               first = exp(rate * (double)flat + fmin(0, lead[k] - decay[k] * (double)flat));
        double tail = 0, prefix = 0;
        for (size_t tau = 0; tau < size; tau++) {
            size_t offset = flat > 0 ? tau % flat : 0;
            if (flat > 0 && offset == 0) {
                double sum = 0, power = 1;
                for (size_t i = tau; tau >= flat && i > tau - flat; i--, power *= step) {
                    sum += current[i - 1] * power;
                    suffix[i - 1 - (tau - flat)] = sum;
                }
                prefix = 0;
                grown = 1;
            }
            prefix = prefix * step + current[tau];
            grown *= step;
            tail = tail * ratio + (tau >= flat ? first * current[tau - flat] : 0);
            next[tau] = tail + (flat > 0 ? prefix : 0);
            if (flat > 0 && tau >= flat && offset + 1 < flat)
                next[tau] += suffix[offset + 1] * grown;
        }
        double *swap = current;
        current = next;
        next = swap;
    }
    size_t from = (size_t)horizon;
    double sum = 0, ratio = exp(growth - rate), weight = 1, term = 0;
    for (size_t tau = 1; from + tau < size; tau++) {
        weight *= ratio;
        term = weight * current[from + tau];
        sum += term;
    }
    /* Beyond the work's end the scaled M_S grows at most like tau^(hops - 1): a geometric remainder with that
     * slope. */
    double beyond = ratio * pow(1 + 1 / (double)size, (double)self->hops);
    if (!(beyond < 1))
        return EI_OK;
    sum += term * beyond / (1 - beyond);
    *value = -theta - rate * horizon + log(sum);
    return EI_OK;
}

/* log of E e^{-theta floor(R slot / J)}. */
static double printed_link(const slot_view *self, double theta) {
    /* P(R slot / J >= k) = exp(-(2^(k J / (W slot)) - 1) / s). */
    double sum = 1, unit = 1 / (self->exponent * M_LN2);
    for (int k = 1; k < 100000; k++) {
        double above = exp(-expm1(M_LN2 * unit * k) / self->mean_snr);
        if (above == 0)
            break;
        sum -= above * -expm1(-theta) * exp(-theta * (k - 1));
    }
    return log(fmax(sum, 1e-300));
}

static double log_add(double a, double b) {
    double high = fmax(a, b), low = fmin(a, b);
    return low == -INFINITY ? high : high + log1p(exp(low - high));
}

static int printed_value(const slot_view *self, double theta, double arrivals, double horizon,
                         double *value) {
    double link = self->has_link ? printed_link(self, theta) : 0, rate = 0, sum = -INFINITY;
    for (size_t k = 0; k < self->count; k++)
        rate += 1 / self->delay[k];
    if (self->has_link)
        rate = self->count > 0 ? fmin(rate, -link / theta) : -link / theta;
    *value = INFINITY;
    double exponent = arrivals * expm1(theta) - theta * rate;
    if (!(exponent < 0))
        return EI_OK;
    for (double u = self->has_link ? 0 : horizon; u <= horizon; u++) {
        double done = 0;
        for (size_t k = 0; k < self->count; k++)
            done += floor(u / self->delay[k] + 1e-9);
        sum = log_add(sum, -theta * done + (horizon - u) * link);
    }
    *value = sum - log(-expm1(exponent));
    return EI_OK;
}

static int by_slots(const group_list *list, int printed, double slot, size_t count,
                    const double *arrival_rate, const double *deadline, double *log_bound, double *theta,
                    ei_monitor monitor) {
    static const double golden = 0.6180339887498949;
    double *work = NULL;
    slot_view view;
    int status = slot_view_init(&view, list, slot, printed);
    if (status != EI_OK)
        goto out;
    if (list->count > 60) {
        status = EI_ERR_TOO_LARGE;
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        /* An interval between hops that does not begin on the grid is lost, and arrivals count at their
         * slot's end. */
        double horizon = floor(deadline[i] / slot + 1e-9) - (printed ? 0 : (double)list->count);
        double best = INFINITY, best_theta = 0, arrivals = arrival_rate[i] * slot;
        log_bound[i] = 0;
        theta[i] = 0;
        if (!(horizon >= 0))
            continue;
        if (horizon > 4e6) {
            status = EI_ERR_TOO_LARGE;
            goto out;
        }
        size_t size = (size_t)horizon + SERIES;
        if (!printed) {
            double *grown = realloc(work, 3 * size * sizeof *grown);
            if (grown == NULL) {
                status = EI_ERR_NO_MEMORY;
                goto out;
            }
            work = grown;
        }
        /* min(1, .) and floors make the objective only piecewise convex: scan, then narrow down by golden
         * section. */
        double low = log(1e-3), high = log(50.0), left = 0, right = 0, at[2], f[2];
        for (int scan = 0; scan <= 24; scan++) {
            double x = low + (high - low) * scan / 24, value;
            status = printed ? printed_value(&view, exp(x), arrivals, horizon, &value)
                             : corrected_value(&view, exp(x), arrivals, horizon, size, work, &value);
            if (status != EI_OK)
                goto out;
            if (value < best) {
                best = value;
                best_theta = exp(x);
                left = x - (high - low) / 24;
                right = x + (high - low) / 24;
            }
            if (monitor.poll != NULL && monitor.poll(monitor.context) != 0) {
                status = EI_ERR_INTERRUPTED;
                goto out;
            }
        }
        for (int step = 0; step < 30 && best < INFINITY; step++) {
            at[0] = right - golden * (right - left);
            at[1] = left + golden * (right - left);
            for (int side = 0; side < 2; side++) {
                status = printed
                             ? printed_value(&view, exp(at[side]), arrivals, horizon, &f[side])
                             : corrected_value(&view, exp(at[side]), arrivals, horizon, size, work, &f[side]);
                if (status != EI_OK)
                    goto out;
                if (f[side] < best) {
                    best = f[side];
                    best_theta = exp(at[side]);
                }
            }
            if (f[0] < f[1])
                right = at[1];
            else
                left = at[0];
        }
        if (best < 0) {
            log_bound[i] = best;
            theta[i] = best_theta;
        }
    }
out:
    free(work);
    free(view.period);
    return status;
}

int ei_violation_bound(const ei_service *stages, size_t stage_count, ei_bound_method method, double slot,
                       size_t count, const double *arrival_rate, const double *deadline, double *log_bound,
                       double *theta, ei_monitor monitor) {
    int status = EI_OK;
    group_list list = {NULL, 0};
    if (stage_count == 0)
        return EI_ERR_EMPTY;
    if (!(slot > 0) || !isfinite(slot))
        return EI_ERR_DOMAIN;
    for (size_t k = 0; k < stage_count; k++)
        if ((status = ei_service_verify(&stages[k])) != EI_OK)
            return status;
    for (size_t i = 0; i < count; i++)
        if (!(arrival_rate[i] > 0) || !isfinite(arrival_rate[i]) || isnan(deadline[i]))
            return EI_ERR_DOMAIN;
    if ((status = group_list_init(&list, stages, stage_count)) != EI_OK)
        goto out;
    if (method == EI_BOUND_UNION || method == EI_BOUND_LUNDBERG)
        status = by_jobs(&list, method == EI_BOUND_LUNDBERG, count, arrival_rate, deadline, log_bound, theta,
                         monitor);
    else
        status = by_slots(&list, method == EI_BOUND_PRINTED, slot, count, arrival_rate, deadline, log_bound,
                          theta, monitor);
out:
    group_list_free(&list);
    return status;
}

int ei_decay_rate(const ei_service *stages, size_t stage_count, double arrival_rate, double *value) {
    group_list list = {NULL, 0};
    int status = group_list_init(&list, stages, stage_count);
    if (status == EI_OK)
        status = decay_rate(&list, arrival_rate, value);
    group_list_free(&list);
    return status;
}
