/* The walk of near-equal loads and its laws: orders that they must keep, wrong turns, failing allocations. */
#include "check.h"
#include "failing_malloc.h"

#include "edgeinfer/bracket.h"
#include "edgeinfer/joint.h"
#include "edgeinfer/joint_laws.h"

static int stop(void *context) {
    (void)context;
    return 1;
}

/* Mean and E (. - y)^+ of an idle time's lattice law and of the exponential one. */
static void test_idle_times(void) {
    for (double x = 0.02; x < 0.5; x *= 3) {
        for (int end = 0; end < 2; end++) {
            ei_joint_idle idle = ei_joint_idle_law(x, 1, (ei_end)end);
            double total = 0, mean = 0, mass = idle.rest;
            for (int i = 0; i < 20000; i++) {
                double here = i < 3 ? idle.mass[i] : mass;
                total += here;
                mean += here * i;
                CHECK(here >= 0);
                mass *= i < 3 ? 1 : idle.decay;
            }
            CHECK_RELATIVE(total, 1, 1e-12);
            CHECK_RELATIVE(mean, 1 / x, 1e-10);
            for (double y = 0; y < 12; y += 0.25) {
                double loss = 0;
                mass = idle.rest;
                for (int i = 0; i < 20000; i++) {
                    loss += (i < 3 ? idle.mass[i] : mass) * fmax(y - i, 0);
                    mass *= i < 3 ? 1 : idle.decay;
                }
                double exact = y + expm1(-x * y) / x;
                CHECK(end == EI_UPPER ? loss >= exact - 1e-12 : loss <= exact + 1e-12);
            }
        }
    }
}

/* Borel's law: P(N > n) from its own masses, by a mixture of so many parts. */
static void check_busy_periods(size_t parts) {
    for (double load = 0.02; load < 1; load += 0.12) {
        ei_joint_busy ends[2];
        CHECK(ei_joint_busy_init(&ends[0], load, parts, 400, parts * 6, EI_LOWER) == EI_OK);
        CHECK(ei_joint_busy_init(&ends[1], load, parts, 400, parts * 6, EI_UPPER) == EI_OK);
        double tail = 1;
        for (int n = 0; n < 60; n++) {
            for (int end = 0; end < 2; end++) {
                double sum = 0;
                for (size_t i = 0; i < ends[end].count; i++)
                    sum += ends[end].weight[i] * pow(ends[end].ratio[i], n);
                CHECK(end == EI_UPPER ? sum > tail - 1e-13 : sum < tail + 1e-13);
                if (n < 10)
                    CHECK_RELATIVE(sum, tail, 1e-6);
            }
            tail -= exp(-load * (n + 1) + n * log(load * (n + 1)) - lgamma(n + 2));
            if (tail < 1e-6)
                break;
        }
    }
}

static void test_busy_periods(void) {
    check_busy_periods(1);
    check_busy_periods(4);
}

/* All waits together are those of M/D/1: P(Q > 0) is the load, E Q = rate d^2 / (2 (1 - load)). Their masses
 * may begin below 0; errors are of second order in the cells. */
static void check_first_wait(double start, size_t cells) {
    const double rate = 0.5, d = 1, step = 0.1, near = 4 / (double)(cells * cells);
    double mass[400], all[2] = {0, 0}, mean[2] = {0, 0}, loss[2] = {0, 0}, tails[2][3] = {{0}};
    ei_joint_wait wait;
    CHECK(ei_joint_wait_init(&wait, EI_LOWER, rate, d, cells, 40, 1e-20) == EI_OK);
    for (size_t j = 1; j < 120; j++) {
        if (j > 1)
            ei_joint_wait_advance(&wait);
        for (int end = 0; end < 2; end++) {
            CHECK(ei_joint_wait_masses(&wait, (ei_end)end, start, step, 400, mass) == EI_OK);
            ei_joint_wait_add_tails(&wait, (ei_end)end, start, 1, 3, tails[end]);
            for (size_t i = 0; i < 400; i++) {
                all[end] += mass[i];
                mean[end] += mass[i] * (start + step * (double)i);
                loss[end] += mass[i] * fmax(start + step * (double)i, 0);
            }
        }
    }
    ei_joint_wait_free(&wait);
    const double exact_mean = rate / (2 * (1 - rate));
    CHECK(all[0] < rate * d + 1e-9 && all[1] > rate * d - 1e-9 && all[1] < (1 + near) * all[0]);
    CHECK(mean[0] < exact_mean + 1e-9 && mean[1] > exact_mean - 1e-9 && mean[1] < (1.002 + near) * mean[0]);
    CHECK(loss[0] < exact_mean + 1e-9 && loss[1] > exact_mean - 1e-9 && loss[1] < (1.002 + near) * loss[0]);
    ei_md1 law;
    CHECK(ei_md1_init(&law, rate, d, 10) == EI_OK);
    for (int k = 0; k < 3; k++) {
        double exact = ei_md1_waiting_sf(&law, fmax(start + k, 0));
        CHECK(tails[0][k] <= exact * (1 + 1e-9) && exact <= tails[1][k] * (1 + 1e-9) &&
              tails[1][k] < (1 + near) * tails[0][k]);
    }
    ei_md1_free(&law);
}

static void test_first_wait(void) {
    check_first_wait(0, 256);
    check_first_wait(-0.03, 256);
    check_first_wait(-0.0999, 256);
    check_first_wait(-0.03, 16);
}

/* Waits of more jobs than 20, on a law with room for them all or for few: no less than those of one number of
 * jobs after the other, and not far more. */
static void check_longer_waits(double end, double decay) {
    enum { JOBS = 20, POINTS = 300 };
    const double rate = 0.7, d = 1, step = 0.1;
    double mass[POINTS], longer[POINTS], loss[2][6] = {{0}};
    ei_joint_wait wait, whole;
    CHECK(ei_joint_wait_init(&wait, EI_UPPER, rate, d, 16, end, 1e-3) == EI_OK);
    CHECK(ei_joint_wait_init(&whole, EI_LOWER, rate, d, 16, 60, 0) == EI_OK);
    for (size_t j = 1; j < 300; j++) {
        if (j == JOBS)
            ei_joint_wait_longer_masses(&wait, decay, 0, step, POINTS, longer);
        CHECK(j <= JOBS || ei_joint_wait_masses(&whole, EI_LOWER, 0, step, POINTS, mass) == EI_OK);
        for (size_t i = 0; i < POINTS && j > JOBS; i++)
            for (size_t y = 0; y < 6; y++)
                loss[0][y] += mass[i] * fmax(step * (double)i - (double)y, 0);
        if (j < JOBS)
            ei_joint_wait_advance(&wait);
        ei_joint_wait_advance(&whole);
    }
    for (size_t i = 0; i < POINTS; i++)
        for (size_t y = 0; y < 6; y++)
            loss[1][y] += longer[i] * fmax(step * (double)i - (double)y, 0);
    for (size_t y = 0; y < 6; y++)
        CHECK(loss[0][y] < loss[1][y] && loss[1][y] < 16 * loss[0][y]);
    ei_joint_wait_free(&wait);
    ei_joint_wait_free(&whole);
}

static void test_longer_waits(void) {
    for (double decay = 0.3; decay < 0.6; decay += 0.1) {
        check_longer_waits(60, decay);
        check_longer_waits(16, decay);
    }
}

/* E [(X - y)^+; X <= most] of six services that spread less than a step, between two points of it: the
 * lattice laws keep their side at all y, on lattices that begin later, too. */
static void check_services(double start, size_t from, double most, ei_end end) {
    static const double samples[] = {1.02, 1.03, 1.04, 1.05, 1.07, 1.1};
    const ei_service service = {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 6};
    const double step = 0.23;
    ei_joint_service fine;
    ei_joint_law law;
    CHECK(ei_joint_service_init(&fine, &service, start, step, 20, 3, end) == EI_OK);
    const double point = step / (double)fine.fine, first = start + (double)(from * (fine.fine / 3)) * point;
    const size_t limit = isfinite(most) ? (size_t)((most - start) / point) : SIZE_MAX;
    CHECK(ei_joint_law_init(&law, &fine, from * (fine.fine / 3), limit, 1e-30) == EI_OK);
    for (double y = 0.5; y < 1.4; y += 0.01) {
        double loss = 0, exact = 0;
        for (size_t i = 0; i < law.count; i++)
            loss += law.mass[i] * fmax(first + step * (double)i - y, 0);
        for (size_t i = 0; i < 6; i++)
            exact += samples[i] <= most ? fmax(samples[i] - y, 0) / 6 : 0;
        CHECK(end == EI_UPPER ? loss > exact - 1e-12 : loss < exact + 1e-12);
    }
    ei_joint_law_free(&law);
    ei_joint_service_free(&fine);
}

static void test_services_within_a_step(void) {
    for (double start = -0.61; start < -0.2; start += 0.0437)
        for (size_t from = 0; from < 3; from++)
            for (int end = 0; end < 2; end++) {
                check_services(start, from, INFINITY, (ei_end)end);
                check_services(start, from, 1.06, (ei_end)end);
                /* Beyond the last point of the lattices that begin later. */
                check_services(start, from, start + 0.23 * 19.99, (ei_end)end);
            }
}

/* A service's lattice laws have its mean, but for the fine points, wherever their points are beside its least
 * value: queues at loads near 1 multiply what is missing. */
static void test_means_of_services(void) {
    static const double samples[] = {0.6, 0.9, 1.1, 1.4};
    const ei_service services[] = {{.kind = EI_SERVICE_EXPONENTIAL, .time = 1},
                                   {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 4}};
    const double step = 0.2;
    for (double start = -0.59; start < -0.2; start += 0.0137)
        for (int k = 0; k < 2; k++)
            for (int end = 0; end < 2; end++) {
                ei_joint_service fine;
                ei_joint_law law;
                double mean = 0, total = 0;
                CHECK(ei_joint_service_init(&fine, &services[k], start, step, 200, 1, (ei_end)end) == EI_OK);
                CHECK(ei_joint_law_init(&law, &fine, 0, SIZE_MAX, 1e-30) == EI_OK);
                for (size_t i = 0; i < law.count; i++) {
                    const int geometric = law.decay > 0 && i > law.regular;
                    law.mass[i] = geometric ? law.mass[i - 1] * law.decay : law.mass[i];
                    total += law.mass[i];
                    mean += law.mass[i] * (start + step * (double)i);
                }
                CHECK_RELATIVE(total, 1, 1e-8);
                CHECK(fabs(mean - 1) <= 1.01 * step / (double)fine.fine);
                CHECK(end == EI_UPPER ? mean > 1 - 1e-9 : mean < 1 + 1e-9);
                for (double y = 0; y < 3; y += 0.01) {
                    double loss = 0, exact = exp(-y);
                    for (size_t i = 0; i < law.count; i++)
                        loss += law.mass[i] * fmax(start + step * (double)i - y, 0);
                    for (size_t i = 0; i < 4 && k == 1; i++)
                        exact = (i > 0 ? exact : 0) + fmax(samples[i] - y, 0) / 4;
                    CHECK(end == EI_UPPER ? loss > exact - 1e-9 : loss < exact + 1e-9);
                }
                ei_joint_law_free(&law);
                ei_joint_service_free(&fine);
            }
}

/* The geometric law of exponential services, on lattices that end where they are still likely. */
static void test_exponential_services(void) {
    const ei_service service = {.kind = EI_SERVICE_EXPONENTIAL, .time = 1};
    for (int end = 0; end < 2; end++) {
        ei_joint_service fine;
        ei_joint_law law;
        CHECK(ei_joint_service_init(&fine, &service, -0.2, 0.2, 60, 1, (ei_end)end) == EI_OK);
        CHECK(ei_joint_law_init(&law, &fine, 0, SIZE_MAX, 1e-30) == EI_OK);
        CHECK(end == EI_UPPER ? law.decay >= exp(-0.2) : law.decay <= exp(-0.2));
        CHECK_RELATIVE(law.decay, exp(-0.2), 1e-4);
        ei_joint_law_free(&law);
        ei_joint_service_free(&fine);
    }
}

static int call(double d1, double d3, ei_monitor monitor, double ends[2]) {
    static const double samples[] = {0.7, 0.8, 0.9, 1, 1.1, 1.5};
    const ei_service stages[] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = d1},
                                 {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 6},
                                 {.kind = EI_SERVICE_DETERMINISTIC, .time = d3}};
    const double rate = 0.4, deadline = 7;
    uint8_t methods[2];
    return ei_violation_bracket(stages, 3, NULL, EI_EFFORT_TIGHT, 1, &rate, &deadline, &ends[0], &ends[1],
                                &methods[0], &methods[1], monitor);
}

/* More jobs in the first busy period than are followed, of steps of c that are not U's: 5.06e-3 by importance
 * sampling. */
static void test_long_busy_periods(void) {
    const ei_service stages[] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = 1.174},
                                 {.kind = EI_SERVICE_EXPONENTIAL, .time = 1.0574},
                                 {.kind = EI_SERVICE_DETERMINISTIC, .time = 1.1206}};
    const double rate = 0.7, deadline = 30, truth = 5.06e-3;
    double lower, upper;
    uint8_t methods[2];
    CHECK(ei_violation_bracket(stages, 3, NULL, EI_EFFORT_FAST, 1, &rate, &deadline, &lower, &upper,
                               &methods[0], &methods[1], (ei_monitor){NULL, NULL}) == EI_OK);
    CHECK(methods[1] == EI_BRACKET_JOINT && lower < truth && truth < upper && upper < 4 * truth);
    /* Without the walk ends are further apart, and hold the truth. */
    double light[2];
    CHECK(ei_violation_bracket(stages, 3, NULL, EI_EFFORT_LIGHT, 1, &rate, &deadline, &light[0], &light[1],
                               &methods[0], &methods[1], (ei_monitor){NULL, NULL}) == EI_OK);
    CHECK(methods[1] != EI_BRACKET_JOINT && light[0] <= lower && upper < light[1] && light[1] < 1);
}

/* Fewer rows than a constant stage has steps. */
static void test_few_rows(void) {
    static const double samples[] = {1.035, 1.04, 1.045, 1.05};
    const ei_service stages[] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = 1.1912},
                                 {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 4},
                                 {.kind = EI_SERVICE_DETERMINISTIC, .time = 1.1657}};
    const double rate = 0.3333, deadline = 11.6;
    double ends[2][2];
    uint8_t methods[2];
    for (int light = 0; light < 2; light++)
        CHECK(ei_violation_bracket(stages, 3, NULL, light ? EI_EFFORT_LIGHT : EI_EFFORT_TIGHT, 1, &rate,
                                   &deadline, &ends[light][0], &ends[light][1], &methods[0], &methods[1],
                                   (ei_monitor){NULL, NULL}) == EI_OK);
    CHECK(ends[1][0] <= ends[0][0] && ends[0][0] < ends[0][1] && ends[0][1] <= ends[1][1]);
    CHECK(ends[0][1] < 1.1 * ends[0][0]);
}

/* What is left of the deadline may fall, in a step or several, or never changes. */
static void test_second_stage_slower(void) {
    double ends[3][2];
    for (int i = 0; i < 3; i++) {
        CHECK(call(1, 1 + 0.03 * i, (ei_monitor){NULL, NULL}, ends[i]) == EI_OK);
        CHECK(ends[i][0] > 0 && ends[i][0] <= ends[i][1] && ends[i][1] < 1.1 * ends[i][0]);
    }
    CHECK(ends[0][0] < ends[1][1] && ends[1][0] < ends[2][1]);
}

static void check_failures(double d1, double d3) {
    long before = failing_malloc_alive(), k = 1;
    double ends[2];
    CHECK(call(d1, d3, (ei_monitor){stop, NULL}, ends) == EI_ERR_INTERRUPTED);
    for (; k < 3000; k += k < 6 ? 1 : k) {
        failing_malloc_arm(k);
        int status = call(d1, d3, (ei_monitor){NULL, NULL}, ends), fired = failing_malloc_fired();
        failing_malloc_arm(0);
        CHECK(failing_malloc_alive() == before);
        CHECK(status == (fired ? EI_ERR_NO_MEMORY : EI_OK));
        if (!fired)
            break;
    }
    CHECK(ends[0] > 0 && ends[0] <= ends[1] && ends[1] < 1.1 * ends[0]);
}

static void test_failures(void) {
    check_failures(1.1, 1);
    check_failures(1, 1.1);
    check_failures(1, 1);
}

int main(void) {
    test_idle_times();
    test_busy_periods();
    test_first_wait();
    test_longer_waits();
    test_services_within_a_step();
    test_means_of_services();
    test_exponential_services();
    test_long_busy_periods();
    test_few_rows();
    test_second_stage_slower();
    test_failures();
    return check_report();
}
