#include "edgeinfer/ends.h"

#include <math.h>

static const double QUEUE_WORK = 1e8; /* multiply-adds of an M/G/1 lattice */
static const double EQUAL = 0.8;      /* the fastest stage's service, over the slowest one's */

void ei_raise_lower(const ei_batch *self, size_t at, double value, int method) {
    if (value > self->lower[at]) {
        self->lower[at] = fmin(value, 1);
        self->lower_method[at] = (uint8_t)method;
    }
}

void ei_cut_upper(const ei_batch *self, size_t at, double value, int method) {
    if (value < self->upper[at]) {
        self->upper[at] = fmax(value, 0);
        self->upper_method[at] = (uint8_t)method;
    }
}

int ei_are_nearly_equal(double first, double random, double last) {
    return fmin(fmin(first, last), random) >= EQUAL * fmax(fmax(first, last), random);
}

int ei_is_wide(const ei_batch *self, double enough) {
    for (size_t i = 0; i < EI_PROBES; i++)
        if (self->upper[self->index[i]] > enough * self->lower[self->index[i]])
            return 1;
    return 0;
}

double ei_waiting_plus_sf(const ei_md1 *waiting, const ei_lattice *law, double rest, ei_end end) {
    if (rest < 0)
        return 1;
    double sum = end == EI_UPPER ? law->sf[law->count - 1] : 0;
    for (size_t i = 0; i + 1 < law->count; i++) {
        double mass = law->sf[i] - law->sf[i + 1];
        if (mass <= 0)
            continue;
        double at = (double)(i + (end == EI_UPPER ? 1 : 0)) * law->step;
        if (at > rest) {
            sum += law->sf[i] - (end == EI_UPPER ? law->sf[law->count - 1] : 0);
            break;
        }
        sum += mass * ei_md1_waiting_sf(waiting, rest - at);
    }
    /* What is missing at 0 because the lattice starts below one. */
    if (end == EI_UPPER)
        sum += (1 - law->sf[0]) * ei_md1_waiting_sf(waiting, rest);
    return fmin(sum, 1);
}

int ei_sojourn_ends(const ei_batch *self, double floor, double horizon, ei_end first, ei_end last,
                    ei_lattice ends[2]) {
    double reach = fmax(ei_service_reach(self->pipeline->random), floor * 1.001);
    int status = EI_OK;
    /* A coarse pass finds where the law is below anything asked for. */
    for (int pass = 0; pass < 2; pass++) {
        horizon = fmax(horizon, reach);
        double points = pass == 0 ? 4096 : fmin(sqrt(QUEUE_WORK * horizon / reach), 262144);
        double step = horizon / points;
        size_t count = (size_t)points + 2, cells = (size_t)(reach / step) + 3;
        for (int which = pass == 0 ? EI_LOWER : (int)first;
             which <= (pass == 0 ? EI_LOWER : (int)last) && status == EI_OK; which++) {
            ei_lattice service = {0};
            if ((status = ei_lattice_service(&service, self->pipeline->random, floor, step / EI_MG1_FINE,
                                             cells * EI_MG1_FINE, (ei_end)which)) == EI_OK)
                status = ei_mg1_sojourn(&ends[which], &service, self->arrival_rate, count, (ei_end)which,
                                        self->monitor);
            ei_lattice_free(&service);
        }
        if (status != EI_OK || pass == 1)
            break;
        size_t end = 1;
        while (end + 1 < count && ends[EI_LOWER].sf[end] > 1e-24)
            end++;
        horizon = fmin(horizon, (double)end * step);
        ei_lattice_free(&ends[EI_LOWER]);
    }
    if (status != EI_ERR_UNSTABLE)
        return status;
    ei_lattice_free(&ends[EI_UPPER]);
    return EI_OK;
}

int ei_choose_exponents(const ei_batch *self, double dm, int any_bottleneck,
                        ei_exponent candidates[EI_EXPONENTS], size_t *count) {
    double rate = self->arrival_rate, low = 0, high = 1 / dm;
    *count = 0;
    while (high * dm - log1p(high / rate) < 0 && high < 1e12)
        high *= 2;
    for (int step = 0; step < 200; step++) {
        double middle = low + (high - low) / 2;
        if (middle * dm - log1p(middle / rate) < 0)
            low = middle;
        else
            high = middle;
    }
    /* And below the root of X's own kappa, if that comes first. */
    double bottom = 0, top = any_bottleneck ? low : 0;
    for (int step = 0; step < 40 && bottom < top; step++) {
        double middle = step == 0 ? top : bottom + (top - bottom) / 2, value;
        int status = ei_service_log_mgf(self->pipeline->random, middle, &value, NULL);
        if (status != EI_OK)
            return status;
        if (value < log1p(middle / rate))
            bottom = middle;
        else
            top = middle;
    }
    if (any_bottleneck)
        low = bottom;
    for (int i = 0; i < EI_EXPONENTS; i++) {
        double theta = low * (i + 0.5) / EI_EXPONENTS, value;
        if (i == EI_EXPONENTS - 1)
            theta = 0.98 * low;
        int status = ei_service_log_mgf(self->pipeline->random, theta, &value, NULL);
        if (status != EI_OK)
            return status;
        if (value < (any_bottleneck ? log1p(theta / rate) : theta * dm))
            candidates[(*count)++] = (ei_exponent){theta, value, exp(theta * dm - log1p(theta / rate))};
    }
    return EI_OK;
}
