#include "edgeinfer/exchange.h"

#include "edgeinfer/lindley.h"
#include "edgeinfer/split.h"

#include <math.h>
#include <stdlib.h>

enum {
    POINTS = 1024,
    TIMES = 1 << 15, /* points of times between requests, at most */
    EVERY = 16       /* points of e one by one */
};
static const double APART = 1.06;     /* further points' ratio */
static const double APART_AT = 0.03;  /* and difference, over the mean of the longest times */
static const double FURTHEST = 1e-2;  /* P(t > e) at the last of them */
static const double CUT = 1e-11;      /* of a time's law by rounding, beyond that of its masses */
static const double LEAST = 1e-8;     /* chance that is told from rounding errors */
static const double ROUNDING = 1e-10; /* relative */

/* A law by phase on a lattice, of a time that is `whole` points longer than it says. */
typedef struct {
    const double *sf; /* [phases][count] */
    size_t count, whole;
    ei_split time;
} gap;

/* P(R <= t - at step) from below, of an R bounded from above that is linear between the points, 1 before. */
static double chance_lower(const gap *self, size_t phase, size_t at) {
    const ei_split *time = &self->time;
    double sum = 0, wrong = CUT;
    for (size_t to = 0; to < time->phases; to++) {
        const size_t row = (phase * time->phases + to) * time->cells;
        const double *sf = self->sf + to * self->count;
        for (size_t k = 0; k < time->cells; k++) {
            wrong += time->error[row + k];
            if (k > at)
                sum += time->mass[row + k] * (1 - sf[k - at < self->count ? k - at : self->count - 1]);
        }
    }
    return sum * (1 - ROUNDING) - wrong;
}

/* The same from above, of an R bounded from below. */
static double chance_upper(const gap *self, size_t phase, size_t at) {
    const ei_split *time = &self->time;
    double sum = 0, left = 1, wrong = CUT;
    for (size_t to = 0; to < time->phases; to++) {
        const size_t row = (phase * time->phases + to) * time->cells;
        const double *sf = self->sf + to * self->count;
        for (size_t k = 0; k < time->cells; k++) {
            const double mass = time->mass[row + k];
            wrong += time->error[row + k];
            left -= mass;
            if (k + 1 > at + self->whole) {
                const size_t next = k + 1 - at - self->whole;
                sum += mass * (next < self->count ? 1 - sf[next] : 1);
            }
        }
    }
    return (sum + fmax(left, 0)) * (1 + ROUNDING) + wrong;
}

/* P(t > at step) from above. */
static double longer(const ei_split *time, size_t at) {
    double sum = CUT;
    for (size_t k = at; k < time->cells; k++)
        sum += time->mass[k] + time->error[k];
    return sum * (1 + ROUNDING);
}

/* E e^{-rate R} from above. */
static double transform_upper(const gap *self, double rate, double step) {
    double sum = 1;
    for (size_t i = 0; i + 1 < self->count + self->whole; i++)
        sum -= (exp(-rate * (double)i * step) - exp(-rate * (double)(i + 1) * step)) *
               (i + 1 < self->whole ? 1 : self->sf[i + 1 - self->whole]);
    return sum * (1 + ROUNDING) + ROUNDING;
}

/* Of the exponential times that a renewal time is a mixture of. */
static double least_rate(const ei_arrival *arrival) {
    return arrival->kind == EI_ARRIVAL_GAMMA ? arrival->parameter[0] / arrival->parameter[1]
                                             : fmin(arrival->parameter[1], arrival->parameter[2]);
}

/* Over all e, of a renewal process. */
static double largest_ratio(const gap *above, const gap *below, double step, double below_step,
                            const ei_arrival *arrival) {
    const double least_of_all = least_rate(arrival);
    double ratio = 0, more = 0;
    for (size_t at = 0; at < above->count / 2; at += 1 + (size_t)more) {
        const double least = chance_lower(above, 0, at);
        if (!(least > LEAST))
            return INFINITY;
        more = at < EVERY ? 0 : fmin((double)at * (APART - 1), APART_AT / (least_of_all * step));
        const size_t next = at + 1 + (size_t)more,
                     same = (size_t)((double)at * step / below_step * (1 - 1e-12));
        const double beyond = longer(&above->time, at);
        if (beyond < FURTHEST || next >= above->count / 2)
            return fmax(ratio, transform_upper(below, least_of_all, below_step) * beyond / least);
        ratio = fmax(ratio, chance_upper(below, 0, same) / chance_lower(above, 0, next));
        if (!(ratio > 0 && chance_lower(above, 0, next) > LEAST))
            return INFINITY;
    }
    return INFINITY;
}

/* Behind Poisson arrivals k(y) = e^{rate y} k(0-), where k_a(0-) = P(t > R_a) is the chance that a is idle.
 */
static double idle_ratio(const ei_upper_law *v, const ei_added_stage *first, double rate) {
    const double step = v->lattice.step, keep = exp(-rate * step),
                 mean = first->law != NULL ? ei_service_mean(first->law) : first->again;
    double waits = v->lattice.sf[v->lattice.count - 1];
    for (size_t j = v->lattice.count; j-- > 0;)
        waits = keep * waits + (1 - keep) * v->lattice.sf[j];
    const double least = 1 - waits * (1 + ROUNDING);
    return least > LEAST ? (1 - rate * mean) / least * (1 + ROUNDING) : INFINITY;
}

int ei_may_exchange(const ei_arrival *arrival) {
    return arrival->kind == EI_ARRIVAL_POISSON || arrival->kind == EI_ARRIVAL_MARKOV_MODULATED ||
           arrival->kind == EI_ARRIVAL_HYPEREXPONENTIAL ||
           (arrival->kind == EI_ARRIVAL_GAMMA && arrival->parameter[1] >= 1);
}

int ei_exchange_factor(double *factor, const ei_upper_law *v, const ei_added_stage *first, double reach,
                       const ei_arrival *arrival, ei_monitor monitor) {
    if (arrival->kind == EI_ARRIVAL_POISSON) {
        *factor = idle_ratio(v, first, ei_arrival_rate(arrival));
        return isfinite(*factor) ? EI_OK : EI_ERR_ACCURACY;
    }
    const int modulated = arrival->kind == EI_ARRIVAL_MARKOV_MODULATED;
    const size_t phases = modulated ? arrival->count : 1;
    const double whole = first->law == NULL ? ceil(first->again / reach * POINTS) : 0,
                 step = whole > 0 ? first->again / whole : reach / POINTS;
    gap above = {.sf = v->by_phase != NULL ? v->by_phase : v->lattice.sf, .count = v->lattice.count},
        below = {.count = POINTS, .whole = (size_t)whole};
    double *by_phase = malloc(phases * POINTS * sizeof *by_phase);
    ei_lattice sojourn = {.sf = NULL};
    int status = by_phase == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    if (status == EI_OK)
        status = ei_lindley_sojourn_lower(&sojourn, by_phase, first, arrival, step, POINTS, monitor);
    if (status == EI_OK)
        status = ei_split_time(&below.time, arrival, step, modulated ? POINTS : TIMES, EI_LOWER);
    if (status == EI_OK)
        status = ei_split_time(&above.time, arrival, v->lattice.step, v->lattice.count, EI_UPPER);
    below.sf = by_phase;
    *factor = 0;
    for (size_t i = 0; i < phases && status == EI_OK && modulated; i++) {
        const double least = chance_lower(&above, i, 0);
        *factor = fmax(*factor, least > LEAST ? chance_upper(&below, i, 0) / least : INFINITY);
    }
    if (status == EI_OK && !modulated)
        *factor = largest_ratio(&above, &below, v->lattice.step, step, arrival);
    if (status == EI_OK && !isfinite(*factor))
        status = EI_ERR_ACCURACY;
    ei_split_free(&below.time);
    ei_split_free(&above.time);
    ei_lattice_free(&sojourn);
    free(by_phase);
    return status;
}
