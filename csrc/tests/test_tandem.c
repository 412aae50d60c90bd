/* Simulation of tandems: wrong inputs, interruption, every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/tandem.h"

#include <math.h>
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

/* Delays move the sojourn times behind them, deadlines that move along count the same jobs, and no queue
 * feels them; a negative one is refused. Times that are sums of powers of two, so that nothing rounds. */
static void test_delays(void) {
    const ei_service stages[2] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = 0.5},
                                  {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.25}};
    const double delays[2] = {2, 4}, wrong[2] = {0, -1}, deadlines[4] = {1, 3, 1, 7};
    double violations[8], waiting[2], busy[2], elapsed;
    ei_tandem model = {.stages = stages,
                       .stage_count = 2,
                       .arrival = {EI_ARRIVAL_POISSON, {1, 0, 0}},
                       .deadlines = deadlines,
                       .deadline_count = 2,
                       .jobs = 1000,
                       .replications = 1,
                       .batches = 1,
                       .threads = 1};
    memcpy(model.entropy, entropy, sizeof entropy);
    ei_tandem_result result = {violations, waiting, busy, &elapsed, NULL};
    CHECK(ei_tandem_run(&model, &result, quiet) == EI_OK);
    const double first = violations[0], last = violations[1], waited = waiting[0] + waiting[1];
    CHECK(first > 0 && last > first);
    model.delays = delays;
    model.deadlines = deadlines + 1;
    model.deadline_count = 1;
    CHECK(ei_tandem_run(&model, &result, quiet) == EI_OK);
    CHECK(fabs(violations[0] - first) <= 2 && fabs(waiting[0] + waiting[1] - waited) < 1e-9);
    model.deadlines = deadlines + 3;
    CHECK(ei_tandem_run(&model, &result, quiet) == EI_OK);
    CHECK(fabs(violations[1] - last) <= 2 && violations[0] < first);
    model.serial = 1;
    CHECK(ei_tandem_run(&model, &result, quiet) == EI_ERR_UNSTABLE);
    model.serial = 0;
    model.delays = wrong;
    CHECK(ei_tandem_run(&model, &result, quiet) == EI_ERR_DOMAIN);
}

int main(void) {
    ei_transfer *law;
    ei_service stages[3];
    make_link(stages, &law);
    test_delays();
    check_bad_stages(call_tandem);
    sweep_allocations(call_tandem, "tandem", stages, 3);
    test_interruption(stages, 3);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
