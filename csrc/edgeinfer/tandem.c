#include "edgeinfer/tandem.h"

#include "edgeinfer/lanes.h"
#include "edgeinfer/multiversion.h"
#include "edgeinfer/parallel.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Jobs that are drawn and followed together, so that their arrays stay in the first-level cache; jobs between
 * two looks at the monitor; slots drawn together. */
enum { BLOCK = 32, CHUNK = 4096, STEPS = 16 };

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

/* EI_LANES replications at once. */
typedef struct {
    ei_row backlog, waiting, busy;
    ei_row *service; /* [2 BLOCK], one more used than BLOCK */
    ei_row *time;    /* [BLOCK], sojourn time up to and with the stage */
    wall_clock clock[EI_LANES];
} lane_stage;

typedef struct {
    ei_lanes streams;
    ei_row elapsed;
    lane_stage *stages;
    ei_row *interval;    /* [BLOCK] */
    ei_row *violations;  /* [deadlines][stages] */
    uint64_t *histogram; /* [stages][EI_HISTOGRAM_BINS]; NULL: none */
    size_t low, high;    /* bins of the histogram that may be above 0: low .. high - 1 */
    int kept;            /* lanes that count in the histogram */
} lane_state;

/* The elements of `yes` where mask is all ones, of `no` where it is 0. By pointers, since vectors as
 * arguments have no stable ABI. */
EI_INLINE void choose(const ei_words *mask, const ei_reals *yes, const ei_reals *no, ei_reals *result) {
    *result = (ei_reals)((*mask & (ei_words)*yes) | (~*mask & (ei_words)*no));
}

EI_INLINE void larger(const ei_reals *a, const ei_reals *b, ei_reals *result) {
    ei_words mask = (ei_words)(*a > *b);
    choose(&mask, a, b, result);
}

EI_INLINE void draw_arrivals(const ei_arrival *arrival, ei_lanes *streams, size_t count,
                             ei_row *restrict interval) {
    if (arrival->kind == EI_ARRIVAL_POISSON) {
        ei_lanes_logarithms(streams, count, -EI_LN2 / arrival->parameter[0], 0, interval);
        return;
    }
    for (int l = 0; l < EI_LANES; l++) {
        ei_rng rng = ei_lanes_take(streams, l);
        for (size_t j = 0; j < count; j++)
            interval[j].lane[l] = ei_arrival_draw(arrival, &rng);
        ei_lanes_put(streams, l, &rng);
    }
}

/* Slot by slot. A lane goes on to its next transfer when one ends, and rests when it has `count`: its stream
 * is then set to the word after the last that it used. */
EI_INLINE void draw_slots(const ei_sampler *sampler, ei_lanes *streams, size_t count,
                          ei_row *restrict service) {
    ei_row rate[STEPS];
    const ei_reals none = {0}, carry = none + sampler->carry;
    ei_row left = {.group = {carry, carry}}, slots = {0}, value;
    union {
        ei_words group[EI_GROUPS];
        uint64_t lane[EI_LANES];
    } ended;
    size_t done[EI_LANES] = {0}, going = EI_LANES;
    while (going > 0) {
        const ei_lanes before = *streams;
        int used[EI_LANES] = {0};
        ei_lanes_slots(streams, STEPS, sampler->mean_snr, 1, rate, rate[0].lane);
        for (int step = 0; step < STEPS; step++) {
            for (int h = 0; h < EI_GROUPS; h++) {
                ei_reals more = slots.group[h] + 1.0, less = left.group[h] - rate[step].group[h];
                ei_words end = (ei_words)(rate[step].group[h] >= left.group[h]);
                value.group[h] = sampler->slot * (slots.group[h] + left.group[h] / rate[step].group[h]);
                choose(&end, &none, &more, &slots.group[h]);
                choose(&end, &carry, &less, &left.group[h]);
                ended.group[h] = end & 1;
            }
            /* Whether a lane's transfer ended or not, its place is written: the last to write is right. */
            for (int l = 0; l < EI_LANES; l++) {
                size_t resting = done[l] >= count;
                service[done[l]].lane[l] = value.lane[l];
                done[l] += ended.lane[l] & (resting ^ 1);
                used[l] += (int)(resting ^ 1);
            }
        }
        going = 0;
        for (int l = 0; l < EI_LANES; l++) {
            going += done[l] < count;
            if (used[l] == STEPS)
                continue;
            ei_rng rng = ei_lanes_take(&before, l);
            for (int step = 0; step < used[l]; step++)
                ei_rng_next(&rng);
            ei_lanes_put(streams, l, &rng);
        }
    }
}

/* The quantile table in all lanes: the arithmetic of ei_sampler_draw. */
EI_INLINE void draw_table(const ei_sampler *sampler, ei_lanes *streams, size_t count,
                          ei_row *restrict service) {
    const double *restrict table = sampler->quantile;
    for (int h = 0; h < EI_GROUPS; h++) {
        ei_words state[4];
        union {
            ei_words all;
            uint64_t lane[EI_WIDTH];
        } word;
        for (int i = 0; i < 4; i++)
            state[i] = streams->group[i][h];
        for (size_t j = 0; j < count; j++) {
            ei_words_next(state, &word.all);
            for (int l = 0; l < EI_WIDTH; l++)
                service[j].lane[h * EI_WIDTH + l] = ei_quantile(table, word.lane[l]);
        }
        for (int i = 0; i < 4; i++)
            streams->group[i][h] = state[i];
    }
}

EI_INLINE void draw_services(const ei_sampler *sampler, ei_lanes *streams, size_t count,
                             ei_row *restrict service) {
    const ei_service_kind kind = sampler->service.kind;
    if (kind == EI_SERVICE_DETERMINISTIC) {
        for (size_t j = 0; j < count; j++)
            for (int h = 0; h < EI_GROUPS; h++)
                service[j].group[h] = sampler->service.time + (ei_reals){0};
    } else if (kind == EI_SERVICE_EXPONENTIAL) {
        ei_lanes_logarithms(streams, count, -EI_LN2 * sampler->service.time, 0, service);
    } else if (kind == EI_SERVICE_TRANSFER && sampler->quantile == NULL) {
        draw_slots(sampler, streams, count, service);
    } else if (kind == EI_SERVICE_TRANSFER) {
        draw_table(sampler, streams, count, service);
    } else {
        for (int l = 0; l < EI_LANES; l++) {
            ei_rng rng = ei_lanes_take(streams, l);
            for (size_t j = 0; j < count; j++)
                service[j].lane[l] = ei_sampler_draw(sampler, &rng);
            ei_lanes_put(streams, l, &rng);
        }
    }
}

/* One FIFO server: jobs that come at `arrived` (NULL: at 0) after their arrival to the system. */
EI_INLINE void follow_server(lane_stage *stage, const ei_row *restrict interval,
                             const ei_row *restrict arrived, size_t count) {
    const ei_reals none = {0};
    const ei_row *restrict services = stage->service;
    ei_row *restrict time = stage->time;
    ei_row backlog = stage->backlog, waiting = stage->waiting, busy = stage->busy;
    for (size_t j = 0; j < count; j++)
        for (int h = 0; h < EI_GROUPS; h++) {
            ei_reals at = arrived == NULL ? none : arrived[j].group[h];
            ei_reals start = backlog.group[h] - interval[j].group[h];
            larger(&at, &start, &start);
            waiting.group[h] += start - at;
            busy.group[h] += services[j].group[h];
            time[j].group[h] = backlog.group[h] = start + services[j].group[h];
        }
    stage->backlog = backlog;
    stage->waiting = waiting;
    stage->busy = busy;
}

/* One request occupies the whole path: it waits before the first stage, until the last one is free. */
EI_INLINE void follow_serial(lane_stage *stages, size_t stage_count, const ei_row *interval, size_t count) {
    const ei_reals none = {0};
    ei_row *free_at = &stages[stage_count - 1].backlog;
    for (size_t j = 0; j < count; j++)
        for (int h = 0; h < EI_GROUPS; h++) {
            ei_reals x = free_at->group[h] - interval[j].group[h];
            larger(&none, &x, &x);
            stages[0].waiting.group[h] += x;
            for (size_t k = 0; k < stage_count; k++) {
                ei_reals service = stages[k].service[j].group[h];
                stages[k].busy.group[h] += service;
                x += service;
                stages[k].time[j].group[h] = x;
            }
            free_at->group[h] = x;
        }
}

/* Links on the wall clock draw a service when its start is known: lane by lane. */
static void follow_wall_clock(const run_context *self, lane_state *lanes, size_t count) {
    const size_t stages = self->model->stage_count;
    for (int l = 0; l < EI_LANES; l++) {
        ei_rng rng = ei_lanes_take(&lanes->streams, l);
        for (size_t j = 0; j < count; j++) {
            const double interval = lanes->interval[j].lane[l];
            double x = 0;
            for (size_t k = 0; k < stages; k++) {
                lanes->stages[k].backlog.lane[l] -= interval;
                lanes->stages[k].clock[l].into -= interval;
            }
            for (size_t k = 0; k < stages; k++) {
                lane_stage *stage = &lanes->stages[k];
                const ei_sampler *sampler = &self->samplers[k];
                double start = stage->backlog.lane[l];
                if (self->model->serial)
                    start = k == 0 ? lanes->stages[stages - 1].backlog.lane[l] : x;
                start = x > start ? x : start;
                double service = sampler->service.kind == EI_SERVICE_TRANSFER
                                     ? wall_clock_draw(sampler, &stage->clock[l], start, &rng)
                                     : ei_sampler_draw(sampler, &rng);
                stage->waiting.lane[l] += start - x;
                stage->busy.lane[l] += service;
                x = start + service;
                stage->backlog.lane[l] = x;
                stage->time[j].lane[l] = x;
            }
        }
        ei_lanes_put(&lanes->streams, l, &rng);
    }
}

EI_INLINE void enter(lane_state *lanes, size_t stage, const ei_row *time) {
    for (int l = 0; l < lanes->kept; l++) {
        uint64_t bits;
        memcpy(&bits, &time->lane[l], sizeof bits);
        const size_t bin = (size_t)(bits << 1 >> (EI_HISTOGRAM_SHIFT + 1)); /* without the sign of -0 */
        lanes->histogram[stage * EI_HISTOGRAM_BINS + bin]++;
        lanes->low = bin < lanes->low ? bin : lanes->low;
        lanes->high = bin < lanes->high ? lanes->high : bin + 1;
    }
}

EI_INLINE void count_above(const ei_row *time, size_t count, double limit, ei_row *violations) {
    for (int h = 0; h < EI_GROUPS; h++) {
        ei_words above = {0};
        for (size_t j = 0; j < count; j++)
            above -= (ei_words)(time[j].group[h] > limit);
        violations->group[h] += __builtin_convertvector(above, ei_reals);
    }
}

/* Jobs first .. last - 1, at most BLOCK of them. */
EI_MULTIVERSION static void simulate_block(const run_context *self, lane_state *lanes, uint64_t first,
                                           uint64_t last) {
    const ei_tandem *model = self->model;
    const size_t stages = model->stage_count, deadlines = model->deadline_count,
                 count = (size_t)(last - first),
                 stride = model->jobs < EI_HISTOGRAM_STRIDE ? 1 : EI_HISTOGRAM_STRIDE;
    ei_lanes streams = lanes->streams;
    draw_arrivals(&model->arrival, &streams, count, lanes->interval);
    if (model->link == EI_LINK_WALL_CLOCK) {
        lanes->streams = streams;
        follow_wall_clock(self, lanes, count);
        streams = lanes->streams;
    } else {
        for (size_t k = 0; k < stages; k++)
            draw_services(&self->samplers[k], &streams, count, lanes->stages[k].service);
        if (model->serial)
            follow_serial(lanes->stages, stages, lanes->interval, count);
        else
            for (size_t k = 0; k < stages; k++)
                follow_server(&lanes->stages[k], lanes->interval, k > 0 ? lanes->stages[k - 1].time : NULL,
                              count);
    }
    lanes->streams = streams;
    if (first < model->warmup)
        return;
    ei_row elapsed = lanes->elapsed;
    for (size_t j = 0; j < count; j++)
        for (int h = 0; h < EI_GROUPS; h++)
            elapsed.group[h] += lanes->interval[j].group[h];
    lanes->elapsed = elapsed;
    for (size_t k = 0; k < stages; k++) {
        const ei_row *time = lanes->stages[k].time;
        for (size_t d = 0; d < deadlines; d++)
            count_above(time, count, model->deadlines[d], &lanes->violations[d * stages + k]);
        if (lanes->histogram != NULL)
            for (size_t j = (size_t)(-first % stride); j < count; j += stride)
                enter(lanes, k, &time[j]);
    }
}

static void simulate_jobs(const run_context *self, lane_state *lanes, uint64_t first, uint64_t last) {
    while (first < last) {
        uint64_t end = last - first < BLOCK ? last : first + BLOCK;
        simulate_block(self, lanes, first, end);
        first = end;
    }
}

uint64_t ei_tandem_batch_end(const ei_tandem *self, size_t index) {
    const uint64_t blocks = self->jobs / BLOCK + (self->jobs % BLOCK > 0), batches = self->batches,
                   more = blocks % batches, number = index + 1;
    const uint64_t end = blocks / batches * number + (number < more ? number : more);
    return number < batches ? end * BLOCK : self->jobs;
}

/* The sums so far, as those at the end of a batch. */
static void store_batch(const run_context *self, const lane_state *lanes, size_t first, size_t batch) {
    const ei_tandem *model = self->model;
    const ei_tandem_result *result = self->result;
    const size_t stages = model->stage_count, width = model->deadline_count * stages;
    for (size_t l = 0; l < (size_t)lanes->kept; l++) {
        const size_t at = (first + l) * model->batches + batch;
        result->elapsed[at] = lanes->elapsed.lane[l];
        for (size_t k = 0; k < stages; k++) {
            result->waiting[at * stages + k] = lanes->stages[k].waiting.lane[l];
            result->busy[at * stages + k] = lanes->stages[k].busy.lane[l];
        }
        for (size_t i = 0; i < width; i++)
            result->violations[at * width + i] = lanes->violations[i].lane[l];
    }
}

/* Jobs of EI_LANES replications, a chunk at a time; no chunk goes beyond the warm-up or a batch. */
static int simulate_chunks(const run_context *self, lane_state *lanes, size_t first, ei_parallel *run) {
    const ei_tandem *model = self->model;
    size_t batch = 0;
    uint64_t end = 0, mark = model->warmup > 0 ? model->warmup : ei_tandem_batch_end(model, 0);
    for (uint64_t job = 0; batch < model->batches; job = end) {
        if (ei_parallel_stopped(run))
            return EI_ERR_INTERRUPTED;
        end = mark - job < CHUNK ? mark : job + CHUNK;
        simulate_jobs(self, lanes, job, end);
        if (end < mark)
            continue;
        if (end == model->warmup)
            for (size_t k = 0; k < model->stage_count; k++)
                lanes->stages[k].waiting = lanes->stages[k].busy = (ei_row){0};
        else
            store_batch(self, lanes, first, batch++);
        if (batch < model->batches)
            mark = model->warmup + ei_tandem_batch_end(model, batch);
    }
    return EI_OK;
}

/* Replications group EI_LANES to group EI_LANES + EI_LANES - 1; those beyond the last are simulated and
 * dropped, so that a replication's bits do not depend on its neighbours. */
static int replicate(void *context, size_t group, ei_parallel *run) {
    const run_context *self = context;
    const ei_tandem *model = self->model;
    const size_t stages = model->stage_count, deadlines = model->deadline_count, first = group * EI_LANES;
    const size_t kept = model->replications - first < EI_LANES ? model->replications - first : EI_LANES;
    int status = EI_ERR_NO_MEMORY;
    lane_state lanes = {.kept = (int)kept, .low = EI_HISTOGRAM_BINS, .high = 0};
    /* Aligned, so that no vector straddles a cache line; and every array starts a whole number of pages of
     * 4 KiB after the first, so that no store seems to overlap a load that runs ahead of it. */
    const size_t rows = BLOCK + stages * 3 * BLOCK + deadlines * stages;
    lanes.stages = aligned_alloc(64, stages * sizeof *lanes.stages);
    lanes.interval = aligned_alloc(64, rows * sizeof *lanes.interval);
    if (self->histogram != NULL)
        lanes.histogram = calloc(stages * EI_HISTOGRAM_BINS, sizeof *lanes.histogram);
    if (lanes.stages == NULL || lanes.interval == NULL ||
        (self->histogram != NULL && lanes.histogram == NULL))
        goto out;
    memset(lanes.stages, 0, stages * sizeof *lanes.stages);
    memset(lanes.interval, 0, rows * sizeof *lanes.interval);
    lanes.violations = lanes.interval + BLOCK + stages * 3 * BLOCK;
    ei_lanes_init(&lanes.streams, model->entropy, first);
    for (size_t k = 0; k < stages; k++) {
        lanes.stages[k].time = lanes.interval + BLOCK + k * 3 * BLOCK;
        lanes.stages[k].service = lanes.stages[k].time + BLOCK;
        if (model->link == EI_LINK_WALL_CLOCK && model->stages[k].kind == EI_SERVICE_TRANSFER)
            for (int l = 0; l < EI_LANES; l++) {
                ei_rng rng = ei_lanes_take(&lanes.streams, l);
                lanes.stages[k].clock[l].into = -self->samplers[k].slot * (1 - ei_rng_uniform(&rng));
                lanes.stages[k].clock[l].rate = ei_sample_slot(self->samplers[k].mean_snr, &rng);
                ei_lanes_put(&lanes.streams, l, &rng);
            }
    }
    if ((status = simulate_chunks(self, &lanes, first, run)) != EI_OK)
        goto out;
    if (self->histogram != NULL)
        for (size_t k = 0; k < stages; k++)
            for (size_t i = lanes.low; i < lanes.high; i++)
                if (lanes.histogram[k * EI_HISTOGRAM_BINS + i] > 0)
                    atomic_fetch_add_explicit(&self->histogram[k * EI_HISTOGRAM_BINS + i],
                                              lanes.histogram[k * EI_HISTOGRAM_BINS + i],
                                              memory_order_relaxed);
out:
    free(lanes.stages);
    free(lanes.interval);
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
    if (!(interval > 0) || self->batches == 0 || (self->batches - 1) > (self->jobs - 1) / BLOCK)
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
        /* All bits zero is an atomic zero, and untouched pages of it cost nothing. */
        context.histogram = calloc(self->stage_count * EI_HISTOGRAM_BINS, sizeof *context.histogram);
        if (context.histogram == NULL) {
            status = EI_ERR_NO_MEMORY;
            goto out;
        }
    }
    status = ei_parallel_for(replicate, &context, (self->replications + EI_LANES - 1) / EI_LANES,
                             self->threads > 0 ? self->threads : 1, monitor);
    if (status == EI_OK && result->histogram != NULL)
        for (size_t i = 0; i < self->stage_count * EI_HISTOGRAM_BINS; i++)
            if (atomic_load(&context.histogram[i]) > 0)
                result->histogram[i] = atomic_load(&context.histogram[i]);
out:
    if (context.samplers != NULL)
        for (size_t k = 0; k < self->stage_count; k++)
            ei_sampler_free(&context.samplers[k]);
    free(context.samplers);
    free(context.histogram);
    return status;
}
