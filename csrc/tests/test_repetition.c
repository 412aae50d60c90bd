/* Blocks repeated until they get through: masses by the formula, moments, transforms, draws, wrong inputs,
 * every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/sampler.h"
#include "edgeinfer/tilt.h"

/* P(N = m), term by term. */
static double mass_of(size_t blocks, double outage, size_t slots) {
    double mass = pow(1 - outage, (double)blocks);
    for (size_t m = blocks; m < slots; m++)
        mass *= outage * (double)m / (double)(m - blocks + 1);
    return mass;
}

static void test_law(size_t blocks, double outage) {
    ei_repetition *law;
    const double slot = 0.01;
    CHECK(ei_repetition_new(&law, blocks, outage, slot) == EI_OK);
    double above = 0, mean = 0, square = 0, sum = 0;
    /* What is beyond is below 1e-17 of the last tail that is compared. */
    for (size_t m = blocks + 900; m >= blocks; m--) {
        const double mass = mass_of(blocks, outage, m), time = slot * (double)m;
        if (m < blocks + 500)
            CHECK(fabs(ei_repetition_sf(law, time) - above) <= 1e-12 * above + 1e-288);
        /* An atom lies at its time, rounded or not. */
        CHECK(ei_repetition_sf(law, time) == ei_repetition_sf(law, time + 0.5 * slot));
        CHECK(ei_repetition_sf(law, time * (1 - 1e-14)) == ei_repetition_sf(law, time - 0.5 * slot));
        above += mass;
        mean += mass * time;
        square += mass * time * time;
        sum += mass * exp(3 * time);
    }
    CHECK(ei_repetition_sf(law, slot * ((double)blocks - 0.5)) == 1);
    CHECK_RELATIVE(ei_repetition_mean(law), mean, 1e-12);
    CHECK(fabs(ei_repetition_variance(law) - (square - mean * mean)) < 1e-12 * square);
    double value, slope, higher;
    CHECK(ei_repetition_log_mgf(law, 3, &value, &slope) == EI_OK);
    CHECK_RELATIVE(value, log(sum), 1e-12);
    CHECK(ei_repetition_log_mgf(law, 3 + 1e-5, &higher, NULL) == EI_OK);
    CHECK_RELATIVE((higher - value) / 1e-5, slope, 1e-4);
    CHECK(ei_repetition_sf(law, -1) == 1 && isnan(ei_repetition_sf(law, NAN)));
    CHECK(ei_repetition_sf(law, INFINITY) == 0 && ei_repetition_sf(law, ei_repetition_extent(law)) < 1e-20);
    CHECK_RELATIVE(ei_repetition_minimum(law), slot * (double)blocks, 1e-15);
    CHECK(outage == 0 ? isinf(ei_repetition_abscissa(law))
                      : fabs(exp(-slot * ei_repetition_abscissa(law)) / outage - 1) < 1e-14);
    const ei_service stage = {.kind = EI_SERVICE_REPETITION, .repetition = law};
    CHECK(isinf(ei_service_maximum(&stage)) == (outage > 0));
    ei_repetition_free(law);
}

/* Draws, plain and tilted, have their mean: 2e5 of them, 5 standard errors, a chance of 6e-7 each; the
 * entropy is fixed. */
static void test_draws(void) {
    enum { DRAWS = 200000 };
    ei_repetition *repetition;
    CHECK(ei_repetition_new(&repetition, 7, 0.3, 0.01) == EI_OK);
    const ei_service stage = {.kind = EI_SERVICE_REPETITION, .repetition = repetition};
    ei_tilted_law law;
    ei_tilt tilt;
    ei_sampler sampler;
    ei_rng rng;
    static const uint64_t entropy[4] = {1, 2, 3, 4};
    ei_rng_init(&rng, entropy, 0);
    CHECK(ei_sampler_init(&sampler, &stage, EI_LINK_TABLE) == EI_OK);
    CHECK(ei_tilted_law_init(&law, &stage, 0, quiet) == EI_OK && ei_tilt_init(&tilt, &law, 40) == EI_OK);
    double sum[3] = {0}, middle;
    for (int i = 0; i < DRAWS; i++) {
        sum[0] += ei_sampler_draw(&sampler, &rng) / DRAWS;
        sum[1] += ei_tilted_draw(&law, NULL, &rng, &middle) / DRAWS;
        sum[2] += ei_tilted_draw(&law, &tilt, &rng, &middle) / DRAWS;
    }
    const double error = 5 * sqrt(ei_service_variance(&stage) / DRAWS);
    CHECK(fabs(sum[0] - ei_service_mean(&stage)) < error && fabs(sum[1] - ei_service_mean(&stage)) < error);
    /* Tilted, it is the law of the outage q e^{sigma slot}. */
    const double outage = 0.3 * exp(0.4);
    CHECK_RELATIVE(tilt.slope, 0.07 / (1 - outage), 1e-12);
    CHECK(fabs(sum[2] - tilt.slope) < 5 * 0.01 * sqrt(7 * outage / DRAWS) / (1 - outage));
    ei_sampler_free(&sampler);
    ei_tilt_free(&tilt);
    ei_tilted_law_free(&law);
    ei_repetition_free(repetition);
}

static void test_wrong_inputs(void) {
    ei_repetition *law;
    CHECK(ei_repetition_new(&law, 0, 0.1, 1) == EI_ERR_DOMAIN && law == NULL);
    for (int i = 1; i < BAD; i++)
        CHECK(ei_repetition_new(&law, 1, bad[i], 1) == EI_ERR_DOMAIN);
    for (int i = 0; i < BAD; i++)
        CHECK(ei_repetition_new(&law, 1, 0.1, bad[i]) == EI_ERR_DOMAIN);
    CHECK(ei_repetition_new(&law, 1, 0.9991, 1) == EI_ERR_DOMAIN);
    CHECK(ei_repetition_new(&law, 600000, 0.5, 1) == EI_ERR_DOMAIN);
    ei_repetition_free(NULL);
    const ei_service none = {.kind = EI_SERVICE_REPETITION};
    CHECK(ei_service_verify(&none) == EI_ERR_DOMAIN);
}

static int call(const ei_service *stages, size_t count) {
    (void)stages;
    ei_repetition *law;
    int status = ei_repetition_new(&law, count, 0.2, 1);
    ei_repetition_free(law);
    return status;
}

int main(void) {
    test_law(1, 0);
    test_law(1, 0.5);
    test_law(3, 0.02);
    test_law(40, 0.7);
    test_law(5, 0);
    test_draws();
    test_wrong_inputs();
    const ei_service stage = {.kind = EI_SERVICE_DETERMINISTIC};
    sweep_allocations(call, "repetition", &stage, 1);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
