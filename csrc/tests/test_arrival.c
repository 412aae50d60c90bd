/* Arrival processes: parameters out of range, moments of what is drawn, records and batches in their order.
 */
#include "check.h"

#include "edgeinfer/arrival.h"

static const uint64_t entropy[4] = {1, 2, 3, 4};

/* Mean and variance of gamma intervals, each off by more than 6 standard deviations with probability 2e-9. */
static void test_gamma_intervals(void) {
    static const double square[] = {1e-3, 0.3, 1, 2.5, 20};
    enum { COUNT = 1 << 18 };
    for (int k = 0; k < 5; k++) {
        const ei_arrival arrival = {.kind = EI_ARRIVAL_GAMMA, .parameter = {2, square[k]}};
        double sum = 0, squares = 0, fourth = 3 * square[k] * square[k] * (1 + 2 * square[k]);
        ei_rng rng;
        ei_rng_init(&rng, entropy, 100 + (uint64_t)k);
        for (int i = 0; i < COUNT; i++) {
            double x = 2 * ei_arrival_draw(&arrival, &rng) - 1;
            sum += x;
            squares += x * x;
        }
        CHECK(fabs(sum / COUNT) < 6 * sqrt(square[k] / COUNT));
        CHECK(fabs(squares / COUNT - square[k]) < 6 * sqrt((fourth - square[k] * square[k]) / COUNT));
    }
}

static void test_arrivals_out_of_range(void) {
    const double rates[] = {0, 3}, generator[] = {-1, 1, 2, -2}, law[] = {2.0 / 3, 1.0 / 3},
                 wrong[] = {0.5, 0.5}, leaking[] = {0, 3, 2, -2}, intervals[] = {0, 1, 0.5},
                 above[] = {1, 0.5}, rising[] = {0.5, 1};
    ei_arrival good = {.kind = EI_ARRIVAL_MARKOV_MODULATED,
                       .count = 2,
                       .rates = rates,
                       .generator = generator,
                       .stationary = law};
    CHECK_RELATIVE(ei_arrival_mean(&good), 1, 1e-15);
    CHECK(!ei_arrival_is_renewal(&good));
    ei_arrival bad = good;
    bad.stationary = wrong;
    CHECK(isnan(ei_arrival_mean(&bad)));
    bad = good;
    bad.generator = leaking;
    CHECK(isnan(ei_arrival_mean(&bad)));
    bad = good;
    bad.count = 0;
    CHECK(isnan(ei_arrival_mean(&bad)));
    good = (ei_arrival){.kind = EI_ARRIVAL_RECORDED, .count = 3, .intervals = intervals};
    CHECK_RELATIVE(ei_arrival_mean(&good), 0.5, 1e-15);
    good.count = 1;
    CHECK(isnan(ei_arrival_mean(&good)));
    good = (ei_arrival){.kind = EI_ARRIVAL_POISSON, .parameter = {2}, .batch_limit = 2, .batch_above = above};
    CHECK_RELATIVE(ei_arrival_mean(&good), 0.5 / 1.5, 1e-15);
    good.batch_above = rising;
    CHECK(isnan(ei_arrival_mean(&good)));
    good = (ei_arrival){.kind = EI_ARRIVAL_GAMMA, .parameter = {2, 1e4}};
    CHECK(isnan(ei_arrival_mean(&good)));
}

/* Mean and second moment of n intervals, each off by more than 6 of the standard errors that the moments up
 * to the fourth give with probability 2e-9. */
static void check_moments(const ei_arrival *arrival, uint64_t stream, const double moment[4]) {
    enum { COUNT = 1 << 18 };
    double sum = 0, squares = 0;
    ei_rng rng;
    ei_rng_init(&rng, entropy, stream);
    for (int i = 0; i < COUNT; i++) {
        double x = ei_arrival_draw(arrival, &rng);
        sum += x;
        squares += x * x;
    }
    CHECK(ei_arrival_is_renewal(arrival));
    CHECK_RELATIVE(ei_arrival_mean(arrival), moment[0], 1e-14);
    CHECK(fabs(sum / COUNT - moment[0]) <= 6 * sqrt((moment[1] - moment[0] * moment[0]) / COUNT));
    CHECK(fabs(squares / COUNT - moment[1]) <= 6 * sqrt((moment[3] - moment[1] * moment[1]) / COUNT));
}

static void test_renewal_moments(void) {
    const ei_arrival poisson = {.kind = EI_ARRIVAL_POISSON, .parameter = {0.5}},
                     erlang = {.kind = EI_ARRIVAL_ERLANG, .parameter = {0.5, 3}},
                     mixed = {.kind = EI_ARRIVAL_HYPEREXPONENTIAL, .parameter = {0.25, 0.5, 2}},
                     periodic = {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {4}};
    /* n! / rate^n; (k + n - 1)! / (k - 1)! / (k rate)^n; p n! / a^n + (1 - p) n! / b^n */
    check_moments(&poisson, 20, (double[]){2, 8, 48, 384});
    double phase = 2.0 / 3;
    check_moments(&erlang, 21, (double[]){2, 12 * pow(phase, 2), 60 * pow(phase, 3), 360 * pow(phase, 4)});
    double moment[4], factorial = 1;
    for (int n = 1; n <= 4; n++) {
        factorial *= n;
        moment[n - 1] = factorial * (0.25 * pow(2, n) + 0.75 * pow(0.5, n));
    }
    check_moments(&mixed, 22, moment);
    ei_rng rng;
    ei_rng_init(&rng, entropy, 23);
    CHECK(ei_arrival_draw(&periodic, &rng) == 0.25);
}

/* A Poisson process that is switched on and off: the intervals of an interrupted one are hyperexponential
 * (Kuczura 1973), p + q = rate + on + off, p q = rate on, and the mean is (on + off) / (rate on). */
static void test_interrupted_poisson(void) {
    enum { COUNT = 1 << 18 };
    const double rate = 3, on = 0.5, off = 1.5, rates[] = {0, rate}, generator[] = {-on, on, off, -off},
                 law[] = {0.75, 0.25};
    const ei_arrival arrival = {.kind = EI_ARRIVAL_MARKOV_MODULATED,
                                .count = 2,
                                .rates = rates,
                                .generator = generator,
                                .stationary = law};
    double total = rate + on + off, root = sqrt(total * total - 4 * rate * on);
    double fast = (total + root) / 2, slow = (total - root) / 2, chance = (rate - slow) / (fast - slow);
    double moment[4], factorial = 1, sum = 0, squares = 0;
    for (int n = 1; n <= 4; n++) {
        factorial *= n;
        moment[n - 1] = factorial * (chance * pow(fast, -n) + (1 - chance) * pow(slow, -n));
    }
    CHECK_RELATIVE(ei_arrival_mean(&arrival), moment[0], 1e-14);
    ei_rng rng;
    ei_rng_init(&rng, entropy, 24);
    /* From an arrival on, that is switched on, intervals are independent. */
    ei_arrival_state state = {.place = 1};
    for (int i = 0; i < COUNT; i++) {
        double x = ei_arrival_next(&arrival, &state, &rng);
        sum += x;
        squares += x * x;
        CHECK(state.place == 1);
    }
    CHECK(fabs(sum / COUNT - moment[0]) < 6 * sqrt((moment[1] - moment[0] * moment[0]) / COUNT));
    CHECK(fabs(squares / COUNT - moment[1]) < 6 * sqrt((moment[3] - moment[1] * moment[1]) / COUNT));
    int started = 0;
    for (int i = 0; i < COUNT; i++)
        started += ei_arrival_start(&arrival, &rng).place == 1;
    CHECK(fabs(started / (double)COUNT - 0.25) < 6 * sqrt(0.25 * 0.75 / COUNT));
}

/* Records go round; a batch comes at once, of 1, 2, 3 requests with probabilities 1/2, 1/4, 1/4. */
static void test_order(void) {
    enum { BATCHES = 1 << 16 };
    const double intervals[] = {0.5, 0, 2}, above[] = {1, 0.5, 0.25};
    const ei_arrival record = {.kind = EI_ARRIVAL_RECORDED, .count = 3, .intervals = intervals},
                     batches = {.kind = EI_ARRIVAL_DETERMINISTIC,
                                .parameter = {0.5},
                                .batch_limit = 3,
                                .batch_above = above};
    ei_rng rng;
    ei_rng_init(&rng, entropy, 25);
    ei_arrival_state state = ei_arrival_start(&record, &rng);
    size_t place = state.place;
    CHECK(place < 3);
    for (int i = 0; i < 7; i++)
        CHECK(ei_arrival_next(&record, &state, &rng) == intervals[(place + (size_t)i) % 3]);
    int size[4] = {0};
    state = ei_arrival_start(&batches, &rng);
    for (int i = 0; i < BATCHES; i++) {
        CHECK(ei_arrival_next(&batches, &state, &rng) == 2);
        size_t more = state.waiting;
        for (size_t k = 0; k < more; k++)
            CHECK(ei_arrival_next(&batches, &state, &rng) == 0);
        CHECK(more < 3 && state.waiting == 0);
        size[more & 3]++;
    }
    for (int k = 0; k < 3; k++) {
        double chance = k == 0 ? 0.5 : 0.25;
        CHECK(fabs(size[k] - BATCHES * chance) < 6 * sqrt(BATCHES * chance * (1 - chance)));
    }
}

/* What is left of an interval X at an arbitrary instant has mean E[X^2] / 2 E[X] and second moment
 * E[X^3] / 3 E[X]; off by more than 6 of the mean's standard errors with probability 2e-9. */
static void check_first(const ei_arrival *arrival, uint64_t stream, const double moment[3]) {
    enum { COUNT = 1 << 18 };
    const double mean = moment[1] / (2 * moment[0]), square = moment[2] / (3 * moment[0]);
    const double longest = ei_arrival_longest(arrival);
    double sum = 0;
    ei_rng rng;
    ei_rng_init(&rng, entropy, stream);
    for (int i = 0; i < COUNT; i++) {
        ei_arrival_state state;
        double x = ei_arrival_first(arrival, longest, &state, &rng);
        CHECK(x >= 0 && (arrival->count == 0 || state.place < arrival->count));
        sum += x;
    }
    CHECK(fabs(sum / COUNT - mean) <= 6 * sqrt((square - mean * mean) / COUNT));
}

static void test_first_intervals(void) {
    const double intervals[] = {0.5, 0, 2, 1}, above[] = {1, 1};
    const ei_arrival poisson = {.kind = EI_ARRIVAL_POISSON, .parameter = {0.5}},
                     erlang = {.kind = EI_ARRIVAL_ERLANG, .parameter = {0.5, 3}},
                     mixed = {.kind = EI_ARRIVAL_HYPEREXPONENTIAL, .parameter = {0.25, 0.5, 2}},
                     periodic = {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {4}},
                     gamma = {.kind = EI_ARRIVAL_GAMMA, .parameter = {2, 2.5}},
                     record = {.kind = EI_ARRIVAL_RECORDED, .count = 4, .intervals = intervals},
                     batch = {.kind = EI_ARRIVAL_DETERMINISTIC,
                              .parameter = {4},
                              .batch_limit = 2,
                              .batch_above = above};
    const double phase = 2.0 / 3, scale = 1.25, shape = 0.4;
    check_first(&poisson, 30, (double[]){2, 8, 48});
    check_first(&erlang, 31, (double[]){2, 12 * pow(phase, 2), 60 * pow(phase, 3)});
    check_first(&mixed, 32, (double[]){0.875, 2 * (1 + 0.1875), 6 * (2 + 0.09375)});
    check_first(&periodic, 33, (double[]){0.25, 0.0625, 0.015625});
    check_first(&gamma, 34,
                (double[]){0.5, scale * scale * shape * (shape + 1),
                           pow(scale, 3) * shape * (shape + 1) * (shape + 2)});
    check_first(&record, 35, (double[]){0.875, 5.25 / 4, 9.125 / 4});
    ei_arrival_state state;
    ei_rng rng;
    ei_rng_init(&rng, entropy, 36);
    CHECK(ei_arrival_first(&batch, 0, &state, &rng) <= 0.25 && state.waiting == 1);
    CHECK(ei_arrival_next(&batch, &state, &rng) == 0 && ei_arrival_next(&batch, &state, &rng) == 0.25);
    CHECK(ei_arrival_longest(&record) == 2 && ei_arrival_longest(&gamma) == 0);
}

/* The transform's mean over plain draws, the mean of tilted ones, and the rate of what is sped up: 24 means,
 * each off by more than 6 standard errors with probability 2e-9. The exponent is finite for tilts near 0. */
static void test_tilted_intervals(void) {
    enum { COUNT = 1 << 16 };
    const ei_arrival process[] = {{.kind = EI_ARRIVAL_POISSON, .parameter = {2}},
                                  {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {2}},
                                  {.kind = EI_ARRIVAL_ERLANG, .parameter = {2, 3}},
                                  {.kind = EI_ARRIVAL_HYPEREXPONENTIAL, .parameter = {0.8, 4, 0.5}},
                                  {.kind = EI_ARRIVAL_GAMMA, .parameter = {2, 0.4}},
                                  {.kind = EI_ARRIVAL_GAMMA, .parameter = {2, 3}}};
    for (size_t k = 0; k < sizeof process / sizeof *process; k++) {
        ei_arrival fast = ei_arrival_at_rate(&process[k], 5);
        CHECK_RELATIVE(ei_arrival_rate(&fast), 5, 1e-14);
        CHECK_RELATIVE(ei_arrival_mean(&fast), 0.2, 1e-14);
        for (double theta = 0.5; theta <= 4; theta *= 8) {
            double slope, exponent = ei_arrival_exponent(&process[k], theta, &slope), tilted;
            double sums[4] = {0};
            ei_rng rng;
            ei_rng_init(&rng, entropy, 300 + k);
            for (int i = 0; i < COUNT; i++) {
                double term = exp(-theta * ei_arrival_draw(&process[k], &rng));
                double time = ei_arrival_draw_tilted(&process[k], theta, &rng);
                sums[0] += term;
                sums[1] += term * term;
                sums[2] += time;
                sums[3] += time * time;
            }
            const double exact[2] = {exp(-exponent), slope};
            for (int i = 0; i < 2; i++) {
                double mean = sums[2 * i] / COUNT, square = sums[2 * i + 1] / COUNT - mean * mean;
                CHECK(fabs(mean - exact[i]) <= 6 * sqrt(fmax(square, 0) / COUNT) + 1e-10);
            }
            CHECK_RELATIVE((ei_arrival_exponent(&process[k], theta * (1 + 1e-6), &tilted) - exponent) / theta,
                           1e-6 * slope, 1e-4);
        }
        double slope, tiny = ei_arrival_exponent(&process[k], 1e-12, &slope);
        CHECK_RELATIVE(tiny, 1e-12 * ei_arrival_mean(&process[k]), 1e-9);
    }
}

int main(void) {
    test_tilted_intervals();
    test_first_intervals();
    test_gamma_intervals();
    test_arrivals_out_of_range();
    test_renewal_moments();
    test_interrupted_poisson();
    test_order();
    return check_report();
}
