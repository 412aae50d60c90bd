#include "edgeinfer/chain.h"

#include "edgeinfer/chain_parts.h"
#include "edgeinfer/constant_first.h"
#include "edgeinfer/constant_last.h"
#include "edgeinfer/geometric.h"

#include <math.h>
#include <stdlib.h>

static const double TILTED_FAIR = 1.1; /* upper / lower below which no tilted law is tried */
static const double UNEQUAL = 0.93;    /* constant stages, the faster one to the slower */
static const double PAIR_NEAR = 1.25;  /* times the least decay: where two stages are followed at once */
static const double JOINT_NEAR = 0.06; /* of each other's time: constant stages of joint.h, */
static const double JOINT_EQUAL = 0.8; /* and of the random one's: where they are nearly as slow */
static const double JOINT_DECAY = 0.6; /* of the chain's: a stage's that is fed by a constant one */

/* One random stage between constant ones, none of which is far faster than the other: there is joint.h. */
static int is_for_joint(const ei_chain *self) {
    if (self->count != 3 || self->leading_count > 0 || self->parts[0].service != NULL ||
        self->parts[2].service != NULL)
        return 0;
    const double first = self->parts[0].again, last = self->parts[2].again;
    return fmin(first, last) >= JOINT_NEAR * fmax(first, last);
}

/* The part that is random, beside a constant one or between two of which one is the slower by far; behind
 * the faster one an exponential part loses too much. NULL: there is no such. */
static const ei_part *only_random(const ei_chain *self) {
    const ei_part *first = self->parts, *last = &first[self->count - 1];
    if (self->leading_count > 0)
        return NULL;
    if (self->count == 2 && (first->service == NULL) != (last->service == NULL))
        return first->service != NULL ? first : last;
    if (self->count != 3 || first->service != NULL || last->service != NULL)
        return NULL;
    return last->again <= UNEQUAL * first->again ||
                   (first->again <= UNEQUAL * last->again && !ei_part_is_exponential(&first[1]))
               ? &first[1]
               : NULL;
}

/* An upper end of a random part between constant ones: services that are no shorter than the faster one is
 * long make it a delay (bracket.h). */
static int slowed_between(const ei_chain *self, const ei_service *random) {
    const double first = self->parts[0].again, last = self->parts[2].again, time = fmax(first, last);
    ei_service slower = *random;
    double *samples = malloc(random->sample_count * sizeof *samples);
    int found, status = samples == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    for (size_t i = 0; i < random->sample_count && status == EI_OK; i++)
        samples[i] = fmax(random->samples[i], fmin(first, last));
    slower.samples = samples;
    if (status == EI_OK && self->batch->arrival_rate * ei_service_mean(&slower) < 1)
        status = first < last ? ei_constant_last_upper(self->batch, &slower, time, self->constant)
                              : ei_constant_first_ends(self->batch, &slower, time, self->constant,
                                                       EI_CONSTANT_UPPER, &found);
    free(samples);
    return status;
}

/* Whether part b of such a chain, of stages nearly as slow as each other, may be taken first: a floor under
 * the random one is no faster than the others, and slows it down by too much; and fed by a constant one every
 * so often, it is to wait with nearly the chain's own decay. */
static int may_be_first(const ei_chain *self, size_t b, double decay) {
    const ei_part *random = &self->parts[1];
    double moment;
    if (fmin(self->parts[0].again, self->parts[2].again) <= JOINT_EQUAL * random->mean)
        return 1;
    const double theta = JOINT_DECAY * decay;
    return b != 1 && ei_service_log_mgf(random->service, theta, &moment, NULL) == EI_OK &&
           moment < theta * self->parts[b].again;
}

/* Ends where one part alone is random, beside a constant one or between two. *followed: whether a lower end
 * took the constant part's waits as they are; *both: whether an upper end did, too. */
static int only_random_ends(const ei_chain *all, int *followed, int *both) {
    const ei_batch *self = all->batch;
    const size_t last = all->count - 1;
    const ei_part *random = only_random(all);
    if (random == NULL)
        return EI_OK;
    const double time = fmax(all->parts[0].again, all->parts[last].again);
    const int first_of_two = last == 1 && random == &all->parts[1];
    int status = ei_constant_first_ends(self, random->service, time, all->constant,
                                        EI_CONSTANT_LOWER | (first_of_two ? EI_CONSTANT_UPPER : 0), followed);
    *both = *followed && first_of_two;
    if (status == EI_OK && random == &all->parts[0] && ei_is_wide(self, EI_CHAIN_FAIR))
        status = ei_constant_last_upper(self, random->service, time, all->constant);
    if (status == EI_OK && last == 2 && random->service->kind == EI_SERVICE_SAMPLES &&
        ei_is_wide(self, TILTED_FAIR))
        status = slowed_between(all, random->service);
    return status;
}

/* bottleneck_first of each constant part of a decay up to `most`, once more by runs of tilted.h. */
static int constant_ends_by_runs(const ei_chain *all, double most) {
    ei_chain by_runs = *all;
    int status = EI_OK;
    by_runs.runs = 1;
    for (size_t b = 0; b < all->count && all->count > 2 && status == EI_OK; b++)
        if (all->parts[b].service == NULL && all->parts[b].decay <= most &&
            ei_is_wide(all->batch, TILTED_FAIR))
            status = ei_chain_upper(&by_runs, b, 0, 1);
    return status;
}

int ei_chain_ends(const ei_batch *self, const ei_service *given, size_t stage_count) {
    ei_chain all = {.parts = NULL};
    unsigned char *used = calloc(stage_count, 1);
    ei_service *stages = ei_chain_slowest_first(given, stage_count);
    int status = used == NULL || stages == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    if (status != EI_OK)
        goto out;
    if ((status = ei_chain_init_behind(&all, self, stages, stage_count)) != EI_OK ||
        (status = ei_chain_lower_exponential(&all)) != EI_OK)
        goto out;
    if (all.count == 0) {
        status = ei_chain_upper_exponential(&all);
        goto out;
    }
    size_t first = ei_chain_next_bottleneck(&all, used), last = all.count - 1;
    double least = all.parts[first].decay;
    for (size_t b = 0; b < last; b++)
        if (ei_chain_is_candidate(&all, 0, b, last) && (status = ei_chain_exponential_ends(&all, b)) != EI_OK)
            goto out;
    for (size_t k = 0; k < all.count; k++)
        if (all.parts[k].decay <= EI_CHAIN_NEAR * least &&
            ((status = ei_chain_lower(&all, k)) != EI_OK ||
             (status = ei_chain_lower_lundberg(&all, k)) != EI_OK))
            goto out;
    const int joint = is_for_joint(&all);
    all.equal = joint && ei_are_nearly_equal(all.parts[0].mean, all.parts[1].mean, all.parts[2].mean);
    for (size_t b = first; b < all.count && all.parts[b].decay <= EI_CHAIN_FAR * least;
         b = ei_chain_next_bottleneck(&all, used)) {
        if (!ei_is_wide(self, EI_CHAIN_FAIR))
            goto out;
        if ((!joint || may_be_first(&all, b, least)) &&
            (status = ei_chain_bottleneck_ends(&all, b, 1)) != EI_OK)
            goto out;
        used[b] = 1;
    }
    for (size_t b = 0; b < last && ei_is_wide(self, TILTED_FAIR); b++)
        if (ei_chain_may_be_tilted(&all, 0, b, last) && (status = ei_chain_tilted_ends(&all, b)) != EI_OK)
            goto out;
    if (first > 0 && first < last && ei_is_wide(self, EI_CHAIN_FAIR) &&
        (!joint || may_be_first(&all, first, least)) &&
        (status = ei_chain_bottleneck_ends(&all, first, 0)) != EI_OK)
        goto out;
    if (last > 0 && ei_is_wide(self, EI_CHAIN_FAIR))
        status = ei_chain_added_ends(&all);
    if (self->effort == EI_EFFORT_LIGHT)
        goto out;
    int followed = 0, both = 0;
    if (status == EI_OK && ei_is_wide(self, EI_CHAIN_FAIR))
        status = only_random_ends(&all, &followed, &both);
    /* Ends that are closer than that ratio are not cut. */
    const double idle =
        (1 - self->arrival_rate * all.parts[0].mean) / (1 - self->arrival_rate * all.parts[first].mean);
    if (status == EI_OK && first > 0 && all.parts[first].service != NULL && !both &&
        ei_is_wide(self, fmax(EI_CHAIN_FAIR, idle)))
        status = ei_chain_exchanged_ends(&all, first);
    for (size_t k = 0;
         k < all.count && !joint && !followed && status == EI_OK && ei_is_wide(self, EI_CHAIN_FAIR); k++)
        if (all.parts[k].decay <= PAIR_NEAR * least)
            status = ei_chain_lower_pairs(&all, k);
    if (status == EI_OK && !joint && !both && ei_chain_has_pair(&all))
        status = ei_chain_pair_ends(&all);
    if (status == EI_OK && !joint && !both)
        status = constant_ends_by_runs(&all, EI_CHAIN_FAR * least);
    if (status == EI_OK && last > 0 && !joint && ei_is_wide(self, EI_CHAIN_WIDE))
        status = ei_chain_less_tilted_ends(&all);
out:
    free(used);
    free(stages);
    ei_chain_free(&all);
    return status;
}

int ei_chain_lower_alone(const ei_batch *self, const ei_service *stages, size_t stage_count) {
    ei_chain all;
    int status = ei_chain_init(&all, self, stages, stage_count);
    if (status == EI_OK)
        status = ei_chain_lower_lundberg(&all, 0);
    ei_chain_free(&all);
    return status;
}

/* Whether nothing else takes any time. */
static int is_lone_exponential(const ei_chain *self) {
    return self->count == 1 && self->parts[0].service != NULL &&
           self->parts[0].service->kind == EI_SERVICE_EXPONENTIAL && self->constant == 0;
}

int ei_renewal_ends(const ei_batch *self, const ei_service *given, size_t stage_count) {
    ei_chain all = {.parts = NULL};
    ei_service *stages = ei_chain_slowest_first(given, stage_count);
    if (stages == NULL)
        return EI_ERR_NO_MEMORY;
    int found = 0, status = ei_chain_init(&all, self, stages, stage_count);
    if (status == EI_OK && self->arrival.kind == EI_ARRIVAL_MARKOV_MODULATED && all.constant == 0)
        status = ei_chain_modulated_ends(&all, &found);
    else if (status == EI_OK)
        status = ei_chain_exponentials_ends(&all, &found);
    if (status != EI_OK || found)
        goto out;
    if (self->arrival.kind != EI_ARRIVAL_MARKOV_MODULATED && is_lone_exponential(&all))
        ei_geometric_ends(self, all.parts[0].service, &self->arrival);
    else if (self->arrival.kind == EI_ARRIVAL_DETERMINISTIC)
        status = ei_chain_periodic_ends(&all);
    else if (all.count > 0)
        status = ei_chain_ends_behind_renewal(&all);
out:
    free(stages);
    ei_chain_free(&all);
    return status;
}
