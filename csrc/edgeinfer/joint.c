#include "edgeinfer/joint.h"

#include "edgeinfer/bound.h"
#include "edgeinfer/joint_laws.h"
#include "edgeinfer/multiversion.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BOUNDS = 8,    /* exponents of the bound beyond the lattice */
    JOBS = 600,    /* of the first busy period that are followed one by one at most */
    SERIES = 6000, /* terms of what is left of it */
    REPEATS = 400, /* sweeps, where one is not enough */
    FEWEST = 10,   /* of them that there is always work for */
    GRADES = 4,    /* lattices that are tried, finer and finer */
    BLOCK = 16,    /* values that are summed at once */
    CHUNK = 128    /* and that have the same terms */
};
static const size_t WAIT_POINTS[] = {160, 512}; /* cells of a first wait's law over a service */
static const double APART = 12;                 /* interarrival times that are taken out at most */
static const double CLASS = 1.25;               /* ratio of the longest to the shortest deadline of a class */
static const double BEYOND[] = {1e-6, 1e-7};  /* of the latest deadline's bound: what a lattice leaves out */
static const double SETTLED[] = {1e-3, 1e-4}; /* relative change of a sweep, for each effort */
static const double EARLY = 1e-4;             /* relative share of paths of few jobs */
static const double LEFT[] = {2e-2, 2e-3};    /* relative share of busy periods that are left to Chernoff */
static const double MGF_ERROR = 1e-5;         /* of the logarithm */
static const double ROUNDING = 1e-8;
static const double NEGLIGIBLE = 0.06;   /* steps: a difference of the constant stages that is rounded */
static const double COARSEST = 1.9;      /* steps in the faster constant stage */
static const double WORK[] = {8e8, 3e9}; /* multiply-adds of one end, for each effort */
static const double SMALLEST = 1e-18;    /* probabilities below are of no interest */

/* One exponent's bound beyond the lattice: see joint.h. */
typedef struct {
    double theta, a[EI_JOINT_TYPES], b[EI_JOINT_TYPES], idle_a, idle_b;
    double moment, drift; /* m, D */
    double *left;         /* [JOBS + 1]: the constant of all j > J; all: that of all j */
    double all;
} bound;

typedef struct {
    const ei_batch *batch;
    ei_end end;
    double d1, d3, coarse, fine; /* s: the stages, the steps of U and of c */
    ptrdiff_t ratio, drift;      /* coarse / fine; d / fine */
    ptrdiff_t first, low, top;   /* coarse: the first point of X; fine: rows of c */
    size_t types, width, rows, pad;
    int sweeps;             /* at most */
    size_t apart;           /* interarrival times that are taken out of Y */
    double least, earliest; /* of a service's tail; s: the first deadline of the class */
    ei_joint_service service;
    ei_joint_law law;
    ei_joint_busy busy;
    ei_joint_idle idle;
    bound bounds[BOUNDS];
    size_t bound_count;
    double *block; /* owns what follows */
    double *type[EI_JOINT_TYPES], *mix, *sum, *idle_value, *later,
        *endless;                  /* T_i, F = sum w T, R, H, B, B without end: [rows][width] */
    double *ones, *found, *around; /* [width]; [rows]; longer */
} joint;

/* What is asked of one deadline, at both ends. */
typedef struct {
    size_t at;
    double deadline, late[2], rising[2], falling[2]; /* P(X_0 > z) or P(few jobs > T), A, B */
    ei_joint_law law;
    double *value; /* P(Y > y), X_0 <= z, on rows of c */
} target;

static ptrdiff_t floor_div(ptrdiff_t a, ptrdiff_t b) {
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

/* Y where nothing waits but the jobs whose interarrival times are taken out, and c = d3. */
static double nearest(const joint *self) {
    return (double)(self->apart + 1) * self->d1 + 2 * self->d3;
}

static double *row(const joint *self, double *array, ptrdiff_t c) {
    return c < self->low ? self->ones : array + (size_t)(c - self->low) * self->width;
}

/* ---- beyond the lattice */

static int bound_init(joint *self, bound *one, double theta, int *valid) {
    const ei_joint_busy *busy = &self->busy;
    const ei_joint_idle *idle = &self->idle;
    double rate = self->batch->arrival_rate, log_moment;
    *valid = 0;
    one->theta = theta;
    int status = ei_service_log_mgf(self->batch->pipeline->random, theta, &log_moment, NULL);
    if (status != EI_OK || !isfinite(log_moment))
        return status;
    double fine = self->coarse / EI_JOINT_FINE, spread = theta * self->coarse;
    one->moment = exp(log_moment + MGF_ERROR + theta * (fine - self->d3) + spread * spread / 8);
    one->drift = exp(-theta * (double)self->drift * self->fine);
    double step = exp(-theta * self->fine), wait = exp(theta * self->d1) * rate / (rate + theta);
    double rests = idle->mass[0] + step * (idle->mass[1] + step * idle->mass[2]) +
                   idle->rest * step * step * step / (1 - idle->decay * step);
    double m = one->moment, fall = one->drift, once = 0, again = 0;
    if (!(wait < 1) || !(wait * m * fall < 1) || !(wait * fall < 1))
        return EI_OK;
    for (size_t i = 0; i < busy->count; i++) {
        double rest = 1 - busy->ratio[i] * m * fall;
        if (!(rest > 0) || !(busy->ratio[i] * fall < 1))
            return EI_OK;
        once += busy->weight[i] * m / rest;
        again += busy->weight[i] * m * (1 - busy->ratio[i]) / rest;
    }
    if (!(fall * rests * again < 1))
        return EI_OK;
    one->idle_a = fall * rests * once / (1 - fall * rests * again);
    once = again = 0;
    for (size_t i = 0; i < busy->count; i++) {
        double s = busy->ratio[i], rest = 1 - s * fall;
        one->a[i] = m * (1 + (1 - s) * one->idle_a) / (1 - s * m * fall);
        once += busy->weight[i] * ((1 - s) * one->idle_a + s * fall * one->a[i]) / rest;
        again += busy->weight[i] * (1 - s) / rest;
    }
    if (!(fall * rests * again < 1))
        return EI_OK;
    one->idle_b = fall * rests * once / (1 - fall * rests * again);
    for (size_t i = 0; i < busy->count; i++) {
        double s = busy->ratio[i];
        one->b[i] = ((1 - s) * (one->idle_a + one->idle_b) + s * fall * one->a[i]) / (1 - s * fall);
    }
    *valid = 1;
    return EI_OK;
}

/* a and b where one more job comes first. */
static void follow_bound(const bound *one, double *a, double *b) {
    double next = one->moment * (1 + one->drift * *a);
    *b = one->drift * (*a + *b);
    *a = next;
}

/* What busy periods of more than J jobs are worth at c = d3, for all J. */
static void bound_series(const joint *self, bound *one, int *valid) {
    double rate = self->batch->arrival_rate, theta = one->theta;
    double wait = exp(theta * self->d1) * rate / (rate + theta);
    double grid = self->d1 / (double)WAIT_POINTS[self->batch->effort] + self->fine;
    double scale = (1 - rate * self->d1) * exp(theta * grid);
    double a = one->moment * (1 + one->idle_a), b = one->idle_a + one->idle_b, term = 0;
    double *left = one->left, rest = 0, slowest = fmax(wait, wait * one->drift * fmax(one->moment, 1));
    memset(left, 0, (JOBS + 1) * sizeof *left);
    one->all = 0;
    for (size_t i = 0; i + 1 < self->apart; i++)
        follow_bound(one, &a, &b);
    for (size_t j = 0; j < SERIES; j++) {
        follow_bound(one, &a, &b);
        term = scale * (a + b);
        scale *= wait;
        one->all += term;
        if (j <= JOBS)
            left[j] = term;
        else
            rest += term;
        if (term < 1e-25 * one->all)
            break;
    }
    /* Terms fall at last with the largest of three ratios, below one by enough. */
    *valid = term < 1e-6 * (1 - slowest) * one->all;
    rest += 10 * term / (1 - slowest);
    one->all += rest;
    for (size_t j = JOBS + 1; j-- > 0;) {
        term = left[j];
        left[j] = rest;
        rest += term;
    }
}

static int choose_bounds(joint *self) {
    static const double shares[BOUNDS] = {0.35, 0.45, 0.55, 0.65, 0.8, 0.9, 0.95, 0.985};
    double low = 0, high = 1 / self->d3;
    int status, valid, closed = 0;
    bound *one = &self->bounds[0];
    for (int i = 0; i < 40; i++) {
        double middle = closed ? low + (high - low) / 2 : high;
        if ((status = bound_init(self, one, middle, &valid)) != EI_OK)
            return status;
        if (valid)
            low = middle;
        if (valid && !closed) {
            high *= 2;
        } else if (!valid) {
            high = middle;
            closed = 1;
        }
    }
    for (size_t e = 0; e < BOUNDS; e++) {
        double *left = self->bounds[self->bound_count].left;
        one = &self->bounds[self->bound_count];
        if ((status = bound_init(self, one, shares[e] * low, &valid)) != EI_OK)
            return status;
        one->left = left;
        if (valid)
            bound_series(self, one, &valid);
        self->bound_count += (size_t)valid;
    }
    return self->bound_count > 0 ? EI_OK : EI_ERR_UNSTABLE;
}

static double steepest(const joint *self) {
    return self->bounds[self->bound_count - 1].theta;
}

/* min over e of constant_e e^{-theta_e time}, without end for none. */
static double least_left(const joint *self, size_t jobs, int integrated, double time) {
    double least = INFINITY;
    for (size_t e = 0; e < self->bound_count; e++) {
        const bound *one = &self->bounds[e];
        double constant = jobs == SIZE_MAX ? one->all : one->left[jobs];
        least = fmin(least, constant * exp(-one->theta * time) / (integrated ? one->theta : 1));
    }
    return least;
}

/* Bounds at a row: of T_i for i < types, and, i = types, of F, i = types + 1, of R; lower ends: 0. */
static void bound_row(const joint *self, size_t i, ptrdiff_t c, double *values) {
    if (self->end == EI_LOWER) {
        memset(values, 0, self->width * sizeof *values);
        return;
    }
    double weights = 0, most = 1;
    for (size_t k = 0; k < self->types; k++)
        weights += self->busy.weight[k];
    if (i >= self->types)
        most = i == self->types ? weights : weights / (1 - self->idle.decay);
    for (size_t u = 0; u < self->width; u++)
        values[u] = most;
    for (size_t e = 0; e < self->bound_count; e++) {
        const bound *one = &self->bounds[e];
        double a = 0, b = 0;
        for (size_t k = 0; k < self->types; k++) {
            double weight = i < self->types ? k == i : self->busy.weight[k];
            a += weight * one->a[k];
            b += weight * one->b[k];
        }
        double scale = exp(-one->theta * (double)c * self->fine), grow = exp(one->theta * self->coarse);
        if (i > self->types)
            scale /= 1 - self->idle.decay * exp(-one->theta * self->fine);
        for (size_t u = 0; u < self->width; u++, a *= grow)
            values[u] = fmin(values[u], scale * (a + b) * (1 + ROUNDING));
    }
}

/* ---- one job */

/* Four values at any address. */
typedef double quad __attribute__((vector_size(32), aligned(8), may_alias));

/* values[u] += sum over i < terms of mass[i] given[u + i], for blocks of u, the last one in full, whose sums
 * stay in registers: left to itself the compiler makes vectors along i, three times slower. */
EI_MULTIVERSION static void add_products(const double *restrict mass, size_t terms,
                                         const double *restrict given, size_t count,
                                         double *restrict values) {
    enum { QUADS = BLOCK / 4 };
    for (size_t u = 0; u < count; u += BLOCK) {
        quad sum[QUADS];
        for (size_t k = 0; k < QUADS; k++)
            sum[k] = *(const quad *)(values + u + 4 * k);
        for (size_t i = 0; i < terms; i++) {
            const quad each = {mass[i], mass[i], mass[i], mass[i]};
            for (size_t k = 0; k < QUADS; k++)
                sum[k] += each * *(const quad *)(given + u + i + 4 * k);
        }
        for (size_t k = 0; k < QUADS; k++)
            *(quad *)(values + u + 4 * k) = sum[k];
    }
}

/* values[u] += mass sum over i of decay^i given[u + i], u < count, in fours whose last may be beyond; given
 * ends in zeros, from `length` on. */
EI_MULTIVERSION static void add_geometric(double mass, double decay, const double *restrict given,
                                          size_t count, size_t length, double *restrict values) {
    const double square = decay * decay, fourth = square * square;
    quad sum = {0, 0, 0, 0};
    for (size_t u = (length + 3) / 4 * 4; u > 0;) {
        u -= 4;
        const double *at = given + u;
        sum = *(const quad *)at + decay * *(const quad *)(at + 1) +
              square * (*(const quad *)(at + 2) + decay * *(const quad *)(at + 3)) + fourth * sum;
        if (u < count)
            *(quad *)(values + u) += mass * sum;
    }
}

/* P(X > what is left) for u = 0 .. count - 1, and what ends at u' = 0. */
static void begin_job(const joint *self, const ei_joint_law *law, ptrdiff_t reach, double nothing,
                      size_t count, double *values) {
    ptrdiff_t last = (ptrdiff_t)law->count - 1, end = reach - self->first;
    const ptrdiff_t none = (reach < 0 ? reach : -1) - self->first, all = (ptrdiff_t)count;
    const ptrdiff_t far = end - last < 0 ? 0 : end - last < all ? end - last : all;
    const ptrdiff_t near = end + 1 < 0 ? 0 : end + 1 < all ? end + 1 : all;
    for (ptrdiff_t u = 0; u < far; u++)
        values[u] = law->tail[last];
    for (ptrdiff_t u = far; u < near; u++)
        values[u] = law->tail[end - u];
    for (ptrdiff_t u = near; u < all; u++)
        values[u] = law->upto[last] + law->tail[last];
    for (ptrdiff_t u = 0; u < all && u <= none; u++)
        values[u] += law->upto[none - u < last ? none - u : last] * nothing;
}

/* What a job is given, for u' from 0 on, stands here before pass_job. */
static double *given_place(const joint *self) {
    return self->around - self->first;
}

/* P(U' > c) + E [given(u'); U' <= c] for u = 0 .. count - 1, u' = (U' - d3)^+; given[] up to c. In whole
 * blocks. */
static void pass_job(const joint *self, const ei_joint_law *law, ptrdiff_t c, size_t count, double *values) {
    ptrdiff_t reach = floor_div(c, self->ratio), last = (ptrdiff_t)law->count - 1, first = self->first;
    count = (count + BLOCK - 1) / BLOCK * BLOCK;
    begin_job(self, law, reach, given_place(self)[0], count, values);
    if (reach < 0)
        return;
    /* given[u'] stands at u' - first, zeros around it. */
    double *around = self->around;
    const size_t length = (size_t)(reach - first) + 1;
    const ptrdiff_t terms = law->decay > 0 ? (ptrdiff_t)law->regular : last + 1;
    memset(around + length, 0, 2 * CHUNK * sizeof *around);
    for (size_t u = 0; u < count; u += CHUNK) {
        ptrdiff_t from = -first - (ptrdiff_t)(u + CHUNK) + 1, to = reach - first - (ptrdiff_t)u + 1;
        size_t some = count - u < CHUNK ? count - u : CHUNK;
        from = from > 0 ? from : 0;
        to = to < terms ? to : terms;
        if (from < to)
            add_products(law->mass + from, (size_t)(to - from), around + u + (size_t)from, some, values + u);
    }
    /* Masses from `regular` on. */
    if (law->decay > 0 && law->regular < length)
        add_geometric(law->mass[law->regular], law->decay, around + law->regular, count,
                      length - law->regular, values);
}

/* Values of u that a row needs: all that may be left of U where c has fallen to it. */
static size_t row_count(const joint *self, ptrdiff_t c) {
    ptrdiff_t most = floor_div(c + (self->drift < 0 ? -self->drift : 0), self->ratio);
    return most > 0 ? (size_t)most + 1 : 1;
}

static size_t given_count(const joint *self, ptrdiff_t c) {
    ptrdiff_t reach = floor_div(c, self->ratio);
    return reach > 0 ? (size_t)reach + 1 : 1;
}

/* H at c, from F and R. */
static void end_busy_period(const joint *self, ptrdiff_t c) {
    const ei_joint_idle *idle = &self->idle;
    const double *at[3], *rest = row(self, self->sum, c + self->drift + 3);
    double *value = row(self, self->idle_value, c);
    for (ptrdiff_t i = 0; i < 3; i++)
        at[i] = row(self, self->mix, c + self->drift + i);
    for (size_t u = 0, count = given_count(self, c); u < count; u++)
        value[u] = idle->mass[0] * at[0][u] + idle->mass[1] * at[1][u] + idle->mass[2] * at[2][u] +
                   idle->rest * rest[u];
}

/* T_i at c; returns the largest relative change at u = 0. */
static double update_row(const joint *self, ptrdiff_t c) {
    const double *idle = row(self, self->idle_value, c);
    double change = 0, *given = given_place(self);
    for (size_t i = 0; i < self->types; i++) {
        double s = self->busy.ratio[i];
        const double *same = row(self, self->type[i], c + self->drift);
        double *values = row(self, self->type[i], c), old = values[0];
        for (size_t u = 0, count = given_count(self, c); u < count; u++)
            given[u] = (1 - s) * idle[u] + s * same[u];
        pass_job(self, &self->law, c, row_count(self, c), values);
        change = fmax(change, fabs(values[0] - old) / fmax(values[0], DBL_MIN));
    }
    return change;
}

/* F and R at c. */
static void mix_row(const joint *self, ptrdiff_t c) {
    double *mix = row(self, self->mix, c), *sum = row(self, self->sum, c);
    const double *above = row(self, self->sum, c + 1);
    const size_t count = row_count(self, c);
    memset(mix, 0, count * sizeof *mix);
    for (size_t i = 0; i < self->types; i++) {
        const double weight = self->busy.weight[i], *values = row(self, self->type[i], c);
        for (size_t u = 0; u < count; u++)
            mix[u] += weight * values[u];
    }
    for (size_t u = 0; u < count; u++)
        sum[u] = mix[u] + self->idle.decay * above[u];
}

static int sweep_down(const joint *self) {
    for (ptrdiff_t c = self->top; c >= self->low; c--) {
        for (int repeat = 0; repeat < (self->drift > 0 ? 1 : self->sweeps); repeat++) {
            end_busy_period(self, c);
            double change = update_row(self, c);
            mix_row(self, c);
            if (change < SETTLED[self->batch->effort])
                break;
        }
        if (c % 8 == 0 && ei_stopped(self->batch->monitor))
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
}

static int sweep_repeatedly(const joint *self) {
    double change = 1;
    for (int repeat = 0; repeat < self->sweeps && change > SETTLED[self->batch->effort]; repeat++) {
        for (ptrdiff_t c = self->top; c >= self->low; c--)
            mix_row(self, c);
        change = 0;
        for (ptrdiff_t c = self->low; c <= self->top; c++) {
            if (c + self->drift >= self->low)
                end_busy_period(self, c);
            change = fmax(change, update_row(self, c));
            if (c % 8 == 0 && ei_stopped(self->batch->monitor))
                return EI_ERR_INTERRUPTED;
        }
    }
    for (ptrdiff_t c = self->top; c >= self->low; c--) {
        mix_row(self, c);
        if (c + self->drift >= self->low)
            end_busy_period(self, c);
    }
    return EI_OK;
}

static int solve(const joint *self) {
    for (ptrdiff_t c = self->low; c <= self->top + (ptrdiff_t)self->pad; c++) {
        if (c <= self->top && self->drift > 0)
            continue;
        for (size_t i = 0; i < self->types; i++)
            bound_row(self, i, c, row(self, self->type[i], c));
        bound_row(self, self->types, c, row(self, self->mix, c));
        bound_row(self, self->types + 1, c, row(self, self->sum, c));
    }
    return self->drift < 0 ? sweep_repeatedly(self) : sweep_down(self);
}

/* ---- the first busy period */

/* B at j jobs from that at j - 1 (H for j = 0), in its place. */
static void follow_job(const joint *self, size_t j) {
    int upwards = self->drift > 0;
    for (ptrdiff_t i = 0; i <= self->top - self->low; i++) {
        ptrdiff_t c = upwards ? self->low + i : self->top - i;
        const double *before =
            j == 0 ? row(self, self->idle_value, c) : row(self, self->later, c + self->drift);
        memcpy(given_place(self), before, given_count(self, c) * sizeof *before);
        pass_job(self, &self->law, c, row_count(self, c), row(self, self->later, c));
    }
}

/* B beyond the top after j jobs: a, b of each exponent, taken one job on. */
static void bound_later(const joint *self, double a[BOUNDS], double b[BOUNDS], size_t j) {
    for (size_t e = 0; e < self->bound_count; e++) {
        const bound *one = &self->bounds[e];
        double next = one->moment * (1 + (j == 0 ? one->idle_a : one->drift * a[e]));
        b[e] = j == 0 ? one->idle_a + one->idle_b : one->drift * (a[e] + b[e]);
        a[e] = next;
    }
    for (ptrdiff_t c = self->top + 1; c <= self->top + self->drift; c++) {
        double *values = row(self, self->later, c);
        for (size_t u = 0; u < self->width; u++)
            values[u] = self->end == EI_UPPER;
        for (size_t e = 0; e < self->bound_count && self->end == EI_UPPER; e++) {
            double theta = self->bounds[e].theta,
                   scale = exp(-theta * (double)c * self->fine) * (1 + ROUNDING);
            double grow = exp(theta * self->coarse), value = a[e];
            for (size_t u = 0; u < self->width; u++, value *= grow)
                values[u] = fmin(values[u], scale * (value + b[e]));
        }
    }
}

static ptrdiff_t row_of(const joint *self, double deadline) {
    return (ptrdiff_t)floor((deadline - nearest(self)) / self->fine);
}

/* B where the first busy period never ends: it falls with d > 0 only. */
static void solve_endless(const joint *self) {
    for (ptrdiff_t c = self->top + self->drift; c >= self->low; c--) {
        double *values = row(self, self->endless, c);
        if (self->drift > 0 && c <= self->top) {
            memcpy(given_place(self), row(self, self->endless, c + self->drift),
                   given_count(self, c) * sizeof *values);
            pass_job(self, &self->law, c, row_count(self, c), values);
            continue;
        }
        for (size_t u = 0; u < self->width; u++)
            values[u] = 1;
        for (size_t e = 0; e < self->bound_count && self->drift > 0; e++) {
            const bound *one = &self->bounds[e];
            double a = one->moment / (1 - one->moment * one->drift), b = one->drift * a / (1 - one->drift);
            double scale = exp(-one->theta * (double)c * self->fine) * (1 + ROUNDING);
            double grow = exp(one->theta * self->coarse);
            for (size_t u = 0; u < self->width && one->moment * one->drift < 1; u++, a *= grow)
                values[u] = fmin(values[u], scale * (a + b));
        }
    }
}

/* P(U_0 > c or B after it) for X_0 <= z from an array B, at found[top - c], so that sums over waits are
 * products. */
static void first_job(const joint *self, const target *one, double *later) {
    double values[BLOCK] = {0};
    for (ptrdiff_t c = self->low; c <= self->top; c++) {
        const double *given = row(self, later, c + self->drift);
        memcpy(given_place(self), given, given_count(self, c) * sizeof *given);
        pass_job(self, &one->law, c, 1, values);
        self->found[self->top - c] = values[0];
    }
}

/* What first_job found, for waits of the masses given, at c. *inside: sum of the first *counted of them. */
static double over_waits(const joint *self, const target *one, const double *masses, size_t count, double sum,
                         ptrdiff_t c, size_t *counted, double *inside) {
    const ei_joint_law *law = &one->law;
    size_t within = (size_t)(c - self->low + 1);
    within = within < count ? within : count;
    for (; *counted < within; ++*counted)
        *inside += masses[*counted];
    double beyond = within < count ? fmax(sum - *inside, 0) : 0;
    return ei_dot(masses, self->found + (self->top - c), within) +
           beyond * (law->upto[law->count - 1] + law->tail[law->count - 1]);
}

static void add_jobs(const joint *self, target *one, const double *masses, size_t count) {
    double sum = 0, inside = 0;
    size_t counted = 0;
    for (size_t x = 0; x < count; x++)
        sum += masses[x];
    for (ptrdiff_t c = row_of(self, self->apart > 1 ? self->earliest : one->deadline); c <= self->top; c++)
        one->value[c - self->low] += over_waits(self, one, masses, count, sum, c, &counted, &inside);
}

/* Erlang's law of `count` times Exp(rate) in all: *density at x / rate over the rate, and the survival
 * function there. */
static double erlang(size_t count, double x, double *density) {
    double term = exp(-x), sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += term;
        *density = term;
        term *= x / (double)(i + 1);
    }
    return sum;
}

/* A and B of one end: int |f'| S over the times where Erlang's density f rises and where it falls, by parts;
 * left: what is to be added to S(T). */
static void finish(const joint *self, target *one, double left) {
    const double rate = self->batch->arrival_rate, h = self->fine;
    const double most = (double)(self->apart - 1); /* rate times the place of f's largest value */
    ptrdiff_t from = row_of(self, one->deadline);
    double loss = left, rising = 0, falling = 0, peak = 0, unused = 0,
           at_peak = erlang(self->apart, most, &peak);
    if (self->end == EI_UPPER)
        loss += least_left(self, SIZE_MAX, 1, (double)self->top * h);
    double before = 0;
    for (ptrdiff_t c = self->top; c >= from; c--) {
        double x = rate * ((double)c * h + nearest(self) - one->deadline), next = x + rate * h;
        double value = one->value[c - self->low];
        if (c == self->top)
            before = erlang(self->apart, next, &unused);
        double after = before;
        before = c > from ? erlang(self->apart, x, &unused) : 1;
        loss += value * fmax(next - fmax(x, most), 0) / rate;
        double split = fmin(fmax(at_peak, after), before);
        falling += value * (split - after);
        rising += value * (before - split);
    }
    one->rising[self->end] = rate * peak * loss + rising;
    one->falling[self->end] = rate * peak * loss - falling;
}

/* Masses of the waits with more jobs before them than have been followed: all waits less those, whose tails
 * at the rows' steps are given. */
static void masses_left(const joint *self, const double *all, const double *followed, size_t count,
                        double *masses) {
    double before = 0;
    if (self->end == EI_UPPER) {
        /* Those between two points at the later one. */
        for (size_t k = count; k-- > 0;) {
            double tail = fmax((all[k] - followed[k]) * (1 + ROUNDING) + 1e-12 * all[k], before);
            masses[k + 1 < count ? k + 1 : k] = tail - before + (k + 1 < count ? 0 : before);
            if (k + 1 == count)
                masses[k] = tail;
            before = tail;
        }
        return;
    }
    for (size_t k = 0; k < count; k++) {
        double tail = fmax((all[k] - followed[k]) * (1 - ROUNDING) - 1e-12 * all[k], 0);
        before = k == 0 ? tail : fmin(before, tail);
        masses[k] = before;
    }
    for (size_t k = 0; k + 1 < count; k++)
        masses[k] -= masses[k + 1];
}

/* What waits of the masses given make of an array B, summed over the rows from the deadline's on. */
static double add_up(const joint *self, const target *one, double *later, const double *masses) {
    double sum = 0, inside = 0, total = 0;
    size_t counted = 0;
    for (size_t x = 0; x < self->rows; x++)
        sum += masses[x];
    first_job(self, one, later);
    for (ptrdiff_t c = row_of(self, one->deadline); c <= self->top; c++)
        total += over_waits(self, one, masses, self->rows, sum, c, &counted, &inside);
    return total;
}

/* Whether what longer first busy periods may add to an upper end is small: for d > 0 they are no worse than
 * one without end, otherwise Chernoff's bound tells. */
static int is_small(const joint *self, const target *one, const double *masses, size_t j) {
    double found = 0, left = least_left(self, j, 1, one->deadline - nearest(self)) / self->fine;
    for (ptrdiff_t c = row_of(self, one->deadline); c <= self->top; c++)
        found += one->value[c - self->low];
    if (self->drift > 0 && left > LEFT[self->batch->effort] * found)
        left = add_up(self, one, self->endless, masses) - add_up(self, one, self->later, masses);
    return left <= LEFT[self->batch->effort] * found;
}

/* Tails of all waits at the rows' steps. */
static int all_waits(const joint *self, double *tails) {
    ei_md1 law;
    int status =
        ei_md1_init(&law, self->batch->arrival_rate, self->d1, (double)self->rows * self->fine + self->d1);
    for (size_t k = 0; k < self->rows && status == EI_OK; k++)
        tails[k] = ei_md1_waiting_sf(&law, (double)k * self->fine);
    ei_md1_free(&law);
    return status;
}

/* jobs: how many of its jobs are followed; found for an upper end, kept for the lower one. */
static int first_busy_period(const joint *self, target *targets, size_t count, size_t *jobs) {
    double a[BOUNDS] = {0}, b[BOUNDS] = {0}, rate = self->batch->arrival_rate;
    ei_joint_wait wait = {.rate = rate};
    size_t most = self->end == EI_LOWER ? *jobs : (size_t)fmin(JOBS, 600 / (rate * self->d1));
    size_t rows = self->rows;
    double *masses = calloc(3 * rows, sizeof *masses), *all = masses + rows, *followed = all + rows;
    int settled = 0, status = masses == NULL ? EI_ERR_NO_MEMORY : all_waits(self, all);
    double end = (double)(rows - 1) * self->fine,
           beyond = masses == NULL ? 0 : all[rows - 1] * (1 + ROUNDING);
    if (status == EI_OK)
        status = ei_joint_wait_init(&wait, rate, self->d1, WAIT_POINTS[self->batch->effort], end, beyond);
    /* Waits that are longer than the lattice. */
    for (size_t i = 0; i < count && self->end == EI_UPPER && status == EI_OK; i++)
        for (size_t c = 0; c < rows; c++)
            targets[i].value[c] = beyond;
    if (status == EI_OK)
        solve_endless(self);
    for (size_t k = 0; status == EI_OK && k + 1 < self->apart + most + 1 && !settled; k++) {
        follow_job(self, k);
        bound_later(self, a, b, k);
        if (ei_stopped(self->batch->monitor))
            status = EI_ERR_INTERRUPTED;
        if (k + 1 < self->apart)
            continue;
        const size_t j = k + 1 - self->apart;
        if (j > 1)
            ei_joint_wait_advance(&wait);
        size_t points = j == 0 ? 1 : (size_t)((double)j * self->d1 / self->fine) + 2;
        points = points < rows ? points : rows;
        masses[0] = 1 - rate * self->d1;
        if (j > 0 && (status = ei_joint_wait_masses(&wait, self->end, self->fine, points, masses)) != EI_OK)
            break;
        if (j > 0)
            ei_joint_wait_add_tails(&wait, self->end == EI_UPPER ? EI_LOWER : EI_UPPER, self->fine, rows,
                                    followed);
        for (size_t i = 0; i < (self->apart > 1 ? 1 : count); i++) {
            first_job(self, &targets[i], self->later);
            add_jobs(self, &targets[i], masses, points);
        }
        if (j < most && (j % 8 != 7 || self->end == EI_LOWER))
            continue;
        masses_left(self, all, followed, rows, masses);
        settled = self->end == EI_LOWER || is_small(self, &targets[0], masses, j);
        *jobs = j;
    }
    /* With more interarrival times taken out than one, job 0 is the same for all targets. */
    for (size_t i = 1; i < count && self->apart > 1; i++)
        memcpy(targets[i].value, targets[0].value, rows * sizeof(double));
    for (size_t i = 0; i < count && status == EI_OK; i++) {
        double *later = self->end == EI_UPPER ? self->endless : self->later, left = 0;
        if (self->end == EI_UPPER)
            left = least_left(self, *jobs, 1, targets[i].deadline - nearest(self));
        /* Without end, or by Chernoff: what is less. */
        if (self->end == EI_LOWER || add_up(self, &targets[i], later, masses) * self->fine < left) {
            first_job(self, &targets[i], later);
            add_jobs(self, &targets[i], masses, rows);
            left = 0;
        }
        finish(self, &targets[i], left);
    }
    free(masses);
    ei_joint_wait_free(&wait);
    return status;
}

/* ---- lattices */

/* About `points` steps of U over the faster stage: steps and stages of one end. *possible: whether its loads
 * are below one. */
static void choose_steps(joint *self, double points, int *possible) {
    const ei_shape *pipeline = self->batch->pipeline;
    double d1 = pipeline->d1, d3 = pipeline->d3, wanted = fmin(d1, d3) / points, fine = wanted;
    double gap = fabs(d1 - d3), whole = 0;
    if (gap < wanted * NEGLIGIBLE) {
        d1 = d3 = self->end == EI_UPPER ? fmax(d1, d3) : fmin(d1, d3);
    } else {
        whole = fmax(round(gap / wanted), 1);
        fine = gap / whole;
    }
    self->d1 = d1;
    self->d3 = d3;
    self->fine = fine;
    self->drift = (ptrdiff_t)(d1 > d3 ? whole : -whole);
    self->ratio = (ptrdiff_t)fmax(round(wanted / fine), 1);
    self->coarse = (double)self->ratio * fine;
    *possible = self->batch->arrival_rate * d1 < 1 && self->batch->arrival_rate * self->fine < 0.5;
}

static void joint_free(joint *self) {
    for (size_t e = 0; e < BOUNDS; e++)
        free(self->bounds[e].left);
    free(self->block);
    ei_joint_law_free(&self->law);
    ei_joint_service_free(&self->service);
}

static int reserve(joint *self) {
    ptrdiff_t back = self->drift < 0 ? -self->drift : 0;
    self->pad = (size_t)(self->drift > 0 ? self->drift : 0) + 3;
    self->low = self->first * self->ratio - back;
    self->rows = (size_t)(self->top - self->low) + self->pad + 1;
    self->width =
        ((size_t)((self->top + (ptrdiff_t)self->pad + back) / self->ratio) + 2 + BLOCK - 1) / BLOCK * BLOCK;
    size_t array = self->rows * self->width, arrays = self->types + 5;
    size_t around = self->width + (size_t)-self->first + 2 * CHUNK;
    self->block = calloc(arrays * array + self->width + self->rows + around, sizeof(double));
    if (self->block == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t i = 0; i < self->types; i++)
        self->type[i] = self->block + i * array;
    self->mix = self->block + self->types * array;
    self->sum = self->mix + array;
    self->idle_value = self->sum + array;
    self->later = self->idle_value + array;
    self->endless = self->later + array;
    self->ones = self->endless + array;
    self->found = self->ones + self->width;
    self->around = self->found + self->rows;
    for (size_t u = 0; u < self->width; u++)
        self->ones[u] = 1;
    return EI_OK;
}

/* Multiply-adds of one job, of one component of the mixture. */
static double pass_work(const joint *self) {
    double width = (double)self->width,
           length = self->law.decay > 0 ? (double)self->law.regular + 30 : (double)self->law.count;
    return (double)self->rows * width / 2 * fmin(length, width) * 0.7;
}

/* Multiply-adds of one end, roughly. */
static double work_of(const joint *self) {
    double load = self->batch->arrival_rate * self->d1;
    double sweeps = self->drift > 0 ? 1 : FEWEST, jobs = fmin(20 / (load - 1 - log(load)), JOBS);
    return pass_work(self) * ((double)self->types * sweeps + jobs);
}

/* Sweeps that may be done, where one is not enough; each gives an end. */
static int most_sweeps(const joint *self) {
    double most = WORK[self->batch->effort] / (pass_work(self) * (double)self->types);
    return (int)fmin(fmax(most, FEWEST), REPEATS);
}

/* For deadlines up to `latest`. *possible: whether this end exists and is not too much work. */
static int joint_init(joint *self, double points, double latest, int *possible) {
    double rate = self->batch->arrival_rate;
    int status;
    choose_steps(self, points, possible);
    if (!*possible)
        return EI_OK;
    for (size_t e = 0; e < BOUNDS; e++)
        if ((self->bounds[e].left = malloc((JOBS + 1) * sizeof(double))) == NULL)
            return EI_ERR_NO_MEMORY;
    self->types = self->batch->effort == EI_EFFORT_TIGHT ? 6 : 4;
    self->first = -(ptrdiff_t)ceil(self->d3 / self->coarse) - 1;
    self->idle = ei_joint_idle_law(rate, self->fine, self->end);
    *possible = 0;
    status = ei_joint_busy_init(&self->busy, rate * self->d1, self->types, self->end);
    if (status != EI_OK || (status = choose_bounds(self)) != EI_OK)
        return status == EI_ERR_ACCURACY || status == EI_ERR_UNSTABLE ? EI_OK : status;
    double rest = fmax(latest - nearest(self), 0);
    double top = rest + (double)self->apart / rate,
           most = BEYOND[self->batch->effort] * least_left(self, SIZE_MAX, 0, rest);
    while (least_left(self, SIZE_MAX, 0, top) > most)
        top += 0.2 / steepest(self);
    self->top = (ptrdiff_t)ceil(top / self->fine);
    if ((double)self->top * (double)self->top / (double)self->ratio > 4e6)
        return EI_OK;
    size_t steps = (size_t)(self->top / self->ratio - self->first) + 2;
    double start = self->d3 + (double)self->first * self->coarse;
    if ((status = ei_joint_service_init(&self->service, self->batch->pipeline->random, start, self->coarse,
                                        steps, self->end)) != EI_OK ||
        (status = ei_joint_law_init(&self->law, &self->service, SIZE_MAX, self->least)) != EI_OK ||
        (status = reserve(self)) != EI_OK)
        return status;
    self->sweeps = most_sweeps(self);
    *possible = work_of(self) < WORK[self->batch->effort];
    return EI_OK;
}

/* log P(some path of fewer than `apart` jobs is longer than the deadline) or more, whatever their arrivals:
 * such paths are no longer than d1 + d3 and `apart` times max(X, dm). */
static double log_early(const ei_batch *batch, size_t apart, double deadline) {
    const ei_shape *pipeline = batch->pipeline;
    double dm = fmax(pipeline->d1, pipeline->d3), least = 0, moment;
    for (double theta = 0.25 / dm; theta < 64 / dm; theta *= 1.5) {
        if (ei_service_log_mgf(pipeline->random, theta, &moment, NULL) != EI_OK || !isfinite(moment))
            break;
        double one = fmax(moment, theta * dm) + log1p(exp(-fabs(moment - theta * dm))) + MGF_ERROR;
        least = fmin(least, (double)apart * one - theta * (deadline - pipeline->d1 - pipeline->d3));
    }
    return least;
}

/* How many interarrival times are taken out: about as many as arrive in a decay time, for the most accurate
 * result, while paths of fewer jobs are of no account for the deadlines of the class. And what is of no
 * account of a service's tail. */
static int choose_apart(const ei_batch *batch, double latest, joint *self) {
    const ei_shape *pipeline = batch->pipeline;
    const ei_service stages[] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = fmax(pipeline->d1, pipeline->d3)},
                                 *pipeline->random};
    double decay, unit = pipeline->d1 + pipeline->d3, earliest = latest / CLASS * (1 - 1e-9);
    int status = ei_decay_rate(stages, 2, &batch->arrival, &decay);
    self->apart = 1;
    self->earliest = earliest;
    if (status != EI_OK)
        return status;
    double wanted = fmin(1.5 * batch->arrival_rate / decay, APART);
    while ((double)self->apart < wanted && (double)(self->apart + 3) * unit < earliest &&
           log_early(batch, self->apart + 1, earliest) < log(EARLY) - decay * (earliest - unit))
        ++self->apart;
    self->least = fmax(1e-23, BEYOND[batch->effort] * EARLY * exp(-decay * (latest - unit)));
    return EI_OK;
}

/* What paths of few jobs are worth, and the law of X_0: for one, P(X_0 > z) and the law up to z, a fine point
 * at or after T - d1 - d3. */
static int prepare(const joint *self, target *one) {
    double fine = self->coarse / EI_JOINT_FINE;
    double place = (one->deadline - self->d1 - self->d3 - self->service.start) / fine;
    size_t below = (size_t)fmax(floor(place * (1 - 1e-14)), 0),
           above = (size_t)fmax(ceil(place * (1 + 1e-14)), 0);
    one->value = calloc(self->rows, sizeof *one->value);
    if (one->value == NULL)
        return EI_ERR_NO_MEMORY;
    if (self->apart > 1) {
        one->late[self->end] =
            self->end == EI_UPPER ? exp(log_early(self->batch, self->apart, one->deadline)) : 0;
        return ei_joint_law_init(&one->law, &self->service, SIZE_MAX, self->least);
    }
    if (above >= self->service.count)
        above = below = self->service.count - 1;
    one->late[self->end] = self->service.sf[self->end == EI_UPPER ? below : above];
    return ei_joint_law_init(&one->law, &self->service, above, self->least);
}

/* One end of the targets. *possible: whether it was found. */
static int one_end(const ei_batch *batch, ei_end end, double points, double latest, target *targets,
                   size_t count, size_t *jobs, int *possible) {
    joint self = {.batch = batch, .end = end};
    int status = choose_apart(batch, latest, &self);
    if (status == EI_OK)
        status = joint_init(&self, points, latest, possible);
    for (size_t i = 0; i < count && status == EI_OK && *possible; i++)
        status = prepare(&self, &targets[i]);
    if (status == EI_OK && *possible && (status = solve(&self)) == EI_OK)
        status = first_busy_period(&self, targets, count, jobs);
    for (size_t i = 0; i < count; i++) {
        ei_joint_law_free(&targets[i].law);
        free(targets[i].value);
        targets[i].value = NULL;
    }
    joint_free(&self);
    return status;
}

/* The deadlines of one class, the first of them its latest. *ratio: of its ends there; *possible: whether
 * finer lattices may follow. */
static int refine(const ei_batch *batch, double points, target *targets, size_t count, double *ratio,
                  int *possible) {
    size_t jobs = 0;
    double latest = targets[0].deadline;
    int status = one_end(batch, EI_UPPER, points, latest, targets, count, &jobs, possible);
    if (status == EI_OK && *possible)
        status = one_end(batch, EI_LOWER, points, latest, targets, count, &jobs, possible);
    for (size_t i = 0; i < count && status == EI_OK && *possible; i++) {
        const target *one = &targets[i];
        double low = one->late[EI_LOWER] + one->rising[EI_LOWER] - one->falling[EI_UPPER];
        double high = one->late[EI_UPPER] + one->rising[EI_UPPER] - one->falling[EI_LOWER];
        double error = ROUNDING * (one->late[EI_UPPER] + one->rising[EI_UPPER]);
        low -= error;
        high += error;
        if (i == 0) {
            *ratio = low > 0 ? high / low : INFINITY;
            continue;
        }
        ei_raise_lower(batch, one->at, low, EI_BRACKET_JOINT);
        ei_cut_upper(batch, one->at, high, EI_BRACKET_JOINT);
    }
    return status;
}

/* Lattices of one class, finer and finer: the ends' ratio less one falls with the square of the step. Where
 * the first one is too much work, a coarser one. */
static int class_ends(const ei_batch *self, target *targets, size_t count, double enough) {
    double points = self->effort == EI_EFFORT_TIGHT ? 5 : 3, ratio = INFINITY;
    int possible = 0, status = EI_OK;
    for (; points >= COARSEST && !possible && status == EI_OK; points /= 1.5)
        status = refine(self, points, targets, count, &ratio, &possible);
    points *= 1.5;
    for (int grade = 1; grade < GRADES && possible && ratio > enough && status == EI_OK; grade++) {
        points *= fmin(fmax(1.1 * sqrt((ratio - 1) / (enough - 1)), 1.4), 2.5);
        status = refine(self, points, targets, count, &ratio, &possible);
    }
    return status;
}

int ei_joint_ends(const ei_batch *self, double enough) {
    const ei_shape *pipeline = self->pipeline;
    target *targets = calloc(self->count + 1, sizeof *targets);
    int *grades = malloc((self->count + 1) * sizeof *grades);
    int status = targets == NULL || grades == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    double unit = pipeline->d1 + pipeline->d3;
    for (size_t i = 0; i < self->count && status == EI_OK; i++) {
        size_t at = self->index[i];
        double rest = self->deadline[at] - pipeline->constant;
        int sought = isfinite(rest) && rest > 2 * unit && self->upper[at] > SMALLEST &&
                     self->upper[at] > enough * self->lower[at];
        grades[i] = sought ? (int)ceil(log(rest / unit) / log(CLASS)) : -1;
    }
    for (size_t i = 0; i < self->count && status == EI_OK; i++) {
        size_t count = 1;
        int grade = grades[i];
        if (grade < 0)
            continue;
        /* What decides on the lattices is the same whatever deadlines are asked for. */
        targets[0] = (target){.deadline = unit * pow(CLASS, grade)};
        for (size_t k = i; k < self->count; k++) {
            if (grades[k] != grade)
                continue;
            grades[k] = -1;
            targets[count++] = (target){.at = self->index[k],
                                        .deadline = self->deadline[self->index[k]] - pipeline->constant};
        }
        status = class_ends(self, targets, count, enough);
    }
    free(targets);
    free(grades);
    return status;
}
