/* Stages added to a chain, against the same walk iterated job by job and against exponential sojourn times;
 * wrong inputs, interruption, every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/walk.h"

enum { POINTS = 400, JOBS = 4000, AHEAD = 60 };

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
    ei_added_stage stage = {&service, 0.25, 0, 0}, delay = {NULL, 0, 0.75, 0};
    double step = 0.05, rate = 0.6;
    for (size_t j = 0; j < POINTS; j++)
        before_sf[j] = 0.8 * exp(-0.6 * (double)j * step);
    ei_upper_law before = {.lattice = {step, POINTS, before_sf}, .log_scale = log(0.8), .decay = 0.6},
                 empty = {.decay = 0}, law;
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
    ei_added_stage stage = {&service, 0, 0, 0};
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
    ei_added_stage delay = {NULL, 0, 0.9, 0};
    CHECK(ei_add_stage_periodic(&law, &empty, &delay, 0.7, 100, 100, quiet) == EI_ERR_UNSTABLE);
    CHECK(ei_add_stage_periodic(&law, &empty, &delay, 0.9, 100, 100, quiet) == EI_OK &&
          law.lattice.sf == NULL);
}

/* Two exponential laws of one decay on fine lattices: P(Y + Z > t) = (1 + d t) e^{-d t}, rounded up by two
 * steps at most; beyond the lattice as the law goes on. */
static void test_reading(void) {
    enum { FINE = 4000 };
    static double sf[FINE];
    const double step = 0.001, decay = 2;
    for (int j = 0; j < FINE; j++)
        sf[j] = exp(-decay * j * step);
    const ei_upper_law law = {.lattice = {step, FINE, sf}, .decay = decay}, empty = {.decay = 0};
    CHECK(ei_upper_law_sf(&law, -1) == 1 && ei_upper_law_sf(&empty, 0) == 0);
    CHECK_RELATIVE(ei_upper_law_sf(&law, 8), exp(-16), 1e-14);
    for (double time = 0.5; time < 3.5; time += 0.5) {
        double sum = ei_upper_law_plus_sf(&law, &law, time), early = time - 2.001 * step;
        CHECK(sum >= (1 + decay * time) * exp(-decay * time));
        CHECK(sum <= (1 + decay * early) * exp(-decay * early));
        double alone = ei_upper_law_plus_sf(&law, &empty, time);
        CHECK(alone >= exp(-decay * time) * (1 - 1e-14) && alone <= exp(-decay * (time - 1.001 * step)));
    }
}

static int call(int periodic, ei_monitor monitor) {
    static double before_sf[POINTS];
    for (size_t j = 0; j < POINTS; j++)
        before_sf[j] = 0.8 * exp(-0.6 * (double)j * 0.05);
    const ei_service service = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    const ei_upper_law before = {.lattice = {0.05, POINTS, before_sf}, .log_scale = log(0.8), .decay = 0.6};
    const ei_added_stage stage = {&service, 0, 0, 0};
    ei_upper_law law;
    /* Long enough to ask the monitor. */
    int status = periodic ? ei_add_stage_periodic(&law, &before, &stage, 3, 60, POINTS, monitor)
                          : ei_add_stage_poisson(&law, &before, &stage, 0.6, 0.05, 5000, monitor);
    CHECK((status == EI_OK) == (law.lattice.sf != NULL));
    ei_upper_law_free(&law);
    return status;
}

static int call_poisson(const ei_service *stages, size_t count) {
    (void)stages;
    (void)count;
    return call(0, quiet);
}

static int call_periodic(const ei_service *stages, size_t count) {
    (void)stages;
    (void)count;
    return call(1, quiet);
}

/* An exponential stage: alone it is e^{-nu y}, and behind others below the lattice's end, which rounds
 * services and interarrival times, but not by more than that does. */
static void test_exponential_stage(void) {
    static double before_sf[POINTS];
    const double time = 0.6, rate = 1, nu = 1 / time - rate, step = 0.05;
    const ei_service service = {.kind = EI_SERVICE_EXPONENTIAL, .time = time};
    const ei_added_stage stage = {&service, 0, 0, 0};
    for (size_t j = 0; j < POINTS; j++)
        before_sf[j] = 0.9 * exp(-1.5 * (double)j * step);
    const ei_upper_law before = {.lattice = {step, POINTS, before_sf}, .log_scale = log(0.9), .decay = 1.5},
                       empty = {.decay = 0};
    ei_upper_law law, rounded;
    CHECK(ei_add_stage_exponential(&law, &empty, time, rate, step, POINTS) == EI_OK);
    for (size_t j = 0; j < POINTS; j++) {
        CHECK(law.lattice.sf[j] >= fmin(exp(-nu * (double)j * step), 1));
        CHECK_RELATIVE(law.lattice.sf[j], exp(-nu * (double)j * step), 1e-7);
    }
    ei_upper_law_free(&law);
    const size_t count = 25 * (size_t)POINTS;
    CHECK(ei_add_stage_exponential(&law, &before, time, rate, step / 50, count) == EI_OK);
    CHECK(ei_add_stage_poisson(&rounded, &before, &stage, rate, step / 50, count, quiet) == EI_OK);
    for (size_t j = 0; j < count; j++) {
        CHECK(law.lattice.sf[j] <= 1.001 * rounded.lattice.sf[j]);
        CHECK(law.lattice.sf[j] >= 0.98 * rounded.lattice.sf[j]);
    }
    ei_upper_law_free(&law);
    ei_upper_law_free(&rounded);
}

/* A law that says nothing up to far beyond the lattice: no bound, rather than one of the digits that cancel.
 */
static void test_a_law_of_no_use(void) {
    static double ones[POINTS];
    const ei_service service = {.kind = EI_SERVICE_EXPONENTIAL, .time = 1};
    const ei_added_stage stage = {&service, 0, 0, 0};
    ei_upper_law law;
    for (size_t j = 0; j < POINTS; j++)
        ones[j] = 1;
    for (double log_scale = 5; log_scale < 700; log_scale *= 2) {
        const ei_upper_law before = {.lattice = {0.05, POINTS, ones}, .log_scale = log_scale, .decay = 1e-3};
        int status = ei_add_stage_poisson(&law, &before, &stage, 0.6, 0.05, POINTS, quiet);
        CHECK(status == EI_ERR_ACCURACY || law.lattice.sf[POINTS - 1] >= 0.999);
        ei_upper_law_free(&law);
    }
}

/* Constant services little shorter than their period: the product factor by factor, each the law at the point
 * before. */
static void test_a_small_fall(void) {
    static double before_sf[POINTS];
    const double step = 0.05;
    for (size_t j = 0; j < POINTS; j++)
        before_sf[j] = 0.8 * exp(-2.0 * (double)j * step);
    const ei_upper_law before = {.lattice = {step, POINTS, before_sf}, .log_scale = log(0.8), .decay = 2};
    for (double fall = 3e-4; fall < 0.5; fall *= 3.7) {
        const ei_added_stage delay = {NULL, 0, 3 - fall, 0};
        ei_upper_law law;
        CHECK(ei_add_stage_periodic(&law, &before, &delay, 3, 60, POINTS, quiet) == EI_OK);
        for (size_t j = 0; j < POINTS / 4; j += 7) {
            double sum = 0;
            for (double i = 0; i * fall < 30; i++) {
                const double cell = floor(((double)j * step + i * fall) / step + 1e-9);
                sum += cell < POINTS ? log1p(-before_sf[(size_t)cell]) : 0;
            }
            CHECK(law.lattice.sf[j] >= -expm1(sum) * (1 - 1e-9));
            CHECK_RELATIVE(law.lattice.sf[j], -expm1(sum), 1e-3);
        }
        ei_upper_law_free(&law);
    }
}

int main(void) {
    int polled = 0;
    test_a_small_fall();
    test_against_iteration();
    test_exact();
    test_reading();
    test_a_law_of_no_use();
    test_exponential_stage();
    CHECK(call(0, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED);
    CHECK(call(1, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED);
    CHECK(polled == 2);
    ei_upper_law law, empty = {.decay = 0};
    ei_added_stage stage = {NULL, 0, 1, 0};
    CHECK(ei_add_stage_poisson(&law, &empty, &stage, 0.5, 0.01, 0, quiet) == EI_ERR_TOO_LARGE);
    CHECK(ei_add_stage_poisson(&law, &empty, &stage, 0.5, 1e-9, 10, quiet) == EI_ERR_TOO_LARGE);
    sweep_allocations(call_poisson, "a stage with Poisson arrivals", NULL, 0);
    sweep_allocations(call_periodic, "a stage with periodic arrivals", NULL, 0);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
