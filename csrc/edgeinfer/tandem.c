#include "edgeinfer/tandem.h"

#include "edgeinfer/parallel.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 4096 };

double ei_arrival_mean(const ei_arrival *self) {
    const double *p = self->parameter;
    switch (self->kind) {
    case EI_ARRIVAL_HYPEREXPONENTIAL:
        if (!(p[0] >= 0) || !(p[0] <= 1) || !(p[1] > 0) || !(p[2] > 0) || !isfinite(p[1]) || !isfinite(p[2]))
            return NAN;
        return p[0] / p[1] + (1 - p[0]) / p[2];
    case EI_ARRIVAL_ERLANG:
        if (!(p[1] >= 1) || !(p[1] <= 1000) || p[1] != floor(p[1]))
            return NAN;
        break;
    default:
        break;
    }
    return p[0] > 0 && isfinite(p[0]) ? 1 / p[0] : NAN;
}

double ei_arrival_draw(const ei_arrival *self, ei_rng *rng) {
    const double *p = self->parameter;
    switch (self->kind) {
    case EI_ARRIVAL_DETERMINISTIC:
        return 1 / p[0];
    case EI_ARRIVAL_ERLANG: {
        double sum = 0;
        for (int phase = 0; phase < (int)p[1]; phase++)
            sum += ei_rng_exponential(rng);
        return sum / (p[0] * p[1]);
    }
    case EI_ARRIVAL_HYPEREXPONENTIAL: {
        double rate = ei_rng_uniform(rng) <= p[0] ? p[1] : p[2];
        return ei_rng_exponential(rng) / rate;
    }
    default:
        return ei_rng_exponential(rng) / p[0];
    }
}

typedef struct {
    const ei_tandem *model;
    const ei_tandem_result *result;
    ei_sampler *samplers;
    _Atomic uint64_t *histogram;
} run_context;

/* A link on the wall clock: the rate of the slot that the last transfer ended in, and how far into it that
 * was. */
typedef struct {
    double into, rate; /* s since the slot's start, relative to the last arrival: see advance */
} wall_clock;

static double wall_clock_draw(const ei_sampler *sampler, wall_clock *clock, double start, ei_rng *rng) {
    /* clock->into holds the start of the slot whose rate is clock->rate, relative to the last arrival. */
    double slot = sampler->slot, passed = floor((start - clock->into) / slot);
    if (passed > 0) {
        clock->into += passed * slot;
        clock->rate = ei_sample_slot(sampler->mean_snr, rng);
    }
    double left = sampler->carry * slot, now = start;
    for (;;) {
        double end = clock->into + slot, can = clock->rate * (end - now);
        if (can >= left)
            return now + left / clock->rate - start;
        left -= can;
        now = end;
        clock->into = end;
        clock->rate = ei_sample_slot(sampler->mean_snr, rng);
    }
}

static void enter(_Atomic uint64_t *histogram, double time) {
    int64_t bits;
    memcpy(&bits, &time, sizeof bits);
    int64_t bin = (bits >> 46) - ((int64_t)(1023 + EI_HISTOGRAM_FIRST) << 6);
    bin = bin < 0 ? 0 : bin >= EI_HISTOGRAM_BINS ? EI_HISTOGRAM_BINS - 1 : bin;
    atomic_fetch_add_explicit(&histogram[bin], 1, memory_order_relaxed);
}

static int replicate(void *context, size_t index, ei_parallel *run) {
    const run_context *self = context;
    const ei_tandem *model = self->model;
    const size_t stages = model->stage_count, deadlines = model->deadline_count;
    int status = EI_ERR_NO_MEMORY;
    ei_rng rng;
    double elapsed = 0;
    double *state = calloc(5 * stages + deadlines * stages, sizeof *state);
    wall_clock *clocks = calloc(stages, sizeof *clocks);
    if (state == NULL || clocks == NULL)
        goto out;
    double *backlog = state, *sojourn = state + stages, *waiting = state + 2 * stages,
           *busy = state + 3 * stages;
    double *service = state + 4 * stages, *violations = state + 5 * stages;
    ei_rng_init(&rng, model->entropy, index);
    for (size_t k = 0; k < stages; k++)
        if (model->link == EI_LINK_WALL_CLOCK && model->stages[k].kind == EI_SERVICE_TRANSFER)
            clocks[k] = (wall_clock){.into = -self->samplers[k].slot * (1 - ei_rng_uniform(&rng)),
                                     .rate = ei_sample_slot(self->samplers[k].mean_snr, &rng)};

    const uint64_t total = model->warmup + model->jobs;
    for (uint64_t job = 0; job < total; job++) {
        if (job % CHUNK == CHUNK - 1 && ei_parallel_stopped(run)) {
            status = EI_ERR_INTERRUPTED;
            goto out;
        }
        double interval = ei_arrival_draw(&model->arrival, &rng), x = 0, busy_until = 0;
        for (size_t k = 0; k < stages; k++) {
            backlog[k] -= interval;
            clocks[k].into -= interval;
        }
        const int counted = job >= model->warmup;
        if (model->serial)
            busy_until = fmax(backlog[stages - 1], 0);
        for (size_t k = 0; k < stages; k++) {
            double start = model->serial ? (k == 0 ? busy_until : x) : fmax(x, backlog[k]);
            service[k] = model->link == EI_LINK_WALL_CLOCK && model->stages[k].kind == EI_SERVICE_TRANSFER
                             ? wall_clock_draw(&self->samplers[k], &clocks[k], start, &rng)
                             : ei_sampler_draw(&self->samplers[k], &rng);
            if (counted) {
                waiting[k] += start - x;
                busy[k] += service[k];
            }
            x = start + service[k];
            backlog[k] = x;
            if (!counted)
                continue;
            sojourn[k] += x;
            for (size_t d = 0; d < deadlines; d++)
                violations[d * stages + k] += x > model->deadlines[d];
            if (self->histogram != NULL && job % EI_HISTOGRAM_STRIDE == 0)
                enter(self->histogram + k * EI_HISTOGRAM_BINS, x);
        }
        if (counted)
            elapsed += interval;
    }
    const double jobs = (double)model->jobs;
    for (size_t k = 0; k < stages; k++) {
        self->result->sojourn[index * stages + k] = sojourn[k] / jobs;
        self->result->waiting[index * stages + k] = waiting[k] / jobs;
        self->result->busy[index * stages + k] = busy[k] / elapsed;
    }
    for (size_t i = 0; i < deadlines * stages; i++)
        self->result->violations[index * deadlines * stages + i] = violations[i] / jobs;
    status = EI_OK;
out:
    free(state);
    free(clocks);
    return status;
}

int ei_tandem_run(const ei_tandem *self, const ei_tandem_result *result, ei_monitor monitor) {
    int status = EI_ERR_EMPTY;
    double serial_load = 0, interval = ei_arrival_mean(&self->arrival);
    run_context context = {.model = self, .result = result, .samplers = NULL, .histogram = NULL};
    if (self->stage_count == 0 || self->replications == 0 || self->jobs == 0)
        goto out;
    status = EI_ERR_DOMAIN;
    if (!(interval > 0))
        goto out;
    for (size_t d = 0; d < self->deadline_count; d++)
        if (isnan(self->deadlines[d]))
            goto out;
    status = EI_ERR_NO_MEMORY;
    context.samplers = calloc(self->stage_count, sizeof *context.samplers);
    if (context.samplers == NULL)
        goto out;
    for (size_t k = 0; k < self->stage_count; k++) {
        if ((status = ei_sampler_init(&context.samplers[k], &self->stages[k], self->link)) != EI_OK)
            goto out;
        double load = ei_service_mean(&self->stages[k]) / interval;
        serial_load += load;
        if (!(load < 1)) {
            status = EI_ERR_UNSTABLE;
            goto out;
        }
    }
    if (self->serial && !(serial_load < 1)) {
        status = EI_ERR_UNSTABLE;
        goto out;
    }
    if (result->histogram != NULL) {
        const size_t bins = self->stage_count * EI_HISTOGRAM_BINS;
        context.histogram = malloc(bins * sizeof *context.histogram);
        if (context.histogram == NULL) {
            status = EI_ERR_NO_MEMORY;
            goto out;
        }
        for (size_t i = 0; i < bins; i++)
            atomic_init(&context.histogram[i], 0);
    }
    status = ei_parallel_for(replicate, &context, self->replications, self->threads > 0 ? self->threads : 1,
                             monitor);
    if (status == EI_OK && result->histogram != NULL)
        for (size_t i = 0; i < self->stage_count * EI_HISTOGRAM_BINS; i++)
            result->histogram[i] = atomic_load(&context.histogram[i]);
out:
    if (context.samplers != NULL)
        for (size_t k = 0; k < self->stage_count; k++)
            ei_sampler_free(&context.samplers[k]);
    free(context.samplers);
    free(context.histogram);
    return status;
}
