#include "edgeinfer/chain_parts.h"

#include "edgeinfer/bound.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HALVINGS = 50 };
static const double HARDLY = 1e-9; /* chance of a service that is shorter than it hardly ever is */

void ei_chain_free_laws(ei_chain *self) {
    for (size_t i = 0; self->laws != NULL && i < self->count * self->count; i++)
        ei_upper_law_free(&self->laws[i]);
    free(self->laws);
    self->laws = NULL;
}

void ei_chain_free(ei_chain *self) {
    ei_chain_free_laws(self);
    free(self->parts);
}

int ei_chain_init(ei_chain *self, const ei_batch *batch, const ei_service *stages, size_t stage_count) {
    *self = (ei_chain){.batch = batch, .stages = stages, .effort = 1, .laws_effort = 1};
    self->parts = calloc(stage_count + 1, sizeof *self->parts);
    if (self->parts == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < stage_count; k++) {
        int deterministic = stages[k].kind == EI_SERVICE_DETERMINISTIC;
        ei_part *last = self->count > 0 ? &self->parts[self->count - 1] : NULL;
        double mean = ei_service_mean(&stages[k]);
        if (mean == 0) {
            if (last != NULL)
                last->end = k + 1;
            continue;
        }
        if (!deterministic || last == NULL || last->service != NULL)
            last = &self->parts[self->count++];
        last->service = deterministic ? NULL : &stages[k];
        last->mean = fmax(last->mean, mean);
        last->end = k + 1;
        if (deterministic) {
            last->once += mean;
            last->again = last->mean;
            self->constant += mean;
        }
    }
    for (size_t k = 0; k < self->count; k++) {
        ei_part *one = &self->parts[k];
        ei_service alone = {.kind = EI_SERVICE_DETERMINISTIC, .time = one->again};
        int status =
            ei_decay_rate(one->service != NULL ? one->service : &alone, 1, &batch->arrival, &one->decay);
        if (status != EI_OK)
            return status;
    }
    self->laws = calloc(self->count * self->count + 1, sizeof *self->laws);
    return self->laws == NULL ? EI_ERR_NO_MEMORY : EI_OK;
}

int ei_chain_init_behind(ei_chain *self, const ei_batch *batch, const ei_service *stages,
                         size_t stage_count) {
    size_t leading = 0;
    while (leading < stage_count &&
           (stages[leading].kind == EI_SERVICE_EXPONENTIAL || ei_service_mean(&stages[leading]) == 0))
        leading++;
    int status = ei_chain_init(self, batch, stages + leading, stage_count - leading);
    self->leading = stages;
    self->leading_count = leading;
    return status;
}

ei_service *ei_chain_slowest_first(const ei_service *given, size_t stage_count) {
    ei_service *stages = malloc(stage_count * sizeof *stages);
    if (stages == NULL)
        return NULL;
    memcpy(stages, given, stage_count * sizeof *stages);
    for (size_t k = 1; k < stage_count; k++)
        for (size_t i = k;
             i > 0 && stages[i].kind == EI_SERVICE_EXPONENTIAL &&
             stages[i - 1].kind == EI_SERVICE_EXPONENTIAL && stages[i].time > stages[i - 1].time;
             i--) {
            ei_service faster = stages[i - 1];
            stages[i - 1] = stages[i];
            stages[i] = faster;
        }
    return stages;
}

int ei_part_is_exponential(const ei_part *self) {
    return self->service != NULL && self->service->kind == EI_SERVICE_EXPONENTIAL;
}

double ei_part_shortest(const ei_part *self) {
    return self->service != NULL ? ei_service_minimum(self->service) : self->again;
}

double ei_part_least(const ei_part *self) {
    if (self->service == NULL || self->service->kind != EI_SERVICE_TRANSFER)
        return ei_part_shortest(self) * (1 - 1e-12);
    double low = 0, high = self->mean;
    for (int i = 0; i < HALVINGS; i++) {
        const double middle = low + (high - low) / 2;
        if (ei_transfer_cdf(self->service->transfer, middle) < HARDLY)
            low = middle;
        else
            high = middle;
    }
    return low;
}

ei_added_stage ei_part_stage(const ei_part *self, double floor) {
    return (ei_added_stage){self->service, floor, self->again, 0};
}

double ei_chain_quantile(const ei_service *service, double chance) {
    double low = 0, high = ei_service_extent(service);
    for (int i = 0; i < 40; i++) {
        double middle = low + (high - low) / 2;
        if (ei_service_sf(service, middle) >= chance)
            low = middle;
        else
            high = middle;
    }
    return low;
}

size_t ei_chain_slowest(const ei_chain *self, size_t first, size_t last, int exponential_too) {
    size_t slowest = self->count;
    for (size_t k = first; k < last; k++)
        if ((exponential_too || !ei_part_is_exponential(&self->parts[k])) &&
            (slowest == self->count || self->parts[k].decay < self->parts[slowest].decay))
            slowest = k;
    return slowest;
}

size_t ei_chain_next_bottleneck(const ei_chain *self, const unsigned char *used) {
    size_t slowest = self->count;
    for (size_t k = 0; k < self->count; k++)
        if (!used[k] && (slowest == self->count || self->parts[k].decay < self->parts[slowest].decay))
            slowest = k;
    return slowest;
}

void ei_chain_add_sojourn(const ei_chain *self, const ei_service *stage, ei_end end, ei_lattice *law) {
    double idle = 1 - self->batch->arrival_rate * stage->time, error = 4 * DBL_EPSILON / idle;
    if (stage->kind == EI_SERVICE_EXPONENTIAL)
        ei_lattice_add_exponential(law, idle / stage->time * (end == EI_LOWER ? 1 + error : 1 - error), end);
}

void ei_chain_add_leading(const ei_chain *self, ei_end end, ei_lattice *law) {
    for (size_t k = 0; k < self->leading_count; k++)
        ei_chain_add_sojourn(self, &self->leading[k], end, law);
}

int ei_chain_sum_of_others(const ei_chain *self, size_t except, ei_lattice *sum) {
    double reach = 0;
    int status = EI_OK;
    memset(sum, 0, sizeof *sum);
    for (size_t k = 0; k < self->count; k++)
        if (k != except && self->parts[k].service != NULL)
            reach += ei_service_reach(self->parts[k].service);
    double step = fmax(reach / EI_CHAIN_SUM_POINTS, self->sum_step);
    for (size_t k = 0; k < self->count && status == EI_OK; k++) {
        const ei_service *service = self->parts[k].service;
        ei_lattice one = {0}, both = {0};
        if (k == except || service == NULL)
            continue;
        size_t count = (size_t)(ei_service_reach(service) / step) + 2;
        status = ei_lattice_service(&one, service, 0, step, count, EI_LOWER);
        if (status == EI_OK && sum->sf != NULL)
            status = ei_lattice_sum_lower(&both, sum, &one);
        if (status != EI_OK || sum->sf != NULL) {
            ei_lattice_free(&one);
            ei_lattice_free(sum);
            *sum = both;
        } else {
            *sum = one;
        }
    }
    return status;
}

int ei_chain_sum(const ei_chain *self, size_t first, size_t last, ei_lattice *sum) {
    ei_chain some = *self;
    some.parts += first;
    some.count = last - first;
    return ei_chain_sum_of_others(&some, some.count, sum);
}

int ei_chain_lengthen(ei_lattice *law, double step, double horizon) {
    if (law->sf != NULL)
        step = law->step;
    size_t count = (size_t)(horizon / step) + 2, known = law->sf != NULL ? law->count : 0;
    if (count <= known)
        return EI_OK;
    double *sf = realloc(law->sf, count * sizeof *sf);
    if (sf == NULL)
        return EI_ERR_NO_MEMORY;
    memset(sf + known, 0, (count - known) * sizeof *sf);
    *law = (ei_lattice){step, count, sf};
    return EI_OK;
}

double ei_chain_lindley_step(const ei_added_stage *stage, double horizon, size_t points) {
    double exact = stage->law != NULL ? stage->floor : stage->again,
           step = (horizon + (stage->law != NULL ? 0 : stage->again)) / (double)points;
    return exact > 0 ? exact / ceil(exact / step) : step;
}

void ei_chain_raise(const ei_chain *self, const ei_lattice *sojourn, const ei_lattice *others, int method) {
    const ei_batch *batch = self->batch;
    for (size_t i = 0; i < batch->count; i++) {
        size_t at = batch->index[i];
        ei_raise_lower(batch, at,
                       ei_lattice_plus_lower(sojourn, others, batch->deadline[at] - self->constant), method);
    }
}

void ei_chain_cut(const ei_chain *self, const ei_upper_law *before, const ei_upper_law *after, int method) {
    const ei_batch *batch = self->batch;
    size_t count = self->score != NULL ? EI_PROBES : batch->count;
    for (size_t i = 0; i < count; i++) {
        size_t at = batch->index[i];
        double rest = batch->deadline[at] - self->constant;
        if (!isfinite(rest))
            continue;
        double value = ei_upper_law_plus_sf(before, after, rest);
        if (self->score == NULL) {
            ei_cut_upper(batch, at, value, method);
            continue;
        }
        self->score->sum += log(fmax(value, DBL_MIN));
        self->score->ratio = fmin(self->score->ratio, value / batch->upper[at]);
    }
}

int ei_chain_begin_trial(ei_chain *self, const ei_chain *whole) {
    *self = *whole;
    self->effort = self->laws_effort = EI_CHAIN_COARSE;
    self->pair_points /= 3;
    self->laws = calloc(self->count * self->count, sizeof *self->laws);
    return self->laws == NULL ? EI_ERR_NO_MEMORY : EI_OK;
}
