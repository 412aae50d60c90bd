/* Forward simulation of a tandem of FIFO stages, or of the serial path. Times are kept relative to the last
 * arrival, so that precision does not fall with the number of jobs: backlog_k -= t; x = 0; x = max(x,
 * backlog_k) + S_k = backlog_k, the sojourn time up to and with stage k; x += delay_k. Memory does not grow
 * with jobs.
 *
 * Stages may be more than servers, as `nodes` say: an acyclic max-plus recursion. A branch's jobs leave it in
 * the order in which they came, as do those of a fork that waits for any number of its branches: the k-th
 * smallest of sequences that do not fall does not fall. */
#ifndef EDGEINFER_TANDEM_H
#define EDGEINFER_TANDEM_H

#include <stddef.h>
#include <stdint.h>

#include "edgeinfer/arrival.h"
#include "edgeinfer/sampler.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

/* Bins of the histogram of sojourn times, 64 an octave over all doubles >= 0, so that a quantile's relative
 * resolution is 1/64: bin i holds the times whose bits, shifted right by EI_HISTOGRAM_SHIFT, are i. Every
 * EI_HISTOGRAM_STRIDE-th job of a replication is entered, and every job where they are fewer. */
enum {
    EI_HISTOGRAM_SHIFT = 46,
    EI_HISTOGRAM_BINS = 1 << (63 - EI_HISTOGRAM_SHIFT),
    EI_HISTOGRAM_STRIDE = 16
};

typedef enum {
    EI_NODE_SERVER, /* one first come first served */
    EI_NODE_DELAY,  /* each job takes its time, nobody waits; one before all servers displaces the jobs, which
                       leaves Poisson arrivals as they are, and independent of the delays */
    EI_NODE_REVIEW, /* a server that a job needs with a probability, else it leaves at once */
    EI_NODE_SERVERS, /* `count` servers of one queue, each of the same constant service: then jobs leave in
                        order, the k-th at D_k = max(A_k, D_(k - count)) + service */
    EI_NODE_FORK,  /* `count` branches follow, fed at once; a job goes on when `needed` of them are done with
                      it */
    EI_NODE_BRANCH /* `count` stages of a branch follow */
} ei_node_kind;

/* Nodes stand in preorder: those of a branch right behind it. Behind a DELAY or a REVIEW nothing may come but
 * DELAYs: jobs overtake there. */
typedef struct {
    ei_node_kind kind;
    size_t service; /* SERVER, DELAY, REVIEW, SERVERS: place among the stages */
    size_t count, needed;
    double probability;
} ei_node;

enum { EI_MOST_BRANCHES = 64, EI_MOST_SERVERS = 1 << 16 };

typedef struct {
    const ei_service *stages; /* [stage_count], not owned */
    size_t stage_count;
    const double
        *delays;          /* [stage_count], s, >= 0, that every job takes after a stage and that keep no
                             server; NULL: none; not owned. Serial: the path is kept. Of nodes, after SERVERs only. */
    const ei_node *nodes; /* [node_count], not owned; NULL: each stage is a server. No channels then. */
    size_t node_count;
    ei_arrival arrival;
    const double *deadlines; /* [deadline_count], s, not owned */
    size_t deadline_count;
    uint64_t jobs, warmup; /* per replication; warmup jobs come first and are not counted */
    size_t replications;
    size_t batches;    /* consecutive parts of a replication: 1 .. jobs / 32, rounded up */
    int serial;        /* one job occupies the whole path at a time */
    ei_link_mode link; /* of fading links; a channel is always followed on the wall clock */
    uint64_t entropy[4];
    size_t threads;
    int width; /* doubles a vector, 2, 4 or 8 as far as the processor has them; 0: the widest; all give the
                  same bits */
} ei_tandem;

/* Jobs of a replication up to the end of batch `index` < batches: equal parts, in whole blocks of 32 jobs. */
uint64_t ei_tandem_batch_end(const ei_tandem *self, size_t index);

/* Stages of the results: nodes that are in no branch. */
size_t ei_tandem_width(const ei_tandem *self);

/* Owned by the caller: sums over a replication's jobs up to the end of each batch, first index the
 * replication, second the batch. A fork serves a job for the time that it would take alone in the system, and
 * lets it wait for the rest. */
typedef struct {
    double *violations;  /* [replications][batches][deadlines][stages] jobs above the deadline, of the sojourn
                            time up to and with each stage */
    double *waiting;     /* [replications][batches][stages] time waited before each stage, s (serial: all
                            before the first) */
    double *busy;        /* [replications][batches][stages] service times, s */
    double *elapsed;     /* [replications][batches] interarrival times, s */
    uint64_t *histogram; /* [stages][EI_HISTOGRAM_BINS] over all replications, of zeros; may be NULL */
} ei_tandem_result;

/* Status: EI_ERR_EMPTY, EI_ERR_DOMAIN, EI_ERR_UNSTABLE, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_tandem_run(const ei_tandem *self, const ei_tandem_result *result, ei_monitor monitor);

#endif
