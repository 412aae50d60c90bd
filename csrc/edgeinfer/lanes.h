/* Sixteen random streams side by side, in vectors of eight, for loops whose state stays in registers. Every
 * lane's numbers are those of its stream alone, with the bits of the scalar functions of rng.h. */
#ifndef EDGEINFER_LANES_H
#define EDGEINFER_LANES_H

#include <stddef.h>
#include <stdint.h>

#include "edgeinfer/rng.h"

enum { EI_WIDTH = 8, EI_GROUPS = 2, EI_LANES = EI_WIDTH * EI_GROUPS };

typedef double ei_reals __attribute__((vector_size(8 * EI_WIDTH)));
typedef uint64_t ei_words __attribute__((vector_size(8 * EI_WIDTH)));

/* One number a lane. */
typedef union {
    ei_reals group[EI_GROUPS];
    double lane[EI_LANES];
} ei_row;

typedef union {
    ei_words group[4][EI_GROUPS];
    uint64_t lane[4][EI_LANES];
} ei_lanes;

/* Lanes are the streams `first`, first + 1, .. */
void ei_lanes_init(ei_lanes *self, const uint64_t entropy[4], uint64_t first);

/* One lane's stream as a generator of its own, for draws that have no form over lanes. */
EI_INLINE ei_rng ei_lanes_take(const ei_lanes *self, int lane) {
    return (ei_rng){{self->lane[0][lane], self->lane[1][lane], self->lane[2][lane], self->lane[3][lane]}};
}

EI_INLINE void ei_lanes_put(ei_lanes *self, int lane, const ei_rng *rng) {
    for (int i = 0; i < 4; i++)
        self->lane[i][lane] = rng->state[i];
}

EI_DEFINE_NEXT(ei_words_next, ei_words)
EI_DEFINE_LOG2(ei_reals_log2, ei_reals, ei_words)

/* Uniforms on (0, 1] in every lane, then `scale` log2 of them plus `shift`: with scale -ln 2 / rate
 * exponentials. Rows [count]. */
EI_INLINE void ei_lanes_logarithms(ei_lanes *self, size_t count, double scale, double shift,
                                   ei_row *restrict rows) {
    for (int h = 0; h < EI_GROUPS; h++) {
        ei_words state[4], word;
        for (int i = 0; i < 4; i++)
            state[i] = self->group[i][h];
        for (size_t j = 0; j < count; j++) {
            ei_words_next(state, &word);
            ei_reals value = 2.0 - (ei_reals)((word >> 12) | 0x3ff0000000000000u);
            ei_reals_log2(&value, &value);
            rows[j].group[h] = shift + scale * value;
        }
        for (int i = 0; i < 4; i++)
            self->group[i][h] = state[i];
    }
}

/* Rates of independent Rayleigh slots, log2(1 + s g) times `scale`, to rate[count][EI_LANES], which may be
 * `work`, rows [count]. In two passes, so that the two logarithms of a rate do not wait for each other; a few
 * dozen rows fit the first-level cache. */
EI_INLINE void ei_lanes_slots(ei_lanes *self, size_t count, double mean_snr, double scale, ei_row *work,
                              double *rate) {
    ei_lanes_logarithms(self, count, -EI_LN2 * mean_snr, 1, work);
    for (size_t j = 0; j < count; j++)
        for (int h = 0; h < EI_GROUPS; h++) {
            ei_reals value = work[j].group[h];
            ei_reals_log2(&value, &value);
            value *= scale;
            memcpy(rate + j * EI_LANES + h * EI_WIDTH, &value, sizeof value);
        }
}

#endif
