#include "edgeinfer/constant_first.h"

#include "edgeinfer/bound.h"
#include "edgeinfer/joint_laws.h"
#include "edgeinfer/multiversion.h"
#include "edgeinfer/pair_rows.h"
#include "edgeinfer/queue.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    TYPES = 24, /* of busy periods: whole vectors */
    PARTS = 4,
    FINE = 32,      /* points of a cell at which a service's law is taken, */
    FINER = 16,     /* and that many times as many for its moments */
    ARRIVALS = 40,  /* during a constant service, at most */
    NODES = 16,     /* of a quadrature over a cell, exact for powers up to 31 */
    ROWS = 32,      /* of a block of a convolution */
    CHECK = 4,      /* steps between looks for the certificate */
    EXPONENTS = 24, /* at which a sweep's contraction is looked for */
    BISECTIONS = 60,
    MOST_CELLS = 64,     /* of the constant service */
    MOST_POINTS = 20000, /* of the lattice */
    JOBS = 30000         /* of the first busy period, at most */
};
static const double REACH = 36;               /* decay times behind the mean at which deadlines end, */
static const double FURTHER = 12;             /* and after how many more the lattice does */
static const double EXPONENT = 0.97;          /* of the decay: x */
static const double CELL[] = {0.05, 0.1};     /* decay times, and exponential services */
static const double SERVICE[] = {0.15, 0.35}; /* mean services: a cell at most, and so */
static const double LONGEST = 60;             /* jobs of a busy period that matter, at least */
static const double WORK[] = {5e9, 2e10};     /* multiply-adds of one end's sweeps, for each effort */
static const double SLACK = 2e-7;             /* share that the certificate is looked for with */
static const double DECADES = 54;             /* by which errors may have to shrink */
static const double LOST = 1e6;               /* a value from which on there is no way back */
static const double LEFT = 1e-3;              /* share that jobs not followed may have */
static const double ROUNDING = 1e-12;         /* of one sum of a sweep, */
static const double ALL_ROUNDING = 1e-9;      /* and of all of the first busy period */
static const double NEGLIGIBLE = 1e-18;       /* probability of more arrivals than are followed */

/* ---- services on the lattice */

typedef struct {
    size_t cells;
    double decay;                /* where not 0, masses and bends are those of cell 1 and 0 and fall so */
    double *mass, *bend, *slack; /* [cells] */
    double *beyond, *late;       /* [points] */
    double *again, *idle;        /* chi, eta: [points], [rows] */
    double at_once;              /* psi(d) */
    int exact, split;            /* slack is 0; psi is kept apart */
} service_table;

static void table_free(service_table *self) {
    free(self->mass);
    self->mass = NULL;
}

static int table_reserve(service_table *self, size_t cells, size_t points, size_t rows) {
    self->cells = cells;
    self->mass = calloc(3 * cells + 3 * points + rows, sizeof(double));
    if (self->mass == NULL)
        return EI_ERR_NO_MEMORY;
    self->bend = self->mass + cells;
    self->slack = self->bend + cells;
    self->beyond = self->slack + cells;
    self->late = self->beyond + points;
    self->again = self->late + points;
    self->idle = self->again + points;
    return EI_OK;
}

/* The lattice of both ends. */
typedef struct {
    const ei_service *service;
    ei_effort effort;
    double rate, constant, step, exponent; /* 1/s; s; s; x, 1/s */
    double ratio;                          /* r */
    size_t per_service, top;               /* cells of the constant service; the last point, N */
    double longest;
    size_t rows; /* points, with those that a service from the last one reaches */
} lattice;

/* Place in a cell, of the polygon's weights: what the later point has after z of a cell. */
static double place(const lattice *self, double z) {
    return expm1(self->exponent * self->step * z) / (self->ratio - 1);
}

static double bend_at(const lattice *self, double z) {
    const double p = exp(self->exponent * self->step * z), r = self->ratio;
    return (p - 1) * (r - p) / (p * (r - 1) * (r - 1));
}

static double most_bent(const lattice *self) {
    const double root = sqrt(self->ratio) + 1;
    return 1 / (root * root);
}

/* The most of bend_at between z and z + 1 / FINE. */
static double bend_near(const lattice *self, size_t i) {
    const double one = (double)i / FINE, other = (double)(i + 1) / FINE;
    return one <= 0.5 && other >= 0.5 - 0.02 ? most_bent(self)
                                             : fmax(bend_at(self, one), bend_at(self, other));
}

static int exponential_table(const lattice *self, ei_end end, service_table *table) {
    int status = table_reserve(table, 2, self->top + 1, self->rows);
    if (status != EI_OK)
        return status;
    const double mean = self->service->time, x = self->exponent, r = self->ratio,
                 fall = exp(-self->step / mean), power = 1 / (mean * x);
    const double first = x * mean / ((1 - x * mean) * (r - 1)), beyond = (1 - r * fall) * first;
    table->exact = 1;
    table->decay = fall;
    table->mass[0] = 1 - beyond;
    table->mass[1] = beyond * (1 - fall);
    for (size_t i = 0; i < FINE; i++)
        table->bend[0] +=
            (exp(-self->step * (double)i / FINE / mean) - exp(-self->step * (double)(i + 1) / FINE / mean)) *
            bend_near(self, i);
    table->bend[1] = table->bend[0] * fall;
    /* A power of e^{-x y} is convex. */
    const double bent =
        end == EI_UPPER ? 0 : (r - 1) * (r - 1) / 8 * power * (power - 1) * fmax(1, pow(r, power - 2));
    for (size_t n = 0; n <= self->top; n++) {
        const double above = exp(-(double)n * self->step / mean);
        table->beyond[n] = above * beyond;
        table->late[n] = above * fmax(1 - bent, 0);
    }
    return 1 - x * mean > 0 && r * fall < 1 && power >= 1 && table->mass[0] >= 0 ? EI_OK : EI_ERR_ACCURACY;
}

/* Adds a mass at z of cell k. */
static void add_mass(const lattice *self, service_table *table, size_t k, double z, double mass) {
    const double later = place(self, z);
    table->mass[k] += mass * (1 - later);
    if (k + 1 < table->cells)
        table->mass[k + 1] += mass * later;
}

static int samples_table(const lattice *self, service_table *table) {
    const ei_service *law = self->service;
    const double share = 1 / (double)law->sample_count;
    int status = table_reserve(table, (size_t)(law->samples[law->sample_count - 1] / self->step) + 3,
                               self->top + 1, self->rows);
    for (size_t i = 0; i < law->sample_count && status == EI_OK; i++) {
        const double time = law->samples[i] / self->step, k = floor(time);
        add_mass(self, table, (size_t)k, time - k, share);
        table->bend[(size_t)k] += share * bend_at(self, time - k) * (1 + ROUNDING);
    }
    table->exact = 1;
    return status;
}

/* Any other law: fine points, rounded up with some probability and down else, so that the moment of x is no
 * less (upper) or no more. */
static int other_table(const lattice *self, ei_end end, service_table *table) {
    const size_t cells = (size_t)(1.1 * ei_service_reach(self->service) / self->step) + 3,
                 each = FINE * FINER, fine = (cells - 2) * each;
    ei_lattice ends[2] = {{.sf = NULL}, {.sf = NULL}};
    double moment, *sums = calloc(2 * (cells + 1), sizeof *sums);
    int status = sums == NULL ? EI_ERR_NO_MEMORY : table_reserve(table, cells, self->top + 1, self->rows);
    if (status == EI_OK)
        status = ei_service_log_mgf(self->service, self->exponent, &moment, NULL);
    if (status == EI_OK)
        status = ei_lattice_ends(ends, self->service, self->step / (double)each, fine + 1);
    if (status != EI_OK)
        goto out;
    const double *up = ends[EI_UPPER].sf, *down = ends[EI_LOWER].sf;
    double first[2] = {0, 0};
    for (int side = 0; side < 2; side++) {
        double *sum = sums + (size_t)side * (cells + 1), above = 0;
        for (size_t k = cells; k-- > 0;) {
            double part = 0, inside = 0;
            for (size_t i = 0; i < each && k * each + i <= fine; i++) {
                const size_t at = k * each + i;
                const double mass = side == EI_UPPER ? (at > 0 ? up[at - 1] : 1) - up[at]
                                                     : down[at] - (at < fine ? down[at + 1] : 0);
                const double kept = side == EI_LOWER && at == 0 ? mass + 1 - down[0] : mass;
                inside += kept;
                part += kept * place(self, (double)i / (double)each);
            }
            sum[k] = part + above + self->ratio * sum[k + 1];
            above += inside;
        }
        first[side] = sum[0];
    }
    const double most =
        expm1(moment + (end == EI_UPPER ? EI_SERVICE_MGF_ERROR : -EI_SERVICE_MGF_ERROR)) / (self->ratio - 1);
    const double share = fmin(fmax((most - first[EI_LOWER]) / (first[EI_UPPER] - first[EI_LOWER]), 0), 1);
    for (size_t k = 0; k < cells; k++) {
        table->slack[k] = fmax(sums[cells + 1 + k] - sums[k], 0) * (1 + ROUNDING);
        for (size_t i = 0; i < each && k * each + i <= fine; i++) {
            const size_t at = k * each + i;
            const double rounded_up = (at > 0 ? up[at - 1] : 1) - up[at],
                         rounded_down = (at == 0 ? 1 : down[at]) - (at < fine ? down[at + 1] : 0);
            add_mass(self, table, k, (double)i / (double)each,
                     share * rounded_up + (1 - share) * rounded_down);
            if (at < fine)
                table->bend[k] += (up[at] - down[at + 1]) * bend_near(self, i / FINER);
        }
        table->bend[k] += table->slack[k];
    }
    /* What is longer than all fine points. */
    table->mass[cells - 1] += end == EI_UPPER ? up[fine] : 0;
out:
    ei_lattice_free(&ends[0]);
    ei_lattice_free(&ends[1]);
    free(sums);
    return status;
}

/* A polygon on its side of a function that falls and is between low and high at fine points, zero from the
 * last of these on (lower), or as there; `points` values. */
static void find_polygon(const lattice *self, ei_end end, const double *low, const double *high, size_t fine,
                         double *value, size_t points) {
    const double *at = end == EI_UPPER ? high : low;
    double before = 0;
    for (size_t n = 0; n < points; n++) {
        double off = 0;
        const double left = n * FINE < fine   ? at[n * FINE]
                            : end == EI_UPPER ? high[fine]
                                              : 0,
                     right = (n + 1) * FINE <= fine ? at[(n + 1) * FINE]
                             : end == EI_UPPER      ? high[fine]
                                                    : 0;
        for (size_t i = 0; i < FINE && n * FINE + i < fine; i++) {
            const double z = (double)i / FINE, ahead = (double)(i + 1) / FINE;
            const double weight = place(self, 1 - (end == EI_UPPER ? ahead : z)),
                         chord = right + (left - right) * weight;
            off = fmax(off, end == EI_UPPER ? high[n * FINE + i] - chord : chord - low[n * FINE + i + 1]);
        }
        value[n] = end == EI_UPPER ? (left + fmax(before, off)) * (1 + ROUNDING)
                                   : (left - fmax(before, off)) * (1 - ROUNDING);
        before = off;
    }
}

/* psi and what follows from it: late, again, idle. */
static int find_late(const lattice *self, ei_end end, service_table *table) {
    const size_t fine = table->cells * FINE, ahead = self->per_service * FINE;
    const double part = self->step / FINE, rate = self->rate, idle = -expm1(-rate * part);
    ei_lattice ends[2] = {{.sf = NULL}, {.sf = NULL}};
    const size_t both = 2 * fine;
    double *sums = calloc(2 * (both + 1), sizeof *sums), *low = sums, *high = sums + both + 1;
    int status = sums == NULL ? EI_ERR_NO_MEMORY : ei_lattice_ends(ends, self->service, part, fine + 1);
    if (status != EI_OK)
        goto out;
    const double *up = ends[EI_UPPER].sf, *down = ends[EI_LOWER].sf;
    table->split = 1;
    table->at_once = end == EI_UPPER ? up[ahead < fine ? ahead : fine] : ahead <= fine ? down[ahead] : 0;
    find_polygon(self, end, down, up, fine, table->late, self->top + 1);
    double last[2] = {0, up[fine]};
    for (size_t k = fine + 1; k-- > 0;) {
        last[0] = k < fine ? idle * down[k + 1] + (1 - idle) * last[0] : 0;
        last[1] = k < fine ? idle * up[k] + (1 - idle) * last[1] : up[fine];
        low[k] = last[0];
        high[k] = last[1];
    }
    find_polygon(self, end, low, high, fine, table->idle, self->rows);
    for (size_t k = 0; k <= both; k++) {
        double sum = 0;
        for (size_t m = 0; m <= k && m <= fine; m++) {
            const double mass = end == EI_UPPER ? (m > 0 ? up[m - 1] : 1) - up[m]
                                                : (m > 0 ? down[m] : 1) - (m < fine ? down[m + 1] : 0);
            const size_t at = k - m + ahead;
            sum += mass * (end == EI_UPPER ? up[at < fine ? at : fine] : at <= fine ? down[at] : 0);
        }
        const double rest = end == EI_UPPER ? up[k < fine ? k : fine] : k < fine ? down[k + 1] : 0;
        low[k] = high[k] = sum + rest * table->at_once;
    }
    find_polygon(self, end, low, high, both, table->again, self->top + 1);
out:
    ei_lattice_free(&ends[0]);
    ei_lattice_free(&ends[1]);
    free(sums);
    return status;
}

static int table_init(const lattice *self, ei_end end, service_table *table) {
    if (self->service->kind == EI_SERVICE_EXPONENTIAL)
        return exponential_table(self, end, table);
    int status = self->service->kind == EI_SERVICE_SAMPLES ? samples_table(self, table)
                                                           : other_table(self, end, table);
    if (status != EI_OK)
        return status;
    double sum = 0;
    size_t k = table->cells;
    for (size_t n = self->top + 1; n-- > 0;) {
        while (k > n + 1)
            sum += table->mass[--k];
        table->beyond[n] = sum;
    }
    return find_late(self, end, table);
}

/* ---- one service after the other */

/* to[n] = sum over k <= n of kernel[k] from[n - k], rows of `width`. */
EI_MULTIVERSION static void convolve(const double *kernel, size_t cells, double decay,
                                     const double *restrict from, double *restrict to, size_t count,
                                     size_t width) {
    if (decay > 0) {
        double sum[TYPES] = {0};
        for (size_t n = 0; n < count; n++)
            for (size_t i = 0; i < width; i++) {
                to[n * width + i] = kernel[0] * from[n * width + i] + kernel[1] * sum[i];
                sum[i] = decay * sum[i] + from[n * width + i];
            }
        return;
    }
    const size_t block = ROWS * TYPES, size = count * width;
    for (size_t start = 0; start < size; start += block) {
        const size_t end = start + block < size ? start + block : size;
        for (size_t at = start; at < end; at++)
            to[at] = 0;
        for (size_t k = 0; k < cells && k * width < end; k++) {
            const double weight = kernel[k];
            const size_t shift = k * width, begin = shift > start ? shift : start;
            if (weight > 0)
                for (size_t at = begin; at < end; at++)
                    to[at] += weight * from[at - shift];
        }
    }
}

/* Kinks of polygons, of the sort that bends, and of the other; [count - 1] rows. */
EI_MULTIVERSION static void find_kinks(double ratio, ei_end end, const double *restrict from,
                                       double *restrict bent, double *restrict other, size_t count,
                                       size_t width) {
    const double sign = end == EI_UPPER ? 1 : -1;
    for (size_t i = 0; i < width; i++) {
        const double kink = sign * ratio * (from[i] - from[width + i]);
        bent[i] = kink > 0 ? kink : 0;
        other[i] = kink < 0 ? -kink : 0;
    }
    for (size_t at = width; at < (count - 1) * width; at++) {
        const double kink = sign * (ratio * (from[at] - from[at + width]) - (from[at - width] - from[at]));
        bent[at] = kink > 0 ? kink : 0;
        other[at] = kink < 0 ? -kink : 0;
    }
}

typedef struct {
    const lattice *grid;
    const service_table *table;
    ei_end end;
    double *bent, *other, *bends, *more; /* [points][TYPES] */
    double apart[TYPES];                 /* of psi(. + d) in what is served; then of psi */
} server;

EI_MULTIVERSION static void put_together(const server *self, const double *restrict jump,
                                         const double *restrict from, double *restrict to, size_t width) {
    const size_t top = self->grid->top;
    const double *beyond = self->table->beyond;
    const double *restrict fresh = self->table->split ? self->table->again : self->table->late;
    const double *restrict bends = self->bends;
    const double sign = self->end == EI_UPPER ? 1 : -1;
    for (size_t n = 0; n <= top; n++)
        for (size_t i = 0; i < width; i++) {
            const size_t at = n * width + i;
            const double before = n > 0 ? bends[at - width] : 0, here = n < top ? bends[at] : 0;
            const double bend = before > here ? before : here;
            const double value = to[at] + from[i] * beyond[n] + jump[i] * fresh[n] + sign * bend;
            to[at] = value + sign * ROUNDING * (value > 0 ? value : -value);
        }
}

/* E f(. - X) at points 0 .. top from f there. */
static void serve(server *self, const double *from, double *to, size_t width) {
    const size_t count = self->grid->top + 1;
    const service_table *table = self->table;
    double fresh[TYPES];
    find_kinks(self->grid->ratio, self->end, from, self->bent, self->other, count, width);
    convolve(table->bend, table->cells, table->decay, self->bent, self->bends, count - 1, width);
    if (!table->exact) {
        convolve(table->slack, table->cells, 0, self->other, self->more, count - 1, width);
        for (size_t at = 0; at < (count - 1) * width; at++)
            self->bends[at] += self->more[at];
    }
    convolve(table->mass, table->cells, table->decay, from, to, count, width);
    for (size_t i = 0; i < width; i++) {
        const double jump = fmax(1 - from[i] - self->apart[i] * table->at_once, 0);
        fresh[i] = table->split ? self->apart[i] : jump;
        self->apart[i] = table->split ? jump : 0;
    }
    put_together(self, fresh, from, to, width);
    for (size_t i = 0; i < width && self->end == EI_LOWER; i++)
        to[(count - 1) * width + i] = fmin(to[(count - 1) * width + i], 0);
}

/* ---- the walk of all busy periods but the first */

typedef struct {
    double theta, drift, moment, idle; /* 1/s; D, m, L */
    double type[TYPES], after;         /* a_i, A */
} chernoff;

static int chernoff_init(const lattice *self, const ei_joint_busy *busy, double theta, chernoff *bound) {
    double moment, sum = 0, again = 0;
    int status = ei_service_log_mgf(self->service, theta, &moment, NULL);
    if (status != EI_OK)
        return status;
    bound->theta = theta;
    bound->moment = exp(moment + EI_SERVICE_MGF_ERROR);
    bound->drift = exp(-theta * self->constant);
    bound->idle = self->rate / (self->rate + theta);
    for (size_t i = 0; i < busy->count; i++) {
        const double rest = 1 - busy->ratio[i] * bound->drift * bound->moment;
        if (!(rest > 1e-12))
            return EI_ERR_UNSTABLE;
        sum += busy->weight[i] * bound->moment / rest;
        again += busy->weight[i] * bound->moment * (1 - busy->ratio[i]) / rest;
    }
    const double rest = 1 - bound->drift * bound->idle * again;
    if (!(rest > 1e-12))
        return EI_ERR_UNSTABLE;
    bound->after = bound->drift * bound->idle * sum / rest * (1 + 1e-6);
    for (size_t i = 0; i < busy->count; i++)
        bound->type[i] = bound->moment * (1 + (1 - busy->ratio[i]) * bound->after) /
                         (1 - busy->ratio[i] * bound->drift * bound->moment) * (1 + 1e-6);
    return EI_OK;
}

/* The bound scale e^{-theta c} at a point, read a step before. */
static double bound_at(const lattice *self, const chernoff *bound, double scale, size_t n) {
    return fmin(1, scale * exp(-bound->theta * ((double)n - 1) * self->step));
}

typedef struct {
    const lattice *grid;
    ei_end end;
    ei_joint_busy busy;
    chernoff bound;
    service_table table;
    server by;
    ei_wait_weights idle;                                              /* of an idle time, */
    double idle_bend;                                                  /* and the bend of its first cell */
    double *block, *type, *last, *next, *mixed, *mean, *kinks, *after; /* [rows][TYPES], .., [rows] */
    double apart[TYPES], last_apart[TYPES], kept_apart[TYPES], base_apart[TYPES]; /* of psi */
    double *kept, *base;
    double work, sweep_work; /* multiply-adds that are left, and of a sweep */
    double *first, *whole;   /* [rows]: B_j, with psi and without */
    server one;              /* of B_j */
} walk;

static void walk_free(walk *self) {
    table_free(&self->table);
    free(self->block);
    self->block = NULL;
}

static int walk_init(walk *self, const lattice *grid, ei_end end, double decay) {
    *self = (walk){.grid = grid,
                   .end = end,
                   .idle = ei_wait_weights_of(grid->rate * grid->step, grid->exponent * grid->step)};
    const double shares[] = {0.97, 0.9, 0.8}, rate = grid->rate;
    int status =
        ei_joint_busy_init(&self->busy, grid->rate * grid->constant, PARTS, grid->longest, TYPES, end);
    if (status != EI_OK || (status = table_init(grid, end, &self->table)) != EI_OK)
        return status;
    double best = INFINITY;
    for (size_t e = 0; e < 3 && end == EI_UPPER; e++) {
        chernoff tried;
        status = chernoff_init(grid, &self->busy, shares[e] * decay, &tried);
        if (status == EI_ERR_UNSTABLE)
            continue;
        if (status != EI_OK)
            return status;
        const double value = log(tried.after) - tried.theta * (double)grid->top * grid->step;
        if (value < best) {
            best = value;
            self->bound = tried;
        }
    }
    if (end == EI_UPPER && isinf(best))
        return EI_ERR_UNSTABLE;
    for (size_t i = 0; i < FINE; i++)
        self->idle_bend +=
            (exp(-rate * grid->step * (double)i / FINE) - exp(-rate * grid->step * (double)(i + 1) / FINE)) *
            fmax(bend_near(grid, i), bend_near(grid, FINE - 1 - i));
    const size_t wide = grid->rows * TYPES;
    self->block = calloc(10 * wide + 5 * grid->rows, sizeof(double));
    if (self->block == NULL)
        return EI_ERR_NO_MEMORY;
    self->type = self->block;
    self->last = self->type + wide;
    self->kept = self->last + wide;
    self->base = self->kept + wide;
    self->next = self->base + wide;
    self->work = WORK[grid->effort];
    self->sweep_work =
        (double)grid->top * TYPES * (self->table.decay > 0 ? 8 : 4 + 2 * (double)self->table.cells);
    self->mixed = self->next + wide;
    double *scratch = self->mixed + wide;
    self->by = (server){
        grid, &self->table, end, scratch, scratch + wide, scratch + 2 * wide, scratch + 3 * wide, {0}};
    self->one = self->by;
    self->mean = scratch + 4 * wide;
    self->kinks = self->mean + grid->rows;
    self->after = self->kinks + grid->rows;
    self->first = self->after + grid->rows;
    self->whole = self->first + grid->rows;
    for (size_t n = 0; n < grid->rows && end == EI_UPPER; n++)
        for (size_t i = 0; i < TYPES; i++)
            self->type[n * TYPES + i] = bound_at(grid, &self->bound, self->bound.type[i], n);
    return EI_OK;
}

/* after: H, from the types. */
static void let_idle(walk *self) {
    const size_t rows = self->grid->rows;
    const double sign = self->end == EI_UPPER ? 1 : -1, r = self->grid->ratio;
    for (size_t n = 0; n < rows; n++) {
        double sum = 0;
        for (size_t i = 0; i < TYPES; i++)
            sum += self->busy.weight[i] * self->type[n * TYPES + i];
        self->mean[n] = sum;
    }
    for (size_t n = 1; n < rows; n++) {
        const double next = n + 1 < rows ? self->mean[n + 1] : self->end == EI_UPPER ? self->mean[n] : 0;
        self->kinks[n] = fmax(sign * (r * (self->mean[n] - next) - (self->mean[n - 1] - self->mean[n])), 0);
    }
    double value = self->end == EI_UPPER ? self->mean[rows - 1] : 0, bend = 0, before, apart = 0;
    double last = value;
    for (size_t i = 0; i < TYPES; i++)
        apart += self->busy.weight[i] * self->apart[i];
    /* bend: of the cell behind a point. */
    for (size_t n = rows; n-- > 0;) {
        const double here = self->mean[n], right = n + 1 < rows ? self->mean[n + 1] : value;
        if (n + 1 < rows)
            last = self->idle.near * here + self->idle.far * right + self->idle.kept * last;
        before = n > 0 ? self->idle_bend * self->kinks[n] + self->idle.kept * bend : 0;
        const double sum = last + sign * fmax(bend, before) + apart * self->table.idle[n];
        self->after[n] = sum + sign * ROUNDING * fabs(sum);
        bend = before;
    }
}

static void sweep(walk *self) {
    const size_t q = self->grid->per_service, top = self->grid->top;
    let_idle(self);
    for (size_t n = 0; n <= top; n++)
        for (size_t i = 0; i < TYPES; i++)
            self->mixed[n * TYPES + i] = (1 - self->busy.ratio[i]) * self->after[n + q] +
                                         self->busy.ratio[i] * self->type[(n + q) * TYPES + i];
    for (size_t i = 0; i < TYPES; i++)
        self->by.apart[i] = self->busy.ratio[i] * self->apart[i];
    serve(&self->by, self->mixed, self->next, TYPES);
    for (size_t i = 0; i < TYPES && self->end == EI_UPPER; i++) {
        /* The furthest point: what is beyond it stands below the bound. */
        double *last = &self->next[top * TYPES + i];
        *last = fmax(*last, bound_at(self->grid, &self->bound, self->bound.type[i], top));
    }
}

/* The growth of a value per job under the exponent theta: kappa with sum w_i D L m (1 - s_i) / (kappa - m D
 * s_i) = 1. */
static double growth(const walk *self, double theta) {
    double moment, most = 0, high = 2;
    if (ei_service_log_mgf(self->grid->service, theta, &moment, NULL) != EI_OK)
        return INFINITY;
    const double once = exp(moment - theta * self->grid->constant),
                 idle = self->grid->rate / (self->grid->rate + theta);
    for (size_t i = 0; i < TYPES; i++)
        most = fmax(most, once * self->busy.ratio[i]);
    double low = most;
    for (int step = 0; step < BISECTIONS; step++) {
        const double middle = low + (high - low) / 2;
        double sum = 0;
        for (size_t i = 0; i < TYPES; i++)
            sum += self->busy.weight[i] * once * idle * (1 - self->busy.ratio[i]) /
                   (middle - once * self->busy.ratio[i]);
        if (sum > 1)
            low = middle;
        else
            high = middle;
    }
    return high;
}

/* Whether the values are what a sweep makes of them or further out. */
static int is_certain(const walk *self) {
    const double sign = self->end == EI_UPPER ? 1 : -1;
    int holds = 1;
    for (size_t i = 0; i < TYPES; i++)
        holds &= sign * (self->apart[i] - self->by.apart[i]) >= 0;
    for (size_t at = 0; at < (self->grid->top + 1) * TYPES && holds; at++)
        holds = sign * (self->type[at] - self->next[at]) >= 0;
    return holds;
}

/* Values one sweep on, and somewhat further out. */
static void move_on(double sign, double *restrict value, const double *restrict next, size_t count) {
    for (size_t at = 0; at < count; at++) {
        const double size = next[at] > 0 ? next[at] : -next[at];
        value[at] = next[at] + sign * SLACK * size;
    }
}

/* A step of Chebyshev's iteration from `base` and the one before it, kept in `last`, to what sweeps have
 * made of it, in `value`. Whether all is finite. */
static int leap(double factor, double *restrict value, double *restrict base, double *restrict last,
                size_t count) {
    int finite = 1;
    for (size_t at = 0; at < count; at++) {
        const double moved = last[at] + factor * (value[at] - last[at]);
        last[at] = base[at];
        base[at] = value[at] = moved;
        finite &= moved < LOST && moved > -LOST;
    }
    return finite;
}

/* Chebyshev's iteration of so many sweeps a step, which tend to shrink errors by `radius` each. *found:
 * whether the certificate holds. */
static int iterate(walk *self, size_t sweeps, double radius, ei_monitor monitor, int *found) {
    const double sign = self->end == EI_UPPER ? 1 : -1, power = pow(radius, (double)sweeps),
                 steps = DECADES * log(10) / sqrt(1 - power * power);
    const size_t last_row = self->grid->top * TYPES, size = last_row + TYPES;
    double factor = 1;
    int finite = 1;
    for (size_t round = 0; (double)round < steps && finite && self->work > 0; round++) {
        for (size_t k = 0; k < sweeps; k++) {
            sweep(self);
            self->work -= self->sweep_work;
            if (k == 0 && round % CHECK == CHECK - 1 && (*found = is_certain(self)))
                return EI_OK;
            move_on(sign, self->type, self->next, size);
            move_on(sign, self->apart, self->by.apart, TYPES);
        }
        finite = leap(factor, self->type, self->base, self->last, size) &
                 leap(factor, self->apart, self->base_apart, self->last_apart, TYPES);
        for (size_t at = last_row; at < size && self->end == EI_LOWER; at++)
            self->type[at] = self->base[at] = self->last[at] = self->next[at];
        factor = 1 / (1 - power * power * (round == 0 ? 0.5 : factor / 4));
        if (round % CHECK == 0 && ei_stopped(monitor))
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
}

/* From what stands in `type`. EI_ERR_ACCURACY where no certificate is found. */
static int solve(walk *self, double decay, ei_monitor monitor) {
    static const size_t sweeps[] = {3, 8, 24};
    const size_t size = (self->grid->top + 1) * TYPES;
    double radius = INFINITY;
    int found = 0, status = EI_OK;
    for (int e = 1; e < EXPONENTS; e++)
        radius = fmin(radius, growth(self, decay * e / EXPONENTS));
    if (!(radius < 1))
        return EI_ERR_ACCURACY;
    memcpy(self->kept, self->type, size * sizeof *self->type);
    memcpy(self->kept_apart, self->apart, sizeof self->apart);
    /* Long tails of services make steps of few sweeps go astray. */
    for (size_t e = self->table.decay > 0; e < 3 && status == EI_OK && !found; e++) {
        double *const values[] = {self->type, self->base, self->last};
        for (size_t k = 0; k < 3; k++)
            memcpy(values[k], self->kept, size * sizeof *self->type);
        memcpy(self->apart, self->kept_apart, sizeof self->apart);
        memcpy(self->base_apart, self->kept_apart, sizeof self->apart);
        memcpy(self->last_apart, self->kept_apart, sizeof self->apart);
        status = iterate(self, sweeps[e], radius, monitor, &found);
    }
    if (status == EI_OK && found)
        let_idle(self);
    return status == EI_OK && !found ? EI_ERR_ACCURACY : status;
}

/* ---- the first busy period */

typedef struct {
    size_t at, cell;
    double left; /* the polygon's weight of the point before */
    double value[2][2],
        off[2][3]; /* by end: at both points; what is between points, from the cell before on */
} target;

typedef struct {
    const lattice *grid;
    size_t levels, arrivals, cells; /* of the queue; in one service; of waits */
    double *block, *poisson, *table, *history, *share[2], *hat, *cell; /* .., [cells] reversed */
    double later, over;                                                /* jobs that are not followed */
} first_wait;

static int first_wait_init(first_wait *self, const lattice *grid, double latest, double decay) {
    const double load = grid->rate * grid->constant;
    const size_t q = grid->per_service;
    double chance = load, node[NODES], weight[NODES];
    *self = (first_wait){.grid = grid};
    for (self->arrivals = 1; chance > NEGLIGIBLE && self->arrivals < ARRIVALS; self->arrivals++)
        chance *= load / (double)(self->arrivals + 1);
    const size_t near = (size_t)(latest / grid->constant) + 2;
    self->levels = near + (size_t)(FURTHER / (decay * grid->constant)) + 2;
    self->cells = near * q;
    const size_t rows = self->levels + 1,
                 size = ARRIVALS + self->arrivals * 2 * q + rows * rows + 4 * (self->cells + 1);
    if ((self->block = calloc(size, sizeof(double))) == NULL)
        return EI_ERR_NO_MEMORY;
    self->poisson = self->block;
    self->table = self->poisson + ARRIVALS;
    self->history = self->table + self->arrivals * 2 * q;
    self->share[0] = self->history + rows * rows;
    self->share[1] = self->share[0] + self->cells + 1;
    self->hat = self->share[1] + self->cells + 1;
    self->cell = self->hat + self->cells + 1;
    self->poisson[0] = exp(-load);
    for (size_t m = 1; m < ARRIVALS; m++)
        self->poisson[m] = self->poisson[m - 1] * load / (double)m;
    ei_gauss_legendre(NODES, node, weight);
    /* The wait is (b + z) step less than a whole number of services. */
    for (size_t b = 0; b < q; b++)
        for (size_t e = 0; e < NODES; e++) {
            const double z = (1 + node[e]) / 2, x = grid->rate * ((double)(q - b) - z) * grid->step;
            double term = (1 - load) * grid->rate * grid->step * weight[e] / 2 * exp(-x);
            for (size_t m = 0; m < self->arrivals; m++, term *= x / (double)m) {
                self->table[m * 2 * q + 2 * b] += term * (1 - place(grid, z));
                self->table[m * 2 * q + 2 * b + 1] += term * place(grid, z);
            }
        }
    self->history[1] = 1;
    return EI_OK;
}

/* p_k, k = job, from p_{k-1}, and what is left of it beyond. */
static void next_queue(first_wait *self, size_t job) {
    const size_t rows = self->levels + 1;
    const double *restrict from = self->history + (job - 1) % rows * rows;
    double *restrict to = self->history + job % rows * rows, *restrict poisson = self->poisson;
    memset(to, 0, rows * sizeof *to);
    for (size_t l = 1; l < rows; l++) {
        const double mass = from[l];
        const size_t most = rows - l + 1 < ARRIVALS ? rows - l + 1 : ARRIVALS;
        if (mass < 1e-290)
            continue;
        for (size_t a = 0; a < most; a++)
            to[l - 1 + a] += mass * poisson[a];
        for (size_t a = most; a < ARRIVALS; a++)
            self->over += mass * poisson[a] * (double)(l - 1 + a);
    }
    to[0] = 0;
    self->later = 0;
    for (size_t l = 1; l < rows; l++)
        self->later += to[l] * (double)l;
}

/* The wait of job `job`: hat and cell, reversed. */
static void find_wait(first_wait *self, size_t job) {
    const size_t q = self->grid->per_service, rows = self->levels + 1, cells = self->cells;
    double sum[2 * 64];
    for (size_t i = 1; (i - 1) * q < cells; i++) {
        for (size_t b = 0; b < 2 * q; b++)
            sum[b] = 0;
        if (i <= job) {
            const double *queue = self->history + (job - i) % rows * rows + i;
            const size_t most = i < self->arrivals ? i : self->arrivals;
            for (size_t m = 0; m < most; m++) {
                const double mass = *(queue - m), *restrict row = self->table + m * 2 * q;
                for (size_t b = 0; b < 2 * q; b++)
                    sum[b] += mass * row[b];
            }
        }
        for (size_t b = 0; b < q; b++) {
            self->share[0][(i - 1) * q + b] = sum[2 * b];
            self->share[1][(i - 1) * q + b] = sum[2 * b + 1];
        }
    }
    for (size_t k = 0; k <= cells; k++) {
        const double here = k < cells ? self->share[0][k] : 0, before = k > 0 ? self->share[1][k - 1] : 0;
        self->hat[cells - k] = here + before;
        self->cell[cells - k] = k < cells ? here + self->share[1][k] : 0;
    }
}

/* sum over k <= n of weights k and values n - k. */
static double convolved(const first_wait *self, const double *reversed, const double *value, size_t n) {
    return ei_dot(value, reversed + self->cells - n, n + 1);
}

static void add_job(const first_wait *wait, const walk ends[2], target *targets, size_t count) {
    for (int end = 0; end < 2; end++) {
        const double *value = ends[end].whole;
        find_kinks(wait->grid->ratio, (ei_end)end, value, ends[end].by.bent, ends[end].by.other,
                   wait->grid->top + 1, 1);
        for (size_t t = 0; t < count; t++) {
            const size_t n = targets[t].cell;
            for (size_t side = 0; side < 2; side++)
                targets[t].value[end][side] +=
                    convolved(wait, wait->hat, value, n + side) - wait->share[0][n + side] * value[0];
            for (size_t k = n > 0 ? 0 : 1; k < 3; k++) {
                const size_t cell = n + k - 1;
                targets[t].off[end][k] +=
                    most_bent(wait->grid) * convolved(wait, wait->cell, ends[end].by.bent, cell) +
                    fmax(1 - value[0], 0) * wait->cell[wait->cells - cell];
            }
        }
    }
}

static void put_whole(walk *self) {
    for (size_t n = 0; n <= self->grid->top; n++)
        self->whole[n] = self->first[n] + self->one.apart[0] * self->table.late[n];
}

/* B_j from B_{j-1}, in its place; bound: of that, of B_j then. */
static void next_job(walk *self, double *bound) {
    const size_t q = self->grid->per_service, top = self->grid->top;
    serve(&self->one, self->first + q, self->mixed, 1);
    if (self->end == EI_UPPER) {
        *bound = self->bound.moment * (1 + self->bound.drift * *bound);
        for (size_t n = top + 1; n < self->grid->rows; n++)
            self->first[n] = bound_at(self->grid, &self->bound, *bound, n);
        self->mixed[top] = fmax(self->mixed[top], bound_at(self->grid, &self->bound, *bound, top));
    }
    memcpy(self->first, self->mixed, (top + 1) * sizeof *self->first);
    put_whole(self);
}

static int follow(const ei_batch *batch, const lattice *grid, walk ends[2], target *targets, size_t count,
                  double latest, double queue_decay) {
    first_wait wait;
    ei_md1 queue = {.tail = NULL};
    const double load = grid->rate * grid->constant;
    double bound = ends[EI_UPPER].bound.moment * (1 + ends[EI_UPPER].bound.after);
    int status = first_wait_init(&wait, grid, latest, queue_decay);
    if (status == EI_OK)
        status = ei_md1_init(&queue, grid->rate, grid->constant, latest + 2 * grid->step);
    if (status != EI_OK)
        goto out;
    for (int end = 0; end < 2; end++) {
        walk *self = &ends[end];
        self->one.apart[0] = 0;
        serve(&self->one, self->after + grid->per_service, self->mixed, 1);
        memcpy(self->first, self->mixed, (grid->top + 1) * sizeof *self->first);
        if (end == EI_UPPER)
            for (size_t n = grid->top; n < grid->rows; n++)
                self->first[n] =
                    fmax(n == grid->top ? self->first[n] : 0, bound_at(grid, &self->bound, bound, n));
        put_whole(self);
        for (size_t t = 0; t < count; t++)
            for (size_t side = 0; side < 2; side++) {
                const size_t n = targets[t].cell + side;
                targets[t].value[end][side] =
                    (1 - load) * self->whole[n] + ei_md1_waiting_sf(&queue, (double)n * grid->step) *
                                                      (end == EI_UPPER ? 1 + 1e-11 : 1 - 1e-11);
            }
    }
    for (size_t job = 1; job <= JOBS; job++) {
        next_queue(&wait, job);
        find_wait(&wait, job);
        next_job(&ends[EI_LOWER], NULL);
        next_job(&ends[EI_UPPER], &bound);
        add_job(&wait, ends, targets, count);
        if (job % 64 == 0 && ei_stopped(batch->monitor)) {
            status = EI_ERR_INTERRUPTED;
            goto out;
        }
        if (wait.later <= LEFT * targets[0].value[EI_UPPER][1])
            break;
    }
    for (size_t t = 0; t < count; t++)
        for (size_t k = 0; k < 3; k++)
            targets[t].off[EI_UPPER][k] += wait.later + wait.over + 3 * NEGLIGIBLE;
out:
    free(wait.block);
    ei_md1_free(&queue);
    return status;
}

/* Both ends at the targets' points. The lower walk begins with the upper one's values. */
static int find_ends(const ei_batch *batch, const lattice *grid, double decay, double queue_decay,
                     double latest, target *targets, size_t count) {
    walk ends[2] = {{.block = NULL}, {.block = NULL}};
    int status = walk_init(&ends[EI_UPPER], grid, EI_UPPER, decay);
    if (status == EI_OK && (status = solve(&ends[EI_UPPER], decay, batch->monitor)) == EI_OK)
        status = walk_init(&ends[EI_LOWER], grid, EI_LOWER, decay);
    if (status == EI_OK) {
        memcpy(ends[EI_LOWER].type, ends[EI_UPPER].type, grid->top * TYPES * sizeof(double));
        memcpy(ends[EI_LOWER].apart, ends[EI_UPPER].apart, TYPES * sizeof(double));
        status = solve(&ends[EI_LOWER], decay, batch->monitor);
    }
    if (status == EI_OK)
        status = follow(batch, grid, ends, targets, count, latest, queue_decay);
    walk_free(&ends[0]);
    walk_free(&ends[1]);
    return status;
}

/* An end between two points: linear, so that it falls. */
static double read_target(const target *self, ei_end end) {
    const double sign = end == EI_UPPER ? 1 : -1;
    double value = 0;
    for (size_t side = 0; side < 2; side++)
        value += (side > 0 ? 1 - self->left : self->left) *
                 (self->value[end][side] + sign * fmax(self->off[end][side], self->off[end][side + 1]));
    return value * (1 + sign * ALL_ROUNDING);
}

int ei_constant_first_ends(const ei_batch *batch, const ei_service *random, double time, double constant,
                           int *found) {
    const ei_service stages[] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = time}, *random};
    const int kind = random->kind == EI_SERVICE_EXPONENTIAL;
    double decay, queue_decay;
    int status = ei_decay_rate(stages, 2, &batch->arrival, &decay);
    *found = 0;
    if (status == EI_OK)
        status = ei_decay_rate(stages, 1, &batch->arrival, &queue_decay);
    if (status != EI_OK)
        return status;
    const double mean = ei_service_mean(random), latest = mean + REACH / decay,
                 end = latest + FURTHER / decay, wanted = fmin(CELL[kind] / decay, SERVICE[kind] * mean),
                 parts = ceil(time / wanted);
    if (!(parts >= 1 && parts <= MOST_CELLS) || !(end * parts / time < MOST_POINTS))
        return EI_OK;
    lattice grid = {.service = random,
                    .effort = batch->effort,
                    .rate = batch->arrival_rate,
                    .constant = time,
                    .exponent = EXPONENT * decay,
                    .step = time / parts,
                    .per_service = (size_t)parts,
                    .longest = fmax(2 * latest / (decay * time * time), LONGEST)};
    grid.ratio = exp(grid.exponent * grid.step);
    grid.top = (size_t)(end / grid.step) + 2;
    grid.rows = grid.top + grid.per_service + 2;
    target *targets = calloc(batch->count + 1, sizeof *targets);
    if (targets == NULL)
        return EI_ERR_NO_MEMORY;
    size_t count = 1;
    /* The first one decides how many jobs are followed. */
    targets[0] = (target){.cell = (size_t)(latest / grid.step), .left = 1};
    for (size_t i = 0; i < batch->count; i++) {
        const size_t at = batch->index[i];
        const double rest = (batch->deadline[at] - constant) / grid.step, cell = floor(rest);
        const double weight =
            (exp(-grid.exponent * grid.step * (rest - cell)) - 1 / grid.ratio) / (1 - 1 / grid.ratio);
        if (rest >= 0 && rest < (double)targets[0].cell)
            targets[count++] = (target){.at = at, .cell = (size_t)cell, .left = fmin(fmax(weight, 0), 1)};
    }
    if (count > 1)
        status = find_ends(batch, &grid, decay, queue_decay, latest, targets, count);
    *found = status == EI_OK && count > 1;
    for (size_t t = 1; t < count && *found; t++) {
        ei_raise_lower(batch, targets[t].at, read_target(&targets[t], EI_LOWER), EI_BRACKET_CONSTANT_FIRST);
        ei_cut_upper(batch, targets[t].at, read_target(&targets[t], EI_UPPER), EI_BRACKET_CONSTANT_FIRST);
    }
    for (size_t i = 0; i < batch->count && *found; i++)
        if ((batch->deadline[batch->index[i]] - constant) / grid.step >= (double)targets[0].cell)
            ei_cut_upper(batch, batch->index[i], read_target(&targets[0], EI_UPPER),
                         EI_BRACKET_CONSTANT_FIRST);
    free(targets);
    return ei_no_bound(status) || status == EI_ERR_TOO_LARGE ? EI_OK : status;
}
