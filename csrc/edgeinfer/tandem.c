#include "edgeinfer/tandem.h"

#include "edgeinfer/lanes.h"
#include "edgeinfer/parallel.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Jobs between two looks at the monitor. */
enum { BLOCK = EI_BLOCK, CHUNK = 4096 };

typedef struct {
    const ei_tandem *model;
    const ei_tandem_result *result;
    const ei_lane_loops *loops;
    ei_sampler *samplers;
    int clocked; /* some stage is followed on the wall clock */
    _Atomic uint64_t *histogram;
    ei_node *plain; /* [stage_count], where the model has no nodes */
    size_t *top, width, ahead, node_count;
} run_context;

static double wall_clock_draw(const ei_sampler *sampler, ei_wall_clock *clock, double start, ei_rng *rng) {
    double slot = sampler->slot, passed = floor((start - clock->into) / slot);
    if (passed > 0) {
        clock->into += passed * slot;
        clock->rate = ei_sample_rate_of(sampler->rate, rng);
    }
    double left = sampler->carry * slot, now = start;
    for (;;) {
        double end = clock->into + slot, can = clock->rate * (end - now);
        if (can >= left)
            return now + left / clock->rate - start;
        left -= can;
        now = end;
        clock->into = end;
        clock->rate = ei_sample_rate_of(sampler->rate, rng);
    }
}

static double clocked_draw(const ei_tandem *model, const ei_sampler *sampler, ei_wall_clock *clock,
                           double start, ei_rng *rng) {
    const ei_service *service = &sampler->service;
    if (service->kind == EI_SERVICE_CHANNEL)
        return ei_channel_serve(&service->channel, service->bits, start, clock, rng);
    if (service->kind == EI_SERVICE_TRANSFER && model->link == EI_LINK_WALL_CLOCK)
        return wall_clock_draw(sampler, clock, start, rng);
    return ei_sampler_draw(sampler, rng);
}

static void draw_arrivals(const ei_lane_loops *loops, const ei_arrival *arrival, ei_lane_state *lanes,
                          size_t count) {
    if (arrival->kind == EI_ARRIVAL_POISSON && arrival->batch_limit == 0) {
        loops->exponentials(&lanes->streams, count, -EI_LN2 / arrival->parameter[0], lanes->interval);
        return;
    }
    for (int l = 0; l < EI_LANES; l++) {
        ei_rng rng = ei_lanes_take(&lanes->streams, l);
        for (size_t j = 0; j < count; j++)
            lanes->interval[j].lane[l] = ei_arrival_next(arrival, &lanes->arrival[l], &rng);
        ei_lanes_put(&lanes->streams, l, &rng);
    }
}

/* Links on the wall clock draw a service when its start is known: lane by lane. */
static void follow_wall_clock(const run_context *self, ei_lane_state *lanes, size_t count) {
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
                ei_lane_stage *stage = &lanes->stages[k];
                const ei_sampler *sampler = &self->samplers[k];
                double start = stage->backlog.lane[l];
                if (self->model->serial)
                    start = k == 0 ? lanes->stages[stages - 1].backlog.lane[l] : x;
                start = x > start ? x : start;
                double service = clocked_draw(self->model, sampler, &stage->clock[l], start, &rng);
                stage->waiting.lane[l] += start - x;
                stage->busy.lane[l] += service;
                stage->backlog.lane[l] = start + service;
                x = start + service + (self->model->delays == NULL ? 0 : self->model->delays[k]);
                if (self->model->serial)
                    stage->backlog.lane[l] = x;
                stage->time[j].lane[l] = x;
            }
        }
        ei_lanes_put(&lanes->streams, l, &rng);
    }
}

/* Jobs first .. last - 1, at most BLOCK of them. */
static void simulate_block(const run_context *self, ei_lane_state *lanes, uint64_t first, uint64_t last) {
    const ei_tandem *model = self->model;
    const size_t count = (size_t)(last - first);
    draw_arrivals(self->loops, &model->arrival, lanes, count);
    if (self->clocked)
        follow_wall_clock(self, lanes, count);
    else
        self->loops->follow(model, self->samplers, lanes, count);
    if (first >= model->warmup)
        self->loops->count(model, lanes, first, count);
}

static void simulate_jobs(const run_context *self, ei_lane_state *lanes, uint64_t first, uint64_t last) {
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
static void store_batch(const run_context *self, const ei_lane_state *lanes, size_t first, size_t batch) {
    const ei_tandem *model = self->model;
    const ei_tandem_result *result = self->result;
    const size_t stages = self->width, width = model->deadline_count * stages;
    for (size_t l = 0; l < (size_t)lanes->kept; l++) {
        const size_t at = (first + l) * model->batches + batch;
        result->elapsed[at] = lanes->elapsed.lane[l];
        for (size_t k = 0; k < stages; k++) {
            const ei_lane_stage *stage = &lanes->stages[self->top[k]];
            result->waiting[at * stages + k] = stage->waiting.lane[l];
            result->busy[at * stages + k] = stage->busy.lane[l];
        }
        for (size_t i = 0; i < width; i++)
            result->violations[at * width + i] = lanes->violations[i].lane[l];
    }
}

/* Jobs of EI_LANES replications, a chunk at a time; no chunk goes beyond the warm-up or a batch. */
static int simulate_chunks(const run_context *self, ei_lane_state *lanes, size_t first, ei_parallel *run) {
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
            for (size_t k = 0; k < self->node_count; k++)
                lanes->stages[k].waiting = lanes->stages[k].busy = (ei_row){0};
        else
            store_batch(self, lanes, first, batch++);
        if (batch < model->batches)
            mark = model->warmup + ei_tandem_batch_end(model, batch);
    }
    return EI_OK;
}

static void start_clocks(const run_context *self, size_t stage, ei_lane_state *lanes) {
    const ei_sampler *sampler = &self->samplers[stage];
    const ei_service_kind kind = sampler->service.kind;
    if (kind != EI_SERVICE_CHANNEL &&
        (kind != EI_SERVICE_TRANSFER || self->model->link != EI_LINK_WALL_CLOCK))
        return;
    for (int l = 0; l < EI_LANES; l++) {
        ei_rng rng = ei_lanes_take(&lanes->streams, l);
        ei_wall_clock *clock = &lanes->stages[stage].clock[l];
        if (kind == EI_SERVICE_CHANNEL) {
            *clock = ei_channel_start(&sampler->service.channel, &rng);
        } else {
            clock->into = -sampler->slot * (1 - ei_rng_uniform(&rng));
            clock->rate = ei_sample_rate_of(sampler->rate, &rng);
        }
        ei_lanes_put(&lanes->streams, l, &rng);
    }
}

static void fill(ei_row *rows, double value) {
    for (size_t j = 0; j < BLOCK; j++)
        for (int l = 0; l < EI_LANES; l++)
            rows[j].lane[l] = value;
}

/* Replications group EI_LANES to group EI_LANES + EI_LANES - 1; those beyond the last are simulated and
 * dropped, so that a replication's bits do not depend on its neighbours. */
static int replicate(void *context, size_t group, ei_parallel *run) {
    const run_context *self = context;
    const ei_tandem *model = self->model;
    const size_t nodes = self->node_count, deadlines = model->deadline_count, first = group * EI_LANES;
    const size_t kept = model->replications - first < EI_LANES ? model->replications - first : EI_LANES;
    int status = EI_ERR_NO_MEMORY;
    ei_lane_state lanes = {.kept = (int)kept,
                           .low = EI_HISTOGRAM_BINS,
                           .high = 0,
                           .nodes = self->plain != NULL ? self->plain : model->nodes,
                           .top = self->top,
                           .width = self->width,
                           .ahead = self->ahead,
                           .delays = model->delays};
    /* Aligned, so that no vector straddles a cache line; and every array starts a whole number of pages of
     * 4 KiB after the first, so that no store seems to overlap a load that runs ahead of it. */
    size_t rows = BLOCK + nodes * 3 * BLOCK + deadlines * self->width, used = rows;
    for (size_t k = 0; k < nodes; k++)
        rows += lanes.nodes[k].kind == EI_NODE_SERVERS ? lanes.nodes[k].count : 0;
    lanes.stages = aligned_alloc(64, nodes * sizeof *lanes.stages);
    lanes.interval = aligned_alloc(64, rows * sizeof *lanes.interval);
    if (self->histogram != NULL)
        lanes.histogram = calloc(self->width * EI_HISTOGRAM_BINS, sizeof *lanes.histogram);
    if (lanes.stages == NULL || lanes.interval == NULL ||
        (self->histogram != NULL && lanes.histogram == NULL))
        goto out;
    memset(lanes.stages, 0, nodes * sizeof *lanes.stages);
    memset(lanes.interval, 0, rows * sizeof *lanes.interval);
    lanes.violations = lanes.interval + BLOCK + nodes * 3 * BLOCK;
    ei_lanes_init(&lanes.streams, model->entropy, first);
    for (int l = 0; l < EI_LANES; l++) {
        ei_rng rng = ei_lanes_take(&lanes.streams, l);
        lanes.arrival[l] = ei_arrival_start(&model->arrival, &rng);
        ei_lanes_put(&lanes.streams, l, &rng);
    }
    for (size_t k = 0; k < nodes; k++) {
        lanes.stages[k].time = lanes.interval + BLOCK + k * 3 * BLOCK;
        lanes.stages[k].service = lanes.stages[k].time + BLOCK;
        if (lanes.nodes[k].kind > EI_NODE_SERVERS)
            continue;
        if (lanes.nodes[k].kind == EI_NODE_SERVERS) {
            lanes.stages[k].left = lanes.interval + used;
            used += lanes.nodes[k].count;
        }
        const size_t service = lanes.nodes[k].service;
        if (model->stages[service].kind == EI_SERVICE_DETERMINISTIC)
            fill(lanes.stages[k].service, model->stages[service].time);
        if (model->nodes == NULL)
            start_clocks(self, k, &lanes);
    }
    if ((status = simulate_chunks(self, &lanes, first, run)) != EI_OK)
        goto out;
    if (self->histogram != NULL)
        for (size_t k = 0; k < self->width; k++)
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

/* The end of `number` stages from `place` on, 0 where they are not well formed; `top` takes the places. */
static size_t walk_nodes(const ei_tandem *model, size_t place, size_t number, size_t *top) {
    for (size_t k = 0; k < number; k++) {
        if (place >= model->node_count)
            return 0;
        const ei_node *node = &model->nodes[place];
        if (top != NULL)
            top[k] = place;
        place++;
        if (node->kind == EI_NODE_BRANCH ||
            (node->kind != EI_NODE_FORK && node->service >= model->stage_count) ||
            (node->kind == EI_NODE_REVIEW && !(node->probability >= 0 && node->probability <= 1)) ||
            (node->kind == EI_NODE_SERVERS &&
             (model->stages[node->service].kind != EI_SERVICE_DETERMINISTIC || node->count == 0 ||
              node->count > EI_MOST_SERVERS)))
            return 0;
        if (node->kind != EI_NODE_FORK)
            continue;
        if (node->count == 0 || node->count > EI_MOST_BRANCHES || node->needed == 0 ||
            node->needed > node->count)
            return 0;
        for (size_t b = 0; b < node->count; b++) {
            if (place >= model->node_count || model->nodes[place].kind != EI_NODE_BRANCH ||
                model->nodes[place].count == 0 ||
                (place = walk_nodes(model, place + 1, model->nodes[place].count, NULL)) == 0)
                return 0;
        }
    }
    return place;
}

size_t ei_tandem_width(const ei_tandem *self) {
    if (self->nodes == NULL)
        return self->stage_count;
    size_t width = 0;
    for (size_t place = 0; place < self->node_count; width++)
        if ((place = walk_nodes(self, place, 1, NULL)) == 0)
            return 0;
    return width;
}

static int init_nodes(run_context *self) {
    const ei_tandem *model = self->model;
    self->width = ei_tandem_width(model);
    self->node_count = model->nodes == NULL ? model->stage_count : model->node_count;
    if (self->width == 0 || (model->nodes != NULL && (model->serial || self->clocked)))
        return EI_ERR_DOMAIN;
    self->top = malloc(self->width * sizeof *self->top);
    self->plain = model->nodes == NULL ? calloc(model->stage_count, sizeof *self->plain) : NULL;
    if (self->top == NULL || (model->nodes == NULL && self->plain == NULL))
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < model->stage_count && model->nodes == NULL; k++) {
        self->plain[k].service = k;
        self->top[k] = k;
    }
    if (model->nodes == NULL)
        return EI_OK;
    walk_nodes(model, 0, self->width, self->top);
    while (self->ahead < self->width && model->nodes[self->top[self->ahead]].kind == EI_NODE_DELAY)
        self->ahead++;
    return EI_OK;
}

/* Whether every server has less work than time. */
static int check_loads(const run_context *self, double interval) {
    const ei_tandem *model = self->model;
    const ei_node *nodes = self->plain != NULL ? self->plain : model->nodes;
    double sum = 0;
    for (size_t k = 0; k < model->stage_count && model->delays != NULL; k++) {
        if (!(model->delays[k] >= 0) || !isfinite(model->delays[k]))
            return EI_ERR_DOMAIN;
        sum += model->delays[k] / interval;
    }
    for (size_t i = 0; i < self->node_count; i++) {
        if (nodes[i].kind == EI_NODE_DELAY || nodes[i].kind > EI_NODE_SERVERS)
            continue;
        double load = ei_service_mean(&model->stages[nodes[i].service]) / interval;
        if (nodes[i].kind == EI_NODE_REVIEW)
            load *= nodes[i].probability;
        if (nodes[i].kind == EI_NODE_SERVERS)
            load /= (double)nodes[i].count;
        sum += load;
        if (!(load < 1))
            return EI_ERR_UNSTABLE;
    }
    return model->serial && !(sum < 1) ? EI_ERR_UNSTABLE : EI_OK;
}

int ei_tandem_run(const ei_tandem *self, const ei_tandem_result *result, ei_monitor monitor) {
    int status = EI_ERR_EMPTY;
    double interval = ei_arrival_mean(&self->arrival);
    run_context context = {.model = self, .result = result};
    if (self->stage_count == 0 || self->replications == 0 || self->jobs == 0)
        goto out;
    status = EI_ERR_DOMAIN;
    context.loops = ei_lane_loops_of(self->width);
    if (context.loops == NULL || !(interval > 0) || self->batches == 0 ||
        (self->batches - 1) > (self->jobs - 1) / BLOCK)
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
        context.clocked |= self->link == EI_LINK_WALL_CLOCK || self->stages[k].kind == EI_SERVICE_CHANNEL;
    }
    if ((status = init_nodes(&context)) != EI_OK || (status = check_loads(&context, interval)) != EI_OK)
        goto out;
    if (result->histogram != NULL) {
        /* All bits zero is an atomic zero, and untouched pages of it cost nothing. */
        context.histogram = calloc(context.width * EI_HISTOGRAM_BINS, sizeof *context.histogram);
        if (context.histogram == NULL) {
            status = EI_ERR_NO_MEMORY;
            goto out;
        }
    }
    status = ei_parallel_for(replicate, &context, (self->replications + EI_LANES - 1) / EI_LANES,
                             self->threads > 0 ? self->threads : 1, monitor);
    if (status == EI_OK && result->histogram != NULL)
        for (size_t i = 0; i < context.width * EI_HISTOGRAM_BINS; i++)
            if (atomic_load(&context.histogram[i]) > 0)
                result->histogram[i] = atomic_load(&context.histogram[i]);
out:
    if (context.samplers != NULL)
        for (size_t k = 0; k < self->stage_count; k++)
            ei_sampler_free(&context.samplers[k]);
    free(context.samplers);
    free(context.plain);
    free(context.top);
    free(context.histogram);
    return status;
}
