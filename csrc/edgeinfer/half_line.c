#include "edgeinfer/half_line.h"

#include "edgeinfer/modulated.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST = 16, BISECTIONS = 50 };
static const double TILT = 0.75; /* of the exponent, at which sums are taken */
static const double NEAR = 0.9;  /* of the exponent: how what is left is covered, */
static const double SLANTS[EI_SLANTS] = {0.1, 0, 1, 0.4, 0.7}; /* or of the tilt where not 0 */
static const double NEGLIGIBLE = 1e-3;                         /* exponent times the lattice's length */
static const double SURE = 1 - 1e-7;
static const double STEEPEST = 60; /* exponent times the lattice's length */

/* log E e^{theta B} of the split law. */
static double split_log_moment(const ei_split *law, double step, double theta) {
    double sum = 0, factor = exp(theta * step);
    for (size_t k = law->cells; k-- > 0;)
        sum = sum * factor + law->mass[k];
    return log(sum);
}

/* E[e^{-theta t}; phase at the end]. */
static int transform_of(const ei_arrival *arrival, double theta, double *transform) {
    double slope;
    if (arrival->kind == EI_ARRIVAL_MARKOV_MODULATED)
        return ei_modulated_transform(arrival, theta, transform);
    *transform = exp(-ei_arrival_exponent(arrival, theta, &slope) * (1 - 1e-12));
    return EI_OK;
}

int ei_path_sums(const ei_arrival *arrival, size_t n, double theta, double moment, double *sums, int *found) {
    double matrix[EI_ARRIVAL_PHASES * EI_ARRIVAL_PHASES], work[EI_ARRIVAL_PHASES * EI_ARRIVAL_PHASES];
    int status = transform_of(arrival, theta, matrix);
    *found = 0;
    if (status != EI_OK)
        return status;
    for (size_t i = 0; i < n * n; i++) {
        matrix[i] *= exp(moment);
        work[i] = (i % (n + 1) == 0) - matrix[i];
    }
    for (size_t i = 0; i < n; i++)
        sums[i] = 1;
    for (size_t k = 0; k < n; k++)
        for (size_t i = k + 1; i < n; i++) {
            double factor = work[i * n + k] / work[k * n + k];
            for (size_t j = k; j < n; j++)
                work[i * n + j] -= factor * work[k * n + j];
            sums[i] -= factor * sums[k];
        }
    for (size_t k = n; k-- > 0;) {
        for (size_t i = k + 1; i < n; i++)
            sums[k] -= work[k * n + i] * sums[i];
        sums[k] /= work[k * n + k];
    }
    *found = 1;
    for (size_t i = 0; i < n; i++)
        sums[i] *= 1 + 1e-6;
    for (size_t i = 0; i < n; i++) {
        double sum = 1 + 1e-12;
        for (size_t j = 0; j < n; j++)
            sum += matrix[i * n + j] * sums[j] * (1 + 1e-12);
        *found &= sums[i] > 0 && sums[i] >= sum && isfinite(sums[i]);
    }
    return EI_OK;
}

/* The transform of two real sequences in data, at 0 .. length / 2. */
static void take_parts(const ei_half_line *self, double *parts) {
    ei_fourier_forward(&self->fourier, self->sum);
    for (size_t k = 0; k <= self->fourier.length / 2; k++)
        ei_fourier_split(&self->fourier, self->sum, k, parts + 4 * k);
}

/* Masses and bends at their places, under the tilt. sign 1: services, -1: times. */
static void make_kernel(ei_half_line *self, ei_kernel *to, const ei_split *law, size_t entry, int sign) {
    const size_t length = self->fourier.length, from = entry * law->cells;
    double *re = self->sum, *im = re + length, square[2] = {0, 0}, error = 0;
    memset(re, 0, 2 * length * sizeof *re);
    for (size_t k = 0; k < law->cells; k++) {
        size_t bent = sign > 0 ? k : k + 1;
        double scale = exp(sign * self->theta * (double)k * self->step),
               slant = exp(sign * self->theta * (double)bent * self->step);
        double mass = law->mass[from + k] * scale, bend = law->bend[from + k] * slant,
               off = law->error[from + k] * scale;
        re[sign > 0 || k == 0 ? k : length - k] = mass;
        im[sign > 0 ? bent : length - bent] = bend;
        square[0] += mass * mass;
        square[1] += bend * bend;
        error += off * off;
    }
    to->error = 7 * ei_fourier_error(&self->fourier) * (sqrt(square[0]) + sqrt(square[1])) + sqrt(error);
    take_parts(self, to->parts);
}

/* Adds the products of parts at k. */
static void add_product(double to[4], const double *one, const double *other) {
    for (size_t e = 0; e < 4; e += 2) {
        to[e] += one[e] * other[e] - one[e + 1] * other[e + 1];
        to[e + 1] += one[e] * other[e + 1] + one[e + 1] * other[e];
    }
}

/* Inverts a complex matrix in place, rows of 2 n numbers, by Gauss and Jordan: 1 - K of norm below one. */
static void invert(double *matrix, size_t n) {
    for (size_t k = 0; k < n; k++) {
        double *row = matrix + 2 * k * n, re = row[2 * k], im = row[2 * k + 1], square = re * re + im * im;
        double pivot[2] = {re / square, -im / square};
        row[2 * k] = 1;
        row[2 * k + 1] = 0;
        for (size_t j = 0; j < n; j++) {
            double a = row[2 * j], b = row[2 * j + 1];
            row[2 * j] = a * pivot[0] - b * pivot[1];
            row[2 * j + 1] = a * pivot[1] + b * pivot[0];
        }
        for (size_t i = 0; i < n; i++) {
            double *other = matrix + 2 * i * n, a = other[2 * k], b = other[2 * k + 1];
            if (i == k)
                continue;
            other[2 * k] = other[2 * k + 1] = 0;
            for (size_t j = 0; j < n; j++) {
                other[2 * j] -= a * row[2 * j] - b * row[2 * j + 1];
                other[2 * j + 1] -= a * row[2 * j + 1] + b * row[2 * j];
            }
        }
    }
}

static void make_symbols(ei_half_line *self) {
    const size_t n = self->phases, size = 2 * n * n;
    for (size_t k = 0; k <= self->fourier.length / 2; k++) {
        double *symbol = self->symbol + k * size, *inverse = self->inverse + k * size;
        const double *serve = self->serve.parts + 4 * k;
        for (size_t e = 0; e < n * n; e++) {
            const double *wait = self->wait[e].parts + 4 * k;
            symbol[2 * e] = serve[0] * wait[0] - serve[1] * wait[1];
            symbol[2 * e + 1] = serve[0] * wait[1] + serve[1] * wait[0];
            inverse[2 * e] = (e % (n + 1) == 0) - symbol[2 * e];
            inverse[2 * e + 1] = -symbol[2 * e + 1];
        }
        invert(inverse, n);
    }
}

/* Values under the tilt as real parts of `data`, the bends of a function as imaginary ones; their 2-norm. */
static double load(const ei_half_line *self, const double *value, int bends_of_u, double *data) {
    const size_t length = self->fourier.length;
    const double sign = self->end == EI_UPPER ? 1 : -1;
    double *re = data, *im = data + length, square = 0;
    memset(re, 0, 2 * length * sizeof *re);
    for (size_t j = 0; j <= self->all; j++) {
        double left = j > 0        ? value[j - 1]
                      : bends_of_u ? 1
                                   : value[0],
               right = j < self->all ? value[j + 1] : value[j];
        re[j] = value[j] * self->weight[j];
        im[j] = fmax(-sign * (right - 2 * value[j] + left), 0) * self->weight[j];
        if (j == 0 && bends_of_u && self->end == EI_UPPER)
            re[j] = 0;
        square += re[j] * re[j] + im[j] * im[j];
    }
    return sqrt(square);
}

/* What comes out of a transform back, with `error` on the safe side: values, and at both ends of each cell
 * its bend. */
static void unload(const ei_half_line *self, double error, double *value, size_t count) {
    const size_t length = self->fourier.length;
    const double sign = self->end == EI_UPPER ? 1 : -1, scale = 1 / (double)length;
    const double *re = self->sum, *im = re + length;
    double before = 0;
    for (size_t j = 0; j < count; j++) {
        double bend = fmax((im[j] * scale + error) / self->weight[j], 0);
        value[j] = (re[j] * scale + sign * error) / self->weight[j] + sign * fmax(bend, before);
        before = bend;
    }
}

/* Raises the holes of a lower bound. */
static void fill(const ei_half_line *self, double *value) {
    double later = 0;
    int hole = 0;
    for (size_t j = self->all + 1; j-- > 0;) {
        const double most = fmax(value[j], later);
        const int follows = hole;
        hole = value[j] < later;
        value[j] = hole || follows ? later : value[j];
        later = most;
    }
}

/* Monotone, from outside; a lower end is 0 in a whole cell where it is below 0 at one of its ends. */
static void flatten(const ei_half_line *self, double *value) {
    for (size_t j = self->all; self->end == EI_UPPER && j-- > 0;)
        value[j] = fmax(value[j], value[j + 1]);
    for (size_t j = 0; self->end == EI_LOWER && !self->filled && j <= self->all; j++) {
        double least = fmin(value[j], j < self->all ? value[j + 1] : 0);
        value[j] = least >= 0 ? fmin(value[j], j > 0 ? value[j - 1] : value[j]) : 0;
    }
    if (self->filled)
        fill(self, value);
}

/* A lower end of v is lost in the rounding of sums under a steep tilt where services are hardly ever shorter:
 * cells in which P(B > x) >= SURE at the far point, u = 0 being taken, are at that. */
static void raise_sure(const ei_half_line *self, double *v) {
    const ei_split *law = &self->service;
    size_t sure = 0;
    int lost = 0;
    while (sure + 1 < law->cells && sure < self->all &&
           self->above[sure + 1] - fmax(law->bend[sure], law->bend[sure + 1]) >= SURE * (1 + 1e-12))
        lost |= !(v[sure++] >= SURE);
    for (size_t j = 0; j <= sure && lost; j++)
        v[j] = j < sure ? SURE : fmin(v[j], SURE);
}

static double chernoff(const ei_half_line *self, size_t phase, size_t j) {
    return exp(fmin(self->scale[phase] - self->decay * (double)j * self->step, 0));
}

void ei_half_line_serve(ei_half_line *self, size_t phase) {
    const size_t wide = self->all + 1, half = self->fourier.length / 2;
    const ei_split *law = &self->service;
    double *v = self->v + phase * wide;
    const int upper = self->end == EI_UPPER;
    memcpy(self->flat, self->u + phase * wide, wide * sizeof *v);
    flatten(self, self->flat);
    double size = load(self, self->flat, 1, self->sum);
    ei_fourier_forward(&self->fourier, self->sum);
    for (size_t k = 0; k <= half; k++) {
        double parts[4], product[4] = {0, 0, 0, 0};
        ei_fourier_split(&self->fourier, self->sum, k, parts);
        add_product(product, parts, self->serve.parts + 4 * k);
        ei_fourier_join(&self->fourier, product, k, self->sum);
    }
    ei_fourier_backward(&self->fourier, self->sum);
    unload(self, size * self->serve.error, v, wide);
    for (size_t j = 0; j < wide; j++) {
        /* Points below zero, and for an upper end zero itself, have u = 1. */
        size_t at = upper && j > 0 ? j - 1 : j;
        v[j] += upper && j == 0 ? 1 : at < law->cells ? self->above[at] : 0;
        v[j] += upper ? law->beyond : 0;
    }
    if (upper) {
        size_t raised = self->count;
        for (size_t j = self->count; j < wide; j++)
            v[j] = fmax(j == self->count ? v[j] : 0, chernoff(self, phase, j - 1));
        while (raised > 1 && v[raised - 1] < v[self->count])
            raised--;
        self->free = !self->whole && raised < self->free ? raised : self->free;
    } else
        raise_sure(self, v);
    flatten(self, v);
}

/* m from v. */
static void wait(ei_half_line *self) {
    const size_t n = self->phases, wide = self->all + 1, length = self->fourier.length;
    double size[EI_ARRIVAL_PHASES];
    for (size_t j = 0; j < n; j++) {
        size[j] = load(self, self->v + j * wide, 0, self->data + 2 * j * length);
        ei_fourier_forward(&self->fourier, self->data + 2 * j * length);
    }
    for (size_t i = 0; i < n; i++) {
        double error = 0;
        for (size_t j = 0; j < n; j++)
            error += size[j] * self->wait[i * n + j].error;
        for (size_t k = 0; k <= length / 2; k++) {
            double parts[4], product[4] = {0, 0, 0, 0};
            for (size_t j = 0; j < n; j++) {
                ei_fourier_split(&self->fourier, self->data + 2 * j * length, k, parts);
                add_product(product, parts, self->wait[i * n + j].parts + 4 * k);
            }
            ei_fourier_join(&self->fourier, product, k, self->sum);
        }
        ei_fourier_backward(&self->fourier, self->sum);
        unload(self, error, self->m + i * wide, self->count);
    }
}

void ei_half_line_apply(ei_half_line *self) {
    const size_t wide = self->all + 1;
    const int upper = self->end == EI_UPPER;
    self->first = ei_half_line_first(self);
    self->free = self->count - 1;
    for (size_t i = 0; i < self->phases; i++)
        ei_half_line_serve(self, i);
    wait(self);
    for (size_t i = 0; i < self->phases; i++) {
        double *m = self->m + i * wide;
        for (size_t j = ei_half_line_first(self); j + 1 < self->count; j++) {
            double chance = ei_half_line_chance(self, i, j), value = chance + (1 - chance) * m[j];
            /* The cell ends on 1 at zero. */
            if (upper && j == 1 && m[0] > 1 && value < 1) {
                value = 1;
                self->first = 2;
            }
            m[j] = value * (upper ? 1 + 1e-14 : 1 - 1e-14);
        }
    }
}

void ei_half_line_free(ei_half_line *self) {
    ei_split_free(&self->service);
    ei_split_free(&self->time);
    ei_fourier_free(&self->fourier);
    free(self->weight);
    free(self->serve.parts);
}

static int reserve(ei_half_line *self) {
    const size_t n = self->phases, wide = self->all + 1, length = self->fourier.length, half = length / 2 + 1;
    const size_t scratch = n * self->count > wide ? n * self->count : wide;
    self->weight = calloc(2 * wide + scratch + self->service.cells + 4 * n * wide + (n + 1) * 2 * length,
                          sizeof(double));
    self->serve.parts = malloc(4 * half * (1 + 2 * n * n) * sizeof(double));
    if (self->weight == NULL || self->serve.parts == NULL)
        return EI_ERR_NO_MEMORY;
    self->flat = self->weight + wide;
    self->bent = self->flat + wide;
    self->above = self->bent + scratch;
    self->u = self->above + self->service.cells;
    self->v = self->u + n * wide;
    self->m = self->v + n * wide;
    self->last = self->m + n * wide;
    self->data = self->last + n * wide;
    self->sum = self->data + 2 * n * length;
    for (size_t e = 0; e < n * n; e++)
        self->wait[e].parts = self->serve.parts + 4 * half * (1 + e);
    self->symbol = self->serve.parts + 4 * half * (1 + n * n);
    self->inverse = self->symbol + 2 * half * n * n;
    return EI_OK;
}

/* The exponent of the split service, up to `most`; 0: none. */
static double find_exponent(const ei_half_line *self, const ei_arrival *arrival, double most) {
    double low = 0, high = 1e-3 / self->step, slope;
    for (int i = 0; i < 40 && high < most; i++) {
        if (!(split_log_moment(&self->service, self->step, high) <
              ei_arrival_exponent(arrival, high, &slope)))
            break;
        low = high;
        high *= 2;
    }
    high = fmin(high, most);
    for (int i = 0; i < BISECTIONS; i++) {
        double middle = low + (high - low) / 2;
        if (split_log_moment(&self->service, self->step, middle) <
            ei_arrival_exponent(arrival, middle, &slope))
            low = middle;
        else
            high = middle;
    }
    return low;
}

static int split_laws(ei_half_line *self, const ei_added_stage *stage, const ei_arrival *arrival) {
    self->phases = arrival->kind == EI_ARRIVAL_MARKOV_MODULATED ? arrival->count : 1;
    if (self->phases > EI_ARRIVAL_PHASES)
        return EI_ERR_TOO_LARGE;
    int status = ei_split_service(&self->service, stage, self->step, LONGEST * self->count, self->end);
    return status == EI_OK ? ei_split_time(&self->time, arrival, self->step, self->count, self->end) : status;
}

/* Kernels and room, under the tilt. */
static int make_kernels(ei_half_line *self) {
    self->all = self->count + self->time.cells + 1;
    size_t length = 4;
    while (length < self->all + 2 + self->service.cells)
        length *= 2;
    int status = ei_fourier_init(&self->fourier, length);
    if (status == EI_OK)
        status = reserve(self);
    if (status != EI_OK)
        return status;
    for (size_t j = 0; j <= self->all; j++)
        self->weight[j] = exp(self->theta * (double)j * self->step);
    double sum = 0;
    for (size_t k = self->service.cells; k-- > 0;) {
        self->above[k] = sum;
        sum += self->service.mass[k];
    }
    make_kernel(self, &self->serve, &self->service, 0, 1);
    for (size_t e = 0; e < self->phases * self->phases; e++)
        make_kernel(self, &self->wait[e], &self->time, e, -1);
    return EI_OK;
}

int ei_half_line_init_walk(ei_half_line *self, const ei_added_stage *stage, const ei_arrival *arrival) {
    const int status = split_laws(self, stage, arrival);
    return status == EI_OK ? make_kernels(self) : status;
}

int ei_half_line_init(ei_half_line *self, const ei_added_stage *stage, const ei_arrival *arrival,
                      double slowest) {
    int found, status = split_laws(self, stage, arrival);
    if (status != EI_OK)
        return status;
    double exponent =
        find_exponent(self, arrival, fmin(slowest, 4 * STEEPEST / ((double)self->count * self->step)));
    if (!(exponent * (double)self->count * self->step > NEGLIGIBLE))
        return EI_ERR_UNSTABLE;
    self->theta = fmin(TILT * exponent, STEEPEST / ((double)self->count * self->step));
    for (int e = 0; e < EI_SLANTS; e++)
        self->slant[e] = SLANTS[e] > 0 ? SLANTS[e] * self->theta : NEAR * exponent;
    self->near = 1;
    self->decay = exponent;
    if ((status = make_kernels(self)) != EI_OK)
        return status;
    make_symbols(self);
    for (int e = 0; e < EI_SLANTS; e++) {
        status = ei_path_sums(arrival, self->phases, self->slant[e],
                              split_log_moment(&self->service, self->step, self->slant[e]), self->super[e],
                              &found);
        if (status != EI_OK || !found)
            return status != EI_OK ? status : EI_ERR_ACCURACY;
    }
    return EI_OK;
}
