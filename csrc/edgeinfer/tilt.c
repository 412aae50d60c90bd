#include "edgeinfer/tilt.h"

#include "edgeinfer/compound.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void fill_link(ei_tilted_law *self) {
    const double *table = self->sampler.quantile;
    for (size_t i = 0; i < self->cells; i++) {
        size_t point = i % EI_QUANTILE_TABLE;
        int octave = (int)(point / EI_QUANTILE_CELLS) - EI_QUANTILE_OCTAVES - 1;
        self->middle[i] = table[2 * i] + table[2 * i + 1] / 2;
        self->mass[i] = point + 1 < EI_QUANTILE_TABLE ? ldexp(1.0 / EI_QUANTILE_CELLS, octave) : 0;
        self->top = fmax(self->top, self->middle[i]);
    }
    double abscissa = ei_service_abscissa(self->service);
    if (isfinite(abscissa) && abscissa > 0) {
        self->tail = abscissa;
        self->tail_at = table[2 * EI_QUANTILE_TABLE];
    }
}

static size_t run_start(const ei_tilted_law *self, size_t run) {
    return (size_t)((double)run * (double)self->service->sample_count / (double)self->cells);
}

static void fill_samples(ei_tilted_law *self) {
    const ei_service *service = self->service;
    for (size_t i = 0; i < self->cells; i++) {
        size_t first = run_start(self, i),
               end = i + 1 < self->cells ? run_start(self, i + 1) : service->sample_count;
        double sum = 0;
        for (size_t j = first; j < end; j++)
            sum += service->samples[j];
        self->mass[i] = (double)(end - first) / (double)service->sample_count;
        self->middle[i] = end > first ? sum / (double)(end - first) : 0;
        self->top = fmax(self->top, self->middle[i]);
    }
}

static void fill_slots(ei_tilted_law *self) {
    size_t first, count;
    const double *mass = ei_repetition_masses(self->service->repetition, &first, &count);
    for (size_t i = 0; i < self->cells; i++) {
        self->mass[i] = mass[i];
        self->middle[i] = ei_repetition_slot(self->service->repetition) * (double)(first + i);
    }
    self->top = self->middle[self->cells - 1];
}

static int init_round(ei_tilted_law *self) {
    const ei_service *stages = ei_compound_stages(self->service->compound, &self->round_size);
    self->rounds = ei_compound_rounds(self->service->compound, &self->round_count);
    self->round = calloc(self->round_size, sizeof *self->round);
    if (self->round == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < self->round_size; k++) {
        int status = ei_tilted_law_init(&self->round[k], &stages[k]);
        if (status != EI_OK)
            return status;
    }
    return EI_OK;
}

int ei_tilted_law_init(ei_tilted_law *self, const ei_service *service) {
    memset(self, 0, sizeof *self);
    self->service = service;
    size_t first;
    if (service->kind == EI_SERVICE_COMPOUND)
        return init_round(self);
    int status = ei_sampler_init(&self->sampler, service, EI_LINK_TABLE);
    if (status != EI_OK)
        return status;
    if (service->kind == EI_SERVICE_TRANSFER)
        self->cells = 2 * EI_QUANTILE_TABLE;
    else if (service->kind == EI_SERVICE_SAMPLES)
        self->cells = service->sample_count < EI_TILT_GROUPS ? service->sample_count : EI_TILT_GROUPS;
    else if (service->kind == EI_SERVICE_REPETITION)
        ei_repetition_masses(service->repetition, &first, &self->cells);
    else
        return EI_OK;
    self->middle = malloc(self->cells * sizeof *self->middle);
    self->mass = malloc(self->cells * sizeof *self->mass);
    if (self->middle == NULL || self->mass == NULL)
        return EI_ERR_NO_MEMORY;
    if (service->kind == EI_SERVICE_TRANSFER)
        fill_link(self);
    else if (service->kind == EI_SERVICE_SAMPLES)
        fill_samples(self);
    else
        fill_slots(self);
    return EI_OK;
}

void ei_tilted_law_free(ei_tilted_law *self) {
    ei_sampler_free(&self->sampler);
    free(self->middle);
    free(self->mass);
    for (size_t k = 0; k < self->round_size && self->round != NULL; k++)
        ei_tilted_law_free(&self->round[k]);
    free(self->round);
    self->middle = self->mass = NULL;
    self->round = NULL;
}

/* log E M^N, M the MGF of a round, and its derivative. */
static double compound_log_mgf(const ei_tilted_law *self, double sigma, double *derivative) {
    double round = 0, slope = 0, sum = 0, moment = 0;
    for (size_t k = 0; k < self->round_size && self->round_count > 1; k++) {
        double part;
        round += ei_tilted_log_mgf(&self->round[k], sigma, &part);
        slope += part;
    }
    double peak = fmax(round * (double)(self->round_count - 1), 0);
    if (!(peak < INFINITY)) {
        *derivative = INFINITY;
        return INFINITY;
    }
    for (size_t n = 0; n < self->round_count; n++) {
        double term = self->rounds[n] * exp((double)n * round - peak);
        sum += term;
        moment += (double)n * term;
    }
    *derivative = slope * (moment / sum);
    return peak + log(sum);
}

double ei_tilted_log_mgf(const ei_tilted_law *self, double sigma, double *derivative) {
    if (self->round != NULL)
        return compound_log_mgf(self, sigma, derivative);
    if (self->cells == 0 || self->service->kind == EI_SERVICE_REPETITION) {
        double value;
        return ei_service_log_mgf(self->service, sigma, &value, derivative) == EI_OK ? value : INFINITY;
    }
    double peak = sigma * self->top, sum = 0, moment = 0;
    for (size_t i = 0; i < self->cells; i++) {
        double term = self->mass[i] * exp(sigma * self->middle[i] - peak);
        sum += term;
        moment += term * self->middle[i];
    }
    if (self->tail > 0) {
        double left = self->tail - sigma;
        double term =
            ldexp(1, -EI_QUANTILE_OCTAVES - 1) * exp(sigma * self->tail_at - peak) * self->tail / left;
        if (!(left > 0)) {
            *derivative = INFINITY;
            return INFINITY;
        }
        sum += term;
        moment += term * (self->tail_at + 1 / left);
    }
    *derivative = moment / sum;
    return peak + log(sum);
}

double ei_tilted_root(const ei_tilted_law *self, const ei_arrival *arrival) {
    const double mean = ei_service_mean(self->service);
    double limit = self->tail > 0                               ? self->tail
                   : self->service->kind == EI_SERVICE_TRANSFER ? INFINITY
                                                                : ei_service_abscissa(self->service);
    if (!(mean > 0) || (arrival->kind == EI_ARRIVAL_DETERMINISTIC &&
                        ei_service_sf(self->service, ei_arrival_mean(arrival)) == 0))
        return INFINITY;
    /* log M(theta) + log E e^{-theta t} is convex, 0 with a negative slope at 0. */
    double low = 0, high = fmin(ei_arrival_rate(arrival), limit / 2), slope, fall;
    while (!(ei_tilted_log_mgf(self, high, &slope) > ei_arrival_exponent(arrival, high, &fall))) {
        low = high;
        high = fmin(2 * high, high + (limit - high) / 2);
        if (!(high > low) || !(high < 1e300))
            return low;
    }
    for (int i = 0; i < 100 && high - low > 1e-15 * high; i++) {
        double excess = ei_tilted_log_mgf(self, high, &slope) - ei_arrival_exponent(arrival, high, &fall);
        double next = high - excess / (slope - fall);
        if (!(next > low && next < high) || i % 8 == 7) {
            next = low + (high - low) / 2;
            if (!(ei_tilted_log_mgf(self, next, &slope) > ei_arrival_exponent(arrival, next, &fall))) {
                low = next;
                continue;
            }
        }
        if (high - next < 1e-14 * high)
            return next;
        high = next;
    }
    return high;
}

static int tilt_round(ei_tilt *self, const ei_tilted_law *law) {
    double round = 0, sum = 0;
    self->round_size = law->round_size;
    self->round = calloc(law->round_size, sizeof *self->round);
    self->more = malloc(law->round_count * sizeof *self->more);
    if (self->round == NULL || self->more == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < law->round_size; k++) {
        int status = ei_tilt_init(&self->round[k], &law->round[k], self->tilt);
        if (status != EI_OK)
            return status;
        round += self->round[k].log_mgf;
    }
    for (size_t n = law->round_count; n-- > 0;) {
        self->more[n] = sum;
        if (law->rounds[n] > 0)
            sum += law->rounds[n] * exp((double)n * round - self->log_mgf);
    }
    for (size_t n = 0; n < law->round_count; n++)
        self->more[n] /= sum;
    return EI_OK;
}

int ei_tilt_init(ei_tilt *self, const ei_tilted_law *law, double sigma) {
    *self = (ei_tilt){.tilt = sigma};
    self->log_mgf = ei_tilted_log_mgf(law, sigma, &self->slope);
    if (law->round != NULL)
        return tilt_round(self, law);
    if (law->cells == 0)
        return EI_OK;
    self->cumulative = malloc((law->cells + 1) * sizeof *self->cumulative);
    self->guide = malloc(law->cells * sizeof *self->guide);
    if (self->cumulative == NULL || self->guide == NULL)
        return EI_ERR_NO_MEMORY;
    double sum = 0;
    for (size_t i = 0; i < law->cells; i++)
        self->cumulative[i] = sum += law->mass[i] * exp(sigma * law->middle[i] - self->log_mgf);
    if (law->tail > 0)
        sum += ldexp(1, -EI_QUANTILE_OCTAVES - 1) * exp(sigma * law->tail_at - self->log_mgf) * law->tail /
               (law->tail - sigma);
    self->cumulative[law->cells] = sum;
    size_t cell = 0;
    for (size_t i = 0; i <= law->cells; i++)
        self->cumulative[i] /= sum;
    for (size_t i = 0; i < law->cells; i++) {
        while (cell < law->cells && self->cumulative[cell] <= (double)i / (double)law->cells)
            cell++;
        self->guide[i] = (uint32_t)cell;
    }
    return EI_OK;
}

void ei_tilt_free(ei_tilt *self) {
    free(self->cumulative);
    free(self->guide);
    for (size_t k = 0; k < self->round_size && self->round != NULL; k++)
        ei_tilt_free(&self->round[k]);
    free(self->round);
    free(self->more);
    self->round = NULL;
    self->more = NULL;
    self->cumulative = NULL;
    self->guide = NULL;
}

static double draw_plain_cell(const ei_tilted_law *self, ei_rng *rng, double *middle) {
    const ei_service *service = self->service;
    if (service->kind == EI_SERVICE_TRANSFER) {
        double fraction;
        size_t cell = ei_quantile_point(ei_rng_next(rng), &fraction);
        *middle = self->middle[cell];
        return self->sampler.quantile[2 * cell] + fraction * self->sampler.quantile[2 * cell + 1];
    }
    if (service->kind == EI_SERVICE_REPETITION)
        return *middle = ei_repetition_quantile(service->repetition, ei_rng_uniform(rng));
    size_t sample = (size_t)((1 - ei_rng_uniform(rng)) * (double)service->sample_count);
    size_t run = (size_t)((double)sample * (double)self->cells / (double)service->sample_count);
    while (run + 1 < self->cells && run_start(self, run + 1) <= sample)
        run++;
    while (run_start(self, run) > sample)
        run--;
    *middle = self->middle[run];
    return service->samples[sample];
}

static double draw_tilted_cell(const ei_tilted_law *self, const ei_tilt *tilt, ei_rng *rng, double *middle) {
    const ei_service *service = self->service;
    double u = 1 - ei_rng_uniform(rng), fraction = 0;
    size_t cell = tilt->guide[(size_t)(u * (double)self->cells)];
    while (cell < self->cells && tilt->cumulative[cell] <= u)
        cell++;
    if (cell == self->cells) {
        if (self->tail > 0)
            return *middle = self->tail_at + ei_rng_exponential(rng) / (self->tail - tilt->tilt);
        cell--;
    }
    *middle = self->middle[cell];
    if (service->kind == EI_SERVICE_REPETITION)
        return *middle;
    fraction = 1 - ei_rng_uniform(rng);
    if (service->kind == EI_SERVICE_TRANSFER)
        return self->sampler.quantile[2 * cell] + fraction * self->sampler.quantile[2 * cell + 1];
    size_t first = run_start(self, cell);
    size_t end = cell + 1 < self->cells ? run_start(self, cell + 1) : service->sample_count;
    return service->samples[first + (size_t)(fraction * (double)(end - first))];
}

static double draw_rounds(const ei_tilted_law *self, const ei_tilt *tilt, ei_rng *rng, double *middle) {
    double u = ei_rng_uniform(rng), sum = 0, above = 1;
    size_t n = 0;
    /* N > n where u <= P(N > n). */
    for (; n + 1 < self->round_count; n++) {
        above = tilt != NULL ? tilt->more[n] : above - self->rounds[n];
        if (u > above)
            break;
    }
    for (*middle = 0; n > 0; n--)
        for (size_t k = 0; k < self->round_size; k++) {
            double part;
            sum += ei_tilted_draw(&self->round[k], tilt != NULL ? &tilt->round[k] : NULL, rng, &part);
            *middle += part;
        }
    return sum;
}

double ei_tilted_draw(const ei_tilted_law *self, const ei_tilt *tilt, ei_rng *rng, double *middle) {
    const ei_service *service = self->service;
    if (self->round != NULL)
        return draw_rounds(self, tilt, rng, middle);
    if (service->kind == EI_SERVICE_DETERMINISTIC)
        return *middle = service->time;
    if (service->kind == EI_SERVICE_EXPONENTIAL)
        return *middle = ei_rng_exponential(rng) * (tilt != NULL ? tilt->slope : service->time);
    return tilt == NULL || tilt->tilt == 0 ? draw_plain_cell(self, rng, middle)
                                           : draw_tilted_cell(self, tilt, rng, middle);
}
