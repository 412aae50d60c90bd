#include "edgeinfer/fading.h"

#include "edgeinfer/rate.h"

#include <gsl/gsl_math.h>
#include <gsl/gsl_sf_expint.h>
#include <math.h>
#include <stddef.h>

int ei_ergodic_rate(double bandwidth, double mean_snr, double *rate) {
    gsl_sf_result scaled;
    *rate = NAN;
    if (!(bandwidth > 0) || !isfinite(bandwidth) || !(mean_snr > 0) || !isfinite(mean_snr) ||
        !isfinite(1 / mean_snr))
        return EI_ERR_DOMAIN;
    /* GSL reports an underflow above this argument, where e^x E1(x) = 1/x - 1/x^2 + .. is exact. */
    if (1 / mean_snr > 1e8)
        scaled.val = mean_snr * (1 - mean_snr);
    else if (gsl_sf_expint_E1_scaled_e(1 / mean_snr, &scaled) != 0)
        return EI_ERR_DOMAIN;
    *rate = bandwidth / M_LN2 * scaled.val;
    return EI_OK;
}

int ei_log_slot_mgf(double exponent, double mean_snr, double *value) {
    *value = NAN;
    if (!(exponent >= 0) || !isfinite(exponent) || !(mean_snr > 0) || !isfinite(mean_snr))
        return EI_ERR_DOMAIN;
    /* E = int exp(-(e^v - 1)/s - (a - 1) v) dv / s over v > 0, v = scale e^w. */
    double scale = 1 / (1 / mean_snr + exponent + 1), sum = 0;
    double reach = log1p(750 * mean_snr);
    /* exp(-e^v / s) is analytic and small for |Im v| < pi/2, |Im w| < pi / (2 reach): rounding error at this
     * step. */
    double step = fmin(1.0 / 16, 0.33 / reach);
    for (int i = (int)(-42 / step);; i++) {
        double v = scale * exp(i * step);
        if (v > reach)
            break;
        sum += v * exp(-expm1(v) / mean_snr - (exponent - 1) * v);
    }
    /* What lies left of the first node is a rectangle of width scale e^-42: below rounding. */
    *value = log(sum * step / mean_snr);
    return EI_OK;
}

int ei_faded_rate(double bandwidth, double mean_snr, const ei_gain *gain, double *rate) {
    ei_rate law;
    double mean, spread;
    *rate = NAN;
    if (!(bandwidth > 0) || !isfinite(bandwidth) || ei_rate_init(&law, mean_snr, gain) != EI_OK)
        return EI_ERR_DOMAIN;
    if (law.rayleigh)
        return ei_ergodic_rate(bandwidth, law.mean_snr, rate);
    ei_rate_moments(&law, &mean, &spread);
    *rate = bandwidth * mean;
    return EI_OK;
}

int ei_faded_log_slot_mgf(double exponent, double mean_snr, const ei_gain *gain, double *value) {
    ei_rate law;
    *value = NAN;
    if (!(exponent >= 0) || !isfinite(exponent) || ei_rate_init(&law, mean_snr, gain) != EI_OK)
        return EI_ERR_DOMAIN;
    if (law.rayleigh)
        return ei_log_slot_mgf(exponent, law.mean_snr, value);
    *value = ei_rate_log_mgf(&law, exponent);
    return EI_OK;
}
