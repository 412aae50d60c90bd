#include "edgeinfer/chain_parts.h"

#include "edgeinfer/exchange.h"
#include "edgeinfer/exponentials.h"
#include "edgeinfer/geometric.h"
#include "edgeinfer/modulated.h"
#include "edgeinfer/two_exponentials.h"
#include "edgeinfer/two_modulated.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SLOPES = 65536, /* points at which a law's slope is bounded, */
    FEWER = 4,      /* times as many as for three stages, */
    SPREAD = 8,     /* steps of a time that is added */
    PLACES = 32     /* and times beyond which all is left to moments */
};
static const double ENOUGH =
    1.1; /* upper / lower of a chain with phases, below which no more is tried: each takes long */
static const double NEAR_EXACT = 1.5; /* the same of one or two exponential stages behind phases */
static const double FURTHER = 1.7;    /* horizons up to which slopes are known */
static const double MUCH = 0.1;       /* logarithm of a moment: from there on another bound is tried, too */
static const double LOOSE = 15;       /* decay times from a lattice's end, within which a law is too large */

/* The largest -v' e^{theta y} / theta up to what is far enough from the lattice's end to fall as it should,
 * and the logarithm of what is left beyond. */
static int steepest(const ei_chain *self, const ei_upper_law *law, double theta, double *most,
                    double *beyond) {
    const ei_lattice *v = &law->lattice;
    const double step = v->step, end = (double)v->count - LOOSE / (theta * step);
    double exponent, last = 0;
    *most = 0;
    for (size_t j = 0; (double)j + 2 < end && j + 1 < v->count; j++) {
        last = (double)(j + 1) * step;
        *most = fmax(*most, (v->sf[j] - v->sf[j + 1]) * exp(theta * last));
    }
    *most *= (1 + 1e-9) / (theta * step);
    return ei_chain_bound_beyond(self, 0, self->count - 1, last, beyond, &exponent);
}

/* exponential: part b with others behind it. */
static int upper_geometric(const ei_chain *self, size_t b) {
    const ei_batch *batch = self->batch;
    const double theta = ei_geometric_rate(self->parts[b].service, &batch->arrival, EI_UPPER),
                 rate = (1 / self->parts[b].service->time - theta) * (1 + 1e-12);
    double moment = 0, most = 1, beyond = -INFINITY;
    ei_upper_law law = {.decay = 0};
    const ei_upper_law none = {.decay = 0};
    int status = theta > 0 ? ei_chain_log_moment_behind(self, b, self->count - 1, rate, theta, &moment)
                           : EI_ERR_UNSTABLE;
    ei_chain some = *self;
    some.count = b + 1;
    if (b > 0 && status == EI_OK)
        status = ei_chain_periodic_upper(&some, 1, &law);
    if (b > 0 && status == EI_OK)
        status = steepest(self, &law, theta, &most, &beyond);
    for (size_t i = 0; i < batch->count && status == EI_OK; i++) {
        const size_t at = batch->index[i];
        const double rest = batch->deadline[at] - self->constant,
                     shorter = rest - law.shift - 1e-9 * law.lattice.step;
        if (!isfinite(rest) || shorter < 0)
            continue;
        const double alone = b > 0 ? ei_upper_law_plus_sf(&law, &none, rest) : exp(-theta * rest);
        ei_cut_upper(batch, at,
                     (alone + most * exp(-theta * shorter) * expm1(moment)) * (1 + 1e-9) + exp(beyond),
                     EI_BRACKET_EXPONENTIAL);
    }
    ei_upper_law_free(&law);
    return ei_no_bound(status) ? EI_OK : status;
}

/* Whether the upper end of part b is `exponential`. */
static int is_geometric(const ei_chain *self, size_t b) {
    const ei_arrival_kind kind = self->batch->arrival.kind;
    return ei_part_is_exponential(&self->parts[b]) && kind != EI_ARRIVAL_MARKOV_MODULATED &&
           (b == 0 || kind == EI_ARRIVAL_DETERMINISTIC);
}

/* An end of the law of the first parts, exponential ones behind renewal arrivals. */
typedef struct {
    size_t count;
    ei_two_exponentials two;
    ei_exponentials more;
} first_parts;

static int init_first(first_parts *self, const ei_chain *chain, size_t count, ei_end end) {
    const ei_arrival *arrival = &chain->batch->arrival;
    double times[EI_EXPONENTIALS];
    self->count = count;
    if (count == 2)
        return ei_two_exponentials_init(&self->two, end, chain->parts[0].service, chain->parts[1].service,
                                        arrival);
    for (size_t k = 0; k < count; k++)
        times[k] = chain->parts[k].mean;
    return ei_exponentials_init(&self->more, end, times, count, arrival);
}

static double first_sf(const first_parts *self, double time) {
    return self->count == 2 ? ei_two_exponentials_sf(&self->two, time)
                            : ei_exponentials_sf(&self->more, time);
}

static double first_behind(const first_parts *self, const ei_arrival *arrival, double time) {
    return self->count == 2 ? ei_two_exponentials_behind(&self->two, arrival, time)
                            : ei_exponentials_behind(&self->more, arrival, time);
}

/* P(W > time) from that end. */
typedef double sf_of(const void *law, ei_end end, double time);

static double sf_of_first(const void *law, ei_end end, double time) {
    (void)end;
    return first_sf(law, time);
}

static double sf_of_modulated(const void *law, ei_end end, double time) {
    (void)end;
    return ei_two_modulated_sf(law, time);
}

static double sf_of_ladder(const void *law, ei_end end, double time) {
    return ei_ladder_sf(law, end, time);
}

static void take_ends(const ei_batch *batch, ei_end end, sf_of *sf, const void *law) {
    for (size_t i = 0; i < batch->count; i++) {
        const size_t at = batch->index[i];
        if (isfinite(batch->deadline[at]))
            (end == EI_UPPER ? ei_cut_upper : ei_raise_lower)(batch, at, sf(law, end, batch->deadline[at]),
                                                              EI_BRACKET_EXPONENTIAL);
    }
}

int ei_chain_exponentials_ends(const ei_chain *self, int *found) {
    *found = self->count >= 2 && self->count <= EI_EXPONENTIALS && ei_chain_has_two_exponentials(self, 0, 1);
    for (size_t k = 0; k < self->count && *found; k++)
        *found = ei_part_is_exponential(&self->parts[k]);
    const int all = *found;
    for (int end = EI_LOWER; end <= EI_UPPER && all; end++) {
        first_parts law;
        const int status = init_first(&law, self, self->count, (ei_end)end);
        *found = *found && status == EI_OK;
        if (status == EI_OK)
            take_ends(self->batch, (ei_end)end, sf_of_first, &law);
        else if (!ei_no_bound(status))
            return status;
    }
    *found = *found && (self->count == 2 || !ei_is_wide(self->batch, EI_CHAIN_CLOSE));
    return EI_OK;
}

/* The upper ends of the first part and those from `next` on, at the batch's deadlines. */
static int cut_without(const ei_chain *self, size_t next, double *upper);

/* exponential: the first so many parts, exponential ones, of which the slowest is b as it may come last, with
 * others behind them. */
static int upper_behind(const ei_chain *self, size_t first) {
    const ei_batch *batch = self->batch;
    const ei_arrival *arrival = &batch->arrival;
    const ei_service *slow = self->parts[0].service;
    const size_t points = first == 2 ? SLOPES : SLOPES / FEWER, apart = points / PLACES;
    const double theta = ei_geometric_rate(slow, arrival, EI_UPPER), mu = 1 / slow->time,
                 faster = ei_geometric_rate(slow, arrival, EI_LOWER), reach = FURTHER * batch->horizon,
                 step = reach / (double)points;
    first_parts low, high;
    double moment = 0, steep[PLACES], beyond[PLACES], exponent, most = 0, *behind = NULL;
    int status = theta > 0 ? init_first(&low, self, first, EI_LOWER) : EI_ERR_UNSTABLE;
    if (status == EI_OK)
        status = init_first(&high, self, first, EI_UPPER);
    if (status != EI_OK)
        return ei_no_bound(status) ? EI_OK : status;
    status = ei_chain_log_moment_behind(self, first - 1, self->count - 1, (mu - theta) * (1 + 1e-12), theta,
                                        &moment);
    if (ei_no_bound(status)) {
        moment = INFINITY;
        status = EI_OK;
    }
    if (status == EI_OK && moment > MUCH) {
        behind = malloc(batch->count * sizeof *behind);
        status = behind != NULL ? cut_without(self, first, behind) : EI_ERR_NO_MEMORY;
    }
    for (size_t j = 0; j < points && status == EI_OK; j++) {
        const double next = (double)(j + 1) * step,
                     falls = first_sf(&high, (double)j * step) - first_behind(&low, arrival, next);
        most = fmax(most, falls * exp(theta * next) * mu / theta);
        if ((j + 1) % apart == 0) {
            steep[j / apart] = most;
            status = ei_chain_bound_beyond(self, 0, self->count - 1, next, &beyond[j / apart], &exponent);
        }
    }
    for (size_t i = 0; i < batch->count && status == EI_OK; i++) {
        const size_t at = batch->index[i];
        const double rest = batch->deadline[at] - self->constant;
        double least = INFINITY, more = exp(-theta * rest) * expm1(moment);
        if (behind != NULL)
            more =
                fmin(more, (behind[i] - exp(-faster * rest) * (1 - 1e-11)) * exp((faster - theta) * reach));
        for (size_t z = 0; z < PLACES && isfinite(rest) && rest >= 0; z++)
            if ((double)((z + 1) * apart) * step >= rest)
                least = fmin(least, steep[z] * more * (1 + 1e-9) + exp(beyond[z]));
        if (isfinite(least))
            ei_cut_upper(batch, at, first_sf(&high, rest) + least, EI_BRACKET_EXPONENTIAL);
    }
    free(behind);
    return ei_no_bound(status) ? EI_OK : status;
}

/* By two parts first and by three, if they are exponential and others are behind them. */
static int upper_behind_some(const ei_chain *self) {
    int status = EI_OK;
    for (size_t first = 3; first > 1 && status == EI_OK; first--)
        if (first < self->count && ei_chain_has_two_exponentials(self, 0, 1) &&
            ei_part_is_exponential(&self->parts[first - 1]) && ei_is_wide(self->batch, EI_CHAIN_CLOSE))
            status = upper_behind(self, first);
    return status;
}

static int cut_without(const ei_chain *self, size_t next, double *upper) {
    const ei_batch *batch = self->batch;
    const size_t count = batch->count, all = self->parts[self->count - 1].end, first = self->parts[0].end,
                 from = self->parts[next - 1].end;
    ei_batch alone = *batch;
    ei_chain chain = {.parts = NULL};
    ei_service *stages = malloc(all * sizeof *stages);
    size_t *index = malloc(count * sizeof *index);
    double *lower = calloc(count, sizeof *lower), *deadline = malloc(count * sizeof *deadline);
    uint8_t *methods = calloc(2 * count, sizeof *methods);
    int found, status = EI_OK;
    if (stages == NULL || index == NULL || lower == NULL || deadline == NULL || methods == NULL) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    memcpy(stages, self->stages, first * sizeof *stages);
    memcpy(stages + first, self->stages + from, (all - from) * sizeof *stages);
    for (size_t i = 0; i < count; i++) {
        index[i] = i;
        upper[i] = 1;
        deadline[i] = batch->deadline[batch->index[i]];
    }
    alone.index = index;
    alone.deadline = deadline;
    alone.lower = lower;
    alone.upper = upper;
    alone.lower_method = methods;
    alone.upper_method = methods + count;
    if ((status = ei_chain_init(&chain, &alone, stages, all - (from - first))) != EI_OK)
        goto out;
    if ((status = ei_chain_exponentials_ends(&chain, &found)) != EI_OK || found)
        goto out;
    status = chain.count > 2 && ei_chain_has_two_exponentials(&chain, 0, 1) ? upper_behind_some(&chain)
                                                                            : upper_geometric(&chain, 0);
out:
    ei_chain_free(&chain);
    free(stages);
    free(index);
    free(lower);
    free(deadline);
    free(methods);
    return status;
}

int ei_chain_geometric_ends(const ei_chain *self) {
    int status = self->count > 2 ? upper_behind_some(self) : EI_OK;
    if (status == EI_OK && self->count > 3)
        status = ei_chain_lower_exponentials(self);
    for (size_t b = 0; b + 1 < self->count && status == EI_OK; b++) {
        if (!ei_chain_is_candidate(self, 0, b, self->count - 1))
            continue;
        status = ei_chain_lower_geometric(self, b);
        if (status == EI_OK && is_geometric(self, b))
            status = upper_geometric(self, b);
    }
    return status;
}

int ei_chain_modulated_ends(const ei_chain *self, int *found) {
    const ei_batch *batch = self->batch;
    ei_two_modulated both;
    ei_ladder one;
    int status = EI_OK;
    *found = 0;
    for (size_t k = 0; k < self->count; k++)
        if (self->count > 2 || !ei_part_is_exponential(&self->parts[k]))
            return EI_OK;
    if (self->count == 1)
        status = ei_ladder_init(&one, &batch->arrival, 1 / self->parts[0].service->time);
    for (int end = EI_LOWER; end <= EI_UPPER && status == EI_OK; end++) {
        if (self->count == 2)
            status = ei_two_modulated_init(&both, (ei_end)end, self->parts[0].service, self->parts[1].service,
                                           &batch->arrival);
        if (status == EI_OK && self->count == 2)
            take_ends(batch, (ei_end)end, sf_of_modulated, &both);
        else if (status == EI_OK)
            take_ends(batch, (ei_end)end, sf_of_ladder, &one);
    }
    *found = status == EI_OK && !ei_is_wide(batch, NEAR_EXACT);
    return ei_no_bound(status) ? EI_OK : status;
}

/* P(R + X > time) from above, X spread over `length`. */
static double spread_sf(const ei_ladder *self, double time, double length) {
    double sum = 0;
    for (int k = 1; k <= SPREAD; k++)
        sum += ei_ladder_sf(self, EI_UPPER, time - length * k / SPREAD);
    return sum / SPREAD;
}

/* exponential: the first part, an exponential one, with others behind it, behind phases; slowed down, too. */
static int upper_ladder(const ei_chain *self) {
    static const double shares[] = {1, 0.98, 0.95, 0.91, 0.86, 0.8, 0.72, 0.6, 0.45};
    const ei_batch *batch = self->batch;
    const double mu = 1 / self->parts[0].service->time;
    int status = EI_OK;
    for (size_t k = 0; k < sizeof shares / sizeof *shares && status == EI_OK; k++) {
        const double decay = shares[k] * self->parts[0].decay, theta = decay * (1 - 1e-6);
        double unused, steepest = INFINITY, most = INFINITY, moment = 0;
        const double rate =
            k == 0 ? mu : -decay / expm1(-ei_arrival_exponent(&batch->arrival, decay, &unused));
        ei_ladder alone;
        if (!(rate <= mu) || !(rate > batch->arrival_rate))
            break;
        status = ei_ladder_init(&alone, &batch->arrival, rate);
        if (status == EI_OK)
            status = ei_ladder_most(&alone, &batch->arrival, theta, 1, &steepest);
        if (status == EI_OK)
            status = ei_ladder_most(&alone, &batch->arrival, theta, 0, &most);
        if (status == EI_OK)
            status = ei_chain_log_moment_behind(self, 0, self->count - 1, (rate - theta) * (1 + 1e-12), theta,
                                                &moment);
        const double more = expm1(moment) * (1 + 1e-9), share = fmin(sqrt(2 * more), 1);
        for (size_t i = 0; i < batch->count && status == EI_OK; i++) {
            const size_t at = batch->index[i];
            const double rest = batch->deadline[at] - self->constant, falls = exp(-theta * rest);
            if (!isfinite(rest) || rest < 0)
                continue;
            ei_cut_upper(
                batch, at,
                fmin(ei_ladder_sf(&alone, EI_UPPER, rest) + steepest * falls * more,
                     spread_sf(&alone, rest, share / theta) + most * exp(share) / share * falls * more),
                EI_BRACKET_EXPONENTIAL);
        }
        status = ei_no_bound(status) ? EI_OK : status;
    }
    return status;
}

int ei_chain_may_be_drawn(const ei_chain *self) {
    const ei_arrival *arrival = &self->batch->arrival;
    return arrival->kind != EI_ARRIVAL_MARKOV_MODULATED || ei_modulated_is_monotone(arrival);
}

static int renewal_upper(const ei_chain *self, size_t slowest) {
    const int modulated = self->batch->arrival.kind == EI_ARRIVAL_MARKOV_MODULATED,
              drawn = ei_chain_may_be_drawn(self);
    const size_t last = self->count - 1;
    const ei_part *one = &self->parts[slowest];
    int status = ei_chain_upper_heavy(self, slowest);
    if (modulated && last > 0 && !ei_is_wide(self->batch, ENOUGH))
        return status;
    for (size_t b = 0; b < last && status == EI_OK && ei_is_wide(self->batch, EI_CHAIN_CLOSE); b++)
        if ((b == 0 || drawn) && !is_geometric(self, b) && ei_chain_may_be_tilted(self, 0, b, last))
            status = ei_chain_tilted_ends(self, b);
    /* A last part that is much quicker is better behind a tilted one. */
    const int quick = modulated && ei_chain_may_be_tilted(self, 0, slowest, last) &&
                      self->parts[last].decay > EI_CHAIN_NEAR * self->parts[slowest].decay;
    if (status == EI_OK && (last == 0 || drawn) && !quick && ei_is_wide(self->batch, EI_CHAIN_CLOSE))
        status = ei_chain_upper(self, last, 0, 0);
    if (last > 0 && one->service != NULL && ei_may_exchange(&self->batch->arrival) && status == EI_OK &&
        ei_is_wide(self->batch, EI_CHAIN_FAIR))
        status = ei_chain_exchanged_ends(self, slowest);
    if (!modulated && last > 0 && status == EI_OK && ei_is_wide(self->batch, EI_CHAIN_CLOSE))
        status =
            ei_chain_upper(self, slowest, one->service != NULL ? ei_chain_quantile(one->service, 0.9) : 0, 1);
    return status;
}

int ei_chain_ends_behind_renewal(const ei_chain *self) {
    unsigned char *used = calloc(self->count, 1);
    if (used == NULL)
        return EI_ERR_NO_MEMORY;
    const int modulated = self->batch->arrival.kind == EI_ARRIVAL_MARKOV_MODULATED;
    const size_t slowest = ei_chain_next_bottleneck(self, used), last = self->count - 1;
    const double least = self->parts[slowest].decay;
    int status = EI_OK;
    for (size_t k = 0; k < self->count && status == EI_OK; k++)
        if (self->parts[k].decay <= EI_CHAIN_NEAR * least) {
            int found;
            status = ei_chain_lower_heavy(self, k, &found);
            if (status == EI_OK && !found)
                status = ei_chain_lower_renewal(self, k);
        }
    if (status == EI_OK && !modulated)
        status = ei_chain_geometric_ends(self);
    else if (status == EI_OK && self->count > 2)
        status = ei_chain_lower_exponentials(self);
    if (status == EI_OK && modulated && last > 0 && ei_part_is_exponential(&self->parts[0]) &&
        ei_is_wide(self->batch, EI_CHAIN_CLOSE))
        status = upper_ladder(self);
    if (status == EI_OK && ei_is_wide(self->batch, EI_CHAIN_CLOSE))
        status = renewal_upper(self, slowest);
    for (size_t b = slowest; modulated && last > 0 && status == EI_OK && b < self->count &&
                             self->parts[b].decay <= EI_CHAIN_FAR * least && ei_is_wide(self->batch, ENOUGH);
         b = ei_chain_next_bottleneck(self, used)) {
        status = ei_chain_bottleneck_ends(self, b, 1);
        used[b] = 1;
    }
    if (status == EI_OK && ei_chain_may_have_pair(self)) {
        status = ei_chain_lower_pairs(self, slowest);
        if (status == EI_OK)
            status = ei_chain_pair_ends(self);
    }
    if (status == EI_OK && last > 0 && self->batch->effort != EI_EFFORT_LIGHT &&
        ei_is_wide(self->batch, EI_CHAIN_WIDE))
        status = ei_chain_less_tilted_ends(self);
    free(used);
    return status;
}
