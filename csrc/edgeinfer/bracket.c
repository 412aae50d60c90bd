#include "edgeinfer/bracket.h"

#include "edgeinfer/bound.h"
#include "edgeinfer/multiversion.h"
#include "edgeinfer/queue.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SERVICE_POINTS = 2048,  /* lattice over the law of X */
    WALK_POINTS = 122880,   /* lattice of the killed walk */
    WALK_STEPS = 1200,      /* jobs followed before the Chernoff bound takes over */
    OVERTAKING_STEPS = 600, /* iterations of the recursion for Z */
    EXPONENTS = 12,         /* candidate exponents of a Chernoff bound */
    HANDOVER_CELLS = 128,   /* lattice points that make the deterministic service */
    HANDOVER_SIZE = 6 * HANDOVER_CELLS,
    HANDOVER_GROUPS = 16, /* cells of the part of it that a record leaves */
    HANDOVER_JOBS = 64,   /* jobs on the added stage before the Chernoff bound takes over */
    PROBES = 4
};
static const double QUEUE_WORK = 1e8; /* multiply-adds of an M/G/1 lattice */
/* upper / lower below which dearer formulas are not tried. */
static const double CLOSE = 1.02, FAIR = 1.12, POOR = 1.3;
static const double BEYOND = 6; /* mean interarrival times that a lattice reaches beyond the deadlines */
static const double NEGLIGIBLE = 1e-18; /* a law's lattice ends here */
static const double FURTHEST = 1e-20;   /* and a sojourn time's near here */
static const double LEAST = 1e-290;     /* below, only logarithms keep their accuracy */

/* D (d1), X, D (d3) with `constant` seconds more. */
typedef struct {
    double d1, d3, constant;
    const ei_service *random; /* NULL: none */
} shape;

/* One arrival rate's deadlines. The first PROBES are the library's own, spread over the probabilities of
 * interest: they alone decide how far lattices reach and which formulas are tried, so that a bracket is a
 * function of its own rate and deadline, the same alone as beside others, and falls with the deadline. */
typedef struct {
    const shape *pipeline;
    double arrival_rate, horizon; /* 1/s; s, where lattices may end */
    size_t count;
    const size_t *index; /* [count], into the caller's arrays */
    const double *deadline;
    double *lower, *upper;
    uint8_t *lower_method, *upper_method;
    ei_monitor monitor;
} batch;

static void raise_lower(const batch *self, size_t at, double value, int method) {
    if (value > self->lower[at]) {
        self->lower[at] = fmin(value, 1);
        self->lower_method[at] = (uint8_t)method;
    }
}

static void cut_upper(const batch *self, size_t at, double value, int method) {
    if (value < self->upper[at]) {
        self->upper[at] = fmax(value, 0);
        self->upper_method[at] = (uint8_t)method;
    }
}

/* Whether some probe's ends are still further apart than by the factor `enough`. */
static int is_wide(const batch *self, double enough) {
    for (size_t i = 0; i < PROBES; i++)
        if (self->upper[self->index[i]] > enough * self->lower[self->index[i]])
            return 1;
    return 0;
}

/* E[phi(X)] over the lattice, phi(x) = P(Wq > rest - x), an increasing function: X rounded up or down to
 * lattice points. */
static double add_service(const ei_md1 *waiting, const ei_lattice *law, double rest, int upper) {
    if (rest < 0)
        return 1;
    double sum = upper ? law->sf[law->count - 1] : 0;
    for (size_t i = 0; i + 1 < law->count; i++) {
        double mass = law->sf[i] - law->sf[i + 1];
        if (mass <= 0)
            continue;
        double at = (double)(i + (upper ? 1 : 0)) * law->step;
        if (at > rest) {
            sum += law->sf[i] - (upper ? law->sf[law->count - 1] : 0);
            break;
        }
        sum += mass * ei_md1_waiting_sf(waiting, rest - at);
    }
    /* What is missing at 0 because the lattice starts below one. */
    if (upper)
        sum += (1 - law->sf[0]) * ei_md1_waiting_sf(waiting, rest);
    return fmin(sum, 1);
}

/* Time where P(X > time) falls below NEGLIGIBLE, up to a factor of 1.001. */
static double reach_of(const ei_service *service) {
    double low = 0, high = ei_service_extent(service);
    while (high - low > 1e-3 * high) {
        double middle = low + (high - low) / 2;
        if (ei_service_sf(service, middle) > NEGLIGIBLE)
            low = middle;
        else
            high = middle;
    }
    return fmax(high, 1e-12);
}

static int exact_waiting(const batch *self) {
    const shape *pipeline = self->pipeline;
    double service = fmax(pipeline->d1, pipeline->d3);
    double constant = pipeline->constant + pipeline->d1 + pipeline->d3;
    ei_md1 waiting;
    int status = ei_md1_init(&waiting, self->arrival_rate, service, self->horizon);
    for (size_t i = 0; i < self->count && status == EI_OK; i++) {
        size_t at = self->index[i];
        double value = ei_md1_waiting_sf(&waiting, self->deadline[at] - constant);
        self->lower[at] = self->upper[at] = value;
        self->lower_method[at] = self->upper_method[at] = EI_BRACKET_EXACT;
    }
    ei_md1_free(&waiting);
    return status;
}

/* ---- lower: d1 + d3 + X + Wq(dm) */
static int lower_queue(const batch *self, const ei_lattice *law, const ei_md1 *waiting) {
    const shape *pipeline = self->pipeline;
    double constant = pipeline->constant + pipeline->d1 + pipeline->d3;
    for (size_t i = 0; i < self->count; i++) {
        size_t at = self->index[i];
        raise_lower(self, at, add_service(waiting, law, self->deadline[at] - constant, 0), EI_BRACKET_QUEUE);
    }
    return EI_OK;
}

/* Bounds on the survival function of S + Wq(S), S = max(floor, X), on one lattice over [0, horizon] or more:
 * ends[first .. last], 0 below and 1 above. No upper one (sf NULL) where rounding pushes the load over one.
 */
static int sojourn_ends(const batch *self, double floor, double horizon, int first, int last,
                        ei_lattice ends[2]) {
    double reach = fmax(reach_of(self->pipeline->random), floor * 1.001);
    int status = EI_OK;
    /* A coarse pass finds where the law is below anything asked for. */
    for (int pass = 0; pass < 2; pass++) {
        horizon = fmax(horizon, reach);
        double points = pass == 0 ? 4096 : fmin(sqrt(QUEUE_WORK * horizon / reach), 262144);
        double step = horizon / points;
        size_t count = (size_t)points + 2, cells = (size_t)(reach / step) + 3;
        for (int upper = pass * first; upper <= pass * last && status == EI_OK; upper++) {
            ei_lattice service = {0};
            if ((status = ei_lattice_service(&service, self->pipeline->random, floor, step / EI_MG1_FINE,
                                             cells * EI_MG1_FINE, upper)) == EI_OK)
                status =
                    ei_mg1_sojourn(&ends[upper], &service, self->arrival_rate, count, upper, self->monitor);
            ei_lattice_free(&service);
        }
        if (status != EI_OK || pass == 1)
            break;
        size_t end = 1;
        while (end + 1 < count && ends[0].sf[end] > 1e-24)
            end++;
        horizon = fmin(horizon, (double)end * step);
        ei_lattice_free(&ends[0]);
    }
    if (status != EI_ERR_UNSTABLE)
        return status;
    ei_lattice_free(&ends[1]);
    return EI_OK;
}

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

/* ---- upper, d1 > d3: d1 + d3 + Wq(d1) + Z */
static int upper_overtaking(const batch *self, const ei_lattice *law, const ei_md1 *waiting) {
    const shape *pipeline = self->pipeline;
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
        if (self->monitor.poll != NULL && iteration % 8 == 7 &&
            self->monitor.poll(self->monitor.context) != 0) {
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
        cut_upper(self, at, add_service(waiting, &settled_law, rest, 1), EI_BRACKET_OVERTAKING);
    }
out:
    free(block);
    return status;
}

/* exp of log(M_X(theta)) - theta dm, and kappa of the deterministic bottleneck. */
typedef struct {
    double theta, log_moment, kappa;
} exponent;

/* Exponents below the root of e^{theta dm} lambda / (lambda + theta) = 1 with M_X(theta) <= e^{theta dm}, or,
 * any_bottleneck, with M_X(theta) lambda / (lambda + theta) <= 1. */
static int choose_exponents(const batch *self, double dm, int any_bottleneck, exponent candidates[EXPONENTS],
                            size_t *count) {
    double rate = self->arrival_rate, low = 0, high = 1 / dm;
    *count = 0;
    while (high * dm - log1p(high / rate) < 0 && high < 1e12)
        high *= 2;
    for (int step = 0; step < 200; step++) {
        double middle = low + (high - low) / 2;
        if (middle * dm - log1p(middle / rate) < 0)
            low = middle;
        else
            high = middle;
    }
    /* And below the root of X's own kappa, if that comes first. */
    double bottom = 0, top = any_bottleneck ? low : 0;
    for (int step = 0; step < 40 && bottom < top; step++) {
        double middle = step == 0 ? top : bottom + (top - bottom) / 2, value;
        int status = ei_service_log_mgf(self->pipeline->random, middle, &value, NULL);
        if (status != EI_OK)
            return status;
        if (value < log1p(middle / rate))
            bottom = middle;
        else
            top = middle;
    }
    if (any_bottleneck)
        low = bottom;
    for (int i = 0; i < EXPONENTS; i++) {
        double theta = low * (i + 0.5) / EXPONENTS, value;
        if (i == EXPONENTS - 1)
            theta = 0.98 * low;
        int status = ei_service_log_mgf(self->pipeline->random, theta, &value, NULL);
        if (status != EI_OK)
            return status;
        if (value < (any_bottleneck ? log1p(theta / rate) : theta * dm))
            candidates[(*count)++] = (exponent){theta, value, exp(theta * dm - log1p(theta / rate))};
    }
    return EI_OK;
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
    /* In blocks, so that the recursion's latency is paid once a block. */
    for (; j > 0 && (j > self->points + 1 - shift || (double)(j + shift) < flat || j < BLOCK); j--) {
        if ((double)(j + shift) < flat || j < BLOCK)
            break;
        mean = self->decay * mean + keep * walk[j - 1];
    }
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

/* ---- upper: the associated walk */
static int upper_associated(const batch *self) {
    const shape *pipeline = self->pipeline;
    double dm = fmax(pipeline->d1, pipeline->d3), rate = self->arrival_rate;
    double rise = fmax(pipeline->d1 - pipeline->d3, 0), drop = fmax(pipeline->d3 - pipeline->d1, 0);
    double constant = pipeline->constant + pipeline->d1 + pipeline->d3;
    size_t size = SERVICE_POINTS / 4, laws = 0, exponents = 0;
    int stationary = 0, status = EI_OK;
    exponent candidates[EXPONENTS];
    double *tails = NULL;
    killed_walk chain = {.walk = NULL};
    ei_lattice law = {0};
    if (dm <= 0 || (status = choose_exponents(self, dm, 0, candidates, &exponents)) != EI_OK ||
        exponents == 0)
        return status;
    double steepest = candidates[exponents - 1].theta, furthest = self->horizon - constant;
    if (!(furthest > 0))
        return EI_OK;
    double horizon = fmin(furthest, 46 / steepest) + 10 / steepest;
    /* The lattice divides dm, so that its steps are not rounded. */
    double per_service = ceil(dm * WALK_POINTS / horizon);
    if (per_service < 2 * BLOCK || per_service > WALK_POINTS)
        return EI_OK;
    double step = dm / per_service;
    chain.shift = (size_t)per_service;
    chain.points = (size_t)fmax(horizon / step, per_service) + BLOCK;
    chain.decay = exp(-rate * step);
    size_t jobs = (size_t)fmin(WALK_STEPS, 60 + (drop > 0 ? 14 : 22) / -log(candidates[exponents / 2].kappa));
    if ((status = ei_lattice_service(&law, pipeline->random, 0, 2 * reach_of(pipeline->random) / (double)size,
                                     size, 1)) != EI_OK)
        goto out;
    chain.ratio = step / law.step;
    tails = malloc((jobs + 2) * size * sizeof *tails);
    chain.walk = malloc((chain.points + 1) * sizeof *chain.walk);
    if (tails == NULL || chain.walk == NULL) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    /* Laws of V_m - m rise, m = 0 .. laws. */
    double *mass = tails + (jobs + 1) * size;
    memcpy(tails, law.sf, size * sizeof *tails);
    size_t fall = (size_t)(drop / law.step * (1 - 1e-12));
    while (laws < jobs && !stationary) {
        const double *old = tails + laws * size;
        double *new = tails + ++laws * size;
        double m = (double)laws;
        size_t lower_by = (size_t)fmin(m * rise / law.step * (1 - 1e-12), 1e9);
        advance(&law, size, old, new, mass, fall, lower_by, (m - 1) * rise - pipeline->d3);
        stationary = fall > 0;
        for (size_t z = 0; z < size && stationary; z++)
            stationary = fabs(new[z] - old[z]) <= 1e-8 * new[z] + 1e-19;
        if (self->monitor.poll != NULL && laws % 16 == 0 && self->monitor.poll(self->monitor.context) != 0) {
            status = EI_ERR_INTERRUPTED;
            goto out;
        }
    }
    double *final = tails + laws * size;
    if (stationary)
        for (size_t z = 0; z < size; z++)
            final[z] = fmin(final[z] * (1 + 1e-6) + 1e-18, 1);
    if (final[size - 1] > 1e-13)
        goto out; /* the lattice does not hold the law: no such bound */
    /* What the walk is worth at y, by Chernoff: drawn afresh with the final law forever, e^{afresh - theta
     * y}; and on all paths of more than `jobs` jobs, e^{paths - theta y} at the last step, a factor kappa
     * less for each step before it. */
    double afresh[EXPONENTS], paths[EXPONENTS], top = (double)(chain.points + 1) * step;
    size_t best = 0, best_path = 0;
    for (size_t e = 0; e < exponents; e++) {
        double kappa = candidates[e].kappa, theta = candidates[e].theta, j = (double)jobs;
        double moment = 0, previous = 1;
        for (size_t z = 0; z < size; z++) {
            moment += (previous - final[z]) * exp(theta * (double)z * law.step);
            previous = final[z];
        }
        moment += previous * exp(theta * (double)size * law.step * 2);
        afresh[e] = log(moment / (1 - kappa));
        /* A path of j + l jobs has j + l + 1 ways to share its further jobs between edge and device for each
         * number on the link, where a job costs M_X(theta) e^{-theta dm} < 1 of the slowest: sum over l >= 1
         * of kappa^l (j + l + 1) / (1 - cost). */
        double rest = 1 / (1 - kappa), cost = exp(candidates[e].log_moment - theta * dm);
        double series = kappa * rest * (j + 1 + rest) / (1 - cost);
        paths[e] = stationary ? -INFINITY : candidates[e].log_moment + log(series);
        if (afresh[e] - theta * top < afresh[best] - candidates[best].theta * top)
            best = e;
        if (paths[e] - theta * top + j / 2 * log(kappa) <
            paths[best_path] - candidates[best_path].theta * top + j / 2 * log(candidates[best_path].kappa))
            best_path = e;
    }
    for (size_t i = 0; i <= chain.points; i++) {
        double least = 0;
        for (size_t e = 0; e < exponents; e++)
            least = fmin(least, (stationary ? afresh[e] : paths[e]) - candidates[e].theta * (double)i * step);
        chain.walk[i] = exp(least);
    }
    double theta = candidates[best].theta, theta_path = candidates[best_path].theta;
    double above = exp(afresh[best] - theta * top) * rate / (rate + theta);
    double above_path =
        stationary ? 0 : exp(paths[best_path] - theta_path * top) * rate / (rate + theta_path);
    for (size_t m = jobs + 1; m-- > 0;) {
        killed_step(&chain, tails + (m < laws ? m : laws) * size, size, fmin(above + above_path, 1));
        above_path *= candidates[best_path].kappa;
        if (self->monitor.poll != NULL && m % 16 == 0 && self->monitor.poll(self->monitor.context) != 0) {
            status = EI_ERR_INTERRUPTED;
            goto out;
        }
    }
    for (size_t i = 0; i < self->count; i++) {
        size_t at = self->index[i];
        double rest = self->deadline[at] - constant;
        double cell = floor(rest / step * (1 - 1e-14));
        if (cell >= 0 && cell <= (double)chain.points)
            cut_upper(self, at, chain.walk[(size_t)cell], EI_BRACKET_ASSOCIATED);
    }
out:
    free(tails);
    free(chain.walk);
    ei_lattice_free(&law);
    return status;
}

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

/* One step of U' = X + (U - d)^+, distribution functions on the lattice d / HANDOVER_CELLS, X rounded down
 * (at most), U beyond the lattice counted as its end. */
EI_MULTIVERSION
static void next_chance(const double *restrict service, const double *restrict old, double *restrict new) {
    const size_t n = HANDOVER_CELLS, size = HANDOVER_SIZE;
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
    for (size_t k = 0; k < HANDOVER_GROUPS; k++) {
        double mass = weight[k] - weight[k + 1];
        if (mass > 0)
            for (size_t i = 0; i + offset[k] < count; i++)
                total[i] -= mass * low[i + offset[k]];
    }
}

/* min over e of exp(left[e] - theta_e y), at most 1. */
static double remainder_of(const double *left, const exponent *candidates, size_t exponents, double y) {
    double least = 0;
    for (size_t e = 0; e < exponents; e++)
        least = fmin(least, left[e] - candidates[e].theta * y);
    return exp(least);
}

/* Adds a stage of time d behind the link: see first_handover. ends: bounds on the law of R_0, d not counted;
 * ends[1] becomes the bound with the stage. `before`: the time of the stage that has been added already, or
 * 0. The elements' lower ends are raised where the stage stands `behind` the link in truth. */
static int add_stage(const batch *self, double d, double before, int behind, ei_lattice ends[2]) {
    const shape *pipeline = self->pipeline;
    const size_t n = HANDOVER_CELLS, group = HANDOVER_CELLS / HANDOVER_GROUPS;
    double constant = pipeline->constant + pipeline->d1 + pipeline->d3, step = ends[1].step;
    double rate = self->arrival_rate, left[EXPONENTS];
    /* The law of R_l reaches below zero. */
    size_t points = ends[1].count, below = (size_t)fmin(BEYOND / (rate * step), (double)points);
    size_t count = points + below, exponents = 0, offset[HANDOVER_GROUPS];
    double margin = (double)below * step, *work = NULL, weight[HANDOVER_GROUPS + 1];
    exponent candidates[EXPONENTS];
    ei_lattice law = {0}, low = {step, count, NULL};
    int finished = 0, status = choose_exponents(self, fmax(d, before), 1, candidates, &exponents);
    if (status != EI_OK || (status = ei_lattice_service(&law, pipeline->random, 0, d / HANDOVER_CELLS,
                                                        HANDOVER_SIZE + 2, 0)) != EI_OK)
        goto out;
    work = malloc((2 * count + 3 * HANDOVER_SIZE) * sizeof *work);
    if (work == NULL) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    /* chance: P(U <= i d / n), U the U_{job - 1} of the job at hand. */
    double *service = work, *chance = service + HANDOVER_SIZE, *next = chance + HANDOVER_SIZE;
    double *up = next + HANDOVER_SIZE, *total = ends[1].sf;
    low.sf = up + count;
    for (size_t i = 0; i < below; i++)
        up[i] = low.sf[i] = 1;
    memcpy(up + below, ends[1].sf, points * sizeof *up);
    memcpy(low.sf + below, ends[0].sf, points * sizeof *low.sf);
    for (size_t i = 0; i < HANDOVER_SIZE; i++)
        chance[i] = service[i] = 1 - law.sf[i + 1];
    for (size_t k = 0; k < HANDOVER_GROUPS; k++)
        offset[k] = (size_t)ceil((double)((k + 1) * group) * law.step / step * (1 + 1e-14));
    for (int job = 1;; job++) {
        finished = !(chance[n - 1] > 0);
        if (finished)
            break;
        /* All jobs from this one on by Chernoff's bound, left[e] - theta y; 1 without an exponent. */
        for (size_t e = 0; e < exponents; e++) {
            double theta = candidates[e].theta, idle = log1p(theta / rate), kappa = theta * d - idle;
            left[e] = log(chance[n - 1]) + candidates[e].log_moment + job * kappa - log(-expm1(kappa));
            if (before > 0)
                left[e] -= log(-expm1(theta * before - idle));
        }
        int enough = 1;
        for (size_t i = 0; i < PROBES && enough; i++) {
            double y = self->deadline[self->index[i]] - constant;
            enough = !(y >= 0) ||
                     remainder_of(left, candidates, exponents, y) < 1e-4 * ei_lattice_upper(&ends[1], y);
        }
        if (job > HANDOVER_JOBS || enough)
            break;
        pass_job(up, low.sf, count, rate, step, d);
        for (size_t k = 0; k <= HANDOVER_GROUPS; k++)
            weight[k] = k < HANDOVER_GROUPS ? chance[n - k * group - 1] : 0;
        add_handover(total, points, weight, up + below, low.sf + below, offset);
        /* Later ones gain little. */
        for (size_t i = 0; i < self->count && behind && (job & (job - 1)) == 0; i++) {
            double y = margin + self->deadline[self->index[i]] - constant;
            double sum = chance[n] * ei_lattice_lower(&low, fmax(y, 0));
            for (size_t w = n + 1; w <= HANDOVER_SIZE; w++)
                sum += ((w < HANDOVER_SIZE ? chance[w] : 1) - chance[w - 1]) *
                       ei_lattice_lower(&low, fmax(y - (double)(w - n) * law.step, 0));
            raise_lower(self, self->index[i], sum, EI_BRACKET_HANDOVER);
        }
        next_chance(service, chance, next);
        double *swap = chance;
        chance = next;
        next = swap;
        if (self->monitor.poll != NULL && job % 8 == 7 && self->monitor.poll(self->monitor.context) != 0) {
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

/* ---- lower: link and handover, upper: first_handover */
static int link_bottleneck(const batch *self, int only_lower) {
    const shape *pipeline = self->pipeline;
    double constant = pipeline->constant + pipeline->d1 + pipeline->d3;
    double rest = self->horizon - constant;
    ei_lattice ends[2] = {{.sf = NULL}, {.sf = NULL}};
    int status;
    if (!(rest > 0))
        return EI_OK;
    double beyond = only_lower ? 0 : BEYOND / self->arrival_rate;
    if ((status = sojourn_ends(self, 0, rest + beyond, 0, !only_lower, ends)) != EI_OK)
        goto out;
    for (size_t i = 0; i < self->count; i++)
        raise_lower(self, self->index[i],
                    ei_lattice_lower(&ends[0], self->deadline[self->index[i]] - constant), EI_BRACKET_LINK);
    double dm = fmax(pipeline->d1, pipeline->d3);
    if (only_lower || ends[1].sf == NULL || ei_service_mean(pipeline->random) < 0.9 * dm)
        goto out;
    if ((pipeline->d1 > 0 && (status = add_stage(self, pipeline->d1, 0, 0, ends)) != EI_OK) ||
        (pipeline->d3 > 0 && (status = add_stage(self, pipeline->d3, pipeline->d1, 1, ends)) != EI_OK))
        goto out;
    for (size_t i = 0; i < self->count; i++) {
        double y = self->deadline[self->index[i]] - constant;
        if (isfinite(y))
            cut_upper(self, self->index[i], ei_lattice_upper(&ends[1], y), EI_BRACKET_FIRST_HANDOVER);
    }
out:
    ei_lattice_free(&ends[0]);
    ei_lattice_free(&ends[1]);
    return status;
}

/* ---- upper: d1 + d3 + Y + Wq(Y) */
static int upper_single_server(const batch *self) {
    const shape *pipeline = self->pipeline;
    double constant = pipeline->constant + pipeline->d1 + pipeline->d3;
    double rest = self->horizon - constant;
    ei_lattice ends[2] = {{.sf = NULL}, {.sf = NULL}};
    int status = EI_OK;
    if (rest > 0 &&
        (status = sojourn_ends(self, fmax(pipeline->d1, pipeline->d3), rest, 1, 1, ends)) == EI_OK &&
        ends[1].sf != NULL)
        for (size_t i = 0; i < self->count; i++)
            cut_upper(self, self->index[i],
                      ei_lattice_upper(&ends[1], self->deadline[self->index[i]] - constant),
                      EI_BRACKET_SINGLE_SERVER);
    ei_lattice_free(&ends[0]);
    ei_lattice_free(&ends[1]);
    return status;
}

static int upper_moments(const batch *self, const ei_service *stages, size_t stage_count) {
    double *rates = malloc(4 * self->count * sizeof *rates + 1);
    int status = EI_OK;
    if (rates == NULL)
        return EI_ERR_NO_MEMORY;
    double *deadlines = rates + self->count, *bounds = rates + 2 * self->count,
           *theta = rates + 3 * self->count;
    static const ei_bound_method methods[] = {EI_BOUND_UNION, EI_BOUND_LUNDBERG};
    for (size_t i = 0; i < self->count; i++) {
        double deadline = self->deadline[self->index[i]];
        rates[i] = self->arrival_rate;
        deadlines[i] = isfinite(deadline) ? deadline : 0;
    }
    for (size_t m = 0; m < 2 && status == EI_OK; m++) {
        status = ei_violation_bound(stages, stage_count, methods[m], 1, self->count, rates, deadlines, bounds,
                                    theta, self->monitor);
        for (size_t i = 0; i < self->count && status == EI_OK; i++)
            cut_upper(self, self->index[i],
                      isfinite(self->deadline[self->index[i]]) ? exp(bounds[i]) * (1 + 1e-6) : 0,
                      EI_BRACKET_MOMENTS);
    }
    free(rates);
    return status;
}

/* One random stage. */
static int bracket_one(const batch *self, const ei_service *stages, size_t stage_count) {
    const shape *pipeline = self->pipeline;
    double dm = fmax(pipeline->d1, pipeline->d3);
    double reach = reach_of(pipeline->random);
    ei_lattice down = {0}, up = {0};
    ei_md1 waiting = {0};
    int status;
    if ((status = ei_md1_init(&waiting, self->arrival_rate, dm, self->horizon)) != EI_OK ||
        (status = ei_lattice_service(&down, pipeline->random, 0, reach / SERVICE_POINTS, SERVICE_POINTS + 2,
                                     0)) != EI_OK ||
        (status = ei_lattice_service(&up, pipeline->random, 0, reach / SERVICE_POINTS, SERVICE_POINTS + 2,
                                     1)) != EI_OK ||
        (status = lower_queue(self, &down, &waiting)) != EI_OK ||
        (status = upper_moments(self, stages, stage_count)) != EI_OK)
        goto out;
    if (pipeline->d1 > pipeline->d3 && ei_service_mean(pipeline->random) < 0.9 * pipeline->d1 &&
        (status = upper_overtaking(self, &up, &waiting)) != EI_OK)
        goto out;
    /* Where the edge is much slower than the device, the law of V grows with the jobs and overtaking is
     * sharper. */
    if (is_wide(self, CLOSE) && ei_service_mean(pipeline->random) < dm && pipeline->d1 < 1.2 * pipeline->d3 &&
        (status = upper_associated(self)) != EI_OK)
        goto out;
    if (is_wide(self, FAIR) && (status = link_bottleneck(self, 0)) != EI_OK)
        goto out;
    if (is_wide(self, POOR) && (status = upper_single_server(self)) != EI_OK)
        goto out;
out:
    ei_lattice_free(&down);
    ei_lattice_free(&up);
    ei_md1_free(&waiting);
    return status;
}

/* Lower end with several random stages: the others' least times beside one queue of each stage. */
static int bracket_several(const batch *self, const ei_service *stages, size_t stage_count) {
    int status = EI_OK;
    double least = 0;
    for (size_t k = 0; k < stage_count; k++)
        least += ei_service_minimum(&stages[k]);
    for (size_t k = 0; k < stage_count && status == EI_OK; k++) {
        shape alone = {0, 0, least - ei_service_minimum(&stages[k]), &stages[k]};
        batch part = *self;
        part.pipeline = &alone;
        if (stages[k].kind != EI_SERVICE_DETERMINISTIC) {
            status = link_bottleneck(&part, 1);
            continue;
        }
        ei_md1 waiting;
        status = ei_md1_init(&waiting, self->arrival_rate, stages[k].time, self->horizon);
        for (size_t i = 0; i < self->count && status == EI_OK; i++)
            raise_lower(self, self->index[i],
                        ei_md1_waiting_sf(&waiting, self->deadline[self->index[i]] - least),
                        EI_BRACKET_QUEUE);
        ei_md1_free(&waiting);
    }
    return status == EI_OK ? upper_moments(self, stages, stage_count) : status;
}

/* Merges deterministic stages; *random_count counts the others. */
static shape shape_of(const ei_service *stages, size_t stage_count, size_t *random_count) {
    shape self = {0, 0, 0, NULL};
    double sum[2] = {0, 0};
    *random_count = 0;
    for (size_t k = 0; k < stage_count; k++) {
        if (stages[k].kind != EI_SERVICE_DETERMINISTIC) {
            self.random = &stages[k];
            ++*random_count;
            continue;
        }
        double *slowest = self.random == NULL ? &self.d1 : &self.d3;
        sum[self.random != NULL] += stages[k].time;
        *slowest = fmax(*slowest, stages[k].time);
    }
    self.constant = (sum[0] - self.d1) + (sum[1] - self.d3);
    return self;
}

/* Where the lattices end and the probes lie: at `level` of the decay from the mean latency on. */
static int place(const ei_service *stages, size_t stage_count, double arrival_rate, double *horizon,
                 double probes[PROBES]) {
    static const double levels[PROBES] = {1e-1, 1e-3, 1e-6, 1e-10};
    double mean = 0, decay;
    int status = ei_decay_rate(stages, stage_count, arrival_rate, &decay);
    if (status != EI_OK)
        return status;
    for (size_t k = 0; k < stage_count; k++)
        mean += ei_service_mean(&stages[k]);
    decay = fmax(decay, 1e-250);
    *horizon = mean - log(FURTHEST) / decay;
    for (size_t i = 0; i < PROBES; i++)
        probes[i] = mean - log(levels[i]) / decay;
    return EI_OK;
}

typedef struct {
    double arrival_rate;
    size_t index;
} key;

static int compare_keys(const void *left, const void *right) {
    double a = ((const key *)left)->arrival_rate, b = ((const key *)right)->arrival_rate;
    return (a > b) - (a < b);
}

/* The elements of one rate, the probes first. */
static int bracket_rate(const batch *self, const ei_service *stages, size_t stage_count,
                        size_t random_count) {
    if (random_count == 0)
        return exact_waiting(self);
    return random_count == 1 ? bracket_one(self, stages, stage_count)
                             : bracket_several(self, stages, stage_count);
}

/* Upper ends near the end of the range of double, where products lose their accuracy, again in the log
 * domain; they are positive. */
static int raise_least(const batch *self, const ei_service *stages, size_t stage_count) {
    for (size_t i = 0; i < self->count; i++) {
        size_t at = self->index[i];
        batch one = *self;
        if (!isfinite(self->deadline[at]) || self->upper[at] > LEAST)
            continue;
        self->upper[at] = LEAST;
        if (self->lower[at] > LEAST / 2)
            self->lower[at] = 0;
        one.index = &self->index[i];
        one.count = 1;
        int status = upper_moments(&one, stages, stage_count);
        if (status != EI_OK)
            return status;
        self->upper[at] = nextafter(self->upper[at], 1);
    }
    return EI_OK;
}

int ei_violation_bracket(const ei_service *stages, size_t stage_count, size_t count,
                         const double *arrival_rate, const double *deadline, double *lower, double *upper,
                         uint8_t *lower_method, uint8_t *upper_method, ei_monitor monitor) {
    int status = EI_OK;
    double slowest = 0, *ends = NULL;
    key *keys = NULL;
    size_t *index = NULL, random_count, all = count + PROBES;
    uint8_t *methods = NULL;
    if (stage_count == 0)
        return EI_ERR_EMPTY;
    for (size_t k = 0; k < stage_count; k++) {
        if ((status = ei_service_verify(&stages[k])) != EI_OK)
            return status;
        slowest = fmax(slowest, ei_service_mean(&stages[k]));
    }
    for (size_t i = 0; i < count; i++)
        if (!(arrival_rate[i] > 0) || !isfinite(arrival_rate[i]) || isnan(deadline[i]))
            return EI_ERR_DOMAIN;
    keys = malloc(count * sizeof *keys + 1);
    index = malloc(all * sizeof *index);
    ends = malloc(3 * all * sizeof *ends);
    methods = malloc(2 * all);
    if (keys == NULL || index == NULL || ends == NULL || methods == NULL) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    /* The caller's elements, then the probes. */
    double *times = ends + 2 * all;
    for (size_t i = 0; i < count; i++) {
        keys[i] = (key){arrival_rate[i], i};
        times[i] = deadline[i];
    }
    for (size_t i = 0; i < all; i++) {
        ends[i] = 0;
        ends[all + i] = 1;
        methods[i] = methods[all + i] = EI_BRACKET_TRIVIAL;
    }
    qsort(keys, count, sizeof *keys, compare_keys);
    shape pipeline = shape_of(stages, stage_count, &random_count);
    for (size_t from = 0, to; from < count && status == EI_OK; from = to) {
        batch part = {&pipeline, keys[from].arrival_rate, 0,      PROBES, index, times, ends, ends + all,
                      methods,   methods + all,           monitor};
        for (to = from; to < count && keys[to].arrival_rate == part.arrival_rate; to++)
            index[part.count++] = keys[to].index;
        /* Without any work nobody waits; and who never comes to an end is always late. */
        int trivial = slowest == 0 ? EI_BRACKET_EXACT : EI_BRACKET_UNSTABLE;
        if (slowest == 0 || part.arrival_rate * slowest >= 1) {
            for (size_t i = PROBES; i < part.count; i++) {
                double late = slowest > 0 || times[index[i]] < 0;
                ends[index[i]] = ends[all + index[i]] = late;
                methods[index[i]] = methods[all + index[i]] = (uint8_t)trivial;
            }
            continue;
        }
        for (size_t i = 0; i < PROBES; i++) {
            index[i] = count + i;
            ends[count + i] = 0;
            ends[all + count + i] = 1;
        }
        if ((status = place(stages, stage_count, part.arrival_rate, &part.horizon, times + count)) == EI_OK &&
            (status = bracket_rate(&part, stages, stage_count, random_count)) == EI_OK) {
            part.index += PROBES;
            part.count -= PROBES;
            status = raise_least(&part, stages, stage_count);
        }
    }
    for (size_t i = 0; i < count && status == EI_OK; i++) {
        lower[i] = ends[i];
        upper[i] = ends[all + i];
        lower_method[i] = methods[i];
        upper_method[i] = methods[all + i];
    }
out:
    free(keys);
    free(index);
    free(ends);
    free(methods);
    return status;
}
