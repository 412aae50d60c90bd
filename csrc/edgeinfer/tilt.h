/* Service laws under exponential tilts, e^{sigma S} / M(sigma) times the law. A link's law is that of the
 * sampler's table of quantiles, uniform between its points, which ends at 2^-54; where its tail is asked for
 * it goes on to EI_TILT_TAIL, or to where the law is known, in cells in which log P(S > time) is linear, and
 * which are met under a tilt alone. Measured times are taken in at most EI_TILT_GROUPS runs of neighbours. A
 * tilt weighs each cell or run by e^{sigma middle} and leaves what is inside as it is, so that the likelihood
 * ratio e^{sigma middle} / M(sigma) is exact for the tabulated law. Repetitions have a cell for each number
 * of slots. Rounds of a compound are tilted each, and their number by M(sigma)^n. */
#ifndef EDGEINFER_TILT_H
#define EDGEINFER_TILT_H

#include <stddef.h>
#include <stdint.h>

#include "edgeinfer/arrival.h"
#include "edgeinfer/rng.h"
#include "edgeinfer/sampler.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

enum { EI_TILT_GROUPS = 1 << 14 };
#define EI_TILT_TAIL 1e-289

typedef struct ei_tilted_law {
    const ei_service *service; /* not owned */
    ei_sampler sampler;
    ei_transfer *deep;           /* a link's law with its tail, owned; NULL: none */
    struct ei_tilted_law *round; /* [round_size], of a compound's round; owned */
    size_t round_size, round_count;
    const double *rounds; /* [round_count], P(N = n); not owned */
    size_t cells;         /* 0 unless a link, samples or a repetition */
    double *middle;       /* s, [cells] */
    double *mass;         /* [cells] */
    double *log_mass;     /* [cells], with a tail, else NULL */
    double *edge;         /* [deep_cells + 1], s, where the cells of the tail begin: the last ones */
    size_t deep_cells;
    double top; /* largest middle, s */
} ei_tilted_law;

/* One tilt of a law. */
typedef struct ei_tilt {
    double tilt;           /* sigma, 1/s */
    double log_mgf;        /* log M(sigma) of the tabulated law */
    double slope;          /* its derivative: the tilted mean, s */
    double *cumulative;    /* [cells + 1]; NULL where not needed */
    uint32_t *guide;       /* [cells] */
    struct ei_tilt *round; /* [round_size], of a compound; owned, with what follows */
    size_t round_size;
    double *more; /* [round_count], P(N > n) under the tilt */
} ei_tilt;

/* with_tail: of links. */
EI_WARN_UNUSED int ei_tilted_law_init(ei_tilted_law *self, const ei_service *service, int with_tail,
                                      ei_monitor monitor);
void ei_tilted_law_free(ei_tilted_law *self);

/* log M(sigma) and its derivative (s); +inf at and beyond the abscissa. */
double ei_tilted_log_mgf(const ei_tilted_law *self, double sigma, double *derivative);

/* Whether the law tilted by sigma lies where a link's cells have ended; *known: down to where P(S > time) has
 * them. */
int ei_tilted_ends_short(const ei_tilted_law *self, double sigma, double *known);

/* The root theta > 0 of M(theta) E e^{-theta t} = 1, t an interarrival time, for a stable stage, 1/s; +inf
 * for a service that is always 0, or never longer than a period. */
double ei_tilted_root(const ei_tilted_law *self, const ei_arrival *arrival);

/* *self owns its tables on EI_OK; free is legal after a failure and for a zeroed one. */
EI_WARN_UNUSED int ei_tilt_init(ei_tilt *self, const ei_tilted_law *law, double sigma);
void ei_tilt_free(ei_tilt *self);

/* A service time drawn under `tilt` (NULL: plainly), s. *middle: what its likelihood ratios take it for. */
double ei_tilted_draw(const ei_tilted_law *self, const ei_tilt *tilt, ei_rng *rng, double *middle);

#endif
