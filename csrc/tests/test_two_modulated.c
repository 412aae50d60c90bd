/* Exponential servers behind Markov-modulated arrivals: one, and two in a row, against the chain of the phase
 * and the numbers of jobs; Poisson arrivals in disguise; allocations failing; and the envelope alone. */
#include "failing_malloc.h"
#include "inputs.h"

#include "edgeinfer/envelope.h"
#include "edgeinfer/two_modulated.h"

enum { JOBS = 30, PHASES = 3 };

/* Quiet and busy times; phases in turn, of which one has no requests. The mean rate is 1. */
static const double bursts[] = {0.5, 3}, change[] = {-0.5, 0.5, 2, -2}, shares[] = {0.8, 0.2},
                    turns[] = {0, 7. / 6, 7. / 3}, circle[] = {-2, 2, 0, 0, -1, 1, 4, 0, -4},
                    thirds[] = {2. / 7, 4. / 7, 1. / 7}, same[] = {1, 1};
static const ei_arrival bursty = {.kind = EI_ARRIVAL_MARKOV_MODULATED,
                                  .count = 2,
                                  .rates = bursts,
                                  .generator = change,
                                  .stationary = shares},
                        turning = {.kind = EI_ARRIVAL_MARKOV_MODULATED,
                                   .count = 3,
                                   .rates = turns,
                                   .generator = circle,
                                   .stationary = thirds},
                        poisson = {.kind = EI_ARRIVAL_MARKOV_MODULATED,
                                   .count = 2,
                                   .rates = same,
                                   .generator = change,
                                   .stationary = shares};

/* The equilibrium of phase and jobs at both servers, by steps of the chain of all events. */
static void settle(const ei_arrival *arrival, const double rate[2], double state[PHASES][JOBS][JOBS]) {
    static double next[PHASES][JOBS][JOBS];
    const size_t n = arrival->count;
    double all = rate[0] + rate[1], most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, arrival->rates[i] - arrival->generator[i * n + i]);
    all += most;
    memset(state, 0, sizeof next);
    for (size_t i = 0; i < n; i++)
        state[i][0][0] = arrival->stationary[i];
    for (int step = 0; step < 1500; step++) {
        memset(next, 0, sizeof next);
        for (size_t i = 0; i < n; i++)
            for (size_t a = 0; a < JOBS; a++)
                for (size_t b = 0; b < JOBS; b++) {
                    const double mass = state[i][a][b] / all,
                                 stays = most - arrival->rates[i] + arrival->generator[i * n + i];
                    next[i][a][b] += stays * mass;
                    for (size_t j = 0; j < n; j++)
                        if (j != i)
                            next[j][a][b] += arrival->generator[i * n + j] * mass;
                    next[i][a + 1 < JOBS ? a + 1 : a][b] += arrival->rates[i] * mass;
                    next[i][a > 0 ? a - 1 : 0][a > 0 && b + 1 < JOBS ? b + 1 : b] += rate[0] * mass;
                    next[i][a][b > 0 ? b - 1 : 0] += rate[1] * mass;
                }
        memcpy(state, next, sizeof next);
    }
}

/* P(W > times), ascending: what a request meets, and a Poisson number of services of both servers. */
static void exact_sf(const ei_arrival *arrival, const double rate[2], size_t count, const double *times,
                     double *sf) {
    static double state[PHASES][JOBS][JOBS], left[JOBS + 1][2 * JOBS], next[JOBS + 1][2 * JOBS];
    const double all = rate[0] + rate[1];
    settle(arrival, rate, state);
    for (size_t a = 0; a <= JOBS; a++)
        for (size_t b = 0; b < 2 * JOBS; b++)
            left[a][b] = a + b > 0;
    for (size_t t = 0; t < count; t++)
        sf[t] = 0;
    for (int k = 0; k < 60 + 2 * all * times[count - 1]; k++) {
        double met = 0;
        for (size_t i = 0; i < arrival->count; i++)
            for (size_t a = 0; a < JOBS; a++)
                for (size_t b = 0; b < JOBS; b++)
                    met += arrival->rates[i] * state[i][a][b] * left[a + 1][b];
        for (size_t t = 0; t < count; t++)
            sf[t] += met * exp(k * log(all * times[t]) - all * times[t] - lgamma(k + 1.));
        for (size_t a = 0; a <= JOBS; a++)
            for (size_t b = 0; b < 2 * JOBS; b++)
                next[a][b] = (rate[0] * left[a > 0 ? a - 1 : 0][a > 0 && b + 1 < 2 * JOBS ? b + 1 : b] +
                              rate[1] * left[a][b > 0 ? b - 1 : 0]) /
                             all;
        memcpy(left, next, sizeof left);
    }
}

static void check_between(double lower, double exact, double upper, double error, double width) {
    CHECK(lower <= exact * (1 + error) && exact <= upper * (1 + error) && upper <= width * lower);
}

/* More than 30 jobs there are some 1e-9 of the time. */
static void test_chain_of_all(void) {
    static const double times[][2] = {{0.3, 0.3}, {0.4, 0.25}, {0.1, 0.35}};
    static const double deadlines[] = {0.3, 1, 3, 6};
    const ei_arrival *arrivals[] = {&bursty, &turning};
    for (int a = 0; a < 2; a++)
        for (int i = 0; i < 3; i++) {
            const double rate[] = {1 / times[i][0], 1 / times[i][1]};
            const ei_service one = exponential(times[i][0]), other = exponential(times[i][1]);
            double exact[4];
            ei_two_modulated ends[2];
            exact_sf(arrivals[a], rate, 4, deadlines, exact);
            for (int end = EI_LOWER; end <= EI_UPPER; end++)
                CHECK(ei_two_modulated_init(&ends[end], (ei_end)end, &one, &other, arrivals[a]) == EI_OK);
            for (int t = 0; t < 4; t++)
                check_between(ei_two_modulated_sf(&ends[EI_LOWER], deadlines[t]), exact[t],
                              ei_two_modulated_sf(&ends[EI_UPPER], deadlines[t]), 1e-8 / exact[t], 1.02);
        }
}

/* Neither end rises with the deadline, and both begin at 1. */
static void test_falls(void) {
    const ei_service one = exponential(0.6), other = exponential(0.7);
    for (int end = EI_LOWER; end <= EI_UPPER; end++) {
        ei_two_modulated law;
        double before = 1;
        CHECK(ei_two_modulated_init(&law, (ei_end)end, &one, &other, &bursty) == EI_OK);
        CHECK_RELATIVE(ei_two_modulated_sf(&law, 0), 1, 1e-9);
        for (double time = 1e-3; time < 60; time *= 1.05) {
            const double value = ei_two_modulated_sf(&law, time);
            CHECK(value <= before && value > 0);
            before = value;
        }
    }
}

/* Both ends of one server; its law is that of the chain of all in the tests of Python. */
static void test_ladder(void) {
    const ei_arrival *arrivals[] = {&bursty, &turning};
    for (int a = 0; a < 2; a++) {
        double sojourn, wait;
        ei_ladder law;
        CHECK(ei_ladder_init(&law, arrivals[a], 2.8) == EI_OK);
        for (double time = 0; time < 200; time += 7) {
            const double lower = ei_ladder_sf(&law, EI_LOWER, time),
                         upper = ei_ladder_sf(&law, EI_UPPER, time);
            check_between(lower, upper, upper, 0, 1 + 1e-9);
            ei_ladder_tails(&law, EI_UPPER, time, &sojourn, &wait);
            CHECK((sojourn == upper || upper == 1) && 0 < wait && wait < sojourn);
        }
        CHECK(ei_ladder_sf(&law, EI_LOWER, -1) == 1 && ei_ladder_sf(&law, EI_UPPER, 1e6) > 0 &&
              ei_ladder_sf(&law, EI_LOWER, 1e6) == 0);
        CHECK(ei_ladder_init(&law, arrivals[a], 0.99) == EI_ERR_ACCURACY);
        CHECK(ei_ladder_init(&law, arrivals[a], 1.001) == EI_OK);
    }
}

/* Bounds of e^{theta y} P(R > y) and of its slope, exact where all phases are alike. */
static void test_most(void) {
    const double decay = 1.8, theta = 1.5;
    double most, falls;
    ei_ladder law;
    CHECK(ei_ladder_init(&law, &poisson, 2.8) == EI_OK);
    CHECK(ei_ladder_most(&law, &poisson, decay * (1 - 1e-9), 0, &most) == EI_OK && fabs(most - 1) < 1e-6);
    CHECK(ei_ladder_most(&law, &poisson, theta, 1, &falls) == EI_OK && fabs(falls - decay / theta) < 1e-6);
    CHECK(ei_ladder_most(&law, &poisson, decay * 1.01, 0, &most) == EI_ERR_ACCURACY);
    const ei_arrival *arrivals[] = {&bursty, &turning};
    for (int a = 0; a < 2; a++) {
        const double less = 0.02;
        CHECK(ei_ladder_init(&law, arrivals[a], 2.8) == EI_OK);
        CHECK(ei_ladder_most(&law, arrivals[a], less, 0, &most) == EI_OK);
        CHECK(ei_ladder_most(&law, arrivals[a], less, 1, &falls) == EI_OK);
        for (double time = 0; time < 200; time += 0.5) {
            const double at = ei_ladder_sf(&law, EI_LOWER, time),
                         next = ei_ladder_sf(&law, EI_UPPER, time + 0.5);
            CHECK(at * exp(less * time) <= most);
            CHECK((at - next) / 0.5 * exp(less * time) / less <= falls);
        }
    }
}

/* Independent sojourn times of rates 1 / time - 1. */
static void test_poisson(void) {
    static const double times[][2] = {{0.8, 0.8}, {0.5, 0.4}, {0.2, 0.95}, {0.97, 0.97}};
    for (int i = 0; i < 4; i++) {
        const double a = 1 / times[i][0] - 1, b = 1 / times[i][1] - 1;
        const ei_service one = exponential(times[i][0]), other = exponential(times[i][1]);
        ei_two_modulated ends[2];
        ei_ladder law;
        CHECK(ei_ladder_init(&law, &poisson, fmin(a, b) + 1) == EI_OK);
        for (int end = EI_LOWER; end <= EI_UPPER; end++)
            CHECK(ei_two_modulated_init(&ends[end], (ei_end)end, &one, &other, &poisson) == EI_OK);
        for (double time = 0; time < 25 / fmin(a, b); time += 3 / fmin(a, b)) {
            check_between(ei_two_modulated_sf(&ends[EI_LOWER], time),
                          a == b ? (1 + a * time) * exp(-a * time)
                                 : (b * exp(-a * time) - a * exp(-b * time)) / (b - a),
                          ei_two_modulated_sf(&ends[EI_UPPER], time), 1e-12, 1.02);
            check_between(ei_ladder_sf(&law, EI_LOWER, time), exp(-fmin(a, b) * time),
                          ei_ladder_sf(&law, EI_UPPER, time), 1e-13, 1 + 1e-7);
        }
        CHECK(ei_two_modulated_sf(&ends[EI_LOWER], -1) == 1 && ei_two_modulated_sf(&ends[EI_UPPER], -1) == 1);
        CHECK(ei_two_modulated_sf(&ends[EI_LOWER], 1e6) == 0 &&
              ei_two_modulated_sf(&ends[EI_UPPER], 1e6) > 0);
    }
}

static void test_refusals(void) {
    const ei_service one = exponential(0.4), slow = exponential(1.01);
    const long before = failing_malloc_alive();
    ei_arrival many = bursty;
    ei_two_modulated ends;
    ei_ladder law;
    many.count = EI_ARRIVAL_PHASES + 1;
    CHECK(ei_ladder_init(&law, &many, 3) == EI_ERR_TOO_LARGE);
    CHECK(ei_two_modulated_init(&ends, EI_LOWER, &one, &one, &many) == EI_ERR_TOO_LARGE);
    CHECK(ei_two_modulated_init(&ends, EI_LOWER, &one, &slow, &bursty) == EI_ERR_ACCURACY);
    for (long k = 1;; k++) {
        failing_malloc_arm(k);
        const int status = ei_two_modulated_init(&ends, EI_UPPER, &one, &one, &bursty),
                  fired = failing_malloc_fired();
        failing_malloc_arm(0);
        CHECK(failing_malloc_alive() == before && status == (fired ? EI_ERR_NO_MEMORY : EI_OK));
        CHECK(fired || k > 2);
        if (!fired)
            break;
    }
}

/* The lines above a parabola that are least at 1/2, or where a slope is no larger; from below, no constant.
 */
static void test_envelope(void) {
    enum { ROWS = 101 };
    double rows[2 * ROWS], target[ROWS], x[2];
    for (int k = 0; k < ROWS; k++) {
        rows[2 * k] = 1;
        rows[2 * k + 1] = k / 100.;
        target[k] = rows[2 * k + 1] * rows[2 * k + 1];
    }
    ei_envelope_fit(rows, target, ROWS, 2, (const double[]){1, 0.5}, 10, x);
    CHECK(fabs(x[0]) < 1e-9 && fabs(x[1] - 1) < 1e-9);
    ei_envelope_fit(rows, target, ROWS, 2, (const double[]){1, 0.5}, 0.4, x);
    CHECK(fabs(x[0] - 0.6) < 1e-9 && fabs(x[1] - 0.4) < 1e-9);
    for (int k = 0; k < ROWS; k++)
        target[k] = -target[k];
    ei_envelope_fit(rows, target, ROWS, 2, (const double[]){1, 0.5}, 10, x);
    CHECK(fabs(x[0] - 0.25) < 1e-2 && fabs(x[1] + 1) < 2e-2);
}

int main(void) {
    test_chain_of_all();
    test_falls();
    test_ladder();
    test_most();
    test_poisson();
    test_refusals();
    test_envelope();
    return check_report();
}
