#include "edgeinfer/tilted.h"

#include "edgeinfer/arrival.h"
#include "edgeinfer/lindley.h"
#include "edgeinfer/modulated.h"
#include "edgeinfer/split.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FEWEST = 8192, /* points of the tilted services, and twice the result's */
    ONCE = 2,      /* times fewer points for the sum of one service of each stage behind */
    PASSES = 2,
    BISECTIONS = 16,
    MOVES = 200,
    INNER = 1024, /* points of a law behind one of the stages behind b */
    SPREAD = 8    /* blocks of points over which X is spread */
};
static const double LENGTHS[] = {0, 0.35, 1}; /* over which V is spread, decay times */
static const double NEARLY = 1.3;             /* services of b that what is behind it may leave */
static const double LEFT = 6;                 /* decay times below 0 up to which m is followed */
static const double CUT = 1e-11;              /* of a time's law by rounding, beyond that of its masses */
static const double FURTHEST = 46;            /* decay times after which a law's lattice ends */
static const double FURTHER = 2;              /* times a service's extent, where its tilted law ends */
static const double ROUNDING = 1 + 1e-8;
static const double LESS = 0.95;  /* than the exponents of stages behind one of those */
static const double WORTH = 0.99; /* times a moment that is known, for another to be looked for */

typedef struct {
    const ei_tilted *given;
    double theta, kept; /* M(theta) E e^{-theta t}, or more */
    size_t phases, times;
    size_t times_known;
    double time_step;
    double *tilted; /* [times + 1]: of the tilted law rounded down, P(B > i time_step) */
    double *mean;   /* [times + 1]: E min(B, i time_step) */
    ei_tail tail;   /* slope: D */
    double slope[EI_ARRIVAL_PHASES][EI_TAIL_ENDS]; /* s_i */
    ei_lattice one;                                /* N_0; empty: 0 */
} tilted;

static void tilted_free(tilted *self) {
    free(self->tilted);
    ei_lattice_free(&self->one);
}

int ei_tilted_exponent(const ei_added_stage *stage, const ei_arrival *arrival, double decay, double *theta) {
    for (double less = 1e-9; less < 0.1; less *= 2) {
        double value, slope;
        *theta = decay * (1 - less);
        int status = ei_added_stage_log_moment(stage, *theta, &value);
        if (status != EI_OK)
            return status;
        if (value * (1 + EI_SERVICE_MGF_ERROR) <= ei_arrival_exponent(arrival, *theta, &slope))
            return EI_OK;
    }
    return EI_ERR_UNSTABLE;
}

/* chance[k] of P(B > k step) under the tilt from below, all moments over e^{theta end}. */
static void tilt(const tilted *self, const double *low, const double *high, double *chance) {
    const size_t last = self->times;
    const double step = self->time_step, end = (double)last * step, grow = exp(self->theta * step);
    double beyond = low[last], until = (1 - high[0]) * exp(-self->theta * end), before = 1;
    chance[last] = beyond;
    for (size_t k = last; k-- > 0;)
        chance[k] = beyond += (low[k] - low[k + 1]) * exp(self->theta * ((double)k * step - end));
    for (size_t k = 0; k <= last; k++) {
        const double at = exp(self->theta * ((double)k * step - end)),
                     below = until + at * fmax(high[k] - low[k], 0);
        chance[k] = before = fmin(chance[k] / (chance[k] + below) * (1 - 1e-10), before);
        until += k < last ? (high[k] - high[k + 1]) * at * grow : 0;
    }
}

/* Times between requests: a stage's services under the tilt, in the place of another's; with probability 1 -
 * kept after each none comes any more. */
static int feed(tilted *self, const ei_added_stage *stage, double kept) {
    const size_t last = self->times;
    const ei_service *service = stage->law;
    const double floor = stage->floor;
    if (self->tilted == NULL && (self->tilted = malloc(2 * (last + 1) * sizeof *self->tilted)) == NULL)
        return EI_ERR_NO_MEMORY;
    self->mean = self->tilted + last + 1;
    self->times_known = service != NULL ? last + 1 : 2;
    if (service == NULL) {
        self->time_step = self->mean[1] = stage->again;
        self->mean[0] = 0;
        self->tilted[0] = 1;
        self->tilted[1] = 1 - kept;
        return EI_OK;
    }
    ei_lattice ends[2] = {{.sf = NULL}, {.sf = NULL}};
    const double further = service->kind == EI_SERVICE_SAMPLES ? 1.0001 : FURTHER;
    const double step = self->time_step = ei_service_extent(service) * further / (double)last;
    int status = floor > 0 ? ei_lattice_service(&ends[EI_LOWER], service, floor, step, last + 1, EI_LOWER)
                           : ei_lattice_ends(ends, service, step, last + 1);
    if (status == EI_OK && floor > 0)
        status = ei_lattice_service(&ends[EI_UPPER], service, floor, step, last + 1, EI_UPPER);
    if (status == EI_OK) {
        tilt(self, ends[EI_LOWER].sf, ends[EI_UPPER].sf, self->tilted);
        /* Rounded down: beyond point k where B is beyond point k + 1. What is further out is cut to the last.
         */
        memmove(self->tilted, self->tilted + 1, last * sizeof *self->tilted);
        self->tilted[last] = 0;
        double sum = 0, lost = 0;
        for (size_t k = 0; k <= last; k++) {
            /* Kahan's sum, for differences of these are taken. */
            self->tilted[k] = 1 - kept + kept * self->tilted[k];
            const double term = self->tilted[k] * step - lost, next = sum + term;
            self->mean[k] = sum;
            lost = (next - sum) - term;
            sum = next;
        }
    }
    ei_lattice_free(&ends[0]);
    ei_lattice_free(&ends[1]);
    return status;
}

/* What is at most `slope` from `from` on up to the next that is asked for counts for all z behind. */
static void raise_slope(tilted *self, size_t phase, double from, double slope) {
    const double first = fmax(ceil(from / ei_tail_end(&self->tail, 0) * (1 - 1e-9)) - 1, 0);
    if (first < EI_TAIL_ENDS)
        self->slope[phase][(size_t)first] = fmax(self->slope[phase][(size_t)first], slope * ROUNDING);
}

/* Slopes of V itself, whose cells are small beside a mean service, or spread over `points` cells. */
static void find_own_slopes(tilted *self, const double *share, size_t points) {
    const ei_upper_law *v = self->given->v;
    const double step = v->lattice.step, theta = self->theta,
                 over = theta * step * (double)(points > 0 ? points : 1);
    for (size_t i = 0; i < self->phases; i++) {
        const double *sf = ei_upper_law_of_phase(v, i).lattice.sf;
        for (size_t j = 0; j + 1 < v->lattice.count && share[i] > 0; j++)
            raise_slope(self, i, (double)j * step,
                        ((j >= points ? sf[j - points] : 1) - sf[j + 1]) *
                            exp(theta * (double)(j + 1) * step) / over);
    }
}

/* m of a phase, of V from above and with `left` blocks of `block` points before 0, at each block's end. */
static void wait(const tilted *self, const ei_split *time, size_t phase, size_t left, size_t block,
                 double *mean, double *off) {
    const ei_upper_law *v = self->given->v;
    const size_t before = left * block, count = v->lattice.count, blocks = (count - 1) / block + left + 1;
    for (size_t i = 0; i < blocks; i++)
        mean[i] = off[i] = 0;
    for (size_t to = 0; to < self->phases; to++) {
        const double *sf = ei_upper_law_of_phase(v, to).lattice.sf,
                     *mass = time->mass + (phase * self->phases + to) * time->cells,
                     *error = time->error + (phase * self->phases + to) * time->cells;
        double wrong = CUT;
        for (size_t k = 0; k < time->cells; k++)
            wrong += error[k];
        for (size_t i = 0; i < blocks; i++) {
            /* Times that do not reach 0, and the point from which the others go on. */
            const size_t at = i * block, short_of = at < before ? before - at : 0,
                         from = at < before ? 0 : at - before;
            double sum = 0;
            for (size_t k = 0; k < short_of && k < time->cells; k++)
                sum += mass[k];
            if (short_of < time->cells) {
                const size_t room = count - from, rest = time->cells - short_of;
                sum += ei_dot(mass + short_of, sf + from, rest < room ? rest : room);
            }
            mean[i] += sum;
            off[i] += wrong * (at < before ? 1 : sf[from]) + sf[count - 1];
        }
    }
}

/* Slopes of m, V spread. */
static int find_spread_slopes(tilted *self, const double *share) {
    const ei_lattice *law = &self->given->v->lattice;
    const size_t block = self->phases, count = law->count;
    const double length = (double)block * law->step, theta = self->theta;
    const size_t left = (size_t)(LEFT / (theta * length)) + SPREAD + 1,
                 blocks = (count - 1) / block + left + 1;
    double *mean = malloc(2 * blocks * sizeof *mean), *off = mean + blocks;
    ei_split time = {.mass = NULL};
    int status = mean == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    if (status == EI_OK)
        status = ei_split_time(&time, self->given->arrival, law->step, count, EI_UPPER);
    for (size_t i = 0; i < self->phases && status == EI_OK; i++) {
        if (!(share[i] > 0))
            continue;
        wait(self, &time, i, left, block, mean, off);
        const double over = theta * SPREAD * length, low = -(double)left * length;
        raise_slope(self, i, 0,
                    (1 - mean[SPREAD] + off[SPREAD]) * exp(theta * (low + SPREAD * length)) / over);
        for (size_t k = SPREAD; k + 1 < blocks; k++) {
            const double from = low + (double)k * length;
            raise_slope(self, i, from,
                        (mean[k - SPREAD] - mean[k + 1] + off[k - SPREAD] + off[k + 1]) *
                            exp(theta * (from + length)) / over);
        }
        if (ei_stopped(self->given->monitor))
            status = EI_ERR_INTERRUPTED;
    }
    ei_split_free(&time);
    free(mean);
    return status;
}

/* V in the mean over X, at the points of its lattice, each a sum over every `block` cells of `points`. */
static int spread(const tilted *self, size_t points, size_t block, ei_upper_law *even) {
    const ei_upper_law *v = self->given->v;
    const size_t count = v->lattice.count;
    *even = *v;
    even->by_phase = NULL;
    even->lattice.sf = malloc(count * sizeof(double));
    if (even->lattice.sf == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t j = 0; j < count; j++) {
        double sum = 0;
        for (size_t a = block; a <= points; a += block)
            sum += j >= a ? v->lattice.sf[j - a] : 1;
        even->lattice.sf[j] = fmin(sum * (double)block / (double)points * (1 + 1e-13), 1);
    }
    /* Beyond the lattice the same bound is later. */
    even->log_scale += even->decay * (double)points * v->lattice.step;
    return EI_OK;
}

/* The shares of phases of requests. */
static void find_shares(const tilted *self, double *share) {
    const ei_arrival *arrival = self->given->arrival;
    share[0] = 1;
    for (size_t i = 0; i < self->phases && arrival->kind == EI_ARRIVAL_MARKOV_MODULATED; i++)
        share[i] = arrival->stationary[i] * arrival->rates[i] * ei_arrival_mean(arrival);
}

/* The largest mean of s over the phases of jobs 0 (times moment), 1, .. under the tilt, or but for the first.
 */
static int mean_slopes(tilted *self, const double *share, double moment, int first_too) {
    const ei_arrival *arrival = self->given->arrival;
    const size_t n = self->phases;
    double move[EI_ARRIVAL_PHASES * EI_ARRIVAL_PHASES] = {1}, h[EI_ARRIVAL_PHASES] = {1};
    if (arrival->kind == EI_ARRIVAL_MARKOV_MODULATED) {
        if (isnan(ei_modulated_exponent(arrival, self->theta, h, move)))
            return EI_ERR_TOO_LARGE;
        for (size_t i = 0; i < n * n; i++)
            move[i] *= moment / self->kept;
    }
    for (size_t e = 0; e < EI_TAIL_ENDS; e++) {
        double s[EI_ARRIVAL_PHASES], next[EI_ARRIVAL_PHASES], most = 0, beyond = INFINITY;
        for (size_t i = 0; i < n; i++)
            s[i] = self->slope[i][e] = fmax(self->slope[i][e], e > 0 ? self->slope[i][e - 1] : 0);
        for (int l = 0; l < MOVES && most < beyond; l++) {
            double mean = 0, ratio = 0, weight = 0;
            for (size_t i = 0; i < n; i++) {
                mean += share[i] * s[i];
                weight += share[i] * h[i];
                if (share[i] > 0)
                    ratio = fmax(ratio, s[i] / h[i]);
            }
            /* All later ones: as h only falls. */
            beyond = fmin(beyond, ratio * weight);
            most = l > 0 || first_too ? fmax(most, mean) : 0;
            for (size_t i = 0; i < n; i++) {
                next[i] = 0;
                for (size_t j = 0; j < n; j++)
                    next[i] += move[i * n + j] * s[j];
            }
            memcpy(s, next, n * sizeof *s);
        }
        self->tail.slope[e] *= fmax(most, beyond) * (first_too ? moment / self->kept : 1) * ROUNDING;
    }
    return EI_OK;
}

/* K up to each z, times what stands beside it, V itself spread over so many cells, or, 0, as is the best for
 * b's services; even: V in the mean over X, the caller's to free, where it is. */
static int find_slopes_behind(tilted *self, size_t points, ei_upper_law *even) {
    const ei_added_stage stage = {self->given->service, self->given->floor, 0, 0};
    const int smooth = points > 0 || (stage.law->kind == EI_SERVICE_EXPONENTIAL && !(stage.floor > 0));
    const ei_lattice *law = &self->given->v->lattice;
    const double known = (double)law->count - 1 - (double)(2 * self->phases);
    double share[EI_ARRIVAL_PHASES], log_moment;
    int status = ei_added_stage_log_moment(&stage, self->theta, &log_moment);
    find_shares(self, share);
    memset(self->slope, 0, sizeof self->slope);
    for (size_t e = 0; e < EI_TAIL_ENDS; e++)
        self->tail.slope[e] = known * law->step > ei_tail_end(&self->tail, e) ? 1 : INFINITY;
    if (status == EI_OK && smooth)
        find_own_slopes(self, share, points);
    if (status == EI_OK && !smooth)
        status = find_spread_slopes(self, share);
    if (status == EI_OK && (points > 0 || !smooth))
        status = points > 0 ? spread(self, points, 1, even)
                            : spread(self, SPREAD * self->phases, self->phases, even);
    return status == EI_OK ? mean_slopes(self, share, exp(log_moment * (1 + EI_SERVICE_MGF_ERROR)), !smooth)
                           : status;
}

/* D up to each z, from `from` on. */
static void find_slopes(tilted *self, double from) {
    const ei_lattice *law = &self->given->v->lattice;
    const double rate = ei_arrival_rate(self->given->arrival), step = law->step, keep = exp(-rate * step),
                 apart = ei_tail_end(&self->tail, 0);
    double mean = 0, *slope = self->tail.slope;
    for (size_t e = 0; e < EI_TAIL_ENDS; e++)
        slope[e] = (double)law->count * step > ei_tail_end(&self->tail, e) ? 0 : INFINITY;
    for (size_t j = law->count; j-- > 0 && (double)(j + 1) * step > from;) {
        /* In the cell behind j; mean: m at its end. The cell counts for the z that are further than half a
         * step before it. */
        const double most = j > 0 ? law->sf[j] : 1,
                     first = fmax(ceil(((double)j - 0.5) * step / apart) - 1, 0);
        if (first < EI_TAIL_ENDS)
            slope[(size_t)first] = fmax(slope[(size_t)first], rate * (most - mean) * ROUNDING *
                                                                  exp(self->theta * (double)(j + 1) * step));
        mean = keep * mean + (1 - keep) * self->given->least[j] * (1 - 1e-12);
    }
    for (size_t e = 1; e < EI_TAIL_ENDS; e++)
        slope[e] = fmax(slope[e], slope[e - 1]);
}

/* Adds an independent time, both from above and on lattices of one step, in the place of *law. */
static int add_upper(ei_lattice *law, const ei_lattice *other) {
    const size_t count = law->count + other->count;
    double *sf = calloc(count, sizeof *sf);
    if (sf == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t j = 0; j < count; j++) {
        /* Masses further back meet what is beyond the other's lattice. */
        double sum = law->sf[j < law->count ? j : law->count - 1] + other->sf[other->count - 1];
        for (size_t i = j < law->count ? 0 : j - law->count + 1; i < other->count && i <= j; i++)
            sum += ((j == i ? 1 : law->sf[j - i - 1]) - law->sf[j - i]) * other->sf[i];
        sf[j] = fmin(sum * (1 + 1e-11), j > 0 ? sf[j - 1] : 1);
    }
    ei_lattice_free(law);
    *law = (ei_lattice){other->step, count, sf};
    return EI_OK;
}

/* N_0 from above. */
static int sum_of_one(tilted *self) {
    const ei_added_stage *rest = self->given->rest;
    double reach = 0;
    int status = EI_OK;
    for (size_t k = 0; k < self->given->rest_count; k++)
        reach += rest[k].law != NULL ? ei_service_reach(rest[k].law) : 0;
    const double step = reach * ONCE / (double)self->given->points;
    for (size_t k = 0; k < self->given->rest_count && status == EI_OK; k++) {
        ei_lattice next = {.sf = NULL};
        if (rest[k].law == NULL)
            continue;
        status = ei_lattice_service(&next, rest[k].law, 0, step,
                                    (size_t)(ei_service_reach(rest[k].law) / step) + 3, EI_UPPER);
        if (status == EI_OK && self->one.sf == NULL) {
            self->one = next;
            continue;
        }
        if (status == EI_OK)
            status = add_upper(&self->one, &next);
        ei_lattice_free(&next);
    }
    return status;
}

static ei_arrival tilted_times(const tilted *self) {
    return (ei_arrival){.kind = EI_ARRIVAL_LATTICE,
                        .parameter = {self->time_step},
                        .count = self->times_known,
                        .rates = self->tilted,
                        .intervals = self->mean};
}

/* The exponent that a stage has behind such services, about, at most `most`. */
static int exponent_behind(const ei_added_stage *stage, const ei_arrival *times, double most,
                           double *exponent) {
    double low = 0, slope;
    for (int i = 0; i < BISECTIONS && low < most; i++) {
        double middle = i == 0 ? most : low + (most - low) / 2, value = middle * stage->again;
        int status = stage->law != NULL ? ei_service_log_mgf(stage->law, middle, &value, NULL) : EI_OK;
        if (status != EI_OK)
            return status;
        if (value < ei_arrival_exponent(times, middle, &slope))
            low = middle;
        else
            most = middle;
    }
    *exponent = low;
    return EI_OK;
}

/* E e^{theta C} from above: 1 + int theta e^{theta q} P(C > q) dq, and as the law is below the chord between
 * its points, and weights grow, no more than their means count. */
static double moment_of(const tilted *self, const ei_upper_law *law) {
    const double step = law->lattice.step, theta = self->theta, grow = exp(theta * step),
                 faster = law->decay - theta;
    double sum = 0, at = 1;
    if (!(faster > 0))
        return INFINITY;
    for (size_t j = 0; j + 1 < law->lattice.count; j++, at *= grow) {
        const double *sf = law->lattice.sf + j;
        /* What is cut to 1 has no chord. */
        sum += at * (grow - 1) * (sf[0] < 1 ? (sf[0] + sf[1]) / 2 : sf[0]);
    }
    const double end = (double)(law->lattice.count - 1) * step;
    sum += theta * exp(law->log_scale - faster * end) / faster;
    /* The law is read late by its shift. */
    return (1 + sum) * exp(theta * (law->shift + 1e-9 * step)) * ROUNDING;
}

/* What the stages behind b have under the tilt, from above: a service's moment, its logarithm, chance of
 * another request when it is what those behind are fed by; and, of all stages from that one on, one service's
 * moment and F of tilted.h. Constant stages' last services left out. */
typedef struct {
    double log_moment, kept, once, behind;
} moments;

/* A run of stages, and times that it is fed by. */
typedef struct {
    const ei_added_stage *stages;
    const ei_arrival *times;
    double most, horizon; /* 1/s, of its exponents; s, of its law at most */
    size_t points;        /* of it */
    int plain;            /* whether none of its stages is tilted */
    ei_monitor monitor;
    /* The law of those up to one, and V of the slowest of these, if it is random, */
    ei_upper_law law, v;
    size_t slow;
    double mean, slowest, least; /* their services, s; exponents of that one and of those behind it, 1/s */
} run;

static void run_free(run *self) {
    ei_upper_law_free(&self->law);
    ei_upper_law_free(&self->v);
}

/* The better one of the law and the bound of tilted.h by the slowest stage. */
static int take_tilted(run *self, size_t last) {
    const ei_added_stage *stage = &self->stages[self->slow];
    ei_upper_law *law = &self->law, *v = &self->v, other = {.decay = 0};
    ei_tilted inner = {.v = v,
                       .service = stage->law,
                       .alone = self->slow == 0,
                       .arrival = self->times,
                       .rest = stage + 1,
                       .rest_count = last - self->slow,
                       .tail = {.furthest = (double)v->lattice.count * v->lattice.step},
                       .horizon = (double)law->lattice.count * law->lattice.step,
                       .points = INNER,
                       .nested = 1,
                       .monitor = self->monitor};
    int status = ei_tilted_exponent(stage, self->times, self->slowest, &inner.theta);
    inner.theta = fmin(inner.theta, LESS * self->least);
    for (size_t e = 0; e < EI_TAIL_ENDS; e++)
        inner.tail.log_beyond[e] = log(ei_upper_law_sf(law, ei_tail_end(&inner.tail, e) - law->shift)) + 1e-9;
    if (status == EI_OK)
        status = ei_tilted_law(&other, &inner);
    const double late = other.shift + 1e-9 * other.lattice.step;
    for (size_t j = 0; j < law->lattice.count && status == EI_OK; j++)
        law->lattice.sf[j] =
            fmin(law->lattice.sf[j],
                 ei_upper_law_sf(&other, (double)j * law->lattice.step - fmax(late - law->shift, 0)));
    ei_upper_law_free(&other);
    return ei_no_bound(status) ? EI_OK : status;
}

/* A copy of a law of one phase, in the place of another one. */
static int keep(ei_upper_law *kept, const ei_upper_law *law) {
    const size_t size = law->lattice.count * sizeof(double);
    ei_upper_law_free(kept);
    *kept = *law;
    if ((kept->lattice.sf = malloc(size)) == NULL)
        return EI_ERR_NO_MEMORY;
    memcpy(kept->lattice.sf, law->lattice.sf, size);
    return EI_OK;
}

/* Adds stage k, the first or the next. The lattice ends where little is left: the errors of a service's law
 * would grow out of bounds in exponential moments further out. */
static int run_add(run *self, size_t k) {
    const ei_added_stage *stage = &self->stages[k];
    ei_upper_law next;
    double alone;
    int status = exponent_behind(stage, self->times, self->most, &alone);
    if (status != EI_OK || !(alone > 0))
        return status == EI_OK ? EI_ERR_UNSTABLE : status;
    const int begins = k == 0 || alone < self->slowest;
    self->slowest = begins ? alone : self->slowest;
    self->least = begins ? INFINITY : fmin(self->least, alone);
    self->mean += stage->law != NULL ? ei_service_mean(stage->law) : stage->again;
    double step = fmin(self->horizon, 2 * self->mean + FURTHEST / self->slowest) / (double)self->points;
    if (stage->law == NULL)
        step = stage->again / ceil(stage->again / step);
    if (begins && !self->plain && stage->law != NULL)
        status = ei_add_stage_enclosed(&next, NULL, &self->law, stage, self->times, step, self->points,
                                       self->monitor);
    else
        status =
            ei_add_stage_lindley(&next, &self->law, stage, self->times, step, self->points, self->monitor);
    ei_upper_law_free(&self->law);
    self->law = next;
    if (status != EI_OK || self->plain)
        return status;
    if (!begins)
        return self->v.lattice.sf != NULL ? take_tilted(self, k) : EI_OK;
    self->slow = k;
    if (stage->law != NULL)
        return keep(&self->v, &self->law);
    ei_upper_law_free(&self->v);
    return EI_OK;
}

int ei_tilted_run(ei_upper_law *self, const ei_added_stage *stages, size_t count, double period,
                  double horizon, size_t points, ei_monitor monitor) {
    const double sf[] = {1, 0}, mean[] = {0, period};
    const ei_arrival times = {
        .kind = EI_ARRIVAL_LATTICE, .parameter = {period}, .count = 2, .rates = sf, .intervals = mean};
    run each = {.stages = stages,
                .times = &times,
                .most = FURTHEST / period,
                .horizon = horizon,
                .points = points,
                .monitor = monitor};
    int status = EI_OK;
    for (size_t k = 0; k < count && status == EI_OK; k++)
        status = run_add(&each, k);
    *self = each.law;
    each.law.lattice.sf = NULL;
    if (status != EI_OK)
        ei_upper_law_free(self);
    run_free(&each);
    return status;
}

/* F of the stages from `first` on. */
static int follow(const tilted *self, size_t first, moments *at) {
    const ei_tilted *given = self->given;
    const ei_arrival times = tilted_times(self);
    run each = {.stages = given->rest + first,
                .times = &times,
                .most = 8 * self->theta,
                .horizon = given->horizon,
                .points = given->points / 2,
                .plain = given->nested,
                .monitor = given->monitor};
    int status = EI_OK;
    for (size_t k = first; k < given->rest_count; k++) {
        if ((status = run_add(&each, k - first)) != EI_OK)
            break;
        const double moment = moment_of(self, &each.law) * ROUNDING;
        at[first].behind = fmin(at[first].behind, moment * at[k + 1].behind);
        /* With more stages added it grows by one service's at least. */
        if (!(moment * at[k + 1].once < WORTH * at[first].behind))
            break;
    }
    run_free(&each);
    return ei_no_bound(status) ? EI_OK : status;
}

/* All but F; *once: log E e^{theta N_0} from below. */
static int find_moments(const tilted *self, moments *at, double *once) {
    const size_t count = self->given->rest_count;
    int status = EI_OK;
    at[count] = (moments){0, 1, 1, 1};
    *once = 0;
    for (size_t k = count; k-- > 0 && status == EI_OK;) {
        const ei_added_stage *stage = &self->given->rest[k];
        double value = 0;
        status = ei_added_stage_log_moment(stage, self->theta, &value);
        at[k] = (moments){value * (1 + EI_SERVICE_MGF_ERROR), 1, at[k + 1].once, INFINITY};
        if (status == EI_OK && stage->law != NULL) {
            at[k].once *= exp(at[k].log_moment);
            status = ei_service_log_mgf(stage->law, self->theta, &value, NULL);
            *once += value * (1 - EI_SERVICE_MGF_ERROR);
        }
    }
    return status;
}

/* E e^{theta Q~} from above. */
static int find_behind(tilted *self, moments *at, double *behind) {
    const ei_tilted *given = self->given;
    const ei_added_stage b = {given->service, given->floor, 0, 0};
    double interval = INFINITY, slope;
    int status = EI_OK;
    /* Rounding makes -log L smaller, the more so the more stages have fed each other. */
    for (size_t k = 0; k < given->rest_count && status == EI_OK; k++) {
        if ((status = feed(self, k > 0 ? &given->rest[k - 1] : &b, k > 0 ? 1 : self->kept)) != EI_OK)
            break;
        const ei_arrival times = tilted_times(self);
        const double alone = ei_arrival_exponent(&times, self->theta, &slope);
        interval = k > 0 ? fmin(interval, interval + alone - at[k - 1].log_moment) : alone;
        at[k].kept = fmin(exp(at[k].log_moment - interval) * ROUNDING, 1);
    }
    for (size_t k = given->rest_count; k-- > 0 && status == EI_OK;)
        if ((status = feed(self, k > 0 ? &given->rest[k - 1] : &b, k > 0 ? at[k - 1].kept : self->kept)) ==
            EI_OK)
            status = follow(self, k, at);
    *behind = status == EI_OK ? at[0].behind : INFINITY;
    return status;
}

/* E e^{theta Q~}, and that less E e^{theta N_0}, from above. */
static int find_excess(tilted *self, double *behind, double *excess) {
    moments *at = malloc((self->given->rest_count + 1) * sizeof *at);
    double once, all = INFINITY;
    int status = at == NULL ? EI_ERR_NO_MEMORY : find_moments(self, at, &once);
    if (status == EI_OK) {
        status = find_behind(self, at, &all);
        if (self->given->log_moment != NULL && (status == EI_OK || ei_no_bound(status))) {
            all = fmin(all, exp(*self->given->log_moment) * ROUNDING);
            status = EI_OK;
        }
    }
    if (status == EI_OK) {
        *behind = all;
        *excess = fmax(all - exp(once), 0);
        status = isfinite(*excess) ? EI_OK : EI_ERR_UNSTABLE;
    }
    free(at);
    return status;
}

/* What is beyond each z by Lundberg's bound of V. */
static int cut_beyond(tilted *self, double behind, double excess) {
    const ei_added_stage b = {self->given->service, self->given->floor, 0, 0};
    double first, ratio;
    const int status = ei_added_stage_log_moment(&b, self->theta, &first);
    first = first * (1 + EI_SERVICE_MGF_ERROR) + log(behind * ROUNDING);
    if (self->tail.is_sum) {
        ratio = self->theta / ei_arrival_rate(self->given->arrival);
        first = log1p(ratio) + log((behind + excess / ratio) * ROUNDING);
    }
    for (size_t e = 0; e < EI_TAIL_ENDS && status == EI_OK; e++)
        self->tail.log_beyond[e] =
            fmin(self->tail.log_beyond[e], first - self->theta * ei_tail_end(&self->tail, e));
    return status;
}

/* What there is at one point. */
static double split_at(double once, double after, const ei_tail *tail, const double *beyond) {
    double more = 1;
    for (size_t e = 0; e < EI_TAIL_ENDS; e++)
        more = fmin(more, tail->slope[e] * after + beyond[e]);
    return fmin(once + more, 1);
}

void ei_split_tail(ei_upper_law *law, const double *once, const double *after, const ei_tail *tail) {
    const double step = law->lattice.step;
    double beyond[EI_TAIL_ENDS], before = 1;
    for (size_t e = 0; e < EI_TAIL_ENDS; e++)
        beyond[e] = exp(tail->log_beyond[e] + tail->log_of_phase);
    for (int pass = 0; pass < PASSES && !tail->is_sum; pass++)
        for (size_t e = EI_TAIL_ENDS; e-- > 0;) {
            const double at = floor((ei_tail_end(tail, e) - law->shift) / step - 1e-6);
            if (at >= 0 && at < (double)law->lattice.count)
                beyond[e] = fmin(beyond[e], split_at(once[(size_t)at], after[(size_t)at], tail, beyond) *
                                                exp(tail->log_of_phase));
        }
    for (size_t j = 0; j < law->lattice.count; j++)
        law->lattice.sf[j] = before =
            fmin(fmin(split_at(once[j], after[j], tail, beyond), before), law->lattice.sf[j]);
}

/* More than the chance that what is behind b takes all but `from` of a time: see tilted.h. */
static double nearly_all(const ei_tilted *given, double time, double from) {
    const double less = 1 / ei_arrival_rate(given->arrival);
    return from > 0 ? ei_upper_law_sf(given->alone_behind, time - from - less - given->alone_behind->shift) /
                          -expm1(-1)
                    : 0;
}

/* Cuts the law by that of one way to smooth V, or, behind Poisson arrivals, to take its slopes. */
static int cut(tilted *self, size_t way, double excess, double *once, ei_upper_law *law) {
    const ei_tilted *given = self->given;
    const int poisson = given->arrival->kind == EI_ARRIVAL_POISSON;
    const size_t points = (size_t)(LENGTHS[way] / (self->theta * given->v->lattice.step));
    const double from = way > 0 && poisson ? NEARLY * ei_service_mean(given->service) : 0;
    double *after = once + law->lattice.count;
    ei_upper_law even = {.decay = 0};
    int status = EI_OK;
    if (poisson)
        find_slopes(self, from);
    else
        status = find_slopes_behind(self, points, &even);
    const ei_upper_law one = {.lattice = self->one}, *v = even.lattice.sf != NULL ? &even : given->v;
    const double share =
        (poisson ? 1 / self->theta + 1 / ei_arrival_rate(given->arrival) : 1) * excess * ROUNDING;
    for (size_t j = 0; j < law->lattice.count && status == EI_OK; j++) {
        const double time = (double)j * law->lattice.step;
        once[j] = ei_upper_law_plus_sf(v, &one, time) + nearly_all(given, time, from);
        after[j] = share * exp(-self->theta * time);
    }
    if (status == EI_OK)
        ei_split_tail(law, once, after, &self->tail);
    ei_upper_law_free(&even);
    return status;
}

static int find_kept(tilted *self) {
    const ei_added_stage b = {self->given->service, self->given->floor, 0, 0};
    double moment, slope;
    const int status = ei_added_stage_log_moment(&b, self->theta, &moment);
    if (status == EI_OK)
        self->kept = fmin(exp(moment * (1 + EI_SERVICE_MGF_ERROR) -
                              ei_arrival_exponent(self->given->arrival, self->theta, &slope)) *
                              ROUNDING,
                          1);
    return status;
}

int ei_tilted_law(ei_upper_law *self, const ei_tilted *given) {
    tilted bound = {.given = given,
                    .theta = given->theta,
                    .tail = given->tail,
                    .phases = given->v->by_phase != NULL ? given->v->phases : 1,
                    .times = FEWEST + 2 * given->points};
    const double step = given->horizon / (double)given->points;
    const size_t count = given->points + 1, ways = given->arrival->kind != EI_ARRIVAL_POISSON
                                                       ? sizeof LENGTHS / sizeof *LENGTHS
                                                   : given->alone_behind != NULL ? 2
                                                                                 : 1;
    double *once = malloc(2 * count * sizeof *once), behind, excess;
    int status = once == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    *self =
        (ei_upper_law){.lattice = {step, count, malloc(count * sizeof(double))}, .shift = given->v->shift};
    if (self->lattice.sf == NULL)
        status = EI_ERR_NO_MEMORY;
    if (status == EI_OK)
        status = find_kept(&bound);
    if (status == EI_OK)
        status = find_excess(&bound, &behind, &excess);
    if (status == EI_OK && given->alone)
        status = cut_beyond(&bound, behind, excess);
    if (status == EI_OK)
        status = sum_of_one(&bound);
    for (size_t j = 0; j < count && status == EI_OK; j++)
        self->lattice.sf[j] = 1;
    for (size_t way = 0; way < ways && status == EI_OK; way++)
        status = cut(&bound, way, excess, once, self);
    if (status != EI_OK)
        ei_upper_law_free(self);
    free(once);
    tilted_free(&bound);
    return status;
}
