#include "edgeinfer/joint.h"

#include "edgeinfer/bound.h"
#include "edgeinfer/joint_walk.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    TRIALS = 5,      /* lattices that are tried */
    MOST_TYPES = 12, /* in one part */
    HEAVY_PARTS = 4,
    OFTEN = 600 /* jobs of the first busy period that are followed where it is long, mostly */
};
static const size_t WAIT_CELLS[] = {64, 128}; /* of the first wait's law over a service, for each effort */
static const double MISSED[] = {1e-2, 1e-3};  /* relative, of a busy period's mean, for each effort */
static const double HEAVY = 0.92;             /* load of the first stage that takes more components */
static const double APART = 60;               /* interarrival times that are taken out at most, */
static const double APART_DECAYS = 4; /* and in decay times: errors count the less the more there are */
static const double CLASS = 1.25;     /* ratio of the longest to the shortest deadline of a class */
/* Of the latest deadline's probability, roughly: what a lattice leaves out, for each effort. */
static const double BEYOND[] = {1e-2, 5e-3};
static const double COARSER =
    3; /* a power of a lattice's step over the first one's: it may leave out so much more */
static const double POINTS[] = {3, 5};      /* of the first lattice that is tried, for each effort */
static const double OUTSIDE = 0.4;          /* of that: what its rows leave out */
static const double LEAST = 1e-11;          /* of it: a service's tail */
static const double EARLY = 5e-3;           /* relative share of paths of few jobs */
static const double NEGLIGIBLE = 0.06;      /* steps: a difference of the constant stages that is rounded */
static const double COARSEST = 1.9;         /* steps in the faster constant stage */
static const double WORK[] = {1.2e9, 1e10}; /* multiply-adds of one end, for each effort */
static const double AIMED = 0.9;            /* share of what is allowed that a finer lattice aims at */
static const double HELPED = 0.8;           /* of the ratio less one that a finer lattice may leave at most */
static const double HOPED = 2;    /* times as many points at least where the last lattice had no lower end */
static const double FASTEST = 5;  /* times as many points of it at most */
static const double LESS = 1.1;   /* times as few behind a lattice that was too much work */
static const double FINER = 1.25; /* and at least, to be worth its work */
static const double FURTHEST = 1e5;   /* steps between the constant stages, and in the slower one, at most */
static const double ROOM = 4.8e7;     /* values of all arrays at most */
static const double SMALLEST = 1e-20; /* probabilities below are left to formulas without tables: those of
                                         transfers end there, and what they leave out is in upper ends */

/* A lattice that was asked for, about `points` steps of U over the faster stage; then those that it has, the
 * multiply-adds of an end, the ratio of the ends at the class's latest deadline, and the most multiply-adds
 * that an end may take. */
typedef struct {
    double points, work, ratio, most;
    int possible; /* whether both ends were found: they exist, and are not too much work */
} trial;

/* ---- lattices */

/* About `points` steps of U over the faster stage: steps and stages of one end. *possible: whether its loads
 * are below one. */
static void choose_steps(ei_joint *self, double points, int *possible) {
    const ei_shape *pipeline = self->batch->pipeline;
    double d1 = pipeline->d1, d3 = pipeline->d3, wanted = fmin(d1, d3) / points, fine = wanted;
    double gap = fabs(d1 - d3), whole = 0;
    if (gap < wanted * NEGLIGIBLE) {
        d1 = d3 = self->end == EI_UPPER ? fmax(d1, d3) : fmin(d1, d3);
    } else {
        whole = fmin(fmax(round(gap / wanted), 1), FURTHEST);
        fine = gap / whole;
    }
    self->d1 = d1;
    self->d3 = d3;
    self->fine = fine;
    self->drift = (ptrdiff_t)(d1 > d3 ? whole : -whole);
    self->ratio = (ptrdiff_t)fmax(round(wanted / fine), 1);
    self->coarse = (double)self->ratio * fine;
    *possible = self->batch->arrival_rate * d1 < 1 && self->batch->arrival_rate * self->fine < 0.5 &&
                fmax(whole, d3 / self->coarse) < FURTHEST;
}

static void laws_free(ei_joint_law **laws, size_t count) {
    for (size_t i = 0; i < count && *laws != NULL; i++)
        ei_joint_law_free(&(*laws)[i]);
    free(*laws);
    *laws = NULL;
}

/* X, or X up to fine point `limit`, on lattices that begin one of c's steps later each. */
static int laws_init(const ei_joint *self, size_t limit, ei_joint_law **laws) {
    const size_t count = (size_t)self->ratio;
    int status = EI_OK;
    if ((*laws = calloc(count, sizeof **laws)) == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t i = 0; i < count && status == EI_OK; i++)
        status = ei_joint_law_init(&(*laws)[i], &self->service, i * (self->service.fine / count), limit,
                                   self->least);
    return status;
}

static void joint_free(ei_joint *self) {
    free(self->block);
    laws_free(&self->laws, (size_t)self->ratio);
    ei_joint_service_free(&self->service);
    ei_joint_service_free(&self->brief);
}

/* How fast busy periods' tails fall, a job. */
static double busy_fall(double load) {
    return load - 1 - log(load);
}

static int reserve(ei_joint *self) {
    ptrdiff_t back = self->drift < 0 ? -self->drift : 0;
    self->pad = (size_t)(self->drift > 0 ? self->drift : 0) + 3;
    self->low = self->first * self->ratio - back;
    self->rows = (size_t)(self->top - self->low) + self->pad + 1;
    self->width = ei_joint_blocks((size_t)((self->top + (ptrdiff_t)self->pad + back) / self->ratio) + 4);
    /* The last of the rows that belong to a coarse step is no later than `top`. */
    self->steps = (size_t)((self->top - self->low - 2 * (self->ratio - 1)) / self->ratio) + 1;
    self->places += self->steps;
    self->steps_beyond = self->drift > 0 ? (size_t)((self->drift - 1) / self->ratio) + 1 : 0;
    self->kept = self->drift < 0 ? self->rows : self->pad + 1;
    self->turns = self->drift < 0 ? (size_t)back + 1 : self->kept;
    self->span = ei_joint_blocks(self->width + (size_t)-self->first);
    self->deepest = (ptrdiff_t)self->span - 1 + self->first;
    self->above = (size_t)((self->drift > 0 ? self->drift : 0) + 3) / (size_t)self->ratio + 1;
    self->phase = ei_joint_blocks(self->above + self->span);
    size_t uncut = (size_t)self->ratio * self->phase;
    size_t array = self->rows * self->width, kept = self->kept * self->width;
    size_t later = (self->steps + self->steps_beyond) * self->width;
    size_t around = self->span + (size_t)-self->first + 2 * EI_JOINT_CHUNK;
    const size_t turns = self->turns * self->width;
    const int upper = self->end == EI_UPPER;
    self->block =
        calloc(self->types * turns + 2 * kept + (upper ? 2u : 1u) * (array + later) + 2 * self->width +
                   4 * self->span + (self->types + 3) * uncut + self->places + around,
               sizeof(double));
    if (self->block == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t i = 0; i < self->types; i++)
        self->type[i] = self->block + i * turns;
    self->mix = self->block + self->types * turns;
    self->sum = self->mix + kept;
    self->idle_value = self->sum + kept;
    self->longest = self->idle_value + array;
    self->later[0] = self->idle_value + (upper ? 2u : 1u) * array;
    self->later[1] = self->later[0] + later;
    self->ones = self->later[upper] + later;
    self->mean = self->ones + self->width;
    self->late = self->mean + self->width;
    self->ended = self->late + self->span;
    self->uncut_later[0] = self->ended + self->span;
    self->uncut_later[1] = self->uncut_later[0] + self->span;
    self->uncut[0] = self->uncut_later[1] + self->span;
    for (size_t i = 1; i < self->types + 3; i++)
        self->uncut[i] = self->uncut[i - 1] + uncut;
    self->found = self->uncut[self->types + 2] + uncut;
    self->around = self->found + self->places;
    for (size_t u = 0; u < self->width; u++)
        self->ones[u] = 1;
    return EI_OK;
}

/* Multiply-adds of one job, of one component of the mixture, and what else a value takes. */
static double pass_work(const ei_joint *self) {
    const double width = (double)self->width;
    const double length = self->laws[0].decay > 0
                              ? (double)self->laws[0].regular + 30
                              : fmin((double)self->laws[0].count, width) + 20 - (double)self->laws[0].begin;
    return (double)self->rows * width / 2 * length * 0.7;
}

/* Multiply-adds of one end, roughly: those over waits have cells, which take longer, and places of Y. */
static double work_of(const ei_joint *self) {
    const double load = self->batch->arrival_rate * self->d1, places = (double)self->places;
    const double jobs = fmin(20 / busy_fall(load), OFTEN);
    const double waits =
        0.75 * places * places + 100 * places * self->coarse / self->d1 * (double)self->wait_cells;
    return pass_work(self) * ((double)self->types * self->sweeps + jobs / (double)self->ratio) + jobs * waits;
}

/* Components of the mixture and parts that they come in: Gauss's rule for a part's measure on [0, r], r =
 * load e^{1 - load}, loses a factor of ((1 - s) / (1 + s))^2, s^2 = 1 - r, with each, of what 1 / (1 - x)
 * makes of it. */
static size_t choose_types(ei_joint *self) {
    const double load = self->batch->arrival_rate * self->d1, s = sqrt(1 - load * exp(1 - load));
    const double wanted = ceil(log(MISSED[self->batch->effort]) / (2 * log((1 - s) / (1 + s))));
    const int tight = self->batch->effort == EI_EFFORT_TIGHT;
    /* Where one sweep is enough they cost little beside the first busy period. */
    self->types = tight ? 12 : (size_t)fmax(wanted, 4);
    if (self->drift > 0)
        self->types += tight ? 4 : 2;
    if (wanted <= MOST_TYPES)
        return tight ? 2 : 1;
    self->types = HEAVY_PARTS * (load > HEAVY ? 5u : 4u);
    return HEAVY_PARTS;
}

/* For deadlines up to `latest`. *possible: whether this end exists and is not too much work. */
static int joint_init(ei_joint *self, double points, double latest, int *possible) {
    double rate = self->batch->arrival_rate;
    int status;
    choose_steps(self, points, possible);
    if (!*possible)
        return EI_OK;
    const size_t parts = choose_types(self);
    self->first = -(ptrdiff_t)ceil(self->d3 / self->coarse) - 1;
    self->idle = ei_joint_idle_law(rate, self->fine, self->end);
    *possible = 0;
    status = ei_joint_busy_init(&self->busy, rate * self->d1, parts, 3 / busy_fall(rate * self->d1),
                                self->types, self->end);
    self->slowest = self->types / parts - 1;
    if (status != EI_OK || (status = ei_joint_choose_bounds(self)) != EI_OK)
        return status == EI_ERR_ACCURACY || status == EI_ERR_UNSTABLE ? EI_OK : status;
    ei_joint_choose_products(self);
    double rest = fmax(latest - ei_joint_nearest(self), 0);
    double all = rest + (double)self->apart / rate, top = 0,
           coarser = fmax(POINTS[self->batch->effort] / points, 1),
           most = BEYOND[self->batch->effort] * pow(coarser, COARSER) * self->likely;
    while (ei_joint_least_left(self, 0, all) > most)
        all += 0.2 / ei_joint_steepest(self);
    while (top < all && ei_joint_least_beyond(self, top) > OUTSIDE * most)
        top += 0.2 / ei_joint_steepest(self);
    top = fmin(top, all);
    if (self->end == EI_UPPER)
        ei_joint_add_longest(self, parts == HEAVY_PARTS);
    /* Rows before 0 and beyond the top count, too: where one constant stage is far faster they are the most.
     */
    double ratio = (double)self->ratio, rows = ceil(top / self->fine) + fabs((double)self->drift);
    const double arrays = self->drift < 0 ? 8 + (double)self->products / 2 : 3;
    if (arrays * rows * (rows - (double)self->first * ratio) / ratio > ROOM || all / self->fine > ROOM)
        return EI_OK;
    self->top = (ptrdiff_t)ceil(top / self->fine);
    self->places = (size_t)ceil((all - top) / self->coarse); /* more than `steps` */
    size_t steps = (size_t)(self->top / self->ratio - self->first) + 4;
    double start = self->d3 + (double)self->first * self->coarse;
    if ((status = ei_joint_service_init(&self->service, self->batch->pipeline->random, start, self->coarse,
                                        steps, (size_t)self->ratio, self->end)) != EI_OK ||
        (status = laws_init(self, SIZE_MAX, &self->laws)) != EI_OK || (status = reserve(self)) != EI_OK)
        return status;
    *possible = work_of(self) < self->most && ei_joint_factors(self) < ROOM;
    return EI_OK;
}

/* log P(some path of fewer than `apart` jobs is longer than the deadline) or more, whatever their arrivals:
 * such paths are no longer than d1 + d3 and `apart` times max(X, dm). brief: X up to dm, from below. */
static double log_early(const ei_batch *batch, const ei_joint_service *brief, size_t apart, double deadline) {
    const ei_shape *pipeline = batch->pipeline;
    double dm = brief->step, least = 0, moment;
    for (double theta = 0.25 / dm; theta < 64 / dm; theta *= 1.15) {
        if (ei_service_log_mgf(pipeline->random, theta, &moment, NULL) != EI_OK || !isfinite(moment))
            break;
        double one = theta * dm + log(exp(moment + EI_SERVICE_MGF_ERROR - theta * dm) +
                                      ei_joint_short_share(brief, theta));
        least = fmin(least, (double)apart * one - theta * (deadline - pipeline->d1 - pipeline->d3));
    }
    return least;
}

/* How many interarrival times are taken out: as many as arrive in some decay times, for the most accurate
 * result, while paths of fewer jobs are of no account for the deadlines of the class. And what is of no
 * account of a service's tail. */
static int choose_apart(const ei_batch *batch, double latest, ei_joint *self) {
    const ei_shape *pipeline = batch->pipeline;
    const double dm = fmax(pipeline->d1, pipeline->d3);
    const ei_service stages[] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = dm}, *pipeline->random};
    double decay, unit = pipeline->d1 + pipeline->d3, earliest = latest / CLASS * (1 - 1e-9);
    int status = ei_decay_rate(stages, 2, &batch->arrival, &decay);
    self->apart = 1;
    self->earliest = earliest;
    if (status != EI_OK ||
        (status = ei_joint_service_init(&self->brief, pipeline->random, 0, dm, 1, 1, EI_LOWER)) != EI_OK)
        return status;
    double wanted = fmin(APART_DECAYS * batch->arrival_rate / decay, APART);
    while ((double)self->apart < wanted && (double)(self->apart + 3) * unit < earliest &&
           log_early(batch, &self->brief, self->apart + 1, earliest) < log(EARLY) - decay * (earliest - unit))
        ++self->apart;
    double relative, absolute;
    ei_service_accuracy(pipeline->random, &relative, &absolute);
    self->likely = fmin(exp(-decay * (latest - unit)), 1);
    self->least = fmax(1e-23, LEAST * self->likely);
    /* Upper ends count the inaccuracy of a tail anyhow. */
    if (self->end == EI_UPPER)
        self->least = fmax(self->least, 1.1 * absolute);
    return EI_OK;
}

/* What paths of few jobs are worth, and the law of X_0: for one, P(X_0 > z) and the law up to z, a fine point
 * at or after T - d1 - d3. */
static int prepare(const ei_joint *self, ei_joint_target *one) {
    double fine = self->coarse / (double)self->service.fine;
    double place = (one->deadline - self->d1 - self->d3 - self->service.start) / fine;
    size_t below = (size_t)fmax(floor(place * (1 - 1e-14)), 0),
           above = (size_t)fmax(ceil(place * (1 + 1e-14)), 0);
    one->value = calloc(self->places, sizeof *one->value);
    if (one->value == NULL)
        return EI_ERR_NO_MEMORY;
    if (self->apart > 1) {
        one->late[self->end] =
            self->end == EI_UPPER ? exp(log_early(self->batch, &self->brief, self->apart, one->deadline)) : 0;
        return laws_init(self, SIZE_MAX, &one->laws);
    }
    if (above >= self->service.count)
        above = below = self->service.count - 1;
    one->late[self->end] = self->service.sf[self->end == EI_UPPER ? below : above];
    return laws_init(self, above, &one->laws);
}

/* One end of the targets. */
static int one_end(const ei_batch *batch, ei_end end, double latest, ei_joint_target *targets, size_t count,
                   size_t *jobs, trial *asked) {
    ei_joint self = {
        .batch = batch, .end = end, .wait_cells = WAIT_CELLS[batch->effort], .most = asked->most};
    int status = choose_apart(batch, latest, &self);
    if (status == EI_OK)
        status = joint_init(&self, asked->points, latest, &asked->possible);
    for (size_t i = 0; i < count && status == EI_OK && asked->possible; i++)
        status = prepare(&self, &targets[i]);
    if (status == EI_OK && asked->possible && (status = ei_joint_solve(&self)) == EI_OK)
        status = ei_joint_first_busy_period(&self, targets, count, jobs);
    if (self.block != NULL)
        asked->work = work_of(&self);
    if (end == EI_LOWER && self.laws != NULL)
        asked->points = fmin(self.d1, self.d3) / self.coarse;
    for (size_t i = 0; i < count; i++) {
        laws_free(&targets[i].laws, (size_t)self.ratio);
        free(targets[i].value);
        targets[i].value = NULL;
    }
    joint_free(&self);
    return status;
}

/* The deadlines of one class, the first of them its latest. */
static int refine(const ei_batch *batch, ei_joint_target *targets, size_t count, trial *asked) {
    size_t jobs = 0;
    double latest = targets[0].deadline;
    int status = one_end(batch, EI_UPPER, latest, targets, count, &jobs, asked);
    if (status == EI_OK && asked->possible)
        status = one_end(batch, EI_LOWER, latest, targets, count, &jobs, asked);
    for (size_t i = 0; i < count && status == EI_OK && asked->possible; i++) {
        const ei_joint_target *one = &targets[i];
        double low = one->late[EI_LOWER] + one->rising[EI_LOWER] - one->falling[EI_UPPER];
        double high = one->late[EI_UPPER] + one->rising[EI_UPPER] - one->falling[EI_LOWER];
        double error = EI_JOINT_ROUNDING * (one->late[EI_UPPER] + one->rising[EI_UPPER]);
        low -= error;
        high += error;
        if (i == 0) {
            asked->ratio = low > 0 ? high / low : INFINITY;
            continue;
        }
        ei_raise_lower(batch, one->at, low, EI_BRACKET_JOINT);
        ei_cut_upper(batch, one->at, high, EI_BRACKET_JOINT);
    }
    return status;
}

/* Steps in the faster stage of the lattice for about `points`. */
static double points_of(const ei_batch *batch, double points) {
    ei_joint self = {.batch = batch, .end = EI_LOWER};
    int possible;
    choose_steps(&self, points, &possible);
    return fmin(self.d1, self.d3) / self.coarse;
}

/* Whether a lattice of so many points is worth its work behind `last`, and the one before that: the ends'
 * ratio is a part that no lattice changes and one that falls with the square of the step. */
static int is_worthwhile(const trial *before, const trial *last, double points) {
    if (points < FINER * last->points)
        return 0;
    if (!isfinite(last->ratio))
        return before->points == 0 && points >= HOPED * last->points;
    if (before->points == 0)
        return 1;
    const double square = pow(last->points, -2);
    const double slope = (before->ratio - last->ratio) / (pow(before->points, -2) - square);
    return last->ratio - slope * (square - pow(points, -2)) - 1 < HELPED * (last->ratio - 1);
}

/* Lattices of one class, finer and finer: work grows with the third power of the points. Where a lattice is
 * too much work, a coarser one. */
static int class_ends(const ei_batch *self, double enough, ei_joint_target *targets, size_t count) {
    const double most = WORK[self->effort];
    double points = POINTS[self->effort], refused = INFINITY;
    trial before = {.points = 0}, last = before;
    int status = EI_OK;
    for (int found = 0; found < TRIALS && status == EI_OK;) {
        trial next = {.points = points, .most = most};
        status = refine(self, targets, count, &next);
        if (status == EI_OK && next.possible) {
            before = last;
            last = next;
            found++;
            if (last.ratio <= enough)
                break;
            double aim = AIMED * (enough - 1);
            double factor = fmin(sqrt((last.ratio - 1) / aim), FASTEST);
            points = last.points * fmin(factor, cbrt(AIMED * most / last.work));
        } else {
            refused = fmin(refused, points_of(self, points));
            points /= last.points > 0    ? LESS
                      : next.work > most ? fmin(fmax(cbrt(next.work / (AIMED * most)), LESS), 1.5)
                                         : 1.5;
        }
        /* The stages' difference allows of few lattices. */
        if (points_of(self, points) < FINER * last.points)
            points *= 1.3;
        while (points >= COARSEST && points_of(self, points) >= refused)
            points /= LESS;
        if (points < COARSEST || (last.points > 0 && !is_worthwhile(&before, &last, points_of(self, points))))
            break;
    }
    return status;
}

int ei_joint_ends(const ei_batch *self, double enough) {
    const ei_shape *pipeline = self->pipeline;
    ei_joint_target *targets = calloc(self->count + 1, sizeof *targets);
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
        targets[0] = (ei_joint_target){.deadline = unit * pow(CLASS, grade)};
        for (size_t k = i; k < self->count; k++) {
            if (grades[k] != grade)
                continue;
            grades[k] = -1;
            targets[count++] = (ei_joint_target){
                .at = self->index[k], .deadline = self->deadline[self->index[k]] - pipeline->constant};
        }
        status = class_ends(self, enough, targets, count);
    }
    free(targets);
    free(grades);
    return status;
}
