/* The equation u = G(u) of lindley.h on a lattice: its right side, and a certified bound of its solution.
 * Seconds; used by lindley.c and last_exit.c.
 *
 * Bounds. u is bounded by a function w that is linear between the points of a lattice, and G(w) again by one,
 * G^+(w) above it or G^-(w) below it, with laws split as in split.h: the error is of the lattice's second
 * order, but at zero, where u jumps, and in c, which is read at the point before, where it is of the first
 * order once a path. Before each step functions are made monotone, outwards.
 *
 * Certificate. Beyond the lattice w is Chernoff's bound (upper) or 0 (lower). If w >= G^+(w) on the lattice,
 * then w >= u: d = max(u - w, 0) is 0 beyond it and d <= E d(y + t - B) on it, hence at most the largest d
 * times the probability that the walk stays on the lattice for n steps, which vanishes. Lower ends likewise.
 * So any way to find w will do. With several phases the walk with its phase is what stays on the lattice. w
 * is looked for by w <- w + A^{-1} (G^+-(w) - w), A = 1 - (1 - c) K, K the linear part of G on the lattice,
 * by GMRES with the inverse of 1 - K on a circle as preconditioner, under a tilt e^{theta y} that makes K a
 * contraction. Then w is moved outwards by some epsilon times s_i e^{-kappa y}, s = 1 + E[e^{kappa (B - t)}
 * s], of which G takes off more than epsilon e^{-kappa y} but for the bends, or by the same corrections
 * towards G^+-(w) and some more; and that it is what it must be is checked, point by point, with the rounding
 * errors. Epsilon is what w is on the wrong side of G^+-(w) by, under e^{kappa y}: kappa is near the exponent
 * of w, as w is moved by a share of itself then, or the tilt, where services of few values bend w more than
 * so little takes off, and small for the far half, so that what is nearest to the lattice's end is the
 * loosest; where that is far more than w there, so that sums lose their accuracy, it is nearer to the tilt.
 *
 * Holes. What bends take off a lower bound may leave it lower at a point than at some further on, and made
 * monotone it would be as low there. But G(w) falls: a point below the largest value to its right is raised
 * to that, and the point before it lowered to it, so that the cells beside raised points are flat, at a value
 * that G(w) still has further on, or end no higher than before. As corrections would not settle under this,
 * steps that follow the certificate do it.
 *
 * Steps. Where bends let corrections go to and fro far from the solution, steps of G go on from there: under
 * the tilt they make what is left smaller.
 *
 * Sums are taken by Fourier transform under the tilt, so that small probabilities keep their accuracy. Each
 * pass moves a transform by at most 2 ei_fourier_error of its 2-norm (a pass of radix 4 by 14 u), and by
 * Parseval a sum by 7 times ei_fourier_error times the 2-norms of its two factors. Of services that are
 * hardly ever short, that is more than 1 before they begin, where a lower bound of v is P(B > x) of the far
 * point. */
#ifndef EDGEINFER_HALF_LINE_H
#define EDGEINFER_HALF_LINE_H

#include "edgeinfer/arrival.h"
#include "edgeinfer/fourier.h"
#include "edgeinfer/split.h"
#include "edgeinfer/walk.h"

/* The transforms of two real kernels, ei_fourier_split's parts at each frequency; and what they add to the
 * error of a sum, over the 2-norm of the other factor. */
typedef struct {
    double *parts, error;
} ei_kernel;

enum { EI_SLANTS = 5 };

typedef struct {
    ei_end end;
    size_t count, all, phases; /* points; and those beyond that times between arrivals reach */
    /* Where G moves with u: further on v is Chernoff's bound, and u is 1 before. */
    size_t first, free;
    int whole;               /* whether steps go on as if it moved everywhere behind */
    int filled;              /* whether holes of a lower bound are raised */
    double step, theta;      /* s; 1/s: the tilt */
    double slant[EI_SLANTS]; /* 1/s: kappas */
    int near, far;           /* which of them each half has */
    double decay;            /* of Chernoff's bound, 1/s */
    const double *chance;    /* [phases][count], c; NULL: 0 */
    ei_split service, time;
    ei_fourier fourier;
    ei_kernel serve, wait[EI_ARRIVAL_PHASES * EI_ARRIVAL_PHASES];
    double scale[EI_ARRIVAL_PHASES];            /* Chernoff's bound of v: e^{scale - decay x} */
    double start[EI_ARRIVAL_PHASES];            /* and of u */
    double super[EI_SLANTS][EI_ARRIVAL_PHASES]; /* s of each slant */
    double *weight, *bent, *flat;               /* [all + 1]: e^{theta y}; scratch */
    double *above;                              /* [cells]: mass beyond a cell */
    double *u, *v, *m, *last;                   /* [phases][all + 1]; last: u one correction before */
    double *data, *sum;                         /* [phases][2 length], [2 length] */
    double *symbol, *inverse; /* [length / 2 + 1][2 phases phases]: K, and (1 - K)^{-1} on the circle */
} ei_half_line;

/* s = 1 + e^moment E[e^{-theta t} s] > 0, made larger by a millionth and checked. sums: [n]. *found 0: there
 * is none. */
EI_WARN_UNUSED int ei_path_sums(const ei_arrival *arrival, size_t n, double theta, double moment,
                                double *sums, int *found);

/* Laws, exponent, kernels and room; u is 0. end, count and step are the caller's to set before, chance after
 * it, all else zero. slowest: of what comes before. *self is the caller's to free, also after an error. */
EI_WARN_UNUSED int ei_half_line_init(ei_half_line *self, const ei_added_stage *stage,
                                     const ei_arrival *arrival, double slowest);
/* The same without a tilt, for iterates of G alone: no certificate is asked for, and loads may be above one.
 */
EI_WARN_UNUSED int ei_half_line_init_walk(ei_half_line *self, const ei_added_stage *stage,
                                          const ei_arrival *arrival);
void ei_half_line_free(ei_half_line *self);

/* v from u. */
void ei_half_line_serve(ei_half_line *self, size_t phase);

/* G(u) into m where it is looked for. */
void ei_half_line_apply(ei_half_line *self);

/* A bound m = G(u) of a bound u, from what stands in u: corrected and certified, or by many steps from
 * Chernoff's bound or 0 where no certificate is found. */
EI_WARN_UNUSED int ei_half_line_solve(ei_half_line *self, ei_monitor monitor);

/* The first point that is looked for; the last is count - 2. */
static inline size_t ei_half_line_first(const ei_half_line *self) {
    return self->end == EI_UPPER ? 1 : 0;
}

static inline double ei_half_line_chance(const ei_half_line *self, size_t phase, size_t j) {
    return self->chance == NULL ? 0 : self->chance[phase * self->count + (j > 0 ? j - 1 : 0)];
}

#endif
