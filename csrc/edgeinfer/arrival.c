#include "edgeinfer/arrival.h"

#include "edgeinfer/modulated.h"

#include <math.h>

static int good_numbers(const double *value, size_t count) {
    double sum = 0;
    if (count == 0 || value == NULL)
        return 0;
    for (size_t i = 0; i < count; i++) {
        if (!(value[i] >= 0) || !isfinite(value[i]))
            return 0;
        sum += value[i];
    }
    return sum > 0 && isfinite(sum);
}

/* Mean rate of a Markov-modulated process; NaN where the law is not stationary for the generator. */
static double modulated_rate(const ei_arrival *self) {
    const size_t n = self->count;
    double rate = 0, total = 0;
    if (!good_numbers(self->rates, n) || !good_numbers(self->stationary, n) || self->generator == NULL)
        return NAN;
    for (size_t j = 0; j < n; j++) {
        double row = 0, flow = 0, size = 0;
        for (size_t i = 0; i < n; i++) {
            if (i != j && !(self->generator[j * n + i] >= 0))
                return NAN;
            row += self->generator[j * n + i];
            flow += self->stationary[i] * self->generator[i * n + j];
            size = fmax(size, fabs(self->generator[i * n + j]));
            size = fmax(size, fabs(self->generator[j * n + i]));
        }
        if (!(fabs(row) <= 1e-9 * size) || !(fabs(flow) <= 1e-9 * size))
            return NAN;
        rate += self->stationary[j] * self->rates[j];
        total += self->stationary[j];
    }
    return fabs(total - 1) <= 1e-9 ? rate : NAN;
}

static double batch_mean(const ei_arrival *self) {
    double sum = 0;
    for (size_t i = 0; i < self->batch_limit; i++) {
        double above = self->batch_above[i];
        if (!(above >= 0) || !(above <= (i == 0 ? 1 : self->batch_above[i - 1])) || (i == 0 && above != 1))
            return NAN;
        sum += above;
    }
    return self->batch_limit == 0 ? 1 : sum;
}

double ei_arrival_mean(const ei_arrival *self) {
    const double *p = self->parameter;
    double mean = p[0] > 0 && isfinite(p[0]) ? 1 / p[0] : NAN, sum = 0;
    switch (self->kind) {
    case EI_ARRIVAL_POISSON:
    case EI_ARRIVAL_DETERMINISTIC:
        break;
    case EI_ARRIVAL_ERLANG:
        if (!(p[1] >= 1) || !(p[1] <= 1000) || p[1] != floor(p[1]))
            return NAN;
        break;
    case EI_ARRIVAL_HYPEREXPONENTIAL:
        if (!(p[0] >= 0) || !(p[0] <= 1) || !(p[1] > 0) || !(p[2] > 0) || !isfinite(p[1]) || !isfinite(p[2]))
            return NAN;
        mean = p[0] / p[1] + (1 - p[0]) / p[2];
        break;
    case EI_ARRIVAL_GAMMA:
        if (!(p[1] >= 1e-6) || !(p[1] <= 1e3))
            return NAN;
        break;
    case EI_ARRIVAL_MARKOV_MODULATED:
        mean = 1 / modulated_rate(self);
        break;
    case EI_ARRIVAL_RECORDED:
        if (!good_numbers(self->intervals, self->count))
            return NAN;
        for (size_t i = 0; i < self->count; i++)
            sum += self->intervals[i];
        mean = sum / (double)self->count;
        break;
    default:
        return NAN;
    }
    return mean > 0 && isfinite(mean) ? mean / batch_mean(self) : NAN;
}

int ei_arrival_is_renewal(const ei_arrival *self) {
    return self->batch_limit == 0 && self->kind != EI_ARRIVAL_MARKOV_MODULATED &&
           self->kind != EI_ARRIVAL_RECORDED;
}

int ei_arrival_has_bounds(const ei_arrival *self, double rate) {
    return ei_arrival_is_renewal(self) ||
           (self->kind == EI_ARRIVAL_MARKOV_MODULATED && self->batch_limit == 0 &&
            self->count <= EI_ARRIVAL_PHASES && fabs(rate * ei_arrival_mean(self) - 1) <= 1e-9);
}

/* The first i up to which weights of a sum of 1 come to u, u on (0, 1]: places of weight 0 are not met. */
static size_t pick(const double *weight, size_t count, double u) {
    double sum = 0;
    size_t last = 0;
    for (size_t i = 0; i < count; i++) {
        if (!(weight[i] > 0))
            continue;
        last = i;
        sum += weight[i];
        if (sum >= u)
            break;
    }
    return last;
}

ei_arrival_state ei_arrival_start(const ei_arrival *self, ei_rng *rng) {
    size_t place = 0;
    if (self->kind == EI_ARRIVAL_MARKOV_MODULATED)
        place = pick(self->stationary, self->count, ei_rng_uniform(rng));
    else if (self->kind == EI_ARRIVAL_RECORDED)
        place = (size_t)((1 - ei_rng_uniform(rng)) * (double)self->count);
    return (ei_arrival_state){.place = place};
}

/* Standard normal, by the polar method (Marsaglia). */
static double draw_normal(ei_rng *rng) {
    for (;;) {
        double x = 2 * ei_rng_uniform(rng) - 1, y = 2 * ei_rng_uniform(rng) - 1, square = x * x + y * y;
        if (square > 0 && square < 1)
            return x * sqrt(-2 * EI_LN2 * ei_log2(square) / square);
    }
}

/* Gamma of mean `shape`, by Marsaglia and Tsang (2000); below one from shape + 1. */
static double draw_gamma(double shape, ei_rng *rng) {
    double factor = shape < 1 ? ei_exp2(ei_log2(ei_rng_uniform(rng)) / shape) : 1;
    double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = draw_normal(rng), root = 1 + c * x, v = root * root * root;
        if (!(root > 0))
            continue;
        double u = ei_rng_uniform(rng);
        if (EI_LN2 * ei_log2(u) < 0.5 * x * x + d - d * v + d * EI_LN2 * ei_log2(v))
            return factor * d * v;
    }
}

static double next_modulated(const ei_arrival *self, ei_arrival_state *state, ei_rng *rng) {
    const size_t n = self->count;
    for (double time = 0;;) {
        const double *row = self->generator + state->place * n, rate = self->rates[state->place];
        double leave = 0;
        for (size_t i = 0; i < n; i++)
            leave += i == state->place ? 0 : row[i];
        time += ei_rng_exponential(rng) / (rate + leave);
        if (ei_rng_uniform(rng) * (rate + leave) <= rate)
            return time;
        double u = ei_rng_uniform(rng), sum = 0;
        size_t to = state->place;
        for (size_t i = 0; i < n && sum < u * leave; i++)
            if (i != state->place && row[i] > 0) {
                sum += row[i];
                to = i;
            }
        state->place = to;
    }
}

double ei_arrival_draw(const ei_arrival *self, ei_rng *rng) {
    const double *p = self->parameter;
    switch (self->kind) {
    case EI_ARRIVAL_DETERMINISTIC:
        return 1 / p[0];
    case EI_ARRIVAL_ERLANG: {
        double sum = 0;
        for (int phase = 0; phase < (int)p[1]; phase++)
            sum += ei_rng_exponential(rng);
        return sum / (p[0] * p[1]);
    }
    case EI_ARRIVAL_HYPEREXPONENTIAL: {
        double rate = ei_rng_uniform(rng) <= p[0] ? p[1] : p[2];
        return ei_rng_exponential(rng) / rate;
    }
    case EI_ARRIVAL_GAMMA:
        return draw_gamma(1 / p[1], rng) * p[1] / p[0];
    default:
        return ei_rng_exponential(rng) * (1 / p[0]);
    }
}

/* The requests of the batch that came, but the first. */
static void draw_batch(const ei_arrival *self, ei_arrival_state *state, ei_rng *rng) {
    if (self->batch_limit > 0) {
        double u = ei_rng_uniform(rng);
        while (state->waiting + 1 < self->batch_limit && u <= self->batch_above[state->waiting + 1])
            state->waiting++;
    }
}

double ei_arrival_rate(const ei_arrival *self) {
    return self->kind == EI_ARRIVAL_HYPEREXPONENTIAL || !ei_arrival_is_renewal(self)
               ? 1 / ei_arrival_mean(self)
               : self->parameter[0];
}

ei_arrival ei_arrival_at_rate(const ei_arrival *self, double rate) {
    ei_arrival scaled = *self;
    if (self->kind == EI_ARRIVAL_HYPEREXPONENTIAL) {
        double speed = rate * ei_arrival_mean(self);
        scaled.parameter[1] *= speed;
        scaled.parameter[2] *= speed;
    } else {
        scaled.parameter[0] = rate;
    }
    return scaled;
}

/* Shape of the gamma law that an interarrival time has, infinite for periodic ones. */
static double gamma_shape(const ei_arrival *self) {
    switch (self->kind) {
    case EI_ARRIVAL_DETERMINISTIC:
        return INFINITY;
    case EI_ARRIVAL_ERLANG:
        return self->parameter[1];
    case EI_ARRIVAL_GAMMA:
        return 1 / self->parameter[1];
    default:
        return 1;
    }
}

double ei_arrival_exponent(const ei_arrival *self, double theta, double *slope) {
    const double *p = self->parameter, shape = gamma_shape(self);
    if (self->kind == EI_ARRIVAL_MARKOV_MODULATED) {
        double eigenvector[EI_ARRIVAL_PHASES];
        *slope = NAN;
        return self->count <= EI_ARRIVAL_PHASES ? ei_modulated_exponent(self, theta, eigenvector, NULL) : NAN;
    }
    if (self->kind == EI_ARRIVAL_HYPEREXPONENTIAL) {
        /* 1 - E e^{-theta t}, which keeps small exponents accurate. */
        double left[2] = {theta / (p[1] + theta), theta / (p[2] + theta)};
        double lost = p[0] * left[0] + (1 - p[0]) * left[1];
        double one = p[0] * (1 - left[0]), other = (1 - p[0]) * (1 - left[1]);
        *slope = (one / (p[1] + theta) + other / (p[2] + theta)) / (one + other);
        return -log1p(-lost);
    }
    if (self->kind == EI_ARRIVAL_LATTICE) {
        double sum = 0, factor = exp(-theta * p[0]);
        for (size_t i = self->count; i-- > 0;)
            sum = sum * factor + ((i > 0 ? self->rates[i - 1] : 1) - self->rates[i]);
        *slope = NAN;
        return -log(sum * (1 + 1e-10));
    }
    if (isinf(shape)) {
        *slope = 1 / p[0];
        return theta / p[0];
    }
    *slope = 1 / (p[0] + theta / shape);
    return shape * log1p(theta / (p[0] * shape));
}

double ei_arrival_draw_tilted(const ei_arrival *self, double theta, ei_rng *rng) {
    const double *p = self->parameter, shape = gamma_shape(self);
    ei_arrival tilted = *self;
    if (self->kind == EI_ARRIVAL_POISSON)
        return ei_rng_exponential(rng) / (p[0] + theta);
    if (self->kind == EI_ARRIVAL_HYPEREXPONENTIAL) {
        double one = p[0] * p[1] / (p[1] + theta), other = (1 - p[0]) * p[2] / (p[2] + theta);
        tilted.parameter[0] = one / (one + other);
        tilted.parameter[1] += theta;
        tilted.parameter[2] += theta;
    } else if (isfinite(shape)) {
        tilted.parameter[0] += theta / shape;
    }
    return ei_arrival_draw(&tilted, rng);
}

double ei_arrival_next(const ei_arrival *self, ei_arrival_state *state, ei_rng *rng) {
    double time;
    if (state->waiting > 0) {
        state->waiting--;
        return 0;
    }
    if (self->kind == EI_ARRIVAL_MARKOV_MODULATED) {
        time = next_modulated(self, state, rng);
    } else if (self->kind == EI_ARRIVAL_RECORDED) {
        time = self->intervals[state->place];
        state->place = state->place + 1 < self->count ? state->place + 1 : 0;
    } else {
        time = ei_arrival_draw(self, rng);
    }
    draw_batch(self, state, rng);
    return time;
}

double ei_arrival_longest(const ei_arrival *self) {
    double longest = 0;
    for (size_t i = 0; self->kind == EI_ARRIVAL_RECORDED && i < self->count; i++)
        longest = self->intervals[i] > longest ? self->intervals[i] : longest;
    return longest;
}

/* What is left, at an arbitrary instant, of the interval of a renewal process or a record. */
static double draw_rest(const ei_arrival *self, double longest, ei_arrival_state *state, ei_rng *rng) {
    const double *p = self->parameter;
    double length;
    switch (self->kind) {
    case EI_ARRIVAL_DETERMINISTIC:
        return (1 - ei_rng_uniform(rng)) / p[0];
    case EI_ARRIVAL_ERLANG: /* one phase more */
        length = ei_rng_exponential(rng) / (p[0] * p[1]) + ei_arrival_draw(self, rng);
        break;
    case EI_ARRIVAL_HYPEREXPONENTIAL: { /* phases by their share of time; what is left of one is like it */
        const double first = p[0] / p[1], second = (1 - p[0]) / p[2];
        return ei_rng_exponential(rng) / (ei_rng_uniform(rng) * (first + second) <= first ? p[1] : p[2]);
    }
    case EI_ARRIVAL_GAMMA:
        length = draw_gamma(1 / p[1] + 1, rng) * p[1] / p[0];
        break;
    case EI_ARRIVAL_RECORDED:
        while (ei_rng_uniform(rng) * longest > (length = self->intervals[state->place]))
            *state = ei_arrival_start(self, rng);
        state->place = state->place + 1 < self->count ? state->place + 1 : 0;
        break;
    default:
        return ei_arrival_draw(self, rng);
    }
    return length * (1 - ei_rng_uniform(rng));
}

double ei_arrival_first(const ei_arrival *self, double longest, ei_arrival_state *state, ei_rng *rng) {
    *state = ei_arrival_start(self, rng);
    double time = self->kind == EI_ARRIVAL_MARKOV_MODULATED ? next_modulated(self, state, rng)
                                                            : draw_rest(self, longest, state, rng);
    draw_batch(self, state, rng);
    return time;
}
