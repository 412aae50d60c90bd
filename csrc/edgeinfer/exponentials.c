#include "edgeinfer/exponentials.h"

#include "edgeinfer/geometric.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { HALVINGS = 100, SHARES = 4, TILTS = EI_EXPONENTIALS_TILTS };
static const double NEAR = 1e-15;     /* to the power of 1 / count, of theta: times nearer count as equal */
static const double ROUNDING = 1e-11; /* of sums and products of a few terms, relative */
static const double PLACE[TILTS / SHARES] = {4, 8, 12, 16, 24, 32}; /* of C, kappa A */
static const double PEAK = 8;                                       /* decay times, before which it lies */
static const double SHARE[SHARES] = {0.5, 0.7, 0.85, 0.95};         /* of theta, that eta may be */

typedef ei_exponentials_number number;
typedef ei_exponentials_series series;

/* ---- Intervals; what is undefined becomes NaN, and remains so. */

static number exactly(double value) {
    return (number){value, value};
}

static number outward(double low, double high) {
    return (number){nextafter(low, -INFINITY), nextafter(high, INFINITY)};
}

static number sum(number a, number b) {
    return outward(a.low + b.low, a.high + b.high);
}

static number minus(number a, number b) {
    return outward(a.low - b.high, a.high - b.low);
}

static number times(number a, number b) {
    const double p = a.low * b.low, q = a.low * b.high, r = a.high * b.low, s = a.high * b.high;
    return isnan(p + q + r + s) ? exactly(NAN)
                                : outward(fmin(fmin(p, q), fmin(r, s)), fmax(fmax(p, q), fmax(r, s)));
}

static number over(number a, number b) {
    return b.low > 0 || b.high < 0 ? times(a, outward(1 / b.high, 1 / b.low)) : exactly(NAN);
}

static double size(number a) {
    return fmax(fabs(a.low), fabs(a.high));
}

static series product(const series *a, const series *b, size_t terms) {
    series result = {.term = {{0, 0}}};
    for (size_t n = 0; n < terms; n++) {
        result.term[n] = exactly(0);
        for (size_t k = 0; k <= n; k++)
            result.term[n] = sum(result.term[n], times(a->term[k], b->term[n - k]));
    }
    return result;
}

/* Divided differences over mu_1 .. mu_{i+1} of a function whose series at each are given. */
static void divide(const ei_exponentials *self, const series *given, number *result) {
    for (size_t i = 0; i < self->count; i++)
        result[i] = given[i].term[0];
    for (size_t level = 1; level < self->count; level++)
        for (size_t i = self->count; i-- > level;)
            result[i] = size(self->apart[i][i - level]) > 0
                            ? over(minus(result[i], result[i - 1]), self->apart[i][i - level])
                            : given[i].term[level];
}

/* ---- Rates. */

/* Adds E e^{-(theta + x) t}, a series in x, of a gamma law of that first term; shape INFINITY: constant. */
static void add_gamma(series *all, number first, number shape, double rate, number theta, size_t terms) {
    const int constant = isinf(shape.low);
    const number slower = constant ? exactly(rate) : sum(times(shape, exactly(rate)), theta);
    number term = first;
    for (size_t n = 0; n < terms; n++) {
        const number next = constant ? exactly(1) : sum(shape, exactly((double)n));
        all->term[n] = sum(all->term[n], term);
        term = minus(exactly(0), over(times(term, over(next, slower)), exactly((double)n + 1)));
    }
}

/* E e^{-(theta + x) t} of a time between arrivals; its first term is 1 - theta / mu. */
static series transform(const ei_arrival *arrival, number first, number theta, size_t terms) {
    const double *p = arrival->parameter;
    const number one = exactly(1);
    series all = {.term = {{0, 0}}};
    if (arrival->kind == EI_ARRIVAL_HYPEREXPONENTIAL)
        for (int i = 1; i <= 2; i++) {
            const number share = i == 1 ? exactly(p[0]) : minus(one, exactly(p[0]));
            add_gamma(&all, over(times(share, exactly(p[i])), sum(exactly(p[i]), theta)), one, p[i], theta,
                      terms);
        }
    else
        add_gamma(&all, first,
                  arrival->kind == EI_ARRIVAL_DETERMINISTIC ? exactly(INFINITY)
                  : arrival->kind == EI_ARRIVAL_ERLANG      ? exactly(p[1])
                  : arrival->kind == EI_ARRIVAL_GAMMA       ? over(one, exactly(p[1]))
                                                            : one,
                  p[0], theta, terms);
    return all;
}

/* theta as a series in x = m - mu, by (mu + x) (1 - E e^{-theta t}) = theta. */
static series rate_series(number mu, number theta, const ei_arrival *arrival, size_t terms) {
    const number share = over(theta, mu);
    const series waited = transform(arrival, minus(exactly(1), share), theta, terms);
    series result = {.term = {theta}}, rest = {.term = {{0, 0}}};
    number before = share; /* of 1 - E e^{-theta t}, the term before */
    for (size_t n = 1; n < terms; n++) {
        const number slope = minus(exactly(0), waited.term[1]);
        number others = exactly(0);
        series power = rest;
        for (size_t k = 2; k <= n; k++) {
            power = product(&power, &rest, n + 1);
            others = minus(others, times(waited.term[k], power.term[n]));
        }
        rest.term[n] = over(sum(before, times(mu, others)), minus(exactly(1), times(mu, slope)));
        before = sum(times(slope, rest.term[n]), others);
        result.term[n] = rest.term[n];
    }
    return result;
}

/* ---- |L - P|, of three stages. */

typedef struct {
    double mu[3], fast, slow, slope, bend, least; /* theta_1, theta_3; max |n'|, |n''|; min n */
    int turns;                                    /* whether n' changes its sign */
} remainder_terms;

/* c. */
static double leading_factor(const remainder_terms *of, double eta) {
    const double mean = of->slow / (M_E * (of->slow - eta)), s = of->slope;
    return ((of->turns ? 3 : 2) * s + 2 * s * s + 2 * of->fast * of->bend +
            s * (1 + s) * fmin(4 * mean, mean + of->fast / of->least)) *
           (1 + ROUNDING);
}

double ei_exponentials_tilt(const double slow[2], double fast, const ei_arrival *arrival, double less,
                            double most, double *log_scale) {
    double low = 0, high = most, slope;
    *log_scale = 0;
    for (int i = 0; i < HALVINGS; i++) {
        const double eta = i == 0 ? most : low + (high - low) / 2,
                     served = -log1p(-eta / slow[0]) - log1p(-eta / slow[1]), held = log1p(less * eta / fast);
        if (served * (1 + ROUNDING) - held * (1 - ROUNDING) <=
            ei_arrival_exponent(arrival, eta * (2 - less), &slope)) {
            low = eta;
            *log_scale = served - held;
        } else {
            high = eta;
        }
    }
    return low;
}

static int bound_remainder(ei_exponentials *self, const ei_arrival *arrival) {
    const number *mu = self->mu;
    const number *theta[3] = {self->theta[0].term, self->theta[1].term, self->theta[2].term};
    number d[EI_EXPONENTIALS];
    divide(self, self->theta, d);
    const number one = exactly(1), fast = minus(one, sum(d[1], times(d[2], self->apart[0][1]))),
                 slow = minus(one, sum(d[1], times(d[2], sum(self->apart[2][0], self->apart[2][1])))),
                 ends[2] = {minus(mu[0], theta[0][0]), minus(mu[2], theta[2][0])};
    const int grows = fast.low >= 0 && slow.low >= 0, falls = fast.high <= 0 && slow.high <= 0;
    remainder_terms of = {.mu = {mu[0].high, mu[1].low, mu[2].low},
                          .fast = theta[0][0].high,
                          .slow = theta[2][0].low,
                          .slope = fmax(size(fast), size(slow)),
                          .bend = 2 * size(d[2]),
                          .least = fmin(ends[0].low, ends[1].low),
                          .turns = !grows && !falls};
    if (of.turns && !(d[2].low >= 0))
        of.least -= of.slope * self->apart[0][2].high;
    if (!(fast.high < 1 && slow.high < 1 && of.least > 0 && of.slow > 0 && isfinite(of.slope + of.bend)))
        return EI_ERR_ACCURACY;
    self->above = grows && d[2].low >= 0 && minus(ends[1], times(mu[2], slow)).low >= 0;
    self->off = leading_factor(&of, 0);
    for (size_t i = 0; i < TILTS; i++) {
        const double a = PLACE[i / SHARES], psi = 2 * (1 - (1 + a) * exp(-a)) / (a * a),
                     mean = 2 / a * (1 - exp(-a) / psi), less = mean / (1 - mean),
                     most = fmin(SHARE[i % SHARES] * of.slow, of.mu[2] * (1 - 1e-7)),
                     eta =
                         ei_exponentials_tilt(of.mu + 1, of.mu[0], arrival, less, most, &self->log_scale[i]);
        self->log_scale[i] +=
            log(leading_factor(&of, eta) / psi * (1 - (1 - less) * eta / of.mu[0])) - mean * a + 1e-9;
        self->tail[i] = eta * (2 - less) * (1 - ROUNDING);
    }
    return EI_OK;
}

/* ---- The law. */

/* In order, the fastest first, those that are nearer to one than `near` replaced by it: the longest of each
 * set (upper end), or the shortest. The largest set's size. */
static size_t put_together(ei_end end, double near, const double *given, size_t count, double *sorted) {
    memcpy(sorted, given, count * sizeof *sorted);
    for (size_t i = 1; i < count; i++)
        for (size_t j = i; j > 0 && sorted[j] < sorted[j - 1]; j--) {
            const double swap = sorted[j];
            sorted[j] = sorted[j - 1];
            sorted[j - 1] = swap;
        }
    size_t most = 1, equal = 1;
    for (size_t i = 1; i < count; i++) {
        double *const next = end == EI_UPPER ? &sorted[count - 1 - i] : &sorted[i];
        const double before = end == EI_UPPER ? next[1] : next[-1];
        if (fabs(*next - before) <= near * before) {
            *next = before;
            equal++;
        } else {
            equal = 1;
        }
        most = equal > most ? equal : most;
    }
    return most;
}

/* e^{-theta time}. */
static series survival(const series *theta, double time, size_t terms) {
    series past = {.term = {{0, 0}}}, result = past;
    for (size_t n = 0; n < terms; n++)
        past.term[n] = times(theta->term[n], exactly(-time));
    result.term[0] = (number){exp(past.term[0].low) * (1 - 4 * DBL_EPSILON),
                              exp(past.term[0].high) * (1 + 4 * DBL_EPSILON)};
    for (size_t n = 1; n < terms; n++) {
        number all = exactly(0);
        for (size_t k = 1; k <= n; k++)
            all = sum(all, times(times(exactly((double)k), past.term[k]), result.term[n - k]));
        result.term[n] = over(all, exactly((double)n));
    }
    return result;
}

/* 1 - det(1 - E), by the traces of E's powers. */
static number all_terms(const number *e, size_t count) {
    number power[EI_EXPONENTIALS * EI_EXPONENTIALS], next[EI_EXPONENTIALS * EI_EXPONENTIALS],
        trace[EI_EXPONENTIALS + 1], symmetric[EI_EXPONENTIALS + 1] = {{1, 1}}, result = exactly(0);
    memcpy(power, e, count * count * sizeof *e);
    for (size_t k = 1; k <= count; k++) {
        trace[k] = symmetric[k] = exactly(0);
        for (size_t i = 0; i < count; i++)
            trace[k] = sum(trace[k], power[i * count + i]);
        for (size_t i = 1; i <= k; i++) {
            const number term = times(symmetric[k - i], trace[i]);
            symmetric[k] = i % 2 == 1 ? sum(symmetric[k], term) : minus(symmetric[k], term);
        }
        symmetric[k] = over(symmetric[k], exactly((double)k));
        result = k % 2 == 1 ? sum(result, symmetric[k]) : minus(result, symmetric[k]);
        for (size_t i = 0; i < count * count; i++) {
            next[i] = exactly(0);
            for (size_t j = 0; j < count; j++)
                next[i] = sum(next[i], times(power[i - i % count + j], e[j * count + i % count]));
        }
        memcpy(power, next, count * count * sizeof *e);
    }
    return result;
}

/* E e^{-theta t}, by nu / mu. */
static series share_waited(number mu, const series *theta, size_t terms) {
    series past = {.term = {{0, 0}}}, share = past;
    number power = over(exactly(1), mu);
    for (size_t n = 0; n < terms; n++) {
        past.term[n] = minus(n == 0 ? mu : exactly(n == 1), theta->term[n]);
        share.term[n] = power;
        power = minus(exactly(0), over(power, mu));
    }
    return product(&past, &share, terms);
}

/* P behind periodic arrivals, otherwise L; or, later, the mean of that a time between arrivals later. */
static number find_law(const ei_exponentials *self, double time, int later) {
    const size_t count = self->count;
    number e[EI_EXPONENTIALS * EI_EXPONENTIALS], column[EI_EXPONENTIALS], trace = exactly(0);
    series at[EI_EXPONENTIALS];
    for (size_t i = 0; i < count; i++) {
        const series share = share_waited(self->mu[i], &self->theta[i], self->terms);
        at[i] = survival(&self->theta[i], time, self->terms);
        if (later)
            at[i] = product(&at[i], &share, self->terms);
    }
    for (size_t j = 0; j < count; j++) {
        divide(self, at, column);
        for (size_t i = 0; i < count; i++) {
            e[i * count + j] = column[i];
            series factor = {.term = {{0, 0}}};
            for (size_t n = 0; n < self->terms; n++)
                factor.term[n] = minus(n == 0 ? self->apart[i][j] : exactly(n == 1), self->theta[i].term[n]);
            at[i] = product(&at[i], &factor, self->terms);
        }
        trace = sum(trace, column[j]);
    }
    return self->exact ? all_terms(e, count) : trace;
}

/* |L - P| at most, where it moves this end. */
static double find_remainder(const ei_exponentials *self, double time) {
    double least = INFINITY;
    if (self->exact || (self->end == EI_UPPER && self->above))
        return 0;
    for (size_t i = 0; i < TILTS; i++)
        least = fmin(least, exp(self->log_scale[i] - self->tail[i] * time) * (1 + ROUNDING));
    return least;
}

/* A lower end by either bound of |L - P|. */
static double find_lower(const ei_exponentials *self, double time, int far) {
    const double law = find_law(self, time, 0).low;
    return far ? law - find_remainder(self, time) : law / (1 + self->off);
}

double ei_exponentials_sf(const ei_exponentials *self, double time) {
    if (!(time >= 0))
        return 1;
    if (self->end == EI_UPPER) {
        const double law = find_law(self, time, 0).high;
        return isnan(law) ? 1 : fmin(fmax(law + find_remainder(self, time), DBL_MIN) * (1 + DBL_EPSILON), 1);
    }
    double value = 0;
    for (int far = 0; far <= !self->exact; far++)
        value = fmax(value, find_lower(self, fmax(time, self->peak[far]), far) * (1 - 2 * DBL_EPSILON));
    return value > DBL_MIN ? fmin(value, 1) : 0;
}

double ei_exponentials_behind(const ei_exponentials *self, const ei_arrival *arrival, double time) {
    if (self->exact)
        return ei_exponentials_sf(self, time + ei_arrival_mean(arrival) * (1 + DBL_EPSILON));
    const double law = find_law(self, time, 1).low;
    double least = INFINITY, slope;
    for (size_t i = 0; i < TILTS; i++)
        least = fmin(least, exp(self->log_scale[i] - self->tail[i] * time -
                                ei_arrival_exponent(arrival, self->tail[i], &slope)) *
                                (1 + ROUNDING));
    return fmax(fmax(law / (1 + self->off), law - least) * (1 - 2 * DBL_EPSILON), 0);
}

/* Where a lower end is the largest: what comes before is no less. */
static double find_peak(const ei_exponentials *self, int far) {
    double low = 0, high = PEAK / self->theta[self->count - 1].term[0].low;
    for (int i = 0; i < HALVINGS; i++) {
        const double third = (high - low) / 3;
        if (find_lower(self, low + third, far) < find_lower(self, high - third, far))
            low += third;
        else
            high -= third;
    }
    return low;
}

int ei_exponentials_init(ei_exponentials *self, ei_end end, const double *given, size_t count,
                         const ei_arrival *arrival) {
    double sorted[EI_EXPONENTIALS], slowest = 0;
    *self = (ei_exponentials){.end = end, .count = count, .exact = arrival->kind == EI_ARRIVAL_DETERMINISTIC};
    if (count > EI_EXPONENTIALS || count < 3 || (count > 3 && !self->exact))
        return EI_ERR_ACCURACY;
    for (size_t i = 0; i < count; i++)
        slowest = fmax(slowest, given[i]);
    const ei_service last = {.kind = EI_SERVICE_EXPONENTIAL, .time = slowest};
    self->terms = put_together(
        end, ei_geometric_rate(&last, arrival, EI_UPPER) * slowest * pow(NEAR, 1 / (double)count), given,
        count, sorted);
    for (size_t i = 0; i < count; i++) {
        const ei_service service = {.kind = EI_SERVICE_EXPONENTIAL, .time = sorted[i]};
        self->mu[i] = over(exactly(1), exactly(sorted[i]));
        for (size_t j = 0; j < count; j++)
            if (sorted[i] != sorted[j])
                self->apart[i][j] = over(minus(exactly(sorted[j]), exactly(sorted[i])),
                                         times(exactly(sorted[i]), exactly(sorted[j])));
        if (i > 0 && sorted[i] == sorted[i - 1])
            self->theta[i] = self->theta[i - 1];
        else
            self->theta[i] = rate_series(self->mu[i],
                                         (number){ei_geometric_rate(&service, arrival, EI_UPPER),
                                                  ei_geometric_rate(&service, arrival, EI_LOWER)},
                                         arrival, self->terms);
    }
    const int status = self->exact ? EI_OK : bound_remainder(self, arrival);
    for (int far = 0; far <= 1 && status == EI_OK && end == EI_LOWER && !self->exact; far++)
        self->peak[far] = find_peak(self, far);
    return status;
}
