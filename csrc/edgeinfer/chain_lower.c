#include "edgeinfer/chain_parts.h"

#include "edgeinfer/exponentials.h"
#include "edgeinfer/geometric.h"
#include "edgeinfer/lindley.h"
#include "edgeinfer/lundberg.h"
#include "edgeinfer/pair.h"
#include "edgeinfer/two_modulated.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    AT_ONCE = 5,           /* exponential parts behind periodic arrivals; 3 behind others, 2 with phases, */
    AT_ONCE_CELLS = 4096,  /* and cells of their lattice */
    BEHIND_POINTS = 4096,  /* of an exponential part and one behind it, at most */
    FOLLOWED_POINTS = 512, /* of a lower end's two stages at once, */
    FOLLOWED_LEADS = 96,   /* and steps by which one may lead */
    FOLLOWED = 8           /* stages, at most */
};
static const double PAIR_REACH = 30;      /* decay times at which the lattice of these ends */
static const double FOLLOWED_NEAR = 1.25; /* times the decay: others that are followed, too */
static const double LEAST_SHARE = 0.3;    /* of a law from below that is worth while */
static const double BEHIND_WORK = 4e8;    /* multiply-adds behind an exponential part */

/* The sojourn times in the leading stages and in the exponential parts before b, and one service of every
 * other random part but b, rounded down; b may be the number of parts. Empty: 0. */
static int sum_beside(const ei_chain *self, size_t b, ei_lattice *sum) {
    ei_chain others = *self;
    size_t sojourns = 0;
    const int poisson = self->batch->arrival.kind == EI_ARRIVAL_POISSON;
    for (size_t k = 0; k < b && poisson; k++)
        sojourns += (size_t)ei_part_is_exponential(&self->parts[k]);
    for (size_t k = 0; k < self->leading_count; k++)
        sojourns += self->leading[k].kind == EI_SERVICE_EXPONENTIAL;
    if (sojourns == 0)
        return ei_chain_sum_of_others(self, b, sum);
    /* A sum that is only read may be finer. */
    others.sum_step = self->batch->horizon / (b == self->count ? EI_CHAIN_SHORT_WALK : EI_CHAIN_SUM_POINTS);
    others.parts = malloc(self->count * sizeof *others.parts + 1);
    if (others.parts == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < self->count; k++) {
        others.parts[k] = self->parts[k];
        if (k < b && ei_part_is_exponential(&self->parts[k]))
            others.parts[k].service = NULL;
    }
    int status = ei_chain_sum_of_others(&others, b, sum);
    if (status == EI_OK)
        status = ei_chain_lengthen(sum, others.sum_step, self->batch->horizon);
    if (status == EI_OK) {
        ei_chain_add_leading(self, EI_LOWER, sum);
        for (size_t k = 0; k < b; k++)
            if (ei_part_is_exponential(&self->parts[k]))
                ei_chain_add_sojourn(self, self->parts[k].service, EI_LOWER, sum);
    }
    free(others.parts);
    return status;
}

int ei_chain_lower_exponential(const ei_chain *self) {
    const ei_batch *batch = self->batch;
    ei_lattice sum;
    int status = sum_beside(self, self->count, &sum);
    for (size_t i = 0; i < batch->count && status == EI_OK && sum.sf != NULL; i++) {
        size_t at = batch->index[i];
        ei_raise_lower(batch, at, ei_lattice_lower(&sum, batch->deadline[at] - self->constant),
                       EI_BRACKET_EXPONENTIAL);
    }
    ei_lattice_free(&sum);
    return status;
}

int ei_chain_lower(const ei_chain *self, size_t b) {
    const ei_batch *batch = self->batch;
    const ei_part *one = &self->parts[b];
    ei_lattice others, sojourn[2] = {{.sf = NULL}, {.sf = NULL}};
    ei_md1 waiting = {0};
    int status = sum_beside(self, b, &others);
    if (status != EI_OK)
        goto out;
    if (one->service == NULL) {
        status = ei_md1_init(&waiting, batch->arrival_rate, one->again, batch->horizon);
    } else {
        ei_shape alone = {0, 0, 0, one->service};
        ei_batch single = *batch;
        single.pipeline = &alone;
        status = ei_sojourn_ends(&single, 0, batch->horizon, EI_LOWER, EI_LOWER, sojourn);
    }
    for (size_t i = 0; i < batch->count && status == EI_OK; i++) {
        size_t at = batch->index[i];
        double rest = batch->deadline[at] - self->constant;
        double value;
        if (one->service == NULL)
            value = others.sf == NULL ? ei_md1_waiting_sf(&waiting, rest)
                                      : ei_waiting_plus_sf(&waiting, &others, rest, EI_LOWER);
        else
            value = ei_lattice_plus_lower(&sojourn[0], &others, rest);
        ei_raise_lower(batch, at, value, one->service == NULL ? EI_BRACKET_QUEUE : EI_BRACKET_LINK);
    }
out:
    ei_md1_free(&waiting);
    ei_lattice_free(&others);
    ei_lattice_free(&sojourn[0]);
    return status;
}

/* Raises by a law of part b and those from `first` to `last`, and of the others as in lower_ends with b. */
static int raise_beside(const ei_chain *self, const ei_lattice *law, double less, size_t b, size_t first,
                        size_t last, int method) {
    ei_lattice others = {.sf = NULL};
    ei_chain beside = *self;
    beside.constant += less;
    beside.parts = malloc(self->count * sizeof *beside.parts);
    if (beside.parts == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < self->count; k++) {
        beside.parts[k] = self->parts[k];
        if (k >= first && k <= last)
            beside.parts[k].service = NULL;
    }
    int status = sum_beside(&beside, b, &others);
    if (status == EI_OK)
        ei_chain_raise(&beside, law, &others, method);
    free(beside.parts);
    ei_lattice_free(&others);
    return status;
}

int ei_chain_lower_lundberg(const ei_chain *self, size_t b) {
    const ei_upper_law none = {.decay = 0};
    const ei_added_stage stage = ei_part_stage(&self->parts[b], 0);
    const double step = self->batch->horizon / EI_CHAIN_SHORT_WALK;
    ei_chain fine = *self;
    ei_lattice law = {.sf = NULL};
    ei_lundberg found;
    int status = ei_lundberg_find(&found, EI_LOWER, &stage, &self->batch->arrival, self->parts[b].decay, &law,
                                  NULL, &none);
    if (status != EI_OK || !(exp(found.log_scale) > LEAST_SHARE))
        return ei_no_bound(status) ? EI_OK : status;
    fine.sum_step = step;
    status = ei_chain_sum(&fine, b, b + 1, &law);
    if (status == EI_OK)
        status = ei_chain_lengthen(&law, step, self->batch->horizon);
    if (status == EI_OK) {
        ei_lattice_add_exponential(&law, found.decay, EI_LOWER);
        for (size_t j = 0; j < law.count; j++)
            law.sf[j] *= exp(found.log_scale);
        status = raise_beside(self, &law, 0, b, b, b, stage.law == NULL ? EI_BRACKET_QUEUE : EI_BRACKET_LINK);
    }
    ei_lattice_free(&law);
    return status;
}

/* The law of two stages at once, and what it is alone with the second one (pair.h). */
static int followed_law(const ei_chain *self, ei_pair *pair, double less, size_t first, size_t one,
                        size_t other, ei_lattice *law, ei_lattice *alone) {
    ei_lattice between = {.sf = NULL}, ahead = {.sf = NULL};
    pair->first = ei_part_stage(&self->parts[one], 0);
    pair->second = ei_part_stage(&self->parts[other], 0);
    pair->first.less = pair->second.less = less;
    int status = ei_chain_sum(self, first, one, &ahead);
    /* Where a pair comes before, one of its services is in here. */
    for (size_t i = 0; i < ahead.count && ahead.sf != NULL && pair->alone != NULL; i++)
        ahead.sf[i] = ei_lattice_lower(&ahead, (double)i * ahead.step + less);
    if (status == EI_OK)
        status = ei_chain_sum(self, one + 1, other, &between);
    pair->between = &between;
    pair->ahead = &ahead;
    if (status == EI_OK)
        status = ei_pair_lower(law, alone, pair);
    ei_lattice_free(&between);
    ei_lattice_free(&ahead);
    return status;
}

/* two_stages: `count` parts, in order, the first two of them at once, each later one with the one before it;
 * the parts from `first` on that are none of these are passed where the path leaves them, those before
 * `first` as in lower_ends. */
static int lower_pairs(const ei_chain *self, double decay, size_t first, const size_t *parts, size_t count) {
    ei_lattice alone = {.sf = NULL};
    double mean = 0, least = INFINITY;
    int status = EI_OK;
    for (size_t k = 0; k < self->count; k++)
        mean += self->parts[k].mean;
    for (size_t k = 0; k < count; k++)
        least = fmin(least, ei_part_least(&self->parts[parts[k]]));
    ei_pair pair = {.arrival = &self->batch->arrival,
                    .decay = decay,
                    .horizon = fmin(self->batch->horizon, mean + PAIR_REACH / decay),
                    .points = FOLLOWED_POINTS,
                    .leads = FOLLOWED_LEADS,
                    .monitor = self->batch->monitor};
    ei_pair_lattice as = {.less = 0};
    if (self->batch->arrival.kind != EI_ARRIVAL_POISSON) {
        as = ei_chain_pair_lattice(self, pair.horizon, least, count, pair.points);
        /* Ends at short deadlines get nearer than those at the horizon. */
        if (as.points == 0 || !ei_is_wide(self->batch, cbrt(as.apart)))
            return EI_OK;
        const double leads = ceil(as.leads * (double)as.points / as.horizon);
        pair.arrival = &as.arrival;
        pair.horizon = as.horizon;
        pair.points = as.points;
        pair.leads = (size_t)fmax(fmin(leads, (double)pair.points), EI_PAIR_LEAST);
    }
    for (size_t k = 1; k < count && status == EI_OK; k++) {
        ei_lattice law = {.sf = NULL}, next = {.sf = NULL};
        status = followed_law(self, &pair, as.less, first, parts[k - 1], parts[k], &law, &next);
        if (status == EI_OK)
            status = raise_beside(self, &law, (double)(k + 1) * as.less, first, first, parts[k],
                                  EI_BRACKET_TWO_STAGES);
        ei_lattice_free(&law);
        ei_lattice_free(&alone);
        alone = next;
        pair.alone = &alone;
    }
    ei_lattice_free(&alone);
    return status;
}

/* The first part behind the last exponential one before part k. */
static size_t behind_exponential(const ei_chain *self, size_t k) {
    while (k > 0 && !ei_part_is_exponential(&self->parts[k - 1]))
        k--;
    return k;
}

/* The slowest of some parts that may be followed with others: behind periodic arrivals a random one. */
static size_t slowest_followed(const ei_chain *self, size_t first, size_t last, int exponential_too) {
    const size_t k = ei_chain_slowest(self, first, last, exponential_too);
    return k < self->count && self->batch->arrival.kind == EI_ARRIVAL_DETERMINISTIC &&
                   self->parts[k].service == NULL
               ? self->count
               : k;
}

/* two_stages: part b, the slowest one behind it and, if there is one, the part `before`; or all of those that
 * are nearly as slow as b, if they are more. */
static int lower_by(const ei_chain *self, size_t b, size_t first, size_t before, int all) {
    const size_t none = self->count, behind = slowest_followed(self, b + 1, none, 1);
    size_t parts[FOLLOWED], count = 0;
    for (size_t k = first; k < none && count < FOLLOWED; k++) {
        const int near = self->parts[k].decay <= FOLLOWED_NEAR * self->parts[b].decay &&
                         slowest_followed(self, k, k + 1, 1) == k;
        if (k == b || (all ? near : k == before || k == behind))
            parts[count++] = k;
    }
    return count > (all ? 3 : 1) ? lower_pairs(self, self->parts[b].decay, first, parts, count) : EI_OK;
}

int ei_chain_lower_pairs(const ei_chain *self, size_t b) {
    const int poisson = self->batch->arrival.kind == EI_ARRIVAL_POISSON;
    const size_t first = poisson ? behind_exponential(self, b) : 0,
                 near = slowest_followed(self, first, b, 1), far = ei_chain_slowest(self, 0, b, 0);
    int status = lower_by(self, b, first, near, 0);
    if (status == EI_OK && poisson && far != near && far < self->count)
        status = lower_by(self, b, behind_exponential(self, far), far, 0);
    if (status == EI_OK && b == ei_chain_slowest(self, 0, self->count, 1) &&
        ei_is_wide(self->batch, EI_CHAIN_WIDE))
        status = lower_by(self, b, first, near, 1);
    return status;
}

int ei_chain_lower_renewal(const ei_chain *self, size_t b) {
    const ei_batch *batch = self->batch;
    const ei_part *one = &self->parts[b];
    const ei_added_stage stage = ei_part_stage(one, 0);
    ei_lattice others = {.sf = NULL}, sojourn = {.sf = NULL};
    int status = ei_chain_sum_of_others(self, b, &others);
    if (status == EI_OK)
        status =
            ei_lindley_sojourn_lower(&sojourn, NULL, &stage, &batch->arrival,
                                     ei_chain_lindley_step(&stage, batch->horizon, EI_CHAIN_LINDLEY_POINTS),
                                     EI_CHAIN_LINDLEY_POINTS, batch->monitor);
    if (status == EI_OK)
        ei_chain_raise(self, &sojourn, &others, one->service == NULL ? EI_BRACKET_QUEUE : EI_BRACKET_LINK);
    ei_lattice_free(&others);
    ei_lattice_free(&sojourn);
    return ei_no_bound(status) ? EI_OK : status;
}

/* exponential: part b and the slowest exponential one behind it. */
static int lower_two_exponentials(const ei_chain *self, size_t b) {
    size_t a = b + 1;
    ei_upper_law law = {.decay = 0};
    for (size_t k = b + 1; k < self->count; k++)
        if (ei_part_is_exponential(&self->parts[k]) &&
            (!ei_part_is_exponential(&self->parts[a]) || self->parts[k].decay < self->parts[a].decay))
            a = k;
    if (!ei_chain_has_two_exponentials(self, b, a))
        return EI_OK;
    int status = ei_chain_two_exponentials_law(self, b, a, EI_LOWER, self->batch->horizon, &law);
    if (status == EI_OK)
        status = raise_beside(self, &law.lattice, 0, b, a, a, EI_BRACKET_EXPONENTIAL);
    ei_upper_law_free(&law);
    return ei_no_bound(status) ? EI_OK : status;
}

int ei_chain_lower_exponentials(const ei_chain *self) {
    const ei_batch *batch = self->batch;
    const int modulated = batch->arrival.kind == EI_ARRIVAL_MARKOV_MODULATED;
    const size_t most = batch->arrival.kind == EI_ARRIVAL_DETERMINISTIC ? AT_ONCE : modulated ? 2 : 3;
    const double step = batch->horizon / AT_ONCE_CELLS;
    ei_lattice law = {step, AT_ONCE_CELLS + 1, malloc((AT_ONCE_CELLS + 1) * sizeof *law.sf)};
    ei_chain beside = *self;
    ei_exponentials all;
    ei_two_modulated two;
    const ei_service *slow[AT_ONCE];
    double times[AT_ONCE];
    size_t count = 0, last = 0;
    int status = EI_ERR_NO_MEMORY;
    beside.parts = malloc(self->count * sizeof *beside.parts);
    if (beside.parts == NULL || law.sf == NULL)
        goto out;
    memcpy(beside.parts, self->parts, self->count * sizeof *beside.parts);
    for (size_t slowest = 0; slowest < self->count && count < most;) {
        slowest = self->count;
        for (size_t k = 0; k < self->count; k++)
            if (ei_part_is_exponential(&beside.parts[k]) &&
                (slowest == self->count || beside.parts[k].mean > beside.parts[slowest].mean))
                slowest = k;
        if (slowest < self->count) {
            last = slowest;
            slow[count] = beside.parts[last].service;
            times[count++] = beside.parts[last].mean;
            beside.parts[last].service = NULL;
        }
    }
    status = !modulated  ? ei_exponentials_init(&all, EI_LOWER, times, count, &batch->arrival)
             : count < 2 ? EI_ERR_ACCURACY
                         : ei_two_modulated_init(&two, EI_LOWER, slow[0], slow[1], &batch->arrival);
    for (size_t j = 0; j <= AT_ONCE_CELLS && status == EI_OK; j++) {
        const double time = (double)j * step,
                     one = modulated ? ei_two_modulated_sf(&two, time) : ei_exponentials_sf(&all, time);
        law.sf[j] = fmin(one, j > 0 ? law.sf[j - 1] : 1);
    }
    if (status == EI_OK)
        status = raise_beside(&beside, &law, 0, last, last, last, EI_BRACKET_EXPONENTIAL);
out:
    free(beside.parts);
    ei_lattice_free(&law);
    return ei_no_bound(status) ? EI_OK : status;
}

int ei_chain_lower_geometric(const ei_chain *self, size_t b) {
    const size_t a = ei_chain_slowest(self, b + 1, self->count, 1);
    ei_lattice others = {.sf = NULL}, sojourn = {.sf = NULL};
    if (a == self->count)
        return EI_OK;
    const int two = lower_two_exponentials(self, b);
    if (two != EI_OK)
        return two;
    /* Of these two nothing is left out. */
    if (ei_part_is_exponential(&self->parts[a]))
        return EI_OK;
    const ei_service *law = self->parts[a].service;
    const ei_added_stage behind = ei_part_stage(&self->parts[a], 0);
    const double mean = self->parts[a].mean + self->parts[b].mean,
                 horizon = mean + PAIR_REACH / self->parts[b].decay,
                 share = law != NULL ? fmin(ei_service_reach(law) / horizon, 1) : 0,
                 points = law != NULL ? fmin(cbrt(BEHIND_WORK / share), BEHIND_POINTS) : BEHIND_POINTS;
    int status = ei_chain_sum_of_others(self, b, &others);
    if (status == EI_OK)
        status = ei_geometric_behind(&sojourn, self->parts[b].service, &self->batch->arrival, &behind,
                                     ei_chain_lindley_step(&behind, horizon, (size_t)points), (size_t)points,
                                     self->batch->monitor);
    if (status == EI_OK)
        ei_chain_raise(self, &sojourn, &others, EI_BRACKET_EXPONENTIAL);
    ei_lattice_free(&others);
    ei_lattice_free(&sojourn);
    return ei_no_bound(status) ? EI_OK : status;
}
