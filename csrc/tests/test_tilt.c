/* Tilted service laws: transforms and roots in closed form, likelihood ratios of what is drawn, every
 * allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/compound.h"
#include "edgeinfer/tilt.h"

static const uint64_t entropy[4] = {1, 2, 3, 4};
static const double samples[] = {0, 0.1, 0.1, 0.4, 0.9};
enum { SAMPLES = sizeof samples / sizeof *samples };

static int call_tilts(const ei_service *stages, size_t count) {
    int status = EI_OK;
    for (size_t k = 0; status == EI_OK && k < count; k++) {
        ei_tilted_law law;
        ei_tilt tilt = {.tilt = 0};
        status = ei_tilted_law_init(&law, &stages[k], k % 2 == 1, quiet);
        if (status == EI_OK)
            status = ei_tilt_init(&tilt, &law, 0.5);
        ei_tilt_free(&tilt);
        ei_tilted_law_free(&law);
    }
    return status;
}

/* Under a tilt the likelihood ratios add up to 1 and give the plain mean back; the tilted mean is the slope.
 * Five standard errors, 15 times: a chance of 9e-6, and the entropy is fixed. */
static void test_tilted_draws(const ei_service *stages, size_t count) {
    enum { DRAWS = 200000 };
    for (size_t k = 0; k < count; k++) {
        ei_tilted_law law;
        ei_tilt tilt;
        CHECK(ei_tilted_law_init(&law, &stages[k], 1, quiet) == EI_OK);
        CHECK(ei_tilt_init(&tilt, &law, 0.8) == EI_OK);
        ei_rng rng;
        ei_rng_init(&rng, entropy, k);
        double mass = 0, mean = 0, mass_square = 0, mean_square = 0, plain = 0, plain_square = 0;
        for (int i = 0; i < DRAWS; i++) {
            double middle, time = ei_tilted_draw(&law, &tilt, &rng, &middle);
            double weight = exp(tilt.log_mgf - tilt.tilt * middle), back = weight * time;
            mass += weight;
            mass_square += weight * weight;
            mean += middle;
            mean_square += middle * middle;
            plain += back;
            plain_square += back * back;
        }
        const double sums[3][3] = {{mass, mass_square, 1},
                                   {mean, mean_square, tilt.slope},
                                   {plain, plain_square, ei_service_mean(&stages[k])}};
        for (int i = 0; i < 3; i++) {
            double average = sums[i][0] / DRAWS;
            double error = sqrt(fmax(sums[i][1] / DRAWS - average * average, 0) / DRAWS);
            CHECK(fabs(average - sums[i][2]) <= 5 * error + 1e-9 * sums[i][2]);
        }
        ei_tilt_free(&tilt);
        ei_tilted_law_free(&law);
    }
}

/* M/M/1: mu - lambda. Others by what defines the root. */
static void test_roots(const ei_service *stages, size_t count) {
    for (size_t k = 0; k < count; k++) {
        const double rate = 0.6 / ei_service_mean(&stages[k]);
        double slope, value;
        ei_tilted_law law;
        CHECK(ei_tilted_law_init(&law, &stages[k], 0, quiet) == EI_OK);
        double root = ei_tilted_root(&law, &(ei_arrival){.parameter = {rate}});
        CHECK(root > 0 && isfinite(root));
        CHECK(ei_service_log_mgf(&stages[k], root, &value, &slope) == EI_OK);
        /* As far as the table of quantiles has the law of a link. */
        CHECK_RELATIVE(value, log1p(root / rate), stages[k].kind == EI_SERVICE_TRANSFER ? 1e-3 : 1e-12);
        if (stages[k].kind == EI_SERVICE_EXPONENTIAL)
            CHECK_RELATIVE(root, 1 / stages[k].time - rate, 1e-12);
        ei_tilted_law_free(&law);
    }
}

/* e^{sigma S} of five samples written out; at and beyond the abscissa there is no transform. */
static void test_transforms(const ei_service *exponential) {
    const ei_service service = {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = SAMPLES},
                     nothing = {.kind = EI_SERVICE_DETERMINISTIC};
    ei_tilted_law law;
    double slope;
    CHECK(ei_tilted_law_init(&law, &service, 0, quiet) == EI_OK);
    for (double sigma = -2; sigma <= 3; sigma += 1.25) {
        double sum = 0, moment = 0;
        for (int i = 0; i < SAMPLES; i++) {
            sum += exp(sigma * samples[i]) / SAMPLES;
            moment += samples[i] * exp(sigma * samples[i]) / SAMPLES;
        }
        CHECK(fabs(ei_tilted_log_mgf(&law, sigma, &slope) - log(sum)) < 1e-14);
        CHECK_RELATIVE(slope, moment / sum, 1e-14);
    }
    ei_tilted_law_free(&law);
    CHECK(ei_tilted_law_init(&law, &nothing, 0, quiet) == EI_OK &&
          isinf(ei_tilted_root(&law, &(ei_arrival){.parameter = {1}})));
    ei_tilted_law_free(&law);
    CHECK(ei_tilted_law_init(&law, exponential, 0, quiet) == EI_OK);
    CHECK(isinf(ei_tilted_log_mgf(&law, 1 / exponential->time, &slope)) && isinf(slope));
    ei_tilted_law_free(&law);
}

int main(void) {
    static const double rounds[] = {0.2, 0.5, 0.3};
    ei_transfer *law;
    ei_compound *compound;
    ei_service link[3];
    make_link(link, &law);
    CHECK(ei_compound_new(&compound, link, 3, rounds, 3, quiet) == EI_OK);
    const ei_service stages[] = {link[0],
                                 link[1],
                                 {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = SAMPLES},
                                 {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.4},
                                 {.kind = EI_SERVICE_COMPOUND, .compound = compound}};
    test_roots(stages, 4);
    test_transforms(&stages[3]);
    test_tilted_draws(stages, 5);
    sweep_allocations(call_tilts, "tilts", stages, 5);
    ei_compound_free(compound);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
