#include "edgeinfer/chain_parts.h"

#include "edgeinfer/bound.h"
#include "edgeinfer/geometric.h"
#include "edgeinfer/lindley.h"
#include "edgeinfer/two_exponentials.h"
#include "edgeinfer/walk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    DELAY_POINTS = 8192, /* lattice of a first deterministic stage's waiting time */
    BOUNDS = 6,          /* of a law's tail */
    RUN_POINTS = 2048,   /* of a run that is fed periodically, by tilted.h */
    FLOORED = 40         /* bisections for a decay with a floor */
};
static const double ALIGNED = 1e-5; /* of a step: what laws' shifts differ by for rounding's sake alone */
static const double ROUGH = 0.02;   /* share of a probability that a lattice may cost */
static const double BEYOND = 2.5;   /* decay times */
static const double WORK = 4e7;     /* multiply-adds of one addition of a random stage */

int ei_chain_bound_beyond(const ei_chain *self, size_t first, size_t last, double time, double *bound,
                          double *theta) {
    static const ei_bound_method methods[] = {EI_BOUND_UNION, EI_BOUND_LUNDBERG};
    const size_t from = first > 0 ? self->parts[first - 1].end : 0;
    *bound = *theta = 0;
    for (size_t k = first; k <= last; k++)
        time += self->parts[k].once;
    for (size_t m = 0; m < 2; m++) {
        double rate = self->batch->arrival_rate, value, exponent;
        int status = ei_violation_bound(self->stages + from, self->parts[last].end - from, methods[m],
                                        &self->batch->arrival, 1, 1, &rate, &time, &value, &exponent,
                                        self->batch->monitor);
        if (status != EI_OK)
            return status;
        if (value < *bound) {
            *bound = value + EI_SERVICE_MGF_ERROR;
            *theta = exponent;
        }
    }
    return EI_OK;
}

double ei_chain_log_of_any_phase(const ei_chain *self) {
    const ei_arrival *arrival = &self->batch->arrival;
    double least = 1;
    for (size_t i = 0; arrival->kind == EI_ARRIVAL_MARKOV_MODULATED && i < arrival->count; i++)
        if (arrival->rates[i] > 0)
            least = fmin(least, arrival->stationary[i] * arrival->rates[i] * ei_arrival_mean(arrival));
    return -log(least * (1 - 1e-9));
}

int ei_chain_bound_tail(const ei_chain *self, size_t first, size_t last, ei_upper_law *law) {
    double end = (double)law->lattice.count * law->lattice.step, bound, exponent;
    int status = ei_chain_bound_beyond(self, first, last, end, &bound, &exponent);
    /* Where these say nothing the law may have its own. */
    if (status == EI_OK && (exponent > 0 || !(law->decay > 0))) {
        law->log_scale = bound + exponent * end + ei_chain_log_of_any_phase(self);
        law->decay = exponent;
    }
    return status;
}

/* A part to be added to an upper end on so many points: a constant service of less than a step lasts one. */
static ei_added_stage slowed(const ei_part *one, double floor, double horizon, double points) {
    ei_added_stage stage = ei_part_stage(one, floor);
    stage.again = fmax(stage.again, horizon / points);
    return stage;
}

/* Adds part k behind arrivals that are not Poisson. */
static int add_lindley(const ei_chain *self, size_t k, double floor, double horizon, ei_upper_law *law) {
    const ei_part *one = &self->parts[k];
    size_t points = self->effort < 1 ? EI_CHAIN_LINDLEY_POINTS / 8 : EI_CHAIN_LINDLEY_POINTS;
    ei_added_stage stage = slowed(one, floor, horizon, (double)points);
    ei_upper_law next;
    int status =
        ei_add_stage_lindley(&next, law, &stage, &self->batch->arrival,
                             ei_chain_lindley_step(&stage, horizon, points), points, self->batch->monitor);
    ei_upper_law_free(law);
    *law = next;
    return status;
}

void ei_chain_take_better(ei_upper_law *law, const ei_upper_law *other) {
    /* One may be less some time that the other is not. */
    const double shift = other->shift + 1e-9 * other->lattice.step, further = shift - law->shift,
                 less = fabs(further) > ALIGNED * law->lattice.step ? further : 0;
    for (size_t j = 0; j < law->lattice.count; j++)
        law->lattice.sf[j] =
            fmin(law->lattice.sf[j], ei_upper_law_sf(other, (double)j * law->lattice.step - less));
    law->shift = fmax(law->shift, shift - less);
}

int ei_chain_is_rough(const ei_chain *self, const ei_part *one, double floor, double horizon, double step) {
    const double spare = 1 / self->batch->arrival_rate - fmax(one->mean, floor);
    const int slow = one->service != NULL || one->again * EI_CHAIN_LINDLEY_POINTS >= horizon;
    return slow && step * one->decay * horizon >= ROUGH * spare;
}

/* Cuts the law of part k behind `before` where its lattice is rough by lindley.h, which is of the second
 * order. */
static int refine(const ei_chain *self, size_t k, double floor, double horizon, const ei_upper_law *before,
                  ei_upper_law *law) {
    const ei_part *one = &self->parts[k];
    const ei_added_stage stage = ei_part_stage(one, floor);
    const size_t points = self->effort < 1 ? EI_CHAIN_LINDLEY_POINTS / 8 : EI_CHAIN_LINDLEY_POINTS;
    ei_upper_law other;
    /* Floors are tried by the dozen. */
    if ((self->effort < 1 && floor > 0) || !ei_chain_is_rough(self, one, floor, horizon, law->lattice.step))
        return EI_OK;
    int status =
        ei_add_stage_lindley(&other, before, &stage, &self->batch->arrival,
                             ei_chain_lindley_step(&stage, horizon, points), points, self->batch->monitor);
    if (status == EI_OK)
        ei_chain_take_better(law, &other);
    ei_upper_law_free(&other);
    return ei_no_bound(status) ? EI_OK : status;
}

/* An empty lattice over `horizon`, both its ends among the points. */
static int lay_out(ei_lattice *self, double horizon, size_t cells) {
    *self = (ei_lattice){horizon / (double)cells, cells + 1, malloc((cells + 1) * sizeof *self->sf)};
    return self->sf == NULL ? EI_ERR_NO_MEMORY : EI_OK;
}

/* The law of an exponential stage alone behind renewal arrivals, geometric.h. */
static int geometric_law(const ei_chain *self, const ei_service *service, double horizon, ei_upper_law *law) {
    const double theta = ei_geometric_rate(service, &self->batch->arrival, EI_UPPER);
    if (!(theta > 0))
        return EI_ERR_UNSTABLE;
    if (lay_out(&law->lattice, horizon, EI_CHAIN_LINDLEY_POINTS) != EI_OK)
        return EI_ERR_NO_MEMORY;
    for (size_t j = 0; j < law->lattice.count; j++)
        law->lattice.sf[j] = fmin(exp(-theta * (double)j * law->lattice.step) * (1 + 1e-11), 1);
    law->log_scale = 1e-11;
    law->decay = theta;
    return EI_OK;
}

int ei_chain_has_two_exponentials(const ei_chain *self, size_t first, size_t other) {
    return ei_part_is_exponential(&self->parts[first]) && ei_part_is_exponential(&self->parts[other]) &&
           ei_arrival_is_renewal(&self->batch->arrival) && self->batch->arrival.kind != EI_ARRIVAL_POISSON;
}

int ei_chain_two_exponentials_law(const ei_chain *self, size_t first, size_t other, ei_end end,
                                  double horizon, ei_upper_law *law) {
    ei_two_exponentials both;
    int status = ei_two_exponentials_init(&both, end, self->parts[first].service, self->parts[other].service,
                                          &self->batch->arrival);
    if (status == EI_OK && end == EI_UPPER)
        status = ei_two_exponentials_beyond(&both, horizon, &law->log_scale, &law->decay);
    if (status == EI_OK)
        status = lay_out(&law->lattice, horizon, EI_CHAIN_LINDLEY_POINTS);
    for (size_t j = 0; j < law->lattice.count && status == EI_OK; j++)
        law->lattice.sf[j] = ei_two_exponentials_sf(&both, (double)j * law->lattice.step);
    return status;
}

int ei_chain_first_law(const ei_chain *self, size_t k, double floor, double horizon, ei_upper_law *law) {
    const ei_part *first = &self->parts[k];
    double rate = self->batch->arrival_rate;
    int status;
    if (ei_part_is_exponential(first) && !(floor > 0) && ei_arrival_is_renewal(&self->batch->arrival) &&
        self->batch->arrival.kind != EI_ARRIVAL_POISSON)
        return geometric_law(self, first->service, horizon, law);
    if (self->batch->arrival.kind != EI_ARRIVAL_POISSON)
        return add_lindley(self, k, floor, horizon, law);
    if (first->service == NULL) {
        ei_md1 waiting;
        if ((status = ei_md1_init(&waiting, rate, first->again, horizon)) == EI_OK)
            status = lay_out(&law->lattice, horizon, DELAY_POINTS);
        for (size_t i = 0; i <= DELAY_POINTS && status == EI_OK; i++)
            law->lattice.sf[i] =
                fmin(ei_md1_waiting_sf(&waiting, (double)i * law->lattice.step) * (1 + 1e-11), 1);
        ei_md1_free(&waiting);
        return status;
    }
    double reach = fmax(ei_service_reach(first->service), floor * 1.001);
    horizon = fmax(horizon, reach);
    double points = fmin(sqrt(self->effort * WORK * horizon / reach), self->effort * EI_CHAIN_WALK_POINTS);
    double step = horizon / points;
    size_t cells = (size_t)(reach / step) + 3;
    ei_lattice service;
    const ei_upper_law none = {.decay = 0};
    if ((status = ei_lattice_service(&service, first->service, floor, step / EI_MG1_FINE, cells * EI_MG1_FINE,
                                     EI_UPPER)) == EI_OK)
        status =
            ei_mg1_sojourn(&law->lattice, &service, rate, (size_t)points + 2, EI_UPPER, self->batch->monitor);
    ei_lattice_free(&service);
    return status == EI_OK ? refine(self, k, floor, horizon, &none, law) : status;
}

double ei_chain_walk_step(const ei_chain *self, const ei_part *one, double floor, double horizon,
                          double points) {
    const double reach = fmax(ei_service_reach(one->service), floor);
    return horizon / fmin(points, sqrt(self->effort * WORK * horizon / reach));
}

int ei_chain_add_part(const ei_chain *self, size_t k, double floor, double horizon, double points,
                      ei_upper_law *law) {
    const ei_part *one = &self->parts[k];
    ei_upper_law next;
    double step;
    if (self->batch->arrival.kind != EI_ARRIVAL_POISSON)
        return add_lindley(self, k, floor, horizon, law);
    if (ei_part_is_exponential(one) && !(floor > 0)) {
        int added = ei_add_stage_exponential(&next, law, one->service->time, self->batch->arrival_rate,
                                             horizon / points, (size_t)points + 2);
        ei_upper_law_free(law);
        *law = next;
        return added;
    }
    points *= self->effort;
    const ei_added_stage stage = slowed(one, floor, horizon, points);
    /* Deterministic services are not rounded. */
    step = one->service != NULL ? ei_chain_walk_step(self, one, floor, horizon, points)
                                : stage.again / ceil(stage.again * points / horizon * (1 - 1e-12));
    size_t count = (size_t)fmin(horizon / step, 4.0 * EI_CHAIN_WALK_POINTS) + 2;
    int status = ei_add_stage_poisson(&next, law, &stage, self->batch->arrival_rate, step, count,
                                      self->batch->monitor);
    if (status == EI_OK)
        status = refine(self, k, floor, horizon, law, &next);
    ei_upper_law_free(law);
    *law = next;
    return status;
}

/* added_stage: part `last` behind those from `first` on. */
static int added_law(const ei_chain *self, size_t first, size_t last, double horizon, double points,
                     ei_upper_law *law) {
    if (first == last)
        return ei_chain_first_law(self, first, 0, horizon, law);
    int status = EI_ERR_ACCURACY;
    if (first + 1 == last && ei_chain_has_two_exponentials(self, first, last))
        status = ei_chain_two_exponentials_law(self, first, last, EI_UPPER, horizon, law);
    if (!ei_no_bound(status))
        return status;
    status = ei_chain_law(self, first, last - 1, law);
    return status == EI_OK ? ei_chain_add_part(self, last, 0, horizon, points, law) : status;
}

/* Keeps a lattice's every so many points, as a horizon far beyond a short stage's own would take too many of
 * its steps: the law is that of the point before. */
static void thin(ei_lattice *law, double horizon) {
    const double every = ceil(horizon / law->step / EI_CHAIN_WALK_POINTS);
    if (!(every > 1))
        return;
    law->step *= every;
    size_t kept = 1;
    for (; (double)kept * every < (double)law->count; kept++)
        law->sf[kept] = law->sf[(size_t)((double)kept * every)];
    law->count = kept;
}

/* Lengthens the lattice up to the horizon, by Chernoff's bound. */
static int stretch(ei_upper_law *law, double step, double horizon) {
    if (law->lattice.sf != NULL)
        thin(&law->lattice, horizon);
    const size_t known = law->lattice.sf != NULL ? law->lattice.count : 0;
    int status = ei_chain_lengthen(&law->lattice, step, horizon);
    for (size_t j = known; known > 0 && j < law->lattice.count && status == EI_OK; j++)
        law->lattice.sf[j] = fmin(law->lattice.sf[known - 1],
                                  exp(law->log_scale - law->decay * (double)j * law->lattice.step));
    return status;
}

int ei_chain_choose_tail(const ei_chain *self, size_t first, size_t last, ei_tail *tail) {
    int status = EI_OK;
    for (size_t e = 0; e < EI_TAIL_ENDS; e++)
        tail->log_beyond[e] = 0;
    for (size_t i = 1; i <= BOUNDS && status == EI_OK; i++) {
        const double at = tail->furthest * (double)i / BOUNDS;
        double bound, exponent;
        status = self->before != NULL ? ei_chain_bound_sum(self, at, &bound, &exponent)
                                      : ei_chain_bound_beyond(self, first, last, at, &bound, &exponent);
        for (size_t e = 0; e < EI_TAIL_ENDS && status == EI_OK; e++)
            tail->log_beyond[e] =
                fmin(tail->log_beyond[e], bound - exponent * (ei_tail_end(tail, e) - at) + 1e-9);
    }
    return status;
}

int ei_chain_exponential_law(const ei_chain *self, size_t first, size_t b, size_t last, double horizon,
                             double points, ei_upper_law *law) {
    const ei_service *service = self->parts[b].service;
    const double theta = 1 / service->time - self->batch->arrival_rate;
    ei_upper_law known = {.decay = 0}, rest = {.decay = 0};
    ei_tail tail = {.furthest = horizon + EI_CHAIN_FURTHER / theta};
    double *once = NULL;
    horizon = tail.furthest;
    int status = added_law(self, first, b, horizon, points, law);
    if (status == EI_OK && first < b)
        status = ei_chain_law(self, first, b, &known);
    if (status == EI_OK && first < b)
        ei_chain_take_better(law, &known);
    if (status == EI_OK)
        status = ei_chain_law(self, b + 1, last, &rest);
    if (status == EI_OK)
        status = stretch(&rest, 0, horizon);
    if (status != EI_OK)
        goto out;
    ei_chain_add_sojourn(self, service, EI_UPPER, &rest.lattice);
    const double *v = law->lattice.sf, step = law->lattice.step;
    const size_t count = law->lattice.count;
    if ((once = malloc(2 * count * sizeof *once)) == NULL)
        status = EI_ERR_NO_MEMORY;
    if (status != EI_OK || (status = ei_chain_choose_tail(self, first, last, &tail)) != EI_OK)
        goto out;
    for (size_t e = 0; e < EI_TAIL_ENDS; e++) {
        const double at = ceil(ei_tail_end(&tail, e) / step);
        tail.slope[e] = at < (double)count ? v[(size_t)at] * exp(theta * at * step) * (1 + 1e-6) : INFINITY;
    }
    for (size_t j = 0; j < count; j++) {
        const double time = (double)j * step, alone = exp(-theta * time) * (1 - 1e-11);
        once[j] = v[j];
        once[count + j] = fmax(ei_upper_law_sf(&rest, time) - alone, 0);
    }
    law->shift += rest.shift + 1e-9 * rest.lattice.step;
    for (size_t j = 0; j < count; j++)
        law->lattice.sf[j] = 1;
    ei_split_tail(law, once, once + count, &tail);
out:
    free(once);
    ei_upper_law_free(&known);
    ei_upper_law_free(&rest);
    return status;
}

int ei_chain_is_candidate(const ei_chain *self, size_t first, size_t b, size_t last) {
    const size_t slowest = ei_chain_slowest(self, first, last + 1, 1);
    return ei_part_is_exponential(&self->parts[b]) &&
           self->parts[b].decay <= EI_CHAIN_NEAR * self->parts[slowest].decay;
}

static int find_law(const ei_chain *self, size_t first, size_t last, ei_upper_law *law) {
    const int poisson = self->batch->arrival.kind == EI_ARRIVAL_POISSON;
    double mean = 0, decay = INFINITY;
    int status = EI_OK;
    for (size_t k = first; k <= last; k++) {
        mean += self->parts[k].mean;
        decay = fmin(decay, self->parts[k].decay);
    }
    /* What is added to the law of two parts at once asks for it further on. */
    const int whole = first == 0 && last + 1 == self->count;
    const double beyond =
                     poisson && self->pair_points > 0 && self->effort == 1 && !whole ? BEYOND / decay : 0,
                 horizon = fmin(mean + EI_CHAIN_FURTHEST / decay, self->batch->horizon + beyond);
    if (poisson && ei_part_is_exponential(&self->parts[first])) {
        if (first < last)
            status = ei_chain_law(self, first + 1, last, law);
        if (status == EI_OK)
            status = stretch(law, horizon / EI_CHAIN_SHORT_WALK, horizon);
        if (status == EI_OK)
            ei_chain_add_sojourn(self, self->parts[first].service, EI_UPPER, &law->lattice);
    } else {
        status = added_law(self, first, last, horizon, EI_CHAIN_SHORT_WALK, law);
        for (size_t b = first + 1; poisson && b < last && status == EI_OK; b++) {
            ei_upper_law other = {.decay = 0};
            if (!ei_chain_is_candidate(self, first, b, last))
                continue;
            status = ei_chain_exponential_law(self, first, b, last, horizon, EI_CHAIN_SHORT_WALK, &other);
            if (status == EI_OK)
                ei_chain_take_better(law, &other);
            ei_upper_law_free(&other);
            status = ei_no_bound(status) ? EI_OK : status;
        }
        /* The whole chain's has its own name. */
        for (size_t b = first; poisson && !whole && b < last && status == EI_OK; b++)
            if (ei_chain_may_be_tilted(self, first, b, last))
                status = ei_chain_cut_by_tilted(self, first, b, last, horizon, law);
        const int exact = first + 1 == last && ei_chain_has_two_exponentials(self, first, last);
        if (self->batch->arrival.kind != EI_ARRIVAL_MARKOV_MODULATED && !exact && status == EI_OK)
            status = ei_chain_cut_by_pair(self, first, last, horizon, law);
    }
    return status == EI_OK ? ei_chain_bound_tail(self, first, last, law) : status;
}

int ei_chain_law(const ei_chain *self, size_t first, size_t last, ei_upper_law *law) {
    ei_upper_law *known = &self->laws[first * self->count + last];
    if (known->lattice.sf == NULL) {
        /* Kept for others than one trial. */
        ei_chain whole = *self;
        whole.effort = self->laws_effort;
        int status = find_law(&whole, first, last, known);
        if (status != EI_OK) {
            ei_upper_law_free(known);
            return status;
        }
    }
    const size_t size = known->lattice.count * sizeof(double), phases = known->phases * size;
    double *sf = malloc(size), *by_phase = known->by_phase != NULL ? malloc(phases) : NULL;
    if (sf == NULL || (by_phase == NULL && known->by_phase != NULL)) {
        free(sf);
        free(by_phase);
        return EI_ERR_NO_MEMORY;
    }
    memcpy(sf, known->lattice.sf, size);
    if (by_phase != NULL)
        memcpy(by_phase, known->by_phase, phases);
    *law = *known;
    law->lattice.sf = sf;
    law->by_phase = by_phase;
    return EI_OK;
}

int ei_chain_fed_periodically(const ei_chain *self, size_t first, size_t last, double period, size_t finest,
                              ei_upper_law *law) {
    size_t count = first < last ? last - first + 1 : first - last + 1;
    double reach = period;
    int status = EI_OK;
    for (size_t i = 0; i < count; i++) {
        const ei_part *one = &self->parts[first < last ? first + i : first - i];
        if (one->service != NULL)
            reach = fmax(reach, ei_service_reach(one->service));
    }
    if (!(period > 0))
        return EI_ERR_UNSTABLE;
    ei_added_stage *stages = malloc(count * sizeof *stages);
    if (stages == NULL)
        return EI_ERR_NO_MEMORY;
    size_t points = (size_t)fmax(ceil(period * (double)finest / reach), 1);
    for (size_t i = 0; i < count && status == EI_OK; i++) {
        const ei_part *one = &self->parts[first < last ? first + i : first - i];
        ei_upper_law next;
        stages[i] = ei_part_stage(one, 0);
        status =
            ei_add_stage_periodic(&next, law, &stages[i], period, points, 8 * finest, self->batch->monitor);
        ei_upper_law_free(law);
        *law = next;
    }
    if (count > 1 && self->runs && status == EI_OK) {
        ei_upper_law other = {.decay = 0};
        status = ei_tilted_run(&other, stages, count, period, self->batch->horizon, RUN_POINTS,
                               self->batch->monitor);
        if (status == EI_OK)
            ei_chain_take_better(law, &other);
        ei_upper_law_free(&other);
        status = ei_no_bound(status) ? EI_OK : status;
    }
    free(stages);
    return status;
}

int ei_chain_log_moment_behind(const ei_chain *self, size_t b, size_t last, double rate, double theta,
                               double *value) {
    const size_t from = self->parts[b].end, end = self->parts[last].end;
    ei_batch batch = *self->batch;
    ei_upper_law law = {.decay = 0};
    ei_chain rest;
    batch.arrival = (ei_arrival){.kind = EI_ARRIVAL_POISSON, .parameter = {rate}};
    batch.arrival_rate = rate;
    batch.horizon = INFINITY;
    for (size_t k = b + 1; k <= last; k++)
        if (!(rate * self->parts[k].mean < 1))
            return EI_ERR_UNSTABLE;
    int status = ei_chain_init_behind(&rest, &batch, self->stages + from, end - from);
    *value = 0;
    if (status == EI_OK && rest.count > 0)
        status = ei_chain_law(&rest, 0, rest.count - 1, &law);
    if (status == EI_OK && rest.count > 0 && !(law.decay > theta))
        status = EI_ERR_UNSTABLE;
    if (status == EI_OK && rest.count > 0)
        *value = ei_upper_law_log_moment(&law, theta) + theta * (law.shift + 2e-9 * law.lattice.step);
    for (size_t k = 0; k < rest.leading_count && status == EI_OK; k++) {
        const double time = rest.leading[k].time, faster = 1 - (rate + theta) * time;
        if (rest.leading[k].kind != EI_SERVICE_EXPONENTIAL)
            continue;
        if (faster > 1e-9)
            *value += log1p(theta * time / faster) * (1 + 1e-6);
        else
            status = EI_ERR_UNSTABLE;
    }
    ei_upper_law_free(&law);
    ei_chain_free(&rest);
    return status;
}

int ei_chain_floored_decay(const ei_chain *self, size_t b, double floor, double *decay) {
    const ei_added_stage stage = ei_part_stage(&self->parts[b], floor);
    double high = self->parts[b].decay, moment, slope;
    *decay = floor > 0 ? 0 : high;
    for (int i = 0; i < FLOORED && floor > 0; i++) {
        const double middle = *decay + (high - *decay) / 2;
        int status = ei_added_stage_log_moment(&stage, middle, &moment);
        if (status != EI_OK)
            return status;
        if (moment * (1 + EI_SERVICE_MGF_ERROR) < ei_arrival_exponent(&self->batch->arrival, middle, &slope))
            *decay = middle;
        else
            high = middle;
    }
    return EI_OK;
}
