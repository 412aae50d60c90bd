#include "edgeinfer/joint_walk.h"

#include "edgeinfer/multiversion.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    OVERLAP = 2,  /* windows that a row is in */
    INNER = 2,    /* sweeps of a window before the next one */
    UNCUT = 1000, /* and of the walk whose U is never cut, whose values are compared at some places */
    PROBES = 8
};
static const double SETTLED[] = {1e-3, 5e-4}; /* relative change of a sweep, for each effort */
static const double UNCUT_SETTLED = 3e-4;     /* and of that walk's */

static ptrdiff_t floor_div(ptrdiff_t a, ptrdiff_t b) {
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

/* Y where nothing waits but the jobs whose interarrival times are taken out, and c = d3. */
double ei_joint_nearest(const ei_joint *self) {
    return (double)(self->apart + 1) * self->d1 + 2 * self->d3;
}

double *ei_joint_row(const ei_joint *self, double *array, ptrdiff_t c) {
    return c < self->low ? self->ones : array + (size_t)(c - self->low) * self->width;
}

/* As ei_joint_row, of F and R, and of T_i. */
static double *kept_row(const ei_joint *self, double *array, ptrdiff_t c) {
    return c < self->low ? self->ones : array + (size_t)(c - self->low) % self->kept * self->width;
}

static double *type_row(const ei_joint *self, size_t i, ptrdiff_t c) {
    return c < self->low ? self->ones : self->type[i] + (size_t)(c - self->low) % self->turns * self->width;
}

/* ---- one job */

/* Eight values at any address. */
typedef double octet __attribute__((vector_size(64), aligned(8), may_alias));

/* values[u] += sum over i < terms of mass[i] given[u + i], for blocks of u, the last one in full, whose sums
 * stay in registers, of two blocks where there are two, as additions wait for one another: left to itself the
 * compiler makes vectors along i, far slower. */
EI_MULTIVERSION static void add_products(const double *restrict mass, size_t terms,
                                         const double *restrict given, size_t count,
                                         double *restrict values) {
    enum { OCTETS = EI_JOINT_BLOCK / 8 };
    size_t u = 0;
    for (; u + EI_JOINT_BLOCK < count; u += 2 * EI_JOINT_BLOCK) {
        octet sum[2 * OCTETS];
        for (size_t k = 0; k < 2 * OCTETS; k++)
            sum[k] = *(const octet *)(values + u + 8 * k);
        for (size_t i = 0; i < terms; i++)
            for (size_t k = 0; k < 2 * OCTETS; k++)
                sum[k] += mass[i] * *(const octet *)(given + u + i + 8 * k);
        for (size_t k = 0; k < 2 * OCTETS; k++)
            *(octet *)(values + u + 8 * k) = sum[k];
    }
    if (u >= count)
        return;
    octet sum[OCTETS];
    for (size_t k = 0; k < OCTETS; k++)
        sum[k] = *(const octet *)(values + u + 8 * k);
    for (size_t i = 0; i < terms; i++)
        for (size_t k = 0; k < OCTETS; k++)
            sum[k] += mass[i] * *(const octet *)(given + u + i + 8 * k);
    for (size_t k = 0; k < OCTETS; k++)
        *(octet *)(values + u + 8 * k) = sum[k];
}

/* values[u] += mass sum over i of decay^i given[u + i], u < count, in eights whose last may be beyond; given
 * ends in zeros, from `length` on. */
EI_MULTIVERSION static void add_geometric(double mass, double decay, const double *restrict given,
                                          size_t count, size_t length, double *restrict values) {
    const double square = decay * decay, fourth = square * square, eighth = fourth * fourth;
    octet sum = {0, 0, 0, 0, 0, 0, 0, 0};
    for (size_t u = (length + 7) / 8 * 8; u > 0;) {
        u -= 8;
        const octet *at[8];
        for (size_t k = 0; k < 8; k++)
            at[k] = (const octet *)(given + u + k);
        const octet low = *at[0] + decay * *at[1] + square * (*at[2] + decay * *at[3]),
                    high = *at[4] + decay * *at[5] + square * (*at[6] + decay * *at[7]);
        sum = low + fourth * high + eighth * sum;
        if (u < count)
            *(octet *)(values + u) += mass * sum;
    }
}

/* to[u] = sum over i < terms of weight[i] from[i][u], of whole blocks; sums stay in registers as above. */
EI_MULTIVERSION static void combine(size_t terms, const double *weight, const double *const *from,
                                    size_t count, double *to) {
    enum { OCTETS = EI_JOINT_BLOCK / 8 };
    for (size_t u = 0; u < count; u += EI_JOINT_BLOCK) {
        octet sum[OCTETS] = {{0}};
        for (size_t i = 0; i < terms; i++)
            for (size_t k = 0; k < OCTETS; k++)
                sum[k] += weight[i] * *(const octet *)(from[i] + u + 8 * k);
        for (size_t k = 0; k < OCTETS; k++)
            *(octet *)(to + u + 8 * k) = sum[k];
    }
}

/* (1 - s) idle + s same. */
static void blend(double s, const double *idle, const double *same, size_t count, double *given) {
    combine(2, (const double[]){1 - s, s}, (const double *const[]){idle, same}, count, given);
}

/* P(U' > c) for u = 0 .. count - 1, in `late`, and P(U' <= d3), in `ended`: whatever the job is given. */
static void begin_job(const ei_joint *self, const ei_joint_law *law, ptrdiff_t first, ptrdiff_t reach,
                      size_t count) {
    const ptrdiff_t last = (ptrdiff_t)law->count - 1, end = reach - first;
    const ptrdiff_t none = (reach < 0 ? reach : -1) - first, all = (ptrdiff_t)count;
    const ptrdiff_t far = end - last < 0 ? 0 : end - last < all ? end - last : all;
    const ptrdiff_t near = end + 1 < 0 ? 0 : end + 1 < all ? end + 1 : all;
    const ptrdiff_t some = none + 1 < 0 ? 0 : none + 1 < all ? none + 1 : all;
    double *late = self->late, *ended = self->ended;
    for (ptrdiff_t u = 0; u < far; u++)
        late[u] = law->tail[last];
    for (ptrdiff_t u = far; u < near; u++)
        late[u] = law->tail[end - u];
    for (ptrdiff_t u = near; u < all; u++)
        late[u] = law->upto[last] + law->tail[last];
    for (ptrdiff_t u = 0; u < some; u++)
        ended[u] = law->upto[none - u < last ? none - u : last];
    for (ptrdiff_t u = some; u < all; u++)
        ended[u] = 0;
}

/* What a job is given, for u' from 0 on, stands here before pass_job. */
double *ei_joint_given(const ei_joint *self, ptrdiff_t first) {
    return self->around - first;
}

size_t ei_joint_blocks(size_t count) {
    return (count + EI_JOINT_BLOCK - 1) / EI_JOINT_BLOCK * EI_JOINT_BLOCK;
}

/* ei_joint_pass_job after begin_job, of whole blocks. */
static void pass_given(const ei_joint *self, const ei_joint_law *law, ptrdiff_t first, ptrdiff_t reach,
                       size_t count, double *restrict values) {
    const double nothing = self->around[-first];
    combine(2, (const double[]){1, nothing}, (const double *const[]){self->late, self->ended}, count, values);
    if (reach < 0)
        return;
    /* given[u'] stands at u' - first, zeros around it. */
    double *around = self->around;
    memset(around, 0, (size_t)-first * sizeof *around);
    const size_t length = (size_t)(reach - first) + 1;
    const ptrdiff_t terms = (ptrdiff_t)(law->decay > 0 ? law->regular : law->count);
    memset(around + length, 0, (EI_JOINT_CHUNK + EI_JOINT_BLOCK) * sizeof *around);
    for (size_t u = 0; u < count; u += EI_JOINT_CHUNK) {
        ptrdiff_t from = -first - (ptrdiff_t)(u + EI_JOINT_CHUNK) + 1, to = reach - first - (ptrdiff_t)u + 1;
        size_t some = count - u < EI_JOINT_CHUNK ? count - u : EI_JOINT_CHUNK;
        from = from > (ptrdiff_t)law->begin ? from : (ptrdiff_t)law->begin;
        to = to < terms ? to : terms;
        if (from < to)
            add_products(law->mass + from, (size_t)(to - from), around + u + (size_t)from, some, values + u);
    }
    /* Masses from `regular` on. */
    if (law->decay > 0 && law->regular < length)
        add_geometric(law->mass[law->regular], law->decay, around + law->regular, count,
                      length - law->regular, values);
}

void ei_joint_pass_job(const ei_joint *self, const ei_joint_law *law, ptrdiff_t first, ptrdiff_t reach,
                       size_t count, double *values) {
    count = ei_joint_blocks(count);
    begin_job(self, law, first, reach, count);
    pass_given(self, law, first, reach, count, values);
}

/* Values of u that a row needs: all that may be left of U where c has fallen to it. */
size_t ei_joint_row_count(const ei_joint *self, ptrdiff_t c) {
    ptrdiff_t most = floor_div(c + (self->drift < 0 ? -self->drift : 0), self->ratio);
    return most > 0 ? (size_t)most + 1 : 1;
}

size_t ei_joint_given_count(const ei_joint *self, ptrdiff_t c) {
    ptrdiff_t reach = floor_div(c, self->ratio);
    return reach > 0 ? (size_t)reach + 1 : 1;
}

/* H at c, from F and R. */
static void end_busy_period(const ei_joint *self, ptrdiff_t c) {
    const ei_joint_idle *idle = &self->idle;
    const double weight[] = {idle->mass[0], idle->mass[1], idle->mass[2], idle->rest}, *at[4];
    for (ptrdiff_t i = 0; i < 4; i++)
        at[i] = kept_row(self, i < 3 ? self->mix : self->sum, c + self->drift + i);
    combine(4, weight, at, ei_joint_given_count(self, c), ei_joint_row(self, self->idle_value, c));
}

/* T_i at c; returns the largest relative change at u = 0 of what stood in its place. */
static double update_row(const ei_joint *self, ptrdiff_t c) {
    const double *idle = ei_joint_row(self, self->idle_value, c);
    double change = 0, *given = ei_joint_given(self, self->first);
    const ptrdiff_t reach = floor_div(c, self->ratio);
    const size_t found = ei_joint_given_count(self, c), count = ei_joint_blocks(ei_joint_row_count(self, c));
    begin_job(self, &self->laws[0], self->first, reach, count);
    for (size_t i = 0; i < self->types; i++) {
        double *values = type_row(self, i, c), old = values[0];
        blend(self->busy.ratio[i], idle, type_row(self, i, c + self->drift), found, given);
        pass_given(self, &self->laws[0], self->first, reach, count, values);
        change = fmax(change, fabs(values[0] - old) / fmax(values[0], DBL_MIN));
    }
    return change;
}

/* F at c. */
static void mix_row(const ei_joint *self, ptrdiff_t c) {
    const double *rows[EI_JOINT_TYPES];
    for (size_t i = 0; i < self->types; i++)
        rows[i] = type_row(self, i, c);
    combine(self->types, self->busy.weight, rows, ei_joint_row_count(self, c), kept_row(self, self->mix, c));
}

/* R at c. */
static void sum_row(const ei_joint *self, ptrdiff_t c) {
    const double *const rows[] = {kept_row(self, self->mix, c), kept_row(self, self->sum, c + 1)};
    combine(2, (const double[]){1, self->idle.decay}, rows, ei_joint_row_count(self, c),
            kept_row(self, self->sum, c));
}

/* ---- the walk whose U is never cut */

double *ei_joint_uncut(const ei_joint *self, size_t i, ptrdiff_t v) {
    const ptrdiff_t whole = floor_div(v, self->ratio);
    return self->uncut[i] + (v - whole * self->ratio) * (ptrdiff_t)self->phase +
           ((ptrdiff_t)self->above + self->deepest - whole);
}

/* Of t_i for i < types, and, i = types, of F, i = types + 1, of R: the constants a, or a + b, and at most. */
static double constants_of(const ei_joint *self, size_t i, int with_b, double *constants) {
    const int is_sum = i > self->types;
    double most = 0;
    memset(constants, 0, EI_JOINT_BOUNDS * sizeof *constants);
    for (size_t k = 0; k < self->types; k++) {
        const double weight = i < self->types ? k == i : self->busy.weight[k];
        most += weight;
        for (size_t e = 0; e < self->bound_count; e++)
            constants[e] += weight * (self->bounds[e].a[k] + with_b * self->bounds[e].b[k]);
    }
    for (size_t e = 0; e < self->bound_count && is_sum; e++)
        constants[e] /= 1 - self->idle.decay * exp(-self->bounds[e].theta * self->fine);
    return is_sum ? most / (1 - self->idle.decay) : most;
}

/* t_i, before the sweeps: its bound, or 0. */
static void begin_uncut(const ei_joint *self) {
    const ptrdiff_t count = self->deepest + (ptrdiff_t)self->above + 1;
    double constants[EI_JOINT_BOUNDS];
    for (size_t i = 0; i < self->types && self->end == EI_UPPER; i++) {
        constants_of(self, i, 0, constants);
        for (ptrdiff_t v = self->first * self->ratio; v < count * self->ratio; v++)
            *ei_joint_uncut(self, i, v) =
                v < 0 ? 1 : fmin(1, ei_joint_bound_at(self, constants, (double)v * self->fine));
    }
}

/* F, R and H of t_i. */
static void sum_uncut(const ei_joint *self) {
    const ei_joint_idle *idle = &self->idle;
    const size_t mix = self->types, sum = mix + 1, ended = mix + 2;
    const ptrdiff_t high = (self->deepest + (ptrdiff_t)self->above + 1) * self->ratio;
    double constants[EI_JOINT_BOUNDS], value = 0;
    combine(self->types, self->busy.weight, (const double *const *)self->uncut,
            (size_t)self->ratio * self->phase, self->uncut[mix]);
    if (self->end == EI_UPPER) {
        value = constants_of(self, sum, 0, constants);
        value = fmin(value, ei_joint_bound_at(self, constants, (double)high * self->fine));
    }
    for (ptrdiff_t v = high - 1; v >= self->first * self->ratio; v--)
        *ei_joint_uncut(self, sum, v) = value = *ei_joint_uncut(self, mix, v) + idle->decay * value;
    for (ptrdiff_t v = (self->deepest + 1) * self->ratio - 1; v >= 0; v--) {
        double *at = ei_joint_uncut(self, ended, v);
        *at = idle->rest * *ei_joint_uncut(self, sum, v + self->drift + 3);
        for (ptrdiff_t k = 0; k < 3; k++)
            *at += idle->mass[k] * *ei_joint_uncut(self, mix, v + self->drift + k);
    }
}

/* t_i up to v = `deepest`; returns the largest relative change at some of these. */
static double sweep_uncut(const ei_joint *self) {
    const ptrdiff_t reach = self->deepest;
    double change = 0, *given = ei_joint_given(self, self->first);
    begin_job(self, &self->laws[0], self->first, reach, self->span);
    for (size_t i = 0; i < self->types; i++) {
        for (ptrdiff_t part = 0; part < self->ratio; part++) {
            const ptrdiff_t v = reach * self->ratio + part;
            double *values = ei_joint_uncut(self, i, v), old[PROBES];
            for (size_t k = 0; k < PROBES; k++)
                old[k] = values[k * self->span / PROBES];
            blend(self->busy.ratio[i], ei_joint_uncut(self, self->types + 2, v),
                  ei_joint_uncut(self, i, v + self->drift), (size_t)reach + 1, given);
            /* The deepest v stands for all deeper ones. */
            if (self->end == EI_LOWER)
                given[0] = 0;
            pass_given(self, &self->laws[0], self->first, reach, self->span, values);
            for (size_t k = 0; k < PROBES; k++) {
                const double now = values[k * self->span / PROBES];
                change = fmax(change, fabs(now - old[k]) / fmax(now, DBL_MIN));
            }
        }
    }
    return change;
}

static int solve_uncut(const ei_joint *self) {
    double change = 1;
    begin_uncut(self);
    sum_uncut(self);
    for (int i = 0; i < UNCUT && change > UNCUT_SETTLED; i++) {
        change = sweep_uncut(self);
        sum_uncut(self);
        if (ei_stopped(self->batch->monitor))
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
}

/* A row's first values, which bound it. */
static void begin_values(const ei_joint *self, size_t i, ptrdiff_t c, double *values) {
    const ptrdiff_t inside = floor_div(c, self->ratio) - self->first + 1;
    const size_t count = (size_t)(inside < 0                        ? 0
                                  : inside < (ptrdiff_t)self->width ? inside
                                                                    : (ptrdiff_t)self->width);
    const double *uncut = ei_joint_uncut(self, i, c);
    double constants[EI_JOINT_BOUNDS], most = constants_of(self, i, 1, constants), cut = 0;
    if (self->end == EI_UPPER)
        cut = ei_joint_bound_at(self, constants, (double)c * self->fine);
    for (size_t u = 0; u < count; u++)
        values[u] = fmin(most, uncut[u] + cut);
    for (size_t u = count; u < self->width; u++)
        values[u] = most;
}

static void begin_row(const ei_joint *self, ptrdiff_t c) {
    for (size_t i = 0; i < self->types; i++)
        begin_values(self, i, c, type_row(self, i, c));
    begin_values(self, self->types, c, kept_row(self, self->mix, c));
    begin_values(self, self->types + 1, c, kept_row(self, self->sum, c));
}

/* Of the arrays whose last rows alone are kept, the one that the first busy period begins with. */
static void keep_longest(const ei_joint *self, ptrdiff_t c) {
    if (self->end == EI_UPPER)
        memcpy(ei_joint_row(self, self->longest, c), type_row(self, self->slowest, c),
               self->width * sizeof(double));
}

/* Where T_i at c are kept, one behind the other, for the window that begins just above; NULL: there is none.
 */
static double *kept_begin(const ei_joint *self, ptrdiff_t c) {
    const ptrdiff_t below = self->top - OVERLAP * self->down - c, back = -self->drift;
    if (self->drift >= 0 || below < 0 || below % self->down >= back)
        return NULL;
    return self->begins +
           (size_t)(below / self->down * back + below % self->down) * self->types * self->width;
}

/* Keeps what other windows and the first busy period take of T_i at c. */
static void keep_row(const ei_joint *self, ptrdiff_t c) {
    double *begin = kept_begin(self, c);
    for (size_t i = 0; i < self->types && begin != NULL; i++)
        memcpy(begin + i * self->width, type_row(self, i, c), self->width * sizeof *begin);
    keep_longest(self, c);
}

static int sweep_down(const ei_joint *self) {
    for (ptrdiff_t c = self->top; c >= self->low; c--) {
        if (self->drift == 0)
            begin_row(self, c);
        for (int repeat = 0; repeat < (self->drift > 0 ? 1 : self->sweeps); repeat++) {
            end_busy_period(self, c);
            double change = update_row(self, c);
            mix_row(self, c);
            sum_row(self, c);
            if (change < SETTLED[self->batch->effort])
                break;
        }
        keep_longest(self, c);
        if (c % 8 == 0 && ei_stopped(self->batch->monitor))
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
}

/* One window of rows, upwards, since busy periods lead down: [from, high]. Returns the largest relative
 * change of F from `counted` on. */
static double sweep_window(const ei_joint *self, ptrdiff_t from, ptrdiff_t high, ptrdiff_t counted) {
    double change = 0;
    for (ptrdiff_t c = from + self->drift; c < from; c++) {
        const double *begin = kept_begin(self, c);
        for (size_t i = 0; i < self->types && c >= self->low; i++)
            memcpy(type_row(self, i, c), begin + i * self->width, self->width * sizeof *begin);
    }
    for (ptrdiff_t c = from; c <= high; c++) {
        const double *mixed = kept_row(self, self->mix, c), old = mixed[0];
        if (c + self->drift >= self->low)
            end_busy_period(self, c);
        update_row(self, c);
        mix_row(self, c);
        keep_row(self, c);
        change = c > counted ? fmax(change, fabs(mixed[0] - old) / fmax(mixed[0], DBL_MIN)) : change;
    }
    for (ptrdiff_t c = high; c >= from; c--)
        sum_row(self, c);
    return change;
}

/* Idle times lead far upwards, and busy periods down by little: windows of rows, as long as most busy periods
 * lead, are swept upwards until they change no more, each below the last one, with part of it. Values stay on
 * their side in any order.
 */
static int sweep_repeatedly(const ei_joint *self) {
    const double most = (double)(self->top - self->low + 1), settled = SETTLED[self->batch->effort];
    const ptrdiff_t down = self->down;
    const double windows = ceil(most / (double)down);
    double change = 1, left = self->sweeps * windows;
    while (left > 0 && change > settled) {
        change = 0;
        for (ptrdiff_t high = self->top; high >= self->low; high -= down) {
            const ptrdiff_t end = high - OVERLAP * down + 1, from = end > self->low ? end : self->low;
            double one = 1;
            for (int repeat = 0; repeat < INNER && one > settled; repeat++) {
                one = sweep_window(self, from, high, high - down);
                change = fmax(change, repeat == 0 ? one : 0);
                left -= OVERLAP;
                if (ei_stopped(self->batch->monitor))
                    return EI_ERR_INTERRUPTED;
            }
        }
    }
    for (ptrdiff_t c = self->top; c >= self->low; c--) {
        if (c + self->drift >= self->low)
            end_busy_period(self, c);
    }
    return EI_OK;
}

int ei_joint_solve(const ei_joint *self) {
    int status = solve_uncut(self);
    if (status != EI_OK)
        return status;
    for (ptrdiff_t c = self->top + (ptrdiff_t)self->pad; c > (self->drift < 0 ? self->low - 1 : self->top);
         c--) {
        begin_row(self, c);
        keep_row(self, c);
    }
    return self->drift < 0 ? sweep_repeatedly(self) : sweep_down(self);
}
