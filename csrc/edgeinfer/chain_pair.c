#include "edgeinfer/chain_parts.h"

#include "edgeinfer/pair.h"
#include "edgeinfer/pair_upper.h"
#include "edgeinfer/split.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

static const double PAIR_TRIAL = 1.4;     /* times what is known that a trial may be, */
static const double PAIR_OTHER_TRIAL = 4; /* behind other arrivals, where lattices are coarser, */
static const double PAIR_WIDE = 4;        /* of ends that are this far apart at most */
static const double PAIR_FAR = 6;         /* times each other's decay: two stages whose upper end is tried */
static const double PAIR_CLASSES[] = {9, 17, 32}; /* decay times up to which deadlines share a lattice, */
static const double PAIR_WORTH = 1.15; /* ends behind other arrivals that are no further apart are left */
static const double PAIR_WORK = 3e9, PAIR_TIGHT = 8; /* multiply-adds of a lattice behind other arrivals */
static const double PAIR_ROOM = 8, PAIR_LEADS = 6;   /* decay times, as in pair_upper.c, */
static const double PAIR_IN_SERVICE = 2;             /* and services */
static const double PAIR_FEWEST = 90;                /* points that are worth while */
static const double PAIR_TIMES = 1.5; /* sums over times between arrivals, to one over services */
/* Of times that are spread: log of how far apart ends get, over jobs and the square of a step's decay times.
 */
static const double PAIR_BENT = 0.14;
static const double PAIR_INTERVAL = 4; /* steps that are left of periodic arrivals' interval, about */
static const double NEVER = 1e-13;
static const size_t PAIR_POINTS[] = {160, 256, 400}; /* and its steps; TIGHT: twice as many */

static int is_poisson(const ei_chain *self) {
    return self->batch->arrival.kind == EI_ARRIVAL_POISSON;
}

/* Where two parts are nearly as slow as each other: the part before `last` to be followed with it; the number
 * of parts: none. */
static size_t pair_before(const ei_chain *self, size_t first, size_t last) {
    const ei_part *b = &self->parts[last];
    const size_t a = first < last ? ei_chain_slowest(self, first, last, 1) : self->count;
    if (a == self->count)
        return self->count;
    const int constant = (self->parts[a].service == NULL) + (b->service == NULL);
    if (constant > (self->batch->arrival.kind == EI_ARRIVAL_DETERMINISTIC ? 0 : 1))
        return self->count;
    const double ratio = self->parts[a].decay / b->decay;
    return ratio <= PAIR_FAR && ratio >= 1 / PAIR_FAR ? a : self->count;
}

/* two_stages: the parts from `first` to `last`, a and the last one followed at once, up to the horizon. */
static int pair_law(const ei_chain *self, size_t first, size_t a, size_t last, double horizon, double floor,
                    double last_floor, size_t points, ei_upper_law *law) {
    const ei_part *slow = &self->parts[last], *near = &self->parts[a];
    const int stay_before = near->service == NULL || slow->service != NULL;
    const double period = stay_before ? fmax(near->again, floor) : slow->again;
    ei_upper_law ahead = {.decay = 0}, between = {.decay = 0};
    ei_arrival arrival = self->batch->arrival;
    if (self->pair_less > 0)
        arrival.parameter[0] = 1 / (ei_arrival_mean(&arrival) - self->pair_less);
    ei_pair_walk walk = {.arrival = &arrival,
                         .decay = fmin(near->decay, slow->decay),
                         .horizon = horizon - 2 * self->pair_less,
                         .points = points,
                         .before = ei_part_stage(near, floor),
                         .bottleneck = ei_part_stage(slow, last_floor),
                         .between = &between,
                         .ahead = &ahead,
                         .monitor = self->batch->monitor};
    walk.before.less = walk.bottleneck.less = self->pair_less;
    int status = first < a ? ei_chain_law(self, first, a - 1, &ahead) : EI_OK;
    if (status == EI_OK && a + 1 < last)
        status = stay_before ? ei_chain_fed_periodically(self, a + 1, last - 1, period,
                                                         EI_CHAIN_PERIODIC_POINTS, &between)
                             : ei_chain_fed_periodically(self, last - 1, a + 1, period,
                                                         EI_CHAIN_PERIODIC_POINTS, &between);
    if (status == EI_OK)
        status = ei_pair_upper(law, &walk);
    ei_upper_law_free(&ahead);
    ei_upper_law_free(&between);
    return status;
}

int ei_chain_cut_by_pair(const ei_chain *self, size_t first, size_t last, double horizon, ei_upper_law *law) {
    static const double chances[] = {0.9, 0.6, 0.3};
    const size_t a = self->pair_points > 0 ? pair_before(self, first, last) : self->count;
    double floor = 0, best = INFINITY;
    if (a == self->count || (!is_poisson(self) && a + 1 < last))
        return EI_OK;
    const int try_floors =
        a + 1 < last && self->parts[a].service != NULL && self->parts[last].service != NULL;
    for (size_t f = 0; f < sizeof chances / sizeof *chances && try_floors; f++) {
        const double tried = ei_chain_quantile(self->parts[a].service, chances[f]);
        ei_upper_law other = {.decay = 0};
        double score = 0;
        int status = pair_law(self, first, a, last, horizon, tried, 0, self->pair_points / 3, &other);
        for (int i = 1; i < 4 && status == EI_OK; i++)
            score += log(fmax(ei_upper_law_sf(&other, horizon * i / 4), DBL_MIN));
        ei_upper_law_free(&other);
        if (status != EI_OK && !ei_no_bound(status))
            return status;
        if (status == EI_OK && score < best) {
            best = score;
            floor = tried;
        }
    }
    if (try_floors && isinf(best))
        return EI_OK;
    ei_upper_law other = {.decay = 0};
    int status = pair_law(self, first, a, last, horizon, floor, 0, self->pair_points, &other);
    if (status == EI_OK)
        ei_chain_take_better(law, &other);
    ei_upper_law_free(&other);
    return ei_no_bound(status) ? EI_OK : status;
}

int ei_chain_has_pair(const ei_chain *self) {
    for (size_t last = 1; last < self->count; last++)
        if (pair_before(self, 0, last) < self->count)
            return 1;
    return 0;
}

int ei_chain_may_have_pair(const ei_chain *self) {
    const ei_arrival *arrival = &self->batch->arrival;
    return self->batch->effort != EI_EFFORT_LIGHT && arrival->kind != EI_ARRIVAL_MARKOV_MODULATED &&
           !(arrival->kind == EI_ARRIVAL_GAMMA && arrival->parameter[1] > 1) && ei_chain_has_pair(self) &&
           ei_is_wide(self->batch, PAIR_WORTH);
}

/* bottleneck_first with the law of part b and those before it from following two of them at once. */
static int pair_first(const ei_chain *self, size_t b, double floor, size_t points, ei_upper_law *before,
                      ei_upper_law *after) {
    const ei_part *one = &self->parts[b];
    const size_t a = pair_before(self, 0, b);
    const ei_part *near = &self->parts[a];
    const double between = a + 1 < b && near->service != NULL ? ei_chain_quantile(near->service, 0.6) : 0;
    int status =
        ei_chain_fed_periodically(self, b + 1, self->count - 1, one->service != NULL ? floor : one->again,
                                  EI_CHAIN_PERIODIC_POINTS, after);
    if (status == EI_OK)
        status = pair_law(self, 0, a, b, self->batch->horizon, between, floor, points, before);
    if (status == EI_OK)
        status = ei_chain_bound_tail(self, 0, b, before);
    return status;
}

/* What a trial comes to, at least, over what is known of each element. */
static void try_on(const ei_chain *self, const ei_upper_law *before, const ei_upper_law *after,
                   double *ratio) {
    const ei_batch *batch = self->batch;
    for (size_t i = 0; i < batch->count; i++) {
        const size_t at = batch->index[i];
        const double value = ei_upper_law_plus_sf(before, after, batch->deadline[at] - self->constant);
        ratio[i] = fmin(ratio[i], value / batch->upper[at]);
    }
}

/* Leaves the elements of a batch that a trial comes near to; where ends are wide, it may be further off, and
 * behind other arrivals, where its lattice says little, all of these. */
static void leave_hopeful(ei_batch *batch, size_t *index, const double *ratio) {
    const int poisson = batch->arrival.kind == EI_ARRIVAL_POISSON;
    const double trial = poisson ? PAIR_TRIAL : PAIR_OTHER_TRIAL;
    size_t left = 0;
    for (size_t i = 0; i < batch->count; i++) {
        const size_t at = batch->index[i];
        const double wide = batch->upper[at] / batch->lower[at] / PAIR_WIDE;
        if (ratio[i] <= trial * fmax(wide, 1) || (!poisson && wide > 1))
            index[left++] = at;
    }
    batch->index = index;
    batch->count = left;
}

static int pair_first_ends(const ei_chain *self, size_t b, double *ratio, size_t *index) {
    static const double chances[] = {1, 0.95, 0.85, 0.7, 0.5, 0.3};
    const ei_service *service = self->parts[b].service;
    ei_batch hopeful = *self->batch;
    ei_chain some = *self;
    double best = service != NULL ? INFINITY : 0, floor = 0;
    int status = EI_OK;
    for (size_t i = 0; i < hopeful.count; i++)
        ratio[i] = best;
    for (size_t f = 0; f < sizeof chances / sizeof *chances && service != NULL && status == EI_OK; f++) {
        ei_upper_law before = {.decay = 0}, after = {.decay = 0};
        const double tried = f > 0 ? ei_chain_quantile(service, chances[f]) : ei_service_minimum(service);
        double score = 0;
        status = pair_first(self, b, tried, self->pair_points / 3, &before, &after);
        for (int i = 1; i < 4 && status == EI_OK; i++)
            score += log(fmax(ei_upper_law_plus_sf(&before, &after, self->batch->horizon * i / 4), DBL_MIN));
        if (status == EI_OK && score < best) {
            best = score;
            floor = tried;
        }
        if (status == EI_OK) {
            ei_chain_add_leading(self, EI_UPPER, &before.lattice);
            try_on(self, &before, &after, ratio);
        }
        ei_upper_law_free(&before);
        ei_upper_law_free(&after);
        status = ei_no_bound(status) ? EI_OK : status;
    }
    leave_hopeful(&hopeful, index, ratio);
    some.batch = &hopeful;
    if (status == EI_OK && hopeful.count > 0) {
        ei_upper_law before = {.decay = 0}, after = {.decay = 0};
        status = pair_first(self, b, floor, self->pair_points, &before, &after);
        if (status == EI_OK) {
            ei_chain_add_leading(self, EI_UPPER, &before.lattice);
            ei_chain_cut(&some, &before, &after, EI_BRACKET_TWO_STAGES);
        }
        ei_upper_law_free(&before);
        ei_upper_law_free(&after);
    }
    return ei_no_bound(status) ? EI_OK : status;
}

/* Leaves the elements that a trial of all parts added to the two comes near to. */
static int leave_added(const ei_chain *self, ei_batch *hopeful, double *ratio, size_t *index) {
    ei_upper_law law = {.decay = 0}, none = {.decay = 0};
    ei_chain coarse;
    int status = ei_chain_begin_trial(&coarse, self);
    if (status == EI_OK)
        status = ei_chain_law(&coarse, 0, self->count - 1, &law);
    for (size_t i = 0; i < hopeful->count; i++)
        ratio[i] = status == EI_OK ? INFINITY : 0;
    if (status == EI_OK) {
        ei_chain_add_leading(self, EI_UPPER, &law.lattice);
        try_on(self, &law, &none, ratio);
    }
    ei_chain_free_laws(&coarse);
    ei_upper_law_free(&law);
    leave_hopeful(hopeful, index, ratio);
    return ei_no_bound(status) ? EI_OK : status;
}

/* two_stages with all parts added to the two. */
static int pair_added_ends(const ei_chain *self, double *ratio, size_t *index) {
    ei_upper_law law = {.decay = 0}, none = {.decay = 0};
    ei_batch hopeful = *self->batch;
    ei_chain some = *self;
    int status = leave_added(self, &hopeful, ratio, index);
    some.batch = &hopeful;
    if (status == EI_OK && hopeful.count > 0)
        status = ei_chain_law(self, 0, self->count - 1, &law);
    if (status == EI_OK && hopeful.count > 0) {
        ei_chain_add_leading(self, EI_UPPER, &law.lattice);
        ei_chain_cut(&some, &law, &none, EI_BRACKET_TWO_STAGES);
    }
    ei_upper_law_free(&law);
    return ei_no_bound(status) ? EI_OK : status;
}

/* An interarrival time that is as good as never exceeded, s, but for a factor. */
static double longest_time(const ei_arrival *arrival) {
    double time = ei_arrival_mean(arrival);
    while (ei_time_sf(arrival, time) > NEVER)
        time *= 1.2;
    return time;
}

/* The most points, of services that are `less` shorter. */
static size_t points_of(const ei_chain *self, double horizon, double less, size_t most, double *leads,
                        double *apart) {
    const ei_batch *batch = self->batch;
    double decay = INFINITY, slowest = 0, taps = 0;
    for (size_t k = 0; k < self->count; k++) {
        decay = fmin(decay, self->parts[k].decay);
        slowest = fmax(slowest, self->parts[k].mean);
    }
    const double span = horizon + PAIR_ROOM / decay, jobs = span / (1 / batch->arrival_rate - slowest);
    for (size_t k = 0; k < self->count; k++)
        if (self->parts[k].service != NULL)
            taps += fmin(fmax(ei_service_reach(self->parts[k].service) - less, 0), span);
    if (batch->arrival.kind != EI_ARRIVAL_DETERMINISTIC)
        taps += PAIR_TIMES * fmin(longest_time(&batch->arrival), span);
    *leads = PAIR_LEADS / decay + PAIR_IN_SERVICE * fmax(slowest - less, 0);
    const double points = horizon * cbrt(PAIR_WORK * (batch->effort == EI_EFFORT_TIGHT ? PAIR_TIGHT : 1) /
                                         (jobs * *leads * span * taps));
    const double bend = decay * horizon / fmin(points, (double)most);
    *apart = batch->arrival.kind != EI_ARRIVAL_DETERMINISTIC ? exp(PAIR_BENT * jobs * bend * bend) : 1;
    return points < PAIR_FEWEST ? 0 : (size_t)fmin(points, (double)most);
}

ei_pair_lattice ei_chain_pair_lattice(const ei_chain *self, double horizon, double least, size_t count,
                                      size_t most) {
    const double interval = ei_arrival_mean(&self->batch->arrival);
    ei_pair_lattice found = {.arrival = self->batch->arrival, .horizon = horizon};
    const int periodic = found.arrival.kind == EI_ARRIVAL_DETERMINISTIC;
    const double longest = horizon - (double)count * least;
    if (periodic && longest > 0)
        found.less = fmax(fmin(least, interval - PAIR_INTERVAL * longest / (double)most), 0);
    found.horizon -= (double)count * found.less;
    found.points = points_of(self, found.horizon, found.less, most, &found.leads, &found.apart);
    if (periodic)
        found.arrival.parameter[0] = 1 / (interval - found.less);
    return found;
}

int ei_chain_pair_ends(const ei_chain *self) {
    const size_t classes = sizeof PAIR_CLASSES / sizeof *PAIR_CLASSES;
    size_t *index = malloc(2 * self->batch->count * sizeof *index);
    double mean = 0, decay = INFINITY, least = INFINITY, *ratio = malloc(self->batch->count * sizeof *ratio);
    int status = index == NULL || ratio == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    for (size_t k = 0; k < self->count; k++) {
        mean += self->parts[k].mean;
        decay = fmin(decay, self->parts[k].decay);
        if (pair_before(self, 0, k) < self->count)
            least = fmin(least, fmin(ei_part_least(&self->parts[k]),
                                     ei_part_least(&self->parts[pair_before(self, 0, k)])));
    }
    /* Paths of fewer jobs cost less. */
    const double finer = fmin(fmax(cbrt(2 * decay / self->batch->arrival_rate), 1), 2);
    for (size_t k = 0; k < classes && status == EI_OK; k++) {
        const double from = k > 0 ? mean + PAIR_CLASSES[k - 1] / decay : -INFINITY;
        ei_batch batch = *self->batch;
        ei_chain one = *self;
        batch.index = index;
        batch.count = 0;
        batch.horizon = mean + PAIR_CLASSES[k] / decay;
        one.pair_points =
            (size_t)(finer * (double)PAIR_POINTS[k]) * (batch.effort == EI_EFFORT_TIGHT ? 2 : 1);
        double known = EI_CHAIN_FAIR;
        if (!is_poisson(self)) {
            const ei_pair_lattice as = ei_chain_pair_lattice(self, batch.horizon, least, 2, one.pair_points);
            one.pair_points = as.points;
            one.pair_less = as.less;
            known = fmax(known, as.apart);
        }
        for (size_t i = EI_PROBES; i < self->batch->count; i++) {
            const size_t at = self->batch->index[i];
            const double rest = batch.deadline[at] - self->constant;
            if (rest > from && rest <= batch.horizon && batch.upper[at] > known * batch.lower[at])
                index[batch.count++] = at;
        }
        if (batch.count == 0 || one.pair_points == 0)
            continue;
        one.batch = &batch;
        one.laws = calloc(one.count * one.count, sizeof *one.laws);
        status =
            one.laws == NULL ? EI_ERR_NO_MEMORY : pair_added_ends(&one, ratio, index + self->batch->count);
        for (size_t b = 1; is_poisson(self) && b + 1 < one.count && status == EI_OK; b++)
            if (one.parts[b].decay <= EI_CHAIN_NEAR * decay && pair_before(&one, 0, b) < one.count)
                status = pair_first_ends(&one, b, ratio, index + self->batch->count);
        for (size_t b = 1; is_poisson(self) && b + 1 < one.count && status == EI_OK; b++)
            if (ei_chain_may_be_tilted(&one, 0, b, one.count - 1) && pair_before(&one, 0, b) < one.count)
                status = ei_chain_known_ends(&one, b);
        ei_chain_free_laws(&one);
    }
    free(index);
    free(ratio);
    return status;
}
