#include "edgeinfer/bracket.h"

#include "edgeinfer/alone.h"
#include "edgeinfer/associated.h"
#include "edgeinfer/blocks.h"
#include "edgeinfer/bound.h"
#include "edgeinfer/chain.h"
#include "edgeinfer/ends.h"
#include "edgeinfer/geometric.h"
#include "edgeinfer/handover.h"
#include "edgeinfer/joint.h"
#include "edgeinfer/single.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* upper / lower below which dearer formulas are not tried. */
static const double CLOSE = 1.02, NEAR = 1.04, FAIR = 1.12, POOR = 1.3, WIDE = 1.9;
static const double FURTHEST = 1e-20; /* a sojourn time's lattice ends near here */
static const double LEAST = 1e-290;   /* below, only logarithms keep their accuracy */
/* A random stage's deviation over its mean, from which on formulas without joint.h's lattices have not come
 * near at nearly equal loads. */
static const double SPREAD = 0.2;
static const double HEAVY = 0.9; /* load of one stage, from where on its lower ends lose much */

static int exact_waiting(const ei_batch *self) {
    const ei_shape *pipeline = self->pipeline;
    double service = fmax(pipeline->d1, pipeline->d3);
    double constant = pipeline->constant + pipeline->d1 + pipeline->d3;
    ei_md1 waiting;
    int status = ei_md1_init(&waiting, self->arrival_rate, service, self->horizon);
    for (size_t i = 0; i < self->count && status == EI_OK; i++) {
        size_t at = self->index[i];
        double value = ei_md1_waiting_sf(&waiting, self->deadline[at] - constant);
        self->lower[at] = self->upper[at] = value;
        self->lower_method[at] = self->upper_method[at] = EI_BRACKET_EXACT;
    }
    ei_md1_free(&waiting);
    return status;
}

/* ---- lower: d1 + d3 + X + Wq(dm) */
static int lower_queue(const ei_batch *self, const ei_lattice *law, const ei_md1 *waiting) {
    const ei_shape *pipeline = self->pipeline;
    double constant = pipeline->constant + pipeline->d1 + pipeline->d3;
    for (size_t i = 0; i < self->count; i++) {
        size_t at = self->index[i];
        ei_raise_lower(self, at, ei_waiting_plus_sf(waiting, law, self->deadline[at] - constant, EI_LOWER),
                       EI_BRACKET_QUEUE);
    }
    return EI_OK;
}

/* ---- upper: d1 + d3 + Y + Wq(Y) */
static int upper_single_server(const ei_batch *self) {
    const ei_shape *pipeline = self->pipeline;
    double constant = pipeline->constant + pipeline->d1 + pipeline->d3;
    double rest = self->horizon - constant;
    ei_lattice ends[2] = {{.sf = NULL}, {.sf = NULL}};
    int status = EI_OK;
    if (rest > 0 &&
        (status = ei_sojourn_ends(self, fmax(pipeline->d1, pipeline->d3), rest, EI_UPPER, EI_UPPER, ends)) ==
            EI_OK &&
        ends[EI_UPPER].sf != NULL)
        for (size_t i = 0; i < self->count; i++)
            ei_cut_upper(self, self->index[i],
                         ei_lattice_upper(&ends[EI_UPPER], self->deadline[self->index[i]] - constant),
                         EI_BRACKET_SINGLE_SERVER);
    ei_lattice_free(&ends[0]);
    ei_lattice_free(&ends[1]);
    return status;
}

/* The same where the probes' ends are wide, or for the elements whose own are. */
static int single_server_where_wide(const ei_batch *self) {
    ei_batch wide = *self;
    if (ei_is_wide(self, POOR))
        return upper_single_server(self);
    size_t *index = malloc(self->count * sizeof *index);
    if (index == NULL)
        return EI_ERR_NO_MEMORY;
    wide.index = index;
    wide.count = 0;
    for (size_t i = EI_PROBES; i < self->count; i++)
        if (self->upper[self->index[i]] > POOR * self->lower[self->index[i]])
            index[wide.count++] = self->index[i];
    const int status = wide.count > 0 ? upper_single_server(&wide) : EI_OK;
    free(index);
    return status;
}

static int upper_moments(const ei_batch *self, const ei_service *stages, size_t stage_count) {
    double *rates = malloc(4 * self->count * sizeof *rates + 1);
    int status = EI_OK;
    if (rates == NULL)
        return EI_ERR_NO_MEMORY;
    double *deadlines = rates + self->count, *bounds = rates + 2 * self->count,
           *theta = rates + 3 * self->count;
    static const ei_bound_method methods[] = {EI_BOUND_UNION, EI_BOUND_LUNDBERG};
    for (size_t i = 0; i < self->count; i++) {
        double deadline = self->deadline[self->index[i]];
        rates[i] = self->arrival_rate;
        deadlines[i] = isfinite(deadline) ? deadline : 0;
    }
    for (size_t m = 0; m < 2 && status == EI_OK; m++) {
        status = ei_violation_bound(stages, stage_count, methods[m], &self->arrival, 1, self->count, rates,
                                    deadlines, bounds, theta, self->monitor);
        for (size_t i = 0; i < self->count && status == EI_OK; i++)
            ei_cut_upper(self, self->index[i],
                         isfinite(self->deadline[self->index[i]]) ? exp(bounds[i]) * (1 + 1e-6) : 0,
                         EI_BRACKET_MOMENTS);
    }
    free(rates);
    return status;
}

/* One random stage. */
static int bracket_one(const ei_batch *self, const ei_service *stages, size_t stage_count) {
    const ei_shape *pipeline = self->pipeline;
    double dm = fmax(pipeline->d1, pipeline->d3);
    double reach = ei_service_reach(pipeline->random);
    ei_lattice down = {0}, up = {0};
    ei_md1 waiting = {0};
    int status;
    if ((status = ei_md1_init(&waiting, self->arrival_rate, dm, self->horizon)) != EI_OK ||
        (status = ei_lattice_service(&down, pipeline->random, 0, reach / EI_SERVICE_POINTS,
                                     EI_SERVICE_POINTS + 2, EI_LOWER)) != EI_OK ||
        (status = ei_lattice_service(&up, pipeline->random, 0, reach / EI_SERVICE_POINTS,
                                     EI_SERVICE_POINTS + 2, EI_UPPER)) != EI_OK ||
        (status = lower_queue(self, &down, &waiting)) != EI_OK ||
        (status = upper_moments(self, stages, stage_count)) != EI_OK)
        goto out;
    if (pipeline->d1 > pipeline->d3 && ei_service_mean(pipeline->random) < 0.9 * pipeline->d1 &&
        (status = ei_upper_overtaking(self, &up, &waiting)) != EI_OK)
        goto out;
    /* Where the edge is much slower than the device, the law of V grows with the jobs and overtaking is
     * sharper. */
    if (ei_is_wide(self, CLOSE) && ei_service_mean(pipeline->random) < dm &&
        pipeline->d1 < 1.2 * pipeline->d3 && (status = ei_upper_associated(self)) != EI_OK)
        goto out;
    if (ei_is_wide(self, FAIR) && (status = ei_bracket_link(self)) != EI_OK)
        goto out;
    if (ei_is_wide(self, FAIR) && (status = ei_chain_ends(self, stages, stage_count)) != EI_OK)
        goto out;
    status = single_server_where_wide(self);
out:
    ei_lattice_free(&down);
    ei_lattice_free(&up);
    ei_md1_free(&waiting);
    return status;
}

static int bracket_several(const ei_batch *self, const ei_service *stages, size_t stage_count) {
    int status = upper_moments(self, stages, stage_count);
    if (status == EI_OK)
        status = ei_alone_ends(self, stages, stage_count);
    return status == EI_OK ? ei_chain_ends(self, stages, stage_count) : status;
}

/* Merges deterministic stages; *random_count counts the others. */
static ei_shape shape_of(const ei_service *stages, size_t stage_count, size_t *random_count) {
    ei_shape self = {0, 0, 0, NULL};
    double sum[2] = {0, 0};
    *random_count = 0;
    for (size_t k = 0; k < stage_count; k++) {
        if (stages[k].kind != EI_SERVICE_DETERMINISTIC) {
            self.random = &stages[k];
            ++*random_count;
            continue;
        }
        double *slowest = self.random == NULL ? &self.d1 : &self.d3;
        sum[self.random != NULL] += stages[k].time;
        *slowest = fmax(*slowest, stages[k].time);
    }
    self.constant = (sum[0] - self.d1) + (sum[1] - self.d3);
    return self;
}

/* Where the lattices end and the probes lie: at `level` of the decay from the mean latency on. */
static int place(const ei_service *stages, size_t stage_count, const ei_arrival *arrival, double *horizon,
                 double probes[EI_PROBES]) {
    static const double levels[EI_PROBES] = {1e-1, 1e-3, 1e-6, 1e-10};
    double mean = 0, decay;
    int status = ei_decay_rate(stages, stage_count, arrival, &decay);
    if (status != EI_OK)
        return status;
    for (size_t k = 0; k < stage_count; k++)
        mean += ei_service_mean(&stages[k]);
    decay = fmax(decay, 1e-250);
    *horizon = mean - log(FURTHEST) / decay;
    for (size_t i = 0; i < EI_PROBES; i++)
        probes[i] = mean - log(levels[i]) / decay;
    return EI_OK;
}

typedef struct {
    double arrival_rate;
    size_t index;
} key;

static int compare_keys(const void *left, const void *right) {
    double a = ((const key *)left)->arrival_rate, b = ((const key *)right)->arrival_rate;
    return (a > b) - (a < b);
}

/* The elements of one rate, the probes first. */
static int bracket_rate(const ei_batch *self, const ei_service *stages, size_t stage_count,
                        size_t random_count) {
    const ei_shape *pipeline = self->pipeline;
    if (self->arrival.kind != EI_ARRIVAL_POISSON) {
        int status = upper_moments(self, stages, stage_count);
        if (status == EI_OK)
            status = ei_alone_ends(self, stages, stage_count);
        return status == EI_OK ? ei_renewal_ends(self, stages, stage_count) : status;
    }
    if (random_count == 0)
        return exact_waiting(self);
    if (random_count == 1 && pipeline->d1 == 0 && pipeline->d3 == 0) {
        /* The probes are for chains. */
        ei_batch asked = *self;
        asked.index += EI_PROBES;
        asked.count -= EI_PROBES;
        int status = upper_moments(&asked, stages, stage_count);
        if (status == EI_OK && pipeline->random->kind == EI_SERVICE_EXPONENTIAL) {
            ei_geometric_ends(&asked, pipeline->random, &self->arrival);
            return EI_OK;
        }
        if (status == EI_OK)
            status = ei_single_ends(&asked, pipeline->random, pipeline->random, 1);
        return status == EI_OK && self->arrival_rate * ei_service_mean(pipeline->random) > HEAVY
                   ? ei_chain_lower_alone(&asked, stages, stage_count)
                   : status;
    }
    return random_count == 1 ? bracket_one(self, stages, stage_count)
                             : bracket_several(self, stages, stage_count);
}

/* Upper ends near the end of the range of double, where products lose their accuracy, again in the log
 * domain; they are positive. */
static int raise_least(const ei_batch *self, const ei_service *stages, size_t stage_count) {
    for (size_t i = 0; i < self->count; i++) {
        size_t at = self->index[i];
        ei_batch one = *self;
        if (!isfinite(self->deadline[at]) || self->upper[at] > LEAST)
            continue;
        self->upper[at] = LEAST;
        if (self->lower[at] > LEAST / 2)
            self->lower[at] = 0;
        one.index = &self->index[i];
        one.count = 1;
        int status = upper_moments(&one, stages, stage_count);
        if (status != EI_OK)
            return status;
        self->upper[at] = nextafter(self->upper[at], 1);
    }
    return EI_OK;
}

/* Behind periodic arrivals, where no service is longer than the interval, a path of more jobs is no longer:
 * W is at most one longest service of each stage. It is what moments of ever larger exponents tend to. */
static void cut_at_longest(const ei_batch *self, const ei_service *stages, size_t stage_count) {
    const double interval = ei_arrival_mean(&self->arrival);
    double longest = 0;
    for (size_t k = 0; k < stage_count; k++) {
        const double most = ei_service_maximum(&stages[k]);
        longest += most <= interval ? most : INFINITY;
    }
    for (size_t i = 0; i < self->count; i++)
        if (self->deadline[self->index[i]] >= longest * (1 + 1e-12))
            ei_cut_upper(self, self->index[i], 0, EI_BRACKET_MOMENTS);
}

/* Whether all three stages of D, X, D are nearly as slow as each other, and X spreads. */
static int is_joint_first(const ei_shape *pipeline) {
    const double mean = ei_service_mean(pipeline->random);
    return ei_service_variance(pipeline->random) >= SPREAD * SPREAD * mean * mean &&
           ei_are_nearly_equal(pipeline->d1, mean, pipeline->d3);
}

/* Ends by joint.h before all but moments; elements that it leaves wide, or that only logarithms tell, stay in
 * the batch behind the probes. */
static int joint_first(ei_batch *self, const ei_service *stages, size_t stage_count, size_t *index) {
    ei_batch asked = *self;
    asked.index += EI_PROBES;
    asked.count -= EI_PROBES;
    int status = upper_moments(&asked, stages, stage_count);
    if (status == EI_OK)
        status = ei_joint_ends(&asked, NEAR);
    self->count = EI_PROBES;
    for (size_t i = 0; i < asked.count; i++) {
        const size_t at = asked.index[i];
        if (self->upper[at] > NEAR * self->lower[at] ||
            (self->upper[at] <= LEAST && isfinite(self->deadline[at])))
            index[self->count++] = at;
    }
    return status;
}

/* One rate's elements and their probes, whose places in the arrays are `count` and after. */
static int bracket_part(ei_batch *part, const ei_service *stages, size_t stage_count, size_t random_count,
                        size_t *index, double *times, size_t count) {
    for (size_t i = 0; i < EI_PROBES; i++) {
        index[i] = count + i;
        part->lower[count + i] = 0;
        part->upper[count + i] = 1;
    }
    const ei_shape *pipeline = part->pipeline;
    const int tight = part->effort == EI_EFFORT_TIGHT,
              joint = part->arrival.kind == EI_ARRIVAL_POISSON && part->effort != EI_EFFORT_LIGHT &&
                      random_count == 1 && pipeline->d1 > 0 && pipeline->d3 > 0,
              first = joint && tight && is_joint_first(pipeline);
    int status = first ? joint_first(part, stages, stage_count, index) : EI_OK;
    if (status != EI_OK || part->count == EI_PROBES ||
        (status = place(stages, stage_count, &part->arrival, &part->horizon, times + count)) != EI_OK ||
        (status = bracket_rate(part, stages, stage_count, random_count)) != EI_OK ||
        (status = ei_blocks_ends(part, stages, stage_count)) != EI_OK)
        return status;
    part->index += EI_PROBES;
    part->count -= EI_PROBES;
    if (joint && !first && (status = ei_joint_ends(part, tight ? NEAR : WIDE)) != EI_OK)
        return status;
    if (joint && !tight) {
        /* Of few components of a busy period the ends stay wide however fine the lattice is. */
        ei_batch wide = *part;
        wide.effort = EI_EFFORT_TIGHT;
        if ((status = ei_joint_ends(&wide, WIDE)) != EI_OK)
            return status;
    }
    status = raise_least(part, stages, stage_count);
    if (part->arrival.kind == EI_ARRIVAL_DETERMINISTIC)
        cut_at_longest(part, stages, stage_count);
    return status;
}

/* *slowest: the longest mean service, s. */
static int verify(const ei_service *stages, size_t stage_count, const ei_arrival *arrival, size_t count,
                  const double *arrival_rate, const double *deadline, double *slowest) {
    int status;
    if (stage_count == 0)
        return EI_ERR_EMPTY;
    if (!(ei_arrival_mean(arrival) > 0))
        return EI_ERR_DOMAIN;
    for (size_t k = 0; k < stage_count; k++) {
        if ((status = ei_service_verify_independent(&stages[k])) != EI_OK)
            return status;
        *slowest = fmax(*slowest, ei_service_mean(&stages[k]));
    }
    for (size_t i = 0; i < count; i++)
        if (!(arrival_rate[i] > 0) || !isfinite(arrival_rate[i]) || isnan(deadline[i]) ||
            !ei_arrival_has_bounds(arrival, arrival_rate[i]))
            return EI_ERR_DOMAIN;
    return EI_OK;
}

/* Leaves out deterministic stages beside a random one all of whose services are as long; the sum of their
 * times. */
static double leave_out(ei_service *stages, size_t *count) {
    double sum = 0;
    for (size_t k = 0; k < *count;) {
        const ei_service *beside[] = {&stages[k > 0 ? k - 1 : k], &stages[k + 1 < *count ? k + 1 : k]};
        double longest = 0;
        for (int i = 0; i < 2; i++)
            if (beside[i]->kind != EI_SERVICE_DETERMINISTIC)
                longest = fmax(longest, ei_service_minimum(beside[i]));
        if (stages[k].kind != EI_SERVICE_DETERMINISTIC || stages[k].time == 0 || stages[k].time > longest) {
            k++;
            continue;
        }
        sum += stages[k].time;
        memmove(&stages[k], &stages[k + 1], (*count - k - 1) * sizeof *stages);
        --*count;
        k -= k > 0;
    }
    return sum;
}

/* Without any work nobody waits; and who never comes to an end is always late. */
static void settle(const ei_batch *self, double slowest) {
    const int method = slowest == 0 ? EI_BRACKET_EXACT : EI_BRACKET_UNSTABLE;
    for (size_t i = EI_PROBES; i < self->count; i++) {
        const size_t at = self->index[i];
        self->lower[at] = self->upper[at] = slowest > 0 || self->deadline[at] < 0;
        self->lower_method[at] = self->upper_method[at] = (uint8_t)method;
    }
}

int ei_violation_bracket(const ei_service *given, size_t stage_count, const ei_arrival *arrival,
                         ei_effort effort, size_t count, const double *arrival_rate, const double *deadline,
                         double *lower, double *upper, uint8_t *lower_method, uint8_t *upper_method,
                         ei_monitor monitor) {
    int status = EI_OK;
    double slowest = 0, *ends = NULL;
    key *keys = NULL;
    ei_service *stages = NULL;
    size_t *index = NULL, random_count, all = count + EI_PROBES;
    const ei_arrival poisson = {.kind = EI_ARRIVAL_POISSON, .parameter = {1}};
    uint8_t *methods = NULL;
    if (arrival == NULL)
        arrival = &poisson;
    if ((status = verify(given, stage_count, arrival, count, arrival_rate, deadline, &slowest)) != EI_OK)
        return status;
    keys = malloc(count * sizeof *keys + 1);
    index = malloc(all * sizeof *index);
    ends = malloc(3 * all * sizeof *ends);
    methods = malloc(2 * all);
    stages = malloc(stage_count * sizeof *stages);
    if (keys == NULL || stages == NULL || index == NULL || ends == NULL || methods == NULL) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    memcpy(stages, given, stage_count * sizeof *stages);
    const double left_out = leave_out(stages, &stage_count);
    /* The caller's elements, then the probes. */
    double *times = ends + 2 * all;
    for (size_t i = 0; i < count; i++) {
        keys[i] = (key){arrival_rate[i], i};
        times[i] = deadline[i] - left_out;
    }
    for (size_t i = 0; i < all; i++) {
        ends[i] = 0;
        ends[all + i] = 1;
        methods[i] = methods[all + i] = EI_BRACKET_TRIVIAL;
    }
    qsort(keys, count, sizeof *keys, compare_keys);
    ei_shape pipeline = shape_of(stages, stage_count, &random_count);
    for (size_t from = 0, to; from < count && status == EI_OK; from = to) {
        ei_batch part = {.pipeline = &pipeline,
                         .arrival_rate = keys[from].arrival_rate,
                         .arrival = ei_arrival_at_rate(arrival, keys[from].arrival_rate),
                         .effort = effort,
                         .count = EI_PROBES,
                         .index = index,
                         .deadline = times,
                         .lower = ends,
                         .upper = ends + all,
                         .lower_method = methods,
                         .upper_method = methods + all,
                         .monitor = monitor};
        for (to = from; to < count && keys[to].arrival_rate == part.arrival_rate; to++)
            index[part.count++] = keys[to].index;
        if (slowest == 0 || part.arrival_rate * slowest >= 1)
            settle(&part, slowest);
        else
            status = bracket_part(&part, stages, stage_count, random_count, index, times, count);
    }
    for (size_t i = 0; i < count && status == EI_OK; i++) {
        lower[i] = ends[i];
        upper[i] = ends[all + i];
        lower_method[i] = methods[i];
        upper_method[i] = methods[all + i];
    }
out:
    free(keys);
    free(stages);
    free(index);
    free(ends);
    free(methods);
    return status;
}
