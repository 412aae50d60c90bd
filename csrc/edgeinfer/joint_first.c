#include "edgeinfer/joint_walk.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double LEFT[] = {2e-2, 2e-3}; /* relative share of what longer busy periods may add */
static const double MOVED = 1e-5;          /* relative share of short waits that are taken for longer ones */

/* ---- the first busy period */

/* How far beyond a whole coarse step B stands, after j jobs more than H, before which it is on one: 1 ..
 * ratio of c's steps. So stand its rows c, and U' - d3 where it is positive, so that c - U' is always on the
 * coarse lattice, and an idle time before H as far beyond. */
static ptrdiff_t phase_of(const ei_joint *self, size_t j) {
    ptrdiff_t phase = -(ptrdiff_t)j * self->drift % self->ratio;
    return phase > 0 ? phase : phase + self->ratio;
}

static ptrdiff_t floor_div(ptrdiff_t a, ptrdiff_t b) {
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

/* The first row of Y's lattice, and those of c after j jobs, less than a coarse step later. */
static ptrdiff_t first_step(const ei_joint *self) {
    ptrdiff_t beyond = (self->low - phase_of(self, self->apart)) % self->ratio;
    return self->low - (beyond < 0 ? beyond + self->ratio : beyond);
}

static ptrdiff_t first_row(const ei_joint *self, size_t j) {
    ptrdiff_t beyond = (phase_of(self, j) - phase_of(self, self->apart)) % self->ratio;
    return first_step(self) + (beyond < 0 ? beyond + self->ratio : beyond);
}

/* Where in `later` the row stands that is drift after the first one at j jobs. */
static ptrdiff_t place_before(const ei_joint *self, size_t j) {
    return (first_row(self, j) + self->drift - first_row(self, j - 1)) / self->ratio;
}

/* The mean of the `ratio` rows of an array from c on, of the first `count` u. */
static const double *mean_row(const ei_joint *self, double *array, ptrdiff_t c, size_t count) {
    if (self->ratio == 1)
        return ei_joint_row(self, array, c);
    memset(self->mean, 0, count * sizeof *self->mean);
    for (ptrdiff_t i = 0; i < self->ratio; i++) {
        const double *values = ei_joint_row(self, array, c + i);
        for (size_t u = 0; u < count; u++)
            self->mean[u] += values[u] / (double)self->ratio;
    }
    return self->mean;
}

/* As ei_joint_pass_job, for u = 0 alone. */
static double pass_none(const ei_joint_law *law, ptrdiff_t first, ptrdiff_t reach, const double *given) {
    const ptrdiff_t last = (ptrdiff_t)law->count - 1, end = reach - first,
                    none = (reach < 0 ? reach : -1) - first;
    double value = end < 0 ? law->upto[last] + law->tail[last] : law->tail[end < last ? end : last];
    if (none >= 0)
        value += law->upto[none < last ? none : last] * given[0];
    const ptrdiff_t to = end < last ? end : last,
                    from = (ptrdiff_t)law->begin > -first ? (ptrdiff_t)law->begin : -first;
    if (reach >= 0 && to >= from)
        value += ei_dot(law->mass + from, given + (from + first), (size_t)(to - from + 1));
    return value;
}

/* The job with j jobs more before H, at c: P(U' > c) + E [given(u'); U' <= c] for the first `count` u. */
static void pass_from(const ei_joint *self, size_t j, const ei_joint_law *laws, ptrdiff_t c,
                      const double *given, size_t count, double *values) {
    const ptrdiff_t phase = phase_of(self, j), reach = (c - phase) / self->ratio + 1;
    const ptrdiff_t again = ((self->drift % self->ratio) + self->ratio) % self->ratio;
    const ptrdiff_t fresh = self->first + (phase < self->ratio),
                    first = self->first + (phase_of(self, j + 1) + again > phase);
    /* From u = 0 on U has a lattice of its own. */
    const double none = pass_none(&laws[phase % self->ratio], fresh, reach, given);
    if (count > 1) {
        const size_t room = reach > 0 ? (size_t)reach + 1 : 1;
        memcpy(ei_joint_given(self, first), given, room * sizeof *given);
        ei_joint_pass_job(self, &laws[again], first, reach, count, values);
    }
    values[0] = none;
}

/* B from H on, or from T_i of the largest s_i, as `longest` has it, and its bound beyond the top, of each
 * exponent. */
typedef struct {
    int longest;
    double *later, *uncut, a[EI_JOINT_BOUNDS], b[EI_JOINT_BOUNDS];
} busy_ahead;

/* What stands at `place` in `later`. */
static const double *later_row(const ei_joint *self, const busy_ahead *from, ptrdiff_t place) {
    return place < 0 ? self->ones : from->later + (size_t)place * self->width;
}

/* What the last job before it is given, the mean over a coarse step. */
static const double *first_given(const ei_joint *self, const busy_ahead *from, ptrdiff_t c) {
    const size_t count = ei_joint_given_count(self, c);
    return from->longest ? mean_row(self, self->longest, c + self->drift, count)
                         : mean_row(self, self->idle_value, c, count);
}

/* B at j jobs from that at j - 1, in its place. */
static void follow_job(const ei_joint *self, const busy_ahead *ahead, size_t j) {
    const int upwards = self->drift > 0;
    const ptrdiff_t from = first_row(self, j), count = (ptrdiff_t)self->steps;
    for (ptrdiff_t i = 0; i < count; i++) {
        ptrdiff_t place = upwards ? i : count - 1 - i, c = from + place * self->ratio;
        /* U where c has fallen to this one. */
        ptrdiff_t most = (c - self->drift - phase_of(self, j + 1)) / self->ratio + 1;
        pass_from(self, j, self->laws, c,
                  j == 0 ? first_given(self, ahead, c)
                         : later_row(self, ahead, place + place_before(self, j)),
                  most > 0 ? (size_t)most + 1 : 1, ahead->later + (size_t)place * self->width);
    }
}

/* B, U never cut, where c - U is so deep. */
static double uncut_beyond(const ei_joint *self, const busy_ahead *ahead, ptrdiff_t deep) {
    return self->end == EI_LOWER ? 0
                                 : fmin(1, ei_joint_bound_at(self, ahead->a, (double)deep * self->coarse));
}

/* B at j jobs from that at j - 1, U never cut, for multiples of a coarse step of c - U from `deepest` on
 * downwards: as before an idle time where `shift` of them are a drift. */
static void follow_uncut(const ei_joint *self, const busy_ahead *ahead, size_t j) {
    const ptrdiff_t again = ((self->drift % self->ratio) + self->ratio) % self->ratio;
    const ptrdiff_t shift = (self->drift - again) / self->ratio, reach = self->deepest;
    const size_t count = (size_t)reach + 1, ended = ahead->longest ? self->slowest : self->types + 2;
    double *given = ei_joint_given(self, self->first);
    for (size_t u = 0; u < count && j > 0; u++) {
        ptrdiff_t deeper = shift - (ptrdiff_t)u;
        given[u] = deeper > 0 ? uncut_beyond(self, ahead, reach + deeper) : ahead->uncut[-deeper];
    }
    if (j == 0)
        memset(given, 0, count * sizeof *given);
    for (ptrdiff_t part = 0; part < self->ratio && j == 0; part++) {
        const double *values =
            ei_joint_uncut(self, ended, reach * self->ratio + part + ahead->longest * self->drift);
        for (size_t u = 0; u < count; u++)
            given[u] += values[u] / (double)self->ratio;
    }
    if (self->end == EI_LOWER)
        given[0] = 0;
    ei_joint_pass_job(self, &self->laws[again], self->first, reach, self->span, ahead->uncut);
}

/* B beyond the top after j jobs: its bound taken one job on. */
static void bound_later(const ei_joint *self, busy_ahead *ahead, size_t j) {
    double *a = ahead->a, *b = ahead->b;
    if (self->steps_beyond > 0)
        follow_uncut(self, ahead, j);
    for (size_t e = 0; e < self->bound_count; e++) {
        const ei_joint_bound *one = &self->bounds[e];
        if (j == 0 && !ahead->longest) {
            a[e] = one->moment * one->idle_a;
            b[e] = one->share * one->idle_a + one->idle_b;
            continue;
        }
        if (j == 0) {
            a[e] = one->a[self->slowest];
            b[e] = one->b[self->slowest];
        }
        ei_joint_follow_bound(one, &a[e], &b[e]);
    }
    for (size_t place = self->steps; place < self->steps + self->steps_beyond; place++) {
        double *values = ahead->later + place * self->width, all[EI_JOINT_BOUNDS], cut = 0;
        const ptrdiff_t c = first_row(self, j) + (ptrdiff_t)place * self->ratio;
        for (size_t e = 0; e < self->bound_count; e++)
            all[e] = a[e] + b[e];
        if (self->end == EI_UPPER)
            cut = ei_joint_bound_at(self, all, (double)c * self->fine);
        values[0] = fmin(1, cut);
        /* c - U in coarse steps. */
        ptrdiff_t deep = floor_div(c - phase_of(self, j + 1), self->ratio);
        for (size_t u = 1; u < self->width; u++, deep--) {
            double uncut = deep < self->first      ? 1
                           : deep <= self->deepest ? ahead->uncut[self->deepest - deep]
                                                   : uncut_beyond(self, ahead, deep);
            values[u] = fmin(1, uncut + cut);
        }
    }
}

/* Y's lattice: P(Y > y) is constant from one step to the next. */
static double step_at(const ei_joint *self, ptrdiff_t place) {
    return ei_joint_nearest(self) + (double)(first_step(self) + place * self->ratio) * self->fine;
}

static ptrdiff_t step_of(const ei_joint *self, double deadline) {
    return (ptrdiff_t)floor((deadline - step_at(self, 0)) / self->coarse);
}

/* P(U_0 > c or B after it) at u = 0 and a c beyond the top, or more. */
static double first_beyond(const ei_joint *self, const busy_ahead *ahead, double c) {
    double all[EI_JOINT_BOUNDS];
    for (size_t e = 0; e < self->bound_count; e++) {
        double a = ahead->a[e], b = ahead->b[e];
        ei_joint_follow_bound(&self->bounds[e], &a, &b);
        all[e] = a + b;
    }
    return fmin(1, ei_joint_bound_at(self, all, c));
}

/* P(U_0 > c or B after it) for X_0 <= z, B after j jobs, at found[places - 1 - place], so that sums over
 * waits are products. */
static void first_job(const ei_joint *self, const ei_joint_target *one, const busy_ahead *ahead, size_t j) {
    double value = 0;
    for (size_t place = self->steps; place < self->places; place++) {
        const double c = (double)(first_row(self, j + 1) + (ptrdiff_t)place * self->ratio) * self->fine;
        self->found[self->places - 1 - place] = self->end == EI_UPPER ? first_beyond(self, ahead, c) : 0;
    }
    for (ptrdiff_t place = 0; place < (ptrdiff_t)self->steps; place++) {
        ptrdiff_t c = first_row(self, j + 1) + place * self->ratio;
        pass_from(self, j + 1, one->laws, c, later_row(self, ahead, place + place_before(self, j + 1)), 1,
                  &value);
        self->found[self->places - 1 - (size_t)place] = value;
    }
}

/* Masses of waits on Y's steps, of which [from, to) count one by one; longer waits, `late` in all, are later
 * than any deadline. */
typedef struct {
    const double *masses;
    size_t from, to;
    double late;
} waits;

/* Of the masses at 0 .. count - 1, of which what is of no account is moved: short waits to longer ones
 * (upper) or away (lower), against theta's exponential weight, and the longest are late, or left out. */
static waits waits_of(const ei_joint *self, double *masses, size_t count) {
    waits all = {.masses = masses, .to = count};
    const double grow = exp(ei_joint_steepest(self) * self->coarse), upper = self->end == EI_UPPER;
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
    weighed *= MOVED * exp(-ei_joint_steepest(self) * (double)self->places * self->coarse);
    for (; all.to > all.from + 1 && all.late + masses[all.to - 1] < weighed; all.to--)
        all.late += masses[all.to - 1];
    all.late *= upper;
    return all;
}

/* Adds what first_job found, for all waits, to value[] of the steps from `from` on, and returns its sum.
 * Downwards, so that the waits too long for a row, all late, are summed from the small end: as what is left
 * of all they were rounding errors. */
static double over_waits(const ei_joint *self, const ei_joint_target *one, const waits *all, ptrdiff_t from,
                         double *value) {
    const ei_joint_law *law = one->laws;
    const double always = law->upto[law->count - 1] + law->tail[law->count - 1];
    double late = all->late, total = 0;
    size_t counted = all->to;
    for (ptrdiff_t i = (ptrdiff_t)self->places - 1; i >= from; i--) {
        while (counted > (size_t)i + 1 && counted > all->from)
            late += all->masses[--counted];
        double found = late * always;
        if (counted > all->from)
            found += ei_dot(all->masses + all->from,
                            self->found + ((ptrdiff_t)self->places - 1 - i) + all->from, counted - all->from);
        if (value != NULL)
            value[i] += found;
        total += found;
    }
    return total;
}

static void add_jobs(const ei_joint *self, const ei_joint_target *one, const waits *all) {
    over_waits(self, one, all, step_of(self, self->apart > 1 ? self->earliest : one->deadline), one->value);
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
 * Both are integrals of P(Y > y) over weights that rise with y, f up to
 * its largest value and the fall from that: with its mean over a step in its place they are no less, and no
 * more by more than Gruess's inequality allows, a quarter of its change there and of the weight's. */
static void finish(const ei_joint *self, ei_joint_target *one) {
    const double rate = self->batch->arrival_rate, h = self->coarse;
    const double most = (double)(self->apart - 1); /* rate times the place of f's largest value */
    const ptrdiff_t from = step_of(self, one->deadline), last = (ptrdiff_t)self->places - 1;
    const int bent = self->end == EI_LOWER && self->ratio > 1;
    double loss = 0, rising = 0, falling = 0, peak = 0, density = 0, bend[2] = {0, 0},
           at_peak = erlang(self->apart, most, &peak);
    if (self->end == EI_UPPER)
        loss += ei_joint_least_left(self, 1, step_at(self, last) - ei_joint_nearest(self));
    double x = rate * (step_at(self, last + 1) - one->deadline), before = erlang(self->apart, x, &density);
    for (ptrdiff_t i = last; i >= from; i--) {
        const double next = x, after = before, density_after = density;
        double value = one->value[i], above = i < last ? one->value[i + 1] : 0;
        x = rate * (step_at(self, i) - one->deadline);
        before = i > from ? erlang(self->apart, x, &density) : 1;
        if (bent && i == from) {
            value = above;
        } else if (bent) {
            double change = one->value[i - 1] - above;
            bend[0] += ((next < most ? density_after : peak) - (x < most ? density : peak)) * change;
            bend[1] += ((x > most ? density : peak) - (next > most ? density_after : peak)) * change;
        }
        loss += value * fmax(next - fmax(x, most), 0) / rate;
        double split = fmin(fmax(at_peak, after), before);
        falling += value * (split - after);
        rising += value * (before - split);
    }
    one->rising[self->end] = rate * peak * loss + rising - rate * h / 4 * bend[0];
    one->falling[self->end] = rate * peak * loss - falling - rate * h / 4 * bend[1];
}

/* Masses, from below, of the waits with more jobs before them than have been followed: all waits less those,
 * whose tails at Y's steps are given. */
static void masses_left(const double *all, const double *followed, size_t count, double *masses) {
    double before = 0;
    for (size_t k = 0; k < count; k++) {
        double tail = fmax((all[k] - followed[k]) * (1 - EI_JOINT_ROUNDING) - 1e-12 * all[k], 0);
        before = k == 0 ? tail : fmin(before, tail);
        masses[k] = before;
    }
    for (size_t k = 0; k + 1 < count; k++)
        masses[k] -= masses[k + 1];
}

/* The same from above, followed from below: all in a step at its end. */
static void masses_left_above(const double *all, const double *followed, size_t count, double *masses) {
    double above = 0;
    memset(masses, 0, count * sizeof *masses);
    for (size_t k = count; k-- > 0;) {
        const double tail = fmax(above, (all[k] - followed[k]) * (1 + EI_JOINT_ROUNDING) + 1e-12 * all[k]);
        masses[k + 1 < count ? k + 1 : k] += tail - above;
        above = tail;
    }
}

/* What waits make of B after j jobs, summed over the steps from the deadline's on. */
static double add_up(const ei_joint *self, const ei_joint_target *one, const busy_ahead *ahead, size_t j,
                     const waits *all) {
    first_job(self, one, ahead, j);
    return over_waits(self, one, all, step_of(self, one->deadline), NULL);
}

/* Whether the ends that first busy periods of more jobs have are near enough: ahead, rest of both ends. */
static int is_small(const ei_joint *self, const ei_joint_target *one, const busy_ahead ahead[2],
                    const waits rest[2], size_t j) {
    double found = 0;
    for (size_t i = (size_t)step_of(self, one->deadline); i < self->places; i++)
        found += one->value[i];
    const double left = add_up(self, one, &ahead[EI_UPPER], j, &rest[EI_UPPER]);
    return left <= LEFT[self->batch->effort] * found ||
           left - add_up(self, one, &ahead[EI_LOWER], j, &rest[EI_LOWER]) <=
               LEFT[self->batch->effort] * found;
}

/* Where Y's lattice has the waits of which the job 0 has j jobs before H. */
static double first_wait(const ei_joint *self, size_t j) {
    return -(double)(first_row(self, j) - first_step(self)) * self->fine;
}

/* Tails of all waits but 0 at Y's steps, where B's phase is none. */
static int all_waits(const ei_joint *self, double *tails) {
    ei_md1 law;
    int status = ei_md1_init(&law, self->batch->arrival_rate, self->d1,
                             (double)self->places * self->coarse + self->d1);
    for (size_t k = 0; k < self->places && status == EI_OK; k++)
        tails[k] = ei_md1_waiting_sf(&law, fmax(first_wait(self, 0) + (double)k * self->coarse, 0));
    ei_md1_free(&law);
    return status;
}

/* jobs: how many of its jobs are followed; found for an upper end, kept for the lower one. */
int ei_joint_first_busy_period(const ei_joint *self, ei_joint_target *targets, size_t count, size_t *jobs) {
    const double rate = self->batch->arrival_rate;
    const int upper = self->end == EI_UPPER;
    busy_ahead ahead[2] = {{.later = self->later[0], .uncut = self->uncut_later[0]},
                           {.longest = 1, .later = self->later[1], .uncut = self->uncut_later[1]}};
    ei_joint_wait wait = {.rate = rate};
    size_t most = upper ? EI_JOINT_JOBS : *jobs;
    /* Longer ones are looked at where B's phase is none, the last time after `most`. */
    while (phase_of(self, most + self->apart) < self->ratio)
        most--;
    const size_t steps = self->places;
    double *masses = calloc(6 * steps, sizeof *masses), *all = masses + steps,
           *followed[2] = {all + steps, all + 2 * steps}, *left_over[2] = {all + 3 * steps, all + 4 * steps};
    const int endless = self->busy.ratio[self->slowest] >= 1;
    waits rest[2] = {{.late = 0}, {.late = 0}};
    int settled = 0, status = masses == NULL ? EI_ERR_NO_MEMORY : all_waits(self, all);
    double end = (double)(steps - 1) * self->coarse,
           beyond = masses == NULL ? 0 : all[steps - 1] * (1 + EI_JOINT_ROUNDING);
    if (status == EI_OK)
        status = ei_joint_wait_init(&wait, endless ? EI_LOWER : self->end, rate, self->d1, self->wait_cells,
                                    end, beyond);
    /* Waits that are longer than the lattice. */
    for (size_t i = 0; i < count && upper && status == EI_OK; i++)
        for (size_t k = 0; k < steps; k++)
            targets[i].value[k] = beyond;
    for (size_t k = 0, checked = 0; status == EI_OK && !settled; k++) {
        for (int side = 0; side <= upper; side++) {
            follow_job(self, &ahead[side], k);
            bound_later(self, &ahead[side], k);
        }
        if (ei_stopped(self->batch->monitor))
            status = EI_ERR_INTERRUPTED;
        if (k + 1 < self->apart)
            continue;
        const size_t j = k + 1 - self->apart;
        if (j > 1)
            ei_joint_wait_advance(&wait);
        const double start = first_wait(self, k + 1);
        size_t points = j == 0 ? 1 : (size_t)(((double)j * self->d1 - start) / self->coarse) + 2;
        points = points < steps ? points : steps;
        masses[0] = 1 - rate * self->d1;
        if (j > 0 &&
            (status = ei_joint_wait_masses(&wait, self->end, start, self->coarse, points, masses)) != EI_OK)
            break;
        for (int side = endless ? EI_LOWER : EI_UPPER; side <= EI_UPPER && j > 0; side++)
            ei_joint_wait_add_tails(&wait, (ei_end)side, first_wait(self, 0), self->coarse, steps,
                                    followed[side]);
        const waits now = waits_of(self, masses, points);
        for (size_t i = 0; i < (self->apart > 1 ? 1 : count); i++) {
            first_job(self, &targets[i], &ahead[0], k);
            add_jobs(self, &targets[i], &now);
        }
        if (phase_of(self, k + 1) < self->ratio || j == 0 ||
            (j < most && (j < checked + 8 + checked / 8 || !upper)))
            continue;
        checked = j;
        masses_left(all, followed[EI_UPPER], steps, left_over[EI_LOWER]);
        if (endless)
            masses_left_above(all, followed[EI_LOWER], steps, left_over[EI_UPPER]);
        else if (upper)
            ei_joint_wait_longer_masses(&wait, self->wait_decay, start, self->coarse, steps,
                                        left_over[EI_UPPER]);
        for (int side = 0; side <= upper; side++)
            rest[side] = waits_of(self, left_over[side], steps);
        settled = !upper || j >= most || is_small(self, &targets[0], ahead, rest, j + self->apart - 1);
        *jobs = j;
    }
    /* With more interarrival times taken out than one, job 0 is the same for all targets. */
    for (size_t i = 1; i < count && self->apart > 1; i++)
        memcpy(targets[i].value, targets[0].value, steps * sizeof(double));
    for (size_t i = 0; i < count && status == EI_OK; i++) {
        first_job(self, &targets[i], &ahead[upper], *jobs + self->apart - 1);
        add_jobs(self, &targets[i], &rest[self->end]);
        finish(self, &targets[i]);
    }
    free(masses);
    ei_joint_wait_free(&wait);
    return status;
}
