/* Sixteen replications side by side, for loops whose state stays in vector registers. Memory holds one number
 * a lane, whatever the width of the vectors, which each instruction set has of its own: the loops of
 * lane_loops.inc are compiled once for each and chosen at run time. Every lane's numbers are those of its
 * stream alone, with the bits of the scalar functions of rng.h: without contraction to FMA all widths give
 * the same. */
#ifndef EDGEINFER_LANES_H
#define EDGEINFER_LANES_H

#include <stddef.h>
#include <stdint.h>

#include "edgeinfer/rng.h"
#include "edgeinfer/sampler.h"
#include "edgeinfer/tandem.h"

enum {
    EI_LANES = 16,
    EI_BLOCK = 32, /* jobs drawn and followed together, so that their arrays stay in the first-level cache */
    EI_PASSAGES = 16 /* rows of ei_passages, for the same reason */
};

/* One number a lane. */
typedef struct {
    _Alignas(64) double lane[EI_LANES];
} ei_row;

typedef struct {
    _Alignas(64) uint64_t lane[4][EI_LANES];
} ei_lanes;

/* Lanes are the streams `first`, first + 1, .. */
void ei_lanes_init(ei_lanes *self, const uint64_t entropy[4], uint64_t first);

/* One lane's stream as a generator of its own, for draws that have no form over lanes. */
EI_INLINE ei_rng ei_lanes_take(const ei_lanes *self, int lane) {
    return (ei_rng){{self->lane[0][lane], self->lane[1][lane], self->lane[2][lane], self->lane[3][lane]}};
}

EI_INLINE void ei_lanes_put(ei_lanes *self, int lane, const ei_rng *rng) {
    for (int i = 0; i < 4; i++)
        self->lane[i][lane] = rng->state[i];
}

typedef struct {
    ei_row backlog, waiting, busy;
    ei_row *service; /* [2 EI_BLOCK], one more used than EI_BLOCK; a deterministic stage's stay as they are */
    ei_row *time;    /* [EI_BLOCK], sojourn time up to and with the stage */
    ei_wall_clock clock[EI_LANES];
    ei_row *left; /* SERVERS: [count], when each server is free, relative to the last arrival; the next is
                     `turn` */
    size_t turn;
} ei_lane_stage;

/* EI_LANES replications at once. */
typedef struct {
    ei_lanes streams;
    ei_arrival_state arrival[EI_LANES];
    ei_row elapsed;
    ei_lane_stage *stages; /* of all nodes */
    const ei_node *nodes;  /* as in the model, or made of its stages */
    const size_t *top;     /* [width], places of the nodes that are in no branch */
    const double *delays;  /* of the model */
    size_t width, ahead;   /* ahead: delays before the first server */
    ei_row *interval;      /* [EI_BLOCK] */
    ei_row *violations;    /* [deadlines][width] */
    uint64_t *histogram;   /* [width][EI_HISTOGRAM_BINS]; NULL: none */
    size_t low, high;      /* bins of the histogram that may be above 0: low .. high - 1 */
    int kept;              /* lanes that count in the histogram */
} ei_lane_state;

/* Requests at a stage, in rows of which the last is filled up by some that took no time. */
typedef struct {
    ei_row service[EI_PASSAGES + 1];
    ei_row born[EI_PASSAGES], time[EI_PASSAGES]; /* when they came to the system, to the stage */
    ei_row start[EI_PASSAGES], end[EI_PASSAGES]; /* of the service */
    ei_row left[EI_PASSAGES];                    /* when they left the stage */
    ei_row sojourn[EI_PASSAGES];                 /* since they came to the system */
    double waiting, busy, total;                 /* sums over all: waits, services, sojourns */
} ei_passages;

/* The loops of one width. All counts of rows are <= EI_BLOCK but that of `rates`. */
typedef struct {
    int width; /* doubles a vector */
    /* Uniforms on (0, 1] in rows [count]. */
    void (*uniforms)(ei_lanes *streams, size_t count, ei_row *rows);
    /* Exponentials in rows [count]: `scale` log2(u), u uniform on (0, 1], scale = -ln 2 / rate. */
    void (*exponentials)(ei_lanes *streams, size_t count, double scale, ei_row *rows);
    /* Service times in rows [count], behind which there is one more; those of a deterministic law stay as
     * they are. */
    void (*services)(const ei_sampler *sampler, ei_lanes *streams, size_t count, ei_row *rows);
    /* Rates of independent Rayleigh slots, log2(1 + s g) times `scale`: rate[count] by rows of EI_LANES. */
    void (*rates)(ei_lanes *streams, size_t count, double mean_snr, double scale, double *rate);
    /* Draws the services of `count` jobs whose intervals are drawn, and follows them through the stages. */
    void (*follow)(const ei_tandem *model, const ei_sampler *samplers, ei_lane_state *state, size_t count);
    /* Sets `left`, `latency` after the end, and what follows from it; whether all began and left within
     * [window[0], window[1]). */
    int (*pass)(ei_passages *self, size_t count, double latency, const double window[2]);
    /* Times in rows [count] above a limit. */
    uint64_t (*above)(const ei_row *time, size_t count, double limit);
    /* Counts the times of `count` jobs, of which the first is the replication's job `first`. */
    void (*count)(const ei_tandem *model, ei_lane_state *state, uint64_t first, size_t count);
} ei_lane_loops;

/* Of 2, 4 or 8 doubles a vector, or 0: the widest that this processor has. NULL: it has not that width. */
const ei_lane_loops *ei_lane_loops_of(int width);

/* Defined where the compiler knows the instruction set. */
extern const ei_lane_loops ei_lane_loops_narrow, ei_lane_loops_avx2, ei_lane_loops_avx512;

#endif
