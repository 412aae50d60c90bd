/* The rate of a slot: closed forms of two branches, quadrature rules, moments, wrong inputs. */
#include "inputs.h"

#include "edgeinfer/rate.h"

enum { NODES = 12 };

/* n Gauss-Legendre nodes are exact up to degree 2n - 1, and miss x^2n by 2^(2n+1) (n!)^4 / ((2n+1)
 * ((2n)!)^2): 2e-7 for 12. */
static void test_gauss_legendre(void) {
    double node[NODES], weight[NODES];
    ei_gauss_legendre(NODES, node, weight);
    for (int degree = 0; degree <= 2 * NODES; degree++) {
        double sum = 0, exact = degree % 2 ? 0 : 2 / (degree + 1.0);
        for (int i = 0; i < NODES; i++)
            sum += weight[i] * pow(node[i], degree);
        double missed = exact - sum;
        if (degree < 2 * NODES)
            CHECK(fabs(missed) < 1e-14);
        else
            CHECK_RELATIVE(missed, exp(25 * M_LN2 + 4 * lgamma(13) - 2 * lgamma(25)) / 25, 1e-6);
    }
    for (int i = 1; i < NODES; i++)
        CHECK(node[i] < node[i - 1]);
}

/* int_0^1 x^(power - 1) dx = 1 / power, and of that times 1 - x. */
static void test_flattened_legendre(void) {
    enum { MANY = 64 };
    static const double powers[] = {0.3, 0.5, 1, 1.7};
    for (int p = 0; p < 4; p++) {
        double node[MANY], weight[MANY], sum = 0, other = 0, power = powers[p];
        ei_flattened_legendre(MANY, power, node, weight);
        for (int i = 0; i < MANY; i++) {
            sum += weight[i] * pow(node[i], power - 1);
            other += weight[i] * pow(node[i], power - 1) * (1 - node[i]);
            CHECK(i == 0 || node[i] >= node[i - 1]); /* those next to 1 round to it */
        }
        CHECK_RELATIVE(sum, 1 / power, 1e-10);
        CHECK_RELATIVE(other, 1 / power - 1 / (power + 1), 1e-10);
    }
}

/* Two branches, of gain density x e^-x: everything by the trapezoidal rule in log x, whose error is of
 * exp(-2 pi (pi / 2) / step), far below rounding. */
static void test_two_branches(void) {
    const double snr = 1.26, step = 1.0 / 64;
    const ei_gain gain = {2, 0, 1, 1};
    double mean = 0, square = 0, transform = 0, value, spread;
    ei_rate rate;
    CHECK(ei_rate_init(&rate, snr, &gain) == EI_OK && !rate.rayleigh);
    for (int i = -64 * 25; i <= 64 * 7; i++) {
        double x = exp(i * step), mass = step * x * x * exp(-x), r = log1p(snr * x) / M_LN2;
        mean += mass * r;
        square += mass * r * r;
        transform += mass * pow(1 + snr * x, -2.5);
    }
    ei_rate_moments(&rate, &value, &spread);
    CHECK_RELATIVE(value, mean, 1e-12);
    CHECK_RELATIVE(spread, sqrt(square - mean * mean), 1e-11);
    CHECK(spread == rate.spread);
    CHECK_RELATIVE(ei_rate_log_mgf(&rate, 2.5), log(transform), 1e-10);
    for (double r = 0.1; r < 5; r += 0.7) {
        double x = (exp2(r) - 1) / snr;
        CHECK_RELATIVE(ei_rate_sf(&rate, r), (1 + x) * exp(-x), 1e-12);
        CHECK_RELATIVE(ei_rate_cdf(&rate, r), 1 - (1 + x) * exp(-x), 1e-12 / (x * x));
        CHECK_RELATIVE(ei_rate_density(&rate, r), x * exp(-x) * exp2(r) * M_LN2 / snr, 1e-12);
    }
    /* density / r -> (ln 2 / s)^2 */
    CHECK_RELATIVE(ei_rate_start(&rate), M_LN2 / snr * M_LN2 / snr, 1e-12);
    CHECK_RELATIVE(ei_rate_sf(&rate, rate.range), exp(-80), 1e-9);
}

/* A gain that is Rayleigh's is taken for it, its scale for the link's; by closed forms. */
static void test_rayleigh(void) {
    const ei_gain gain = {1, 0, 0.5, 1};
    ei_rate rate;
    CHECK(ei_rate_init(&rate, 2.52, &gain) == EI_OK && rate.rayleigh && rate.mean_snr == 1.26);
    CHECK_RELATIVE(ei_rate_sf(&rate, 1), exp(-1 / 1.26), 1e-15);
    CHECK_RELATIVE(ei_rate_cdf(&rate, 1), 1 - exp(-1 / 1.26), 1e-15);
    CHECK_RELATIVE(ei_rate_density(&rate, 1), exp(-1 / 1.26) * 2 * M_LN2 / 1.26, 1e-15);
    CHECK_RELATIVE(ei_rate_sf(&rate, rate.range), exp(-80), 1e-12);
}

int main(void) {
    ei_gain gain = ei_gain_rayleigh();
    ei_rate rate;
    for (int i = 0; i < BAD; i++)
        CHECK(ei_rate_init(&rate, bad[i], &gain) == EI_ERR_DOMAIN);
    CHECK(ei_rate_init(&rate, 1e-310, &gain) == EI_ERR_DOMAIN);
    gain.users = 1.5;
    CHECK(ei_rate_init(&rate, 1, &gain) == EI_ERR_DOMAIN);
    test_gauss_legendre();
    test_flattened_legendre();
    test_two_branches();
    test_rayleigh();
    return check_report();
}
