/* Functions of what is left of a deadline on the points of a line, and what a service makes of them: E f(. -
 * X) from one side, for constant_first.h. Seconds.
 *
 * Functions are of the form a + b e^{-x c} between points a step h apart, as in pair.h. With r = e^{xh} and z
 * the place of X in a cell, (e^{xhz} - 1) / (r - 1) of X counts at the cell's end and the rest at its
 * beginning, by which E f(c - X) is exact at the points; the bends D_n of pair.h (lower) and pair_upper.h
 * (upper) move the ends of the cells outwards by the mean of (p - 1) (r - p) / (p (r - 1)^2) D_n, p =
 * e^{xhz}. f = (1 - f(0)) 1{c < 0} + a function that is f(0) below 0, whose first part makes (1 - f(0)) psi,
 * psi(c) = P(X > c). psi jumps where X has few values: what is served may have a part alpha psi(. + d) beside
 * its polygon, and what becomes of that, chi(c) = E psi(max(c - X, 0) + d), and eta(c) = E psi(c + e), are
 * put between polygons once, from sums over a finer lattice. (Exponential psi is smooth: alpha = 0.)
 *
 * Laws other than exponential ones and samples are rounded to a finer lattice, upwards with some probability
 * and else downwards, so that E e^{xX} is on its side. With Phi_k = E (e^{x(X - kh)} - 1)^+ / (r - 1), E f(c
 * - X) is a sum of Phi_0 times a fall of f, and kinks of f times Phi_k; so D of either sign times the
 * difference of Phi_k between all rounded up and all rounded down covers that. */
#ifndef EDGEINFER_LINE_H
#define EDGEINFER_LINE_H

#include "edgeinfer/lattice.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

enum {
    EI_LINE_FINE = 32, /* points of a cell at which a service's law is taken */
    EI_LINE_WIDTH = 24 /* functions that are served at once: whole vectors */
};
#define EI_LINE_ROUNDING 1e-12 /* of one sum */

/* The lattice of both ends. */
typedef struct {
    const ei_service *service;
    double rate, constant, step, exponent; /* 1/s; s; s; x, 1/s */
    double ratio;                          /* r */
    size_t per_service, top;               /* cells of the constant service; the last point */
    size_t rows;                           /* points, with those that a service from the last one reaches */
} ei_line;

typedef struct {
    size_t cells;
    double decay;                /* where not 0, masses and bends are those of cell 1 and 0 and fall so */
    double *mass, *bend, *slack; /* [cells] */
    double *beyond, *late;       /* [top + 1]: mass beyond a point; psi */
    double *again, *idle;        /* chi, eta: [top + 1], [rows] */
    double at_once;              /* psi(d) */
    int exact, split;            /* slack is 0; psi is kept apart */
} ei_line_table;

/* Status: EI_ERR_NO_MEMORY, EI_ERR_ACCURACY, and of the service's moments. The table is the caller's to free,
 * also after an error. */
EI_WARN_UNUSED int ei_line_table_init(ei_line_table *self, const ei_line *line, ei_end end);
void ei_line_table_free(ei_line_table *self);

typedef struct {
    const ei_line *line;
    const ei_line_table *table;
    ei_end end;
    double *bent, *other, *bends, *more; /* [rows][EI_LINE_WIDTH]: scratch */
    double apart[EI_LINE_WIDTH];         /* alpha of psi(. + d) in what is served; then of psi */
} ei_line_server;

/* Scratch of that many values each; scratch[4 length], the caller's. */
static inline void ei_line_server_use(ei_line_server *self, double *scratch, size_t length) {
    self->bent = scratch;
    self->other = scratch + length;
    self->bends = scratch + 2 * length;
    self->more = scratch + 3 * length;
}

/* E f(. - X) at points 0 .. top from f there, of one function or EI_LINE_WIDTH: rows of their values. */
void ei_line_serve(ei_line_server *self, const double *from, double *to, size_t width);

/* Kinks of a polygon, of the sort that bends, and of the other: [count - 1], count > 1. */
void ei_line_kinks(double ratio, ei_end end, const double *from, double *bent, double *other, size_t count);

/* Place in a cell, of the polygon's weights: what the later point has after z of a cell. */
double ei_line_place(const ei_line *self, double z);
/* How far a kink of 1 bends a cell: the most; and between z and z + 1 / EI_LINE_FINE, z = i / EI_LINE_FINE.
 */
double ei_line_most_bent(const ei_line *self);
double ei_line_bend_near(const ei_line *self, size_t i);

#endif
