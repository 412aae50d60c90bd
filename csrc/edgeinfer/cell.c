#include "edgeinfer/cell_state.h"

#include <stdatomic.h>

/* Of a service. */
enum { ON_BAND = 1, ELSEWHERE = 2 };

size_t ei_cell_rows(const ei_cell *self) {
    size_t rows = 0;
    for (size_t c = 0; c < self->class_count; c++)
        rows += self->classes[c].stage_count + self->classes[c].fallback_count + 1;
    return rows;
}

typedef struct {
    const ei_cell *model;
    const ei_cell_result *result;
    ei_sampler *samplers;
    unsigned char *uses; /* [services], bits ON_BAND, ELSEWHERE */
    ei_route *routes;
    size_t rows, terminals, servers; /* of all classes */
    int channels;                    /* whether a server is one */
    int forward;                     /* requests are followed in blocks, without events */
    _Atomic uint64_t *histogram;
} run_context;

/* The clocks of a class's channels, of the terminal whose servers begin at `own`. */
static void start_channels(ei_cell_state *self, const ei_cell_class *class, size_t own) {
    for (size_t k = 0; k < class->stage_count + class->fallback_count; k++) {
        const ei_cell_stage *stage = &class->stages[k];
        const ei_service *law = stage->place == EI_PLACE_OWN ? &self->model->services[stage->service] : NULL;
        if (law != NULL && law->kind == EI_SERVICE_CHANNEL)
            self->clocks[own + stage->server] = ei_channel_start(&law->channel, &self->rng);
    }
}

static int build_terminals(ei_cell_state *self, const run_context *context) {
    const ei_cell *model = context->model;
    uint32_t index = 0;
    size_t own = 0;
    for (size_t c = 0; c < model->class_count; c++) {
        const ei_cell_class *class = &model->classes[c];
        const double longest = ei_arrival_longest(&class->arrival);
        for (size_t i = 0; i < class->count; i++, index++, own += class->server_count) {
            self->terminals[index] = (ei_terminal){.latest = NAN,
                                                   .class_index = (uint32_t)c,
                                                   .node = class->nearest != NULL ? class->nearest[i] : 0,
                                                   .own = own};
            if (self->clocks != NULL)
                start_channels(self, class, own);
            if (self->forward && self->poisson)
                continue; /* all draw from one stream */
            double born =
                ei_arrival_first(&class->arrival, longest, &self->terminals[index].arrival, &self->rng);
            self->terminals[index].born = born;
            if (self->forward)
                continue;
            int status = ei_heap_push(&self->sources, ei_cell_next_source(self, index, born), index, index);
            if (status != EI_OK)
                return status;
        }
    }
    return EI_OK;
}

static int all_poisson(const ei_cell *model) {
    for (size_t c = 0; c < model->class_count; c++)
        if (model->classes[c].arrival.kind != EI_ARRIVAL_POISSON || model->classes[c].arrival.batch_limit > 0)
            return 0;
    return 1;
}

/* Whether requests meet own servers, delays and one simple node at most, each of them once, and are answered
 * in the order of time. */
static int only_forward(const run_context *context) {
    const ei_cell *model = context->model;
    for (size_t i = 0; i < model->node_count; i++)
        if (!ei_node_is_simple(model, &model->nodes[i]))
            return 0;
    for (size_t c = 0; c < model->class_count; c++) {
        const ei_cell_class *class = &model->classes[c];
        size_t nodes = 0;
        for (size_t k = 0; k < class->stage_count; k++) {
            if (class->stages[k].place == EI_PLACE_BAND)
                return 0;
            nodes += class->stages[k].place == EI_PLACE_NODE;
        }
        if (nodes > 1 || class->fallback_count > 0 || class->round_count > 0 || context->routes[c].shared ||
            context->routes[c].stages[class->stage_count].event)
            return 0;
    }
    return 1;
}

static int state_init(ei_cell_state *self, const run_context *context, size_t replication) {
    const ei_cell *model = context->model;
    const ei_cell_result *result = context->result;
    const size_t stations = model->node_count + model->band_count, at = replication * model->batches;
    int status = EI_ERR_NO_MEMORY;
    *self = (ei_cell_state){.model = model,
                            .samplers = context->samplers,
                            .routes = context->routes,
                            .terminal_count = context->terminals,
                            .forward = context->forward,
                            .poisson = all_poisson(model),
                            .loops = ei_lane_loops_of(model->width),
                            .free_request = EI_NOBODY,
                            .start = model->warmup,
                            .end = model->warmup + model->duration,
                            .length = model->duration / (double)model->batches,
                            .per_batch = (double)model->batches / model->duration,
                            .batch_from = INFINITY,
                            .row_width = EI_SUMS + model->deadline_count,
                            .class_width = EI_CLASS_SUMS + model->deadline_count};
    self->batch_width = context->rows * self->row_width;
    self->rows = result->rows + at * self->batch_width;
    self->classes = result->classes + at * model->class_count * self->class_width;
    self->node_sums = result->nodes + at * model->node_count * EI_NODE_SUMS;
    self->band_sums = result->bands + at * model->band_count * EI_BAND_SUMS;
    self->terminals = malloc(context->terminals * sizeof *self->terminals);
    self->free_at = calloc(context->servers + 1, sizeof *self->free_at);
    self->next = malloc((stations + 1) * sizeof *self->next);
    self->nodes = calloc(model->node_count + 1, sizeof *self->nodes);
    self->bands = calloc(model->band_count + 1, sizeof *self->bands);
    self->histogram = calloc(context->rows * EI_CELL_BINS, sizeof *self->histogram);
    self->supplies = calloc(model->service_count + 1, sizeof *self->supplies);
    if (context->channels)
        self->clocks = calloc(context->servers + 1, sizeof *self->clocks);
    if (!self->terminals || !self->free_at || (context->channels && !self->clocks) || !self->next ||
        !self->nodes || !self->bands || !self->histogram || !self->supplies)
        return status;
    for (size_t i = 0; i < stations; i++)
        self->next[i] = INFINITY;
    for (size_t i = 0; i < model->node_count; i++)
        ei_node_init(&self->nodes[i], &model->nodes[i], ei_node_is_simple(model, &model->nodes[i]));
    for (size_t i = 0; i < model->band_count; i++)
        if ((status = ei_band_init(&self->bands[i], &model->bands[i], context->terminals)) != EI_OK)
            return status;
    if (context->forward || model->band_count > 0) {
        ei_rng_init(&self->rng, model->entropy, ei_cell_streams(replication));
        ei_lanes_init(&self->streams, model->entropy, ei_cell_streams(replication) + 1);
    } else {
        ei_rng_init(&self->rng, model->entropy, replication);
    }
    for (size_t i = 0; i < model->service_count; i++)
        if ((context->uses[i] & ON_BAND) && self->samplers[i].rate->rayleigh &&
            (self->supplies[i].rates = malloc(EI_RATE_SUPPLY * sizeof(double))) == NULL)
            return EI_ERR_NO_MEMORY;
    return build_terminals(self, context);
}

static void state_free(ei_cell_state *self) {
    for (size_t i = 0; self->supplies != NULL && i < self->model->service_count; i++)
        free(self->supplies[i].rates);
    free(self->supplies);
    for (size_t i = 0; self->nodes != NULL && i < self->model->node_count; i++)
        ei_node_free(&self->nodes[i]);
    for (size_t i = 0; self->bands != NULL && i < self->model->band_count; i++)
        ei_band_free(&self->bands[i]);
    ei_heap_free(&self->sources);
    ei_heap_free(&self->transit);
    free(self->terminals);
    free(self->free_at);
    free(self->clocks);
    free(self->next);
    free(self->nodes);
    free(self->bands);
    free(self->requests);
    free(self->histogram);
}

static void sum_fairness(const ei_cell_state *self, double *fairness) {
    for (size_t i = 0; i < self->terminal_count; i++) {
        const ei_terminal *terminal = &self->terminals[i];
        double *sums = fairness + terminal->class_index * EI_FAIR_SUMS;
        sums[EI_FAIR_RATE] += terminal->answers;
        sums[EI_FAIR_RATE_SQUARE] += terminal->answers * terminal->answers;
        if (terminal->answers > 0) {
            const double mean = terminal->sojourns / terminal->answers;
            sums[EI_FAIR_MEAN] += mean;
            sums[EI_FAIR_MEAN_SQUARE] += mean * mean;
            sums[EI_FAIR_ACTIVE] += 1;
        }
    }
}

/* Where there is no fallback, the end is the last stage's. */
static void copy_ends(ei_cell_state *self) {
    for (size_t c = 0, row = 0; c < self->model->class_count; c++) {
        const ei_cell_class *class = &self->model->classes[c];
        row += class->stage_count + class->fallback_count;
        for (size_t b = 0; class->fallback_count == 0 && b < self->model->batches; b++) {
            double *end = self->rows + b * self->batch_width + row * self->row_width;
            memcpy(end, end - self->row_width, self->row_width * sizeof *end);
            end[EI_SUM_WAITING] = end[EI_SUM_BUSY] = 0;
        }
        uint64_t *bins = self->histogram + row * EI_CELL_BINS;
        if (class->fallback_count == 0)
            memcpy(bins, bins - EI_CELL_BINS, EI_CELL_BINS * sizeof *bins);
        row++;
    }
}

static int replicate(void *argument, size_t replication, ei_parallel *run) {
    const run_context *context = argument;
    const ei_cell *model = context->model;
    ei_cell_state state;
    int status = state_init(&state, context, replication);
    if (status == EI_OK)
        status = context->forward ? ei_cell_forward(&state, run) : ei_cell_follow(&state, run);
    if (status == EI_OK) {
        copy_ends(&state);
        sum_fairness(&state, context->result->fairness + replication * model->class_count * EI_FAIR_SUMS);
        for (size_t i = 0; i < context->rows * EI_CELL_BINS; i++)
            if (state.histogram[i] > 0)
                atomic_fetch_add_explicit(&context->histogram[i], state.histogram[i], memory_order_relaxed);
    }
    state_free(&state);
    return status;
}

/* Where services are drawn: a band draws slots, and needs no table of whole transfers. */
static void mark_uses(const ei_cell *self, unsigned char *uses) {
    for (size_t c = 0; c < self->class_count; c++) {
        const ei_cell_class *class = &self->classes[c];
        for (size_t k = 0; k < class->stage_count + class->fallback_count; k++) {
            const ei_cell_stage *stage = &class->stages[k];
            if (stage->place == EI_PLACE_BAND)
                uses[stage->service] |= ON_BAND;
            else if (stage->place == EI_PLACE_OWN || stage->place == EI_PLACE_DELAY)
                uses[stage->service] |= ELSEWHERE;
            for (size_t i = 0; stage->place == EI_PLACE_NODE && i < self->node_count; i++)
                uses[stage->service + i] |= ELSEWHERE;
            for (size_t i = 0; stage->place == EI_PLACE_PARTS && i < stage->part_count; i++)
                if (stage->parts[i].kind <= EI_NODE_REVIEW)
                    uses[stage->parts[i].service] |= ELSEWHERE;
        }
    }
}

int ei_cell_run(const ei_cell *self, const ei_cell_result *result, ei_monitor monitor) {
    int status = ei_cell_verify(self);
    if (status != EI_OK)
        return status;
    run_context context = {.model = self, .result = result};
    size_t row = 0, bins;
    context.rows = ei_cell_rows(self);
    bins = context.rows * EI_CELL_BINS;
    context.samplers = calloc(self->service_count + 1, sizeof *context.samplers);
    context.uses = calloc(self->service_count + 1, 1);
    context.routes = calloc(self->class_count, sizeof *context.routes);
    context.histogram = calloc(bins, sizeof *context.histogram);
    status = EI_ERR_NO_MEMORY;
    if (context.samplers == NULL || context.uses == NULL || context.routes == NULL ||
        context.histogram == NULL)
        goto out;
    mark_uses(self, context.uses);
    for (size_t i = 0; i < self->service_count; i++)
        if ((status = ei_service_verify(&self->services[i])) != EI_OK ||
            (status = ei_sampler_init(&context.samplers[i], &self->services[i],
                                      context.uses[i] == ON_BAND ? EI_LINK_SLOTS : EI_LINK_TABLE)) != EI_OK)
            goto out;
        else
            context.channels |= self->services[i].kind == EI_SERVICE_CHANNEL;
    for (size_t c = 0; c < self->class_count; c++) {
        if ((status = ei_route_init(&context.routes[c], self, &self->classes[c], &row)) != EI_OK)
            goto out;
        context.terminals += self->classes[c].count;
        context.servers += self->classes[c].count * self->classes[c].server_count;
    }
    status = context.terminals < EI_NOBODY ? EI_OK : EI_ERR_TOO_LARGE;
    context.forward = only_forward(&context);
    if (status == EI_OK)
        status = ei_parallel_for(replicate, &context, self->replications,
                                 self->threads > 0 ? self->threads : 1, monitor);
    for (size_t i = 0; status == EI_OK && i < bins; i++)
        result->histogram[i] = atomic_load(&context.histogram[i]);
out:
    for (size_t i = 0; context.samplers != NULL && i < self->service_count; i++)
        ei_sampler_free(&context.samplers[i]);
    for (size_t c = 0; context.routes != NULL && c < self->class_count; c++)
        free(context.routes[c].stages);
    free(context.samplers);
    free(context.uses);
    free(context.routes);
    free(context.histogram);
    return status;
}
