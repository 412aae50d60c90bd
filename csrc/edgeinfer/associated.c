#include "edgeinfer/associated.h"

#include "edgeinfer/ends.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    WALK_POINTS = 122880, /* lattice of the killed walk */
    WALK_STEPS = 1200,    /* jobs followed before the Chernoff bound takes over */
    OVERTAKING_STEPS = 40 /* iterations of the recursion for Z */
};

/* One step of V' = max(V - fall, X - shift + (V + rise - threshold)^+), all rounded up to lattice points. old
 * and new are survival functions at the points; V at i steps has the mass old[i - 1] - old[i]. mass is for
 * work. */
static void advance(const ei_lattice *law, size_t size, const double *restrict old, double *restrict new,
                    double *restrict mass, size_t fall, size_t shift, double rise_less_threshold) {
    /* From this point on the overshoot is positive: w steps overshoot by w - quiet. */
    double offset =
        floor(-rise_less_threshold / law->step * (1 + (rise_less_threshold > 0 ? 1e-12 : -1e-12)));
    ptrdiff_t quiet = (ptrdiff_t)fmin(offset, 1e9), points = (ptrdiff_t)size,
              last = (ptrdiff_t)law->count - 1;
    ptrdiff_t from = quiet < 0 ? 0 : quiet + 1;
    for (ptrdiff_t w = from; w < points; w++)
        mass[w] = w == 0 ? 1 - old[0] : old[w - 1] - old[w];
    for (ptrdiff_t z = 0; z < points; z++) {
        ptrdiff_t end = z + (ptrdiff_t)fall < points ? z + (ptrdiff_t)fall : points - 1;
        ptrdiff_t at = z + (ptrdiff_t)shift; /* of X when nothing overshoots */
        double sum = old[end];
        if (from > 0)
            sum += (1 - old[quiet < end ? quiet : end]) * law->sf[at < last ? at : last];
        /* X must exceed at + quiet - w points. */
        ptrdiff_t w = from, certain = at + quiet, flat = at + quiet - last;
        for (; w <= end && w < flat; w++)
            sum += mass[w] * law->sf[last];
        ptrdiff_t until = end < certain ? end : certain;
        for (; w <= until; w++)
            sum += mass[w] * law->sf[certain - w];
        if (w <= end)
            sum += (w == 0 ? 1 : old[w - 1]) - old[end];
        new[z] = fmin(sum, z > 0 ? new[z - 1] : 1);
    }
}

int ei_upper_overtaking(const ei_batch *self, const ei_lattice *law, const ei_md1 *waiting) {
    const ei_shape *pipeline = self->pipeline;
    double gap = pipeline->d1 - pipeline->d3, step = law->step;
    size_t fall = (size_t)(gap / step * (1 - 1e-12));
    size_t size = law->count;
    double *old = NULL, *new = NULL;
    int status = EI_OK, settled = 0;
    if (fall == 0)
        return EI_OK;
    old = malloc(3 * size * sizeof *old);
    if (old == NULL)
        return EI_ERR_NO_MEMORY;
    new = old + size;
    double *block = old, *mass = old + 2 * size;
    memcpy(old, law->sf, size * sizeof *old);
    for (int iteration = 0; iteration < OVERTAKING_STEPS && !settled; iteration++) {
        advance(law, size, old, new, mass, fall, 0, -pipeline->d1);
        settled = 1;
        for (size_t z = 0; z < size && settled; z++)
            settled = fabs(new[z] - old[z]) <= 1e-8 * new[z] + 1e-18;
        double *swap = old;
        old = new;
        new = swap;
        if (iteration % 8 == 7 && ei_stopped(self->monitor)) {
            status = EI_ERR_INTERRUPTED;
            goto out;
        }
    }
    /* The last point takes what lies beyond: negligible, or there is no such bound. */
    if (!settled || old[size - 1] > 1e-15)
        goto out;
    for (size_t z = 0; z < size; z++)
        old[z] = fmin(old[z] * (1 + 1e-6) + 1e-17, 1);
    ei_lattice settled_law = {step, size, old};
    for (size_t i = 0; i < self->count; i++) {
        size_t at = self->index[i];
        double rest = self->deadline[at] - pipeline->constant - pipeline->d1 - pipeline->d3;
        ei_cut_upper(self, at, ei_waiting_plus_sf(waiting, &settled_law, rest, EI_UPPER),
                     EI_BRACKET_OVERTAKING);
    }
out:
    free(block);
    return status;
}

/* One backward step of the killed walk: walk(y) <- s(y) + (1 - s(y)) E[walk(y - dm + t)], where walk is 1
 * below zero and s is a survival function on a lattice of its own. Within a cell walk counts as its left end,
 * an upper bound, and t is then integrated exactly: mean_j = decay mean_{j+1} + (1 - decay) walk_j. */
typedef struct {
    double *walk;
    size_t points, shift; /* lattice points; points that make dm */
    double decay;         /* e^{-lambda step} */
    double ratio;         /* of its step to the survival function's */
} killed_walk;

enum { BLOCK = 8 };

static void killed_step(const killed_walk *self, const double *restrict tail, size_t size, double mean) {
    double *walk = self->walk, keep = 1 - self->decay, power[BLOCK + 1], last = tail[size - 1];
    size_t j = self->points + 1, shift = self->shift;
    /* Beyond this point s is at its last value. */
    double flat = ceil(((double)size + 1) / self->ratio) + 1;
    power[0] = 1;
    for (int k = 0; k < BLOCK; k++)
        power[k + 1] = power[k] * self->decay;
    /* Points that dm shifts beyond the lattice count in the mean alone. */
    for (; j > self->points + 1 - shift && j >= BLOCK && (double)(j + shift) >= flat; j--)
        mean = self->decay * mean + keep * walk[j - 1];
    /* In blocks, so that the recursion's latency is paid once a block. */
    for (; j >= BLOCK && (double)(j - BLOCK + shift) >= flat; j -= BLOCK) {
        double local[BLOCK], sum = 0;
        for (int k = 0; k < BLOCK; k++) {
            sum = self->decay * sum + keep * walk[j - 1 - (size_t)k];
            local[k] = sum;
        }
        double *restrict target = walk + (j + shift - 1);
        for (int k = 0; k < BLOCK; k++)
            *(target - k) = last + (1 - last) * (local[k] + power[k + 1] * mean);
        mean = local[BLOCK - 1] + power[BLOCK] * mean;
    }
    for (; j > 0; j--) {
        mean = self->decay * mean + keep * walk[j - 1];
        size_t i = j - 1 + shift;
        if (i > self->points)
            continue;
        double cell = (double)i * self->ratio * (1 - 1e-14);
        double killed = cell < (double)size ? tail[(size_t)cell] : last;
        walk[i] = killed + (1 - killed) * mean;
    }
    for (size_t i = shift < self->points + 1 ? shift : self->points + 1; i-- > 0;) {
        mean = self->decay * mean + keep;
        double cell = (double)i * self->ratio * (1 - 1e-14);
        double killed = cell < (double)size ? tail[(size_t)cell] : last;
        walk[i] = killed + (1 - killed) * mean;
    }
}

typedef struct {
    const ei_batch *batch;
    killed_walk chain;
    double step; /* s, of the walk */
    ei_lattice law;
    size_t size, jobs;     /* points of a law of V; jobs followed before the Chernoff bound takes over */
    double *tails, *mass;  /* laws of V_m - m rise, m = 0 .. laws, [jobs + 1][size]; [size], for work */
    size_t laws;           /* the last one that was computed: it stands for those beyond */
    int stationary;        /* they change no more */
    ei_exponent *exponent; /* [exponents] */
    size_t exponents;
    double afresh[EI_EXPONENTS], paths[EI_EXPONENTS]; /* see choose_bounds */
    size_t best, best_path;
} associated;

/* Lattices and room. *possible: whether they are large enough for such a bound. */
static int associated_init(associated *self, int *possible) {
    const ei_shape *pipeline = self->batch->pipeline;
    double dm = fmax(pipeline->d1, pipeline->d3), drop = fmax(pipeline->d3 - pipeline->d1, 0);
    double steepest = self->exponent[self->exponents - 1].theta;
    double furthest = self->batch->horizon - (pipeline->constant + pipeline->d1 + pipeline->d3);
    *possible = 0;
    if (!(furthest > 0))
        return EI_OK;
    double horizon = fmin(furthest, 46 / steepest) + 10 / steepest;
    /* The lattice divides dm, so that its steps are not rounded. */
    double per_service = ceil(dm * WALK_POINTS / horizon);
    if (per_service < 2 * BLOCK || per_service > WALK_POINTS)
        return EI_OK;
    killed_walk *chain = &self->chain;
    self->step = dm / per_service;
    chain->shift = (size_t)per_service;
    chain->points = (size_t)fmax(horizon / self->step, per_service) + BLOCK;
    chain->decay = exp(-self->batch->arrival_rate * self->step);
    double kappa = self->exponent[self->exponents / 2].kappa;
    self->size = EI_SERVICE_POINTS / 4;
    self->jobs = (size_t)fmin(WALK_STEPS, 60 + (drop > 0 ? 14 : 22) / -log(kappa));
    double cell = 2 * ei_service_reach(pipeline->random) / (double)self->size;
    int status = ei_lattice_service(&self->law, pipeline->random, 0, cell, self->size, EI_UPPER);
    if (status != EI_OK)
        return status;
    chain->ratio = self->step / self->law.step;
    self->tails = malloc((self->jobs + 2) * self->size * sizeof *self->tails);
    chain->walk = malloc((chain->points + 1) * sizeof *chain->walk);
    if (self->tails == NULL || chain->walk == NULL)
        return EI_ERR_NO_MEMORY;
    self->mass = self->tails + (self->jobs + 1) * self->size;
    *possible = 1;
    return EI_OK;
}

/* The laws of V_m - m rise until they change no more. *possible: whether the lattice holds them. */
static int follow_laws(associated *self, int *possible) {
    const ei_shape *pipeline = self->batch->pipeline;
    double rise = fmax(pipeline->d1 - pipeline->d3, 0), drop = fmax(pipeline->d3 - pipeline->d1, 0);
    double step = self->law.step;
    size_t size = self->size, fall = (size_t)(drop / step * (1 - 1e-12));
    memcpy(self->tails, self->law.sf, size * sizeof *self->tails);
    while (self->laws < self->jobs && !self->stationary) {
        const double *old = self->tails + self->laws * size;
        double *new = self->tails + ++self->laws * size;
        double m = (double)self->laws;
        size_t lower_by = (size_t)fmin(m * rise / step * (1 - 1e-12), 1e9);
        advance(&self->law, size, old, new, self->mass, fall, lower_by, (m - 1) * rise - pipeline->d3);
        self->stationary = fall > 0;
        for (size_t z = 0; z < size && self->stationary; z++)
            self->stationary = fabs(new[z] - old[z]) <= 1e-8 * new[z] + 1e-19;
        if (self->laws % 16 == 0 && ei_stopped(self->batch->monitor))
            return EI_ERR_INTERRUPTED;
    }
    double *final = self->tails + self->laws * size;
    if (self->stationary)
        for (size_t z = 0; z < size; z++)
            final[z] = fmin(final[z] * (1 + 1e-6) + 1e-18, 1);
    *possible = !(final[size - 1] > 1e-13);
    return EI_OK;
}

/* What the walk is worth at y, by Chernoff: drawn afresh with the final law forever, e^{afresh - theta y};
 * and on all paths of more than `jobs` jobs, e^{paths - theta y} at the last step, a factor kappa less for
 * each step before it. `best` and `best_path` are the exponents that are the best beyond the lattice. */
static void choose_bounds(associated *self) {
    const double *final = self->tails + self->laws * self->size;
    const ei_shape *pipeline = self->batch->pipeline;
    double dm = fmax(pipeline->d1, pipeline->d3), j = (double)self->jobs;
    double top = (double)(self->chain.points + 1) * self->step;
    const ei_exponent *exponent = self->exponent;
    double *afresh = self->afresh, *paths = self->paths;
    for (size_t e = 0; e < self->exponents; e++) {
        double kappa = exponent[e].kappa, theta = exponent[e].theta;
        double moment = 0, previous = 1;
        for (size_t z = 0; z < self->size; z++) {
            moment += (previous - final[z]) * exp(theta * (double)z * self->law.step);
            previous = final[z];
        }
        moment += previous * exp(theta * (double)self->size * self->law.step * 2);
        afresh[e] = log(moment / (1 - kappa));
        /* A path of j + l jobs has j + l + 1 ways to share its further jobs between edge and device for each
         * number on the link, where a job costs M_X(theta) e^{-theta dm} < 1 of the slowest: sum over l >= 1
         * of kappa^l (j + l + 1) / (1 - cost). */
        double rest = 1 / (1 - kappa), cost = exp(exponent[e].log_moment - theta * dm);
        double series = kappa * rest * (j + 1 + rest) / (1 - cost);
        paths[e] = self->stationary ? -INFINITY : exponent[e].log_moment + log(series);
        size_t best = self->best, path = self->best_path;
        if (afresh[e] - theta * top < afresh[best] - exponent[best].theta * top)
            self->best = e;
        if (paths[e] - theta * top + j / 2 * log(kappa) <
            paths[path] - exponent[path].theta * top + j / 2 * log(exponent[path].kappa))
            self->best_path = e;
    }
}

/* The killed walk from its last step, worth what Chernoff says, back to the first. */
static int walk_back(associated *self) {
    killed_walk *chain = &self->chain;
    const ei_exponent *exponent = self->exponent;
    size_t best = self->best, path = self->best_path;
    const double *last = self->stationary ? self->afresh : self->paths;
    for (size_t i = 0; i <= chain->points; i++) {
        double least = 0;
        for (size_t e = 0; e < self->exponents; e++)
            least = fmin(least, last[e] - exponent[e].theta * (double)i * self->step);
        chain->walk[i] = exp(least);
    }
    double rate = self->batch->arrival_rate, top = (double)(chain->points + 1) * self->step;
    double theta = exponent[best].theta, theta_path = exponent[path].theta;
    double above = exp(self->afresh[best] - theta * top) * rate / (rate + theta);
    double above_path =
        self->stationary ? 0 : exp(self->paths[path] - theta_path * top) * rate / (rate + theta_path);
    for (size_t m = self->jobs + 1; m-- > 0;) {
        const double *tail = self->tails + (m < self->laws ? m : self->laws) * self->size;
        killed_step(chain, tail, self->size, fmin(above + above_path, 1));
        above_path *= exponent[path].kappa;
        if (m % 16 == 0 && ei_stopped(self->batch->monitor))
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
}

int ei_upper_associated(const ei_batch *self) {
    const ei_shape *pipeline = self->pipeline;
    double dm = fmax(pipeline->d1, pipeline->d3);
    double constant = pipeline->constant + pipeline->d1 + pipeline->d3;
    ei_exponent candidates[EI_EXPONENTS];
    associated bound = {.batch = self, .exponent = candidates};
    int possible = 0, status = EI_OK;
    if (dm <= 0 || (status = ei_choose_exponents(self, dm, 0, candidates, &bound.exponents)) != EI_OK ||
        bound.exponents == 0)
        return status;
    if ((status = associated_init(&bound, &possible)) != EI_OK || !possible ||
        (status = follow_laws(&bound, &possible)) != EI_OK || !possible)
        goto out;
    choose_bounds(&bound);
    if ((status = walk_back(&bound)) != EI_OK)
        goto out;
    for (size_t i = 0; i < self->count; i++) {
        size_t at = self->index[i];
        double rest = self->deadline[at] - constant;
        double cell = floor(rest / bound.step * (1 - 1e-14));
        if (cell >= 0 && cell <= (double)bound.chain.points)
            ei_cut_upper(self, at, bound.chain.walk[(size_t)cell], EI_BRACKET_ASSOCIATED);
    }
out:
    free(bound.tails);
    free(bound.chain.walk);
    ei_lattice_free(&bound.law);
    return status;
}
