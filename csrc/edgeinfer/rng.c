#include "edgeinfer/rng.h"

static uint64_t splitmix64(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void ei_rng_init(ei_rng *self, const uint64_t entropy[4], uint64_t stream) {
    /* Every word of the state depends on every word of entropy and on the stream. */
    uint64_t hash = stream ^ 0x5851f42d4c957f2du;
    for (int i = 0; i < 4; i++) {
        hash ^= entropy[i];
        hash = splitmix64(&hash);
    }
    for (int i = 0; i < 4; i++) {
        uint64_t word = entropy[i] ^ hash;
        self->state[i] = splitmix64(&hash) ^ splitmix64(&word);
    }
    if ((self->state[0] | self->state[1] | self->state[2] | self->state[3]) == 0)
        self->state[0] = 1;
}
