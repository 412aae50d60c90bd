#include "edgeinfer/sampler.h"

#include "edgeinfer/compound.h"
#include "edgeinfer/lanes.h"

#include <math.h>
#include <stdlib.h>

/* Random numbers between two looks at the monitor, a millisecond or so; whole rows of the lanes. */
enum { UNPOLLED = 1024 * EI_LANES };

/* The time with P(X > time) = v (upper) or P(X <= time) = v, by the secant rule on logarithms inside a
 * bracket. */
static double quantile(const ei_transfer *law, int upper, double v, double low, double high) {
    const double target = log(v);
    double at[2] = {low, high}, excess[2];
    for (int end = 0; end < 2; end++)
        excess[end] =
            log(fmax(upper ? ei_transfer_sf(law, at[end]) : ei_transfer_cdf(law, at[end]), 1e-300)) - target;
    for (int i = 0; i < 100 && at[1] - at[0] > 1e-13 * at[1]; i++) {
        double middle = at[0] + (at[1] - at[0]) / 2;
        double secant = at[0] - excess[0] * (at[1] - at[0]) / (excess[1] - excess[0]);
        if (i % 3 != 2 && secant > at[0] && secant < at[1])
            middle = secant;
        double value =
            log(fmax(upper ? ei_transfer_sf(law, middle) : ei_transfer_cdf(law, middle), 1e-300)) - target;
        if (fabs(value) < 1e-11)
            return middle;
        int end = (value > 0) != upper;
        at[end] = middle;
        excess[end] = value;
    }
    return at[0] + (at[1] - at[0]) / 2;
}

static int init_compound(ei_sampler *self, const ei_compound *law, ei_link_mode mode) {
    const ei_service *stages = ei_compound_stages(law, &self->round_size);
    const double *rounds = ei_compound_rounds(law, &self->round_count);
    double above = 0;
    self->round = calloc(self->round_size, sizeof *self->round);
    self->rounds_above = malloc(self->round_count * sizeof *self->rounds_above);
    if (self->round == NULL || self->rounds_above == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t n = self->round_count; n-- > 0;) {
        self->rounds_above[n] = above;
        above += rounds[n];
    }
    for (size_t k = 0; k < self->round_size; k++) {
        int status = ei_sampler_init(&self->round[k], &stages[k], mode);
        if (status != EI_OK)
            return status;
    }
    return EI_OK;
}

int ei_sampler_init(ei_sampler *self, const ei_service *service, ei_link_mode mode) {
    *self = (ei_sampler){.service = *service, .quantile = NULL};
    int status = ei_service_verify(service);
    if (status == EI_OK && service->kind == EI_SERVICE_COMPOUND)
        return init_compound(self, service->compound, mode);
    if (status != EI_OK || service->kind != EI_SERVICE_TRANSFER)
        return status;
    double bits, bandwidth;
    ei_transfer_parameters(service->transfer, &bits, &bandwidth, &self->mean_snr, &self->slot);
    self->carry = bits / bandwidth / self->slot;
    self->rate = ei_transfer_rate(service->transfer);
    if (mode != EI_LINK_TABLE)
        return EI_OK;
    self->quantile = malloc(4 * EI_QUANTILE_TABLE * sizeof *self->quantile);
    if (self->quantile == NULL)
        return EI_ERR_NO_MEMORY;
    double extent = ei_transfer_extent(service->transfer);
    const int last = EI_QUANTILE_TABLE - 1;
    for (int upper = 0; upper < 2; upper++) {
        double *table = self->quantile + upper * 2 * EI_QUANTILE_TABLE;
        double median = quantile(service->transfer, upper, 0.5, 0, extent), point = median,
               step = median / 100;
        /* Point i belongs to v = 2^(octave - 54) (1 + cell / CELLS), the last to 1/2; from the median
         * outwards. */
        table[2 * last] = median;
        table[2 * last + 1] = 0;
        for (int i = last - 1; i >= 0; i--) {
            double v = ldexp(1 + (double)(i % EI_QUANTILE_CELLS) / EI_QUANTILE_CELLS,
                             i / EI_QUANTILE_CELLS - EI_QUANTILE_OCTAVES - 1);
            double reach = step, next;
            if (upper) {
                while (point + reach < extent && ei_transfer_sf(service->transfer, point + reach) > v)
                    reach *= 2;
                next = quantile(service->transfer, 1, v, point, fmin(point + reach, extent));
            } else {
                while (point - reach > 0 && ei_transfer_cdf(service->transfer, point - reach) > v)
                    reach *= 2;
                next = quantile(service->transfer, 0, v, fmax(point - reach, 0), point);
            }
            step = fmax(1.2 * fabs(next - point), 1e-9 * median);
            table[2 * i] = next;
            table[2 * i + 1] = point - next;
            point = next;
        }
    }
    return EI_OK;
}

void ei_sampler_free(ei_sampler *self) {
    for (size_t k = 0; k < self->round_size && self->round != NULL; k++)
        ei_sampler_free(&self->round[k]);
    free(self->round);
    free(self->rounds_above);
    free(self->quantile);
    self->quantile = self->rounds_above = NULL;
    self->round = NULL;
}

static double draw_slots(const ei_sampler *self, ei_rng *rng) {
    double left = self->carry, slots = 0;
    for (;;) {
        double rate = ei_sample_rate_of(self->rate, rng);
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
        return self->quantile != NULL ? ei_quantile(self->quantile, ei_rng_next(rng)) : draw_slots(self, rng);
    case EI_SERVICE_COMPOUND: {
        double sum = 0;
        for (size_t n = ei_sampler_rounds(self, ei_rng_uniform(rng)); n > 0; n--)
            for (size_t k = 0; k < self->round_size; k++)
                sum += ei_sampler_draw(&self->round[k], rng);
        return sum;
    }
    case EI_SERVICE_REPETITION:
        return ei_repetition_quantile(service->repetition, ei_rng_uniform(rng));
    default:
        return service->time;
    }
}

int ei_sample_rate(size_t count, double bandwidth, double mean_snr, const ei_gain *gain,
                   const uint64_t entropy[4], double *rate, ei_monitor monitor) {
    ei_rate law;
    int status = ei_rate_init(&law, mean_snr, gain);
    if (status != EI_OK || !(bandwidth > 0) || !isfinite(bandwidth))
        return EI_ERR_DOMAIN;
    ei_rng rng;
    ei_lanes streams;
    ei_rng_init(&rng, entropy, 0);
    ei_lanes_init(&streams, entropy, 0);
    for (size_t first = 0, part; first < count; first += part) {
        if (ei_stopped(monitor))
            return EI_ERR_INTERRUPTED;
        part = count - first < UNPOLLED ? count - first : UNPOLLED;
        if (law.rayleigh)
            ei_lane_loops_of(0)->rates(&streams, part, law.mean_snr, bandwidth, rate + first);
        else
            for (size_t i = first; i < first + part; i++)
                rate[i] = bandwidth * ei_sample_rate_of(&law, &rng);
    }
    return EI_OK;
}

/* Random numbers that one service time takes on average. */
static double numbers(const ei_sampler *self) {
    if (self->service.kind == EI_SERVICE_TRANSFER)
        return self->quantile != NULL ? 1 : 1 + ei_service_mean(&self->service) / self->slot;
    double rounds = 0, round = 0;
    for (size_t n = 0; n < self->round_count; n++)
        rounds += self->rounds_above[n];
    for (size_t k = 0; k < self->round_size; k++)
        round += numbers(&self->round[k]);
    return 1 + rounds * round;
}

int ei_sample_service(size_t count, const ei_service *service, ei_link_mode mode, const uint64_t entropy[4],
                      double *time, ei_monitor monitor) {
    int status = ei_service_verify_independent(service);
    if (status != EI_OK)
        return status;
    ei_rng rng;
    ei_rng_init(&rng, entropy, 0);
    ei_sampler sampler;
    status = ei_sampler_init(&sampler, service, mode);
    const double drawn = status == EI_OK ? numbers(&sampler) : 0;
    double unpolled = 0;
    for (size_t i = 0; i < count && status == EI_OK; i++) {
        time[i] = ei_sampler_draw(&sampler, &rng);
        if ((unpolled += drawn) >= UNPOLLED) {
            unpolled = 0;
            if (ei_stopped(monitor))
                status = EI_ERR_INTERRUPTED;
        }
    }
    ei_sampler_free(&sampler);
    return status;
}
