#include "edgeinfer/pair.h"

#include "edgeinfer/fourier.h"
#include "edgeinfer/multiversion.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    LENGTH = 4096, /* of transforms */
    HALF = LENGTH / 2,
    POINTS = HALF - 1, /* so that sums of two places do not fold */
    FINE = 32,         /* atoms of a law on a step */
    FINER = 8,         /* points of the answer on a step */
    PHASES = EI_PAIR_PHASES,
    FEW = 8 /* phases of the first solutions */
};
static const double STEEPEST = 60;       /* exponent times the lattice's length */
static const double TILT = 0.9;          /* of the decay, at which sums are taken */
static const double ROUNDING = 1 - 1e-9; /* of what is done point by point */
static const double HAIR = 1e-9;         /* of a step, by which times are compared */
static const double ENOUGH = 0.9;        /* of a tilted law: where levels end */
static const double SETTLED = 1e-4;      /* relative change at which sweeps end */

/* The part of a transition that comes from one function: masses and bends under the tilt, transformed, or a
 * mass without a shift. */
typedef struct {
    double *parts; /* [HALF + 1][4]; NULL: none */
    int borrowed;  /* from another one */
    double error;  /* of a product over the other factor's 2-norm */
    double still;
} kernel;

/* From functions to functions: f'_i(y) = sum_j E [f_j(y - shift); j], f_j = 1 below zero. */
typedef struct {
    kernel kernels[PHASES][PHASES];
    double *above; /* [PHASES][POINTS]: P(shift > point) */
    double *raw;   /* [2][PHASES][2][POINTS + 1]: masses and bends of a row and of the one before it */
} transition;

typedef struct {
    const ei_pair *given;
    size_t phases;
    double step, theta;
    double own, top;      /* steps: of a constant A; of the last level */
    double level[PHASES]; /* steps: of the carry, or of the lead */
    ei_fourier fourier;
    double *weight;          /* [POINTS + 1]: e^{theta y} */
    double *data, *spectrum; /* [2 LENGTH]; [PHASES][HALF + 1][4] */
    double *sum;             /* [HALF + 1][4] */
    double *u, *m, *next;    /* [PHASES][POINTS] */
    double *late, *stay;     /* [PHASES][POINTS]: S; [PHASES][PHASES][POINTS] */
} pair;

static void transition_free(transition *self) {
    for (size_t i = 0; i < PHASES; i++)
        for (size_t j = 0; j < PHASES; j++)
            if (!self->kernels[i][j].borrowed)
                free(self->kernels[i][j].parts);
    free(self->above);
    memset(self, 0, sizeof *self);
}

static int transition_init(transition *self) {
    memset(self, 0, sizeof *self);
    self->above = calloc((size_t)PHASES * POINTS + 4 * PHASES * (POINTS + 1), sizeof(double));
    if (self->above == NULL)
        return EI_ERR_NO_MEMORY;
    self->raw = self->above + (size_t)PHASES * POINTS;
    return EI_OK;
}

static void pair_free(pair *self) {
    ei_fourier_free(&self->fourier);
    free(self->weight);
}

static int pair_init(pair *self, const ei_pair *given) {
    const size_t state = (size_t)PHASES * POINTS;
    *self = (pair){.given = given, .step = given->horizon / POINTS};
    self->theta = fmin(TILT * given->decay, STEEPEST / given->horizon);
    int status = ei_fourier_init(&self->fourier, LENGTH);
    if (status != EI_OK)
        return status;
    self->weight = calloc(POINTS + 1 + 2 * LENGTH + (PHASES + 1) * (HALF + 1) * 4 + (4 + PHASES) * state,
                          sizeof(double));
    if (self->weight == NULL)
        return EI_ERR_NO_MEMORY;
    self->data = self->weight + POINTS + 1;
    self->spectrum = self->data + 2 * LENGTH;
    self->sum = self->spectrum + PHASES * (HALF + 1) * 4;
    self->u = self->sum + (HALF + 1) * 4;
    self->m = self->u + state;
    self->next = self->m + state;
    self->late = self->next + state;
    self->stay = self->late + state;
    for (size_t j = 0; j <= POINTS; j++)
        self->weight[j] = exp(self->theta * (double)j * self->step);
    return EI_OK;
}

/* ---- laws */

/* The largest level at or below a time, or the least at or above it, steps. */
static size_t level_below(const pair *self, double time) {
    size_t k = self->phases - 1;
    while (k > 0 && self->level[k] > time - HAIR)
        k--;
    return k;
}

static size_t level_above(const pair *self, double time) {
    size_t k = 0;
    while (k + 1 < self->phases && self->level[k] < time + HAIR)
        k++;
    return k;
}

/* What a service of so many steps does in a phase: the phase behind it, and what is taken off the budget. */
typedef size_t (*mover)(const pair *self, size_t phase, double time, double *shift);

static size_t drain_carry(const pair *self, size_t phase, double time, double *shift) {
    *shift = time;
    return level_below(self, self->level[phase] + self->own - time);
}

static size_t add_lead(const pair *self, size_t phase, double time, double *shift) {
    *shift = time;
    return level_above(self, self->level[phase] + time);
}

static size_t drain_lead(const pair *self, size_t phase, double time, double *shift) {
    *shift = fmax(time - self->level[phase], 0);
    return *shift > 0 ? 0 : level_above(self, self->level[phase] - time);
}

/* An atom, shared between the points beside it. */
static void put(const pair *self, transition *to, size_t phase, mover move, double time, double mass) {
    double shift, *above = to->above + phase * POINTS;
    const size_t from = move(self, phase, time, &shift);
    double *share = to->raw + from * 2 * (POINTS + 1), *bend = share + POINTS + 1;
    double cell = floor(shift), part = shift - cell;
    if (!(cell < POINTS - 1)) {
        above[POINTS - 2] += mass;
        return;
    }
    size_t at = (size_t)cell;
    share[at] += mass * (1 - part);
    share[at + 1] += mass * part;
    bend[at] += mass * part * (1 - part);
}

/* The law of a stage rounded down to atoms, through `move`. */
static void put_law(const pair *self, transition *to, size_t phase, mover move, const ei_added_stage *stage,
                    const ei_lattice *law) {
    if (stage->law == NULL) {
        put(self, to, phase, move, stage->again / self->step, 1);
        return;
    }
    for (size_t i = 0; i < law->count; i++) {
        double mass = (i == 0 ? 1 : law->sf[i]) - (i + 1 < law->count ? law->sf[i + 1] : 0);
        if (mass > 0)
            put(self, to, phase, move, (double)i / FINE, mass);
    }
}

static double tilted_norm(const pair *self, const double *value) {
    double sum = 0;
    for (size_t j = 0; j <= POINTS; j++)
        sum += value[j] * self->weight[j] * value[j] * self->weight[j];
    return sqrt(sum);
}

/* The kernel of a row's masses and bends, its own or that of the row before it. */
static int make_kernel(transition *to, const pair *self, size_t phase, size_t from) {
    const size_t wide = POINTS + 1;
    const double *share = to->raw + from * 2 * wide, *bend = share + wide;
    double *re = self->data, *im = re + LENGTH, *above = to->above + phase * POINTS;
    kernel *here = &to->kernels[phase][from];
    double size = tilted_norm(self, share) + tilted_norm(self, bend);
    if (!(size > 0))
        return EI_OK;
    for (size_t j = 0; j + 1 < POINTS; j++)
        above[j] += share[j + 1];
    if (size == share[0]) {
        here->still = size;
        return EI_OK;
    }
    if (phase > 0 && from > 0) {
        const kernel *other = &to->kernels[phase - 1][from - 1];
        const double *before = share + (PHASES - 1) * 2 * wide;
        if (other->parts != NULL && memcmp(before, share, 2 * wide * sizeof *share) == 0) {
            *here = *other;
            here->borrowed = 1;
            return EI_OK;
        }
    }
    here->parts = malloc((HALF + 1) * 4 * sizeof(double));
    if (here->parts == NULL)
        return EI_ERR_NO_MEMORY;
    here->error = 7 * ei_fourier_error(&self->fourier) * size;
    memset(re, 0, 2 * LENGTH * sizeof *re);
    for (size_t j = 0; j < wide; j++) {
        re[j] = share[j] * self->weight[j];
        im[j] = bend[j] * self->weight[j];
    }
    ei_fourier_forward(&self->fourier, self->data);
    for (size_t k = 0; k <= HALF; k++)
        ei_fourier_split(&self->fourier, self->data, k, here->parts + 4 * k);
    return EI_OK;
}

static int transition_of(transition *to, const pair *self, mover move, const ei_added_stage *stage) {
    const size_t row = PHASES * 2 * (POINTS + 1);
    ei_lattice law = {.sf = NULL};
    int status = transition_init(to);
    if (status == EI_OK && stage->law != NULL) {
        double reach = ei_service_reach(stage->law) / self->step;
        status = ei_lattice_service(&law, stage->law, 0, self->step / FINE,
                                    (size_t)(fmin(reach, POINTS) * FINE) + 3, EI_LOWER);
    }
    for (size_t phase = 0; phase < self->phases && status == EI_OK; phase++) {
        double *above = to->above + phase * POINTS;
        memcpy(to->raw + row, to->raw, row * sizeof(double));
        memset(to->raw, 0, row * sizeof(double));
        put_law(self, to, phase, move, stage, &law);
        if (ei_stopped(self->given->monitor))
            status = EI_ERR_INTERRUPTED;
        for (size_t from = 0; from < self->phases && status == EI_OK; from++)
            status = make_kernel(to, self, phase, from);
        for (size_t j = POINTS - 1; j-- > 0;)
            above[j] += above[j + 1];
    }
    ei_lattice_free(&law);
    return status;
}

/* ---- steps of the recursion */

/* Falls, and is 0 in a whole cell where it is below 0 at one of its ends. */
static void flatten(double *value) {
    for (size_t j = 0; j < POINTS; j++) {
        double least = fmin(value[j], j + 1 < POINTS ? value[j + 1] : 0);
        value[j] = least >= 0 ? fmin(value[j] * ROUNDING, j > 0 ? value[j - 1] : 1) : 0;
    }
}

EI_MULTIVERSION
static void add_products(const double *restrict left, const double *restrict right, double *restrict sum) {
    for (size_t e = 0; e < (HALF + 1) * 4; e += 2) {
        sum[e] += left[e] * right[e] - left[e + 1] * right[e + 1];
        sum[e + 1] += left[e] * right[e + 1] + left[e + 1] * right[e];
    }
}

static void apply(pair *self, const transition *by, const double *from, double *to) {
    double norm[PHASES], *re = self->data, *im = re + LENGTH;
    const double scale = 1.0 / LENGTH;
    for (size_t j = 0; j < self->phases; j++) {
        const double *f = from + j * POINTS;
        double square = 0;
        memset(re, 0, 2 * LENGTH * sizeof *re);
        for (size_t i = 0; i < POINTS; i++) {
            double left = i > 0 ? f[i - 1] : 1, right = i + 1 < POINTS ? f[i + 1] : 0;
            re[i] = f[i] * self->weight[i];
            im[i] = fmax(left - 2 * f[i] + right, 0) * self->weight[i];
            square += re[i] * re[i] + im[i] * im[i];
        }
        norm[j] = sqrt(square);
        ei_fourier_forward(&self->fourier, self->data);
        for (size_t k = 0; k <= HALF; k++)
            ei_fourier_split(&self->fourier, self->data, k, self->spectrum + (j * (HALF + 1) + k) * 4);
    }
    for (size_t i = 0; i < self->phases; i++) {
        double error = 0, before = 0, *value = to + i * POINTS;
        double *sum = self->sum;
        memset(sum, 0, (HALF + 1) * 4 * sizeof *sum);
        for (size_t j = 0; j < self->phases; j++) {
            if (by->kernels[i][j].parts == NULL)
                continue;
            error += by->kernels[i][j].error * norm[j];
            add_products(by->kernels[i][j].parts, self->spectrum + j * (HALF + 1) * 4, sum);
        }
        for (size_t k = 0; k <= HALF; k++)
            ei_fourier_join(&self->fourier, sum + 4 * k, k, self->data);
        ei_fourier_backward(&self->fourier, self->data);
        for (size_t j = 0; j < POINTS; j++) {
            double bend = fmax((im[j] * scale + error) / self->weight[j], 0);
            value[j] = (re[j] * scale - error) / self->weight[j] - fmax(bend, before) +
                       by->above[i * POINTS + j] * ROUNDING;
            before = bend;
        }
        for (size_t k = 0; k < self->phases; k++)
            for (size_t j = 0; by->kernels[i][k].still > 0 && j < POINTS; j++)
                value[j] += by->kernels[i][k].still * from[k * POINTS + j];
        flatten(value);
    }
}

/* E f(y + t), t exponential. */
static void wait(const pair *self, double *value) {
    const double mean = self->given->arrival_rate * self->step, kept = exp(-mean);
    const double far = -expm1(-mean) / mean - kept, near = -expm1(-mean) - far;
    for (size_t i = 0; i < self->phases; i++) {
        double *f = value + i * POINTS, sum = 0, after = 0, bend = 0;
        for (size_t j = POINTS; j-- > 0;) {
            double here = f[j];
            sum = near * here + far * after + kept * sum;
            /* Of both cells beside the point. */
            bend = mean / 8 * fmax(here - after, j > 0 ? f[j - 1] - here : 0);
            after = here;
            f[j] = sum - bend;
        }
        flatten(f);
    }
}

/* What a job does before the one that comes before it: the path may end there, in stages before. */
static void end_there(const pair *self, const double *m, double *u) {
    for (size_t i = 0; i < self->phases; i++) {
        double *to = u + i * POINTS;
        memcpy(to, self->late + i * POINTS, POINTS * sizeof *to);
        for (size_t l = 0; l < self->phases; l++) {
            const double *stay = self->stay + (i * PHASES + l) * POINTS, *from = m + l * POINTS;
            for (size_t j = 0; j < POINTS; j++)
                to[j] += stay[j] * from[j];
        }
        flatten(to);
    }
}

/* ---- the stages before */

/* The masses of a law rounded down to the points; `own`: it is on POINTS + 1 of
 * them; or on other ones, or empty. */
static void masses_of(const pair *self, const ei_lattice *law, int own, double *mass) {
    double above = 1;
    for (size_t j = 0; j < POINTS; j++) {
        double next = law->sf == NULL ? 0
                      : own           ? law->sf[j + 1]
                                      : ei_lattice_lower(law, (double)(j + 1) * self->step);
        mass[j] = above - next;
        above = next;
    }
}

/* late and stay of every phase: g = A + max(carry, O), late where g less what is left out and E are beyond
 * the point. */
static int end_of_paths(pair *self) {
    const ei_pair *given = self->given;
    const ei_added_stage *before = given->before;
    double *own = calloc(5 * POINTS, sizeof *own);
    ei_lattice law = {.sf = NULL};
    int status = own == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    size_t left_out = 0;
    self->own = 0;
    if (status != EI_OK)
        return status;
    memset(self->late, 0, (1 + PHASES) * (size_t)PHASES * POINTS * sizeof(double));
    double *between = own + POINTS, *ahead = between + POINTS, *over = ahead + POINTS, *sum = over + POINTS;
    if (before != NULL && before->law != NULL)
        status = ei_lattice_service(&law, before->law, 0, self->step, POINTS + 1, EI_LOWER);
    masses_of(self, &law, 1, own);
    masses_of(self, given->between, 0, between);
    masses_of(self, given->ahead, 0, ahead);
    if (before != NULL && before->law == NULL) {
        left_out = (size_t)fmin(floor(before->again / self->step), POINTS);
        self->own = (double)left_out;
        own[0] = 0;
        if (left_out < POINTS)
            own[left_out] = 1;
    }
    /* P(E > point) and P(E <= point). */
    double above = 0;
    for (size_t j = POINTS; j-- > 0;) {
        double mass = ahead[j];
        over[j] = above;
        above += mass;
    }
    for (size_t j = 1; j < POINTS; j++)
        ahead[j] += ahead[j - 1];
    for (size_t i = 0; i < self->phases && status == EI_OK; i++) {
        const size_t carry = (size_t)self->level[i];
        double *late = self->late + i * POINTS;
        if (ei_stopped(given->monitor))
            status = EI_ERR_INTERRUPTED;
        memset(sum, 0, POINTS * sizeof *sum);
        for (size_t o = 0; o < POINTS; o++) {
            size_t at = o < carry ? carry : o;
            for (size_t j = 0; between[o] > 0 && at + j < POINTS; j++)
                sum[at + j] += between[o] * own[j];
        }
        for (size_t g = 0; g < POINTS; g++) {
            const double mass = sum[g];
            const size_t from = g > left_out ? g - left_out : 0;
            double *stay =
                self->stay + (i * PHASES + level_below(self, (double)g - self->own + 2 * HAIR)) * POINTS;
            for (size_t j = 0; mass > 0 && j < from; j++)
                late[j] += mass;
            for (size_t j = from; mass > 0 && j < POINTS; j++)
                stay[j] += mass * ahead[j - from];
            for (size_t j = from; mass > 0 && given->ahead->sf != NULL && j < POINTS; j++)
                late[j] += mass * over[j - from];
        }
    }
    ei_lattice_free(&law);
    free(own);
    return status;
}

/* Steps up to where the law of a stage, tilted, has little left. */
static int find_top(pair *self, const ei_added_stage *stage) {
    ei_lattice law = {.sf = NULL};
    double all = 0, most = 0;
    self->top = stage == NULL ? 0 : 2 * stage->again / self->step;
    if (stage == NULL || stage->law == NULL)
        return EI_OK;
    int status = ei_lattice_service(&law, stage->law, 0, self->step, POINTS + 1, EI_LOWER);
    for (size_t j = 0; j < POINTS && status == EI_OK; j++)
        all += (law.sf[j] - law.sf[j + 1]) * self->weight[j];
    for (size_t j = 0; j < POINTS && status == EI_OK && most < ENOUGH * all; j++) {
        most += (law.sf[j] - law.sf[j + 1]) * self->weight[j];
        self->top = (double)(j + 1);
    }
    ei_lattice_free(&law);
    return status;
}

/* So many levels of equal distance, and u of each from that of the level below it (sign 1) or above it. */
static void choose_levels(pair *self, size_t phases, int infinite) {
    pair old = *self;
    const size_t finite = phases - (size_t)infinite;
    double distance = finite > 1 ? ceil(fmax(self->top, 1) / (double)(finite - 1)) : 1;
    self->phases = phases;
    for (size_t k = 0; k < phases; k++)
        self->level[k] = k < finite ? (double)k * distance : INFINITY;
    for (size_t k = phases; k-- > 0;) {
        size_t from = infinite ? level_above(&old, self->level[k]) : level_below(&old, self->level[k]);
        if (from != k)
            memcpy(self->u + k * POINTS, self->u + from * POINTS, POINTS * sizeof *self->u);
    }
}

/* What the bottleneck's own queue gives to begin with. */
static int own_queue(const pair *self, double *value) {
    const ei_pair *given = self->given;
    const ei_added_stage *stage = &given->bottleneck;
    ei_md1 waiting = {0};
    ei_lattice service = {.sf = NULL}, sojourn = {.sf = NULL};
    int status;
    if (stage->law == NULL) {
        status = ei_md1_init(&waiting, given->arrival_rate, stage->again, given->horizon);
        for (size_t j = 0; j < POINTS && status == EI_OK; j++)
            value[j] = ei_md1_waiting_sf(&waiting, (double)(j + 1) * self->step - stage->again) * ROUNDING;
        ei_md1_free(&waiting);
        return status;
    }
    const size_t finer = 4;
    double step = self->step / (double)finer, reach = fmin(ei_service_reach(stage->law), given->horizon);
    size_t cells = (size_t)(reach / step) + 3;
    status = ei_lattice_service(&service, stage->law, 0, step / EI_MG1_FINE, cells * EI_MG1_FINE, EI_LOWER);
    if (status == EI_OK)
        status = ei_mg1_sojourn(&sojourn, &service, given->arrival_rate, (POINTS + 1) * finer, EI_LOWER,
                                given->monitor);
    for (size_t j = 0; j < POINTS && status == EI_OK; j++)
        value[j] = ei_lattice_lower(&sojourn, (double)(j + 1) * self->step) * ROUNDING;
    ei_lattice_free(&service);
    ei_lattice_free(&sojourn);
    return status;
}

/* The largest relative change of a phase's values. */
static double change_of(const double *old, const double *new, size_t count) {
    double most = 0;
    for (size_t j = 0; j < count; j++)
        if (new[j] > 1e-14)
            most = fmax(most, fabs(new[j] - old[j]) / new[j]);
    return most;
}

/* From few phases to more: fewer are solved soon, and what they give is a bound of more, too. */
static int follow_before(pair *self) {
    static const int sweeps[] = {150, 100, 30};
    const ei_pair *given = self->given;
    const size_t few = given->phases < FEW ? given->phases : FEW, phases[] = {1, few, given->phases};
    int status = find_top(self, given->before), last = 0;
    if (status == EI_OK)
        status = own_queue(self, self->u);
    self->phases = 1;
    if (status == EI_OK)
        wait(self, self->u);
    for (size_t n = 0; n < 3 && status == EI_OK && !last; n++) {
        transition drain = {.above = NULL};
        choose_levels(self, phases[n], 0);
        last = given->before == NULL;
        if ((status = end_of_paths(self)) == EI_OK)
            status = transition_of(&drain, self, drain_carry, &given->bottleneck);
        for (int sweep = 0; sweep < sweeps[n] && status == EI_OK; sweep++) {
            memcpy(self->next, self->u, POINTS * sizeof *self->u);
            apply(self, &drain, self->u, self->m);
            wait(self, self->m);
            end_there(self, self->m, self->u);
            if (ei_stopped(given->monitor))
                status = EI_ERR_INTERRUPTED;
            if (change_of(self->next, self->u, POINTS * 3 / 4) < SETTLED)
                break;
        }
        transition_free(&drain);
    }
    return status;
}

/* One job more in every phase but the last, which is known. */
static void lead_on(pair *self, const transition *serve, const transition *drain, const double *late,
                    const double *stay) {
    apply(self, serve, self->u, self->next);
    apply(self, drain, self->next, self->m);
    wait(self, self->m);
    for (size_t i = 0; i + 1 < self->phases; i++) {
        double *u = self->u + i * POINTS, *m = self->m + i * POINTS;
        for (size_t j = 0; j < POINTS; j++)
            u[j] = late[j] + stay[j] * m[j];
        flatten(u);
    }
}

/* What is left of the deadline at the beginning; the first services of constant stages are not counted. */
static void begin_behind(pair *self, const transition *serve, const transition *drain) {
    const ei_pair *given = self->given;
    const int constant = given->bottleneck.law == NULL;
    double shift;
    size_t phase = constant ? add_lead(self, 0, given->bottleneck.again / self->step, &shift) : 0;
    if (constant)
        memcpy(self->next, self->u + phase * POINTS, POINTS * sizeof *self->u);
    else
        apply(self, serve, self->u, self->next);
    if (given->behind->law == NULL)
        memcpy(self->m, self->next, POINTS * sizeof *self->m);
    else
        apply(self, drain, self->next, self->m);
}

static int follow_behind(pair *self) {
    static const int sweeps[] = {40, 12};
    const ei_pair *given = self->given;
    const size_t phases[] = {given->phases < FEW ? given->phases : FEW, given->phases};
    double *late = calloc(3 * POINTS, sizeof *late), *stay = late + POINTS, *before = stay + POINTS;
    int status = late == NULL ? EI_ERR_NO_MEMORY : find_top(self, given->behind);
    for (size_t j = 0; j < POINTS && status == EI_OK; j++) {
        late[j] = self->late[j];
        for (size_t l = 0; l < self->phases; l++)
            stay[j] += self->stay[l * POINTS + j];
    }
    self->phases = 1;
    self->level[0] = INFINITY;
    for (size_t n = 0; n < 2 && status == EI_OK; n++) {
        transition serve = {.above = NULL}, drain = {.above = NULL};
        choose_levels(self, phases[n], 1);
        status = transition_of(&serve, self, add_lead, &given->bottleneck);
        if (status == EI_OK)
            status = transition_of(&drain, self, drain_lead, given->behind);
        for (int sweep = 0; sweep < sweeps[n] && status == EI_OK; sweep++) {
            memcpy(before, self->u, POINTS * sizeof *before);
            lead_on(self, &serve, &drain, late, stay);
            if (ei_stopped(given->monitor))
                status = EI_ERR_INTERRUPTED;
            if (change_of(before, self->u, POINTS * 3 / 4) < SETTLED)
                break;
        }
        if (n == 1 && status == EI_OK)
            begin_behind(self, &serve, &drain);
        transition_free(&serve);
        transition_free(&drain);
    }
    free(late);
    return status;
}

/* The first job's service, which nothing is carried over. */
static int serve_first(pair *self) {
    transition serve = {.above = NULL};
    int status = EI_OK;
    if (self->given->bottleneck.law == NULL) {
        memcpy(self->m, self->u, POINTS * sizeof *self->m);
        return EI_OK;
    }
    self->phases = 1;
    self->own = 0;
    if ((status = transition_of(&serve, self, drain_carry, &self->given->bottleneck)) == EI_OK)
        apply(self, &serve, self->u, self->m);
    transition_free(&serve);
    return status;
}

int ei_pair_lower(ei_lattice *self, const ei_pair *given) {
    const size_t count = FINER * (size_t)POINTS;
    pair walk = {.given = given};
    *self = (ei_lattice){.sf = NULL};
    if (given->phases < 2 || given->phases > PHASES || !(given->horizon > 0))
        return EI_ERR_DOMAIN;
    int status = pair_init(&walk, given);
    if (status == EI_OK)
        status = follow_before(&walk);
    if (status == EI_OK)
        status = given->behind != NULL ? follow_behind(&walk) : serve_first(&walk);
    if (status == EI_OK) {
        *self = (ei_lattice){walk.step / FINER, count, malloc(count * sizeof(double))};
        status = self->sf == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    }
    for (size_t j = 0; j < count && status == EI_OK; j++) {
        size_t at = j / FINER;
        double part = (double)(j % FINER) / FINER, next = at + 1 < POINTS ? walk.m[at + 1] : 0;
        self->sf[j] = walk.m[at] + part * (next - walk.m[at]);
    }
    pair_free(&walk);
    return status;
}
