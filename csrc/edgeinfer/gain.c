#include "edgeinfer/gain.h"

#include <gsl/gsl_math.h>
#include <gsl/gsl_sf_log.h>
#include <math.h>
#include <stddef.h>

static const double SPREAD = 12; /* standard deviations of a Poisson variable beyond which nothing counts */
static const double LARGEST = 1e4;
static const double ROUNDING = 4e-16; /* of c d, which rounding may keep from being 1 for ever */

int ei_gain_verify(const ei_gain *self) {
    int fits = self->shape >= 0.1 && self->shape <= LARGEST && self->mixing >= 0 && self->mixing <= LARGEST &&
               self->scale > 0 && isfinite(self->scale) && self->users >= 1 && self->users <= LARGEST &&
               self->users == floor(self->users);
    return fits && (self->mixing == 0 || self->shape == floor(self->shape)) ? EI_OK : EI_ERR_DOMAIN;
}

/* log of y^a e^-y / Gamma(a + 1), a Poisson probability where a is whole. */
static double log_term(double a, double y) {
    if (a < 16)
        return (a != 0 ? a * log(y) : 0) - y - lgamma(a + 1);
    /* Stirling's series, so that no large logarithms cancel. */
    double u = (y - a) / a, q = 1 / (a * a);
    double rest = (1.0 / 12 - q * (1.0 / 360 - q * (1.0 / 1260 - q * (1.0 / 1680 - q / 1188)))) / a;
    double near = u > -0.9 && u < 10 ? gsl_sf_log_1plusx_mx(u) : log(y / a) - u;
    return a * near - log(2 * M_PI * a) / 2 - rest;
}

/* P(Gamma(a) <= y) over y^a e^-y / Gamma(a + 1): a series of positive terms, of use for y < a + 1. */
static double lower_ratio(double a, double y) {
    double term = 1, sum = 1;
    for (double k = 1; term > 1e-17 * sum; k++) {
        term *= y / (a + k);
        sum += term;
    }
    return sum;
}

/* P(Gamma(a) > y) over the same, for y > a + 1: Legendre's continued fraction by Lentz's method. */
static double upper_ratio(double a, double y) {
    double b = y + 1 - a, c = 1e300, d = 1 / b, value = d;
    for (double k = 1; k < 100000; k++) {
        double an = -k * (k - a);
        b += 2;
        d = 1 / (an * d + b);
        c = b + an / c;
        value *= c * d;
        if (fabs(c * d - 1) < ROUNDING)
            break;
    }
    return value * a;
}

static void gamma_tails(double a, double y, double *below, double *above) {
    if (isinf(y)) {
        *below = 1;
        *above = 0;
    } else if (y < a + 1) {
        *below = fmin(exp(log_term(a, y)) * lower_ratio(a, y), 1);
        *above = 1 - *below;
    } else {
        *above = exp(log_term(a, y)) * upper_ratio(a, y);
        *below = 1 - *above;
    }
}

/* The N about which the terms of sums over it are largest, and how far they count. */
static double largest_term(const ei_gain *self, double y, double *reach) {
    double peak =
        2 * self->mixing * y / (self->shape + sqrt(self->shape * self->shape + 4 * self->mixing * y));
    *reach = ceil(SPREAD * sqrt(peak + 1) + 30);
    return floor(peak);
}

/* Whether P(g > x) < 1e-300: it is about y^shape e^-(sqrt(y) - sqrt(mixing))^2, and sums over N would be
 * long. */
static int is_beyond(const ei_gain *self, double y) {
    double distance = sqrt(y) - sqrt(self->mixing);
    return self->mixing > 0 && distance > 0 && distance * distance > 800 + 20 * self->shape;
}

/* Of one user. The tails of successive N differ by one Poisson probability, so that one of them is enough. */
static void mixed_tails(const ei_gain *self, double y, double *below, double *above) {
    if (self->mixing == 0) {
        gamma_tails(self->shape, y, below, above);
        return;
    }
    double reach, peak = largest_term(self, y, &reach), sum = 0;
    if (y < self->shape + self->mixing) {
        double n = peak, chance, unused;
        /* Where N = 0 is all that counts, y^(shape + 1) and 1 / mixing may be beyond the range of double. */
        for (double size = self->mixing * y > 1e-30; size > 1e-20;) {
            n++;
            size *= self->mixing * y / (n * (self->shape + n));
        }
        chance = exp(log_term(n, self->mixing));
        double term = exp(log_term(self->shape + n, y)), tail;
        gamma_tails(self->shape + n, y, &tail, &unused);
        for (; n >= 0; n--) {
            double add = chance * tail;
            sum += add;
            if (n < peak && add <= 1e-18 * sum)
                break;
            term *= (self->shape + n) / y;
            tail = fmin(tail + term, 1);
            chance *= n / self->mixing;
        }
        *below = fmin(sum, 1);
        *above = 1 - *below;
    } else {
        double n = fmax(peak - reach, 0), chance = exp(log_term(n, self->mixing)), unused;
        double term = exp(log_term(self->shape + n, y)), tail;
        gamma_tails(self->shape + n, y, &unused, &tail);
        for (;; n++) {
            double add = chance * tail;
            sum += add;
            if (n > peak && add <= 1e-18 * sum)
                break;
            tail = fmin(tail + term, 1);
            term *= y / (self->shape + n + 1);
            chance *= self->mixing / (n + 1);
        }
        *above = fmin(sum, 1);
        *below = 1 - *above;
    }
}

void ei_gain_tails(const ei_gain *self, double x, double *below, double *above) {
    double y = x / self->scale;
    if (!(y > 0) || is_beyond(self, y)) {
        *below = y > 0;
        *above = !(y > 0);
        return;
    }
    mixed_tails(self, y, below, above);
    if (self->users == 1)
        return;
    double log_below = self->users * (*above < 0.5 ? log1p(-*above) : log(*below));
    *below = exp(log_below);
    *above = -expm1(log_below);
}

/* Density of one user's y = x / scale > 0. */
static double mixed_density(const ei_gain *self, double y) {
    if (self->mixing == 0)
        return isinf(y) ? 0 : exp(log_term(self->shape - 1, y));
    double reach, peak = largest_term(self, y, &reach);
    double first = exp(log_term(peak, self->mixing) + log_term(self->shape + peak - 1, y));
    double sum = first, term = first;
    for (double n = peak; term > 1e-18 * sum; n++) {
        term *= self->mixing * y / ((n + 1) * (self->shape + n));
        sum += term;
    }
    term = first;
    for (double n = peak; n > 0 && term > 1e-18 * sum; n--) {
        term *= n * (self->shape + n - 1) / (self->mixing * y);
        sum += term;
    }
    return sum;
}

/* n F^(n-1) f. */
double ei_gain_density(const ei_gain *self, double x) {
    double below, above, y = x / self->scale, power = ei_gain_power(self);
    if (!(y > 0) || is_beyond(self, y))
        return y > 0 || power > 1 ? 0 : power < 1 ? INFINITY : exp(ei_gain_log_start(self));
    double density = mixed_density(self, y) / self->scale;
    if (self->users == 1)
        return density;
    mixed_tails(self, y, &below, &above);
    return self->users * density * exp((self->users - 1) * (above < 0.5 ? log1p(-above) : log(below)));
}

double ei_gain_log_start(const ei_gain *self) {
    double log_below = -self->mixing - lgamma(self->shape + 1) - self->shape * log(self->scale);
    return self->users * log_below + log(ei_gain_power(self));
}

/* Two independent standard normal variables. */
static void draw_normals(ei_rng *rng, double *one, double *other) {
    double x, y, square;
    do {
        x = 2 * ei_rng_uniform(rng) - 1;
        y = 2 * ei_rng_uniform(rng) - 1;
        square = x * x + y * y;
    } while (square >= 1 || square < 1e-300);
    double factor = sqrt(-2 * EI_LN2 * ei_log2(square) / square);
    *one = factor * x;
    *other = factor * y;
}

/* 2^x for x <= 0, of operations whose bits are the same everywhere. */
static double power_of_two(double x) {
    static const double LEAST = -1000;
    double whole = floor(fmax(x, LEAST)), t = EI_LN2 * (fmax(x, LEAST) - whole - 0.5), sum = 1;
    for (int k = 16; k > 0; k--)
        sum = 1 + sum * t / k;
    return ldexp(sum * M_SQRT2, (int)whole);
}

static double draw_gamma(double shape, ei_rng *rng) {
    if (shape == floor(shape) && shape <= 8) {
        double sum = 0;
        for (double k = 0; k < shape; k++)
            sum += ei_rng_exponential(rng);
        return sum;
    }
    double boost = shape < 1 ? 1 : 0, d = shape + boost - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x, unused;
        draw_normals(rng, &x, &unused);
        double v = 1 + c * x;
        if (v <= 0)
            continue;
        v = v * v * v;
        if (EI_LN2 * ei_log2(ei_rng_uniform(rng)) >= x * x / 2 + d - d * v + d * EI_LN2 * ei_log2(v))
            continue;
        return d * v * (boost > 0 ? power_of_two(ei_log2(ei_rng_uniform(rng)) / shape) : 1);
    }
}

double ei_gain_draw(const ei_gain *self, ei_rng *rng) {
    double best = 0;
    for (double user = 0; user < self->users; user++) {
        double gain = 0;
        if (self->mixing > 0) {
            /* A line of sight in one of the 2 shape real components of the amplitude. */
            double x, y;
            draw_normals(rng, &x, &y);
            x += sqrt(2 * self->mixing);
            gain = (x * x + y * y) / 2 + (self->shape > 1 ? draw_gamma(self->shape - 1, rng) : 0);
        } else {
            gain = draw_gamma(self->shape, rng);
        }
        best = gain > best ? gain : best;
    }
    return self->scale * best;
}
