#include "edgeinfer/cell_state.h"

/* One band in slots of independent fading for each terminal that has something to send; a slot's gains are
 * drawn when it begins. While nobody sends there are no slots, and the next begins with the next request.
 *
 * Equal share: the active terminals divide the band by weight, from moment to moment; the slot's gains stay
 * while others come and go. One at a time: the scheduler gives each slot to one terminal; where its transfer
 * ends before the slot does, the next slot begins at once; a request that comes within a slot waits for its
 * end. Alone, a terminal has under all of them the law of its link. */

static const ei_cell_class *class_of(const ei_cell_state *cell, uint32_t terminal) {
    return &cell->model->classes[cell->terminals[terminal].class_index];
}

static const ei_cell_stage *stage_of(const ei_cell_state *cell, const ei_band_state *band,
                                     uint32_t terminal) {
    const ei_request *request = &cell->requests[band->terminals[terminal].first];
    return &class_of(cell, terminal)->stages[request->stage];
}

/* This slot's rate of a link, those of Rayleigh fading from a supply that is drawn in lanes. */
static double draw_rate(ei_cell_state *cell, const ei_band_terminal *own) {
    const ei_sampler *law = &cell->samplers[own->law];
    ei_rate_supply *supply = &cell->supplies[own->law];
    if (supply->rates == NULL)
        return ei_sample_rate_of(law->rate, &cell->rng);
    if (supply->left == 0) {
        cell->loops->rates(&cell->streams, EI_RATE_SUPPLY, law->mean_snr, 1, supply->rates);
        supply->left = EI_RATE_SUPPLY;
    }
    return supply->rates[EI_RATE_SUPPLY - supply->left--];
}

/* A scheduler of one terminal a slot that looks at all the active: the rates are drawn, and the terminal
 * with the largest metric sends. A new one is one such function. */
typedef double (*band_metric)(const ei_band_terminal *terminal);

static double metric_rate(const ei_band_terminal *terminal) {
    return terminal->rate;
}

static double metric_fair(const ei_band_terminal *terminal) {
    return terminal->rate * terminal->claim;
}

static int takes_turns(const ei_band_state *band) {
    return band->model->scheduler == EI_BAND_ROUND_ROBIN || band->model->scheduler == EI_BAND_EDF;
}

int ei_band_init(ei_band_state *self, const ei_cell_band *model, size_t terminals) {
    *self = (ei_band_state){.model = model, .chosen = EI_NOBODY, .fade = 1};
    self->terminals = malloc(terminals * sizeof *self->terminals);
    self->active = malloc(terminals * sizeof *self->active);
    if (self->terminals == NULL || self->active == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t i = 0; i < terminals; i++)
        self->terminals[i] = (ei_band_terminal){.first = EI_NOBODY, .last = EI_NOBODY};
    return EI_OK;
}

void ei_band_free(ei_band_state *self) {
    free(self->terminals);
    free(self->active);
    ei_heap_free(&self->turns);
}

static double *band_sums(const ei_cell_state *cell, const ei_band_state *band) {
    return cell->band_sums + (size_t)(band - cell->bands) * EI_BAND_SUMS;
}

static void count_slot(ei_cell_state *cell, const ei_band_state *band, double time) {
    const size_t batch = ei_cell_batch(cell, time);
    if (batch < cell->model->batches)
        band_sums(cell, band)[batch * cell->model->band_count * EI_BAND_SUMS + EI_BAND_SLOTS]++;
}

static void count_use(ei_cell_state *cell, const ei_band_state *band, double from, double to) {
    ei_cell_add_busy(cell, band_sums(cell, band) + EI_BAND_BUSY, cell->model->band_count * EI_BAND_SUMS, from,
                     to, 1);
}

/* Enters the terminal among the active with its first request; round robin and earliest deadline: its turn.
 */
static int activate(ei_cell_state *cell, ei_band_state *band, uint32_t terminal) {
    ei_band_terminal *own = &band->terminals[terminal];
    own->law = stage_of(cell, band, terminal)->service;
    own->left = cell->samplers[own->law].carry;
    own->weight = class_of(cell, terminal)->weight;
    own->place = (uint32_t)band->active_count;
    band->active[band->active_count++] = terminal;
    switch (band->model->scheduler) {
    case EI_BAND_EQUAL_SHARE:
        own->rate = draw_rate(cell, own);
        band->weights += own->weight;
        return EI_OK;
    case EI_BAND_ROUND_ROBIN:
        return ei_heap_push(&band->turns, 0, cell->order++, terminal);
    case EI_BAND_EDF:
        return ei_heap_push(&band->turns,
                            cell->requests[own->first].born + class_of(cell, terminal)->deadline,
                            cell->order++, terminal);
    default:
        return EI_OK;
    }
}

static void deactivate(ei_band_state *band, uint32_t terminal) {
    const uint32_t place = band->terminals[terminal].place, last = band->active[--band->active_count];
    band->active[place] = last;
    band->terminals[last].place = place;
    band->weights -= band->terminals[terminal].weight;
    if (band->active_count == 0)
        band->weights = 0;
}

/* Inlined, so that a metric costs no call. */
EI_INLINE void choose_best(ei_cell_state *cell, ei_band_state *band, band_metric metric) {
    double best = -1;
    for (size_t i = 0; i < band->active_count; i++) {
        const uint32_t terminal = band->active[i];
        ei_band_terminal *own = &band->terminals[terminal];
        own->rate = draw_rate(cell, own);
        if (!(own->average > 0)) {
            own->average = own->rate / band->fade; /* as if it had been served so far */
            own->claim = own->average > 0 ? own->weight / own->average : 0;
        }
        const double value = metric(own);
        if (value > best) {
            best = value;
            band->chosen = terminal;
        }
    }
}

/* The terminal that sends in the slot that begins at `time`, and its rate. */
static void choose(ei_cell_state *cell, ei_band_state *band) {
    if (band->model->scheduler == EI_BAND_MAX_RATE) {
        choose_best(cell, band, metric_rate);
    } else if (band->model->scheduler == EI_BAND_PROPORTIONAL_FAIR) {
        choose_best(cell, band, metric_fair);
    } else {
        band->chosen = (uint32_t)ei_heap_pop(&band->turns).item;
        band->terminals[band->chosen].rate = draw_rate(cell, &band->terminals[band->chosen]);
    }
}

/* Averages move by 1 / averaging a slot: all fall together, by `fade`, and that of the chosen rises. */
static void average(ei_band_state *band, size_t terminals) {
    const double part = 1 / band->model->averaging;
    if (band->model->scheduler != EI_BAND_PROPORTIONAL_FAIR)
        return;
    ei_band_terminal *own = &band->terminals[band->chosen];
    band->fade *= 1 - part;
    own->average += part * own->rate / band->fade;
    own->claim = own->weight / own->average;
    if (band->fade > 1e-100)
        return;
    for (size_t i = 0; i < terminals; i++) {
        band->terminals[i].average *= band->fade;
        band->terminals[i].claim /= band->fade;
    }
    band->fade = 1;
}

static void begin_slot(ei_cell_state *cell, size_t index, double time) {
    ei_band_state *band = &cell->bands[index];
    const double slot = band->model->slot;
    double *next = &cell->next[cell->model->node_count + index];
    band->begun = time;
    *next = INFINITY;
    band->chosen = EI_NOBODY;
    if (band->active_count == 0)
        return;
    count_slot(cell, band, time);
    choose(cell, band);
    ei_band_terminal *own = &band->terminals[band->chosen];
    band->ends = own->rate >= own->left;
    *next = time + slot * (band->ends ? own->left / own->rate : 1);
    average(band, cell->terminal_count);
}

/* Equal share: what all have sent since the last change. */
static void settle(ei_cell_state *cell, size_t index, double time) {
    ei_band_state *band = &cell->bands[index];
    const double slots = (time - band->begun) / band->model->slot;
    if (band->active_count > 0 && time > band->begun) {
        for (size_t i = 0; i < band->active_count; i++) {
            const uint32_t terminal = band->active[i];
            ei_band_terminal *own = &band->terminals[terminal];
            const double share = own->weight / band->weights;
            own->left -= own->rate * share * slots;
            ei_request *request = &cell->requests[own->first];
            request->service += share * (time - band->begun);
            ei_cell_busy(cell, request, band->begun, time, share);
        }
        count_use(cell, band, band->begun, time);
    }
    band->begun = time;
}

/* Equal share: the end of the slot, or of the first transfer before it. */
static void plan_share(ei_cell_state *cell, size_t index) {
    ei_band_state *band = &cell->bands[index];
    double least = INFINITY;
    for (size_t i = 0; i < band->active_count; i++) {
        const uint32_t terminal = band->active[i];
        const ei_band_terminal *own = &band->terminals[terminal];
        const double share = own->weight / band->weights;
        const double slots = fmax(own->left, 0) / (own->rate * share);
        if (slots < least) {
            least = slots;
            band->chosen = terminal;
        }
    }
    const double until = band->begun + least * band->model->slot;
    band->ends = until <= band->edge;
    cell->next[cell->model->node_count + index] =
        band->active_count == 0 ? INFINITY : (band->ends ? until : band->edge);
}

int ei_band_arrive(ei_cell_state *cell, size_t index, ei_request *request, double time) {
    ei_band_state *band = &cell->bands[index];
    ei_band_terminal *own = &band->terminals[request->terminal];
    const int equal = band->model->scheduler == EI_BAND_EQUAL_SHARE;
    uint32_t place;
    request->entered = time;
    request->service = 0;
    request->next = EI_NOBODY;
    int status = ei_cell_keep(cell, request, &place);
    if (status != EI_OK)
        return status;
    if (own->first != EI_NOBODY) {
        cell->requests[own->last].next = place;
        own->last = place;
        return EI_OK;
    }
    own->first = own->last = place;
    const int idle = band->active_count == 0;
    if (equal)
        settle(cell, index, time);
    if ((status = activate(cell, band, request->terminal)) != EI_OK)
        return status;
    if (equal) {
        if (idle) {
            band->edge = time + band->model->slot;
            count_slot(cell, band, time);
        }
        plan_share(cell, index);
    } else if (idle && band->chosen == EI_NOBODY) {
        begin_slot(cell, index, time);
    }
    return EI_OK;
}

/* The terminal's first transfer has ended: its next takes its place. The request that ended is returned. */
static int end_transfer(ei_cell_state *cell, ei_band_state *band, uint32_t terminal, ei_request *ended) {
    ei_band_terminal *own = &band->terminals[terminal];
    const uint32_t place = own->first;
    *ended = cell->requests[place];
    own->first = ended->next;
    ei_cell_release(cell, place);
    deactivate(band, terminal);
    if (own->first == EI_NOBODY) {
        own->last = EI_NOBODY;
        return EI_OK;
    }
    return activate(cell, band, terminal);
}

static int send_on(ei_cell_state *cell, ei_request *request, double time) {
    ei_cell_leave(cell, request, time, fmax(time - request->entered - request->service, 0));
    ei_cell_advance(cell, request);
    return ei_cell_travel(cell, request, time);
}

static int share_event(ei_cell_state *cell, size_t index) {
    ei_band_state *band = &cell->bands[index];
    const double time = cell->now;
    ei_request ended;
    settle(cell, index, time);
    if (!band->ends) {
        for (size_t i = 0; i < band->active_count; i++)
            band->terminals[band->active[i]].rate = draw_rate(cell, &band->terminals[band->active[i]]);
        count_slot(cell, band, time);
        band->edge = time + band->model->slot;
        plan_share(cell, index);
        return EI_OK;
    }
    const int alone = band->active_count == 1;
    int status = end_transfer(cell, band, band->chosen, &ended);
    if (status != EI_OK)
        return status;
    if (alone &&
        band->active_count > 0) { /* a transfer that follows another begins a slot where nobody else is */
        band->edge = time + band->model->slot;
        count_slot(cell, band, time);
    }
    plan_share(cell, index);
    return send_on(cell, &ended, time);
}

int ei_band_event(ei_cell_state *cell, size_t index) {
    ei_band_state *band = &cell->bands[index];
    if (band->model->scheduler == EI_BAND_EQUAL_SHARE)
        return share_event(cell, index);
    const double time = cell->now;
    const uint32_t terminal = band->chosen;
    ei_band_terminal *own = &band->terminals[terminal];
    ei_request *request = &cell->requests[own->first], ended;
    int status = EI_OK;
    request->service += time - band->begun;
    ei_cell_busy(cell, request, band->begun, time, 1);
    count_use(cell, band, band->begun, time);
    if (!band->ends) {
        own->left -= own->rate;
        if (takes_turns(band))
            status = ei_heap_push(&band->turns,
                                  band->model->scheduler == EI_BAND_EDF
                                      ? request->born + class_of(cell, terminal)->deadline
                                      : 0,
                                  cell->order++, terminal);
        if (status == EI_OK)
            begin_slot(cell, index, time);
        return status;
    }
    if ((status = end_transfer(cell, band, terminal, &ended)) != EI_OK)
        return status;
    begin_slot(cell, index, time);
    return send_on(cell, &ended, time);
}
