#include "edgeinfer/inversion.h"

#include <stdlib.h>

enum {
    NODES = 224, /* over the range of one slot's rate */
    LANES = 8,   /* nodes summed side by side */
    TERMS = 1024,
    REFRESH = 16 /* terms between two evaluations of sines and cosines */
};

static const double ALIASES = 44;      /* -log of what the rule's step may add, relative */
static const double ALIAS_SPREAD = 16; /* the same in standard deviations of the tilted law */
static const double LAST_TERM = -36;   /* log of the term that ends the sum, relative */
static const double FURTHER = 1.05;    /* from one exponent to the next */
static const double NARROW = 3; /* standard deviation of the number of slots below which a law is narrow */
static const double FARTHEST = -700; /* log of what may still matter */
static const double RESOLVED = 1000; /* exponent times range up to which the nodes have K to rounding */

struct ei_inversion {
    double carry, mean, spread, range;
    double rate[NODES], mass[NODES]; /* ascending */
    /* The contour at hand: */
    double sigma, step;
    size_t terms;
    double log_size[TERMS], phase[TERMS];                                        /* K(sigma + i k step) */
    double re[EI_INVERSION_FRACTIONS][TERMS], im[EI_INVERSION_FRACTIONS][TERMS]; /* e^{K(f z) - shift} */
    double shift[EI_INVERSION_FRACTIONS];
};

/* K(sigma), and mean and variance of a rate in the law tilted by e^{-sigma r}. */
static double tilt(const ei_inversion *self, double sigma, double *mean, double *variance) {
    double shift = -sigma * self->rate[sigma > 0 ? 0 : NODES - 1], sum = 0, first = 0, second = 0;
    for (size_t q = 0; q < NODES; q++) {
        double term = self->mass[q] * exp(-sigma * self->rate[q] - shift);
        sum += term;
        first += term * self->rate[q];
        second += term * self->rate[q] * self->rate[q];
    }
    *mean = first / sum;
    *variance = fmax(second / sum - *mean * *mean, 0);
    return shift + log(sum);
}

int ei_inversion_new(ei_inversion **result, const ei_rate *rate, double carry) {
    ei_inversion *self = malloc(sizeof *self);
    *result = self;
    if (self == NULL)
        return EI_ERR_NO_MEMORY;
    self->carry = carry;
    self->range = rate->range - rate->low;
    if (rate->power > 0)
        ei_flattened_legendre(NODES, rate->power, self->rate, self->mass);
    else
        ei_gauss_legendre(NODES, self->rate, self->mass);
    double total = 0, variance;
    for (size_t q = 0; q < NODES; q++) {
        self->rate[q] = rate->power > 0 ? rate->range * self->rate[q]
                                        : rate->low + (rate->range - rate->low) * (1 - self->rate[q]) / 2;
        self->mass[q] *= ei_rate_density(rate, self->rate[q]);
        total += self->mass[q];
    }
    for (size_t q = 0; q < NODES; q++)
        self->mass[q] /= total;
    tilt(self, 0, &self->mean, &variance);
    self->spread = sqrt(variance);
    return EI_OK;
}

void ei_inversion_free(ei_inversion *self) {
    free(self);
}

void ei_inversion_moments(const ei_inversion *self, double *mean, double *spread) {
    *mean = self->mean;
    *spread = self->spread;
}

/* Chernoff's bound on n slots, where sigma is the best exponent: n = c / mean, log bound n K(sigma) + sigma
 * c. */
static double chernoff(const ei_inversion *self, double sigma, double *slots) {
    double mean, variance, value = tilt(self, sigma, &mean, &variance);
    *slots = self->carry / mean;
    return *slots * value + sigma * self->carry;
}

void ei_inversion_span(const ei_inversion *self, double tail, double *first, double *last) {
    for (int sign = -1; sign <= 1; sign += 2) {
        double low = 0, high = sign / self->spread / sqrt(1 + self->carry / self->mean), slots;
        while (chernoff(self, high, &slots) > log(tail) && fabs(high) < 1e300) {
            low = high;
            high *= 2;
        }
        for (int step = 0; step < 50; step++) {
            double middle = (low + high) / 2;
            if (chernoff(self, middle, &slots) > log(tail))
                low = middle;
            else
                high = middle;
        }
        chernoff(self, high, &slots);
        *(sign < 0 ? first : last) = sign < 0 ? floor(slots) : ceil(slots);
    }
}

size_t ei_inversion_moments_below(const ei_inversion *self, size_t limit, double *sigma, double *log_moment) {
    size_t count = 0;
    double mean, variance, at = 1 / self->spread / sqrt(1 + self->carry / self->mean);
    for (; count < limit && at * self->range < RESOLVED; at *= FURTHER) {
        sigma[count] = at;
        log_moment[count++] = tilt(self, at, &mean, &variance);
    }
    return count;
}

/* Where n K(sigma) + sigma c - log |sigma| is least on one side of 0; it is convex there. */
static double saddle(const ei_inversion *self, double slots, int sign) {
    double low = 0, high = 1 / (self->spread * sqrt(slots)), mean, variance, size;
    for (;; high *= 2) {
        tilt(self, sign * high, &mean, &variance);
        if (sign * (self->carry - slots * mean) - 1 / high > 0 || high > 1e300)
            break;
        low = high;
    }
    size = (low + high) / 2;
    for (int step = 0; step < 60 && high - low > 1e-6 * high; step++) {
        tilt(self, sign * size, &mean, &variance);
        double slope = sign * (self->carry - slots * mean) - 1 / size;
        *(slope > 0 ? &high : &low) = size;
        double next = size - slope / (slots * variance + 1 / (size * size));
        size = next > low && next < high ? next : (low + high) / 2;
    }
    return sign * size;
}

/* sum_q mass_q e^{-fraction (sigma + i k step) r_q} over e^shift, k = 0 .. terms - 1, until `re` and `im` are
 * full or, slots > 0, the terms of that many slots have died out. Returns the number of terms. */
static size_t transform(const ei_inversion *self, double fraction, double slots, size_t terms, double shift,
                        double *restrict re, double *restrict im) {
    double weight[NODES], c[NODES], s[NODES], turn_c[NODES], turn_s[NODES];
    double sigma = fraction * self->sigma, step = fraction * self->step, whole = 0;
    for (size_t q = 0; q < NODES; q++) {
        weight[q] = self->mass[q] * exp(-sigma * self->rate[q] - shift);
        turn_c[q] = cos(step * self->rate[q]);
        turn_s[q] = -sin(step * self->rate[q]);
    }
    for (size_t k = 0; k < terms; k++) {
        double sum_c[LANES] = {0}, sum_s[LANES] = {0};
        if (k % REFRESH == 0)
            for (size_t q = 0; q < NODES; q++) {
                c[q] = weight[q] * cos((double)k * step * self->rate[q]);
                s[q] = -weight[q] * sin((double)k * step * self->rate[q]);
            }
        for (size_t q = 0; q < NODES; q += LANES)
            for (size_t l = 0; l < LANES; l++) {
                sum_c[l] += c[q + l];
                sum_s[l] += s[q + l];
                double next = c[q + l] * turn_c[q + l] - s[q + l] * turn_s[q + l];
                s[q + l] = c[q + l] * turn_s[q + l] + s[q + l] * turn_c[q + l];
                c[q + l] = next;
            }
        re[k] =
            ((sum_c[0] + sum_c[1]) + (sum_c[2] + sum_c[3])) + ((sum_c[4] + sum_c[5]) + (sum_c[6] + sum_c[7]));
        im[k] =
            ((sum_s[0] + sum_s[1]) + (sum_s[2] + sum_s[3])) + ((sum_s[4] + sum_s[5]) + (sum_s[6] + sum_s[7]));
        if (k == 0)
            whole = re[0];
        if (slots > 0 &&
            slots * log(hypot(re[k], im[k]) / whole) - log(hypot(1, (double)k * self->step / self->sigma)) <
                LAST_TERM)
            return k + 1;
    }
    return terms;
}

/* Lays the line for the given slots, on the side of the smaller probability, and tabulates K along it.
 * *log_bound: log of that probability, about. */
static int lay_contour(ei_inversion *self, double slots, double least_slots, double *log_bound) {
    double mean, variance;
    int sign = slots * self->mean > self->carry ? 1 : -1;
    self->sigma = saddle(self, slots, sign);
    double value = tilt(self, self->sigma, &mean, &variance), spread = sqrt(slots * variance);
    *log_bound = slots * value + self->sigma * self->carry - log(1 + fabs(self->sigma) * spread);
    if (*log_bound < FARTHEST)
        return EI_OK;
    self->step = 2 * M_PI / fmax((ALIASES - *log_bound) / fabs(self->sigma), ALIAS_SPREAD * spread);
    self->terms = transform(self, 1, least_slots, TERMS, value, self->log_size, self->phase);
    if (self->terms == TERMS)
        return EI_ERR_ACCURACY;
    double turns = 0, previous = 0;
    for (size_t k = 0; k < self->terms; k++) {
        double size = hypot(self->log_size[k], self->phase[k]);
        double angle = atan2(self->phase[k], self->log_size[k]) + turns;
        /* The branch that goes on from the last term's. */
        double jump = 2 * M_PI * round((previous - angle) / (2 * M_PI));
        turns += jump;
        previous = angle + jump;
        self->log_size[k] = value + log(size);
        self->phase[k] = previous;
    }
    return EI_OK;
}

/* Terms of the sum over the line for n slots, without K(f z); that at k = 0 is taken out, and with it sigma
 * of 1 / z. */
static void take_terms(const ei_inversion *self, double n, double *restrict re, double *restrict im) {
    for (size_t k = 0; k < self->terms; k++) {
        double height = (double)k * self->step, slope = height / self->sigma;
        double size = exp(n * (self->log_size[k] - self->log_size[0])) / (1 + slope * slope);
        double angle = n * self->phase[k] + height * self->carry, c = cos(angle), s = sin(angle);
        if (k == 0)
            size /= 2;
        re[k] = size * (c + s * slope);
        im[k] = size * (s - c * slope);
    }
}

static int sum_terms(const ei_inversion *self, double n, size_t j, const double *restrict re,
                     const double *restrict im, double *logit) {
    double sum = 0, top = n * self->log_size[0] + self->sigma * self->carry;
    for (size_t k = 0; k < self->terms; k++)
        sum += re[k] * self->re[j][k] - im[k] * self->im[j][k];
    double log_chance = top + self->shift[j] + log(sum * self->step / (M_PI * fabs(self->sigma)));
    if (!(log_chance < 0))
        return EI_ERR_ACCURACY;
    *logit = (self->sigma > 0 ? 1 : -1) * (log_chance - log1p(-exp(log_chance)));
    return EI_OK;
}

/* K(f z) along the line. */
static void take_fraction(ei_inversion *self, double fraction, size_t j) {
    double mean, variance;
    self->shift[j] = tilt(self, fraction * self->sigma, &mean, &variance);
    transform(self, fraction, 0, self->terms, self->shift[j], self->re[j], self->im[j]);
}

int ei_inversion_logits(ei_inversion *self, size_t rows, const double *n,
                        const double fraction[EI_INVERSION_FRACTIONS],
                        double (*logit)[EI_INVERSION_FRACTIONS]) {
    enum { COLUMNS = EI_INVERSION_FRACTIONS };
    double term_re[TERMS], term_im[TERMS], least = n[0], most = n[0], log_bound;
    int status = EI_OK;
    for (size_t i = 1; i < rows; i++) {
        least = fmin(least, n[i]);
        most = fmax(most, n[i]);
    }
    /* A narrow law goes within a slot from one side to the other: a line for each fraction. */
    if (self->spread * sqrt(least) < NARROW * self->mean) {
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < COLUMNS && status == EI_OK; j++) {
                if ((status = lay_contour(self, n[i] + fraction[j], n[i], &log_bound)) != EI_OK)
                    return status;
                if (log_bound < FARTHEST) {
                    logit[i][j] = self->sigma > 0 ? log_bound : -log_bound;
                    continue;
                }
                take_fraction(self, fraction[j], j);
                take_terms(self, n[i], term_re, term_im);
                status = sum_terms(self, n[i], j, term_re, term_im, &logit[i][j]);
            }
        return status;
    }
    status = lay_contour(self, (least + most + fraction[0] + fraction[COLUMNS - 1]) / 2, least, &log_bound);
    if (status != EI_OK)
        return status;
    if (log_bound < FARTHEST)
        return EI_ERR_ACCURACY;
    for (size_t j = 0; j < COLUMNS; j++)
        take_fraction(self, fraction[j], j);
    for (size_t i = 0; i < rows && status == EI_OK; i++) {
        take_terms(self, n[i], term_re, term_im);
        for (size_t j = 0; j < COLUMNS && status == EI_OK; j++)
            status = sum_terms(self, n[i], j, term_re, term_im, &logit[i][j]);
    }
    return status;
}
