#include "edgeinfer/two_modulated.h"

#include "edgeinfer/envelope.h"
#include "edgeinfer/modulated.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    COUNT = EI_MODULATED_FUNCTIONS,
    SIGNED = 3, /* functions, which come last */
    POSITIVE = COUNT - SIGNED,
    SQUARINGS = 60,
    MOST = EI_ARRIVAL_PHASES * EI_ARRIVAL_PHASES,
    HALVINGS = 50,
    MOST_TERMS = 131072,
    DENSE = 32,  /* terms that an envelope is fitted to, and after these, */
    SPARSER = 16 /* of so many one, of the least m on */
};
static const double APART = 1e-5;     /* rates are moved apart to this, relative */
static const double MARGIN = 1e-12;   /* of a product z_1 z_2, relative */
static const double ROUNDING = 1e-11; /* of sums, products and powers, relative */
static const double POWERS = 1e-13;   /* of one of e^{-x}, relative */
static const double REACH = 16;       /* decays of what falls most slowly */
static const double FAR = 1e-280;     /* probabilities below which powers may have lost what counts */
static const double SPREAD = 16,
                    NEVER_MEET = 0.9; /* of mu_1 - z_1, the largest over the least and where z_1 = z_2 */
static const double LIMIT = 100;      /* of |c_i| */

static const double ENOUGH = 1e-5;     /* slack that is for nothing */
static const double TRANSFORM = 1e-13; /* of a transform, relative */

typedef struct {
    const ei_arrival *arrival;
    double rate[2], slow_decay;                     /* mu_1 > mu_2; 1/s */
    double root[2][COUNT][2];                       /* z_1, z_2 of sub- and supermartingales */
    double vector[2][COUNT][EI_ARRIVAL_PHASES];     /* v */
    double slack[COUNT], slack_decay;               /* by how much the others may miss, times e^{-s T} */
    size_t terms, phases, phase[EI_ARRIVAL_PHASES]; /* N; those with requests */
    double *target;                                 /* [terms + 1][phases]: +-a_m, the last for all beyond */
    double *function;                               /* [2][COUNT][terms + 1]: w, the last that of N */
} fit;

/* Bounds on M(s) v over v, v its eigenvector of positive entries. */
static void find_eigenvalue(const ei_arrival *arrival, double s, double *vector, double *low, double *high) {
    const size_t n = arrival->count;
    double transform[EI_ARRIVAL_PHASES * EI_ARRIVAL_PHASES];
    *high = exp(-ei_modulated_exponent(arrival, s, vector, transform));
    *low = INFINITY;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t j = 0; j < n; j++)
            sum += transform[i * n + j] * vector[j];
        *low = fmin(*low, sum / vector[i]);
    }
}

/* z_1 z_2 / (mu_1 mu_2) over the eigenvalue of M(s), from above (lower) or below, less 1; z <= 0: z_1 = z_2.
 */
static double excess(const fit *self, double z, double s, ei_end end, double *vector) {
    const double sum = self->rate[0] + self->rate[1] - s, one = z > 0 ? z : sum / 2;
    double low, high;
    find_eigenvalue(self->arrival, s, vector, &low, &high);
    return one * (sum - one) / (self->rate[0] * self->rate[1]) / (end == EI_UPPER ? high : low) - 1;
}

/* z_i and v at exponents s between the slower server's decay and that at which z_1 and z_2 meet. */
static int find_functions(fit *self) {
    const double *mu = self->rate;
    double vector[EI_ARRIVAL_PHASES], low = 0, high = mu[1], least, most;
    for (int k = 0; k < HALVINGS; k++) {
        const double s = low + (high - low) / 2;
        *(excess(self, mu[0], s, EI_UPPER, vector) > 0 ? &low : &high) = s;
    }
    self->slow_decay = least = low;
    high = mu[0] + mu[1];
    for (int k = 0; k < HALVINGS; k++) {
        const double s = low + (high - low) / 2;
        *(excess(self, 0, s, EI_UPPER, vector) > 0 ? &low : &high) = s;
    }
    most = low;
    /* mu_1 - z_1: those that fall over what is looked at, and do not meet. */
    const double last = NEVER_MEET * (mu[0] - mu[1] + most) / 2,
                 first = fmin(fmax(last / SPREAD, REACH * mu[0] / MOST_TERMS), last);
    for (int i = 0; i < POSITIVE; i++) {
        const double z = mu[0] - first * pow(last / first, (double)i / (POSITIVE - 1));
        for (int end = EI_LOWER; end <= EI_UPPER; end++) {
            const double margin = end == EI_UPPER ? MARGIN : -MARGIN;
            low = least;
            high = most;
            for (int k = 0; k < HALVINGS; k++) {
                const double s = low + (high - low) / 2;
                *(excess(self, z, s, (ei_end)end, vector) > margin ? &low : &high) = s;
            }
            const double s = end == EI_UPPER ? low : high,
                         left = excess(self, z, s, (ei_end)end, self->vector[end][i]);
            self->root[end][i][0] = z;
            self->root[end][i][1] = mu[0] + mu[1] - s - z;
            if (!(s > 0) || !(self->root[end][i][1] > 0) || !(z > self->root[end][i][1]) || !(z < mu[0]) ||
                !(end == EI_UPPER ? left >= margin : left <= margin))
                return EI_ERR_ACCURACY;
        }
    }
    return EI_OK;
}

/* A high power of a matrix over its trace, the projection on its largest eigenvector: NaN or no limit where
 * there is not one. */
static void project(const double *matrix, double *power, size_t n) {
    double square[MOST], trace = 0;
    memcpy(power, matrix, n * n * sizeof *power);
    for (int k = 0; k < SQUARINGS; k++) {
        double most = 0, change = 0;
        ei_modulated_multiply(power, power, square, n);
        for (size_t i = 0; i < n * n; i++)
            most = fmax(most, fabs(square[i]));
        for (size_t i = 0; i < n * n; i++) {
            change = fmax(change, fabs(square[i] / most - power[i]));
            power[i] = square[i] / most;
        }
        if (change < 1e-15)
            break;
    }
    for (size_t i = 0; i < n; i++)
        trace += power[i * n + i];
    for (size_t i = 0; i < n * n; i++)
        power[i] /= trace;
}

/* The second largest eigenvalue of M(s) and its eigenvector of largest entry 1, as near as they come; by how
 * much at most M(s) v is off it. */
static double find_second(const ei_arrival *arrival, double s, double *vector, double *error) {
    const size_t n = arrival->count;
    double transform[MOST], power[MOST], rest[MOST], value = 0;
    size_t column = 0;
    if (ei_modulated_transform(arrival, s, transform) != EI_OK)
        return NAN;
    project(transform, power, n);
    ei_modulated_multiply(transform, power, rest, n);
    for (size_t i = 0; i < n * n; i++)
        rest[i] = transform[i] - rest[i];
    project(rest, power, n);
    for (size_t i = 0; i < n * n; i++) {
        value += rest[i] * power[i % n * n + i / n];
        if (fabs(power[i]) > fabs(power[column]))
            column = i;
    }
    for (size_t i = 0; i < n; i++)
        vector[i] = power[i * n + column % n] / power[column];
    for (size_t i = 0; i < n; i++) {
        double sum = 0, all = fabs(value * vector[i]);
        for (size_t j = 0; j < n; j++) {
            sum += transform[i * n + j] * vector[j];
            all += fabs(transform[i * n + j] * vector[j]);
        }
        error[i] = fabs(sum - value * vector[i]) + 2 * TRANSFORM * all;
    }
    return value;
}

/* Those of the second eigenvector where it is real and near enough, else 0. */
static void find_signed(fit *self, const double *shares) {
    const size_t n = self->arrival->count;
    const double *mu = self->rate, *first = self->root[EI_UPPER][POSITIVE - SIGNED];
    double strict[EI_ARRIVAL_PHASES], error[EI_ARRIVAL_PHASES], strict_mean = 0;
    self->slack_decay = (self->slow_decay + mu[0] + mu[1] - first[0] - first[1]) / 2;
    const double above = excess(self, first[0], self->slack_decay, EI_UPPER, strict),
                 strict_apart = 2 * first[0] + self->slack_decay - mu[0] - mu[1];
    for (size_t j = 0; j < n; j++)
        strict_mean += shares[j] * strict[j];
    for (int i = POSITIVE; i < COUNT; i++) {
        const double one = self->root[EI_UPPER][i - SIGNED][0];
        double *vector = self->vector[EI_UPPER][i], low = self->slack_decay, high = mu[0] + mu[1] - one,
               mean = 0, miss = 0;
        for (int k = 0; k < HALVINGS; k++) {
            const double s = low + (high - low) / 2,
                         product = mu[0] * mu[1] * find_second(self->arrival, s, vector, error);
            *(one * (mu[0] + mu[1] - s - one) > product ? &low : &high) = s;
        }
        const double value = find_second(self->arrival, low, vector, error), two = mu[0] + mu[1] - low - one,
                     scale = mu[0] * mu[1] / (one * two);
        for (size_t j = 0; j < n; j++) {
            mean += shares[j] * vector[j];
            if (shares[j] > 0)
                miss = fmax(miss, (scale * error[j] + fabs((scale * value - 1) * vector[j])) / strict[j]);
        }
        self->slack[i] = miss * fmax(1, strict_apart / (one - two)) * (1 + above) / above * strict_mean;
        const int good = two > 0 && one > two && above > 0 && isfinite(mean) && self->slack[i] < ENOUGH;
        for (size_t j = 0; j < n; j++)
            self->vector[EI_LOWER][i][j] = vector[j] = !good ? 0 : mean < 0 ? -vector[j] : vector[j];
        self->slack[i] = good ? self->slack[i] : 0;
        for (int end = EI_LOWER; end <= EI_UPPER; end++) {
            self->root[end][i][0] = good ? one : first[0];
            self->root[end][i][1] = good ? two : first[1];
        }
    }
}

/* 1 + x + .. + x^{m-1}, x = 1 - w. */
static double geometric_sum(double w, double m) {
    return -expm1(m * log1p(-w)) / w;
}

static void fill_functions(const fit *self) {
    const double *mu = self->rate, w = (mu[0] - mu[1]) / mu[0];
    double *at = self->function;
    for (int end = EI_LOWER; end <= EI_UPPER; end++)
        for (int i = 0; i < COUNT; i++) {
            const double *z = self->root[end][i], decay = log1p(-(mu[0] - z[0]) / mu[0]),
                         apart = (z[0] - z[1]) / z[0];
            for (size_t m = 1; m <= self->terms; m++)
                *at++ = exp((double)(m - 1) * decay) * geometric_sum(apart, (double)m) /
                        geometric_sum(w, (double)m);
            *at = at[-1];
            at++;
        }
}

/* a_m from above for the lower end, -a_m for the upper one. */
static void fill_target(const fit *self, const ei_two_modulated *ends) {
    const int lower = ends->end == EI_LOWER;
    const double near = log1p(-(self->rate[0] - self->rate[1]) / self->rate[0]);
    double power[2][EI_ARRIVAL_PHASES], beyond = 0;
    double *at = self->target;
    for (size_t j = 0; j < EI_ARRIVAL_PHASES; j++)
        power[0][j] = power[1][j] = 1;
    for (size_t m = 1; m <= self->terms; m++) {
        for (int i = 0; i < 2; i++) {
            ei_ladder_climb(&ends->ladder[i], lower == (i == 0) ? EI_UPPER : EI_LOWER, power[i]);
            for (size_t j = 0; j < self->arrival->count; j++)
                power[i][j] *= lower == (i == 0) ? 1 + 20 * DBL_EPSILON : 1 - 20 * DBL_EPSILON;
        }
        const double falls = exp((double)m * near), left = -expm1((double)m * near);
        beyond = 0;
        for (size_t j = 0; j < self->phases; j++) {
            const double one = power[0][self->phase[j]], other = falls * power[1][self->phase[j]];
            beyond = fmax(beyond, (lower ? one : other) / left);
            *at++ = ((lower ? one - other : other - one) + POWERS * (one + other)) / left;
        }
    }
    for (size_t j = 0; j < self->phases; j++)
        *at++ = beyond * (1 + ROUNDING);
}

/* The `which`-th c, least at `time`, and a. */
static int fit_envelope(const fit *self, ei_two_modulated *ends, int which, double time, double value) {
    const size_t width = COUNT + 1, rows_most = (DENSE + SPARSER * 20) * self->phases, N = self->terms;
    double weight[COUNT + 1] = {1}, x[COUNT + 1], most = 0;
    double *rows = malloc(rows_most * (width + 1) * sizeof *rows), *target;
    size_t count = 0;
    if (rows == NULL)
        return EI_ERR_NO_MEMORY;
    target = rows + rows_most * width;
    for (int i = 0; i < COUNT; i++)
        weight[i + 1] = ends->start[EI_UPPER][i] * exp(-ends->decay[EI_UPPER][i] * time) / value;
    for (size_t m = 0; m < N && count + self->phases <= rows_most; m += m < DENSE ? 1 : m / SPARSER)
        for (size_t j = 0; j < self->phases; j++, count++) {
            target[count] = self->target[m * self->phases + j];
            rows[count * width] = 1;
            for (int i = 0; i < COUNT; i++)
                rows[count * width + (size_t)i + 1] =
                    self->vector[EI_UPPER][i][self->phase[j]] *
                    self->function[(size_t)(EI_UPPER * COUNT + i) * (N + 1) + m];
        }
    ei_envelope_fit(rows, target, count, width, weight, LIMIT, x);
    free(rows);
    for (size_t m = 0; m <= N; m++)
        for (size_t j = 0; j < self->phases; j++) {
            double above = self->target[m * self->phases + j];
            for (int i = 0; i < COUNT; i++) {
                const double c = x[i + 1];
                const int end = c > 0 ? EI_UPPER : EI_LOWER;
                const double part = c * self->vector[end][i][self->phase[j]] *
                                    self->function[(size_t)(end * COUNT + i) * (N + 1) + m];
                if (m < N || part < 0)
                    above -= part - ROUNDING * fabs(part);
            }
            most = fmax(most, isfinite(above) ? above : INFINITY);
        }
    ends->most[which] = most;
    for (int i = 0; i < COUNT; i++) {
        ends->factor[which][i] = x[i + 1];
        ends->slack[which] += fabs(x[i + 1]) * self->slack[i];
    }
    return EI_OK;
}

static int find_envelopes(fit *self, ei_two_modulated *ends) {
    const double *mu = self->rate, slowest = fmin(self->slow_decay, mu[0] - self->root[EI_UPPER][0][0]);
    self->terms = (size_t)fmin(ceil(REACH * mu[0] / slowest), MOST_TERMS);
    for (size_t j = 0; j < self->arrival->count; j++)
        if (self->arrival->rates[j] > 0)
            self->phase[self->phases++] = j;
    self->target = malloc((self->terms + 1) * (self->phases + 2 * COUNT) * sizeof(double));
    if (self->target == NULL)
        return EI_ERR_NO_MEMORY;
    self->function = self->target + (self->terms + 1) * self->phases;
    fill_functions(self);
    fill_target(self, ends);
    int status = EI_OK;
    for (int k = 0; k < EI_MODULATED_ENVELOPES && status == EI_OK; k++) {
        const double time = ldexp(0.25 / self->slow_decay, k);
        double both, wait[2], sojourn[2];
        for (int i = 0; i < 2; i++)
            ei_ladder_tails(&ends->ladder[i], EI_LOWER, time, &sojourn[i], &wait[i]);
        both = (mu[0] * (sojourn[1] + wait[0]) - mu[1] * (sojourn[0] + wait[1])) / (mu[0] - mu[1]);
        status = fit_envelope(self, ends, k, time, fmax(both, sojourn[1]));
    }
    free(self->target);
    return status;
}

int ei_two_modulated_init(ei_two_modulated *self, ei_end end, const ei_service *one, const ei_service *other,
                          const ei_arrival *arrival) {
    double fast = fmin(one->time, other->time), slow = fmax(one->time, other->time);
    if (end == EI_UPPER)
        slow = fmax(slow, fast * (1 + APART));
    else
        fast = fmin(fast, slow / (1 + APART));
    fit fitted = {.arrival = arrival, .rate = {1 / fast, 1 / slow}};
    *self = (ei_two_modulated){.end = end};
    int status = EI_OK;
    for (int i = 0; i < 2 && status == EI_OK; i++)
        status = ei_ladder_init(&self->ladder[i], arrival, fitted.rate[i]);
    if (status == EI_OK)
        status = find_functions(&fitted);
    if (status == EI_OK)
        find_signed(&fitted, self->ladder[0].shares);
    self->slack_decay = fitted.slack_decay;
    for (int which = EI_LOWER; which <= EI_UPPER && status == EI_OK; which++)
        for (int i = 0; i < COUNT; i++) {
            const double *z = fitted.root[which][i];
            self->decay[which][i] = fitted.rate[0] + fitted.rate[1] - z[0] - z[1];
            for (size_t j = 0; j < arrival->count; j++)
                self->start[which][i] += self->ladder[0].shares[j] * fitted.vector[which][i][j];
        }
    return status == EI_OK ? find_envelopes(&fitted, self) : status;
}

/* P(a sojourn time in the slower server and a service of the faster one > time), independent, from below: a
 * chain of that service and the ladder, of events at the faster rate. */
static double alone_sf(const ei_two_modulated *self, double time) {
    const ei_ladder *slow = &self->ladder[1];
    const double rate = self->ladder[0].rate, share = slow->rate / rate * (1 - ROUNDING);
    const size_t n = slow->count + 1;
    double matrix[(EI_ARRIVAL_PHASES + 1) * (EI_ARRIVAL_PHASES + 1)] = {0}, vector[EI_ARRIVAL_PHASES + 1];
    for (size_t i = 1; i < n; i++) {
        matrix[i] = slow->shares[i - 1] * (1 - ROUNDING);
        for (size_t j = 1; j < n; j++)
            matrix[i * n + j] = share * slow->ladder[EI_LOWER][(i - 1) * (n - 1) + j - 1];
        matrix[i * n + i] += fmax(1 - slow->rate / rate - 4 * DBL_EPSILON, 0);
    }
    ei_ladder_survive(matrix, n, EI_LOWER, rate * time, vector);
    return vector[0];
}

double ei_two_modulated_sf(const ei_two_modulated *self, double time) {
    const int upper = self->end == EI_UPPER;
    const double mu[2] = {self->ladder[0].rate, self->ladder[1].rate}, sign = upper ? 1 : -1,
                 error = ROUNDING + 8 * DBL_EPSILON * mu[0] * time;
    double sojourn[2][2], wait[2][2];
    if (!(time >= 0))
        return 1;
    for (int i = 0; i < 2; i++)
        for (int end = EI_LOWER; end <= EI_UPPER; end++)
            ei_ladder_tails(&self->ladder[i], (ei_end)end, time, &sojourn[i][end], &wait[i][end]);
    if (upper && sojourn[1][EI_UPPER] < FAR)
        return 1;
    const int end = upper ? EI_UPPER : EI_LOWER, less = upper ? EI_LOWER : EI_UPPER;
    const double more = mu[0] * (sojourn[1][end] + wait[0][end]),
                 fewer = mu[1] * (sojourn[0][less] + wait[1][less]),
                 both = (more - fewer + sign * 8 * DBL_EPSILON * (more + fewer)) / (mu[0] - mu[1]);
    double best = upper ? 1 : alone_sf(self, time);
    for (int k = 0; k < EI_MODULATED_ENVELOPES; k++) {
        double value = both;
        for (int i = 0; i < COUNT; i++) {
            const double c = self->factor[k][i];
            const int which = c > 0 ? EI_UPPER : EI_LOWER;
            const double part = c * self->start[which][i] * exp(-self->decay[which][i] * time);
            value += sign * (part + error * fabs(part));
        }
        value += sign * self->slack[k] * exp(-self->slack_decay * time) * (1 + error);
        value = (value + sign * ROUNDING * fabs(both)) / (1 - sign * self->most[k]);
        if (upper && self->most[k] < 1)
            best = fmin(best, value);
        if (!upper && self->most[k] >= 0)
            best = fmax(best, value);
    }
    return fmin(best, 1);
}
