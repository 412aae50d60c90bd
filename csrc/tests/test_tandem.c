/* Simulation of tandems: wrong inputs, interruption, every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/tandem.h"

#include <string.h>

static const uint64_t entropy[4] = {1, 2, 3, 4};

static int run_tandem(const ei_service *stages, size_t count, uint64_t jobs, ei_monitor monitor) {
    double violations[9], waiting[9], busy[9], elapsed[3], deadline = 3;
    ei_tandem model = {.stages = stages,
                       .stage_count = count,
                       .arrival = {EI_ARRIVAL_POISSON, {1, 0, 0}},
                       .deadlines = &deadline,
                       .deadline_count = 1,
                       .jobs = jobs,
                       .replications = 3,
                       .batches = 1,
                       .threads = 2};
    memcpy(model.entropy, entropy, sizeof entropy);
    ei_tandem_result result = {violations, waiting, busy, elapsed, NULL};
    return ei_tandem_run(&model, &result, monitor);
}

static int call_tandem(const ei_service *stages, size_t count) {
    return run_tandem(stages, count, 100, quiet);
}

static void test_interruption(const ei_service *stages, size_t count) {
    int polled = 0;
    CHECK(run_tandem(stages, count, 100000000, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED);
    CHECK(polled >= 1);
}

int main(void) {
    ei_transfer *law;
    ei_service stages[3];
    make_link(stages, &law);
    check_bad_stages(call_tandem);
    sweep_allocations(call_tandem, "tandem", stages, 3);
    test_interruption(stages, 3);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
