#include "edgeinfer/joint_walk.h"

#include "edgeinfer/gmres.h"
#include "edgeinfer/multiversion.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SWEEPS = 4, /* of a product of GMRES, */
    MOST_PRODUCTS = 20,
    AGAIN = 8,    /* times that a row is found at most where it takes part in itself */
    UNCUT = 1000, /* and of the walk whose U is never cut, whose values are compared at some places */
    PROBES = 8
};
static const double SETTLED[] = {5e-5, 2e-6}; /* the residual that GMRES leaves, for each effort */
static const double PRODUCTS = 2.1;           /* of GMRES, over the root of what a sweep takes off at least */
/* Chebyshev's semi-iteration for eigenvalues from 0 to 0.7, in the long run. */
static const double LARGER = 1.67, KEPT = 0.085;
static const double SAME = 3e-3;          /* relative change of a row that is not found again */
static const double CHEAPER = 0.5;        /* sweeps than other work */
static const double SUM_ROUNDING = 1e-12; /* relative, of a sweep */
static const double UNCUT_SETTLED = 3e-4; /* relative change of a sweep of the walk whose U is never cut */

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

/* T_i at c. */
static void update_row(const ei_joint *self, ptrdiff_t c) {
    const double *idle = ei_joint_row(self, self->idle_value, c);
    double *given = ei_joint_given(self, self->first);
    const ptrdiff_t reach = floor_div(c, self->ratio);
    const size_t found = ei_joint_given_count(self, c), count = ei_joint_blocks(ei_joint_row_count(self, c));
    begin_job(self, &self->laws[0], self->first, reach, count);
    for (size_t i = 0; i < self->types; i++) {
        blend(self->busy.ratio[i], idle, type_row(self, i, c + self->drift), found, given);
        pass_given(self, &self->laws[0], self->first, reach, count, type_row(self, i, c));
    }
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

/* A row's first values, which bound it, or (bounded = 0) what a walk whose U is never cut has. */
static void begin_values(const ei_joint *self, size_t i, ptrdiff_t c, int bounded, double *values) {
    const ptrdiff_t inside = floor_div(c, self->ratio) - self->first + 1;
    const size_t count = (size_t)(inside < 0                        ? 0
                                  : inside < (ptrdiff_t)self->width ? inside
                                                                    : (ptrdiff_t)self->width);
    const double *uncut = ei_joint_uncut(self, i, c);
    double constants[EI_JOINT_BOUNDS], most = constants_of(self, i, 1, constants), cut = 0;
    if (self->end == EI_UPPER && bounded)
        cut = ei_joint_bound_at(self, constants, (double)c * self->fine);
    for (size_t u = 0; u < count; u++)
        values[u] = fmin(most, uncut[u] + cut);
    for (size_t u = count; u < self->width; u++)
        values[u] = most;
}

static void begin_row(const ei_joint *self, ptrdiff_t c) {
    for (size_t i = 0; i < self->types; i++)
        begin_values(self, i, c, 1, type_row(self, i, c));
    begin_values(self, self->types, c, 1, kept_row(self, self->mix, c));
    begin_values(self, self->types + 1, c, 1, kept_row(self, self->sum, c));
}

/* Of the arrays whose last rows alone are kept, the one that the first busy period begins with. */
static void keep_longest(const ei_joint *self, ptrdiff_t c) {
    if (self->end == EI_UPPER)
        memcpy(ei_joint_row(self, self->longest, c), type_row(self, self->slowest, c),
               self->width * sizeof(double));
}

static const ei_joint_bound *best_bound(const ei_joint *self) {
    const ei_joint_bound *best = &self->bounds[0];
    for (size_t e = 1; e < self->bound_count; e++)
        best = self->bounds[e].shrink < best->shrink ? &self->bounds[e] : best;
    return best;
}

void ei_joint_choose_products(ei_joint *self) {
    if (self->drift >= 0) {
        self->sweeps = self->drift > 0 ? 1 : self->end == EI_UPPER ? AGAIN : 2;
        return;
    }
    self->products = (size_t)fmin(ceil(PRODUCTS / sqrt(1 - best_bound(self)->shrink)), MOST_PRODUCTS);
    self->sweeps = CHEAPER * SWEEPS * (0.6 * (double)self->products + 1);
}

static int is_stopped(const ei_joint *self, ptrdiff_t c) {
    return c % 8 == 0 && ei_stopped(self->batch->monitor);
}

/* c never falls: T_i is given only rows above, which are known. */
static int sweep_down(const ei_joint *self) {
    for (ptrdiff_t c = self->top; c >= self->low; c--) {
        end_busy_period(self, c);
        update_row(self, c);
        mix_row(self, c);
        sum_row(self, c);
        keep_longest(self, c);
        if (is_stopped(self, c))
            return EI_ERR_INTERRUPTED;
    }
    return EI_OK;
}

/* ---- c stays where it is in a busy period */

/* 1 - s P, P a job's law from u to u' on all rows, as a product of a lower and an upper matrix, both of 1 or
 * `pivot` on the diagonal less positive entries: of the lower one those of `back` columns before the
 * diagonal, of the upper one `ahead`, from the diagonal on, where it is 1 less the pivot. No pivot is
 * exchanged, as rows have sums of at most s, so that all terms that are added are positive, and what c leaves
 * is the first of these rows and columns. */
typedef struct {
    size_t back, ahead;
    double *lower, *upper; /* [width][back], [width][ahead] */
} factors;

static void factorize(const ei_joint *self, double s, const factors *all, double *row) {
    const ei_joint_law *law = &self->laws[0];
    const size_t back = all->back, ahead = all->ahead;
    for (size_t u = 0; u < self->width; u++) {
        double *lower = all->lower + u * back, *upper = all->upper + u * ahead;
        for (size_t k = 0; k < back + ahead; k++)
            row[k] = k + u > back && k < law->count ? s * law->mass[k] : 0;
        if (u <= back)
            row[back - u] = s * law->upto[back - u < law->count ? back - u : law->count - 1];
        for (size_t k = u < back ? back - u : 0; k < back; k++) {
            const double *before = all->upper + (u + k - back) * ahead;
            lower[k] = row[k] / (1 - before[0]);
            for (size_t i = 1; i < ahead; i++)
                row[k + i] += lower[k] * before[i];
        }
        memcpy(upper, row + back, ahead * sizeof *upper);
    }
}

/* x from f, the first `count` of each, in its place. */
static void solve_factors(const factors *all, size_t count, double *x) {
    for (size_t u = 1; u < count; u++) {
        const size_t some = u < all->back ? u : all->back;
        x[u] += ei_dot(all->lower + u * all->back + all->back - some, x + u - some, some);
    }
    for (size_t u = count; u-- > 0;) {
        const double *upper = all->upper + u * all->ahead;
        const size_t rest = count - u < all->ahead ? count - u : all->ahead;
        x[u] = (x[u] + ei_dot(upper + 1, x + u + 1, rest - 1)) / (1 - upper[0]);
    }
}

/* A row's T_i given H: late + P ((1 - s) H + s T_i) = T_i. */
static void solve_row(const ei_joint *self, ptrdiff_t c, const factors *all) {
    const size_t found = ei_joint_given_count(self, c), count = ei_joint_row_count(self, c);
    const ptrdiff_t reach = floor_div(c, self->ratio);
    memcpy(ei_joint_given(self, self->first), ei_joint_row(self, self->idle_value, c),
           found * sizeof(double));
    begin_job(self, &self->laws[0], self->first, reach, ei_joint_blocks(count));
    pass_given(self, &self->laws[0], self->first, reach, ei_joint_blocks(count), self->mean);
    for (size_t i = 0; i < self->types; i++) {
        blend(self->busy.ratio[i], self->mean, self->late, count, type_row(self, i, c));
        if (reach >= 0)
            solve_factors(&all[i], count, type_row(self, i, c));
    }
}

static size_t ahead_of(const ei_joint *self) {
    const size_t back = (size_t)-self->first, count = self->laws[0].count;
    return count > back ? count - back : 1;
}

double ei_joint_factors(const ei_joint *self) {
    return self->drift == 0
               ? (double)self->types * (double)self->width * ((double)ahead_of(self) - (double)self->first)
               : 0;
}

/* Rows downwards; where idle times may be 0 a row's F is in its own H, from its bound or 0 on. */
static int solve_rows(const ei_joint *self) {
    const size_t back = (size_t)-self->first, ahead = ahead_of(self), size = self->width * (back + ahead);
    factors all[EI_JOINT_TYPES];
    double *block = malloc((self->types * size + back + ahead) * sizeof *block);
    int status = block == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    for (size_t i = 0; i < self->types && status == EI_OK; i++) {
        all[i] = (factors){back, ahead, block + i * size, block + i * size + self->width * back};
        factorize(self, self->busy.ratio[i], &all[i], block + self->types * size);
    }
    for (ptrdiff_t c = self->top; c >= self->low && status == EI_OK; c--) {
        double change = self->idle.mass[0];
        begin_row(self, c);
        for (int i = 0; i < AGAIN && change >= 0; i++) {
            const double *mix = kept_row(self, self->mix, c), old = mix[0];
            end_busy_period(self, c);
            solve_row(self, c, all);
            mix_row(self, c);
            change = change > 0 && fabs(mix[0] - old) > SAME * mix[0] ? change : -1;
        }
        sum_row(self, c);
        keep_longest(self, c);
        status = is_stopped(self, c) ? EI_ERR_INTERRUPTED : EI_OK;
    }
    free(block);
    return status;
}

/* ---- c falls in a busy period */

/* F of all rows: what a sweep makes of itself, in one vector. */
typedef struct {
    const ei_joint *self;
    size_t size;
    double *begin, *weight, *now, *before, *vector; /* [size]; one block, owned by begin */
} equation;

/* F to the vector, or from it. */
static void copy(const ei_joint *self, double *vector, int back) {
    for (ptrdiff_t c = self->low; c <= self->top; c++) {
        const size_t count = ei_joint_row_count(self, c);
        double *values = kept_row(self, self->mix, c);
        memcpy(back ? values : vector, back ? vector : values, count * sizeof *vector);
        vector += count;
    }
}

/* What a sweep makes no more than the exponent's `shrink` of. */
static void weigh(const ei_joint *self, const ei_joint_bound *one, double *weight) {
    const double grow = exp(one->theta * self->coarse);
    for (ptrdiff_t c = self->low; c <= self->top; c++) {
        const double scale = exp(-one->theta * (double)c * self->fine);
        double power = scale;
        for (size_t u = ei_joint_row_count(self, c); u > 0; u--, power *= grow)
            *weight++ = power + one->cut * scale;
    }
}

/* Idle times lead far upwards, and busy periods down by little: these are followed to their ends, and one of
 * those. */
static void sweep_up(const ei_joint *self) {
    for (ptrdiff_t c = self->top; c >= self->low; c--)
        sum_row(self, c);
    for (ptrdiff_t c = self->low; c <= self->top; c++) {
        if (c + self->drift >= self->low)
            end_busy_period(self, c);
        update_row(self, c);
        mix_row(self, c);
        keep_longest(self, c);
    }
}

/* Some sweeps, each of whose changes is made larger, and goes on in part with the next one. */
static void sweep_on(const equation *all) {
    const ei_joint *self = all->self;
    copy(self, all->now, 0);
    memcpy(all->before, all->now, all->size * sizeof(double));
    for (int i = 0; i < SWEEPS && !ei_stopped(self->batch->monitor); i++) {
        double *now = all->now, *before = all->before;
        sweep_up(self);
        for (ptrdiff_t c = self->low; c <= self->top; c++) {
            double *values = kept_row(self, self->mix, c);
            const size_t count = ei_joint_row_count(self, c);
            for (size_t u = 0; u < count; u++) {
                values[u] = now[u] + LARGER * (values[u] - now[u]) + KEPT * (now[u] - before[u]);
                before[u] = now[u];
                now[u] = values[u];
            }
            now += count;
            before += count;
        }
    }
}

/* x less what the sweeps make of it, but for what is given; weighed. */
static void product(void *context, const double *x, double *y) {
    const equation *all = context;
    for (size_t i = 0; i < all->size; i++)
        all->now[i] = all->begin[i] + all->weight[i] * x[i];
    copy(all->self, all->now, 1);
    sweep_on(all);
    for (size_t i = 0; i < all->size; i++)
        y[i] = x[i] + all->vector[i] - (all->now[i] - all->begin[i]) / all->weight[i];
}

/* From what GMRES has found, to an end: see joint.h. */
static void make_end(const equation *all) {
    const ei_joint *self = all->self;
    const double side = self->end == EI_UPPER ? 1 : -1;
    double *found = all->begin, *less = all->before, *weight = all->now, *error = all->weight;
    for (size_t i = 0; i < all->size; i++)
        found[i] += all->weight[i] * all->vector[i];
    copy(self, found, 1);
    sweep_up(self);
    copy(self, less, 0);
    for (size_t i = 0; i < all->size; i++) {
        less[i] = side * (less[i] - found[i]) + SUM_ROUNDING * fabs(less[i]);
        error[i] = INFINITY;
    }
    for (size_t e = 0; e < self->bound_count; e++) {
        double most = 0;
        weigh(self, &self->bounds[e], weight);
        for (size_t i = 0; i < all->size; i++)
            most = fmax(most, less[i] / weight[i]);
        most /= 1 - self->bounds[e].shrink;
        for (size_t i = 0; i < all->size; i++)
            error[i] = fmin(error[i], most * weight[i]);
    }
    for (ptrdiff_t c = self->low; c <= self->top; c++) {
        double *values = kept_row(self, self->mix, c);
        begin_values(self, self->types, c, 1, values);
        for (size_t u = 0; u < ei_joint_row_count(self, c); u++) {
            const double value = *found++ + side * *error++;
            if (side * (values[u] - value) > 0)
                values[u] = value;
        }
    }
    sweep_up(self);
}

static int solve_by_sweeps(const ei_joint *self) {
    equation all = {.self = self};
    int status = EI_OK;
    for (ptrdiff_t c = self->low; c <= self->top; c++)
        all.size += ei_joint_row_count(self, c);
    if ((all.begin = malloc(5 * all.size * sizeof(double))) == NULL)
        return EI_ERR_NO_MEMORY;
    all.weight = all.begin + all.size;
    all.now = all.weight + all.size;
    all.before = all.now + all.size;
    all.vector = all.before + all.size;
    for (ptrdiff_t c = self->low; c <= self->top; c++)
        begin_values(self, self->types, c, 0, kept_row(self, self->mix, c));
    weigh(self, best_bound(self), all.weight);
    copy(self, all.begin, 0);
    sweep_on(&all);
    for (size_t i = 0; i < all.size; i++)
        all.vector[i] = (all.now[i] - all.begin[i]) / all.weight[i];
    status = ei_gmres(product, &all, all.size, all.vector, self->products, SETTLED[self->batch->effort]);
    if (status == EI_OK && ei_stopped(self->batch->monitor))
        status = EI_ERR_INTERRUPTED;
    if (status == EI_OK)
        make_end(&all);
    for (ptrdiff_t c = self->top; c >= self->low; c--) {
        sum_row(self, c);
        if (c + self->drift >= self->low)
            end_busy_period(self, c);
    }
    free(all.begin);
    return status;
}

int ei_joint_solve(const ei_joint *self) {
    int status = solve_uncut(self);
    if (status != EI_OK)
        return status;
    for (ptrdiff_t c = self->top + (ptrdiff_t)self->pad; c > (self->drift < 0 ? self->low - 1 : self->top);
         c--) {
        begin_row(self, c);
        keep_longest(self, c);
    }
    return self->drift > 0 ? sweep_down(self) : self->drift < 0 ? solve_by_sweeps(self) : solve_rows(self);
}
