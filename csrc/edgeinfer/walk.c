#include "edgeinfer/walk.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CANDIDATES = 12, SWEEPS = 200, LARGEST_LATTICE = 1 << 24 };
static const double HAIR = 1e-9;         /* of a step, see ei_upper_law */
static const double DELTA = 1e-9;        /* by which K is made larger */
static const double LARGEST = 2;         /* m^, for u = m + c (1 - m) would cancel beyond */
static const double ROUNDING = 1 + 1e-8; /* of the sums */
static const double STEEPEST = 200;      /* exponent times period that is tried */
static const double SETTLED = 1e-6;      /* relative change at which sweeps end */
static const double FURTHEST = -46;      /* logarithm of the probability that a periodic lattice ends at */

void ei_upper_law_free(ei_upper_law *self) {
    ei_lattice_free(&self->lattice);
    free(self->by_phase);
    self->by_phase = NULL;
}

ei_upper_law ei_upper_law_of_phase(const ei_upper_law *self, size_t phase) {
    ei_upper_law law = *self;
    law.by_phase = NULL;
    if (self->by_phase != NULL)
        law.lattice.sf = self->by_phase + phase * law.lattice.count;
    return law;
}

static double reading_shift(const ei_upper_law *self) {
    return self->shift + HAIR * self->lattice.step;
}

double ei_upper_law_sf(const ei_upper_law *self, double time) {
    const ei_lattice *lattice = &self->lattice;
    if (time < 0)
        return 1;
    if (lattice->sf == NULL)
        return 0;
    double cell = floor(time / lattice->step + HAIR);
    if (cell < (double)lattice->count)
        return lattice->sf[(size_t)cell];
    return fmin(lattice->sf[lattice->count - 1], exp(self->log_scale - self->decay * time));
}

double ei_upper_law_plus_sf(const ei_upper_law *self, const ei_upper_law *other, double time) {
    const ei_lattice *law = &other->lattice;
    time -= reading_shift(self) + reading_shift(other);
    if (law->sf == NULL || time < 0)
        return ei_upper_law_sf(self, time);
    /* All terms are positive and their differences exact or of full accuracy: what n roundings lose. */
    const double rounding = 1 + 2 * DBL_EPSILON * ((double)law->count + 2);
    double sum = (1 - law->sf[0]) * ei_upper_law_sf(self, time);
    for (size_t i = 0; i + 1 < law->count; i++) {
        double rest = time - (double)(i + 1) * law->step;
        if (rest < 0)
            return fmin((sum + law->sf[i]) * rounding, 1);
        sum += (law->sf[i] - law->sf[i + 1]) * ei_upper_law_sf(self, rest);
    }
    return fmin((sum + law->sf[law->count - 1]) * rounding, 1);
}

/* sum over i >= first of P(> start + i step), from the lattice and what lies beyond it. */
static double tail_sum(const ei_upper_law *law, double start, double step) {
    double sum = 0, end = (double)law->lattice.count * law->lattice.step;
    if (law->lattice.sf == NULL)
        return 0;
    if (start < end) {
        double more = ceil((end - start) / step);
        for (double i = 0; i < more; i++)
            sum += ei_upper_law_sf(law, start + i * step);
        start += more * step;
    }
    return sum + exp(law->log_scale - law->decay * start) / -expm1(-law->decay * step);
}

/* The state of the recursion for m. */
typedef struct {
    size_t count, cells;
    double r, after;                /* after: what is added for services beyond the lattice */
    double *chance;                 /* [count], c */
    double *m, *u, *excess, *first; /* [count]: K, and m as the first run gives it */
    double *block, *above;          /* [cells]: see window; sum of G from here on */
    double *kernel, *mass;          /* [cells], P(B > i) and P(B = i) reversed; NULL: deterministic */
} walk;

/* sum_{n < j} u_n G_{j-1-n} for deterministic services of `cells` steps: what is left of one block and what
 * there is of the next, so that nothing is subtracted. */
static double window(const walk *self, size_t j, double *prefix) {
    size_t s = self->cells, at = j % s;
    if (at == 0 && j > 0) {
        double sum = 0;
        for (size_t i = s; i-- > 0;)
            self->block[i] = sum += self->u[j - s + i];
        *prefix = 0;
    } else if (j > 0) {
        *prefix += self->u[j - 1];
    }
    return *prefix + (j >= s ? self->block[at] : 0);
}

/* excess NULL: from K_0 = 0. */
static int recurse(const walk *self, const double *excess, ei_monitor monitor) {
    double prefix = 0, sum = 0;
    for (size_t j = 0; j < self->count; j++) {
        size_t reach = j < self->cells ? j : self->cells;
        double past = self->kernel == NULL
                          ? window(self, j, &prefix)
                          : ei_dot(self->kernel + (self->cells - reach), self->u + (j - reach), reach);
        double above = (j < self->cells ? self->above[j] : 0) + self->after;
        double m = self->r * (above + past + (excess != NULL ? excess[j] : sum));
        double k = self->chance[j] * (1 - m);
        if (excess != NULL && !(m <= LARGEST))
            return EI_ERR_ACCURACY;
        sum -= k;
        self->m[j] = m;
        self->u[j] = m + k;
        if (j % 4096 == 4095 && ei_stopped(monitor))
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
}

/* See the proof in the header. tail: sum of c beyond the lattice. */
static int solve(const walk *self, double tail, ei_monitor monitor) {
    int status = recurse(self, NULL, monitor);
    if (status != EI_OK)
        return status;
    double tau = self->m[self->count - 1], sum = (1 + DELTA) * tail;
    for (size_t j = self->count; j-- > 0;) {
        self->first[j] = (self->m[j] - tau) / (1 - tau);
        sum += (1 + DELTA) * self->chance[j] * (1 - self->first[j]);
        self->excess[j] = sum;
    }
    if ((status = recurse(self, self->excess, monitor)) != EI_OK)
        return status;
    for (size_t j = 0; j < self->count; j++)
        if (!(self->m[j] >= self->first[j] - DELTA * (1 - self->first[j])) || !(self->first[j] <= 1))
            return EI_ERR_ACCURACY;
    return EI_OK;
}

static void walk_free(walk *self) {
    free(self->chance);
    free(self->block);
}

/* service: its lattice, or empty: `cells` steps. */
static int walk_init(walk *self, const ei_lattice *service, const ei_upper_law *before, double arrival_rate,
                     double step) {
    size_t count = self->count, cells = self->cells;
    self->r = expm1(arrival_rate * step);
    self->chance = malloc(5 * count * sizeof *self->chance);
    self->block = malloc(4 * cells * sizeof *self->block);
    if (self->chance == NULL || self->block == NULL)
        return EI_ERR_NO_MEMORY;
    self->m = self->chance + count;
    self->u = self->m + count;
    self->excess = self->u + count;
    self->first = self->excess + count;
    self->above = self->block + cells;
    for (size_t j = 0; j < count; j++)
        self->chance[j] = ei_upper_law_sf(before, (double)j * step);
    double sum = 0;
    if (service->sf != NULL) {
        double last = service->sf[cells - 1];
        self->kernel = self->above + cells;
        self->mass = self->kernel + cells;
        self->after = last * ((double)cells + 1 / self->r);
        for (size_t i = 0; i < cells; i++) {
            self->kernel[cells - 1 - i] = service->sf[i];
            self->mass[cells - 1 - i] = (i == 0 ? 1 : service->sf[i - 1]) - service->sf[i];
        }
    }
    for (size_t i = cells; i-- > 0;)
        self->above[i] = sum += service->sf != NULL ? service->sf[i] : 1;
    return self->r * (sum + self->after) < 1 ? EI_OK : EI_ERR_UNSTABLE;
}

/* v = G(.) from u, made a survival function. */
static void finish(const walk *self, const ei_lattice *service, double *v) {
    for (size_t j = 0; j < self->count; j++) {
        double value = self->u[j];
        if (service->sf != NULL) {
            size_t reach = j + 1 < self->cells ? j + 1 : self->cells;
            value = ei_dot(self->mass + (self->cells - reach), self->u + (j + 1 - reach), reach) +
                    service->sf[reach - 1];
        }
        v[j] = fmin(value * ROUNDING, j > 0 ? v[j - 1] : 1);
    }
}

int ei_add_stage_poisson(ei_upper_law *self, const ei_upper_law *before, const ei_added_stage *stage,
                         double arrival_rate, double step, size_t count, ei_monitor monitor) {
    ei_lattice service = {0};
    walk chain = {.count = count};
    int status = EI_OK;
    memset(self, 0, sizeof *self);
    double reach = stage->law != NULL ? fmax(ei_service_reach(stage->law), stage->floor) : stage->again;
    if (!(reach / step < LARGEST_LATTICE) || count == 0)
        return EI_ERR_TOO_LARGE;
    chain.cells = (size_t)ceil(reach / step * (1 - 1e-14));
    if (stage->law != NULL) {
        chain.cells += 2;
        status = ei_lattice_service(&service, stage->law, stage->floor, step, chain.cells, EI_UPPER);
    }
    if (chain.cells == 0)
        chain.cells = 1;
    if (status != EI_OK || (status = walk_init(&chain, &service, before, arrival_rate, step)) != EI_OK ||
        (status = solve(&chain, tail_sum(before, (double)count * step, step), monitor)) != EI_OK)
        goto out;
    self->lattice = (ei_lattice){step, count, malloc(count * sizeof(double))};
    if (self->lattice.sf == NULL) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    finish(&chain, &service, self->lattice.sf);
    self->shift = reading_shift(before);
out:
    walk_free(&chain);
    ei_lattice_free(&service);
    return status;
}

int ei_add_stage_exponential(ei_upper_law *self, const ei_upper_law *before, double time, double arrival_rate,
                             double step, size_t count) {
    const double mu = 1 / time, nu = mu - arrival_rate, share = arrival_rate * mu / nu * step;
    double *d = malloc(3 * count * sizeof *d), limit = 1 + arrival_rate / nu, half = nu / 2;
    *self = (ei_upper_law){.shift = reading_shift(before)};
    if (d == NULL)
        return EI_ERR_NO_MEMORY;
    double *b = d + count, *chance = b + count;
    d[0] = b[0] = 1;
    for (size_t j = 0; j < count; j++) {
        chance[j] = ei_upper_law_sf(before, (double)j * step);
        limit += share * chance[j] * b[j] * (1 - 1e-9);
        if (j + 1 == count)
            break;
        double root = sqrt(half * half + mu * chance[j] * arrival_rate), decayed = exp(-half * step);
        double even = decayed * cosh(root * step), odd = decayed * sinh(root * step) / root;
        d[j + 1] = (even - half * odd) * d[j] + mu * chance[j] * odd * b[j];
        b[j + 1] = arrival_rate * odd * d[j] + (even + half * odd) * b[j];
    }
    double beyond = share * tail_sum(before, (double)count * step, step), rest = 0;
    for (size_t j = count; j-- > 0;) {
        rest += share * chance[j] * (j + 1 < count ? b[j + 1] : limit);
        d[j] = fmin(((rest + mu / nu * d[j]) / limit + beyond) * ROUNDING, 1);
    }
    if (!isfinite(limit) || !isfinite(beyond)) {
        free(d);
        return EI_ERR_ACCURACY;
    }
    self->lattice = (ei_lattice){step, count, d};
    return EI_OK;
}

/* A Chernoff bound min over e of e^{scale[e] - theta[e] time}. */
typedef struct {
    size_t count;
    double theta[CANDIDATES], scale[CANDIDATES];
} chernoff;

static double chernoff_sf(const chernoff *self, double time) {
    double least = 0;
    for (size_t e = 0; e < self->count; e++)
        least = fmin(least, self->scale[e] - self->theta[e] * time);
    return exp(least);
}

double ei_upper_law_log_moment(const ei_upper_law *law, double theta) {
    const ei_lattice *lattice = &law->lattice;
    double most = -INFINITY;
    for (size_t i = 0; law->by_phase != NULL && i < law->phases; i++) {
        const ei_upper_law one = ei_upper_law_of_phase(law, i);
        most = fmax(most, ei_upper_law_log_moment(&one, theta));
    }
    if (law->by_phase != NULL)
        return most;
    if (lattice->sf == NULL)
        return 0;
    double sum = 1 - lattice->sf[0], step = lattice->step, end = (double)(lattice->count - 1) * step;
    for (size_t i = 0; i + 1 < lattice->count; i++)
        sum += (lattice->sf[i] - lattice->sf[i + 1]) * exp(theta * (double)(i + 1) * step);
    /* E [e^{theta C}; C > end] = e^{theta end} P(C > end) + int_end^inf theta e^{theta y} P(C > y) dy. */
    sum += exp(theta * end) * lattice->sf[lattice->count - 1] +
           theta / (law->decay - theta) * exp(law->log_scale - (law->decay - theta) * end);
    return log(sum * ROUNDING);
}

/* Of sup_i [A_i + C'_i]: sum over i of E e^{theta (A_i + C'_i)}; rounding a service up adds a step at most.
 * None where there is no such bound. */
static int chernoff_init(chernoff *self, const ei_upper_law *before, const ei_service *law, double less,
                         double period, double step) {
    double low = 0, high = 1 / period, value;
    double most = fmin(before->lattice.sf != NULL ? before->decay : INFINITY, STEEPEST / period);
    int status;
    self->count = 0;
    /* Beyond, the end of a transfer time's law that is left out would count. */
    if (law->kind == EI_SERVICE_TRANSFER)
        most = fmin(most, 40 / (ei_service_extent(law) - less));
    if (!(ei_service_mean(law) - less + step < period))
        return EI_OK;
    /* Up to the root of log M(theta) + theta (step - period), or the decay of what comes before. */
    for (int i = 0; i < 100; i++) {
        double middle = i < 50 ? fmin(high, most) : low + (high - low) / 2;
        if ((status = ei_service_log_mgf(law, middle, &value, NULL)) != EI_OK)
            return status;
        if (!(value < middle * (period + less - step))) {
            high = middle;
            i = i < 50 ? 50 : i;
        } else {
            low = middle;
            if (i < 50 && middle >= most)
                break;
            high = i < 50 ? 2 * middle : high;
        }
    }
    for (int e = 0; e < CANDIDATES && low > 0; e++) {
        double theta = low * (e + 0.5) / CANDIDATES;
        if ((status = ei_service_log_mgf(law, theta, &value, NULL)) != EI_OK)
            return status;
        double kappa = value * (1 + EI_SERVICE_MGF_ERROR) + theta * (step - less - period);
        double scale = value + theta * (step - less) + ei_upper_law_log_moment(before, theta) -
                       log(-expm1(kappa)) + EI_SERVICE_MGF_ERROR;
        if (!(kappa < 0) || !isfinite(scale))
            continue;
        self->theta[self->count] = theta;
        self->scale[self->count++] = scale;
    }
    return EI_OK;
}

/* Deterministic services: P(sup_i [C'_i - i fall] <= x) is a product. */
static int periodic_product(ei_upper_law *self, const ei_upper_law *before, double fall) {
    if (before->lattice.sf == NULL && fall >= 0)
        return EI_OK;
    if (!(fall > 0))
        return EI_ERR_UNSTABLE;
    size_t count = before->lattice.count;
    double step = before->lattice.step;
    self->lattice = (ei_lattice){step, count, malloc(count * sizeof(double))};
    if (self->lattice.sf == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t j = 0; j < count; j++) {
        double time = (double)j * step, sum = 0, factors;
        /* All factors of a cell at once, where the fall is a small part of one. */
        for (;; time += factors * fall) {
            double late = ei_upper_law_sf(before, time);
            if (time > (double)count * step || late < 1e-25)
                break;
            factors = fmax(floor(((floor(time / step + HAIR) + 1) * step - time) / fall), 1);
            sum += late < 1 ? factors * log1p(-late) : -INFINITY;
        }
        double rest = exp(before->log_scale - before->decay * time) / -expm1(-before->decay * fall);
        self->lattice.sf[j] = fmin((-expm1(sum) + rest) * ROUNDING, j > 0 ? self->lattice.sf[j - 1] : 1);
    }
    self->shift = reading_shift(before);
    self->decay = before->decay;
    self->log_scale = before->log_scale - log(-expm1(-before->decay * fall));
    return EI_OK;
}

/* v <- G(v) from an upper bound, each sweep one, too, until it settles. v has `ahead` points more, which
 * stay.
 */
static int descend(const walk *self, const ei_lattice *service, size_t ahead, double *v, ei_monitor monitor) {
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        int settled = 1;
        for (size_t j = 0; j < self->count; j++)
            self->u[j] = self->chance[j] + (1 - self->chance[j]) * v[j + ahead];
        finish(self, service, self->m);
        for (size_t j = 0; j < self->count; j++) {
            double value = fmin(self->m[j], v[j]);
            settled &= !(v[j] > value * (1 + SETTLED));
            v[j] = value;
        }
        if (settled)
            break;
        if (ei_stopped(monitor))
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
}

int ei_add_stage_periodic(ei_upper_law *self, const ei_upper_law *before, const ei_added_stage *stage,
                          double period, size_t period_points, size_t limit, ei_monitor monitor) {
    ei_lattice service = {0};
    walk chain = {.cells = 0};
    chernoff bound;
    int status;
    double step = period / (double)period_points, *v = NULL, end = INFINITY;
    memset(self, 0, sizeof *self);
    if (stage->law == NULL)
        return periodic_product(self, before, period - stage->again);
    if ((status = chernoff_init(&bound, before, stage->law, stage->less, period, step)) != EI_OK)
        return status;
    if (bound.count == 0)
        return EI_ERR_UNSTABLE;
    for (size_t e = 0; e < bound.count; e++)
        end = fmin(end, (bound.scale[e] - FURTHEST) / bound.theta[e]);
    chain.count = (size_t)fmin(fmax(end / step, 0), (double)limit) + 2;
    chain.cells =
        (size_t)fmin(ceil(fmax(ei_service_reach(stage->law) - stage->less, 0) / step), (double)limit) + 2;
    if ((status = ei_lattice_service_from(&service, stage->law, 0, stage->less, step, chain.cells,
                                          EI_UPPER)) != EI_OK)
        goto out;
    /* The walk's own drift is of no account here. */
    if ((status = walk_init(&chain, &service, before, 1e-300, step)) != EI_OK)
        goto out;
    v = malloc((chain.count + period_points) * sizeof *v);
    if (v == NULL) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    for (size_t j = 0; j < chain.count + period_points; j++)
        v[j] = chernoff_sf(&bound, (double)j * step);
    if ((status = descend(&chain, &service, period_points, v, monitor)) != EI_OK)
        goto out;
    size_t best = 0;
    end = (double)chain.count * step;
    for (size_t e = 1; e < bound.count; e++)
        if (bound.scale[e] - bound.theta[e] * end < bound.scale[best] - bound.theta[best] * end)
            best = e;
    *self = (ei_upper_law){.lattice = {step, chain.count, v},
                           .log_scale = bound.scale[best],
                           .decay = bound.theta[best],
                           .shift = reading_shift(before) + stage->less};
    v = NULL;
out:
    free(v);
    walk_free(&chain);
    ei_lattice_free(&service);
    return status;
}
