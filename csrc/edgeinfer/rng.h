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

/* log(x) for normal x > 0 within 2 units in the last place: our own, since libm's bits depend on the machine.
 */
static inline double ei_log(double x) {
    int64_t bits;
    memcpy(&bits, &x, sizeof bits);
    /* x = 2^exponent m, m in [sqrt(1/2), sqrt(2)) */
    int64_t shifted = bits - 0x3fe6a09e667f3bcd, exponent = shifted >> 52;
    bits -= (int64_t)((uint64_t)exponent << 52);
    double m;
    memcpy(&m, &bits, sizeof m);
    double t = (m - 1) / (m + 1), q = t * t;
    double p = 1.0 / 19;
    p = p * q + 1.0 / 17;
    p = p * q + 1.0 / 15;
    p = p * q + 1.0 / 13;
    p = p * q + 1.0 / 11;
    p = p * q + 1.0 / 9;
    p = p * q + 1.0 / 7;
    p = p * q + 1.0 / 5;
    p = p * q + 1.0 / 3;
    double e = (double)exponent;
    return e * 6.93147180369123816490e-01 + (2 * t + (2 * t * q * p + e * 1.90821492927058770002e-10));
}

static inline double ei_rng_exponential(ei_rng *self) {
    return -ei_log(ei_rng_uniform(self));
}

#endif
