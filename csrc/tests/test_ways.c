/* The mixture over lengths of paths: values and intervals against closed forms, weights below their bound,
 * wrong and unlikely inputs, every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/ways.h"

#include <stdlib.h>

static const ei_arrival poisson = {.kind = EI_ARRIVAL_POISSON, .parameter = {1}};

static int call_ways(const ei_service *stages, size_t count) {
    ei_ways *ways;
    int status = ei_ways_new(&ways, stages, count, &poisson, 6, 1, quiet);
    ei_ways_free(ways);
    return status;
}

typedef struct {
    const ei_ways *ways;
    double *scratch;
    uint64_t entropy[4];
    double sum, square, most;
    size_t draws;
} sampling;

static int take_sample(void *context, size_t index, ei_parallel *run) {
    sampling *self = context;
    uint64_t jobs = 0;
    ei_rng rng;
    ei_rng_init(&rng, self->entropy, index);
    for (size_t i = 0; i < self->draws; i++) {
        double weight = ei_ways_draw(self->ways, &rng, self->scratch, &jobs, run);
        if (weight < 0)
            return (int)weight;
        self->sum += weight;
        self->square += weight * weight;
        self->most = fmax(self->most, weight);
    }
    return EI_OK;
}

/* Mean of the weights over the truth, and its standard error. */
static void sample(const ei_service *stages, size_t count, const ei_arrival *arrival, double deadline,
                   double truth, size_t draws, uint64_t seed, double *mean, double *error) {
    ei_ways *ways;
    CHECK(ei_ways_new(&ways, stages, count, arrival, deadline, 1, quiet) == EI_OK);
    double *scratch = malloc(ei_ways_scratch(ways) * sizeof *scratch);
    const double scale = exp(ei_ways_log_bound(ways)) / truth;
    sampling run = {.ways = ways, .scratch = scratch, .entropy = {seed, 2, 3, 4}, .draws = draws};
    CHECK(scale >= 1);
    CHECK(ei_parallel_for(take_sample, &run, 1, 1, quiet) == EI_OK);
    CHECK(run.most <= 1 + 1e-9);
    *mean = run.sum / (double)draws * scale;
    *error = sqrt((run.square / (double)draws * scale * scale - *mean * *mean) / (double)(draws - 1));
    free(scratch);
    ei_ways_free(ways);
}

/* Tandems of exponential stages of mean 1 / 2 and arrivals of rate 1: Erlang tails of rate 1. Half of them at
 * loads that make the tail a matter of many jobs. Five standard errors: a chance of 2e-6 each, and the
 * entropy is fixed. */
static void test_exponential_stages(void) {
    ei_service stages[3];
    for (int k = 0; k < 3; k++)
        stages[k] = (ei_service){.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    for (size_t count = 1; count <= 3; count++)
        for (double deadline = 1; deadline < 100; deadline *= 5) {
            double truth = 0, term = exp(-deadline), mean, error;
            for (size_t i = 0; i < count; i++, term *= deadline / (double)i)
                truth += term;
            sample(stages, count, &poisson, deadline, truth, 4000, count, &mean, &error);
            CHECK(fabs(mean - 1) <= 5 * error);
            CHECK(error < 0.1);
        }
}

enum { SIZES = 40 };
static const double on_off[2] = {2.5, 0}, switches[4] = {-0.3, 0.3, 0.2, -0.2}, shares[2] = {0.4, 0.6};

/* -log E e^{-theta t} of these arrivals, which the off phase makes renewal ones. */
static double on_off_exponent(double theta) {
    const double transform = 2.5 * (theta + 0.2) / ((theta + 0.2) * (theta + 2.8) - 0.06);
    return -log(transform);
}

/* G/M/1 of mean service 1 / 2 and arrivals of rate 1: sojourn times are exponential of rate 2 (1 - x), x = E
 * e^{-2 (1
 * - x) t}. Batches of geometric sizes of mean 2 at rate 0.3 are M/M/1 of service rate 1: rate 0.7. */
static double decay_of(const ei_arrival *arrival) {
    double x = 0.5, slope;
    if (arrival->batch_limit > 0)
        return 0.7;
    for (int j = 0; j < 1000; j++)
        x = exp(-(arrival->kind == EI_ARRIVAL_MARKOV_MODULATED
                      ? on_off_exponent(2 * (1 - x))
                      : ei_arrival_exponent(arrival, 2 * (1 - x), &slope)));
    return 2 * (1 - x);
}

/* 400 intervals of 95 %: fewer than 360 hold the truth with a chance of 2e-5, and the entropy is fixed. */
static void test_intervals(void) {
    const ei_service stage = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    double above[SIZES];
    for (int i = 0; i < SIZES; i++)
        above[i] = ldexp(1, -i);
    const ei_arrival arrivals[4] = {
        {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {1}},
        {.kind = EI_ARRIVAL_ERLANG, .parameter = {1, 4}},
        {.kind = EI_ARRIVAL_MARKOV_MODULATED,
         .count = 2,
         .rates = on_off,
         .generator = switches,
         .stationary = shares},
        {.kind = EI_ARRIVAL_POISSON, .parameter = {0.3}, .batch_limit = SIZES, .batch_above = above}};
    int held = 0;
    for (int i = 0; i < 4; i++)
        for (double decays = 2; decays < 200; decays *= 9) {
            double mean, error;
            const double decay = decay_of(&arrivals[i]), deadline = decays / decay;
            for (uint64_t seed = 0; seed < (decays > 100 ? 34 : 33); seed++) {
                sample(&stage, 1, &arrivals[i], deadline, exp(-decays), 500, seed, &mean, &error);
                held += fabs(log(mean)) <= 1.96 * error / mean;
            }
            sample(&stage, 1, &arrivals[i], deadline, exp(-decays), 20000, 99, &mean, &error);
            CHECK(fabs(mean - 1) <= 5 * error && error < 0.02);
        }
    CHECK(held >= 360);
    printf("%d of 400 intervals hold the truth\n", held);
}

/* Arrivals so rare that no two batches meet: a request waits for those of its own batch alone. Phases with
 * few arrivals hold most requests, and small batches do, which no long path would have. */
static void test_rare_arrivals(void) {
    static const double rates[2] = {2e-7, 1e-9}, generator[4] = {-1e-12, 1e-12, 1e-15, -1e-15},
                        stationary[2] = {1e-3 / 1.001, 1 / 1.001};
    double above[SIZES];
    for (int i = 0; i < SIZES; i++)
        above[i] = i == 0 ? 1 : 0.01;
    const ei_arrival arrivals[3] = {
        {.kind = EI_ARRIVAL_MARKOV_MODULATED,
         .count = 2,
         .rates = rates,
         .generator = generator,
         .stationary = stationary},
        {.kind = EI_ARRIVAL_POISSON, .parameter = {1e-9}, .batch_limit = SIZES, .batch_above = above},
        {.kind = EI_ARRIVAL_MARKOV_MODULATED,
         .count = 2,
         .rates = rates,
         .generator = generator,
         .stationary = stationary,
         .batch_limit = SIZES,
         .batch_above = above}};
    const ei_service stage = {.kind = EI_SERVICE_EXPONENTIAL, .time = 1};
    for (int i = 0; i < 3; i++)
        for (double deadline = 3; deadline < 100; deadline *= 5) {
            const size_t states = arrivals[i].batch_limit > 0 ? SIZES : 1;
            double truth = 0, sum = 0, all = 0, term = exp(-deadline), mean, error;
            for (size_t r = 0; r < states; r++, term *= deadline / (double)r) {
                const double chance = states > 1 ? above[r] : 1;
                sum += term;
                truth += chance * sum;
                all += chance;
            }
            sample(&stage, 1, &arrivals[i], deadline, truth / all, 4000, (uint64_t)i, &mean, &error);
            CHECK(fabs(mean - 1) <= 5 * error + 1e-4);
            CHECK(error < 0.2);
        }
}

/* Constant times that no path of three jobs makes late, and arrivals that no tilt is known of. */
static void test_refusals(void) {
    const ei_service stage = {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.5};
    const ei_arrival record = {.kind = EI_ARRIVAL_RECORDED, .count = 2, .intervals = shares};
    ei_arrival modulated = {.kind = EI_ARRIVAL_MARKOV_MODULATED,
                            .count = 2,
                            .rates = on_off,
                            .generator = switches,
                            .stationary = shares};
    ei_ways *ways;
    CHECK(ei_ways_new(&ways, &stage, 1, &record, 3, 1, quiet) == EI_ERR_DOMAIN && ways == NULL);
    CHECK(ei_ways_new(&ways, &stage, 1, &modulated, 1.5, 1, quiet) == EI_OK);
    ei_ways_free(ways);
    modulated.count = EI_ARRIVAL_PHASES + 1;
    CHECK(ei_ways_new(&ways, &stage, 1, &modulated, 3, 1, quiet) == EI_ERR_DOMAIN && ways == NULL);
    int polled = 0;
    CHECK(ei_ways_new(&ways, &stage, 1, &poisson, 3, 1, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED);
    CHECK(ways == NULL && polled > 0);
}

static int call_dependent(const ei_service *stages, size_t count) {
    static const double above[2] = {1, 0.5};
    const ei_arrival arrival = {.kind = EI_ARRIVAL_MARKOV_MODULATED,
                                .count = 2,
                                .rates = on_off,
                                .generator = switches,
                                .stationary = shares,
                                .batch_limit = 2,
                                .batch_above = above};
    ei_ways *ways;
    int status = ei_ways_new(&ways, stages, count, &arrival, 3, 0, quiet);
    ei_ways_free(ways);
    return status;
}

int main(void) {
    static const double samples[] = {0, 0.1, 0.1, 0.4, 0.9};
    ei_transfer *law;
    ei_service link[3];
    make_link(link, &law);
    const ei_service stages[] = {link[0],
                                 link[1],
                                 {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 5},
                                 {.kind = EI_SERVICE_DETERMINISTIC}};
    test_exponential_stages();
    test_intervals();
    test_rare_arrivals();
    test_refusals();
    sweep_allocations(call_ways, "ways", stages, 4);
    sweep_allocations(call_dependent, "dependent arrivals", &link[1], 1);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
