/* What all formulas of a bracket share: the elements of one arrival rate and their ends, and the laws at
 * which the formulas begin. */
#ifndef EDGEINFER_ENDS_H
#define EDGEINFER_ENDS_H

#include <stddef.h>
#include <stdint.h>

#include "edgeinfer/arrival.h"
#include "edgeinfer/lattice.h"
#include "edgeinfer/queue.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

enum {
    EI_BRACKET_UNSTABLE,      /* a stage's load is >= 1: both ends are 1 */
    EI_BRACKET_EXACT,         /* no random stage: M/D/1 */
    EI_BRACKET_TRIVIAL,       /* 0 for a lower end, 1 for an upper one */
    EI_BRACKET_QUEUE,         /* lower */
    EI_BRACKET_LINK,          /* lower */
    EI_BRACKET_HANDOVER,      /* lower */
    EI_BRACKET_SINGLE_SERVER, /* upper, as all below */
    EI_BRACKET_FIRST_HANDOVER,
    EI_BRACKET_OVERTAKING,
    EI_BRACKET_ASSOCIATED,
    EI_BRACKET_ADDED_STAGE,
    EI_BRACKET_BOTTLENECK_FIRST,
    EI_BRACKET_MOMENTS,
    EI_BRACKET_SINGLE_QUEUE,   /* both */
    EI_BRACKET_JOINT,          /* both */
    EI_BRACKET_EXPONENTIAL,    /* both */
    EI_BRACKET_TWO_STAGES,     /* both */
    EI_BRACKET_TILTED,         /* upper */
    EI_BRACKET_ALONE,          /* both */
    EI_BRACKET_CONSTANT_FIRST, /* both */
    EI_BRACKET_CONSTANT_LAST,  /* upper */
    EI_BRACKET_BLOCKS,         /* upper */
    EI_BRACKET_METHODS
};

enum {
    EI_PROBES = 4,
    EI_SERVICE_POINTS = 2048, /* lattice over the law of X */
    EI_EXPONENTS = 12         /* candidate exponents of a Chernoff bound */
};

/* How much work an end may cost: some 0.1 s, or as much as a ratio of ends near to one takes; light:
 * without what may take longer, two_stages, joint, constant_first and constant_last; behind Poisson arrivals
 * without all that ei_chain_ends tries after added_stage. */
typedef enum { EI_EFFORT_FAST, EI_EFFORT_TIGHT, EI_EFFORT_LIGHT } ei_effort;

/* D (d1), X, D (d3) with `constant` seconds more. */
typedef struct {
    double d1, d3, constant;
    const ei_service *random; /* NULL: none */
} ei_shape;

/* One arrival rate's deadlines. The first EI_PROBES are the library's own, spread over the probabilities of
 * interest: they alone decide how far lattices reach and which formulas are tried, so that a bracket is a
 * function of its own rate and deadline, the same alone as beside others, and falls with the deadline. */
typedef struct {
    const ei_shape *pipeline;
    double arrival_rate, horizon; /* 1/s; s, where lattices may end */
    ei_arrival arrival;           /* renewal, of that rate */
    ei_effort effort;
    size_t count;
    const size_t *index; /* [count], into the caller's arrays */
    const double *deadline;
    double *lower, *upper;
    uint8_t *lower_method, *upper_method;
    ei_monitor monitor;
} ei_batch;

/* The better of what is known of an element and `value`, which is put into [0, 1]. */
void ei_raise_lower(const ei_batch *self, size_t at, double value, int method);
void ei_cut_upper(const ei_batch *self, size_t at, double value, int method);
/* Whether some probe's ends are still further apart than by the factor `enough`. */
int ei_is_wide(const ei_batch *self, double enough);

/* Whether three stages, of these mean services, s, are nearly as slow as each other, which joint.h is for. */
int ei_are_nearly_equal(double first, double random, double last);

/* E[P(Wq > rest - X)], X on a lattice rounded up (upper) or down, which rounds an increasing function so. */
double ei_waiting_plus_sf(const ei_md1 *waiting, const ei_lattice *law, double rest, ei_end end);

/* Bounds on the survival function of S + Wq(S), S = max(floor, X), on one lattice over [0, horizon] or more:
 * ends[first .. last], which the caller frees. No upper one (sf NULL) where rounding pushes the load over
 * one. Status: EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_sojourn_ends(const ei_batch *self, double floor, double horizon, ei_end first,
                                   ei_end last, ei_lattice ends[2]);

/* log M_X(theta), and e^{kappa(theta)} of a deterministic bottleneck. */
typedef struct {
    double theta, log_moment, kappa;
} ei_exponent;

/* Exponents below the root of e^{theta dm} lambda / (lambda + theta) = 1 with M_X(theta) <= e^{theta dm}, or,
 * any_bottleneck, with M_X(theta) lambda / (lambda + theta) <= 1. */
EI_WARN_UNUSED int ei_choose_exponents(const ei_batch *self, double dm, int any_bottleneck,
                                       ei_exponent candidates[EI_EXPONENTS], size_t *count);

#endif
