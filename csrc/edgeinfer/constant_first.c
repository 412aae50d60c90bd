#include "edgeinfer/constant_first.h"

#include "edgeinfer/bound.h"
#include "edgeinfer/joint_laws.h"
#include "edgeinfer/line.h"
#include "edgeinfer/pair_rows.h"
#include "edgeinfer/queue.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    TYPES = EI_LINE_WIDTH, /* of busy periods */
    PARTS = 4,
    ARRIVALS = 40,  /* during a constant service, at most */
    NODES = 16,     /* of a quadrature over a cell, exact for powers up to 31 */
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
static const double ALL_ROUNDING = 1e-9;      /* of all sums of the first busy period */
static const double NEGLIGIBLE = 1e-18;       /* probability of more arrivals than are followed */

/* ---- the walk of all busy periods but the first */

typedef struct {
    double theta, drift, moment, idle; /* 1/s; D, m, L */
    double type[TYPES], after;         /* a_i, A */
} chernoff;

static int chernoff_init(const ei_line *self, const ei_joint_busy *busy, double theta, chernoff *bound) {
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
static double bound_at(const ei_line *self, const chernoff *bound, double scale, size_t n) {
    return fmin(1, scale * exp(-bound->theta * ((double)n - 1) * self->step));
}

typedef struct {
    const ei_line *grid;
    ei_end end;
    ei_joint_busy busy;
    chernoff bound;
    ei_line_table table;
    ei_line_server by;
    ei_wait_weights idle;                                              /* of an idle time, */
    double idle_bend;                                                  /* and the bend of its first cell */
    double *block, *type, *last, *next, *mixed, *mean, *kinks, *after; /* [rows][TYPES], .., [rows] */
    double apart[TYPES], last_apart[TYPES], kept_apart[TYPES], base_apart[TYPES]; /* of psi */
    double *kept, *base;
    double work, sweep_work; /* multiply-adds that are left, and of a sweep */
    double *first, *whole;   /* [rows]: B_j, with psi and without */
    ei_line_server one;      /* of B_j */
} walk;

static void walk_free(walk *self) {
    ei_line_table_free(&self->table);
    free(self->block);
    self->block = NULL;
}

static int walk_init(walk *self, const ei_line *grid, ei_end end, double decay, double longest, double work) {
    *self = (walk){.grid = grid,
                   .end = end,
                   .idle = ei_wait_weights_of(grid->rate * grid->step, grid->exponent * grid->step)};
    const double shares[] = {0.97, 0.9, 0.8}, rate = grid->rate;
    int status = ei_joint_busy_init(&self->busy, grid->rate * grid->constant, PARTS, longest, TYPES, end);
    if (status != EI_OK || (status = ei_line_table_init(&self->table, grid, end)) != EI_OK)
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
    for (size_t i = 0; i < EI_LINE_FINE; i++)
        self->idle_bend += (exp(-rate * grid->step * (double)i / EI_LINE_FINE) -
                            exp(-rate * grid->step * (double)(i + 1) / EI_LINE_FINE)) *
                           fmax(ei_line_bend_near(grid, i), ei_line_bend_near(grid, EI_LINE_FINE - 1 - i));
    const size_t wide = grid->rows * TYPES;
    self->block = calloc(10 * wide + 5 * grid->rows, sizeof(double));
    if (self->block == NULL)
        return EI_ERR_NO_MEMORY;
    self->type = self->block;
    self->last = self->type + wide;
    self->kept = self->last + wide;
    self->base = self->kept + wide;
    self->next = self->base + wide;
    self->work = work;
    self->sweep_work =
        (double)grid->top * TYPES * (self->table.decay > 0 ? 8 : 4 + 2 * (double)self->table.cells);
    self->mixed = self->next + wide;
    double *scratch = self->mixed + wide;
    self->by = (ei_line_server){
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
        self->after[n] = sum + sign * EI_LINE_ROUNDING * fabs(sum);
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
    ei_line_serve(&self->by, self->mixed, self->next, TYPES);
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
    const ei_line *grid;
    size_t levels, arrivals, cells; /* of the queue; in one service; of waits */
    double *block, *poisson, *table, *history, *share[2], *hat, *cell; /* .., [cells] reversed */
    double later, over;                                                /* jobs that are not followed */
} first_wait;

static int first_wait_init(first_wait *self, const ei_line *grid, double latest, double decay) {
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
                self->table[m * 2 * q + 2 * b] += term * (1 - ei_line_place(grid, z));
                self->table[m * 2 * q + 2 * b + 1] += term * ei_line_place(grid, z);
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
        ei_line_kinks(wait->grid->ratio, (ei_end)end, value, ends[end].by.bent, ends[end].by.other,
                      wait->grid->top + 1, 1);
        for (size_t t = 0; t < count; t++) {
            const size_t n = targets[t].cell;
            for (size_t side = 0; side < 2; side++)
                targets[t].value[end][side] +=
                    convolved(wait, wait->hat, value, n + side) - wait->share[0][n + side] * value[0];
            for (size_t k = n > 0 ? 0 : 1; k < 3; k++) {
                const size_t cell = n + k - 1;
                targets[t].off[end][k] +=
                    ei_line_most_bent(wait->grid) * convolved(wait, wait->cell, ends[end].by.bent, cell) +
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
    ei_line_serve(&self->one, self->first + q, self->mixed, 1);
    if (self->end == EI_UPPER) {
        *bound = self->bound.moment * (1 + self->bound.drift * *bound);
        for (size_t n = top + 1; n < self->grid->rows; n++)
            self->first[n] = bound_at(self->grid, &self->bound, *bound, n);
        self->mixed[top] = fmax(self->mixed[top], bound_at(self->grid, &self->bound, *bound, top));
    }
    memcpy(self->first, self->mixed, (top + 1) * sizeof *self->first);
    put_whole(self);
}

static int follow(const ei_batch *batch, const ei_line *grid, walk ends[2], target *targets, size_t count,
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
        ei_line_serve(&self->one, self->after + grid->per_service, self->mixed, 1);
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
static int find_ends(const ei_batch *batch, const ei_line *grid, double decay, double queue_decay,
                     double latest, target *targets, size_t count) {
    walk ends[2] = {{.block = NULL}, {.block = NULL}};
    const double work = WORK[batch->effort],
                 longest = fmax(2 * latest / (decay * grid->constant * grid->constant), LONGEST);
    int status = walk_init(&ends[EI_UPPER], grid, EI_UPPER, decay, longest, work);
    if (status == EI_OK && (status = solve(&ends[EI_UPPER], decay, batch->monitor)) == EI_OK)
        status = walk_init(&ends[EI_LOWER], grid, EI_LOWER, decay, longest, work);
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
    ei_line grid = {.service = random,
                    .rate = batch->arrival_rate,
                    .constant = time,
                    .exponent = EXPONENT * decay,
                    .step = time / parts,
                    .per_service = (size_t)parts};
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
