#include "edgeinfer/lundberg.h"

#include "edgeinfer/lindley.h"
#include "edgeinfer/modulated.h"
#include "edgeinfer/service.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

/* Etas that are tried; of an interval for theta; of the longest B. */
enum { STEEPER = 24, HALVINGS = 40, OVERSHOOT_CELLS = 2048 };
static const double ROUNDING = 1e-12; /* of an exponent, relative */
static const double FURTHEST = 0.05;  /* of the exponent from where h neither grows nor falls, relative */
static const double TRANSFER_EXTENTS = 25; /* e^{eta extent} up to which a transfer's moments are known */
static const double ALMOST = 0.95;         /* of an exponential stage's abscissa */

/* h, the right eigenvector of M(theta). */
typedef struct {
    double least, most; /* log of the least and the largest (M h)_i / h_i, from below and above, */
    double mean;        /* and E h, over phases that requests meet, of which the least h_i is 1 */
    double h[EI_ARRIVAL_PHASES];
} growth;

typedef struct {
    ei_end end;
    const ei_added_stage *stage;
    const ei_arrival *arrival;
    const ei_lattice *law;
    const double *by_phase;
    const ei_upper_law *before;
    double most, longest; /* s: of B; l */
    double theta, moment;
    growth at_theta;
    double *window; /* [cells]: the K that v alone asks for, z at the cell's end */
    double *log_c;  /* [before->lattice.count] */
} finder;

static double longest_service(const ei_added_stage *stage) {
    if (stage->law == NULL)
        return stage->again;
    const double most = ei_service_maximum(stage->law);
    return fmax(isfinite(most) ? most : ei_service_extent(stage->law), stage->floor);
}

double ei_lundberg_longest(const ei_added_stage *stage, const ei_arrival *arrival) {
    const double interval = arrival->kind == EI_ARRIVAL_DETERMINISTIC ? ei_arrival_mean(arrival) : 0;
    return fmax(longest_service(stage) - interval, 0);
}

static int find_growth(growth *self, const ei_arrival *arrival, double theta) {
    double transform[EI_ARRIVAL_PHASES * EI_ARRIVAL_PHASES], slope, least = INFINITY, most = 0;
    const size_t n = arrival->count;
    *self = (growth){.mean = 1, .h = {1}};
    if (arrival->kind != EI_ARRIVAL_MARKOV_MODULATED) {
        const double exponent = ei_arrival_exponent(arrival, theta, &slope);
        self->least = -exponent * (1 + ROUNDING);
        self->most = -exponent * (1 - ROUNDING);
        return EI_OK;
    }
    if (isnan(ei_modulated_exponent(arrival, theta, self->h, transform)))
        return EI_ERR_TOO_LARGE;
    self->mean = 0;
    for (size_t i = 0; i < n; i++) {
        double next = 0;
        for (size_t j = 0; j < n; j++)
            next += transform[i * n + j] * self->h[j];
        if (!(arrival->rates[i] > 0))
            continue;
        least = fmin(least, next / self->h[i]);
        most = fmax(most, next / self->h[i]);
        self->mean += arrival->stationary[i] * arrival->rates[i] * ei_arrival_mean(arrival) * self->h[i];
    }
    self->least = log(least) - ROUNDING;
    self->most = log(most) + ROUNDING;
    return EI_OK;
}

/* log E e^{theta B} from one side. Of sums of rounds they are known from above alone. */
static int log_moment(const finder *self, ei_end end, double theta, double *value) {
    const ei_service *service = self->stage->law;
    if (service == NULL || service->kind == EI_SERVICE_COMPOUND || self->stage->floor > 0 ||
        (service->kind == EI_SERVICE_REPETITION && end == EI_UPPER))
        return service == NULL || end == EI_UPPER ? ei_added_stage_log_moment(self->stage, theta, value)
                                                  : EI_ERR_ACCURACY;
    double slope;
    int status = ei_service_log_mgf(service, theta, value, &slope);
    const double error = service->kind == EI_SERVICE_TRANSFER ? EI_SERVICE_MGF_ERROR * *value
                         : service->kind == EI_SERVICE_REPETITION
                             ? ROUNDING * slope / ei_repetition_slot(service->repetition)
                             : DBL_EPSILON * (double)(service->sample_count + 16);
    *value += end == EI_UPPER ? error : -error;
    return status;
}

/* Whether h does not grow at theta, or fall. */
static int is_right(finder *self, double theta, int *right) {
    const double sign = self->end == EI_UPPER ? 1 : -1;
    int status = log_moment(self, self->end, theta, &self->moment);
    if (status == EI_OK)
        status = find_growth(&self->at_theta, self->arrival, theta);
    const double arrived = self->end == EI_UPPER ? self->at_theta.most : self->at_theta.least;
    *right = status == EI_OK && sign * (self->moment + arrived) + ROUNDING * fabs(self->moment) <= 0;
    self->theta = theta;
    return status;
}

/* The theta nearest to where h neither grows nor falls. */
static int find_theta(finder *self, double exponent) {
    const double sign = self->end == EI_UPPER ? 1 : -1;
    double good = exponent * (1 - sign * FURTHEST), bad = exponent * (1 + sign * FURTHEST);
    int right, status = is_right(self, good, &right);
    if (status == EI_OK && !right)
        return EI_ERR_ACCURACY;
    for (int i = 0; i < HALVINGS && status == EI_OK; i++) {
        const double middle = (good + bad) / 2;
        status = is_right(self, middle, &right);
        *(right ? &good : &bad) = middle;
    }
    return status == EI_OK ? is_right(self, good, &right) : status;
}

static int is_met(const finder *self, size_t phase) {
    return self->arrival->kind != EI_ARRIVAL_MARKOV_MODULATED || self->arrival->rates[phase] > 0;
}

/* The least h_i of these is 1. */
static double largest_met(const finder *self, const double *h) {
    double largest = 1;
    for (size_t i = 0; self->arrival->kind == EI_ARRIVAL_MARKOV_MODULATED && i < self->arrival->count; i++)
        if (is_met(self, i))
            largest = fmax(largest, h[i]);
    return largest;
}

/* window[k]: the extreme e^{theta x} v_i(x) / h_i over the l before z = (k + 1) step and, where that reaches
 * below 0, over what is below. */
static void fill_window(finder *self) {
    const ei_lattice *law = self->law;
    const int upper = self->end == EI_UPPER;
    const double step = law->step;
    const size_t reach = (size_t)fmin(ceil(self->longest / step * (1 + ROUNDING)) + 1, (double)law->count),
                 phases = self->by_phase != NULL ? self->arrival->count : 1;
    for (size_t k = 0; k < law->count; k++)
        self->window[k] = upper ? 0 : INFINITY;
    for (size_t i = 0; i < phases; i++) {
        const double *sf = self->by_phase != NULL ? self->by_phase + i * law->count : law->sf;
        const double h = self->at_theta.h[i];
        if (!is_met(self, i))
            continue;
        for (size_t j = 0; j + 1 < law->count; j++) {
            const double from = (double)j * step, one = upper ? sf[j] * exp(self->theta * (from + step)) / h
                                                              : sf[j + 1] * exp(self->theta * from) / h;
            for (size_t k = j; k < j + reach && k < law->count; k++)
                self->window[k] = upper ? fmax(self->window[k], one) : fmin(self->window[k], one);
        }
        for (size_t k = 0; k < law->count; k++) {
            const double z = (double)(k + 1) * step, below = z - self->longest;
            if (upper && self->stage->law != NULL && z - self->most < step)
                self->window[k] = INFINITY;
            else if (upper && below < step)
                self->window[k] = fmax(self->window[k], 1 / h);
            else if (below < step)
                self->window[k] = fmin(self->window[k], exp(self->theta * fmin(below, 0)) / h);
        }
    }
    /* The last point has no cell. */
    self->window[law->count - 1] = upper ? INFINITY : 0;
}

/* The least K for one eta, and its z. */
static void try_steeper(const finder *self, double eta, const growth *at_eta, double log_slack,
                        double log_served, double log_jump, double *least, double *from) {
    const ei_lattice *c = &self->before->lattice;
    const double above = eta - self->theta;
    const double end = (double)c->count * c->step;
    double log_most = -INFINITY;
    if (c->sf != NULL && self->log_c[c->count - 1] > -INFINITY) {
        /* Beyond the lattice, the less of its last value and an exponential. */
        const double last = self->log_c[c->count - 1];
        log_most = last + eta * fmax((self->before->log_scale - last) / self->before->decay, end);
    }
    const int known = self->law->sf != NULL;
    size_t next = c->sf != NULL ? c->count : 0;
    for (size_t k = known ? self->law->count : c->count; k-- > 0;) {
        const double z = known ? (double)(k + 1) * self->law->step : (double)k * c->step,
                     first = z - self->longest;
        for (; next > 0 && (double)next * c->step > (log_served > 0 ? z - self->most : z); next--)
            log_most = fmax(log_most, self->log_c[next - 1] + eta * (double)next * c->step);
        const double per_l = log_slack + log(largest_met(self, at_eta->h)) - above * first,
                     one = (known ? self->window[k] : exp(self->theta * z)) +
                           exp(log_most + log_served + per_l) + exp(log_jump + eta * z + per_l);
        if (one < *least) {
            *least = one;
            *from = z;
        }
    }
}

/* The K that the law alone asks for, better than *factor, and its z. */
static void best_window(const finder *self, double *factor, double *from) {
    for (size_t k = 0; self->law->sf != NULL && k < self->law->count; k++)
        if (self->end == EI_UPPER ? self->window[k] < *factor : self->window[k] > *factor) {
            *factor = self->window[k];
            *from = (double)(k + 1) * self->law->step;
        }
}

static int find_upper(finder *self, double *factor, double *from) {
    const ei_service *service = self->stage->law;
    const ei_lattice *c = &self->before->lattice;
    const int endless = service != NULL && !isfinite(ei_service_maximum(service));
    int status = EI_OK;
    *factor = INFINITY;
    if (c->sf != NULL && endless && self->law->sf == NULL)
        return EI_ERR_ACCURACY;
    if (c->sf == NULL && (!endless || self->law->sf == NULL)) {
        *from = 0;
        if (self->law->sf == NULL || service == NULL)
            *factor = 1;
        best_window(self, factor, from);
        return isfinite(*factor) ? EI_OK : EI_ERR_ACCURACY;
    }
    double most = c->sf != NULL ? self->before->decay : INFINITY, log_jump = -INFINITY;
    if (endless) {
        const double steepest = service->kind == EI_SERVICE_EXPONENTIAL
                                    ? ALMOST / service->time
                                    : TRANSFER_EXTENTS / ei_service_extent(service);
        most = fmin(most, steepest);
        if ((status = log_moment(self, EI_UPPER, steepest, &log_jump)) != EI_OK)
            return status;
        log_jump -= steepest * self->most;
    }
    if (!(most > self->theta))
        return EI_ERR_ACCURACY;
    for (int e = 0; e < STEEPER && status == EI_OK; e++) {
        const double eta = self->theta + (most - self->theta) * exp2(-0.5 * e);
        double low, high = 0;
        growth at_eta;
        status = log_moment(self, EI_LOWER, eta, &low);
        if (status == EI_OK && service != NULL)
            status = log_moment(self, EI_UPPER, eta, &high);
        if (status == EI_OK)
            status = find_growth(&at_eta, self->arrival, eta);
        const double grown = low + at_eta.least - ROUNDING * fabs(low);
        if (status == EI_OK && grown > 0)
            try_steeper(self, eta, &at_eta, -log(expm1(grown)), self->law->sf != NULL ? high : 0, log_jump,
                        factor, from);
    }
    return status != EI_OK ? status : isfinite(*factor) ? EI_OK : EI_ERR_ACCURACY;
}

/* m. */
static int find_overshoot(const finder *self, double *most) {
    const ei_service *service = self->stage->law;
    const double from = self->most - self->longest, step = self->longest / OVERSHOOT_CELLS,
                 grows = exp(self->theta * step);
    ei_lattice low = {.sf = NULL}, high = {.sf = NULL};
    int status = EI_OK;
    *most = exp(self->theta * self->longest);
    if (service == NULL || !(step > 0))
        return EI_OK;
    status = ei_lattice_service_from(&low, service, 0, from, step, OVERSHOOT_CELLS, EI_LOWER);
    if (status == EI_OK)
        status = ei_lattice_service_from(&high, service, 0, from, step, OVERSHOOT_CELLS, EI_UPPER);
    double beyond = 0, last = 1;
    *most = 1;
    for (size_t j = OVERSHOOT_CELLS; j-- > 0 && status == EI_OK;) {
        beyond = grows * beyond + (grows - 1) * high.sf[j];
        last *= grows;
        if (low.sf[j] > 0)
            last = fmin(last, (high.sf[j] + beyond) / low.sf[j]);
        *most = fmax(*most, last * grows);
    }
    ei_lattice_free(&low);
    ei_lattice_free(&high);
    return status;
}

static int find_lower(const finder *self, double *factor, double *from) {
    const ei_service *service = self->stage->law;
    double most;
    *from = *factor = 0;
    best_window(self, factor, from);
    if (self->law->sf != NULL)
        return *factor > 0 ? EI_OK : EI_ERR_ACCURACY;
    if (service != NULL && service->kind == EI_SERVICE_EXPONENTIAL) {
        most = 1 / (1 - self->theta * service->time);
    } else {
        int status = find_overshoot(self, &most);
        if (status != EI_OK)
            return status;
    }
    *factor = 1 / most / largest_met(self, self->at_theta.h);
    return *factor > 0 ? EI_OK : EI_ERR_ACCURACY;
}

int ei_lundberg_find(ei_lundberg *self, ei_end end, const ei_added_stage *stage, const ei_arrival *arrival,
                     double exponent, const ei_lattice *law, const double *by_phase,
                     const ei_upper_law *before) {
    const ei_service *service = stage->law;
    const ei_lattice *c = &before->lattice;
    finder search = {.end = end,
                     .stage = stage,
                     .arrival = arrival,
                     .law = law,
                     .by_phase = by_phase,
                     .before = before,
                     .most = longest_service(stage),
                     .longest = ei_lundberg_longest(stage, arrival)};
    double factor = 1;
    *self = (ei_lundberg){.from = 0};
    int status = find_theta(&search, exponent);
    if (status == EI_OK && law->sf != NULL && (search.window = malloc(law->count * sizeof(double))) == NULL)
        status = EI_ERR_NO_MEMORY;
    if (status == EI_OK && c->sf != NULL && (search.log_c = malloc(c->count * sizeof(double))) == NULL)
        status = EI_ERR_NO_MEMORY;
    if (status != EI_OK)
        goto out;
    for (size_t j = 0; c->sf != NULL && j < c->count; j++)
        search.log_c[j] = log(c->sf[j]);
    if (law->sf != NULL)
        fill_window(&search);
    status = end == EI_UPPER ? find_upper(&search, &factor, &self->from)
                             : find_lower(&search, &factor, &self->from);
    const double served = service != NULL && law->sf == NULL && end == EI_UPPER ? search.moment : 0;
    self->log_scale = log(factor * search.at_theta.mean) + served + (end == EI_UPPER ? 1e-9 : -1e-9);
    /* The walk starts at x - B. */
    if (service != NULL && law->sf == NULL && self->from > 0)
        self->from += search.most - search.longest;
    self->decay = search.theta;
    self->moment = search.moment;
    for (size_t i = 0; i < EI_ARRIVAL_PHASES; i++)
        self->log_phase[i] = log(search.at_theta.h[i] / search.at_theta.mean);
out:
    free(search.window);
    free(search.log_c);
    return status;
}
