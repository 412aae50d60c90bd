/* Random streams: xoshiro256++ (Blackman and Vigna), one stream a replication, its 256-bit state hashed by
 * splitmix64 from four words of entropy and the stream's number. Streams start at independent places of a
 * period of 2^256 - 1, so that replication k is the same whatever runs beside it: any number of threads, any
 * instruction set. */
#ifndef EDGEINFER_RNG_H
#define EDGEINFER_RNG_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define EI_INLINE static inline __attribute__((always_inline))
#define EI_LN2 0.69314718055994530942

typedef struct {
    uint64_t state[4];
} ei_rng;

/* Given: entropy[4] (as SeedSequence.generate_state gives), stream. */
void ei_rng_init(ei_rng *self, const uint64_t entropy[4], uint64_t stream);

/* Two operations, of which the second may be shared. */
#define EI_XOR(a, b, c) ((a) ^ ((b) ^ (c)))

/* The step of xoshiro256++ for a word or a vector of them; xor is EI_XOR or the same in one operation. */
#define EI_DEFINE_NEXT(name, word, xor)                                                                      \
    EI_INLINE void name(word s[4], word *result) {                                                           \
        const word sum = s[0] + s[3], last = s[3] ^ s[1], first = xor(s[0], s[3], s[1]),                     \
                   second = xor(s[1], s[2], s[0]), third = xor(s[1] << 17, s[2], s[0]);                      \
        *result = ((sum << 23) | (sum >> 41)) + s[0];                                                        \
        s[0] = first;                                                                                        \
        s[1] = second;                                                                                       \
        s[2] = third;                                                                                        \
        s[3] = (last << 45) | (last >> 19);                                                                  \
    }

EI_DEFINE_NEXT(ei_word_next, uint64_t, EI_XOR)

static inline uint64_t ei_rng_next(ei_rng *self) {
    uint64_t result;
    ei_word_next(self->state, &result);
    return result;
}

/* Uniform on (0, 1], in steps of 2^-52. */
static inline double ei_rng_uniform(ei_rng *self) {
    uint64_t bits = (ei_rng_next(self) >> 12) | 0x3ff0000000000000u;
    double value;
    memcpy(&value, &bits, sizeof value);
    return 2 - value;
}

/* Makes e the exponent of a normal m > 0, by the bits of 2^52 + 1023 + the exponent. */
#define EI_EXPONENT(e, m)                                                                                    \
    ((e).bits = ((m).bits >> 52) | 0x4330000000000000u, (e).number -= 4503599627370496.0 + 1023)

/* log2(x) for normal x in (0, 2^1023), for `many` doubles or vectors of them; relative error <= 5e-12, which
 * no simulation can see; exponent is EI_EXPONENT or the same in one operation. Our own, since libm's bits
 * depend on the machine, and of operations that every instruction set has as vectors. x = 2^e m, m in
 * [sqrt(1/2), sqrt(2)), t = (m - 1) / (m + 1), log2(m) = t P(t^2), P the interpolation of log2((1 + t) / (1 -
 * t)) / t at the Chebyshev nodes. Step by step over all of them, as a processor does not look far enough
 * ahead to do the next beside the one before. */
#define EI_DEFINE_LOG2(name, real, word, many, exponent)                                                     \
    EI_INLINE void name(const real *x, real *result) {                                                       \
        union {                                                                                              \
            real number;                                                                                     \
            word bits;                                                                                       \
        } m[many], e[many];                                                                                  \
        real t[many], q[many], r[many], low[many], high[many];                                               \
        for (int i = 0; i < (many); i++) {                                                                   \
            m[i].number = x[i];                                                                              \
            m[i].bits -= 0x3fe6a09e667f3bcdu - 0x3ff0000000000000u;                                          \
            exponent(e[i], m[i]);                                                                            \
            m[i].bits = (m[i].bits & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu;                             \
        }                                                                                                    \
        for (int i = 0; i < (many); i++)                                                                     \
            t[i] = (m[i].number - 1.0) / (m[i].number + 1.0);                                                \
        for (int i = 0; i < (many); i++)                                                                     \
            q[i] = t[i] * t[i];                                                                              \
        for (int i = 0; i < (many); i++) {                                                                   \
            r[i] = q[i] * q[i];                                                                              \
            low[i] = 0.96179667345154847493 * q[i];                                                          \
            high[i] = 0.41167376623771059218 * q[i];                                                         \
        }                                                                                                    \
        for (int i = 0; i < (many); i++) {                                                                   \
            high[i] = 0.57708356600486586122 + high[i];                                                      \
            low[i] = 2.8853900817899870491 + low[i];                                                         \
            q[i] = r[i] * 0.34071204156190859826;                                                            \
        }                                                                                                    \
        for (int i = 0; i < (many); i++)                                                                     \
            high[i] = high[i] + q[i];                                                                        \
        for (int i = 0; i < (many); i++)                                                                     \
            high[i] = r[i] * high[i];                                                                        \
        for (int i = 0; i < (many); i++)                                                                     \
            low[i] = low[i] + high[i];                                                                       \
        for (int i = 0; i < (many); i++)                                                                     \
            low[i] = t[i] * low[i];                                                                          \
        for (int i = 0; i < (many); i++)                                                                     \
            result[i] = e[i].number + low[i];                                                                \
    }

EI_DEFINE_LOG2(ei_real_log2, double, uint64_t, 1, EI_EXPONENT)

static inline double ei_log2(double x) {
    ei_real_log2(&x, &x);
    return x;
}

/* 2^x for x <= 0, relative error <= 1e-15, with the same bits everywhere: the exponential series of what is
 * left of x beside a whole number. */
static inline double ei_exp2(double x) {
    if (!(x > -1080))
        return 0;
    int whole = (int)(x - 0.5);
    double rest = (x - whole) * EI_LN2, sum = 1;
    for (int n = 13; n > 0; n--)
        sum = 1 + sum * rest / n;
    return ldexp(sum, whole);
}

static inline double ei_rng_exponential(ei_rng *self) {
    return -EI_LN2 * ei_log2(ei_rng_uniform(self));
}

/* The first place whose cumulative probability reaches u, u on (0, 1]: none of probability 0. */
static inline size_t ei_pick(const double *law, size_t count, double u) {
    size_t low = 0, high = count - 1;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (law[middle] >= u)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

#endif
