/* Forward simulation of a tandem of FIFO stages, or of the serial path. Times are kept relative to the last
 * arrival, so that precision does not fall with the number of jobs: backlog_k -= t; x = 0; x = max(x,
 * backlog_k) + S_k = backlog_k, the sojourn time up to and with stage k. Memory does not grow with jobs. */
#ifndef EDGEINFER_TANDEM_H
#define EDGEINFER_TANDEM_H

#include <stddef.h>
#include <stdint.h>

#include "edgeinfer/sampler.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

typedef enum {
    EI_ARRIVAL_POISSON,         /* parameter[0]: rate, 1/s */
    EI_ARRIVAL_DETERMINISTIC,   /* parameter[0]: rate */
    EI_ARRIVAL_ERLANG,          /* parameter[0]: rate, [1]: phases, a whole number >= 1 */
    EI_ARRIVAL_HYPEREXPONENTIAL /* parameter[0]: probability of phase one, [1], [2]: the phases' rates */
} ei_arrival_kind;

typedef struct {
    ei_arrival_kind kind;
    double parameter[3];
} ei_arrival;

/* Mean interarrival time, s; NaN for parameters outside their range. */
double ei_arrival_mean(const ei_arrival *self);
double ei_arrival_draw(const ei_arrival *self, ei_rng *rng);

/* Bins of the histogram of sojourn times: the bits of the double, 64 bins an octave from 2^-24 s to 2^40 s,
 * so that a quantile's relative resolution is 1/64; every EI_HISTOGRAM_STRIDE-th job of a replication is
 * entered. */
enum {
    EI_HISTOGRAM_SUBBINS = 64,
    EI_HISTOGRAM_FIRST = -24,
    EI_HISTOGRAM_OCTAVES = 64,
    EI_HISTOGRAM_STRIDE = 16
};
enum { EI_HISTOGRAM_BINS = EI_HISTOGRAM_SUBBINS * EI_HISTOGRAM_OCTAVES };

typedef struct {
    const ei_service *stages; /* [stage_count], not owned */
    size_t stage_count;
    ei_arrival arrival;
    const double *deadlines; /* [deadline_count], s, not owned */
    size_t deadline_count;
    uint64_t jobs, warmup; /* per replication; warmup jobs come first and are not counted */
    size_t replications;
    int serial; /* one job occupies the whole path at a time */
    ei_link_mode link;
    uint64_t entropy[4];
    size_t threads;
} ei_tandem;

/* Owned by the caller: arrays of the shapes given, first index the replication. */
typedef struct {
    double *sojourn;    /* [replications][stages] mean sojourn time up to and with each stage, s */
    double *violations; /* [replications][deadlines][stages] fraction of jobs above the deadline */
    double
        *waiting; /* [replications][stages] mean wait before each stage, s (serial: all before the first) */
    double *busy; /* [replications][stages] fraction of time that the stage serves */
    uint64_t *histogram; /* [stages][EI_HISTOGRAM_BINS] over all replications; may be NULL */
} ei_tandem_result;

/* Status: EI_ERR_EMPTY, EI_ERR_DOMAIN, EI_ERR_UNSTABLE, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_tandem_run(const ei_tandem *self, const ei_tandem_result *result, ei_monitor monitor);

#endif
