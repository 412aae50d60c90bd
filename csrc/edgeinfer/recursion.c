#include "edgeinfer/recursion.h"

#include <gsl/gsl_sf_zeta.h>
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
    WIDE_NODES = 256, /* the same where it is wide: near its end densities change within a fifth of a bit */
    NEAR = 32,        /* grid points near 0 where G is read over its power of x */
    READINGS = 128,   /* fractions of a slot that are kept ready */
    START_NODES = 64  /* for the integrals of the first grid points */
};

static const double WIDE_RANGE = 17;     /* bits */
static const double WIDE_SPREADS = 30;   /* standard deviations: farther than half of one from node to node */
static const double STEP_MAXIMUM = 0.18; /* of the grid: the density falls as exp(-2^r / s) at its far end */
static const double STEP_OF_SPREAD = 0.04; /* of the grid, over a slot's standard deviation */
static const double SMOOTH = 12; /* a power of x that Gregory's weights, exact to degree 7, do not notice */
static const double LEAST = 1e-300;             /* of a probability that is read */
static const double NEGLIGIBLE = 1e-34;         /* of H: far below the tables' end, even times the slots */
static const double NEGLIGIBLE_OF_TAIL = 1e-14; /* of G, likewise, over the tail that is wanted */

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

/* Navot's end weights (J. Math. Phys. 40, 1961) in place of Gregory's: int_0^m x^a q(x) dx is the sum of x^a
 * q(x) over x = 1, 2, .. and of weight[j] q(j), exact where q is a polynomial of degree 7. The
 * Euler-Maclaurin series of such a sum is that of zeta(-a - k) q^(k)(0) / k!, here fitted with the powers
 * j^k. */
static void navot_weights(double power, double weight[GREGORY]) {
    double moment[GREGORY];
    for (int k = 0; k < GREGORY; k++)
        moment[k] = -gsl_sf_zeta(-power - k);
    /* Vandermonde's system at 0, 1, .., 7 by Newton's divided differences of the moments (Bjorck, Pereyra).
     */
    for (int k = 0; k < GREGORY - 1; k++)
        for (int j = GREGORY - 1; j > k; j--)
            moment[j] -= k * moment[j - 1];
    for (int k = GREGORY - 2; k >= 0; k--) {
        for (int j = k + 1; j < GREGORY; j++)
            moment[j] /= k + 1;
        for (int j = k; j < GREGORY - 1; j++)
            moment[j] -= moment[j + 1];
    }
    memcpy(weight, moment, sizeof moment);
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

/* Weights of interpolation at x; the first of the grid points. */
static size_t place_stencil(size_t count, double x, double weight[STENCIL]) {
    double first = fmax(fmin(floor(x) - STENCIL / 2 + 1, (double)(count - STENCIL)), 0);
    lagrange(x, first, weight);
    return (size_t)first;
}

static double weigh(const double *values, const double weight[STENCIL]) {
    double sum = 0;
    for (int j = 0; j < STENCIL; j++)
        sum += weight[j] * values[j];
    return sum;
}

static double interpolate(const double *values, size_t count, double x) {
    double weight[STENCIL];
    return weigh(values + place_stencil(count, x, weight), weight);
}

/* How the last step, of a fraction f of a slot, reads G and H: over its rates, their masses, the places on
 * the grid, and the weights of STENCIL points from `first` there. The same for all n. */
typedef struct {
    double fraction, mass[WIDE_NODES], at[WIDE_NODES], weight[WIDE_NODES][STENCIL];
    size_t first[WIDE_NODES];
} reading;

struct ei_recursion {
    ei_rate rate;
    double carry;
    double negligible;     /* of G */
    double step;           /* of the grid, in units of r */
    size_t count, band;    /* grid points over [0, c]; points of one slot's density */
    double *density;       /* p(y_j) step */
    double *beyond;        /* P(r >= y_j), [count] */
    double *kernel;        /* the same with Gregory's weights at y = 0 */
    double end[GREGORY];   /* Gregory's weights at the other end */
    double *start;         /* [SHORT][SHORT]: the rule for the first grid points */
    double *memory;        /* of the four arrays below, each after `band` zeros */
    double *below, *above; /* G_n and H_n on the grid */
    double *next_below, *next_above;
    double *log_above; /* at the last grid points, which one slot's rate reaches back from c */
    int with_above;    /* H is still needed */
    /* Where the density is a broken power of x near 0, G_n / x^(n power) there, x in grid steps: */
    double power, slots; /* 0 where it is smooth; n */
    double near[NEAR];
    double near_end[GREGORY]; /* Navot's weights for G_n */
    double start_node[START_NODES], start_weight[START_NODES];
    size_t low, high; /* G is negligible below low and H from high on */
    size_t nodes;
    double rate_node[WIDE_NODES], rate_weight[WIDE_NODES]; /* over [0, 1] */
    double range_mass[WIDE_NODES];                         /* weight times density over the range */
    reading *readings; /* [READINGS], of the fractions that were asked for first, and one more */
    size_t reading_count;
};

void ei_recursion_free(ei_recursion *self) {
    if (self == NULL)
        return;
    free(self->density);
    free(self->beyond);
    free(self->kernel);
    free(self->start);
    free(self->memory);
    free(self->readings);
    free(self);
}

/* Grid points over [0, c], about. */
static double grid_points(const ei_rate *rate, double carry) {
    double scale = rate->rayleigh ? rate->mean_snr / M_LN2 : rate->spread * GRID_PER_SCALE * STEP_OF_SPREAD;
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
    self->beyond = malloc(self->count * sizeof *self->beyond);
    self->kernel = malloc(self->band * sizeof *self->kernel);
    self->start = calloc(SHORT * SHORT, sizeof *self->start);
    self->memory = calloc(4 * length + self->count, sizeof *self->memory);
    self->readings = malloc(READINGS * sizeof *self->readings);
    if (!self->density || !self->beyond || !self->kernel || !self->start || !self->memory || !self->readings)
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

/* x^power at whole x, x^0 = 1. */
static double raised(size_t x, double power) {
    return x == 0 ? power == 0 : pow((double)x, power);
}

static void take_density(ei_recursion *self) {
    const ei_rate *rate = &self->rate;
    double start[GREGORY];
    gregory_weights(self->end);
    if (self->power > 0)
        navot_weights(self->power - 1, start);
    for (size_t j = 0; j < self->band; j++) {
        if (self->power == 0) {
            self->density[j] = ei_rate_density(rate, (double)j * self->step) * self->step;
            self->kernel[j] = self->density[j] * (j < GREGORY ? self->end[j] : 1);
            continue;
        }
        double power = raised(j, self->power - 1),
               smooth = j == 0 ? ei_rate_start(rate) * pow(self->step, self->power)
                               : ei_rate_density(rate, (double)j * self->step) * self->step / power;
        self->density[j] = j == 0 ? 0 : smooth * power;
        self->kernel[j] = self->density[j] + (j < GREGORY ? start[j] * smooth : 0);
    }
}

/* Nodes over [0, 1], of integrals over a slot's rate from its least on. */
static void take_nodes(ei_recursion *self) {
    double range = self->rate.range, low = self->rate.low;
    self->nodes = range > WIDE_RANGE || self->power > 0 || range - low > WIDE_SPREADS * self->rate.spread
                      ? WIDE_NODES
                      : RATE_NODES;
    if (self->power > 0) {
        ei_flattened_legendre(self->nodes, self->power, self->rate_node, self->rate_weight);
    } else {
        ei_gauss_legendre(self->nodes, self->rate_node, self->rate_weight);
        for (size_t q = 0; q < self->nodes; q++) {
            self->rate_node[q] = (1 + self->rate_node[q]) / 2;
            self->rate_weight[q] /= 2;
        }
    }
    for (size_t q = 0; q < self->nodes; q++)
        self->range_mass[q] = self->rate_weight[q] * (range - low) *
                              ei_rate_density(&self->rate, low + (range - low) * self->rate_node[q]);
}

/* The rule for the first grid points, where there is no room for both ends. */
static void take_start(ei_recursion *self) {
    if (self->power > 0) {
        ei_flattened_legendre(START_NODES, self->power, self->start_node, self->start_weight);
        return;
    }
    double node[RATE_NODES], rate_weight[RATE_NODES];
    ei_gauss_legendre(RATE_NODES, node, rate_weight);
    for (size_t i = 1; i < SHORT; i++) {
        double width = (double)i;
        for (size_t q = 0; q < RATE_NODES; q++) {
            double y = width * ((1 + node[q]) / 2), weight[STENCIL];
            double factor =
                rate_weight[q] / 2 * width * self->step * ei_rate_density(&self->rate, y * self->step);
            double x = width - y, first = fmin(fmax(floor(x) - STENCIL / 2 + 1, 0), SHORT - STENCIL);
            lagrange(x, first, weight);
            for (int j = 0; j < STENCIL; j++)
                self->start[i * SHORT + (size_t)first + (size_t)j] += factor * weight[j];
        }
    }
}

/* G over its power of x, once it has been found at n slots. */
static void take_power(ei_recursion *self) {
    double exponent = self->slots * self->power;
    if (!(self->power > 0))
        return;
    self->near[0] = exp(self->slots * (log(ei_rate_start(&self->rate)) + lgamma(self->power) +
                                       self->power * log(self->step)) -
                        lgamma(exponent + 1));
    for (size_t i = 1; i < NEAR; i++)
        self->near[i] = exponent < 200 ? self->below[i] / raised(i, exponent) : 0;
    if (exponent < SMOOTH)
        navot_weights(exponent, self->near_end);
}

/* Whether the ends of integrals over G want care. */
static int is_broken(const ei_recursion *self) {
    return self->power > 0 && self->slots * self->power < SMOOTH;
}

int ei_recursion_new(ei_recursion **result, const ei_rate *rate, double carry, double tail) {
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
    self->power = rate->power;
    self->slots = 1;
    self->carry = carry;
    self->negligible = tail * NEGLIGIBLE_OF_TAIL;
    size_t last = (size_t)points;
    self->count = last + 1;
    self->step = carry / (double)last;
    self->band = (size_t)fmin(ceil(range / self->step), (double)last) + 1;
    if ((status = reserve(self)) != EI_OK)
        goto out;
    take_density(self);
    take_nodes(self);
    take_start(self);
    /* n = 1, and beyond `high` what the buffers keep. */
    for (size_t i = 0; i < self->count; i++) {
        self->below[i] = ei_rate_cdf(rate, (double)i * self->step);
        self->above[i] = self->beyond[i] = ei_rate_sf(rate, (double)i * self->step);
        self->next_below[i] = 1;
    }
    self->high = self->count;
    take_power(self);
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

/* G at the first grid points of n + 1 slots, from G / x^(n power) at n. */
static void start_power(const ei_recursion *self, double *next, size_t low) {
    double exponent = self->slots * self->power;
    next[0] = 0;
    for (size_t i = low > 1 ? low : 1; i < SHORT; i++) {
        double sum = 0;
        for (size_t q = 0; q < START_NODES; q++) {
            double u = self->start_node[q], y = (double)i * u;
            /* The density's own power is in ei_rate_density. */
            sum += self->start_weight[q] * ei_rate_density(&self->rate, y * self->step) *
                   pow(1 - u, exponent) * interpolate(self->near, NEAR, (double)i - y);
        }
        next[i] = exponent < 200 ? sum * self->step * raised(i, exponent + 1) : 0;
    }
}

/* The integral of the recursion over [low, high) of the grid, of `old`, G or H of n slots, which is 0 before
 * `first` <= low. */
static void integrate(const ei_recursion *self, const double *old, double *next, size_t low, size_t high,
                      size_t first) {
    convolve(self->kernel, self->band, old, next, low, high, first);
    for (size_t i = low; i < high && i < SHORT && self->power == 0; i++) {
        next[i] = 0;
        for (size_t j = 0; j < SHORT; j++)
            next[i] += self->start[i * SHORT + j] * old[j];
    }
    /* Gregory's correction where the interval ends at x itself, not where the density has died out. */
    double weight[GREGORY];
    for (size_t j = 0; j < GREGORY; j++) {
        weight[j] = (self->end[j] - 1) * old[j];
        if (is_broken(self))
            /* G goes like a broken power, H like 1 less that. */
            weight[j] = old == self->below ? self->near_end[j] * self->near[j]
                                           : self->end[j] - 1 - self->near_end[j] * self->near[j];
    }
    for (size_t i = low > SHORT ? low : SHORT; i < high && i < self->band; i++)
        for (size_t j = 0; j < GREGORY; j++)
            next[i] += weight[j] * self->density[i - j];
}

void ei_recursion_advance(ei_recursion *self) {
    double *below = self->next_below, *above = self->next_above;
    size_t low = self->low;
    size_t high = self->high + self->band < self->count ? self->high + self->band : self->count;
    memset(below, 0, low * sizeof *below);
    integrate(self, self->below, below, low, high, low);
    if (self->power > 0)
        start_power(self, below, low);
    for (size_t i = low; i < high; i++)
        below[i] = fmin(below[i], 1);
    if (self->with_above) {
        for (size_t i = 0; i < low; i++)
            above[i] = 1;
        integrate(self, self->above, above, low, high, 0);
        for (size_t i = low; i < high; i++)
            above[i] = i < SHORT && self->power > 0 ? 1 - below[i] : fmin(above[i] + self->beyond[i], 1);
        for (; high > low && above[high - 1] < NEGLIGIBLE; high--) {
            above[high - 1] = 0;
            below[high - 1] = 1;
        }
    }
    for (; low + 2 * SHORT < self->count && below[low + 2 * SHORT] < self->negligible; low++)
        below[low] = 0;
    self->low = low;
    self->high = high;
    self->next_below = self->below;
    self->next_above = self->above;
    self->below = below;
    self->above = above;
    self->slots++;
    take_power(self);
    self->with_above &= ei_recursion_below(self) > 0.5;
    if (self->with_above)
        take_logarithm(self);
}

double ei_recursion_below(const ei_recursion *self) {
    return self->below[self->count - 1];
}

static const reading *reading_of(ei_recursion *self, double f) {
    for (size_t i = 0; i < self->reading_count; i++)
        if (self->readings[i].fraction == f)
            return &self->readings[i];
    reading *one = &self->readings[self->reading_count];
    self->reading_count += self->reading_count + 1 < READINGS;
    double low = self->rate.low;
    double reach = fmax(f * self->rate.range < self->carry ? self->rate.range : self->carry / f, low);
    one->fraction = f;
    for (size_t q = 0; q < self->nodes; q++) {
        double rate = low + (reach - low) * self->rate_node[q];
        one->mass[q] = reach == self->rate.range
                           ? self->range_mass[q]
                           : self->rate_weight[q] * (reach - low) * ei_rate_density(&self->rate, rate);
        one->at[q] = (double)(self->count - 1) - f * rate / self->step;
        one->first[q] = place_stencil(self->count, one->at[q], one->weight[q]);
    }
    return one;
}

/* Whether G goes like a broken power there. */
static int is_near(const ei_recursion *self, double x) {
    return is_broken(self) && x < NEAR - STENCIL;
}

/* G of n slots at one of the places, and H. */
static double read_below(const ei_recursion *self, const reading *one, size_t q) {
    const double x = fmax(one->at[q], 0);
    if (is_near(self, x))
        return pow(x, self->slots * self->power) * interpolate(self->near, NEAR, x);
    return weigh(self->below + one->first[q], one->weight[q]);
}

static double read_above(const ei_recursion *self, const reading *one, size_t q) {
    if (is_near(self, one->at[q]))
        return 1 - read_below(self, one, q);
    return exp(weigh(self->log_above + one->first[q], one->weight[q]));
}

double ei_recursion_logit(ei_recursion *self, double f) {
    const reading *one = reading_of(self, f);
    const int broken = is_broken(self);
    double below = 0, above = 0;
    for (size_t q = 0; q < self->nodes; q++)
        below += one->mass[q] *
                 (broken ? read_below(self, one, q) : weigh(self->below + one->first[q], one->weight[q]));
    below = fmax(below, LEAST); /* interpolation of what is next to nothing may give less than nothing */
    if (below < 0.5 || !self->with_above)
        return log(below) - log1p(-below);
    for (size_t q = 0; q < self->nodes; q++)
        above += one->mass[q] * read_above(self, one, q);
    if (f > 0)
        above += ei_rate_sf(&self->rate, self->carry / f);
    /* From one to the other without a step of their rounding, which panels would be halved for in vain. */
    const double part = fmin(4 * below - 2, 1), share = part * part * (3 - 2 * part);
    above = fmax(above + (1 - share) * (1 - below - above), LEAST);
    return log1p(-above) - log(above);
}
