/* Stages added to a chain, against the same walk iterated job by job; every allocation failing in turn. */
#include "check.h"
#include "failing_malloc.h"
#include "sweep.h"

#include "edgeinfer/bracket.h"
#include "edgeinfer/chain.h"
#include "edgeinfer/walk.h"

#include <stdlib.h>

enum { POINTS = 400, JOBS = 4000, AHEAD = 60 };
static const ei_monitor quiet = {NULL, NULL};

/* P(sup over the first JOBS jobs of A_i + C'_i > j), services of the law at points, by m_j = a v_j + q
 * m_{j+1} for Poisson arrivals and m_j = v_{j + ahead} for periodic ones; v = 0 beyond the lattice, so never
 * too large.
 */
static void iterate(const double *service, size_t cells, const double *chance, double a, size_t ahead,
                    double *v) {
    static double u[POINTS];
    for (size_t j = 0; j < POINTS; j++)
        v[j] = 0;
    for (int job = 0; job < JOBS; job++) {
        double m = 0;
        for (size_t j = POINTS; j-- > 0;) {
            m = ahead == 0 ? a * v[j] + (1 - a) * m : j + ahead < POINTS ? v[j + ahead] : 0;
            u[j] = chance[j] + (1 - chance[j]) * m;
        }
        for (size_t j = 0; j < POINTS; j++) {
            v[j] = j < cells ? service[j] : 0;
            for (size_t l = 0; l <= j && l < cells; l++)
                v[j] += ((l == 0 ? 1 : service[l - 1]) - service[l]) * u[j - l];
        }
    }
}

static void test_against_iteration(void) {
    static const double samples[] = {0.1, 0.3, 0.3, 0.7, 1.1, 1.9};
    static double before_sf[POINTS], chance[POINTS], v[POINTS];
    ei_service service = {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 6};
    ei_added_stage stage = {&service, 0.25, 0}, delay = {NULL, 0, 0.75};
    double step = 0.05, rate = 0.6;
    for (size_t j = 0; j < POINTS; j++)
        before_sf[j] = 0.8 * exp(-0.6 * (double)j * step);
    ei_upper_law before = {{step, POINTS, before_sf}, log(0.8), 0.6, 0}, empty = {.decay = 0}, law;
    for (int with = 0; with < 2; with++) {
        for (size_t j = 0; j < POINTS; j++)
            chance[j] = with ? before_sf[j] : 0;
        ei_lattice fine;
        CHECK(ei_lattice_service(&fine, &service, 0.25, step, 42, EI_UPPER) == EI_OK);
        CHECK(ei_add_stage_poisson(&law, with ? &before : &empty, &stage, rate, step, POINTS, quiet) ==
              EI_OK);
        iterate(fine.sf, 42, chance, -expm1(-rate * step), 0, v);
        for (size_t j = 0; j < POINTS / 4; j++) {
            CHECK(law.lattice.sf[j] >= v[j]);
            CHECK_RELATIVE(law.lattice.sf[j], v[j], 3e-3);
        }
        ei_upper_law_free(&law);
        ei_lattice_free(&fine);
        CHECK(ei_lattice_service(&fine, &service, 0, step, 42, EI_UPPER) == EI_OK);
        CHECK(ei_add_stage_periodic(&law, with ? &before : &empty, &stage, 3, AHEAD, POINTS, quiet) == EI_OK);
        iterate(fine.sf, 42, chance, 0, AHEAD, v);
        for (size_t j = 0; j < law.lattice.count && j < POINTS / 4; j++) {
            CHECK(law.lattice.sf[j] >= v[j] * (1 - 1e-12));
            CHECK(law.lattice.sf[j] <= v[j] * 1.01 + 1e-7);
        }
        ei_upper_law_free(&law);
        ei_lattice_free(&fine);
    }
    /* A delay of 15 points: its last service is left out. */
    CHECK(ei_add_stage_poisson(&law, &before, &delay, rate, step, POINTS, quiet) == EI_OK);
    double fixed[16];
    for (size_t j = 0; j < 16; j++)
        fixed[j] = j < 15;
    iterate(fixed, 16, before_sf, -expm1(-rate * step), 0, v);
    for (size_t j = 0; j + 15 < POINTS / 4; j++) {
        CHECK(law.lattice.sf[j] >= v[j + 15]);
        CHECK_RELATIVE(law.lattice.sf[j], v[j + 15], 3e-3);
    }
    ei_upper_law_free(&law);
}

/* M/M/1 and D/M/1 have exponential sojourn times; rounding costs some steps' worth. */
static void test_exact(void) {
    ei_service service = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.8};
    ei_added_stage stage = {&service, 0, 0};
    ei_upper_law empty = {.decay = 0}, law;
    CHECK(ei_add_stage_poisson(&law, &empty, &stage, 0.25, 0.0025, 8000, quiet) == EI_OK);
    for (double time = 0.5; time < 12; time += 0.5) {
        double exact = exp(-(1 / 0.8 - 0.25) * time);
        CHECK(ei_upper_law_sf(&law, time) >= exact);
        CHECK(ei_upper_law_sf(&law, time) <= exact * 1.03);
    }
    ei_upper_law_free(&law);
    /* sigma = e^{-(1 - sigma) period / mean} */
    double sigma = 0.5;
    for (int i = 0; i < 200; i++)
        sigma = exp(-(1 - sigma) * 2.4 / 0.8);
    CHECK(ei_add_stage_periodic(&law, &empty, &stage, 2.4, 800, 6000, quiet) == EI_OK);
    for (double time = 0.5; time < 9; time += 0.5) {
        double exact = exp(-(1 - sigma) / 0.8 * time);
        CHECK(ei_upper_law_sf(&law, time) >= exact);
        CHECK(ei_upper_law_sf(&law, time) <= exact * 1.03);
    }
    ei_upper_law_free(&law);
    /* Too slow for the arrivals. */
    CHECK(ei_add_stage_poisson(&law, &empty, &stage, 1.3, 0.01, 100, quiet) == EI_ERR_UNSTABLE);
    CHECK(ei_add_stage_periodic(&law, &empty, &stage, 0.7, 100, 100, quiet) == EI_ERR_UNSTABLE);
    ei_added_stage delay = {NULL, 0, 0.9};
    CHECK(ei_add_stage_periodic(&law, &empty, &delay, 0.7, 100, 100, quiet) == EI_ERR_UNSTABLE);
    CHECK(ei_add_stage_periodic(&law, &empty, &delay, 0.9, 100, 100, quiet) == EI_OK &&
          law.lattice.sf == NULL);
}

static int stop(void *context) {
    (void)context;
    return 1;
}

static int call(ei_monitor monitor) {
    static const double samples[] = {0.2, 0.3, 0.35};
    ei_service stages[] = {{.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 3},
                           {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.5},
                           {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.2}};
    double rate = 1, deadline = 5, lower, upper;
    uint8_t lower_method, upper_method;
    int status = ei_violation_bracket(stages, 3, 1, &rate, &deadline, &lower, &upper, &lower_method,
                                      &upper_method, monitor);
    CHECK(status != EI_OK || (lower > 0 && lower <= upper && upper < 1.3 * lower));
    return status;
}

static void test_failures(void) {
    long before = failing_malloc_alive(), k = 1;
    CHECK(call(quiet) == EI_OK);
    CHECK(call((ei_monitor){stop, NULL}) == EI_ERR_INTERRUPTED);
    for (; k < 2000; k += k < 10 ? 1 : 17) {
        failing_malloc_arm(k);
        int status = call(quiet), fired = failing_malloc_fired();
        failing_malloc_arm(0);
        CHECK(failing_malloc_alive() == before);
        CHECK(status == (fired ? EI_ERR_NO_MEMORY : EI_OK));
        if (!fired)
            break;
    }
    CHECK(k > 20 && k < 2000);
}

static int periodic(const ei_service *stages, size_t count) {
    const double rate = 1, deadline = 1.5;
    double lower, upper;
    uint8_t lower_method, upper_method;
    return ei_periodic_bracket(stages, count, 1, &rate, &deadline, &lower, &upper, &lower_method,
                               &upper_method, quiet);
}

static void test_periodic_arrivals(void) {
    const double samples[] = {0.2, 0.4, 1.1}, rate[] = {1, 2}, deadline[] = {1, 1};
    const ei_service stages[] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = 0.6},
                                 {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 3},
                                 {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.3}};
    double lower[2], upper[2];
    uint8_t method[2][2];
    sweep_allocations(periodic, "ei_periodic_bracket", stages, 3);
    CHECK(ei_periodic_bracket(stages, 3, 2, rate, deadline, lower, upper, method[0], method[1], quiet) ==
          EI_OK);
    CHECK(lower[0] > 0.9 && lower[0] <= upper[0] && lower[1] == 1 && upper[1] == 1);
    CHECK(method[0][1] == EI_BRACKET_UNSTABLE && method[1][1] == EI_BRACKET_UNSTABLE);
    CHECK(ei_periodic_bracket(stages, 0, 1, rate, deadline, lower, upper, method[0], method[1], quiet) ==
          EI_ERR_EMPTY);
    const double never = NAN;
    CHECK(ei_periodic_bracket(stages, 3, 1, rate, &never, lower, upper, method[0], method[1], quiet) ==
          EI_ERR_DOMAIN);
    CHECK(ei_periodic_bracket(stages, 3, 1, &never, deadline, lower, upper, method[0], method[1], quiet) ==
          EI_ERR_DOMAIN);
}

int main(void) {
    test_against_iteration();
    test_exact();
    test_failures();
    CHECK(failing_malloc_alive() == 0);
    test_periodic_arrivals();
    return check_report();
}
