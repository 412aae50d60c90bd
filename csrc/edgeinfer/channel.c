#include "edgeinfer/channel.h"

#include <math.h>

static int is_cumulative(const double *law, size_t count) {
    double last = 0;
    for (size_t i = 0; i < count; i++) {
        if (!(law[i] >= last) || !(law[i] <= 1))
            return 0;
        last = law[i];
    }
    return last == 1;
}

int ei_channel_verify(const ei_channel *self) {
    if (self->count == 0)
        return EI_ERR_EMPTY;
    if (self->rates == NULL || !(self->slot > 0) || !isfinite(self->slot) || !(self->mean_rate > 0) ||
        !isfinite(self->mean_rate) || !(self->spread >= 0) || !isfinite(self->spread))
        return EI_ERR_DOMAIN;
    double largest = 0;
    for (size_t i = 0; i < self->count; i++) {
        if (!(self->rates[i] >= 0) || !isfinite(self->rates[i]))
            return EI_ERR_DOMAIN;
        largest = fmax(largest, self->rates[i]);
    }
    if (!(largest > 0) || isinf(self->offset) || self->offset < 0)
        return EI_ERR_DOMAIN;
    if (self->start == NULL)
        return EI_OK;
    if (!is_cumulative(self->start, self->count) || self->levels == 0 || self->levels > EI_CHANNEL_LEVELS ||
        self->jumps == NULL)
        return EI_ERR_DOMAIN;
    for (size_t row = 0; row < self->levels * self->count; row++)
        if (!is_cumulative(self->jumps + row * self->count, self->count))
            return EI_ERR_DOMAIN;
    return EI_OK;
}

/* The state `slots` > 0 slots on. */
static size_t jump(const ei_channel *self, size_t state, double slots, ei_rng *rng) {
    const size_t n = self->count;
    if (self->start == NULL)
        return (size_t)fmod((double)state + slots, (double)n);
    if (slots >= ldexp(1, (int)self->levels))
        return ei_pick(self->start, n, ei_rng_uniform(rng));
    uint64_t left = (uint64_t)slots;
    for (size_t level = 0; left > 0; level++, left >>= 1)
        if (left & 1)
            state = ei_pick(self->jumps + (level * n + state) * n, n, ei_rng_uniform(rng));
    return state;
}

static void enter(const ei_channel *self, double slots, ei_wall_clock *clock, ei_rng *rng) {
    clock->into += slots * self->slot;
    clock->state = jump(self, clock->state, slots, rng);
    clock->rate = self->rates[clock->state];
}

ei_wall_clock ei_channel_start(const ei_channel *self, ei_rng *rng) {
    ei_wall_clock clock = {.state = 0};
    if (self->start == NULL) {
        const double slots = isnan(self->offset) ? (1 - ei_rng_uniform(rng)) * (double)self->count
                                                 : fmod(self->offset / self->slot, (double)self->count);
        clock.state = (size_t)slots;
        clock.into = -self->slot * (slots - floor(slots));
    } else {
        clock.state = ei_pick(self->start, self->count, ei_rng_uniform(rng));
        clock.into = -self->slot * (1 - ei_rng_uniform(rng));
    }
    clock.rate = self->rates[clock.state];
    return clock;
}

double ei_channel_serve(const ei_channel *self, double bits, double start, ei_wall_clock *clock,
                        ei_rng *rng) {
    const double passed = floor((start - clock->into) / self->slot);
    if (passed > 0)
        enter(self, passed, clock, rng);
    for (double left = bits, now = start;;) {
        const double end = clock->into + self->slot, can = clock->rate * (end - now);
        if (can >= left)
            return now + left / clock->rate - start;
        left -= fmax(can, 0);
        now = fmax(end, now);
        /* What rounding leaves must not wait for the next slot that carries anything. */
        if (left <= 1e-13 * bits)
            return now - start;
        enter(self, 1, clock, rng);
    }
}
