#include "edgeinfer/last_exit.h"

#include "edgeinfer/half_line.h"
#include "edgeinfer/lindley.h"
#include "edgeinfer/split.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    POINTS = 8192,      /* of the law of R, */
    REACH = 2 * POINTS, /* up to which it is read, */
    WALK_POINTS = 4096, /* of the walk behind a request, */
    LEAST = 8,          /* and over the constant time, at least */
    STEPS = 1200,       /* of that walk, at most */
    EXPONENTS = 12      /* that bound it */
};
static const double COARSER = 0.75; /* of the most points over an interval: the fewest that are tried */
static const double SETTLED = 1e-4; /* relative change of phi at which the walk ends */
static const double FOLLOWED = 14;  /* decay times of R after which phi may stay what it is */
static const double NOTHING = 1e-9; /* phi that is not followed */
static const double BEND = 0.01; /* what a bend counts beside a share by which the constant time is moved */
static const double ALIGNED = 1e-12; /* of a step: by which a time may be off one of its multiples, */
static const double ROUNDING =
    1e-9; /* and what this may change, and of sums of terms of one sign: relative */

/* By how much P(R > x + j step) is taken, and taken off. */
typedef struct {
    double step;         /* s */
    size_t whole, fall;  /* m and a - m, in steps */
    double *more, *less; /* [REACH]; more: owned */
} weights;

/* R's law at the points from both sides. */
typedef struct {
    double *above, *below;          /* [REACH]; above: owned */
    double log_scale, decay, shift; /* of the upper one */
} sides;

static int weights_init(weights *self, const ei_last_exit *given, ei_end end) {
    const double most = floor(given->interval * POINTS / given->horizon),
                 share = given->time / given->interval;
    double best = INFINITY;
    *self = (weights){.step = 0};
    for (double points = most; points >= fmax(floor(COARSER * most), 1); points--) {
        const double exact = share * points,
                     whole = end == EI_UPPER ? ceil(exact - ALIGNED) : floor(exact + ALIGNED),
                     bend = ei_split_bend(given->random->law, given->random->less, given->interval / points),
                     moved = fmax(fabs(whole - exact) - ALIGNED, 0) / (points - exact) + BEND * bend;
        if (whole < LEAST || points - whole < 1 || !(moved < best))
            continue;
        best = moved;
        self->step = given->interval / points;
        self->whole = (size_t)whole;
        self->fall = (size_t)(points - whole);
    }
    if (isinf(best))
        return EI_ERR_ACCURACY;
    self->more = malloc(2 * (size_t)REACH * sizeof *self->more);
    self->less = self->more + REACH;
    return self->more == NULL ? EI_ERR_NO_MEMORY : EI_OK;
}

/* Requests every m seconds. */
static ei_arrival every(const weights *self) {
    return (ei_arrival){.kind = EI_ARRIVAL_DETERMINISTIC,
                        .parameter = {1 / (self->step * (double)self->whole)}};
}

/* A bound of phi_n in each cell, of one n. */
static void add_exit(weights *self, const double *phi, size_t n) {
    for (size_t i = 0, j = n * self->fall; i <= self->whole && j < REACH; i++, j++) {
        const double change = (i < self->whole ? phi[i] : 0) - (i > 0 ? phi[i - 1] : 0);
        self->more[j] += fmax(change, 0);
        self->less[j] += fmax(-change, 0);
    }
}

/* The limit of phi from below; 0 where the walk has none. */
static int find_limit(const weights *self, const ei_last_exit *given, double *phi) {
    const ei_arrival arrival = every(self);
    const ei_upper_law none = {.decay = 0};
    ei_upper_law law;
    const int status =
        ei_add_stage_lindley(&law, &none, given->random, &arrival, self->step, WALK_POINTS, given->monitor);
    for (size_t i = 0; i < self->whole; i++)
        phi[i] = status == EI_OK
                     ? fmax(1 - ei_upper_law_sf(&law, (double)(self->whole - i - 1) * self->step), 0)
                     : 0;
    ei_upper_law_free(&law);
    return ei_no_bound(status) ? EI_OK : status;
}

/* Of the walk from above: exponents, of one service and of one step. */
typedef struct {
    double theta[EXPONENTS], service[EXPONENTS], step[EXPONENTS];
} exponents;

static int find_exponents(exponents *self, const weights *weight, const ei_last_exit *given, double most) {
    int status = EI_OK;
    for (size_t e = 0; e < EXPONENTS && status == EI_OK; e++) {
        double *moment = &self->service[e];
        self->theta[e] = most * (double)(e + 1) / (EXPONENTS + 1);
        status = ei_added_stage_log_moment(given->random, self->theta[e], moment);
        *moment *= 1 + EI_SERVICE_MGF_ERROR;
        self->step[e] = fmax(*moment - self->theta[e] * weight->step * (double)weight->whole, 0);
    }
    return status;
}

/* What is beyond the lattice of u after so many steps, and of v: by Doob's inequality. */
static void bound_beyond(ei_half_line *walk, const exponents *of, double steps) {
    const double end = (double)walk->count * walk->step;
    size_t best = 0;
    for (size_t e = 1; e < EXPONENTS; e++)
        if (of->service[e] + steps * of->step[e] - of->theta[e] * end <
            of->service[best] + steps * of->step[best] - of->theta[best] * end)
            best = e;
    walk->decay = of->theta[best];
    walk->scale[0] = of->service[best] + steps * of->step[best];
    for (size_t j = walk->count - 1; j <= walk->all; j++)
        walk->u[j] =
            fmin(exp(steps * of->step[best] - walk->decay * (double)j * walk->step) * (1 + ROUNDING), 1);
}

/* Takes phi_n of all n from the side `end`. */
static int weigh(weights *self, const ei_last_exit *given, double decay, ei_end end) {
    const ei_arrival arrival = every(self);
    const size_t whole = self->whole;
    const int upper = end == EI_UPPER;
    /* Of 1 - v the other side. */
    ei_half_line walk = {.end = upper ? EI_LOWER : EI_UPPER, .count = WALK_POINTS, .step = self->step};
    exponents of;
    const double steps = fmin(FOLLOWED / (decay * (double)self->fall * self->step), STEPS);
    double *phi = calloc(2 * whole, sizeof *phi), *limit = phi + whole, before = 1;
    size_t n = 1;
    int status = phi == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    memset(self->more, 0, 2 * (size_t)REACH * sizeof *self->more);
    self->more[0] = 1;
    if (status == EI_OK)
        status = ei_half_line_init_walk(&walk, given->random, &arrival);
    if (status == EI_OK && !upper)
        status = find_limit(self, given, limit);
    if (status == EI_OK && !upper)
        status = find_exponents(&of, self, given, decay);
    if (status != EI_OK)
        goto out;
    walk.u[0] = !upper;
    for (int settled = 0; !settled && (double)n < steps; n++) {
        const size_t first = ei_half_line_first(&walk);
        if (!upper)
            bound_beyond(&walk, &of, (double)(n - 1));
        ei_half_line_apply(&walk);
        for (size_t i = 0; i < whole; i++)
            phi[i] = upper ? fmin(1 - walk.v[whole - i], 1) : fmax(1 - walk.v[whole - i - 1], limit[i]);
        add_exit(self, phi, n);
        memcpy(walk.u + first, walk.m + first, (WALK_POINTS - 1 - first) * sizeof *walk.u);
        if (ei_stopped(given->monitor)) {
            status = EI_ERR_INTERRUPTED;
            goto out;
        }
        settled = phi[0] < NOTHING || before - phi[0] < SETTLED * phi[0];
        before = phi[0];
    }
    for (; n * self->fall < REACH; n++)
        add_exit(self, upper ? phi : limit, n);
out:
    free(phi);
    ei_half_line_free(&walk);
    return status;
}

static int sides_init(sides *self, const ei_last_exit *given, const ei_upper_law *before, double step) {
    const ei_arrival arrival = {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {1 / given->interval}};
    ei_upper_law above = {.decay = 0};
    ei_lattice below = {.sf = NULL};
    self->above = calloc(2 * (size_t)REACH, sizeof *self->above);
    self->below = self->above + REACH;
    int status = self->above == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    if (status == EI_OK)
        status = ei_add_stage_lindley(&above, before, given->random, &arrival, step, POINTS, given->monitor);
    if (status == EI_OK)
        status =
            ei_lindley_sojourn_lower(&below, NULL, given->random, &arrival, step, POINTS, given->monitor);
    for (size_t j = 0; j < REACH && status == EI_OK; j++) {
        self->above[j] =
            j < above.lattice.count
                ? above.lattice.sf[j]
                : fmin(self->above[j - 1], exp(above.log_scale - above.decay * (double)j * step));
        self->below[j] = j < below.count ? below.sf[j] : 0;
    }
    self->log_scale = above.log_scale;
    self->decay = above.decay;
    self->shift = above.shift;
    ei_upper_law_free(&above);
    ei_lattice_free(&below);
    return status;
}

/* P(W > k step) for all k < POINTS, from above. */
static void sum_upper(const weights *weight, const sides *law, double *sf) {
    /* Of later requests, and of cells that are left out. */
    const double end = exp(law->log_scale - law->decay * REACH * weight->step) *
                       ((double)weight->whole / (double)weight->fall + 2 -
                        1 / expm1(-law->decay * (double)weight->fall * weight->step));
    for (size_t k = 0; k < POINTS; k++) {
        const double more = ei_dot(weight->more, law->above + k, REACH - k),
                     less = ei_dot(weight->less, law->below + k, REACH - k);
        sf[k] = fmin(more * (1 + ROUNDING) - less * (1 - ROUNDING) + end, k > 0 ? sf[k - 1] : 1);
    }
}

/* The same sum of phi from below. */
static void sum_lower(const weights *weight, const sides *law, double *sf) {
    double all = 0;
    for (size_t j = 0; j < REACH; j++)
        all += weight->less[j];
    for (size_t k = 0; k < POINTS; k++) {
        const double more = ei_dot(weight->more, law->below + k, REACH - k),
                     less = ei_dot(weight->less, law->above + k, REACH - k);
        sf[k] = more * (1 - ROUNDING) - less * (1 + ROUNDING) - all * law->above[REACH - 1];
    }
}

int ei_last_exit_upper(ei_upper_law *law, const ei_last_exit *given) {
    weights weight;
    sides of = {.above = NULL};
    *law = (ei_upper_law){.decay = 0};
    int status = weights_init(&weight, given, EI_UPPER);
    if (status == EI_OK)
        status = sides_init(&of, given, given->before, weight.step);
    if (status == EI_OK)
        status = weigh(&weight, given, of.decay, EI_UPPER);
    if (status == EI_OK && (law->lattice.sf = malloc(POINTS * sizeof(double))) == NULL)
        status = EI_ERR_NO_MEMORY;
    if (status == EI_OK) {
        law->lattice.step = weight.step;
        law->lattice.count = POINTS;
        law->decay = of.decay;
        law->log_scale = of.log_scale - log(-expm1(-of.decay * (double)weight.fall * weight.step)) + ROUNDING;
        law->shift = of.shift;
        sum_upper(&weight, &of, law->lattice.sf);
    }
    free(weight.more);
    free(of.above);
    return status;
}

int ei_last_exit_lower(ei_lattice *law, const ei_last_exit *given) {
    const ei_upper_law none = {.decay = 0};
    weights weight;
    sides of = {.above = NULL};
    double *late = NULL;
    *law = (ei_lattice){.sf = NULL};
    int status = weights_init(&weight, given, EI_LOWER);
    if (status == EI_OK)
        status = sides_init(&of, given, &none, weight.step);
    if (status == EI_OK)
        status = weigh(&weight, given, of.decay, EI_UPPER);
    if (status == EI_OK && (late = malloc(2 * (size_t)POINTS * sizeof *late)) == NULL)
        status = EI_ERR_NO_MEMORY;
    if (status == EI_OK) {
        sum_upper(&weight, &of, late);
        status = weigh(&weight, given, of.decay, EI_LOWER);
    }
    if (status == EI_OK) {
        const double *sum = late + POINTS;
        sum_lower(&weight, &of, late + POINTS);
        for (size_t k = POINTS; k-- > 0;)
            late[k] = fmax(sum[k] * (1 - late[k]), k + 1 < POINTS ? late[k + 1] : 0);
        *law = (ei_lattice){weight.step, POINTS, late};
    } else {
        free(late);
    }
    free(weight.more);
    free(of.above);
    return status;
}
