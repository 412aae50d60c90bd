#include "edgeinfer/cell_state.h"

/* A cell followed event by event: what a request does at each stage, and what is counted of it. */

/* Events between two looks at the monitor. */
enum { CHUNK = 4096 };

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
        if (at->event && !handled && time > self->now) {
            if ((status = ei_cell_keep(self, request, &place)) != EI_OK)
                return status;
            return ei_heap_push(&self->transit, time, self->order++, place);
        }
        if (at->stage == NULL) {
            finish(self, request, time);
            return EI_OK;
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

double ei_cell_next_source(ei_cell_state *self, uint32_t index, double born) {
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
    double time = ei_cell_next_source(self, index, terminal->born + interval);
    ei_heap_replace(&self->sources, time, index, index);
    return status;
}

static int transit_event(ei_cell_state *self) {
    const uint32_t place = (uint32_t)ei_heap_pop(&self->transit).item;
    ei_request request = self->requests[place];
    ei_cell_release(self, place);
    return travel(self, &request, self->now, 1);
}

int ei_cell_follow(ei_cell_state *self, ei_parallel *run) {
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
