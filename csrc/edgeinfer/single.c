#include "edgeinfer/single.h"

#include "edgeinfer/bound.h"
#include "edgeinfer/fourier.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    LENGTH = 1 << 17, /* of transforms; half of it are the lattice's points */
    POINTS = LENGTH / 2,
    FINE = 4,   /* points of the service's law on a step */
    REACHES = 2 /* lattices, the later ones for what is beyond the first */
};
static const double MGF_ERROR = 1e-5;               /* of the logarithm */
static const double REACH[REACHES] = {1e-9, 1e-20}; /* probabilities at which they end */
static const double SHARE[REACHES] = {0.4, 0.75};   /* of the decay: theta */
static const double SECOND[] = {0.97, 0.9, 0.8};    /* those of the second theta that are tried */

/* The problem at one arrival rate. */
typedef struct {
    const ei_service *service, *others;
    size_t other_count;
    double arrival_rate, constant, decay;
    ei_fourier fourier;
    double *data, *product; /* [2 LENGTH] each */
    double *tails[2];       /* [POINTS + 1], of a law from below and from above, at lattice points */
    double step;
    /* Of the rounded laws, at both ends. */
    double theta, second; /* 1/s */
    double idle[2], gap[2], log_scale[2], log_second, missing;
} single;

static void single_free(single *self) {
    ei_fourier_free(&self->fourier);
    free(self->data);
}

static int single_init(single *self) {
    self->data = malloc((4 * (size_t)LENGTH + 4 + 2 * ((size_t)POINTS + 1)) * sizeof *self->data);
    if (self->data == NULL)
        return EI_ERR_NO_MEMORY;
    self->product = self->data + 2 * (size_t)LENGTH;
    self->tails[EI_LOWER] = self->product + 2 * (size_t)LENGTH + 4;
    self->tails[EI_UPPER] = self->tails[EI_LOWER] + POINTS + 1;
    return ei_fourier_init(&self->fourier, LENGTH);
}

/* rate E (S - i step)^+ from both sides. */
static int ladder_tails(single *self) {
    const double rate = self->arrival_rate, mean = ei_service_mean(self->service),
                 error = ei_service_mean_error(self->service);
    const double width = self->step / FINE * rate;
    double reach = ei_service_extent(self->service), rest;
    size_t cells = (size_t)fmin(ceil(reach / self->step) + 1, POINTS);
    int status = ei_service_excess(self->service, (double)cells * self->step, &rest);
    if (status != EI_OK)
        return status;
    for (int end = 0; end < 2; end++) {
        double *tail = self->tails[end], sum = end == EI_UPPER ? rest * rate : 0;
        ei_lattice law;
        status = ei_lattice_service(&law, self->service, 0, self->step / FINE, cells * FINE + 1, (ei_end)end);
        if (status != EI_OK) {
            ei_lattice_free(&law);
            return status;
        }
        for (size_t i = POINTS + 1; i-- > 0;) {
            for (size_t j = FINE; i < cells && j-- > 0;)
                sum += width * law.sf[i * FINE + j + (end == EI_LOWER)];
            tail[i] = sum;
        }
        /* The other end's: rho less what lies before. */
        double *other = self->data + (size_t)end * (POINTS + 1), before = 0;
        for (size_t i = 0; i <= POINTS; i++) {
            other[i] = rate * mean * (end == EI_LOWER ? 1 + error : 1 - error) - before;
            for (size_t j = 0; i < cells && j < FINE; j++)
                before += width * law.sf[i * FINE + j + (end == EI_LOWER)] *
                          (end == EI_LOWER ? 1 - 1e-12 : 1 + 1e-12);
        }
        ei_lattice_free(&law);
    }
    const double *from_lower = self->data, *from_upper = self->data + POINTS + 1;
    for (size_t i = 0; i <= POINTS; i++) {
        double up = fmin(self->tails[EI_UPPER][i] * (1 + 1e-12), from_lower[i]),
               low = fmax(self->tails[EI_LOWER][i] * (1 - 1e-12), from_upper[i]);
        self->tails[EI_UPPER][i] = fmax(i > 0 ? fmin(up, self->tails[EI_UPPER][i - 1]) : up, 0);
        self->tails[EI_LOWER][i] = fmax(i > 0 ? fmin(low, self->tails[EI_LOWER][i - 1]) : low, 0);
    }
    return EI_OK;
}

/* P(Y > i step) from both sides. */
static int other_tails(single *self, const ei_service *other) {
    double reach = ei_service_extent(other);
    size_t cells = (size_t)fmin(ceil(reach / self->step) + 1, POINTS);
    for (int end = 0; end < 2; end++) {
        ei_lattice law;
        int status = ei_lattice_service(&law, other, 0, self->step, cells + 1, (ei_end)end);
        for (size_t i = 0; i <= POINTS && status == EI_OK; i++)
            self->tails[end][i] = i <= cells ? law.sf[i] : end == EI_UPPER ? law.sf[cells] : 0;
        ei_lattice_free(&law);
        if (status != EI_OK)
            return status;
    }
    return EI_OK;
}

/* Masses of the law in `tails`, whose mass is `total`, into `data`: upper ends as real parts, lower ones as
 * imaginary parts, weighed by e^{theta t}; their sums, those at the second theta, and what is left out of the
 * upper law. */
static void weigh(single *self, const double total[2], double sum[2], double *second, double *left_out) {
    const double *upper = self->tails[EI_UPPER], *lower = self->tails[EI_LOWER];
    double *re = self->data, *im = re + LENGTH;
    memset(re, 0, 2 * (size_t)LENGTH * sizeof *re);
    sum[0] = sum[1] = *second = 0;
    for (size_t i = 0; i <= POINTS; i++) {
        double time = (double)i * self->step, weight = exp(self->theta * time);
        /* Upper: what lies in the step before a point; lower: in the step after it. */
        double up = (i == 0 ? total[EI_UPPER] : upper[i - 1]) - upper[i],
               low = (i == 0 ? total[EI_LOWER] : lower[i]) - (i == POINTS ? 0 : lower[i + 1]);
        re[i] = up * weight;
        im[i] = low * weight;
        sum[EI_UPPER] += re[i];
        sum[EI_LOWER] += im[i];
        *second += up > 0 ? up * exp(self->second * time) : 0;
    }
    *left_out = upper[POINTS];
}

/* The transform of the wait, or 0 where the rounded queue is unstable at either theta. */
static int wait_transform(single *self, double *error) {
    double total[2], sum[2], second, missing;
    for (int end = 0; end < 2; end++) {
        total[end] = self->tails[end][0];
        self->idle[end] = 1 - total[end];
    }
    int found = 0;
    for (size_t i = 0; i < sizeof SECOND / sizeof *SECOND && !found; i++) {
        self->second = SECOND[i] * self->decay;
        weigh(self, total, sum, &second, &missing);
        found = second < 1 - 1e-9 && self->idle[EI_UPPER] > 0;
    }
    if (!found)
        return 0;
    self->log_second = log(self->idle[EI_LOWER] / (1 - second));
    self->missing = missing / (self->idle[EI_UPPER] + missing);
    ei_fourier_forward(&self->fourier, self->data);
    for (size_t k = 0; k <= POINTS; k++) {
        double parts[4];
        ei_fourier_split(&self->fourier, self->data, k, parts);
        for (int e = 0; e < 2; e++) {
            const int end = e == 0 ? EI_UPPER : EI_LOWER;
            double re = 1 - parts[2 * e], im = -parts[2 * e + 1], square = re * re + im * im;
            self->product[4 * k + 2 * (size_t)e] = self->idle[end] * re / square;
            self->product[4 * k + 2 * (size_t)e + 1] = -self->idle[end] * im / square;
        }
    }
    const double eta = ei_fourier_error(&self->fourier);
    for (int end = 0; end < 2; end++) {
        self->gap[end] = 1 - sum[end];
        self->log_scale[end] = 0;
        error[end] =
            self->idle[end] * (eta * (sum[0] + sum[1]) + 4 * DBL_EPSILON) / self->gap[end] / self->gap[end];
    }
    return 1;
}

static int multiply_other(single *self, const ei_service *other) {
    const double total[2] = {1, 1};
    double sum[2], second, left_out;
    int status = other_tails(self, other);
    if (status != EI_OK)
        return status;
    weigh(self, total, sum, &second, &left_out);
    for (size_t i = 0; i <= POINTS; i++) {
        self->data[i] /= sum[EI_UPPER];
        self->data[LENGTH + i] /= sum[EI_LOWER];
    }
    self->log_second += log(second);
    self->missing += left_out;
    self->log_scale[EI_UPPER] += log(sum[EI_UPPER]);
    self->log_scale[EI_LOWER] += log(sum[EI_LOWER]);
    ei_fourier_forward(&self->fourier, self->data);
    for (size_t k = 0; k <= POINTS; k++) {
        double parts[4], *at = self->product + 4 * k;
        ei_fourier_split(&self->fourier, self->data, k, parts);
        for (int e = 0; e < 2; e++) {
            double re = at[2 * e] * parts[2 * e] - at[2 * e + 1] * parts[2 * e + 1];
            at[2 * e + 1] = at[2 * e] * parts[2 * e + 1] + at[2 * e + 1] * parts[2 * e];
            at[2 * e] = re;
        }
    }
    return EI_OK;
}

/* Survival functions into `tails`. */
static void sum_masses(single *self, const double error[2], size_t products) {
    const double eta = ei_fourier_error(&self->fourier), scale = 1.0 / LENGTH, length = LENGTH * self->step;
    const double *re = self->data, *im = re + LENGTH;
    double delta[2], above = exp(self->log_second - self->second * length) + self->missing, below = 0;
    for (int end = 0; end < 2; end++)
        delta[end] =
            error[end] + self->idle[end] / self->gap[end] *
                             ((double)products * (2 * eta + 4 * DBL_EPSILON) + 4 * eta + 4 * DBL_EPSILON);
    double alias = exp(self->log_second - self->log_scale[EI_LOWER] - (self->second - self->theta) * length);
    for (size_t i = LENGTH; i-- > 0;) {
        double exponent = -self->theta * self->step * (double)i;
        if (i <= POINTS) {
            self->tails[EI_UPPER][i] = fmin(above * (1 + 1e-9), 1);
            self->tails[EI_LOWER][i] = fmin(below * (1 - 1e-9), 1);
        }
        above += (fmax(re[i] * scale, 0) + delta[EI_UPPER]) * exp(exponent + self->log_scale[EI_UPPER]);
        below += fmax(im[i] * scale - delta[EI_LOWER] - alias, 0) * exp(exponent + self->log_scale[EI_LOWER]);
    }
}

/* log E e^{theta (Wq + Y_1 + ..)} of the true laws. */
static int log_moment(const single *self, double theta, double *value) {
    double moment, load = self->arrival_rate * ei_service_mean(self->service);
    int status = ei_service_log_mgf(self->service, theta, &moment, NULL);
    *value = log1p(-load) - log1p(-self->arrival_rate * expm1(moment) / theta);
    for (size_t k = 0; k < self->other_count && status == EI_OK; k++) {
        if (self->others[k].kind == EI_SERVICE_DETERMINISTIC)
            continue;
        status = ei_service_log_mgf(&self->others[k], theta, &moment, NULL);
        *value += moment;
    }
    return status;
}

/* Elements with `from` <= deadline - constant < `to`. */
static void take(const single *self, const ei_batch *batch, double from, double to) {
    for (size_t i = 0; i < batch->count; i++) {
        const size_t at = batch->index[i];
        const double time = batch->deadline[at] - self->constant;
        if (!(time >= from && time < to))
            continue;
        const double below = floor(time / self->step * (1 - 1e-14)),
                     above = ceil(time / self->step * (1 + 1e-14));
        ei_cut_upper(batch, at, self->tails[EI_UPPER][(size_t)below], EI_BRACKET_SINGLE_QUEUE);
        if (above <= POINTS)
            ei_raise_lower(batch, at, self->tails[EI_LOWER][(size_t)above], EI_BRACKET_SINGLE_QUEUE);
    }
}

/* Whether there is one to take. */
static int needed(const single *self, const ei_batch *batch, double from, double to) {
    for (size_t i = 0; i < batch->count; i++) {
        const double time = batch->deadline[batch->index[i]] - self->constant;
        if (time >= from && time < to)
            return 1;
    }
    return 0;
}

int ei_single_ends(const ei_batch *batch, const ei_service *service, const ei_service *others,
                   size_t other_count) {
    single self = {.service = service,
                   .others = others,
                   .other_count = other_count,
                   .arrival_rate = batch->arrival_rate};
    double from = 0, moment;
    size_t products = 1;
    int status = ei_decay_rate(service, 1, &batch->arrival, &self.decay);
    for (size_t k = 0; k < other_count; k++) {
        int deterministic = others[k].kind == EI_SERVICE_DETERMINISTIC;
        self.constant += deterministic ? others[k].time : 0;
        products += !deterministic;
        self.decay = fmin(self.decay, ei_service_abscissa(&others[k]));
    }
    for (size_t i = 0; i < batch->count; i++)
        if (batch->deadline[batch->index[i]] < self.constant)
            ei_raise_lower(batch, batch->index[i], 1, EI_BRACKET_SINGLE_QUEUE);
    if (status != EI_OK || !(self.decay > 0) || (status = single_init(&self)) != EI_OK)
        goto out;
    /* Without a queue, and nothing of unbounded support: what an exponential moment can tell. */
    self.decay = fmin(self.decay, 500 / fmax(ei_service_mean(service), 1e-300));
    if ((status = log_moment(&self, SECOND[1] * self.decay, &moment)) != EI_OK)
        goto out;
    for (size_t i = 0; i < batch->count && !isnan(moment); i++) {
        const double rest = batch->deadline[batch->index[i]] - self.constant;
        if (isfinite(rest))
            ei_cut_upper(batch, batch->index[i],
                         exp(moment + MGF_ERROR * (double)(products + 1) - SECOND[1] * self.decay * rest),
                         EI_BRACKET_SINGLE_QUEUE);
    }
    for (int reach = 0; reach < REACHES && !isnan(moment); reach++) {
        double error[2], to = (moment - log(REACH[reach])) / (SECOND[1] * self.decay);
        if (!needed(&self, batch, from, to)) {
            from = to;
            continue;
        }
        self.step = to / POINTS;
        self.theta = SHARE[reach] * self.decay;
        if ((status = ladder_tails(&self)) != EI_OK)
            goto out;
        if (!wait_transform(&self, error))
            break;
        for (size_t k = 0; k < other_count && status == EI_OK; k++)
            if (others[k].kind != EI_SERVICE_DETERMINISTIC)
                status = multiply_other(&self, &others[k]);
        if (status != EI_OK)
            goto out;
        for (size_t k = 0; k <= POINTS; k++) {
            double parts[4];
            memcpy(parts, self.product + 4 * k, sizeof parts);
            ei_fourier_join(&self.fourier, parts, k, self.data);
        }
        ei_fourier_backward(&self.fourier, self.data);
        sum_masses(&self, error, products);
        take(&self, batch, from, to);
        from = to;
        if (ei_stopped(batch->monitor))
            status = EI_ERR_INTERRUPTED;
    }
out:
    single_free(&self);
    return status;
}

int ei_single_bracket(const ei_service *service, const ei_service *others, size_t other_count, size_t count,
                      const double *arrival_rate, const double *deadline, double *lower, double *upper,
                      uint8_t *lower_method, uint8_t *upper_method, ei_monitor monitor) {
    int status = ei_service_verify_independent(service);
    for (size_t k = 0; k < other_count && status == EI_OK; k++)
        status = ei_service_verify_independent(&others[k]);
    if (status != EI_OK)
        return status;
    double mean = ei_service_mean(service);
    size_t *index = malloc(count * sizeof *index + 1);
    if (index == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t i = 0; i < count && status == EI_OK; i++) {
        if (!(arrival_rate[i] > 0) || !isfinite(arrival_rate[i]) || isnan(deadline[i]))
            status = EI_ERR_DOMAIN;
        int unstable = arrival_rate[i] * mean >= 1;
        index[i] = i;
        lower[i] = unstable;
        upper[i] = unstable || !isinf(deadline[i]) || deadline[i] < 0;
        lower_method[i] = upper_method[i] = unstable ? EI_BRACKET_UNSTABLE : EI_BRACKET_TRIVIAL;
    }
    for (size_t from = 0, to; from < count && status == EI_OK; from = to) {
        ei_batch batch = {.arrival_rate = arrival_rate[from],
                          .arrival = {.kind = EI_ARRIVAL_POISSON, .parameter = {arrival_rate[from]}},
                          .index = index + from,
                          .deadline = deadline,
                          .lower = lower,
                          .upper = upper,
                          .lower_method = lower_method,
                          .upper_method = upper_method,
                          .monitor = monitor};
        for (to = from; to < count && arrival_rate[to] == batch.arrival_rate; to++)
            batch.count++;
        if (batch.arrival_rate * mean < 1)
            status = ei_single_ends(&batch, service, others, other_count);
    }
    free(index);
    return status;
}
