/* Two stages followed at once, from above: against exponential sojourn times, wrong inputs, every allocation
 * failing. */
#include "failing_malloc.h"
#include "inputs.h"

#include "edgeinfer/pair_upper.h"

static const ei_arrival poisson = {.kind = EI_ARRIVAL_POISSON, .parameter = {1}},
                        others[] = {{.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {1}},
                                    {.kind = EI_ARRIVAL_ERLANG, .parameter = {1, 4}},
                                    {.kind = EI_ARRIVAL_GAMMA, .parameter = {1, 0.3}},
                                    {.kind = EI_ARRIVAL_HYPEREXPONENTIAL, .parameter = {0.5, 0.8, 4.0 / 3}}};
static const ei_upper_law none = {.decay = 0};

static ei_pair_walk exponential_walk(const ei_service *before, const ei_service *bottleneck, size_t points) {
    const double slower = fmax(before->time, bottleneck->time);
    return (ei_pair_walk){.arrival = &poisson,
                          .decay = 1 / slower - 1,
                          .horizon = 14 / (1 / slower - 1),
                          .points = points,
                          .before = {before, 0, 0},
                          .bottleneck = {bottleneck, 0, 0},
                          .between = &none,
                          .ahead = &none,
                          .monitor = quiet};
}

/* Burke, Reich: independent exponential sojourn times, whatever their order; P(the sum > time). */
static double sum_sf(size_t count, const double *decay, double time) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double weight = exp(-decay[i] * time);
        for (size_t j = 0; j < count; j++)
            if (j != i)
                weight *= decay[j] / (decay[j] - decay[i]);
        sum += weight;
    }
    return sum;
}

static void test_exponential_tandem(void) {
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.3},
                     fast = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.28};
    const double decay[] = {1 / slow.time - 1, 1 / fast.time - 1};
    for (int order = 0; order < 2; order++) {
        const ei_pair_walk walk = exponential_walk(order ? &slow : &fast, order ? &fast : &slow, 100);
        ei_upper_law law;
        CHECK(ei_pair_upper(&law, &walk) == EI_OK);
        for (double time = 0; time < walk.horizon; time += 0.211) {
            const double exact = sum_sf(2, decay, time), value = ei_upper_law_sf(&law, time);
            CHECK(value >= exact * (1 - 1e-12) && value <= 1.1 * exact);
        }
        ei_upper_law_free(&law);
    }
}

/* Stages before and between, and a deterministic one, whose own service is left out. */
static void test_other_stages(void) {
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.3},
                     fast = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.28};
    const double decay[] = {1 / slow.time - 1, 1 / fast.time - 1, 1 / 0.1 - 1};
    double sojourn[800], delay[] = {1, 1, 0};
    for (size_t j = 0; j < 800; j++)
        sojourn[j] = exp(-decay[2] * 0.01 * (double)j);
    const ei_upper_law exponential = {.lattice = {0.01, 800, sojourn}, .decay = decay[2]},
                       constant = {.lattice = {0.1, 3, delay}, .log_scale = -INFINITY, .decay = 50};
    ei_pair_walk walk = exponential_walk(&fast, &slow, 100);
    ei_upper_law law;
    walk.ahead = &exponential;
    CHECK(ei_pair_upper(&law, &walk) == EI_OK);
    for (double time = 0; time < walk.horizon; time += 0.211) {
        const double exact = sum_sf(3, decay, time), value = ei_upper_law_sf(&law, time);
        CHECK(value >= exact * (1 - 1e-12) && value <= 1.15 * exact);
    }
    ei_upper_law_free(&law);
    walk.ahead = &none;
    walk.between = &constant; /* 0.2 s */
    CHECK(ei_pair_upper(&law, &walk) == EI_OK);
    for (double time = 0.2; time < walk.horizon; time += 0.211) {
        const double value = ei_upper_law_sf(&law, time);
        CHECK(value >= sum_sf(2, decay, time) && value <= fmin(1.5 * sum_sf(2, decay, time - 0.2), 1));
    }
    ei_upper_law_free(&law);
    walk.between = &none;
    /* Delays beside a queue that is hardly ever there, off the lattice and on it. */
    for (double delay_time = 1e-3; delay_time < 0.3; delay_time *= 60) {
        walk.before = (ei_added_stage){NULL, 0, delay_time, 0};
        CHECK(ei_pair_upper(&law, &walk) == EI_OK);
        for (double time = 0; time < walk.horizon; time += 0.211) {
            const double exact = exp(-decay[0] * time), value = ei_upper_law_sf(&law, time);
            CHECK(value >= exact * (1 - 1e-12) && value <= 1.2 * exact);
        }
        ei_upper_law_free(&law);
    }
}

static void test_arrivals(const ei_arrival *arrival) {
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.8},
                     fast = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.02};
    const double theta = decay_behind(arrival, slow.time);
    for (int order = 0; order < 2; order++) {
        ei_pair_walk walk = exponential_walk(order ? &slow : &fast, order ? &fast : &slow, 160);
        ei_upper_law law;
        walk.arrival = arrival;
        walk.decay = theta;
        walk.horizon = 14 / theta;
        CHECK(ei_pair_upper(&law, &walk) == EI_OK);
        for (double time = 0.5; time < 10 / theta; time += 1.11) {
            const double least = both_sf(theta, 1 / fast.time, time), value = ei_upper_law_sf(&law, time);
            CHECK(value >= least * (1 - 1e-12) && value <= 1.4 * least);
        }
        ei_upper_law_free(&law);
    }
}

static void test_failures(void) {
    static const ei_arrival often = {.kind = EI_ARRIVAL_POISSON, .parameter = {4}};
    static const double samples[] = {0, 0.3, 0.5};
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.3},
                     measured = {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 3};
    double delay[] = {1, 0};
    const ei_upper_law constant = {.lattice = {0.1, 2, delay}, .log_scale = -INFINITY, .decay = 50};
    ei_pair_walk walk = exponential_walk(&slow, &measured, 20);
    ei_upper_law law;
    long alive = failing_malloc_alive(), k = 1;
    walk.between = walk.ahead = &constant;
    for (size_t other = 0; other <= sizeof others / sizeof *others;) {
        failing_malloc_arm(k);
        int status = ei_pair_upper(&law, &walk), fired = failing_malloc_fired();
        failing_malloc_arm(0);
        ei_upper_law_free(&law);
        CHECK(failing_malloc_alive() == alive);
        CHECK(status == (fired ? EI_ERR_NO_MEMORY : EI_OK));
        k++;
        if (fired)
            continue;
        CHECK(k > 5);
        k = 1;
        walk.arrival = &others[other++ % (sizeof others / sizeof *others)];
        walk.between = &none;
    }
    int stops = 0;
    walk.monitor = (ei_monitor){stop, &stops};
    CHECK(ei_pair_upper(&law, &walk) == EI_ERR_INTERRUPTED);
    walk.before = walk.bottleneck = (ei_added_stage){NULL, 0, 0.3, 0};
    CHECK(ei_pair_upper(&law, &walk) == EI_ERR_DOMAIN);
    walk = exponential_walk(&slow, &slow, 3);
    CHECK(ei_pair_upper(&law, &walk) == EI_ERR_DOMAIN);
    walk.points = 100;
    walk.horizon = 0;
    CHECK(ei_pair_upper(&law, &walk) == EI_ERR_DOMAIN);
    walk = exponential_walk(&slow, &slow, 100);
    walk.arrival = &often; /* a load above one */
    CHECK(ei_pair_upper(&law, &walk) == EI_ERR_UNSTABLE);
    CHECK(failing_malloc_alive() == alive);
}

int main(void) {
    test_exponential_tandem();
    test_other_stages();
    for (size_t k = 0; k < sizeof others / sizeof *others; k++)
        test_arrivals(&others[k]);
    test_failures();
    return check_report();
}
