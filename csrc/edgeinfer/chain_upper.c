#include "edgeinfer/chain_parts.h"

#include <math.h>
#include <stdlib.h>

static const size_t FINER = 8; /* times as many points over services beside the bottleneck */

int ei_chain_upper(const ei_chain *self, size_t b, double floor, int periodic) {
    const ei_part *one = &self->parts[b];
    double horizon = self->batch->horizon, period = one->service != NULL ? floor : one->again;
    const size_t last = self->count - 1,
                 points = self->effort < 1 ? EI_CHAIN_PERIODIC_POINTS / 2 : EI_CHAIN_PERIODIC_POINTS,
                 finest = self->finer > 0 ? FINER * points : points;
    ei_upper_law before = {.decay = 0}, after = {.decay = 0};
    int status = EI_OK;
    if (b < last)
        status = ei_chain_fed_periodically(self, b + 1, last, period, finest, &after);
    if (b > 0 && status == EI_OK)
        status = periodic ? ei_chain_fed_periodically(self, b - 1, 0, period, finest, &before)
                          : ei_chain_law(self, 0, b - 1, &before);
    if (status == EI_OK)
        status = b > 0 ? ei_chain_add_part(self, b, floor, horizon, EI_CHAIN_WALK_POINTS, &before)
                       : ei_chain_first_law(self, b, floor, horizon, &before);
    if (status == EI_OK)
        ei_chain_add_leading(self, EI_UPPER, &before.lattice);
    if (status == EI_OK)
        ei_chain_cut(self, &before, &after,
                     b == last && !periodic ? EI_BRACKET_ADDED_STAGE : EI_BRACKET_BOTTLENECK_FIRST);
    ei_upper_law_free(&before);
    ei_upper_law_free(&after);
    return ei_no_bound(status) ? EI_OK : status;
}

/* Of a constant part b. Rounding may take most of what b's time leaves stages that are nearly as slow; where
 * there is joint.h, that takes far less work. */
static int constant_ends(const ei_chain *self, size_t b, int periodic) {
    int status = ei_chain_upper(self, b, 0, periodic);
    if (status != EI_OK || self->equal || self->batch->effort == EI_EFFORT_LIGHT ||
        !ei_is_wide(self->batch, EI_CHAIN_WIDE))
        return status;
    ei_chain finer = *self;
    finer.finer = 1;
    return ei_chain_upper(&finer, b, 0, periodic);
}

int ei_chain_bottleneck_ends(const ei_chain *self, size_t b, int periodic) {
    static const double chances[] = {0.98, 0.94, 0.9, 0.86, 0.82, 0.78, 0.74, 0.7, 0.6, 0.5, 0.3, 0.1};
    const ei_service *service = self->parts[b].service;
    double best = 0, floor = -1;
    ei_outcome score = {0, INFINITY};
    ei_chain coarse;
    if (service == NULL)
        return constant_ends(self, b, periodic);
    int status = ei_chain_begin_trial(&coarse, self);
    coarse.score = &score;
    for (size_t f = 0; f < sizeof chances / sizeof *chances && status == EI_OK; f++) {
        const double tried = ei_chain_quantile(service, chances[f]);
        score.sum = 0;
        status = ei_chain_upper(&coarse, b, tried, periodic);
        if (score.sum < best) {
            best = score.sum;
            floor = tried;
        }
    }
    ei_chain_free_laws(&coarse);
    return status != EI_OK || floor < 0 || score.ratio > EI_CHAIN_TRIAL
               ? status
               : ei_chain_upper(self, b, floor, periodic);
}

int ei_chain_added_ends(const ei_chain *self) {
    ei_outcome score = {0, INFINITY};
    ei_chain coarse;
    int status = ei_chain_begin_trial(&coarse, self);
    coarse.score = &score;
    if (status == EI_OK)
        status = ei_chain_upper(&coarse, self->count - 1, 0, 0);
    ei_chain_free_laws(&coarse);
    return status != EI_OK || (score.ratio > EI_CHAIN_TRIAL && isfinite(score.ratio))
               ? status
               : ei_chain_upper(self, self->count - 1, 0, 0);
}

int ei_chain_exponential_ends(const ei_chain *self, size_t b) {
    ei_upper_law law = {.decay = 0}, none = {.decay = 0};
    int status = ei_chain_exponential_law(self, 0, b, self->count - 1, self->batch->horizon,
                                          EI_CHAIN_WALK_POINTS, &law);
    if (status == EI_OK) {
        ei_chain_add_leading(self, EI_UPPER, &law.lattice);
        ei_chain_cut(self, &law, &none, EI_BRACKET_EXPONENTIAL);
    }
    ei_upper_law_free(&law);
    return ei_no_bound(status) ? EI_OK : status;
}

int ei_chain_upper_exponential(const ei_chain *self) {
    ei_upper_law law = {.decay = 0}, none = {.decay = 0};
    size_t count = (size_t)EI_CHAIN_WALK_POINTS + 2;
    law.lattice =
        (ei_lattice){self->batch->horizon / EI_CHAIN_WALK_POINTS, count, calloc(count, sizeof(double))};
    if (law.lattice.sf == NULL)
        return EI_ERR_NO_MEMORY;
    ei_chain_add_leading(self, EI_UPPER, &law.lattice);
    ei_chain_cut(self, &law, &none, EI_BRACKET_EXPONENTIAL);
    ei_upper_law_free(&law);
    return EI_OK;
}
