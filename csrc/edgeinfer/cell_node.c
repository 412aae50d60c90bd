#include "edgeinfer/cell_state.h"

/* Where a waiting request stands in the queue: lower ranks first, equal ones in order of arrival. A new
 * scheduler without preemption is one such function. */
typedef double (*node_rank)(const ei_cell_class *class, const ei_request *request);

static double rank_none(const ei_cell_class *class, const ei_request *request) {
    (void)class;
    (void)request;
    return 0;
}

static double rank_priority(const ei_cell_class *class, const ei_request *request) {
    (void)request;
    return class->priority;
}

static double rank_deadline(const ei_cell_class *class, const ei_request *request) {
    return request->born + class->deadline;
}

static const node_rank ranks[] = {
    [EI_NODE_FIFO] = rank_none, [EI_NODE_PRIORITY] = rank_priority, [EI_NODE_EDF] = rank_deadline};

void ei_node_init(ei_node_state *self, const ei_cell_node *model, int simple) {
    *self =
        (ei_node_state){.model = model, .free_servers = model->servers, .timer = INFINITY, .simple = simple};
}

void ei_node_free(ei_node_state *self) {
    ei_heap_free(&self->waiting);
    ei_heap_free(&self->serving);
}

static double *node_sums(const ei_cell_state *cell, size_t index) {
    return cell->node_sums + index * EI_NODE_SUMS;
}

void ei_node_count(ei_cell_state *cell, size_t index, size_t size, double from, double to) {
    const size_t stride = cell->model->node_count * EI_NODE_SUMS, batch = ei_cell_batch(cell, to);
    double *sums = node_sums(cell, index);
    ei_cell_add_busy(cell, sums + EI_NODE_BUSY, stride, from, to, 1);
    if (batch < cell->model->batches) {
        sums[batch * stride + EI_NODE_JOBS] += (double)size;
        sums[batch * stride + EI_NODE_BATCHES] += 1;
    }
}

/* Processor sharing: service a second that each request gets. */
static double shared_rate(const ei_node_state *node) {
    const double count = (double)node->serving.count, servers = (double)node->model->servers;
    return count > servers ? servers / count : 1;
}

static void share_until(ei_cell_state *cell, size_t index, double time) {
    ei_node_state *node = &cell->nodes[index];
    const double count = (double)node->serving.count, servers = (double)node->model->servers;
    if (count > 0)
        ei_cell_add_busy(cell, node_sums(cell, index) + EI_NODE_BUSY, cell->model->node_count * EI_NODE_SUMS,
                         node->at, time, count < servers ? count : servers);
    node->attained = count > 0 ? node->attained + (time - node->at) * shared_rate(node) : 0;
    node->at = time;
}

static void plan_sharing(ei_cell_state *cell, size_t index) {
    const ei_node_state *node = &cell->nodes[index];
    double left = ei_heap_first(&node->serving) - node->attained;
    cell->next[index] = node->at + (left > 0 ? left : 0) / shared_rate(node);
}

/* The free servers take what waits. */
static int start_batches(ei_cell_state *cell, size_t index, double time) {
    ei_node_state *node = &cell->nodes[index];
    const ei_cell_node *model = node->model;
    int status = EI_OK;
    node->timer = INFINITY;
    while (node->free_servers > 0 && node->waiting.count > 0) {
        size_t size = node->waiting.count < model->batch_limit ? node->waiting.count : model->batch_limit;
        if (size < model->batch_limit) {
            double until = cell->requests[node->waiting.entries[0].item].entered + model->batch_wait;
            if (until > time) {
                node->timer = until;
                break;
            }
        }
        uint32_t head = EI_NOBODY, *link = &head;
        double total = model->batch_fixed;
        for (size_t i = 0; i < size; i++) {
            uint32_t place = (uint32_t)ei_heap_pop(&node->waiting).item;
            total += cell->requests[place].service;
            *link = place;
            link = &cell->requests[place].next;
        }
        *link = EI_NOBODY;
        for (uint32_t place = head; place != EI_NOBODY; place = cell->requests[place].next) {
            ei_request *request = &cell->requests[place];
            ei_cell_busy(cell, request, time, time + total, 1 / (double)size);
            request->service = time - request->entered; /* from here on, the wait */
        }
        node->free_servers--;
        ei_node_count(cell, index, size, time, time + total);
        if ((status = ei_heap_push(&node->serving, time + total, cell->order++, head)) != EI_OK)
            return status;
    }
    cell->next[index] = fmin(ei_heap_first(&node->serving), node->timer);
    return status;
}

int ei_node_arrive(ei_cell_state *cell, size_t index, ei_request *request, double time, double *left) {
    ei_node_state *node = &cell->nodes[index];
    const ei_cell_class *class = &cell->model->classes[cell->terminals[request->terminal].class_index];
    const ei_cell_stage *stage = &class->stages[request->stage];
    *left = NAN;
    if (node->model->capacity > 0 && node->present >= node->model->capacity)
        return ei_cell_refuse(cell, request, time);
    const double service = ei_sampler_draw(&cell->samplers[stage->service + index], &cell->rng);
    if (node->simple) {
        double start = node->free_at > time ? node->free_at : time;
        *left = node->free_at = start + service;
        ei_cell_busy(cell, request, start, *left, 1);
        ei_node_count(cell, index, 1, start, *left);
        ei_cell_leave(cell, request, *left, start - time);
        return EI_OK;
    }
    uint32_t place;
    request->entered = time;
    request->service = service;
    int status = ei_cell_keep(cell, request, &place);
    if (status != EI_OK)
        return status;
    node->present++;
    if (node->model->scheduler == EI_NODE_PROCESSOR_SHARING) {
        share_until(cell, index, time);
        if ((status = ei_heap_push(&node->serving, node->attained + service, cell->order++, place)) == EI_OK)
            plan_sharing(cell, index);
        return status;
    }
    double rank = ranks[node->model->scheduler](class, request);
    if ((status = ei_heap_push(&node->waiting, rank, cell->order++, place)) != EI_OK)
        return status;
    return node->free_servers > 0 ? start_batches(cell, index, time) : EI_OK;
}

/* A request leaves the node for its next stage. */
static int send_on(ei_cell_state *cell, uint32_t place, double time, double waiting) {
    ei_request request = cell->requests[place];
    ei_cell_release(cell, place);
    ei_cell_leave(cell, &request, time, waiting);
    ei_cell_advance(cell, &request);
    return ei_cell_travel(cell, &request, time);
}

static int end_sharing(ei_cell_state *cell, size_t index) {
    ei_node_state *node = &cell->nodes[index];
    const double time = cell->now;
    share_until(cell, index, time);
    ei_heap_entry first = ei_heap_pop(&node->serving);
    node->present--;
    node->attained = node->serving.count > 0 ? fmax(node->attained, first.key) : 0;
    cell->next[index] = INFINITY;
    if (node->serving.count > 0)
        plan_sharing(cell, index);
    const ei_request *request = &cell->requests[first.item];
    ei_node_count(cell, index, 1, time, time);
    ei_cell_busy(cell, request, time - request->service, time, 1);
    return send_on(cell, (uint32_t)first.item, time, fmax(time - request->entered - request->service, 0));
}

int ei_node_event(ei_cell_state *cell, size_t index) {
    ei_node_state *node = &cell->nodes[index];
    const double time = cell->now;
    int status = EI_OK;
    if (node->model->scheduler == EI_NODE_PROCESSOR_SHARING)
        return end_sharing(cell, index);
    if (ei_heap_first(&node->serving) > time)
        return start_batches(cell, index, time); /* the longest wait for a full batch is over */
    uint32_t place = (uint32_t)ei_heap_pop(&node->serving).item, next;
    node->free_servers++;
    if ((status = start_batches(cell, index, time)) != EI_OK)
        return status;
    for (; place != EI_NOBODY && status == EI_OK; place = next) {
        next = cell->requests[place].next;
        node->present--;
        status = send_on(cell, place, time, cell->requests[place].service);
    }
    return status;
}
