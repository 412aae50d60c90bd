/* Service times: what is refused, and moments, transforms and tails in closed form or summed up. */
#include "inputs.h"

static int verify(const ei_service *stages, size_t count) {
    return count == 0 ? EI_ERR_EMPTY : ei_service_verify(stages);
}

static void test_exponential(void) {
    const ei_service service = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.4};
    double value, slope;
    CHECK(ei_service_mean(&service) == 0.4 && ei_service_minimum(&service) == 0);
    CHECK_RELATIVE(ei_service_variance(&service), 0.16, 1e-15);
    CHECK_RELATIVE(ei_service_abscissa(&service), 2.5, 1e-15);
    CHECK_RELATIVE(ei_service_sf(&service, 1), exp(-2.5), 1e-15);
    CHECK(ei_service_sf(&service, -1) == 1 && isnan(ei_service_sf(&service, NAN)));
    CHECK_RELATIVE(ei_service_sf(&service, ei_service_extent(&service)), 1e-20, 1e-13);
    CHECK(ei_service_log_mgf(&service, 1, &value, &slope) == EI_OK);
    CHECK_RELATIVE(value, -log(0.6), 1e-15);
    CHECK_RELATIVE(slope, 0.4 / 0.6, 1e-15);
    CHECK(ei_service_log_mgf(&service, 2.5, &value, &slope) == EI_OK && isinf(value) && isinf(slope));
    CHECK(ei_service_log_mgf(&service, NAN, &value, NULL) == EI_ERR_DOMAIN);
}

static void test_samples(void) {
    static const double samples[] = {0.1, 0.2, 0.2, 0.7};
    const ei_service service = {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 4};
    double value, slope;
    CHECK(ei_service_verify(&service) == EI_OK);
    CHECK_RELATIVE(ei_service_mean(&service), 0.3, 1e-15);
    CHECK_RELATIVE(ei_service_variance(&service), (0.04 + 0.01 + 0.01 + 0.16) / 4, 1e-14);
    CHECK(ei_service_minimum(&service) == 0.1 && ei_service_extent(&service) == 0.7);
    CHECK(isinf(ei_service_abscissa(&service)));
    static const double at[] = {0, 0.1, 0.15, 0.2, 0.69, 0.7}, above[] = {1, 0.75, 0.75, 0.25, 0.25, 0};
    for (int i = 0; i < 6; i++)
        CHECK(ei_service_sf(&service, at[i]) == above[i]);
    for (double theta = -3; theta <= 3; theta += 1.5) {
        double sum = 0, moment = 0;
        for (int i = 0; i < 4; i++) {
            sum += exp(theta * samples[i]);
            moment += samples[i] * exp(theta * samples[i]);
        }
        CHECK(ei_service_log_mgf(&service, theta, &value, &slope) == EI_OK);
        CHECK(fabs(value - log(sum / 4)) < 1e-15 * (1 + fabs(value)) * 4);
        CHECK_RELATIVE(slope, moment / sum, 1e-14);
    }
    /* Where e^{theta S} is beyond the range of double: the largest sample, a quarter of the time. */
    CHECK(ei_service_log_mgf(&service, 1e5, &value, &slope) == EI_OK);
    CHECK_RELATIVE(value, 7e4 - log(4), 1e-15);
    CHECK_RELATIVE(slope, 0.7, 1e-15);
}

/* A channel has no law of one service: it is refused where services must be independent. */
static void test_channel(void) {
    static const double rates[2] = {1, 3};
    ei_service service = {
        .kind = EI_SERVICE_CHANNEL,
        .bits = 6,
        .channel = {.rates = rates, .count = 2, .slot = 1, .offset = NAN, .mean_rate = 2, .spread = 4}};
    CHECK(ei_service_verify(&service) == EI_OK && ei_service_verify_independent(&service) == EI_ERR_DOMAIN);
    CHECK(ei_service_mean(&service) == 3 && ei_service_variance(&service) == 3);
    service.bits = 0;
    CHECK(ei_service_verify(&service) == EI_ERR_DOMAIN);
}

int main(void) {
    ei_transfer *law;
    ei_service stages[3];
    make_link(stages, &law);
    check_bad_stages(verify);
    CHECK(ei_service_verify(&(ei_service){.kind = EI_SERVICE_EXPONENTIAL, .time = 0}) == EI_ERR_DOMAIN);
    CHECK(ei_service_verify(&(ei_service){.kind = EI_SERVICE_DETERMINISTIC, .time = 0}) == EI_OK);
    test_exponential();
    test_samples();
    test_channel();
    /* A fixed time, and a transfer, which has one slot at least. */
    double value, slope;
    CHECK(ei_service_sf(&stages[0], 0.3) == 0 && ei_service_sf(&stages[0], 0.29) == 1);
    CHECK(ei_service_variance(&stages[0]) == 0 && ei_service_minimum(&stages[0]) == 0.3);
    CHECK(ei_service_log_mgf(&stages[0], 2, &value, &slope) == EI_OK && value == 0.6 && slope == 0.3);
    CHECK(ei_service_verify(&stages[1]) == EI_OK);
    CHECK(ei_service_log_mgf(&stages[1], 0, &value, &slope) == EI_OK && fabs(value) < 1e-9);
    CHECK_RELATIVE(slope, ei_service_mean(&stages[1]), 1e-6);
    CHECK(ei_service_sf(&stages[1], ei_service_extent(&stages[1])) < 1e-20);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
