#include "edgeinfer/chain_parts.h"

#include "edgeinfer/last_exit.h"
#include "edgeinfer/lindley.h"
#include "edgeinfer/split.h"
#include "edgeinfer/walk.h"

#include <math.h>

enum {
    PERIODIC_FINEST = 2048, /* lattice over an interval or the services, */
    PERIODIC_MOST = 32768,  /* and over what is left of an interval beside these */
    LEAST_POINTS = 8        /* the same, for it to set the step */
};
static const double LIGHT = 0.7;     /* load below which periodic laws are swept, too */
static const double COARSER = 0.8;   /* of the most points over an interval: the fewest that are tried, */
static const double LESS_BENT = 0.5; /* where that makes samples bend less */

/* A path that stays on part b: the parts before it at the job where it begins, b's shortest service at each
 * job after that, and from job 0 on b and the parts behind it. */
static int periodic_lower(const ei_chain *self, size_t b, double interval) {
    const ei_batch *batch = self->batch;
    const double fall = interval - ei_part_shortest(&self->parts[b]);
    ei_lattice before = {.sf = NULL}, rest = {.sf = NULL};
    int status = ei_chain_sum(self, 0, b, &before);
    if (status == EI_OK)
        status = ei_chain_sum(self, b, self->count, &rest);
    if (status == EI_OK && before.sf != NULL)
        ei_lattice_supremum_lower(&before, fall);
    for (size_t i = 0; i < batch->count && status == EI_OK; i++) {
        double time = batch->deadline[batch->index[i]] - self->constant, value = time < 0;
        if (before.sf != NULL)
            value = ei_lattice_plus_lower(&before, &rest, time);
        else if (rest.sf != NULL)
            value = ei_lattice_lower(&rest, time);
        ei_raise_lower(batch, batch->index[i], value, EI_BRACKET_QUEUE);
    }
    ei_lattice_free(&before);
    ei_lattice_free(&rest);
    return status;
}

/* Whether a request every `interval` ever waits for part b, beyond what rounding can tell. */
static int has_queue(const ei_part *one, double interval) {
    return one->service != NULL && ei_service_sf(one->service, interval) > 1e-15;
}

/* A random part, and requests that come periodically, both less a time that its services are hardly ever
 * shorter than: W_{n+1} = (W_n + X_n - a)^+ stays what it is, and its lattice may be as fine as X - a varies.
 */
typedef struct {
    ei_added_stage stage;
    ei_arrival arrival;
    double step; /* s */
} narrowed;

/* Where a lattice ends: the parts' means, and the furthest that one of them makes it from there. */
typedef struct {
    double mean, furthest; /* s */
} range;

/* With another random part, less some time. */
static range extend(range self, const ei_part *one, double less, int queued) {
    return (range){self.mean + one->mean - less,
                   fmax(fmax(self.furthest, ei_service_reach(one->service) - less),
                        queued ? EI_CHAIN_FURTHEST / one->decay : 0)};
}

/* A lattice behind what has that range, on which the interval is not rounded where it is longer than a step,
 * and few samples are as little as may be. */
static narrowed narrow(const ei_chain *self, const ei_part *one, range before) {
    const double interval = ei_arrival_mean(&self->batch->arrival), least = ei_part_least(one);
    const range all = extend(before, one, least, 1);
    const double horizon = all.mean + all.furthest;
    narrowed found = {.stage = {.law = one->service, .less = least},
                      .arrival = self->batch->arrival,
                      .step = horizon / (double)EI_CHAIN_LINDLEY_POINTS};
    const double most = ceil((interval - least) / found.step);
    double best = INFINITY;
    if (most < LEAST_POINTS)
        found.stage.less = fmax(interval - most * found.step, 0);
    const double left = interval - found.stage.less;
    for (double points = most; points >= fmax(floor(COARSER * most), 1) && most >= LEAST_POINTS; points--) {
        const double bend = ei_split_bend(one->service, found.stage.less, left / points);
        if (bend < best * LESS_BENT) {
            best = bend;
            found.step = left / points;
        }
    }
    found.arrival.parameter[0] = 1 / left;
    return found;
}

/* One part's own queue, and one service of every other. */
static int periodic_queue_lower(const ei_chain *self, size_t b) {
    const ei_batch *batch = self->batch;
    const ei_part *one = &self->parts[b];
    const double interval = ei_arrival_mean(&batch->arrival);
    ei_lattice sojourn = {.sf = NULL}, others = {.sf = NULL};
    ei_chain rest = *self;
    if (!has_queue(one, interval))
        return EI_OK;
    const narrowed as = narrow(self, one, (range){0, 0});
    int status = ei_lindley_sojourn_lower(&sojourn, NULL, &as.stage, &as.arrival, as.step,
                                          EI_CHAIN_LINDLEY_POINTS, batch->monitor);
    rest.constant += as.stage.less;
    const int solved = status == EI_OK;
    if (solved || ei_no_bound(status))
        status = ei_chain_sum_of_others(self, b, &others);
    if (status == EI_OK && solved)
        ei_chain_raise(&rest, &sojourn, &others, EI_BRACKET_LINK);
    if (status == EI_OK && (!solved || one->mean < LIGHT * interval)) {
        ei_lattice_free(&sojourn);
        if ((status = ei_periodic_sojourn_lower(&sojourn, one->service, interval)) == EI_OK)
            ei_chain_raise(self, &sojourn, &others, EI_BRACKET_LINK);
    }
    ei_lattice_free(&sojourn);
    ei_lattice_free(&others);
    return status;
}

/* The random part before the constant part b, with `before` ahead of it; all times but those less some. */
static ei_last_exit last_exit_of(const ei_chain *self, size_t b, ei_added_stage *random,
                                 const ei_upper_law *before) {
    const ei_part *one = &self->parts[b - 1];
    const double time = self->parts[b].again, furthest = EI_CHAIN_FURTHEST / one->decay,
                 most = time - LEAST_POINTS * (one->mean + furthest) / EI_CHAIN_LINDLEY_POINTS,
                 less = fmax(fmin(ei_part_least(one), most), 0);
    *random = (ei_added_stage){.law = one->service, .less = less};
    return (ei_last_exit){.random = random,
                          .before = before,
                          .interval = ei_arrival_mean(&self->batch->arrival) - less,
                          .time = time - less,
                          .horizon = one->mean - less + furthest,
                          .monitor = self->batch->monitor};
}

static int has_last_exit(const ei_chain *self, size_t b) {
    return b > 0 && self->parts[b].service == NULL &&
           has_queue(&self->parts[b - 1], ei_arrival_mean(&self->batch->arrival));
}

/* Cuts the law of the constant part b by the last exit of the one before it. */
static int cut_by_last_exit(const ei_chain *self, size_t b, const ei_upper_law *before, ei_upper_law *law) {
    ei_added_stage random;
    const ei_last_exit given = last_exit_of(self, b, &random, before);
    ei_upper_law other;
    int status = ei_last_exit_upper(&other, &given);
    if (status == EI_OK)
        ei_chain_take_better(law, &other);
    ei_upper_law_free(&other);
    return ei_no_bound(status) ? EI_OK : status;
}

/* From below by the constant part b and the random one before it, and one service of every other. */
static int lower_last_exit(const ei_chain *self, size_t b) {
    ei_chain rest = *self;
    ei_added_stage random;
    const ei_last_exit given = last_exit_of(self, b, &random, NULL);
    ei_lattice law, others = {.sf = NULL};
    int status = ei_last_exit_lower(&law, &given);
    rest.constant += random.less;
    if (status == EI_OK)
        status = ei_chain_sum_of_others(self, b - 1, &others);
    if (status == EI_OK)
        ei_chain_raise(&rest, &law, &others, EI_BRACKET_QUEUE);
    ei_lattice_free(&law);
    ei_lattice_free(&others);
    return ei_no_bound(status) ? EI_OK : status;
}

int ei_chain_periodic_upper(const ei_chain *self, int exits, ei_upper_law *law) {
    const double interval = ei_arrival_mean(&self->batch->arrival);
    range reached = {0, 0};
    ei_upper_law before = {.decay = 0};
    int status = EI_OK;
    for (size_t k = 0; k < self->count && status == EI_OK; k++) {
        const ei_part *one = &self->parts[k];
        ei_upper_law next;
        const int queued = has_queue(one, interval);
        ei_added_stage stage = ei_part_stage(one, 0);
        if (!queued) {
            stage.less = one->service != NULL ? ei_part_least(one) : 0;
            const double left = interval - stage.less,
                         reach = one->service != NULL ? ei_service_reach(one->service) - stage.less : left,
                         step = fmax(reach, reached.mean + reached.furthest) / PERIODIC_FINEST;
            size_t points = (size_t)fmax(ceil(fmin(left / step, PERIODIC_MOST)), 1);
            status = ei_add_stage_periodic(&next, law, &stage, left, points, 8 * PERIODIC_FINEST,
                                           self->batch->monitor);
        } else {
            const narrowed as = narrow(self, one, reached);
            stage = as.stage;
            status = ei_add_stage_lindley(&next, law, &as.stage, &as.arrival, as.step,
                                          EI_CHAIN_LINDLEY_POINTS, self->batch->monitor);
        }
        if (one->service != NULL)
            reached = extend(reached, one, stage.less, queued);
        if (status == EI_OK && exits && has_last_exit(self, k))
            status = cut_by_last_exit(self, k, &before, &next);
        ei_upper_law_free(&before);
        before = *law;
        *law = next;
    }
    ei_upper_law_free(&before);
    return status;
}

/* added_stage once more, with last exits from above and from below. */
static int last_exit_ends(const ei_chain *self) {
    ei_upper_law law = {.decay = 0}, none = {.decay = 0};
    size_t found = 0;
    int status = EI_OK;
    for (size_t b = 0; b < self->count && status == EI_OK; b++)
        if (has_last_exit(self, b)) {
            status = lower_last_exit(self, b);
            found++;
        }
    if (found == 0 || status != EI_OK)
        return status;
    if ((status = ei_chain_periodic_upper(self, 1, &law)) == EI_OK)
        ei_chain_cut(self, &law, &none, EI_BRACKET_ADDED_STAGE);
    ei_upper_law_free(&law);
    return ei_no_bound(status) ? EI_OK : status;
}

int ei_chain_periodic_ends(const ei_chain *self) {
    const double interval = ei_arrival_mean(&self->batch->arrival);
    ei_upper_law law = {.decay = 0}, none = {.decay = 0};
    double slowest = 0;
    size_t queues = 0;
    int status = EI_OK, found;
    for (size_t k = 0; k < self->count; k++) {
        queues += (size_t)has_queue(&self->parts[k], interval);
        slowest = fmax(slowest, self->parts[k].service != NULL ? self->parts[k].mean : 0);
    }
    for (size_t b = 0; b < self->count && status == EI_OK; b++) {
        if ((status = periodic_lower(self, b, interval)) == EI_OK)
            status = periodic_queue_lower(self, b);
        if (status == EI_OK && has_queue(&self->parts[b], interval))
            status = ei_chain_lower_heavy(self, b, &found);
    }
    if (status == EI_OK)
        status = ei_chain_geometric_ends(self);
    const size_t b = ei_chain_slowest(self, 0, self->count, 1);
    if (status == EI_OK && has_queue(&self->parts[b], interval))
        status = ei_chain_upper_heavy(self, b);
    if (status != EI_OK)
        goto out;
    if ((status = ei_chain_periodic_upper(self, 0, &law)) == EI_OK)
        ei_chain_cut(self, &law, &none, EI_BRACKET_ADDED_STAGE);
    /* Where that has no end, or where it costs little. */
    if (ei_no_bound(status) || (status == EI_OK && slowest > 0 && slowest < LIGHT * interval)) {
        ei_upper_law_free(&law);
        law = none;
        status = ei_chain_fed_periodically(self, 0, self->count - 1, interval, PERIODIC_FINEST, &law);
        if (status == EI_OK)
            ei_chain_cut(self, &law, &none, EI_BRACKET_ADDED_STAGE);
    }
    if (ei_no_bound(status))
        status = EI_OK;
    if (status == EI_OK && ei_is_wide(self->batch, EI_CHAIN_FAIR))
        status = last_exit_ends(self);
    if (status == EI_OK && queues > 1 && ei_chain_may_have_pair(self)) {
        status = ei_chain_lower_pairs(self, b);
        if (status == EI_OK)
            status = ei_chain_pair_ends(self);
    }
out:
    ei_upper_law_free(&law);
    return status;
}
