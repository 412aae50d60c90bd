#include "edgeinfer/lindley.h"

#include "edgeinfer/fourier.h"
#include "edgeinfer/gmres.h"
#include "edgeinfer/modulated.h"
#include "edgeinfer/split.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    CORRECTIONS = 12,
    PRODUCTS = 60,
    INFLATIONS = 18,
    SAME = 6,
    SWEEPS = 150,
    LONGEST = 16,
    BISECTIONS = 50,
    CANDIDATES = 12,
    PIECES = 64
};
static const double TILT = 0.75;         /* of the exponent, at which sums are taken */
static const double SLANT = 0.1;         /* of the tilt: how what is left at the far half is covered */
static const double LARGE = 1e-4;        /* residual from which on there is no certificate */
static const double NEGLIGIBLE = 1e-3;   /* exponent times the lattice's length */
static const double STEEPEST = 60;       /* exponent times the lattice's length */
static const double FAR = 0.03;          /* residual from which on steps may go astray */
static const double ROUGH = 1e-5;        /* of an equation's residual, while corrections are made */
static const double EXACT = 1e-8;        /* and where the certificate is looked for */
static const double SETTLED = 1e-10;     /* residual at which corrections end */
static const double MGF_ERROR = 1e-5;    /* of the logarithm */
static const double ROUNDING = 1 + 1e-8; /* of what is done point by point */

/* The transforms of two real kernels, ei_fourier_split's parts at each frequency; and what they add to the
 * error of a sum, over the 2-norm of the other factor. */
typedef struct {
    double *parts, error;
} kernel;

typedef struct {
    ei_end end;
    size_t count, all, phases; /* points; and those beyond that times between arrivals reach */
    /* Where G moves with u: further on v is Chernoff's bound, and u is 1 before. */
    size_t first, free;
    int whole; /* whether steps go on as if it moved everywhere behind */
    double step, theta, decay;
    const double *chance; /* [count], c; NULL: 0 */
    ei_split service, time;
    ei_fourier fourier;
    kernel serve, wait[EI_ARRIVAL_PHASES * EI_ARRIVAL_PHASES];
    double scale[EI_ARRIVAL_PHASES];    /* Chernoff's bound of v: e^{scale - decay x} */
    double start[EI_ARRIVAL_PHASES];    /* and of u */
    double super[2][EI_ARRIVAL_PHASES]; /* s of theta, and of SLANT times that */
    double *weight, *bent, *flat;       /* [all + 1]: e^{theta y}; scratch */
    double *above;                      /* [cells]: mass beyond a cell */
    double *u, *v, *m, *last;           /* [phases][all + 1]; last: u one correction before */
    double *data, *sum;                 /* [phases][2 length], [2 length] */
    double *symbol, *inverse; /* [length / 2 + 1][2 phases phases]: K, and (1 - K)^{-1} on the circle */
} half_line;

/* ---- exponential moments */

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

/* s = 1 + e^moment E[e^{-theta t} s], made larger by a millionth and checked. 0: there is none. */
static int path_sums(const ei_arrival *arrival, size_t n, double theta, double moment, double *sums,
                     int *found) {
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
        *found &= sums[i] >= sum && isfinite(sums[i]);
    }
    return EI_OK;
}

/* ---- transforms */

/* The transform of two real sequences in data, at 0 .. length / 2. */
static void take_parts(const half_line *self, double *parts) {
    ei_fourier_forward(&self->fourier, self->sum);
    for (size_t k = 0; k <= self->fourier.length / 2; k++)
        ei_fourier_split(&self->fourier, self->sum, k, parts + 4 * k);
}

/* Masses and bends at their places, under the tilt. sign 1: services, -1: times. */
static void make_kernel(half_line *self, kernel *to, const ei_split *law, size_t entry, int sign) {
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

static void make_symbols(half_line *self) {
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

/* ---- G */

/* Values under the tilt as real parts of `data`, the bends of a function as imaginary ones; their 2-norm. */
static double load(const half_line *self, const double *value, int bends_of_u, double *data) {
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
static void unload(const half_line *self, double error, double *value, size_t count) {
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

/* Monotone, from outside; a lower end is 0 in a whole cell where it is below 0 at one of its ends. */
static void flatten(const half_line *self, double *value) {
    for (size_t j = self->all; self->end == EI_UPPER && j-- > 0;)
        value[j] = fmax(value[j], value[j + 1]);
    for (size_t j = 0; self->end == EI_LOWER && j <= self->all; j++) {
        double least = fmin(value[j], j < self->all ? value[j + 1] : 0);
        value[j] = least >= 0 ? fmin(value[j], j > 0 ? value[j - 1] : value[j]) : 0;
    }
}

static double chernoff(const half_line *self, size_t phase, size_t j) {
    return exp(fmin(self->scale[phase] - self->decay * (double)j * self->step, 0));
}

/* v from u. */
static void serve(half_line *self, size_t phase) {
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
        if (upper && j >= law->cells)
            v[j] += law->beyond;
    }
    if (upper) {
        size_t raised = self->count;
        for (size_t j = self->count; j < wide; j++)
            v[j] = fmax(j == self->count ? v[j] : 0, chernoff(self, phase, j - 1));
        while (raised > 1 && v[raised - 1] < v[self->count])
            raised--;
        self->free = !self->whole && raised < self->free ? raised : self->free;
    }
    flatten(self, v);
}

/* m from v. */
static void wait(half_line *self) {
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

/* The first point and the one behind the last that are looked for. */
static size_t first_point(const half_line *self) {
    return self->end == EI_UPPER ? 1 : 0;
}

static double chance_at(const half_line *self, size_t j) {
    return self->chance == NULL ? 0 : self->chance[j > 0 ? j - 1 : 0];
}

/* G(u) into m where it is looked for. */
static void apply(half_line *self) {
    const size_t wide = self->all + 1;
    const int upper = self->end == EI_UPPER;
    self->first = first_point(self);
    self->free = self->count - 1;
    for (size_t i = 0; i < self->phases; i++)
        serve(self, i);
    wait(self);
    for (size_t i = 0; i < self->phases; i++) {
        double *m = self->m + i * wide;
        for (size_t j = first_point(self); j + 1 < self->count; j++) {
            double chance = chance_at(self, j), value = chance + (1 - chance) * m[j];
            /* The cell ends on 1 at zero. */
            if (upper && j == 1 && m[0] > 1 && value < 1) {
                value = 1;
                self->first = 2;
            }
            m[j] = value * (upper ? 1 + 1e-14 : 1 - 1e-14);
        }
    }
}

/* ---- the equation's solution */

/* One real sequence of each phase through a matrix at each frequency. */
static void through(half_line *self, const double *symbol, const double *from, double *to) {
    const size_t n = self->phases, length = self->fourier.length, count = self->count;
    for (size_t i = 0; i < n; i++) {
        double *data = self->data + 2 * i * length;
        memset(data, 0, 2 * length * sizeof *data);
        memcpy(data, from + i * count, count * sizeof *data);
        ei_fourier_forward(&self->fourier, data);
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k <= length / 2; k++) {
            double sum[4] = {0, 0, 0, 0}, parts[4];
            for (size_t j = 0; j < n; j++) {
                const double *entry = symbol + 2 * (k * n * n + i * n + j);
                ei_fourier_split(&self->fourier, self->data + 2 * j * length, k, parts);
                sum[0] += entry[0] * parts[0] - entry[1] * parts[1];
                sum[1] += entry[0] * parts[1] + entry[1] * parts[0];
            }
            ei_fourier_join(&self->fourier, sum, k, self->sum);
        }
        ei_fourier_backward(&self->fourier, self->sum);
        for (size_t j = 0; j < count; j++)
            to[i * count + j] = j < self->first || j >= self->free ? 0 : self->sum[j] / (double)length;
    }
}

/* A times the preconditioner. */
static void product(void *context, const double *x, double *y) {
    half_line *self = context;
    const size_t count = self->count;
    double *before = self->bent;
    through(self, self->inverse, x, before);
    through(self, self->symbol, before, y);
    for (size_t i = 0; i < self->phases * count; i++)
        y[i] = before[i] - (1 - chance_at(self, i % count)) * y[i];
}

/* G(u) - u under the tilt; the largest of it in the nearer half of the lattice, and in the far one that under
 * less of a tilt. */
static void residual(const half_line *self, double *vector, double left[2]) {
    const size_t count = self->count, wide = self->all + 1;
    left[0] = left[1] = 0;
    for (size_t i = 0; i < self->phases * count; i++) {
        size_t j = i % count, at = i / count * wide + j;
        double change = j >= first_point(self) && j + 1 < count ? self->m[at] - self->u[at] : 0;
        vector[i] = change * self->weight[j];
        if (j < count / 2)
            left[0] = fmax(left[0], fabs(vector[i]));
        else
            left[1] = fmax(left[1], fabs(change) * exp(SLANT * self->theta * (double)j * self->step));
    }
}

/* u + A^{-1} vector, by way of `change`; u is kept in `last`. */
static int take_step(half_line *self, double *vector, double *change, double tolerance) {
    const size_t count = self->count, wide = self->all + 1, size = self->phases * count;
    for (size_t i = 0; i < size; i++)
        vector[i] = i % count < self->first || i % count >= self->free ? 0 : vector[i];
    int status = ei_gmres(product, self, size, vector, PRODUCTS, tolerance);
    if (status != EI_OK)
        return status;
    through(self, self->inverse, vector, change);
    for (size_t i = 0; i < size; i++) {
        size_t j = i % count, at = i / count * wide + j;
        if (j < first_point(self) || j + 1 == count)
            continue;
        self->last[at] = self->u[at];
        self->u[at] =
            j >= self->first && j < self->free ? self->u[at] + change[i] / self->weight[j] : self->m[at];
    }
    return EI_OK;
}

/* Steps from far may leave holes in a lower end, which `flatten` would carry on to the right. */
static void fill_holes(half_line *self) {
    for (size_t i = 0; i < self->phases && self->end == EI_LOWER; i++) {
        double *u = self->u + i * (self->all + 1), least = 0;
        for (size_t j = self->count - 1; j-- > 0;)
            u[j] = least = fmin(fmax(u[j], least), 1);
    }
}

/* Corrects u until little is left in the nearer half. */
static int correct(half_line *self, double *vector, double left[2], ei_monitor monitor) {
    const size_t count = self->count, wide = self->all + 1, size = self->phases * count;
    double last[2] = {INFINITY, INFINITY};
    int status = EI_OK;
    for (int round = 0; status == EI_OK; round++, last[0] = left[0], last[1] = left[1]) {
        apply(self);
        residual(self, vector, left);
        if (round > 1 && !(left[0] < last[0])) {
            for (size_t i = 0; i < self->phases; i++)
                memcpy(self->u + i * wide + first_point(self), self->last + i * wide + first_point(self),
                       (count - 1 - first_point(self)) * sizeof *self->u);
            left[0] = last[0];
            left[1] = last[1];
            break;
        }
        if (left[0] <= SETTLED || round == CORRECTIONS)
            break;
        status = take_step(self, vector, vector + size, ROUGH);
        if (left[0] > FAR)
            fill_holes(self);
        if (status == EI_OK && ei_stopped(monitor))
            status = EI_ERR_INTERRUPTED;
    }
    return status;
}

/* Whether u moved outwards, by what G takes something off, is what it must be; u stays where not. */
static int inflate(half_line *self, double *kept, const double left[2]) {
    const size_t count = self->count, wide = self->all + 1, size = self->phases * wide;
    const double sign = self->end == EI_UPPER ? 1 : -1;
    int holds = 0;
    memcpy(kept, self->u, size * sizeof *kept);
    for (double more = 1.5; more < 10 && !holds; more *= 4) {
        for (size_t i = 0; i < self->phases; i++)
            for (size_t j = first_point(self); j + 1 < count; j++)
                self->u[i * wide + j] =
                    kept[i * wide + j] +
                    sign * more *
                        (left[0] * self->super[0][i] / self->weight[j] +
                         left[1] * self->super[1][i] * exp(-SLANT * self->theta * (double)j * self->step));
        apply(self);
        holds = 1;
        for (size_t i = 0; i < self->phases; i++)
            for (size_t j = first_point(self); j + 1 < count && holds; j++)
                holds = sign * (self->u[i * wide + j] - self->m[i * wide + j]) >= 0;
    }
    if (!holds)
        memcpy(self->u, kept, size * sizeof *kept);
    return holds;
}

/* Corrects u towards G(u) and something more, outwards, until the check holds. */
static int certify(half_line *self, double *vector, const double left[2], ei_monitor monitor) {
    const size_t count = self->count, wide = self->all + 1, size = self->phases * count;
    const double sign = self->end == EI_UPPER ? 1 : -1;
    double near = 1.5 * left[0], far = 1.5 * left[1];
    for (int round = 0; round < INFLATIONS; round++) {
        int holds = 1;
        /* Bends may make whole steps go to and fro, and where Chernoff's bound ends may move a little at
         * each. */
        double share = round % 3 == 2 ? 0.5 : 1;
        self->whole = round >= SAME;
        apply(self);
        for (size_t i = 0; i < size; i++) {
            size_t j = i % count, at = i / count * wide + j;
            int inside = j >= first_point(self) && j + 1 < count;
            double slant = near / self->weight[j] + far * exp(-SLANT * self->theta * (double)j * self->step);
            vector[i] = inside ? share * (self->m[at] + sign * slant - self->u[at]) * self->weight[j] : 0;
            holds &= !inside || sign * (self->u[at] - self->m[at]) >= 0;
        }
        if (holds)
            return EI_OK;
        int status = take_step(self, vector, vector + size, EXACT);
        if (status == EI_OK && ei_stopped(monitor))
            status = EI_ERR_INTERRUPTED;
        if (status != EI_OK)
            return status;
        if (round % SAME == SAME - 1) {
            near *= 100;
            far *= 100;
        }
    }
    return EI_ERR_ACCURACY;
}

/* ---- setting up */

static void half_line_free(half_line *self) {
    ei_split_free(&self->service);
    ei_split_free(&self->time);
    ei_fourier_free(&self->fourier);
    free(self->weight);
    free(self->serve.parts);
}

static int reserve(half_line *self) {
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
static double find_exponent(const half_line *self, const ei_arrival *arrival, double most) {
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

/* Laws, exponent, kernels and room; u is 0. slowest: of what comes before. */
static int half_line_init(half_line *self, const ei_added_stage *stage, const ei_arrival *arrival,
                          double slowest) {
    const int modulated = arrival->kind == EI_ARRIVAL_MARKOV_MODULATED;
    int status, found;
    self->phases = modulated ? arrival->count : 1;
    if (self->phases > EI_ARRIVAL_PHASES)
        return EI_ERR_TOO_LARGE;
    if ((status = ei_split_service(&self->service, stage, self->step, LONGEST * self->count, self->end)) !=
            EI_OK ||
        (status = ei_split_time(&self->time, arrival, self->step, self->count, self->end)) != EI_OK)
        return status;
    double exponent =
        find_exponent(self, arrival, fmin(slowest, 4 * STEEPEST / ((double)self->count * self->step)));
    if (!(exponent * (double)self->count * self->step > NEGLIGIBLE))
        return EI_ERR_UNSTABLE;
    self->theta = fmin(TILT * exponent, STEEPEST / ((double)self->count * self->step));
    self->decay = exponent;
    self->all = self->count + self->time.cells + 1;
    size_t length = 4;
    while (length < self->all + 2 + self->service.cells)
        length *= 2;
    if ((status = ei_fourier_init(&self->fourier, length)) != EI_OK || (status = reserve(self)) != EI_OK)
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
    make_symbols(self);
    for (int e = 0; e < 2; e++) {
        double theta = e == 0 ? self->theta : SLANT * self->theta;
        status = path_sums(arrival, self->phases, theta, split_log_moment(&self->service, self->step, theta),
                           self->super[e], &found);
        if (status != EI_OK || !found)
            return status != EI_OK ? status : EI_ERR_ACCURACY;
    }
    return EI_OK;
}

/* log E e^{theta B} from above: with a floor E e^{theta B} + int_0^floor theta e^{theta x} P(B <= x) dx, P at
 * the end of each piece. */
static int service_log_moment(const ei_added_stage *stage, double theta, double *value) {
    if (stage->law == NULL) {
        *value = theta * stage->again;
        return EI_OK;
    }
    int status = ei_service_log_mgf(stage->law, theta, value, NULL);
    double sum = exp(*value * (1 + MGF_ERROR)), before = 1;
    for (int i = 1; i <= PIECES && stage->floor > 0; i++) {
        double time = stage->floor * i / PIECES, factor = exp(theta * time);
        sum += (factor - before) * (1 - ei_service_sf(stage->law, time));
        before = factor;
    }
    *value = log(sum);
    return status;
}

/* Chernoff's bound, which stands beyond the lattice: sum over i of E e^{theta (A_i - B_0 + C_i)}, at the
 * point before. */
static int begin_upper(half_line *self, const ei_upper_law *before, const ei_added_stage *stage,
                       const ei_arrival *arrival) {
    const size_t n = self->phases, wide = self->all + 1;
    double best = INFINITY, end = (double)self->count * self->step, most = self->decay;
    if (stage->law != NULL && stage->law->kind == EI_SERVICE_TRANSFER)
        most = fmin(most, 25 / ei_service_extent(stage->law));
    for (int e = 0; e < CANDIDATES; e++) {
        double theta = most * (1 - 0.01 * pow(1.45, e)), moment, sums[EI_ARRIVAL_PHASES], largest = 0;
        int found = 0, status = theta > 0 ? service_log_moment(stage, theta, &moment) : EI_OK;
        if (!(theta > 0))
            break;
        if (status == EI_OK)
            status = path_sums(arrival, n, theta, moment, sums, &found);
        if (status != EI_OK)
            return status;
        double start = ei_upper_law_log_moment(before, theta) + MGF_ERROR;
        for (size_t i = 0; i < n; i++)
            largest = fmax(largest, sums[i]);
        if (!found || !(log(largest) + start - theta * end < best))
            continue;
        best = log(largest) + start - theta * end;
        self->decay = theta;
        for (size_t i = 0; i < n; i++) {
            double *u = self->u + i * wide, scale = log(sums[i]) + start;
            self->start[i] = scale;
            self->scale[i] = scale + (stage->law != NULL ? moment : 0);
            for (size_t j = 0; j < wide; j++)
                u[j] = exp(fmin(scale, j < self->count - 1 ? 0 : scale) -
                           theta * (j > 0 ? (double)j - 1 : 0) * self->step);
        }
    }
    return isfinite(best) ? EI_OK : EI_ERR_UNSTABLE;
}

/* G once and again, from Chernoff's bound or 0, where there is no certificate: each is a bound. */
static int sweep(half_line *self, ei_monitor monitor) {
    const size_t wide = self->all + 1;
    for (size_t i = 0; i < self->phases; i++)
        for (size_t j = first_point(self); j + 1 < self->count; j++)
            self->u[i * wide + j] =
                self->end == EI_UPPER
                    ? exp(fmin(self->start[i] - self->decay * (double)(j - 1) * self->step, 0))
                    : 0;
    for (int round = 0; round < SWEEPS; round++) {
        apply(self);
        for (size_t i = 0; i < self->phases; i++)
            memcpy(self->u + i * wide + first_point(self), self->m + i * wide + first_point(self),
                   (self->count - 1 - first_point(self)) * sizeof *self->u);
        if (ei_stopped(monitor))
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
}

/* Corrects, certifies, and sums the law over the phases that requests meet into sf[count]. */
static int solve(half_line *self, const ei_added_stage *stage, const ei_arrival *arrival, double *sf,
                 ei_monitor monitor) {
    const size_t wide = self->all + 1;
    double left[2], *vector = malloc(2 * self->phases * (self->count + self->all + 1) * sizeof *vector);
    int status = vector == NULL ? EI_ERR_NO_MEMORY : correct(self, vector, left, monitor);
    if (status == EI_OK && !(left[0] <= LARGE))
        status = EI_ERR_ACCURACY;
    if (status == EI_OK && !inflate(self, vector, left))
        status = certify(self, vector, left, monitor);
    free(vector);
    if (status == EI_ERR_ACCURACY)
        status = sweep(self, monitor);
    for (size_t j = 0; j < self->count; j++)
        sf[j] = 0;
    for (size_t i = 0; i < self->phases && status == EI_OK; i++) {
        double share =
            self->phases > 1 ? arrival->stationary[i] * arrival->rates[i] * ei_arrival_mean(arrival) : 1;
        /* One more step than was checked. */
        memcpy(self->u + i * wide + first_point(self), self->m + i * wide + first_point(self),
               (self->count - 1 - first_point(self)) * sizeof *sf);
        if (stage->law != NULL)
            serve(self, i);
        for (size_t j = 0; j < self->count; j++)
            sf[j] += share * (stage->law != NULL ? self->v : self->u)[i * wide + j];
    }
    return status;
}

int ei_add_stage_lindley(ei_upper_law *self, const ei_upper_law *before, const ei_added_stage *stage,
                         const ei_arrival *arrival, double step, size_t count, ei_monitor monitor) {
    half_line line = {.end = EI_UPPER, .count = count, .step = step};
    double slowest = before->lattice.sf != NULL ? before->decay : INFINITY, largest = -INFINITY;
    double *chance = before->lattice.sf != NULL ? malloc(count * sizeof *chance) : NULL;
    *self = (ei_upper_law){.lattice = {step, count, malloc(count * sizeof(double))}};
    int status =
        self->lattice.sf == NULL || (chance == NULL && before->lattice.sf != NULL) ? EI_ERR_NO_MEMORY : EI_OK;
    if (status != EI_OK || (status = half_line_init(&line, stage, arrival, slowest)) != EI_OK ||
        (status = begin_upper(&line, before, stage, arrival)) != EI_OK)
        goto out;
    for (size_t j = 0; j < count && chance != NULL; j++)
        chance[j] = ei_upper_law_sf(before, (double)j * step);
    line.chance = chance;
    if ((status = solve(&line, stage, arrival, self->lattice.sf, monitor)) != EI_OK)
        goto out;
    for (size_t j = 0; j < count; j++)
        self->lattice.sf[j] = fmin(self->lattice.sf[j] * ROUNDING, j > 0 ? self->lattice.sf[j - 1] : 1);
    for (size_t i = 0; i < line.phases; i++)
        largest = fmax(largest, line.scale[i]);
    self->log_scale = largest;
    self->decay = line.decay;
    self->shift = before->shift + 1e-9 * before->lattice.step;
out:
    if (status != EI_OK)
        ei_upper_law_free(self);
    free(chance);
    half_line_free(&line);
    return status;
}

int ei_lindley_sojourn_lower(ei_lattice *self, const ei_added_stage *stage, const ei_arrival *arrival,
                             double step, size_t count, ei_monitor monitor) {
    half_line line = {.end = EI_LOWER, .count = count, .step = step};
    *self = (ei_lattice){step, count, calloc(count, sizeof(double))};
    int status = self->sf == NULL ? EI_ERR_NO_MEMORY : half_line_init(&line, stage, arrival, INFINITY);
    if (status == EI_OK && (status = solve(&line, stage, arrival, self->sf, monitor)) == EI_OK)
        for (size_t j = count; j-- > 0;)
            self->sf[j] = fmin(fmax(self->sf[j] / ROUNDING, j + 1 < count ? self->sf[j + 1] : 0), 1);
    half_line_free(&line);
    return status;
}
