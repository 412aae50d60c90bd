#include "edgeinfer/constant_last.h"

#include "edgeinfer/bound.h"
#include "edgeinfer/line.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_CELLS = 64,     /* of the constant service */
    MOST_POINTS = 20000, /* of the lattice */
    JOBS = 60000,        /* that are followed, at most */
    EXPONENTS = 12,      /* of a bound */
    AGAIN = 16           /* jobs between looks for values that have become large enough to be kept */
};
static const double REACH = 52;           /* decay times behind the mean at which the lattice ends */
static const double EXPONENT = 0.97;      /* of the decay: x */
static const double CELL = 0.05;          /* decay times: a cell at most, */
static const double SERVICE = 0.15;       /* and mean services */
static const double SLOWER = 1.06;        /* times the constant stage: M_j outgrows the lattice beyond */
static const double WORK[] = {5e9, 8e10}; /* multiply-adds, for each effort */
static const double HOPED = 0.02;         /* and of what a deadline's decay alone would leave */
static const double LEFT = 1e-3;          /* share that jobs not followed may have */
static const double ALL_ROUNDING = 1e-9;  /* of all sums */
static const double UNDERFLOW = 1e-100;   /* more than all chances below 1e-290 */

/* E e^{theta M_j} <= value. */
typedef struct {
    double theta, moment, drift, value; /* 1/s; M, D, b_j */
} moment_bound;

static int moment_init(moment_bound *self, const ei_line *line, double theta) {
    double moment;
    const int status = ei_service_log_mgf(line->service, theta, &moment, NULL);
    if (status != EI_OK)
        return status;
    self->theta = theta;
    self->moment = self->value = exp(moment + EI_SERVICE_MGF_ERROR) * (1 + 1e-9);
    self->drift = exp(-theta * line->constant);
    return EI_OK;
}

static void moment_next(moment_bound *self) {
    self->value = self->moment * (1 + self->drift * self->value);
}

/* e^{-theta (T - d)} (L / D)^j but for T, and of what M_j has. */
typedef struct {
    double theta, lost, log_ratio, log_share; /* 1/s; L; log of L / D, and of its j-th power */
    moment_bound near, far;                   /* of theta; of theta + eta */
} tilted;

typedef struct {
    const ei_line *line;
    ei_line_table table;
    ei_line_server by;
    double *block, *value, *served, *whole; /* [rows]: f_j without psi, scratch, with psi */
} tail;

typedef struct {
    size_t at;
    double left;         /* s: T - d */
    double *last, *here; /* [top + 1]: p_{j-1}, p_j */
    double sum;
    int followed;
} target;

typedef struct {
    const ei_batch *batch;
    ei_line line;
    double rate;
    tail tails[2];
    tilted bounds[EXPONENTS];
    size_t bound_count, count;
    target *targets;
    double *block, *wide;
} state;

static int tail_init(tail *self, const ei_line *line, ei_end end) {
    const size_t rows = line->rows;
    int status = ei_line_table_init(&self->table, line, end);
    if (status != EI_OK)
        return status;
    self->line = line;
    self->block = calloc(7 * rows, sizeof(double));
    if (self->block == NULL)
        return EI_ERR_NO_MEMORY;
    self->value = self->block;
    self->served = self->value + rows;
    self->whole = self->served + rows;
    self->by = (ei_line_server){.line = line, .table = &self->table, .end = end};
    ei_line_server_use(&self->by, self->whole + rows, rows);
    return EI_OK;
}

static void tail_free(tail *self) {
    ei_line_table_free(&self->table);
    free(self->block);
}

/* At least P(M_j > time). */
static double beyond(const state *self, double time) {
    double least = 1;
    for (size_t e = 0; e < self->bound_count; e++) {
        const moment_bound *near = &self->bounds[e].near, *far = &self->bounds[e].far;
        least =
            fmin(least, fmin(near->value * exp(-near->theta * time), far->value * exp(-far->theta * time)));
    }
    return least;
}

/* f_j from f_{j-1}, which is 0 at first. */
static void next_tail(state *self, ei_end end) {
    tail *of = &self->tails[end];
    const ei_line *line = &self->line;
    const size_t top = line->top;
    ei_line_serve(&of->by, of->value + line->per_service, of->served, 1);
    memcpy(of->value, of->served, (top + 1) * sizeof *of->value);
    for (size_t n = top; n < line->rows && end == EI_UPPER; n++)
        of->value[n] = fmax(n == top ? of->value[n] : 0, beyond(self, ((double)n - 1) * line->step));
    for (size_t n = 0; n <= top; n++)
        of->whole[n] = of->value[n] + of->by.apart[0] * of->table.late[n];
}

/* p_j at z; none below 1e-290. */
static double poisson_at(const state *self, size_t job, double z) {
    const double x = self->rate * z, j = (double)job;
    if (!(z > 0))
        return 0;
    const double log_chance = j * log(x) - x - lgamma(j + 1);
    return log_chance > -667 ? exp(log_chance) : 0;
}

static double point(const state *self, const target *at, size_t job, size_t n) {
    return ((double)n + (double)(job + 1) * (double)self->line.per_service) * self->line.step - at->left -
           self->line.constant;
}

/* p_j from p_{j-1} at the same times, which are per_service points on for M_j. */
static void next_chance(const state *self, target *at, size_t job) {
    const size_t top = self->line.top, q = self->line.per_service;
    double *last = at->last, *here = at->here;
    memmove(last, here + q, (top + 1 - q) * sizeof *last);
    for (size_t n = top + 1 - q; n <= top; n++)
        last[n] = poisson_at(self, job - 1, point(self, at, job, n));
    const double first = point(self, at, job, 0), scale = self->rate / (double)job;
    for (size_t n = 0; n <= top; n++)
        here[n] = last[n] * fmax(scale * (first + (double)n * self->line.step), 0);
    for (size_t n = 0; n <= top; n++)
        if (here[n] < 1e-290)
            here[n] = job % AGAIN == 0 ? poisson_at(self, job, point(self, at, job, n)) : 0;
}

/* What E w_j(M_j) is at most where M_j > the last point. */
static double far_term(const state *self, const target *at) {
    const double end = (double)self->line.top * self->line.step;
    double least = 1;
    for (size_t e = 0; e < self->bound_count; e++) {
        const tilted *by = &self->bounds[e];
        least = fmin(least, by->far.value * exp(by->log_share - by->theta * at->left -
                                                (by->far.theta - by->theta) * end));
    }
    return least;
}

/* What all jobs behind j add at most. */
static double rest_after(const state *self, const target *at) {
    double least = INFINITY;
    for (size_t e = 0; e < self->bound_count; e++) {
        const tilted *by = &self->bounds[e];
        const double ratio = exp(by->log_ratio), again = by->near.moment * by->lost;
        if (ratio < 1 - 1e-9 && again < 1 - 1e-9)
            least = fmin(least, exp(by->log_share - by->theta * at->left) *
                                    (by->near.moment * ratio / (1 - ratio) + again * by->near.value) /
                                    (1 - again));
    }
    return least * (1 + 1e-6);
}

/* E w_j(M_j), from above. */
static double term(const state *self, const target *at) {
    const size_t top = self->line.top;
    const double h = self->line.step, rate = self->rate, x = self->line.exponent,
                 bend = h * h / 8 * exp((rate + 2 * x) * h), once = 2 * rate * rate * bend,
                 slope = x * rate * bend;
    const double *restrict high = self->tails[EI_UPPER].whole, *restrict low = self->tails[EI_LOWER].whole;
    const double *restrict last = at->last, *restrict here = at->here;
    double *restrict wide = self->wide, before = 0;
    for (size_t n = 0; n <= top; n++) {
        const size_t next = n < top ? n + 1 : n;
        const double behind = once * last[next] + slope * here[next];
        wide[n] = here[n] + (before > behind ? before : behind);
        before = behind;
    }
    double sum = wide[0];
    for (size_t n = 0; n < top; n++) {
        const double change = wide[n + 1] - wide[n];
        const double up = high[n] + high[n + 1], down = low[n] + low[n + 1];
        sum += change / 2 * (change > 0 ? up : down > 0 ? down : 0);
    }
    return sum + far_term(self, at);
}

/* Jobs that there is work for. */
static size_t most_jobs(const state *self) {
    const double each = (double)self->line.top * (4 * (double)self->tails[EI_UPPER].table.cells + 80);
    return (size_t)fmin(WORK[self->batch->effort] / each, JOBS);
}

/* Whether so many jobs are likely to leave little behind them: of e^{-decay (T - d)}, as what there is has
 * larger a factor. */
static int is_enough(const state *self, double decay, double left, size_t jobs) {
    int enough = 0;
    for (size_t e = 0; e < self->bound_count; e++) {
        const tilted *by = &self->bounds[e];
        const double again = by->near.moment * by->lost;
        enough |=
            by->log_ratio < 0 && again < 1 &&
            (double)jobs * fmax(log(again), by->log_ratio) - by->theta * left - log(1 - again) - log(HOPED) <
                -decay * left;
    }
    return enough;
}

static int follow(state *self) {
    const size_t jobs = most_jobs(self);
    int more = 1;
    for (size_t job = 0; more; job++) {
        if (job % 64 == 0 && ei_stopped(self->batch->monitor))
            return EI_ERR_INTERRUPTED;
        for (size_t e = 0; e < self->bound_count && job > 0; e++) {
            tilted *by = &self->bounds[e];
            moment_next(&by->near);
            moment_next(&by->far);
            by->log_share += by->log_ratio;
        }
        next_tail(self, EI_LOWER);
        next_tail(self, EI_UPPER);
        more = 0;
        for (size_t t = 0; t < self->count; t++) {
            target *at = &self->targets[t];
            if (!at->followed)
                continue;
            if (job == 0) {
                const size_t n = (size_t)(at->left / self->line.step);
                at->sum = self->tails[EI_UPPER].whole[n < self->line.top ? n : self->line.top];
                for (size_t i = 0; i <= self->line.top; i++)
                    at->here[i] = poisson_at(self, 0, point(self, at, 0, i));
            } else {
                next_chance(self, at, job);
                at->sum += term(self, at);
            }
            const double rest = rest_after(self, at);
            at->followed = job < jobs && !(rest <= LEFT * at->sum);
            if (!at->followed)
                at->sum = (at->sum + rest) * (1 + ALL_ROUNDING) + UNDERFLOW;
            more |= at->followed;
        }
    }
    return EI_OK;
}

/* Exponents up to where X alone stays stable, and as many further on. */
static int find_bounds(state *self, double decay) {
    static const double further[] = {0.1, 0.5, 1};
    for (int e = 1; e <= EXPONENTS; e++) {
        tilted *by = &self->bounds[self->bound_count];
        by->theta = decay * (0.4 + 0.59 * e / EXPONENTS);
        by->lost = self->rate / (self->rate + by->theta);
        by->log_ratio = log(by->lost) + by->theta * self->line.constant;
        by->log_share = 0;
        int status = moment_init(&by->near, &self->line, by->theta);
        if (status == EI_OK)
            status = moment_init(&by->far, &self->line, by->theta + decay * further[e % 3]);
        if (status == EI_OK)
            self->bound_count++;
        else if (status == EI_ERR_NO_MEMORY)
            return status;
    }
    return self->bound_count > 0 ? EI_OK : EI_ERR_UNSTABLE;
}

int ei_constant_last_upper(const ei_batch *batch, const ei_service *random, double time, double constant) {
    const ei_service stages[] = {*random, {.kind = EI_SERVICE_DETERMINISTIC, .time = time}};
    const double mean = ei_service_mean(random), rate = batch->arrival_rate;
    double decay;
    if (mean > SLOWER * time)
        return EI_OK;
    int status = ei_decay_rate(stages, 2, &batch->arrival, &decay);
    if (status != EI_OK)
        return status;
    const double parts = ceil(time / fmin(CELL / decay, SERVICE * mean)), end = mean + REACH / decay;
    if (!(parts >= 1 && parts <= MOST_CELLS) || !(end * parts / time < MOST_POINTS))
        return EI_OK;
    state self = {.batch = batch, .rate = rate};
    self.line = (ei_line){.service = random,
                          .rate = rate,
                          .constant = time,
                          .exponent = EXPONENT * decay,
                          .step = time / parts,
                          .per_service = (size_t)parts};
    self.line.ratio = exp(self.line.exponent * self.line.step);
    self.line.top = (size_t)(end / self.line.step) + 2;
    self.line.rows = self.line.top + self.line.per_service + 2;
    const size_t points = self.line.top + 1;
    self.targets = calloc(batch->count, sizeof *self.targets);
    self.block = calloc((2 * batch->count + 1) * points, sizeof *self.block);
    if (self.targets == NULL || self.block == NULL) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    self.wide = self.block + 2 * batch->count * points;
    for (size_t i = 0; i < batch->count; i++) {
        const size_t at = batch->index[i];
        const double left = batch->deadline[at] - constant;
        if (left > 0 && left < end)
            self.targets[self.count++] = (target){.at = at,
                                                  .left = left,
                                                  .last = self.block + 2 * i * points,
                                                  .here = self.block + (2 * i + 1) * points,
                                                  .followed = 1};
    }
    if (self.count > 0) {
        status = find_bounds(&self, decay);
        for (int e = 0; e < 2 && status == EI_OK; e++)
            status = tail_init(&self.tails[e], &self.line, (ei_end)e);
        size_t likely = 0;
        for (size_t t = 0; t < self.count && status == EI_OK; t++)
            if (is_enough(&self, decay, self.targets[t].left, most_jobs(&self)))
                self.targets[likely++] = self.targets[t];
        self.count = likely;
        if (status == EI_OK && likely > 0)
            status = follow(&self);
    }
    for (size_t t = 0; t < self.count && status == EI_OK; t++)
        ei_cut_upper(batch, self.targets[t].at, fmin(1, (1 - rate * mean) * self.targets[t].sum),
                     EI_BRACKET_CONSTANT_LAST);
out:
    tail_free(&self.tails[0]);
    tail_free(&self.tails[1]);
    free(self.targets);
    free(self.block);
    return ei_no_bound(status) || status == EI_ERR_TOO_LARGE ? EI_OK : status;
}
