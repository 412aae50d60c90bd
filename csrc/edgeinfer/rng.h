/* Random streams: xoshiro256++ (Blackman and Vigna), one stream a replication, its 256-bit state hashed by
 * splitmix64 from four words of entropy and the stream's number. Streams start at independent places of a
 * period of 2^256 - 1, so that replication k is the same whatever runs beside it: any number of threads, any
 * instruction set. */
#ifndef EDGEINFER_RNG_H
#define EDGEINFER_RNG_H

#include <stdint.h>
#include <string.h>

typedef struct {
    uint64_t state[4];
} ei_rng;

/* Given: entropy[4] (as SeedSequence.generate_state gives), stream. */
void ei_rng_init(ei_rng *self, const uint64_t entropy[4], uint64_t stream);

static inline uint64_t ei_rng_next(ei_rng *self) {
    uint64_t *s = self->state, sum = s[0] + s[3], result = ((sum << 23) | (sum >> 41)) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return result;
}

/* Uniform on (0, 1], in steps of 2^-52. */
static inline double ei_rng_uniform(ei_rng *self) {
    uint64_t bits = (ei_rng_next(self) >> 12) | 0x3ff0000000000000u;
    double value;
    memcpy(&value, &bits, sizeof value);
    return 2 - value;
}

/* log(x) for normal x > 0 within 2 units in the last place: our own, since libm's bits depend on the machine,
 * and of operations that every instruction set has as vectors. */
static inline double ei_log(double x) {
    uint64_t bits, biased, digits;
    double m, e;
    memcpy(&bits, &x, sizeof bits);
    /* x = 2^exponent m, m in [sqrt(1/2), sqrt(2)); biased = exponent + 1023 */
    biased = (bits - 0x3fe6a09e667f3bcdu + 0x3ff0000000000000u) >> 52;
    bits = bits - (biased << 52) + 0x3ff0000000000000u;
    memcpy(&m, &bits, sizeof m);
    digits = biased | 0x4330000000000000u; /* 2^52 + biased */
    memcpy(&e, &digits, sizeof e);
    e -= 4503599627370496.0 + 1023;
    double t = (m - 1) / (m + 1), q = t * t;
    /* atanh's series in two halves, so that its steps overlap. */
    double r = q * q, even = 1.0 / 19, odd = 1.0 / 17;
    even = even * r + 1.0 / 15;
    odd = odd * r + 1.0 / 13;
    even = even * r + 1.0 / 11;
    odd = odd * r + 1.0 / 9;
    even = even * r + 1.0 / 7;
    odd = odd * r + 1.0 / 5;
    even = even * r + 1.0 / 3;
    double p = odd * q + even;
    return e * 6.93147180369123816490e-01 + (2 * t + (2 * t * q * p + e * 1.90821492927058770002e-10));
}

static inline double ei_rng_exponential(ei_rng *self) {
    return -ei_log(ei_rng_uniform(self));
}

/* Streams side by side, for loops over lanes that the compiler turns into vectors. Every lane's numbers are
 * those of its stream alone. */
enum { EI_LANES = 16 };

typedef struct {
    _Alignas(64) uint64_t state[4][EI_LANES];
} ei_rng_lanes;

/* Compiled once for each instruction set and chosen at run time; without contraction all give the same bits.
 */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) &&             \
    !defined(__SANITIZE_ADDRESS__)
#define EI_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EI_MULTIVERSION
#endif
#define EI_INLINE static inline __attribute__((always_inline))

/* Lanes are the streams `first`, first + 1, .. */
void ei_rng_lanes_init(ei_rng_lanes *self, const uint64_t entropy[4], uint64_t first);

/* The next word of every lane. */
EI_INLINE void ei_rng_lanes_next(ei_rng_lanes *restrict self, uint64_t *restrict word) {
    for (int l = 0; l < EI_LANES; l++) {
        uint64_t s0 = self->state[0][l], s1 = self->state[1][l], s2 = self->state[2][l],
                 s3 = self->state[3][l];
        uint64_t sum = s0 + s3, t = s1 << 17;
        word[l] = ((sum << 23) | (sum >> 41)) + s0;
        s2 ^= s0;
        s3 ^= s1;
        s1 ^= s2;
        s0 ^= s3;
        s2 ^= t;
        self->state[0][l] = s0;
        self->state[1][l] = s1;
        self->state[2][l] = s2;
        self->state[3][l] = (s3 << 45) | (s3 >> 19);
    }
}

/* A uniform on (0, 1] for every lane. */
EI_INLINE void ei_rng_lanes_uniform(ei_rng_lanes *restrict self, double *restrict value) {
    _Alignas(64) uint64_t word[EI_LANES];
    ei_rng_lanes_next(self, word);
    for (int l = 0; l < EI_LANES; l++) {
        uint64_t bits = (word[l] >> 12) | 0x3ff0000000000000u;
        double uniform;
        memcpy(&uniform, &bits, sizeof uniform);
        value[l] = 2 - uniform;
    }
}

#endif
