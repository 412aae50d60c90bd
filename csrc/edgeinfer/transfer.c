#include "edgeinfer/transfer.h"

#include "edgeinfer/exponential_sums.h"
#include "edgeinfer/inversion.h"
#include "edgeinfer/multiversion.h"
#include "edgeinfer/rate.h"
#include "edgeinfer/recursion.h"

#include <stdlib.h>
#include <string.h>

/* All in units of the slot and of one hertz times the slot: r a slot's rate, c = J / (W slot) to be carried,
 * and P(X > n + f) = P(r_1 + .. + r_n + f r_{n+1} < c). Few slots are followed one by one (recursion.h), many
 * by inverting a Laplace transform (inversion.h). Either way log(sf / cdf) is fitted on panels that are
 * halved until they resolve it: panels of part of one slot, for where c is small against a slot's rate, the
 * law changes within the first c / rate of a slot; and panels of many slots, on which it is a polynomial in
 * both n and f. */

enum {
    DEGREE = EI_INVERSION_FRACTIONS, /* Chebyshev coefficients of log(sf / cdf) on a panel, in f and in n */
    PANEL_NODES = 12,                /* Gauss-Legendre nodes on a panel, for the MGF */
    HALVINGS_MAXIMUM = 80,
    PANELS_MAXIMUM = 400000,
    RUN = 32,          /* values taken together */
    SINGLE_SLOTS = 64, /* spans of fewer slots get panels of one slot */
    FIRST_PANELS = 16, /* that longer spans are first divided into */
    FAR_MAXIMUM = 400  /* bounds beyond the tables */
};

static const double TAIL_END = 1e-20; /* the tables end where sf or cdf is less */
static const double BELOW_TAIL = 1e-4;
static const double SLOT_DROP = 60; /* -log of what a slot may leave of sf: far above low rates left out */
static const double PANEL_TOLERANCE = 1e-9;
static const double FAR_ROUNDING = 1e-11;  /* of the logarithm of a bound beyond the tables, a slot */
static const double TAIL_TOLERANCE = 1e-7; /* where tables go on beyond TAIL_END */
static const double SLOT_ROUNDING =
    1e-14; /* of log(sf / cdf), for each slot, by inversion: allowed for on a panel */
static const double FIRST_SLOT_RATIO = 1.25; /* of rates across a panel of the first slot */
static const double FIRST_SLOT_WIDTH = 1;    /* and their difference */
static const double WORK_LIMIT = 4.6e8;      /* multiply-adds of the recursion, some 0.1 s */
static const double WORK_MAXIMUM = 1e10;     /* of it, where nothing else goes */
static const double SLOTS_MAXIMUM = 2e7;     /* beyond, the rounding of the inversion would be seen */

typedef struct {
    size_t slot, slots;  /* n = slot .. slot + slots - 1 */
    double left, right;  /* of the slot's fraction */
    size_t coefficients; /* where they begin: [1 or DEGREE][DEGREE] */
} panel;

struct ei_transfer {
    double bits, bandwidth, slot;
    ei_rate rate;
    double carry; /* c */
    double tail;  /* P(X > time) is followed down to this */
    size_t slots; /* the tables end at slots + 1 */
    size_t count; /* panels, ascending in time */
    panel *panels;
    double *coefficients; /* of log(sf / cdf) */
    size_t nodes;         /* quadrature of the density, filled up by some of no weight */
    double *node_time;    /* s */
    double *node_weight;  /* weight times density */
    double shortest;      /* of the nodes that have a weight, s */
    double longest;
    double mean, variance, extent;
    double beyond;    /* P(X > extent), from above */
    size_t far_count; /* bounds P(X > extent + k slot) <= exp(far[j] + k decay[j]), k = 0, 1, .. */
    double far[FAR_MAXIMUM], decay[FAR_MAXIMUM];
};

/* How a law is built. One of the two sources is there. */
typedef struct {
    ei_transfer *law;
    ei_recursion *recursion; /* at the slot that is tabulated */
    ei_inversion *inversion;
    size_t panel_capacity, coefficient_capacity, coefficient_count;
    double cosine[DEGREE][DEGREE]; /* cos(pi j k / (DEGREE - 1)) */
    ei_monitor monitor;
} builder;

/* P(X > f slot) within the first slot. */
static double first_slot_sf(const ei_transfer *self, double f) {
    return f <= 0 ? 1 : ei_rate_cdf(&self->rate, self->carry / f);
}

static int grow(void **array, size_t *capacity, size_t needed, size_t size) {
    if (needed <= *capacity)
        return EI_OK;
    size_t larger = 2 * *capacity > needed + 64 ? 2 * *capacity : needed + 64;
    void *grown = realloc(*array, larger * size);
    if (grown == NULL)
        return EI_ERR_NO_MEMORY;
    *array = grown;
    *capacity = larger;
    return EI_OK;
}

/* Values at the Chebyshev points cos(pi k / (DEGREE - 1)), `stride` apart, become coefficients. */
static void transform_chebyshev(const builder *self, double *value, size_t stride) {
    enum { LAST = DEGREE - 1 };
    double sample[DEGREE];
    for (size_t k = 0; k < DEGREE; k++)
        sample[k] = value[k * stride];
    for (int j = 0; j < DEGREE; j++) {
        double sum = (sample[0] + (j % 2 ? -1 : 1) * sample[LAST]) / 2;
        for (int k = 1; k < LAST; k++)
            sum += sample[k] * self->cosine[j][k];
        value[(size_t)j * stride] = sum * (j == 0 || j == LAST ? 1.0 : 2.0) / LAST;
    }
}

static int append_panel(builder *self, const panel *part, size_t rows, double (*coefficient)[DEGREE]) {
    ei_transfer *law = self->law;
    int status;
    if (law->count >= PANELS_MAXIMUM)
        return EI_ERR_ACCURACY;
    void *panels = law->panels, *coefficients = law->coefficients;
    status = grow(&panels, &self->panel_capacity, law->count + 1, sizeof *law->panels);
    law->panels = panels;
    if (status != EI_OK)
        return status;
    status = grow(&coefficients, &self->coefficient_capacity, self->coefficient_count + rows * DEGREE,
                  sizeof *law->coefficients);
    law->coefficients = coefficients;
    if (status != EI_OK)
        return status;
    law->panels[law->count] = *part;
    law->panels[law->count++].coefficients = self->coefficient_count;
    memcpy(law->coefficients + self->coefficient_count, coefficient, rows * sizeof *coefficient);
    self->coefficient_count += rows * DEGREE;
    return EI_OK;
}

/* log(sf / cdf) at the Chebyshev points of a panel. *flat: sf is 1 throughout. */
static int sample_panel(builder *self, const panel *part, size_t rows, double (*value)[DEGREE], int *flat) {
    enum { LAST = DEGREE - 1 };
    double slots[DEGREE], fraction[DEGREE];
    *flat = 0;
    fraction[0] = part->right;
    for (int k = 1; k < DEGREE; k++)
        fraction[k] = part->left + (part->right - part->left) * (1 + cos(M_PI * k / LAST)) / 2;
    if (self->recursion != NULL) {
        value[0][0] = ei_recursion_logit(self->recursion, fraction[0]);
        *flat = !(value[0][0] < -log(TAIL_END));
        for (int k = 1; k < DEGREE && !*flat; k++)
            value[0][k] = ei_recursion_logit(self->recursion, fraction[k]);
    } else {
        slots[0] = (double)part->slot;
        for (int i = 0; i < DEGREE && rows > 1; i++)
            slots[i] = (double)part->slot - 0.5 + (double)part->slots * (1 + cos(M_PI * i / LAST)) / 2;
        int status = ei_inversion_logits(self->inversion, rows, slots, fraction, value);
        if (status != EI_OK)
            return status;
    }
    /* A narrow law goes within a slot from one end of the tables to far beyond the other, where what the
     * recursion leaves out is seen. */
    for (int k = 0; k < DEGREE && rows == 1 && !*flat && !self->law->rate.rayleigh; k++)
        value[0][k] = fmin(fmax(value[0][k], log(self->law->tail * BELOW_TAIL)), -2 * log(TAIL_END));
    return EI_OK;
}

/* Largest last two coefficients of each row, `stride` apart: what a polynomial of that degree leaves out. */
static double left_out(const double *value, size_t rows, size_t row_stride, size_t stride) {
    double rest = 0;
    for (size_t i = 0; i < rows; i++) {
        const double *row = value + i * row_stride;
        double last = fabs(row[(DEGREE - 1) * stride]) + fabs(row[(DEGREE - 2) * stride]);
        rest = isnan(last) ? INFINITY : fmax(rest, last);
    }
    return rest;
}

/* Appends panels over [left, right] of the fraction of slots `slot` .. slot + slots - 1. Both ends are among
 * a panel's points, so that the law goes on from one to the next, and a layer at an end is seen. Slots are
 * halved before fractions, so that panels of the same slots stand together. */
static int fit_panels(builder *self, size_t slot, size_t slots, double left, double right, int halvings) {
    panel part = {.slot = slot, .slots = slots, .left = left, .right = right};
    size_t rows = slots > 1 ? DEGREE : 1, half = slots / 2;
    double value[DEGREE][DEGREE], middle = left + (right - left) / 2,
                                  tolerance = self->law->tail < TAIL_END ? TAIL_TOLERANCE : PANEL_TOLERANCE;
    int flat, status;
    if (self->inversion != NULL)
        tolerance += SLOT_ROUNDING * (double)slot;
    if (ei_stopped(self->monitor))
        return EI_ERR_INTERRUPTED;
    if ((status = sample_panel(self, &part, rows, value, &flat)) != EI_OK)
        return status;
    if (flat) {
        for (size_t j = 0; j < DEGREE; j++)
            value[0][j] = j == 0 ? -2 * log(TAIL_END) : 0;
        return append_panel(self, &part, 1, value);
    }
    for (size_t j = 0; j < DEGREE && rows > 1; j++)
        transform_chebyshev(self, &value[0][j], DEGREE);
    if (rows > 1 && right - left == 1 && !(left_out(value[0], DEGREE, 1, DEGREE) < tolerance)) {
        status = fit_panels(self, slot, half, left, right, halvings);
        return status != EI_OK ? status : fit_panels(self, slot + half, slots - half, left, right, halvings);
    }
    for (size_t i = 0; i < rows; i++)
        transform_chebyshev(self, value[i], 1);
    double rest = left_out(value[0], rows, DEGREE, 1);
    if (rest < tolerance)
        return append_panel(self, &part, rows, value);
    if (halvings == HALVINGS_MAXIMUM)
        return EI_ERR_ACCURACY;
    status = fit_panels(self, slot, slots, left, middle, halvings + 1);
    return status != EI_OK ? status : fit_panels(self, slot, slots, middle, right, halvings + 1);
}

static double chebyshev(const double *restrict coefficient, double x) {
    double b1 = 0, b2 = 0;
    for (int j = DEGREE - 1; j > 0; j--) {
        double b0 = coefficient[j] + 2 * x * b1 - b2;
        b2 = b1;
        b1 = b0;
    }
    return coefficient[0] + x * b1 - b2;
}

/* The same at `count` <= RUN places. */
EI_MULTIVERSION static void chebyshev_run(const double *restrict coefficient, size_t count,
                                          const double *restrict x, double *restrict value) {
    double b1[RUN] = {0}, b2[RUN] = {0};
    for (int j = DEGREE - 1; j > 0; j--)
        for (size_t i = 0; i < count; i++) {
            double b0 = coefficient[j] + 2 * x[i] * b1[i] - b2[i];
            b2[i] = b1[i];
            b1[i] = b0;
        }
    for (size_t i = 0; i < count; i++)
        value[i] = coefficient[0] + x[i] * b1[i] - b2[i];
}

static double chebyshev_derivative(const double *restrict coefficient, double x) {
    /* sum of j c_j U_{j-1}(x) */
    double u0 = 0, u1 = 1, sum = 0;
    for (int j = 1; j < DEGREE; j++) {
        sum += j * coefficient[j] * u1;
        double u2 = 2 * x * u1 - u0;
        u0 = u1;
        u1 = u2;
    }
    return sum;
}

/* The polynomial in f at slot `n` of a panel, which needs not be whole. */
static const double *in_fraction(const ei_transfer *self, const panel *part, double n, double row[DEGREE]) {
    const double *coefficient = self->coefficients + part->coefficients;
    if (part->slots == 1)
        return coefficient;
    double x = 2 * (n - ((double)part->slot - 0.5)) / (double)part->slots - 1, b1[DEGREE] = {0},
           b2[DEGREE] = {0};
    for (int i = DEGREE - 1; i > 0; i--)
        for (int j = 0; j < DEGREE; j++) {
            double b0 = coefficient[i * DEGREE + j] + 2 * x * b1[j] - b2[j];
            b2[j] = b1[j];
            b1[j] = b0;
        }
    for (int j = 0; j < DEGREE; j++)
        row[j] = coefficient[j] + x * b1[j] - b2[j];
    return row;
}

static int tabulate_slot_by_slot(builder *self) {
    ei_transfer *law = self->law;
    double below;
    int status = ei_recursion_new(&self->recursion, &law->rate, law->carry, law->tail);
    if (status != EI_OK)
        return status;
    for (law->slots = 0; !((below = ei_recursion_below(self->recursion)) < law->tail); law->slots++) {
        if ((status = fit_panels(self, law->slots + 1, 1, 0, 1, 0)) != EI_OK)
            return status;
        ei_recursion_advance(self->recursion);
        const double least = below * exp(-SLOT_DROP);
        if (law->rate.low > 0 && law->tail < TAIL_END && ei_recursion_below(self->recursion) < least)
            law->tail = fmax(law->tail, least);
    }
    law->beyond = below;
    return EI_OK;
}

static int tabulate_span(builder *self) {
    ei_transfer *law = self->law;
    double first, last, deeper;
    ei_inversion_span(self->inversion, TAIL_END, &first, &last);
    if (law->tail < TAIL_END)
        ei_inversion_span(self->inversion, law->tail, &deeper, &last);
    if (!(last < SLOTS_MAXIMUM))
        return EI_ERR_ACCURACY;
    size_t from = (size_t)fmax(first, 1), span = (size_t)last - from;
    size_t parts = span < SINGLE_SLOTS ? span : FIRST_PANELS;
    law->slots = (size_t)last - 1;
    law->beyond = law->tail;
    for (size_t i = 0; i < parts; i++) {
        size_t begin = from + span * i / parts, end = from + span * (i + 1) / parts;
        int status = fit_panels(self, begin, end - begin, 0, 1, 0);
        if (status != EI_OK)
            return status;
    }
    return EI_OK;
}

static int tabulate(ei_transfer *self, ei_monitor monitor) {
    builder state = {.law = self, .monitor = monitor};
    double mean, spread;
    for (int j = 0; j < DEGREE; j++)
        for (int k = 0; k < DEGREE; k++)
            state.cosine[j][k] = cos(M_PI * j * k / (DEGREE - 1));
    int status = ei_inversion_new(&state.inversion, &self->rate, self->carry);
    if (status != EI_OK)
        goto out;
    ei_inversion_moments(state.inversion, &mean, &spread);
    const double work = ei_recursion_work(&self->rate, self->carry, self->carry / mean, spread);
    if (work > WORK_LIMIT) {
        status = tabulate_span(&state);
        /* Of few slots the transform of a density that begins like 1 / r or so dies out too slowly. */
        if (status != EI_ERR_ACCURACY || work > WORK_MAXIMUM)
            goto out;
        self->count = state.coefficient_count = 0;
    }
    ei_inversion_free(state.inversion);
    state.inversion = NULL;
    status = tabulate_slot_by_slot(&state);
out:
    ei_recursion_free(state.recursion);
    ei_inversion_free(state.inversion);
    return status;
}

/* Panels of the rate, descending, where a transfer ends within the first slot. */
static double next_rate(const ei_transfer *self, double high) {
    double width = self->rate.rayleigh ? FIRST_SLOT_WIDTH : fmin(FIRST_SLOT_WIDTH, self->rate.spread);
    return fmax(fmax(high / FIRST_SLOT_RATIO, high - width), self->carry);
}

static void add_node(ei_transfer *self, double time, double weight) {
    self->node_time[self->nodes] = self->slot * time;
    self->node_weight[self->nodes++] = weight;
}

/* A panel of many slots is integrated over n, too, in place of a sum over whole n: the law's density is so
 * smooth in n, its deviation in slots being > 3, that by Poisson's summation formula they differ by less than
 * e^{-2 pi^2 9}. */
static void add_panel_nodes(ei_transfer *self, const panel *part, const double *restrict node,
                            const double *restrict weight) {
    size_t rows = part->slots > 1 ? PANEL_NODES : 1;
    for (size_t i = 0; i < rows; i++) {
        double n = (double)part->slot, share = 1, row[DEGREE];
        if (rows > 1) {
            n += (double)part->slots * (1 + node[i]) / 2 - 0.5;
            share = (double)part->slots * weight[i] / 2;
        }
        const double *coefficient = in_fraction(self, part, n, row);
        for (size_t q = 0; q < PANEL_NODES; q++) {
            double slope = chebyshev_derivative(coefficient, node[q]);
            if (slope >= 0)
                continue;
            double cosine = cosh(chebyshev(coefficient, node[q]) / 2);
            double f = part->left + (part->right - part->left) * (1 + node[q]) / 2;
            add_node(self, n + f, share * weight[q] * -slope / (4 * cosine * cosine));
        }
    }
}

static int add_quadrature(ei_transfer *self) {
    double node[PANEL_NODES], weight[PANEL_NODES];
    size_t capacity = EI_EXPONENTIALS;
    for (double high = self->rate.range; high > self->carry; high = next_rate(self, high))
        capacity += PANEL_NODES;
    for (size_t i = 0; i < self->count; i++)
        capacity += PANEL_NODES * ((size_t)(self->panels[i].slots > 1 ? PANEL_NODES : 1));
    self->node_time = malloc(capacity * sizeof *self->node_time);
    self->node_weight = malloc(capacity * sizeof *self->node_weight);
    if (self->node_time == NULL || self->node_weight == NULL)
        return EI_ERR_NO_MEMORY;
    ei_gauss_legendre(PANEL_NODES, node, weight);
    for (double high = self->rate.range, low; high > self->carry; high = low) {
        low = next_rate(self, high);
        for (size_t q = 0; q < PANEL_NODES; q++) {
            double r = low + (high - low) * (1 - node[q]) / 2;
            add_node(self, self->carry / r, weight[q] / 2 * (high - low) * ei_rate_density(&self->rate, r));
        }
    }
    for (size_t i = 0; i < self->count; i++)
        add_panel_nodes(self, &self->panels[i], node, weight);
    double total = 0, first = 0, second = 0;
    self->shortest = INFINITY;
    self->longest = -INFINITY;
    for (size_t i = 0; i < self->nodes; i++) {
        total += self->node_weight[i];
        first += self->node_weight[i] * self->node_time[i];
    }
    if (!(fabs(total - 1) < 1e-8 + SLOT_ROUNDING * (double)self->slots))
        return EI_ERR_ACCURACY;
    self->mean = first / total;
    for (size_t i = 0; i < self->nodes; i++) {
        self->node_weight[i] /= total;
        second +=
            self->node_weight[i] * (self->node_time[i] - self->mean) * (self->node_time[i] - self->mean);
        if (self->node_weight[i] > 0) {
            self->shortest = fmin(self->shortest, self->node_time[i]);
            self->longest = fmax(self->longest, self->node_time[i]);
        }
    }
    self->variance = second;
    for (; self->nodes % EI_EXPONENTIALS != 0; self->nodes++) {
        self->node_time[self->nodes] = self->mean;
        self->node_weight[self->nodes] = 0;
    }
    return EI_OK;
}

/* Chernoff's bounds, and that of later slots that carry less than all, each. Low rates that the law of the
 * rate leaves out count for 0. */
static int bound_beyond(ei_transfer *self) {
    const double left_out = self->rate.low > 0 ? ei_rate_cdf(&self->rate, self->rate.low) : 0,
                 slots = (double)(self->slots + 1);
    double sigma[FAR_MAXIMUM];
    ei_inversion *inversion;
    int status = ei_inversion_new(&inversion, &self->rate, self->carry);
    if (status != EI_OK)
        return status;
    self->far_count = ei_inversion_moments_below(inversion, FAR_MAXIMUM - 1, sigma, self->decay);
    ei_inversion_free(inversion);
    for (size_t j = 0; j < self->far_count; j++) {
        self->decay[j] = log(exp(self->decay[j]) + left_out) + FAR_ROUNDING;
        self->far[j] = sigma[j] * self->carry + slots * self->decay[j];
    }
    self->far[self->far_count] = log(self->beyond);
    self->decay[self->far_count++] = log(ei_rate_cdf(&self->rate, self->carry));
    return EI_OK;
}

static int build(ei_transfer **result, double bits, double bandwidth, const ei_rate *rate, double slot,
                 double tail, ei_monitor monitor) {
    int status = EI_ERR_DOMAIN;
    ei_transfer *self = NULL;
    *result = NULL;
    if (!(bits > 0) || !(bandwidth > 0) || !(rate->mean_snr > 0) || !(slot > 0) || !isfinite(bits) ||
        !isfinite(bandwidth) || !isfinite(rate->mean_snr) || !isfinite(slot))
        goto out;
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    self->bits = bits;
    self->bandwidth = bandwidth;
    self->rate = *rate;
    self->slot = slot;
    self->tail = tail;
    self->carry = bits / bandwidth / slot;
    if (!(self->carry > 0) || !isfinite(self->carry) || !(self->rate.range > 0) ||
        !isfinite(self->rate.range))
        goto out;
    if ((status = tabulate(self, monitor)) != EI_OK || (status = add_quadrature(self)) != EI_OK)
        goto out;
    self->extent = slot * (double)(self->slots + 1);
    if ((status = bound_beyond(self)) != EI_OK)
        goto out;
    *result = self;
    self = NULL;
out:
    ei_transfer_free(self);
    return status;
}

int ei_transfer_new(ei_transfer **self, double bits, double bandwidth, double mean_snr, double slot,
                    ei_monitor monitor) {
    const ei_rate rate = ei_rate_of(mean_snr);
    return build(self, bits, bandwidth, &rate, slot, TAIL_END, monitor);
}

int ei_transfer_new_faded(ei_transfer **self, double bits, double bandwidth, double mean_snr,
                          const ei_gain *gain, double slot, ei_monitor monitor) {
    ei_rate rate;
    int status = ei_rate_init(&rate, mean_snr, gain);
    *self = NULL;
    return status != EI_OK ? status : build(self, bits, bandwidth, &rate, slot, TAIL_END, monitor);
}

int ei_transfer_new_tail(ei_transfer **self, const ei_transfer *law, double tail, ei_monitor monitor) {
    return build(self, law->bits, law->bandwidth, &law->rate, law->slot, tail, monitor);
}

double ei_transfer_tail(const ei_transfer *self) {
    return self->tail;
}

void ei_transfer_free(ei_transfer *self) {
    if (self == NULL)
        return;
    free(self->panels);
    free(self->coefficients);
    free(self->node_time);
    free(self->node_weight);
    free(self);
}

void ei_transfer_parameters(const ei_transfer *self, double *bits, double *bandwidth, double *mean_snr,
                            double *slot) {
    *bits = self->bits;
    *bandwidth = self->bandwidth;
    *mean_snr = self->rate.mean_snr;
    *slot = self->slot;
}

const ei_rate *ei_transfer_rate(const ei_transfer *self) {
    return &self->rate;
}

/* The panel of a slot, which is not before the first one, and a fraction. */
static const panel *find_panel(const ei_transfer *self, size_t n, double f) {
    size_t low = 0, high = self->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        *(self->panels[middle].slot > n ? &high : &low) = middle;
    }
    const panel *part = &self->panels[low];
    while (part->left > f)
        part--;
    return part;
}

/* log(sf / cdf) at a position of at least one slot, before the tables end. */
static double logit(const ei_transfer *self, double position) {
    size_t n = (size_t)position;
    double f = position - (double)n, row[DEGREE];
    if (self->panels[0].slot > n)
        return -2 * log(TAIL_END);
    const panel *part = find_panel(self, n, f);
    return chebyshev(in_fraction(self, part, (double)n, row),
                     2 * (f - part->left) / (part->right - part->left) - 1);
}

double ei_transfer_sf(const ei_transfer *self, double time) {
    if (isnan(time))
        return NAN;
    double position = time / self->slot;
    if (position <= 1)
        return first_slot_sf(self, position);
    if (position >= (double)(self->slots + 1))
        return 0;
    return 1 / (1 + exp(-logit(self, position)));
}

void ei_transfer_sf_grid(const ei_transfer *self, double step, size_t count, double *sf) {
    double x[RUN], value[RUN], row[DEGREE];
    for (size_t i = 0, run; i < count; i += run) {
        const double position = (double)i * step / self->slot;
        const size_t n = (size_t)fmin(position, (double)self->slots + 1);
        run = 1;
        if (!(position > 1) || n > self->slots || self->panels[0].slot > n) {
            sf[i] = ei_transfer_sf(self, (double)i * step);
            continue;
        }
        const panel *part = find_panel(self, n, position - (double)n);
        const double *coefficient = in_fraction(self, part, (double)n, row);
        double next = position;
        for (run = 0; run < RUN && i + run < count && next < (double)n + 1; run++) {
            const double f = next - (double)n;
            if (run > 0 && part->right < 1 && !(f < part->right))
                break;
            x[run] = 2 * (f - part->left) / (part->right - part->left) - 1;
            next = (double)(i + run + 1) * step / self->slot;
        }
        chebyshev_run(coefficient, run, x, value);
        for (size_t j = 0; j < run; j++)
            sf[i + j] = 1 / (1 + exp(-value[j]));
    }
}

double ei_transfer_cdf(const ei_transfer *self, double time) {
    if (isnan(time))
        return NAN;
    double position = time / self->slot;
    if (position <= 1)
        return position <= 0 ? 0 : ei_rate_sf(&self->rate, self->carry / position);
    if (position >= (double)(self->slots + 1))
        return 1;
    return 1 / (1 + exp(logit(self, position)));
}

size_t ei_transfer_size(const ei_transfer *self) {
    size_t size = sizeof *self + self->count * sizeof *self->panels;
    for (size_t i = 0; i < self->count; i++)
        size += DEGREE * (self->panels[i].slots > 1 ? (size_t)DEGREE : 1) * sizeof *self->coefficients;
    return size + self->nodes * (sizeof *self->node_time + sizeof *self->node_weight);
}

double ei_transfer_accuracy(const ei_transfer *self) {
    (void)self;
    return 1e-7;
}

double ei_transfer_mean(const ei_transfer *self) {
    return self->mean;
}

double ei_transfer_variance(const ei_transfer *self) {
    return self->variance;
}

double ei_transfer_extent(const ei_transfer *self) {
    return self->extent;
}

/* The sum over k of bound j of log E[exp(theta X); X > extent]; whether it is less than *least, which it then
 * replaces, with its derivative. */
static int improve_beyond(const ei_transfer *self, double theta, size_t j, double *least, double *slope) {
    const double step = self->decay[j] + theta * self->slot, time = self->extent + self->slot;
    const double value = step < 0 ? self->far[j] + theta * time - log(-expm1(step)) : INFINITY;
    if (!(value < *least))
        return 0;
    *least = value;
    *slope = time + self->slot / expm1(-step);
    return 1;
}

/* log E[exp(theta X); X > extent] from above. Chernoff's bounds become better, then worse, as their decays
 * grow. */
static double log_mgf_beyond(const ei_transfer *self, double theta, double *slope) {
    double least = INFINITY;
    *slope = INFINITY;
    for (size_t j = 0; j + 1 < self->far_count; j++)
        if (!improve_beyond(self, theta, j, &least, slope) && isfinite(least))
            break;
    improve_beyond(self, theta, self->far_count - 1, &least, slope);
    return least;
}

int ei_transfer_log_mgf(const ei_transfer *self, double theta, double *value, double *derivative) {
    if (isnan(theta))
        return EI_ERR_DOMAIN;
    double slope, beyond = log_mgf_beyond(self, theta, &slope), sums[2];
    if (isinf(slope)) {
        if (value != NULL)
            *value = INFINITY;
        if (derivative != NULL)
            *derivative = INFINITY;
        return EI_OK;
    }
    /* The largest exponent of a term that counts is taken out, so that no theta over- or underflows. */
    const double peak = fmax(beyond, fmax(theta * self->shortest, theta * self->longest));
    ei_exponential_sums(self->nodes, self->node_time, self->node_weight, theta, peak, sums);
    const double rest = exp(beyond - peak), sum = sums[0] + rest;
    if (value != NULL)
        *value = log(sum) + peak;
    if (derivative != NULL)
        *derivative = (sums[1] + rest * slope) / sum;
    return EI_OK;
}

double ei_transfer_abscissa(const ei_transfer *self) {
    double decay = 0;
    for (size_t j = 0; j < self->far_count; j++)
        decay = fmin(decay, self->decay[j]);
    return -decay / self->slot;
}
