#include "edgeinfer/constant_walk.h"

#include "edgeinfer/fourier.h"
#include "edgeinfer/gmres.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    PARTS = 4,     /* of the law of busy periods */
    ROUNDS = 40,   /* Newton's steps, at most, */
    PRODUCTS = 20, /* of so many each, */
    TRIAL = 3      /* and before what is left is guessed */
};
static const double TILT = 0.75;        /* of the decay, on the circle, */
static const double CIRCLE = 1.3;       /* whose length is so many lattices or more */
static const double WEIGHT = 0.85;      /* of the decay: weight of a difference */
static const double REDUCTION = 0.1;    /* of what is missing, by a step */
static const double NEARBY = 1e-5;      /* weighed difference by which a derivative is taken */
static const double SLACK = 2e-7;       /* share that the certificate is looked for with, */
static const double APART_SLACK = 2e-6; /* that of alpha, */
static const double NOTHING = 1e-8;     /* and what is nothing, under the weight */
static const double ENOUGH = 1e-7;      /* that may be missing */

static int bound_init(ei_constant_bound *bound, const ei_line *self, const ei_joint_busy *busy,
                      double theta) {
    double moment, sum = 0, again = 0;
    int status = ei_service_log_mgf(self->service, theta, &moment, NULL);
    if (status != EI_OK)
        return status;
    bound->theta = theta;
    bound->moment = exp(moment + EI_SERVICE_MGF_ERROR);
    bound->drift = exp(-theta * self->constant);
    bound->idle = self->rate / (self->rate + theta);
    for (size_t i = 0; i < busy->count; i++) {
        const double rest = 1 - busy->ratio[i] * bound->drift * bound->moment;
        if (!(rest > 1e-12))
            return EI_ERR_UNSTABLE;
        sum += busy->weight[i] * bound->moment / rest;
        again += busy->weight[i] * bound->moment * (1 - busy->ratio[i]) / rest;
    }
    const double rest = 1 - bound->drift * bound->idle * again;
    if (!(rest > 1e-12))
        return EI_ERR_UNSTABLE;
    bound->after = bound->drift * bound->idle * sum / rest * (1 + 1e-6);
    for (size_t i = 0; i < busy->count; i++)
        bound->type[i] = bound->moment * (1 + (1 - busy->ratio[i]) * bound->after) /
                         (1 - busy->ratio[i] * bound->drift * bound->moment) * (1 + 1e-6);
    return EI_OK;
}

double ei_constant_bound_at(const ei_constant_walk *self, double scale, size_t n) {
    return fmin(1, scale * exp(-self->bound.theta * ((double)n - 1) * self->grid->step));
}

void ei_constant_walk_free(ei_constant_walk *self) {
    ei_line_table_free(&self->table);
    free(self->block);
    self->block = NULL;
}

int ei_constant_walk_init(ei_constant_walk *self, const ei_line *grid, ei_end end, double decay,
                          double longest) {
    *self =
        (ei_constant_walk){.grid = grid,
                           .end = end,
                           .decay = decay,
                           .idle = ei_wait_weights_of(grid->rate * grid->step, grid->exponent * grid->step)};
    const double shares[] = {0.97, 0.9, 0.8}, rate = grid->rate;
    int status =
        ei_joint_busy_init(&self->busy, grid->rate * grid->constant, PARTS, longest, EI_CONSTANT_TYPES, end);
    if (status != EI_OK || (status = ei_line_table_init(&self->table, grid, end)) != EI_OK)
        return status;
    double best = INFINITY;
    for (size_t e = 0; e < 3 && end == EI_UPPER; e++) {
        ei_constant_bound tried;
        status = bound_init(&tried, grid, &self->busy, shares[e] * decay);
        if (status == EI_ERR_UNSTABLE)
            continue;
        if (status != EI_OK)
            return status;
        const double value = log(tried.after) - tried.theta * (double)grid->top * grid->step;
        if (value < best) {
            best = value;
            self->bound = tried;
        }
    }
    if (end == EI_UPPER && isinf(best))
        return EI_ERR_UNSTABLE;
    for (size_t i = 0; i < EI_LINE_FINE; i++)
        self->idle_bend += (exp(-rate * grid->step * (double)i / EI_LINE_FINE) -
                            exp(-rate * grid->step * (double)(i + 1) / EI_LINE_FINE)) *
                           fmax(ei_line_bend_near(grid, i), ei_line_bend_near(grid, EI_LINE_FINE - 1 - i));
    const size_t wide = grid->rows * EI_CONSTANT_TYPES;
    self->block = calloc(7 * wide + 3 * grid->rows, sizeof(double));
    if (self->block == NULL)
        return EI_ERR_NO_MEMORY;
    self->type = self->block;
    self->next = self->type + wide;
    self->mixed = self->next + wide;
    double *scratch = self->mixed + wide;
    self->by = (ei_line_server){.line = grid, .table = &self->table, .end = end};
    ei_line_server_use(&self->by, scratch, wide);
    self->mean = scratch + 4 * wide;
    self->kinks = self->mean + grid->rows;
    self->after = self->kinks + grid->rows;
    for (size_t n = 0; n < grid->rows && end == EI_UPPER; n++)
        for (size_t i = 0; i < EI_CONSTANT_TYPES; i++)
            self->type[n * EI_CONSTANT_TYPES + i] = ei_constant_bound_at(self, self->bound.type[i], n);
    return EI_OK;
}

/* after: H, from the types. */
static void let_idle(ei_constant_walk *self) {
    const size_t rows = self->grid->rows;
    const double sign = self->end == EI_UPPER ? 1 : -1, r = self->grid->ratio;
    for (size_t n = 0; n < rows; n++) {
        double sum = 0;
        for (size_t i = 0; i < EI_CONSTANT_TYPES; i++)
            sum += self->busy.weight[i] * self->type[n * EI_CONSTANT_TYPES + i];
        self->mean[n] = sum;
    }
    for (size_t n = 1; n < rows; n++) {
        const double next = n + 1 < rows ? self->mean[n + 1] : self->end == EI_UPPER ? self->mean[n] : 0;
        self->kinks[n] = fmax(sign * (r * (self->mean[n] - next) - (self->mean[n - 1] - self->mean[n])), 0);
    }
    double value = self->end == EI_UPPER ? self->mean[rows - 1] : 0, bend = 0, before, apart = 0;
    double last = value;
    for (size_t i = 0; i < EI_CONSTANT_TYPES; i++)
        apart += self->busy.weight[i] * self->apart[i];
    /* bend: of the cell behind a point. */
    for (size_t n = rows; n-- > 0;) {
        const double here = self->mean[n], right = n + 1 < rows ? self->mean[n + 1] : value;
        if (n + 1 < rows)
            last = self->idle.near * here + self->idle.far * right + self->idle.kept * last;
        before = n > 0 ? self->idle_bend * self->kinks[n] + self->idle.kept * bend : 0;
        const double sum = last + sign * fmax(bend, before) + apart * self->table.idle[n];
        self->after[n] = sum + sign * EI_LINE_ROUNDING * fabs(sum);
        bend = before;
    }
}

static void sweep(ei_constant_walk *self) {
    const size_t q = self->grid->per_service, top = self->grid->top;
    let_idle(self);
    for (size_t n = 0; n <= top; n++)
        for (size_t i = 0; i < EI_CONSTANT_TYPES; i++)
            self->mixed[n * EI_CONSTANT_TYPES + i] =
                (1 - self->busy.ratio[i]) * self->after[n + q] +
                self->busy.ratio[i] * self->type[(n + q) * EI_CONSTANT_TYPES + i];
    for (size_t i = 0; i < EI_CONSTANT_TYPES; i++)
        self->by.apart[i] = self->busy.ratio[i] * self->apart[i];
    ei_line_serve(&self->by, self->mixed, self->next, EI_CONSTANT_TYPES);
    for (size_t i = 0; i < EI_CONSTANT_TYPES && self->end == EI_UPPER; i++) {
        /* The furthest point: what is beyond it stands below the bound. */
        double *last = &self->next[top * EI_CONSTANT_TYPES + i];
        *last = fmax(*last, ei_constant_bound_at(self, self->bound.type[i], top));
    }
}

/* Whether the values are what a sweep makes of them or further out. */
static int is_certain(const ei_constant_walk *self) {
    const double sign = self->end == EI_UPPER ? 1 : -1;
    int holds = 1;
    for (size_t i = 0; i < EI_CONSTANT_TYPES; i++)
        holds &= sign * (self->apart[i] - self->by.apart[i]) >= 0;
    for (size_t at = 0; at < (self->grid->top + 1) * EI_CONSTANT_TYPES && holds; at++)
        holds = sign * (self->type[at] - self->next[at]) >= 0;
    return holds;
}

/* Newton's steps: differences d of values from what a sweep makes of them go through the inverse of 1 - G', G
 * the sweep and G' its derivative, by GMRES. The preconditioner is the same on a circle, where nothing bends
 * and all is linear: with kappa the transform of e^{tilt n} times what a service does d later and lambda that
 * of an idle time, T_i = (d_i + kappa (1 - s_i) H) / (1 - s_i kappa) and H = lambda sum w_i T_i. */
typedef struct {
    double re, im;
} number;

static number times(number a, number b) {
    return (number){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

static number over(number a, number b) {
    const double square = b.re * b.re + b.im * b.im;
    return times(a, (number){b.re / square, -b.im / square});
}

typedef struct {
    ei_constant_walk *walk;
    ei_fourier fourier;
    size_t size;            /* of a vector: types' values, alpha */
    double *weight, *tilt;  /* of a point's values: in vectors; and of these on the circle */
    double *at, *made;      /* where the derivative is taken: values, and what a sweep makes of them */
    double *vector, *moved; /* of differences */
    double *data;           /* [types / 2][2 length] */
    size_t products;
    number *own, *kappa, *joint; /* 1 / (1 - s_i kappa): [length / 2 + 1][types]; kappa;
                                    lambda / (1 - lambda kappa sum w_i (1 - s_i) / (1 - s_i kappa)) */
} newton;

static void newton_free(newton *self) {
    ei_fourier_free(&self->fourier);
    free(self->weight);
    free(self->own);
}

static void find_symbols(newton *self) {
    const ei_constant_walk *walk = self->walk;
    const ei_line *grid = walk->grid;
    const size_t length = self->fourier.length;
    const double tilt = TILT * walk->decay * grid->step, q = (double)grid->per_service;
    double *mass = self->data;
    memset(mass, 0, 2 * length * sizeof *mass);
    double tail = walk->table.mass[1] * exp(tilt);
    mass[0] = walk->table.mass[0];
    for (size_t k = 1; k < (walk->table.decay > 0 ? length : walk->table.cells); k++) {
        mass[k % length] += walk->table.decay > 0 ? tail : walk->table.mass[k] * exp(tilt * (double)k);
        tail *= walk->table.decay * exp(tilt);
    }
    ei_fourier_forward(&self->fourier, mass);
    for (size_t k = 0; k <= length / 2; k++) {
        const double angle = 2 * M_PI * (double)k / (double)length, ahead = exp(-tilt),
                     later = exp(-tilt * q);
        const number cell = {ahead * cos(angle), ahead * sin(angle)},
                     service = {later * cos(angle * q), later * sin(angle * q)},
                     kappa = times((number){mass[k], mass[length + k]}, service),
                     lambda =
                         over((number){walk->idle.near + walk->idle.far * cell.re, walk->idle.far * cell.im},
                              (number){1 - walk->idle.kept * cell.re, -walk->idle.kept * cell.im});
        number sum = {0, 0};
        for (size_t i = 0; i < EI_CONSTANT_TYPES; i++) {
            const double s = walk->busy.ratio[i], share = walk->busy.weight[i] * (1 - s);
            const number own = over((number){1, 0}, (number){1 - s * kappa.re, -s * kappa.im});
            self->own[k * EI_CONSTANT_TYPES + i] = own;
            sum.re += share * own.re;
            sum.im += share * own.im;
        }
        const number again = times(times(lambda, kappa), sum);
        self->kappa[k] = kappa;
        self->joint[k] = over(lambda, (number){1 - again.re, -again.im});
    }
}

static int newton_init(newton *self, ei_constant_walk *walk) {
    const ei_line *grid = walk->grid;
    const size_t points = grid->top + 1, types = EI_CONSTANT_TYPES;
    *self = (newton){.walk = walk, .size = (points + 1) * types};
    size_t length = 64;
    while ((double)length < CIRCLE * (double)points)
        length *= 2;
    const size_t half = length / 2 + 1;
    self->weight = malloc((2 * points + 4 * self->size + types * length) * sizeof *self->weight);
    self->own = malloc(half * (types + 2) * sizeof *self->own);
    if (self->weight == NULL || self->own == NULL)
        return EI_ERR_NO_MEMORY;
    self->tilt = self->weight + points;
    self->at = self->tilt + points;
    self->made = self->at + self->size;
    self->vector = self->made + self->size;
    self->moved = self->vector + self->size;
    self->data = self->moved + self->size;
    self->kappa = self->own + half * types;
    self->joint = self->kappa + half;
    int status = ei_fourier_init(&self->fourier, length);
    if (status != EI_OK)
        return status;
    for (size_t n = 0; n < points; n++) {
        const double decays = walk->decay * grid->step * (double)n;
        self->weight[n] = exp(WEIGHT * decays);
        self->tilt[n] = exp((TILT - WEIGHT) * decays);
    }
    find_symbols(self);
    return EI_OK;
}

/* Differences through the inverse on the circle. */
static void go_round(newton *self, const double *from, double *to) {
    const ei_constant_walk *walk = self->walk;
    const size_t types = EI_CONSTANT_TYPES, points = walk->grid->top + 1, length = self->fourier.length;
    for (size_t i = 0; i < types; i += 2) {
        double *re = self->data + i * length, *im = re + length;
        for (size_t n = 0; n < points; n++) {
            re[n] = from[n * types + i] * self->tilt[n];
            im[n] = from[n * types + i + 1] * self->tilt[n];
        }
        memset(re + points, 0, (length - points) * sizeof *re);
        memset(im + points, 0, (length - points) * sizeof *im);
        ei_fourier_forward(&self->fourier, re);
    }
    for (size_t k = 0; k <= length / 2; k++) {
        const number *own = self->own + k * types;
        double parts[2 * EI_CONSTANT_TYPES];
        number sum = {0, 0};
        for (size_t i = 0; i < types; i += 2)
            ei_fourier_split(&self->fourier, self->data + i * length, k, parts + 2 * i);
        for (size_t i = 0; i < types; i++) {
            const number value = times(own[i], (number){parts[2 * i], parts[2 * i + 1]});
            sum.re += walk->busy.weight[i] * value.re;
            sum.im += walk->busy.weight[i] * value.im;
        }
        const number idle = times(self->kappa[k], times(self->joint[k], sum));
        for (size_t i = 0; i < types; i++) {
            const double rest = 1 - walk->busy.ratio[i];
            const number value =
                times(own[i], (number){parts[2 * i] + rest * idle.re, parts[2 * i + 1] + rest * idle.im});
            parts[2 * i] = value.re;
            parts[2 * i + 1] = value.im;
        }
        for (size_t i = 0; i < types; i += 2)
            ei_fourier_join(&self->fourier, parts + 2 * i, k, self->data + i * length);
    }
    for (size_t i = 0; i < types; i += 2) {
        double *re = self->data + i * length, *im = re + length;
        ei_fourier_backward(&self->fourier, re);
        for (size_t n = 0; n < points; n++) {
            const double scale = 1 / (self->tilt[n] * (double)length);
            to[n * types + i] = re[n] * scale;
            to[n * types + i + 1] = im[n] * scale;
        }
    }
    memcpy(to + points * types, from + points * types, types * sizeof *to);
}

/* Values that far from where the derivative is taken. */
static void move(newton *self, double factor) {
    ei_constant_walk *walk = self->walk;
    const size_t types = EI_CONSTANT_TYPES, last = self->size - types;
    for (size_t at = 0; at < last; at++)
        walk->type[at] = self->at[at] + factor * self->moved[at] / self->weight[at / types];
    for (size_t i = 0; i < types; i++)
        walk->apart[i] = self->at[last + i] + factor * self->moved[last + i];
}

/* y = (1 - G') of x that has gone round. */
static void product(void *context, const double *x, double *y) {
    newton *self = context;
    const ei_constant_walk *walk = self->walk;
    const size_t types = EI_CONSTANT_TYPES, last = self->size - types;
    double most = 0;
    go_round(self, x, self->moved);
    for (size_t at = 0; at < self->size; at++)
        most = fmax(most, fabs(self->moved[at]));
    const double factor = most > 0 ? NEARBY / most : 1;
    move(self, factor);
    sweep(self->walk);
    self->products++;
    for (size_t at = 0; at < last; at++)
        y[at] = self->moved[at] - (walk->next[at] - self->made[at]) * self->weight[at / types] / factor;
    for (size_t i = 0; i < types; i++)
        y[last + i] = self->moved[last + i] - (walk->by.apart[i] - self->made[last + i]) / factor;
}

/* What is missing, to values that a sweep makes and somewhat further out, into `vector`; its 2-norm. */
static double find_missing(newton *self) {
    const ei_constant_walk *walk = self->walk;
    const size_t types = EI_CONSTANT_TYPES, last = self->size - types;
    const double sign = walk->end == EI_UPPER ? 1 : -1;
    memcpy(self->at, walk->type, last * sizeof *self->at);
    memcpy(self->at + last, walk->apart, sizeof walk->apart);
    memcpy(self->made, walk->next, last * sizeof *self->made);
    memcpy(self->made + last, walk->by.apart, sizeof walk->by.apart);
    for (size_t at = 0; at < self->size; at++) {
        const double weight = at < last ? self->weight[at / types] : 1,
                     share = at < last ? SLACK : APART_SLACK,
                     further = share * fabs(self->made[at]) + NOTHING / weight;
        self->vector[at] = (self->made[at] + sign * further - self->at[at]) * weight;
    }
    return sqrt(ei_dot(self->vector, self->vector, self->size));
}

int ei_constant_walk_solve(ei_constant_walk *self, double work, ei_monitor monitor) {
    newton by;
    int found = 0, status = newton_init(&by, self);
    double first = 0, least = INFINITY;
    const double points = (double)self->grid->top * EI_CONSTANT_TYPES, length = (double)by.fourier.length,
                 each = points * (self->table.decay > 0 ? 8 : 4 + 2 * (double)self->table.cells) +
                        3 * EI_CONSTANT_TYPES * length * log2(length) + 2 * PRODUCTS * points;
    for (int round = 0; round < ROUNDS && status == EI_OK; round++) {
        sweep(self);
        if ((found = is_certain(self)))
            break;
        const double missing = find_missing(&by);
        if (round == 0)
            first = missing;
        least = fmin(least, missing);
        /* How much work there will be if what is missing goes on to fall as it did. */
        if (!isfinite(missing) ||
            (round >= TRIAL && each * (double)by.products * log(first / ENOUGH) > work * log(first / least)))
            break;
        status = ei_gmres(product, &by, by.size, by.vector, PRODUCTS, REDUCTION);
        if (status == EI_OK) {
            go_round(&by, by.vector, by.moved);
            move(&by, 1);
        }
        if (status == EI_OK && ei_stopped(monitor))
            status = EI_ERR_INTERRUPTED;
    }
    newton_free(&by);
    return status == EI_OK && !found ? EI_ERR_ACCURACY : status;
}
