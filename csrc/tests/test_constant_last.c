/* A random stage before a constant one: against M/D/1 where the services are all alike, against Burke's
 * theorem where they are exponential, wrong turns, every allocation failing. */
#include "failing_malloc.h"
#include "inputs.h"

#include "edgeinfer/constant_last.h"
#include "edgeinfer/queue.h"

enum { TIMES = 8 };

/* Upper ends at `deadline`, 1 where there are none. */
static int ends_of(const ei_service *random, double time, double rate, const double deadline[TIMES],
                   double upper[TIMES], ei_monitor monitor) {
    size_t index[TIMES];
    uint8_t methods[2 * TIMES];
    double lower[TIMES];
    const ei_arrival arrival = {.kind = EI_ARRIVAL_POISSON, .parameter = {rate}};
    ei_batch batch = make_batch(arrival, TIMES, deadline, lower, upper, index, methods);
    batch.monitor = monitor;
    return ei_constant_last_upper(&batch, random, time, time);
}

/* Services that are all of one time wait in the slower stage alone: the sum knows of the other one alone. */
static void test_equal_services(void) {
    const double service = 0.97, time = 1, rate = 0.6;
    const ei_service random = {.kind = EI_SERVICE_SAMPLES, .samples = &service, .sample_count = 1};
    double deadline[TIMES], upper[TIMES];
    ei_md1 queue;
    for (size_t i = 0; i < TIMES; i++)
        deadline[i] = time + service + 0.37 * (double)i * (double)(i + 1);
    CHECK(ends_of(&random, time, rate, deadline, upper, (ei_monitor){NULL, NULL}) == EI_OK);
    CHECK(ei_md1_init(&queue, rate, time, deadline[TIMES - 1]) == EI_OK);
    for (size_t i = 1; i < TIMES; i++) {
        const double exact = ei_md1_waiting_sf(&queue, deadline[i] - time - service);
        CHECK(upper[i] >= exact * (1 - 1e-9) && upper[i] < 1.4 * exact);
    }
    ei_md1_free(&queue);
}

/* Requests leave an exponential stage as they come, and their times in both stages are independent. */
static void test_exponential_services(void) {
    const ei_service random = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.9};
    const double time = 1, rate = 0.7, fall = 1 / random.time - rate;
    double deadline[TIMES], upper[TIMES];
    ei_md1 queue;
    for (size_t i = 0; i < TIMES; i++)
        deadline[i] = 2 + 8 * (double)i;
    CHECK(ends_of(&random, time, rate, deadline, upper, (ei_monitor){NULL, NULL}) == EI_OK);
    CHECK(ei_md1_init(&queue, rate, time, deadline[TIMES - 1]) == EI_OK);
    for (size_t i = 1; i < TIMES; i++) {
        const double exact = exponential_and_wait_sf(fall, &queue, deadline[i] - time);
        CHECK(upper[i] >= exact * (1 - 1e-4) && upper[i] < 1.3 * exact);
    }
    ei_md1_free(&queue);
}

static void test_failures(void) {
    static const double samples[] = {0.2, 0.5, 0.6};
    const ei_service measured = {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 3};
    double deadline[TIMES] = {1, 2, 3}, upper[TIMES];
    long alive = failing_malloc_alive(), k = 1;
    int polls = 0;
    for (; k < 30; k++) {
        failing_malloc_arm(k);
        int status = ends_of(&measured, 0.5, 0.5, deadline, upper, (ei_monitor){NULL, NULL}),
            fired = failing_malloc_fired();
        failing_malloc_arm(0);
        CHECK(failing_malloc_alive() == alive);
        CHECK(status == (fired ? EI_ERR_NO_MEMORY : EI_OK) && (upper[1] < 1) == !fired);
        if (!fired)
            break;
    }
    CHECK(k > 5 && k < 30);
    CHECK(ends_of(&measured, 0.5, 0.5, deadline, upper, (ei_monitor){stop, &polls}) == EI_ERR_INTERRUPTED);
    /* A random stage that is slower, and too long a lattice: nothing is done. */
    CHECK(ends_of(&measured, 0.3, 0.5, deadline, upper, (ei_monitor){NULL, NULL}) == EI_OK && upper[1] == 1);
}

int main(void) {
    test_equal_services();
    test_exponential_services();
    test_failures();
    return check_report();
}
