#include "edgeinfer/pair_upper.h"

#include "edgeinfer/joint_laws.h"
#include "edgeinfer/lindley.h"
#include "edgeinfer/multiversion.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FINER = 8,   /* points of the answer on a step */
    ATOMS = 128, /* of a service on a step: divides EI_JOINT_FINE */
    EXPONENTS = 8,
    KINDS = 4, /* numbers of interarrival times that are taken out */
    SWEEPS = 400,
    LINE_SWEEPS = 1000,
    FARTHER = 2 /* times the plane's points on a line */
};
static const size_t APART[KINDS] = {1, 2, 4, 8};
static const double WORTH = 1.5;    /* times rate / decay: of them at most */
static const double ROOM = 6;       /* decay times beyond the horizon that the plane reaches */
static const double SETTLED = 1e-3; /* relative change at which sweeps end */
static const double LINE_SETTLED = 1e-4;
static const double ROUNDING = 1e-9;  /* relative, of all sums */
static const double MGF_ERROR = 1e-5; /* of the logarithm */
static const double LARGEST = 3;      /* times the points that are asked for */
static const double COARSEST = 0.5;   /* steps in an interarrival time, as in joint_laws.h, times the rate */
static const double HAIR = 1e-9;      /* of a step, as in walk.h */

/* Of u a e^{-theta (y - r)} + b e^{-theta y}; alone: of the walk in a, before its service; the moments. */
typedef struct {
    double theta, a, b, alone;
    double before, bottleneck, between, ahead, interval;
} exponent;

/* One end's lattice; rows of the plane have y + 1 values of r or g. */
typedef struct {
    const ei_pair_walk *given;
    ei_end end;
    double step;
    size_t top, far;
    ei_joint_law before, bottleneck, between, ahead;
    ei_joint_idle idle;
    size_t exponents;
    exponent exponent[EXPONENTS];
    double *u, *m;                                /* rows 0 .. top, 0 .. top + 2; u owns all */
    double *rest, *moved;                         /* [top + 4] */
    double *alone, *fresh, *served, *line, *kept; /* [far + 1], v, w, w served */
} plane;

/* What is kept of a plane for each number of interarrival times taken out: [far + 1], P(Y > y) and S(y). */
typedef struct {
    double *above, *loss;
} answer;

/* ---- laws */

/* The law of joint_laws.h, with what takes no time; the rest of a lower one is left out. */
static int law_init(ei_joint_law *self, const ei_joint_service *service) {
    int status = ei_joint_law_init(self, service, SIZE_MAX, 0);
    if (status != EI_OK)
        return status;
    self->mass[0] += 1 - service->sf[0];
    const double last = self->tail[self->count - 1];
    for (size_t i = 0; i < self->count && service->end == EI_LOWER; i++)
        self->tail[i] = fmax(self->tail[i] - last, 0);
    return EI_OK;
}

/* The law of a service from one side, on [0, steps]. */
static int stage_law(ei_joint_law *self, const ei_added_stage *stage, double step, size_t most, ei_end end) {
    const size_t atom = EI_JOINT_FINE / ATOMS;
    ei_joint_service service = {.step = step, .end = end};
    ei_lattice lattice = {.sf = NULL};
    if (stage->law == NULL) {
        size_t at = (size_t)round(stage->again / step);
        *self = (ei_joint_law){.count = at + 1, .mass = calloc(2 * (at + 1), sizeof(double))};
        if (self->mass == NULL)
            return EI_ERR_NO_MEMORY;
        self->tail = self->mass + at + 1;
        self->mass[at] = 1;
        for (size_t i = 0; i < at; i++)
            self->tail[i] = 1;
        return EI_OK;
    }
    const double reach = fmax(ei_service_reach(stage->law), stage->floor);
    const size_t steps = (size_t)fmin(ceil(reach / step) + 1, (double)most) + 1;
    int status = ei_lattice_service(&lattice, stage->law, stage->floor, step / ATOMS, steps * ATOMS + 2, end);
    service.count = steps * EI_JOINT_FINE + 1;
    if (status == EI_OK && (service.sf = malloc(service.count * sizeof *service.sf)) == NULL)
        status = EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < service.count && status == EI_OK; k++)
        service.sf[k] = lattice.sf[(end == EI_UPPER ? k : k + atom - 1) / atom];
    if (status == EI_OK && end == EI_UPPER) {
        double theta = fmin(25 / ei_service_extent(stage->law), 0.9 * ei_service_abscissa(stage->law)),
               moment;
        status = ei_added_stage_log_moment(stage, theta, &moment);
        service.beyond = exp(moment + MGF_ERROR - theta * (double)steps * step) / theta;
    }
    if (status == EI_OK)
        status = law_init(self, &service);
    ei_joint_service_free(&service);
    ei_lattice_free(&lattice);
    return status;
}

/* That of a law known from above, as it is. */
static int known_law(ei_joint_law *self, const ei_upper_law *law, double step, size_t most, ei_end end) {
    const ei_lattice *lattice = &law->lattice;
    ei_joint_service service = {.step = step, .end = end};
    if (lattice->sf == NULL) {
        const ei_added_stage nothing = {NULL, 0, 0};
        return stage_law(self, &nothing, step, most, end);
    }
    const double reach = (double)lattice->count * lattice->step;
    const size_t steps = (size_t)fmin(ceil(reach / step), (double)most) + 1;
    service.count = steps * EI_JOINT_FINE + 1;
    service.sf = malloc(service.count * sizeof *service.sf);
    if (service.sf == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < service.count; k++)
        service.sf[k] = ei_upper_law_sf(law, (double)k * (step / EI_JOINT_FINE));
    if (end == EI_UPPER)
        service.beyond = exp(law->log_scale - law->decay * (double)steps * step) / law->decay;
    int status = law_init(self, &service);
    ei_joint_service_free(&service);
    return status;
}

static double tail_of(const ei_joint_law *self, size_t at) {
    return self->tail[at < self->count ? at : self->count - 1];
}

/* ---- Chernoff's bound */

static int moments_at(const plane *self, double theta, exponent *at, int *valid) {
    const ei_pair_walk *given = self->given;
    const ei_joint_idle *idle = &self->idle;
    const double spread = theta * self->step, share = spread * spread / 8, step = exp(-spread);
    const ei_upper_law *known[] = {given->between, given->ahead};
    double before, bottleneck, moment[2];
    *valid = 0;
    for (size_t k = 0; k < 2; k++) {
        if (known[k]->lattice.sf != NULL && !(theta < known[k]->decay * (1 - 1e-6)))
            return EI_OK;
        moment[k] = known[k]->lattice.sf == NULL
                        ? 1
                        : exp(ei_upper_law_log_moment(known[k], theta) + share + MGF_ERROR + spread / ATOMS);
    }
    int status = ei_added_stage_log_moment(&given->before, theta, &before);
    if (status == EI_OK)
        status = ei_added_stage_log_moment(&given->bottleneck, theta, &bottleneck);
    if (status != EI_OK)
        return status;
    *at = (exponent){.theta = theta,
                     .before = exp(before + MGF_ERROR + share + spread / ATOMS),
                     .bottleneck = exp(bottleneck + MGF_ERROR + share + spread / ATOMS),
                     .between = moment[0],
                     .ahead = moment[1],
                     .interval = idle->mass[0] + step * (idle->mass[1] + step * idle->mass[2]) +
                                 idle->rest * step * step * step / (1 - idle->decay * step)};
    const double a = at->interval * at->before, b = at->interval * at->bottleneck;
    if (!(a < 1 - 1e-6) || !(b < 1 - 1e-6))
        return EI_OK;
    at->alone = at->ahead / (1 - a);
    at->a = at->before * at->alone;
    at->b = at->a * (at->between - 1 + b) / (1 - b);
    *valid = isfinite(at->a) && isfinite(at->b);
    return EI_OK;
}

static int choose_exponents(plane *self) {
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
        if ((status = moments_at(self, shares[e] * low, &self->exponent[self->exponents], &valid)) != EI_OK)
            return status;
        self->exponents += (size_t)valid;
    }
    return self->exponents > 0 ? EI_OK : EI_ERR_UNSTABLE;
}

/* What of a line is bounded beyond it: the walk in a, or w; before or after a service; or all from there on,
 * interarrival times' weights or ones. */
typedef enum { PLAIN, SERVED, WEIGHED, SUMMED } shape;

static double beyond(const plane *self, int alone, shape kind, double place) {
    double least = INFINITY;
    if (self->end == EI_LOWER)
        return 0;
    for (size_t e = 0; e < self->exponents; e++) {
        const exponent *at = &self->exponent[e];
        const double step = exp(-at->theta * self->step);
        double value = (alone ? at->alone : at->a + at->b) * exp(-at->theta * place * self->step);
        if (kind != PLAIN)
            value *= alone ? at->before : at->bottleneck;
        if (kind == WEIGHED)
            value /= 1 - self->idle.decay * step;
        if (kind == SUMMED)
            value /= 1 - step;
        least = fmin(least, value);
    }
    return kind == PLAIN || kind == SERVED ? fmin(least, 1) : least;
}

/* ---- lines */

static double served_at(const ei_joint_law *law, const double *from, size_t y) {
    double sum = tail_of(law, y);
    const size_t last = y < law->count - 1 ? y : law->count - 1;
    for (size_t i = 0; i <= last; i++)
        sum += law->mass[i] * from[y - i];
    return sum;
}

static void serve_line(const plane *self, const ei_joint_law *law, const double *from, double *to) {
    for (size_t y = self->far + 1; y-- > 0;)
        to[y] = fmin(served_at(law, from, y), 1);
}

/* w = c + (1 - c) E E_B w(y + t - B). */
static int solve_line(plane *self, const ei_joint_law *law, int alone, const double *chance, double *w) {
    const ei_joint_idle *idle = &self->idle;
    const double far = (double)self->far;
    const double edge[] = {beyond(self, alone, SERVED, far + 1), beyond(self, alone, SERVED, far + 2)};
    const double rest_at = beyond(self, alone, WEIGHED, far + 3);
    for (size_t y = 0; y <= self->far; y++)
        w[y] = beyond(self, alone, PLAIN, (double)y);
    for (int sweep = 0; sweep < LINE_SWEEPS; sweep++) {
        double change = 0, m[] = {0, edge[0], edge[1]}, rest = rest_at;
        for (size_t y = self->far + 1; y-- > 0;) {
            m[0] = fmin(served_at(law, w, y), 1);
            double value = fmin(
                idle->mass[0] * m[0] + idle->mass[1] * m[1] + idle->mass[2] * m[2] + idle->rest * rest, 1);
            value = chance[y] + (1 - chance[y]) * value;
            if (y < self->top)
                change = fmax(change, fabs(value - w[y]) / fmax(value, 1e-28));
            w[y] = value;
            rest = m[2] + idle->decay * rest;
            m[2] = m[1];
            m[1] = m[0];
        }
        if (ei_stopped(self->given->monitor))
            return EI_ERR_INTERRUPTED;
        if (change < LINE_SETTLED)
            break;
    }
    return EI_OK;
}

static int solve_lines(plane *self) {
    double *chance = self->line, *next = self->kept;
    for (size_t y = 0; y <= self->far; y++)
        chance[y] = tail_of(&self->ahead, y);
    memcpy(next, chance, (self->far + 1) * sizeof *next);
    int status = solve_line(self, &self->before, 1, chance, self->fresh);
    if (status != EI_OK)
        return status;
    serve_line(self, &self->before, self->fresh, self->alone);
    if (self->end == EI_LOWER)
        serve_line(self, &self->before, next, next);
    serve_line(self, &self->between, self->end == EI_UPPER ? self->alone : next, chance);
    if ((status = solve_line(self, &self->bottleneck, 0, chance, self->fresh)) != EI_OK)
        return status;
    serve_line(self, &self->bottleneck, self->fresh, self->served);
    return EI_OK;
}

/* The bound of the two of u or, with w served, of m. */
static double joined(const plane *self, double alone, double fresh) {
    return self->end == EI_UPPER ? fmin(alone + fresh, 1) : fmax(alone, fresh);
}

/* ---- the plane */

static double *row_of(double *rows, size_t y) {
    return rows + y * (y + 1) / 2;
}

EI_MULTIVERSION static void add_scaled(double scale, const double *restrict from, size_t count,
                                       double *restrict to) {
    for (size_t k = 0; k < count; k++)
        to[k] += scale * from[k];
}

/* Four rows at once, each one's values a place further than those of the one after it. */
EI_MULTIVERSION static void add_four(const double *restrict scale, const double *restrict a,
                                     const double *restrict b, const double *restrict c,
                                     const double *restrict d, size_t count, double *restrict to) {
    for (size_t k = 0; k < count; k++)
        to[k] += (scale[0] * a[k] + scale[1] * b[k]) + (scale[2] * c[k] + scale[3] * d[k]);
}

/* m at y from u. */
static void serve_row(const plane *self, size_t y) {
    const ei_joint_law *law = &self->bottleneck;
    const size_t last = y < law->count - 1 ? y : law->count - 1;
    double *to = row_of(self->m, y), none = tail_of(law, y);
    size_t b = 0;
    for (size_t g = 0; g <= y; g++)
        to[g] = 0;
    /* Services beyond g leave nothing. */
    for (size_t g = last + 1; g-- > 0;) {
        to[g] += none;
        none += law->mass[g] * row_of(self->u, y - g)[0];
    }
    for (size_t g = last + 1; g <= y; g++)
        to[g] = tail_of(law, y);
    while (b <= last) {
        if (law->mass[b] == 0) {
            b++;
        } else if (b + 3 <= last) {
            const double *at = row_of(self->u, y - b), *next = row_of(self->u, y - b - 1),
                         *third = row_of(self->u, y - b - 2);
            for (size_t k = 0; k < 3; k++) {
                to[b + k] += law->mass[b] * at[k];
                if (k > 0)
                    to[b + k] += law->mass[b + 1] * next[k - 1];
                if (k > 1)
                    to[b + k] += law->mass[b + 2] * third[k - 2];
            }
            add_four(law->mass + b, at + 3, next + 2, third + 1, row_of(self->u, y - b - 3), y + 1 - b - 3,
                     to + b + 3);
            b += 4;
        } else {
            add_scaled(law->mass[b], row_of(self->u, y - b), y + 1 - b, to + b);
            b++;
        }
    }
    for (size_t g = 0; g <= y; g++)
        to[g] = fmin(to[g], 1);
}

/* E of A + max(r, Q') of w at y, g <= y, 1 beyond, into `to`. */
static void leave_row(const plane *self, size_t y, const double *w, double *to) {
    const ei_joint_law *law = &self->before, *between = &self->between;
    const size_t last = y < law->count - 1 ? y : law->count - 1;
    size_t i = 0;
    for (size_t r = 0; r <= y; r++)
        to[r] = tail_of(law, y - r);
    while (i <= last) {
        if (law->mass[i] == 0) {
            i++;
        } else if (i + 3 <= last) {
            const size_t count = y + 1 - i - 3;
            add_four(law->mass + i, w + i, w + i + 1, w + i + 2, w + i + 3, count, to);
            add_scaled(law->mass[i + 2], w + i + 2 + count, 1, to + count);
            add_scaled(law->mass[i + 1], w + i + 1 + count, 2, to + count);
            add_scaled(law->mass[i], w + i + count, 3, to + count);
            i += 4;
        } else {
            add_scaled(law->mass[i], w + i, y + 1 - i, to);
            i++;
        }
    }
    if (between->count > 1 || between->tail[0] > 0) {
        double more = tail_of(between, y), upto = 1 - tail_of(between, y);
        for (size_t r = y + 1; r-- > 0;) {
            const double here = to[r], mass = r < between->count ? between->mass[r] : 0;
            to[r] = upto * here + more;
            more += mass * here;
            upto -= mass;
        }
    }
    for (size_t r = 0; r <= y; r++)
        to[r] = fmin(to[r], 1);
}

/* What lies beyond the plane: rows of m at top + 1 and top + 2, and what is behind them, weighed. */
static void begin_rows(plane *self, const double *rest_alone, const double *rest_served) {
    for (size_t y = self->top + 1; y <= self->top + 2; y++)
        for (size_t g = 0; g <= y; g++)
            row_of(self->m, y)[g] = joined(self, self->alone[y - g], self->served[y]);
    const size_t y = self->top + 3;
    for (size_t g = 0; g <= self->top; g++)
        self->rest[g] = self->end == EI_UPPER ? rest_alone[y - g] + rest_served[y]
                                              : fmax(rest_alone[y - g], rest_served[y]);
}

static int solve_plane(plane *self) {
    const ei_joint_idle *idle = &self->idle;
    double *w = self->moved;
    /* line, kept: sums of all points from one on, with interarrival times' weights. */
    double alone = beyond(self, 1, WEIGHED, (double)self->far + 1),
           served = beyond(self, 0, WEIGHED, (double)self->far + 1);
    for (size_t y = self->far + 1; y-- > 0;) {
        self->line[y] = alone = self->alone[y] + idle->decay * alone;
        self->kept[y] = served = self->served[y] + idle->decay * served;
    }
    for (size_t y = 0; y <= self->top; y++) {
        double *u = row_of(self->u, y);
        for (size_t r = 0; r <= y; r++)
            u[r] = joined(self, r > 0 ? self->alone[y - r] : 0, self->fresh[y]);
    }
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        double change = 0;
        begin_rows(self, self->line, self->kept);
        for (size_t y = self->top + 1; y-- > 0;) {
            const double *m[] = {row_of(self->m, y), row_of(self->m, y + 1), row_of(self->m, y + 2)};
            double *u = row_of(self->u, y), old = u[0];
            serve_row(self, y);
            for (size_t g = 0; g <= y; g++) {
                const double chance = tail_of(&self->ahead, y - g);
                double value = idle->mass[0] * m[0][g] + idle->mass[1] * m[1][g] + idle->mass[2] * m[2][g] +
                               idle->rest * self->rest[g];
                w[g] = chance + (1 - chance) * fmin(value, 1);
            }
            for (size_t g = 0; g <= y; g++)
                self->rest[g] = m[2][g] + idle->decay * self->rest[g];
            leave_row(self, y, w, u);
            if (u[0] > 1e-28)
                change = fmax(change, fabs(u[0] - old) / u[0]);
        }
        if (ei_stopped(self->given->monitor))
            return EI_ERR_INTERRUPTED;
        if (change < SETTLED)
            break;
    }
    return EI_OK;
}

/* One job more without its interarrival time, and of what lies beyond, `alone` and `fresh`: P(Y > y). */
static void take_out(plane *self, int first) {
    double *alone = self->alone, *fresh = self->fresh, *line = self->line;
    for (size_t y = 0; y <= self->top && !first; y++) {
        leave_row(self, y, row_of(self->m, y), self->moved);
        memcpy(row_of(self->u, y), self->moved, (y + 1) * sizeof *self->moved);
    }
    for (size_t y = self->top + 1; y-- > 0;)
        serve_row(self, y);
    serve_line(self, &self->before, alone, line);
    memcpy(alone, line, (self->far + 1) * sizeof *line);
    serve_line(self, &self->between, alone, line);
    serve_line(self, &self->bottleneck, fresh, self->served);
    for (size_t y = 0; y <= self->far; y++)
        fresh[y] = joined(self, line[y], self->served[y]);
    for (size_t y = 0; y <= self->top; y++) {
        leave_row(self, y, row_of(self->m, y), self->moved);
        fresh[y] = self->moved[0];
    }
}

/* P(Y > y) and its sums with `apart` interarrival times taken out. */
static void keep(plane *self, size_t apart, answer *to) {
    const double far = (double)self->far + 1;
    double sum = INFINITY;
    serve_line(self, &self->bottleneck, self->fresh, to->above);
    for (size_t e = 0; e < self->exponents; e++) {
        const exponent *at = &self->exponent[e];
        double alone = at->a, fresh = at->a + at->b;
        for (size_t k = 0; k < apart; k++) {
            alone *= at->before;
            fresh = alone * at->between + at->bottleneck * fresh;
        }
        sum = fmin(sum, at->bottleneck * fresh * exp(-at->theta * far * self->step) /
                            -expm1(-at->theta * self->step));
    }
    if (self->end == EI_LOWER)
        sum = 0;
    const double factor = self->end == EI_UPPER ? 1 + ROUNDING : 1 - ROUNDING;
    for (size_t y = self->far + 1; y-- > 0;) {
        to->above[y] *= factor;
        sum += to->above[y];
        to->loss[y] = sum * self->step;
    }
}

static void plane_free(plane *self) {
    ei_joint_law_free(&self->before);
    ei_joint_law_free(&self->bottleneck);
    ei_joint_law_free(&self->between);
    ei_joint_law_free(&self->ahead);
    free(self->u);
}

static int plane_init(plane *self) {
    const ei_pair_walk *given = self->given;
    const size_t most = self->far, top = self->top, wide = self->far + 1;
    const size_t plain = (top + 1) * (top + 2) / 2, more = (top + 3) * (top + 4) / 2;
    self->idle = ei_joint_idle_law(given->arrival_rate, self->step, self->end);
    int status = stage_law(&self->before, &given->before, self->step, most, self->end);
    if (status == EI_OK)
        status = stage_law(&self->bottleneck, &given->bottleneck, self->step, most, self->end);
    if (status == EI_OK)
        status = known_law(&self->between, given->between, self->step, most, self->end);
    if (status == EI_OK)
        status = known_law(&self->ahead, given->ahead, self->step, most, self->end);
    if (status == EI_OK && self->end == EI_UPPER)
        status = choose_exponents(self);
    if (status != EI_OK)
        return status;
    self->u = malloc((plain + more + 2 * (top + 4) + 5 * wide) * sizeof *self->u);
    if (self->u == NULL)
        return EI_ERR_NO_MEMORY;
    self->m = self->u + plain;
    self->rest = self->m + more;
    self->moved = self->rest + top + 4;
    self->alone = self->moved + top + 4;
    self->fresh = self->alone + wide;
    self->served = self->fresh + wide;
    self->line = self->served + wide;
    self->kept = self->line + wide;
    return EI_OK;
}

/* ---- the end */

typedef struct {
    ei_pair_walk given;
    double step, offset; /* s: of the services that are left out */
    size_t top, far, kinds, count;
    answer answers[2][KINDS];
    exponent exponent[EXPONENTS];
    size_t exponents;
    double *block, *chance; /* [far + 2]: of Erlang's law in each cell */
} walk;

static int solve_end(walk *self, ei_end end) {
    plane one = {.given = &self->given, .end = end, .step = self->step, .top = self->top, .far = self->far};
    int status = plane_init(&one);
    if (status == EI_OK && (status = solve_lines(&one)) == EI_OK)
        status = solve_plane(&one);
    for (size_t k = 0, apart = 0; k < self->kinds && status == EI_OK; k++) {
        for (; apart < APART[k]; apart++)
            take_out(&one, apart == 0);
        keep(&one, apart, &self->answers[end][k]);
    }
    if (end == EI_UPPER) {
        memcpy(self->exponent, one.exponent, sizeof self->exponent);
        self->exponents = one.exponents;
    }
    plane_free(&one);
    return status;
}

/* Erlang's distribution function. */
static double erlang(size_t stages, double x) {
    double term = exp(-x), sum = 0;
    if (stages == 1)
        return -expm1(-x);
    for (size_t i = 0; i < stages; i++) {
        sum += term;
        term *= x / (double)(i + 1);
    }
    /* Of small x by the terms that are left. */
    if (sum < 0.5)
        return 1 - sum;
    double rest = 0;
    for (size_t i = stages; i < stages + 60 && term > 0; i++) {
        rest += term;
        term *= x / (double)(i + 1);
    }
    return rest;
}

/* Chernoff's bound of paths of at most `apart` jobs. */
static double few_jobs(const walk *self, size_t apart, double time) {
    double least = 1;
    for (size_t e = 0; e < self->exponents; e++) {
        const exponent *at = &self->exponent[e];
        double path = at->before * at->bottleneck * at->between, stay = at->bottleneck, sum = path;
        for (size_t n = 1; n < apart; n++) {
            path = at->before * at->interval * (path + stay * at->bottleneck * at->between);
            stay *= at->bottleneck * at->interval;
            sum += path;
        }
        least = fmin(least, sum * at->ahead * exp(-at->theta * time));
    }
    return least;
}

/* P(time > point) from above at the answer's points, of one of the four times of a path. */
static int survival_of(const walk *self, size_t which, double *sf) {
    const ei_pair_walk *given = &self->given;
    const ei_added_stage *stage = which == 0 ? &given->before : &given->bottleneck;
    const ei_upper_law *known = which == 2 ? given->between : given->ahead;
    const double step = self->step / FINER;
    ei_lattice law = {.sf = NULL};
    if (which < 2 && stage->law != NULL) {
        int status = ei_lattice_service(&law, stage->law, stage->floor, step, self->count, EI_UPPER);
        if (status == EI_OK)
            memcpy(sf, law.sf, self->count * sizeof *sf);
        ei_lattice_free(&law);
        return status;
    }
    for (size_t j = 0; j < self->count; j++)
        sf[j] = which < 2 ? (double)j < round(stage->again / step) : ei_upper_law_sf(known, (double)j * step);
    return EI_OK;
}

/* The sum of one service each, from above: all but one of them are rounded up. */
static int one_job(const walk *self, double *sum) {
    const size_t count = self->count;
    double *next = malloc(2 * count * sizeof *next), *sf = next + count;
    int status = next == NULL ? EI_ERR_NO_MEMORY : survival_of(self, 0, sum);
    for (size_t which = 1; which < 4 && status == EI_OK; which++) {
        if ((status = survival_of(self, which, sf)) != EI_OK)
            break;
        memcpy(next, sf, count * sizeof *next);
        for (size_t i = 0; i < count; i++) {
            const double mass = (i > 0 ? sf[i - 1] : 1) - sf[i];
            if (mass > 0)
                add_scaled(mass, sum, count - i, next + i);
        }
        memcpy(sum, next, count * sizeof *sum);
    }
    free(next);
    return status;
}

/* S between the points. */
static double loss_at(const walk *self, const answer *one, double place) {
    const double cell = floor(place);
    const size_t at = (size_t)cell;
    if (at >= self->far)
        return one->loss[self->far];
    return one->loss[at] + (place - cell) * (one->loss[at + 1] - one->loss[at]);
}

/* The end of one kind, all places of one part of a step: see the header. */
static void end_of(walk *self, size_t kind, size_t part, double *sf) {
    const size_t apart = APART[kind], count = self->far + 1;
    const double rate = self->given.arrival_rate, begin = (double)part / FINER,
                 mode = (double)(apart - 1) / (rate * self->step);
    const answer *low = &self->answers[EI_LOWER][kind], *high = &self->answers[EI_UPPER][kind];
    const double density =
        rate * exp(-(double)(apart - 1) + (double)(apart - 1) * log(fmax((double)apart - 1, 1)) -
                   lgamma((double)apart));
    const size_t turn = (size_t)(mode + begin);
    double before = 0, rising = 0, falling = 0;
    for (size_t c = 0; c < count; c++) {
        double to = erlang(apart, ((double)c + 1 - begin) * self->step * rate);
        if (c == turn) {
            double middle = erlang(apart, mode * self->step * rate);
            rising = middle - before;
            falling = to - middle;
        }
        self->chance[c] = to - before;
        before = to;
    }
    for (size_t y = 0; y * FINER + part < self->count; y++) {
        const double place = (double)y + begin + mode;
        const size_t ahead = count - y;
        double value = density * (loss_at(self, high, place) - loss_at(self, low, place) +
                                  ROUNDING * loss_at(self, high, place));
        for (size_t c = 0; c < ahead && c < turn; c++)
            value += self->chance[c] * high->above[y + c];
        if (turn < ahead)
            value += fmax(rising, 0) * high->above[y + turn] + fmax(falling, 0) * low->above[y + turn];
        if (turn + 1 < ahead)
            value += ei_dot(self->chance + turn + 1, low->above + y + turn + 1, ahead - turn - 1);
        const size_t at = y * FINER + part;
        const double few =
            kind == 0 ? sf[self->count + at] : few_jobs(self, apart, (double)at / FINER * self->step);
        sf[at] = fmin(sf[at], (value + few) * (1 + ROUNDING) + ROUNDING * high->above[y]);
    }
}

static int walk_init(walk *self, const ei_pair_walk *given) {
    const double asked = given->horizon / (double)given->points;
    const double exact = given->before.law == NULL       ? given->before.again
                         : given->bottleneck.law == NULL ? given->bottleneck.again
                                                         : 0;
    *self = (walk){.given = *given};
    if (given->points < 4 || !(given->horizon > 0) || !(given->decay > 0) ||
        (given->before.law == NULL && given->bottleneck.law == NULL))
        return EI_ERR_DOMAIN;
    self->step = exact > 0 ? exact / ceil(exact / asked) : asked;
    self->offset = exact;
    const double most = ceil((given->horizon + exact) / self->step) + 1;
    const double top = most + ceil(ROOM / (given->decay * self->step));
    if (!(given->arrival_rate * self->step < COARSEST) || !(top < LARGEST * (double)given->points))
        return EI_ERR_TOO_LARGE;
    self->count = (size_t)most * FINER;
    self->top = (size_t)top;
    self->far = FARTHER * self->top;
    while (self->kinds < KINDS &&
           (double)APART[self->kinds] <= fmax(WORTH * given->arrival_rate / given->decay, 1))
        self->kinds++;
    const size_t wide = self->far + 1;
    self->block = malloc((4 * self->kinds + 1) * wide * sizeof *self->block);
    if (self->block == NULL)
        return EI_ERR_NO_MEMORY;
    self->chance = self->block + 4 * self->kinds * wide;
    for (size_t end = 0; end < 2; end++)
        for (size_t k = 0; k < self->kinds; k++) {
            double *at = self->block + (2 * (end * self->kinds + k)) * wide;
            self->answers[end][k] = (answer){at, at + wide};
        }
    return EI_OK;
}

int ei_pair_upper(ei_upper_law *self, const ei_pair_walk *given) {
    walk work;
    double *sf = NULL;
    *self = (ei_upper_law){.decay = 0};
    int status = walk_init(&work, given);
    if (status != EI_OK || (status = solve_end(&work, EI_LOWER)) != EI_OK ||
        (status = solve_end(&work, EI_UPPER)) != EI_OK)
        goto out;
    sf = malloc(2 * work.count * sizeof *sf);
    if (sf == NULL) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    for (size_t j = 0; j < work.count; j++)
        sf[j] = 1;
    if ((status = one_job(&work, sf + work.count)) != EI_OK)
        goto out;
    for (size_t kind = 0; kind < work.kinds; kind++)
        for (size_t part = 0; part < FINER; part++)
            end_of(&work, kind, part, sf);
    for (size_t j = 1; j < work.count; j++)
        sf[j] = fmin(sf[j], sf[j - 1]);
    const size_t skipped = (size_t)round(work.offset / work.step) * FINER, count = work.count - skipped;
    memmove(sf, sf + skipped, count * sizeof *sf);
    self->lattice = (ei_lattice){work.step / FINER, count, sf};
    self->shift = given->between->shift + given->ahead->shift +
                  HAIR * (given->between->lattice.step + given->ahead->lattice.step + work.step);
    sf = NULL;
out:
    free(sf);
    free(work.block);
    return status;
}
