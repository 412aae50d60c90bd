/* Lundberg's bounds beyond a lattice: against M/D/1 with and without times before it, M/M/1, an M/D/1 told as
 * two phases of one rate, wrong ends, every allocation failing. */
#include "failing_malloc.h"
#include "inputs.h"

#include "edgeinfer/lindley.h"
#include "edgeinfer/lundberg.h"
#include "edgeinfer/queue.h"

#include <stdlib.h>

enum { POINTS = 2048, TIMES = 12 };

static const ei_upper_law none = {.decay = 0};
static const double twice[2] = {0.8, 0.8}, switches[4] = {-0.3, 0.3, 0.1, -0.1}, shares[2] = {0.25, 0.75};
static const ei_arrival poisson = {.kind = EI_ARRIVAL_POISSON, .parameter = {0.8}},
                        phases = {.kind = EI_ARRIVAL_MARKOV_MODULATED,
                                  .count = 2,
                                  .rates = twice,
                                  .generator = switches,
                                  .stationary = shares};

/* -log E e^{-theta t} = theta. */
static double md1_exponent(double rate) {
    double low = 1e-3, high = 10;
    for (int i = 0; i < 200; i++) {
        const double theta = low + (high - low) / 2;
        *(theta < log1p(theta / rate) ? &low : &high) = theta;
    }
    return low;
}

/* The law of the stage on a lattice up to `end`, and what it goes on as. */
static int find(ei_end end, const ei_added_stage *stage, const ei_arrival *arrival, double exponent,
                double last, const ei_upper_law *before, ei_lundberg *found) {
    const double exact = stage->law == NULL ? stage->again : 0,
                 step = exact > 0 ? exact / ceil(exact * POINTS / last) : last / POINTS;
    ei_upper_law law = {.decay = 0};
    int status;
    if (end == EI_UPPER) {
        status = ei_add_stage_early(&law, before, stage, arrival, step, POINTS, quiet);
    } else {
        if (arrival->count > 0 && (law.by_phase = malloc(arrival->count * POINTS * sizeof(double))) == NULL)
            return EI_ERR_NO_MEMORY;
        status = ei_lindley_sojourn_lower(&law.lattice, law.by_phase, stage, arrival, step, POINTS, quiet);
    }
    if (status == EI_OK)
        status = ei_lundberg_find(found, end, stage, arrival, exponent, &law.lattice, law.by_phase, before);
    ei_upper_law_free(&law);
    return status;
}

static void check_around(const ei_lundberg ends[2], double time, double exact, double width) {
    const double lower = exp(ends[0].log_scale - ends[0].decay * time),
                 upper = exp(ends[1].log_scale - ends[1].decay * time);
    CHECK(time >= ends[0].from && time >= ends[1].from);
    CHECK(lower <= exact * (1 + 1e-9) && exact <= upper * (1 + 1e-9) && upper <= width * lower);
}

/* Down to 1e-12, where its own sums are exact. */
static void test_constant_services(void) {
    const ei_added_stage stage = {.again = 1};
    const double theta = md1_exponent(0.8);
    ei_md1 queue;
    CHECK(ei_md1_init(&queue, 0.8, 1, 27 / theta) == EI_OK);
    for (int modulated = 0; modulated < 2; modulated++) {
        const ei_arrival *arrival = modulated ? &phases : &poisson;
        ei_lundberg ends[2], rough[2];
        for (int end = 0; end < 2; end++) {
            CHECK(find((ei_end)end, &stage, arrival, theta, 12 / theta, &none, &ends[end]) == EI_OK);
            CHECK(ei_lundberg_find(&rough[end], (ei_end)end, &stage, arrival, theta,
                                   &(ei_lattice){.sf = NULL}, NULL, &none) == EI_OK);
        }
        for (int i = 0; i < TIMES; i++) {
            const double time = 12 / theta + 112 / theta * i / TIMES, exact = ei_md1_waiting_sf(&queue, time);
            check_around(ends, time, exact, 1.03);
            check_around(rough, time, exact, exp(theta) * 1.001);
        }
    }
    ei_md1_free(&queue);
}

/* Every request is `early` ahead: its wait is that much longer, and no more. */
static void test_times_before(void) {
    const ei_added_stage stage = {.again = 1};
    const double theta = md1_exponent(0.8), early = 1.5;
    double sf[9];
    for (int j = 0; j < 9; j++)
        sf[j] = j < 6 ? 1 : 1e-30;
    const ei_upper_law before = {.lattice = {early / 6, 9, sf}, .log_scale = -60, .decay = 5 * theta};
    ei_md1 queue;
    CHECK(ei_md1_init(&queue, 0.8, 1, 30 / theta) == EI_OK);
    ei_lundberg ends[2], rough;
    CHECK(find(EI_LOWER, &stage, &poisson, theta, 12 / theta, &none, &ends[0]) == EI_OK);
    CHECK(find(EI_UPPER, &stage, &poisson, theta, 12 / theta, &before, &ends[1]) == EI_OK);
    CHECK(ei_lundberg_find(&rough, EI_UPPER, &stage, &poisson, theta, &(ei_lattice){.sf = NULL}, NULL,
                           &before) == EI_OK);
    for (int i = 0; i < TIMES; i++) {
        const double time = 14 / theta + 112 / theta * i / TIMES,
                     exact = ei_md1_waiting_sf(&queue, time - early),
                     upper = exp(ends[1].log_scale - ends[1].decay * time),
                     loose = exp(rough.log_scale - rough.decay * time);
        CHECK(time >= ends[1].from && exact <= upper * (1 + 1e-9) && upper <= 1.03 * exact);
        CHECK(time >= rough.from && exact <= loose * (1 + 1e-9) &&
              loose <= 2 * exp(theta * (early + 1)) * exact);
    }
    ei_md1_free(&queue);
}

/* Services without an end: those beyond the longest that is followed count. */
static void test_exponential_services(void) {
    const ei_service service = {.kind = EI_SERVICE_EXPONENTIAL, .time = 1};
    const ei_added_stage stage = {.law = &service};
    for (int modulated = 0; modulated < 2; modulated++) {
        const ei_arrival *arrival = modulated ? &phases : &poisson;
        ei_lundberg ends[2], rough[2];
        for (int end = 0; end < 2; end++) {
            CHECK(find((ei_end)end, &stage, arrival, 0.2, 80, &none, &ends[end]) == EI_OK);
            CHECK(ei_lundberg_find(&rough[end], (ei_end)end, &stage, arrival, 0.2, &(ei_lattice){.sf = NULL},
                                   NULL, &none) == EI_OK);
        }
        for (int i = 0; i < TIMES; i++) {
            const double time = 80 + 5 * (double)i, exact = exp(-0.2 * time);
            check_around(ends, time, exact, 1.1);
            /* Waiting is rarer by the load from below; from above services are counted whole. */
            CHECK(exp(rough[0].log_scale - 0.2 * time) <= 0.8 * exact * (1 + 1e-6));
            CHECK(exp(rough[1].log_scale - rough[1].decay * time) >= exact);
        }
    }
}

/* What services cross by: of repeated blocks that get through at once, as much as from 0 on, of two samples
 * the more of what is left from 0 on and from the first. */
static void test_overshoot(void) {
    const double outage = 0.6, slot = 0.25, theta = 0.3, sample[2] = {0.5, 1.5};
    ei_repetition *law;
    CHECK(ei_repetition_new(&law, 1, outage, slot) == EI_OK);
    const ei_service services[2] = {{.kind = EI_SERVICE_REPETITION, .repetition = law},
                                    {.kind = EI_SERVICE_SAMPLES, .samples = sample, .sample_count = 2}};
    const double grown = exp(theta * slot),
                 moment[2] = {grown * (1 - outage) / (1 - outage * grown),
                              (exp(0.5 * theta) + exp(1.5 * theta)) / 2},
                 most[2] = {moment[0], fmax(moment[1], exp(theta))};
    for (int i = 0; i < 2; i++) {
        /* rate / (rate + theta) M(theta) = 1. */
        const ei_arrival arrival = {.kind = EI_ARRIVAL_POISSON, .parameter = {theta / (moment[i] - 1)}};
        const ei_added_stage stage = {.law = &services[i]};
        ei_lundberg found;
        CHECK(ei_lundberg_find(&found, EI_LOWER, &stage, &arrival, theta, &(ei_lattice){.sf = NULL}, NULL,
                               &none) == EI_OK);
        CHECK_RELATIVE(found.decay, theta, 1e-6);
        CHECK(found.log_scale <= -log(most[i]) && found.log_scale >= -log(most[i]) - 0.01);
    }
    ei_repetition_free(law);
}

static void test_no_bound(void) {
    const ei_service service = {.kind = EI_SERVICE_EXPONENTIAL, .time = 1};
    const ei_added_stage endless = {.law = &service}, constant = {.again = 1};
    double sf[2] = {1, 0.5};
    const ei_upper_law slow = {.lattice = {1, 2, sf}, .log_scale = 0, .decay = 0.1};
    ei_lundberg found;
    const ei_lattice nothing = {.sf = NULL};
    CHECK(ei_lundberg_find(&found, EI_UPPER, &endless, &poisson, 0.2, &nothing, NULL, &slow) ==
          EI_ERR_ACCURACY);
    CHECK(ei_lundberg_find(&found, EI_UPPER, &constant, &poisson, md1_exponent(0.8), &nothing, NULL, &slow) ==
          EI_ERR_ACCURACY);
    /* Far from the exponent. */
    CHECK(ei_lundberg_find(&found, EI_UPPER, &constant, &poisson, 2, &nothing, NULL, &none) ==
          EI_ERR_ACCURACY);
    CHECK(ei_lundberg_find(&found, EI_LOWER, &constant, &poisson, 0.1, &nothing, NULL, &none) ==
          EI_ERR_ACCURACY);
}

static void test_failures(void) {
    const ei_added_stage stage = {.again = 1};
    const double theta = md1_exponent(0.8);
    double sf[2] = {1, 1e-30}, law[64];
    const ei_upper_law before = {.lattice = {1, 2, sf}, .log_scale = -60, .decay = 5 * theta};
    ei_lundberg found;
    for (int j = 0; j < 64; j++)
        law[j] = exp(-theta * j);
    long alive = failing_malloc_alive();
    for (long k = 1; k < 4; k++) {
        failing_malloc_arm(k);
        int status = ei_lundberg_find(&found, EI_UPPER, &stage, &poisson, theta, &(ei_lattice){1, 64, law},
                                      NULL, &before),
            fired = failing_malloc_fired();
        failing_malloc_arm(0);
        CHECK(failing_malloc_alive() == alive && status == (fired ? EI_ERR_NO_MEMORY : EI_OK) &&
              fired == (k < 3));
    }
}

int main(void) {
    test_constant_services();
    test_times_before();
    test_exponential_services();
    test_overshoot();
    test_no_bound();
    test_failures();
    return check_report();
}
