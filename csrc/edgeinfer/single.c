#include "edgeinfer/single.h"

#include "edgeinfer/bound.h"
#include "edgeinfer/fourier.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    POINTS = 1 << 12,       /* of a lattice, at least, and at most; */
    MOST_POINTS = 1 << 16,  /* where it is coarse beside a service, and with several other times */
    FINE = 16,              /* points of a service's law on a step, at least, and at most; */
    MOST_FINE = 128,        /* where services are short beside the lattice */
    VALUES = POINTS * FINE, /* of a service's law, about */
    MARGIN = 4,             /* points behind the furthest deadline of a lattice */
    REACHES = 2             /* lattices, the later ones for what is beyond the first */
};
static const double REACH[REACHES] = {1e-9, 1e-20}; /* probabilities at which they end */
static const double SHARE[REACHES] = {0.4, 0.75};   /* of the decay: theta */
static const double SECOND[] = {0.97, 0.9, 0.8};    /* those of the second theta that are tried */
static const double COARSE = 0.25;                  /* of a mean service: the longest step */
static const double ROUNDING = 1e-10;               /* of sums of positive numbers */

/* A law's values, `fine` on a step, from both sides, and their sums from the far end, which bound integrals.
 */
typedef struct {
    ei_lattice ends[2];
    double *beyond[2]; /* [count] */
    int closed;        /* whether they are the integrals themselves, to infinity */
} law;

/* The problem at one arrival rate. */
typedef struct {
    const ei_service *service, *others;
    size_t other_count, random_count; /* random_count: others that are not deterministic */
    double arrival_rate, constant, decay;
    size_t points, length, fine; /* length: of transforms, twice the points */
    ei_fourier fourier;
    double *data, *product; /* [2 length], [2 length + 4] */
    double *tails[2];       /* [points + 1], of a law from below and from above, at lattice points */
    double *most;           /* [points + 1]: of the lower law's masses, from above */
    double *halves[2];      /* [2 points + 1]: the ladder heights' tails, at every half step */
    double step;
    law served, other; /* laws of the service, and of the only other time where there is one */
    /* Of the rounded laws, at both ends. */
    double theta, second; /* 1/s */
    double idle[2], gap[2], log_scale[2], log_second, missing;
    double first[2]; /* the mass of ladder heights within the first step */
} single;

static void law_free(law *self) {
    for (int end = 0; end < 2; end++)
        ei_lattice_free(&self->ends[end]);
    free(self->beyond[0]);
    self->beyond[0] = self->beyond[1] = NULL;
}

/* Whether it is one law: there is no other way to tell. */
static int same_law(const ei_service *a, const ei_service *b) {
    return a == b || (a->kind == EI_SERVICE_TRANSFER && b->kind == a->kind && a->transfer == b->transfer);
}

/* E (S - i step)^+ / step of a law that has it in closed form; 0 of others. */
static int closed_form(const ei_service *service, double step, size_t count, double *beyond) {
    const double share = 1 / (double)service->sample_count;
    double sum = 0, later = 0;
    size_t place = service->sample_count;
    switch (service->kind) {
    case EI_SERVICE_EXPONENTIAL:
        for (size_t i = 0; i < count; i++)
            beyond[i] = service->time / step * exp(-(double)i * step / service->time);
        return 1;
    case EI_SERVICE_DETERMINISTIC:
        for (size_t i = 0; i < count; i++)
            beyond[i] = fmax(service->time / step - (double)i, 0);
        return 1;
    case EI_SERVICE_SAMPLES:
        for (size_t i = count; i-- > 0;) {
            sum += later * share;
            for (; place > 0 && service->samples[place - 1] / step > (double)i; place--) {
                sum += share * (service->samples[place - 1] / step - (double)i);
                later++;
            }
            beyond[i] = sum;
        }
        return 1;
    default:
        return 0;
    }
}

static int law_init(law *self, const ei_service *service, double step, size_t count) {
    int status = ei_lattice_ends(self->ends, service, step, count);
    if (status != EI_OK)
        return status;
    self->beyond[0] = malloc(2 * count * sizeof(double));
    if (self->beyond[0] == NULL)
        return EI_ERR_NO_MEMORY;
    self->beyond[1] = self->beyond[0] + count;
    self->closed = closed_form(service, step, count, self->beyond[0]);
    if (self->closed) {
        memcpy(self->beyond[1], self->beyond[0], count * sizeof(double));
        return EI_OK;
    }
    /* From a point on: values at a step's end for lower bounds, at its start for upper ones. */
    double low = 0, high = 0;
    for (size_t i = count; i-- > 0;) {
        self->beyond[EI_LOWER][i] = low;
        low += self->ends[EI_LOWER].sf[i];
        high += i + 1 < count ? self->ends[EI_UPPER].sf[i] : 0;
        self->beyond[EI_UPPER][i] = high;
    }
    return EI_OK;
}

static void single_free(single *self) {
    ei_fourier_free(&self->fourier);
    free(self->data);
    self->data = NULL;
    law_free(&self->served);
    law_free(&self->other);
}

/* Room, and the laws, for a lattice that reaches to `reach`. */
static int single_init(single *self, double reach) {
    const double mean = ei_service_mean(self->service), extent = ei_service_extent(self->service);
    /* A wait alone has nothing that smooths what is between its points. */
    self->points = self->random_count > 1 ? MOST_POINTS : self->random_count == 0 ? 4 * POINTS : POINTS;
    while (self->points < MOST_POINTS && reach / (double)self->points > COARSE * mean)
        self->points *= 2;
    const size_t points = self->points;
    self->step = reach / (double)(points - MARGIN);
    /* A constant service is to be a lattice point, for it is where the heights' tail has its kink. */
    if (self->service->kind == EI_SERVICE_DETERMINISTIC)
        self->step = mean / fmax(floor(mean / self->step), 1);
    self->length = 2 * points;
    size_t cells = (size_t)fmin(ceil(extent / self->step) + 1, (double)points);
    self->fine = self->random_count > 1 ? 2 : FINE;
    while (self->fine < MOST_FINE && self->random_count <= 1 && 2 * self->fine * cells <= VALUES)
        self->fine *= 2;
    self->data = malloc((4 * self->length + 4 + 8 * (points + 1)) * sizeof *self->data);
    if (self->data == NULL)
        return EI_ERR_NO_MEMORY;
    self->product = self->data + 2 * self->length;
    self->tails[EI_LOWER] = self->product + 2 * self->length + 4;
    self->tails[EI_UPPER] = self->tails[EI_LOWER] + points + 1;
    self->most = self->tails[EI_UPPER] + points + 1;
    self->halves[EI_LOWER] = self->most + points + 1;
    self->halves[EI_UPPER] = self->halves[EI_LOWER] + 2 * points + 1;
    const double fine_step = self->step / (double)self->fine;
    int status = ei_fourier_init(&self->fourier, self->length);
    if (status == EI_OK)
        status = law_init(&self->served, self->service, fine_step, cells * self->fine + 1);
    for (size_t k = 0; k < self->other_count && status == EI_OK && self->random_count == 1; k++) {
        const ei_service *other = &self->others[k];
        if (other->kind == EI_SERVICE_DETERMINISTIC || same_law(other, self->service))
            continue;
        cells = (size_t)fmin(ceil(ei_service_extent(other) / self->step) + 1, (double)points);
        status = law_init(&self->other, other, fine_step, cells * self->fine + 1);
    }
    return status;
}

/* rate E (S - i step / 2)^+ from both sides. */
static int ladder_halves(single *self) {
    const double rate = self->arrival_rate, mean = ei_service_mean(self->service),
                 error = ei_service_mean_error(self->service), width = self->step / (double)self->fine * rate;
    const size_t halves = 2 * self->points, half = self->fine / 2,
                 reached = (self->served.ends[EI_LOWER].count - 1) / half;
    const double *below = self->served.ends[EI_LOWER].sf, *above = self->served.ends[EI_UPPER].sf;
    double *low = self->halves[EI_LOWER], *high = self->halves[EI_UPPER], rest;
    int status = ei_service_excess(self->service, (double)reached * self->step / 2, &rest);
    if (status != EI_OK)
        return status;
    for (size_t h = 0; h <= halves && self->served.closed; h++) {
        const size_t at = h * half;
        double value = h <= reached ? width * self->served.beyond[EI_LOWER][at] : 0;
        low[h] = value * (1 - ROUNDING);
        high[h] = (h <= reached ? value : rest * rate) * (1 + ROUNDING);
    }
    if (self->served.closed)
        return EI_OK;
    /* The sums beyond, and rho less those before. */
    double low_before = 0, high_before = 0;
    for (size_t h = 0; h <= halves; h++) {
        const size_t at = (h < reached ? h : reached) * half;
        low[h] = width * self->served.beyond[EI_LOWER][at] * (1 - ROUNDING);
        high[h] = (width * self->served.beyond[EI_UPPER][at] + rest * rate) * (1 + ROUNDING);
        low[h] = fmax(low[h], rate * mean * (1 - error) - high_before * (1 + ROUNDING));
        high[h] = fmin(high[h], rate * mean * (1 + error) - low_before * (1 - ROUNDING));
        for (size_t i = at; h < reached && i < at + half; i++) {
            low_before += width * below[i + 1];
            high_before += width * above[i];
        }
    }
    return EI_OK;
}

/* The greatest convex function that is nowhere above the values at 0 .. last. */
static void make_convex(double *value, size_t last, double *room) {
    size_t kept = 0; /* corners in `room`, as places */
    for (size_t i = 0; i <= last; i++) {
        while (kept >= 2) {
            const size_t a = (size_t)room[kept - 2], b = (size_t)room[kept - 1];
            if ((value[b] - value[a]) * (double)(i - b) < (value[i] - value[b]) * (double)(b - a))
                break;
            kept--;
        }
        room[kept++] = (double)i;
    }
    for (size_t c = 0; c + 1 < kept; c++) {
        const size_t a = (size_t)room[c], b = (size_t)room[c + 1];
        const double slope = (value[b] - value[a]) / (double)(b - a), from = value[a];
        for (size_t i = a + 1; i < b; i++)
            value[i] = from + slope * (double)(i - a);
    }
}

/* Tails of a smaller and of a larger ladder height, linear between lattice points and convex. */
static void ladder_tails(single *self) {
    const size_t points = self->points, fine = self->fine;
    const double *low = self->halves[EI_LOWER], *high = self->halves[EI_UPPER];
    double *less = self->tails[EI_LOWER], *more = self->tails[EI_UPPER];
    const double slope = self->arrival_rate * self->step;
    /* Chords are above a convex function. */
    for (size_t k = points + 1; k-- > 0;) {
        more[k] = fmax(high[2 * k], 0);
        if (k + 2 <= points)
            more[k] = fmax(more[k], 2 * more[k + 1] - more[k + 2]);
    }
    /* Tangents are below one: at the middle of each step, or at its end where that would cross zero. */
    const ei_lattice *below = &self->served.ends[EI_LOWER], *above = &self->served.ends[EI_UPPER];
    less[0] = INFINITY;
    for (size_t k = 0; k < points; k++) {
        const size_t middle = k * fine + fine / 2, end = (k + 1) * fine;
        double falls = middle < above->count ? above->sf[middle] : above->sf[above->count - 1];
        double left = low[2 * k + 1] + slope / 2 * (middle < below->count ? below->sf[middle] : 0),
               right = low[2 * k + 1] - slope / 2 * falls;
        if (right < 0) {
            right = fmax(low[2 * k + 2], 0);
            left = right + slope * (end < below->count ? below->sf[end] : 0);
        }
        less[k] = fmin(less[k], left) * (1 - ROUNDING);
        less[k + 1] = right * (1 - ROUNDING);
    }
    /* A constant service's tail is linear between lattice points itself. */
    for (size_t k = 0; k <= points && self->service->kind == EI_SERVICE_DETERMINISTIC; k++)
        less[k] = low[2 * k];
    for (size_t k = 0; k < points; k++)
        less[k + 1] = fmin(less[k + 1], less[k]);
    make_convex(less, points, self->data);
    /* What the height has less of mass is at 0, where it adds nothing to a sum. */
    const double none = fmax(low[0] * (1 - ROUNDING) - less[0], 0);
    for (size_t k = 0; k <= points; k++)
        less[k] /= 1 - none;
}

/* P(Y > i step) from both sides. */
static int other_tails(single *self, const ei_service *other) {
    double reach = ei_service_extent(other);
    const size_t points = self->points;
    size_t cells = (size_t)fmin(ceil(reach / self->step) + 1, (double)points);
    ei_lattice ends[2];
    int status = ei_lattice_ends(ends, other, self->step, cells + 1);
    for (int end = 0; end < 2 && status == EI_OK; end++)
        for (size_t i = 0; i <= points; i++)
            self->tails[end][i] = i <= cells ? ends[end].sf[i] : end == EI_UPPER ? ends[end].sf[cells] : 0;
    for (int end = 0; end < 2; end++)
        ei_lattice_free(&ends[end]);
    return status;
}

/* Masses of the laws in `tails`, whose mass is `total`, into `data`: upper ends as real parts, lower ones as
 * imaginary parts, weighed by e^{theta t}; their sums, and the larger one's at the second theta. `at_start`:
 * each step's mass is at its start at both ends, and else at its end in the upper law. What is beyond the
 * lattice is left out of the upper law, and in the last step of the lower one. */
static void weigh(single *self, const double total[2], int at_start, double sum[2], double *second) {
    const double *upper = self->tails[EI_UPPER], *lower = self->tails[EI_LOWER];
    const size_t points = self->points;
    double *re = self->data, *im = re + self->length;
    memset(re, 0, 2 * self->length * sizeof *re);
    double seconds[2] = {0, 0};
    sum[0] = sum[1] = 0;
    for (size_t i = 0; i < points; i++) {
        const double time = (double)i * self->step, weight = exp(self->theta * time);
        double up, low = (i == 0 ? total[EI_LOWER] : lower[i]) - (i + 1 < points ? lower[i + 1] : 0);
        if (at_start)
            up = upper[i] - upper[i + 1];
        else
            up = (i == 0 ? total[EI_UPPER] : upper[i - 1]) - upper[i];
        re[i] = up * weight;
        im[i] = low * weight;
        sum[EI_UPPER] += re[i];
        sum[EI_LOWER] += im[i];
        const double further = exp(self->second * time);
        seconds[EI_UPPER] += up * further;
        seconds[EI_LOWER] += low * further;
    }
    *second = fmax(seconds[0], seconds[1]);
}

/* phi of x at z = r e^{-i angle}, log_r = log r: (e^{(z - 1) x} - 1) / (z - 1). */
static void transform_heights(double log_r, double angle, const double x[2], double z[2], double phi[2]) {
    const double r = exp(log_r), s = sin(angle / 2), c = cos(angle / 2);
    const double d[2] = {expm1(log_r) - 2 * r * s * s, -2 * r * s * c};
    z[0] = 1 + d[0];
    z[1] = d[1];
    const double a = d[0] * x[0] - d[1] * x[1], b = d[0] * x[1] + d[1] * x[0];
    const double grown = expm1(a), half = sin(b / 2);
    const double q[2] = {grown * (1 - 2 * half * half) - 2 * half * half,
                         (grown + 1) * 2 * half * cos(b / 2)};
    const double square = d[0] * d[0] + d[1] * d[1];
    phi[0] = (q[0] * d[0] + q[1] * d[1]) / square;
    phi[1] = (q[1] * d[0] - q[0] * d[1]) / square;
}

/* The same at a real point. */
static double real_heights(double log_r, double x) {
    const double d = expm1(log_r);
    return expm1(d * x) / d;
}

/* The transforms of the waits, rounded up, or the lower one down where other times are rounded, too; or 0
 * where the rounded queue is unstable at either theta. */
static int wait_transform(single *self, double *error) {
    double total[2], sum[2], second = 0, phi = 1;
    for (int end = 0; end < 2; end++) {
        total[end] = self->tails[end][0];
        self->idle[end] = 1 - total[end];
        self->first[end] = total[end] - self->tails[end][1];
    }
    const double missing = self->tails[EI_UPPER][self->points], log_r = self->theta * self->step;
    for (size_t i = 0; i < sizeof SECOND / sizeof *SECOND && !(phi < 1 - 1e-9); i++) {
        self->second = SECOND[i] * self->decay;
        weigh(self, total, 1, sum, &second);
        phi = real_heights(self->second * self->step, second);
    }
    if (!(phi < 1 - 1e-9) || !(self->idle[EI_UPPER] > 0))
        return 0;
    self->log_second = log(self->idle[EI_LOWER] / (1 - phi)) + self->second * self->step;
    self->missing = missing / (self->idle[EI_UPPER] + missing);
    ei_fourier_forward(&self->fourier, self->data);
    for (size_t k = 0; k <= self->points; k++) {
        double parts[4];
        ei_fourier_split(&self->fourier, self->data, k, parts);
        for (int e = 0; e < 2; e++) {
            const int end = e == 0 ? EI_UPPER : EI_LOWER;
            double z[2], heights[2], *to = self->product + 4 * k + 2 * (size_t)e;
            transform_heights(log_r, 2 * M_PI * (double)k / (double)self->length, parts + 2 * e, z, heights);
            /* 1 + z phi / (1 - phi), without z where the lower end is rounded down. */
            if (end == EI_LOWER && self->random_count > 1) {
                z[0] = 1;
                z[1] = 0;
            }
            const double re = 1 - heights[0], im = -heights[1], square = re * re + im * im;
            const double sums[2] = {(heights[0] * re + heights[1] * im) / square,
                                    (heights[1] * re - heights[0] * im) / square};
            to[0] = self->idle[end] * (1 + sums[0] * z[0] - sums[1] * z[1]);
            to[1] = self->idle[end] * (sums[0] * z[1] + sums[1] * z[0]);
        }
    }
    const double eta = ei_fourier_error(&self->fourier), r = exp(log_r);
    for (int end = 0; end < 2; end++) {
        const double off = exp((1 + r) * sum[end]) * (eta * (sum[0] + sum[1]) + 64 * DBL_EPSILON);
        self->gap[end] = (1 - real_heights(log_r, sum[end])) / r;
        self->log_scale[end] = 0;
        if (!(self->gap[end] > 1e3 * off))
            return 0;
        error[end] = 1.01 * self->idle[end] * (off + 16 * DBL_EPSILON) / self->gap[end] / self->gap[end];
    }
    return 1;
}

static int multiply_other(single *self, const ei_service *other) {
    const double total[2] = {1, 1};
    double sum[2], second;
    int status = other_tails(self, other);
    if (status != EI_OK)
        return status;
    weigh(self, total, 0, sum, &second);
    for (size_t i = 0; i <= self->points; i++) {
        self->data[i] /= sum[EI_UPPER];
        self->data[self->length + i] /= sum[EI_LOWER];
    }
    self->log_second += log(second);
    self->missing += self->tails[EI_UPPER][self->points - 1];
    self->log_scale[EI_UPPER] += log(sum[EI_UPPER]);
    self->log_scale[EI_LOWER] += log(sum[EI_LOWER]);
    ei_fourier_forward(&self->fourier, self->data);
    for (size_t k = 0; k <= self->points; k++) {
        double parts[4], *at = self->product + 4 * k;
        ei_fourier_split(&self->fourier, self->data, k, parts);
        for (int e = 0; e < 2; e++) {
            double re = at[2 * e] * parts[2 * e] - at[2 * e + 1] * parts[2 * e + 1];
            at[2 * e + 1] = at[2 * e] * parts[2 * e + 1] + at[2 * e + 1] * parts[2 * e];
            at[2 * e] = re;
        }
    }
    return EI_OK;
}

/* Survival functions into `tails`, P(ceil(wait / step) > i) or of sums, and the lower law's masses from
 * above into `most`. */
static void sum_masses(single *self, const double error[2], size_t products) {
    const size_t points = self->points;
    const double eta = ei_fourier_error(&self->fourier), length = (double)self->length, scale = 1 / length,
                 span = length * self->step;
    const double *re = self->data, *im = re + self->length;
    double delta[2], above = exp(self->log_second - self->second * span) + self->missing, below = 0;
    for (int end = 0; end < 2; end++)
        delta[end] =
            error[end] + self->idle[end] / self->gap[end] *
                             ((double)products * (2 * eta + 4 * DBL_EPSILON) + 4 * eta + 4 * DBL_EPSILON);
    double alias = exp(self->log_second - self->log_scale[EI_LOWER] - (self->second - self->theta) * span);
    for (size_t i = self->length; i-- > 0;) {
        const double decayed = exp(-self->theta * self->step * (double)i);
        const double factor[2] = {decayed * exp(self->log_scale[0]), decayed * exp(self->log_scale[1])};
        if (i <= points) {
            self->tails[EI_UPPER][i] = above * (1 + 1e-9);
            self->tails[EI_LOWER][i] = below * (1 - 1e-9);
            self->most[i] = (fmax(im[i] * scale, 0) + delta[EI_LOWER]) * factor[EI_LOWER] * (1 + 1e-9);
        }
        above += (fmax(re[i] * scale, 0) + delta[EI_UPPER]) * factor[EI_UPPER];
        below += fmax(im[i] * scale - delta[EI_LOWER] - alias, 0) * factor[EI_LOWER];
    }
}

/* From the waits' tails at lattice points those of functions that are linear between them and bound the tails
 * everywhere but near the lattice's end. */
static void bound_between(single *self) {
    const size_t points = self->points;
    double *upper = self->tails[EI_UPPER], *lower = self->tails[EI_LOWER], *most = self->most;
    double falls = upper[0] - upper[1];
    for (size_t k = 0; k < points; k++) {
        const double next = upper[k] - upper[k + 1];
        upper[k] += self->first[EI_UPPER] / 4 * fmax(falls, next);
        falls = next;
    }
    for (size_t k = points; k-- > 0;)
        upper[k] = fmax(upper[k], upper[k + 1]);
    for (size_t k = 0; k + 2 <= points; k++) {
        const double steep =
            lower[k + 1] - lower[k + 2] - self->first[EI_LOWER] * (most[k + 1] + most[k + 2]);
        const double before = k > 0 ? lower[k - 1] : 1;
        lower[k] = fmin(lower[k + 1] + fmax(steep, 0), before);
    }
    lower[points] = lower[points - 1] = 0;
}

/* log E e^{theta (Wq + Y_1 + ..)} of the true laws. */
static int log_moment(const single *self, double theta, double *value) {
    double moment, load = self->arrival_rate * ei_service_mean(self->service);
    int status = ei_service_log_mgf(self->service, theta, &moment, NULL);
    *value = log1p(-load) - log1p(-self->arrival_rate * expm1(moment) / theta);
    for (size_t k = 0; k < self->other_count && status == EI_OK; k++) {
        if (self->others[k].kind == EI_SERVICE_DETERMINISTIC)
            continue;
        status = ei_service_log_mgf(&self->others[k], theta, &moment, NULL);
        *value += moment;
    }
    return status;
}

/* A bound of P(wait + Y > i step / fine), the wait's tail linear between lattice points: by parts, with its
 * slopes, (1 - P(wait > 0)) P(Y > t) + P(wait > t) + the integral of slope and P(Y > t - s). */
static double add_law(const single *self, const law *other, ei_end end, size_t i) {
    const double *node = self->tails[end], *sf = other->ends[end].sf, *beyond = other->beyond[end];
    const size_t fine = self->fine, last = other->ends[end].count - 1, whole = i / fine, part = i % fine;
    const double least = end == EI_UPPER ? sf[last] : 0; /* further on */
    const double here = node[whole] - node[whole + 1];
    double sum =
        fmax(1 - node[0], 0) * (i <= last ? sf[i] : least) + node[whole] - here * (double)part / (double)fine;
    /* In the steps before this one P(Y > .) is what it is beyond its last value, in part in this one, too. */
    const size_t from = i > last ? (i - last) / fine : 0, rest = i - from * fine;
    sum += least * (node[0] - node[from]);
    double integral = here * (beyond[0] - beyond[part]);
    if (rest > last)
        integral += (node[from] - node[from + 1]) * least * (double)(rest - last);
    for (size_t j = from; j < whole; j++) {
        const size_t to = i - j * fine;
        integral += (node[j] - node[j + 1]) * (beyond[to - fine] - beyond[to < last ? to : last]);
    }
    return sum + integral / (double)fine;
}

/* A bound at one time. */
static double value_at(const single *self, ei_end end, double time) {
    const double *node = self->tails[end];
    const double hair = end == EI_UPPER ? 1 - 1e-14 : 1 + 1e-14,
                 factor = end == EI_UPPER ? 1 + 1e-9 : 1 - 1e-9;
    const double position = time / self->step * hair;
    if (self->random_count > 1)
        return node[(size_t)(end == EI_UPPER ? floor(position) : ceil(position))];
    if (self->random_count == 0) {
        const size_t whole = (size_t)position;
        return (node[whole] + (position - (double)whole) * (node[whole + 1] - node[whole])) * factor;
    }
    const law *other = self->other.beyond[0] != NULL ? &self->other : &self->served;
    const double at = position * (double)self->fine;
    return add_law(self, other, end, (size_t)(end == EI_UPPER ? floor(at) : ceil(at))) * factor;
}

/* Elements with `from` <= deadline - constant < `to`. */
static void take(const single *self, const ei_batch *batch, double from, double to) {
    for (size_t i = 0; i < batch->count; i++) {
        const size_t at = batch->index[i];
        const double time = batch->deadline[at] - self->constant;
        if (!(time >= from && time < to))
            continue;
        ei_cut_upper(batch, at, value_at(self, EI_UPPER, time), EI_BRACKET_SINGLE_QUEUE);
        ei_raise_lower(batch, at, value_at(self, EI_LOWER, time), EI_BRACKET_SINGLE_QUEUE);
    }
}

/* Whether there is one to take. */
static int needed(const single *self, const ei_batch *batch, double from, double to) {
    for (size_t i = 0; i < batch->count; i++) {
        const double time = batch->deadline[batch->index[i]] - self->constant;
        if (time >= from && time < to)
            return 1;
    }
    return 0;
}

/* Bounds at times up to `reach` into `tails`; *found: 0 where the rounded queue is not stable. */
static int solve(single *self, double reach, int *found) {
    double error[2];
    int status = single_init(self, reach);
    if (status != EI_OK || (status = ladder_halves(self)) != EI_OK)
        return status;
    ladder_tails(self);
    *found = wait_transform(self, error);
    if (!*found)
        return EI_OK;
    for (size_t k = 0; k < self->other_count && self->random_count > 1; k++)
        if (self->others[k].kind != EI_SERVICE_DETERMINISTIC &&
            (status = multiply_other(self, &self->others[k])) != EI_OK)
            return status;
    for (size_t k = 0; k <= self->points; k++) {
        double parts[4];
        memcpy(parts, self->product + 4 * k, sizeof parts);
        ei_fourier_join(&self->fourier, parts, k, self->data);
    }
    ei_fourier_backward(&self->fourier, self->data);
    sum_masses(self, error, self->random_count + 1);
    if (self->random_count <= 1)
        bound_between(self);
    return EI_OK;
}

int ei_single_ends(const ei_batch *batch, const ei_service *service, const ei_service *others,
                   size_t other_count) {
    single self = {.service = service,
                   .others = others,
                   .other_count = other_count,
                   .arrival_rate = batch->arrival_rate};
    double from = 0, moment;
    size_t products = 1;
    int status = ei_decay_rate(service, 1, &batch->arrival, &self.decay);
    for (size_t k = 0; k < other_count; k++) {
        int deterministic = others[k].kind == EI_SERVICE_DETERMINISTIC;
        self.constant += deterministic ? others[k].time : 0;
        products += !deterministic;
        self.decay = fmin(self.decay, ei_service_abscissa(&others[k]));
    }
    for (size_t i = 0; i < batch->count; i++)
        if (batch->deadline[batch->index[i]] < self.constant)
            ei_raise_lower(batch, batch->index[i], 1, EI_BRACKET_SINGLE_QUEUE);
    self.random_count = products - 1;
    if (status != EI_OK || !(self.decay > 0))
        goto out;
    /* Without a queue, and nothing of unbounded support: what an exponential moment can tell. */
    self.decay = fmin(self.decay, 500 / fmax(ei_service_mean(service), 1e-300));
    if ((status = log_moment(&self, SECOND[1] * self.decay, &moment)) != EI_OK)
        goto out;
    for (size_t i = 0; i < batch->count && !isnan(moment); i++) {
        const double rest = batch->deadline[batch->index[i]] - self.constant;
        if (isfinite(rest))
            ei_cut_upper(
                batch, batch->index[i],
                exp(moment + EI_SERVICE_MGF_ERROR * (double)(products + 1) - SECOND[1] * self.decay * rest),
                EI_BRACKET_SINGLE_QUEUE);
    }
    for (int reach = 0; reach < REACHES && !isnan(moment); reach++) {
        double to = (moment - log(REACH[reach])) / (SECOND[1] * self.decay);
        int found;
        if (!needed(&self, batch, from, to)) {
            from = to;
            continue;
        }
        self.theta = SHARE[reach] * self.decay;
        if ((status = solve(&self, to, &found)) != EI_OK || !found)
            goto out;
        take(&self, batch, from, to);
        single_free(&self);
        from = to;
        if (ei_stopped(batch->monitor)) {
            status = EI_ERR_INTERRUPTED;
            goto out;
        }
    }
out:
    single_free(&self);
    return status;
}

int ei_single_bracket(const ei_service *service, const ei_service *others, size_t other_count, size_t count,
                      const double *arrival_rate, const double *deadline, double *lower, double *upper,
                      uint8_t *lower_method, uint8_t *upper_method, ei_monitor monitor) {
    int status = ei_service_verify_independent(service);
    for (size_t k = 0; k < other_count && status == EI_OK; k++)
        status = ei_service_verify_independent(&others[k]);
    if (status != EI_OK)
        return status;
    double mean = ei_service_mean(service);
    size_t *index = malloc(count * sizeof *index + 1);
    if (index == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t i = 0; i < count && status == EI_OK; i++) {
        if (!(arrival_rate[i] > 0) || !isfinite(arrival_rate[i]) || isnan(deadline[i]))
            status = EI_ERR_DOMAIN;
        int unstable = arrival_rate[i] * mean >= 1;
        index[i] = i;
        lower[i] = unstable;
        upper[i] = unstable || !isinf(deadline[i]) || deadline[i] < 0;
        lower_method[i] = upper_method[i] = unstable ? EI_BRACKET_UNSTABLE : EI_BRACKET_TRIVIAL;
    }
    for (size_t from = 0, to; from < count && status == EI_OK; from = to) {
        ei_batch batch = {.arrival_rate = arrival_rate[from],
                          .arrival = {.kind = EI_ARRIVAL_POISSON, .parameter = {arrival_rate[from]}},
                          .index = index + from,
                          .deadline = deadline,
                          .lower = lower,
                          .upper = upper,
                          .lower_method = lower_method,
                          .upper_method = upper_method,
                          .monitor = monitor};
        for (to = from; to < count && arrival_rate[to] == batch.arrival_rate; to++)
            batch.count++;
        if (batch.arrival_rate * mean < 1)
            status = ei_single_ends(&batch, service, others, other_count);
    }
    free(index);
    return status;
}
