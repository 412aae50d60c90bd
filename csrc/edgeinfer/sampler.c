#include "edgeinfer/sampler.h"

#include <math.h>
#include <stdlib.h>

enum { CELL_BITS = 7, CELLS = 1 << CELL_BITS, OCTAVES = 53, TABLE = OCTAVES * CELLS + 1 };

/* The time with P(X > time) = v (upper) or P(X <= time) = v. */
static double quantile(const ei_transfer *law, int upper, double v, double low, double high) {
    for (int i = 0; i < 48; i++) {
        double middle = low + (high - low) / 2;
        if (upper ? ei_transfer_sf(law, middle) > v : ei_transfer_cdf(law, middle) < v)
            low = middle;
        else
            high = middle;
    }
    return low + (high - low) / 2;
}

int ei_sampler_init(ei_sampler *self, const ei_service *service, ei_link_mode mode) {
    *self = (ei_sampler){.service = *service, .quantile = NULL};
    int status = ei_service_verify(service);
    if (status != EI_OK || service->kind != EI_SERVICE_TRANSFER)
        return status;
    double bits, bandwidth;
    ei_transfer_parameters(service->transfer, &bits, &bandwidth, &self->mean_snr, &self->slot);
    self->carry = bits / bandwidth / self->slot;
    if (mode != EI_LINK_TABLE)
        return EI_OK;
    self->quantile = malloc(2 * TABLE * sizeof *self->quantile);
    if (self->quantile == NULL)
        return EI_ERR_NO_MEMORY;
    double extent = ei_transfer_extent(service->transfer);
    for (int upper = 0; upper < 2; upper++) {
        double *table = self->quantile + upper * TABLE,
               last = quantile(service->transfer, upper, 0.5, 0, extent);
        /* Entry i belongs to v = 2^(octave - 53) (1 + cell / CELLS), the last to 1/2. */
        for (int i = TABLE - 1; i >= 0; i--) {
            double v = i == TABLE - 1 ? 0.5 : ldexp(1 + (double)(i % CELLS) / CELLS, i / CELLS - OCTAVES - 1);
            last = upper ? quantile(service->transfer, 1, v, last, extent)
                         : quantile(service->transfer, 0, v, 0, last);
            table[i] = last;
        }
    }
    return EI_OK;
}

void ei_sampler_free(ei_sampler *self) {
    free(self->quantile);
    self->quantile = NULL;
}

static double draw_table(const double *restrict quantiles, ei_rng *rng) {
    uint64_t word = ei_rng_next(rng), bits = (word >> 12) | 0x3ff0000000000000u;
    double v;
    memcpy(&v, &bits, sizeof v);
    v = (2 - v) / 2;
    memcpy(&bits, &v, sizeof bits);
    /* The exponent's and the mantissa's leading bits are the cell, the rest the place in it. */
    int64_t cell = (int64_t)(bits >> (52 - CELL_BITS)) - ((int64_t)(1023 - OCTAVES - 1) << CELL_BITS);
    uint64_t rest = ((bits << CELL_BITS) & 0x000fffffffffffffu) | 0x3ff0000000000000u;
    double fraction;
    memcpy(&fraction, &rest, sizeof fraction);
    const double *table = quantiles + (word & 1 ? TABLE : 0);
    int64_t next = cell + 1 < TABLE ? cell + 1 : TABLE - 1;
    return table[cell] + (fraction - 1) * (table[next] - table[cell]);
}

static double draw_slots(const ei_sampler *self, ei_rng *rng) {
    double left = self->carry, slots = 0;
    for (;;) {
        double rate = ei_sample_slot(self->mean_snr, rng);
        if (rate >= left)
            return self->slot * (slots + left / rate);
        left -= rate;
        slots++;
    }
}

double ei_sampler_draw(const ei_sampler *self, ei_rng *rng) {
    const ei_service *service = &self->service;
    switch (service->kind) {
    case EI_SERVICE_EXPONENTIAL:
        return service->time * ei_rng_exponential(rng);
    case EI_SERVICE_SAMPLES: {
        size_t i = (size_t)((1 - ei_rng_uniform(rng)) * (double)service->sample_count);
        return service->samples[i];
    }
    case EI_SERVICE_TRANSFER:
        return self->quantile != NULL ? draw_table(self->quantile, rng) : draw_slots(self, rng);
    default:
        return service->time;
    }
}

int ei_sample_rate(size_t count, double bandwidth, double mean_snr, ei_rng *rng, double *rate) {
    if (!(bandwidth > 0) || !isfinite(bandwidth) || !(mean_snr > 0) || !isfinite(mean_snr))
        return EI_ERR_DOMAIN;
    for (size_t i = 0; i < count; i++)
        rate[i] = bandwidth * ei_sample_slot(mean_snr, rng);
    return EI_OK;
}
