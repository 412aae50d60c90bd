#include "edgeinfer/chain_parts.h"

#include "edgeinfer/lindley.h"
#include "edgeinfer/lundberg.h"

#include <math.h>
#include <stdlib.h>

static const double NEAR = 0.1875; /* of the horizon, where a lattice ends whose law goes on by lundberg.h */
static const double SLOWLY =
    1;                         /* decay times that a service may be of for such a lattice to be long enough */
static const double APART = 2; /* decays of what is before a part, over its own */

/* The law of part b, waiting time of a deterministic one, on a lattice that ends early, and what it goes on
 * as. EI_ERR_ACCURACY: none. */
static int near_law(const ei_chain *self, size_t b, ei_end end, const ei_upper_law *before, ei_upper_law *law,
                    ei_lundberg *beyond) {
    const ei_arrival *arrival = &self->batch->arrival;
    const ei_added_stage stage = ei_part_stage(&self->parts[b], 0);
    const double horizon = NEAR * self->batch->horizon;
    const size_t points = EI_CHAIN_LINDLEY_POINTS;
    const double step = ei_chain_lindley_step(&stage, horizon, points);
    const int modulated = arrival->kind == EI_ARRIVAL_MARKOV_MODULATED;
    int status;
    if (!(self->parts[b].decay * ei_lundberg_longest(&stage, arrival) < SLOWLY))
        return EI_ERR_ACCURACY;
    if (end == EI_UPPER) {
        status = ei_add_stage_early(law, before, &stage, arrival, step, points, self->batch->monitor);
    } else {
        if (modulated && (law->by_phase = malloc(arrival->count * points * sizeof(double))) == NULL)
            return EI_ERR_NO_MEMORY;
        status = ei_lindley_sojourn_lower(&law->lattice, law->by_phase, &stage, arrival, step, points,
                                          self->batch->monitor);
    }
    return status == EI_OK ? ei_lundberg_find(beyond, end, &stage, arrival, self->parts[b].decay,
                                              &law->lattice, law->by_phase, before)
                           : status;
}

/* Over the whole horizon. */
static int stretch(const ei_chain *self, ei_end end, const ei_lundberg *beyond, ei_upper_law *law) {
    const size_t known = law->lattice.count;
    int status = ei_chain_lengthen(&law->lattice, law->lattice.step, self->batch->horizon);
    for (size_t j = 0; j < law->lattice.count && status == EI_OK; j++) {
        const double time = (double)j * law->lattice.step,
                     other = exp(beyond->log_scale - beyond->decay * time);
        double *sf = &law->lattice.sf[j];
        if (end == EI_UPPER && j >= known)
            *sf = law->lattice.sf[known - 1];
        if (time >= beyond->from)
            *sf = end == EI_UPPER ? fmin(*sf, other) : fmax(*sf, fmin(other, 1));
    }
    law->log_scale = beyond->log_scale;
    law->decay = beyond->decay;
    return status;
}

int ei_chain_lower_heavy(const ei_chain *self, size_t b, int *found) {
    const ei_upper_law none = {.decay = 0};
    const ei_added_stage stage = ei_part_stage(&self->parts[b], 0);
    const int method = stage.law == NULL ? EI_BRACKET_QUEUE : EI_BRACKET_LINK;
    ei_upper_law law = {.decay = 0};
    ei_lattice others = {.sf = NULL};
    ei_lundberg beyond;
    int status = near_law(self, b, EI_LOWER, &none, &law, &beyond);
    if (status == EI_OK)
        status = ei_chain_sum_of_others(self, b, &others);
    if (status == EI_OK)
        status = stretch(self, EI_LOWER, &beyond, &law);
    if (status == EI_OK)
        ei_chain_raise(self, &law.lattice, &others, method);
    ei_upper_law_free(&law);
    ei_lattice_free(&others);
    *found = status == EI_OK;
    return ei_no_bound(status) ? ei_chain_lower_lundberg(self, b) : status;
}

int ei_chain_upper_heavy(const ei_chain *self, size_t b) {
    const ei_added_stage stage = ei_part_stage(&self->parts[b], 0);
    const double period = ei_part_shortest(&self->parts[b]);
    const size_t finest = EI_CHAIN_PERIODIC_POINTS, last = self->count - 1;
    ei_upper_law law = {.decay = 0}, before = {.decay = 0}, after = {.decay = 0};
    ei_lundberg beyond;
    int status = b > 0 ? ei_chain_fed_periodically(self, b - 1, 0, period, finest, &before) : EI_OK;
    if (status == EI_OK && b < last)
        status = ei_chain_fed_periodically(self, b + 1, last, period, finest, &after);
    if (status != EI_OK)
        goto out;
    status = before.lattice.sf == NULL || before.decay > APART * self->parts[b].decay
                 ? near_law(self, b, EI_UPPER, &before, &law, &beyond)
                 : EI_ERR_ACCURACY;
    if (ei_no_bound(status)) {
        ei_upper_law_free(&law);
        law =
            (ei_upper_law){.lattice = {self->batch->horizon / EI_CHAIN_SHORT_WALK, 1, malloc(sizeof(double))},
                           .shift = before.shift};
        if (law.lattice.sf == NULL) {
            status = EI_ERR_NO_MEMORY;
            goto out;
        }
        law.lattice.sf[0] = 1;
        status = ei_lundberg_find(&beyond, EI_UPPER, &stage, &self->batch->arrival, self->parts[b].decay,
                                  &(ei_lattice){.sf = NULL}, NULL, &before);
    }
    if (status == EI_OK)
        status = stretch(self, EI_UPPER, &beyond, &law);
    if (status == EI_OK)
        ei_chain_cut(self, &law, &after, b < last ? EI_BRACKET_BOTTLENECK_FIRST : EI_BRACKET_ADDED_STAGE);
out:
    ei_upper_law_free(&law);
    ei_upper_law_free(&before);
    ei_upper_law_free(&after);
    return ei_no_bound(status) ? EI_OK : status;
}
