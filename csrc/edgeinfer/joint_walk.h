/* The walk of joint.h on one lattice: its values (joint_walk.c), what bounds them beyond it (joint_bounds.c),
 * and with the first busy period before it (joint_first.c). */
#ifndef EDGEINFER_JOINT_WALK_H
#define EDGEINFER_JOINT_WALK_H

#include "edgeinfer/ends.h"
#include "edgeinfer/joint_laws.h"

#define EI_JOINT_ROUNDING 1e-8 /* relative, of all sums */

enum {
    EI_JOINT_BOUNDS = 12, /* exponents of the bound beyond the lattice */
    EI_JOINT_JOBS = 2000, /* of the first busy period that are followed one by one at most */
    EI_JOINT_BLOCK = 16,  /* values of u that are found at once */
    EI_JOINT_CHUNK = 64   /* values of u that have the same terms: whole blocks */
};

/* One exponent's bound beyond the lattice: see joint.h. */
typedef struct {
    double theta, a[EI_JOINT_TYPES], b[EI_JOINT_TYPES], idle_a, idle_b;
    double moment, drift, share; /* m, D, k */
    double shrink, cut;          /* k, B of joint.h's sweeps */
    double all;                  /* of all j; without end where the first wait has no such moment */
} ei_joint_bound;

/* One end's lattice. */
typedef struct {
    const ei_batch *batch;
    ei_end end;
    double d1, d3, coarse, fine;     /* s: the stages, the steps of U and of c */
    ptrdiff_t ratio, drift;          /* coarse / fine; d / fine */
    ptrdiff_t first, low, top;       /* coarse: the first point of X; fine: rows of c */
    size_t slowest;                  /* the component of the largest s_i */
    double wait_decay;               /* 1/s: of waits in first busy periods of the most jobs */
    size_t types, width, rows, pad;  /* components; a row's values, in whole blocks; rows, pad of them at the
                                        end for what lies beyond `top` */
    size_t kept, turns;              /* rows of F and R, and of T: all, or where c never falls those above a
                                        row, and those below a row where it does */
    size_t steps, steps_beyond;      /* coarse ones of c, and those for what lies beyond */
    size_t span, above, phase;       /* values of a phase of v: that are found, beyond, in all */
    ptrdiff_t deepest;               /* coarse: the last v that is found */
    size_t places;                   /* coarse ones of Y, from the same first one: as many or more */
    size_t products;                 /* of GMRES, at most, where c falls */
    double sweeps;                   /* what all rows take, roughly */
    size_t wait_cells;               /* of the first wait's law over a service */
    double most;                     /* multiply-adds of this end */
    size_t apart;                    /* interarrival times that are taken out of Y */
    double likely;                   /* roughly, at least, of the class's latest deadline */
    double least, earliest;          /* of a service's tail; s: the first deadline of the class */
    ei_joint_service service, brief; /* brief: X up to the slower constant stage, from below */
    ei_joint_law *laws;              /* [ratio]: X at d3 + (first + i) coarse + k fine; owned */
    ei_joint_busy busy;
    ei_joint_idle idle;
    ei_joint_bound bounds[EI_JOINT_BOUNDS];
    size_t bound_count;
    double *block; /* owns what follows */
    double *type[EI_JOINT_TYPES], *mix,
        *sum;                     /* T_i: [turns][width], row c - low modulo turns; F = sum w T, R: of kept */
    double *idle_value, *longest; /* H, T_i of the largest s_i, for upper ends: [rows][width] */
    double *later[2];             /* B from H on, and from `longest`: [steps + steps_beyond][width] */
    double *uncut[EI_JOINT_TYPES + 3]; /* t_i, and as for T_i F, R, H, at v: [ratio][phase], of v modulo
                                          ratio, downwards */
    double *uncut_later[2];            /* B likewise, at multiples of a coarse step: [span] */
    double *ones, *mean;               /* [width] */
    double *late, *ended;              /* [span] */
    double *found, *around;            /* [places]; longer */
} ei_joint;

/* What is asked of one deadline, at both ends. */
typedef struct {
    size_t at;
    double deadline, late[2], rising[2], falling[2]; /* P(X_0 > z) or P(few jobs > T), A, B */
    ei_joint_law *laws;                              /* [ratio]; of X_0 */
    double *value;                                   /* [places]: P(Y > y), X_0 <= z */
} ei_joint_target;

/* Values of whole blocks. */
size_t ei_joint_blocks(size_t count);
/* Y where nothing waits but the jobs whose interarrival times are taken out, and c = d3. */
double ei_joint_nearest(const ei_joint *self);

/* An array's row at c: ones where c is so small that all is late. */
double *ei_joint_row(const ei_joint *self, double *array, ptrdiff_t c);
/* Values of u that a row has: all that may be left of U where c has fallen to it; and that are given there.
 */
size_t ei_joint_row_count(const ei_joint *self, ptrdiff_t c);
size_t ei_joint_given_count(const ei_joint *self, ptrdiff_t c);

/* Finds `bounds`. Status: EI_ERR_UNSTABLE where no exponent serves, and of the service's moments. */
EI_WARN_UNUSED int ei_joint_choose_bounds(ei_joint *self);
/* At least E (1 - e^{theta (X - t)})^+, of X up to t from below, in one step. */
double ei_joint_short_share(const ei_joint_service *brief, double theta);
/* min over e of constants_e e^{-theta_e time}, and 1. */
double ei_joint_bound_at(const ei_joint *self, const double *constants, double time);
/* a and b where one more job comes first. */
void ei_joint_follow_bound(const ei_joint_bound *self, double *a, double *b);
/* `wait_decay`, and a component of weight 0, then `slowest`, for first busy periods of the most jobs: of s =
 * 1 where c grows, `endless` asks for it and an exponent bounds it that is about as steep as what serves with
 * the first wait, or of what goes with `wait_decay`; none where the largest s_i is that. */
void ei_joint_add_longest(ei_joint *self, int endless);
/* The largest exponent that serves with the first wait. */
double ei_joint_steepest(const ei_joint *self);
/* A bound, for choosing the lattice, of what is left of a busy period and all after it where c has come so
 * far. */
double ei_joint_least_beyond(const ei_joint *self, double time);
/* A bound of P(Y > nearest + time), or of its integral from there on. */
double ei_joint_least_left(const ei_joint *self, int integrated, double time);

/* Where the values stand, from u' = 0 on, that ei_joint_pass_job is given. */
double *ei_joint_given(const ei_joint *self, ptrdiff_t first);
/* P(U' > c) + E [given(u'); U' <= c] for u = 0 .. count - 1, u' = (U' - d3)^+, all in steps: U' - d3 is u +
 * `first` and more, c is `reach`, given[] is up to there. values: room for whole blocks, which are filled. */
void ei_joint_pass_job(const ei_joint *self, const ei_joint_law *law, ptrdiff_t first, ptrdiff_t reach,
                       size_t count, double *values);

/* Where t_i, or F, R, H of these, i = types .., stands at v, and from there on with v a coarse step less. */
double *ei_joint_uncut(const ei_joint *self, size_t i, ptrdiff_t v);

/* Finds `products` and `sweeps`, behind bounds. */
void ei_joint_choose_products(ei_joint *self);

/* Values that the solution needs where c never falls. */
double ei_joint_factors(const ei_joint *self);

/* T_i, F, R and H on the whole lattice. Status: EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_joint_solve(const ei_joint *self);

/* rising and falling of `count` targets, after ei_joint_solve. jobs: how many of the first busy period are
 * followed; found for an upper end, kept for the lower one. Status: EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_joint_first_busy_period(const ei_joint *self, ei_joint_target *targets, size_t count,
                                              size_t *jobs);

#endif
