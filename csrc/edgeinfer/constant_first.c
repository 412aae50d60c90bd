#include "edgeinfer/constant_first.h"

#include "edgeinfer/bound.h"
#include "edgeinfer/constant_walk.h"
#include "edgeinfer/pair_rows.h"
#include "edgeinfer/queue.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    ARRIVALS = 40,       /* during a constant service, at most */
    NODES = 16,          /* of a quadrature over a cell, exact for powers up to 31 */
    MOST_CELLS = 64,     /* of the constant service */
    MOST_POINTS = 20000, /* of the lattice */
    JOBS = 30000,        /* of the first busy period, at most */
    CLASSES = 2
};
static const double REACH[CLASSES] = {28, 40}; /* decay times behind the mean at which a class ends, */
static const double FURTHER = 12;              /* and after how many more its lattice does */
static const double EXPONENT = 0.97;           /* of the decay: x */
static const double CELL = 0.05;               /* decay times: a cell at most, and so many mean services: */
static const double EXPONENTIAL_CELL = 0.28, SAMPLES_CELL = 0.15, OTHER_CELL = 0.12;
static const double HEAVY = 0.92, COARSER = 1.5; /* a load from which on cells are wider with little effort */
static const double LONGEST = 60;                /* jobs of a busy period that matter, at least */
static const double LONGER = 2;                  /* and over the fall of a busy period's chance to last */
/* Multiply-adds for each effort: of one end's walk, and of the first busy period. */
static const double WALK_WORK[] = {3e9, 3e10}, FIRST_WORK[] = {1.5e10, 1e11};
static const double LEFT = 1e-3;         /* share that jobs not followed may have */
static const double ALL_ROUNDING = 1e-9; /* of all sums of the first busy period */
static const double NEGLIGIBLE = 1e-18;  /* probability of more arrivals than are followed */

typedef struct {
    size_t at, cell;
    double left; /* the polygon's weight of the point before */
    double value[2][2],
        off[2][3];      /* by end: at both points; what is between points, from the cell before on */
    int followed, late; /* whether more jobs are to be; and whether it stands for later deadlines */
} target;

typedef struct {
    const ei_line *grid;
    size_t levels, arrivals, services;  /* of the queue; in one service; of waits */
    double *block, *poisson, *queue[2]; /* p_k, p_{k-1} */
    double *table, *skew;               /* [arrivals][2 per_service]; p_k(l) at k + l and l */
    double *share, *hat, *cell;         /* [2 per_service][services]; [cells + 1], reversed */
    double later, over;                 /* jobs that are not followed */
} first_wait;

static int first_wait_init(first_wait *self, const ei_line *grid, double latest, double decay) {
    const double load = grid->rate * grid->constant;
    const size_t q = grid->per_service;
    double chance = load, node[NODES], weight[NODES];
    *self = (first_wait){.grid = grid};
    for (self->arrivals = 1; chance > NEGLIGIBLE && self->arrivals < ARRIVALS; self->arrivals++)
        chance *= load / (double)(self->arrivals + 1);
    self->services = (size_t)(latest / grid->constant) + 2;
    self->levels = self->services + (size_t)(FURTHER / (decay * grid->constant)) + 2;
    const size_t rows = self->levels + 1, cells = self->services * q,
                 size = ARRIVALS + (2 + rows) * rows + 2 * q * (self->arrivals + self->services) +
                        2 * (cells + 1);
    if ((self->block = calloc(size, sizeof(double))) == NULL)
        return EI_ERR_NO_MEMORY;
    self->poisson = self->block;
    self->queue[0] = self->poisson + ARRIVALS;
    self->queue[1] = self->queue[0] + rows;
    self->skew = self->queue[1] + rows;
    self->table = self->skew + rows * rows;
    self->share = self->table + 2 * q * self->arrivals;
    self->hat = self->share + 2 * q * self->services;
    self->cell = self->hat + cells + 1;
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
    self->queue[0][1] = self->skew[rows + 1] = 1;
    return EI_OK;
}

/* p_k, k = job, from p_{k-1}, and what is left of it beyond. */
static void next_queue(first_wait *self, size_t job) {
    const size_t rows = self->levels + 1;
    const double *from = self->queue[(job + 1) % 2];
    double *to = self->queue[job % 2];
    memset(to, 0, rows * sizeof *to);
    for (size_t a = 0; a < ARRIVALS && a < rows; a++)
        ei_add_products(to + a, from + 1, self->poisson[a], rows - (a > 0 ? a : 1));
    for (size_t l = rows > ARRIVALS ? rows - ARRIVALS : 1; l < rows; l++)
        for (size_t a = rows - l + 1; a < ARRIVALS; a++)
            self->over += from[l] * self->poisson[a] * (double)(l - 1 + a);
    to[0] = 0;
    self->later = 0;
    for (size_t l = 1; l < rows; l++) {
        to[l] = to[l] < 1e-290 ? 0 : to[l];
        self->skew[(job + l) % rows * rows + l] = to[l];
        self->later += to[l] * (double)l;
    }
}

/* The wait of job `job`: hat and cell, reversed. */
static void find_wait(first_wait *self, size_t job) {
    const size_t q = self->grid->per_service, rows = self->levels + 1, count = self->services,
                 cells = count * q;
    memset(self->share, 0, 2 * q * count * sizeof *self->share);
    for (size_t m = 0; m < self->arrivals && m < job && m < count; m++)
        for (size_t b = 0; b < 2 * q; b++)
            ei_add_products(self->share + b * count + m, self->skew + (job - m) % rows * rows + 1,
                            self->table[m * 2 * q + b], count - m);
    for (size_t b = 0; b < q; b++) {
        const double *here = self->share + 2 * b * count, *next = here + count,
                     *before = self->share + (2 * (b > 0 ? b : q) - 1) * count;
        for (size_t i = 0; i < count; i++) {
            const double last = b > 0 ? before[i] : i > 0 ? before[i - 1] : 0;
            self->hat[cells - i * q - b] = here[i] + last;
            self->cell[cells - i * q - b] = here[i] + next[i];
        }
    }
    self->hat[0] = self->share[2 * q * count - 1];
    self->cell[0] = 0;
}

/* What comes from the cell behind a point. */
static double share_at(const first_wait *self, size_t n) {
    const size_t q = self->grid->per_service, i = n / q;
    return i < self->services ? self->share[2 * (n % q) * self->services + i] : 0;
}

/* B_j of one end. */
typedef struct {
    const ei_constant_walk *walk;
    ei_line_server by;
    double bound, *block, *value, *served, *whole; /* b_j; [rows]: B_j without psi, scratch, with psi */
} followed;

static void put_whole(followed *self) {
    for (size_t n = 0; n <= self->walk->grid->top; n++)
        self->whole[n] = self->value[n] + self->by.apart[0] * self->walk->table.late[n];
}

/* What a service makes of `from`, with the bound beyond. */
static void serve_job(followed *self, const double *from) {
    const ei_constant_walk *walk = self->walk;
    const size_t top = walk->grid->top;
    ei_line_serve(&self->by, from, self->served, 1);
    memcpy(self->value, self->served, (top + 1) * sizeof *self->value);
    for (size_t n = top; n < walk->grid->rows && walk->end == EI_UPPER; n++)
        self->value[n] = fmax(n == top ? self->value[n] : 0, ei_constant_bound_at(walk, self->bound, n));
    put_whole(self);
}

/* B_0. */
static int followed_init(followed *self, const ei_constant_walk *walk) {
    const size_t rows = walk->grid->rows;
    *self = (followed){.walk = walk, .by = walk->by};
    self->block = calloc(7 * rows, sizeof(double));
    if (self->block == NULL)
        return EI_ERR_NO_MEMORY;
    self->value = self->block;
    self->served = self->value + rows;
    self->whole = self->served + rows;
    ei_line_server_use(&self->by, self->whole + rows, rows);
    self->by.apart[0] = 0;
    self->bound = walk->bound.moment * (1 + walk->bound.after);
    serve_job(self, walk->after + walk->grid->per_service);
    return EI_OK;
}

/* B_j from B_{j-1}. */
static void next_job(followed *self) {
    const ei_constant_walk *walk = self->walk;
    self->bound = walk->bound.moment * (1 + walk->bound.drift * self->bound);
    serve_job(self, self->value + walk->grid->per_service);
}

/* sum over k <= n of weights k and values n - k. */
static double convolved(const first_wait *self, const double *reversed, const double *value, size_t n) {
    return ei_dot(value, reversed + self->services * self->grid->per_service - n, n + 1);
}

static void add_job(const first_wait *wait, followed ends[2], target *targets, size_t count) {
    const size_t cells = wait->services * wait->grid->per_service;
    for (int end = 0; end < 2; end++) {
        const double *value = ends[end].whole;
        ei_line_server *by = &ends[end].by;
        ei_line_kinks(wait->grid->ratio, (ei_end)end, value, by->bent, by->other, wait->grid->top + 1);
        for (size_t t = 0; t < count; t++) {
            const size_t n = targets[t].cell;
            if (!targets[t].followed)
                continue;
            for (size_t side = 0; side < 2; side++)
                targets[t].value[end][side] +=
                    convolved(wait, wait->hat, value, n + side) - share_at(wait, n + side) * value[0];
            for (size_t k = n > 0 ? 0 : 1; k < 3; k++) {
                const size_t cell = n + k - 1;
                targets[t].off[end][k] +=
                    ei_line_most_bent(wait->grid) * convolved(wait, wait->cell, by->bent, cell) +
                    fmax(1 - value[0], 0) * wait->cell[cells - cell];
            }
        }
    }
}

static int follow(const ei_batch *batch, const ei_line *grid, const ei_constant_walk walks[2],
                  target *targets, size_t count, double latest, double queue_decay) {
    first_wait wait;
    followed ends[2] = {{.block = NULL}, {.block = NULL}};
    ei_md1 queue = {.tail = NULL};
    const double load = grid->rate * grid->constant;
    int more = 1, status = first_wait_init(&wait, grid, latest, queue_decay);
    if (status == EI_OK)
        status = ei_md1_init(&queue, grid->rate, grid->constant, latest + 2 * grid->step);
    for (size_t end = 0; end < 2 && status == EI_OK; end++) {
        status = followed_init(&ends[end], &walks[end]);
        for (size_t t = 0; t < count && status == EI_OK; t++)
            for (size_t side = 0; side < 2; side++) {
                const size_t n = targets[t].cell + side;
                targets[t].value[end][side] =
                    (1 - load) * ends[end].whole[n] + ei_md1_waiting_sf(&queue, (double)n * grid->step) *
                                                          (end == EI_UPPER ? 1 + 1e-11 : 1 - 1e-11);
            }
    }
    for (size_t job = 1; more && status == EI_OK; job++) {
        next_queue(&wait, job);
        find_wait(&wait, job);
        next_job(&ends[EI_LOWER]);
        next_job(&ends[EI_UPPER]);
        add_job(&wait, ends, targets, count);
        more = 0;
        for (size_t t = 0; t < count; t++) {
            target *self = &targets[t];
            if (!self->followed)
                continue;
            if (job == JOBS || wait.later <= LEFT * self->value[EI_UPPER][1]) {
                self->followed = 0;
                for (size_t k = 0; k < 3; k++)
                    self->off[EI_UPPER][k] += wait.later + wait.over + 3 * NEGLIGIBLE;
            }
            more |= self->followed;
        }
        if (job % 64 == 0 && ei_stopped(batch->monitor))
            status = EI_ERR_INTERRUPTED;
    }
    free(wait.block);
    free(ends[EI_LOWER].block);
    free(ends[EI_UPPER].block);
    ei_md1_free(&queue);
    return status;
}

typedef struct {
    const ei_batch *batch;
    const ei_service *random;
    double time, constant, decay, queue_decay; /* s, s; 1/s: of both stages, and of the first alone */
    int ends;                                  /* which are asked for */
} chain;

/* Multiply-adds of the first busy period: the chance of more than n jobs falls as e^{-n (load - 1 - log
 * load)}. */
static double first_work(const ei_line *grid, size_t cells, double decays) {
    const double load = grid->rate * grid->constant, jobs = (decays - log(LEFT)) / (load - 1 - log(load));
    return fmin(jobs, JOBS) * (double)grid->top * (4 * (double)cells + 80);
}

/* Jobs of a busy period that matter: under the exponent of the decay the chance of more than n still falls as
 * e^{-n fall}; and the time that is left bounds what they add. */
static int find_longest(const ei_line *grid, double latest, double decay, double *longest) {
    const double load = grid->rate * grid->constant;
    double moment;
    const int status = ei_service_log_mgf(grid->service, grid->exponent, &moment, NULL);
    if (status != EI_OK)
        return status;
    const double fall = load - 1 - log(load) - (moment - grid->exponent * grid->constant);
    *longest = fmax(latest / (2 * decay * grid->constant * grid->constant), LONGEST);
    if (fall > 0)
        *longest = fmax(fmin(*longest, LONGER / fall), LONGEST);
    return EI_OK;
}

/* Both ends at the targets' points. The lower walk begins with the upper one's values. */
static int find_ends(const ei_batch *batch, const ei_line *grid, const chain *self, double latest,
                     target *targets, size_t count) {
    ei_constant_walk walks[2] = {{.block = NULL}, {.block = NULL}};
    const double work = WALK_WORK[batch->effort], decay = self->decay;
    double longest;
    int status = find_longest(grid, latest, decay, &longest);
    if (status == EI_OK)
        status = ei_constant_walk_init(&walks[EI_UPPER], grid, EI_UPPER, decay, longest);
    if (status == EI_OK &&
        first_work(grid, walks[EI_UPPER].table.cells, latest * decay) > FIRST_WORK[batch->effort])
        status = EI_ERR_TOO_LARGE;
    if (status == EI_OK)
        status = ei_constant_walk_solve(&walks[EI_UPPER], work, batch->monitor);
    if (status == EI_OK)
        status = ei_constant_walk_init(&walks[EI_LOWER], grid, EI_LOWER, decay, longest);
    if (status == EI_OK) {
        memcpy(walks[EI_LOWER].type, walks[EI_UPPER].type, grid->top * EI_CONSTANT_TYPES * sizeof(double));
        memcpy(walks[EI_LOWER].apart, walks[EI_UPPER].apart, EI_CONSTANT_TYPES * sizeof(double));
        status = ei_constant_walk_solve(&walks[EI_LOWER], work, batch->monitor);
    }
    if (status == EI_OK)
        status = follow(batch, grid, walks, targets, count, latest, self->queue_decay);
    ei_constant_walk_free(&walks[0]);
    ei_constant_walk_free(&walks[1]);
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

/* The deadlines of one class. *asked, *found: whether there are any, and ends for them. */
static int class_ends(const chain *self, size_t class, int *asked, int *found) {
    const ei_batch *batch = self->batch;
    const double services = self->random->kind == EI_SERVICE_EXPONENTIAL ? EXPONENTIAL_CELL
                            : self->random->kind == EI_SERVICE_SAMPLES   ? SAMPLES_CELL
                                                                         : OTHER_CELL;
    const double mean = ei_service_mean(self->random), load = batch->arrival_rate * fmax(mean, self->time),
                 wider = load > HEAVY && batch->effort == EI_EFFORT_FAST ? COARSER : 1,
                 latest = mean + REACH[class] / self->decay,
                 nearest = class > 0 ? mean + REACH[class - 1] / self->decay : 0,
                 end = latest + FURTHER / self->decay,
                 wanted = fmin(CELL / self->decay, services * wider * mean),
                 parts = ceil(self->time / wanted);
    *asked = 1;
    *found = 0;
    if (!(parts >= 1 && parts <= MOST_CELLS) || !(end * parts / self->time < MOST_POINTS))
        return EI_OK;
    ei_line grid = {.service = self->random,
                    .rate = batch->arrival_rate,
                    .constant = self->time,
                    .exponent = EXPONENT * self->decay,
                    .step = self->time / parts,
                    .per_service = (size_t)parts};
    grid.ratio = exp(grid.exponent * grid.step);
    grid.top = (size_t)(end / grid.step) + 2;
    grid.rows = grid.top + grid.per_service + 2;
    target *targets = calloc(batch->count + 1, sizeof *targets);
    if (targets == NULL)
        return EI_ERR_NO_MEMORY;
    size_t count = 1;
    /* The first one stands for all that are later. */
    targets[0] = (target){.cell = (size_t)(latest / grid.step), .left = 1};
    for (size_t i = 0; i < batch->count; i++) {
        const size_t at = batch->index[i];
        const double left = batch->deadline[at] - self->constant, rest = left / grid.step, cell = floor(rest);
        const double weight =
            (exp(-grid.exponent * grid.step * (rest - cell)) - 1 / grid.ratio) / (1 - 1 / grid.ratio);
        if (left < nearest)
            continue;
        if (left < latest)
            targets[count++] =
                (target){.at = at, .cell = (size_t)cell, .left = fmin(fmax(weight, 0), 1), .followed = 1};
        else if (class + 1 == CLASSES)
            targets[0].followed = targets[0].late = 1;
    }
    *asked = count > 1;
    const int status = *asked ? find_ends(batch, &grid, self, latest, targets, count) : EI_OK;
    *found = *asked && status == EI_OK;
    const int method = self->ends == (EI_CONSTANT_LOWER | EI_CONSTANT_UPPER) ? EI_BRACKET_CONSTANT_FIRST
                                                                             : EI_BRACKET_CONSTANT_LAST;
    const int upper = self->ends & EI_CONSTANT_UPPER;
    for (size_t t = 1; t < count && *found; t++) {
        if (self->ends & EI_CONSTANT_LOWER)
            ei_raise_lower(batch, targets[t].at, read_target(&targets[t], EI_LOWER), method);
        if (upper)
            ei_cut_upper(batch, targets[t].at, read_target(&targets[t], EI_UPPER), method);
    }
    for (size_t i = 0; i < batch->count && *found && targets[0].late && upper; i++)
        if (batch->deadline[batch->index[i]] - self->constant >= latest)
            ei_cut_upper(batch, batch->index[i], read_target(&targets[0], EI_UPPER), method);
    free(targets);
    return ei_no_bound(status) || status == EI_ERR_TOO_LARGE ? EI_OK : status;
}

int ei_constant_first_ends(const ei_batch *batch, const ei_service *random, double time, double constant,
                           int ends, int *found) {
    const ei_service stages[] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = time}, *random};
    chain self = {.batch = batch, .random = random, .time = time, .constant = constant, .ends = ends};
    *found = 0;
    int status = ei_decay_rate(stages, 2, &batch->arrival, &self.decay);
    if (status == EI_OK)
        status = ei_decay_rate(stages, 1, &batch->arrival, &self.queue_decay);
    int all = 1;
    for (size_t class = 0; class < CLASSES && status == EI_OK; class++) {
        int asked, made;
        status = class_ends(&self, class, &asked, &made);
        *found |= made;
        all &= made || !asked;
    }
    *found &= all;
    return status;
}
