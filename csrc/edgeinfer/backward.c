#include "edgeinfer/backward.h"

#include "edgeinfer/lattice.h"
#include "edgeinfer/modulated.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static int init_phases(ei_backward *self) {
    const ei_arrival *arrival = self->arrival;
    const size_t n = self->phases;
    double h[EI_ARRIVAL_PHASES], least = INFINITY, mean = 0, all = 0;
    self->log_step = ei_modulated_exponent(arrival, self->sigma, h, self->transform);
    if (!(self->log_step < INFINITY))
        return EI_ERR_NO_MEMORY;
    self->value = exp(-self->log_step);
    ei_modulated_reversed(arrival, self->back);
    for (size_t i = 0; i < n; i++) {
        self->met[i] = arrival->stationary[i] * arrival->rates[i];
        all += self->met[i];
        mean += self->met[i] * h[i];
        if (arrival->rates[i] > 0)
            least = fmin(least, h[i]);
        for (size_t j = 0; j < n; j++)
            self->transform[i * n + j] /= self->value;
    }
    for (size_t i = 0; i < n; i++)
        self->met[i] /= all;
    self->log_start = log(mean / all / least);
    return EI_OK;
}

/* From log_step of the time between batches. */
static void init_batches(ei_backward *self) {
    const ei_arrival *arrival = self->arrival;
    const size_t batch = self->batch;
    const double log_value = -self->log_step, *above = arrival->batch_above;
    double mean = 0, sum = 0, last = 0;
    const double log_z = self->log_step = solve_batch(arrival, self->log_step),
                 top = log_z * (double)(batch - 1);
    for (size_t r = 0; r < batch; r++) {
        mean += above[r];
        sum += above[r] * exp(log_z * (double)r - top);
    }
    self->log_ahead = top + log(sum / mean);
    self->log_start += self->log_ahead;
    for (size_t n = batch; n-- > 0;) {
        const double steps = (double)n;
        last += above[n] / mean;
        self->size[batch - 1 - n] = exp(log_value + (steps + 1) * log_z + log(size_chance(arrival, n)));
        self->ahead[batch - 1 - n] = exp(steps * log_z + log(above[n] / mean) - self->log_ahead);
        self->more[n] = exp(log_value + (steps + 1) * log_z + log(above[n]));
        self->behind[n] = exp(steps * log_z + log(last) - self->log_ahead);
    }
}

int ei_backward_init(ei_backward *self, const ei_arrival *arrival, double sigma) {
    const int modulated = arrival->kind == EI_ARRIVAL_MARKOV_MODULATED;
    double slope;
    *self = (ei_backward){.arrival = arrival, .sigma = sigma, .value = 1};
    if (!modulated)
        self->log_step = ei_arrival_exponent(arrival, sigma, &slope);
    if (!modulated && arrival->batch_limit == 0)
        return EI_OK;
    const size_t n = self->phases = modulated ? arrival->count : 1;
    self->batch = arrival->batch_limit > 0 ? arrival->batch_limit : 1;
    self->transform = malloc((n * (2 * n + 1) + 4 * self->batch) * sizeof *self->transform);
    if (self->transform == NULL)
        return EI_ERR_NO_MEMORY;
    self->back = self->transform + n * n;
    self->met = self->back + n * n;
    self->size = self->met + n;
    self->ahead = self->size + self->batch;
    self->more = self->ahead + self->batch;
    self->behind = self->more + self->batch;
    self->transform[0] = self->met[0] = self->size[0] = self->ahead[0] = self->more[0] = self->behind[0] = 1;
    const int status = modulated ? init_phases(self) : EI_OK;
    if (status == EI_OK && arrival->batch_limit > 0)
        init_batches(self);
    return status;
}

void ei_backward_free(ei_backward *self) {
    free(self->transform);
    free(self->left);
    self->transform = self->left = NULL;
}

int ei_backward_keep(ei_backward *self, size_t kept) {
    self->known = self->first = 0;
    if (self->phases == 0)
        return EI_OK;
    free(self->left);
    self->kept = kept > 0 ? kept : 2 * self->batch + 2;
    self->left = malloc((self->phases + 1) * self->kept * sizeof *self->left);
    return self->left != NULL ? EI_OK : EI_ERR_NO_MEMORY;
}

/* z^n v_n(i, 0). */
static const double *left_of(const ei_backward *self, size_t n, size_t i) {
    return self->left + i * self->kept + (n - self->first);
}

/* sum_b weight_b z^{n-b} v_{n-b}(i, 0) over b < n; weights as `size` is. */
static double sum_before(const ei_backward *self, const double *weight, size_t n, size_t i) {
    const size_t many = n - 1 < self->batch ? n - 1 : self->batch;
    return ei_dot(weight + self->batch - many, left_of(self, n - many, i), many);
}

/* e z^n u_n(j). */
static double next_of(const ei_backward *self, size_t n, size_t j) {
    return sum_before(self, self->size, n, j) + (n <= self->batch ? self->more[n - 1] : 0);
}

double ei_backward_extend(ei_backward *self) {
    const size_t n = self->known++, phases = self->phases;
    double next[EI_ARRIVAL_PHASES], mean = 0;
    if (phases == 0)
        return -(double)n * self->log_step;
    if (n == self->first + self->kept) {
        const size_t rest = self->batch + 1;
        for (size_t i = 0; i <= phases; i++)
            memmove(self->left + i * self->kept, left_of(self, n - rest, i), rest * sizeof *self->left);
        self->first = n - rest;
    }
    for (size_t j = 0; j < phases && n > 0; j++)
        next[j] = next_of(self, n, j);
    for (size_t i = 0; i < phases; i++) {
        double sum = n == 0;
        for (size_t j = 0; j < phases && n > 0; j++)
            sum += self->transform[i * phases + j] * next[j];
        self->left[i * self->kept + (n - self->first)] = sum;
        mean += self->met[i] * sum;
    }
    self->left[phases * self->kept + (n - self->first)] = mean;
    mean = sum_before(self, self->ahead, n + 1, phases) + (n < self->batch ? self->behind[n] : 0);
    return log(mean) + self->log_ahead - (double)n * self->log_step;
}

double ei_backward_left(const ei_backward *self, size_t left, const ei_arrival_state *state,
                        double *log_scale) {
    const size_t n = left > state->waiting ? left - state->waiting : 0;
    *log_scale = -(double)n * self->log_step;
    return self->phases > 0 && n > 0 ? *left_of(self, n, state->place) : 1;
}

ei_arrival_state ei_backward_start(const ei_backward *self, size_t left, double log_mean, ei_rng *rng) {
    ei_arrival_state found = {.place = 0};
    if (self->phases == 0)
        return found;
    double rest = ei_rng_uniform(rng) * exp(log_mean - self->log_ahead + (double)left * self->log_step);
    for (size_t r = 0; r < self->batch && rest > 0; r++) {
        /* All steps are within the batch: z^left P(r) / E z^r. */
        const double together = r < left ? 0 : exp(((double)left - (double)r) * self->log_step);
        for (size_t i = 0; i < self->phases && rest > 0; i++) {
            const double value = r < left ? *left_of(self, left - r, i) : together,
                         share = self->met[i] * self->ahead[self->batch - 1 - r] * value;
            if (share > 0)
                found = (ei_arrival_state){.place = i, .waiting = r};
            rest -= share;
        }
    }
    return found;
}

/* The time to the batch before, and the phase there. next: e z^left u_left. */
static double draw_interval(const ei_backward *self, size_t left, const double *next, ei_arrival_state *state,
                            ei_rng *rng) {
    const size_t phases = self->phases;
    double interval = 0;
    for (;;) {
        const size_t i = state->place;
        const double *back = self->back + i * phases,
                     request = self->arrival->rates[i] * next[i] / self->value;
        double all = request;
        interval += ei_rng_exponential(rng) / (self->sigma - back[i]);
        for (size_t j = 0; j < phases; j++)
            all += j != i ? back[j] * *left_of(self, left, j) : 0;
        double rest = all * ei_rng_uniform(rng) - request;
        if (rest <= 0)
            return interval;
        for (size_t j = 0; j < phases && rest > 0; j++) {
            const double share = j != i ? back[j] * *left_of(self, left, j) : 0;
            state->place = share > 0 ? j : state->place;
            rest -= share;
        }
    }
}

double ei_backward_next(const ei_backward *self, size_t left, ei_arrival_state *state, ei_rng *rng) {
    if (state->waiting > 0) {
        state->waiting--;
        return 0;
    }
    double next[EI_ARRIVAL_PHASES], interval;
    for (size_t j = 0; j < self->phases; j++)
        next[j] = next_of(self, left, j);
    if (self->arrival->kind == EI_ARRIVAL_MARKOV_MODULATED)
        interval = draw_interval(self, left, next, state, rng);
    else
        interval = ei_arrival_draw_tilted(self->arrival, self->sigma, rng);
    double rest = self->batch > 1 ? ei_rng_uniform(rng) * next[state->place] : 0;
    for (size_t b = 1; b <= self->batch && rest > 0; b++) {
        const double value = b < left ? *left_of(self, left - b, state->place)
                                      : exp(((double)left - (double)b) * self->log_step),
                     share = self->size[self->batch - b] * value;
        state->waiting = share > 0 ? b - 1 : state->waiting;
        rest -= share;
    }
    return interval;
}
