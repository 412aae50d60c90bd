/* Inversion for many slots against the recursion slot by slot; moments, the span of slots, no memory. */
#include "inputs.h"

#include "edgeinfer/fading.h"
#include "edgeinfer/inversion.h"
#include "edgeinfer/recursion.h"

enum { COLUMNS = EI_INVERSION_FRACTIONS, SLOTS = 26, FIRST = 16 };

static int call(const ei_service *stages, size_t count) {
    (void)stages;
    (void)count;
    ei_rate rate = ei_rate_of(1.26);
    ei_inversion *self;
    int status = ei_inversion_new(&self, &rate, 20);
    CHECK((status == EI_OK) == (self != NULL));
    ei_inversion_free(self);
    return status;
}

/* The two share the law of one slot alone: quadrature along a line there, convolutions on a lattice here. */
static void test_against_recursion(const ei_rate *rate, double carry) {
    double fraction[COLUMNS], value[1][COLUMNS];
    ei_inversion *self;
    ei_recursion *other;
    for (int j = 0; j < COLUMNS; j++)
        fraction[j] = j / (COLUMNS - 1.0);
    CHECK(ei_inversion_new(&self, rate, carry) == EI_OK);
    CHECK(ei_recursion_new(&other, rate, carry, 1e-20) == EI_OK);
    for (int n = 1; n < SLOTS; n++) {
        const double slots = n;
        if (n >= FIRST) {
            CHECK(ei_inversion_logits(self, 1, &slots, fraction, value) == EI_OK);
            for (int j = 0; j < COLUMNS; j++)
                CHECK(fabs(value[0][j] - ei_recursion_logit(other, fraction[j])) < 1e-8);
        }
        ei_recursion_advance(other);
    }
    ei_recursion_free(other);
    ei_inversion_free(self);
}

/* A law that goes within one slot from one side to the other, and beyond what may matter. */
static void test_narrow(void) {
    const ei_gain gain = {50, 0, 0.02, 1};
    const double slots = 11;
    double fraction[COLUMNS], value[1][COLUMNS], expected;
    ei_rate rate;
    ei_inversion *self;
    ei_recursion *other;
    for (int j = 0; j < COLUMNS; j++)
        fraction[j] = j / (COLUMNS - 1.0);
    CHECK(ei_rate_init(&rate, 1e6, &gain) == EI_OK);
    double carry = 12 * 19.9; /* rates are 19.9 on average, their standard deviation 0.2 */
    CHECK(ei_inversion_new(&self, &rate, carry) == EI_OK);
    CHECK(ei_recursion_new(&other, &rate, carry, 1e-20) == EI_OK);
    for (int n = 1; n < 11; n++)
        ei_recursion_advance(other);
    CHECK(ei_inversion_logits(self, 1, &slots, fraction, value) == EI_OK);
    CHECK(value[0][0] > 300 && value[0][COLUMNS - 1] < 1);
    for (int j = 0; j < COLUMNS; j++) {
        expected = ei_recursion_logit(other, fraction[j]);
        CHECK(j == 0 || value[0][j] < value[0][j - 1]);
        CHECK(fabs(expected) > 40 || fabs(value[0][j] - expected) < 1e-8);
    }
    ei_recursion_free(other);
    ei_inversion_free(self);
}

static void test_moments_and_span(void) {
    ei_rate rate = ei_rate_of(1.26);
    ei_inversion *self;
    double mean, spread, exact, first, last, value[1][COLUMNS], none[COLUMNS] = {0};
    CHECK(ei_inversion_new(&self, &rate, 20) == EI_OK);
    ei_inversion_moments(self, &mean, &spread);
    CHECK(ei_ergodic_rate(1, 1.26, &exact) == EI_OK);
    CHECK_RELATIVE(mean, exact, 1e-11);
    /* E[r^2] by the trapezoidal rule in log x, the gain's density e^-x. */
    double square = 0, step = 1.0 / 64;
    for (int i = -64 * 40; i <= 64 * 6; i++) {
        double x = exp(i * step), r = log1p(1.26 * x) / M_LN2;
        square += step * x * exp(-x) * r * r;
    }
    CHECK_RELATIVE(spread, sqrt(square - exact * exact), 1e-10);
    for (double tail = 1e-3; tail > 1e-13; tail *= 1e-3) {
        ei_inversion_span(self, tail, &first, &last);
        CHECK(first >= 1 && first < 20 / mean && last > 20 / mean && last < 200);
        CHECK(ei_inversion_logits(self, 1, &first, none, value) == EI_OK && -value[0][0] < log(tail));
        CHECK(ei_inversion_logits(self, 1, &last, none, value) == EI_OK && value[0][0] < log(tail));
    }
    ei_inversion_free(self);
}

int main(void) {
    const ei_gain branches = {2, 0, 0.5, 1};
    ei_rate rate = ei_rate_of(1.26);
    test_against_recursion(&rate, 20);
    CHECK(ei_rate_init(&rate, 1.26, &branches) == EI_OK);
    test_against_recursion(&rate, 20);
    test_narrow();
    test_moments_and_span();
    ei_inversion_free(NULL);
    sweep_allocations(call, "inversion", NULL, 0);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
