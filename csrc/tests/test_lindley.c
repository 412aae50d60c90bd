/* Walks behind arrivals that are not Poisson: M/M/1 between their ends, every allocation failing in turn, a
 * call that is stopped.
 */
#include "inputs.h"

#include "edgeinfer/lindley.h"

enum { COUNT = 512 };
static const double step = 0.05;

static int call_walks(const ei_service *stages, size_t count) {
    const ei_arrival arrival = {.kind = EI_ARRIVAL_GAMMA, .parameter = {1, 0.5}};
    ei_upper_law none = {.decay = 0}, first = {.decay = 0}, second = {.decay = 0};
    ei_lattice lower = {.sf = NULL};
    const ei_added_stage stage[] = {{&stages[0], 0.1, 0}, {NULL, 0, 8 * step}};
    int status = ei_add_stage_lindley(&first, &none, &stage[0], &arrival, step, 64, quiet);
    if (status == EI_OK)
        status = ei_add_stage_lindley(&second, &first, &stage[count > 0], &arrival, step, 64, quiet);
    if (status == EI_OK)
        status = ei_lindley_sojourn_lower(&lower, &stage[0], &arrival, step, 64, quiet);
    ei_upper_law_free(&first);
    ei_upper_law_free(&second);
    ei_lattice_free(&lower);
    return status;
}

/* The sojourn time is exponential of rate 1 / 0.5 - 1; one phase, even kinds, one of shape 1 and phases of
 * one rate are Poisson.
 */
static void test_poisson(void) {
    const double rates[] = {1, 1}, generator[] = {-0.1, 0.1, 0.3, -0.3}, stationary[] = {0.75, 0.25};
    const ei_arrival process[] = {{.kind = EI_ARRIVAL_ERLANG, .parameter = {1, 1}},
                                  {.kind = EI_ARRIVAL_HYPEREXPONENTIAL, .parameter = {0.5, 1, 1}},
                                  {.kind = EI_ARRIVAL_GAMMA, .parameter = {1, 1}},
                                  {.kind = EI_ARRIVAL_MARKOV_MODULATED,
                                   .count = 2,
                                   .rates = rates,
                                   .generator = generator,
                                   .stationary = stationary}};
    const ei_service queue = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    const ei_added_stage stage = {&queue, 0, 0};
    const ei_upper_law none = {.decay = 0};
    for (size_t p = 0; p < sizeof process / sizeof *process; p++) {
        ei_upper_law upper;
        ei_lattice lower;
        CHECK(ei_add_stage_lindley(&upper, &none, &stage, &process[p], step, COUNT, quiet) == EI_OK);
        CHECK(ei_lindley_sojourn_lower(&lower, &stage, &process[p], step, COUNT, quiet) == EI_OK);
        for (size_t j = 0; j < COUNT; j++) {
            double exact = exp(-(double)j * step);
            CHECK(upper.lattice.sf[j] >= exact && lower.sf[j] <= exact);
            if (j < COUNT / 2)
                CHECK(upper.lattice.sf[j] <= 1.15 * lower.sf[j]);
        }
        CHECK(ei_upper_law_sf(&upper, 2 * COUNT * step) >= exp(-2 * COUNT * step));
        ei_upper_law_free(&upper);
        ei_lattice_free(&lower);
    }
}

static void test_what_has_no_bound(void) {
    const ei_arrival arrival = {.kind = EI_ARRIVAL_GAMMA, .parameter = {1, 0.5}};
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 1.1},
                     quick = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    const ei_upper_law none = {.decay = 0};
    ei_upper_law upper;
    int polled = 0;
    ei_added_stage stage = {&slow, 0, 0};
    CHECK(ei_add_stage_lindley(&upper, &none, &stage, &arrival, step, 64, quiet) == EI_ERR_UNSTABLE);
    CHECK(upper.lattice.sf == NULL);
    stage.law = &quick;
    CHECK(ei_add_stage_lindley(&upper, &none, &stage, &arrival, 1e-9, 64, quiet) == EI_ERR_TOO_LARGE);
    CHECK(ei_add_stage_lindley(&upper, &none, &stage, &arrival, step, 64, (ei_monitor){stop, &polled}) ==
          EI_ERR_INTERRUPTED);
    CHECK(polled == 1 && upper.lattice.sf == NULL);
}

int main(void) {
    const ei_service stages[] = {{.kind = EI_SERVICE_EXPONENTIAL, .time = 0.4}};
    test_poisson();
    test_what_has_no_bound();
    sweep_allocations(call_walks, "renewal", stages, 1);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
