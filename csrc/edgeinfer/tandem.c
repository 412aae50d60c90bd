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
        return ei_rng_exponential(rng) * (1 / p[0]);
    }
}

typedef struct {
    const ei_tandem *model;
    const ei_tandem_result *result;
    ei_sampler *samplers;
    _Atomic uint64_t *histogram;
} run_context;

/* A link on the wall clock: the rate of the slot that the last transfer ended in, and when that slot began,
 * relative to the last arrival, s. */
typedef struct {
    double into, rate;
} wall_clock;

static double wall_clock_draw(const ei_sampler *sampler, wall_clock *clock, double start, ei_rng *rng) {
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

/* EI_LANES replications at once, in arrays whose last index is the lane. */
typedef struct {
    _Alignas(64) double backlog[EI_LANES];
    _Alignas(64) double sojourn[EI_LANES];
    _Alignas(64) double waiting[EI_LANES];
    _Alignas(64) double busy[EI_LANES];
    wall_clock clock[EI_LANES];
} lane_stage;

typedef struct {
    ei_rng_lanes streams;
    _Alignas(64) double elapsed[EI_LANES];
    lane_stage *stages;
    double *violations;  /* [deadlines][stages][EI_LANES] */
    uint64_t *histogram; /* [stages][EI_HISTOGRAM_BINS]; NULL: none */
    int kept;            /* lanes that count in the histogram */
} lane_state;

/* One lane's stream as a generator of its own, for draws that have no form over lanes. */
EI_INLINE ei_rng take_stream(const ei_rng_lanes *streams, int lane) {
    return (ei_rng){
        {streams->state[0][lane], streams->state[1][lane], streams->state[2][lane], streams->state[3][lane]}};
}

EI_INLINE void put_stream(ei_rng_lanes *streams, int lane, const ei_rng *rng) {
    for (int i = 0; i < 4; i++)
        streams->state[i][lane] = rng->state[i];
}

EI_INLINE void draw_arrivals(const ei_arrival *arrival, ei_rng_lanes *streams, double *restrict interval) {
    if (arrival->kind == EI_ARRIVAL_POISSON) {
        ei_rng_lanes_uniform(streams, interval);
        const double mean = 1 / arrival->parameter[0];
        for (int l = 0; l < EI_LANES; l++)
            interval[l] = -ei_log(interval[l]) * mean;
        return;
    }
    for (int l = 0; l < EI_LANES; l++) {
        ei_rng rng = take_stream(streams, l);
        interval[l] = ei_arrival_draw(arrival, &rng);
        put_stream(streams, l, &rng);
    }
}

/* Slot by slot in all lanes until each has carried its bits; lanes that are done keep their streams. */
EI_INLINE void draw_slots(const ei_sampler *sampler, ei_rng_lanes *restrict streams,
                          double *restrict service) {
    _Alignas(64) double left[EI_LANES];
    _Alignas(64) double rate[EI_LANES];
    _Alignas(64) double open[EI_LANES];
    const double snr = sampler->mean_snr;
    double going = 1;
    for (int l = 0; l < EI_LANES; l++) {
        left[l] = sampler->carry;
        service[l] = 0;
        open[l] = 1;
    }
    while (going > 0) {
        ei_rng_lanes next = *streams;
        ei_rng_lanes_uniform(&next, rate);
        for (int l = 0; l < EI_LANES; l++)
            rate[l] = ei_log(1 + snr * -ei_log(rate[l])) * 1.4426950408889634;
        for (int i = 0; i < 4; i++)
            for (int l = 0; l < EI_LANES; l++)
                streams->state[i][l] = open[l] > 0 ? next.state[i][l] : streams->state[i][l];
        going = 0;
        for (int l = 0; l < EI_LANES; l++) {
            double share = rate[l] >= left[l] ? left[l] / rate[l] : 1;
            service[l] += open[l] * share;
            open[l] = rate[l] >= left[l] ? 0 : open[l];
            left[l] -= rate[l];
            going += open[l];
        }
    }
    for (int l = 0; l < EI_LANES; l++)
        service[l] *= sampler->slot;
}

/* The quantile table in all lanes: the arithmetic of ei_sampler_draw. */
EI_INLINE void draw_table(const ei_sampler *sampler, ei_rng_lanes *restrict streams,
                          double *restrict service) {
    const double *restrict table = sampler->quantile;
    _Alignas(64) uint64_t word[EI_LANES];
    ei_rng_lanes_next(streams, word);
    for (int l = 0; l < EI_LANES; l++) {
        double fraction;
        uint32_t cell = ei_quantile_cell(word[l], &fraction);
        service[l] = table[cell] + fraction * (table[cell + 1] - table[cell]);
    }
}

EI_INLINE void draw_services(const ei_sampler *sampler, int wall, wall_clock *clock,
                             const double *restrict start, ei_rng_lanes *streams, double *restrict service) {
    const ei_service_kind kind = sampler->service.kind;
    if (kind == EI_SERVICE_DETERMINISTIC) {
        for (int l = 0; l < EI_LANES; l++)
            service[l] = sampler->service.time;
    } else if (kind == EI_SERVICE_EXPONENTIAL) {
        ei_rng_lanes_uniform(streams, service);
        for (int l = 0; l < EI_LANES; l++)
            service[l] = sampler->service.time * -ei_log(service[l]);
    } else if (kind == EI_SERVICE_TRANSFER && wall) {
        for (int l = 0; l < EI_LANES; l++) {
            ei_rng rng = take_stream(streams, l);
            service[l] = wall_clock_draw(sampler, &clock[l], start[l], &rng);
            put_stream(streams, l, &rng);
        }
    } else if (kind == EI_SERVICE_TRANSFER && sampler->quantile == NULL) {
        draw_slots(sampler, streams, service);
    } else if (kind == EI_SERVICE_TRANSFER) {
        draw_table(sampler, streams, service);
    } else {
        for (int l = 0; l < EI_LANES; l++) {
            ei_rng rng = take_stream(streams, l);
            service[l] = ei_sampler_draw(sampler, &rng);
            put_stream(streams, l, &rng);
        }
    }
}

EI_INLINE void enter(uint64_t *histogram, const double *time, int kept) {
    for (int l = 0; l < kept; l++) {
        int64_t bits;
        memcpy(&bits, &time[l], sizeof bits);
        int64_t bin = (bits >> 46) - ((int64_t)(1023 + EI_HISTOGRAM_FIRST) << 6);
        bin = bin < 0 ? 0 : bin >= EI_HISTOGRAM_BINS ? EI_HISTOGRAM_BINS - 1 : bin;
        histogram[bin]++;
    }
}

/* Jobs first .. last - 1. */
EI_MULTIVERSION static void simulate_jobs(const run_context *self, lane_state *lanes, uint64_t first,
                                          uint64_t last) {
    const ei_tandem *model = self->model;
    const size_t stages = model->stage_count, deadlines = model->deadline_count;
    const int wall = model->link == EI_LINK_WALL_CLOCK;
    ei_rng_lanes streams = lanes->streams;
    for (uint64_t job = first; job < last; job++) {
        _Alignas(64) double interval[EI_LANES];
        _Alignas(64) double x[EI_LANES];
        _Alignas(64) double start[EI_LANES];
        _Alignas(64) double service[EI_LANES];
        const int counted = job >= model->warmup;
        draw_arrivals(&model->arrival, &streams, interval);
        for (size_t k = 0; k < stages; k++) {
            double *restrict backlog = lanes->stages[k].backlog;
            for (int l = 0; l < EI_LANES; l++)
                backlog[l] -= interval[l];
            if (wall)
                for (int l = 0; l < EI_LANES; l++)
                    lanes->stages[k].clock[l].into -= interval[l];
        }
        for (int l = 0; l < EI_LANES; l++)
            x[l] = 0;
        for (size_t k = 0; k < stages; k++) {
            lane_stage *restrict stage = &lanes->stages[k];
            const double *restrict free_at =
                model->serial ? lanes->stages[stages - 1].backlog : stage->backlog;
            if (model->serial && k > 0)
                for (int l = 0; l < EI_LANES; l++)
                    start[l] = x[l];
            else
                for (int l = 0; l < EI_LANES; l++)
                    start[l] = x[l] > free_at[l] ? x[l] : free_at[l];
            draw_services(&self->samplers[k], wall, stage->clock, start, &streams, service);
            if (counted)
                for (int l = 0; l < EI_LANES; l++) {
                    stage->waiting[l] += start[l] - x[l];
                    stage->busy[l] += service[l];
                }
            for (int l = 0; l < EI_LANES; l++) {
                x[l] = start[l] + service[l];
                stage->backlog[l] = x[l];
            }
            if (!counted)
                continue;
            for (int l = 0; l < EI_LANES; l++)
                stage->sojourn[l] += x[l];
            for (size_t d = 0; d < deadlines; d++) {
                double *restrict count = lanes->violations + (d * stages + k) * EI_LANES,
                                 limit = model->deadlines[d];
                for (int l = 0; l < EI_LANES; l++)
                    count[l] += x[l] > limit ? 1.0 : 0.0;
            }
            if (lanes->histogram != NULL && job % EI_HISTOGRAM_STRIDE == 0)
                enter(lanes->histogram + k * EI_HISTOGRAM_BINS, x, lanes->kept);
        }
        if (counted)
            for (int l = 0; l < EI_LANES; l++)
                lanes->elapsed[l] += interval[l];
    }
    lanes->streams = streams;
}

/* Replications batch EI_LANES to batch EI_LANES + EI_LANES - 1; those beyond the last are simulated and
 * dropped, so that a replication's bits do not depend on its neighbours. */
static int replicate(void *context, size_t batch, ei_parallel *run) {
    const run_context *self = context;
    const ei_tandem *model = self->model;
    const size_t stages = model->stage_count, deadlines = model->deadline_count, first = batch * EI_LANES;
    const size_t kept = model->replications - first < EI_LANES ? model->replications - first : EI_LANES;
    int status = EI_ERR_NO_MEMORY;
    lane_state lanes = {.kept = (int)kept};
    /* Aligned, so that no vector straddles a cache line. */
    const size_t counters = (deadlines * stages + 1) * EI_LANES * sizeof *lanes.violations;
    lanes.stages = aligned_alloc(64, stages * sizeof *lanes.stages);
    lanes.violations = aligned_alloc(64, counters);
    if (self->histogram != NULL)
        lanes.histogram = calloc(stages * EI_HISTOGRAM_BINS, sizeof *lanes.histogram);
    if (lanes.stages == NULL || lanes.violations == NULL ||
        (self->histogram != NULL && lanes.histogram == NULL))
        goto out;
    memset(lanes.stages, 0, stages * sizeof *lanes.stages);
    memset(lanes.violations, 0, counters);
    ei_rng_lanes_init(&lanes.streams, model->entropy, first);
    for (size_t k = 0; k < stages; k++)
        if (model->link == EI_LINK_WALL_CLOCK && model->stages[k].kind == EI_SERVICE_TRANSFER)
            for (int l = 0; l < EI_LANES; l++) {
                ei_rng rng = take_stream(&lanes.streams, l);
                lanes.stages[k].clock[l].into = -self->samplers[k].slot * (1 - ei_rng_uniform(&rng));
                lanes.stages[k].clock[l].rate = ei_sample_slot(self->samplers[k].mean_snr, &rng);
                put_stream(&lanes.streams, l, &rng);
            }
    const uint64_t total = model->warmup + model->jobs;
    for (uint64_t job = 0; job < total; job += CHUNK) {
        if (ei_parallel_stopped(run)) {
            status = EI_ERR_INTERRUPTED;
            goto out;
        }
        simulate_jobs(self, &lanes, job, total - job < CHUNK ? total : job + CHUNK);
    }
    const double jobs = (double)model->jobs;
    for (size_t l = 0; l < kept; l++) {
        for (size_t k = 0; k < stages; k++) {
            const lane_stage *stage = &lanes.stages[k];
            const size_t at = (first + l) * stages + k;
            self->result->sojourn[at] = stage->sojourn[l] / jobs;
            self->result->waiting[at] = stage->waiting[l] / jobs;
            self->result->busy[at] = stage->busy[l] / lanes.elapsed[l];
        }
        for (size_t i = 0; i < deadlines * stages; i++)
            self->result->violations[(first + l) * deadlines * stages + i] =
                lanes.violations[i * EI_LANES + l] / jobs;
    }
    if (self->histogram != NULL)
        for (size_t i = 0; i < stages * EI_HISTOGRAM_BINS; i++)
            if (lanes.histogram[i] > 0)
                atomic_fetch_add_explicit(&self->histogram[i], lanes.histogram[i], memory_order_relaxed);
    status = EI_OK;
out:
    free(lanes.stages);
    free(lanes.violations);
    free(lanes.histogram);
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
    status = ei_parallel_for(replicate, &context, (self->replications + EI_LANES - 1) / EI_LANES,
                             self->threads > 0 ? self->threads : 1, monitor);
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
