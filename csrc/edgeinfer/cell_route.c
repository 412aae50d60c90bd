#include "edgeinfer/cell_state.h"

/* What follows from the description of a cell before its first request: whether it is one, the ways of its
 * classes, and which arrivals must be events. */

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

int ei_cell_verify(const ei_cell *self) {
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

/* Whether requests leave a terminal's own stage as they come. */
static int keeps_order(const ei_cell *model, const ei_cell_class *class, const ei_cell_stage *stage) {
    int ordered = 0;
    return stage->place == EI_PLACE_OWN ||
           (stage->place == EI_PLACE_PARTS && ei_cell_parts_verify(model, class, stage, &ordered) == EI_OK &&
            ordered);
}

/* Marks the stages that requests could reach out of order if their arrival were no event. */
static void mark_events(ei_route *self, const ei_cell *model, const ei_cell_class *class) {
    const size_t main = class->stage_count, all = main + class->fallback_count;
    int ordered = 1;
    for (size_t k = 0; k < all; k++) {
        const ei_cell_stage *stage = &class->stages[k];
        ei_route_stage *route = &self->stages[k + (k >= main)];
        if (k == main) {
            self->stages[main].event = !ordered;
            ordered = 1;
        }
        if (class->round_count > 1 && k == class->loop_first)
            ordered = 0; /* who comes again, and who comes */
        if (stage->place == EI_PLACE_DELAY) {
            ordered = ordered && model->services[stage->service].kind == EI_SERVICE_DETERMINISTIC;
            continue;
        }
        const int shares = shares_server(class, k);
        self->shared = self->shared || shares;
        route->event = stage->place == EI_PLACE_NODE || stage->place == EI_PLACE_BAND || !ordered || shares;
        ordered = stage->place != EI_PLACE_PARTS || keeps_order(model, class, stage);
    }
    self->stages[all + (all > main)].event = !ordered;
}

int ei_route_init(ei_route *self, const ei_cell *model, const ei_cell_class *class, size_t *row) {
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
    /* One request of a terminal is under way at a time, so that none may overtake another. */
    while (self->stages[source].stage != NULL && !self->stages[source].event &&
           keeps_order(model, class, self->stages[source].stage))
        source++;
    self->source = self->stages[source].event ? source : 0;
    return EI_OK;
}

int ei_node_is_simple(const ei_cell *model, const ei_cell_node *node) {
    for (size_t c = 0; c < model->class_count; c++)
        for (size_t k = 0; k < model->classes[c].stage_count; k++)
            if (model->classes[c].stages[k].skip > 0)
                return 0;
    return node->servers == 1 && node->scheduler == EI_NODE_FIFO && node->batch_limit == 1 &&
           !(node->batch_fixed > 0) && node->capacity == 0 &&
           (model->node_count == 1 || model->assignment == EI_ASSIGN_NEAREST);
}
