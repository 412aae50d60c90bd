/* The law of a random number of rounds: closed forms, sums written out, moments, draws, wrong inputs, every
 * allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/compound.h"
#include "edgeinfer/sampler.h"

static const double two[] = {0.2, 0.5, 0.3};

/* P(sum of n exponentials of mean 1 > time). */
static double erlang_sf(size_t n, double time) {
    double term = 1, sum = 0;
    for (size_t k = 0; k < n; k++) {
        sum += term;
        term *= time / (double)(k + 1);
    }
    return time > 0 ? sum * exp(-time) : 1;
}

/* Both ends hold the truth and are `width` apart at most. */
static void check_ends(const ei_compound *law, double time, double truth, double width) {
    double lower = ei_compound_lower(law, time), upper = ei_compound_upper(law, time);
    CHECK(lower <= truth * (1 + 1e-12) && truth <= upper * (1 + 1e-12));
    CHECK(upper - lower <= (truth < 1e-10 ? 5 : 1) * width * truth + 1e-12);
}

static void test_closed_forms(void) {
    const ei_service stages[] = {{.kind = EI_SERVICE_EXPONENTIAL, .time = 1},
                                 {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.37}};
    ei_compound *law;
    CHECK(ei_compound_new(&law, stages, 2, two, 3, quiet) == EI_OK);
    for (double time = 0; time < 36; time += 0.831)
        check_ends(law, time, two[1] * erlang_sf(1, time - 0.37) + two[2] * erlang_sf(2, time - 0.74), 0.02);
    CHECK(ei_compound_upper(law, -1) == 1 && ei_compound_lower(law, -1) == 1);
    CHECK(ei_compound_upper(law, 200) < 1e-20 && ei_compound_lower(law, 200) == 0);
    /* Wald. */
    CHECK_RELATIVE(ei_compound_mean(law), 1.1 * 1.37, 1e-14);
    CHECK_RELATIVE(ei_compound_variance(law), 1.1 + (0.5 + 1.2 - 1.21) * 1.37 * 1.37, 1e-13);
    double value, slope, higher;
    CHECK(ei_compound_log_mgf(law, 0.3, &value, &slope) == EI_OK);
    double round = exp(0.3 * 0.37) / 0.7;
    CHECK_RELATIVE(value, log(0.2 + 0.5 * round + 0.3 * round * round), 1e-14);
    CHECK(ei_compound_log_mgf(law, 0.3 + 1e-6, &higher, NULL) == EI_OK);
    CHECK_RELATIVE((higher - value) / 1e-6, slope, 1e-5);
    CHECK(ei_compound_log_mgf(law, 1, &value, NULL) == EI_OK && isinf(value));
    CHECK(ei_compound_abscissa(law) == 1 && ei_compound_minimum(law) == 0);
    ei_compound_free(law);
    /* Geometric rounds of exponentials are exponential, but for the last round that there is. */
    enum { ROUNDS = 40 };
    double rounds[ROUNDS + 1] = {0}, left = 1;
    for (size_t n = 1; n < ROUNDS; n++) {
        rounds[n] = 0.5 * left;
        left /= 2;
    }
    rounds[ROUNDS] = left;
    CHECK(ei_compound_new(&law, stages, 1, rounds, ROUNDS + 1, quiet) == EI_OK);
    for (double time = 0.5; time < 30; time *= 1.5)
        check_ends(law, time, exp(-time / 2), 0.02);
    ei_compound_free(law);
}

static void test_atoms(void) {
    static const double samples[] = {0.2, 0.3, 0.35};
    const ei_service stages[] = {{.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 3},
                                 {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 3}};
    const double one[] = {0, 1};
    ei_compound *law;
    CHECK(ei_compound_new(&law, stages, 2, one, 2, quiet) == EI_OK);
    for (double time = 0.39; time < 0.75; time += 0.0173) {
        double count = 0;
        for (int i = 0; i < 9; i++)
            count += samples[i / 3] + samples[i % 3] > time;
        check_ends(law, time, count / 9, 1e-6);
    }
    CHECK(ei_compound_minimum(law) == 0.4);
    ei_compound_free(law);
    /* Constants alone have no lattice. */
    const ei_service constant = {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.5};
    CHECK(ei_compound_new(&law, &constant, 1, two, 3, quiet) == EI_OK);
    CHECK(ei_compound_upper(law, 0.49) == 0.8 && ei_compound_lower(law, 0.5) == 0.3 &&
          ei_compound_upper(law, 1) == 0);
    ei_compound_free(law);
    const double none[] = {1};
    const ei_service exponential = {.kind = EI_SERVICE_EXPONENTIAL, .time = 1};
    CHECK(ei_compound_new(&law, &exponential, 1, none, 1, quiet) == EI_OK);
    CHECK(ei_compound_mean(law) == 0 && ei_compound_upper(law, 0) == 0);
    ei_compound_free(law);
}

/* Draws lie between both ends: 4e5 of them, 5 standard errors at 4 times: a chance of 2e-6, and the entropy
 * is fixed. */
static void test_draws(const ei_service *link) {
    enum { DRAWS = 400000 };
    const ei_service stages[] = {*link, {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.01}, *link};
    const double times[] = {0.03, 0.05, 0.08, 0.11};
    double late[4] = {0};
    ei_compound *law;
    CHECK(ei_compound_new(&law, stages, 3, two, 3, quiet) == EI_OK);
    const ei_service service = {.kind = EI_SERVICE_COMPOUND, .compound = law};
    ei_sampler sampler;
    ei_rng rng;
    static const uint64_t entropy[4] = {1, 2, 3, 4};
    CHECK(ei_sampler_init(&sampler, &service, EI_LINK_TABLE) == EI_OK);
    ei_rng_init(&rng, entropy, 0);
    for (int i = 0; i < DRAWS; i++) {
        double time = ei_sampler_draw(&sampler, &rng);
        for (int t = 0; t < 4; t++)
            late[t] += time > times[t];
    }
    for (int t = 0; t < 4; t++) {
        double share = late[t] / DRAWS, error = 5 * sqrt(share * (1 - share) / DRAWS);
        CHECK(share + error >= ei_compound_lower(law, times[t]) &&
              share - error <= ei_compound_upper(law, times[t]));
    }
    ei_sampler_free(&sampler);
    ei_compound_free(law);
}

static void test_wrong_inputs(void) {
    const ei_service stage = {.kind = EI_SERVICE_EXPONENTIAL, .time = 1};
    const double wrong[][2] = {{0.5, 0.4}, {-0.5, 1.5}, {NAN, 1}, {0, INFINITY}};
    ei_compound *law;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(ei_compound_new(&law, &stage, 1, wrong[i], 2, quiet) == EI_ERR_DOMAIN && law == NULL);
    CHECK(ei_compound_new(&law, &stage, 0, two, 3, quiet) == EI_ERR_EMPTY);
    CHECK(ei_compound_new(&law, &stage, 1, two, 0, quiet) == EI_ERR_EMPTY);
    CHECK(ei_compound_new(&law, &stage, 1, two, 3, quiet) == EI_OK);
    const ei_service nested = {.kind = EI_SERVICE_COMPOUND, .compound = law};
    ei_compound *other;
    CHECK(ei_compound_new(&other, &nested, 1, two, 3, quiet) == EI_ERR_DOMAIN);
    ei_compound_free(law);
    ei_compound_free(NULL);
    static double many[40001];
    many[40000] = 1;
    CHECK(ei_compound_new(&law, &stage, 1, many, 40001, quiet) == EI_ERR_TOO_LARGE);
    int polled = 0;
    CHECK(ei_compound_new(&law, &stage, 1, two, 3, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED &&
          polled == 1);
}

static int call(const ei_service *stages, size_t count) {
    ei_compound *law;
    int status = ei_compound_new(&law, stages, count, two, 3, quiet);
    ei_compound_free(law);
    return status;
}

int main(void) {
    ei_transfer *transfer;
    ei_service stages[3];
    make_link(stages, &transfer);
    test_closed_forms();
    test_atoms();
    test_draws(&stages[1]);
    test_wrong_inputs();
    check_bad_stages(call);
    sweep_allocations(call, "compound", stages, 3);
    ei_transfer_free(transfer);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
