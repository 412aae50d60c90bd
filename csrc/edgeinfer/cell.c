#include "edgeinfer/cell_state.h"

#include <stdatomic.h>

/* Events between two looks at the monitor. */
enum { CHUNK = 4096 };
/* Of a service. */
enum { ON_BAND = 1, ELSEWHERE = 2 };

size_t ei_cell_rows(const ei_cell *self) {
    size_t rows = 0;
    for (size_t c = 0; c < self->class_count; c++)
        rows += self->classes[c].stage_count + self->classes[c].fallback_count + 1;
    return rows;
}

int ei_cell_keep(ei_cell_state *self, const ei_request *request, uint32_t *place) {
    if (self->free_request == EI_NOBODY) {
        const size_t capacity = self->capacity > 0 ? 2 * self->capacity : 64;
        if (self->capacity >= ei_cell_most_present(self) || capacity >= EI_NOBODY)
            return EI_ERR_UNSTABLE;
        ei_request *requests = realloc(self->requests, capacity * sizeof *requests);
        if (requests == NULL)
            return EI_ERR_NO_MEMORY;
        for (size_t i = self->capacity; i < capacity; i++)
            requests[i].next = i + 1 < capacity ? (uint32_t)(i + 1) : EI_NOBODY;
        self->free_request = (uint32_t)self->capacity;
        self->requests = requests;
        self->capacity = capacity;
    }
    *place = self->free_request;
    self->free_request = self->requests[*place].next;
    self->requests[*place] = *request;
    return EI_OK;
}

void ei_cell_release(ei_cell_state *self, uint32_t place) {
    self->requests[place].next = self->free_request;
    self->free_request = place;
}

static const ei_route_stage *at_stage(const ei_cell_state *self, const ei_request *request) {
    return &self->routes[self->terminals[request->terminal].class_index].stages[request->stage];
}

/* Whether a request that leaves this stage will not come back to it. */
static int leaves_for_good(const ei_cell_state *self, const ei_request *request) {
    if (request->rounds <= 1)
        return 1;
    const ei_cell_class *class = &self->model->classes[self->terminals[request->terminal].class_index];
    return request->stage < class->loop_first || request->stage > class->loop_last;
}

void ei_cell_count(ei_cell_state *self, size_t row, double time, double sojourn, double waiting, int last) {
    const size_t batch = ei_cell_batch(self, time), deadlines = self->model->deadline_count;
    if (batch == self->model->batches)
        return;
    double *sums = self->rows + batch * self->batch_width + row * self->row_width;
    sums[EI_SUM_WAITING] += waiting;
    if (!last)
        return;
    sums[EI_SUM_JOBS] += 1;
    sums[EI_SUM_SOJOURN] += sojourn;
    for (size_t d = 0; d < deadlines; d++)
        sums[EI_SUMS + d] += sojourn > self->model->deadlines[d];
    self->histogram[row * EI_CELL_BINS + ei_cell_bin(sojourn)]++;
}

static void count(ei_cell_state *self, const ei_request *request, size_t row, double time, double waiting) {
    ei_cell_count(self, row, time, time - request->born, waiting, leaves_for_good(self, request));
}

void ei_cell_leave(ei_cell_state *self, const ei_request *request, double time, double waiting) {
    count(self, request, at_stage(self, request)->row, time, waiting);
}

void ei_cell_busy(ei_cell_state *self, const ei_request *request, double from, double to, double amount) {
    double *sums = self->rows + at_stage(self, request)->row * self->row_width + EI_SUM_BUSY;
    ei_cell_add_busy(self, sums, self->batch_width, from, to, amount);
}

static void count_class(ei_cell_state *self, uint32_t terminal, double time, size_t sum, double amount) {
    const size_t batch = ei_cell_batch(self, time), classes = self->model->class_count;
    if (batch < self->model->batches)
        self->classes[(batch * classes + self->terminals[terminal].class_index) * self->class_width + sum] +=
            amount;
}

/* The answer is there. */
static void finish(ei_cell_state *self, const ei_request *request, double time) {
    ei_terminal *terminal = &self->terminals[request->terminal];
    if (self->model->classes[terminal->class_index].fallback_count > 0)
        count(self, request, at_stage(self, request)->row, time, 0);
    if (ei_cell_batch(self, time) < self->model->batches) {
        terminal->answers += 1;
        terminal->sojourns += time - request->born;
        for (size_t d = 0; request->right && d < self->model->deadline_count; d++)
            if (time - request->born <= self->model->deadlines[d])
                count_class(self, request->terminal, time, EI_CLASS_SUMS + d, 1);
        if (request->born > terminal->latest) {
            count_class(self, request->terminal, time, EI_CLASS_PEAKS, 1);
            count_class(self, request->terminal, time, EI_CLASS_PEAK_AGE, time - terminal->latest);
        }
    }
    if (!(request->born <= terminal->latest))
        terminal->latest = request->born;
}

int ei_cell_refuse(ei_cell_state *self, ei_request *request, double time) {
    const ei_cell_class *class = &self->model->classes[self->terminals[request->terminal].class_index];
    count_class(self, request->terminal, time,
                class->fallback_count > 0 ? EI_CLASS_REDIRECTED : EI_CLASS_LOST, 1);
    if (class->fallback_count == 0)
        return EI_OK;
    request->stage = (uint32_t)class->stage_count + 1;
    request->rounds = request->right = 0;
    return ei_cell_travel(self, request, time);
}

static size_t node_of(ei_cell_state *self, uint32_t terminal) {
    const size_t nodes = self->model->node_count;
    size_t best = 0;
    if (nodes == 1)
        return 0;
    switch (self->model->assignment) {
    case EI_ASSIGN_RANDOM:
        best = (size_t)((1 - ei_rng_uniform(&self->rng)) * (double)nodes);
        return best < nodes ? best : nodes - 1;
    case EI_ASSIGN_LEAST_LOADED:
        for (size_t i = 1; i < nodes; i++)
            if (self->nodes[i].present * self->model->nodes[best].servers <
                self->nodes[best].present * self->model->nodes[i].servers)
                best = i;
        return best;
    default:
        return self->terminals[terminal].node;
    }
}

/* What the terminal has for itself: when the request leaves it. */
static double pass(ei_cell_state *self, const ei_route_stage *at, const ei_request *request, double time) {
    const ei_cell_stage *stage = at->stage;
    const size_t own = self->terminals[request->terminal].own;
    double start = time, end, left;
    if (stage->place == EI_PLACE_PARTS) {
        double alone;
        left = end = ei_cell_parts_pass(self, stage, own, time, &alone);
        start = end - alone;
    } else if (stage->place == EI_PLACE_OWN) {
        double *free_at = &self->free_at[own + stage->server];
        start = *free_at > time ? *free_at : time;
        *free_at = end = start + ei_cell_serve(self, own + stage->server, stage->service, start);
        left = end + stage->latency;
    } else {
        left = end = time + ei_sampler_draw(&self->samplers[stage->service], &self->rng);
    }
    ei_cell_add_busy(self, self->rows + at->row * self->row_width + EI_SUM_BUSY, self->batch_width, start,
                     end, 1);
    count(self, request, at->row, left, fmax(start - time, 0));
    return left;
}

/* The arrival at the first stage may be the event that is being handled. */
static int travel(ei_cell_state *self, ei_request *request, double time, int handled) {
    for (;; handled = 0) {
        const ei_route_stage *at = at_stage(self, request);
        uint32_t place;
        int status;
        if (at->stage == NULL) {
            finish(self, request, time);
            return EI_OK;
        }
        if (at->event && !handled && time > self->now) {
            if ((status = ei_cell_keep(self, request, &place)) != EI_OK)
                return status;
            return ei_heap_push(&self->transit, time, self->order++, place);
        }
        if (at->stage->place == EI_PLACE_BAND)
            return ei_band_arrive(self, at->stage->server, request, time);
        if (at->stage->place == EI_PLACE_NODE && at->stage->skip > 0 &&
            ei_rng_uniform(&self->rng) <= at->stage->skip) {
            count(self, request, at->row, time, 0);
        } else if (at->stage->place == EI_PLACE_NODE) {
            status = ei_node_arrive(self, node_of(self, request->terminal), request, time, &time);
            if (status != EI_OK || isnan(time))
                return status;
        } else {
            time = pass(self, at, request, time);
        }
        ei_cell_advance(self, request);
    }
}

int ei_cell_travel(ei_cell_state *self, ei_request *request, double time) {
    return travel(self, request, time, 0);
}

/* Draws a terminal's next request and carries it to the stage where it becomes an event: the time there. */
static double next_source(ei_cell_state *self, uint32_t index, double born) {
    ei_terminal *terminal = &self->terminals[index];
    const ei_route *route = &self->routes[terminal->class_index];
    const ei_request request = {.born = born, .terminal = index};
    terminal->born = born;
    double time = born;
    count_class(self, index, born, EI_CLASS_OFFERED, 1);
    for (uint32_t k = 0; k < route->source; k++)
        time = pass(self, &route->stages[k], &request, time);
    return time;
}

/* Draws how many rounds a request takes, and whether its answer is right. */
static void draw_rounds(ei_cell_state *self, const ei_cell_class *class, ei_request *request) {
    if (class->round_count == 0)
        return;
    double left = ei_rng_uniform(&self->rng) - class->rounds[0];
    uint32_t more = 0;
    while (left > 0 && more + 1 < class->round_count)
        left -= class->rounds[++more];
    request->rounds = more + 1;
    request->right = class->right != NULL && ei_rng_uniform(&self->rng) <= class->right[more];
}

static int source_event(ei_cell_state *self) {
    const uint32_t index = (uint32_t)self->sources.entries[0].item;
    ei_terminal *terminal = &self->terminals[index];
    ei_request request = {.born = terminal->born,
                          .entered = self->now,
                          .terminal = index,
                          .stage = self->routes[terminal->class_index].source};
    const ei_cell_class *class = &self->model->classes[terminal->class_index];
    draw_rounds(self, class, &request);
    int status = travel(self, &request, self->now, 1);
    const ei_arrival *arrival = &class->arrival;
    double interval = ei_arrival_next(arrival, &terminal->arrival, &self->rng);
    double time = next_source(self, index, terminal->born + interval);
    ei_heap_replace(&self->sources, time, index, index);
    return status;
}

static int transit_event(ei_cell_state *self) {
    const uint32_t place = (uint32_t)ei_heap_pop(&self->transit).item;
    ei_request request = self->requests[place];
    ei_cell_release(self, place);
    return travel(self, &request, self->now, 1);
}

static int follow(ei_cell_state *self, ei_parallel *run) {
    const size_t nodes = self->model->node_count, stations = nodes + self->model->band_count;
    int status = EI_OK;
    for (uint64_t events = 0; status == EI_OK; events++) {
        if (events % CHUNK == 0 && ei_parallel_stopped(run))
            return EI_ERR_INTERRUPTED;
        const double source = ei_heap_first(&self->sources), transit = ei_heap_first(&self->transit);
        double time = source < transit ? source : transit;
        size_t station = stations;
        for (size_t i = 0; i < stations; i++)
            if (self->next[i] < time) {
                time = self->next[i];
                station = i;
            }
        if (!(time < self->end))
            return EI_OK;
        self->now = time;
        if (station < nodes)
            status = ei_node_event(self, station);
        else if (station < stations)
            status = ei_band_event(self, station - nodes);
        else if (source < transit)
            status = source_event(self);
        else
            status = transit_event(self);
    }
    return status;
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
            int status = ei_heap_push(&self->sources, next_source(self, index, born), index, index);
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

/* Whether a node is one FIFO server whose requests leave in the order in which they come and need no event.
 */
static int is_simple(const ei_cell *model, const ei_cell_node *node) {
    for (size_t c = 0; c < model->class_count; c++)
        for (size_t k = 0; k < model->classes[c].stage_count; k++)
            if (model->classes[c].stages[k].skip > 0)
                return 0;
    return node->servers == 1 && node->scheduler == EI_NODE_FIFO && node->batch_limit == 1 &&
           !(node->batch_fixed > 0) && node->capacity == 0 &&
           (model->node_count == 1 || model->assignment == EI_ASSIGN_NEAREST);
}

/* Whether requests meet own servers, delays and one simple node at most, each of them once. */
static int only_forward(const run_context *context) {
    const ei_cell *model = context->model;
    for (size_t i = 0; i < model->node_count; i++)
        if (!is_simple(model, &model->nodes[i]))
            return 0;
    for (size_t c = 0; c < model->class_count; c++) {
        const ei_cell_class *class = &model->classes[c];
        size_t nodes = 0;
        for (size_t k = 0; k < class->stage_count; k++) {
            if (class->stages[k].place == EI_PLACE_BAND)
                return 0;
            nodes += class->stages[k].place == EI_PLACE_NODE;
        }
        if (nodes > 1 || class->fallback_count > 0 || class->round_count > 0 || context->routes[c].shared)
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
        ei_node_init(&self->nodes[i], &model->nodes[i], is_simple(model, &model->nodes[i]));
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
        status = context->forward ? ei_cell_forward(&state, run) : follow(&state, run);
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

static int verify_stage(const ei_cell *self, const ei_cell_class *class, const ei_cell_stage *stage,
                        int fallback) {
    int ordered;
    switch (stage->place) {
    case EI_PLACE_OWN:
        return stage->server < class->server_count && stage->service < self->service_count &&
               stage->latency >= 0 && isfinite(stage->latency);
    case EI_PLACE_DELAY:
        return stage->service < self->service_count &&
               self->services[stage->service].kind != EI_SERVICE_CHANNEL;
    case EI_PLACE_NODE:
        if (fallback || self->node_count == 0 || stage->service + self->node_count > self->service_count ||
            !(stage->skip >= 0 && stage->skip <= 1))
            return 0;
        for (size_t i = 0; i < self->node_count; i++)
            if (self->services[stage->service + i].kind == EI_SERVICE_CHANNEL)
                return 0;
        return 1;
    case EI_PLACE_BAND:
        return !fallback && stage->server < self->band_count && stage->service < self->service_count &&
               self->services[stage->service].kind == EI_SERVICE_TRANSFER;
    case EI_PLACE_PARTS:
        return ei_cell_parts_verify(self, class, stage, &ordered) == EI_OK;
    }
    return 0;
}

static int verify_rounds(const ei_cell_class *class) {
    double sum = 0;
    for (size_t n = 0; n < class->round_count; n++) {
        sum += class->rounds[n];
        if (!(class->rounds[n] >= 0) ||
            (class->right != NULL && !(class->right[n] >= 0 && class->right[n] <= 1)))
            return 0;
    }
    return class->round_count == 0 ||
           (fabs(sum - 1) < 1e-6 && class->round_count < UINT32_MAX &&
            class->loop_first <= class->loop_last && class->loop_last < class->stage_count);
}

static int verify(const ei_cell *self) {
    if (self->class_count == 0 || self->replications == 0 || self->batches == 0)
        return EI_ERR_EMPTY;
    if (ei_lane_loops_of(self->width) == NULL)
        return EI_ERR_DOMAIN;
    if (!(self->warmup >= 0) || !(self->duration > 0) || !isfinite(self->warmup + self->duration))
        return EI_ERR_DOMAIN;
    for (size_t d = 0; d < self->deadline_count; d++)
        if (isnan(self->deadlines[d]))
            return EI_ERR_DOMAIN;
    for (size_t i = 0; i < self->node_count; i++) {
        const ei_cell_node *node = &self->nodes[i];
        const int sharing = node->scheduler == EI_NODE_PROCESSOR_SHARING;
        if (node->servers == 0 || node->batch_limit == 0 || !(node->batch_wait >= 0) ||
            !(node->batch_fixed >= 0) || (sharing && node->batch_limit > 1) ||
            (node->capacity > 0 && node->capacity < node->batch_limit && node->batch_wait == INFINITY))
            return EI_ERR_DOMAIN;
    }
    for (size_t i = 0; i < self->band_count; i++)
        if (!(self->bands[i].slot > 0) || !isfinite(self->bands[i].slot) ||
            (self->bands[i].scheduler == EI_BAND_PROPORTIONAL_FAIR && !(self->bands[i].averaging > 1)))
            return EI_ERR_DOMAIN;
    for (size_t c = 0; c < self->class_count; c++) {
        const ei_cell_class *class = &self->classes[c];
        if (class->count == 0 || class->stage_count == 0)
            return EI_ERR_EMPTY;
        if (!(ei_arrival_mean(&class->arrival) > 0) || isnan(class->priority) || !(class->weight > 0) ||
            isnan(class->deadline) || !verify_rounds(class))
            return EI_ERR_DOMAIN;
        for (size_t k = 0; k < class->stage_count + class->fallback_count; k++)
            if (!verify_stage(self, class, &class->stages[k], k >= class->stage_count))
                return EI_ERR_DOMAIN;
        for (size_t i = 0; class->nearest != NULL && i < class->count; i++)
            if (class->nearest[i] >= self->node_count)
                return EI_ERR_DOMAIN;
    }
    return EI_OK;
}

/* Whether a stage has this one of the terminal's servers. */
static int has_server(const ei_cell_stage *stage, size_t server) {
    if (stage->place == EI_PLACE_OWN)
        return stage->server == server;
    for (size_t i = 0; stage->place == EI_PLACE_PARTS && i < stage->part_count; i++)
        if ((stage->parts[i].kind == EI_NODE_SERVER || stage->parts[i].kind == EI_NODE_REVIEW) &&
            stage->parts[i].server == server)
            return 1;
    return 0;
}

/* Whether another stage has one of this one's servers. */
static int shares_server(const ei_cell_class *class, size_t k) {
    for (size_t server = 0; server < class->server_count; server++)
        if (has_server(&class->stages[k], server))
            for (size_t i = 0; i < class->stage_count + class->fallback_count; i++)
                if (i != k && has_server(&class->stages[i], server))
                    return 1;
    return 0;
}

/* Marks the stages that requests could reach out of order if their arrival were no event. */
static void mark_events(ei_route *self, const ei_cell *model, const ei_cell_class *class) {
    const size_t main = class->stage_count, all = main + class->fallback_count;
    int ordered = 1;
    for (size_t k = 0; k < all; k++) {
        const ei_cell_stage *stage = &class->stages[k];
        ei_route_stage *route = &self->stages[k + (k >= main)];
        int keeps = 1;
        if (k == main)
            ordered = 1;
        if (class->round_count > 1 && k == class->loop_first)
            ordered = 0; /* who comes again, and who comes */
        if (stage->place == EI_PLACE_DELAY) {
            ordered = ordered && model->services[stage->service].kind == EI_SERVICE_DETERMINISTIC;
            continue;
        }
        if (stage->place == EI_PLACE_PARTS && ei_cell_parts_verify(model, class, stage, &keeps) != EI_OK)
            keeps = 0;
        const int shares = shares_server(class, k);
        self->shared = self->shared || shares;
        route->event = stage->place == EI_PLACE_NODE || stage->place == EI_PLACE_BAND || !ordered || shares;
        ordered = keeps;
    }
}

static int build_route(ei_route *self, const ei_cell *model, const ei_cell_class *class, size_t *row) {
    const size_t main = class->stage_count, all = main + class->fallback_count;
    self->stages = calloc(all + 2, sizeof *self->stages);
    if (self->stages == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < all; k++)
        self->stages[k + (k >= main)] = (ei_route_stage){&class->stages[k], 0, *row + k};
    mark_events(self, model, class);
    *row += all;
    self->stages[main].row = self->stages[all + 1].row = (*row)++;
    uint32_t source = 0;
    while (self->stages[source].stage != NULL && !self->stages[source].event &&
           (self->stages[source].stage->place == EI_PLACE_OWN ||
            self->stages[source].stage->place == EI_PLACE_PARTS))
        source++;
    self->source = self->stages[source].event ? source : 0;
    return EI_OK;
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
    int status = verify(self);
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
        if ((status = build_route(&context.routes[c], self, &self->classes[c], &row)) != EI_OK)
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
