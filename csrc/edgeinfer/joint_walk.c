#include "edgeinfer/joint_walk.h"

#include "edgeinfer/multiversion.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    WINDOW = 20,  /* jobs that a window of rows is below the last one at light load */
    OVERLAP = 2,  /* windows that a row is in */
    INNER = 2,    /* sweeps of a window before the next one */
    UNCUT = 1000, /* and of the walk whose U is never cut, whose values are compared at some places */
    PROBES = 8
};
static const double SETTLED[] = {1e-3, 5e-4}; /* relative change of a sweep, for each effort */
static const double UNCUT_SETTLED = 3e-4;     /* and of that walk's */
static const double NO_BOUND = 1e300;
static const double ENDLESS = 0.9; /* of the steepest exponent: one for busy periods without end */

static ptrdiff_t floor_div(ptrdiff_t a, ptrdiff_t b) {
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

/* Y where nothing waits but the jobs whose interarrival times are taken out, and c = d3. */
double ei_joint_nearest(const ei_joint *self) {
    return (double)(self->apart + 1) * self->d1 + 2 * self->d3;
}

double *ei_joint_row(const ei_joint *self, double *array, ptrdiff_t c) {
    return c < self->low ? self->ones : array + (size_t)(c - self->low) * self->width;
}

/* As ei_joint_row, of T_i, F and R. */
static double *kept_row(const ei_joint *self, double *array, ptrdiff_t c) {
    return c < self->low ? self->ones : array + (size_t)(c - self->low) % self->kept * self->width;
}

/* ---- beyond the lattice */

double ei_joint_short_share(const ei_joint_service *brief, double theta) {
    const double fine = brief->step / (double)brief->fine, step = exp(theta * fine);
    double sum = 0, power = 1;
    for (size_t k = 1; k <= brief->fine; k++, power *= step)
        sum += power * brief->sf[k];
    return 1 - exp(-theta * brief->step) * (1 + (step - 1) * sum) * (1 - EI_JOINT_ROUNDING);
}

/* brief: X up to d3, from below. */
static int bound_init(const ei_joint *self, const ei_joint_service *brief, ei_joint_bound *one, double theta,
                      int *valid) {
    const ei_joint_busy *busy = &self->busy;
    const ei_joint_idle *idle = &self->idle;
    double log_moment;
    *valid = 0;
    one->theta = theta;
    int status = ei_service_log_mgf(self->batch->pipeline->random, theta, &log_moment, NULL);
    if (status != EI_OK || !isfinite(log_moment))
        return status;
    double fine = self->coarse / EI_JOINT_FINE, spread = theta * self->coarse;
    one->moment = exp(log_moment + EI_SERVICE_MGF_ERROR + theta * (fine - self->d3) + spread * spread / 8);
    one->drift = exp(-theta * (double)self->drift * self->fine);
    double step = exp(-theta * self->fine);
    double rests = idle->mass[0] + step * (idle->mass[1] + step * idle->mass[2]) +
                   idle->rest * step * step * step / (1 - idle->decay * step);
    const double m = one->moment, fall = one->drift;
    double all = 0, once = 0, again = 0;
    for (size_t i = 0; i < busy->count; i++) {
        const double s = busy->ratio[i], rest = 1 - s * m * fall;
        if (!(rest > 0) || !(s * fall < 1))
            return EI_OK;
        one->a[i] = m * (1 - s) / rest;
        all += busy->weight[i] * one->a[i];
        again += busy->weight[i] * (1 - s) / (1 - s * fall);
    }
    if (!(fall * rests * all < 1) || !(fall * rests * again < 1))
        return EI_OK;
    /* Newton's steps for the least A, to which some components are in proportion, others 1 / D. */
    double before = 0;
    for (one->idle_a = 1; one->idle_a > before * (1 + 1e-14);) {
        double least = 0, slope = 0;
        before = one->idle_a;
        for (size_t i = 0; i < busy->count; i++) {
            const int more = one->a[i] * before >= 1 / fall;
            least += more ? 0 : busy->weight[i] / fall;
            slope += more ? busy->weight[i] * one->a[i] : 0;
        }
        one->idle_a = fmax(before, fall * rests * least / (1 - fall * rests * slope));
    }
    /* d3 may be between two points of X's lattice. */
    one->share = ei_joint_short_share(brief, theta) + theta * self->coarse / 4;
    for (size_t i = 0; i < busy->count; i++) {
        const double s = busy->ratio[i];
        one->a[i] = fmax(one->a[i] * one->idle_a, 1 / fall);
        once +=
            busy->weight[i] * one->share * ((1 - s) * one->idle_a + s * fall * one->a[i]) / (1 - s * fall);
    }
    one->idle_b = fall * rests * once / (1 - fall * rests * again);
    for (size_t i = 0; i < busy->count; i++) {
        const double s = busy->ratio[i];
        one->b[i] = (one->share * ((1 - s) * one->idle_a + s * fall * one->a[i]) + (1 - s) * one->idle_b) /
                    (1 - s * fall);
    }
    /* A busy period without end. */
    const int endless = fall < 1 && m * fall < 1;
    one->a[busy->count] = endless ? 1 / fall : NO_BOUND;
    one->b[busy->count] = endless ? one->share / (1 - fall) : NO_BOUND;
    *valid = 1;
    return EI_OK;
}

void ei_joint_follow_bound(const ei_joint_bound *one, double *a, double *b) {
    const double given = fmax(one->drift * *a, 1);
    *a = one->moment * given;
    *b = one->share * given + one->drift * *b;
}

/* E e^{theta Q} over the jobs before one more. */
static double wait_of(const ei_joint *self, double theta) {
    const double rate = self->batch->arrival_rate;
    return exp(theta * self->d1) * rate / (rate + theta);
}

/* Whether what busy periods of more than J jobs are worth has a sum. */
static int has_series(const ei_joint *self, const ei_joint_bound *one) {
    const double wait = wait_of(self, one->theta);
    return wait < 1 && wait * one->moment * one->drift < 1 && wait * one->drift < 1;
}

/* What all first busy periods are worth at c = d3. */
static void bound_series(const ei_joint *self, ei_joint_bound *one) {
    double rate = self->batch->arrival_rate, theta = one->theta, cell = self->d1 / (double)self->wait_cells;
    /* A trapezoid's sums over cells are larger by (1 + x^2 / 12) than the integrals, x^2 / 12 > (x / 2) coth
     * (x / 2) - 1. */
    double more = 1 + pow((rate + theta) * cell, 2) / 12, wait = wait_of(self, theta) * more;
    double scale = (1 - rate * self->d1) * exp(theta * (cell + self->coarse)) * more * more;
    double a = one->moment * one->idle_a, b = one->share * one->idle_a + one->idle_b;
    for (size_t i = 0; i + 1 < self->apart; i++)
        ei_joint_follow_bound(one, &a, &b);
    /* Sums over j of wait^j and a, b of one job more each: max(D a, 1) is at most its first value times (m
     * D)^j, and 1 if m D < 1. */
    const double m = one->moment, fall = one->drift;
    const double given = fmax(fall * a, 1) / (1 - wait * m * fall) + (m * fall < 1 ? wait / (1 - wait) : 0);
    const double sum_a = m * given, sum_b = (one->share * given + fall * b) / (1 - wait * fall);
    one->all = fmax(wait, wait * fall * fmax(m, 1)) < 1 ? scale * (sum_a + sum_b) : INFINITY;
}

/* The largest exponent, nearly, that serves, with the first wait or without. Status: of the service's
 * moments. */
static int find_steepest(const ei_joint *self, const ei_joint_service *brief, int with_wait, double *low) {
    double high = 1 / self->d3;
    int status, valid, closed = 0;
    ei_joint_bound one;
    *low = 0;
    for (int i = 0; i < 40; i++) {
        double middle = closed ? *low + (high - *low) / 2 : high;
        if ((status = bound_init(self, brief, &one, middle, &valid)) != EI_OK)
            return status;
        valid = valid && (!with_wait || has_series(self, &one));
        if (valid)
            *low = middle;
        if (valid && !closed) {
            high *= 2;
        } else if (!valid) {
            high = middle;
            closed = 1;
        }
    }
    return EI_OK;
}

int ei_joint_choose_bounds(ei_joint *self) {
    static const double shares[] = {0.45, 0.6, 0.75, 0.87, 0.95, 0.985};
    enum { SHARES = sizeof shares / sizeof *shares };
    _Static_assert(2 * SHARES == EI_JOINT_BOUNDS, "each share, with the first wait and without");
    double most[2];
    int served = 0;
    ei_joint_service brief;
    int status = ei_joint_service_init(&brief, self->batch->pipeline->random, 0, self->d3, 1, 1, EI_LOWER);
    for (int with_wait = 0; with_wait < 2 && status == EI_OK; with_wait++)
        status = find_steepest(self, &brief, with_wait, &most[with_wait]);
    for (size_t e = 0; e < EI_JOINT_BOUNDS && status == EI_OK; e++) {
        ei_joint_bound *one = &self->bounds[self->bound_count];
        int valid;
        status = bound_init(self, &brief, one, shares[e % SHARES] * most[e < SHARES], &valid);
        if (status != EI_OK)
            break;
        one->all = INFINITY;
        if (valid && has_series(self, one))
            bound_series(self, one);
        served += valid && isfinite(one->all);
        self->bound_count += (size_t)valid;
    }
    ei_joint_service_free(&brief);
    return status == EI_OK && served == 0 ? EI_ERR_UNSTABLE : status;
}

double ei_joint_steepest(const ei_joint *self) {
    double steepest = 0;
    for (size_t e = 0; e < self->bound_count; e++)
        if (isfinite(self->bounds[e].all))
            steepest = fmax(steepest, self->bounds[e].theta);
    return steepest;
}

void ei_joint_add_endless(ei_joint *self) {
    const double enough = ENDLESS * ei_joint_steepest(self);
    int bounded = 0;
    for (size_t e = 0; e < self->bound_count; e++)
        bounded |= self->bounds[e].theta >= enough && self->bounds[e].a[self->types] < NO_BOUND;
    if (!bounded)
        return;
    self->busy.ratio[self->types] = 1;
    self->busy.weight[self->types] = 0;
    self->slowest = self->types++;
}

double ei_joint_bound_at(const ei_joint *self, const double *constants, double time) {
    double least = INFINITY;
    for (size_t e = 0; e < self->bound_count; e++)
        least = fmin(least, constants[e] * exp(-self->bounds[e].theta * time));
    return least * (1 + EI_JOINT_ROUNDING);
}

double ei_joint_least_beyond(const ei_joint *self, double time) {
    double least = INFINITY;
    for (size_t e = 0; e < self->bound_count; e++) {
        const ei_joint_bound *one = &self->bounds[e];
        double constant = one->idle_a + one->idle_b;
        for (size_t i = 0; i < self->types; i++)
            constant += self->busy.weight[i] / (1 - self->busy.ratio[i]) * (one->a[i] + one->b[i]);
        least = fmin(least, constant * exp(-one->theta * time));
    }
    return least;
}

/* min over e of constant_e e^{-theta_e time}, without end for none. */
double ei_joint_least_left(const ei_joint *self, int integrated, double time) {
    double least = INFINITY;
    for (size_t e = 0; e < self->bound_count; e++) {
        const ei_joint_bound *one = &self->bounds[e];
        least = fmin(least, one->all * exp(-one->theta * time) / (integrated ? one->theta : 1));
    }
    return least;
}

/* ---- one job */

/* Four and eight values at any address. */
typedef double quad __attribute__((vector_size(32), aligned(8), may_alias));
typedef double octet __attribute__((vector_size(64), aligned(8), may_alias));

/* values[u] += sum over i < terms of mass[i] given[u + i], for blocks of u, the last one in full, whose sums
 * stay in registers, of two blocks where there are two, as additions wait for one another: left to itself the
 * compiler makes vectors along i, far slower. */
EI_MULTIVERSION static void add_products(const double *restrict mass, size_t terms,
                                         const double *restrict given, size_t count,
                                         double *restrict values) {
    enum { OCTETS = EI_JOINT_BLOCK / 8 };
    size_t u = 0;
    for (; u + EI_JOINT_BLOCK < count; u += 2 * EI_JOINT_BLOCK) {
        octet sum[2 * OCTETS];
        for (size_t k = 0; k < 2 * OCTETS; k++)
            sum[k] = *(const octet *)(values + u + 8 * k);
        for (size_t i = 0; i < terms; i++)
            for (size_t k = 0; k < 2 * OCTETS; k++)
                sum[k] += mass[i] * *(const octet *)(given + u + i + 8 * k);
        for (size_t k = 0; k < 2 * OCTETS; k++)
            *(octet *)(values + u + 8 * k) = sum[k];
    }
    if (u >= count)
        return;
    octet sum[OCTETS];
    for (size_t k = 0; k < OCTETS; k++)
        sum[k] = *(const octet *)(values + u + 8 * k);
    for (size_t i = 0; i < terms; i++)
        for (size_t k = 0; k < OCTETS; k++)
            sum[k] += mass[i] * *(const octet *)(given + u + i + 8 * k);
    for (size_t k = 0; k < OCTETS; k++)
        *(octet *)(values + u + 8 * k) = sum[k];
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

/* to += weight from. */
EI_MULTIVERSION static void add_scaled(double weight, const double *restrict from, size_t count,
                                       double *restrict to) {
    for (size_t u = 0; u < count; u++)
        to[u] += weight * from[u];
}

/* (1 - s) idle + s same. */
EI_MULTIVERSION static void blend(double s, const double *restrict idle, const double *restrict same,
                                  size_t count, double *restrict given) {
    for (size_t u = 0; u < count; u++)
        given[u] = (1 - s) * idle[u] + s * same[u];
}

/* P(U' > c) for u = 0 .. count - 1, in `late`, and P(U' <= d3), in `ended`: whatever the job is given. */
static void begin_job(const ei_joint *self, const ei_joint_law *law, ptrdiff_t first, ptrdiff_t reach,
                      size_t count) {
    const ptrdiff_t last = (ptrdiff_t)law->count - 1, end = reach - first;
    const ptrdiff_t none = (reach < 0 ? reach : -1) - first, all = (ptrdiff_t)count;
    const ptrdiff_t far = end - last < 0 ? 0 : end - last < all ? end - last : all;
    const ptrdiff_t near = end + 1 < 0 ? 0 : end + 1 < all ? end + 1 : all;
    const ptrdiff_t some = none + 1 < 0 ? 0 : none + 1 < all ? none + 1 : all;
    double *late = self->late, *ended = self->ended;
    for (ptrdiff_t u = 0; u < far; u++)
        late[u] = law->tail[last];
    for (ptrdiff_t u = far; u < near; u++)
        late[u] = law->tail[end - u];
    for (ptrdiff_t u = near; u < all; u++)
        late[u] = law->upto[last] + law->tail[last];
    for (ptrdiff_t u = 0; u < some; u++)
        ended[u] = law->upto[none - u < last ? none - u : last];
    for (ptrdiff_t u = some; u < all; u++)
        ended[u] = 0;
}

/* What a job is given, for u' from 0 on, stands here before pass_job. */
double *ei_joint_given(const ei_joint *self, ptrdiff_t first) {
    return self->around - first;
}

size_t ei_joint_blocks(size_t count) {
    return (count + EI_JOINT_BLOCK - 1) / EI_JOINT_BLOCK * EI_JOINT_BLOCK;
}

/* ei_joint_pass_job after begin_job, of whole blocks. */
static void pass_given(const ei_joint *self, const ei_joint_law *law, ptrdiff_t first, ptrdiff_t reach,
                       size_t count, double *restrict values) {
    const double nothing = self->around[-first];
    for (size_t u = 0; u < count; u++)
        values[u] = self->late[u] + self->ended[u] * nothing;
    if (reach < 0)
        return;
    /* given[u'] stands at u' - first, zeros around it. */
    double *around = self->around;
    memset(around, 0, (size_t)-first * sizeof *around);
    const size_t length = (size_t)(reach - first) + 1;
    const ptrdiff_t terms = (ptrdiff_t)(law->decay > 0 ? law->regular : law->count);
    memset(around + length, 0, (EI_JOINT_CHUNK + EI_JOINT_BLOCK) * sizeof *around);
    for (size_t u = 0; u < count; u += EI_JOINT_CHUNK) {
        ptrdiff_t from = -first - (ptrdiff_t)(u + EI_JOINT_CHUNK) + 1, to = reach - first - (ptrdiff_t)u + 1;
        size_t some = count - u < EI_JOINT_CHUNK ? count - u : EI_JOINT_CHUNK;
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

void ei_joint_pass_job(const ei_joint *self, const ei_joint_law *law, ptrdiff_t first, ptrdiff_t reach,
                       size_t count, double *values) {
    count = ei_joint_blocks(count);
    begin_job(self, law, first, reach, count);
    pass_given(self, law, first, reach, count, values);
}

/* Values of u that a row needs: all that may be left of U where c has fallen to it. */
size_t ei_joint_row_count(const ei_joint *self, ptrdiff_t c) {
    ptrdiff_t most = floor_div(c + (self->drift < 0 ? -self->drift : 0), self->ratio);
    return most > 0 ? (size_t)most + 1 : 1;
}

size_t ei_joint_given_count(const ei_joint *self, ptrdiff_t c) {
    ptrdiff_t reach = floor_div(c, self->ratio);
    return reach > 0 ? (size_t)reach + 1 : 1;
}

/* H at c, from F and R. */
static void end_busy_period(const ei_joint *self, ptrdiff_t c) {
    const ei_joint_idle *idle = &self->idle;
    const double *at[3], *rest = kept_row(self, self->sum, c + self->drift + 3);
    double *value = ei_joint_row(self, self->idle_value, c);
    for (ptrdiff_t i = 0; i < 3; i++)
        at[i] = kept_row(self, self->mix, c + self->drift + i);
    for (size_t u = 0, count = ei_joint_given_count(self, c); u < count; u++)
        value[u] = idle->mass[0] * at[0][u] + idle->mass[1] * at[1][u] + idle->mass[2] * at[2][u] +
                   idle->rest * rest[u];
}

/* T_i at c; returns the largest relative change at u = 0. */
static double update_row(const ei_joint *self, ptrdiff_t c) {
    const double *idle = ei_joint_row(self, self->idle_value, c);
    double change = 0, *given = ei_joint_given(self, self->first);
    const ptrdiff_t reach = floor_div(c, self->ratio);
    const size_t found = ei_joint_given_count(self, c), count = ei_joint_blocks(ei_joint_row_count(self, c));
    begin_job(self, &self->laws[0], self->first, reach, count);
    for (size_t i = 0; i < self->types; i++) {
        double *values = kept_row(self, self->type[i], c), old = values[0];
        blend(self->busy.ratio[i], idle, kept_row(self, self->type[i], c + self->drift), found, given);
        pass_given(self, &self->laws[0], self->first, reach, count, values);
        change = fmax(change, fabs(values[0] - old) / fmax(values[0], DBL_MIN));
    }
    return change;
}

/* F and R at c. */
static void mix_row(const ei_joint *self, ptrdiff_t c) {
    double *restrict mix = kept_row(self, self->mix, c), *restrict sum = kept_row(self, self->sum, c);
    const double *restrict above = kept_row(self, self->sum, c + 1);
    const size_t count = ei_joint_row_count(self, c);
    memset(mix, 0, count * sizeof *mix);
    for (size_t i = 0; i < self->types; i++)
        add_scaled(self->busy.weight[i], kept_row(self, self->type[i], c), count, mix);
    for (size_t u = 0; u < count; u++)
        sum[u] = mix[u] + self->idle.decay * above[u];
}

/* ---- the walk whose U is never cut */

double *ei_joint_uncut(const ei_joint *self, size_t i, ptrdiff_t v) {
    const ptrdiff_t whole = floor_div(v, self->ratio);
    return self->uncut[i] + (v - whole * self->ratio) * (ptrdiff_t)self->phase +
           ((ptrdiff_t)self->above + self->deepest - whole);
}

/* Of t_i for i < types, and, i = types, of F, i = types + 1, of R: the constants a, or a + b, and at most. */
static double constants_of(const ei_joint *self, size_t i, int with_b, double *constants) {
    const int is_sum = i > self->types;
    double most = 0;
    memset(constants, 0, EI_JOINT_BOUNDS * sizeof *constants);
    for (size_t k = 0; k < self->types; k++) {
        const double weight = i < self->types ? k == i : self->busy.weight[k];
        most += weight;
        for (size_t e = 0; e < self->bound_count; e++)
            constants[e] += weight * (self->bounds[e].a[k] + with_b * self->bounds[e].b[k]);
    }
    for (size_t e = 0; e < self->bound_count && is_sum; e++)
        constants[e] /= 1 - self->idle.decay * exp(-self->bounds[e].theta * self->fine);
    return is_sum ? most / (1 - self->idle.decay) : most;
}

/* t_i, before the sweeps: its bound, or 0. */
static void begin_uncut(const ei_joint *self) {
    const ptrdiff_t count = self->deepest + (ptrdiff_t)self->above + 1;
    double constants[EI_JOINT_BOUNDS];
    for (size_t i = 0; i < self->types && self->end == EI_UPPER; i++) {
        constants_of(self, i, 0, constants);
        for (ptrdiff_t v = self->first * self->ratio; v < count * self->ratio; v++)
            *ei_joint_uncut(self, i, v) =
                v < 0 ? 1 : fmin(1, ei_joint_bound_at(self, constants, (double)v * self->fine));
    }
}

/* F, R and H of t_i. */
static void sum_uncut(const ei_joint *self) {
    const ei_joint_idle *idle = &self->idle;
    const size_t mix = self->types, sum = mix + 1, ended = mix + 2;
    const ptrdiff_t high = (self->deepest + (ptrdiff_t)self->above + 1) * self->ratio;
    double constants[EI_JOINT_BOUNDS], value = 0;
    memset(self->uncut[mix], 0, (size_t)self->ratio * self->phase * sizeof(double));
    for (size_t i = 0; i < self->types; i++)
        add_scaled(self->busy.weight[i], self->uncut[i], (size_t)self->ratio * self->phase, self->uncut[mix]);
    if (self->end == EI_UPPER) {
        value = constants_of(self, sum, 0, constants);
        value = fmin(value, ei_joint_bound_at(self, constants, (double)high * self->fine));
    }
    for (ptrdiff_t v = high - 1; v >= self->first * self->ratio; v--)
        *ei_joint_uncut(self, sum, v) = value = *ei_joint_uncut(self, mix, v) + idle->decay * value;
    for (ptrdiff_t v = (self->deepest + 1) * self->ratio - 1; v >= 0; v--) {
        double *at = ei_joint_uncut(self, ended, v);
        *at = idle->rest * *ei_joint_uncut(self, sum, v + self->drift + 3);
        for (ptrdiff_t k = 0; k < 3; k++)
            *at += idle->mass[k] * *ei_joint_uncut(self, mix, v + self->drift + k);
    }
}

/* t_i up to v = `deepest`; returns the largest relative change at some of these. */
static double sweep_uncut(const ei_joint *self) {
    const ptrdiff_t reach = self->deepest;
    double change = 0, *given = ei_joint_given(self, self->first);
    begin_job(self, &self->laws[0], self->first, reach, self->span);
    for (size_t i = 0; i < self->types; i++) {
        for (ptrdiff_t part = 0; part < self->ratio; part++) {
            const ptrdiff_t v = reach * self->ratio + part;
            double *values = ei_joint_uncut(self, i, v), old[PROBES];
            for (size_t k = 0; k < PROBES; k++)
                old[k] = values[k * self->span / PROBES];
            blend(self->busy.ratio[i], ei_joint_uncut(self, self->types + 2, v),
                  ei_joint_uncut(self, i, v + self->drift), (size_t)reach + 1, given);
            /* The deepest v stands for all deeper ones. */
            if (self->end == EI_LOWER)
                given[0] = 0;
            pass_given(self, &self->laws[0], self->first, reach, self->span, values);
            for (size_t k = 0; k < PROBES; k++) {
                const double now = values[k * self->span / PROBES];
                change = fmax(change, fabs(now - old[k]) / fmax(now, DBL_MIN));
            }
        }
    }
    return change;
}

static int solve_uncut(const ei_joint *self) {
    double change = 1;
    begin_uncut(self);
    sum_uncut(self);
    for (int i = 0; i < UNCUT && change > UNCUT_SETTLED; i++) {
        change = sweep_uncut(self);
        sum_uncut(self);
        if (ei_stopped(self->batch->monitor))
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
}

/* A row's first values, which bound it. */
static void begin_values(const ei_joint *self, size_t i, ptrdiff_t c, double *values) {
    const ptrdiff_t inside = floor_div(c, self->ratio) - self->first + 1;
    const size_t count = (size_t)(inside < 0                        ? 0
                                  : inside < (ptrdiff_t)self->width ? inside
                                                                    : (ptrdiff_t)self->width);
    const double *uncut = ei_joint_uncut(self, i, c);
    double constants[EI_JOINT_BOUNDS], most = constants_of(self, i, 1, constants), cut = 0;
    if (self->end == EI_UPPER)
        cut = ei_joint_bound_at(self, constants, (double)c * self->fine);
    for (size_t u = 0; u < count; u++)
        values[u] = fmin(most, uncut[u] + cut);
    for (size_t u = count; u < self->width; u++)
        values[u] = most;
}

static void begin_row(const ei_joint *self, ptrdiff_t c) {
    for (size_t i = 0; i < self->types; i++)
        begin_values(self, i, c, kept_row(self, self->type[i], c));
    begin_values(self, self->types, c, kept_row(self, self->mix, c));
    begin_values(self, self->types + 1, c, kept_row(self, self->sum, c));
}

/* Of the arrays whose last rows alone are kept, the one that the first busy period begins with. */
static void keep_longest(const ei_joint *self, ptrdiff_t c) {
    if (self->end == EI_UPPER && self->drift >= 0)
        memcpy(ei_joint_row(self, self->longest, c), kept_row(self, self->type[self->slowest], c),
               self->width * sizeof(double));
}

static int sweep_down(const ei_joint *self) {
    for (ptrdiff_t c = self->top; c >= self->low; c--) {
        if (self->drift == 0)
            begin_row(self, c);
        for (int repeat = 0; repeat < (self->drift > 0 ? 1 : self->sweeps); repeat++) {
            end_busy_period(self, c);
            double change = update_row(self, c);
            mix_row(self, c);
            if (change < SETTLED[self->batch->effort])
                break;
        }
        keep_longest(self, c);
        if (c % 8 == 0 && ei_stopped(self->batch->monitor))
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
}

/* One window of rows, upwards, since busy periods lead down: [from, high]. Returns the largest relative
 * change from `counted` on. */
static double sweep_window(const ei_joint *self, ptrdiff_t from, ptrdiff_t high, ptrdiff_t counted) {
    double change = 0;
    for (ptrdiff_t c = from; c <= high; c++) {
        if (c + self->drift >= self->low)
            end_busy_period(self, c);
        double one = update_row(self, c);
        change = c > counted ? fmax(change, one) : change;
    }
    for (ptrdiff_t c = high; c >= from; c--)
        mix_row(self, c);
    return change;
}

/* Idle times lead far upwards, and busy periods down by little: windows of rows, as long as most busy periods
 * lead, are swept upwards until they change no more, each below the last one, with part of it. Values stay on
 * their side in any order.
 */
static int sweep_repeatedly(const ei_joint *self) {
    const double load = self->batch->arrival_rate * self->d1, jobs = WINDOW + 1 / (load - 1 - log(load));
    const double most = (double)(self->top - self->low + 1), settled = SETTLED[self->batch->effort];
    const ptrdiff_t down = (ptrdiff_t)fmin(ceil(jobs) * (double)-self->drift, most);
    const double windows = ceil(most / (double)down);
    double change = 1, left = self->sweeps * windows;
    for (ptrdiff_t c = self->top; c >= self->low; c--)
        mix_row(self, c);
    while (left > 0 && change > settled) {
        change = 0;
        for (ptrdiff_t high = self->top; high >= self->low; high -= down) {
            const ptrdiff_t end = high - OVERLAP * down + 1, from = end > self->low ? end : self->low;
            double one = 1;
            for (int repeat = 0; repeat < INNER && one > settled; repeat++) {
                one = sweep_window(self, from, high, high - down);
                change = fmax(change, repeat == 0 ? one : 0);
                left -= OVERLAP;
                if (ei_stopped(self->batch->monitor))
                    return EI_ERR_INTERRUPTED;
            }
        }
    }
    for (ptrdiff_t c = self->top; c >= self->low; c--) {
        mix_row(self, c);
        if (c + self->drift >= self->low)
            end_busy_period(self, c);
    }
    return EI_OK;
}

int ei_joint_solve(const ei_joint *self) {
    int status = solve_uncut(self);
    if (status != EI_OK)
        return status;
    for (ptrdiff_t c = self->top + (ptrdiff_t)self->pad; c > (self->drift < 0 ? self->low - 1 : self->top);
         c--) {
        begin_row(self, c);
        keep_longest(self, c);
    }
    return self->drift < 0 ? sweep_repeatedly(self) : sweep_down(self);
}
