#include "edgeinfer/transfer.h"

#include <gsl/gsl_math.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* All in units of the slot and of one hertz times the slot: r = log2(1 + s g) a slot, c = J / (W slot) to be
 * carried. G_n(x) = P(r_1 + .. + r_n < x) obeys G_n(x) = int_0^x p(y) G_{n-1}(x - y) dy, a recursion of
 * positive terms, so that small values keep their relative accuracy. It is run on a uniform grid over [0, c]
 * with Gregory's end corrections. */

enum {
    GRID_PER_RANGE = 128, /* grid steps over the range of one slot's rate */
    GRID_MINIMUM = 96,
    GREGORY = 8,         /* end weights of the quadrature rule: exact for polynomials of degree 7 */
    SHORT = 2 * GREGORY, /* intervals of fewer steps have no room for both ends */
    STENCIL = 10,        /* points of local Lagrange interpolation */
    RATE_NODES = 64,     /* Gauss-Legendre nodes over the range of one slot's rate */
    DEGREE = 12,         /* Chebyshev coefficients of log sf on a panel */
    PANEL_NODES = 12,    /* Gauss-Legendre nodes on a panel, for the MGF */
    PANELS_MAXIMUM = 256
};

static const double SF_END = 1e-20; /* the tables end here */
static const double PANEL_TOLERANCE = 1e-9;
static const double G_NEGLIGIBLE = 1e-60; /* far below SF_END, so its loss cannot be seen there */
static const double WORK_LIMIT = 4e10;    /* multiply-adds of the recursion, about 20 s */

struct ei_transfer {
    double bits, bandwidth, mean_snr, slot;
    double carry;         /* c */
    double range;         /* largest rate of a slot that matters, in units of the bandwidth */
    size_t slots;         /* slots tabulated beyond slot 0 */
    size_t panels;        /* per slot */
    double *coefficients; /* [slots][panels][DEGREE], log sf */
    size_t nodes;         /* quadrature of the density */
    double *node_time;    /* s */
    double *node_weight;  /* weight times density */
    double mean, variance, extent;
};

static double rate_density(double mean_snr, double r) {
    return M_LN2 / mean_snr * exp2(r) * exp(-expm1(M_LN2 * r) / mean_snr);
}

/* P(r < value). */
static double rate_cdf(double mean_snr, double value) {
    return -expm1(-expm1(M_LN2 * value) / mean_snr);
}

/* P(X > f slot) within the first slot. */
static double first_slot_sf(const ei_transfer *self, double f) {
    return f <= 0 ? 1 : rate_cdf(self->mean_snr, self->carry / f);
}

/* Nodes and weights of the n-point Gauss-Legendre rule on [-1, 1] by Newton's method on P_n. */
static void gauss_legendre(size_t n, double *restrict node, double *restrict weight) {
    for (size_t i = 0; i < n; i++) {
        double x = cos(M_PI * ((double)i + 0.75) / ((double)n + 0.5)), slope = 1;
        for (int iteration = 0; iteration < 100; iteration++) {
            double p0 = 1, p1 = x;
            for (size_t k = 2; k <= n; k++) {
                double p2 = ((double)(2 * k - 1) * x * p1 - (double)(k - 1) * p0) / (double)k;
                p0 = p1;
                p1 = p2;
            }
            slope = (double)n * (x * p1 - p0) / (x * x - 1);
            double step = p1 / slope;
            x -= step;
            if (fabs(step) < 1e-16)
                break;
        }
        node[i] = x;
        weight[i] = 2 / ((1 - x * x) * slope * slope);
    }
}

static void gregory_weights(double weight[GREGORY]) {
    static const double coefficient[GREGORY - 1] = {1.0 / 12,      1.0 / 24,      19.0 / 720,       3.0 / 160,
                                                    863.0 / 60480, 275.0 / 24192, 33953.0 / 3628800};
    for (int j = 0; j < GREGORY; j++) {
        double sum = j == 0 ? 0.5 : 1;
        for (int m = j > 0 ? j : 1; m < GREGORY; m++) {
            double binomial = 1;
            for (int k = 0; k < j; k++)
                binomial = binomial * (m - k) / (k + 1);
            sum -= coefficient[m - 1] * binomial * (j % 2 ? -1 : 1);
        }
        weight[j] = sum;
    }
}

/* Lagrange weights of the STENCIL grid points from `first` at position x (grid units). */
static void lagrange(double x, double first, double weight[STENCIL]) {
    for (int j = 0; j < STENCIL; j++) {
        double product = 1;
        for (int k = 0; k < STENCIL; k++)
            if (k != j)
                product *= (x - first - k) / (j - k);
        weight[j] = product;
    }
}

static double interpolate(const double *restrict values, size_t count, double x) {
    double weight[STENCIL], sum = 0;
    double first = floor(x) - STENCIL / 2 + 1;
    if (first > (double)(count - STENCIL))
        first = (double)(count - STENCIL);
    if (first < 0)
        first = 0;
    lagrange(x, first, weight);
    for (int j = 0; j < STENCIL; j++)
        sum += weight[j] * values[(size_t)first + (size_t)j];
    return sum;
}

typedef struct {
    double step;           /* of the grid, in units of r */
    size_t count, band;    /* grid points over [0, c]; points of one slot's density */
    double *density;       /* p(y_j) step */
    double *kernel;        /* the same with Gregory's weights at y = 0 */
    double end[GREGORY];   /* Gregory's weights at the other end */
    double *start;         /* [SHORT][STENCIL + SHORT]: the rule for the first grid points */
    double *values, *next; /* G_n on the grid */
    size_t low, high;      /* values below low are negligible, from high on they are 1 */
    double rate_node[RATE_NODES], rate_weight[RATE_NODES]; /* over [0, 1] */
} recursion;

static void recursion_free(recursion *self) {
    free(self->density);
    free(self->kernel);
    free(self->start);
    free(self->values);
    free(self->next);
}

static int recursion_init(recursion *self, double mean_snr, double carry, double range) {
    int status = EI_ERR_NO_MEMORY;
    memset(self, 0, sizeof *self);
    double reach = fmin(range, carry);
    double steps = ceil(carry / reach * GRID_PER_RANGE);
    if (steps > 1e7)
        return EI_ERR_TOO_LARGE;
    size_t last = (size_t)fmax(steps, GRID_MINIMUM);
    self->count = last + 1;
    self->step = carry / (double)last;
    self->band = (size_t)fmin(ceil(range / self->step), (double)last) + 1;
    self->density = malloc(self->band * sizeof *self->density);
    self->kernel = malloc(self->band * sizeof *self->kernel);
    self->start = calloc(SHORT * SHORT, sizeof *self->start);
    self->values = malloc(self->count * sizeof *self->values);
    self->next = malloc(self->count * sizeof *self->next);
    if (!self->density || !self->kernel || !self->start || !self->values || !self->next)
        goto out;

    gregory_weights(self->end);
    for (size_t j = 0; j < self->band; j++) {
        self->density[j] = rate_density(mean_snr, (double)j * self->step) * self->step;
        self->kernel[j] = self->density[j] * (j < GREGORY ? self->end[j] : 1);
    }
    double node[RATE_NODES], weight[RATE_NODES];
    gauss_legendre(RATE_NODES, node, weight);
    for (size_t q = 0; q < RATE_NODES; q++) {
        self->rate_node[q] = (1 + node[q]) / 2;
        self->rate_weight[q] = weight[q] / 2;
    }
    for (size_t i = 1; i < SHORT; i++) {
        double width = (double)i;
        for (size_t q = 0; q < RATE_NODES; q++) {
            double y = width * self->rate_node[q], lagrange_weight[STENCIL];
            double factor =
                self->rate_weight[q] * width * self->step * rate_density(mean_snr, y * self->step);
            double x = width - y, first = fmin(fmax(floor(x) - STENCIL / 2 + 1, 0), SHORT - STENCIL);
            lagrange(x, first, lagrange_weight);
            for (int j = 0; j < STENCIL; j++)
                self->start[i * SHORT + (size_t)first + (size_t)j] += factor * lagrange_weight[j];
        }
    }
    for (size_t i = 0; i < self->count; i++)
        self->values[i] = 1;
    self->low = 0;
    self->high = 0;
    status = EI_OK;
out:
    return status;
}

/* G_{n-1} -> G_n. */
static void recursion_advance(recursion *self) {
    const double *restrict old = self->values;
    const double *restrict kernel = self->kernel;
    double *restrict new = self->next;
    size_t high = self->count;
    size_t low = self->low;
    memset(new, 0, low * sizeof *new);
    for (size_t i = low; i < self->count; i++) {
        double sum = 0;
        if (i < SHORT) {
            for (size_t j = 0; j < SHORT; j++)
                sum += self->start[i * SHORT + j] * old[j];
        } else {
            size_t end = i - self->low < self->band ? i - self->low + 1 : self->band;
            const double *restrict at = old + i;
            for (size_t j = 0; j < end; j++)
                sum += kernel[j] * at[-(ptrdiff_t)j];
            /* Gregory's correction where the interval ends at x itself, not where the density has died out.
             */
            if (self->low == 0 && i < self->band)
                for (size_t j = 0; j < GREGORY; j++)
                    sum += (self->end[j] - 1) * self->density[i - j] * old[j];
        }
        new[i] = sum > 1 ? 1 : sum;
        /* G_n <= G_{n-1} and both rise in x: once at 1, the rest is at 1. */
        if (i >= self->high && 1 - sum < 1e-17 && old[i] >= 1 && i >= self->band) {
            high = i;
            for (; i < self->count; i++)
                new[i] = 1;
        }
    }
    while (low + 2 * SHORT < self->count && new[low + 2 * SHORT] < G_NEGLIGIBLE && low + SHORT < self->count)
        low++;
    for (size_t i = self->low; i < low; i++)
        new[i] = 0;
    self->low = low;
    self->high = high;
    double *swap = self->values;
    self->values = self->next;
    self->next = swap;
}

/* P(r_1 + .. + r_n + f r_{n+1} < c), G_n being on the grid. */
static double recursion_sf(const recursion *self, double mean_snr, double carry, double range, double f) {
    double last = (double)(self->count - 1), sum = 0;
    double reach = f * range < carry ? range : carry / f;
    for (size_t q = 0; q < RATE_NODES; q++) {
        double r = reach * self->rate_node[q];
        sum += self->rate_weight[q] * reach * rate_density(mean_snr, r) *
               interpolate(self->values, self->count, last - f * r / self->step);
    }
    return sum;
}

/* Chebyshev coefficients of log sf over [left, right] of the slot's fraction; false where sf is not positive
 * there. */
static int fit_panel(const ei_transfer *self, const recursion *state, double left, double right,
                     double coefficient[DEGREE], double *error) {
    double sample[DEGREE];
    for (int k = 0; k < DEGREE; k++) {
        double f = left + (right - left) * (1 + cos(M_PI * (k + 0.5) / DEGREE)) / 2;
        double value = recursion_sf(state, self->mean_snr, self->carry, self->range, f);
        if (!(value > 0))
            return 0;
        sample[k] = log(fmin(value, 1));
    }
    for (int j = 0; j < DEGREE; j++) {
        double sum = 0;
        for (int k = 0; k < DEGREE; k++)
            sum += sample[k] * cos(M_PI * j * (k + 0.5) / DEGREE);
        coefficient[j] = sum * (j == 0 ? 1.0 : 2.0) / DEGREE;
    }
    *error = fabs(coefficient[DEGREE - 1]) + fabs(coefficient[DEGREE - 2]);
    return 1;
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

static int tabulate(ei_transfer *self) {
    int status;
    recursion state;
    size_t capacity = 0;
    if ((status = recursion_init(&state, self->mean_snr, self->carry, self->range)) != EI_OK)
        goto out;
    /* Near the start of a slot the law changes where f times the range is of the order of c. */
    self->panels = 1;
    while (self->panels < PANELS_MAXIMUM && (double)self->panels * self->carry < 4 * self->range)
        self->panels *= 2;

    double work = 0;
    for (size_t n = 1;; n++) {
        recursion_advance(&state);
        work += (double)(state.count - state.low) * (double)state.band;
        if (work > WORK_LIMIT) {
            status = EI_ERR_TOO_LARGE;
            goto out;
        }
        size_t stride = self->panels * DEGREE;
        if (n > capacity) {
            capacity = capacity == 0 ? 64 : 2 * capacity;
            double *grown = realloc(self->coefficients, capacity * stride * sizeof *grown);
            if (grown == NULL) {
                status = EI_ERR_NO_MEMORY;
                goto out;
            }
            self->coefficients = grown;
        }
        double worst = 0;
        for (size_t panel = 0; panel < self->panels; panel++) {
            double error;
            double left = (double)panel / (double)self->panels,
                   right = (double)(panel + 1) / (double)self->panels;
            if (!fit_panel(self, &state, left, right, self->coefficients + (n - 1) * stride + panel * DEGREE,
                           &error)) {
                status = EI_ERR_ACCURACY;
                goto out;
            }
            worst = fmax(worst, error);
        }
        if (worst > PANEL_TOLERANCE && self->panels < PANELS_MAXIMUM) {
            /* Start again on finer panels: all slots share one layout. */
            self->panels *= 2;
            capacity = 0;
            free(self->coefficients);
            self->coefficients = NULL;
            recursion_free(&state);
            if ((status = recursion_init(&state, self->mean_snr, self->carry, self->range)) != EI_OK)
                goto out;
            n = 0;
            continue;
        }
        if (worst > 1e-7) {
            status = EI_ERR_ACCURACY;
            goto out;
        }
        if (state.values[state.count - 1] < SF_END) {
            self->slots = n - 1;
            break;
        }
    }
    status = EI_OK;
out:
    recursion_free(&state);
    return status;
}

static int add_quadrature(ei_transfer *self) {
    double node[RATE_NODES], weight[RATE_NODES];
    size_t in_first = self->range > self->carry ? RATE_NODES : 0;
    self->nodes = in_first + self->slots * self->panels * PANEL_NODES;
    self->node_time = malloc((self->nodes + 1) * sizeof *self->node_time);
    self->node_weight = malloc((self->nodes + 1) * sizeof *self->node_weight);
    if (self->node_time == NULL || self->node_weight == NULL)
        return EI_ERR_NO_MEMORY;
    size_t at = 0;
    if (in_first > 0) {
        gauss_legendre(RATE_NODES, node, weight);
        double width = self->range - self->carry;
        for (size_t q = 0; q < RATE_NODES; q++, at++) {
            double r = self->carry + width * (1 + node[q]) / 2;
            self->node_time[at] = self->slot * self->carry / r;
            self->node_weight[at] = weight[q] / 2 * width * rate_density(self->mean_snr, r);
        }
    }
    gauss_legendre(PANEL_NODES, node, weight);
    for (size_t n = 0; n < self->slots; n++)
        for (size_t panel = 0; panel < self->panels; panel++) {
            const double *coefficient = self->coefficients + (n * self->panels + panel) * DEGREE;
            for (size_t q = 0; q < PANEL_NODES; q++, at++) {
                double f = ((double)panel + (1 + node[q]) / 2) / (double)self->panels;
                self->node_time[at] = self->slot * ((double)(n + 1) + f);
                double density =
                    -exp(chebyshev(coefficient, node[q])) * chebyshev_derivative(coefficient, node[q]);
                self->node_weight[at] = weight[q] * fmax(density, 0);
            }
        }
    double total = 0, first = 0, second = 0;
    for (size_t i = 0; i < self->nodes; i++) {
        total += self->node_weight[i];
        first += self->node_weight[i] * self->node_time[i];
    }
    if (!(fabs(total - 1) < 1e-8))
        return EI_ERR_ACCURACY;
    self->mean = first / total;
    for (size_t i = 0; i < self->nodes; i++) {
        self->node_weight[i] /= total;
        second +=
            self->node_weight[i] * (self->node_time[i] - self->mean) * (self->node_time[i] - self->mean);
    }
    self->variance = second;
    return EI_OK;
}

int ei_transfer_new(ei_transfer **result, double bits, double bandwidth, double mean_snr, double slot) {
    int status = EI_ERR_DOMAIN;
    ei_transfer *self = NULL;
    *result = NULL;
    if (!(bits > 0) || !(bandwidth > 0) || !(mean_snr > 0) || !(slot > 0) || !isfinite(bits) ||
        !isfinite(bandwidth) || !isfinite(mean_snr) || !isfinite(slot))
        goto out;
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    self->bits = bits;
    self->bandwidth = bandwidth;
    self->mean_snr = mean_snr;
    self->slot = slot;
    self->carry = bits / bandwidth / slot;
    /* P(r > range) = exp(-60) < 1e-26. */
    self->range = log1p(60 * mean_snr) / M_LN2;
    if (!(self->carry > 1e-6 && self->carry < 1e6)) {
        status = EI_ERR_TOO_LARGE;
        goto out;
    }
    if ((status = tabulate(self)) != EI_OK || (status = add_quadrature(self)) != EI_OK)
        goto out;
    self->extent = slot * (double)(self->slots + 1);
    *result = self;
    self = NULL;
out:
    ei_transfer_free(self);
    return status;
}

void ei_transfer_free(ei_transfer *self) {
    if (self == NULL)
        return;
    free(self->coefficients);
    free(self->node_time);
    free(self->node_weight);
    free(self);
}

void ei_transfer_parameters(const ei_transfer *self, double *bits, double *bandwidth, double *mean_snr,
                            double *slot) {
    *bits = self->bits;
    *bandwidth = self->bandwidth;
    *mean_snr = self->mean_snr;
    *slot = self->slot;
}

double ei_transfer_sf(const ei_transfer *self, double time) {
    if (isnan(time))
        return NAN;
    double position = time / self->slot;
    if (position <= 1)
        return first_slot_sf(self, position);
    if (position >= (double)(self->slots + 1))
        return 0;
    size_t n = (size_t)position;
    double fraction = (position - (double)n) * (double)self->panels;
    size_t panel = (size_t)fraction;
    if (panel >= self->panels)
        panel = self->panels - 1;
    const double *coefficient = self->coefficients + ((n - 1) * self->panels + panel) * DEGREE;
    return fmin(exp(chebyshev(coefficient, 2 * (fraction - (double)panel) - 1)), 1);
}

double ei_transfer_cdf(const ei_transfer *self, double time) {
    double position = time / self->slot;
    if (position > 0 && position <= 1)
        return exp(-expm1(M_LN2 * self->carry / position) / self->mean_snr);
    return position <= 0 ? 0 : 1 - ei_transfer_sf(self, time);
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

int ei_transfer_log_mgf(const ei_transfer *self, double theta, double *value, double *derivative) {
    if (isnan(theta))
        return EI_ERR_DOMAIN;
    double sum = 0, moment = 0;
    /* The largest exponent of a term that counts is taken out, so that no theta over- or underflows. */
    double peak = -INFINITY;
    for (size_t i = 0; i < self->nodes; i++)
        if (self->node_weight[i] > 0)
            peak = fmax(peak, theta * self->node_time[i]);
    for (size_t i = 0; i < self->nodes; i++) {
        double term = self->node_weight[i] * exp(theta * self->node_time[i] - peak);
        sum += term;
        moment += term * self->node_time[i];
    }
    if (value != NULL)
        *value = log(sum) + peak;
    if (derivative != NULL)
        *derivative = moment / sum;
    return EI_OK;
}

double ei_transfer_abscissa(const ei_transfer *self) {
    (void)self;
    return INFINITY;
}
