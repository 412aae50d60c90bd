/* Importance sampling and its tilted laws: one wrong input at a time, every allocation failing in turn, the
 * same bits on any number of threads. */
#include "check.h"
#include "failing_malloc.h"
#include "sweep.h"

#include "edgeinfer/rare.h"
#include "edgeinfer/rng.h"
#include "edgeinfer/tilt.h"

#include <string.h>

static const ei_monitor quiet = {NULL, NULL};
static const uint64_t entropy[4] = {1, 2, 3, 4};
static const double samples[] = {0, 0.1, 0.1, 0.4, 0.9};
enum { SAMPLES = sizeof samples / sizeof *samples };

static int stop(void *context) {
    ++*(int *)context;
    return 1;
}

static int call_rare(const ei_service *stages, size_t count) {
    ei_rare_result result;
    return ei_rare_violation(stages, count, 1, 4, 0.2, 1e6, entropy, 2, &result, quiet);
}

static int call_tilts(const ei_service *stages, size_t count) {
    int status = EI_OK;
    for (size_t k = 0; status == EI_OK && k < count; k++) {
        ei_tilted_law law;
        ei_tilt tilt = {.tilt = 0};
        status = ei_tilted_law_init(&law, &stages[k]);
        if (status == EI_OK)
            status = ei_tilt_init(&tilt, &law, 0.5);
        ei_tilt_free(&tilt);
        ei_tilted_law_free(&law);
    }
    return status;
}

static void test_bad_numbers(void) {
    const ei_service stage = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.3};
    ei_rare_result result;
    const struct {
        double rate, deadline, error, most;
    } bad[] = {{0, 4, 0.2, 1e6},   {-1, 4, 0.2, 1e6},       {NAN, 4, 0.2, 1e6},       {INFINITY, 4, 0.2, 1e6},
               {1, NAN, 0.2, 1e6}, {1, INFINITY, 0.2, 1e6}, {1, -INFINITY, 0.2, 1e6}, {1, 4, 0, 1e6},
               {1, 4, -1, 1e6},    {1, 4, NAN, 1e6},        {1, 4, 0.2, 0.5},         {1, 4, 0.2, -1},
               {1, 4, 0.2, NAN}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(ei_rare_violation(&stage, 1, bad[i].rate, bad[i].deadline, bad[i].error, bad[i].most, entropy,
                                2, &result, quiet) == EI_ERR_DOMAIN);
    CHECK(ei_rare_violation(&stage, 1, 1, -1, 0.2, 1e6, entropy, 1, &result, quiet) == EI_OK);
    CHECK(result.value == 1);
}

static void test_bad_stages(void) {
    static const double times[] = {-1, NAN, INFINITY, -INFINITY}, descending[] = {2, 1};
    ei_service stages[2] = {{.kind = EI_SERVICE_EXPONENTIAL, .time = 0.3}};
    CHECK(call_rare(stages, 0) == EI_ERR_EMPTY);
    for (int i = 0; i < 4; i++) {
        stages[1] = (ei_service){.kind = EI_SERVICE_DETERMINISTIC, .time = times[i]};
        CHECK(call_rare(stages, 2) == EI_ERR_DOMAIN);
        stages[1].kind = EI_SERVICE_EXPONENTIAL;
        CHECK(call_rare(stages, 2) == EI_ERR_DOMAIN);
    }
    stages[1] = (ei_service){.kind = EI_SERVICE_SAMPLES, .samples = descending, .sample_count = 0};
    CHECK(call_rare(stages, 2) == EI_ERR_EMPTY);
    stages[1].sample_count = 2;
    CHECK(call_rare(stages, 2) == EI_ERR_DOMAIN);
    stages[1] = (ei_service){.kind = EI_SERVICE_TRANSFER};
    CHECK(call_rare(stages, 2) == EI_ERR_DOMAIN);
    for (int i = 0; i < 2; i++) {
        stages[1] = (ei_service){.kind = EI_SERVICE_DETERMINISTIC, .time = i == 0 ? 1 : 1.5};
        CHECK(call_rare(stages, 2) == EI_ERR_UNSTABLE);
    }
}

static void test_threads(const ei_service *stages, size_t count) {
    static const size_t threads[] = {0, 1, 2, 7};
    ei_rare_result results[4];
    memset(results, 0, sizeof results);
    for (int i = 0; i < 4; i++)
        CHECK(ei_rare_violation(stages, count, 1, 9, 0.05, 1e6, entropy, threads[i], &results[i], quiet) ==
              EI_OK);
    for (int i = 1; i < 4; i++)
        CHECK(memcmp(&results[0], &results[i], sizeof results[0]) == 0);
    CHECK(results[0].value > 0 && results[0].value < 1e-2 && results[0].relative_error <= 0.05);
    CHECK(results[0].largest_weight_share <= 0.05 && results[0].replications >= results[0].needed);
}

static void test_few_replications(const ei_service *stages, size_t count) {
    static const double most[] = {1, 1.9, 2, 33, 100};
    for (int i = 0; i < 5; i++) {
        ei_rare_result result;
        CHECK(ei_rare_violation(stages, count, 1, 9, 0.5, most[i], entropy, 2, &result, quiet) ==
              EI_ERR_ACCURACY);
        CHECK(result.replications == floor(most[i]) && result.value > 0);
        CHECK(isinf(result.relative_error) == (most[i] < 2));
    }
}

static void test_edges(void) {
    const ei_service nothing[2] = {{.kind = EI_SERVICE_DETERMINISTIC}, {.kind = EI_SERVICE_DETERMINISTIC}};
    const ei_service queue = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    ei_rare_result result;
    CHECK(ei_rare_violation(nothing, 2, 1, 0, 0.1, 1e6, entropy, 1, &result, quiet) == EI_OK);
    CHECK(result.value == 0);
    CHECK(ei_rare_violation(&queue, 1, 1, 0, 0.1, 1e6, entropy, 1, &result, quiet) == EI_OK);
    CHECK_RELATIVE(result.value, 1, 1e-12);
    CHECK(ei_rare_violation(&queue, 1, 1, 1e6, 0.1, 1e6, entropy, 1, &result, quiet) == EI_OK);
    CHECK(result.value == 0);
    /* M/M/1: e^{-(mu - lambda) T}. */
    CHECK(ei_rare_violation(&queue, 1, 1, 200, 0.02, 1e6, entropy, 1, &result, quiet) == EI_OK);
    CHECK_RELATIVE(result.value, exp(-200), 5 * 0.02);
    int polled = 0;
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.9999};
    CHECK(ei_rare_violation(&slow, 1, 1, 1e6, 0.01, 1e6, entropy, 2, &result, (ei_monitor){stop, &polled}) ==
          EI_ERR_INTERRUPTED);
    CHECK(polled >= 1);
}

/* Under a tilt the likelihood ratios add up to 1 and give the plain mean back; the tilted mean is the slope.
 * Five standard errors, 12 times: a chance of 7e-6, and the entropy is fixed. */
static void test_tilted_draws(const ei_service *stages, size_t count) {
    enum { DRAWS = 200000 };
    for (size_t k = 0; k < count; k++) {
        ei_tilted_law law;
        ei_tilt tilt;
        CHECK(ei_tilted_law_init(&law, &stages[k]) == EI_OK);
        CHECK(ei_tilt_init(&tilt, &law, 0.8) == EI_OK);
        ei_rng rng;
        ei_rng_init(&rng, entropy, k);
        double mass = 0, mean = 0, mass_square = 0, mean_square = 0, plain = 0, plain_square = 0;
        for (int i = 0; i < DRAWS; i++) {
            double middle, time = ei_tilted_draw(&law, &tilt, &rng, &middle);
            double weight = exp(tilt.log_mgf - tilt.tilt * middle), back = weight * time;
            mass += weight;
            mass_square += weight * weight;
            mean += middle;
            mean_square += middle * middle;
            plain += back;
            plain_square += back * back;
        }
        const double sums[3][3] = {{mass, mass_square, 1},
                                   {mean, mean_square, tilt.slope},
                                   {plain, plain_square, ei_service_mean(&stages[k])}};
        for (int i = 0; i < 3; i++) {
            double average = sums[i][0] / DRAWS;
            double error = sqrt(fmax(sums[i][1] / DRAWS - average * average, 0) / DRAWS);
            CHECK(fabs(average - sums[i][2]) <= 5 * error + 1e-9 * sums[i][2]);
        }
        ei_tilt_free(&tilt);
        ei_tilted_law_free(&law);
    }
}

int main(void) {
    ei_transfer *law;
    CHECK(ei_transfer_new(&law, 2e5, 1e7, 1.26, 0.05, quiet) == EI_OK);
    const ei_service stages[] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = 0.3},
                                 {.kind = EI_SERVICE_TRANSFER, .transfer = law},
                                 {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = SAMPLES},
                                 {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.4}};
    test_bad_numbers();
    test_bad_stages();
    test_threads(stages, 4);
    test_few_replications(stages, 4);
    test_edges();
    test_tilted_draws(stages, 4);
    sweep_allocations(call_rare, "rare", stages, 4);
    sweep_allocations(call_tilts, "tilts", stages, 4);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
