#include "edgeinfer/tilt.h"

#include "edgeinfer/compound.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEEP_CELLS = 8 };           /* of the tail, an octave */
static const double BEYOND = 1e-3; /* of a tilted law, may lie where cells have ended */

static void fill_link(ei_tilted_law *self) {
    const double *table = self->sampler.quantile;
    for (size_t i = 0; i < 2 * EI_QUANTILE_TABLE; i++) {
        size_t point = i % EI_QUANTILE_TABLE;
        int octave = (int)(point / EI_QUANTILE_CELLS) - EI_QUANTILE_OCTAVES - 1;
        self->middle[i] = table[2 * i] + table[2 * i + 1] / 2;
        self->mass[i] = point + 1 < EI_QUANTILE_TABLE ? ldexp(1.0 / EI_QUANTILE_CELLS, octave) : 0;
        self->top = fmax(self->top, self->middle[i]);
    }
}

/* The time with P(S > time) = e^log_chance, from `time` on, where it is more. */
static double deep_quantile(const ei_transfer *law, double log_chance, double time, double step) {
    const double extent = ei_transfer_extent(law);
    double low = time, high = time + step;
    while (high < extent && log(ei_transfer_sf(law, high)) > log_chance) {
        low = high;
        high += step *= 2;
    }
    high = fmin(high, extent);
    for (int i = 0; i < 60 && high - low > 1e-12 * high; i++) {
        const double middle = low + (high - low) / 2;
        *(log(ei_transfer_sf(law, middle)) > log_chance ? &low : &high) = middle;
    }
    return low + (high - low) / 2;
}

static int init_deep(ei_tilted_law *self, ei_monitor monitor) {
    int status = ei_transfer_new_tail(&self->deep, self->service->transfer, EI_TILT_TAIL, monitor);
    if (status != EI_OK)
        return status;
    const double octaves = -log2(ei_transfer_tail(self->deep)) - EI_QUANTILE_OCTAVES - 1;
    self->deep_cells = octaves > 0 ? (size_t)(DEEP_CELLS * octaves) : 0;
    return EI_OK;
}

/* Cells of equal ratio of P(S > time) from the table's end on. */
static int fill_deep(ei_tilted_law *self) {
    const size_t first = self->cells - self->deep_cells;
    const double ratio = M_LN2 / DEEP_CELLS, start = -M_LN2 * (EI_QUANTILE_OCTAVES + 1);
    self->log_mass = malloc(self->cells * sizeof *self->log_mass);
    self->edge = malloc((self->deep_cells + 1) * sizeof *self->edge);
    if (self->log_mass == NULL || self->edge == NULL)
        return EI_ERR_NO_MEMORY;
    self->edge[0] = self->sampler.quantile[2 * EI_QUANTILE_TABLE];
    double step = 0.01 * self->edge[0];
    for (size_t i = 0; i < self->deep_cells; i++) {
        self->edge[i + 1] = deep_quantile(self->deep, start - ratio * (double)(i + 1), self->edge[i], step);
        step = self->edge[i + 1] - self->edge[i];
        self->middle[first + i] = self->edge[i] + step / 2;
        self->mass[first + i] = exp(start - ratio * (double)i) * -expm1(-ratio);
    }
    for (size_t i = 0; i < self->cells; i++)
        self->log_mass[i] = log(self->mass[i]);
    return EI_OK;
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

static int init_round(ei_tilted_law *self, int with_tail, ei_monitor monitor) {
    const ei_service *stages = ei_compound_stages(self->service->compound, &self->round_size);
    self->rounds = ei_compound_rounds(self->service->compound, &self->round_count);
    self->round = calloc(self->round_size, sizeof *self->round);
    if (self->round == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < self->round_size; k++) {
        int status = ei_tilted_law_init(&self->round[k], &stages[k], with_tail, monitor);
        if (status != EI_OK)
            return status;
    }
    return EI_OK;
}

int ei_tilted_law_init(ei_tilted_law *self, const ei_service *service, int with_tail, ei_monitor monitor) {
    memset(self, 0, sizeof *self);
    self->service = service;
    size_t first;
    if (service->kind == EI_SERVICE_COMPOUND)
        return init_round(self, with_tail, monitor);
    int status = ei_sampler_init(&self->sampler, service, EI_LINK_TABLE);
    if (status != EI_OK)
        return status;
    if (service->kind == EI_SERVICE_TRANSFER) {
        if (with_tail && (status = init_deep(self, monitor)) != EI_OK)
            return status;
        self->cells = 2 * EI_QUANTILE_TABLE + self->deep_cells;
    } else if (service->kind == EI_SERVICE_SAMPLES) {
        self->cells = service->sample_count < EI_TILT_GROUPS ? service->sample_count : EI_TILT_GROUPS;
    } else if (service->kind == EI_SERVICE_REPETITION) {
        ei_repetition_masses(service->repetition, &first, &self->cells);
    } else {
        return EI_OK;
    }
    self->middle = malloc(self->cells * sizeof *self->middle);
    self->mass = malloc(self->cells * sizeof *self->mass);
    if (self->middle == NULL || self->mass == NULL)
        return EI_ERR_NO_MEMORY;
    if (service->kind == EI_SERVICE_TRANSFER) {
        fill_link(self);
        return self->deep != NULL ? fill_deep(self) : EI_OK;
    }
    if (service->kind == EI_SERVICE_SAMPLES)
        fill_samples(self);
    else
        fill_slots(self);
    return EI_OK;
}

void ei_tilted_law_free(ei_tilted_law *self) {
    ei_sampler_free(&self->sampler);
    ei_transfer_free(self->deep);
    free(self->middle);
    free(self->mass);
    free(self->log_mass);
    free(self->edge);
    for (size_t k = 0; k < self->round_size && self->round != NULL; k++)
        ei_tilted_law_free(&self->round[k]);
    free(self->round);
    self->middle = self->mass = self->log_mass = self->edge = NULL;
    self->deep = NULL;
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
    for (size_t i = 0; i < self->cells && self->log_mass != NULL; i++)
        peak = fmax(i == 0 ? -INFINITY : peak, sigma * self->middle[i] + self->log_mass[i]);
    for (size_t i = 0; i < self->cells; i++) {
        double term = self->log_mass != NULL ? exp(sigma * self->middle[i] + self->log_mass[i] - peak)
                                             : self->mass[i] * exp(sigma * self->middle[i] - peak);
        sum += term;
        moment += term * self->middle[i];
    }
    *derivative = moment / sum;
    return peak + log(sum);
}

int ei_tilted_ends_short(const ei_tilted_law *self, double sigma, double *known) {
    double slope, log_chance = -M_LN2 * (EI_QUANTILE_OCTAVES + 1);
    for (size_t k = 0; k < self->round_size; k++)
        if (ei_tilted_ends_short(&self->round[k], sigma, known))
            return 1;
    if (self->service->kind != EI_SERVICE_TRANSFER)
        return 0;
    double end = self->sampler.quantile[2 * EI_QUANTILE_TABLE];
    if (self->deep_cells > 0) {
        log_chance -= M_LN2 / DEEP_CELLS * (double)self->deep_cells;
        end = self->edge[self->deep_cells];
    }
    *known = exp(log_chance);
    return log_chance + sigma * end - ei_tilted_log_mgf(self, sigma, &slope) > log(BEYOND);
}

double ei_tilted_root(const ei_tilted_law *self, const ei_arrival *arrival) {
    const double mean = ei_service_mean(self->service);
    double limit = ei_service_abscissa(self->service);
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
        self->cumulative[i] = sum += law->log_mass != NULL
                                         ? exp(sigma * law->middle[i] + law->log_mass[i] - self->log_mgf)
                                         : law->mass[i] * exp(sigma * law->middle[i] - self->log_mgf);
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
    if (cell == self->cells)
        cell--;
    *middle = self->middle[cell];
    if (service->kind == EI_SERVICE_REPETITION)
        return *middle;
    fraction = 1 - ei_rng_uniform(rng);
    if (cell + self->deep_cells >= self->cells && self->deep_cells > 0) {
        const double *edge = &self->edge[cell + self->deep_cells - self->cells];
        /* P(S > time) falls by 2^(-1 / DEEP_CELLS) across the cell. */
        return edge[0] -
               (edge[1] - edge[0]) * log1p(fraction * (exp2(-1.0 / DEEP_CELLS) - 1)) * (DEEP_CELLS / M_LN2);
    }
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
