#include "edgeinfer/recursion.h"

#include <stdlib.h>
#include <string.h>

#include "edgeinfer/multiversion.h"

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
    WIDE_NODES = 256 /* the same where it is wide: near its end densities change within a fifth of a bit */
};

static const double WIDE_RANGE = 17;     /* bits */
static const double STEP_MAXIMUM = 0.18; /* of the grid: the density falls as exp(-2^r / s) at its far end */
static const double NEGLIGIBLE = 1e-34;  /* of G and H: far below the tables' end, even times the slots */

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

struct ei_recursion {
    ei_rate rate;
    double carry;
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
    size_t nodes;
    double rate_node[WIDE_NODES], rate_weight[WIDE_NODES]; /* over [0, 1] */
    double range_mass[WIDE_NODES];                         /* weight times density over the range */
};

void ei_recursion_free(ei_recursion *self) {
    if (self == NULL)
        return;
    free(self->density);
    free(self->kernel);
    free(self->start);
    free(self->memory);
    free(self);
}

/* Grid points over [0, c], about. */
static double grid_points(const ei_rate *rate, double carry) {
    double scale = rate->mean_snr / M_LN2;
    double step = fmin(fmin(rate->range / GRID_PER_RANGE, scale / GRID_PER_SCALE), STEP_MAXIMUM);
    return fmax(ceil(carry / step), GRID_MINIMUM);
}

double ei_recursion_work(const ei_rate *rate, double carry, double slots, double spread) {
    double points = grid_points(rate, carry), step = carry / points;
    double band = fmin(rate->range / step, points);
    /* G and H are followed within 12 standard deviations to either side of their middle. */
    double window = fmin(points, band + 24 * spread * sqrt(slots) / step);
    return 1.5 * (slots + 9 * sqrt(slots)) * band * window;
}

static int reserve(ei_recursion *self) {
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
    return EI_OK;
}

/* What is read between grid points is log H, which stays smooth where H falls by orders from one to the next;
 * where H is of no account it goes on straight. */
static void take_logarithm(ei_recursion *self) {
    size_t reach = self->band + STENCIL, first = self->count > reach ? self->count - reach : 0;
    for (size_t i = first; i < self->count; i++)
        self->log_above[i] = self->above[i] > 1e4 * NEGLIGIBLE || i < first + 2
                                 ? log(fmax(self->above[i], 1e4 * NEGLIGIBLE))
                                 : 2 * self->log_above[i - 1] - self->log_above[i - 2];
}

int ei_recursion_new(ei_recursion **result, const ei_rate *rate, double carry) {
    int status = EI_ERR_TOO_LARGE;
    ei_recursion *self = NULL;
    *result = NULL;
    double points = grid_points(rate, carry), range = rate->range;
    if (!(points <= GRID_MAXIMUM))
        goto out;
    status = EI_ERR_NO_MEMORY;
    self = calloc(1, sizeof *self);
    if (self == NULL)
        goto out;
    self->rate = *rate;
    self->carry = carry;
    size_t last = (size_t)points;
    self->count = last + 1;
    self->step = carry / (double)last;
    self->band = (size_t)fmin(ceil(range / self->step), (double)last) + 1;
    if ((status = reserve(self)) != EI_OK)
        goto out;
    gregory_weights(self->end);
    for (size_t j = 0; j < self->band; j++) {
        self->density[j] = ei_rate_density(rate, (double)j * self->step) * self->step;
        self->kernel[j] = self->density[j] * (j < GREGORY ? self->end[j] : 1);
    }
    self->nodes = range > WIDE_RANGE ? WIDE_NODES : RATE_NODES;
    ei_gauss_legendre(self->nodes, self->rate_node, self->rate_weight);
    for (size_t q = 0; q < self->nodes; q++) {
        self->rate_node[q] = (1 + self->rate_node[q]) / 2;
        self->rate_weight[q] /= 2;
        self->range_mass[q] =
            self->rate_weight[q] * range * ei_rate_density(rate, range * self->rate_node[q]);
    }
    for (size_t i = 1; i < SHORT; i++) {
        double width = (double)i;
        for (size_t q = 0; q < self->nodes; q++) {
            double y = width * self->rate_node[q], lagrange_weight[STENCIL];
            double factor = self->rate_weight[q] * width * self->step * ei_rate_density(rate, y * self->step);
            double x = width - y, first = fmin(fmax(floor(x) - STENCIL / 2 + 1, 0), SHORT - STENCIL);
            lagrange(x, first, lagrange_weight);
            for (int j = 0; j < STENCIL; j++)
                self->start[i * SHORT + (size_t)first + (size_t)j] += factor * lagrange_weight[j];
        }
    }
    /* n = 1, and beyond `high` what the buffers keep. */
    for (size_t i = 0; i < self->count; i++) {
        self->below[i] = ei_rate_cdf(rate, (double)i * self->step);
        self->above[i] = ei_rate_sf(rate, (double)i * self->step);
        self->next_below[i] = 1;
    }
    self->high = self->count;
    self->with_above = ei_recursion_below(self) > 0.5;
    if (self->with_above)
        take_logarithm(self);
    *result = self;
    self = NULL;
out:
    ei_recursion_free(self);
    return status;
}

/* next[i] = sum of kernel[j] old[i - j] for low <= i < high; old is 0 before `first`. */
EI_MULTIVERSION static void convolve(const double *kernel, size_t full_band, const double *old, double *next,
                                     size_t low, size_t high, size_t first) {
    for (size_t block = low; block < high; block += BLOCK) {
        size_t width = high - block < BLOCK ? high - block : BLOCK, within = block + width - first;
        size_t band = full_band < within ? full_band : within;
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

/* The integral of the recursion over [low, high) of the grid; old is 0 before `first` <= low. */
static void integrate(const ei_recursion *self, const double *old, double *next, size_t low, size_t high,
                      size_t first) {
    convolve(self->kernel, self->band, old, next, low, high, first);
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

void ei_recursion_advance(ei_recursion *self) {
    double *below = self->next_below, *above = self->next_above;
    size_t low = self->low;
    size_t high = self->high + self->band < self->count ? self->high + self->band : self->count;
    memset(below, 0, low * sizeof *below);
    integrate(self, self->below, below, low, high, low);
    for (size_t i = low; i < high; i++)
        below[i] = fmin(below[i], 1);
    if (self->with_above) {
        for (size_t i = 0; i < low; i++)
            above[i] = 1;
        integrate(self, self->above, above, low, high, 0);
        for (size_t i = low; i < high; i++)
            above[i] = fmin(above[i] + ei_rate_sf(&self->rate, (double)i * self->step), 1);
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
    self->with_above &= ei_recursion_below(self) > 0.5;
    if (self->with_above)
        take_logarithm(self);
}

double ei_recursion_below(const ei_recursion *self) {
    return self->below[self->count - 1];
}

double ei_recursion_logit(const ei_recursion *self, double f) {
    double last = (double)(self->count - 1), mass[WIDE_NODES];
    double reach = f * self->rate.range < self->carry ? self->rate.range : self->carry / f;
    double below = 0, above = 0;
    for (size_t q = 0; q < self->nodes; q++)
        mass[q] = reach == self->rate.range ? self->range_mass[q]
                                            : self->rate_weight[q] * reach *
                                                  ei_rate_density(&self->rate, reach * self->rate_node[q]);
    for (size_t q = 0; q < self->nodes; q++)
        below += mass[q] *
                 interpolate(self->below, self->count, last - f * reach * self->rate_node[q] / self->step);
    if (below < 0.5 || !self->with_above)
        return log(below) - log1p(-below);
    for (size_t q = 0; q < self->nodes; q++)
        above += mass[q] * exp(interpolate(self->log_above, self->count,
                                           last - f * reach * self->rate_node[q] / self->step));
    if (f > 0)
        above += ei_rate_sf(&self->rate, self->carry / f);
    return log1p(-above) - log(above);
}
