#include "edgeinfer/backward.h"

#include "edgeinfer/modulated.h"

#include <math.h>
#include <stdlib.h>

int ei_backward_takes(const ei_arrival *arrival) {
    return arrival->kind != EI_ARRIVAL_RECORDED && arrival->kind != EI_ARRIVAL_LATTICE &&
           arrival->batch_limit <= EI_BACKWARD_BATCH &&
           (arrival->kind != EI_ARRIVAL_MARKOV_MODULATED || arrival->count <= EI_ARRIVAL_PHASES);
}

/* P(b = i + 1). */
static double size_chance(const ei_arrival *arrival, size_t i) {
    return arrival->batch_above[i] - (i + 1 < arrival->batch_limit ? arrival->batch_above[i + 1] : 0);
}

/* log E z^b. */
static double log_batch(const ei_arrival *arrival, double log_z) {
    double sum = 0;
    const double top = log_z * (double)arrival->batch_limit;
    for (size_t i = 0; i < arrival->batch_limit; i++)
        sum += size_chance(arrival, i) * exp(log_z * (double)(i + 1) - top);
    return top + log(sum);
}

/* log z from -log e. */
static double solve_batch(const ei_arrival *arrival, double log_step) {
    double low = 0, high = log_step;
    for (int i = 0; i < 200 && high - low > 1e-15 * high; i++) {
        const double middle = low + (high - low) / 2;
        *(log_batch(arrival, middle) < log_step ? &low : &high) = middle;
    }
    return low + (high - low) / 2;
}

/* chance[i] grow^i of `count` chances, added up and over their sum; its logarithm. */
static double add_up(double *sum, size_t count, double log_grow) {
    double total = 0;
    const double top = log_grow * (double)(count - 1);
    for (size_t i = 0; i < count; i++)
        sum[i] = total += sum[i] * exp(log_grow * (double)i - top);
    for (size_t i = 0; i < count; i++)
        sum[i] /= total;
    return top + log(total);
}

static int init_phases(ei_backward *self) {
    const ei_arrival *arrival = self->arrival;
    const size_t n = arrival->count;
    double h[EI_ARRIVAL_PHASES], least = INFINITY, met = 0;
    self->log_h = malloc(n * (n + 3) * sizeof *self->log_h);
    if (self->log_h == NULL)
        return EI_ERR_NO_MEMORY;
    double *rates = self->log_h + n, *generator = rates + 2 * n;
    self->first = rates + n;
    self->log_step = ei_modulated_exponent(arrival, self->sigma, h, NULL);
    if (!(self->log_step < INFINITY))
        return EI_ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        self->log_h[i] = log(h[i]);
        rates[i] = arrival->rates[i] * exp(self->log_step);
        self->first[i] = arrival->stationary[i] * arrival->rates[i];
        met += self->first[i];
        self->first[i] *= h[i];
        if (arrival->rates[i] > 0)
            least = fmin(least, self->log_h[i]);
        for (size_t j = 0; j < n; j++)
            generator[i * n + j] = i == j ? 0
                                          : arrival->stationary[j] * arrival->generator[j * n + i] /
                                                arrival->stationary[i] * h[j] / h[i];
    }
    self->log_mean = add_up(self->first, n, 0) - log(met);
    self->log_start = self->log_mean - least;
    self->tilted =
        (ei_arrival){.kind = EI_ARRIVAL_MARKOV_MODULATED, .count = n, .rates = rates, .generator = generator};
    return EI_OK;
}

static int init_batches(ei_backward *self) {
    const ei_arrival *arrival = self->arrival;
    double mean = 0;
    self->size = malloc(2 * arrival->batch_limit * sizeof *self->size);
    if (self->size == NULL)
        return EI_ERR_NO_MEMORY;
    self->ahead = self->size + arrival->batch_limit;
    self->log_step = solve_batch(arrival, self->log_step);
    for (size_t i = 0; i < arrival->batch_limit; i++) {
        self->size[i] = size_chance(arrival, i);
        self->ahead[i] = arrival->batch_above[i];
        mean += self->ahead[i];
    }
    add_up(self->size, arrival->batch_limit, self->log_step);
    const double more = add_up(self->ahead, arrival->batch_limit, self->log_step) - log(mean);
    self->log_mean += more;
    self->log_start += more;
    return EI_OK;
}

int ei_backward_init(ei_backward *self, const ei_arrival *arrival, double sigma) {
    double slope;
    *self = (ei_backward){.arrival = arrival, .sigma = sigma};
    if (arrival->kind != EI_ARRIVAL_MARKOV_MODULATED) {
        self->log_step = ei_arrival_exponent(arrival, sigma, &slope);
    } else {
        int status = init_phases(self);
        if (status != EI_OK)
            return status;
    }
    return arrival->batch_limit > 0 ? init_batches(self) : EI_OK;
}

void ei_backward_free(ei_backward *self) {
    free(self->log_h);
    free(self->size);
    self->log_h = self->size = NULL;
}

ei_arrival_state ei_backward_start(const ei_backward *self, ei_rng *rng) {
    ei_arrival_state state = {.place = 0, .waiting = 0};
    if (self->log_h != NULL)
        state.place = ei_pick(self->first, self->arrival->count, ei_rng_uniform(rng));
    if (self->size != NULL)
        state.waiting = ei_pick(self->ahead, self->arrival->batch_limit, ei_rng_uniform(rng));
    return state;
}

double ei_backward_next(const ei_backward *self, ei_arrival_state *state, ei_rng *rng) {
    if (state->waiting > 0) {
        state->waiting--;
        return 0;
    }
    const double interval = self->log_h != NULL ? ei_arrival_next(&self->tilted, state, rng)
                                                : ei_arrival_draw_tilted(self->arrival, self->sigma, rng);
    if (self->size != NULL)
        state->waiting = ei_pick(self->size, self->arrival->batch_limit, ei_rng_uniform(rng));
    return interval;
}

/* log h_i z^r. */
static double log_state(const ei_backward *self, const ei_arrival_state *state) {
    return (self->log_h != NULL ? self->log_h[state->place] : 0) +
           (self->size != NULL ? self->log_step * (double)state->waiting : 0);
}

double ei_backward_start_ratio(const ei_backward *self, const ei_arrival_state *state) {
    return log_state(self, state) - self->log_mean;
}

double ei_backward_ratio(const ei_backward *self, double interval, const ei_arrival_state *from,
                         const ei_arrival_state *to) {
    return self->log_step - self->sigma * interval + (log_state(self, to) - log_state(self, from));
}
