#include "edgeinfer/joint_walk.h"

#include <math.h>

static const double NO_BOUND = 1e300;
static const double ENOUGH = 0.9; /* of the steepest exponent: one for the longest busy periods */
static const double STEEPER =
    1.5; /* waits of the longest busy periods than of one of a given length, at most */
static const double LESS = 0.95; /* of their decay, where busy periods have no bound */

double ei_joint_short_share(const ei_joint_service *brief, double theta) {
    const double fine = brief->step / (double)brief->fine, step = exp(theta * fine);
    double sum = 0, power = 1;
    for (size_t k = 1; k <= brief->fine; k++, power *= step)
        sum += power * brief->sf[k];
    return 1 - exp(-theta * brief->step) * (1 + (step - 1) * sum) * (1 - EI_JOINT_ROUNDING);
}

/* k and B of joint.h's sweeps; ended: D L. */
static void bound_sweeps(const ei_joint *self, ei_joint_bound *one, double ended) {
    const ei_joint_busy *busy = &self->busy;
    const double m = one->moment, fall = one->drift;
    double most = 0, again = 0, once = 0;
    for (size_t i = 0; i < busy->count; i++) {
        const double s = busy->ratio[i], weight = ended * busy->weight[i],
                     a = m * (1 - s) / (1 - s * m * fall);
        most += weight * a;
        again += weight * (1 - s) / (1 - s * fall);
        once += weight * one->share * (1 - s + s * fall * a) / (1 - s * fall);
    }
    one->shrink = fmax(most, (1 + again) / 2);
    one->cut = once / (one->shrink - again);
}

/* a and b of a component. */
static void bound_component(const ei_joint_bound *one, double s, double *a, double *b) {
    const double fall = one->drift, rest = 1 - s * one->moment * fall;
    *a = *b = NO_BOUND;
    if (!(rest > 0) || !(s * fall < 1))
        return;
    *a = fmax(one->moment * (1 - s) / rest * one->idle_a, 1 / fall);
    *b = (one->share * ((1 - s) * one->idle_a + s * fall * *a) + (1 - s) * one->idle_b) / (1 - s * fall);
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
    bound_sweeps(self, one, fall * rests);
    for (size_t i = 0; i < busy->count; i++)
        bound_component(one, busy->ratio[i], &one->a[i], &one->b[i]);
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

/* A component of weight 0. Returned: whether an exponent bounds it that is about as steep as what serves with
 * the first wait. */
static int add_component(ei_joint *self, double ratio) {
    const double enough = ENOUGH * ei_joint_steepest(self);
    int bounded = 0;
    for (size_t e = 0; e < self->bound_count; e++) {
        ei_joint_bound *one = &self->bounds[e];
        bound_component(one, ratio, &one->a[self->types], &one->b[self->types]);
        bounded |= one->theta >= enough && one->a[self->types] < NO_BOUND;
    }
    self->busy.ratio[self->types] = ratio;
    self->busy.weight[self->types] = 0;
    return bounded;
}

void ei_joint_add_longest(ei_joint *self, int endless) {
    const double rate = self->batch->arrival_rate, least = 1 / self->d1 - rate;
    self->wait_decay = fmax(least, fmin(STEEPER * least, ei_joint_steepest(self)));
    if (self->drift > 0 && endless && add_component(self, 1)) {
        self->slowest = self->types++;
        return;
    }
    for (; self->wait_decay > least; self->wait_decay = fmax(least, LESS * self->wait_decay)) {
        if (!add_component(self, wait_of(self, self->wait_decay) * (1 + 1e-12)))
            continue;
        self->slowest = self->types++;
        return;
    }
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
