/* Bounds by moments: wrong inputs, every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/bound.h"

static int call_bound(const ei_service *stages, size_t count) {
    double rate[40], deadline[40], log_bound[40], theta[40];
    for (int i = 0; i < 40; i++) {
        rate[i] = 1;
        deadline[i] = 3 + i;
    }
    return ei_violation_bound(stages, count, EI_BOUND_UNION, NULL, 0.01, 40, rate, deadline, log_bound, theta,
                              quiet);
}

int main(void) {
    ei_transfer *law;
    ei_service stages[3];
    make_link(stages, &law);
    check_bad_stages(call_bound);
    sweep_allocations(call_bound, "bound", stages, 3);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
