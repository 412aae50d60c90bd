#include "edgeinfer/joint_laws.h"

#include "edgeinfer/compound.h"
#include "edgeinfer/multiversion.h"
#include "edgeinfer/rate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 240, BUSY_CHECKS = 40000, SLOPES = 3 };
static const double CHECKED = 1e-30;    /* of a busy period's tail */
static const double SLACK = 1e-9;       /* of its weights */
static const double NEGLIGIBLE = 1e-13; /* of a service's law: where it begins */

/* ---- services */

static double survival(const ei_service *service, double time, ei_end end, double relative, double absolute) {
    double value;
    if (end == EI_UPPER)
        return time <= 0 ? 1
                         : fmin(ei_service_sf(service, time * (1 - 1e-14)) * (1 + relative) + absolute, 1);
    if (time < 0)
        return 1;
    time *= 1 + 1e-14;
    value = service->kind == EI_SERVICE_COMPOUND ? ei_compound_lower(service->compound, time)
                                                 : ei_service_sf(service, time);
    return fmin(fmax(value * (1 - relative) - absolute, 0), 1);
}

int ei_joint_service_init(ei_joint_service *self, const ei_service *service, double start, double step,
                          size_t steps, size_t parts, ei_end end) {
    double relative, absolute, moment;
    ei_service_accuracy(service, &relative, &absolute);
    const size_t fine = (EI_JOINT_FINE + 2 * parts - 1) / (2 * parts) * 2 * parts;
    *self =
        (ei_joint_service){.start = start, .step = step, .fine = fine, .count = steps * fine + 1, .end = end};
    double last = start + (double)steps * step,
           theta = fmin(25 / ei_service_extent(service), 0.9 * ei_service_abscissa(service));
    int status = ei_service_log_mgf(service, theta, &moment, NULL);
    if (status != EI_OK)
        return status;
    self->exponential = service->kind == EI_SERVICE_EXPONENTIAL;
    self->beyond = end == EI_UPPER ? exp(moment + EI_SERVICE_MGF_ERROR - theta * last) / theta : 0;
    self->sf = malloc(self->count * sizeof *self->sf);
    if (self->sf == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < self->count; k++) {
        double value = survival(service, start + (double)k * (step / (double)fine), end, relative, absolute);
        self->sf[k] = k > 0 ? fmin(value, self->sf[k - 1]) : value;
    }
    return EI_OK;
}

void ei_joint_service_free(ei_joint_service *self) {
    free(self->sf);
    self->sf = NULL;
}

void ei_joint_law_free(ei_joint_law *self) {
    free(self->mass);
    self->mass = NULL;
}

/* The lower convex hull of v, in its place. corner: [count] for work. */
static void convex_hull(double *v, size_t count, size_t *corner) {
    size_t corners = 0;
    for (size_t i = 0; i < count; i++) {
        while (corners > 1) {
            size_t a = corner[corners - 2], b = corner[corners - 1];
            if ((v[b] - v[a]) * (double)(i - b) <= (v[i] - v[b]) * (double)(b - a))
                break;
            corners--;
        }
        corner[corners++] = i;
    }
    for (size_t c = 0; c + 1 < corners; c++) {
        size_t a = corner[c], b = corner[c + 1];
        for (size_t i = a + 1; i < b; i++)
            v[i] = v[a] + (v[b] - v[a]) * ((double)(i - a) / (double)(b - a));
    }
}

/* Where the tangent at a cell's middle is below the line of X's mean at its left end, the one from there that
 * touches the function takes its place: the mean would be less otherwise. v: the function at the points. */
static void keep_mean(const ei_joint_service *self, double total, const double *v, size_t cells,
                      double *tangent) {
    const size_t n = self->fine;
    const double fine = self->step / (double)n, less = self->sf[0] - total;
    for (size_t i = 0; i < cells; i++) {
        const double given = v[0] - total * self->step * (double)i;
        double sum = v[i], through = INFINITY;
        for (size_t k = 1; k <= n && tangent[2 * i] < given; k++) {
            sum -= (self->sf[i * n + k] - less) * fine;
            through = fmin(through, (sum - given) / (double)k);
        }
        const double right = given + through * (double)n;
        if (tangent[2 * i] >= given || right < 0)
            continue;
        tangent[2 * i] = given;
        tangent[2 * i + 1] = right;
    }
}

/* v[i] from the integrals of the survival function, see ei_joint_law_init. */
static int stop_loss(const ei_joint_service *self, size_t limit, double *v, size_t count, double *total) {
    const size_t n = self->fine, shift = self->end == EI_LOWER;
    double fine = self->step / (double)n, less = 0;
    double *tangent = calloc(2 * count, sizeof *tangent);
    size_t *corner = malloc(count * sizeof *corner);
    int status = tangent == NULL || corner == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    if (status != EI_OK)
        goto out;
    double sum = self->beyond;
    if (limit < self->count) {
        sum = 0;
        less = self->sf[limit];
    }
    *total = self->sf[0] - less;
    double through = limit < self->count && limit % n > 0 ? 0 : INFINITY;
    for (size_t k = limit < self->count ? limit : self->count - 1; k-- > 0;) {
        /* Between fine points k and k + 1 the law rounded up is later with sf[k], rounded down with sf[k +
         * 1]. */
        double height = self->sf[k + shift] - less;
        sum += height * fine;
        through = fmin(through, sum * (double)n / (double)(n - k % n));
        if (k % n == n / 2) {
            tangent[2 * (k / n)] = sum + height * self->step / 2;
            tangent[2 * (k / n) + 1] = sum - height * self->step / 2;
        }
        if (k % n == 0) {
            v[k / n] = sum;
            /* Below 0 at its right end: the line through 0 there that touches the function takes its place.
             */
            if (tangent[2 * (k / n) + 1] < 0) {
                tangent[2 * (k / n)] = through;
                tangent[2 * (k / n) + 1] = 0;
            }
            through = INFINITY;
        }
    }
    size_t full = limit < self->count ? (limit + n - 1) / n : count - 1;
    for (size_t i = full; i < count; i++)
        v[i] = i == count - 1 && limit >= self->count ? self->beyond : 0;
    if (self->end == EI_LOWER) {
        keep_mean(self, *total, v, (limit < self->count ? limit : self->count - 1) / n, tangent);
        /* The last cell may lack its middle: nothing is known to be there. */
        for (size_t i = 0; i < count; i++) {
            int right = i < full && i * n + n / 2 < (limit < self->count ? limit : self->count - 1);
            double low = right ? tangent[2 * i] : 0;
            v[i] = fmax(i > 0 && i <= full ? fmin(low, tangent[2 * i - 1]) : low, 0);
            if (i > 0 && !((i - 1) * n + n / 2 < (limit < self->count ? limit : self->count - 1)))
                v[i] = 0;
        }
        convex_hull(v, count, corner);
    }
out:
    free(tangent);
    free(corner);
    return status;
}

/* The geometric law of exponential services, whose masses have one ratio where no rounding error is seen and
 * the lattice does not end. */
static void find_decay(ei_joint_law *self, const ei_joint_service *service) {
    size_t i = service->start < 0 ? (size_t)ceil(-service->start / service->step) + 3 : 3;
    const int upper = service->end == EI_UPPER;
    double decay = upper ? 0 : 1;
    self->regular = i;
    for (; i + 4 < self->count && self->mass[i + 1] > 1e-12 * self->mass[self->regular]; i++) {
        double ratio = self->mass[i + 1] / self->mass[i];
        decay = upper ? fmax(decay, ratio) : fmin(decay, ratio);
    }
    self->decay = i > self->regular + 8 ? decay : 0;
}

/* Without the points before `from`, in whole steps; what is behind them goes to `beyond`. */
static ei_joint_service cut(const ei_joint_service *self, size_t from) {
    ei_joint_service rest = *self;
    const double fine = self->step / (double)self->fine;
    rest.start += (double)from * fine;
    rest.sf += from;
    rest.count = (self->count - 1 - from) / self->fine * self->fine + 1;
    for (size_t k = rest.count - 1; k + from + 1 < self->count && self->end == EI_UPPER; k++)
        rest.beyond += rest.sf[k] * fine;
    return rest;
}

int ei_joint_law_init(ei_joint_law *self, const ei_joint_service *whole, size_t from, size_t limit,
                      double least) {
    const ei_joint_service rest = cut(whole, from), *service = &rest;
    size_t count = (service->count - 1) / service->fine + 1;
    limit = limit < whole->count ? limit - from : SIZE_MAX;
    if (limit < SIZE_MAX && limit >= service->count)
        limit = service->end == EI_UPPER ? SIZE_MAX : service->count - 1;
    double *v = malloc(count * sizeof *v), total;
    *self = (ei_joint_law){.count = count - 1, .mass = malloc(3 * count * sizeof *self->mass)};
    int status = v == NULL || self->mass == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    if (status != EI_OK || (status = stop_loss(service, limit, v, count, &total)) != EI_OK)
        goto out;
    self->tail = self->mass + count;
    self->upto = self->tail + count;
    double before = total, sum = 0;
    for (size_t i = 0; i + 1 < count; i++) {
        self->tail[i] = fmin(fmax((v[i] - v[i + 1]) / service->step, 0), before);
        self->mass[i] = before - self->tail[i];
        self->upto[i] = sum += self->mass[i];
        before = self->tail[i];
    }
    while (self->count > 1 && self->tail[self->count - 2] < least)
        self->count--;
    if (service->end == EI_LOWER) {
        double last = self->tail[self->count - 1];
        for (size_t i = 0; i < self->count && last < least; i++)
            self->tail[i] = fmax(self->tail[i] - last, 0);
    }
    while (self->begin + 1 < self->count && self->upto[self->begin] < NEGLIGIBLE)
        self->begin++;
    if (service->exponential && limit >= service->count)
        find_decay(self, service);
out:
    free(v);
    return status;
}

/* ---- idle times */

ei_joint_idle ei_joint_idle_law(double rate, double step, ei_end end) {
    double x = rate * step, decay = exp(-x), bend = expm1(x) + expm1(-x);
    if (end == EI_UPPER) {
        double first = bend * decay / x;
        return (ei_joint_idle){{1 + expm1(-x) / x, first, first * decay}, first * decay * decay, decay};
    }
    /* E (x - e)^+ in steps: 0 at the first two points, then the tangent at the middle before the point. */
    double scale = 1 / x - 0.5, second = 2 - 1 / x + scale * exp(-1.5 * x),
           third = 3 - 1 / x + scale * exp(-2.5 * x);
    return (ei_joint_idle){{0, second, third - 2 * second}, scale * bend * exp(-2.5 * x), decay};
}

/* ---- busy periods */

static double ratio_at(double load, double v) {
    return load * exp(v / tan(v) - load) * sin(v) / v;
}

/* The measure of ei_joint_busy from one v to another at the nodes of Gauss and Legendre. */
static void borel_measure(double load, double from, double to, double *place, double *mass) {
    double node[NODES], weight[NODES];
    ei_gauss_legendre(NODES, node, weight);
    for (size_t k = 0; k < NODES; k++) {
        double v = from + (to - from) * (1 + node[k]) / 2, cot = v / tan(v);
        place[k] = ratio_at(load, v);
        mass[k] =
            weight[k] * (to - from) * (v * v + (1 - cot) * (1 - cot)) / load * place[k] / (1 - place[k]);
    }
}

/* Jacobi's matrix of the measure by Stieltjes' procedure; its last entry is changed so that `fixed` is a
 * node. */
static void jacobi(size_t count, const double *place, const double *mass, double fixed, double *diagonal,
                   double *beside) {
    double value[NODES], before[NODES] = {0}, norm = 1, at = 1, at_before = 0;
    for (size_t k = 0; k < NODES; k++)
        value[k] = 1;
    for (size_t n = 0; n < count; n++) {
        double first = 0, next = 0;
        for (size_t k = 0; k < NODES; k++)
            first += mass[k] * place[k] * value[k] * value[k];
        diagonal[n] = first / norm;
        double less = n > 0 ? beside[n] * beside[n] : 0;
        if (n + 1 == count && fixed > 0)
            diagonal[n] = fixed - less * at_before / at;
        double old = at;
        at = (fixed - diagonal[n]) * at - less * at_before;
        at_before = old;
        for (size_t k = 0; k < NODES; k++) {
            double kept = value[k];
            value[k] = (place[k] - diagonal[n]) * kept - less * before[k];
            before[k] = kept;
            next += mass[k] * value[k] * value[k];
        }
        if (n + 1 < count)
            beside[n + 1] = sqrt(next / norm);
        norm = next;
    }
}

/* Whether the mixture is on its side of P(N > n) = 1 - sum over m <= n of e^{-load m} (load m)^{m-1} / m!,
 * summed from the far end. */
static int on_its_side(const ei_joint_busy *self, double load, ei_end end) {
    size_t last = 1;
    double fall = load - 1 - log(load);
    while (last < BUSY_CHECKS && (double)last * fall < -log(CHECKED))
        last++;
    double tail = 0;
    for (size_t m = 2 * last; m > 0; m--) {
        double n = (double)m, mixture = 0;
        if (m <= last)
            for (size_t i = 0; i < self->count; i++)
                mixture += self->weight[i] * pow(self->ratio[i], n);
        if (m <= last && tail > CHECKED && (end == EI_UPPER ? mixture < tail : mixture > tail))
            return 0;
        tail += exp(-load * n + (n - 1) * log(load * n) - lgamma(n + 1));
    }
    return 1;
}

/* Eigenvalues of Jacobi's matrix below x: Sturm's sequence. */
static size_t count_below(size_t count, const double *diagonal, const double *beside, double x) {
    size_t below = 0;
    double pivot = 1;
    for (size_t n = 0; n < count; n++) {
        pivot = diagonal[n] - x - (n > 0 ? beside[n] * beside[n] / pivot : 0);
        pivot = fabs(pivot) < 1e-300 ? 1e-300 : pivot;
        below += pivot < 0;
    }
    return below;
}

/* Its i-th eigenvalue, which is in (0, 1), by bisection. */
static double node_of(size_t count, const double *diagonal, const double *beside, size_t i) {
    double low = 0, high = 1;
    for (int step = 0; step < 64; step++) {
        double middle = low + (high - low) / 2;
        if (count_below(count, diagonal, beside, middle) > i)
            high = middle;
        else
            low = middle;
    }
    return low;
}

/* The weight of a node: one over the sum of squares of the orthonormal polynomials there. */
static double weight_of(size_t count, const double *diagonal, const double *beside, double x) {
    double value = 1, before = 0, sum = 1;
    for (size_t n = 0; n + 1 < count; n++) {
        double next = ((x - diagonal[n]) * value - (n > 0 ? beside[n] * before : 0)) / beside[n + 1];
        before = value;
        value = next;
        sum += value * value;
    }
    return 1 / sum;
}

/* The measure's part of v from `from` to before `to`, as a mass of 1 by Gauss or Radau. */
static int add_part(ei_joint_busy *self, double load, size_t count, double from, double to, ei_end end) {
    double place[NODES], mass[NODES], diagonal[EI_JOINT_TYPES], beside[EI_JOINT_TYPES] = {0}, sum = 0;
    borel_measure(load, from, to, place, mass);
    for (size_t k = 0; k < NODES; k++)
        sum += mass[k];
    for (size_t k = 0; k < NODES; k++)
        mass[k] /= sum;
    const double first = from > 0 ? ratio_at(load, from) : load * exp(1 - load);
    jacobi(count, place, mass, end == EI_UPPER ? first : 0, diagonal, beside);
    for (size_t i = 0; i < count; i++) {
        const double ratio = node_of(count, diagonal, beside, i);
        self->ratio[self->count] =
            end == EI_UPPER && i + 1 == count ? fmax(ratio, first * (1 + 1e-14)) : ratio;
        self->weight[self->count++] = sum * weight_of(count, diagonal, beside, ratio);
        if (!(ratio > 0 && ratio < 1) || !(self->weight[self->count - 1] > 0))
            return EI_ERR_ACCURACY;
    }
    return EI_OK;
}

int ei_joint_busy_init(ei_joint_busy *self, double load, size_t parts, double longest, size_t count,
                       ei_end end) {
    double sum = 0, from = 0;
    self->count = 0;
    for (size_t k = 1; k <= parts; k++) {
        const double to =
            k == parts ? M_PI
                       : M_PI * pow(4 / (M_PI * sqrt(longest)), (double)(parts - k) / (double)(parts - 1));
        int status = add_part(self, load, count / parts, from, to, end);
        if (status != EI_OK)
            return status;
        from = to;
    }
    for (size_t i = 0; i < self->count; i++)
        sum += self->weight[i];
    for (size_t i = 0; i < self->count; i++)
        self->weight[i] *= (end == EI_UPPER ? 1 + SLACK : 1 - SLACK) / sum;
    return on_its_side(self, load, end) ? EI_OK : EI_ERR_ACCURACY;
}

/* ---- the first wait */

/* Integrals over one cell from r at its ends. bend: where not NULL, what the slope's change is taken from: r
 * of the job before. */
EI_MULTIVERSION static void cells(const ei_joint_wait *self, int end, const double *const bend[2]) {
    const size_t n = self->per_service, size = self->size;
    const double g = self->step, *r = self->r[end], *growth = self->growth;
    const double bent = g * g / 8 * self->rate * exp(-self->rate * self->service);
    double *restrict cell = self->integral[end], *restrict mass = self->mass[end],
                     *restrict right = self->right[end];
    for (size_t i = 0; i < size; i++) {
        cell[i] = g * (r[i] + r[i + 1]) / 2;
        mass[i] = g * growth[i] * (self->share[0] * r[i] + self->share[1] * r[i + 1]);
        right[i] = g * growth[i] * (self->share[2] * r[i] + self->share[3] * r[i + 1]);
    }
    for (size_t i = n; i < size && bend != NULL; i++) {
        const double change = bend[EI_UPPER][i - n] - bend[EI_LOWER][i - n + 1],
                     less = change > 0 ? bent * change : 0;
        cell[i] = cell[i] > less ? cell[i] - less : 0;
        right[i] -= less * growth[i + 1];
        mass[i] = right[i] > 0 ? mass[i] - less * growth[i + 1] : 0;
        right[i] = right[i] > 0 ? right[i] : 0;
    }
}

/* The integral of r_j beyond the limit, which Erlang's density in the place of r_j makes larger. */
static double beyond_limit(const ei_joint_wait *self) {
    const double jobs = (double)self->jobs, rate = self->rate, d = self->service,
                 sum = jobs * d - (double)self->limit * self->step;
    const double log_rest = log1p(-rate * d) + jobs * log(rate * sum) - lgamma(jobs + 1) - rate * d * jobs;
    return sum > 0 ? fmin(self->beyond, exp(log_rest + 1e-9)) : 0;
}

static void integrate(ei_joint_wait *self, const double *const bend[2]) {
    const size_t size = self->size;
    for (int end = (int)self->sides; end < 2; end++) {
        double sum = size == self->limit && end == EI_UPPER ? beyond_limit(self) : 0;
        cells(self, end, end == EI_LOWER ? bend : NULL);
        self->integral[end][size] = sum;
        for (size_t i = size; i-- > 0;)
            self->integral[end][i] = sum += self->integral[end][i];
    }
}

/* int_0^1 of 1 - s, s, s (1 - s), s^2, times e^{x s}. */
static void find_shares(double x, double share[4]) {
    double term = 1;
    memset(share, 0, 4 * sizeof *share);
    for (int k = 0; k < 30; k++) {
        share[0] += term / ((k + 1) * (k + 2));
        share[1] += term / (k + 2);
        share[2] += term / ((k + 2) * (k + 3));
        share[3] += term / (k + 3);
        term *= x / (k + 1);
    }
}

int ei_joint_wait_init(ei_joint_wait *self, ei_end sides, double rate, double service, size_t per_service,
                       double end, double beyond) {
    *self = (ei_joint_wait){
        .sides = sides, .rate = rate, .service = service, .per_service = per_service, .jobs = 1};
    self->step = service / (double)per_service;
    self->limit = (size_t)ceil(end / self->step) + per_service;
    self->size = per_service;
    /* E e^{-rate Q} where Q is beyond the limit. */
    self->beyond = beyond * exp(-rate * (double)self->limit * self->step);
    size_t room = self->limit + 1;
    self->r[0] = calloc(11 * room, sizeof(double));
    if (self->r[0] == NULL)
        return EI_ERR_NO_MEMORY;
    self->r[1] = self->r[0] + room;
    for (size_t side = 0; side < 2; side++) {
        self->integral[side] = self->r[0] + (2 + side) * room;
        self->mass[side] = self->r[0] + (4 + side) * room;
        self->right[side] = self->r[0] + (6 + side) * room;
        self->kept[side] = self->r[0] + (8 + side) * room;
        for (size_t i = 0; i <= per_service; i++)
            self->r[side][i] = (1 - rate * service) * rate * exp(-rate * service);
    }
    self->growth = self->r[0] + 10 * room;
    for (size_t i = 0; i < room; i++)
        self->growth[i] = exp(rate * (double)i * self->step);
    find_shares(rate * self->step, self->share);
    integrate(self, NULL);
    return EI_OK;
}

void ei_joint_wait_free(ei_joint_wait *self) {
    free(self->r[0]);
    self->r[0] = NULL;
}

void ei_joint_wait_advance(ei_joint_wait *self) {
    const size_t n = self->per_service, size = self->size;
    const size_t next = size + n < self->limit ? size + n : self->limit;
    const double factor = self->rate * exp(-self->rate * self->service);
    const double *const bend[2] = {self->kept[0], self->kept[1]};
    for (size_t end = self->sides; end < 2; end++) {
        memcpy(self->kept[end], self->r[end], (size + 1) * sizeof(double));
        for (size_t i = 0; i <= next; i++)
            self->r[end][i] = factor * self->integral[end][i < n ? 0 : i - n];
    }
    self->jobs++;
    self->size = next;
    integrate(self, bend);
}

/* Each cell's mass at its ends, and from there shared by the two neighbours; later ones at the last point. */
static void share_masses(const ei_joint_wait *self, double start, double step, size_t count, double *mass) {
    const double *all = self->mass[EI_UPPER], *right = self->right[EI_UPPER];
    for (size_t i = 0; i <= self->size; i++) {
        double weight = (i < self->size ? all[i] - right[i] : 0) + (i > 0 ? right[i - 1] : 0);
        double at = ((double)i * self->step - start) / step;
        size_t place = at < (double)count ? (size_t)at : count;
        double above = at - (double)place;
        if (place + 1 < count) {
            mass[place] += weight * (1 - above);
            mass[place + 1] += weight * above;
        } else {
            mass[count - 1] += weight;
        }
    }
}

/* Each cell's mass at its mean; v is the hull of tangents to the stop-loss function, see
 * ei_joint_law_init. */
static void tangent_masses(const ei_joint_wait *self, double start, double step, size_t count, double *mass,
                           double *v, size_t *corner) {
    const double *all = self->mass[EI_LOWER], *right = self->right[EI_LOWER];
    size_t i = self->size, half = 2 * count, steep = count, last = count;
    double sum = 0, loss = 0, place = (double)i * self->step - start, through = INFINITY;
    for (size_t k = 0; k <= count; k++)
        v[k] = INFINITY;
    /* Down through the cells and the middles of the lattice; loss = E (Q - start - place)^+. Where the
     * tangent is below 0 at its right end, steep, the line from there that touches the function: `through`.
     */
    while (i > 0 || half > 0) {
        double within = i > 0 && all[i - 1] > 0 ? right[i - 1] / all[i - 1] : 0,
               x = i > 0 ? ((double)(i - 1) + within) * self->step - start : -1,
               point = half > 0 ? ((double)half - 1) * step / 2 : -1;
        double next = x > point ? x : point;
        if (next < place) {
            loss += sum * (place - next);
            place = next;
        }
        size_t cell = place / step < (double)count ? (size_t)(place / step) : count - 1;
        if (x > point) {
            i--;
            sum += all[i];
            through = cell == last ? through : INFINITY;
            last = cell;
            through = fmin(through, loss / fmax((double)(cell + 1) - place / step, 1e-9));
            v[cell] = cell == steep ? fmin(v[cell], through) : v[cell];
            continue;
        }
        cell = half / 2 - 1;
        v[cell] = fmin(v[cell], loss + sum * step / 2);
        v[cell + 1] = fmin(v[cell + 1], fmax(loss - sum * step / 2, 0));
        if (loss < sum * step / 2) {
            steep = cell;
            v[cell] = fmin(v[cell], cell == last ? fmin(through, 2 * loss) : 2 * loss);
        }
        half -= 2;
    }
    v[count] = 0;
    convex_hull(v, count + 1, corner);
    v[0] = fmin(v[0], v[1] + sum * step);
    for (size_t k = 0; k < count; k++) {
        double tail = fmax((v[k] - v[k + 1]) / step, 0);
        mass[k] = fmax((k > 0 ? mass[k] : sum) - tail, 0);
        mass[k + 1 < count ? k + 1 : k] = k + 1 < count ? tail : mass[k];
    }
}

/* log of the density that r_j has without its condition, over v, see joint_laws.h, at x or beyond, where it
 * is largest. */
static double log_unconditioned(const ei_joint_wait *self, double slope, double x) {
    const double d = self->service, rate = self->rate, jobs = (double)self->jobs,
                 sum = fmin(jobs * d - x, (jobs - 1) / slope);
    x = jobs * d - sum;
    return sum > 0 ? log1p(-rate * d) + jobs * log(rate) + (jobs - 1) * log(sum) - lgamma(jobs) -
                         rate * d * jobs + slope * x + 1e-9
                   : -INFINITY;
}

void ei_joint_wait_longer_masses(ei_joint_wait *self, double decay, double start, double step, size_t count,
                                 double *mass) {
    const double d = self->service, g = self->step, rate = self->rate, least = fmin(1 / d - rate, decay),
                 ratio = rate * exp(decay * d) / (rate + decay);
    const double *r = self->r[EI_UPPER], *share = self->share;
    double *v = self->kept[EI_UPPER];
    ei_joint_wait all = *self;
    all.size = self->limit;
    for (size_t i = 0; i < all.size; i++)
        all.mass[EI_UPPER][i] = INFINITY;
    for (int k = 0; k <= SLOPES; k++) {
        const double slope = rate + least + (decay - least) * k / SLOPES, fall = exp(-slope * g);
        double most = 0, log_rest = INFINITY;
        v[0] = 1;
        for (size_t i = 0; i < all.size; i++)
            v[i + 1] = v[i] * fall;
        for (size_t i = 0; i < self->size && exp(log_rest) > most; i++) {
            most = fmax(most, fmin(r[i] / v[i + 1], exp(log_rest)));
            if (i > 0 && i % self->per_service == 0)
                log_rest = log_unconditioned(self, slope, (double)i * g);
        }
        if (self->size == self->limit)
            most = fmax(most, fmin(exp(log_rest), exp(log_unconditioned(self, slope, (double)all.size * g))));
        const double scale = most * ratio / (1 - ratio) * g;
        for (size_t i = 0; i < all.size; i++) {
            const double found = scale * self->growth[i] * (share[0] * v[i] + share[1] * v[i + 1]);
            if (!(found < all.mass[EI_UPPER][i]))
                continue;
            all.mass[EI_UPPER][i] = found;
            all.right[EI_UPPER][i] = scale * self->growth[i] * (share[2] * v[i] + share[3] * v[i + 1]);
        }
    }
    memset(mass, 0, count * sizeof *mass);
    share_masses(&all, start, step, count, mass);
}

int ei_joint_wait_masses(const ei_joint_wait *self, ei_end end, double start, double step, size_t count,
                         double *mass) {
    memset(mass, 0, count * sizeof *mass);
    if (end == EI_UPPER) {
        share_masses(self, start, step, count, mass);
        return EI_OK;
    }
    double *v = malloc((count + 1) * sizeof *v);
    size_t *corner = malloc((count + 1) * sizeof *corner);
    int status = v == NULL || corner == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    if (status == EI_OK)
        tangent_masses(self, start, step, count, mass, v, corner);
    free(v);
    free(corner);
    return status;
}

void ei_joint_wait_add_tails(const ei_joint_wait *self, ei_end end, double start, double step, size_t count,
                             double *tail) {
    const double *r = self->r[end], g = self->step;
    double sum = 0;
    size_t i = self->size;
    for (size_t k = count; k-- > 0;) {
        double point = (start + (double)k * step) / g + (end == EI_UPPER ? -1e-9 : 1e-9), part = 0;
        for (; i > 0 && (double)(i - 1) >= point; i--)
            sum += self->mass[end][i - 1];
        /* Of the cell that it is in: r falls, and is below its chord. */
        const double rest = (double)i - point;
        if (i > 0 && rest > 0)
            part = end == EI_UPPER ? rest * (r[i] + rest / 2 * (r[i - 1] - r[i])) * self->growth[i]
                                   : rest * r[i] * self->growth[i - 1];
        tail[k] += sum + g * part;
    }
}
