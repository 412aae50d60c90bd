#include "edgeinfer/chain_parts.h"

#include "edgeinfer/exchange.h"
#include "edgeinfer/lindley.h"
#include "edgeinfer/modulated.h"
#include "edgeinfer/tilted.h"
#include "edgeinfer/walk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    TILTED_POINTS = 4096, /* of a law behind a tilted bottleneck */
    SUMS = 24             /* exponents that are tried for a sum */
};
static const double LESS_EFFORT = 0.125, /* of a trial of smaller exponents, */
    LESS_TRIAL = 5;                      /* times what is known that it may be */
static const double NEARER =
    10; /* decay times beyond the horizon at which a bound of moments is put on, at least */
static const double BOUND = 15;         /* the same where Lundberg's bound is put on */
static const double AHEAD = 16;         /* decay times up to which a first stage is followed */
static const double APART = 0.75;       /* of the exponents that are tried for a sum, from the decay */
static const double MARGIN = 20;        /* where a mean is taken, decay times of its weight */
static const double SHIFTED = 1 - 1e-8; /* by more than a law's shift may change a probability */

int ei_chain_bound_sum(const ei_chain *self, double time, double *bound, double *theta) {
    const ei_arrival *arrival = &self->batch->arrival;
    double *cumulant = malloc(2 * self->count * sizeof *cumulant), *slope = cumulant + self->count;
    int status = cumulant == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    *bound = *theta = 0;
    for (int i = 1; i <= SUMS && status == EI_OK; i++) {
        const double tried = self->parts[0].decay * (1 - pow(APART, i));
        double once = 0, paths = 0, unused;
        for (size_t k = 0; k < self->count && status == EI_OK; k++) {
            const ei_added_stage stage = ei_part_stage(&self->parts[k], k == 0 ? self->floor : 0);
            status = ei_added_stage_log_moment(&stage, tried, &cumulant[k]);
            cumulant[k] += EI_SERVICE_MGF_ERROR * fabs(cumulant[k]);
            slope[k] = 0;
            once += stage.law != NULL ? cumulant[k] : 0;
            paths -= log1p(-exp(cumulant[k] - ei_arrival_exponent(arrival, tried, &unused)));
        }
        if (status == EI_OK && arrival->kind == EI_ARRIVAL_MARKOV_MODULATED)
            status = ei_modulated_paths(arrival, tried, self->count, cumulant, slope, NULL, &paths, &unused);
        if (status == EI_OK && once + paths - tried * time + EI_SERVICE_MGF_ERROR < *bound) {
            *bound = once + paths - tried * time + EI_SERVICE_MGF_ERROR;
            *theta = tried;
        }
    }
    free(cumulant);
    return status;
}

/* V of tilted.h for the random part b, up to `reach`, from both sides behind Poisson arrivals. */
static int enclose(const ei_chain *self, size_t b, double reach, const ei_upper_law *before, ei_upper_law *v,
                   double **least) {
    const ei_part *one = &self->parts[b];
    const ei_added_stage stage = ei_part_stage(one, self->floor);
    const ei_batch *batch = self->batch;
    const size_t points = self->effort < 1 ? EI_CHAIN_LINDLEY_POINTS / 8 : EI_CHAIN_LINDLEY_POINTS;
    if (batch->arrival.kind != EI_ARRIVAL_POISSON)
        return ei_add_stage_enclosed(v, NULL, before, &stage, &batch->arrival,
                                     ei_chain_lindley_step(&stage, reach, points), points, batch->monitor);
    const double step = ei_chain_walk_step(self, one, 0, reach, self->effort * EI_CHAIN_WALK_POINTS);
    const int rough = self->known || ei_chain_is_rough(self, one, 0, reach, step);
    const size_t count = rough ? points : (size_t)(reach / step) + 2;
    *least = malloc(count * sizeof **least);
    if (*least == NULL)
        return EI_ERR_NO_MEMORY;
    if (rough)
        return ei_add_stage_enclosed(v, *least, before, &stage, &batch->arrival, reach / (double)points,
                                     count, batch->monitor);
    int status = ei_add_stage_poisson(v, before, &stage, batch->arrival_rate, step, count, batch->monitor);
    /* Constant between the points. */
    if (status == EI_OK)
        memcpy(*least, v->lattice.sf, count * sizeof **least);
    return status;
}

/* From the law of the chain in the opposite order, V of its first part, to that of the chain. */
static int exchange(const ei_chain *self, const ei_upper_law *v, ei_upper_law *law) {
    const ei_part *before = self->before;
    const ei_added_stage stage = ei_part_stage(before, 0);
    double factor;
    int status = ei_exchange_factor(&factor, v, &stage, before->mean + AHEAD / before->decay,
                                    &self->batch->arrival, self->batch->monitor);
    /* The sum that is bounded may be more than 1, where the law is cut off: a factor below 1 says nothing
     * there. */
    for (size_t j = 0; j < law->lattice.count && status == EI_OK; j++)
        if (law->lattice.sf[j] < 1)
            law->lattice.sf[j] = fmin(law->lattice.sf[j] * factor, 1);
    return status;
}

/* The law of the parts from `first` to b from above, where that is better, in the place of V, and from below
 * by b alone. */
static int enclose_known(const ei_chain *self, size_t first, size_t b, ei_upper_law *v, double *least) {
    const ei_added_stage stage = ei_part_stage(&self->parts[b], 0);
    const size_t count = v->lattice.count;
    ei_upper_law known = {.decay = 0};
    ei_lattice alone = {.sf = NULL};
    int status = ei_chain_law(self, first, b, &known);
    if (status == EI_OK)
        status = ei_lindley_sojourn_lower(&alone, NULL, &stage, &self->batch->arrival, v->lattice.step, count,
                                          self->batch->monitor);
    if (status == EI_OK)
        ei_chain_take_better(v, &known);
    for (size_t j = 0; j < count && status == EI_OK; j++)
        least[j] = j + 1 < count ? alone.sf[j + 1] * SHIFTED : 0;
    ei_upper_law_free(&known);
    ei_lattice_free(&alone);
    return status;
}

static int is_alone(const ei_chain *self, size_t first, size_t b) {
    return b == first && self->batch->arrival.kind == EI_ARRIVAL_POISSON;
}

/* tilted: the parts from `first` to `last` by the random part b, which is not the last. */
static int tilted_beyond(const ei_chain *self, size_t first, size_t b, size_t last, double horizon,
                         double further, ei_upper_law *law) {
    const ei_part *one = &self->parts[b];
    const ei_batch *batch = self->batch;
    const ei_added_stage stage = ei_part_stage(one, self->floor);
    ei_tilted given = {.service = one->service,
                       .floor = self->floor,
                       .arrival = &batch->arrival,
                       .alone = is_alone(self, first, b),
                       .rest_count = last - b,
                       .horizon = horizon,
                       .points = self->effort < 1 ? TILTED_POINTS / 8 : TILTED_POINTS,
                       .monitor = batch->monitor};
    const double margin = batch->arrival.kind == EI_ARRIVAL_POISSON
                              ? MARGIN / (batch->arrival_rate + one->decay)
                              : 1 / one->decay,
                 reach = horizon + further / one->decay + margin;
    double log_moment;
    ei_added_stage *rest = malloc((last - b) * sizeof *rest);
    ei_upper_law before = {.decay = 0}, v = {.decay = 0}, behind = {.decay = 0};
    double *least = NULL;
    int status = rest == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    for (size_t k = b + 1; k <= last && status == EI_OK; k++)
        rest[k - b - 1] = ei_part_stage(&self->parts[k], 0);
    given.tail.furthest = horizon + further / one->decay;
    given.tail.log_of_phase = ei_chain_log_of_any_phase(self);
    given.tail.is_sum = self->before != NULL;
    if (status == EI_OK)
        status = ei_tilted_exponent(&stage, &batch->arrival, one->decay, &given.theta);
    if (self->share > 0)
        given.theta =
            self->share * fmin(given.theta, self->parts[ei_chain_slowest(self, b + 1, last + 1, 1)].decay);
    if (status == EI_OK && batch->arrival.kind != EI_ARRIVAL_POISSON && ei_part_is_exponential(one) &&
        !(self->floor > 0)) {
        status = ei_chain_log_moment_behind(
            self, b, last, (1 / one->service->time - given.theta) * (1 + 1e-12), given.theta, &log_moment);
        given.log_moment = status == EI_OK ? &log_moment : NULL;
        status = ei_no_bound(status) ? EI_OK : status;
    }
    if (status == EI_OK && !given.alone)
        status = ei_chain_choose_tail(self, first, last, &given.tail);
    if (status == EI_OK && batch->arrival.kind == EI_ARRIVAL_POISSON && self->effort == 1 &&
        self->before == NULL && last + 1 == self->count) {
        status = ei_chain_law(self, b + 1, last, &behind);
        given.alone_behind = status == EI_OK ? &behind : NULL;
        status = ei_no_bound(status) ? EI_OK : status;
    }
    if (b > first && status == EI_OK)
        status = ei_chain_law(self, first, b - 1, &before);
    if (status == EI_OK)
        status = enclose(self, b, reach, &before, &v, &least);
    if (status == EI_OK && self->known)
        status = enclose_known(self, first, b, &v, least);
    if (status == EI_OK) {
        given.rest = rest;
        given.v = &v;
        given.least = least;
        status = ei_tilted_law(law, &given);
    }
    if (status == EI_OK && self->before != NULL)
        status = exchange(self, &v, law);
    ei_upper_law_free(&before);
    ei_upper_law_free(&behind);
    ei_upper_law_free(&v);
    free(least);
    free(rest);
    return status;
}

/* The same: beyond e^{-60} or so rounding leaves no certificate of b's own law, which may then end sooner. */
static int tilted_law(const ei_chain *self, size_t first, size_t b, size_t last, double horizon,
                      ei_upper_law *law) {
    int status = EI_ERR_ACCURACY;
    for (double further = is_alone(self, first, b) ? BOUND : EI_CHAIN_FURTHER;
         status == EI_ERR_ACCURACY && further > NEARER; further -= NEARER / 2)
        status = tilted_beyond(self, first, b, last, horizon, further, law);
    return status;
}

/* Whether it is worth while, by a trial: where it may cut *law, or upper ends where that is NULL. */
static int is_worthwhile(const ei_chain *self, size_t first, size_t b, size_t last, double horizon,
                         const ei_upper_law *law, int *worth) {
    const ei_batch *batch = self->batch;
    ei_chain coarse = *self;
    ei_upper_law trial = {.decay = 0};
    coarse.effort = EI_CHAIN_COARSE;
    int status = tilted_law(&coarse, first, b, last, horizon, &trial);
    *worth = 0;
    if (status == EI_OK && law == NULL)
        ei_chain_add_leading(self, EI_UPPER, &trial.lattice);
    for (size_t i = 0; i < EI_PROBES && status == EI_OK; i++) {
        double time = horizon * (double)(i + 1) / (EI_PROBES + 1), known;
        if (law != NULL) {
            known = ei_upper_law_sf(law, time);
        } else {
            time = batch->deadline[batch->index[i]] - self->constant;
            known = EI_CHAIN_TRIAL * batch->upper[batch->index[i]];
        }
        *worth |= isfinite(time) && ei_upper_law_sf(&trial, time) < known;
    }
    ei_upper_law_free(&trial);
    return ei_no_bound(status) ? EI_OK : status;
}

int ei_chain_cut_by_tilted(const ei_chain *self, size_t first, size_t b, size_t last, double horizon,
                           ei_upper_law *law) {
    ei_upper_law other = {.decay = 0};
    /* In a trial it would be the same law twice. */
    int worth = self->effort < 1, status = EI_OK;
    if (!worth)
        status = is_worthwhile(self, first, b, last, horizon, law, &worth);
    if (status == EI_OK && worth)
        status = tilted_law(self, first, b, last, horizon, &other);
    if (status == EI_OK && worth)
        ei_chain_take_better(law, &other);
    ei_upper_law_free(&other);
    return ei_no_bound(status) ? EI_OK : status;
}

int ei_chain_may_be_tilted(const ei_chain *self, size_t first, size_t b, size_t last) {
    const size_t slowest = ei_chain_slowest(self, first, last + 1, 1);
    const int known = self->batch->arrival.kind == EI_ARRIVAL_POISSON && self->before == NULL &&
                      ei_part_is_exponential(&self->parts[b]);
    return self->parts[b].service != NULL && !known && ei_chain_slowest(self, b, last + 1, 1) == b &&
           self->parts[b].decay <= EI_CHAIN_NEAR * self->parts[slowest].decay;
}

int ei_chain_tilted_ends(const ei_chain *self, size_t b) {
    ei_upper_law law = {.decay = 0}, none = {.decay = 0};
    const double horizon = self->batch->horizon;
    const size_t last = self->count - 1;
    /* Behind other arrivals it is the first that is tried. */
    int worth = self->batch->arrival.kind != EI_ARRIVAL_POISSON,
        status = worth ? EI_OK : is_worthwhile(self, 0, b, last, horizon, NULL, &worth);
    if (status == EI_OK && worth)
        status = tilted_law(self, 0, b, last, horizon, &law);
    if (status == EI_OK && worth) {
        ei_chain_add_leading(self, EI_UPPER, &law.lattice);
        ei_chain_cut(self, &law, &none, EI_BRACKET_TILTED);
    }
    ei_upper_law_free(&law);
    return ei_no_bound(status) ? EI_OK : status;
}

int ei_chain_less_tilted_ends(const ei_chain *self) {
    static const double shares[] = {0.95, 0.89, 0.82, 0.72, 0.55};
    enum { SHARES = sizeof shares / sizeof *shares };
    const ei_batch *batch = self->batch;
    const size_t last = self->count - 1, ways = (ei_chain_may_be_drawn(self) ? last : 1) * SHARES;
    const double least = self->parts[ei_chain_slowest(self, 0, last, 1)].decay;
    double *best = malloc(batch->count * sizeof *best);
    size_t *chosen = malloc(batch->count * sizeof *chosen);
    int status = best == NULL || chosen == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    for (size_t i = EI_PROBES; i < batch->count && status == EI_OK; i++) {
        const double upper = batch->upper[batch->index[i]];
        best[i] = upper > EI_CHAIN_WIDE * batch->lower[batch->index[i]] ? LESS_TRIAL * upper : 0;
        chosen[i] = ways;
    }
    for (size_t n = 0; n < 2 * ways && status == EI_OK; n++) {
        const int trial = n < ways;
        const size_t way = n % ways, b = way / SHARES;
        int worth = trial && self->parts[b].service != NULL && self->parts[b].decay <= EI_CHAIN_NEAR * least;
        ei_upper_law law = {.decay = 0}, none = {.decay = 0};
        ei_chain some = *self;
        for (size_t i = EI_PROBES; i < batch->count && !trial; i++)
            worth |= chosen[i] == way;
        if (!worth)
            continue;
        some.share = shares[way % SHARES];
        some.effort = trial ? LESS_EFFORT : self->effort;
        status = tilted_law(&some, 0, b, last, batch->horizon, &law);
        if (status == EI_OK)
            ei_chain_add_leading(self, EI_UPPER, &law.lattice);
        for (size_t i = EI_PROBES; i < batch->count && status == EI_OK && trial; i++) {
            const double time = batch->deadline[batch->index[i]] - self->constant,
                         value = ei_upper_law_sf(&law, time);
            if (isfinite(time) && value < best[i]) {
                best[i] = value;
                chosen[i] = way;
            }
        }
        if (status == EI_OK && !trial)
            ei_chain_cut(self, &law, &none, EI_BRACKET_TILTED);
        ei_upper_law_free(&law);
        status = ei_no_bound(status) ? EI_OK : status;
    }
    free(best);
    free(chosen);
    return status;
}

int ei_chain_known_ends(const ei_chain *self, size_t b) {
    ei_upper_law law = {.decay = 0}, none = {.decay = 0};
    ei_chain some = *self;
    some.known = 1;
    int status = tilted_law(&some, 0, b, self->count - 1, self->batch->horizon, &law);
    if (status == EI_OK) {
        ei_chain_add_leading(self, EI_UPPER, &law.lattice);
        ei_chain_cut(self, &law, &none, EI_BRACKET_TILTED);
    }
    ei_upper_law_free(&law);
    return ei_no_bound(status) ? EI_OK : status;
}

/* The floor under part b that is about the best, where the parts from `first` on, which come behind b, are
 * fed by it; and the law of their sojourn time. */
static int choose_floor(const ei_chain *self, size_t b, size_t first, double *floor, ei_upper_law *after) {
    static const double chances[] = {1, 0.98, 0.95, 0.9, 0.8, 0.65, 0.5};
    const ei_service *service = self->parts[b].service;
    double best = INFINITY;
    int status = EI_OK;
    for (size_t f = 0; f < sizeof chances / sizeof *chances && status == EI_OK; f++) {
        const double tried = f > 0 ? ei_chain_quantile(service, chances[f]) : ei_service_minimum(service);
        ei_upper_law law = {.decay = 0};
        double decay, score = INFINITY;
        status = ei_chain_floored_decay(self, b, tried, &decay);
        if (status == EI_OK && decay > 0)
            status = ei_chain_fed_periodically(self, first, self->count - 1, tried, EI_CHAIN_PERIODIC_POINTS,
                                               &law);
        if (status == EI_OK && decay > 0 && (law.lattice.sf == NULL || law.decay > decay))
            score = ei_upper_law_log_moment(&law, decay) - decay * self->batch->horizon / 2;
        if (score < best) {
            best = score;
            *floor = tried;
            ei_upper_law_free(after);
            *after = law;
            law = (ei_upper_law){.decay = 0};
        }
        ei_upper_law_free(&law);
        status = ei_no_bound(status) ? EI_OK : status;
    }
    return status == EI_OK && isinf(best) ? EI_ERR_UNSTABLE : status;
}

int ei_chain_exchanged_ends(const ei_chain *self, size_t b) {
    size_t first = b + 1, at = 0;
    while (ei_part_is_exponential(&self->parts[b]) && first < self->count &&
           ei_part_is_exponential(&self->parts[first]))
        first++;
    if (first == 1)
        return EI_OK;
    ei_chain opposite = {.parts = NULL};
    ei_upper_law law = {.decay = 0}, after = {.decay = 0};
    double floor = 0, decay = 0;
    ei_service *stages = malloc(self->parts[first - 1].end * sizeof *stages);
    int status = stages == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    for (size_t n = 0; n < first && status == EI_OK; n++) {
        /* b, those behind it, and those before it, backwards. */
        const size_t k = n == 0 ? b : n < first - b ? first - n : first - 1 - n;
        for (size_t i = k > 0 ? self->parts[k - 1].end : 0; i < self->parts[k].end; i++)
            stages[at++] = self->stages[i];
    }
    if (status == EI_OK && first < self->count)
        status = choose_floor(self, b, first, &floor, &after);
    if (status == EI_OK)
        status = ei_chain_floored_decay(self, b, floor, &decay);
    if (status == EI_OK)
        status = ei_chain_init(&opposite, self->batch, stages, at);
    if (status == EI_OK) {
        opposite.before = &self->parts[b > 0 ? 0 : 1];
        opposite.floor = floor;
        opposite.parts[0].decay = decay;
        if (ei_chain_may_be_tilted(&opposite, 0, 0, opposite.count - 1))
            status = tilted_law(&opposite, 0, 0, opposite.count - 1, self->batch->horizon, &law);
    }
    if (status == EI_OK && law.lattice.sf != NULL) {
        ei_chain_add_leading(self, EI_UPPER, &law.lattice);
        ei_chain_cut(self, &law, &after,
                     first < self->count ? EI_BRACKET_BOTTLENECK_FIRST : EI_BRACKET_TILTED);
    }
    ei_upper_law_free(&law);
    ei_upper_law_free(&after);
    ei_chain_free(&opposite);
    free(stages);
    return ei_no_bound(status) ? EI_OK : status;
}
