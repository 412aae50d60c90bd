#include "edgeinfer/slotted.h"

#include <gsl/gsl_math.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SERIES = 16384, /* slots of the series that are summed before the remainder */
    MOST_HOPS = 60
};

static const double MOST_SLOTS = 4e6; /* of a deadline */

/* The pipeline on the slot grid: deterministic groups, and at most one random stage. */
typedef struct {
    double *period; /* slots a further job takes at each deterministic ei_group; [count] */
    double *delay;  /* slots before the first job leaves the ei_group */
    size_t count, hops;
    int has_link;
    const ei_group *random;
    double slot;
    double exponent; /* printed: of the slot MGF at theta = 1 */
    const ei_rate *rate;
} slot_view;

static int slot_view_init(slot_view *self, const ei_groups *list, double slot, int printed) {
    memset(self, 0, sizeof *self);
    self->slot = slot;
    self->hops = list->count;
    self->period = malloc(2 * list->count * sizeof *self->period);
    if (self->period == NULL)
        return EI_ERR_NO_MEMORY;
    self->delay = self->period + list->count;
    for (size_t k = 0; k < list->count; k++) {
        const ei_group *part = &list->groups[k];
        if (part->service == NULL) {
            self->delay[self->count] = part->once / slot;
            self->period[self->count++] = fmax(part->again / slot, 1e-9);
        } else if (!printed && !self->has_link) {
            self->has_link = 1;
            self->random = part;
        } else if (part->service->kind == EI_SERVICE_TRANSFER && !self->has_link) {
            double bits, bandwidth, mean_snr, link_slot;
            ei_transfer_parameters(part->service->transfer, &bits, &bandwidth, &mean_snr, &link_slot);
            self->rate = ei_transfer_rate(part->service->transfer);
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
static int renewal_exponent(const ei_group *self, double theta, double *eta) {
    double low = 0, high, value, slope, mean;
    int status = ei_group_log_mgf(self, 0, &value, &mean);
    if (status != EI_OK)
        return status;
    high = fmin(theta / mean, self->abscissa); /* the logarithm of an MGF lies above its tangent at 0 */
    for (int i = 0; i < 60 && high - low > 1e-9 * high; i++) {
        /* Newton from the right side, where a convex function makes it monotone; bisection where it diverges.
         */
        if ((status = ei_group_log_mgf(self, high, &value, &slope)) != EI_OK)
            return status;
        double next = value < INFINITY && slope > 0 ? high - (value - theta) / slope : low + (high - low) / 2;
        if (!(value < INFINITY)) {
            double below;
            if ((status = ei_group_log_mgf(self, next, &below, NULL)) != EI_OK)
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
    double lead[MOST_HOPS], decay[MOST_HOPS], growth = arrivals * expm1(theta), rate = INFINITY;
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
    double sum = 1, unit = 1 / (self->exponent * M_LN2);
    for (int k = 1; k < 100000; k++) {
        double above = ei_rate_sf(self->rate, unit * k);
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

/* One deadline on the grid. */
typedef struct {
    const slot_view *view;
    int printed;
    double arrivals, horizon; /* a slot; slots */
    size_t size;
    double *work; /* [3][size], for corrected */
} slot_search;

static int value_at(const slot_search *self, double theta, double *value) {
    return self->printed ? printed_value(self->view, theta, self->arrivals, self->horizon, value)
                         : corrected_value(self->view, theta, self->arrivals, self->horizon, self->size,
                                           self->work, value);
}

/* min(1, .) and floors make the objective only piecewise convex: scan, then narrow down by golden section.
 */
static int least_by_slots(const slot_search *self, ei_monitor monitor, double *log_bound, double *theta) {
    static const double golden = 0.6180339887498949;
    double best = INFINITY, best_theta = 0;
    double low = log(1e-3), high = log(50.0), left = 0, right = 0, at[2], f[2];
    int status;
    for (int scan = 0; scan <= 24; scan++) {
        double x = low + (high - low) * scan / 24, value;
        if ((status = value_at(self, exp(x), &value)) != EI_OK)
            return status;
        if (value < best) {
            best = value;
            best_theta = exp(x);
            left = x - (high - low) / 24;
            right = x + (high - low) / 24;
        }
        if (ei_stopped(monitor))
            return EI_ERR_INTERRUPTED;
    }
    for (int step = 0; step < 30 && best < INFINITY; step++) {
        at[0] = right - golden * (right - left);
        at[1] = left + golden * (right - left);
        for (int side = 0; side < 2; side++) {
            if ((status = value_at(self, exp(at[side]), &f[side])) != EI_OK)
                return status;
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
        *log_bound = best;
        *theta = best_theta;
    }
    return EI_OK;
}

int ei_slotted_bound(const ei_groups *list, int printed, double slot, size_t count,
                     const double *arrival_rate, const double *deadline, double *log_bound, double *theta,
                     ei_monitor monitor) {
    double *work = NULL;
    slot_view view;
    int status = slot_view_init(&view, list, slot, printed);
    if (status != EI_OK)
        goto out;
    if (list->count > MOST_HOPS) {
        status = EI_ERR_TOO_LARGE;
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        /* An interval between hops that does not begin on the grid is lost, and arrivals count at their
         * slot's end. */
        double horizon = floor(deadline[i] / slot + 1e-9) - (printed ? 0 : (double)list->count);
        log_bound[i] = 0;
        theta[i] = 0;
        if (!(horizon >= 0))
            continue;
        if (horizon > MOST_SLOTS) {
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
        slot_search search = {&view, printed, arrival_rate[i] * slot, horizon, size, work};
        if ((status = least_by_slots(&search, monitor, &log_bound[i], &theta[i])) != EI_OK)
            goto out;
    }
out:
    free(work);
    free(view.period);
    return status;
}
