#include "edgeinfer/rate.h"

#include "edgeinfer/multiversion.h"

enum { TOGETHER = 8 }; /* nodes of a rule found side by side */

/* Legendre's polynomials of degree n and n - 1. */
EI_MULTIVERSION static void legendre(size_t n, const double *restrict x, double *restrict p1,
                                     double *restrict p0) {
    for (size_t l = 0; l < TOGETHER; l++) {
        p0[l] = 1;
        p1[l] = x[l];
    }
    for (size_t k = 2; k <= n; k++)
        for (size_t l = 0; l < TOGETHER; l++) {
            double p2 = ((double)(2 * k - 1) * x[l] * p1[l] - (double)(k - 1) * p0[l]) / (double)k;
            p0[l] = p1[l];
            p1[l] = p2;
        }
}

/* By Newton's method. */
void ei_gauss_legendre(size_t n, double *restrict node, double *restrict weight) {
    for (size_t i = 0; i < n; i += TOGETHER) {
        const size_t count = n - i < TOGETHER ? n - i : TOGETHER;
        double x[TOGETHER], p0[TOGETHER], p1[TOGETHER], slope[TOGETHER];
        int found[TOGETHER] = {0};
        for (size_t l = 0; l < TOGETHER; l++)
            x[l] = cos(M_PI * ((double)(i + l) + 0.75) / ((double)n + 0.5));
        for (int iteration = 0, left = 1; iteration < 100 && left; iteration++) {
            legendre(n, x, p1, p0);
            left = 0;
            for (size_t l = 0; l < count; l++) {
                if (found[l])
                    continue;
                slope[l] = (double)n * (x[l] * p1[l] - p0[l]) / (x[l] * x[l] - 1);
                double step = p1[l] / slope[l];
                x[l] -= step;
                found[l] = fabs(step) < 1e-16;
                left |= !found[l];
            }
        }
        for (size_t l = 0; l < count; l++) {
            node[i + l] = x[l];
            weight[i + l] = 2 / ((1 - x[l] * x[l]) * slope[l] * slope[l]);
        }
    }
}

/* The gain that a rate belongs to. */
static double gain_of(const ei_rate *self, double r) {
    return expm1(M_LN2 * r) / self->mean_snr;
}

double ei_rate_faded_density(const ei_rate *self, double r) {
    return M_LN2 / self->mean_snr * exp2(r) * ei_gain_density(&self->gain, gain_of(self, r));
}

double ei_rate_faded_cdf(const ei_rate *self, double value) {
    double below, above;
    ei_gain_tails(&self->gain, gain_of(self, value), &below, &above);
    return below;
}

double ei_rate_faded_sf(const ei_rate *self, double value) {
    double below, above;
    ei_gain_tails(&self->gain, gain_of(self, value), &below, &above);
    return above;
}

double ei_rate_start(const ei_rate *self) {
    double power = ei_gain_power(&self->gain);
    return exp(ei_gain_log_start(&self->gain) + power * log(M_LN2 / self->mean_snr));
}

/* The gain x with P(g > x), or P(g <= x) if not `upper`, e^-80. */
static double far_gain(const ei_gain *gain, int upper) {
    double low = -700, high = 60, below, above;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        ei_gain_tails(gain, exp(middle) * gain->scale, &below, &above);
        int far = upper ? above < exp(-80) : below > exp(-80);
        *(far ? &high : &low) = middle;
    }
    return exp((low + high) / 2) * gain->scale;
}

enum { PANEL_NODES = 20 };

/* Panels descend from the range, none wider than what the law changes over nor, near 0, where it may be a
 * power of r, than a fifth of its distance from 0. */
static double next_panel(const ei_rate *self, double high) {
    return fmax(high - (self->range - self->low) / 24, high / 1.25);
}

void ei_rate_moments(const ei_rate *self, double *mean, double *spread) {
    double node[PANEL_NODES], weight[PANEL_NODES], sum = 0, centre = 0, high = self->range;
    ei_gauss_legendre(PANEL_NODES, node, weight);
    /* E[r] = int P(r > x) dx, E[(r - E[r])^2] = int (x - E[r])^2 p(x) dx: positive terms throughout. */
    for (double low; high > 1e-18 * sum; high = low) {
        low = next_panel(self, high);
        for (size_t q = 0; q < PANEL_NODES; q++)
            sum += weight[q] / 2 * (high - low) *
                   ei_rate_faded_sf(self, high + (low - high) * (1 - node[q]) / 2);
    }
    centre = sum + high;
    sum = 0;
    high = self->range;
    for (double low; high > 0 && ei_rate_faded_cdf(self, high) * centre * centre > 1e-18 * sum; high = low) {
        low = next_panel(self, high);
        for (size_t q = 0; q < PANEL_NODES; q++) {
            double r = high + (low - high) * (1 - node[q]) / 2;
            sum +=
                weight[q] / 2 * (high - low) * (r - centre) * (r - centre) * ei_rate_faded_density(self, r);
        }
    }
    *mean = centre;
    *spread = sqrt(sum);
}

double ei_rate_log_mgf(const ei_rate *self, double exponent) {
    double node[PANEL_NODES], weight[PANEL_NODES], sum = 0, peak = -INFINITY, theta = exponent * M_LN2;
    ei_gauss_legendre(PANEL_NODES, node, weight);
    /* The largest term so far is taken out, so that none underflows: the sum is sum e^peak. */
    for (double high = self->range, low; high > 0; high = low) {
        low = next_panel(self, high);
        if (log(ei_rate_faded_cdf(self, high)) - peak <= log(1e-18 * sum))
            break;
        for (size_t q = 0; q < PANEL_NODES; q++) {
            double r = high + (low - high) * (1 - node[q]) / 2;
            double term = log(weight[q] / 2 * (high - low) * ei_rate_faded_density(self, r)) - theta * r;
            if (term > peak) {
                sum *= exp(peak - term);
                peak = term;
            }
            sum += term > -INFINITY ? exp(term - peak) : 0;
        }
    }
    return log(sum) + peak;
}

int ei_rate_init(ei_rate *self, double mean_snr, const ei_gain *gain) {
    static const double SMOOTH = 12; /* a power from which on the quadrature rules notice no end */
    if (!(mean_snr > 0) || !isfinite(mean_snr) || !isfinite(1 / mean_snr) || ei_gain_verify(gain) != EI_OK)
        return EI_ERR_DOMAIN;
    *self = ei_rate_of(mean_snr);
    if (gain->shape == 1 && gain->mixing == 0 && gain->users == 1) {
        self->mean_snr *= gain->scale;
        self->range = ei_rate_of(self->mean_snr).range;
        return self->range > 0 && isfinite(self->range) ? EI_OK : EI_ERR_DOMAIN;
    }
    double power = ei_gain_power(gain);
    self->rayleigh = 0;
    self->gain = *gain;
    self->range = log1p(far_gain(gain, 1) * mean_snr) / M_LN2;
    self->low = log1p(far_gain(gain, 0) * mean_snr) / M_LN2;
    if (!(self->range > 0) || !isfinite(self->range))
        return EI_ERR_DOMAIN;
    if (self->low < self->range / 20)
        self->low = 0;
    self->power = power < SMOOTH && power != 1 && self->low == 0 ? power : 0;
    ei_rate_moments(self, &power, &self->spread);
    return self->spread > 0 ? EI_OK : EI_ERR_DOMAIN;
}

void ei_flattened_legendre(size_t n, double power, double *restrict node, double *restrict weight) {
    /* x = I(k, k) of t, the regularised incomplete beta function: x^power = t^(k power) about. */
    int k = (int)fmax(ceil(5 / power), 1);
    double scale = exp(lgamma(2 * k) - 2 * lgamma(k));
    ei_gauss_legendre(n, node, weight);
    for (size_t i = 0; i < n / 2 + n % 2; i++) {
        double t = (1 - node[i]) / 2, term = exp(k * log(t)), sum = 0;
        /* The integral of t^(k-1) (1-t)^(k-1), a sum of positive terms up to t = 1/2. */
        double slope = scale * exp((k - 1) * (log(t) + log1p(-t)));
        term = scale * exp(k * (log(t) + log1p(-t))) / k;
        for (int j = 0; j < 4000 && term > 1e-18 * sum; j++) {
            sum += term;
            term *= t * (2 * k + j) / (k + j + 1);
        }
        node[i] = sum;
        weight[i] *= slope / 2;
        node[n - 1 - i] = 1 - sum;
        weight[n - 1 - i] = weight[i];
    }
}
