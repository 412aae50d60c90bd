/* Two exponential servers behind renewal arrivals: Poisson ones, where the law is a sum of exponential times;
 * periodic ones of which no two meet; equal and nearly equal rates; ends beyond a lattice. */
#include "inputs.h"

#include "edgeinfer/two_exponentials.h"

static const ei_arrival poisson = {.kind = EI_ARRIVAL_POISSON, .parameter = {1}},
                        periodic = {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {1}},
                        gamma = {.kind = EI_ARRIVAL_GAMMA, .parameter = {1, 5}};

static void find(double one, double other, const ei_arrival *arrival, ei_two_exponentials ends[2]) {
    const ei_service first = exponential(one), second = exponential(other);
    for (int end = EI_LOWER; end <= EI_UPPER; end++)
        CHECK(ei_two_exponentials_init(&ends[end], (ei_end)end, &first, &second, arrival) == EI_OK);
}

static void check_around(const ei_two_exponentials ends[2], double time, double exact, double width) {
    const double lower = ei_two_exponentials_sf(&ends[EI_LOWER], time),
                 upper = ei_two_exponentials_sf(&ends[EI_UPPER], time);
    CHECK(lower <= exact * (1 + 1e-12) && exact <= upper * (1 + 1e-12) && upper <= width * lower);
}

/* Independent sojourn times of rates 1 / time - 1. */
static void test_poisson(void) {
    static const double times[][2] = {{0.8, 0.8}, {0.5, 0.4}, {0.2, 0.95}, {0.99, 0.99}};
    for (int i = 0; i < 4; i++) {
        const double a = 1 / times[i][0] - 1, b = 1 / times[i][1] - 1;
        ei_two_exponentials ends[2];
        find(times[i][0], times[i][1], &poisson, ends);
        for (double time = 0; time < 25 / fmin(a, b); time += 3 / fmin(a, b))
            check_around(ends, time,
                         a == b ? (1 + a * time) * exp(-a * time)
                                : (b * exp(-a * time) - a * exp(-b * time)) / (b - a),
                         1 + 2e-7);
    }
}

/* Of services of 0.01 s every second a request meets another in e^{-100} of cases: two services' sum. */
static void test_alone(void) {
    ei_two_exponentials ends[2];
    find(0.01, 0.01, &periodic, ends);
    for (double time = 0; time < 0.3; time += 0.03)
        check_around(ends, time, (1 + 100 * time) * exp(-100 * time), 1 + 1e-8);
    find(0.9, 0.9, &periodic, ends);
    check_around(ends, 0, 1, 1 + 1e-8);
}

/* Rates that come nearer to each other, either one first. */
static void test_nearly_equal(void) {
    const ei_arrival *arrivals[] = {&periodic, &gamma};
    for (int a = 0; a < 2; a++) {
        ei_two_exponentials equal[2], ends[2];
        find(0.7, 0.7, arrivals[a], equal);
        for (double less = 1e-2; less > 1e-16; less /= 10)
            for (double time = 1; time < 1e3; time *= 3) {
                double middle[2];
                find(0.7 * (1 - less), 0.7, arrivals[a], ends);
                for (int end = EI_LOWER; end <= EI_UPPER; end++) {
                    middle[end] = ei_two_exponentials_sf(&ends[end], time);
                    CHECK(middle[end] <= ei_two_exponentials_sf(&equal[EI_UPPER], time) * (1 + 1e-6));
                    /* Nearer by far than time times the decay. */
                    if (less < 1e-6 && middle[end] > 0)
                        CHECK_RELATIVE(middle[end], ei_two_exponentials_sf(&equal[end], time),
                                       2e-6 * (1 + time));
                }
                find(0.7, 0.7 * (1 - less), arrivals[a], ends);
                for (int end = EI_LOWER; end <= EI_UPPER; end++)
                    CHECK(ei_two_exponentials_sf(&ends[end], time) == middle[end]);
            }
    }
}

/* The same a time between arrivals later: of Poisson ones, exactly; of periodic ones, the law itself. */
static void test_behind(void) {
    static const double times[][2] = {{0.8, 0.8}, {0.5, 0.4}, {0.2, 0.95}};
    for (int i = 0; i < 3; i++) {
        const double a = 1 / times[i][0] - 1, b = 1 / times[i][1] - 1;
        ei_two_exponentials ends[2];
        for (double time = 0; time < 20 / fmin(a, b); time += 3 / fmin(a, b)) {
            find(times[i][0], times[i][1], &poisson, ends);
            const double one = exp(-a * time) / (1 + a), other = exp(-b * time) / (1 + b),
                         exact =
                             a == b ? (1 + a * (time + 1 / (1 + a))) * one : (b * one - a * other) / (b - a),
                         lower = ei_two_exponentials_behind(&ends[EI_LOWER], &poisson, time);
            CHECK(lower <= exact && exact <= lower * (1 + 1e-7));
            find(times[i][0], times[i][1], &periodic, ends);
            CHECK_RELATIVE(ei_two_exponentials_behind(&ends[EI_LOWER], &periodic, time),
                           ei_two_exponentials_sf(&ends[EI_LOWER], time + 1), 1e-7);
        }
    }
}

static void test_beyond(void) {
    const ei_arrival *arrivals[] = {&poisson, &periodic, &gamma};
    for (int a = 0; a < 3; a++)
        for (double other = 0.1; other < 1; other += 0.4) {
            ei_two_exponentials ends[2];
            double log_scale, decay;
            find(0.9, other, arrivals[a], ends);
            CHECK(ei_two_exponentials_beyond(&ends[EI_UPPER], 50, &log_scale, &decay) == EI_OK);
            for (double time = 50; time < 500; time += 9)
                CHECK(ei_two_exponentials_sf(&ends[EI_UPPER], time) <= exp(log_scale - decay * time));
            CHECK(ei_two_exponentials_sf(&ends[EI_LOWER], -1) == 1 &&
                  ei_two_exponentials_sf(&ends[EI_UPPER], -1) == 1);
            CHECK(ei_two_exponentials_sf(&ends[EI_LOWER], 1e6) == 0 &&
                  ei_two_exponentials_sf(&ends[EI_UPPER], 1e6) > 0);
        }
}

int main(void) {
    test_poisson();
    test_alone();
    test_nearly_equal();
    test_behind();
    test_beyond();
    return check_report();
}
