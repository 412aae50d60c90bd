#include "edgeinfer/joint_walk.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double LEFT[] = {2e-2, 2e-3}; /* relative share of busy periods that are left to Chernoff */
static const double MOVED = 1e-7;          /* relative share of short waits that are taken for longer ones */

/* ---- the first busy period */

/* B at j jobs from that at j - 1 (H for j = 0), in its place. */
static void follow_job(const ei_joint *self, size_t j) {
    int upwards = self->drift > 0;
    for (ptrdiff_t i = 0; i <= self->top - self->low; i++) {
        ptrdiff_t c = upwards ? self->low + i : self->top - i;
        const double *before = j == 0 ? ei_joint_row(self, self->idle_value, c)
                                      : ei_joint_row(self, self->later, c + self->drift);
        memcpy(ei_joint_given(self), before, ei_joint_given_count(self, c) * sizeof *before);
        ei_joint_pass_job(self, &self->law, c, ei_joint_row_count(self, c),
                          ei_joint_row(self, self->later, c));
    }
}

/* B beyond the top after j jobs: a, b of each exponent, taken one job on. */
static void bound_later(const ei_joint *self, double a[EI_JOINT_BOUNDS], double b[EI_JOINT_BOUNDS],
                        size_t j) {
    for (size_t e = 0; e < self->bound_count; e++) {
        const ei_joint_bound *one = &self->bounds[e];
        double next = one->moment * (1 + (j == 0 ? one->idle_a : one->drift * a[e]));
        b[e] = j == 0 ? one->idle_a + one->idle_b : one->drift * (a[e] + b[e]);
        a[e] = next;
    }
    for (ptrdiff_t c = self->top + 1; c <= self->top + self->drift; c++) {
        double *values = ei_joint_row(self, self->later, c);
        for (size_t u = 0; u < self->width; u++)
            values[u] = self->end == EI_UPPER;
        for (size_t e = 0; e < self->bound_count && self->end == EI_UPPER; e++) {
            double theta = self->bounds[e].theta,
                   scale = exp(-theta * (double)c * self->fine) * (1 + EI_JOINT_ROUNDING);
            double grow = exp(theta * self->coarse), value = a[e];
            for (size_t u = 0; u < self->width; u++, value *= grow)
                values[u] = fmin(values[u], scale * (value + b[e]));
        }
    }
}

static ptrdiff_t row_of(const ei_joint *self, double deadline) {
    return (ptrdiff_t)floor((deadline - ei_joint_nearest(self)) / self->fine);
}

/* B where the first busy period never ends: it falls with d > 0 only. */
static void solve_endless(const ei_joint *self) {
    for (ptrdiff_t c = self->top + self->drift; c >= self->low; c--) {
        double *values = ei_joint_row(self, self->endless, c);
        if (self->drift > 0 && c <= self->top) {
            memcpy(ei_joint_given(self), ei_joint_row(self, self->endless, c + self->drift),
                   ei_joint_given_count(self, c) * sizeof *values);
            ei_joint_pass_job(self, &self->law, c, ei_joint_row_count(self, c), values);
            continue;
        }
        for (size_t u = 0; u < self->width; u++)
            values[u] = 1;
        for (size_t e = 0; e < self->bound_count && self->drift > 0; e++) {
            const ei_joint_bound *one = &self->bounds[e];
            double a = one->moment / (1 - one->moment * one->drift), b = one->drift * a / (1 - one->drift);
            double scale = exp(-one->theta * (double)c * self->fine) * (1 + EI_JOINT_ROUNDING);
            double grow = exp(one->theta * self->coarse);
            for (size_t u = 0; u < self->width && one->moment * one->drift < 1; u++, a *= grow)
                values[u] = fmin(values[u], scale * (a + b));
        }
    }
}

/* P(U_0 > c or B after it) for X_0 <= z from an array B, at found[top - c], so that sums over waits are
 * products. */
static void first_job(const ei_joint *self, const ei_joint_target *one, double *later) {
    double values[EI_JOINT_BLOCK] = {0};
    for (ptrdiff_t c = self->low; c <= self->top; c++) {
        const double *given = ei_joint_row(self, later, c + self->drift);
        size_t some = ei_joint_given_count(self, c);
        /* u' beyond the law's last point is not reached from u = 0. */
        some = one->law.decay > 0 || some < one->law.count ? some : one->law.count;
        memcpy(ei_joint_given(self), given, some * sizeof *given);
        ei_joint_pass_job(self, &one->law, c, 1, values);
        self->found[self->top - c] = values[0];
    }
}

/* Masses of waits on rows, of which [from, to) count one by one; longer waits, `late` in all, are later than
 * any deadline. */
typedef struct {
    const double *masses;
    size_t from, to;
    double late;
} waits;

/* Of the masses at 0 .. count - 1, of which what is of no account is moved: short waits to longer ones
 * (upper) or away (lower), against theta's exponential weight, and the longest are late, or left out. */
static waits waits_of(const ei_joint *self, double *masses, size_t count) {
    waits all = {.masses = masses, .to = count};
    const double grow = exp(ei_joint_steepest(self) * self->fine), upper = self->end == EI_UPPER;
    double weight = 1, weighed = 0, moved = 0;
    for (size_t x = 0; x < count; x++, weight *= grow)
        weighed += masses[x] * weight;
    weight = 1;
    for (; all.from + 1 < count; all.from++, weight *= grow) {
        if ((moved + masses[all.from]) * weight * grow > MOVED * weighed)
            break;
        moved += masses[all.from];
    }
    masses[all.from] += upper * moved;
    weighed *= MOVED * exp(-ei_joint_steepest(self) * (double)self->top * self->fine);
    for (; all.to > all.from + 1 && all.late + masses[all.to - 1] < weighed; all.to--)
        all.late += masses[all.to - 1];
    all.late *= upper;
    return all;
}

/* Adds what first_job found, for all waits, to value[c - low] of the rows from c = `from` on, and returns its
 * sum. Downwards, so that the waits too long for a row, all late, are summed from the small end: as what is
 * left of all they were rounding errors. */
static double over_waits(const ei_joint *self, const ei_joint_target *one, const waits *all, ptrdiff_t from,
                         double *value) {
    const double always = one->law.upto[one->law.count - 1] + one->law.tail[one->law.count - 1];
    double late = all->late, total = 0;
    size_t counted = all->to;
    for (ptrdiff_t c = self->top; c >= from; c--) {
        const size_t within = (size_t)(c - self->low + 1);
        while (counted > within && counted > all->from)
            late += all->masses[--counted];
        double found = late * always;
        if (counted > all->from)
            found += ei_dot(all->masses + all->from, self->found + (self->top - c) + all->from,
                            counted - all->from);
        if (value != NULL)
            value[c - self->low] += found;
        total += found;
    }
    return total;
}

static void add_jobs(const ei_joint *self, const ei_joint_target *one, const waits *all) {
    over_waits(self, one, all, row_of(self, self->apart > 1 ? self->earliest : one->deadline), one->value);
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
static void finish(const ei_joint *self, ei_joint_target *one, double left) {
    const double rate = self->batch->arrival_rate, h = self->fine;
    const double most = (double)(self->apart - 1); /* rate times the place of f's largest value */
    ptrdiff_t from = row_of(self, one->deadline);
    double loss = left, rising = 0, falling = 0, peak = 0, unused = 0,
           at_peak = erlang(self->apart, most, &peak);
    if (self->end == EI_UPPER)
        loss += ei_joint_least_left(self, SIZE_MAX, 1, (double)self->top * h);
    double before = 0;
    for (ptrdiff_t c = self->top; c >= from; c--) {
        double x = rate * ((double)c * h + ei_joint_nearest(self) - one->deadline), next = x + rate * h;
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
static void masses_left(const ei_joint *self, const double *all, const double *followed, size_t count,
                        double *masses) {
    double before = 0;
    if (self->end == EI_UPPER) {
        /* Those between two points at the later one. */
        for (size_t k = count; k-- > 0;) {
            double tail = fmax((all[k] - followed[k]) * (1 + EI_JOINT_ROUNDING) + 1e-12 * all[k], before);
            masses[k + 1 < count ? k + 1 : k] = tail - before + (k + 1 < count ? 0 : before);
            if (k + 1 == count)
                masses[k] = tail;
            before = tail;
        }
        return;
    }
    for (size_t k = 0; k < count; k++) {
        double tail = fmax((all[k] - followed[k]) * (1 - EI_JOINT_ROUNDING) - 1e-12 * all[k], 0);
        before = k == 0 ? tail : fmin(before, tail);
        masses[k] = before;
    }
    for (size_t k = 0; k + 1 < count; k++)
        masses[k] -= masses[k + 1];
}

/* What waits make of an array B, summed over the rows from the deadline's on. */
static double add_up(const ei_joint *self, const ei_joint_target *one, double *later, const waits *all) {
    first_job(self, one, later);
    return over_waits(self, one, all, row_of(self, one->deadline), NULL);
}

/* Whether what longer first busy periods may add to an upper end is small: for d > 0 they are no worse than
 * one without end, otherwise Chernoff's bound tells. */
static int is_small(const ei_joint *self, const ei_joint_target *one, const waits *rest, size_t j) {
    double found = 0,
           left = ei_joint_least_left(self, j, 1, one->deadline - ei_joint_nearest(self)) / self->fine;
    for (ptrdiff_t c = row_of(self, one->deadline); c <= self->top; c++)
        found += one->value[c - self->low];
    if (self->drift > 0 && left > LEFT[self->batch->effort] * found)
        left = add_up(self, one, self->endless, rest) - add_up(self, one, self->later, rest);
    return left <= LEFT[self->batch->effort] * found;
}

/* Tails of all waits at the rows' steps. */
static int all_waits(const ei_joint *self, double *tails) {
    ei_md1 law;
    int status =
        ei_md1_init(&law, self->batch->arrival_rate, self->d1, (double)self->rows * self->fine + self->d1);
    for (size_t k = 0; k < self->rows && status == EI_OK; k++)
        tails[k] = ei_md1_waiting_sf(&law, (double)k * self->fine);
    ei_md1_free(&law);
    return status;
}

/* jobs: how many of its jobs are followed; found for an upper end, kept for the lower one. */
int ei_joint_first_busy_period(const ei_joint *self, ei_joint_target *targets, size_t count, size_t *jobs) {
    double a[EI_JOINT_BOUNDS] = {0}, b[EI_JOINT_BOUNDS] = {0}, rate = self->batch->arrival_rate;
    ei_joint_wait wait = {.rate = rate};
    size_t most = self->end == EI_LOWER ? *jobs : (size_t)fmin(EI_JOINT_JOBS, 600 / (rate * self->d1));
    size_t rows = self->rows;
    double *masses = calloc(3 * rows, sizeof *masses), *all = masses + rows, *followed = all + rows;
    waits rest = {.late = 0};
    int settled = 0, status = masses == NULL ? EI_ERR_NO_MEMORY : all_waits(self, all);
    double end = (double)(rows - 1) * self->fine,
           beyond = masses == NULL ? 0 : all[rows - 1] * (1 + EI_JOINT_ROUNDING);
    if (status == EI_OK)
        status = ei_joint_wait_init(&wait, rate, self->d1, self->wait_cells, end, beyond);
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
        const waits now = waits_of(self, masses, points);
        for (size_t i = 0; i < (self->apart > 1 ? 1 : count); i++) {
            first_job(self, &targets[i], self->later);
            add_jobs(self, &targets[i], &now);
        }
        if (j < most && (j % 8 != 7 || self->end == EI_LOWER))
            continue;
        masses_left(self, all, followed, rows, masses);
        rest = waits_of(self, masses, rows);
        settled = self->end == EI_LOWER || is_small(self, &targets[0], &rest, j);
        *jobs = j;
    }
    /* With more interarrival times taken out than one, job 0 is the same for all targets. */
    for (size_t i = 1; i < count && self->apart > 1; i++)
        memcpy(targets[i].value, targets[0].value, rows * sizeof(double));
    for (size_t i = 0; i < count && status == EI_OK; i++) {
        double *later = self->end == EI_UPPER ? self->endless : self->later, left = 0;
        if (self->end == EI_UPPER)
            left = ei_joint_least_left(self, *jobs, 1, targets[i].deadline - ei_joint_nearest(self));
        /* Without end, or by Chernoff: what is less. */
        if (self->end == EI_LOWER || add_up(self, &targets[i], later, &rest) * self->fine < left) {
            first_job(self, &targets[i], later);
            add_jobs(self, &targets[i], &rest);
            left = 0;
        }
        finish(self, &targets[i], left);
    }
    free(masses);
    ei_joint_wait_free(&wait);
    return status;
}
