/* Draws service times. A link's transfer time comes from the quantile function of its exact law, tabulated
 * over both tails: a random bit picks the half, and within it u in (0, 1/2] is looked up by its
 * floating-point bits, 128 cells an octave down to 2^-53, linear in between. The quantile's error is below
 * 1e-5 standard deviations in the body, and the tails keep their relative probability down to 1e-15. */
#ifndef EDGEINFER_SAMPLER_H
#define EDGEINFER_SAMPLER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "edgeinfer/rng.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

enum {
    EI_QUANTILE_CELL_BITS = 7,
    EI_QUANTILE_CELLS = 1 << EI_QUANTILE_CELL_BITS,
    EI_QUANTILE_OCTAVES = 53,
    EI_QUANTILE_TABLE = EI_QUANTILE_OCTAVES * EI_QUANTILE_CELLS + 1 /* a half's points */
};

/* The point of the table that a random word picks, and the fraction of the way to the next. */
EI_INLINE uint64_t ei_quantile_point(uint64_t word, double *fraction) {
    uint64_t bits = (word >> 12) | 0x3ff0000000000000u, rest;
    double v;
    memcpy(&v, &bits, sizeof v);
    v = (2 - v) / 2;
    memcpy(&bits, &v, sizeof bits);
    /* The exponent's and the mantissa's leading bits are the cell, the rest the place in it. */
    uint64_t cell = (bits >> (52 - EI_QUANTILE_CELL_BITS)) -
                    ((uint64_t)(1023 - EI_QUANTILE_OCTAVES - 1) << EI_QUANTILE_CELL_BITS);
    rest = ((bits << EI_QUANTILE_CELL_BITS) & 0x000fffffffffffffu) | 0x3ff0000000000000u;
    memcpy(fraction, &rest, sizeof rest);
    *fraction -= 1;
    return cell + (word & 1) * EI_QUANTILE_TABLE;
}

/* The quantile that a random word picks. The table holds for each point the time there and the way to the
 * next. */
EI_INLINE double ei_quantile(const double *table, uint64_t word) {
    double fraction;
    const double *point = table + 2 * ei_quantile_point(word, &fraction);
    return point[0] + fraction * point[1];
}

typedef enum {
    EI_LINK_TABLE,     /* from the tabulated exact law */
    EI_LINK_SLOTS,     /* slot by slot, a fresh slot at the start of every transfer */
    EI_LINK_WALL_CLOCK /* slot by slot on the wall clock's grid: successive transfers share a slot's rate */
} ei_link_mode;

typedef struct ei_sampler {
    ei_service service; /* what it points to is not owned */
    double *quantile;   /* the table, owned; NULL unless a link drawn from it */
    double carry, mean_snr, slot;
    const ei_rate *rate;      /* a link's; not owned */
    struct ei_sampler *round; /* [round_size], of a compound's round; owned */
    size_t round_size, round_count;
    double *rounds_above; /* [round_count], P(N > n) for n = 0, 1, ..; owned */
} ei_sampler;

EI_WARN_UNUSED int ei_sampler_init(ei_sampler *self, const ei_service *service, ei_link_mode mode);
void ei_sampler_free(ei_sampler *self);
/* Rounds of a compound for u uniform on (0, 1]: N > n where u <= P(N > n). */
static inline size_t ei_sampler_rounds(const ei_sampler *self, double u) {
    size_t n = 0;
    while (n + 1 < self->round_count && u <= self->rounds_above[n])
        n++;
    return n;
}

/* One service time, s; a link in EI_LINK_SLOTS mode draws its slots, with a fresh one at the start. */
double ei_sampler_draw(const ei_sampler *self, ei_rng *rng);

/* Rate of one slot in units of the bandwidth: log2(1 + s g). */
static inline double ei_sample_slot(double mean_snr, ei_rng *rng) {
    return ei_log2(1 + -EI_LN2 * mean_snr * ei_log2(ei_rng_uniform(rng)));
}

/* The same of any fading. */
static inline double ei_sample_rate_of(const ei_rate *rate, ei_rng *rng) {
    return rate->rayleigh ? ei_sample_slot(rate->mean_snr, rng)
                          : ei_log2(1 + rate->mean_snr * ei_gain_draw(&rate->gain, rng));
}

/* Rates of independent slots, of Rayleigh fading sample i from stream i modulo EI_LANES.
 * Given: count, bandwidth (Hz, > 0), mean_snr (linear, > 0), gain, entropy.
 * Returned: rate[count], bit/s. Status: EI_ERR_DOMAIN, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_sample_rate(size_t count, double bandwidth, double mean_snr, const ei_gain *gain,
                                  const uint64_t entropy[4], double *rate, ei_monitor monitor);

/* Independent service times of a stage, from stream 0.
 * Given: count, service (no channel, whose times depend on one another), mode, entropy.
 * Returned: time[count], s. Status: EI_ERR_DOMAIN, EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED. */
EI_WARN_UNUSED int ei_sample_service(size_t count, const ei_service *service, ei_link_mode mode,
                                     const uint64_t entropy[4], double *time, ei_monitor monitor);

#endif
