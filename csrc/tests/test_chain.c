/* Brackets by stages added to a chain: wrong inputs, interruption, every allocation failing in turn. */
#include "check.h"
#include "failing_malloc.h"
#include "sweep.h"

#include "edgeinfer/bracket.h"
#include "edgeinfer/chain.h"

static const ei_monitor quiet = {NULL, NULL};

static int stop(void *context) {
    (void)context;
    return 1;
}

static int call(ei_monitor monitor) {
    static const double samples[] = {0.2, 0.3, 0.35};
    /* The first stage is added to the ends of the others. */
    const ei_service leading[] = {{.kind = EI_SERVICE_EXPONENTIAL, .time = 0.1},
                                  {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.2},
                                  {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5},
                                  {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 3}};
    double rate = 1, deadline = 5, lower, upper;
    uint8_t lower_method, upper_method;
    int status = ei_violation_bracket(leading, 4, NULL, EI_EFFORT_FAST, 1, &rate, &deadline, &lower, &upper,
                                      &lower_method, &upper_method, monitor);
    CHECK(status != EI_OK || (lower > 0 && lower <= upper && upper < 1.3 * lower));
    return status;
}

static void test_failures(void) {
    long before = failing_malloc_alive(), k = 1;
    CHECK(call(quiet) == EI_OK);
    CHECK(call((ei_monitor){stop, NULL}) == EI_ERR_INTERRUPTED);
    for (; k < 2000; k += k < 10 ? 1 : 97) {
        failing_malloc_arm(k);
        int status = call(quiet), fired = failing_malloc_fired();
        failing_malloc_arm(0);
        CHECK(failing_malloc_alive() == before);
        CHECK(status == (fired ? EI_ERR_NO_MEMORY : EI_OK));
        if (!fired)
            break;
    }
    CHECK(k > 20 && k < 2000);
}

static int periodic(const ei_service *stages, size_t count) {
    const double rate = 1, deadline = 1.5;
    double lower, upper;
    uint8_t lower_method, upper_method;
    const ei_arrival arrival = {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {1}};
    return ei_violation_bracket(stages, count, &arrival, EI_EFFORT_FAST, 1, &rate, &deadline, &lower, &upper,
                                &lower_method, &upper_method, quiet);
}

static void test_periodic_arrivals(void) {
    const double samples[] = {0.2, 0.4, 1.1}, rate[] = {1, 2}, deadline[] = {1, 1};
    const ei_service stages[] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = 0.6},
                                 {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 3},
                                 {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.3}};
    const ei_arrival arrival = {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {1}};
    double lower[2], upper[2];
    uint8_t method[2][2];
    sweep_allocations(periodic, "periodic", stages, 3);
    CHECK(ei_violation_bracket(stages, 3, &arrival, EI_EFFORT_FAST, 2, rate, deadline, lower, upper,
                               method[0], method[1], quiet) == EI_OK);
    CHECK(lower[0] > 0.9 && lower[0] <= upper[0] && lower[1] == 1 && upper[1] == 1);
    CHECK(method[0][1] == EI_BRACKET_UNSTABLE && method[1][1] == EI_BRACKET_UNSTABLE);
}

int main(void) {
    test_failures();
    CHECK(failing_malloc_alive() == 0);
    test_periodic_arrivals();
    return check_report();
}
