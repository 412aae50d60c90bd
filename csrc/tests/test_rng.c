/* Random streams: the generator's published values, streams that differ in every word, even bits, logarithms.
 */
#include "check.h"

#include "edgeinfer/rng.h"

#include <stdlib.h>

static const uint64_t entropy[4] = {1, 2, 3, 4};

/* What the authors' own xoshiro256plusplus.c gives from this state. */
static void test_published_values(void) {
    static const uint64_t expected[] = {41943041, 58720359, 3588806011781223, 3591011842654386};
    ei_rng rng = {{1, 2, 3, 4}};
    for (int i = 0; i < 4; i++)
        CHECK(ei_rng_next(&rng) == expected[i]);
}

static int distance(const ei_rng *one, const ei_rng *other) {
    int sum = 0;
    for (int i = 0; i < 4; i++)
        sum += __builtin_popcountll(one->state[i] ^ other->state[i]);
    return sum;
}

/* A bit of the entropy, or of the stream's number, changes each of 256 bits half the time: 320 distances of
 * standard deviation 8, each off by more than 48 with probability 2e-9. */
static void test_every_bit_counts(void) {
    ei_rng plain, changed;
    ei_rng_init(&plain, entropy, 5);
    for (int bit = 0; bit < 320; bit++) {
        uint64_t words[5] = {entropy[0], entropy[1], entropy[2], entropy[3], 5};
        words[bit / 64] ^= (uint64_t)1 << bit % 64;
        ei_rng_init(&changed, words, words[4]);
        CHECK(abs(distance(&plain, &changed) - 128) <= 48);
    }
    ei_rng_init(&changed, entropy, 5);
    CHECK(distance(&plain, &changed) == 0);
}

/* Mean and variance, each off by more than 6 standard deviations with probability 2e-9; E[(x - 1)^4] = 9. */
static void test_exponentials(void) {
    enum { COUNT = 1 << 18 };
    double sum = 0, squares = 0;
    ei_rng rng;
    ei_rng_init(&rng, entropy, 11);
    for (int i = 0; i < COUNT; i++) {
        double x = ei_rng_exponential(&rng);
        CHECK(x >= 0);
        sum += x - 1;
        squares += (x - 1) * (x - 1);
    }
    CHECK(fabs(sum / COUNT) < 6 * sqrt(1.0 / COUNT));
    CHECK(fabs(squares / COUNT - 1) < 6 * sqrt(8.0 / COUNT));
}

static void test_log2(void) {
    ei_rng rng;
    ei_rng_init(&rng, entropy, 0);
    double worst = 0;
    for (int i = 0; i < 200000; i++) {
        /* Over all binades, and close to 1, where the logarithm cancels. */
        double x = ldexp(ei_rng_uniform(&rng), i % 2 ? i % 2000 - 1000 : 0);
        if (i % 4 == 0)
            x = 1 + (x - 0.5) * ldexp(1, -(i % 48));
        double exact = log2(x);
        if (exact != 0)
            worst = fmax(worst, fabs(ei_log2(x) / exact - 1));
        else
            CHECK(ei_log2(x) == 0);
    }
    CHECK(worst <= 5e-12);
}

static void test_exp2(void) {
    double worst = 0;
    for (int i = 0; i < 100000; i++)
        worst = fmax(worst, fabs(ei_exp2(-i / 100.0) / exp2(-i / 100.0) - 1));
    CHECK(worst <= 1e-15);
    CHECK(ei_exp2(-1e4) == 0 && ei_exp2(0) == 1);
}

/* Each bit of a word, and of a word xor the next of the stream and of the next stream, is one half the time:
 * 192 counts, each off by more than 5.5 standard deviations with probability 4e-8. */
static void test_bits_are_even(void) {
    enum { WORDS = 1 << 18 };
    static int count[3][64];
    ei_rng one, other;
    ei_rng_init(&one, entropy, 7);
    ei_rng_init(&other, entropy, 8);
    uint64_t before = ei_rng_next(&one);
    for (int i = 0; i < WORDS; i++) {
        uint64_t now = ei_rng_next(&one), seen[3] = {now, now ^ before, now ^ ei_rng_next(&other)};
        for (int kind = 0; kind < 3; kind++)
            for (int bit = 0; bit < 64; bit++)
                count[kind][bit] += (int)(seen[kind] >> bit & 1);
        before = now;
    }
    for (int kind = 0; kind < 3; kind++)
        for (int bit = 0; bit < 64; bit++)
            CHECK(fabs(count[kind][bit] - WORDS / 2.0) < 5.5 * sqrt(WORDS) / 2);
}

/* Pairs of uniforms, of one stream and of neighbouring ones, in a grid of 32 x 32: chi-square with 1023
 * degrees of freedom, above its mean by 5 standard deviations with probability below 1e-5. */
static void test_uniforms_fill_the_square(void) {
    enum { SIDE = 32, PAIRS = 1 << 19 };
    static int cell[2][SIDE][SIDE];
    ei_rng one, other;
    ei_rng_init(&one, entropy, 9);
    ei_rng_init(&other, entropy, 10);
    for (int i = 0; i < PAIRS; i++) {
        double u = ei_rng_uniform(&one), next = ei_rng_uniform(&one), beside = ei_rng_uniform(&other);
        int row = (int)((1 - u) * SIDE);
        cell[0][row][(int)((1 - next) * SIDE)]++;
        cell[1][row][(int)((1 - beside) * SIDE)]++;
    }
    for (int kind = 0; kind < 2; kind++) {
        const double expected = (double)PAIRS / (SIDE * SIDE), freedom = SIDE * SIDE - 1;
        double square = 0;
        for (int i = 0; i < SIDE; i++)
            for (int j = 0; j < SIDE; j++)
                square += (cell[kind][i][j] - expected) * (cell[kind][i][j] - expected) / expected;
        CHECK(fabs(square - freedom) < 5 * sqrt(2 * freedom));
    }
}

int main(void) {
    test_published_values();
    test_every_bit_counts();
    test_exponentials();
    test_log2();
    test_exp2();
    test_bits_are_even();
    test_uniforms_fill_the_square();
    return check_report();
}
