/* Many terminals at shared nodes and shared bands: an event-driven simulation, without events where none is
 * needed (cell_forward.c). Seconds; rates in 1/s.
 *
 * A terminal's requests pass the stages of its class in order. A stage is a FIFO server that the terminal has
 * to itself, a delay (every request has a server), parts of the terminal's own (a fork or a review of such
 * servers), a shared node, or a shared band. Own servers need no events: requests reach them in order of
 * time, so that start = max(arrival, free), and a request is carried through all of them at once, up to the
 * next shared stage. Only where routes, a delay or a review may bring requests out of order is an own
 * server's arrival an event.
 *
 * A class may pass some of its stages again, for a random number of rounds: a request comes back to the first
 * of them as any that arrives, and so to the end of a node's queue. It counts at such a stage when it leaves
 * it for the last time; it waits there for the sum of its waits.
 *
 * Statistics are over a window of time after the warm-up, cut into batches of equal length: a request counts
 * at a stage in the batch in which it leaves that stage; busy times are cut at the batches' ends. Times are
 * absolute, so that their resolution falls to 2^-52 of the run's length. Memory grows with the terminals and
 * the requests present, not with those that have passed. */
#ifndef EDGEINFER_CELL_H
#define EDGEINFER_CELL_H

#include <stddef.h>
#include <stdint.h>

#include "edgeinfer/sampler.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"
#include "edgeinfer/tandem.h"

typedef enum {
    EI_PLACE_OWN,   /* a FIFO server of the terminal's own */
    EI_PLACE_DELAY, /* never queues */
    EI_PLACE_NODE,  /* one of the cell's nodes */
    EI_PLACE_BAND,  /* a shared band */
    EI_PLACE_PARTS  /* `parts` */
} ei_place;

/* Servers of the terminal's own, delays, reviews and forks, as ei_node of tandem.h has them in preorder; the
 * first has all others within it. Behind a review, or a delay that is not deterministic, only delays may
 * stand in the same branch, since requests would meet the servers out of order; none is a channel. */
typedef struct {
    ei_node_kind kind;
    size_t server, service; /* SERVER, REVIEW; DELAY: service */
    size_t count, needed;
    double probability;
} ei_cell_part;

typedef struct {
    ei_place place;
    size_t server;  /* own: which of the terminal's servers; band: which band */
    size_t service; /* index of its law; node: of the law at node 0, the next nodes' follow; band: of the
                       transfer's law over all of the band */
    double latency; /* own: that its requests take behind it, which keeps no server; s, >= 0 */
    double skip;    /* node: probability that a request passes it by */
    const ei_cell_part *parts; /* [part_count], not owned */
    size_t part_count;
} ei_cell_stage;

typedef struct {
    size_t count;                /* terminals */
    ei_arrival arrival;          /* of each terminal, stationary from the start */
    const ei_cell_stage *stages; /* [stage_count + fallback_count], not owned; the fallback's stages follow:
                                    own or delay, for requests that a full node refuses */
    size_t stage_count, fallback_count, server_count;
    double priority;         /* nodes serve lower numbers first */
    double weight;           /* share of a band, > 0 */
    double deadline;         /* after a request's arrival, for earliest-deadline-first */
    const uint32_t *nearest; /* [count] node of each terminal, not owned; NULL: node 0 */
    const double *rounds; /* [round_count], not owned: P(N = n) that a request passes n = 1, 2, .. times the
                             stages loop_first .. loop_last; of sum 1 but for rounding */
    const double *right;  /* [round_count], not owned: P(its answer is right | N = n); NULL: not known */
    size_t round_count;   /* 0: all pass once */
    size_t loop_first, loop_last;
} ei_cell_class;

typedef enum { EI_NODE_FIFO, EI_NODE_PRIORITY, EI_NODE_EDF, EI_NODE_PROCESSOR_SHARING } ei_node_scheduler;

typedef struct {
    size_t servers;
    ei_node_scheduler scheduler;
    size_t batch_limit; /* requests that a server takes at once; their services add to batch_fixed */
    double batch_wait;  /* that the next request waits at most for a full batch, s */
    double batch_fixed; /* s a batch */
    size_t capacity;    /* requests waiting or in service; 0: any number */
} ei_cell_node;

typedef enum {
    EI_BAND_EQUAL_SHARE,
    EI_BAND_ROUND_ROBIN,
    EI_BAND_EDF,
    EI_BAND_PROPORTIONAL_FAIR,
    EI_BAND_MAX_RATE
} ei_band_scheduler;

typedef struct {
    ei_band_scheduler scheduler;
    double slot;      /* s */
    double averaging; /* proportional fair: slots over which a terminal's rate is averaged, >= 1 */
} ei_cell_band;

typedef enum { EI_ASSIGN_NEAREST, EI_ASSIGN_RANDOM, EI_ASSIGN_LEAST_LOADED } ei_assignment;

typedef struct {
    const ei_cell_class *classes; /* all arrays: not owned */
    size_t class_count;
    const ei_service *services;
    size_t service_count;
    const ei_cell_node *nodes;
    size_t node_count;
    const ei_cell_band *bands;
    size_t band_count;
    ei_assignment assignment;
    const double *deadlines;
    size_t deadline_count;
    double warmup, duration; /* s */
    size_t batches, replications;
    uint64_t entropy[4];
    size_t threads;
    int width; /* doubles a vector: 2, 4, 8; 0: the widest of this processor. All give the same bits. */
} ei_cell;

/* Bins of a histogram of sojourn times, 64 an octave from 2^-40 s up; the first and the last hold what is
 * beyond. Bin i holds times whose bits, shifted right by EI_HISTOGRAM_SHIFT, are i + EI_CELL_FIRST_BIN. */
enum { EI_CELL_OCTAVES = 72, EI_CELL_BINS = 64 * EI_CELL_OCTAVES, EI_CELL_FIRST_BIN = (1023 - 40) * 64 };

/* Sums of a row: EI_SUMS of these and then jobs above each deadline. A class's rows are its stages, those of
 * the fallback, and the end: requests that leave by either way. */
enum {
    EI_SUM_JOBS,
    EI_SUM_SOJOURN, /* since the request's arrival to the cell, s */
    EI_SUM_WAITING, /* before the stage; at processor sharing and shared bands, time beyond the service alone
                     */
    EI_SUM_BUSY,    /* s */
    EI_SUMS
};
/* Of a class: EI_CLASS_SUMS of these and then right answers up to each deadline. Requests that come, are
 * lost, take the fallback; peaks of the age of the latest answer. */
enum {
    EI_CLASS_OFFERED,
    EI_CLASS_LOST,
    EI_CLASS_REDIRECTED,
    EI_CLASS_PEAKS,
    EI_CLASS_PEAK_AGE,
    EI_CLASS_SUMS
};
/* Of a node: requests served, batches, server-seconds. */
enum { EI_NODE_JOBS, EI_NODE_BATCHES, EI_NODE_BUSY, EI_NODE_SUMS };
/* Of a band: seconds in use, slots begun. */
enum { EI_BAND_BUSY, EI_BAND_SLOTS, EI_BAND_SUMS };
/* Over a class's terminals: sum and sum of squares of answers, and of the terminals' mean sojourn times. */
enum { EI_FAIR_RATE, EI_FAIR_RATE_SQUARE, EI_FAIR_MEAN, EI_FAIR_MEAN_SQUARE, EI_FAIR_ACTIVE, EI_FAIR_SUMS };

/* Owned by the caller, of zeros. */
typedef struct {
    double *rows;        /* [replications][batches][rows][EI_SUMS + deadlines] */
    double *classes;     /* [replications][batches][classes][EI_CLASS_SUMS + deadlines] */
    double *nodes;       /* [replications][batches][nodes][EI_NODE_SUMS] */
    double *bands;       /* [replications][batches][bands][EI_BAND_SUMS] */
    double *fairness;    /* [replications][classes][EI_FAIR_SUMS] */
    uint64_t *histogram; /* [rows][EI_CELL_BINS] over all replications */
} ei_cell_result;

/* Rows of all classes. */
size_t ei_cell_rows(const ei_cell *self);

/* Status: EI_ERR_EMPTY, EI_ERR_DOMAIN, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED, EI_ERR_UNSTABLE (the requests
 * present pass 2^24: a queue that grows). */
EI_WARN_UNUSED int ei_cell_run(const ei_cell *self, const ei_cell_result *result, ei_monitor monitor);

#endif
