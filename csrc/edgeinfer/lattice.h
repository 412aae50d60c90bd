/* Laws on a lattice that bound a true one from a chosen side. Seconds. */
#ifndef EDGEINFER_LATTICE_H
#define EDGEINFER_LATTICE_H

#include <stddef.h>

#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

typedef enum { EI_LOWER, EI_UPPER } ei_end; /* of a bracket: never above the truth, or never below */

/* A survival function on the points 0, step, 2 step, ..; between them the true one is bounded by its
 * neighbours, since it decreases. */
typedef struct {
    double step; /* s */
    size_t count;
    double *sf; /* [count]; owned */
} ei_lattice;

void ei_lattice_free(ei_lattice *self);
/* The value at the point at or below `time` (upper) or at or above it (lower); 1 below 0; beyond the last
 * point the last value (upper) or 0 (lower). */
double ei_lattice_upper(const ei_lattice *self, double time);
double ei_lattice_lower(const ei_lattice *self, double time);

/* Time where P(X > time) falls below 1e-18, up to a factor of 1.001. */
double ei_service_reach(const ei_service *service);

/* Certified bounds on the law of max(floor, service) at count points: never below (upper) or above (lower)
 * the truth, the accuracy of the transfer law allowed for. */
EI_WARN_UNUSED int ei_lattice_service(ei_lattice *self, const ei_service *service, double floor, double step,
                                      size_t count, ei_end end);

/* The same less `from`, s. */
EI_WARN_UNUSED int ei_lattice_service_from(ei_lattice *self, const ei_service *service, double floor,
                                           double from, double step, size_t count, ei_end end);

/* The former from both sides, with no floor. */
EI_WARN_UNUSED int ei_lattice_ends(ei_lattice ends[2], const ei_service *service, double step, size_t count);

/* Lower bounds of P(Y + Z > i step) from those of two independent times on lattices of one step. *self is the
 * caller's to free. */
EI_WARN_UNUSED int ei_lattice_sum_lower(ei_lattice *self, const ei_lattice *left, const ei_lattice *right);
/* The same at any time, on any two lattices; `other` may be empty: Z = 0. */
double ei_lattice_plus_lower(const ei_lattice *self, const ei_lattice *other, double time);

/* From lower bounds of the law of C, in its place, those of P(sup_i [C_i - i fall] > x), C_0, C_1, ..
 * independent and of that law, fall > 0 s. */
void ei_lattice_supremum_lower(ei_lattice *law, double fall);

/* From bounds of the law of Y from the side `end`, in their place, those of Y + Z, Z exponential of that rate
 * (1/s) and independent. As the place of Y is on the lattice already, nothing is rounded but the sums. */
void ei_lattice_add_exponential(ei_lattice *law, double rate, ei_end end);

/* Sum of products, the same bits whatever the vectors' width: the lanes are summed in one order. */
double ei_dot(const double *restrict left, const double *restrict right, size_t count);

#endif
