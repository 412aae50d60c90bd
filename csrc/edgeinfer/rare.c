#include "edgeinfer/rare.h"

#include "edgeinfer/backward.h"
#include "edgeinfer/parallel.h"
#include "edgeinfer/rng.h"
#include "edgeinfer/tilt.h"
#include "edgeinfer/ways.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    GRID = 512,         /* gaps tabulated on [0, deadline] */
    LEVELS = 32,        /* tilts between 0 and tau_k */
    CHUNK = 32,         /* replications whose sums are taken together */
    MINIMUM = 64,       /* replications of one stage; twice as many of each stage of several */
    POLL_JOBS = 1 << 14 /* jobs between two looks at the monitor */
};

static const double LARGEST_SHARE = 0.05; /* of one weight in the sum */
static const double UNSEEN = 3;           /* over the replications: the share of what none of them met */
static const double SKEWNESS_RULE = 100;  /* replications >= this times the skewness squared */
static const double LOG_UNDERFLOW = -800; /* far below the logarithm of the least double, -744.4 */
static const double FURTHEST = 600;       /* tilt times deadline of a stage without a root */
static const double LOG_DROPPED = -30;    /* of what a lost replication may add */
static const double HOPELESS = 1e6;       /* replications without a value that a double can hold: it is 0 */
static const double UNLIKELY =
    1e-10;                           /* what is more likely does not hang on what a link's table leaves out */
static const double FAR_ABOVE = 1e4; /* of what a law leaves out: it does not count */
static const double START = 1e-200;  /* of the density ratio, which may reach e^800 */

/* What a stage does at a gap. */
typedef struct {
    uint8_t stay, enter; /* levels of the tilts */
    double leave;        /* probability p_k of moving on to the stage before */
} policy;

typedef struct {
    ei_tilted_law law;
    double theta;            /* root of M(theta) L(theta) = 1, 1/s */
    double tau;              /* least theta of this stage and those before it, 1/s */
    ei_tilt tilt[LEVELS];    /* tables only of those that the policy uses */
    double log_rate[LEVELS]; /* -log L(sigma) */
    double ahead;            /* log of the product of M_i(tau) of the stages before it */
    double means[LEVELS];    /* sum of tilted means of this stage and those before it, s */
    policy at[GRID + 1];
} stage;

typedef struct {
    stage *stages;
    size_t count;
    const ei_arrival *arrival;
    double deadline, cells_per_second;
    int climbs;       /* whether a path climbs on every stage: all have a theta */
    double log_scale; /* of the weights */
    ei_ways *ways;    /* NULL: by the policies */
    const uint64_t *entropy;
    uint64_t first, end; /* replications of this round */
    double (*sums)[4];   /* per chunk: sums of w, w^2, w^3, and max w, over e^log_scale */
} rare_context;

static size_t nearest_level(const stage *self, double sigma) {
    size_t level = 0;
    while (level + 1 < LEVELS && self->tilt[level].tilt + self->tilt[level + 1].tilt < 2 * sigma)
        level++;
    return level;
}

/* The largest tilt under which the services of this stage and those before it sum to `gap` on average. */
static double saddle(const stage *self, double gap) {
    size_t level = 0;
    if (gap >= self->means[LEVELS - 1])
        return self->tau;
    while (level + 1 < LEVELS && self->means[level + 1] <= gap)
        level++;
    if (gap < self->means[0])
        return 0;
    double share = (gap - self->means[level]) / (self->means[level + 1] - self->means[level]);
    return self->tilt[level].tilt + share * (self->tilt[level + 1].tilt - self->tilt[level].tilt);
}

/* int_0^step e^{-rate x} f dx of a linear f: the weights of its values at x = 0 and x = step. */
static void linear_weights(double rate, double step, double weight[2]) {
    double z = rate * step;
    if (z < 1e-4) {
        weight[0] = step * (0.5 - z / 6);
        weight[1] = step * (0.5 - z / 3);
        return;
    }
    double whole = -expm1(-z) / rate, first = (1 - (1 + z) * exp(-z)) / (rate * z);
    weight[0] = whole - first;
    weight[1] = first;
}

/* value[i] = e^{tau_k y} V_k(y) from entered[i] = e^{tau_{k-1} y} A_{k-1}(y); see rare.h. */
static void add_stage(const rare_context *context, const stage *self, double tau_before,
                      double *restrict entered, double *restrict value) {
    const double step = context->deadline / GRID, rate = ei_arrival_rate(context->arrival);
    double slope, tilted;
    ei_tilted_log_mgf(&self->law, self->theta, &slope);
    ei_arrival_exponent(context->arrival, self->theta, &tilted);
    double climb = slope - tilted, fall = 1 / rate - ei_service_mean(self->law.service);
    double weight[2], above = 0, decay = exp(-(self->theta - self->tau) * step);
    for (int i = 0; i <= GRID; i++)
        entered[i] *= exp(-(tau_before - self->tau) * step * i);
    linear_weights(self->theta - self->tau, step, weight);
    for (int i = 0; i <= GRID; i++) {
        if (i > 0)
            above = decay * above + weight[0] * entered[i] + weight[1] * entered[i - 1];
        value[i] = entered[i] + (climb > 0 && isfinite(climb) ? above / climb : 0);
    }
    double below = entered[GRID] / tau_before;
    decay = exp(-self->tau * step);
    linear_weights(self->tau, step, weight);
    for (int i = GRID; i >= 0; i--) {
        if (i < GRID)
            below = decay * below + weight[0] * entered[i] + weight[1] * entered[i + 1];
        value[i] += below / fall;
    }
}

static void init_levels(const rare_context *context, stage *self, const stage *before) {
    const double tau = self->tau, least = fmin(0.25 / fmax(context->deadline, 1e-300), tau / 4);
    for (int l = 0; l < LEVELS; l++) {
        /* The closer to either end the finer: a single service may ask for a small share of a steep tau. */
        const int from_end = l < LEVELS / 2 ? l : LEVELS - 1 - l;
        const double away =
            from_end == 0 ? 0 : least * pow(tau / 2 / least, (from_end - 1) / (LEVELS / 2 - 1.0));
        ei_tilt *tilt = &self->tilt[l];
        tilt->tilt = l < LEVELS / 2 ? away : tau - away;
        double tilted;
        self->log_rate[l] = ei_arrival_exponent(context->arrival, tilt->tilt, &tilted);
        tilt->log_mgf = ei_tilted_log_mgf(&self->law, tilt->tilt, &tilt->slope);
        self->means[l] = tilt->slope;
        if (before == NULL)
            continue;
        for (const stage *other = context->stages; other < self; other++) {
            double slope = other->tilt[l].slope;
            double log_mgf = other->tilt[l].log_mgf;
            if (other->tau != tau)
                log_mgf = ei_tilted_log_mgf(&other->law, tilt->tilt, &slope);
            self->means[l] += slope;
            self->ahead += l == LEVELS - 1 ? log_mgf : 0;
        }
    }
}

/* Policies of all stages, and the scale of the weights, which is about the union bound. */
static int init_policies(rare_context *context) {
    double value[GRID + 1], entered[GRID + 1];
    const double step = context->deadline / GRID;
    for (size_t k = 0; k < context->count; k++) {
        stage *self = &context->stages[k], *before = k > 0 ? self - 1 : NULL;
        self->tau = before != NULL ? fmin(before->tau, self->theta) : self->theta;
        init_levels(context, self, before);
        if (before == NULL)
            for (int i = 0; i <= GRID; i++)
                value[i] = 1;
        else
            add_stage(context, self, before->tau, entered, value);
        uint8_t used[LEVELS] = {0};
        double peak = 0, log_entered = log(value[0]), last = 0;
        for (int i = 0; i <= GRID; i++) {
            int low = i > 0 ? i - 1 : 0, high = i < GRID ? i + 1 : GRID;
            double slope = step > 0 ? (log(value[high]) - log(value[low])) / ((high - low) * step) : 0;
            double sigma = fmax(fmin(self->tau - slope, self->tau), 0), gap = i * step;
            policy *at = &self->at[i];
            at->stay = (uint8_t)(before == NULL ? LEVELS - 1
                                                : nearest_level(self, fmin(sigma, saddle(before, gap))));
            double entry = fmin(before == NULL ? self->tau : sigma, saddle(self, gap));
            at->enter = (uint8_t)nearest_level(self, entry);
            at->leave = before == NULL ? 0 : fmin(entered[i] / value[i], 1);
            used[at->stay] = used[at->enter] = 1;
            log_entered -= i > 0 ? (entry + last) / 2 * step : 0;
            last = entry;
            entered[i] = log_entered + self->tau * gap;
            peak = i == 0 ? entered[i] : fmax(peak, entered[i]);
        }
        context->log_scale += peak;
        if (k + 1 == context->count)
            context->log_scale += entered[GRID] - peak - self->tau * context->deadline;
        for (int i = 0; i <= GRID; i++)
            entered[i] = exp(entered[i] - peak);
        for (int l = 0; l < LEVELS; l++)
            if (used[l] && ei_tilt_init(&self->tilt[l], &self->law, self->tilt[l].tilt) != EI_OK)
                return EI_ERR_NO_MEMORY;
    }
    return EI_OK;
}

static const policy *policy_at(const rare_context *self, const stage *one, double gap) {
    double cell = gap * self->cells_per_second;
    return &one->at[cell <= 0 ? 0 : cell >= GRID ? GRID : (size_t)(cell + 0.5)];
}

/* e^{sigma s} / M(sigma) times `density`, in halves, since their square may exceed a double's range. */
static double times_ratio(double density, const ei_tilt *tilt, double service) {
    double half = exp((tilt->tilt * service - tilt->log_mgf) / 2);
    return density * half * half;
}

typedef struct {
    double path, density; /* P_k, and the density ratio of the paths that are on stage k */
    const policy *at;
} node;

/* One job's services from the last stage backwards; `*hidden` is the stage that the tilt is on. Gives the sum
 * of the density ratios where a path is beyond the deadline, else 0. */
static double serve(const rare_context *self, ei_rng *rng, size_t *hidden, int first, double interval,
                    node *nodes) {
    double reached = 0, entering = first ? START : 0;
    int enters = first;
    if (!first)
        reached = -INFINITY;
    for (size_t k = self->count; k-- > 0;) {
        stage *one = &self->stages[k];
        node *here = &nodes[k];
        const ei_tilt *stay = first ? NULL : &one->tilt[here->at->stay], *enter = NULL, *drawn = NULL;
        if (entering > 0 || enters)
            enter = &one->tilt[policy_at(self, one, self->deadline - reached)->enter];
        if (*hidden == k)
            drawn = enters ? enter : stay;
        double start = first ? reached : fmax(here->path - interval, reached), middle;
        double service = ei_tilted_draw(&one->law, drawn, rng, &middle);
        double density = first || here->density == 0 ? 0 : times_ratio(here->density, stay, middle);
        if (entering > 0)
            density += times_ratio(entering, enter, middle);
        here->path = reached = start + service;
        if (reached > self->deadline) {
            for (size_t other = 0; other < self->count; other++)
                if (other > k || (other < k && !first))
                    density += nodes[other].density;
            return density;
        }
        here->at = policy_at(self, one, self->deadline - reached);
        here->density = density * (1 - here->at->leave);
        entering = density * here->at->leave;
        enters = *hidden == k && k > 0 && ei_rng_uniform(rng) <= here->at->leave;
        if (enters)
            --*hidden;
    }
    return 0;
}

/* Whether paths can add next to nothing any more; see rare.h. */
static int is_lost(const rare_context *self, const node *nodes) {
    double density = 0, ahead = 0;
    for (size_t k = 0; k < self->count; k++) {
        density += nodes[k].density / START;
        ahead += exp(self->stages[k].ahead - self->stages[k].tau * (self->deadline - nodes[k].path));
    }
    return log(ahead / density) - self->log_scale < LOG_DROPPED;
}

/* Weight over e^log_scale, or a negative status. */
static double replicate(const rare_context *self, ei_rng *rng, node *nodes, uint64_t *jobs,
                        ei_parallel *run) {
    size_t hidden = self->count - 1, alive = self->count;
    double density, interval = 0;
    for (int first = 1; (density = serve(self, rng, &hidden, first, interval, nodes)) == 0; first = 0) {
        if (++*jobs % POLL_JOBS == 0 && ei_parallel_stopped(run))
            return EI_ERR_INTERRUPTED;
        const stage *one = &self->stages[hidden];
        /* No weight is left, as where services that are longer than the period are too rare to be drawn. */
        if (!(nodes[hidden].density < INFINITY) || (!self->climbs && is_lost(self, nodes)))
            return 0;
        interval = ei_arrival_draw_tilted(self->arrival, one->tilt[nodes[hidden].at->stay].tilt, rng);
        /* Densities that no longer matter, and that nothing flows into, are left out. */
        while (alive > hidden + 1 && nodes[alive - 1].density < 1e-20 * nodes[hidden].density)
            nodes[--alive].density = 0;
        for (size_t k = 0; k < alive; k++) {
            size_t level = nodes[k].at->stay;
            one = &self->stages[k];
            nodes[k].density *= exp(one->log_rate[level] - one->tilt[level].tilt * interval);
        }
    }
    if (!(density < INFINITY))
        return 0;
    double half = exp(-self->log_scale / 2);
    return START * half / density * half;
}

static int chunk(void *argument, size_t index, ei_parallel *run) {
    const rare_context *self = argument;
    double *sums = self->sums[index];
    node *nodes = calloc(self->count, sizeof *nodes);
    double *scratch = self->ways != NULL ? malloc(ei_ways_scratch(self->ways) * sizeof *scratch) : NULL;
    int status = nodes == NULL || (self->ways != NULL && scratch == NULL) ? EI_ERR_NO_MEMORY : EI_OK;
    uint64_t jobs = 0, first = self->first + index * CHUNK;
    uint64_t end = self->end - first < CHUNK ? self->end : first + CHUNK;
    memset(sums, 0, sizeof self->sums[index]);
    for (uint64_t replication = first; replication < end && status == EI_OK; replication++) {
        ei_rng rng;
        ei_rng_init(&rng, self->entropy, replication);
        double weight = self->ways != NULL ? ei_ways_draw(self->ways, &rng, scratch, &jobs, run)
                                           : replicate(self, &rng, nodes, &jobs, run);
        if (weight < 0) {
            status = (int)weight;
            break;
        }
        sums[0] += weight;
        sums[1] += weight * weight;
        sums[2] += weight * weight * weight;
        sums[3] = fmax(sums[3], weight);
    }
    free(nodes);
    free(scratch);
    return status;
}

/* Runs the replications up to `end` and adds to the sums. */
static int add_round(rare_context *self, uint64_t end, double total[4], size_t threads, ei_monitor monitor) {
    size_t chunks = (size_t)((end - self->first + CHUNK - 1) / CHUNK);
    self->end = end;
    self->sums = malloc(chunks * sizeof *self->sums);
    if (self->sums == NULL)
        return EI_ERR_NO_MEMORY;
    int status = ei_parallel_for(chunk, self, chunks, threads, monitor);
    for (size_t i = 0; status == EI_OK && i < chunks; i++) {
        for (int j = 0; j < 3; j++)
            total[j] += self->sums[i][j];
        total[3] = fmax(total[3], self->sums[i][3]);
    }
    free(self->sums);
    self->sums = NULL;
    self->first = end;
    return status;
}

static double least_replications(const rare_context *self) {
    return (double)(self->count > 1 ? 2 * MINIMUM * self->count : MINIMUM);
}

/* Fills *result; whether the relative error is reached and can be believed. */
static int judge(const rare_context *self, const double total[4], double relative_error,
                 ei_rare_result *result) {
    const double count = (double)self->first, mean = total[0] / count, half = exp(self->log_scale / 2);
    double variance = fmax(total[1] / count - mean * mean, 0);
    double third = total[2] / count - 3 * mean * total[1] / count + 2 * mean * mean * mean;
    double skewness = variance > 1e-14 * mean * mean ? third / (variance * sqrt(variance)) : 0;
    result->value = mean * half * half;
    result->relative_error =
        count > 1 && mean > 0 ? fmax(sqrt(variance / (count - 1)) / mean, UNSEEN / count) : INFINITY;
    result->standard_error = mean > 0 ? result->relative_error * result->value : INFINITY;
    result->replications = count;
    result->effective_sample_size = total[1] > 0 ? total[0] * total[0] / total[1] : 0;
    result->largest_weight_share = total[0] > 0 ? total[3] / total[0] : 0;
    result->needed = fmax(least_replications(self), SKEWNESS_RULE * skewness * skewness);
    return result->relative_error <= relative_error && count >= result->needed &&
           result->largest_weight_share <= LARGEST_SHARE;
}

static int sample(rare_context *self, double relative_error, double max_replications, size_t threads,
                  ei_rare_result *result, ei_monitor monitor) {
    const double limit = fmin(floor(max_replications), 9e15);
    double next = fmin(least_replications(self), limit), total[4] = {0};
    for (;;) {
        int status = add_round(self, (uint64_t)next, total, threads, monitor);
        if (status != EI_OK)
            return status;
        if (judge(self, total, relative_error, result))
            return EI_OK;
        if (next >= limit || (next >= HOPELESS && !(result->value >= DBL_MIN)))
            return EI_ERR_ACCURACY;
        double short_of = result->relative_error / relative_error;
        double wanted = fmax(next * short_of * short_of * 1.05, result->needed);
        next = fmin(ceil(fmin(fmax(wanted, 1.25 * next), 4 * next)), limit);
    }
}

static int init_stages(rare_context *self, const ei_service *stages, size_t stage_count, ei_monitor monitor) {
    self->stages = calloc(stage_count, sizeof *self->stages);
    if (self->stages == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < stage_count; k++) {
        int status = ei_service_verify_independent(&stages[k]);
        if (status != EI_OK)
            return status;
        double mean = ei_service_mean(&stages[k]);
        if (!(ei_arrival_rate(self->arrival) * mean < 1))
            return EI_ERR_UNSTABLE;
        /* A service that is always 0 changes nothing. */
        if (!(mean > 0))
            continue;
        stage *one = &self->stages[self->count++];
        if ((status = ei_tilted_law_init(&one->law, &stages[k], 0, monitor)) != EI_OK)
            return status;
        if (!ei_arrival_is_renewal(self->arrival))
            continue;
        one->theta = ei_tilted_root(&one->law, self->arrival);
        if (isinf(one->theta)) {
            one->theta = FURTHEST / fmax(self->deadline, 1e-6 * mean);
            self->climbs = 0;
        }
    }
    return EI_OK;
}

/* The mixture over lengths, where transfers that a table leaves out may matter, or paths climb nowhere; see
 * ways.h. */
static int init_ways(rare_context *self, const ei_service *stages, size_t stage_count, ei_monitor monitor) {
    double least = INFINITY, known;
    int needed = 0;
    for (size_t k = 0; k < self->count; k++)
        least = fmin(least, self->stages[k].theta);
    const int renewal = ei_arrival_is_renewal(self->arrival);
    for (size_t k = 0; k < self->count && renewal; k++)
        needed |= ei_tilted_ends_short(&self->stages[k].law, least, &known);
    if (!needed && renewal && self->climbs)
        return EI_OK;
    int status = EI_ERR_ACCURACY;
    /* The tails that only links have are left out where they are not what it is needed for. */
    for (int with_tail = 1; with_tail >= (renewal && self->climbs) && ei_no_bound(status); with_tail--)
        status =
            ei_ways_new(&self->ways, stages, stage_count, self->arrival, self->deadline, with_tail, monitor);
    if (renewal && ei_no_bound(status))
        return EI_OK;
    if (status == EI_OK && (!renewal || !self->climbs || ei_ways_log_bound(self->ways) < log(UNLIKELY))) {
        self->log_scale = ei_ways_log_bound(self->ways);
        return EI_OK;
    }
    ei_ways_free(self->ways);
    self->ways = NULL;
    return status;
}

/* The stage whose rarest transfers, which are not sampled, may count. */
static void find_unsampled(const rare_context *self, const ei_service *stages, ei_rare_result *result) {
    for (size_t k = 0; k < self->count; k++) {
        const stage *one = &self->stages[k];
        double known;
        int ends = self->ways != NULL
                       ? ei_ways_ends_short(self->ways, k, &known)
                       : ei_tilted_ends_short(&one->law, self->stages[self->count - 1].tau, &known);
        if (ends && result->value < FAR_ABOVE * known) {
            result->unsampled = (size_t)(one->law.service - stages) + 1;
            result->known = known;
        }
    }
}

int ei_rare_violation(const ei_service *stages, size_t stage_count, const ei_arrival *arrival,
                      double deadline, double relative_error, double max_replications,
                      const uint64_t entropy[4], size_t threads, ei_rare_result *result, ei_monitor monitor) {
    rare_context context = {.arrival = arrival, .deadline = deadline, .climbs = 1, .entropy = entropy};
    int status = EI_ERR_EMPTY;
    double least = 0, most = 0;
    *result = (ei_rare_result){.value = 0};
    if (stage_count == 0)
        goto out;
    status = EI_ERR_DOMAIN;
    if (!(ei_arrival_mean(arrival) > 0) || !ei_backward_takes(arrival) || !isfinite(deadline) ||
        !(relative_error > 0) || !(max_replications >= 1))
        goto out;
    if ((status = init_stages(&context, stages, stage_count, monitor)) != EI_OK)
        goto out;
    for (size_t k = 0; k < stage_count; k++) {
        const double longest = ei_service_maximum(&stages[k]);
        least += ei_service_minimum(&stages[k]);
        most += longest <= ei_arrival_mean(arrival) ? longest : INFINITY;
    }
    result->effective_sample_size = result->replications = 1;
    const int never = arrival->kind == EI_ARRIVAL_DETERMINISTIC && deadline >= most * (1 + 16 * DBL_EPSILON);
    /* Below the least sojourn time, beyond all that are possible, or nothing but zeros, which never wait. */
    if (deadline < least || never || context.count == 0) {
        result->value = deadline < least;
        goto out;
    }
    context.cells_per_second = deadline > 0 ? GRID / deadline : 0;
    if ((status = init_ways(&context, stages, stage_count, monitor)) != EI_OK ||
        (context.ways == NULL && (status = init_policies(&context)) != EI_OK))
        goto out;
    if (context.log_scale > LOG_UNDERFLOW)
        status =
            sample(&context, relative_error, max_replications, threads > 0 ? threads : 1, result, monitor);
    find_unsampled(&context, stages, result);
out:
    for (size_t k = 0; k < context.count; k++) {
        for (int l = 0; l < LEVELS; l++)
            ei_tilt_free(&context.stages[k].tilt[l]);
        ei_tilted_law_free(&context.stages[k].law);
    }
    ei_ways_free(context.ways);
    free(context.stages);
    return status;
}
