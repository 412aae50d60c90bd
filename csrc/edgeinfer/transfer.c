#include "edgeinfer/transfer.h"

#include <gsl/gsl_math.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "edgeinfer/multiversion.h"

/* All in units of the slot and of one hertz times the slot: r = log2(1 + s g) a slot, c = J / (W slot) to be
 * carried. G_n(x) = P(r_1 + .. + r_n < x) and its complement H_n obey
 *   G_n(x) = int_0^x p(y) G_{n-1}(x - y) dy,  H_n(x) = P(r >= x) + int_0^x p(y) H_{n-1}(x - y) dy,
 * recursions of positive terms, so that small values of either keep their relative accuracy. They are run on
 * a uniform grid over [0, c] with Gregory's end corrections, H only up to the median of X. Within each slot
 * log(sf / cdf) is fitted on panels halved until they resolve it: where c is small against a slot's rate, the
 * law changes within the first c / rate of a slot. */

enum {
    GRID_PER_RANGE = 128, /* grid steps over the range of one slot's rate */
    GRID_PER_SCALE = 20,  /* grid steps over the length on which its density changes near 0 */
    GRID_MINIMUM = 192,
    GRID_MAXIMUM = 4000000,
    BLOCK = 64,          /* grid points convolved together */
    GREGORY = 8,         /* end weights of the quadrature rule: exact for polynomials of degree 7 */
    SHORT = 2 * GREGORY, /* intervals of fewer steps have no room for both ends */
    STENCIL = 10,        /* points of local Lagrange interpolation */
    RATE_NODES = 96,     /* Gauss-Legendre nodes over the range of one slot's rate */
    DEGREE = 12,         /* Chebyshev coefficients of log(sf / cdf) on a panel */
    PANEL_NODES = 12,    /* Gauss-Legendre nodes on a panel, for the MGF */
    HALVINGS_MAXIMUM = 48,
    PANELS_MAXIMUM = 400000
};

static const double TAIL_END = 1e-20; /* the tables end where sf or cdf is less */
static const double PANEL_TOLERANCE = 1e-9;
static const double NEGLIGIBLE = 1e-34;      /* of G and H: far below TAIL_END, even times the slots */
static const double FIRST_SLOT_RATIO = 1.25; /* of rates across a panel of the first slot */
static const double WORK_LIMIT = 1e11;       /* multiply-adds of the recursions, 10 to 20 s */

typedef struct {
    double left, right; /* of the slot's fraction */
    double coefficient[DEGREE];
} panel;

struct ei_transfer {
    double bits, bandwidth, mean_snr, slot;
    double carry;        /* c */
    double range;        /* largest rate of a slot that matters, in units of the bandwidth */
    size_t slots;        /* slots tabulated beyond slot 0 */
    size_t *first;       /* [slots + 1]: where the panels of slot n + 1 begin */
    panel *panels;       /* log(sf / cdf), ascending in time */
    size_t nodes;        /* quadrature of the density */
    double *node_time;   /* s */
    double *node_weight; /* weight times density */
    double mean, variance, extent;
};

static double rate_density(double mean_snr, double r) {
    return M_LN2 / mean_snr * exp2(r) * exp(-expm1(M_LN2 * r) / mean_snr);
}

/* P(r < value). */
static double rate_cdf(double mean_snr, double value) {
    return -expm1(-expm1(M_LN2 * value) / mean_snr);
}

/* P(r >= value). */
static double rate_sf(double mean_snr, double value) {
    return exp(-expm1(M_LN2 * value) / mean_snr);
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
    /* 1 / prod_{k != j} (j - k) */
    static const double scale[STENCIL] = {-1.0 / 362880, 1.0 / 40320, -1.0 / 10080, 1.0 / 4320,
                                          -1.0 / 2880,   1.0 / 2880,  -1.0 / 4320,  1.0 / 10080,
                                          -1.0 / 40320,  1.0 / 362880};
    double product = 1;
    for (int j = 0; j < STENCIL; j++) {
        weight[j] = scale[j] * product;
        product *= x - first - j;
    }
    product = 1;
    for (int j = STENCIL - 1; j >= 0; j--) {
        weight[j] *= product;
        product *= x - first - j;
    }
}

static double interpolate(const double *values, size_t count, double x) {
    double weight[STENCIL], sum = 0;
    double first = fmax(fmin(floor(x) - STENCIL / 2 + 1, (double)(count - STENCIL)), 0);
    const double *at = values + (size_t)first;
    lagrange(x, first, weight);
    for (int j = 0; j < STENCIL; j++)
        sum += weight[j] * at[j];
    return sum;
}

typedef struct {
    double mean_snr, carry;
    double step;           /* of the grid, in units of r */
    size_t count, band;    /* grid points over [0, c]; points of one slot's density */
    double *density;       /* p(y_j) step */
    double *kernel;        /* the same with Gregory's weights at y = 0 */
    double end[GREGORY];   /* Gregory's weights at the other end */
    double *start;         /* [SHORT][SHORT]: the rule for the first grid points */
    double *memory;        /* of the four arrays below, each after `band` zeros */
    double *below, *above; /* G_n and H_n on the grid */
    double *next_below, *next_above;
    double *log_above; /* at the last grid points, which one slot's rate reaches back from c */
    int with_above;    /* H is still needed */
    size_t low, high;  /* G is negligible below low and H from high on */
    double range;
    double rate_node[RATE_NODES], rate_weight[RATE_NODES]; /* over [0, 1] */
    double range_mass[RATE_NODES];                         /* weight times density over the range */
} recursion;

static void recursion_free(recursion *self) {
    free(self->density);
    free(self->kernel);
    free(self->start);
    free(self->memory);
}

static int recursion_init(recursion *self, double mean_snr, double carry, double range) {
    memset(self, 0, sizeof *self);
    self->mean_snr = mean_snr;
    self->carry = carry;
    self->range = range;
    double scale = mean_snr / M_LN2;
    double steps = ceil(carry / fmin(range / GRID_PER_RANGE, scale / GRID_PER_SCALE));
    if (steps > GRID_MAXIMUM)
        return EI_ERR_TOO_LARGE;
    size_t last = (size_t)fmax(steps, GRID_MINIMUM);
    self->count = last + 1;
    self->step = carry / (double)last;
    self->band = (size_t)fmin(ceil(range / self->step), (double)last) + 1;
    size_t length = self->band + self->count;
    self->density = malloc(self->band * sizeof *self->density);
    self->kernel = malloc(self->band * sizeof *self->kernel);
    self->start = calloc(SHORT * SHORT, sizeof *self->start);
    self->memory = calloc(4 * length + self->count, sizeof *self->memory);
    if (!self->density || !self->kernel || !self->start || !self->memory)
        return EI_ERR_NO_MEMORY;
    self->below = self->memory + self->band;
    self->next_below = self->below + length;
    self->above = self->next_below + length;
    self->next_above = self->above + length;
    self->log_above = self->memory + 4 * length;

    gregory_weights(self->end);
    for (size_t j = 0; j < self->band; j++) {
        self->density[j] = rate_density(mean_snr, (double)j * self->step) * self->step;
        self->kernel[j] = self->density[j] * (j < GREGORY ? self->end[j] : 1);
    }
    gauss_legendre(RATE_NODES, self->rate_node, self->rate_weight);
    for (size_t q = 0; q < RATE_NODES; q++) {
        self->rate_node[q] = (1 + self->rate_node[q]) / 2;
        self->rate_weight[q] /= 2;
        self->range_mass[q] =
            self->rate_weight[q] * range * rate_density(mean_snr, range * self->rate_node[q]);
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
    /* n = 1, and beyond `high` what the buffers keep. */
    for (size_t i = 0; i < self->count; i++) {
        self->below[i] = rate_cdf(mean_snr, (double)i * self->step);
        self->above[i] = rate_sf(mean_snr, (double)i * self->step);
        self->next_below[i] = 1;
    }
    self->with_above = 1;
    self->high = self->count;
    return EI_OK;
}

/* next[i] = sum of kernel[j] old[i - j] for low <= i < high. */
EI_MULTIVERSION static void convolve(const double *kernel, size_t band, const double *old, double *next,
                                     size_t low, size_t high) {
    for (size_t block = low; block < high; block += BLOCK) {
        size_t width = high - block < BLOCK ? high - block : BLOCK;
        double sum[BLOCK] = {0};
        if (width == BLOCK)
            for (size_t j = 0; j < band; j++)
                for (size_t i = 0; i < BLOCK; i++)
                    sum[i] += kernel[j] * old[(ptrdiff_t)(block + i) - (ptrdiff_t)j];
        else
            for (size_t j = 0; j < band; j++)
                for (size_t i = 0; i < width; i++)
                    sum[i] += kernel[j] * old[(ptrdiff_t)(block + i) - (ptrdiff_t)j];
        memcpy(next + block, sum, width * sizeof *sum);
    }
}

/* The integral of the recursion over [low, high) of the grid. */
static void integrate(const recursion *self, const double *old, double *next, size_t low, size_t high) {
    convolve(self->kernel, self->band, old, next, low, high);
    for (size_t i = low; i < high && i < SHORT; i++) {
        next[i] = 0;
        for (size_t j = 0; j < SHORT; j++)
            next[i] += self->start[i * SHORT + j] * old[j];
    }
    /* Gregory's correction where the interval ends at x itself, not where the density has died out. */
    for (size_t i = low > SHORT ? low : SHORT; i < high && i < self->band; i++)
        for (size_t j = 0; j < GREGORY; j++)
            next[i] += (self->end[j] - 1) * self->density[i - j] * old[j];
}

/* n -> n + 1; returns the multiply-adds. */
static double recursion_advance(recursion *self) {
    double *below = self->next_below, *above = self->next_above;
    size_t low = self->low;
    size_t high = self->high + self->band < self->count ? self->high + self->band : self->count;
    double work = (double)(high - low) * (double)self->band * (1 + self->with_above);
    memset(below, 0, low * sizeof *below);
    integrate(self, self->below, below, low, high);
    for (size_t i = low; i < high; i++)
        below[i] = fmin(below[i], 1);
    if (self->with_above) {
        for (size_t i = 0; i < low; i++)
            above[i] = 1;
        integrate(self, self->above, above, low, high);
        for (size_t i = low; i < high; i++)
            above[i] = fmin(above[i] + rate_sf(self->mean_snr, (double)i * self->step), 1);
        for (; high > low && above[high - 1] < NEGLIGIBLE; high--) {
            above[high - 1] = 0;
            below[high - 1] = 1;
        }
    }
    for (; low + 2 * SHORT < self->count && below[low + 2 * SHORT] < NEGLIGIBLE; low++)
        below[low] = 0;
    self->low = low;
    self->high = high;
    self->next_below = self->below;
    self->next_above = self->above;
    self->below = below;
    self->above = above;
    return work;
}

/* What is read between grid points is log H, which stays smooth where H falls by orders from one to the next;
 * where H is of no account it goes on straight. */
static void recursion_take_logarithm(recursion *self) {
    size_t reach = self->band + STENCIL, first = self->count > reach ? self->count - reach : 0;
    for (size_t i = first; i < self->count; i++)
        self->log_above[i] = self->above[i] > 1e4 * NEGLIGIBLE || i < first + 2
                                 ? log(fmax(self->above[i], 1e4 * NEGLIGIBLE))
                                 : 2 * self->log_above[i - 1] - self->log_above[i - 2];
}

/* log(sf / cdf) at n + f slots. */
static double recursion_logit(const recursion *self, double f) {
    double last = (double)(self->count - 1), mass[RATE_NODES];
    double reach = f * self->range < self->carry ? self->range : self->carry / f;
    double below = 0, above = 0;
    for (size_t q = 0; q < RATE_NODES; q++)
        mass[q] = reach == self->range ? self->range_mass[q]
                                       : self->rate_weight[q] * reach *
                                             rate_density(self->mean_snr, reach * self->rate_node[q]);
    for (size_t q = 0; q < RATE_NODES; q++)
        below += mass[q] *
                 interpolate(self->below, self->count, last - f * reach * self->rate_node[q] / self->step);
    if (below < 0.5 || !self->with_above)
        return log(below) - log1p(-below);
    for (size_t q = 0; q < RATE_NODES; q++)
        above += mass[q] * exp(interpolate(self->log_above, self->count,
                                           last - f * reach * self->rate_node[q] / self->step));
    if (f > 0)
        above += rate_sf(self->mean_snr, self->carry / f);
    return log1p(-above) - log(above);
}

/* Appends panels over [left, right] of the fraction of slot n + 1. Both ends are among a panel's points, so
 * that the law goes on from one to the next, and a layer at an end is seen. */
static int fit_panels(ei_transfer *self, size_t *count, size_t *capacity, const recursion *state, double left,
                      double right, int halvings) {
    enum { LAST = DEGREE - 1 };
    double sample[DEGREE];
    panel fit = {.left = left, .right = right, .coefficient = {-2 * log(TAIL_END)}};
    sample[0] = recursion_logit(state, right);
    if (sample[0] < -log(TAIL_END)) {
        for (int k = 1; k < DEGREE; k++)
            sample[k] = recursion_logit(state, left + (right - left) * (1 + cos(M_PI * k / LAST)) / 2);
        for (int j = 0; j < DEGREE; j++) {
            double sum = (sample[0] + (j % 2 ? -1 : 1) * sample[LAST]) / 2;
            for (int k = 1; k < LAST; k++)
                sum += sample[k] * cos(M_PI * j * k / LAST);
            fit.coefficient[j] = sum * (j == 0 || j == LAST ? 1.0 : 2.0) / LAST;
        }
        if (!(fabs(fit.coefficient[LAST]) + fabs(fit.coefficient[LAST - 1]) < PANEL_TOLERANCE)) {
            double middle = left + (right - left) / 2;
            if (halvings == HALVINGS_MAXIMUM)
                return EI_ERR_ACCURACY;
            int status = fit_panels(self, count, capacity, state, left, middle, halvings + 1);
            return status != EI_OK ? status
                                   : fit_panels(self, count, capacity, state, middle, right, halvings + 1);
        }
    }
    if (*count == *capacity) {
        if (*capacity >= PANELS_MAXIMUM)
            return EI_ERR_TOO_LARGE;
        *capacity = *capacity == 0 ? 64 : 2 * *capacity;
        panel *grown = realloc(self->panels, *capacity * sizeof *grown);
        if (grown == NULL)
            return EI_ERR_NO_MEMORY;
        self->panels = grown;
    }
    self->panels[(*count)++] = fit;
    return EI_OK;
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
    size_t count = 0, capacity = 0, slots_capacity = 0;
    double work = 0;
    if ((status = recursion_init(&state, self->mean_snr, self->carry, self->range)) != EI_OK)
        goto out;
    for (self->slots = 0;; self->slots++) {
        if (self->slots + 1 > slots_capacity) {
            slots_capacity = slots_capacity == 0 ? 64 : 2 * slots_capacity;
            size_t *grown = realloc(self->first, slots_capacity * sizeof *grown);
            if (grown == NULL) {
                status = EI_ERR_NO_MEMORY;
                goto out;
            }
            self->first = grown;
        }
        self->first[self->slots] = count;
        double sf = state.below[state.count - 1];
        if (sf < TAIL_END)
            break;
        state.with_above &= sf > 0.5;
        if (state.with_above)
            recursion_take_logarithm(&state);
        if ((status = fit_panels(self, &count, &capacity, &state, 0, 1, 0)) != EI_OK)
            goto out;
        work += recursion_advance(&state);
        if (work > WORK_LIMIT) {
            status = EI_ERR_TOO_LARGE;
            goto out;
        }
    }
out:
    recursion_free(&state);
    return status;
}

static int add_quadrature(ei_transfer *self) {
    double node[PANEL_NODES], weight[PANEL_NODES];
    size_t in_first =
        self->range > self->carry ? (size_t)ceil(log(self->range / self->carry) / log(FIRST_SLOT_RATIO)) : 0;
    size_t capacity = (in_first + self->first[self->slots]) * PANEL_NODES;
    self->node_time = malloc((capacity + 1) * sizeof *self->node_time);
    self->node_weight = malloc((capacity + 1) * sizeof *self->node_weight);
    if (self->node_time == NULL || self->node_weight == NULL)
        return EI_ERR_NO_MEMORY;
    size_t at = 0;
    gauss_legendre(PANEL_NODES, node, weight);
    for (size_t i = 0; i < in_first; i++) {
        double high = self->range * pow(FIRST_SLOT_RATIO, -(double)i);
        double low = i + 1 < in_first ? high / FIRST_SLOT_RATIO : self->carry;
        for (size_t q = 0; q < PANEL_NODES; q++, at++) {
            double r = low + (high - low) * (1 - node[q]) / 2;
            self->node_time[at] = self->slot * self->carry / r;
            self->node_weight[at] = weight[q] / 2 * (high - low) * rate_density(self->mean_snr, r);
        }
    }
    for (size_t n = 0; n < self->slots; n++)
        for (size_t i = self->first[n]; i < self->first[n + 1]; i++) {
            const panel *part = self->panels + i;
            for (size_t q = 0; q < PANEL_NODES; q++) {
                double slope = chebyshev_derivative(part->coefficient, node[q]);
                if (slope >= 0)
                    continue;
                double f = part->left + (part->right - part->left) * (1 + node[q]) / 2;
                double cosine = cosh(chebyshev(part->coefficient, node[q]) / 2);
                self->node_time[at] = self->slot * ((double)(n + 1) + f);
                self->node_weight[at++] = weight[q] * -slope / (4 * cosine * cosine);
            }
        }
    self->nodes = at;
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
    /* P(r > range) = exp(-80) < 1e-34. */
    self->range = log1p(80 * mean_snr) / M_LN2;
    /* The slots are more than c over the mean rate, which is at most log2(1 + s). */
    if (!(self->carry > 1e-7 && self->carry < PANELS_MAXIMUM * log1p(mean_snr) / M_LN2)) {
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
    free(self->first);
    free(self->panels);
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

/* log(sf / cdf) at a position of at least one slot, before the tables end. */
static double logit(const ei_transfer *self, double position) {
    size_t n = (size_t)position;
    double f = position - (double)n;
    const panel *part = self->panels + self->first[n] - 1;
    while (part->left > f)
        part--;
    return chebyshev(part->coefficient, 2 * (f - part->left) / (part->right - part->left) - 1);
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

double ei_transfer_cdf(const ei_transfer *self, double time) {
    if (isnan(time))
        return NAN;
    double position = time / self->slot;
    if (position <= 1)
        return position <= 0 ? 0 : rate_sf(self->mean_snr, self->carry / position);
    if (position >= (double)(self->slots + 1))
        return 1;
    return 1 / (1 + exp(logit(self, position)));
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
