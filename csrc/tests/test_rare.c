/* Importance sampling: one wrong input at a time, every allocation failing in turn, the
 * same bits on any number of threads. */
#include "check.h"
#include "failing_malloc.h"
#include "sweep.h"

#include "edgeinfer/rare.h"

#include <string.h>

static const ei_monitor quiet = {NULL, NULL};
static const uint64_t entropy[4] = {1, 2, 3, 4};
static const double samples[] = {0, 0.1, 0.1, 0.4, 0.9};
enum { SAMPLES = sizeof samples / sizeof *samples };

static int stop(void *context) {
    ++*(int *)context;
    return 1;
}

static const ei_arrival poisson = {.kind = EI_ARRIVAL_POISSON, .parameter = {1}};

static int call_rare(const ei_service *stages, size_t count) {
    ei_rare_result result;
    return ei_rare_violation(stages, count, &poisson, 4, 0.2, 1e6, entropy, 2, &result, quiet);
}

/* Evenly spaced requests, of which a single transfer that no table of quantiles has makes one late. */
static int call_even(const ei_service *stages, size_t count) {
    const ei_arrival even = {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {0.2}};
    ei_rare_result result;
    int status = ei_rare_violation(stages, count, &even, 3, 0.2, 1e6, entropy, 2, &result, quiet);
    CHECK(status != EI_OK || (result.value > 1e-200 && result.value < 1e-20 && result.unsampled == 0));
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
        CHECK(ei_rare_violation(&stage, 1, &(ei_arrival){.parameter = {bad[i].rate}}, bad[i].deadline,
                                bad[i].error, bad[i].most, entropy, 2, &result, quiet) == EI_ERR_DOMAIN);
    CHECK(ei_rare_violation(&stage, 1, &poisson, -1, 0.2, 1e6, entropy, 1, &result, quiet) == EI_OK);
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
        CHECK(ei_rare_violation(stages, count, &poisson, 9, 0.05, 1e6, entropy, threads[i], &results[i],
                                quiet) == EI_OK);
    for (int i = 1; i < 4; i++)
        CHECK(memcmp(&results[0], &results[i], sizeof results[0]) == 0);
    CHECK(results[0].value > 0 && results[0].value < 1e-2 && results[0].relative_error <= 0.05);
    CHECK(results[0].largest_weight_share <= 0.05 && results[0].replications >= results[0].needed);
}

static void test_few_replications(const ei_service *stages, size_t count) {
    static const double most[] = {1, 1.9, 2, 33, 100};
    for (int i = 0; i < 5; i++) {
        ei_rare_result result;
        CHECK(ei_rare_violation(stages, count, &poisson, 9, 0.5, most[i], entropy, 2, &result, quiet) ==
              EI_ERR_ACCURACY);
        CHECK(result.replications == floor(most[i]) && result.value > 0);
        CHECK(isinf(result.relative_error) == (most[i] < 2));
    }
}

static void test_edges(void) {
    const ei_service nothing[2] = {{.kind = EI_SERVICE_DETERMINISTIC}, {.kind = EI_SERVICE_DETERMINISTIC}};
    const ei_service queue = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    ei_rare_result result;
    CHECK(ei_rare_violation(nothing, 2, &poisson, 0, 0.1, 1e6, entropy, 1, &result, quiet) == EI_OK);
    CHECK(result.value == 0);
    CHECK(ei_rare_violation(&queue, 1, &poisson, 0, 0.1, 1e6, entropy, 1, &result, quiet) == EI_OK);
    CHECK_RELATIVE(result.value, 1, 1e-12);
    CHECK(ei_rare_violation(&queue, 1, &poisson, 1e6, 0.1, 1e6, entropy, 1, &result, quiet) == EI_OK);
    CHECK(result.value == 0);
    /* What is done before the next one comes is never late. */
    const ei_service brief = {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = SAMPLES};
    const ei_arrival frames = {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {1}};
    CHECK(ei_rare_violation(&brief, 1, &frames, 0.95, 0.1, 1e6, entropy, 1, &result, quiet) == EI_OK);
    CHECK(result.value == 0 && result.replications == 1);
    /* M/M/1: e^{-(mu - lambda) T}. */
    CHECK(ei_rare_violation(&queue, 1, &poisson, 200, 0.02, 1e6, entropy, 1, &result, quiet) == EI_OK);
    CHECK_RELATIVE(result.value, exp(-200), 5 * 0.02);
    int polled = 0;
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.9999};
    CHECK(ei_rare_violation(&slow, 1, &poisson, 1e6, 0.01, 1e6, entropy, 2, &result,
                            (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED);
    CHECK(polled >= 1);
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
    sweep_allocations(call_rare, "rare", stages, 4);
    sweep_allocations(call_even, "even arrivals", stages, 3);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
