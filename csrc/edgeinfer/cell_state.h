/* The state of one replication of a cell: shared by the files cell*.c alone. */
#ifndef EDGEINFER_CELL_STATE_H
#define EDGEINFER_CELL_STATE_H

#include <math.h>
#include <string.h>

#include "edgeinfer/cell.h"
#include "edgeinfer/heap.h"
#include "edgeinfer/lanes.h"
#include "edgeinfer/parallel.h"
#include "edgeinfer/rng.h"

enum { EI_NOBODY = UINT32_MAX };

typedef struct {
    double born, entered; /* to the cell, to the stage; s */
    double service;       /* at a node, s; at a band, time served so far */
    uint32_t terminal;
    uint32_t stage;  /* on the class's route */
    uint32_t next;   /* in a list of requests, or of free places */
    uint32_t rounds; /* this and those to come; 0 where there is no loop */
    uint32_t right;
} ei_request;

typedef struct {
    double latest;            /* when the request of the latest answer was born, s; NAN: none yet */
    double born;              /* of the request that comes next, s */
    double answers, sojourns; /* in the window: number, sum in s */
    ei_arrival_state arrival;
    uint32_t class_index, node;
    size_t own; /* index of the terminal's first server in `free_at` */
} ei_terminal;

/* A class's way: its stages, the end, the fallback's stages, the end. */
typedef struct {
    const ei_cell_stage *stage; /* NULL: the end */
    int event;                  /* requests must reach it in order of time: their arrival is an event */
    size_t row;
} ei_route_stage;

typedef struct {
    ei_route_stage *stages; /* [stage_count + fallback_count + 2], owned */
    uint32_t source;        /* stage that new requests are carried to at once: an event, or the first */
    int shared;             /* two stages have a server in common */
} ei_route;

typedef struct {
    const ei_cell_node *model;
    ei_heap waiting, serving;
    size_t free_servers, present;
    double timer;
    double free_at;      /* simple: one FIFO server that needs no events, free from then on */
    double attained, at; /* processor sharing: service that each request got since the start, up to `at` */
    int simple;
} ei_node_state;

/* A terminal at a band: its transfers in order. */
typedef struct {
    uint32_t first, last; /* requests; EI_NOBODY: none */
    uint32_t place;       /* in `active` */
    double left;          /* of the first, in slots at one bit a hertz and second */
    double rate;          /* this slot's, bits a hertz and second */
    double average;
    double weight, claim; /* claim: weight / average */
    size_t law;           /* of the first, a service */
} ei_band_terminal;

typedef struct {
    const ei_cell_band *model;
    ei_band_terminal *terminals; /* [terminals of the cell], owned */
    uint32_t *active;            /* [terminals], owned */
    size_t active_count;
    ei_heap turns; /* round robin, earliest deadline */
    uint32_t chosen;
    int ends;           /* the chosen transfer ends with this slot, or the next ends before it */
    double begun, edge; /* of the stretch of constant rates; end of the slot */
    double fade;        /* proportional fair: what all averages are to be multiplied by */
    double weights;     /* equal share: sum over the active */
} ei_band_state;

enum { EI_RATE_SUPPLY = 512 };

/* Rates of slots of one law that are drawn already. */
typedef struct {
    double *rates; /* [EI_RATE_SUPPLY], owned; NULL: none are drawn ahead */
    size_t left;
} ei_rate_supply;

typedef struct {
    ei_lanes streams; /* of rates */
    const ei_lane_loops *loops;
    ei_rate_supply *supplies; /* [services] */
    const ei_cell *model;
    const ei_sampler *samplers;
    const ei_route *routes;
    int forward; /* requests are followed by ei_cell_forward */
    int poisson; /* all arrivals are, one by one */
    ei_rng rng;
    ei_terminal *terminals;
    size_t terminal_count;
    double *free_at;       /* [servers of all terminals] */
    ei_wall_clock *clocks; /* [the same], of those that are channels; NULL: none is */
    ei_heap sources, transit;
    double *next; /* [nodes + bands], of each station's next event; INFINITY: none */
    ei_node_state *nodes;
    ei_band_state *bands;
    ei_request *requests; /* [capacity] */
    size_t capacity, present;
    uint32_t free_request;
    uint64_t order;
    double now, start, end;      /* the window */
    double length, per_batch;    /* of a batch, s, and 1 / that */
    double batch_from, batch_to; /* of the batch that times were last in */
    size_t batch;
    size_t row_width, batch_width;                  /* numbers of a row, and of all rows in a batch */
    size_t class_width;                             /* of a class */
    double *rows, *classes, *node_sums, *band_sums; /* of this replication */
    uint64_t *histogram;
} ei_cell_state;

/* Batch of a time, or the number of batches outside the window. */
static inline size_t ei_cell_batch(ei_cell_state *self, double time) {
    if (time >= self->batch_from && time < self->batch_to)
        return self->batch;
    if (!(time >= self->start && time < self->end))
        return self->model->batches;
    size_t batch = (size_t)((time - self->start) * self->per_batch);
    batch = batch < self->model->batches ? batch : self->model->batches - 1;
    self->batch = batch;
    self->batch_from = self->start + (double)batch * self->length;
    self->batch_to =
        self->batch_from + self->length < self->end ? self->batch_from + self->length : self->end;
    return batch;
}

/* The batch in which both times are, or the number of batches. */
static inline size_t ei_cell_common_batch(ei_cell_state *self, double from, double to) {
    const size_t batch = ei_cell_batch(self, from);
    return batch < self->model->batches && to < self->batch_to ? batch : self->model->batches;
}

/* The bin of a sojourn time. */
static inline size_t ei_cell_bin(double sojourn) {
    uint64_t bits;
    memcpy(&bits, &sojourn, sizeof bits);
    const uint64_t bin = (bits >> EI_HISTOGRAM_SHIFT) - EI_CELL_FIRST_BIN;
    if (bin < EI_CELL_BINS)
        return (size_t)bin;
    return sojourn < 1 ? 0 : EI_CELL_BINS - 1;
}

/* Requests present at most. */
static inline size_t ei_cell_most_present(const ei_cell_state *self) {
    enum { MOST = 1 << 20, EACH = 64 };
    return self->terminal_count > MOST / EACH ? self->terminal_count * EACH : MOST;
}

/* Adds `amount` a second of [from, to] to sum[batch * stride]. */
static inline void ei_cell_add_busy(ei_cell_state *self, double *sum, size_t stride, double from, double to,
                                    double amount) {
    if (from >= self->batch_from && to < self->batch_to) {
        sum[self->batch * stride] += (to - from) * amount;
        return;
    }
    from = from > self->start ? from : self->start;
    to = to < self->end ? to : self->end;
    while (to > from) {
        const size_t batch = ei_cell_batch(self, from);
        /* By rounding, a time may lie a hair behind the end of its batch. */
        double edge =
            batch + 1 < self->model->batches ? self->start + (double)(batch + 1) * self->length : to;
        edge = edge > from && edge < to ? edge : to;
        sum[batch * stride] += (edge - from) * amount;
        from = edge;
    }
}

/* The description. Status: EI_ERR_EMPTY, EI_ERR_DOMAIN. */
EI_WARN_UNUSED int ei_cell_verify(const ei_cell *self);
/* The way of a class whose first row is *row, which becomes the next class's. Its stages are the caller's to
 * free. */
EI_WARN_UNUSED int ei_route_init(ei_route *self, const ei_cell *model, const ei_cell_class *class,
                                 size_t *row);
/* Whether a node is one FIFO server whose requests leave in the order in which they come and need no event.
 */
int ei_node_is_simple(const ei_cell *model, const ei_cell_node *node);

/* A place for a request that waits; EI_ERR_NO_MEMORY, EI_ERR_UNSTABLE. */
EI_WARN_UNUSED int ei_cell_keep(ei_cell_state *self, const ei_request *request, uint32_t *place);
void ei_cell_release(ei_cell_state *self, uint32_t place);

/* Counts at the row of a stage a request that leaves it at `time`; `last`: for the last time. */
void ei_cell_count(ei_cell_state *self, size_t row, double time, double sojourn, double waiting, int last);
/* A request leaves a stage at `time`, having waited so long. */
void ei_cell_leave(ei_cell_state *self, const ei_request *request, double time, double waiting);
/* Busy seconds of the stage of a request. */
void ei_cell_busy(ei_cell_state *self, const ei_request *request, double from, double to, double amount);
/* Carries a request on that reaches the stage request->stage at `time`. */
EI_WARN_UNUSED int ei_cell_travel(ei_cell_state *self, ei_request *request, double time);
/* A request that a full node refused at `time`. */
EI_WARN_UNUSED int ei_cell_refuse(ei_cell_state *self, ei_request *request, double time);

/* The service of one of a terminal's own servers that starts at `start`, s. */
static inline double ei_cell_serve(ei_cell_state *self, size_t server, size_t service, double start) {
    const ei_sampler *sampler = &self->samplers[service];
    if (sampler->service.kind == EI_SERVICE_CHANNEL)
        return ei_channel_serve(&sampler->service.channel, sampler->service.bits, start,
                                &self->clocks[server], &self->rng);
    return ei_sampler_draw(sampler, &self->rng);
}

/* To the next stage, or back for another round. */
static inline void ei_cell_advance(const ei_cell_state *self, ei_request *request) {
    if (request->rounds > 1) {
        const ei_cell_class *class = &self->model->classes[self->terminals[request->terminal].class_index];
        if (request->stage == class->loop_last) {
            request->rounds--;
            request->stage = (uint32_t)class->loop_first;
            return;
        }
    }
    request->stage++;
}

/* Parts. Verify: whether requests leave in the order in which they come; EI_ERR_DOMAIN. Pass: when a request
 * of the terminal whose servers begin at `own` leaves; *alone: its time there if it were alone, s. */
EI_WARN_UNUSED int ei_cell_parts_verify(const ei_cell *self, const ei_cell_class *class,
                                        const ei_cell_stage *stage, int *ordered);
double ei_cell_parts_pass(ei_cell_state *self, const ei_cell_stage *stage, size_t own, double time,
                          double *alone);

/* Nodes. Arrival: *left is the time at which the request has left already, or NAN where it is kept. */
void ei_node_init(ei_node_state *self, const ei_cell_node *model, int simple);
void ei_node_free(ei_node_state *self);
EI_WARN_UNUSED int ei_node_arrive(ei_cell_state *cell, size_t index, ei_request *request, double time,
                                  double *left);
EI_WARN_UNUSED int ei_node_event(ei_cell_state *cell, size_t index);

/* A batch of `size` requests serves from `from` to `to` on one server. */
void ei_node_count(ei_cell_state *cell, size_t index, size_t size, double from, double to);

/* The first of the streams of a replication with lanes: of what is drawn one by one; those of the lanes
 * follow. */
static inline uint64_t ei_cell_streams(size_t replication) {
    enum { STREAMS = 17 };
    return (uint64_t)replication * STREAMS;
}

/* Draws a terminal's next request, born at `born`, and carries it to the stage where it becomes an event: the
 * time there. */
double ei_cell_next_source(ei_cell_state *self, uint32_t terminal, double born);
/* All of a replication, event by event. */
EI_WARN_UNUSED int ei_cell_follow(ei_cell_state *self, ei_parallel *run);

/* Cells whose requests only go forward through FIFO servers: all of a replication, block by block. */
EI_WARN_UNUSED int ei_cell_forward(ei_cell_state *self, ei_parallel *run);

/* Bands. */
EI_WARN_UNUSED int ei_band_init(ei_band_state *self, const ei_cell_band *model, size_t terminals);
void ei_band_free(ei_band_state *self);
EI_WARN_UNUSED int ei_band_arrive(ei_cell_state *cell, size_t index, ei_request *request, double time);
EI_WARN_UNUSED int ei_band_event(ei_cell_state *cell, size_t index);

#endif
