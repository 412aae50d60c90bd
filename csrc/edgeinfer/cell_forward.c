#include "edgeinfer/cell_state.h"
#include "edgeinfer/cell_transit.h"
#include "edgeinfer/lanes.h"
#include "edgeinfer/parallel.h"

/* Cells whose requests only go forward, through servers that are all first come, first served: start =
 * max(arrival, free) at each, so that requests need no events and are followed in blocks, stage by stage,
 * their random numbers drawn in lanes.
 *
 * Order. Requests are drawn up to a horizon; all others come to the cell at the horizon or later, and so to
 * every stage. Those on their way to a stage that must meet them in order of time wait in its `transit`: what
 * reaches it before the horizon is complete, can be sorted and served, and reaches the next stages in turn.
 *
 * Poisson streams of all terminals are one Poisson stream whose requests pick their terminals independently.
 * Other processes are followed terminal by terminal, over one window of time after the other. */

enum {
    BLOCK = EI_PASSAGES * EI_LANES, /* requests */
    CHUNK = 64 * BLOCK              /* requests and terminals between two looks at the monitor */
};

typedef struct {
    ei_passages at;
    uint32_t terminal[BLOCK];
    size_t count;
} block;

typedef struct {
    block work;                          /* of one class */
    block mixed;                         /* of several, from the first stage or to the nodes */
    uint32_t class[BLOCK], order[BLOCK]; /* of the mixed: classes; places by class */
    ei_row uniform[EI_PASSAGES], interval[EI_PASSAGES];
    ei_cell_state *cell;
    ei_transit *transits; /* [transit_count]: the nodes', and one for each row */
    size_t transit_count;
    uint32_t *first, *ends; /* [classes + 1]: each class's first terminal; where its places end */
    size_t *node;           /* [classes], its stage at a node, or the number of its stages */
    size_t batch;           /* in which all of the work left the last stage, or the number of batches */
    size_t unpolled;        /* requests and terminals since the last look at the monitor */
    double horizon;         /* of the sources */
    size_t drawn, pending;  /* requests since all that was complete was served; then left in transits */
    double complete;        /* where the work comes from, nobody is left before it */
    double rate;            /* of all terminals together, 1/s */
    int poisson;
} forward;

static int send(forward *self, ei_transit *to, uint32_t class) {
    const block *work = &self->work;
    const double *time = work->at.time->lane, *born = work->at.born->lane, *service = work->at.service->lane;
    int status = ei_transit_reserve(to, work->count, ei_cell_most_present(self->cell));
    if (status != EI_OK)
        return status;
    for (size_t j = 0; j < work->count; j++)
        to->passages[to->count + j] = (ei_passage){time[j], born[j], service[j], work->terminal[j], class};
    to->count += work->count;
    return EI_OK;
}

/* Whether the block may pass as it is: in order, and nobody is to come before it. */
static int is_next(const forward *self, const ei_transit *to) {
    const block *work = &self->work;
    const double *time = work->at.time->lane;
    int ordered = to->class != EI_NOBODY && to->count == 0 && time[work->count - 1] <= self->complete;
    for (size_t j = 1; ordered && j < work->count; j++)
        ordered = time[j - 1] <= time[j];
    return ordered;
}

/* Draws the services of the block at a stage of its class. */
static void draw_services(forward *self, const ei_cell_stage *stage) {
    ei_cell_state *cell = self->cell;
    block *work = &self->work;
    double *service = work->at.service->lane;
    if (stage->place == EI_PLACE_NODE && cell->model->node_count > 1) {
        for (size_t j = 0; j < work->count; j++)
            service[j] = ei_sampler_draw(
                &cell->samplers[stage->service + cell->terminals[work->terminal[j]].node], &cell->rng);
        return;
    }
    const ei_sampler *sampler = &cell->samplers[stage->service];
    if (sampler->service.kind == EI_SERVICE_DETERMINISTIC)
        for (size_t j = 0; j < work->count; j++)
            service[j] = sampler->service.time;
    else
        cell->loops->services(sampler, &cell->streams, (work->count + EI_LANES - 1) / EI_LANES,
                              work->at.service);
}

/* One block, in order of time, at the nodes. */
static void serve_nodes(forward *self, block *here) {
    ei_cell_state *cell = self->cell;
    const double *restrict time = here->at.time->lane, *restrict service = here->at.service->lane;
    double *restrict start = here->at.start->lane, *restrict end = here->at.end->lane;
    const size_t count = here->count;
    if (cell->model->node_count > 1) {
        for (size_t j = 0; j < count; j++) {
            const size_t index = cell->terminals[here->terminal[j]].node;
            double *free_at = &cell->nodes[index].free_at;
            start[j] = *free_at > time[j] ? *free_at : time[j];
            *free_at = end[j] = start[j] + service[j];
            ei_node_count(cell, index, 1, start[j], end[j]);
        }
        return;
    }
    double free_at = cell->nodes[0].free_at, busy = 0;
    for (size_t j = 0; j < count; j++) {
        start[j] = free_at > time[j] ? free_at : time[j];
        free_at = end[j] = start[j] + service[j];
        busy += end[j] - start[j];
    }
    cell->nodes[0].free_at = free_at;
    const size_t batch = ei_cell_common_batch(cell, start[0], free_at);
    if (batch < cell->model->batches) {
        double *sums = cell->node_sums + batch * EI_NODE_SUMS;
        sums[EI_NODE_JOBS] += (double)count;
        sums[EI_NODE_BATCHES] += (double)count;
        sums[EI_NODE_BUSY] += busy;
    } else {
        for (size_t j = 0; j < count; j++)
            ei_node_count(cell, 0, 1, start[j], end[j]);
    }
}

/* The block at what each terminal has for itself; the services are drawn. */
static void serve_own(forward *self, uint32_t class_index, const ei_cell_stage *stage) {
    ei_cell_state *cell = self->cell;
    block *work = &self->work;
    const uint32_t first = self->first[class_index];
    const size_t own = cell->terminals[first].own, each = cell->model->classes[class_index].server_count;
    const double *restrict service = work->at.service->lane, *restrict time = work->at.time->lane;
    double *restrict start = work->at.start->lane, *restrict end = work->at.end->lane;
    if (stage->place == EI_PLACE_DELAY) {
        for (size_t j = 0; j < work->count; j++) {
            start[j] = time[j];
            end[j] = time[j] + service[j];
        }
    } else if (stage->place == EI_PLACE_PARTS) {
        for (size_t j = 0; j < work->count; j++) {
            double alone;
            end[j] =
                ei_cell_parts_pass(cell, stage, own + (work->terminal[j] - first) * each, time[j], &alone);
            start[j] = fmax(end[j] - alone, time[j]); /* but for rounding, that is not earlier */
        }
    } else if (cell->samplers[stage->service].service.kind == EI_SERVICE_CHANNEL) {
        for (size_t j = 0; j < work->count; j++) {
            const size_t server = own + (work->terminal[j] - first) * each + stage->server;
            double *free_at = &cell->free_at[server];
            start[j] = *free_at > time[j] ? *free_at : time[j];
            *free_at = end[j] = start[j] + ei_cell_serve(cell, server, stage->service, start[j]);
        }
    } else {
        double *free_of = cell->free_at + own + stage->server;
        for (size_t j = 0; j < work->count; j++) {
            double *free_at = &free_of[(work->terminal[j] - first) * each];
            start[j] = *free_at > time[j] ? *free_at : time[j];
            *free_at = end[j] = start[j] + service[j];
        }
    }
}

/* Fills the last row up. */
static size_t complete_rows(block *work, double latency) {
    double *time = work->at.time->lane, *born = work->at.born->lane, *start = work->at.start->lane,
           *end = work->at.end->lane;
    const size_t rows = (work->count + EI_LANES - 1) / EI_LANES;
    for (size_t j = work->count; j < rows * EI_LANES; j++) {
        time[j] = start[j] = end[j] = end[work->count - 1];
        born[j] = end[j] + latency;
    }
    return rows;
}

/* The block leaves a stage, `latency` after the services: adds it to the sums of the row. */
static void leave(forward *self, size_t row, double latency) {
    ei_cell_state *cell = self->cell;
    block *work = &self->work;
    ei_passages *at = &work->at;
    const size_t count = work->count, rows = complete_rows(work, latency), unused = rows * EI_LANES - count;
    double *sums = cell->rows + row * cell->row_width;
    self->batch = ei_cell_batch(cell, at->end->lane[0] + latency);
    const double window[2] = {cell->batch_from, cell->batch_to};
    if (!cell->loops->pass(at, rows, latency, window))
        self->batch = cell->model->batches;
    if (self->batch == cell->model->batches) {
        const double *time = at->time->lane, *start = at->start->lane, *end = at->end->lane,
                     *left = at->left->lane, *sojourn = at->sojourn->lane;
        for (size_t j = 0; j < count; j++) {
            ei_cell_add_busy(cell, sums + EI_SUM_BUSY, cell->batch_width, start[j], end[j], 1);
            ei_cell_count(cell, row, left[j], sojourn[j], fmax(start[j] - time[j], 0), 1);
        }
    } else {
        uint64_t *histogram = cell->histogram + row * EI_CELL_BINS;
        const double *sojourn = at->sojourn->lane;
        for (size_t j = 0; j < count; j++)
            histogram[ei_cell_bin(sojourn[j])]++;
        sums += self->batch * cell->batch_width;
        sums[EI_SUM_JOBS] += (double)count;
        sums[EI_SUM_SOJOURN] += at->total;
        sums[EI_SUM_WAITING] += at->waiting;
        sums[EI_SUM_BUSY] += at->busy;
        for (size_t d = 0; d < cell->model->deadline_count; d++) {
            const double limit = cell->model->deadlines[d];
            sums[EI_SUMS + d] +=
                (double)(cell->loops->above(at->sojourn, rows, limit) - (limit < 0 ? unused : 0));
        }
    }
    memcpy(at->time, at->left, rows * sizeof *at->left);
}

/* The answers of the block, which has left the last stage. */
static void finish(forward *self, size_t class) {
    ei_cell_state *cell = self->cell;
    const block *work = &self->work;
    const double *time = work->at.time->lane, *sojourn = work->at.sojourn->lane, *born = work->at.born->lane;
    const size_t stride = cell->model->class_count * cell->class_width, batches = cell->model->batches;
    const int common = self->batch < batches;
    double *sums = cell->classes + class * cell->class_width + EI_CLASS_PEAKS, peaks = 0, ages = 0;
    for (size_t j = 0; j < work->count; j++) {
        ei_terminal *terminal = &cell->terminals[work->terminal[j]];
        const size_t batch = common ? self->batch : ei_cell_batch(cell, time[j]);
        if (batch < batches) {
            terminal->answers += 1;
            terminal->sojourns += sojourn[j];
        }
        if (batch < batches && born[j] > terminal->latest) {
            peaks += 1;
            ages += time[j] - terminal->latest;
        }
        if (!(born[j] <= terminal->latest))
            terminal->latest = born[j];
        if (!common && peaks > 0) {
            sums[batch * stride] += peaks;
            sums[batch * stride + 1] += ages;
            peaks = ages = 0;
        }
    }
    if (common) {
        sums[self->batch * stride] += peaks;
        sums[self->batch * stride + 1] += ages;
    }
}

/* The block of a class goes on from one of its stages; `served`: that is a node, and it has been served
 * there; `ordered`: it is the next to be served there. */
static int go_on(forward *self, uint32_t class, size_t stage, int ordered, int served) {
    const ei_cell_state *cell = self->cell;
    const size_t stages = cell->model->classes[class].stage_count;
    for (; stage < stages; stage++, ordered = served = 0) {
        const ei_route_stage *at = &cell->routes[class].stages[stage];
        const int node = at->stage->place == EI_PLACE_NODE;
        ei_transit *way = &self->transits[node ? 0 : 1 + at->row];
        if (node && !ordered && !served)
            draw_services(self, at->stage);
        if (at->event && !ordered && !served && !is_next(self, way))
            return send(self, way, class);
        if (node && !served)
            serve_nodes(self, &self->work);
        if (!node && at->stage->place != EI_PLACE_PARTS)
            draw_services(self, at->stage);
        if (!node)
            serve_own(self, class, at->stage);
        leave(self, at->row, at->stage->latency);
    }
    finish(self, class);
    return EI_OK;
}

/* The block, new to the cell. */
static int enter(forward *self, uint32_t class) {
    ei_cell_state *cell = self->cell;
    block *work = &self->work;
    double *sums = cell->classes + class * cell->class_width + EI_CLASS_OFFERED;
    if (work->count == 0)
        return EI_OK;
    const double *born = work->at.born->lane;
    memcpy(work->at.time, born, work->count * sizeof *born);
    const size_t stride = cell->model->class_count * cell->class_width,
                 common = ei_cell_common_batch(cell, born[0], born[work->count - 1]);
    if (self->poisson && common < cell->model->batches) {
        sums[common * stride] += (double)work->count;
    } else {
        for (size_t j = 0; j < work->count; j++) {
            const size_t batch = ei_cell_batch(cell, born[j]);
            if (batch < cell->model->batches)
                sums[batch * stride] += 1;
        }
    }
    self->drawn += work->count;
    int status = go_on(self, class, 0, 0, 0);
    work->count = 0;
    return status;
}

/* Orders the places of the mixed by class, within a class as they are. */
static void group(forward *self) {
    const size_t classes = self->cell->model->class_count;
    memset(self->ends, 0, (classes + 1) * sizeof *self->ends);
    for (size_t j = 0; j < self->mixed.count; j++)
        self->ends[self->class[j] + 1]++;
    for (size_t c = 1; c < classes; c++)
        self->ends[c + 1] += self->ends[c];
    for (size_t j = 0; j < self->mixed.count; j++)
        self->order[self->ends[self->class[j]]++] = (uint32_t)j;
}

/* The mixed go on class by class: served at the nodes, or new to the cell. */
static int go_by_class(forward *self, int served) {
    const ei_passages *mixed = &self->mixed.at;
    const double *from[] = {mixed->born->lane, mixed->time->lane, mixed->start->lane, mixed->end->lane};
    block *work = &self->work;
    double *to[] = {work->at.born->lane, work->at.time->lane, work->at.start->lane, work->at.end->lane};
    int status = EI_OK;
    group(self);
    for (uint32_t c = 0, begin = 0; status == EI_OK && c < self->cell->model->class_count; c++) {
        work->count = self->ends[c] - begin;
        for (size_t j = 0; j < work->count; j++) {
            const size_t place = self->order[begin + j];
            work->terminal[j] = self->mixed.terminal[place];
            for (int i = 0; i < (served ? 4 : 1); i++)
                to[i][j] = from[i][place];
        }
        begin = self->ends[c];
        if (!served)
            status = enter(self, c);
        else if (work->count > 0)
            status = go_on(self, c, self->node[c], 0, 1);
    }
    return status;
}

/* Serves those on their way to a stage that reach it before the horizon. */
static int arrive(forward *self, ei_transit *way) {
    const size_t number = ei_transit_sort(way, self->horizon);
    block *into = way->class == EI_NOBODY ? &self->mixed : &self->work;
    int status = EI_OK;
    for (size_t from = 0; from < number && status == EI_OK; from += BLOCK) {
        into->count = number - from < BLOCK ? number - from : BLOCK;
        self->complete = from + BLOCK < number ? way->sorted[from + BLOCK].time : self->horizon;
        double *time = into->at.time->lane, *born = into->at.born->lane, *service = into->at.service->lane;
        for (size_t j = 0; j < into->count; j++) {
            const ei_passage *one = &way->sorted[from + j];
            time[j] = one->time;
            born[j] = one->born;
            into->terminal[j] = one->terminal;
            self->class[j] = one->class_index;
            service[j] = one->service;
        }
        if (way->class != EI_NOBODY) {
            status = go_on(self, way->class, way->stage, 1, 0);
            continue;
        }
        serve_nodes(self, into);
        status = go_by_class(self, 1);
    }
    self->work.count = 0;
    self->pending += way->count;
    return status;
}

/* The stages first .. last - 1 of a class, those that must be reached in order. */
static int arrive_at_stages(forward *self, size_t class, size_t first, size_t last) {
    int status = EI_OK;
    for (size_t k = first; k < last && status == EI_OK; k++) {
        const ei_route_stage *at = &self->cell->routes[class].stages[k];
        if (at->event)
            status = arrive(self, &self->transits[1 + at->row]);
    }
    return status;
}

/* Serves all that is complete, stage after stage: those before the nodes, the nodes, those behind; once
 * those that are not need no more time than the others. */
static int arrive_everywhere(forward *self) {
    const ei_cell *model = self->cell->model;
    int status = EI_OK;
    if (isfinite(self->horizon) && self->drawn < self->pending)
        return status;
    self->drawn = self->pending = 0;
    for (size_t c = 0; c < model->class_count && status == EI_OK; c++)
        status = arrive_at_stages(self, c, 0, self->node[c]);
    if (status == EI_OK)
        status = arrive(self, &self->transits[0]);
    for (size_t c = 0; c < model->class_count && status == EI_OK; c++)
        status = arrive_at_stages(self, c, self->node[c] + 1, model->classes[c].stage_count);
    return status;
}

static int stopped(forward *self, size_t more, ei_parallel *run) {
    self->unpolled += more;
    if (self->unpolled < CHUNK)
        return 0;
    self->unpolled = 0;
    return ei_parallel_stopped(run);
}

/* The terminal of class *class that a uniform on (0, 1] picks, in proportion to rates. */
static uint32_t pick(const forward *self, double uniform, uint32_t *class) {
    const ei_cell *model = self->cell->model;
    double left = (1 - uniform) * self->rate;
    uint32_t c = 0;
    for (; c + 1 < model->class_count; c++) {
        const double share = (double)model->classes[c].count * model->classes[c].arrival.parameter[0];
        if (left < share)
            break;
        left -= share;
    }
    *class = c;
    const double place = left / model->classes[c].arrival.parameter[0];
    const uint32_t count = self->first[c + 1] - self->first[c], at = (uint32_t)place;
    return self->first[c] + (at < count ? at : count - 1);
}

/* The next of all Poisson requests. */
static int draw_poisson(forward *self) {
    ei_cell_state *cell = self->cell;
    const int several = cell->model->class_count > 1;
    block *into = several ? &self->mixed : &self->work;
    const double *uniform = self->uniform->lane, *interval = self->interval->lane;
    double *born = into->at.born->lane;
    double time = self->horizon;
    cell->loops->exponentials(&cell->streams, EI_PASSAGES, -EI_LN2 / self->rate, self->interval);
    cell->loops->uniforms(&cell->streams, EI_PASSAGES, self->uniform);
    size_t count = 0;
    for (; count < BLOCK; count++) {
        time += interval[count];
        if (!(time < cell->end))
            break;
        born[count] = time;
    }
    into->count = count;
    self->horizon = self->complete = count < BLOCK ? INFINITY : time;
    if (several) {
        for (size_t j = 0; j < count; j++)
            into->terminal[j] = pick(self, uniform[j], &self->class[j]);
        return go_by_class(self, 0);
    }
    const double terminals = (double)cell->terminal_count;
    for (size_t j = 0; j < count; j++)
        into->terminal[j] = (uint32_t)((1 - uniform[j]) * terminals);
    return enter(self, 0);
}

/* All requests of the next window of time, terminal by terminal. */
static int draw_window(forward *self, ei_parallel *run) {
    ei_cell_state *cell = self->cell;
    block *work = &self->work;
    double *born = work->at.born->lane;
    const size_t number = cell->terminal_count > 4 * BLOCK ? cell->terminal_count : 4 * BLOCK;
    const double horizon = self->horizon + (double)number / self->rate,
                 end = horizon < cell->end ? horizon : cell->end;
    int status = EI_OK;
    self->complete = self->horizon;
    for (uint32_t c = 0; c < cell->model->class_count; c++) {
        const ei_arrival *arrival = &cell->model->classes[c].arrival;
        for (uint32_t i = self->first[c]; i < self->first[c + 1]; i++) {
            ei_terminal *terminal = &cell->terminals[i];
            if (stopped(self, 1, run))
                return EI_ERR_INTERRUPTED;
            while (terminal->born < end) {
                work->terminal[work->count] = i;
                born[work->count++] = terminal->born;
                terminal->born += ei_arrival_next(arrival, &terminal->arrival, &cell->rng);
                if (work->count < BLOCK)
                    continue;
                if ((status = enter(self, c)) != EI_OK)
                    return status;
                self->unpolled += BLOCK;
            }
        }
        if ((status = enter(self, c)) != EI_OK)
            return status;
    }
    self->horizon = horizon < cell->end ? horizon : INFINITY;
    return EI_OK;
}

static int build(forward *self) {
    const ei_cell *model = self->cell->model;
    self->transit_count = 1 + ei_cell_rows(model);
    self->transits = calloc(self->transit_count, sizeof *self->transits);
    self->first = calloc(model->class_count + 1, sizeof *self->first);
    self->ends = calloc(model->class_count + 1, sizeof *self->ends);
    self->node = calloc(model->class_count, sizeof *self->node);
    if (self->transits == NULL || self->first == NULL || self->ends == NULL || self->node == NULL)
        return EI_ERR_NO_MEMORY;
    size_t visitors = 0;
    for (uint32_t c = 0; c < model->class_count; c++) {
        const ei_cell_class *class = &model->classes[c];
        self->first[c + 1] = self->first[c] + (uint32_t)class->count;
        self->rate += (double)class->count / ei_arrival_mean(&class->arrival);
        self->node[c] = class->stage_count;
        for (size_t k = 0; k < class->stage_count; k++) {
            ei_transit *way = &self->transits[1 + self->cell->routes[c].stages[k].row];
            if (class->stages[k].place == EI_PLACE_NODE) {
                self->node[c] = k;
                way = &self->transits[0];
                visitors++;
            }
            way->class = c;
            way->stage = k;
        }
    }
    if (visitors > 1)
        self->transits[0].class = EI_NOBODY;
    return EI_OK;
}

int ei_cell_forward(ei_cell_state *cell, ei_parallel *run) {
    int status = EI_ERR_NO_MEMORY;
    forward *self = aligned_alloc(64, (sizeof *self + 63) / 64 * 64);
    if (self == NULL)
        return status;
    memset(self, 0, sizeof *self);
    self->cell = cell;
    self->poisson = cell->poisson;
    status = build(self);
    while (status == EI_OK && isfinite(self->horizon)) {
        if (stopped(self, BLOCK, run)) {
            status = EI_ERR_INTERRUPTED;
            break;
        }
        status = self->poisson ? draw_poisson(self) : draw_window(self, run);
        if (status == EI_OK)
            status = arrive_everywhere(self);
    }
    for (size_t i = 0; self->transits != NULL && i < self->transit_count; i++)
        ei_transit_free(&self->transits[i]);
    free(self->transits);
    free(self->first);
    free(self->ends);
    free(self->node);
    free(self);
    return status;
}
