#include "edgeinfer/alone.h"

#include "edgeinfer/bound.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { POINTS = 8192, EXPONENTS = 64 };

static const double LIGHT = 0.3, LIGHT_SUM = 0.1; /* load of all stages up to which they are tried, */
static const double LITTLE = 0.2; /* or share of an upper end that is more than what others add */
static const double ROUNDING = 1e-11;
static const double LARGEST = 690; /* of an exponent times a deadline */

/* Of what others add: log of the constant of e^{-theta T}, from above. */
typedef struct {
    double theta, log_constant;
} remainder_bound;

static int choose_remainders(const ei_batch *self, const ei_service *stages, size_t stage_count,
                             remainder_bound remainders[EXPONENTS], size_t *count) {
    double limit, slope, longest = 0;
    int status = ei_decay_rate(stages, stage_count, &self->arrival, &limit);
    *count = 0;
    if (status != EI_OK)
        return status;
    for (size_t k = 0; k < stage_count; k++)
        longest += ei_service_mean(&stages[k]);
    limit = fmin(limit, LARGEST / longest);
    for (size_t i = 1; i <= EXPONENTS && limit > 0; i++) {
        const double theta = limit * (double)i / (EXPONENTS + 1),
                     fall = ei_arrival_exponent(&self->arrival, theta, &slope);
        double constant = 0, paths = 0, most = -INFINITY, moment;
        for (size_t k = 0; k < stage_count; k++) {
            if ((status = ei_service_log_mgf(&stages[k], theta, &moment, NULL)) != EI_OK)
                return status;
            moment += EI_SERVICE_MGF_ERROR;
            constant += moment;
            paths -= log1p(-exp(moment - fall));
            most = fmax(most, moment - fall);
        }
        /* The sum of phi M_k, where it is as small as that. */
        constant += (paths > 1e-9 ? log(expm1(paths)) : most + log((double)stage_count)) + 1e-8;
        /* Where all moments times phi are below one, from above. */
        if (most < 0 && isfinite(constant))
            remainders[(*count)++] = (remainder_bound){theta, constant};
    }
    return EI_OK;
}

static double remainder_at(const remainder_bound *remainders, size_t count, double deadline) {
    double least = 0;
    for (size_t i = 0; i < count; i++)
        least = fmin(least, remainders[i].log_constant - remainders[i].theta * deadline);
    return exp(least);
}

/* Whether what others add is little anywhere. */
static int is_little(const ei_batch *self, const remainder_bound *remainders, size_t count) {
    for (size_t i = 0; i < self->count; i++) {
        const size_t at = self->index[i];
        if (isfinite(self->deadline[at]) &&
            remainder_at(remainders, count, self->deadline[at]) < LITTLE * self->upper[at])
            return 1;
    }
    return 0;
}

/* Bounds of P(Y + Z > i step) in the place of those of Y, both on one lattice: where Y is in the cell behind
 * a point, it is at the next one, or, for a lower end, at that. */
static int add_time(ei_lattice *sum, const ei_lattice *other, ei_end end) {
    const size_t count = sum->count, shift = end == EI_UPPER ? 1 : 0;
    double *value = malloc(2 * count * sizeof *value);
    if (value == NULL)
        return EI_ERR_NO_MEMORY;
    /* Backwards, so that sums are products. */
    double *mass = value + count, none = 1 - sum->sf[0];
    for (size_t j = 0; j < count; j++)
        mass[count - 1 - j] = sum->sf[j] - (j + 1 < count ? sum->sf[j + 1] : 0);
    for (size_t j = 0; j < count; j++) {
        const double later = j + 1 - shift < count ? sum->sf[j + 1 - shift] : 0;
        value[j] =
            later + none * other->sf[j] + ei_dot(mass + count - 1 - j + shift, other->sf, j + 1 - shift);
        value[j] = fmin(value[j] * (end == EI_UPPER ? 1 + ROUNDING : 1 - ROUNDING), 1);
    }
    memcpy(sum->sf, value, count * sizeof *value);
    free(value);
    return EI_OK;
}

/* The sum of one service of every random stage. */
static int sum_of_services(const ei_service *stages, size_t stage_count, ei_end end, ei_lattice *sum) {
    double reach = 0;
    int status = EI_OK;
    for (size_t k = 0; k < stage_count; k++)
        if (stages[k].kind != EI_SERVICE_DETERMINISTIC)
            reach += ei_service_reach(&stages[k]);
    for (size_t k = 0; k < stage_count && status == EI_OK; k++) {
        ei_lattice one = {.sf = NULL};
        if (stages[k].kind == EI_SERVICE_DETERMINISTIC)
            continue;
        status = ei_lattice_service(&one, &stages[k], 0, reach / (POINTS - 2), POINTS, end);
        if (status == EI_OK && sum->sf != NULL) {
            status = add_time(sum, &one, end);
            ei_lattice_free(&one);
        } else if (status == EI_OK) {
            *sum = one;
        }
    }
    return status;
}

/* One end of P(X > time) of the only random stage, or of none. */
static int alone_at(const ei_service *random, double time, ei_end end, double *value) {
    ei_lattice law = {.sf = NULL};
    *value = random != NULL || time < 0;
    if (!(time > 0) || random == NULL)
        return EI_OK;
    int status = ei_lattice_service(&law, random, 0, time, 2, end);
    if (status == EI_OK)
        *value = law.sf[1];
    ei_lattice_free(&law);
    return status;
}

int ei_alone_ends(const ei_batch *self, const ei_service *stages, size_t stage_count) {
    remainder_bound remainders[EXPONENTS];
    ei_lattice sum[2] = {{.sf = NULL}, {.sf = NULL}};
    const ei_service *random = NULL;
    size_t random_count = 0, remainder_count = 0;
    double constant = 0, mean = 0;
    int status = EI_OK;
    for (size_t k = 0; k < stage_count; k++) {
        mean += ei_service_mean(&stages[k]);
        if (stages[k].kind == EI_SERVICE_DETERMINISTIC) {
            constant += stages[k].time;
        } else {
            random = &stages[k];
            random_count++;
        }
    }
    const int light = mean * self->arrival_rate <= (random_count > 1 ? LIGHT_SUM : LIGHT),
              renewal = ei_arrival_is_renewal(&self->arrival);
    if (!light && (!renewal || self->arrival.kind == EI_ARRIVAL_POISSON))
        return EI_OK;
    if (renewal)
        status = choose_remainders(self, stages, stage_count, remainders, &remainder_count);
    if (status != EI_OK || (!light && !is_little(self, remainders, remainder_count)))
        return status;
    for (int end = 0; end < 2 && random_count > 1 && status == EI_OK; end++)
        status = sum_of_services(stages, stage_count, (ei_end)end, &sum[end]);
    for (size_t i = 0; i < self->count && status == EI_OK; i++) {
        const size_t at = self->index[i];
        /* A hair to the safe side each, as the constants' sum is rounded and laws may have atoms. */
        const double deadline = self->deadline[at], rest = deadline - constant, hair = 1e-13 * deadline;
        double ends[2];
        if (!isfinite(deadline))
            continue;
        if (random_count > 1) {
            ends[EI_LOWER] = ei_lattice_lower(&sum[EI_LOWER], rest + hair);
            ends[EI_UPPER] = ei_lattice_upper(&sum[EI_UPPER], rest - hair);
        } else if ((status = alone_at(random, rest + hair, EI_LOWER, &ends[EI_LOWER])) != EI_OK ||
                   (status = alone_at(random, rest - hair, EI_UPPER, &ends[EI_UPPER])) != EI_OK) {
            break;
        }
        ei_raise_lower(self, at, ends[EI_LOWER], EI_BRACKET_ALONE);
        if (remainder_count > 0)
            ei_cut_upper(self, at, ends[EI_UPPER] + remainder_at(remainders, remainder_count, deadline),
                         EI_BRACKET_ALONE);
    }
    ei_lattice_free(&sum[0]);
    ei_lattice_free(&sum[1]);
    return status;
}
