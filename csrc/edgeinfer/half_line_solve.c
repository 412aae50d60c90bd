#include "edgeinfer/half_line.h"

#include "edgeinfer/gmres.h"

#include <stdlib.h>
#include <string.h>

enum { CORRECTIONS = 12, PRODUCTS = 60, INFLATIONS = 18, SAME = 6, SWEEPS = 150, SETTLING = 60 };
static const double LARGE = 1e-4;    /* residual from which on there is no certificate */
static const double FAR = 0.03;      /* residual from which on steps may go astray */
static const double ROUGH = 1e-5;    /* of an equation's residual, while corrections are made */
static const double EXACT = 1e-8;    /* and where the certificate is looked for */
static const double SETTLED = 1e-10; /* residual at which corrections end */
static const double LITTLE = 0.01;   /* share of u that is put on without looking for less */
static const double NOISE = 1e-11;   /* what is put on is no less, for rounding differs from step to step */

/* One real sequence of each phase through a matrix at each frequency. */
static void through(ei_half_line *self, const double *symbol, const double *from, double *to) {
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
    ei_half_line *self = context;
    const size_t count = self->count;
    double *before = self->bent;
    through(self, self->inverse, x, before);
    through(self, self->symbol, before, y);
    for (size_t i = 0; i < self->phases * count; i++)
        y[i] = before[i] - (1 - ei_half_line_chance(self, i / count, i % count)) * y[i];
}

/* G(u) - u under the tilt; the largest of it in the nearer half of the lattice. */
static double residual(const ei_half_line *self, double *vector) {
    const size_t count = self->count, wide = self->all + 1;
    double left = 0;
    for (size_t i = 0; i < self->phases * count; i++) {
        size_t j = i % count, at = i / count * wide + j;
        double change = j >= ei_half_line_first(self) && j + 1 < count ? self->m[at] - self->u[at] : 0;
        vector[i] = change * self->weight[j];
        if (j < count / 2)
            left = fmax(left, fabs(vector[i]));
    }
    return left;
}

/* How far u is on the wrong side of G(u), at least, in each half of the lattice under its slant. */
static void find_wrong(const ei_half_line *self, double wrong[2]) {
    const size_t count = self->count, wide = self->all + 1;
    const double sign = self->end == EI_UPPER ? 1 : -1;
    wrong[0] = NOISE;
    wrong[1] = 0;
    for (size_t i = 0; i < self->phases; i++)
        for (size_t j = ei_half_line_first(self); j + 1 < count; j++) {
            const int far = j >= count / 2;
            wrong[far] =
                fmax(wrong[far], sign * (self->m[i * wide + j] - self->u[i * wide + j]) *
                                     exp(self->slant[far ? self->far : self->near] * (double)j * self->step));
        }
}

/* u + A^{-1} vector, by way of `change`; u is kept in `last`. */
static int take_step(ei_half_line *self, double *vector, double *change, double tolerance) {
    const size_t count = self->count, wide = self->all + 1, size = self->phases * count;
    for (size_t i = 0; i < size; i++)
        vector[i] = i % count < self->first || i % count >= self->free ? 0 : vector[i];
    int status = ei_gmres(product, self, size, vector, PRODUCTS, tolerance);
    if (status != EI_OK)
        return status;
    through(self, self->inverse, vector, change);
    for (size_t i = 0; i < size; i++) {
        size_t j = i % count, at = i / count * wide + j;
        if (j < ei_half_line_first(self) || j + 1 == count)
            continue;
        self->last[at] = self->u[at];
        self->u[at] =
            j >= self->first && j < self->free ? self->u[at] + change[i] / self->weight[j] : self->m[at];
    }
    return EI_OK;
}

/* Steps from far may leave holes in a lower end, which `flatten` would carry on to the right. */
static void fill_holes(ei_half_line *self) {
    for (size_t i = 0; i < self->phases && self->end == EI_LOWER; i++) {
        double *u = self->u + i * (self->all + 1), least = 0;
        for (size_t j = self->count - 1; j-- > 0;)
            u[j] = least = fmin(fmax(u[j], least), 1);
    }
}

/* Corrects u until little is left in the nearer half; wrong: of find_wrong. */
static int correct(ei_half_line *self, double *vector, double *left, double wrong[2], ei_monitor monitor) {
    const size_t count = self->count, wide = self->all + 1, size = self->phases * count;
    double last = INFINITY, last_wrong[2] = {INFINITY, INFINITY};
    int status = EI_OK;
    for (int round = 0; status == EI_OK;
         round++, last = *left, last_wrong[0] = wrong[0], last_wrong[1] = wrong[1]) {
        ei_half_line_apply(self);
        *left = residual(self, vector);
        find_wrong(self, wrong);
        if (round > 1 && !(*left < last)) {
            for (size_t i = 0; i < self->phases; i++)
                memcpy(self->u + i * wide + ei_half_line_first(self),
                       self->last + i * wide + ei_half_line_first(self),
                       (count - 1 - ei_half_line_first(self)) * sizeof *self->u);
            *left = last;
            wrong[0] = last_wrong[0];
            wrong[1] = last_wrong[1];
            break;
        }
        if (*left <= SETTLED || round == CORRECTIONS)
            break;
        status = take_step(self, vector, vector + size, ROUGH);
        if (*left > FAR)
            fill_holes(self);
        if (status == EI_OK && ei_stopped(monitor))
            status = EI_ERR_INTERRUPTED;
    }
    return status;
}

/* Steps of G where corrections go to and fro before u is near enough: under the tilt they make what is left
 * smaller. */
static int settle(ei_half_line *self, double *vector, double *left, double wrong[2], ei_monitor monitor) {
    const size_t wide = self->all + 1, first = ei_half_line_first(self);
    double last = INFINITY;
    for (int round = 0; round < SETTLING && wrong[0] > ROUGH; round++) {
        if (round % 10 == 0 && !(wrong[0] < last / 2))
            break;
        last = round % 10 == 0 ? wrong[0] : last;
        for (size_t i = 0; i < self->phases; i++)
            memcpy(self->u + i * wide + first, self->m + i * wide + first,
                   (self->count - 1 - first) * sizeof *self->u);
        ei_half_line_apply(self);
        *left = residual(self, vector);
        find_wrong(self, wrong);
        if (ei_stopped(monitor))
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
}

/* What is put on at point j. */
static double put_on(const ei_half_line *self, const double wrong[2], size_t j, double near, double far) {
    const double time = (double)j * self->step;
    return wrong[0] * near * exp(-self->slant[self->near] * time) +
           wrong[1] * far * exp(-self->slant[self->far] * time);
}

/* The largest share of u that what is put on is, in the nearer half of the lattice. */
static double share_put_on(const ei_half_line *self, const double *kept) {
    double share = 0;
    for (size_t i = 0; i < self->phases; i++)
        for (size_t j = ei_half_line_first(self), at; j < self->count / 2; j++) {
            at = i * (self->all + 1) + j;
            share = fmax(share, fabs(self->u[at] - kept[at]) / kept[at]);
        }
    return share;
}

/* Whether u moved outwards, by what G takes something off and at most that share, is what it must be; u stays
 * where not. */
static int inflate(ei_half_line *self, double *kept, const double wrong[2], double most) {
    const size_t count = self->count, wide = self->all + 1, size = self->phases * wide;
    const double sign = self->end == EI_UPPER ? 1 : -1;
    int holds = 0;
    memcpy(kept, self->u, size * sizeof *kept);
    for (double more = 1.5; more < 100 && !holds; more *= 4) {
        for (size_t i = 0; i < self->phases; i++)
            for (size_t j = ei_half_line_first(self); j + 1 < count; j++)
                self->u[i * wide + j] =
                    kept[i * wide + j] +
                    sign * more *
                        put_on(self, wrong, j, self->super[self->near][i], self->super[self->far][i]);
        if (share_put_on(self, kept) > most)
            break;
        ei_half_line_apply(self);
        holds = 1;
        for (size_t i = 0; i < self->phases; i++)
            for (size_t j = ei_half_line_first(self); j + 1 < count && holds; j++)
                holds = sign * (self->u[i * wide + j] - self->m[i * wide + j]) >= 0;
    }
    if (!holds)
        memcpy(self->u, kept, size * sizeof *kept);
    return holds;
}

/* Corrects u towards G(u) and something more, outwards, until the check holds. */
static int certify(ei_half_line *self, double *vector, const double wrong[2], ei_monitor monitor) {
    const size_t count = self->count, wide = self->all + 1, size = self->phases * count;
    const double sign = self->end == EI_UPPER ? 1 : -1;
    double more = 1.5;
    for (int round = 0; round < INFLATIONS; round++) {
        int holds = 1;
        /* Bends may make whole steps go to and fro, and where Chernoff's bound ends may move a little at
         * each. */
        double share = round % 3 == 2 ? 0.5 : 1;
        self->whole = round >= SAME;
        ei_half_line_apply(self);
        for (size_t i = 0; i < size; i++) {
            size_t j = i % count, at = i / count * wide + j;
            int inside = j >= ei_half_line_first(self) && j + 1 < count;
            double slack = sign * more * put_on(self, wrong, j, 1, 1);
            vector[i] = inside ? share * (self->m[at] + slack - self->u[at]) * self->weight[j] : 0;
            holds &= !inside || sign * (self->u[at] - self->m[at]) >= 0;
        }
        if (holds)
            return EI_OK;
        int status = take_step(self, vector, vector + size, EXACT);
        if (status == EI_OK && ei_stopped(monitor))
            status = EI_ERR_INTERRUPTED;
        if (status != EI_OK)
            return status;
        if (round % SAME == SAME - 1)
            more *= 100;
    }
    return EI_ERR_ACCURACY;
}

/* G once and again, from Chernoff's bound or 0, where there is no certificate: each is a bound. */
static int sweep(ei_half_line *self, ei_monitor monitor) {
    const size_t wide = self->all + 1;
    for (size_t i = 0; i < self->phases; i++)
        for (size_t j = ei_half_line_first(self); j + 1 < self->count; j++)
            self->u[i * wide + j] =
                self->end == EI_UPPER
                    ? exp(fmin(self->start[i] - self->decay * (double)(j - 1) * self->step, 0))
                    : 0;
    for (int round = 0; round < SWEEPS; round++) {
        ei_half_line_apply(self);
        for (size_t i = 0; i < self->phases; i++)
            memcpy(self->u + i * wide + ei_half_line_first(self),
                   self->m + i * wide + ei_half_line_first(self),
                   (self->count - 1 - ei_half_line_first(self)) * sizeof *self->u);
        if (ei_stopped(monitor))
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
}

int ei_half_line_solve(ei_half_line *self, ei_monitor monitor) {
    double left = 0, wrong[2],
           *vector = malloc(2 * self->phases * (self->count + self->all + 1) * sizeof *vector);
    int status = vector == NULL ? EI_ERR_NO_MEMORY : correct(self, vector, &left, wrong, monitor);
    if (status == EI_OK && wrong[0] > LITTLE) {
        ei_half_line_apply(self);
        status = settle(self, vector, &left, wrong, monitor);
    }
    if (status == EI_OK && !(left <= LARGE))
        status = EI_ERR_ACCURACY;
    int holds = status == EI_OK && inflate(self, vector, wrong, INFINITY);
    static const int tried[][2] = {{1, 3}, {1, 4}, {2, 0}};
    for (size_t e = 0; e < sizeof tried / sizeof *tried && status == EI_OK && !holds; e++) {
        self->near = tried[e][0];
        self->far = tried[e][1];
        ei_half_line_apply(self);
        find_wrong(self, wrong);
        holds = inflate(self, vector, wrong, tried[e][1] > 0 ? LITTLE : INFINITY);
    }
    if (status == EI_OK && !holds)
        status = certify(self, vector, wrong, monitor);
    free(vector);
    return status == EI_ERR_ACCURACY ? sweep(self, monitor) : status;
}
