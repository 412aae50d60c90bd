/* Bounds on the slot grid: what they refuse, interruption, every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/bound.h"

static int call_corrected(const ei_service *stages, size_t count) {
    double rate = 1, deadline = 5, log_bound, theta;
    return ei_violation_bound(stages, count, EI_BOUND_CORRECTED, NULL, 0.05, 1, &rate, &deadline, &log_bound,
                              &theta, quiet);
}

static int call(const ei_service *stages, size_t count, ei_bound_method method, double deadline,
                ei_monitor monitor) {
    double rate = 1, log_bound, theta;
    return ei_violation_bound(stages, count, method, NULL, 0.05, 1, &rate, &deadline, &log_bound, &theta,
                              monitor);
}

int main(void) {
    ei_transfer *law;
    ei_service stages[3];
    make_link(stages, &law);
    sweep_allocations(call_corrected, "corrected", stages, 3);
    int polled = 0;
    for (int method = EI_BOUND_CORRECTED; method <= EI_BOUND_PRINTED; method++) {
        ei_bound_method which = (ei_bound_method)method;
        CHECK(call(stages, 3, which, 5, quiet) == EI_OK);
        CHECK(call(stages, 3, which, 3e5, quiet) == EI_ERR_TOO_LARGE);
        CHECK(call(stages, 3, which, 5, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED);
    }
    CHECK(polled == 2);
    /* Two random stages; and for the printed form one that is no transfer, or of other slots. */
    ei_service two[2] = {stages[1], stages[1]}, exponential = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.2};
    CHECK(call(two, 2, EI_BOUND_CORRECTED, 5, quiet) == EI_ERR_DOMAIN);
    CHECK(call(&exponential, 1, EI_BOUND_CORRECTED, 5, quiet) == EI_OK);
    CHECK(call(&exponential, 1, EI_BOUND_PRINTED, 5, quiet) == EI_ERR_DOMAIN);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
