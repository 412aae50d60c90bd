#include "edgeinfer/lindley.h"

#include "edgeinfer/half_line.h"
#include "edgeinfer/lundberg.h"

#include <stdlib.h>
#include <string.h>

enum { CANDIDATES = 12, PIECES = 64, FILLED = 4, SHORTEST = 8 };
static const double HIDDEN = 30;         /* times a probability: Chernoff's bound of what that hides */
static const double STEEP = 0.9;         /* of the decay: a tilt that is too steep */
static const double ROUNDING = 1 + 1e-8; /* of what is done point by point */

/* With a floor E e^{theta B} + int_0^floor theta e^{theta x} P(B <= x) dx, P at
 * the end of each piece. */
int ei_added_stage_log_moment(const ei_added_stage *stage, double theta, double *value) {
    if (stage->law == NULL) {
        *value = theta * (stage->again - stage->less);
        return EI_OK;
    }
    int status = ei_service_log_mgf(stage->law, theta, value, NULL);
    double sum = exp(*value * (1 + EI_SERVICE_MGF_ERROR)), before = 1;
    for (int i = 1; i <= PIECES && stage->floor > 0; i++) {
        double time = stage->floor * i / PIECES, factor = exp(theta * time);
        sum += (factor - before) * (1 - ei_service_sf(stage->law, time));
        before = factor;
    }
    *value = log(sum) - theta * stage->less;
    return status;
}

/* e^{start - decay y}, a bound of u in a phase, at the point before; of v with the services' moment more. */
static void put_bound(ei_half_line *self, size_t phase, double start, double moment) {
    double *u = self->u + phase * (self->all + 1);
    self->start[phase] = start;
    self->scale[phase] = start + moment;
    for (size_t j = 0; j <= self->all; j++)
        u[j] = exp(fmin(start, j < self->count - 1 ? 0 : start) -
                   self->decay * (j > 0 ? (double)j - 1 : 0) * self->step);
}

/* Chernoff's bound, which stands beyond the lattice: sum over i of E e^{theta (A_i - B_0 + C_i)}. */
static int begin_upper(ei_half_line *self, const ei_upper_law *before, const ei_added_stage *stage,
                       const ei_arrival *arrival) {
    const size_t n = self->phases;
    const double exponent = self->decay, end = (double)self->count * self->step;
    double best = INFINITY;
    for (int e = 0; e < CANDIDATES; e++) {
        double theta = exponent * (1 - 0.01 * pow(1.45, e)), moment, sums[EI_ARRIVAL_PHASES], largest = 0;
        int found = 0, status = theta > 0 ? ei_added_stage_log_moment(stage, theta, &moment) : EI_OK;
        if (!(theta > 0))
            break;
        if (status == EI_OK)
            status = ei_path_sums(arrival, n, theta, moment, sums, &found);
        if (status != EI_OK)
            return status;
        double start = ei_upper_law_log_moment(before, theta) + EI_SERVICE_MGF_ERROR;
        for (size_t i = 0; i < n; i++)
            largest = fmax(largest, sums[i]);
        if (!found || !(log(largest) + start - theta * end < best))
            continue;
        best = log(largest) + start - theta * end;
        self->decay = theta;
        for (size_t i = 0; i < n; i++)
            put_bound(self, i, log(sums[i]) + start, moment);
    }
    return isfinite(best) ? EI_OK : EI_ERR_UNSTABLE;
}

/* Lundberg's bound in its place, where it is less. */
static int begin_lundberg(ei_half_line *self, const ei_upper_law *before, const ei_added_stage *stage,
                          const ei_arrival *arrival, double exponent) {
    const size_t n = self->phases;
    const double end = (double)self->count * self->step;
    double known = -INFINITY, found = -INFINITY;
    ei_lundberg law;
    int status =
        ei_lundberg_find(&law, EI_UPPER, stage, arrival, exponent, &(ei_lattice){.sf = NULL}, NULL, before);
    if (status != EI_OK)
        return status == EI_ERR_ACCURACY ? EI_OK : status;
    if (stage->law != NULL)
        law.log_scale -= law.moment;
    for (size_t i = 0; i < n; i++) {
        known = fmax(known, self->start[i] - self->decay * end);
        found = fmax(found, law.log_scale + law.log_phase[i] - law.decay * end);
    }
    if (!(found < known))
        return EI_OK;
    self->decay = law.decay;
    for (size_t i = 0; i < n; i++)
        put_bound(self, i, law.log_scale + law.log_phase[i], law.moment);
    return EI_OK;
}

/* Once more where the tilt is too steep for Chernoff's bound, whose moments are of more than the lattice. */
static int begin(ei_half_line *self, const ei_upper_law *before, const ei_added_stage *stage,
                 const ei_arrival *arrival, double slowest, int early) {
    for (;; slowest = self->decay) {
        const size_t count = self->count;
        const double step = self->step;
        ei_half_line_free(self);
        *self = (ei_half_line){.end = EI_UPPER, .count = count, .step = step};
        int status = ei_half_line_init(self, stage, arrival, slowest);
        const double exponent = self->decay;
        if (status == EI_OK)
            status = begin_upper(self, before, stage, arrival);
        if (status != EI_OK || self->theta < STEEP * self->decay)
            return status == EI_OK && early ? begin_lundberg(self, before, stage, arrival, exponent) : status;
    }
}

/* Points up to where Chernoff's bound falls to what services have beyond their table, which hides v there. */
static size_t visible(const ei_half_line *self) {
    double largest = -INFINITY;
    for (size_t i = 0; i < self->phases; i++)
        largest = fmax(largest, self->scale[i]);
    const double end = (largest - log(HIDDEN * self->service.beyond)) / (self->decay * self->step),
                 least = (double)self->count / SHORTEST;
    return end < (double)self->count ? (size_t)fmax(end, least) : self->count;
}

/* EI_ERR_ACCURACY where u >= G(u) is not known. */
static int verify(ei_half_line *self) {
    ei_half_line_apply(self);
    for (size_t i = 0; i < self->phases; i++)
        for (size_t j = ei_half_line_first(self); j + 1 < self->count; j++)
            if (!(self->u[i * (self->all + 1) + j] >= self->m[i * (self->all + 1) + j]))
                return EI_ERR_ACCURACY;
    return EI_OK;
}

/* The law, summed over the phases that requests meet, where it is more than sf[count];
 * by_phase[phases][count], unless NULL: those of each. */
static void read_law(ei_half_line *self, const ei_added_stage *stage, const ei_arrival *arrival, double *sf,
                     double *by_phase) {
    const size_t wide = self->all + 1;
    const double *law = stage->law != NULL ? self->v : self->u;
    for (size_t i = 0; i < self->phases && stage->law != NULL; i++)
        ei_half_line_serve(self, i);
    for (size_t j = 0; j < self->count; j++) {
        double sum = 0;
        for (size_t i = 0; i < self->phases; i++)
            sum += (self->phases > 1 ? arrival->stationary[i] * arrival->rates[i] * ei_arrival_mean(arrival)
                                     : 1) *
                   law[i * wide + j];
        sf[j] = fmax(sf[j], sum);
    }
    for (size_t i = 0; i < self->phases && by_phase != NULL; i++)
        memcpy(by_phase + i * self->count, law + i * wide, self->count * sizeof *sf);
}

/* Solves, and reads the law into sf[count] and by_phase. verified: u >= G(u) is left in self. */
static int solve(ei_half_line *self, const ei_added_stage *stage, const ei_arrival *arrival, int verified,
                 double *sf, double *by_phase, ei_monitor monitor) {
    const size_t wide = self->all + 1, first = ei_half_line_first(self);
    int status = ei_half_line_solve(self, monitor);
    if (status == EI_OK && verified)
        status = verify(self);
    memset(sf, 0, self->count * sizeof *sf);
    self->filled = self->end == EI_LOWER;
    for (int round = 0; round <= (self->filled ? FILLED : 0) && status == EI_OK; round++) {
        if (round > 0)
            ei_half_line_apply(self);
        /* One more step than was checked. */
        for (size_t i = 0; i < self->phases && !verified; i++)
            memcpy(self->u + i * wide + first, self->m + i * wide + first,
                   (self->count - 1 - first) * sizeof *sf);
        read_law(self, stage, arrival, sf, by_phase);
    }
    return status;
}

/* E u(x - B) from below, at each cell's end, and no more than Chernoff's bound. */
static int serve_lower(const ei_half_line *line, const ei_added_stage *stage, const ei_arrival *arrival,
                       double slowest, double *least) {
    ei_half_line lower = {.end = EI_LOWER, .count = line->count, .step = line->step};
    int status = ei_half_line_init(&lower, stage, arrival, slowest);
    if (status == EI_OK) {
        /* As it was served above; what lies beyond the lattice is not read. */
        double most = 0;
        for (size_t j = line->all + 1; j-- > 0;) {
            most = fmax(most, line->u[j]);
            if (j < line->count)
                lower.u[j] = j > 0 ? most : 1;
        }
        ei_half_line_serve(&lower, 0);
        for (size_t j = 0; j < line->count; j++)
            least[j] = j + 1 < line->count
                           ? fmin(fmax(lower.v[j + 1], 0),
                                  exp(line->scale[0] - line->decay * (double)(j + 1) * line->step)) /
                                 ROUNDING
                           : 0;
    }
    ei_half_line_free(&lower);
    return status;
}

/* From the far end, so that the chords between the points stay above the law. */
static void make_monotone(double *sf, size_t count) {
    for (size_t j = count; j-- > 0;)
        sf[j] = fmin(fmax(sf[j] * ROUNDING, j + 1 < count ? sf[j + 1] : 0), 1);
}

/* least NULL: not asked for; early: whether the lattice ends early. */
static int add_stage(ei_upper_law *self, int verified, int early, double *least, const ei_upper_law *before,
                     const ei_added_stage *stage, const ei_arrival *arrival, double step, size_t count,
                     ei_monitor monitor) {
    ei_half_line line = {.end = EI_UPPER, .count = count, .step = step};
    double slowest = before->lattice.sf != NULL ? before->decay : INFINITY, largest = -INFINITY;
    const size_t phases = arrival->kind == EI_ARRIVAL_MARKOV_MODULATED ? arrival->count : 1;
    double *chance = NULL;
    *self = (ei_upper_law){.phases = phases};
    int status = begin(&line, before, stage, arrival, slowest, early);
    if (status == EI_OK && visible(&line) < count) {
        line.count = count = visible(&line);
        status = begin(&line, before, stage, arrival, slowest, early);
    }
    if (status != EI_OK)
        goto out;
    self->lattice = (ei_lattice){step, count, malloc(count * sizeof(double))};
    if (phases > 1)
        self->by_phase = malloc(phases * count * sizeof(double));
    if (before->lattice.sf != NULL)
        chance = malloc(phases * count * sizeof *chance);
    if (self->lattice.sf == NULL || (self->by_phase == NULL && phases > 1) ||
        (chance == NULL && before->lattice.sf != NULL)) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    for (size_t i = 0; i < phases && chance != NULL; i++) {
        const ei_upper_law one = ei_upper_law_of_phase(before, i);
        for (size_t j = 0; j < count; j++)
            chance[i * count + j] = ei_upper_law_sf(&one, (double)j * step);
    }
    line.chance = chance;
    if ((status = solve(&line, stage, arrival, verified, self->lattice.sf, self->by_phase, monitor)) != EI_OK)
        goto out;
    if (least != NULL && (status = serve_lower(&line, stage, arrival, slowest, least)) != EI_OK)
        goto out;
    make_monotone(self->lattice.sf, count);
    for (size_t i = 0; i < phases && self->by_phase != NULL; i++)
        make_monotone(self->by_phase + i * count, count);
    for (size_t i = 0; i < line.phases; i++)
        largest = fmax(largest, stage->law != NULL ? line.scale[i] : line.start[i]);
    self->log_scale = largest;
    self->decay = line.decay;
    self->shift = before->shift + 1e-9 * before->lattice.step + stage->less;
out:
    if (status != EI_OK)
        ei_upper_law_free(self);
    free(chance);
    ei_half_line_free(&line);
    return status;
}

int ei_add_stage_lindley(ei_upper_law *self, const ei_upper_law *before, const ei_added_stage *stage,
                         const ei_arrival *arrival, double step, size_t count, ei_monitor monitor) {
    return add_stage(self, 0, 0, NULL, before, stage, arrival, step, count, monitor);
}

int ei_add_stage_early(ei_upper_law *self, const ei_upper_law *before, const ei_added_stage *stage,
                       const ei_arrival *arrival, double step, size_t count, ei_monitor monitor) {
    return add_stage(self, 0, 1, NULL, before, stage, arrival, step, count, monitor);
}

int ei_add_stage_enclosed(ei_upper_law *self, double *least, const ei_upper_law *before,
                          const ei_added_stage *stage, const ei_arrival *arrival, double step, size_t count,
                          ei_monitor monitor) {
    return add_stage(self, 1, 0, least, before, stage, arrival, step, count, monitor);
}

static void lower_monotone(double *sf, size_t count) {
    for (size_t j = count; j-- > 0;)
        sf[j] = fmin(fmax(sf[j] / ROUNDING, j + 1 < count ? sf[j + 1] : 0), 1);
}

int ei_lindley_sojourn_lower(ei_lattice *self, double *by_phase, const ei_added_stage *stage,
                             const ei_arrival *arrival, double step, size_t count, ei_monitor monitor) {
    ei_half_line line = {.end = EI_LOWER, .count = count, .step = step};
    *self = (ei_lattice){step, count, calloc(count, sizeof(double))};
    int status = self->sf == NULL ? EI_ERR_NO_MEMORY : ei_half_line_init(&line, stage, arrival, INFINITY);
    if (status == EI_OK)
        status = solve(&line, stage, arrival, 0, self->sf, by_phase, monitor);
    if (status == EI_OK)
        lower_monotone(self->sf, count);
    for (size_t i = 0; i < line.phases && by_phase != NULL && status == EI_OK; i++)
        lower_monotone(by_phase + i * count, count);
    ei_half_line_free(&line);
    return status;
}
