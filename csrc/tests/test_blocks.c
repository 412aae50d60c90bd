/* Upper ends by blocks of jobs: exponential stages behind Poisson arrivals, whose sojourn times are known,
 * two of them behind others by two_exponentials.h, what is left alone, and every allocation failing in turn.
 */
#include "failing_malloc.h"
#include "inputs.h"

#include "edgeinfer/blocks.h"
#include "edgeinfer/two_exponentials.h"

enum { DEADLINES = 6 };
static const double multiples[DEADLINES] = {0.5, 2, 5, 10, 20, 40};

static int call_blocks(const ei_service *stages, size_t count, ei_arrival arrival, const double *deadlines,
                       double upper[DEADLINES]) {
    size_t index[DEADLINES];
    uint8_t methods[2 * DEADLINES];
    double lower[DEADLINES];
    const ei_batch batch = make_batch(arrival, DEADLINES, deadlines, lower, upper, index, methods);
    return ei_blocks_ends(&batch, stages, count);
}

/* Behind Poisson arrivals sojourn times in exponential stages are independent and exponential, in any order
 * of the stages: light ones first, last and between, and heavy ones. Ends are looser where a heavy one comes
 * before a heavier one. */
static void test_poisson(void) {
    static const double loads[][4] = {
        {0.9, 0.97}, {0.97, 0.9}, {0.3, 0.95, 0.5}, {0.93, 0.4, 0.9}, {0.9, 0.92, 0.94, 0.3}};
    static const size_t counts[] = {2, 2, 3, 3, 4};
    static const double most[] = {50, 10, 10, 50, 1e4};
    for (size_t c = 0; c < 5; c++) {
        ei_service stages[4];
        double rate[4], least = INFINITY, deadlines[DEADLINES], upper[DEADLINES];
        for (size_t k = 0; k < counts[c]; k++) {
            stages[k] = exponential(loads[c][k]);
            rate[k] = 1 / loads[c][k] - 1;
            least = fmin(least, rate[k]);
        }
        for (int i = 0; i < DEADLINES; i++)
            deadlines[i] = multiples[i] / least;
        CHECK(call_blocks(stages, counts[c], (ei_arrival){.parameter = {1}}, deadlines, upper) == EI_OK);
        for (int i = 0; i < DEADLINES; i++) {
            const double truth = exponential_sum_sf(rate, counts[c], deadlines[i]);
            CHECK(upper[i] >= truth * (1 - 1e-9));
            CHECK(upper[i] <= most[c] * truth || upper[i] == 1);
        }
    }
}

static void test_other_arrivals(void) {
    static const ei_arrival arrivals[] = {
        {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {1}},
        {.kind = EI_ARRIVAL_ERLANG, .parameter = {1, 3}},
        {.kind = EI_ARRIVAL_HYPEREXPONENTIAL, .parameter = {0.95, 1.9, 0.1}},
        {.kind = EI_ARRIVAL_GAMMA, .parameter = {1, 15}},
    };
    for (size_t a = 0; a < sizeof arrivals / sizeof *arrivals; a++)
        for (int order = 0; order < 2; order++) {
            const ei_service stages[] = {exponential(order ? 0.93 : 0.96), exponential(order ? 0.96 : 0.93)};
            const ei_arrival arrival = ei_arrival_at_rate(&arrivals[a], 1);
            const double decay = 0.02;
            double deadlines[DEADLINES], upper[DEADLINES];
            ei_two_exponentials truth;
            CHECK(ei_two_exponentials_init(&truth, EI_LOWER, &stages[0], &stages[1], &arrival) == EI_OK);
            for (int i = 0; i < DEADLINES; i++)
                deadlines[i] = multiples[i] / decay;
            CHECK(call_blocks(stages, 2, arrival, deadlines, upper) == EI_OK);
            for (int i = 0; i < DEADLINES; i++) {
                const double lower = ei_two_exponentials_sf(&truth, deadlines[i]);
                CHECK(upper[i] >= lower);
                CHECK(upper[i] <= (order > 0 ? 500 : 10) * lower);
            }
        }
}

/* Closeness, arrivals that depend on each other, one stage, and more stages than there is room for. */
static void test_left_alone(void) {
    static const double deadlines[DEADLINES] = {0, -1, INFINITY, 1e3, 2e3, 4e3};
    ei_service stages[2 * EI_BLOCKS_STAGES + 2];
    double upper[DEADLINES];
    for (size_t k = 0; k < 2 * EI_BLOCKS_STAGES + 2; k++)
        stages[k] = k % 2 ? exponential(0.9) : (ei_service){.kind = EI_SERVICE_DETERMINISTIC, .time = 0.9};
    const ei_arrival arrival = {.parameter = {1}};
    CHECK(call_blocks(stages, EI_BLOCKS_STAGES, arrival, deadlines, upper) == EI_OK);
    CHECK(upper[0] == 1 && upper[1] == 1 && upper[2] == 1 && upper[3] > upper[4] && upper[4] > upper[5]);
    CHECK(call_blocks(stages, EI_BLOCKS_STAGES + 1, arrival, deadlines, upper) == EI_OK && upper[5] == 1);
    CHECK(call_blocks(stages, 1, arrival, deadlines, upper) == EI_OK && upper[5] == 1);
    const ei_arrival recorded = {.kind = EI_ARRIVAL_RECORDED, .count = 1, .intervals = (const double[]){1}};
    CHECK(call_blocks(stages, 2, recorded, deadlines, upper) == EI_OK && upper[5] == 1);
    /* Neighbouring constant stages are one: the same with what they take once taken from the deadline. */
    const ei_service run[] = {stages[0], stages[0], stages[1], stages[2]},
                     merged[] = {stages[0], stages[1], stages[2]};
    double later[DEADLINES], other[DEADLINES];
    for (int i = 0; i < DEADLINES; i++)
        later[i] = deadlines[i] + 0.9;
    CHECK(call_blocks(run, 4, arrival, later, upper) == EI_OK);
    CHECK(call_blocks(merged, 3, arrival, deadlines, other) == EI_OK);
    for (int i = 3; i < DEADLINES; i++)
        CHECK_RELATIVE(upper[i], other[i], 1e-9);
}

static void test_failures(void) {
    static const double deadlines[DEADLINES] = {10, 20, 50, 100, 200, 300};
    const ei_service stages[] = {exponential(0.9), exponential(0.93)};
    const ei_arrival arrival = {.parameter = {1}};
    double lower[DEADLINES], upper[DEADLINES];
    size_t index[DEADLINES];
    uint8_t methods[2 * DEADLINES];
    int polls = 0, status = EI_ERR_NO_MEMORY;
    const long alive = failing_malloc_alive();
    for (long k = 1; status != EI_OK && k < 100; k++) {
        failing_malloc_arm(k);
        status = call_blocks(stages, 2, arrival, deadlines, upper);
        failing_malloc_arm(0);
        CHECK(status == EI_OK || status == EI_ERR_NO_MEMORY);
        CHECK(failing_malloc_alive() == alive);
    }
    CHECK(status == EI_OK);
    ei_batch batch = make_batch(arrival, DEADLINES, deadlines, lower, upper, index, methods);
    batch.monitor = (ei_monitor){stop, &polls};
    CHECK(ei_blocks_ends(&batch, stages, 2) == EI_ERR_INTERRUPTED && polls == 1);
    CHECK(failing_malloc_alive() == alive);
}

int main(void) {
    test_poisson();
    test_other_arrivals();
    test_left_alone();
    test_failures();
    return check_report();
}
