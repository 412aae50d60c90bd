#include "edgeinfer/split.h"

#include "edgeinfer/modulated.h"

#include <float.h>
#include <gsl/gsl_errno.h>
#include <gsl/gsl_sf_gamma.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FINE = 64,
    FEW = 256 /* samples that are looked at one by one */
};
static const double ON_POINT = 1e-9;    /* of a step */
static const double NEGLIGIBLE = 1e-13; /* of a modulated time, beyond its last cell */
static const double ROUNDING = 1e-12;   /* of sums, relative */
static const double FURTHER = 1.6;      /* times a service's reach, where its lattice ends */

double ei_split_bend(const ei_service *service, double less, double step) {
    double sum = 0;
    if (service->kind != EI_SERVICE_SAMPLES || service->sample_count > FEW)
        return 0;
    for (size_t i = 0; i < service->sample_count; i++) {
        const double time = (service->samples[i] - less) / step, z = time - floor(time + ON_POINT);
        sum += fmax(z, 0) * (1 - z);
    }
    return sum / (double)service->sample_count;
}

void ei_split_free(ei_split *self) {
    free(self->mass);
    self->mass = self->bend = self->error = NULL;
}

static int reserve(ei_split *self, size_t phases, size_t cells) {
    *self = (ei_split){.phases = phases, .cells = cells};
    self->mass = calloc(3 * phases * phases * cells, sizeof(double));
    if (self->mass == NULL)
        return EI_ERR_NO_MEMORY;
    self->bend = self->mass + phases * phases * cells;
    self->error = self->bend + phases * phases * cells;
    return EI_OK;
}

/* ---- services */

double ei_service_below(const ei_service *service, double time) {
    double relative, absolute;
    if (service->kind != EI_SERVICE_TRANSFER || !(time > 0))
        return 0;
    ei_service_accuracy(service, &relative, &absolute);
    return ei_transfer_cdf(service->transfer, time) * (1 + relative) + absolute;
}

/* X_k of min(S - less, (cells - 1) h) from both sides, and what second differences weigh inside the cells:
 * sums over FINE points a cell, from the far end, and the mean less such sums from the near end. */
static int sum_beyond(ei_split *self, const ei_service *service, double less, double step, double *lower,
                      double *upper) {
    const size_t last = self->cells - 1;
    const double mean = ei_service_mean(service), error = ei_service_mean_error(service),
                 least = (mean * (1 - error) - less) / step,
                 most = (mean * (1 + error) - less * (1 - ei_service_below(service, less))) / step;
    double rest, low_head = 0, high_head = 0;
    ei_lattice ends[2] = {{.sf = NULL}, {.sf = NULL}};
    int status = ei_service_excess(service, less + (double)last * step, &rest);
    for (int end = 0; end < 2 && status == EI_OK; end++)
        status =
            ei_lattice_service_from(&ends[end], service, 0, less, step / FINE, last * FINE + 1, (ei_end)end);
    if (status == EI_OK)
        self->beyond = ends[EI_UPPER].sf[last * FINE];
    for (int end = 0; end < 2 && status == EI_OK; end++)
        for (size_t i = 0; i <= last * FINE; i++)
            ends[end].sf[i] = fmax(ends[end].sf[i] - self->beyond, 0);
    for (size_t k = last; k-- > 0 && status == EI_OK;) {
        double low = 0, high = 0;
        for (size_t i = 0; i < FINE; i++) {
            const double *above = ends[EI_UPPER].sf + k * FINE + i,
                         *below = ends[EI_LOWER].sf + k * FINE + i + 1;
            double one = (double)i / FINE, other = (double)(i + 1) / FINE;
            high += *above / FINE;
            low += *below / FINE;
            self->bend[k] += (*above - *below) * fmax(one * (1 - one), other * (1 - other));
        }
        lower[k] = lower[k + 1] + low;
        upper[k] = upper[k + 1] + high;
    }
    for (size_t k = 0; k < last && status == EI_OK; k++) {
        double low = lower[k] - lower[k + 1], high = upper[k] - upper[k + 1];
        lower[k] =
            fmax(lower[k], least - rest / step - (double)last * self->beyond - high_head * (1 + ROUNDING));
        upper[k] = fmin(upper[k], most - low_head * (1 - ROUNDING));
        low_head += low;
        high_head += high;
    }
    ei_lattice_free(&ends[0]);
    ei_lattice_free(&ends[1]);
    return status;
}

/* The same in closed form; a density that falls weighs z (1 - z) at most as at the cell's start. */
static void exponential_beyond(ei_split *self, const ei_service *service, double step, double *beyond) {
    const size_t last = self->cells - 1;
    const double mean = service->time / step, most = exp(-(double)last / mean);
    self->beyond = most * (1 + ROUNDING);
    for (size_t k = 0; k < last; k++) {
        double above = exp(-(double)k / mean);
        beyond[k] = mean * above * -expm1(-(double)(last - k) / mean);
        self->bend[k] = fmin(-above * expm1(-1 / mean) / 4, above / mean / 6) * (1 + ROUNDING);
    }
}

static void samples_beyond(ei_split *self, const ei_service *service, double less, double step,
                           double *beyond) {
    const double share = 1 / (double)service->sample_count;
    double later = 0;
    size_t i = service->sample_count;
    for (size_t k = self->cells - 1; k-- > 0;) {
        double inside = 0, before = later;
        for (; i > 0 && (service->samples[i - 1] - less) / step > (double)k; i--) {
            double z = fmin((service->samples[i - 1] - less) / step - (double)k, 1);
            inside += z;
            self->bend[k] += share * z * (1 - z);
            later++;
        }
        beyond[k] = beyond[k + 1] + share * (before + inside);
    }
    self->beyond = 0;
}

int ei_split_service(ei_split *self, const ei_added_stage *stage, double step, size_t limit, ei_end end) {
    const ei_service *law = stage->law;
    const int known = law != NULL && (law->kind == EI_SERVICE_SAMPLES || law->kind == EI_SERVICE_TRANSFER);
    const double less = stage->less, floor = fmax(stage->floor - less, 0),
                 end_of_law = law == NULL ? stage->again
                              : known     ? ei_service_extent(law)
                                          : FURTHER * ei_service_reach(law),
                 reach = fmax(end_of_law - less, floor);
    *self = (ei_split){.mass = NULL};
    if (!(reach / (law == NULL ? 1 : FURTHER) < (double)limit * step) || !(floor < (double)limit * step))
        return EI_ERR_TOO_LARGE;
    size_t cells = (size_t)fmin(ceil(reach / step), (double)limit) + 2, from;
    double *lower = calloc(2 * cells, sizeof *lower), *upper = lower + cells;
    int status = lower == NULL ? EI_ERR_NO_MEMORY : reserve(self, 1, cells);
    if (status != EI_OK)
        goto out;
    if (law == NULL) {
        self->mass[(size_t)(reach / step + 0.5)] = 1;
        goto out;
    }
    if (law->kind == EI_SERVICE_EXPONENTIAL)
        exponential_beyond(self, law, step, lower);
    else if (law->kind == EI_SERVICE_SAMPLES)
        samples_beyond(self, law, less, step, lower);
    else
        status = sum_beyond(self, law, less, step, lower, upper);
    if (law->kind == EI_SERVICE_EXPONENTIAL || law->kind == EI_SERVICE_SAMPLES)
        memcpy(upper, lower, cells * sizeof *upper);
    for (size_t k = 0; k < cells; k++) {
        lower[k] *= 1 - ROUNDING;
        upper[k] *= 1 + ROUNDING;
    }
    from = (size_t)(floor / step + 0.5);
    for (size_t k = from; k-- > 0 && status == EI_OK;) {
        lower[k] = lower[from] + (double)(from - k);
        upper[k] = upper[from] + (double)(from - k);
        self->bend[k] = 0;
    }
    const double *excess = end == EI_UPPER ? upper : lower,
                 all = 1 - self->beyond - (end == EI_UPPER || from > 0 ? 0 : ei_service_below(law, less));
    for (size_t k = 0; k < cells && status == EI_OK; k++) {
        double before = k > 0 ? excess[k - 1] : excess[0] + all, after = k + 1 < cells ? excess[k + 1] : 0;
        self->mass[k] = before - 2 * excess[k] + after;
        self->error[k] = 4 * DBL_EPSILON * before;
        self->bend[k] += upper[k] - lower[k];
    }
out:
    free(lower);
    return status;
}

/* ---- times between arrivals */

/* E [z (1 - z)] in a cell from the mass there and its E z, by Jensen; a density that falls and is convex puts
 * no more to the middle than an even one. */
static double cell_bend(double mass, double first, int convex) {
    first = fmin(fmax(first, 0), mass);
    double bend = mass > 0 ? first * (1 - first / mass) : 0;
    return convex ? fmin(bend, mass / 6) : bend;
}

/* E min(t, x), and *tail = P(t > x). */
static double least_time(const ei_arrival *arrival, double x, double *tail) {
    const double *p = arrival->parameter;
    if (arrival->kind == EI_ARRIVAL_HYPEREXPONENTIAL) {
        *tail = p[0] * exp(-p[1] * x) + (1 - p[0]) * exp(-p[2] * x);
        return -p[0] * expm1(-p[1] * x) / p[1] - (1 - p[0]) * expm1(-p[2] * x) / p[2];
    }
    if (arrival->kind == EI_ARRIVAL_LATTICE) {
        const double at = fmin(floor(x / p[0]), (double)(arrival->count - 1));
        *tail = arrival->rates[(size_t)at];
        return arrival->intervals[(size_t)at] + (x - at * p[0]) * *tail;
    }
    double shape = arrival->kind == EI_ARRIVAL_ERLANG  ? p[1]
                   : arrival->kind == EI_ARRIVAL_GAMMA ? 1 / p[1]
                                                       : 1;
    const double z = shape * p[0] * x;
    gsl_sf_result upper, lower;
    /* Far out the tails are below any accuracy, and GSL's would underflow. */
    if (z < shape && shape * log(z) - z - gsl_sf_lngamma(shape + 1) < -100) {
        *tail = 1;
        return x;
    }
    if (z > shape + 40 + 13 * sqrt(shape)) {
        *tail = 0;
        return 1 / p[0];
    }
    if (gsl_sf_gamma_inc_Q_e(shape, z, &upper) != GSL_SUCCESS ||
        gsl_sf_gamma_inc_P_e(shape + 1, z, &lower) != GSL_SUCCESS)
        return *tail = NAN;
    *tail = upper.val;
    return x * upper.val + lower.val / p[0];
}

double ei_time_sf(const ei_arrival *arrival, double time) {
    double tail;
    return least_time(arrival, time, &tail) >= 0 ? tail : NAN;
}

static int split_renewal(ei_split *self, const ei_arrival *arrival, double step, size_t limit, ei_end end) {
    double before = 0, last = 1, above = 1, tail;
    int status = reserve(self, 1, limit);
    size_t k = 0;
    const int convex = arrival->kind == EI_ARRIVAL_HYPEREXPONENTIAL ||
                       (arrival->kind == EI_ARRIVAL_GAMMA && arrival->parameter[1] >= 1);
    for (; k + 1 < limit && status == EI_OK; k++) {
        double least = least_time(arrival, (double)(k + 1) * step, &tail);
        if (!(least >= 0))
            return EI_ERR_ACCURACY;
        double value = (least - before) / step + (end == EI_UPPER ? -EI_TIME_ERROR : EI_TIME_ERROR);
        value = fmin(fmax(value, 0), above);
        self->mass[k] = above - value;
        double cell = fmax(last - tail, 0);
        self->bend[k] = cell_bend(cell, (least - before) / step - tail, convex) + EI_TIME_ERROR;
        above = value;
        before = least;
        last = tail;
        if (above == 0 || (end == EI_LOWER && tail < EI_TIME_ERROR))
            break;
    }
    /* What is left is further out: at the last cell for an upper end, nowhere for a lower one. */
    self->cells = k + 1 < limit ? k + 2 : limit;
    if (status == EI_OK && end == EI_UPPER)
        self->mass[self->cells - 1] += above;
    return status;
}

/* (k + z) h for certain, z right to some roundings of k + z. */
static int split_periodic(ei_split *self, const ei_arrival *arrival, double step, size_t limit) {
    const double time = 1 / arrival->parameter[0] / step, whole = floor(time), z = time - whole;
    if (!(time + 2 < (double)limit))
        return EI_ERR_TOO_LARGE;
    const size_t k = (size_t)whole;
    int status = reserve(self, 1, k + 2);
    if (status != EI_OK)
        return status;
    self->mass[k] = 1 - z;
    self->mass[k + 1] = z;
    self->bend[k] = z * (1 - z);
    self->error[k] = self->error[k + 1] = 4 * DBL_EPSILON * (time + 1);
    return EI_OK;
}

static void multiply_into(double *to, const double *left, const double *right, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t k = 0; k < n; k++)
                sum += left[i * n + k] * right[k * n + j];
            to[i * n + j] = sum;
        }
}

/* From rows of `limit` cells to rows of as many as there are. */
static void pack(ei_split *self, size_t limit) {
    const size_t size = self->phases * self->phases;
    double *const rows[] = {self->mass, self->bend, self->error};
    for (size_t which = 0; which < 3; which++)
        for (size_t i = 0; i < size; i++)
            memmove(rows[which] + i * self->cells, rows[which] + i * limit, self->cells * sizeof(double));
}

static int split_modulated(ei_split *self, const ei_arrival *arrival, double step, size_t limit, ei_end end) {
    const size_t n = arrival->count, size = n * n;
    double *decay = malloc(6 * size * sizeof *decay);
    int status = decay == NULL ? EI_ERR_NO_MEMORY : reserve(self, n, limit);
    if (status != EI_OK)
        goto out;
    double *first = decay + size, *second = first + size, *cell = second + size, *mass = cell + size,
           *next = mass + size;
    if ((status = ei_modulated_step(arrival, step, decay, first, second)) != EI_OK ||
        (status = ei_modulated_transform(arrival, 0, next)) != EI_OK)
        goto out;
    multiply_into(mass, decay, first, n);
    for (size_t i = 0; i < size; i++) {
        cell[i] = first[i] + second[i];
        mass[i] += second[i];
        self->mass[i * limit] = first[i];
        self->error[i * limit] = ROUNDING * first[i];
        self->bend[i * limit] = cell[i] / 4;
        next[i] -= first[i];
    }
    /* next: what is left beyond. */
    double *left = first, *spare = second;
    memcpy(left, next, size * sizeof *left);
    for (size_t k = 1, last = 0; k < limit && !last; k++) {
        double most = 0;
        multiply_into(spare, decay, cell, n);
        memcpy(cell, spare, size * sizeof *cell);
        for (size_t i = 0; i < size; i++) {
            self->mass[i * limit + k] = mass[i];
            self->error[i * limit + k] = ROUNDING * mass[i];
            self->bend[i * limit + k] = cell[i] / 4;
            left[i] = fmax(left[i] - mass[i], 0);
            most = fmax(most, left[i]);
        }
        last = k + 1 == limit || most < NEGLIGIBLE;
        self->cells = k + 1;
        for (size_t i = 0; i < size && last && end == EI_UPPER; i++)
            self->mass[i * limit + k] += left[i];
        multiply_into(spare, decay, mass, n);
        memcpy(mass, spare, size * sizeof *mass);
    }
    pack(self, limit);
out:
    free(decay);
    return status;
}

int ei_split_time(ei_split *self, const ei_arrival *arrival, double step, size_t limit, ei_end end) {
    switch (arrival->kind) {
    case EI_ARRIVAL_MARKOV_MODULATED:
        return split_modulated(self, arrival, step, limit, end);
    case EI_ARRIVAL_DETERMINISTIC:
        return split_periodic(self, arrival, step, limit);
    default:
        return split_renewal(self, arrival, step, limit, end);
    }
}
