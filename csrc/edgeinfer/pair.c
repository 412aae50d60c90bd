#include "edgeinfer/pair.h"

#include "edgeinfer/multiversion.h"
#include "edgeinfer/pair_rows.h"
#include "edgeinfer/split.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FINE = 128,   /* atoms of a law on a step */
    FINER = 16,   /* points of the answer on a step */
    ALONE = 2000, /* sweeps over one stage */
    SWEEPS = 300,
    MORE_SWEEPS = 3000 /* behind other arrivals */
};
static const double COARSER = 1.25;  /* times the step that is asked for */
static const double GUARD = 1e-11;   /* relative rounding error of a step, at most */
static const double KINK = 0.25;     /* by which a kink is cut off, at most */
static const double LEAST = 0.03;    /* exponent of a step */
static const double ENOUGH = 0.9;    /* of a tilted law: where leads end behind another pair */
static const double ALIGNED = 4;     /* steps: a constant service that is put on the lattice */
static const double SETTLED = 1e-4;  /* relative change of a sweep at which they end */
static const double NOTHING = 1e-18; /* probabilities below are not looked at then */

/* A law's atoms at (c + z) steps; p, r as in pair.h. */
typedef struct {
    double *low, *up; /* [count]: (r - p) / (r - 1) at c, (p - 1) / (r - 1) at c + 1; owned */
    double *share;    /* [count]: both */
    double *bend;     /* [count]: (p - 1) (r - p) / (p (r - 1)^2) at c */
    double *tail;     /* [points + 2]: of the shares from there on */
    double *over;     /* [points]: P(service > q), which bounds it between the points, too */
    size_t count;
} atoms;

/* A function of (q, d): row k holds d = k steps, k = -2 .. rows + 1, and the last one endless leads. */
typedef struct {
    const ei_pair *given;
    ptrdiff_t points, rows;
    double step, exponent; /* s; of a step */
    double ratio;          /* e^exponent */
    ptrdiff_t interval;    /* of periodic arrivals, in steps, else 0 */
    ei_wait_law time;      /* of other renewal arrivals than Poisson and periodic ones */
    int keeps;             /* y, beyond the last row; else the second stage is given up */
    atoms first, second;
    double *block;
    double *f, *v, *w, *bend, *more; /* [rows + 5][points] */
    double *fresh, *plain, *extra;   /* [points + rows + 4] */
    double *between;                 /* [points]: masses of O */
    double *late, *last;             /* [points]: P(E > q) */
    double *ahead, *beside, *bent;   /* [2 points + 2 + EI_PAIR_PAD]: of a row, 0 from `points` on */
} walk;

static double *row(const walk *self, double *function, ptrdiff_t k) {
    return function + (k + 2) * self->points;
}

static double *endless(const walk *self, double *function) {
    return row(self, function, self->rows + 2);
}

/* ---- laws */

static void atoms_free(atoms *self) {
    free(self->low);
    self->low = NULL;
}

static void put(const walk *self, atoms *to, double time, double mass, double *beyond) {
    double cell = floor(time), part = time - cell;
    if (!(cell < (double)to->count - 2)) {
        if ((ptrdiff_t)to->count - 2 > self->points) {
            *beyond += mass;
            return;
        }
        /* Longer than its law is followed, which may end before the lattice: as short as that. */
        cell = (double)to->count - 3;
        part = 0;
    }
    const size_t c = (size_t)cell;
    const double whole = expm1(self->exponent), begun = expm1(self->exponent * part);
    to->low[c] += mass * (whole - begun) / whole;
    to->up[c + 1] += mass * begun / whole;
    to->bend[c] += mass * begun * (whole - begun) / ((1 + begun) * whole * whole);
}

static void settle_row(double *value, ptrdiff_t points) {
    for (ptrdiff_t i = 0; i < points; i++) {
        if (value[i] >= 0)
            continue;
        if (i > 0)
            value[i - 1] = fmin(value[i - 1], 0);
        if (i + 1 < points && value[i + 1] > 0)
            value[i + 1] = 0;
    }
    for (ptrdiff_t i = 0; i < points; i++)
        value[i] = fmax(value[i], 0);
}

/* P(time > q) by its law at points, less what that is below a chord in the cells beside them. */
static void find_chord(const walk *self, const ei_lattice *law, double *to) {
    const double r = 1 / self->ratio;
    double before = 0;
    for (ptrdiff_t i = 0; i < self->points; i++) {
        const double left = ei_lattice_lower(law, (double)i * self->step),
                     right = ei_lattice_lower(law, (double)(i + 1) * self->step);
        double most = 0;
        for (int j = 0; j < FINE && left > right; j++) {
            const double weight = (exp(-self->exponent * (double)j / FINE) - r) / (1 - r),
                         after = ei_lattice_lower(law, ((double)i + (double)(j + 1) / FINE) * self->step);
            most = fmax(most, right + weight * (left - right) - after);
        }
        to[i] = left - fmax(most, before) - GUARD;
        before = most;
    }
    settle_row(to, self->points);
}

/* P(service > q) by that, or by the atoms, less their bends: the larger one under the tilt. */
static int find_over(const walk *self, atoms *to, const ei_lattice *law) {
    const ptrdiff_t points = self->points, count = (ptrdiff_t)to->count;
    double *other = malloc((size_t)points * sizeof *other), before = 0, more = 0;
    if (other == NULL)
        return EI_ERR_NO_MEMORY;
    for (ptrdiff_t i = 0; i < points; i++) {
        const double bend = i < count ? to->bend[i] : 0;
        to->over[i] = to->tail[i + 1] - fmax(bend, before);
        before = bend;
    }
    settle_row(to->over, points);
    if (law != NULL)
        find_chord(self, law, other);
    for (ptrdiff_t i = 0; i < points && law != NULL; i++)
        more += (other[i] - to->over[i]) * exp(self->exponent * (double)(i - points));
    if (more > 0)
        memcpy(to->over, other, (size_t)points * sizeof *other);
    free(other);
    return EI_OK;
}

static int atoms_init(atoms *self, const walk *of, const ei_added_stage *stage) {
    const double step = of->step;
    const size_t points = (size_t)of->points;
    const double reach =
        fmax((stage->law != NULL ? ei_service_reach(stage->law) : stage->again) - stage->less, 0) / step;
    const size_t count = (size_t)fmin(reach, (double)points) + 4;
    ei_lattice law = {.sf = NULL};
    double beyond = 0;
    int status = EI_OK;
    *self = (atoms){.low = calloc(4 * count + 2 * points + 2, sizeof(double)), .count = count};
    if (self->low == NULL)
        return EI_ERR_NO_MEMORY;
    self->up = self->low + count;
    self->share = self->up + count;
    self->bend = self->share + count;
    self->tail = self->bend + count;
    self->over = self->tail + points + 2;
    if (stage->law == NULL)
        put(of, self, stage->again / step * (1 - 1e-15), 1, &beyond);
    else
        status = ei_lattice_service_from(&law, stage->law, 0, stage->less, step / FINE, (count - 1) * FINE,
                                         EI_LOWER);
    for (size_t i = 0; law.sf != NULL && status == EI_OK && i < law.count; i++) {
        double mass = (i == 0 ? 1 - ei_service_below(stage->law, stage->less) : law.sf[i]) -
                      (i + 1 < law.count ? law.sf[i + 1] : 0);
        if (mass > 0)
            put(of, self, (double)i / FINE, mass, &beyond);
    }
    for (size_t j = points + 2; j-- > 0;) {
        if (j < count)
            self->share[j] = self->low[j] + self->up[j];
        self->tail[j] = (j + 1 < points + 2 ? self->tail[j + 1] : beyond) + (j < count ? self->share[j] : 0);
    }
    if (status == EI_OK)
        status = find_over(of, self, law.sf != NULL ? &law : NULL);
    ei_lattice_free(&law);
    return status;
}

/* ---- rows */

EI_MULTIVERSION
static void take_off(double *restrict value, const double *restrict bend, const double *restrict other,
                     size_t count) {
    for (size_t i = 0; i < count; i++) {
        double more = bend[i] > other[i] ? bend[i] : other[i];
        value[i] = value[i] - more - GUARD * (value[i] + more);
    }
}

/* Along q, for one row of its own or beside others; no bend at the first point, 0 behind the last. */
static void find_bend_along(const walk *self, double *to, const double *before, const double *here,
                            const double *after) {
    const ptrdiff_t points = self->points;
    to[0] = 0;
    ei_find_bend(to + 1, before, here + 1, after + 2, self->ratio, (size_t)(points - 2), EI_LOWER);
    to[points - 1] = fmax(before[points - 2] - (1 + self->ratio) * here[points - 1], 0);
}

/* 0 at all corners of the squares where a corner is below 0. */
static void settle(const walk *self, double *function, ptrdiff_t last) {
    static const int around[8][2] = {{0, 1}, {0, -1}, {1, 0}, {-1, 0}, {1, -1}, {-1, 1}, {1, -2}, {-1, 2}};
    int found = 0;
    for (ptrdiff_t k = -1; k <= last; k++)
        for (ptrdiff_t i = 0; i < self->points; i++) {
            if (!(row(self, function, k)[i] < 0))
                continue;
            found = 1;
            for (int a = 0; a < 8; a++) {
                ptrdiff_t at = i + around[a][0], to = k + around[a][1];
                if (at >= 0 && at < self->points && to >= -1 && to <= last && row(self, function, to)[at] > 0)
                    row(self, function, to)[at] = 0;
            }
        }
    for (ptrdiff_t k = -1; found && k <= last; k++)
        for (ptrdiff_t i = 0; i < self->points; i++)
            row(self, function, k)[i] = fmax(row(self, function, k)[i], 0);
}

/* ---- one stage alone */

/* to(q) = E from(q - service). */
static void serve_row(const walk *self, const atoms *law, const double *from, double *to) {
    const ptrdiff_t points = self->points;
    double *bend = self->extra, *more = self->plain;
    find_bend_along(self, bend, from, from, from);
    memset(more, 0, (size_t)(points + 1) * sizeof *more);
    for (ptrdiff_t i = 0; i < points; i++)
        to[i] = law->over[i] * (1 - from[0]) + law->tail[i + 1] * from[0];
    for (ptrdiff_t c = 0; c < (ptrdiff_t)law->count; c++) {
        ei_add_shifted(to, from, law->share[c], c, points, points);
        ei_add_shifted(more + 1, bend, law->bend[c], c, points, points);
    }
    take_off(to, more + 1, more, (size_t)points);
    settle_row(to, points);
}

/* The same beyond the interval; the last cell of the lattice is left out. */
static void wait_row(const walk *self, const double *from, double *to) {
    const ptrdiff_t left = self->points - 1 - self->interval;
    for (ptrdiff_t i = 0; i < self->points; i++)
        to[i] = i < left ? from[i + self->interval] : 0;
}

/* The same for other times. */
static void wait_alone_longer(const walk *self, double *value) {
    const ptrdiff_t points = self->points;
    double *bend = self->extra, *sum = row(self, self->more, 0), *more = row(self, self->more, 1);
    find_bend_along(self, bend, value, value, value);
    for (ptrdiff_t i = 0; i + 1 < points; i++)
        bend[i] = fmax(bend[i], bend[i + 1]);
    memset(sum, 0, (size_t)points * sizeof *sum);
    memset(more, 0, (size_t)points * sizeof *more);
    for (ptrdiff_t c = 0; c < self->time.count; c++) {
        ei_add_shifted(sum, value, self->time.line[c], -c, points, points);
        ei_add_shifted(more, bend, ei_most_bend(self->ratio) * self->time.chance[c], -c, points, points);
    }
    memcpy(value, sum, (size_t)points * sizeof *value);
    take_off(value, more, more, (size_t)points);
    settle_row(value, points);
}

/* E of a function of q at q + t. */
static void wait_alone(const walk *self, double *value) {
    if (self->interval > 0) {
        wait_row(self, value, value);
        return;
    }
    if (self->time.count > 0) {
        wait_alone_longer(self, value);
        return;
    }
    const ei_wait_weights w =
        ei_wait_weights_of(self->step / ei_arrival_mean(self->given->arrival), self->exponent);
    const double most = ei_most_bend(self->ratio) * (w.near + w.far);
    double sum = 0, more = 0, after = 0, bend_after = 0;
    double *bend = self->extra;
    find_bend_along(self, bend, value, value, value);
    for (ptrdiff_t i = self->points; i-- > 0;) {
        const double here = value[i];
        sum = w.near * here + w.far * after + w.kept * sum;
        more = most * fmax(bend[i], bend_after) + w.kept * more;
        after = here;
        bend_after = bend[i];
        value[i] = sum - more - GUARD * (sum + more);
    }
    settle_row(value, self->points);
}

static void end_there(const walk *self, const double *late, double *value) {
    for (ptrdiff_t i = 0; i < self->points; i++)
        value[i] = late[i] + (1 - late[i]) * value[i] * (1 - GUARD);
}

/* The law of a stage's own queue, P(wait > q), to begin with. */
static int own_queue(const walk *self, const ei_added_stage *stage, double *value) {
    const ei_pair *given = self->given;
    const size_t points = (size_t)self->points;
    const double rate = ei_arrival_rate(given->arrival);
    ei_md1 waiting = {0};
    ei_lattice service = {.sf = NULL}, sojourn = {.sf = NULL};
    int status;
    if (given->arrival->kind != EI_ARRIVAL_POISSON) {
        memset(value, 0, points * sizeof *value);
        return EI_OK;
    }
    if (stage->law == NULL) {
        status = ei_md1_init(&waiting, rate, stage->again, self->step * (double)(points + 1));
        for (size_t j = 0; j < points && status == EI_OK; j++)
            value[j] = ei_md1_waiting_sf(&waiting, (double)(j + 1) * self->step - stage->again) * (1 - 1e-9);
        ei_md1_free(&waiting);
    } else {
        const size_t finer = 4;
        double step = self->step / (double)finer,
               reach = fmin(ei_service_reach(stage->law), self->step * (double)points);
        size_t cells = (size_t)(reach / step) + 3;
        status =
            ei_lattice_service(&service, stage->law, 0, step / EI_MG1_FINE, cells * EI_MG1_FINE, EI_LOWER);
        if (status == EI_OK)
            status = ei_mg1_sojourn(&sojourn, &service, rate, (points + 1) * finer, EI_LOWER, given->monitor);
        for (size_t j = 0; j < points && status == EI_OK; j++)
            value[j] = ei_lattice_lower(&sojourn, (double)(j + 1) * self->step) * (1 - 1e-9);
        ei_lattice_free(&service);
        ei_lattice_free(&sojourn);
    }
    if (status == EI_OK)
        wait_alone(self, value);
    return status;
}

/* A path in one stage, which may end with what `late` is the law of: what follows the job at hand (*next),
 * and with it (*value). */
static int follow_alone(const walk *self, const ei_added_stage *stage, const atoms *law, const double *late,
                        double *value, double *next) {
    int status = own_queue(self, stage, next);
    for (int sweep = 0; sweep < ALONE && status == EI_OK; sweep++) {
        memcpy(value, next, (size_t)self->points * sizeof *value);
        end_there(self, late, value);
        serve_row(self, law, value, self->fresh);
        wait_alone(self, self->fresh);
        double change = ei_relative_change(next, self->fresh, self->points * 3 / 4, NOTHING);
        memcpy(next, self->fresh, (size_t)self->points * sizeof *next);
        if (ei_stopped(self->given->monitor))
            status = EI_ERR_INTERRUPTED;
        if (change < SETTLED / 10)
            break;
    }
    return status;
}

/* ---- steps of both */

/* What a function is beyond its last rows, at most: of q (the second stage is given up), or of y (the first
 * path is made shorter). */
static void find_edge(const walk *self, double *function, double *to) {
    const ptrdiff_t points = self->points, rows = self->rows;
    const double *last = row(self, function, rows), *far = endless(self, function);
    for (ptrdiff_t i = 0; i < points && !self->keeps; i++)
        to[i] = fmin(fmin(far[i], last[i]), fmin((last - points)[i], (last - 2 * points)[i]));
    for (ptrdiff_t y = 0; y < points && self->keeps; y++) {
        to[y] = y < rows - 2 ? 0 : 1;
        for (ptrdiff_t k = rows - 2; k <= rows && k <= y; k++)
            to[y] = fmin(to[y], row(self, function, k)[y - k]);
    }
}

/* What services of the first stage that lead beyond the last rows come to, row by row. */
typedef struct {
    double *far;         /* find_edge */
    const double *alone; /* the second stage given up */
    double *lost, *bend; /* [points]: where they lead further than a step beyond the last row; their bends */
} beyond;

/* Adds to row k of v and its bends what leads beyond the last rows, and makes ready for the next row. */
static void add_beyond(const walk *self, const beyond *by, ptrdiff_t k, double *to, double *more) {
    const ptrdiff_t points = self->points, most = self->rows - 2 - k;
    const atoms *law = &self->first;
    const ptrdiff_t count = (ptrdiff_t)law->count;
    if (self->keeps) {
        const double all =
            most < 0 ? law->tail[0]
                     : (most + 1 < points ? law->tail[most + 1] : 0) + (most < count ? law->low[most] : 0);
        for (ptrdiff_t i = k < 0 ? 1 : 0; i < points && i + k < points; i++)
            to[i] += fmax(all - law->tail[i + 1], 0) * by->far[i + k];
        return;
    }
    ei_add_products(to, by->lost, 1, (size_t)points);
    ei_add_products(more, by->bend, 1, (size_t)points);
    for (ptrdiff_t c = most > 0 ? most : 0; c <= most + 3 && c < count; c++) {
        if (c < most + 3)
            ei_add_shifted(to, by->far, law->low[c], c, points, points);
        if (c > most && c > 0)
            ei_add_shifted(to, by->far, law->up[c], c, points, points);
    }
    if (most + 3 < count)
        ei_add_shifted(by->lost, by->alone, law->up[most + 3], most + 3, points, points);
    if (most + 2 < count)
        ei_add_shifted(by->lost, by->alone, law->low[most + 2], most + 2, points, points);
    if (most >= 0 && most < count)
        ei_add_shifted(by->bend, endless(self, self->bend), law->bend[most], most, points, points);
}

static void begin_beyond(walk *self, beyond *by) {
    const ptrdiff_t points = self->points, rows = self->rows;
    const atoms *law = &self->first;
    const ptrdiff_t count = (ptrdiff_t)law->count;
    *by = (beyond){row(self, self->f, -2), endless(self, self->f), self->fresh, self->plain};
    find_edge(self, self->f, by->far);
    find_bend_along(self, endless(self, self->bend), by->alone, by->alone, by->alone);
    memset(by->lost, 0, (size_t)points * sizeof(double));
    memset(by->bend, 0, (size_t)points * sizeof(double));
    for (ptrdiff_t c = rows + 2; c < count && !self->keeps; c++)
        ei_add_shifted(by->lost, by->alone, c > rows + 2 ? law->share[c] : law->low[c], c, points, points);
    for (ptrdiff_t c = rows; c < count && !self->keeps; c++)
        ei_add_shifted(by->bend, endless(self, self->bend), law->bend[c], c, points, points);
}

/* f to v: the first stage's service. */
static void serve(walk *self) {
    const ptrdiff_t points = self->points, rows = self->rows;
    const atoms *law = &self->first;
    const ptrdiff_t count = (ptrdiff_t)law->count;
    beyond by;
    memset(row(self, self->bend, -1), 0, (size_t)points * sizeof(double));
    for (ptrdiff_t k = 0; k < rows; k++)
        find_bend_along(self, row(self, self->bend, k), row(self, self->f, k + 1), row(self, self->f, k),
                        row(self, self->f, k - 1));
    begin_beyond(self, &by);
    for (ptrdiff_t k = -1; k <= rows; k++) {
        double *to = row(self, self->v, k), *more = row(self, self->more, k);
        for (ptrdiff_t i = 0; i < points; i++) {
            /* The function at q = 0 and this y. */
            const ptrdiff_t y = i + k > 0 ? i + k : 0;
            const double edge = y < rows - 1  ? row(self, self->f, y)[0]
                                : self->keeps ? (y < points ? by.far[y] : 0)
                                              : (y > rows + 1 ? by.alone : by.far)[0];
            to[i] = law->over[i] * (1 - edge) + law->tail[i + 1] * edge;
        }
        memset(more, 0, (size_t)points * sizeof *more);
        add_beyond(self, &by, k, to, more);
    }
    ei_add_served(row(self, self->v, 0), row(self, self->f, 0), law->share, count, rows - 2, points);
    ei_add_served(row(self, self->more, 0), row(self, self->bend, 0), law->bend, count, rows, points);
    for (ptrdiff_t k = rows - 2, most = 0; k >= -1 && most < count; k--, most++)
        ei_add_shifted(row(self, self->v, k), row(self, self->f, rows - 2), law->up[most], most, points,
                       points);
    /* The cell before a point, at the same y. */
    for (ptrdiff_t k = -1; k < rows; k++) {
        double *to = row(self, self->v, k), *more = row(self, self->more, k);
        to[0] -= more[0] + GUARD * (to[0] + more[0]);
        take_off(to + 1, more + 1, row(self, self->more, k + 1), (size_t)(points - 1));
    }
    double *last = row(self, self->more, rows);
    take_off(row(self, self->v, rows), last, last, (size_t)points);
    serve_row(self, law, endless(self, self->f), endless(self, self->v));
    settle(self, self->v, rows);
}

/* The path leaves the second stage: v(min(q, y - O), y) in v's place, and in fresh what it is for any q. */
static void join(walk *self) {
    const ptrdiff_t points = self->points, rows = self->rows, reach = points + rows + 2;
    const size_t size = (size_t)points * sizeof(double);
    double *later = self->extra, *w = self->w, kept = 0;
    /* later[y + 1]: of O > k. */
    memset(later, 0, (size_t)reach * sizeof *later);
    for (ptrdiff_t k = rows; k >= -1; k--) {
        memcpy(row(self, w, k), later + k + 1, size);
        if (k < 0 || !(self->between[k] > 0))
            continue;
        for (ptrdiff_t y = 0; y <= k; y++)
            later[y] += self->between[k];
        ei_add_shifted(later + 1, row(self, self->v, k), self->between[k], k, reach - 1, points);
    }
    memcpy(row(self, w, -1), later, size);
    memcpy(self->fresh, later + 1, size);
    for (ptrdiff_t k = 0; k <= rows; k++) {
        kept += self->between[k];
        ei_add_products(row(self, w, k), row(self, self->v, k), kept, (size_t)points);
    }
    for (ptrdiff_t o = 0; o <= rows; o++) {
        const double mass = KINK * self->between[o];
        const double *at = row(self, self->v, o), *next = row(self, self->v, o - 1);
        double *here = row(self, w, o), last = 0;
        for (ptrdiff_t i = 0; mass > 0 && i < points; i++) {
            const double kink = mass * fmax(at[i] - (i + 1 < points ? next[i + 1] : 0), 0);
            here[i] -= fmax(kink, last);
            (here - points)[i] -= last;
            (here + points)[i] -= kink;
            last = kink;
        }
    }
    for (ptrdiff_t i = 0; i < points; i++)
        row(self, w, -2)[i] = self->fresh[i > 2 ? i - 2 : 0];
    row(self, w, -1)[0] = self->fresh[0];
    memcpy(row(self, self->v, -2), row(self, w, -2), (size_t)(rows + 3) * size);
    settle(self, self->v, rows);
}

/* v to w: the second stage's service. */
static void drain(walk *self) {
    const ptrdiff_t points = self->points, rows = self->rows, reach = points + rows + 2;
    const atoms *law = &self->second;
    const ptrdiff_t count = (ptrdiff_t)law->count;
    const size_t size = (size_t)points * sizeof(double);
    double *fresh = self->fresh, *bent = row(self, self->bend, -2);
    double *sum = self->plain, *sum_bend = self->extra;
    double *far = row(self, self->more, -2), *edge_bend = endless(self, self->more);
    find_edge(self, self->v, far);
    for (ptrdiff_t k = -1; k < rows; k++)
        ei_find_bend(row(self, self->bend, k), row(self, self->v, k - 1), row(self, self->v, k),
                     row(self, self->v, k + 1), self->ratio, (size_t)points, EI_LOWER);
    find_bend_along(self, bent, fresh, fresh, fresh);
    find_bend_along(self, edge_bend, far, far, far);
    /* sum[s + 1]: of services of more than k + 2 (with bends: k + 1) steps, at y = s. */
    for (ptrdiff_t s = 0; s < reach; s++) {
        ptrdiff_t from = s > rows + 4 ? s : rows + 4;
        sum[s] = from < points + 2 ? law->tail[from] * fresh[0] : 0;
        if (s > 0 && s <= points)
            sum[s] += law->over[s - 1] * (1 - fresh[0]);
        if (s == 0)
            sum[s] += 1 - fresh[0];
        sum_bend[s] = 0;
    }
    for (ptrdiff_t c = rows + 4; c < count; c++)
        ei_add_shifted(sum + 1, fresh, law->share[c], c, reach - 1, points);
    for (ptrdiff_t c = rows + 3; c < count; c++)
        ei_add_shifted(sum_bend + 1, bent, law->bend[c], c, reach - 1, points);
    for (ptrdiff_t k = rows + 1; k >= -1; k--) {
        double *to = row(self, self->w, k), *more = row(self, self->more, k);
        const ptrdiff_t least = k > rows - 2 ? k - rows + 2 : 0;
        const int inner = k >= 0 && k < rows - 2;
        double none = 0;
        memcpy(to, sum + k + 1, size);
        memcpy(more, sum_bend + k + 1, size);
        for (ptrdiff_t c = 0; c < count && c <= k + 2 && !inner; c++) {
            double mass = c > least || least == 0 ? law->share[c] : c == least ? law->low[c] : 0;
            none += law->share[c] - mass;
            if (self->keeps) {
                ei_add_shifted(to, far, law->share[c] - mass, c - k, points, points);
                if (c < least)
                    ei_add_shifted(more, edge_bend, law->bend[c], c - k, points, points);
            }
            ei_add_shifted(to, row(self, self->v, k - c), mass, 0, points, points);
        }
        for (ptrdiff_t c = k + 1 - rows > 0 ? k + 1 - rows : 0; c < count && c <= k + 1 && !inner; c++)
            ei_add_shifted(more, row(self, self->bend, k - c), law->bend[c], 0, points, points);
        if (!self->keeps)
            ei_add_shifted(to, far, none, 0, points, points);
        /* The next row's longer services begin a step earlier. */
        const ptrdiff_t c = k + 2, b = k + 1;
        if (c < count) {
            for (ptrdiff_t s = 0; s <= c && s < reach; s++)
                sum[s] += law->share[c] * fresh[0];
            ei_add_shifted(sum + 1, fresh, law->share[c], c, reach - 1, points);
        }
        if (b >= 0 && b < count)
            ei_add_shifted(sum_bend + 1, bent, law->bend[b], b, reach - 1, points);
    }
    ei_add_drained(row(self, self->w, 0), row(self, self->v, 0), law->share, count, -2, rows - 2, points);
    ei_add_drained(row(self, self->more, 0), row(self, self->bend, 0), law->bend, count, -1, rows - 2,
                   points);
    for (ptrdiff_t k = rows + 1; k >= -1; k--)
        take_off(row(self, self->w, k), row(self, self->more, k), row(self, self->more, k > -1 ? k - 1 : k),
                 (size_t)points);
    memcpy(endless(self, self->w), endless(self, self->v), size);
    settle(self, self->w, rows + 1);
}

/* The largest of a function at places from `low` to `high` steps of q (or y) away. */
static void widen(const walk *self, const double *function, double *to, int along, int low, int high) {
    const ptrdiff_t points = self->points, rows = self->rows;
    for (ptrdiff_t k = 0; k <= rows; k++) {
        double *most = row(self, to, k);
        memset(most, 0, (size_t)points * sizeof *most);
        for (int n = low; n <= high; n++) {
            const ptrdiff_t other = along ? k - n : k + n, shift = along ? n : 0;
            if (other < 0 || other > rows)
                continue;
            const double *from = function + (other + 2) * points;
            ei_raise_row(most + (shift < 0 ? -shift : 0), from + (shift > 0 ? shift : 0),
                         (size_t)(points - (shift < 0 ? -shift : shift)));
        }
    }
}

/* One row of a function at t later: Poisson arrivals. */
static void wait_exponential(const walk *self, const double *here, const double *under, const double *above,
                             const double *bend, double *to) {
    const ei_wait_weights by =
        ei_wait_weights_of(self->step / ei_arrival_mean(self->given->arrival), self->exponent);
    const double most = ei_most_bend(self->ratio) * (by.near + by.far);
    double sum = 0, more = 0;
    for (ptrdiff_t i = self->points; i-- > 0;) {
        const int inside = i + 1 < self->points;
        sum = by.nearest * here[i] + by.both * ((inside ? under[i + 1] : 0) + above[i]) +
              by.farthest * (inside ? here[i + 1] : 0) + by.kept * sum;
        more = most * bend[i] + by.kept * more;
        to[i] = sum - more - GUARD * (sum + more);
    }
}

/* The same for other times. */
static void wait_longer(const walk *self, const double *here, const double *under, const double *above,
                        const double *bend, double *to) {
    const ptrdiff_t points = self->points;
    double *beside = self->beside, *more = self->fresh;
    for (ptrdiff_t i = 0; i < points; i++)
        beside[i] = (i + 1 < points ? under[i + 1] : 0) + above[i];
    memcpy(self->ahead, here, (size_t)points * sizeof *here);
    memcpy(self->bent, bend, (size_t)points * sizeof *bend);
    ei_wait_row(&self->time, self->ahead, beside, self->bent, ei_most_bend(self->ratio), points, to, more);
    take_off(to, more, more, (size_t)points);
}

/* w to f: the time before. */
static void wait_spread(walk *self) {
    const ptrdiff_t points = self->points, rows = self->rows;
    double *bend = self->extra;
    double *w = self->w, *room = self->v;
    for (ptrdiff_t k = 0; k <= rows; k++) {
        find_bend_along(self, row(self, self->bend, k), row(self, w, k + 1), row(self, w, k),
                        row(self, w, k - 1));
        ei_find_bend(row(self, self->more, k), row(self, w, k - 1), row(self, w, k), row(self, w, k + 1),
                     self->ratio, (size_t)points, EI_LOWER);
    }
    widen(self, self->bend, room, 1, 0, 1);
    widen(self, room, self->bend, 0, -1, 2);
    widen(self, self->more, room, 0, 0, 1);
    widen(self, room, self->more, 1, -1, 2);
    ei_continue_row(row(self, w, -2), row(self, w, -1), row(self, w, 0), self->ratio, points);
    for (ptrdiff_t k = -1; k <= rows; k++) {
        const double *q_bend = row(self, self->bend, k < 0 ? 0 : k),
                     *y_bend = row(self, self->more, k < 0 ? 0 : k);
        const double *here = row(self, w, k), *above = row(self, w, k + 1), *under = row(self, w, k - 1);
        ei_add_bends(bend, q_bend, y_bend, k < 0, points);
        if (self->time.count > 0)
            wait_longer(self, here, under, above, bend, row(self, self->f, k));
        else
            wait_exponential(self, here, under, above, bend, row(self, self->f, k));
    }
    settle(self, self->f, rows);
}

/* And the end of the path. */
static void wait(walk *self) {
    const ptrdiff_t points = self->points, rows = self->rows;
    double *w = self->w;
    if (self->interval == 0)
        wait_spread(self);
    for (ptrdiff_t k = -1; k <= rows && self->interval > 0; k++)
        wait_row(self, row(self, w, k), row(self, self->f, k));
    double *far = endless(self, self->f);
    if (self->given->alone == NULL) {
        memcpy(far, endless(self, w), (size_t)points * sizeof *far);
        wait_alone(self, far);
        end_there(self, self->late, far);
    } else {
        memcpy(far, self->given->alone->sf, (size_t)points * sizeof *far);
    }
    for (ptrdiff_t k = -1; k <= rows; k++)
        end_there(self, self->late, row(self, self->f, k));
}

/* ---- beginning and end */

/* The masses of a law rounded down to the points. */
static void masses_of(const walk *self, const ei_lattice *law, double *mass) {
    double above = 1;
    for (ptrdiff_t j = 0; j < self->points; j++) {
        double next =
            law == NULL || law->sf == NULL ? 0 : ei_lattice_lower(law, (double)(j + 1) * self->step);
        mass[j] = above - next;
        above = next;
    }
}

static void walk_free(walk *self) {
    atoms_free(&self->first);
    atoms_free(&self->second);
    ei_wait_law_free(&self->time);
    free(self->block);
}

/* Where the lattice has a constant service on it, a hair below, lest rounding takes a step off; or periodic
 * arrivals. */
static double step_of(const ei_pair *given, ptrdiff_t interval) {
    const double step = given->horizon / (double)given->points;
    if (given->alone != NULL)
        return given->alone->step;
    if (interval > 0)
        return ei_arrival_mean(given->arrival) / (double)interval * (1 + 4e-15);
    const double exact = given->first.law == NULL    ? given->first.again
                         : given->second.law == NULL ? given->second.again
                                                     : 0;
    return exact > ALIGNED * step ? exact / floor(exact / step) * (1 - 4e-15) : step;
}

/* Leads up to where the second stage's law, tilted, has little left. */
static ptrdiff_t find_top(const walk *self, const atoms *law) {
    double all = 0, sum = 0;
    ptrdiff_t top = 0;
    for (size_t c = 0; c < law->count; c++)
        all += law->share[c] * exp(self->exponent * (double)c);
    for (; sum < ENOUGH * all && top < (ptrdiff_t)law->count; top++)
        sum += law->share[top] * exp(self->exponent * (double)top);
    top = top + 4 > EI_PAIR_LEAST ? top + 4 : EI_PAIR_LEAST;
    return top < (ptrdiff_t)self->given->leads ? top : (ptrdiff_t)self->given->leads;
}

static int walk_init(walk *self, const ei_pair *given) {
    const size_t points = given->points;
    *self = (walk){.given = given, .points = (ptrdiff_t)points};
    self->interval = ei_pair_interval(given->arrival, &given->first, &given->second,
                                      COARSER * given->horizon / (double)given->points);
    self->step = step_of(given, self->interval);
    self->exponent = fmax(given->decay * self->step, LEAST);
    self->ratio = exp(self->exponent);
    /* Of another pair's lattice, too. */
    if (self->interval > 0)
        self->interval = (ptrdiff_t)(ei_arrival_mean(given->arrival) / self->step + 0.5);
    int status = ei_wait_law_init(&self->time, given->arrival, self->step, self->exponent, points, EI_LOWER);
    if (status == EI_OK)
        status = atoms_init(&self->first, self, &given->first);
    if (status == EI_OK)
        status = atoms_init(&self->second, self, &given->second);
    if (status != EI_OK)
        return status;
    self->rows = (ptrdiff_t)given->leads;
    if (given->alone != NULL)
        self->rows = find_top(self, &self->second);
    const size_t rows = (size_t)self->rows, state = (rows + 5) * points, length = points + rows + 8;
    const size_t longer = 2 * points + 2 + EI_PAIR_PAD;
    self->block = calloc(5 * state + 6 * length + 3 * longer, sizeof(double));
    if (self->block == NULL)
        return EI_ERR_NO_MEMORY;
    self->f = self->block;
    self->v = self->f + state;
    self->w = self->v + state;
    self->bend = self->w + state;
    self->more = self->bend + state;
    self->fresh = self->more + state;
    self->plain = self->fresh + length;
    self->extra = self->plain + length;
    self->between = self->extra + length;
    self->late = self->between + length;
    self->last = self->late + length;
    self->ahead = self->last + length;
    self->beside = self->ahead + longer;
    self->bent = self->beside + longer;
    masses_of(self, given->between, self->between);
    /* A shorter O is one from below. */
    for (size_t o = rows - 1; o < points; o++) {
        self->between[rows - 2] += self->between[o];
        self->between[o] = 0;
    }
    if (given->ahead != NULL && given->ahead->sf != NULL)
        find_chord(self, given->ahead, self->late);
    return EI_OK;
}

/* P(A + O + E > point), each rounded down to points. */
static int late_behind(const walk *self, double *late) {
    const ptrdiff_t points = self->points, count = (ptrdiff_t)self->first.count;
    double *mass = calloc((size_t)points, sizeof *mass), above = self->first.tail[points];
    if (mass == NULL)
        return EI_ERR_NO_MEMORY;
    for (ptrdiff_t o = 0; o < points; o++) {
        ei_add_shifted(mass, self->first.low, self->between[o], o, points, count);
        ei_add_shifted(mass, self->first.up + 1, self->between[o], o, points, count - 1);
    }
    memset(late, 0, (size_t)points * sizeof *late);
    /* From the far end, as what is left of one would have no digits there. */
    for (ptrdiff_t j = points; j-- > 0;) {
        ei_add_shifted(late, self->late, mass[j], j, points, points);
        late[j] += above * (1 - GUARD);
        above += mass[j];
    }
    free(mass);
    return EI_OK;
}

/* Of one of the two stages alone. */
static int begin(walk *self) {
    const ei_pair *given = self->given;
    const ptrdiff_t points = self->points, rows = self->rows;
    double *far = endless(self, self->f), *value = row(self, self->w, 0), *next = row(self, self->w, 1),
           *late = row(self, self->w, 2);
    int status = EI_OK;
    if (given->alone != NULL)
        memcpy(far, given->alone->sf, (size_t)points * sizeof *far);
    else
        status = follow_alone(self, &given->first, &self->first, self->late, far, next);
    if (status == EI_OK)
        status = late_behind(self, late);
    if (status == EI_OK)
        status = follow_alone(self, &given->second, &self->second, late, value, next);
    const int second = self->keeps = next[(points + rows) / 2] > far[points / 2];
    for (ptrdiff_t k = -1; k <= rows && status == EI_OK; k++)
        for (ptrdiff_t i = 0; i < points; i++) {
            const ptrdiff_t y = i + k > 0 ? i + k : 0;
            row(self, self->f, k)[i] = !second ? far[i] : y < points ? next[y] : 0;
        }
    return status;
}

/* A function of y = time + `more` steps, at `finer` times as many points; from below between them, too, or
 * bounding it along the chords. */
static int read_off(const walk *self, const double *value, double more, int finer, int chords,
                    ei_lattice *to) {
    const size_t count = (size_t)(self->points * finer);
    const double whole = -expm1(-self->exponent);
    double *bend = self->extra;
    *to = (ei_lattice){self->step / finer, count, malloc(count * sizeof(double))};
    if (to->sf == NULL)
        return EI_ERR_NO_MEMORY;
    find_bend_along(self, bend, value, value, value);
    for (size_t j = count; j-- > 0;) {
        const double y = ((double)j / finer + more) * (1 + 1e-14), cell = floor(y), part = y - cell;
        const ptrdiff_t at = cell < (double)self->points ? (ptrdiff_t)cell : self->points;
        const int inside = at + 1 < self->points;
        const double here = at < self->points ? value[at] : 0, after = inside ? value[at + 1] : 0;
        const double weight = (expm1(-self->exponent * part) + whole) / whole,
                     found = fmin(after + (here - after) * weight, 1) * (1 - GUARD);
        if (chords)
            to->sf[j] =
                found -
                (part > 1e-9 ? KINK * fmax(inside ? bend[at] : here, inside ? bend[at + 1] : here) : 0);
        else
            to->sf[j] = fmax(found, j + 1 < count ? to->sf[j + 1] : 0);
    }
    if (chords)
        settle_row(to->sf, (ptrdiff_t)count);
    return EI_OK;
}

int ei_pair_lower(ei_lattice *law, ei_lattice *alone, const ei_pair *given) {
    walk both;
    *law = *alone = (ei_lattice){.sf = NULL};
    if (given->points < EI_PAIR_LEAST || given->leads < EI_PAIR_LEAST || given->leads > given->points ||
        !(given->horizon > 0) || (given->alone != NULL && given->alone->count < given->points))
        return EI_ERR_DOMAIN;
    int status = walk_init(&both, given);
    if (status == EI_OK)
        status = begin(&both);
    const int sweeps = given->arrival->kind != EI_ARRIVAL_POISSON ? MORE_SWEEPS : SWEEPS;
    for (int sweep = 0; sweep <= sweeps && status == EI_OK; sweep++) {
        serve(&both);
        join(&both);
        const double change = ei_relative_change(both.last, both.fresh, both.points * 3 / 4, NOTHING);
        memcpy(both.last, both.fresh, (size_t)both.points * sizeof *both.last);
        if (ei_stopped(given->monitor))
            status = EI_ERR_INTERRUPTED;
        if (sweep == sweeps || (sweep > 0 && change < SETTLED))
            break;
        drain(&both);
        wait(&both);
    }
    const double lead = given->first.law == NULL ? given->first.again / both.step : 0;
    if (status == EI_OK)
        status = read_off(&both, both.last, lead, 1, 1, alone);
    if (status == EI_OK && given->second.law != NULL)
        serve_row(&both, &both.second, both.last, both.fresh);
    if (status == EI_OK)
        status = read_off(&both, given->second.law != NULL ? both.fresh : both.last, lead, FINER, 0, law);
    walk_free(&both);
    return status;
}
