/* What the tests of the core share: wrong numbers, monitors, and a pipeline with a link. */
#ifndef EDGEINFER_INPUTS_H
#define EDGEINFER_INPUTS_H

#include "check.h"
#include "sweep.h"

#include "edgeinfer/ends.h"
#include "edgeinfer/queue.h"
#include "edgeinfer/service.h"
#include "edgeinfer/transfer.h"

static const double bad[] = {0, -1, NAN, INFINITY, -INFINITY};
enum { BAD = sizeof bad / sizeof *bad };
static const ei_monitor quiet = {NULL, NULL};

/* A poll that asks to stop, and counts in *context. */
static inline int stop(void *context) {
    ++*(int *)context;
    return 1;
}

static inline ei_service exponential(double mean) {
    return (ei_service){.kind = EI_SERVICE_EXPONENTIAL, .time = mean};
}

/* P(the sum of independent exponential times of these rates, all different, > time). */
static inline double exponential_sum_sf(const double *rate, size_t count, double time) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double product = exp(-rate[i] * time);
        for (size_t j = 0; j < count; j++)
            product *= j == i ? 1 : rate[j] / (rate[j] - rate[i]);
        sum += product;
    }
    return sum;
}

/* D 0.3 s, a transfer, D 0.4 s; *law is the caller's. */
static inline void make_link(ei_service stages[3], ei_transfer **law) {
    CHECK(ei_transfer_new(law, 2e5, 1e7, 1.26, 0.05, quiet) == EI_OK);
    stages[0] = (ei_service){.kind = EI_SERVICE_DETERMINISTIC, .time = 0.3};
    stages[1] = (ei_service){.kind = EI_SERVICE_TRANSFER, .transfer = *law};
    stages[2] = (ei_service){.kind = EI_SERVICE_DETERMINISTIC, .time = 0.4};
}

/* All elements of one arrival process, with ends of 0 and 1: index[count], methods[2 * count], of the caller.
 */
static inline ei_batch make_batch(ei_arrival arrival, size_t count, const double *deadline, double *lower,
                                  double *upper, size_t *index, uint8_t *methods) {
    for (size_t i = 0; i < count; i++) {
        index[i] = i;
        lower[i] = 0;
        upper[i] = 1;
        methods[i] = methods[count + i] = 0;
    }
    return (ei_batch){.arrival_rate = ei_arrival_rate(&arrival),
                      .arrival = arrival,
                      .count = count,
                      .index = index,
                      .deadline = deadline,
                      .lower = lower,
                      .upper = upper,
                      .lower_method = methods,
                      .upper_method = methods + count,
                      .monitor = quiet};
}

/* P(E + Wq > time), E exponential of rate `fall` and independent of the wait in the queue. */
static inline double exponential_and_wait_sf(double fall, const ei_md1 *queue, double time) {
    enum { STEPS = 4000 };
    const double step = time / STEPS;
    double sum = exp(-fall * time);
    for (size_t k = 0; k < STEPS; k++) {
        const double v = ((double)k + 0.5) * step;
        sum += fall * step * exp(-fall * v) * ei_md1_waiting_sf(queue, time - v);
    }
    return sum;
}

/* P(R > time) = e^{-theta time} of one exponential stage behind renewal arrivals. */
static inline double decay_behind(const ei_arrival *arrival, double time) {
    double low = 1e-6 / time, high = 1 / time, slope;
    for (int i = 0; i < 200; i++) {
        const double theta = low + (high - low) / 2;
        *(-log1p(-theta * time) < ei_arrival_exponent(arrival, theta, &slope) ? &low : &high) = theta;
    }
    return low;
}

/* That and a service so short that hardly ever one waits for it, before or behind: no less than both. */
static inline double both_sf(double theta, double rate, double time) {
    return (rate * exp(-theta * time) - theta * exp(-rate * time)) / (rate - theta);
}

/* A call refuses each wrong stage. */
static inline void check_bad_stages(sweep_call call) {
    ei_service stage = {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.1};
    CHECK(call(&stage, 0) == EI_ERR_EMPTY);
    for (int j = 1; j < BAD; j++) {
        stage.time = bad[j];
        CHECK(call(&stage, 1) == EI_ERR_DOMAIN);
    }
    static const double samples[] = {2, 1};
    stage = (ei_service){.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 0};
    CHECK(call(&stage, 1) == EI_ERR_EMPTY);
    stage.sample_count = 2;
    CHECK(call(&stage, 1) == EI_ERR_DOMAIN);
    stage = (ei_service){.kind = EI_SERVICE_TRANSFER};
    CHECK(call(&stage, 1) == EI_ERR_DOMAIN);
}

#endif
