#include "edgeinfer/rare.h"

#include "edgeinfer/parallel.h"
#include "edgeinfer/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 1024, FIRST_BATCHES = 16, CELLS_PER_SLOT = 64 };

/* A service law as cells of probability, drawn plainly or tilted; within a cell the law is uniform (links) or
 * an atom (samples). Both use the same cells, so that the likelihood ratio is exact. */
typedef struct {
    const ei_service *service;
    size_t cells;
    double *edge;           /* [cells + 1]; atoms: [cells] */
    double *plain, *tilted; /* cumulative probabilities, [cells] */
    double *log_ratio;      /* log(plain / tilted) of a cell, [cells] */
    uint32_t *plain_guide, *tilted_guide;
    size_t guide;
    int atoms;
    double tilted_mean; /* of an exponential law */
    double log_mgf;
} cell_law;

typedef struct {
    const ei_service *stages;
    cell_law *laws;
    size_t count, bottleneck; /* bottleneck == count: a deterministic one, only the arrivals are tilted */
    double arrival_rate, deadline, theta;
    const uint64_t *entropy;
    size_t first_batch;
    double (*sums)[3]; /* per batch: sum w, sum w^2, max w */
} rare_context;

static void cell_law_free(cell_law *self) {
    free(self->edge);
    free(self->plain);
    free(self->tilted);
    free(self->log_ratio);
    free(self->plain_guide);
    free(self->tilted_guide);
}

static void build_guide(const double *restrict cumulative, size_t cells, size_t guide,
                        uint32_t *restrict first) {
    size_t cell = 0;
    for (size_t i = 0; i < guide; i++) {
        while (cell + 1 < cells && cumulative[cell] < (double)i / (double)guide)
            cell++;
        first[i] = (uint32_t)cell;
    }
}

static int cell_law_init(cell_law *self, const ei_service *service, double theta) {
    memset(self, 0, sizeof *self);
    self->service = service;
    int status = ei_service_log_mgf(service, theta, &self->log_mgf, NULL);
    if (status != EI_OK || service->kind == EI_SERVICE_DETERMINISTIC)
        return status;
    if (service->kind == EI_SERVICE_EXPONENTIAL) {
        self->tilted_mean = service->time / (1 - theta * service->time);
        return EI_OK;
    }
    self->atoms = service->kind == EI_SERVICE_SAMPLES;
    double step = 0;
    if (self->atoms) {
        self->cells = service->sample_count;
    } else {
        double bits, bandwidth, snr, slot;
        ei_transfer_parameters(service->transfer, &bits, &bandwidth, &snr, &slot);
        double extent = ei_transfer_extent(service->transfer);
        self->cells = (size_t)fmin(ceil(extent / slot) * CELLS_PER_SLOT, 1 << 20);
        if (self->cells < 4096)
            self->cells = 4096;
        step = extent / (double)self->cells;
    }
    self->guide = self->cells;
    self->edge = malloc((self->cells + 1) * sizeof *self->edge);
    self->plain = malloc(self->cells * sizeof *self->plain);
    self->tilted = malloc(self->cells * sizeof *self->tilted);
    self->log_ratio = malloc(self->cells * sizeof *self->log_ratio);
    self->plain_guide = malloc(self->guide * sizeof *self->plain_guide);
    self->tilted_guide = malloc(self->guide * sizeof *self->tilted_guide);
    if (!self->edge || !self->plain || !self->tilted || !self->log_ratio || !self->plain_guide ||
        !self->tilted_guide)
        return EI_ERR_NO_MEMORY;
    double plain = 0, tilted = 0, above = 1, peak = 0;
    for (size_t i = 0; i < self->cells; i++) {
        double mass, middle;
        if (self->atoms) {
            self->edge[i] = middle = service->samples[i];
            mass = 1 / (double)self->cells;
        } else {
            self->edge[i] = (double)i * step;
            double next = ei_service_sf(service, (double)(i + 1) * step);
            middle = ((double)i + 0.5) * step;
            mass = fmax(above - next, 0);
            above = fmin(above, next);
        }
        if (i == 0)
            peak = self->log_mgf;
        plain += mass;
        tilted += mass * exp(theta * middle - peak);
        self->plain[i] = plain;
        self->tilted[i] = tilted;
        self->log_ratio[i] = -(theta * middle - peak);
    }
    self->edge[self->cells] = (double)self->cells * step;
    for (size_t i = 0; i < self->cells; i++) {
        self->plain[i] /= plain;
        self->tilted[i] /= tilted;
        self->log_ratio[i] += log(tilted / plain);
    }
    build_guide(self->plain, self->cells, self->guide, self->plain_guide);
    build_guide(self->tilted, self->cells, self->guide, self->tilted_guide);
    return EI_OK;
}

static double draw(const cell_law *self, int tilted, ei_rng *rng, double *log_weight) {
    const ei_service *service = self->service;
    if (service->kind == EI_SERVICE_DETERMINISTIC)
        return service->time;
    if (service->kind == EI_SERVICE_EXPONENTIAL) {
        double unit = ei_rng_exponential(rng);
        if (!tilted)
            return unit * service->time;
        double value = unit * self->tilted_mean;
        *log_weight += EI_LN2 * ei_log2(self->tilted_mean / service->time) - value / service->time + unit;
        return value;
    }
    const double *cumulative = tilted ? self->tilted : self->plain;
    double u = 1 - ei_rng_uniform(rng);
    size_t cell = (tilted ? self->tilted_guide : self->plain_guide)[(size_t)(u * (double)self->guide)];
    while (cell + 1 < self->cells && cumulative[cell] <= u)
        cell++;
    if (tilted)
        *log_weight += self->log_ratio[cell];
    if (self->atoms)
        return self->edge[cell];
    double below = cell > 0 ? cumulative[cell - 1] : 0, mass = cumulative[cell] - below;
    double fraction = mass > 0 ? (u - below) / mass : 0;
    return self->edge[cell] + fraction * (self->edge[cell + 1] - self->edge[cell]);
}

static int batch(void *argument, size_t index, ei_parallel *run) {
    const rare_context *self = argument;
    const size_t stages = self->count;
    const double tilted_rate = self->arrival_rate + self->theta;
    const double log_rate = EI_LN2 * ei_log2(self->arrival_rate / tilted_rate);
    double sum = 0, squares = 0, largest = 0;
    double *path = malloc(stages * sizeof *path);
    if (path == NULL)
        return EI_ERR_NO_MEMORY;
    ei_rng rng;
    ei_rng_init(&rng, self->entropy, self->first_batch + index);
    for (int replication = 0; replication < BATCH; replication++) {
        if (replication % 64 == 0 && ei_parallel_stopped(run)) {
            free(path);
            return EI_ERR_INTERRUPTED;
        }
        double log_weight = 0, reached = 0;
        for (size_t k = stages; k-- > 0;) {
            reached += draw(&self->laws[k], 1, &rng, &log_weight);
            path[k] = reached;
        }
        while (!(reached > self->deadline)) {
            double interval = ei_rng_exponential(&rng) / tilted_rate;
            log_weight += log_rate + self->theta * interval;
            reached = -INFINITY;
            for (size_t k = stages; k-- > 0;) {
                double service = draw(&self->laws[k], k == self->bottleneck, &rng, &log_weight);
                reached = fmax(path[k] - interval, reached) + service;
                path[k] = reached;
            }
        }
        double weight = exp(log_weight);
        sum += weight;
        squares += weight * weight;
        largest = fmax(largest, weight);
    }
    self->sums[index][0] = sum;
    self->sums[index][1] = squares;
    self->sums[index][2] = largest;
    free(path);
    return EI_OK;
}

/* Root beyond 0 of log M(theta) = log(1 + theta / lambda); +inf where there is none below 1e9 / s. */
static int root(const ei_service *service, double arrival_rate, double *result) {
    double low = 0, high = arrival_rate, value, limit = ei_service_abscissa(service);
    int status;
    *result = INFINITY;
    for (;; high *= 2) {
        if (high > 1e9)
            return EI_OK;
        if (high >= limit) {
            high = limit;
            break;
        }
        if ((status = ei_service_log_mgf(service, high, &value, NULL)) != EI_OK)
            return status;
        if (value > log1p(high / arrival_rate))
            break;
        low = high;
    }
    for (int i = 0; i < 60; i++) {
        double middle = low + (high - low) / 2;
        if ((status = ei_service_log_mgf(service, middle, &value, NULL)) != EI_OK)
            return status;
        if (value > log1p(middle / arrival_rate))
            high = middle;
        else
            low = middle;
    }
    *result = low;
    return EI_OK;
}

int ei_rare_violation(const ei_service *stages, size_t stage_count, double arrival_rate, double deadline,
                      double relative_error, double max_replications, const uint64_t entropy[4],
                      size_t threads, ei_rare_result *result, ei_monitor monitor) {
    int status = EI_ERR_EMPTY;
    rare_context context = {.stages = stages,
                            .count = stage_count,
                            .arrival_rate = arrival_rate,
                            .deadline = deadline,
                            .entropy = entropy,
                            .theta = INFINITY,
                            .bottleneck = stage_count};
    if (stage_count == 0)
        goto out;
    status = EI_ERR_DOMAIN;
    if (!(arrival_rate > 0) || !isfinite(arrival_rate) || !isfinite(deadline) || !(relative_error > 0) ||
        !(max_replications >= 1))
        goto out;
    for (size_t k = 0; k < stage_count; k++) {
        double theta;
        if ((status = ei_service_verify(&stages[k])) != EI_OK)
            goto out;
        if (!(arrival_rate * ei_service_mean(&stages[k]) < 1)) {
            status = EI_ERR_UNSTABLE;
            goto out;
        }
        if (stages[k].kind == EI_SERVICE_DETERMINISTIC && stages[k].time == 0)
            continue;
        if ((status = root(&stages[k], arrival_rate, &theta)) != EI_OK)
            goto out;
        if (theta < context.theta) {
            context.theta = theta;
            context.bottleneck = stages[k].kind == EI_SERVICE_DETERMINISTIC ? stage_count : k;
        }
    }
    /* A pipeline of nothing but zeros never waits. */
    if (!isfinite(context.theta))
        context.theta = 0;
    status = EI_ERR_NO_MEMORY;
    context.laws = calloc(stage_count, sizeof *context.laws);
    if (context.laws == NULL)
        goto out;
    double least = 0, log_moment = 0;
    for (size_t k = 0; k < stage_count; k++) {
        if ((status = cell_law_init(&context.laws[k], &stages[k], context.theta)) != EI_OK)
            goto out;
        least += ei_service_minimum(&stages[k]);
        log_moment += context.laws[k].log_mgf;
    }
    *result = (ei_rare_result){.tilt = context.theta};
    /* Far beyond where every weight is 0 in a double, paths would only take long. */
    if (deadline < least || context.theta == 0 || context.theta * deadline - log_moment > 1000) {
        result->value = deadline < least;
        result->effective_sample_size = result->replications = 1;
        status = EI_OK;
        goto out;
    }
    double sum = 0, squares = 0, largest = 0, count = 0;
    for (size_t batches = FIRST_BATCHES;; batches *= 2) {
        size_t added = batches - context.first_batch;
        free(context.sums);
        context.sums = malloc(added * sizeof *context.sums);
        if (context.sums == NULL) {
            status = EI_ERR_NO_MEMORY;
            goto out;
        }
        if ((status = ei_parallel_for(batch, &context, added, threads > 0 ? threads : 1, monitor)) != EI_OK)
            goto out;
        for (size_t i = 0; i < added; i++) {
            sum += context.sums[i][0];
            squares += context.sums[i][1];
            largest = fmax(largest, context.sums[i][2]);
        }
        context.first_batch = batches;
        count = (double)batches * BATCH;
        double mean = sum / count, variance = fmax(squares / count - mean * mean, 0);
        result->value = mean;
        result->standard_error = sqrt(variance / (count - 1));
        result->replications = count;
        result->effective_sample_size = squares > 0 ? sum * sum / squares : 0;
        result->largest_weight_share = sum > 0 ? largest / sum : 0;
        if (result->standard_error <= relative_error * mean)
            break;
        if (2 * count > max_replications) {
            status = EI_ERR_ACCURACY;
            break;
        }
    }
out:
    free(context.sums);
    if (context.laws != NULL)
        for (size_t k = 0; k < stage_count; k++)
            cell_law_free(&context.laws[k]);
    free(context.laws);
    return status;
}
