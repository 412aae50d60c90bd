/* Walks behind arrivals that are not Poisson: M/M/1 between their ends, every allocation failing in turn, a
 * call that is stopped.
 */
#include "inputs.h"

#include "edgeinfer/bound.h"
#include "edgeinfer/geometric.h"
#include "edgeinfer/lindley.h"
#include "edgeinfer/modulated.h"

enum { COUNT = 512 };
static const double step = 0.05;

static int call_walks(const ei_service *stages, size_t count) {
    const ei_arrival arrival = {.kind = EI_ARRIVAL_GAMMA, .parameter = {1, 0.5}};
    ei_upper_law none = {.decay = 0}, first = {.decay = 0}, second = {.decay = 0};
    ei_lattice lower = {.sf = NULL};
    const ei_added_stage stage[] = {{&stages[0], 0.1, 0, 0}, {NULL, 0, 8 * step, 0}};
    int status = ei_add_stage_lindley(&first, &none, &stage[0], &arrival, step, 64, quiet);
    if (status == EI_OK)
        status = ei_add_stage_lindley(&second, &first, &stage[count > 0], &arrival, step, 64, quiet);
    if (status == EI_OK)
        status = ei_lindley_sojourn_lower(&lower, NULL, &stage[0], &arrival, step, 64, quiet);
    ei_upper_law_free(&first);
    ei_upper_law_free(&second);
    ei_lattice_free(&lower);
    return status;
}

/* Quiet and busy times, at the rate 1 / s. */
static const double phase_rates[] = {0.5, 3}, leave[] = {-0.1, 0.1, 0.4, -0.4}, share[] = {0.8, 0.2};
static const ei_arrival quiet_and_busy = {.kind = EI_ARRIVAL_MARKOV_MODULATED,
                                          .count = 2,
                                          .rates = phase_rates,
                                          .generator = leave,
                                          .stationary = share};

static int call_modulated(const ei_service *stages, size_t count) {
    const double rate = 1, deadline = 20;
    const ei_added_stage stage = {&stages[0], 0, 0, 0};
    const ei_upper_law none = {.decay = 0};
    ei_upper_law upper = {.decay = 0};
    double log_bound, theta;
    int status = ei_violation_bound(stages, count, EI_BOUND_LUNDBERG, &quiet_and_busy, 1, 1, &rate, &deadline,
                                    &log_bound, &theta, quiet);
    if (status == EI_OK)
        status = ei_add_stage_lindley(&upper, &none, &stage, &quiet_and_busy, step, 64, quiet);
    ei_upper_law_free(&upper);
    return status;
}

/* One phase, and phases that never change, are Poisson; the matrix gives 1 / (1 - e^kappa), and its
 * derivative. */
static void test_paths(void) {
    const double rates[] = {1.5, 1.5}, theta = 0.2, cumulant[] = {0.08, 0.03}, slope[] = {0.5, 0.2};
    const ei_arrival process = {.kind = EI_ARRIVAL_MARKOV_MODULATED,
                                .count = 2,
                                .rates = rates,
                                .generator = leave,
                                .stationary = share};
    double exact = 0, change = 0, value, derivative, eigenvector[EI_ARRIVAL_PHASES];
    for (int k = 0; k < 2; k++) {
        double growth = exp(cumulant[k]) * 1.5 / (1.5 + theta);
        exact -= log(1 - growth);
        change += growth / (1 - growth) * (slope[k] - 1 / (1.5 + theta));
    }
    CHECK(ei_modulated_paths(&process, theta, 2, cumulant, slope, NULL, &value, &derivative) == EI_OK);
    CHECK_RELATIVE(value, exact, 1e-11);
    CHECK_RELATIVE(derivative, change, 1e-10);
    CHECK_RELATIVE(ei_modulated_exponent(&process, theta, eigenvector, NULL), log1p(theta / 1.5), 1e-13);
    /* The derivative is that of the value where phases and an end matter, too. */
    const double end[] = {0.3, 0.1}, little = 1e-5;
    double side[2], unused, moved[2];
    CHECK(ei_modulated_paths(&quiet_and_busy, theta, 2, cumulant, slope, end, &value, &derivative) == EI_OK);
    for (int i = 0; i < 2; i++) {
        double by = i == 0 ? -little : little;
        for (int k = 0; k < 2; k++)
            moved[k] = cumulant[k] + by * slope[k];
        CHECK(ei_modulated_paths(&quiet_and_busy, theta + by, 2, moved, slope, end, &side[i], &unused) ==
              EI_OK);
    }
    CHECK_RELATIVE((side[1] - side[0]) / (2 * little), derivative, 1e-7);
    /* Too much work. */
    const double heavy[] = {1, 0.03};
    CHECK(ei_modulated_paths(&process, theta, 2, heavy, slope, NULL, &value, &derivative) == EI_OK &&
          isinf(value));
}

/* Phases of two rates always, neighbours in any order of three; not those gone through in turn, of which the
 * busiest is followed by the quietest. */
static void test_monotone(void) {
    const double three[] = {1, 3, 0.5}, even[] = {1.0 / 3, 1.0 / 3, 1.0 / 3},
                 near[] = {-0.5, 0.2, 0.3, 0.2, -0.2, 0, 0.3, 0, -0.3},
                 turns[] = {-0.2, 0.2, 0, 0, -0.2, 0.2, 0.2, 0, -0.2};
    ei_arrival process = {.kind = EI_ARRIVAL_MARKOV_MODULATED,
                          .count = 3,
                          .rates = three,
                          .generator = near,
                          .stationary = even};
    CHECK(ei_modulated_is_monotone(&quiet_and_busy));
    CHECK(ei_modulated_is_monotone(&process));
    process.generator = turns;
    CHECK(!ei_modulated_is_monotone(&process));
    process.count = EI_ARRIVAL_PHASES + 1;
    CHECK(!ei_modulated_is_monotone(&process));
}

/* GI/M/1: the sojourn time is exponential of rate mu (1 - s), s = E e^{-mu (1 - s) t}, mu = 2; phases of one
 * rate are Poisson. */
static void test_exponential(void) {
    const double rates[] = {1, 1}, generator[] = {-0.1, 0.1, 0.3, -0.3}, stationary[] = {0.75, 0.25};
    const ei_arrival process[] = {{.kind = EI_ARRIVAL_ERLANG, .parameter = {1, 1}},
                                  {.kind = EI_ARRIVAL_HYPEREXPONENTIAL, .parameter = {0.5, 1, 1}},
                                  {.kind = EI_ARRIVAL_GAMMA, .parameter = {1, 1}},
                                  {.kind = EI_ARRIVAL_GAMMA, .parameter = {1, 0.3}},
                                  {.kind = EI_ARRIVAL_GAMMA, .parameter = {1, 5}},
                                  {.kind = EI_ARRIVAL_ERLANG, .parameter = {1, 4}},
                                  {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {1}},
                                  {.kind = EI_ARRIVAL_MARKOV_MODULATED,
                                   .count = 2,
                                   .rates = rates,
                                   .generator = generator,
                                   .stationary = stationary}};
    const ei_service queue = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    const ei_added_stage stage = {&queue, 0, 0, 0};
    const ei_upper_law none = {.decay = 0};
    for (size_t p = 0; p < sizeof process / sizeof *process; p++) {
        ei_upper_law upper;
        ei_lattice lower;
        CHECK(ei_add_stage_lindley(&upper, &none, &stage, &process[p], step, COUNT, quiet) == EI_OK);
        CHECK(ei_lindley_sojourn_lower(&lower, NULL, &stage, &process[p], step, COUNT, quiet) == EI_OK);
        /* The lattice is coarse beside a density that is infinite at 0. */
        const double width = process[p].kind == EI_ARRIVAL_GAMMA && process[p].parameter[1] > 1 ? 5 : 1.15;
        double root = 0.5, slope;
        for (int i = 0; i < 300; i++)
            root = exp(-ei_arrival_exponent(&process[p], 2 * (1 - root), &slope));
        const double decay = 2 * (1 - root);
        for (size_t j = 0; j < COUNT; j++) {
            double exact = exp(-decay * (double)j * step);
            CHECK(upper.lattice.sf[j] >= exact && lower.sf[j] <= exact);
            if (j < COUNT / 2)
                CHECK(upper.lattice.sf[j] <= width * lower.sf[j]);
        }
        CHECK(ei_upper_law_sf(&upper, 2 * COUNT * step) >= exp(-2 * COUNT * step * decay));
        ei_upper_law_free(&upper);
        ei_lattice_free(&lower);
    }
}

/* Services of 100 and, one in four, of 102 every 101: waits are those of a walk of steps of 1, geometric. */
static void test_less(void) {
    static const double samples[] = {100, 100, 100, 102};
    const ei_arrival arrival = {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {1}};
    const ei_service queue = {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 4};
    const ei_added_stage stage = {&queue, 0, 0, 100};
    const ei_upper_law none = {.decay = 0};
    ei_upper_law upper;
    ei_lattice lower;
    CHECK(ei_add_stage_lindley(&upper, &none, &stage, &arrival, 0.25, COUNT / 4, quiet) == EI_OK);
    CHECK(ei_lindley_sojourn_lower(&lower, NULL, &stage, &arrival, 0.25, COUNT / 4, quiet) == EI_OK);
    CHECK(fabs(upper.shift - 100) < 1e-9);
    for (size_t j = 2; j < upper.lattice.count / 2; j += 4) {
        const double least = (double)(j / 4 + 1),
                     exact = 0.75 * pow(3, -least) + 0.25 * pow(3, -fmax(least - 2, 0));
        CHECK(upper.lattice.sf[j] >= exact && upper.lattice.sf[j] <= 1.001 * exact);
        CHECK(lower.sf[j] <= exact && lower.sf[j] >= 0.999 * exact);
    }
    ei_upper_law_free(&upper);
    ei_lattice_free(&lower);
}

/* A lattice that ends far beyond what a service's table tells is as near the truth as others: to the second
 * order of its step, and once to the first. */
static void test_far(void) {
    const ei_arrival arrival = {.kind = EI_ARRIVAL_POISSON, .parameter = {1}};
    const ei_service queue = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    const ei_added_stage stage = {&queue, 0, 0, 0};
    const ei_upper_law none = {.decay = 0};
    for (size_t count = COUNT; count <= 4 * COUNT; count *= 2) {
        ei_upper_law upper;
        double least[4 * COUNT], worst = 0;
        CHECK(ei_add_stage_enclosed(&upper, least, &none, &stage, &arrival, step, count, quiet) == EI_OK);
        CHECK(upper.lattice.count >= COUNT && upper.lattice.count <= count);
        for (size_t j = 0; j < count; j++) {
            const double time = (double)j * step, exact = exp(-time);
            CHECK(ei_upper_law_sf(&upper, time) >= exact);
            if (exact > 1e-13 && j < upper.lattice.count / 2)
                worst = fmax(worst, upper.lattice.sf[j] / exact * exp(-time * step * step));
            if (j + 1 < upper.lattice.count)
                CHECK(least[j] <= upper.lattice.sf[j]);
        }
        CHECK(worst < 1 + step);
        ei_upper_law_free(&upper);
    }
}

/* Behind Poisson arrivals the stage behind an exponential one is in equilibrium, independent of R. */
static void test_behind_exponential(void) {
    const ei_arrival arrival = {.kind = EI_ARRIVAL_POISSON, .parameter = {1}};
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.7},
                     quick = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.4};
    const ei_added_stage random = {&quick, 0, 0, 0}, nothing = {NULL, 0, 0, 0};
    const double theta = 1 / 0.7 - 1, idle = 1 / 0.4 - 1;
    ei_lattice lower;
    CHECK(ei_geometric_behind(&lower, &slow, &arrival, &random, 0.04, 512, quiet) == EI_OK);
    for (size_t j = 0; j < 512; j++) {
        const double time = (double)j * 0.04, alone = exp(-theta * time),
                     exact = alone + 0.4 * theta / (idle - theta) * (alone - exp(-idle * time));
        CHECK(lower.sf[j] <= exact && (j < 128 || lower.sf[j] >= 0.97 * exact));
    }
    ei_lattice_free(&lower);
    CHECK(ei_geometric_behind(&lower, &slow, &arrival, &nothing, 0.04, 512, quiet) == EI_OK);
    for (size_t j = 0; j < 512; j++) {
        const double exact = exp(-theta * (double)j * 0.04);
        CHECK(lower.sf[j] <= exact && lower.sf[j] >= exact * (1 - 1e-9));
    }
    ei_lattice_free(&lower);
}

static int call_behind(const ei_service *stages, size_t count) {
    const ei_arrival arrival = {.kind = EI_ARRIVAL_ERLANG, .parameter = {1, 2}};
    const ei_added_stage behind = {&stages[count - 1], 0, 0, 0};
    ei_lattice lower;
    int status = ei_geometric_behind(&lower, &stages[0], &arrival, &behind, 0.1, 16, quiet);
    ei_lattice_free(&lower);
    return status;
}

static void test_what_has_no_bound(void) {
    const ei_arrival arrival = {.kind = EI_ARRIVAL_GAMMA, .parameter = {1, 0.5}};
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 1.1},
                     quick = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    const ei_upper_law none = {.decay = 0};
    ei_upper_law upper;
    int polled = 0;
    ei_added_stage stage = {&slow, 0, 0, 0};
    CHECK(ei_add_stage_lindley(&upper, &none, &stage, &arrival, step, 64, quiet) == EI_ERR_UNSTABLE);
    CHECK(upper.lattice.sf == NULL);
    stage.law = &quick;
    CHECK(ei_add_stage_lindley(&upper, &none, &stage, &arrival, 1e-9, 64, quiet) == EI_ERR_TOO_LARGE);
    CHECK(ei_add_stage_lindley(&upper, &none, &stage, &arrival, step, 64, (ei_monitor){stop, &polled}) ==
          EI_ERR_INTERRUPTED);
    CHECK(polled == 1 && upper.lattice.sf == NULL);
}

int main(void) {
    const ei_service stages[] = {{.kind = EI_SERVICE_EXPONENTIAL, .time = 0.4}};
    test_exponential();
    test_less();
    test_far();
    test_behind_exponential();
    sweep_allocations(call_behind, "behind an exponential stage", stages, 1);
    test_what_has_no_bound();
    test_paths();
    test_monotone();
    sweep_allocations(call_walks, "renewal", stages, 1);
    sweep_allocations(call_modulated, "modulated", stages, 1);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
