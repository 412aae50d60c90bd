#include "edgeinfer/renewal.h"

#include <float.h>
#include <gsl/gsl_errno.h>
#include <gsl/gsl_fft_halfcomplex.h>
#include <gsl/gsl_fft_real.h>
#include <gsl/gsl_sf_gamma.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CELLS = 1 << 18, FINE = 64, SWEEPS = 250, BISECTIONS = 50, CANDIDATES = 12 };
static const double SETTLED = 1e-4;      /* relative change at which sweeps end */
static const double TILT = 0.9;          /* of the exponent at which sums are taken */
static const double LEAST_TIME = 1e-12;  /* error of an interarrival law's values */
static const double MGF_ERROR = 1e-5;    /* of the logarithm */
static const double ROUNDING = 1 + 1e-8; /* of what is done point by point */

/* A law split between the points of the lattice. */
typedef struct {
    size_t cells;
    double *above; /* [cells], P(> k) */
    double *bend;  /* [cells], E[z (1 - z); cell k] */
} split;

typedef struct {
    ei_end end;
    size_t count, all, size; /* points; and those beyond that times between arrivals reach; of transforms */
    double step, theta;
    double scale, decay; /* of Chernoff's bound of v, for an upper end */
    split service, time;
    double *chance;             /* [count] */
    double *u, *v, *bent;       /* [all + 1] */
    double *weight;             /* [all + 1]: e^{theta y} */
    double *kernel[4], norm[4]; /* transforms of the split laws and of their bends */
    double *work;               /* [size] */
} half_line;

enum { SERVICE, SERVICE_BEND, TIME, TIME_BEND };

static int split_service(split *self, const ei_added_stage *stage, double step, ei_end end) {
    if (stage->law == NULL) {
        size_t at = (size_t)(stage->again / step + 0.5);
        self->cells = at + 1;
        self->above = calloc(2 * self->cells, sizeof(double));
        if (self->above == NULL)
            return EI_ERR_NO_MEMORY;
        self->bend = self->above + self->cells;
        for (size_t k = 0; k < at; k++)
            self->above[k] = 1;
        return EI_OK;
    }
    ei_lattice law = {0};
    if (!(fmax(ei_service_reach(stage->law), stage->floor) < MOST_CELLS * step))
        return EI_ERR_TOO_LARGE;
    self->cells = (size_t)(fmax(ei_service_reach(stage->law), stage->floor) / step) + 2;
    int status = ei_lattice_service(&law, stage->law, stage->floor, step / FINE, self->cells * FINE + 1, end);
    self->above = calloc(2 * self->cells, sizeof(double));
    if (status == EI_OK && self->above == NULL)
        status = EI_ERR_NO_MEMORY;
    self->bend = self->above != NULL ? self->above + self->cells : NULL;
    size_t shift = end == EI_UPPER ? 0 : 1;
    for (size_t k = 0; k < self->cells && status == EI_OK; k++)
        for (size_t i = 0; i < FINE; i++) {
            size_t at = k * FINE + i + shift;
            double z = (double)i / FINE, before = at > 0 ? law.sf[at - 1] : 1;
            self->above[k] += law.sf[at] / FINE;
            self->bend[k] += (before - law.sf[at]) * z * (1 - z);
        }
    ei_lattice_free(&law);
    return status;
}

/* E min(t, x), and *tail = P(t > x). */
static double least_time(const ei_arrival *arrival, double x, double *tail) {
    const double *p = arrival->parameter;
    if (arrival->kind == EI_ARRIVAL_HYPEREXPONENTIAL) {
        *tail = p[0] * exp(-p[1] * x) + (1 - p[0]) * exp(-p[2] * x);
        return -p[0] * expm1(-p[1] * x) / p[1] - (1 - p[0]) * expm1(-p[2] * x) / p[2];
    }
    double shape = arrival->kind == EI_ARRIVAL_ERLANG  ? p[1]
                   : arrival->kind == EI_ARRIVAL_GAMMA ? 1 / p[1]
                                                       : 1;
    const double z = shape * p[0] * x;
    gsl_sf_result upper, lower;
    /* Far out the tails are below any accuracy, and GSL's would underflow. */
    if (z < shape && shape * log(z) - z - gsl_sf_lngamma(shape + 1) < -100) {
        *tail = 1;
        return x;
    }
    if (z > shape + 40 + 13 * sqrt(shape)) {
        *tail = 0;
        return 1 / p[0];
    }
    if (gsl_sf_gamma_inc_Q_e(shape, z, &upper) != GSL_SUCCESS ||
        gsl_sf_gamma_inc_P_e(shape + 1, z, &lower) != GSL_SUCCESS)
        return *tail = NAN;
    *tail = upper.val;
    return x * upper.val + lower.val / p[0];
}

static int split_time(split *self, const ei_arrival *arrival, double step, size_t limit, ei_end end) {
    double before = 0, last = 1, tail;
    self->above = malloc(2 * limit * sizeof(double));
    if (self->above == NULL)
        return EI_ERR_NO_MEMORY;
    self->bend = self->above + limit;
    for (self->cells = 0; self->cells < limit;) {
        size_t k = self->cells++;
        double least = least_time(arrival, (double)(k + 1) * step, &tail);
        if (!(least >= 0))
            return EI_ERR_ACCURACY;
        double value = (least - before) / step + (end == EI_UPPER ? -LEAST_TIME : LEAST_TIME);
        self->above[k] = fmin(fmax(value, 0), k > 0 ? self->above[k - 1] : 1);
        self->bend[k] = fmax(last - tail, 0) / 4 + LEAST_TIME;
        before = least;
        last = tail;
        if (self->above[k] == 0 || (end == EI_LOWER && tail < LEAST_TIME))
            break;
    }
    return EI_OK;
}

static double split_log_moment(const half_line *self, double theta) {
    double sum = 1, growth = expm1(theta * self->step);
    for (size_t k = 0; k < self->service.cells; k++)
        sum += self->service.above[k] * exp(theta * (double)k * self->step) * growth;
    return log(sum);
}

/* Transforms are of real numbers in GSL's order: the product of two. */
static void multiply(double *restrict one, const double *restrict other, size_t size) {
    one[0] *= other[0];
    one[size / 2] *= other[size / 2];
    for (size_t i = 1; i < size / 2; i++) {
        double re = one[i] * other[i] - one[size - i] * other[size - i];
        one[size - i] = one[i] * other[size - i] + one[size - i] * other[i];
        one[i] = re;
    }
}

static double norm(const double *value, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += value[i] * value[i];
    return sqrt(sum);
}

/* The transform of P(= k) or of the bends at the place that they move to. sign 1: forwards, -1: backwards. */
static void make_kernel(half_line *self, int which, const split *law, int bend, int sign, size_t shift) {
    double *kernel = self->kernel[which];
    memset(kernel, 0, self->size * sizeof *kernel);
    size_t last = self->end == EI_UPPER && sign < 0 && !bend ? law->cells : law->cells - 1;
    for (size_t k = 0; k <= last; k++) {
        double above = k < law->cells ? law->above[k] : 0, mass = (k > 0 ? law->above[k - 1] : 1) - above;
        size_t place = k + shift, at = sign > 0 || place == 0 ? place : self->size - place;
        kernel[at] =
            (bend ? law->bend[k] : mass) * exp((double)sign * self->theta * (double)place * self->step);
    }
    self->norm[which] = norm(kernel, self->size);
    gsl_fft_real_radix2_transform(kernel, 1, self->size);
}

/* sum over the kernel of `from`, tilted, at [0, count) of `to`, not tilted; `from` and `to` may be one. The
 * error is taken to the side of `sign`. */
static void convolve(const half_line *self, int which, const double *from, double *to, size_t count,
                     double sign) {
    double *work = self->work;
    memset(work, 0, self->size * sizeof *work);
    for (size_t j = 0; j <= self->all; j++)
        work[j] = from[j] * self->weight[j];
    double error = sign * 64 * DBL_EPSILON * norm(work, self->all + 1) * self->norm[which];
    gsl_fft_real_radix2_transform(work, 1, self->size);
    multiply(work, self->kernel[which], self->size);
    gsl_fft_halfcomplex_radix2_inverse(work, 1, self->size);
    for (size_t j = 0; j < count; j++)
        to[j] = (work[j] + error) / self->weight[j];
}

/* Values at points become those of a bound that is linear between them: `bent` gets the bends of w, of which
 * the one at a point lower than the first is none. */
static void bend(half_line *self, int which, const double *w, double before, double *bound, size_t count) {
    double sign = self->end == EI_UPPER ? 1 : -1;
    for (size_t j = 0; j <= self->all; j++) {
        double left = j > 0 ? w[j - 1] : before, right = j < self->all ? w[j + 1] : w[j];
        self->bent[j] = fmax(-sign * (right - 2 * w[j] + left), 0);
    }
    convolve(self, which, self->bent, self->bent, count, 1);
    for (size_t j = 0; j < count; j++)
        bound[j] += sign * fmax(fmax(self->bent[j], j > 0 ? self->bent[j - 1] : 0), 0);
}

/* v from u. */
static void serve(half_line *self) {
    const split *law = &self->service;
    int upper = self->end == EI_UPPER;
    /* Points below zero, and for an upper end zero itself, have u = 1. */
    double first = self->u[0];
    if (upper)
        self->u[0] = 0;
    convolve(self, SERVICE, self->u, self->v, self->all + 1, upper ? 1 : -1);
    self->u[0] = first;
    for (size_t j = 0; j <= self->all; j++) {
        size_t at = upper && j > 0 ? j - 1 : j;
        double above = upper && j == 0   ? 1
                       : at < law->cells ? law->above[at]
                       : upper           ? law->above[law->cells - 1]
                                         : 0;
        self->v[j] += above;
    }
    bend(self, SERVICE_BEND, self->u, 1, self->v, self->all + 1);
    for (size_t j = self->count; upper && j <= self->all; j++) {
        double bound = exp(fmin(self->scale - self->decay * (double)(j - 1) * self->step, 0));
        self->v[j] = j == self->count ? fmax(self->v[j], bound) : bound;
    }
}

static int sweep(half_line *self, ei_monitor monitor) {
    double *m = malloc((self->count + 1) * sizeof *m);
    int upper = self->end == EI_UPPER, status = m == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    for (int round = 0, settled = 0; round < SWEEPS && !settled && status == EI_OK; round++) {
        serve(self);
        convolve(self, TIME, self->v, m, self->count, upper ? 1 : -1);
        bend(self, TIME_BEND, self->v, self->v[0], m, self->count);
        settled = 1;
        for (size_t j = upper ? 1 : 0; j < self->count; j++) {
            double chance = upper ? self->chance[j - 1] : 0, value = chance + (1 - chance) * m[j];
            if (upper && j == 1 && m[0] > 1)
                value = fmax(value, 1);
            /* The cell behind it ends on what stands beyond the lattice. */
            if (j + 1 == self->count)
                value = upper ? fmax(value, self->u[j]) : fmin(value, 0);
            settled &= fabs(value - self->u[j]) <= SETTLED * fabs(value) + DBL_MIN;
            self->u[j] = value;
        }
        if (ei_stopped(monitor))
            status = EI_ERR_INTERRUPTED;
    }
    if (status == EI_OK)
        serve(self);
    free(m);
    return status;
}

static void half_line_free(half_line *self) {
    free(self->service.above);
    free(self->time.above);
    free(self->u);
    free(self->work);
}

/* Laws, exponent and room; u is 0. slowest: of what comes before. */
static int half_line_init(half_line *self, const ei_added_stage *stage, const ei_arrival *arrival,
                          double slowest) {
    int status;
    double low = 0, high = 1e-3 / self->step, slope;
    if ((status = split_service(&self->service, stage, self->step, self->end)) != EI_OK ||
        (status = split_time(&self->time, arrival, self->step, self->count, self->end)) != EI_OK)
        return status;
    for (int i = 0; i < 40 && split_log_moment(self, high) < ei_arrival_exponent(arrival, high, &slope); i++)
        high *= 2;
    for (int i = 0; i < BISECTIONS; i++) {
        double middle = low + (high - low) / 2;
        *(split_log_moment(self, middle) < ei_arrival_exponent(arrival, middle, &slope) ? &low : &high) =
            middle;
    }
    self->theta = TILT * fmin(low, slowest);
    if (!(self->theta > 0))
        return EI_ERR_UNSTABLE;
    self->theta = fmin(self->theta, 60 / ((double)self->count * self->step));
    self->all = self->count + self->time.cells + 1;
    for (self->size = 2; self->size < self->all + 2 + self->service.cells;)
        self->size *= 2;
    self->u = calloc(4 * (self->all + 1), sizeof(double));
    self->work = malloc(5 * self->size * sizeof(double));
    if (self->u == NULL || self->work == NULL)
        return EI_ERR_NO_MEMORY;
    self->v = self->u + self->all + 1;
    self->bent = self->v + self->all + 1;
    self->weight = self->bent + self->all + 1;
    for (size_t j = 0; j <= self->all; j++)
        self->weight[j] = exp(self->theta * (double)j * self->step);
    for (size_t i = 0; i < 4; i++)
        self->kernel[i] = self->work + (i + 1) * self->size;
    make_kernel(self, SERVICE, &self->service, 0, 1, 0);
    make_kernel(self, SERVICE_BEND, &self->service, 1, 1, 0);
    make_kernel(self, TIME, &self->time, 0, -1, 0);
    make_kernel(self, TIME_BEND, &self->time, 1, -1, 1);
    return EI_OK;
}

/* log E e^{theta B} from above. */
static int service_log_moment(const ei_added_stage *stage, double theta, double *value) {
    if (stage->law == NULL) {
        *value = theta * stage->again;
        return EI_OK;
    }
    int status = ei_service_log_mgf(stage->law, theta, value, NULL);
    *value = log(exp(*value * (1 + MGF_ERROR)) +
                 expm1(theta * stage->floor) * (1 - ei_service_sf(stage->law, stage->floor)));
    return status;
}

/* u of an upper end from the first on: sum over i of E e^{theta (A_i - B_0 + C_i)}, at the point before. */
static int begin_upper(half_line *self, const ei_upper_law *before, const ei_added_stage *stage,
                       const ei_arrival *arrival) {
    double best = INFINITY, end = (double)self->count * self->step, most = self->theta / TILT;
    if (stage->law != NULL && stage->law->kind == EI_SERVICE_TRANSFER)
        most = fmin(most, 25 / ei_service_extent(stage->law));
    for (int e = 0; e < CANDIDATES; e++) {
        double theta = most * (1 - 0.01 * pow(1.45, e)), moment, slope;
        if (!(theta > 0))
            break;
        int status = service_log_moment(stage, theta, &moment);
        if (status != EI_OK)
            return status;
        double kappa = moment - ei_arrival_exponent(arrival, theta, &slope) * (1 - 1e-12);
        double value = ei_upper_law_log_moment(before, theta) - log(-expm1(kappa)) + MGF_ERROR;
        if (kappa < 0 && value - theta * end < best) {
            best = value - theta * end;
            self->decay = theta;
            self->scale = value + (stage->law != NULL ? moment : 0);
            for (size_t j = 0; j <= self->all; j++)
                self->u[j] = j == 0 ? 1 : exp(fmin(value - theta * (double)(j - 1) * self->step, 0));
        }
    }
    return isfinite(best) ? EI_OK : EI_ERR_UNSTABLE;
}

int ei_add_stage_renewal(ei_upper_law *self, const ei_upper_law *before, const ei_added_stage *stage,
                         const ei_arrival *arrival, double step, size_t count, ei_monitor monitor) {
    half_line line = {.end = EI_UPPER, .count = count, .step = step};
    double slowest = before->lattice.sf != NULL ? before->decay : INFINITY;
    memset(self, 0, sizeof *self);
    line.chance = malloc(count * sizeof(double));
    int status = line.chance == NULL ? EI_ERR_NO_MEMORY : half_line_init(&line, stage, arrival, slowest);
    if (status != EI_OK || (status = begin_upper(&line, before, stage, arrival)) != EI_OK)
        goto out;
    for (size_t j = 0; j < count; j++)
        line.chance[j] = ei_upper_law_sf(before, (double)j * step);
    if ((status = sweep(&line, monitor)) != EI_OK)
        goto out;
    *self = (ei_upper_law){{step, count, malloc(count * sizeof(double))},
                           line.scale,
                           line.decay,
                           before->shift + 1e-9 * before->lattice.step};
    if (self->lattice.sf == NULL)
        status = EI_ERR_NO_MEMORY;
    const double *law = stage->law != NULL ? line.v : line.u;
    for (size_t j = 0; j < count && status == EI_OK; j++)
        self->lattice.sf[j] = fmin(law[j] * ROUNDING, j > 0 ? self->lattice.sf[j - 1] : 1);
out:
    free(line.chance);
    half_line_free(&line);
    return status;
}

int ei_renewal_sojourn_lower(ei_lattice *self, const ei_added_stage *stage, const ei_arrival *arrival,
                             double step, size_t count, ei_monitor monitor) {
    half_line line = {.end = EI_LOWER, .count = count, .step = step};
    *self = (ei_lattice){step, count, calloc(count, sizeof(double))};
    int status = self->sf == NULL ? EI_ERR_NO_MEMORY : half_line_init(&line, stage, arrival, INFINITY);
    if (status == EI_OK && (status = sweep(&line, monitor)) == EI_OK) {
        const double *law = stage->law != NULL ? line.v : line.u;
        for (size_t j = count; j-- > 0;)
            self->sf[j] = fmin(fmax(law[j] / ROUNDING, j + 1 < count ? self->sf[j + 1] : 0), 1);
    }
    half_line_free(&line);
    return status;
}
