/* The walk of constant_first.h behind the first busy period: T_i and H on a lattice, from one side. */
#ifndef EDGEINFER_CONSTANT_WALK_H
#define EDGEINFER_CONSTANT_WALK_H

#include "edgeinfer/joint_laws.h"
#include "edgeinfer/line.h"
#include "edgeinfer/pair_rows.h"

enum { EI_CONSTANT_TYPES = EI_LINE_WIDTH }; /* of busy periods */

/* The bound beyond the lattice. */
typedef struct {
    double theta, drift, moment, idle;     /* 1/s; D, M, L */
    double type[EI_CONSTANT_TYPES], after; /* a_i, A */
} ei_constant_bound;

typedef struct {
    const ei_line *grid;
    ei_end end;
    double decay; /* 1/s */
    ei_joint_busy busy;
    ei_constant_bound bound;
    ei_line_table table;
    ei_line_server by;
    ei_wait_weights idle; /* of an idle time, */
    double idle_bend;     /* and the bend of its first cell */
    double *block;        /* owns what follows */
    double *type, *next;  /* T_i without psi, and what a sweep makes of it: [rows][EI_CONSTANT_TYPES] */
    double *mixed, *mean, *kinks, *after; /* scratch: the same, [rows], [rows]; H: [rows] */
    double apart[EI_CONSTANT_TYPES];      /* alpha */
} ei_constant_walk;

/* decay: of the law; longest: jobs of a busy period that matter. *self is the caller's to free, also after an
 * error. Status: EI_ERR_UNSTABLE, EI_ERR_ACCURACY, EI_ERR_NO_MEMORY. */
EI_WARN_UNUSED int ei_constant_walk_init(ei_constant_walk *self, const ei_line *grid, ei_end end,
                                         double decay, double longest);
void ei_constant_walk_free(ei_constant_walk *self);

/* From what stands in `type` and `apart`; within so many multiply-adds. Status: EI_ERR_ACCURACY where no
 * certificate is found, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_constant_walk_solve(ei_constant_walk *self, double work, ei_monitor monitor);

/* The bound scale e^{-theta c} at a point, read a step before. */
double ei_constant_bound_at(const ei_constant_walk *self, double scale, size_t n);

#endif
