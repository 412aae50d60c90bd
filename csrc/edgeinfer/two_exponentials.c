#include "edgeinfer/two_exponentials.h"

#include "edgeinfer/exponentials.h"
#include "edgeinfer/geometric.h"

#include <float.h>
#include <math.h>

static const double EQUAL = 1e-7;       /* rates that are nearer to each other count as equal, relative */
static const double ROUNDING = 1e-11;   /* of sums and products of what is in intervals, relative */
static const double DERIVATIVE = 1e-10; /* of the derivative of theta, times 1 / (1 - nu m) */

typedef struct {
    double low, high;
} interval;

static interval rate_of(const ei_service *service, const ei_arrival *arrival) {
    return (interval){ei_geometric_rate(service, arrival, EI_UPPER),
                      ei_geometric_rate(service, arrival, EI_LOWER)};
}

/* d theta / d mu at a theta near to the root; an interval without end where rounding may hide it. */
static interval slope_of(double theta, double mu, const ei_arrival *arrival) {
    double mean;
    ei_arrival_exponent(arrival, theta, &mean);
    const double left = 1 - (mu - theta) * mean, value = theta / (mu * left), error = DERIVATIVE / left;
    return left > 0 && error < 1 ? (interval){value * (1 - error), value * (1 + error)}
                                 : (interval){-INFINITY, INFINITY};
}

int ei_two_exponentials_init(ei_two_exponentials *self, ei_end end, const ei_service *one,
                             const ei_service *other, const ei_arrival *arrival) {
    const int upper = end == EI_UPPER;
    ei_service fast = one->time <= other->time ? *one : *other,
               slow = one->time <= other->time ? *other : *one;
    const int equal = slow.time - fast.time <= EQUAL * slow.time;
    if (equal)
        fast.time = slow.time = upper ? slow.time : fast.time;
    const double mu[2] = {1 / fast.time, 1 / slow.time}, apart = equal ? 0 : mu[0] - mu[1];
    const interval theta[2] = {rate_of(&fast, arrival), rate_of(&slow, arrival)};
    interval r;
    if (equal) {
        const interval low = slope_of(theta[1].low, mu[1], arrival),
                       high = slope_of(theta[1].high, mu[1], arrival);
        r = (interval){fmin(low.low, high.low), fmax(low.high, high.high)};
    } else {
        const double error = ROUNDING + 4 * DBL_EPSILON * mu[0] / apart;
        r = (interval){(theta[0].low - theta[1].high) / apart * (1 - error),
                       (theta[0].high - theta[1].low) / apart * (1 + error)};
    }
    if (!(theta[1].low > 0) || !(r.low > 0) || !(r.high < 2))
        return EI_ERR_ACCURACY;
    double begins;
    const double eta = ei_exponentials_tilt(mu, INFINITY, arrival, 0, fmin(theta[1].low, mu[1] * (1 - EQUAL)),
                                            &begins),
                 most = upper ? r.high : r.low, least = upper ? r.low : r.high,
                 grows = upper ? theta[0].high - apart : theta[0].low - apart;
    *self = (ei_two_exponentials){
        .end = end,
        .decay = upper ? theta[1].low : theta[1].high,
        .once = 2 - least,
        .growth = grows * (grows > 0 ? most : least),
        .apart = (grows > 0 ? least : most) * apart,
        .off = fmax(upper ? r.high - 1 : 1 - r.low, 0),
        .log_tail = log(mu[1] / (mu[1] - eta)),
        .tail = 2 * eta,
        .alone = {{theta[1].high, mu[0] * (1 + ROUNDING)}, {theta[0].high, mu[1] * (1 + ROUNDING)}}};
    if (arrival->kind == EI_ARRIVAL_DETERMINISTIC) {
        self->off = 0;
        self->more = fmax(most - 1, 0);
        self->faster = upper ? theta[0].low + theta[1].low : theta[0].high + theta[1].high;
    }
    return EI_OK;
}

/* (1 - e^{-x}) / x. */
static double falling(double x) {
    return x > 0 ? -expm1(-x) / x : 1;
}

/* P(sum of two independent exponential times > time). */
static double sum_sf(const double rates[2], double time) {
    const double slow = fmin(rates[0], rates[1]), fast = fmax(rates[0], rates[1]);
    return exp(-slow * time) * (1 + slow * time * falling((fast - slow) * time));
}

double ei_two_exponentials_sf(const ei_two_exponentials *self, double time) {
    const int upper = self->end == EI_UPPER;
    if (!(time >= 0))
        return 1;
    const double sign = upper ? 1 : -1,
                 linear = exp(-self->decay * time) *
                          (self->once + self->growth * time * falling(self->apart * time)),
                 all = linear / (1 - sign * self->off),
                 far = linear + sign * self->off * exp(self->log_tail - self->tail * time),
                 more = self->more * exp(-self->faster * time);
    if (upper)
        return fmin(fmax((fmin(all, far) + more) * (1 + ROUNDING), DBL_MIN), 1);
    const double alone = fmax(sum_sf(self->alone[0], time), sum_sf(self->alone[1], time)),
                 value = fmax(fmax(all, far) + more, alone) * (1 - ROUNDING);
    return value > DBL_MIN ? fmin(value, 1) : 0;
}

double ei_two_exponentials_behind(const ei_two_exponentials *self, const ei_arrival *arrival, double time) {
    double mean, other;
    const double waited = ei_arrival_exponent(arrival, self->decay, &mean),
                 longer = ei_arrival_exponent(arrival, self->decay + self->apart, &other) - waited,
                 spread = self->apart * time,
                 /* E (1 - e^{-apart (time + t)}) / apart under the tilt of the decay. */
        linear = time * falling(spread) +
                 exp(-spread) * (self->apart > 0 ? longer / self->apart * falling(longer) : mean),
                 both = exp(-self->decay * time - waited) * (self->once + self->growth * linear),
                 off = self->off * exp(self->log_tail - self->tail * time -
                                       ei_arrival_exponent(arrival, self->tail, &other)),
                 more = self->more *
                        exp(-self->faster * time - ei_arrival_exponent(arrival, self->faster, &other));
    return (fmax(both / (1 + self->off), both - off) + more) * (1 - 10 * ROUNDING);
}

/* L is e^{-theta_2 t} times what is concave in t, and no more than linear. */
int ei_two_exponentials_beyond(const ei_two_exponentials *self, double time, double *log_scale,
                               double *decay) {
    const double growth = fmax(self->growth, 0), most = self->once + self->more + growth * time;
    *decay = self->decay - growth / most;
    *log_scale = log(most / (1 - self->off)) - growth / most * time + 1e-9;
    return *decay > 0 ? EI_OK : EI_ERR_ACCURACY;
}
