/* Ends of requests that seldom meet: sums of exponential services and M/M/1 between them, and every
 * allocation failing in turn. */
#include "failing_malloc.h"
#include "inputs.h"

#include "edgeinfer/alone.h"
#include "edgeinfer/two_exponentials.h"

enum { DEADLINES = 6 };
static const double deadlines[DEADLINES] = {0, 0.5, 2, 6, 12, 25};

static int call_alone(const ei_service *stages, size_t count, ei_arrival arrival, double lower[DEADLINES],
                      double upper[DEADLINES]) {
    size_t index[DEADLINES];
    uint8_t methods[2 * DEADLINES];
    const ei_batch batch = make_batch(arrival, DEADLINES, deadlines, lower, upper, index, methods);
    return ei_alone_ends(&batch, stages, count);
}

static const ei_service stages[] = {{.kind = EI_SERVICE_EXPONENTIAL, .time = 1},
                                    {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.5},
                                    {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.4},
                                    {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.7}};

/* P(some of these exponential times with a constant one > time), means apart. */
static double sum_sf(const double *mean, size_t count, double time) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double weight = exp(-time / mean[i]);
        for (size_t k = 0; k < count; k++)
            weight *= k == i ? 1 : mean[i] / (mean[i] - mean[k]);
        sum += weight;
    }
    return time < 0 ? 1 : sum;
}

/* With exponential stages alone and Poisson arrivals means grow to 1 / (1 / mean - rate). What a lattice of
 * 8190 cells over three laws down to 1e-18 loses is below (3 cells times the steepest decay) 3 * 42 / 8190 *
 * 2.1 / 1 of each probability. */
static void test_exponential_stages(void) {
    const double rate = 1e-3, services[] = {1, 0.4, 0.7};
    const ei_service tandem[] = {stages[0], stages[2], stages[3]};
    double lower[DEADLINES], upper[DEADLINES], mean[3];
    for (int k = 0; k < 3; k++)
        mean[k] = 1 / (1 / services[k] - rate);
    CHECK(call_alone(tandem, 3, (ei_arrival){.parameter = {rate}}, lower, upper) == EI_OK);
    for (int i = 0; i < DEADLINES; i++) {
        double truth = sum_sf(mean, 3, deadlines[i]), alone = sum_sf(services, 3, deadlines[i]);
        CHECK(lower[i] <= alone * (1 + 1e-12) && truth <= upper[i] * (1 + 1e-12));
        CHECK(lower[i] >= 0.95 * alone);
    }
    /* Requests that come every 1000 seconds or so meet with 1e-9 at most. */
    const ei_arrival even = {.kind = EI_ARRIVAL_ERLANG, .parameter = {rate, 8}};
    CHECK(call_alone(stages, 4, even, lower, upper) == EI_OK);
    for (int i = 0; i < DEADLINES; i++) {
        double alone = sum_sf(services, 3, deadlines[i] - 0.5);
        CHECK(lower[i] <= alone * (1 + 1e-12) && alone <= upper[i] * (1 + 1e-12));
        CHECK(lower[i] >= 0.95 * alone && upper[i] <= 1.05 * alone + 1e-9);
    }
    CHECK(call_alone(stages, 1, even, lower, upper) == EI_OK);
    for (int i = 1; i < DEADLINES - 1; i++)
        CHECK_RELATIVE(lower[i], exp(-deadlines[i]), 1e-9);
    for (int i = 1; i < DEADLINES - 1; i++)
        CHECK_RELATIVE(upper[i], exp(-deadlines[i]), 1e-6);
}

/* Constants alone, at their sum and just before; and loads that are not light, where nothing is tried. */
static void test_constants(void) {
    const ei_service constants[] = {stages[1], {.kind = EI_SERVICE_DETERMINISTIC, .time = 1.5}};
    double lower[DEADLINES], upper[DEADLINES];
    CHECK(call_alone(constants, 2, (ei_arrival){.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {1e-3}}, lower,
                     upper) == EI_OK);
    CHECK(lower[1] == 1 && upper[1] == 1 && lower[2] == 0 && upper[3] < 1e-100);
    CHECK(call_alone(stages, 4, (ei_arrival){.parameter = {0.3}}, lower, upper) == EI_OK);
    CHECK(lower[0] == 0 && upper[DEADLINES - 1] == 1);
}

/* Near a load of 1 a service's moment, from above, times that of a time between arrivals is above one for
 * some exponents. */
static void test_heavy(void) {
    const ei_service busy[] = {{.kind = EI_SERVICE_EXPONENTIAL, .time = 0.0196},
                               {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.0197}};
    const ei_arrival even = {.kind = EI_ARRIVAL_ERLANG, .parameter = {50, 7}};
    double lower[DEADLINES], upper[DEADLINES];
    ei_two_exponentials truth;
    CHECK(ei_two_exponentials_init(&truth, EI_LOWER, &busy[0], &busy[1], &even) == EI_OK);
    CHECK(call_alone(busy, 2, even, lower, upper) == EI_OK);
    for (int i = 0; i < DEADLINES; i++)
        CHECK(upper[i] >= ei_two_exponentials_sf(&truth, deadlines[i]));
}

static void test_failures(void) {
    const ei_arrival arrival = {.parameter = {1e-3}};
    double lower[DEADLINES], upper[DEADLINES];
    const long alive = failing_malloc_alive();
    for (size_t count = 1; count <= 4; count += 3) {
        int status = EI_ERR_NO_MEMORY;
        for (long k = 1; status != EI_OK && k < 1000; k++) {
            failing_malloc_arm(k);
            status = call_alone(stages, count, arrival, lower, upper);
            failing_malloc_arm(0);
            CHECK(status == EI_OK || status == EI_ERR_NO_MEMORY);
            CHECK(failing_malloc_alive() == alive);
        }
        CHECK(status == EI_OK);
    }
}

int main(void) {
    test_exponential_stages();
    test_constants();
    test_heavy();
    test_failures();
    return check_report();
}
