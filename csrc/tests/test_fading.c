/* Means and transforms of a fading slot: wrong inputs, and a mean in closed form. */
#include "inputs.h"

#include "edgeinfer/fading.h"

int main(void) {
    double rate, value;
    for (int i = 0; i < BAD; i++) {
        CHECK(ei_ergodic_rate(bad[i], 1, &rate) == EI_ERR_DOMAIN && isnan(rate));
        CHECK(ei_ergodic_rate(1, bad[i], &rate) == EI_ERR_DOMAIN && isnan(rate));
        CHECK(ei_log_slot_mgf(1, bad[i], &value) == EI_ERR_DOMAIN && isnan(value));
    }
    CHECK(ei_log_slot_mgf(-1, 1, &value) == EI_ERR_DOMAIN);
    CHECK(ei_log_slot_mgf(NAN, 1, &value) == EI_ERR_DOMAIN);
    CHECK(ei_log_slot_mgf(0, 1, &value) == EI_OK && fabs(value) < 1e-12);
    /* E[log2(1 + g)] = e E1(1) / ln 2 */
    CHECK(ei_ergodic_rate(1, 1, &rate) == EI_OK);
    CHECK_RELATIVE(rate, 0.8599, 2e-3);
    /* Two branches of one-sided Gaussian fading are Rayleigh's of twice the mean SNR. */
    const ei_gain twice = {1, 0, 2, 1};
    double other;
    CHECK(ei_faded_rate(1, 3, &twice, &rate) == EI_OK && ei_ergodic_rate(1, 6, &other) == EI_OK);
    CHECK(rate == other);
    CHECK(ei_faded_log_slot_mgf(2, 3, &twice, &value) == EI_OK && ei_log_slot_mgf(2, 6, &other) == EI_OK);
    CHECK(value == other);
    return check_report();
}
