/* Power gains: both tails and densities against sums written out, moments of what is drawn, wrong inputs. */
#include "inputs.h"

#include "edgeinfer/gain.h"

static const uint64_t entropy[4] = {1, 2, 3, 4};

static void test_wrong_inputs(void) {
    const ei_gain good = {2, 1, 0.5, 3}, broken = {1.5, 1, 1, 1};
    CHECK(ei_gain_verify(&good) == EI_OK);
    CHECK(ei_gain_verify(&broken) == EI_ERR_DOMAIN); /* a line of sight in a broken number of branches */
    for (int i = 0; i < BAD; i++) {
        ei_gain gain[4] = {good, good, good, good};
        gain[0].shape = gain[1].scale = gain[2].users = bad[i];
        gain[3].mixing = bad[i] == 0 ? NAN : bad[i];
        for (int k = 0; k < 4; k++)
            CHECK(ei_gain_verify(&gain[k]) == EI_ERR_DOMAIN);
    }
}

/* Of shape + n, a whole number: P(> y) = sum over k < shape + n of e^-y y^k / k!, the rest P(<= y), and the
 * density the term at shape + n - 1; n by its Poisson probabilities. All positive, so each sum is off by less
 * than its terms' 1e-14. */
static void sum_up(const ei_gain *gain, double y, double *below, double *above, double *density) {
    enum { MOST = 400 };
    *below = *above = *density = 0;
    for (int n = 0; n < MOST / 2; n++) {
        double chance = n == 0 ? exp(-gain->mixing) : 0, shape = gain->shape + n;
        if (n > 0 && gain->mixing > 0)
            chance = exp(n * log(gain->mixing) - gain->mixing - lgamma(n + 1.0));
        for (int k = 0; k < MOST; k++)
            *(k < shape ? above : below) += chance * exp(k * log(y) - y - lgamma(k + 1.0));
        *density += chance * exp((shape - 1) * log(y) - y - lgamma(shape));
    }
    *density /= gain->scale;
}

/* The largest of n: F^n, 1 - F^n and n F^(n-1) f. */
static void test_tails(void) {
    static const ei_gain gains[] = {{1, 0, 1, 1},    {3, 0, 1.0 / 3, 1}, {1, 4, 0.2, 1},
                                    {2, 6, 0.25, 1}, {1, 0, 1, 3},       {2, 3, 0.4, 5}};
    static const double places[] = {1e-4, 0.1, 1, 3, 10, 40};
    for (int g = 0; g < 6; g++)
        for (int p = 0; p < 6; p++) {
            const ei_gain *gain = &gains[g];
            double below, above, one_below, one_above, density, x = places[p] * gain->scale;
            sum_up(gain, places[p], &one_below, &one_above, &density);
            ei_gain_tails(gain, x, &below, &above);
            double others = exp((gain->users - 1) * (one_above < 0.5 ? log1p(-one_above) : log(one_below)));
            double log_below = one_above < 0.5 ? log1p(-one_above) : log(one_below);
            CHECK_RELATIVE(below, exp(gain->users * log_below), 1e-12);
            CHECK_RELATIVE(above, -expm1(gain->users * log_below), 1e-12);
            CHECK_RELATIVE(ei_gain_density(gain, x), gain->users * others * density, 1e-12);
        }
}

/* Both tails of the best of three Rayleigh gains far out, and how densities start. */
static void test_ends(void) {
    double below, above;
    const ei_gain best = {1, 0, 1, 3}, sight = {2, 6, 0.25, 1}, half = {0.5, 0, 2, 1};
    ei_gain_tails(&best, 50, &below, &above);
    CHECK_RELATIVE(above, 3 * exp(-50.0), 1e-12);
    ei_gain_tails(&best, 1e-9, &below, &above);
    CHECK_RELATIVE(below, 1e-27, 1e-8);
    ei_gain_tails(&best, 0, &below, &above);
    CHECK(below == 0 && above == 1);
    ei_gain_tails(&sight, 1e6, &below, &above);
    CHECK(below == 1 && above == 0);
    /* 3 x^2; e^-6 x / scale^2; x^(-1/2) / sqrt(pi scale) */
    CHECK(ei_gain_power(&best) == 3 && isinf(ei_gain_density(&half, 0)));
    CHECK_RELATIVE(exp(ei_gain_log_start(&best)), 3, 1e-14);
    CHECK_RELATIVE(exp(ei_gain_log_start(&sight)), 16 * exp(-6.0), 1e-13);
    CHECK_RELATIVE(exp(ei_gain_log_start(&half)), 1 / sqrt(2 * M_PI), 1e-14);
    /* Shape 1/2 is a squared normal variable: P(g > x) = erfc(sqrt(x / 2)). */
    ei_gain_tails(&half, 3, &below, &above);
    CHECK_RELATIVE(above, erfc(sqrt(1.5)), 1e-13);
    CHECK_RELATIVE(below, erf(sqrt(1.5)), 1e-13);
}

/* A gain's own P(g <= x) is uniform: mean and variance, each off by more than 6 standard deviations with
 * probability 2e-9. */
static void test_draws(void) {
    enum { DRAWS = 1 << 14 };
    static const ei_gain gains[] = {{1, 0, 1, 1},   {0.4, 0, 2, 1}, {2.5, 0, 0.4, 1},
                                    {1, 4, 0.2, 1}, {3, 2, 0.2, 1}, {1, 1, 0.5, 4}};
    for (uint64_t g = 0; g < 6; g++) {
        double sum = 0, squares = 0;
        ei_rng rng;
        ei_rng_init(&rng, entropy, g);
        for (int i = 0; i < DRAWS; i++) {
            double below, above;
            ei_gain_tails(&gains[g], ei_gain_draw(&gains[g], &rng), &below, &above);
            sum += below - 0.5;
            squares += (below - 0.5) * (below - 0.5);
        }
        CHECK(fabs(sum / DRAWS) < 6 * sqrt(1.0 / 12 / DRAWS));
        CHECK(fabs(squares / DRAWS - 1.0 / 12) < 6 * sqrt(1.0 / 180 / DRAWS));
    }
}

int main(void) {
    test_wrong_inputs();
    test_tails();
    test_ends();
    test_draws();
    return check_report();
}
