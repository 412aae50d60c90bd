#include "edgeinfer/pair_upper.h"

#include "edgeinfer/lindley.h"
#include "edgeinfer/multiversion.h"
#include "edgeinfer/pair_rows.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FINE = 128, /* atoms of a law on a step */
    FINER = 16, /* points of the answer on a step */
    EXPONENTS = 8,
    ALONE = 2000, /* sweeps over one stage */
    SWEEPS = 1000,
    MORE_SWEEPS = 4000, /* behind other arrivals */
    FARTHER = 2         /* times the points of the plane on a line */
};
static const double GUARD = 1e-11; /* relative rounding error of a step, at most */
static const double KINK = 0.25;   /* z (1 - z), at most */
static const double LEAST = 0.03;  /* exponent of a step */
static const double ALIGNED = 4;   /* steps: a constant service that is put on the lattice */
static const double ROOM = 8;      /* decay times beyond the horizon that the plane reaches */
static const double LEADS = 6;     /* and by which one stage may lead */
static const double IN_SERVICE =
    2; /* services by which it may lead behind other arrivals than Poisson ones */
static const double SETTLED = 3e-4;  /* relative change of a sweep at which they end */
static const double NOTHING = 1e-22; /* probabilities below are not looked at then */
static const double HAIR = 1e-9;     /* of a step, as in walk.h */

/* A law's atoms at (c + z) steps, count <= length. */
typedef struct {
    double *share; /* [count]: both parts */
    double *bend;  /* [count] */
    double *tail;  /* [length + 2]: of the shares from there on, and what is beyond */
    double *over;  /* [length]: P(service > q), bounded between the points, too */
    ptrdiff_t count;
} atoms;

/* e^{-theta q} times these bounds the walk in a and v; g; and what a service multiplies them by. */
typedef struct {
    double theta, alone, a, fresh, bottleneck;
} exponent;

/* A function of (q, d): row k holds d = k steps, k = -2 .. rows; the last row is for all that is beyond. */
typedef struct {
    const ei_pair_walk *given;
    ptrdiff_t points, wanted, rows, far, length; /* of the plane; of a line; of its arrays */
    double step, exponent, ratio;                /* s; of a step; e^exponent */
    ei_wait_weights wait;
    ptrdiff_t interval; /* of periodic arrivals, in steps, else 0 */
    ei_wait_law time;   /* of other renewal arrivals than Poisson and periodic ones */
    size_t exponents;
    exponent at[EXPONENTS];
    atoms first, between, second, ahead;
    double *block;
    double *f, *v, *w, *bend, *more;            /* [rows + 3][points] */
    double *fresh, *last, *spare, *sums, *kink; /* [length] */
    double *alone, *served;                     /* [length]: w <= alone(q) + served(y) */
    double *alone_waits, *served_waits;         /* [length]: the same at q + t, y + t */
    double *longer, *beside, *bent;             /* [length]: a row, and what follows on the lines */
} walk;

static double *row(const walk *self, double *function, ptrdiff_t k) {
    return function + ((k < self->rows ? k : self->rows) + 2) * self->points;
}

/* ---- laws */

static void atoms_free(atoms *self) {
    free(self->share);
    self->share = NULL;
}

static void put(const walk *self, atoms *to, double time, double mass, double *beyond) {
    const double cell = floor(time), part = time - cell;
    if (!(cell < (double)to->count - 1)) {
        *beyond += mass;
        return;
    }
    const size_t c = (size_t)cell;
    const double whole = expm1(self->exponent), begun = expm1(self->exponent * part);
    to->share[c] += mass * (whole - begun) / whole;
    to->share[c + 1] += mass * begun / whole;
    to->bend[c] += mass * begun * (whole - begun) / ((1 + begun) * whole * whole);
}

/* A survival function given at fine points, from each of which on it is no larger, bounded by chords. */
static void find_chords(const walk *self, const double *sf, ptrdiff_t count, double *to) {
    const double r = 1 / self->ratio;
    to[0] = sf[0];
    for (ptrdiff_t i = 0; i + 1 < count; i++) {
        const double *cell = sf + i * FINE, left = to[i], right = cell[FINE];
        double alike = 0, later = right;
        for (int j = 0; j < FINE; j++) {
            const double weight = (exp(-self->exponent * (double)(j + 1) / FINE) - r) / (1 - r);
            alike = fmax(alike, cell[j] - right - weight * (left - right));
            later = fmax(later, (cell[j] - left * weight) / (1 - weight));
        }
        if (later - right < 2 * alike) {
            to[i + 1] = later;
        } else {
            to[i] += alike;
            to[i + 1] = right + alike;
        }
    }
}

/* Of a stage, or of a law that is known. */
static int atoms_init(atoms *self, const walk *of, const ei_added_stage *stage, const ei_upper_law *known) {
    const double step = of->step;
    const size_t length = (size_t)of->length, fine = (length + 1) * FINE + 1;
    const double exact = known == NULL && stage->law == NULL ? stage->again / step : 0;
    double reach = exact, beyond = 0, *sf = calloc(fine, sizeof *sf);
    ei_lattice law = {.sf = NULL};
    int status = EI_OK;
    *self = (atoms){.share = NULL};
    if (sf == NULL)
        return EI_ERR_NO_MEMORY;
    if (known != NULL && known->lattice.sf != NULL)
        reach = (double)known->lattice.count * known->lattice.step / step;
    else if (known == NULL && stage->law != NULL)
        reach = fmax(fmax(ei_service_reach(stage->law), stage->floor) - stage->less, 0) / step;
    const size_t count = (size_t)fmin(ceil(reach) + 3, (double)length), last = (count - 1) * FINE;
    if (known == NULL && stage->law != NULL)
        status = ei_lattice_service_from(&law, stage->law, stage->floor, stage->less, step / FINE, last + 1,
                                         EI_UPPER);
    for (size_t j = 0; j < fine && status == EI_OK; j++)
        sf[j] = law.sf != NULL                               ? law.sf[j < last ? j : last]
                : exact > 0                                  ? (double)j < exact * FINE * (1 - 1e-15)
                : known != NULL && known->lattice.sf != NULL ? ei_upper_law_sf(known, (double)j * step / FINE)
                                                             : 0;
    ei_lattice_free(&law);
    if (status == EI_OK)
        self->share = calloc(2 * count + 2 * length + 2, sizeof(double));
    if (self->share == NULL) {
        free(sf);
        return status != EI_OK ? status : EI_ERR_NO_MEMORY;
    }
    self->count = (ptrdiff_t)count;
    self->bend = self->share + count;
    self->tail = self->bend + count;
    self->over = self->tail + length + 2;
    if (exact > 0)
        put(of, self, exact, 1, &beyond);
    for (size_t j = 0; j <= last && !(exact > 0); j++) {
        const double mass = (j == 0 ? 1 : sf[j - 1]) - sf[j];
        if (mass > 0)
            put(of, self, (double)j / FINE, mass, &beyond);
    }
    if (!(exact > 0))
        beyond += sf[last];
    for (size_t j = length + 2; j-- > 0;)
        self->tail[j] = (j + 1 < length + 2 ? self->tail[j + 1] : beyond) + (j < count ? self->share[j] : 0);
    find_chords(of, sf, of->length, self->over);
    free(sf);
    return EI_OK;
}

/* ---- Chernoff's bound */

static int moments_at(const walk *self, double theta, exponent *at, int *valid) {
    const ei_pair_walk *given = self->given;
    const ei_upper_law *known[] = {given->between, given->ahead};
    double before, bottleneck, moment[2];
    *valid = 0;
    for (size_t k = 0; k < 2; k++) {
        if (known[k]->lattice.sf != NULL && !(theta < known[k]->decay * (1 - 1e-6)))
            return EI_OK;
        moment[k] = known[k]->lattice.sf == NULL
                        ? 1
                        : exp(ei_upper_law_log_moment(known[k], theta) + EI_SERVICE_MGF_ERROR +
                              2 * HAIR * theta * known[k]->lattice.step);
    }
    int status = ei_added_stage_log_moment(&given->before, theta, &before);
    if (status == EI_OK)
        status = ei_added_stage_log_moment(&given->bottleneck, theta, &bottleneck);
    if (status != EI_OK)
        return status;
    double slope;
    const double interval = exp(-ei_arrival_exponent(given->arrival, theta, &slope) * (1 - 1e-12));
    before = exp(before + EI_SERVICE_MGF_ERROR);
    bottleneck = exp(bottleneck + EI_SERVICE_MGF_ERROR);
    if (!(interval * before < 1 - 1e-6) || !(interval * bottleneck < 1 - 1e-6))
        return EI_OK;
    *at = (exponent){.theta = theta, .alone = moment[1] / (1 - interval * before), .bottleneck = bottleneck};
    at->a = before * at->alone;
    at->fresh = at->a * moment[0] / (1 - interval * bottleneck);
    *valid = isfinite(at->fresh);
    return EI_OK;
}

static int choose_exponents(walk *self) {
    static const double shares[EXPONENTS] = {0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 0.99};
    double low = 0, high = self->given->decay;
    int status, valid, closed = 0;
    exponent at;
    for (int i = 0; i < 14; i++) {
        const double middle = closed ? low + (high - low) / 2 : high;
        if ((status = moments_at(self, middle, &at, &valid)) != EI_OK)
            return status;
        if (valid)
            low = middle;
        if (valid && !closed && i < 3)
            high *= 1.5;
        else
            closed = 1;
        if (!valid)
            high = middle;
    }
    for (size_t e = 0; e < EXPONENTS; e++) {
        if ((status = moments_at(self, shares[e] * low, &self->at[self->exponents], &valid)) != EI_OK)
            return status;
        self->exponents += (size_t)valid;
    }
    return self->exponents > 0 ? EI_OK : EI_ERR_UNSTABLE;
}

/* Of the walk in a or of g, before the service or with it. */
typedef enum { ALONE_AFTER, ALONE_BEFORE, FRESH, FRESH_BEFORE } bounded;

static double bound(const walk *self, bounded what, double place) {
    double least = what == ALONE_BEFORE || what == FRESH_BEFORE ? INFINITY : 1;
    for (size_t e = 0; e < self->exponents; e++) {
        const exponent *at = &self->at[e];
        const double value = what == ALONE_AFTER    ? at->alone
                             : what == ALONE_BEFORE ? at->a
                             : what == FRESH        ? at->fresh
                                                    : at->fresh * at->bottleneck;
        least = fmin(least, value * exp(-at->theta * place * self->step));
    }
    return least * (1 + GUARD);
}

/* ---- rows */

EI_MULTIVERSION
static void put_on(double *restrict value, const double *restrict bend, const double *restrict other,
                   size_t count) {
    for (size_t i = 0; i < count; i++) {
        double more = bend[i] > other[i] ? bend[i] : other[i];
        value[i] = (value[i] + more) * (1 + GUARD);
    }
}

/* A service longer than q: from a function that is `edge` at q = 0 and this y; and what is given. */
EI_MULTIVERSION
static void pass_zero(double *restrict to, const double *restrict over, const double *restrict tail,
                      const double *restrict edge, const double *restrict given, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const double jump = 1 - edge[i];
        to[i] = over[i] * (jump > 0 ? jump : 0) + tail[i] * edge[i] + given[i];
    }
}

/* Along q, for one row of its own or beside others, the same before the first point; none at the last. */
static void find_bend_along(const walk *self, double *to, const double *before, const double *here,
                            const double *after, ptrdiff_t count) {
    to[0] = fmax(self->ratio * (here[0] - after[1]), 0);
    ei_find_bend(to + 1, before, here + 1, after + 2, self->ratio, (size_t)(count - 2), EI_UPPER);
    to[count - 1] = 0;
}

/* The last row stands for all beyond, where a function is no larger than in the cells before. */
static void flatten(const walk *self, double *function) {
    ei_raise_row(row(self, function, self->rows), row(self, function, self->rows - 1), (size_t)self->points);
}

/* ---- one stage alone */

/* to(q) = E from(q - service). */
static void serve_line(const walk *self, const atoms *law, const double *from, double *to, ptrdiff_t count) {
    double *bend = self->kink, *more = self->sums;
    const double jump = fmax(1 - from[0], 0);
    find_bend_along(self, bend, from, from, from, count);
    memset(more, 0, (size_t)(count + 1) * sizeof *more);
    for (ptrdiff_t i = 0; i < count; i++)
        to[i] = law->over[i] * jump + law->tail[i + 1] * from[0];
    for (ptrdiff_t c = 0; c < law->count; c++) {
        ei_add_shifted(to, from, law->share[c], c, count, count);
        ei_add_shifted(more + 1, bend, law->bend[c], c, count, count);
    }
    put_on(to, more + 1, more, (size_t)count);
}

/* The next for times that are neither exponential nor constant. */
static void wait_line_longer(const walk *self, const double *from, double beyond, double *to) {
    const ptrdiff_t far = self->far, count = self->time.count;
    double *bend = self->kink, *more = self->sums, rest = 0;
    find_bend_along(self, bend, from, from, from, far);
    bend[far - 1] = fmax((1 + self->ratio) * fmax(from[far - 1], beyond) - from[far - 2], 0);
    for (ptrdiff_t i = 0; i + 1 < far; i++)
        bend[i] = fmax(bend[i], bend[i + 1]);
    memset(to, 0, (size_t)far * sizeof *to);
    memset(more, 0, (size_t)far * sizeof *more);
    for (ptrdiff_t c = count; c-- > 0;) {
        rest += self->time.line[c];
        if (c > 0 && far >= c)
            to[far - c] = rest * beyond;
    }
    for (ptrdiff_t c = 0; c < count; c++) {
        ei_add_shifted(to, from, self->time.line[c], -c, far, far);
        ei_add_shifted(more, bend, ei_most_bend(self->ratio) * self->time.chance[c], -c, far, far);
    }
    put_on(to, more, more, (size_t)far);
}

/* to(q) = E from(q + t); beyond the line no more than `beyond`, at its first point there too. */
static void wait_line(const walk *self, const double *from, double beyond, double *to) {
    if (self->time.count > 0) {
        wait_line_longer(self, from, beyond, to);
        return;
    }
    if (self->interval > 0) {
        for (ptrdiff_t i = 0; i < self->far; i++)
            to[i] = i + self->interval < self->far ? from[i + self->interval] : beyond;
        return;
    }
    const double most = ei_most_bend(self->ratio) * (self->wait.near + self->wait.far);
    double *bend = self->kink, sum = beyond, more = 0, after = beyond;
    find_bend_along(self, bend, from, from, from, self->far);
    bend[self->far - 1] = fmax((1 + self->ratio) * from[self->far - 1] - from[self->far - 2], 0);
    double bend_after = fmax((1 + self->ratio) * beyond, 0);
    for (ptrdiff_t i = self->far; i-- > 0;) {
        sum = self->wait.near * from[i] + self->wait.far * after + self->wait.kept * sum;
        more = most * fmax(bend[i], bend_after) + self->wait.kept * more;
        after = from[i];
        bend_after = bend[i];
        to[i] = (sum + more) * (1 + GUARD);
    }
}

/* c + (1 - c) m. */
static double ended(double late, double value) {
    return value < 1 ? late + (1 - late) * value : value;
}

/* The same for a row, with what c falls by in the cell before a point, bounded by its chords: kept, m before;
 * next and earlier, of the points behind and before at the same y. */
EI_MULTIVERSION
static void end_row(double *restrict to, const double *restrict kept, const double *restrict next,
                    const double *restrict earlier, const double *restrict late, const double *restrict fall,
                    size_t count) {
    for (size_t i = 0; i < count; i++) {
        const double drop = kept[i] - next[i], rise = earlier[i] - kept[i];
        const double here = fall[i + 1] * (drop > 0 ? drop : 0), before = fall[i] * (rise > 0 ? rise : 0);
        const double value = kept[i] < 1 ? late[i] + (1 - late[i]) * kept[i] : kept[i];
        to[i] = (value + KINK * (here > before ? here : before)) * (1 + GUARD);
    }
}

/* The same, bounded by its chords. */
static void end_line(const walk *self, const double *late, double *value) {
    double last = 0;
    for (ptrdiff_t i = 0; i < self->far; i++) {
        const double fall = i + 1 < self->far ? fmax(value[i] - value[i + 1], 0) : value[i],
                     drop = i + 1 < self->far ? fmax(late[i] - late[i + 1], 0) : late[i],
                     kink = KINK * fall * drop;
        value[i] = (ended(late[i], value[i]) + fmax(kink, last)) * (1 + GUARD);
        last = kink;
    }
}

/* What else is known of such a walk: *law, the sojourn time in the stage behind `before`. */
static int find_known(const walk *self, const ei_added_stage *stage, const ei_upper_law *before,
                      ei_upper_law *law) {
    const int status = self->given->arrival->kind == EI_ARRIVAL_POISSON || stage->law == NULL
                           ? EI_ERR_ACCURACY
                           : ei_add_stage_lindley(law, before, stage, self->given->arrival, self->step,
                                                  (size_t)self->far + 1, self->given->monitor);
    law->shift -= stage->less;
    return ei_no_bound(status) ? EI_OK : status;
}

/* A walk in one stage that may end with `late`: value, before its service (*served), and that at + t. */
static int follow_line(const walk *self, const atoms *law, const double *late, bounded what,
                       const ei_upper_law *known, double *value, double *served, double *waits) {
    const double beyond = bound(self, what == FRESH ? FRESH_BEFORE : ALONE_BEFORE, (double)self->far);
    for (ptrdiff_t i = 0; i < self->far; i++)
        value[i] = bound(self, what, (double)(i - 1));
    for (ptrdiff_t i = 0; i < self->far && known->lattice.sf != NULL; i++)
        value[i] = fmin(value[i],
                        ended(late[i], ei_upper_law_sf(known, (double)(i - 1) * self->step - known->shift)));
    /* Where a line does not settle, the plane would not. */
    double change = INFINITY;
    for (int sweep = 0; sweep < ALONE && !(change < SETTLED); sweep++) {
        serve_line(self, law, value, served, self->far);
        wait_line(self, served, beyond, waits);
        memcpy(self->spare, waits, (size_t)self->far * sizeof *waits);
        end_line(self, late, self->spare);
        change = ei_relative_change(value, self->spare, self->wanted, NOTHING);
        memcpy(value, self->spare, (size_t)self->far * sizeof *value);
        if (ei_stopped(self->given->monitor))
            return EI_ERR_INTERRUPTED;
    }
    if (!(change < SETTLED))
        return EI_ERR_ACCURACY;
    serve_line(self, law, value, served, self->far);
    wait_line(self, served, beyond, waits);
    return EI_OK;
}

/* Where the sweeps begin: f <= alone(q) + what comes of y. */
static int begin(walk *self) {
    const ptrdiff_t points = self->points, rows = self->rows;
    double *value = self->fresh, *late = self->last;
    ei_upper_law known = {.decay = 0}, last = {.decay = 0};
    int status = find_known(self, &self->given->before, self->given->ahead, &known);
    if (status == EI_OK)
        status = follow_line(self, &self->first, self->ahead.over, ALONE_AFTER, &known, value, self->alone,
                             self->alone_waits);
    if (status == EI_OK && known.lattice.sf != NULL && self->given->between->lattice.sf == NULL)
        status = find_known(self, &self->given->bottleneck, &known, &last);
    if (status != EI_OK)
        goto out;
    for (ptrdiff_t k = -1; k <= rows; k++)
        memcpy(row(self, self->f, k), value, (size_t)points * sizeof *value);
    serve_line(self, &self->between, self->alone, late, self->far);
    status = follow_line(self, &self->second, late, FRESH, &last, value, self->served, self->served_waits);
    for (ptrdiff_t k = -1; k <= rows; k++)
        for (ptrdiff_t i = 0; i < points; i++)
            row(self, self->f, k)[i] += self->served_waits[i + k > 0 ? i + k : 0];
out:
    ei_upper_law_free(&known);
    ei_upper_law_free(&last);
    return status;
}

/* ---- steps of both */

/* f to v: the first stage's service. */
static void serve(walk *self) {
    const ptrdiff_t points = self->points, rows = self->rows;
    const size_t size = (size_t)points * sizeof(double);
    const atoms *law = &self->first;
    double *lost = self->spare, *lost_bend = self->sums, *edge = self->kink;
    for (ptrdiff_t y = -1; y < points + rows; y++)
        edge[y + 1] = row(self, self->f, y > 0 ? y : 0)[0];
    memset(row(self, self->bend, -1), 0, size);
    for (ptrdiff_t k = 0; k <= rows; k++)
        find_bend_along(self, row(self, self->bend, k), row(self, self->f, k + 1), row(self, self->f, k),
                        row(self, self->f, k - 1), points);
    /* Services that lead beyond the last row, for one row after the other. */
    memset(lost, 0, size);
    memset(lost_bend, 0, size);
    for (ptrdiff_t c = rows + 2; c < law->count; c++) {
        ei_add_shifted(lost, row(self, self->f, rows), law->share[c], c, points, points);
        ei_add_shifted(lost_bend, row(self, self->bend, rows), law->bend[c], c, points, points);
    }
    for (ptrdiff_t k = -1; k <= rows; k++) {
        double *to = row(self, self->v, k), *more = row(self, self->more, k);
        const ptrdiff_t beyond = rows - k;
        if (beyond < law->count) {
            ei_add_shifted(lost, row(self, self->f, rows), law->share[beyond], beyond, points, points);
            ei_add_shifted(lost_bend, row(self, self->bend, rows), law->bend[beyond], beyond, points, points);
        }
        memcpy(more, lost_bend, size);
        pass_zero(to, law->over, law->tail + 1, edge + k + 1, lost, (size_t)points);
    }
    ei_add_served(row(self, self->v, 0), row(self, self->f, 0), law->share, law->count, rows, points);
    ei_add_served(row(self, self->more, 0), row(self, self->bend, 0), law->bend, law->count, rows, points);
    /* The cell before a point, at the same y. */
    for (ptrdiff_t k = -1; k <= rows; k++) {
        double *to = row(self, self->v, k), *more = row(self, self->more, k);
        to[0] = (to[0] + more[0]) * (1 + GUARD);
        put_on(to + 1, more + 1, row(self, self->more, k + 1), (size_t)(points - 1));
    }
    flatten(self, self->v);
}

/* The path leaves the second stage: v(min(q, y - O), y) in v's place, and in fresh what it is for any q. */
static void join(walk *self) {
    const ptrdiff_t points = self->points, rows = self->rows, reach = points + rows + 1;
    const size_t size = (size_t)points * sizeof(double);
    const atoms *law = &self->between;
    double *later = self->sums, *bend = self->spare, *fresh = self->fresh, *w = self->w, kept = 0;
    for (ptrdiff_t k = 0; k <= rows; k++)
        find_bend_along(self, row(self, self->bend, k), row(self, self->v, k + 1), row(self, self->v, k),
                        row(self, self->v, k - 1), points);
    /* later[y]: of O > k; and what that bends in the cell behind y. */
    for (ptrdiff_t y = 0; y < reach; y++) {
        const double edge = row(self, self->v, y)[0];
        later[y] = law->over[y] * fmax(1 - edge, 0) + law->tail[y + 1] * edge;
        bend[y] = 0;
    }
    for (ptrdiff_t c = law->count; c-- > rows + 1;)
        ei_add_shifted(later, row(self, self->v, rows), law->share[c], c, reach, points);
    for (ptrdiff_t k = rows + 1; k-- > 0;) {
        for (ptrdiff_t c = k < rows ? k - 1 : law->count - 1; c >= k - 1 && c >= 0; c--) {
            const double *here = row(self, self->bend, c), *next = row(self, self->bend, c + 1);
            for (ptrdiff_t i = 0; c < law->count && law->bend[c] > 0 && i < points && i + c < reach; i++)
                bend[i + c] += law->bend[c] * fmax(here[i], next[i]);
        }
        if (k < rows && k + 1 < law->count)
            ei_add_shifted(later, row(self, self->v, k + 1), law->share[k + 1], k + 1, reach, points);
        memcpy(row(self, w, k), later + k, size);
        for (ptrdiff_t i = 0; i < points; i++)
            row(self, w, k)[i] += fmax(bend[i + k], i + k > 0 ? bend[i + k - 1] : 0);
    }
    memcpy(fresh, row(self, w, 0), size);
    ei_add_shifted(fresh, row(self, self->v, 0), law->share[0], 0, points, points);
    for (ptrdiff_t k = 0; k <= rows; k++) {
        kept += k < law->count ? law->share[k] : 0;
        ei_add_products(row(self, w, k), row(self, self->v, k), kept, (size_t)points);
    }
    /* The diagonal may be above the squares that it crosses. */
    for (ptrdiff_t o = 0; o < rows && o < law->count; o++) {
        const double mass = KINK * law->share[o];
        const double *at = row(self, self->v, o), *less = row(self, self->v, o - 1),
                     *more = row(self, self->v, o + 1);
        for (ptrdiff_t i = 0; mass > 0 && i + 1 < points; i++) {
            const double kink = mass * ((more[i] - at[i + 1]) - (at[i] - less[i + 1]));
            if (!(kink > 0))
                continue;
            row(self, w, o)[i] += kink;
            row(self, w, o)[i + 1] += kink;
            row(self, w, o + 1)[i] += kink;
            if (o > 0)
                row(self, w, o - 1)[i + 1] += kink;
            for (ptrdiff_t y = i + o; y <= i + o + 1 && y < points; y++)
                fresh[y] += kink;
        }
    }
    ei_raise_row(row(self, w, 0), fresh, (size_t)points);
    memcpy(fresh, row(self, w, 0), size);
    for (ptrdiff_t k = -2; k < 0; k++)
        for (ptrdiff_t i = 0; i < points; i++)
            row(self, w, k)[i] = fresh[i + k > 0 ? i + k : 0];
    memcpy(row(self, self->v, -2), row(self, w, -2), (size_t)(rows + 3) * size);
    flatten(self, self->v);
}

/* v to w: the second stage's service. */
static void drain(walk *self) {
    const ptrdiff_t points = self->points, rows = self->rows, reach = points + rows + 1;
    const size_t size = (size_t)points * sizeof(double);
    const atoms *law = &self->second;
    double *fresh = self->fresh, *bent = row(self, self->bend, -2), *sum = self->spare,
           *sum_bend = self->sums;
    const double jump = fmax(1 - fresh[0], 0);
    for (ptrdiff_t k = 0; k <= rows; k++)
        ei_find_bend(row(self, self->bend, k), row(self, self->v, k - 1), row(self, self->v, k),
                     row(self, self->v, k + 1), self->ratio, (size_t)points, EI_UPPER);
    find_bend_along(self, bent, fresh, fresh, fresh, points);
    /* sum[y]: of services of more than k steps. */
    for (ptrdiff_t y = 0; y < reach; y++) {
        sum[y] = law->over[y] * jump + law->tail[y + 1] * fresh[0];
        sum_bend[y] = 0;
    }
    for (ptrdiff_t c = rows + 1; c < law->count; c++) {
        ei_add_shifted(sum, fresh, law->share[c], c, reach, points);
        ei_add_shifted(sum_bend, bent, law->bend[c], c, reach, points);
    }
    for (ptrdiff_t k = rows; k >= -1; k--) {
        double *to = row(self, self->w, k), *more = row(self, self->more, k);
        if (k < 0) {
            to[0] = 1;
            more[0] = 0;
            memcpy(to + 1, sum, size - sizeof *to);
            memcpy(more + 1, sum_bend, size - sizeof *to);
            break;
        }
        memcpy(to, sum + k, size);
        memcpy(more, sum_bend + k, size);
        if (k < law->count) {
            ei_add_shifted(sum, fresh, law->share[k], k, reach, points);
            ei_add_shifted(sum_bend, bent, law->bend[k], k, reach, points);
        }
    }
    ei_add_drained(row(self, self->w, 0), row(self, self->v, 0), law->share, law->count, 0, rows + 1, points);
    ei_add_drained(row(self, self->more, 0), row(self, self->bend, 0), law->bend, law->count, 0, rows + 1,
                   points);
    for (ptrdiff_t k = rows; k >= 0; k--)
        put_on(row(self, self->w, k), row(self, self->more, k), row(self, self->more, k - 1), (size_t)points);
    double *first = row(self, self->w, -1), *more = row(self, self->more, -1);
    for (ptrdiff_t i = points; i-- > 0;)
        first[i] = (first[i] + fmax(more[i], i > 0 ? more[i - 1] : 0)) * (1 + GUARD);
    flatten(self, self->w);
}

/* The largest of a function at places from `low` to `high` steps of q (or y) away. */
static void widen(const walk *self, double *function, double *to, int along, int low, int high) {
    const ptrdiff_t points = self->points;
    for (ptrdiff_t k = 0; k <= self->rows; k++) {
        double *most = row(self, to, k);
        memset(most, 0, (size_t)points * sizeof *most);
        for (int n = low; n <= high; n++) {
            const ptrdiff_t other = along ? k - n : k + n, shift = along ? n : 0;
            if (other < -1)
                continue;
            const double *from = row(self, function, other);
            ei_raise_row(most + (shift < 0 ? -shift : 0), from + (shift > 0 ? shift : 0),
                         (size_t)(points - (shift < 0 ? -shift : shift)));
        }
    }
    memcpy(row(self, to, -1), row(self, to, 0), (size_t)points * sizeof *to);
}

/* w to f where a request comes every so many steps: rows move, and the lines follow, which bound the last
 * cell of the plane, too. */
static void wait_interval(walk *self) {
    const ptrdiff_t points = self->points, last = points - 1 - self->interval;
    for (ptrdiff_t k = -1; k <= self->rows; k++) {
        double *to = row(self, self->f, k);
        const double *from = row(self, self->w, k);
        for (ptrdiff_t i = 0; i < points; i++) {
            const ptrdiff_t q = i + self->interval, y = q + k;
            const double line = i < last ? 0
                                         : self->alone[q < self->far ? q : self->far - 1] +
                                               self->served[y < self->far ? y : self->far - 1];
            to[i] = fmax(i <= last ? from[q] : 0, line);
        }
    }
}

/* One row of a function at t later: Poisson arrivals. edge: what bends where the lines begin. */
static void wait_exponential(const walk *self, ptrdiff_t k, const double *bend, double edge, double *to) {
    const double most = ei_most_bend(self->ratio) * (self->wait.near + self->wait.far);
    const double *alone = self->alone, *served = self->served, *w = row(self, self->w, k),
                 *above = row(self, self->w, k + 1), *under = row(self, self->w, k - 1);
    const ptrdiff_t points = self->points, y = points + k;
    double sum = self->alone_waits[points] + self->served_waits[y],
           more = most / (1 - self->wait.kept) * edge;
    for (ptrdiff_t i = points; i-- > 0;) {
        const int inside = i + 1 < points;
        const double after = inside ? w[i + 1] : alone[points] + served[y],
                     beside = inside ? under[i + 1] : alone[points] + served[y - 1];
        sum = self->wait.nearest * w[i] + self->wait.both * (beside + above[i]) +
              self->wait.farthest * after + self->wait.kept * sum;
        more = most * bend[i] + self->wait.kept * more;
        to[i] = (sum + more) * (1 + GUARD);
    }
}

static double on_line(const walk *self, const double *line, ptrdiff_t at) {
    return line[at < self->far ? at : self->far - 1];
}

/* A row at any q. */
static double read_row(const walk *self, ptrdiff_t k, ptrdiff_t q) {
    return q < self->points ? row(self, self->w, k)[q]
                            : on_line(self, self->alone, q) + on_line(self, self->served, q + k);
}

/* The same for other times. */
static void wait_longer(const walk *self, ptrdiff_t k, const double *bend, double edge, double *to) {
    const ptrdiff_t points = self->points, count = self->time.count, all = points + count;
    double *more = self->sums;
    for (ptrdiff_t q = 0; q < all; q++) {
        self->longer[q] = read_row(self, k, q);
        self->beside[q] = read_row(self, k - 1, q + 1) + read_row(self, k + 1, q);
        self->bent[q] = q < points ? bend[q] : edge;
        for (ptrdiff_t n = -1; n <= 2 && q >= points; n++)
            self->bent[q] = fmax(self->bent[q], edge + on_line(self, self->kink, q + n) +
                                                    on_line(self, self->spare, q + k + n));
    }
    ei_wait_row(&self->time, self->longer, self->beside, self->bent, ei_most_bend(self->ratio), points, to,
                more);
    put_on(to, more, more, (size_t)points);
}

/* w to f: the time before. */
static void wait_spread(walk *self) {
    const ptrdiff_t points = self->points, rows = self->rows;
    const double ratio = self->ratio;
    const double *alone = self->alone, *served = self->served;
    double *w = self->w, *room = self->v, *bend = self->fresh;
    row(self, w, -2)[0] = 1;
    ei_continue_row(row(self, w, -2), row(self, w, -1), row(self, w, 0), ratio, points);
    for (ptrdiff_t k = -1; k <= rows; k++) {
        double *along = row(self, self->bend, k);
        const double *here = row(self, w, k), *before = row(self, w, k + 1);
        find_bend_along(self, along, before, here, row(self, w, k - 1), points);
        along[0] = 0;
        along[points - 1] = fmax((1 + ratio) * here[points - 1] - before[points - 2] -
                                     ratio * (alone[points] + served[points + k - 1]),
                                 0);
        ei_find_bend(row(self, self->more, k), row(self, w, k - 1), here, row(self, w, k + 1), ratio,
                     (size_t)points, EI_UPPER);
    }
    memset(row(self, self->bend, -1), 0, (size_t)points * sizeof(double));
    if (self->time.count > 0) {
        find_bend_along(self, self->kink, alone, alone, alone, self->far);
        find_bend_along(self, self->spare, served, served, served, self->far);
    }
    widen(self, self->bend, room, 1, 0, 1);
    widen(self, room, self->bend, 0, -1, 2);
    widen(self, self->more, room, 0, 0, 1);
    widen(self, room, self->more, 1, -1, 2);
    for (ptrdiff_t k = -1; k <= rows; k++) {
        const double *q_bend = row(self, self->bend, k), *y_bend = row(self, self->more, k);
        const ptrdiff_t y = points + k;
        /* A bend where the plane meets the lines, at both ends of the cell before. */
        double edge = 0;
        for (ptrdiff_t n = -2; n <= 3; n++) {
            const double along = (1 + ratio) * (alone[points] + served[y + n]) -
                                 row(self, w, k + n + 1 > -1 ? k + n + 1 : -1)[points - 1] -
                                 ratio * (alone[points + 1] + served[y + n]),
                         across = (1 + ratio) * served[y + n] - served[y + n - 1] - ratio * served[y + n + 1];
            edge = fmax(edge, fmax(along, 0) + fmax(across, 0));
        }
        ei_add_bends(bend, q_bend, y_bend, k < 0, points);
        bend[points - 1] += edge;
        if (self->time.count > 0)
            wait_longer(self, k, bend, edge, row(self, self->f, k));
        else
            wait_exponential(self, k, bend, edge, row(self, self->f, k));
    }
}

/* f: the end of the path. */
static void end(walk *self) {
    const ptrdiff_t points = self->points, rows = self->rows;
    double *room = self->v, *fall = self->kink;
    fall[0] = 0;
    for (ptrdiff_t i = 0; i < points; i++)
        fall[i + 1] = fmax(self->ahead.over[i] - self->ahead.over[i + 1], 0);
    for (ptrdiff_t k = -1; k <= rows && self->given->ahead->lattice.sf != NULL; k++) {
        /* Rows below are done, so that what they were is kept in `room`; their ends lead to 0. */
        double *to = row(self, self->f, k), *kept = row(self, room, k);
        const double *earlier = k < rows ? row(self, self->f, k + 1) : kept, *late = self->ahead.over;
        memcpy(kept, to, (size_t)points * sizeof *to);
        const double none = 0, *next = k < 0 ? kept : row(self, room, k - 1) + 1;
        end_row(to, kept, next, kept, late, fall, 1);
        end_row(to + 1, kept + 1, next + 1, earlier, late + 1, fall + 1, (size_t)(points - 2));
        const ptrdiff_t i = points - 1;
        end_row(to + i, kept + i, k < 0 ? kept + i : &none, earlier + i - 1, late + i, fall + i, 1);
    }
    flatten(self, self->f);
}

/* ---- the end */

static void walk_free(walk *self) {
    atoms_free(&self->first);
    atoms_free(&self->between);
    atoms_free(&self->second);
    atoms_free(&self->ahead);
    ei_wait_law_free(&self->time);
    free(self->block);
}

static double mean_of(const ei_pair_walk *given) {
    return (given->before.law != NULL ? ei_service_mean(given->before.law) : given->before.again) -
           given->before.less;
}

static int walk_init(walk *self, const ei_pair_walk *given) {
    const double asked = given->horizon / (double)given->points;
    const double exact = given->before.law == NULL       ? given->before.again
                         : given->bottleneck.law == NULL ? given->bottleneck.again
                                                         : 0;
    *self = (walk){.given = given, .step = asked};
    if (given->points < 4 || !(given->horizon > 0) || !(given->decay > 0) ||
        (given->before.law == NULL && given->bottleneck.law == NULL))
        return EI_ERR_DOMAIN;
    self->interval = ei_pair_interval(given->arrival, &given->before, &given->bottleneck, asked);
    if (self->interval > 0) {
        self->step = ei_arrival_mean(given->arrival) / (double)self->interval * (1 - 4 * DBL_EPSILON);
    } else if (exact > ALIGNED * asked) {
        self->step = exact / ceil(exact / asked);
    }
    const double scale = given->decay * self->step;
    self->wanted = (ptrdiff_t)(given->horizon / self->step);
    self->points = (ptrdiff_t)(ceil((given->horizon + exact) / self->step) + ceil(ROOM / scale)) + 2;
    const int poisson = given->arrival->kind == EI_ARRIVAL_POISSON;
    /* Behind even arrivals a path leads by little more than what is in service. */
    const double leads = LEADS / scale + (poisson ? 0 : IN_SERVICE * mean_of(given) / self->step);
    self->rows = (ptrdiff_t)fmin(ceil(leads), (double)self->points);
    self->rows = self->rows < 4 ? 4 : self->rows;
    self->far = FARTHER * self->points + 8;
    self->length = self->far + 8 + EI_PAIR_PAD;
    self->exponent = fmax(scale, LEAST);
    self->ratio = exp(self->exponent);
    if (poisson)
        self->wait = ei_wait_weights_of(self->step / ei_arrival_mean(given->arrival), self->exponent);
    int status = ei_wait_law_init(&self->time, given->arrival, self->step, self->exponent,
                                  (size_t)self->points, EI_UPPER);
    if (status == EI_OK)
        status = choose_exponents(self);
    if (status == EI_OK)
        status = atoms_init(&self->first, self, &given->before, NULL);
    if (status == EI_OK)
        status = atoms_init(&self->between, self, NULL, given->between);
    if (status == EI_OK)
        status = atoms_init(&self->second, self, &given->bottleneck, NULL);
    if (status == EI_OK)
        status = atoms_init(&self->ahead, self, NULL, given->ahead);
    if (status != EI_OK)
        return status;
    const size_t state = (size_t)((self->rows + 3) * self->points), length = (size_t)self->length;
    self->block = calloc(5 * state + 12 * length, sizeof(double));
    if (self->block == NULL)
        return EI_ERR_NO_MEMORY;
    self->f = self->block;
    self->v = self->f + state;
    self->w = self->v + state;
    self->bend = self->w + state;
    self->more = self->bend + state;
    double **lines[] = {&self->fresh,        &self->last,   &self->spare,  &self->sums,
                        &self->kink,         &self->alone,  &self->served, &self->alone_waits,
                        &self->served_waits, &self->longer, &self->beside, &self->bent};
    for (size_t k = 0; k < sizeof lines / sizeof *lines; k++)
        *lines[k] = self->more + state + k * length;
    return EI_OK;
}

/* The function of y = time + lead, at FINER times as many points, which it bounds between them, too. */
static int read_off(const walk *self, const double *value, double lead, ei_upper_law *law) {
    const ei_pair_walk *given = self->given;
    const size_t count = (size_t)ceil(given->horizon / self->step) * FINER;
    const double whole = -expm1(-self->exponent);
    double *sf = malloc(count * sizeof *sf);
    if (sf == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t j = 0; j < count; j++) {
        const double y = (double)j / FINER + lead * (1 - 1e-15), cell = floor(y), part = y - cell;
        const ptrdiff_t at = (ptrdiff_t)cell;
        const double weight = (expm1(-self->exponent * part) + whole) / whole,
                     found = value[at + 1] + (value[at] - value[at + 1]) * weight;
        sf[j] = fmin(found * (1 + GUARD), j > 0 ? sf[j - 1] : 1);
    }
    law->lattice = (ei_lattice){self->step / FINER, count, sf};
    law->shift = given->between->shift + given->ahead->shift + given->before.less + given->bottleneck.less +
                 HAIR * (given->between->lattice.step + given->ahead->lattice.step + self->step);
    return EI_OK;
}

int ei_pair_upper(ei_upper_law *self, const ei_pair_walk *given) {
    walk both;
    *self = (ei_upper_law){.decay = 0};
    int status = walk_init(&both, given);
    if (status == EI_OK)
        status = begin(&both);
    const int sweeps = given->arrival->kind != EI_ARRIVAL_POISSON ? MORE_SWEEPS : SWEEPS;
    for (int sweep = 0; sweep <= sweeps && status == EI_OK; sweep++) {
        serve(&both);
        join(&both);
        const double change = ei_relative_change(both.last, both.fresh, both.wanted, NOTHING);
        memcpy(both.last, both.fresh, (size_t)both.points * sizeof *both.last);
        if (ei_stopped(given->monitor))
            status = EI_ERR_INTERRUPTED;
        if (sweep == sweeps || (sweep > 0 && change < SETTLED))
            break;
        drain(&both);
        if (both.interval > 0)
            wait_interval(&both);
        else
            wait_spread(&both);
        end(&both);
    }
    const double lead = given->before.law == NULL ? given->before.again / both.step : 0;
    if (status == EI_OK && given->bottleneck.law != NULL)
        serve_line(&both, &both.second, both.last, both.fresh, both.points);
    if (status == EI_OK)
        status = read_off(&both, given->bottleneck.law != NULL ? both.fresh : both.last, lead, self);
    walk_free(&both);
    return status;
}
