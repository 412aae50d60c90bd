/* A constant stage before a random one: against M/D/1 where the services are all alike, against Burke's law
 * by an exchange of exponential stages' mean, wrong turns, every allocation failing. */
#include "failing_malloc.h"
#include "inputs.h"

#include "edgeinfer/constant_first.h"
#include "edgeinfer/queue.h"

enum { TIMES = 12 };

/* Ends at `deadline`, 0 and 1 where there are none; of the constant stage last, or first. */
static int ends_in_order(int last, const ei_service *random, double time, double rate,
                         const double deadline[TIMES], double lower[TIMES], double upper[TIMES],
                         ei_monitor monitor, int *found) {
    size_t index[TIMES];
    uint8_t methods[2 * TIMES];
    const ei_arrival arrival = {.kind = EI_ARRIVAL_POISSON, .parameter = {rate}};
    ei_batch batch = make_batch(arrival, TIMES, deadline, lower, upper, index, methods);
    batch.monitor = monitor;
    return ei_constant_first_ends(&batch, random, time, time,
                                  EI_CONSTANT_LOWER | (last ? 0 : EI_CONSTANT_UPPER), found);
}

static int ends_of(const ei_service *random, double time, double rate, const double deadline[TIMES],
                   double lower[TIMES], double upper[TIMES], ei_monitor monitor, int *found) {
    return ends_in_order(0, random, time, rate, deadline, lower, upper, monitor, found);
}

/* Services that are all of one time wait in the slower stage alone. */
static void check_equal_services(double time, double service, double rate) {
    const ei_service random = {.kind = EI_SERVICE_SAMPLES, .samples = &service, .sample_count = 1};
    double deadline[TIMES], lower[TIMES], upper[TIMES];
    const double slower = fmax(time, service);
    ei_md1 queue;
    int found;
    for (size_t i = 0; i < TIMES; i++)
        deadline[i] = time + service + 0.37 * slower * (double)i * (double)i / 3;
    CHECK(ends_of(&random, time, rate, deadline, lower, upper, (ei_monitor){NULL, NULL}, &found) == EI_OK);
    CHECK(found && ei_md1_init(&queue, rate, slower, deadline[TIMES - 1]) == EI_OK);
    for (size_t i = 1; i < TIMES; i++) {
        const double exact = ei_md1_waiting_sf(&queue, deadline[i] - time - service);
        CHECK(lower[i] <= exact * (1 + 1e-9) && upper[i] >= exact * (1 - 1e-9));
        CHECK(upper[i] <= upper[i - 1] && lower[i] <= lower[i - 1]);
        CHECK(upper[i] < 1.7 * exact);
        CHECK(lower[i] > exact / 1.7);
    }
    ei_md1_free(&queue);
}

static void test_equal_services(void) {
    check_equal_services(1, 0.83, 0.5);
    check_equal_services(1, 1.17, 0.5);
    check_equal_services(1, 0.98, 0.85);
}

/* Where the constant stage hardly takes any time an exponential one alone is left. */
static void test_exponential_services(void) {
    const ei_service random = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    const double time = 0.02;
    double deadline[TIMES], lower[TIMES], upper[TIMES];
    int found;
    for (size_t i = 0; i < TIMES; i++)
        deadline[i] = 2 * (double)i;
    CHECK(ends_of(&random, time, 1, deadline, lower, upper, (ei_monitor){NULL, NULL}, &found) == EI_OK);
    CHECK(found);
    for (size_t i = 1; i < TIMES; i++) {
        CHECK(upper[i] >= exp(-(deadline[i] - time)) && lower[i] <= exp(-(deadline[i] - 3 * time)));
        CHECK(upper[i] < 1.1 * lower[i]);
    }
}

/* Lower ends alone, the same, where the constant stage comes last: below the law of an exponential stage and
 * what waits behind it, as its requests leave as they come. */
static void test_constant_last(void) {
    const ei_service random = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.6};
    const double time = 1, rate = 0.8, fall = 1 / random.time - rate;
    double deadline[TIMES], lower[TIMES], upper[TIMES], first[TIMES], other[TIMES];
    ei_md1 queue;
    int found;
    for (size_t i = 0; i < TIMES; i++)
        deadline[i] = 2 + 2 * (double)i;
    const ei_monitor none = {NULL, NULL};
    CHECK(ends_in_order(0, &random, time, rate, deadline, first, other, none, &found) == EI_OK && found);
    CHECK(ends_in_order(1, &random, time, rate, deadline, lower, upper, none, &found) == EI_OK && found);
    CHECK(ei_md1_init(&queue, rate, time, deadline[TIMES - 1]) == EI_OK);
    for (size_t i = 0; i < TIMES; i++) {
        const double exact = exponential_and_wait_sf(fall, &queue, deadline[i] - time);
        CHECK(lower[i] == first[i] && upper[i] == 1);
        CHECK(lower[i] <= exact * (1 + 1e-4) && lower[i] > exact / 1.4);
    }
    ei_md1_free(&queue);
}

static void test_failures(void) {
    static const double samples[] = {0.2, 0.5, 0.6};
    const ei_service measured = {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 3};
    double deadline[TIMES] = {1, 2, 3}, lower[TIMES], upper[TIMES];
    long alive = failing_malloc_alive(), k = 1;
    int found, polls = 0;
    for (; k < 60; k++) {
        failing_malloc_arm(k);
        int status = ends_of(&measured, 0.4, 0.5, deadline, lower, upper, (ei_monitor){NULL, NULL}, &found),
            fired = failing_malloc_fired();
        failing_malloc_arm(0);
        CHECK(failing_malloc_alive() == alive);
        CHECK(status == (fired ? EI_ERR_NO_MEMORY : EI_OK) && found == !fired);
        if (!fired)
            break;
    }
    CHECK(k > 5 && k < 60);
    CHECK(ends_of(&measured, 0.4, 0.5, deadline, lower, upper, (ei_monitor){stop, &polls}, &found) ==
          EI_ERR_INTERRUPTED);
    /* Too long a lattice: nothing is done. */
    CHECK(ends_of(&measured, 1e-5, 0.5, deadline, lower, upper, (ei_monitor){NULL, NULL}, &found) == EI_OK);
    CHECK(!found && lower[1] == 0 && upper[1] == 1);
}

int main(void) {
    test_equal_services();
    test_exponential_services();
    test_constant_last();
    test_failures();
    return check_report();
}
