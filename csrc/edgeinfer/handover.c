#include "edgeinfer/handover.h"

#include "edgeinfer/multiversion.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    CELLS = 128, /* lattice points that make the deterministic service */
    SIZE = 6 * CELLS,
    GROUPS = 16, /* cells of the part of it that a record leaves */
    JOBS = 64    /* jobs on the added stage before the Chernoff bound takes over */
};
static const double BEYOND = 6; /* mean interarrival times that a lattice reaches beyond the deadlines */

/* sf(y) <- E[sf(y - d + t)], t exponential, on the lattices of an upper and a lower bound: within a cell they
 * count as its left or its right end, and t is integrated exactly. Below the lattice sf is 1 or, lower, its
 * first value; beyond it the last value, or 0. */
static void pass_job(double *restrict up, double *restrict low, size_t count, double rate, double step,
                     double d) {
    double steps = d / step, whole = ceil(steps), part = exp(-rate * step * (1 - (whole - steps)));
    double decay = exp(-rate * step), up_mean = up[count - 1], low_mean = 0, right = 0, bottom = low[0];
    size_t shift = (size_t)whole;
    for (size_t j = count; j-- > 0;) {
        double up_here = up[j], low_here = low[j];
        if (j + shift < count) {
            up[j + shift] = (1 - part) * up_here + part * up_mean;
            low[j + shift] = (1 - part) * right + part * low_mean;
        }
        up_mean = decay * up_mean + (1 - decay) * up_here;
        low_mean = decay * low_mean + (1 - decay) * right;
        right = low_here;
    }
    for (size_t i = shift < count ? shift : count; i-- > 0;) {
        up[i] = (1 - part) + part * up_mean;
        low[i] = (1 - part) * right + part * low_mean;
        up_mean = decay * up_mean + (1 - decay);
        low_mean = decay * low_mean + (1 - decay) * right;
        right = bottom;
    }
}

/* One step of U' = X + (U - d)^+, distribution functions on the lattice d / CELLS, X rounded down
 * (at most), U beyond the lattice counted as its end. */
EI_MULTIVERSION
static void next_chance(const double *restrict service, const double *restrict old, double *restrict new) {
    const size_t n = CELLS, size = SIZE;
    for (size_t i = 0; i < size; i++)
        new[i] = old[n] * service[i];
    for (size_t w = n + 1; w <= size; w++) {
        double mass = (w < size ? old[w] : 1) - old[w - 1];
        for (size_t i = w - n; i < size; i++)
            new[i] += mass * service[i - (w - n)];
    }
}

/* total[i] += weight[0] up[i] - sum_k (weight[k] - weight[k + 1]) low[i + offset[k]], low = 0 beyond count.
 */
EI_MULTIVERSION
static void add_handover(double *restrict total, size_t count, const double *weight,
                         const double *restrict up, const double *restrict low, const size_t *offset) {
    for (size_t i = 0; i < count; i++)
        total[i] += weight[0] * up[i];
    for (size_t k = 0; k < GROUPS; k++) {
        double mass = weight[k] - weight[k + 1];
        if (mass > 0)
            for (size_t i = 0; i + offset[k] < count; i++)
                total[i] -= mass * low[i + offset[k]];
    }
}

/* min over e of exp(left[e] - theta_e y), at most 1. */
static double remainder_of(const double *left, const ei_exponent *candidates, size_t exponents, double y) {
    double least = 0;
    for (size_t e = 0; e < exponents; e++)
        least = fmin(least, left[e] - candidates[e].theta * y);
    return exp(least);
}

/* left[e] - theta_e y bounds the logarithm of what all jobs from this one on contribute; `chance` is that the
 * job finds the stage idle. */
static void leave_to_chernoff(double *left, const ei_exponent *candidates, size_t exponents, double rate,
                              double d, double before, double chance, int job) {
    for (size_t e = 0; e < exponents; e++) {
        double theta = candidates[e].theta, idle = log1p(theta / rate), kappa = theta * d - idle;
        left[e] = log(chance) + candidates[e].log_moment + job * kappa - log(-expm1(kappa));
        if (before > 0)
            left[e] -= log(-expm1(theta * before - idle));
    }
}

/* Whether what is left is small beside the bound at every probe. */
static int is_negligible(const ei_batch *self, const double *left, const ei_exponent *candidates,
                         size_t exponents, double constant, const ei_lattice *bound) {
    int negligible = 1;
    for (size_t i = 0; i < EI_PROBES && negligible; i++) {
        double y = self->deadline[self->index[i]] - constant;
        negligible =
            !(y >= 0) || remainder_of(left, candidates, exponents, y) < 1e-4 * ei_lattice_upper(bound, y);
    }
    return negligible;
}

/* Lower ends where the stage stands behind the link: R_l and the job's delay there, U cells of `cell` s. */
static void raise_behind(const ei_batch *self, const ei_lattice *low, const double *chance, double margin,
                         double constant, double cell) {
    const size_t n = CELLS;
    for (size_t i = 0; i < self->count; i++) {
        double y = margin + self->deadline[self->index[i]] - constant;
        double sum = chance[n] * ei_lattice_lower(low, fmax(y, 0));
        for (size_t w = n + 1; w <= SIZE; w++)
            sum += ((w < SIZE ? chance[w] : 1) - chance[w - 1]) *
                   ei_lattice_lower(low, fmax(y - (double)(w - n) * cell, 0));
        ei_raise_lower(self, self->index[i], sum, EI_BRACKET_HANDOVER);
    }
}

/* Adds a stage of time d behind the link: see first_handover. ends: bounds on the law of R_0, d not counted;
 * ends[EI_UPPER] becomes the bound with the stage. `before`: the time of the stage that has been added
 * already, or 0. The elements' lower ends are raised where the stage stands `behind` the link in truth. */
static int add_stage(const ei_batch *self, double d, double before, int behind, ei_lattice ends[2]) {
    const ei_shape *pipeline = self->pipeline;
    const size_t n = CELLS, group = CELLS / GROUPS;
    double constant = pipeline->constant + pipeline->d1 + pipeline->d3, step = ends[EI_UPPER].step;
    double rate = self->arrival_rate, left[EI_EXPONENTS];
    /* The law of R_l reaches below zero. */
    size_t points = ends[EI_UPPER].count, below = (size_t)fmin(BEYOND / (rate * step), (double)points);
    size_t count = points + below, exponents = 0, offset[GROUPS];
    double margin = (double)below * step, *work = NULL, weight[GROUPS + 1];
    ei_exponent candidates[EI_EXPONENTS];
    ei_lattice law = {0}, low = {step, count, NULL};
    int finished = 0, status = ei_choose_exponents(self, fmax(d, before), 1, candidates, &exponents);
    if (status != EI_OK ||
        (status = ei_lattice_service(&law, pipeline->random, 0, d / CELLS, SIZE + 2, EI_LOWER)) != EI_OK)
        goto out;
    work = malloc((2 * count + 3 * SIZE) * sizeof *work);
    if (work == NULL) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    /* chance: P(U <= i d / n), U the U_{job - 1} of the job at hand. */
    double *service = work, *chance = service + SIZE, *next = chance + SIZE;
    double *up = next + SIZE, *total = ends[EI_UPPER].sf;
    low.sf = up + count;
    for (size_t i = 0; i < below; i++)
        up[i] = low.sf[i] = 1;
    memcpy(up + below, ends[EI_UPPER].sf, points * sizeof *up);
    memcpy(low.sf + below, ends[EI_LOWER].sf, points * sizeof *low.sf);
    for (size_t i = 0; i < SIZE; i++)
        chance[i] = service[i] = 1 - law.sf[i + 1];
    for (size_t k = 0; k < GROUPS; k++)
        offset[k] = (size_t)ceil((double)((k + 1) * group) * law.step / step * (1 + 1e-14));
    for (int job = 1;; job++) {
        finished = !(chance[n - 1] > 0);
        if (finished)
            break;
        leave_to_chernoff(left, candidates, exponents, rate, d, before, chance[n - 1], job);
        if (job > JOBS || is_negligible(self, left, candidates, exponents, constant, &ends[EI_UPPER]))
            break;
        pass_job(up, low.sf, count, rate, step, d);
        for (size_t k = 0; k <= GROUPS; k++)
            weight[k] = k < GROUPS ? chance[n - k * group - 1] : 0;
        add_handover(total, points, weight, up + below, low.sf + below, offset);
        /* Later jobs gain little. */
        if (behind && (job & (job - 1)) == 0)
            raise_behind(self, &low, chance, margin, constant, law.step);
        next_chance(service, chance, next);
        double *swap = chance;
        chance = next;
        next = swap;
        if (job % 8 == 7 && ei_stopped(self->monitor)) {
            status = EI_ERR_INTERRUPTED;
            goto out;
        }
    }
    for (size_t i = 0; i < points; i++) {
        double rest = finished ? 0 : remainder_of(left, candidates, exponents, (double)i * step);
        total[i] = fmin(total[i] + rest, i > 0 ? total[i - 1] : 1);
    }
out:
    free(work);
    ei_lattice_free(&law);
    return status;
}

int ei_bracket_link(const ei_batch *self) {
    const ei_shape *pipeline = self->pipeline;
    double constant = pipeline->constant + pipeline->d1 + pipeline->d3;
    double rest = self->horizon - constant;
    ei_lattice ends[2] = {{.sf = NULL}, {.sf = NULL}};
    int status;
    if (!(rest > 0))
        return EI_OK;
    if ((status = ei_sojourn_ends(self, 0, rest + BEYOND / self->arrival_rate, EI_LOWER, EI_UPPER, ends)) !=
        EI_OK)
        goto out;
    for (size_t i = 0; i < self->count; i++)
        ei_raise_lower(self, self->index[i],
                       ei_lattice_lower(&ends[EI_LOWER], self->deadline[self->index[i]] - constant),
                       EI_BRACKET_LINK);
    double dm = fmax(pipeline->d1, pipeline->d3);
    if (ends[EI_UPPER].sf == NULL || ei_service_mean(pipeline->random) < 0.9 * dm)
        goto out;
    if ((pipeline->d1 > 0 && (status = add_stage(self, pipeline->d1, 0, 0, ends)) != EI_OK) ||
        (pipeline->d3 > 0 && (status = add_stage(self, pipeline->d3, pipeline->d1, 1, ends)) != EI_OK))
        goto out;
    for (size_t i = 0; i < self->count; i++) {
        double y = self->deadline[self->index[i]] - constant;
        if (isfinite(y))
            ei_cut_upper(self, self->index[i], ei_lattice_upper(&ends[EI_UPPER], y),
                         EI_BRACKET_FIRST_HANDOVER);
    }
out:
    ei_lattice_free(&ends[EI_LOWER]);
    ei_lattice_free(&ends[EI_UPPER]);
    return status;
}
