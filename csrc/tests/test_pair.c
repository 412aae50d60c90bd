/* Two stages followed at once: against exact laws of exponential and constant stages, wrong inputs, every
 * allocation failing. */
#include "failing_malloc.h"
#include "inputs.h"

#include "edgeinfer/pair.h"

static const ei_arrival poisson = {.kind = EI_ARRIVAL_POISSON, .parameter = {1}},
                        others[] = {{.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {1}},
                                    {.kind = EI_ARRIVAL_ERLANG, .parameter = {1, 4}},
                                    {.kind = EI_ARRIVAL_GAMMA, .parameter = {1, 0.3}},
                                    {.kind = EI_ARRIVAL_HYPEREXPONENTIAL, .parameter = {0.5, 0.8, 4.0 / 3}}};

static double decay_of(const ei_service *service) {
    return 1 / service->time - 1;
}

static ei_pair pair_of(const ei_service *first, const ei_service *second, size_t points, size_t leads) {
    const double decay = fmin(decay_of(first), decay_of(second));
    return (ei_pair){.arrival = &poisson,
                     .decay = decay,
                     .horizon = 30 / decay,
                     .points = points,
                     .leads = leads,
                     .first = {first, 0, 0},
                     .second = {second, 0, 0},
                     .monitor = quiet};
}

/* Reich: sojourn times are independent and exponential, whichever stage comes first. */
static void test_exponential_stages(void) {
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5},
                     fast = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.4},
                     faster = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.3};
    const double rate[] = {decay_of(&slow), decay_of(&fast), decay_of(&faster)};
    for (int turned = 0; turned < 2; turned++) {
        ei_pair pair = turned ? pair_of(&fast, &slow, 256, 64) : pair_of(&slow, &fast, 256, 64);
        ei_lattice law, alone, three, none;
        CHECK(ei_pair_lower(&law, &alone, &pair) == EI_OK);
        pair.first = pair.second;
        pair.second.law = &faster;
        pair.alone = &alone;
        CHECK(ei_pair_lower(&three, &none, &pair) == EI_OK);
        for (double time = 0; time < 20; time += 0.61) {
            double two = ei_lattice_lower(&law, time) / exponential_sum_sf(rate, 2, time),
                   all = ei_lattice_lower(&three, time) / exponential_sum_sf(rate, 3, time);
            CHECK(two <= 1 && two >= 0.85);
            CHECK(all <= 1 && all >= (turned ? 0.5 : 0.3));
        }
        ei_lattice_free(&law);
        ei_lattice_free(&alone);
        ei_lattice_free(&three);
        ei_lattice_free(&none);
    }
}

/* Two constant stages: the wait is that for the slower one, and their first services are left out. */
static void test_constant_stages(void) {
    const double times[] = {0.5, 0.3};
    ei_md1 waiting;
    CHECK(ei_md1_init(&waiting, 1, times[0], 30) == EI_OK);
    for (int turned = 0; turned < 2; turned++) {
        const ei_pair pair = {.arrival = &poisson,
                              .decay = 2.5,
                              .horizon = 12,
                              .points = 512,
                              .leads = 48,
                              .first = {NULL, 0, times[turned]},
                              .second = {NULL, 0, times[!turned]},
                              .monitor = quiet};
        ei_lattice law, alone;
        CHECK(ei_pair_lower(&law, &alone, &pair) == EI_OK);
        for (double time = 0.01; time < 7; time += 0.23) {
            double part = ei_lattice_lower(&law, time) / ei_md1_waiting_sf(&waiting, time);
            CHECK(part <= 1 && part >= 0.8);
        }
        ei_lattice_free(&law);
        ei_lattice_free(&alone);
    }
    ei_md1_free(&waiting);
}

static void test_arrivals(const ei_arrival *arrival) {
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.8},
                     fast = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.02};
    const double theta = decay_behind(arrival, slow.time);
    for (int order = 0; order < 2; order++) {
        ei_pair pair = pair_of(order ? &slow : &fast, order ? &fast : &slow, 256, 96);
        ei_lattice law, alone;
        pair.arrival = arrival;
        pair.decay = theta;
        pair.horizon = 20 / theta;
        CHECK(ei_pair_lower(&law, &alone, &pair) == EI_OK);
        for (double time = 0.5; time < 10 / theta; time += 1.11) {
            const double part = ei_lattice_lower(&law, time) / both_sf(theta, 1 / fast.time, time);
            CHECK(part <= 1.01 && part >= 0.78); /* a wait for the fast one may add something */
        }
        ei_lattice_free(&law);
        ei_lattice_free(&alone);
    }
}

static void test_failures(void) {
    static const double samples[] = {0.2, 0.3, 0.5};
    static double passed[] = {1, 0.5, 0};
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.3},
                     measured = {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 3};
    const ei_lattice some = {0.25, 3, passed};
    ei_pair pair = pair_of(&slow, &slow, 32, 16);
    ei_lattice law, alone;
    long alive = failing_malloc_alive(), k = 1;
    pair.first.law = &measured;
    pair.between = pair.ahead = &some;
    for (; k < 200; k++) {
        failing_malloc_arm(k);
        int status = ei_pair_lower(&law, &alone, &pair), fired = failing_malloc_fired();
        failing_malloc_arm(0);
        ei_lattice_free(&law);
        ei_lattice_free(&alone);
        CHECK(failing_malloc_alive() == alive);
        CHECK(status == (fired ? EI_ERR_NO_MEMORY : EI_OK));
        if (!fired)
            break;
    }
    CHECK(k > 10 && k < 200);
    int stops = 0;
    pair.monitor = (ei_monitor){stop, &stops};
    CHECK(ei_pair_lower(&law, &alone, &pair) == EI_ERR_INTERRUPTED);
    pair = pair_of(&slow, &slow, EI_PAIR_LEAST - 1, EI_PAIR_LEAST - 1);
    CHECK(ei_pair_lower(&law, &alone, &pair) == EI_ERR_DOMAIN);
    pair = pair_of(&slow, &slow, 32, 33);
    CHECK(ei_pair_lower(&law, &alone, &pair) == EI_ERR_DOMAIN);
    pair = pair_of(&slow, &slow, 32, 16);
    pair.horizon = 0;
    CHECK(ei_pair_lower(&law, &alone, &pair) == EI_ERR_DOMAIN);
    pair = pair_of(&slow, &slow, 32, 16);
    pair.alone = &some;
    CHECK(ei_pair_lower(&law, &alone, &pair) == EI_ERR_DOMAIN);
    CHECK(failing_malloc_alive() == alive);
}

int main(void) {
    test_exponential_stages();
    test_constant_stages();
    for (size_t k = 0; k < sizeof others / sizeof *others; k++)
        test_arrivals(&others[k]);
    test_failures();
    return check_report();
}
