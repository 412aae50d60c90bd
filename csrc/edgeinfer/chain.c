#include "edgeinfer/chain.h"

#include "edgeinfer/bound.h"
#include "edgeinfer/exchange.h"
#include "edgeinfer/geometric.h"
#include "edgeinfer/lindley.h"
#include "edgeinfer/modulated.h"
#include "edgeinfer/pair.h"
#include "edgeinfer/pair_upper.h"
#include "edgeinfer/tilted.h"
#include "edgeinfer/walk.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    DELAY_POINTS = 8192,    /* lattice of a first deterministic stage's waiting time */
    WALK_POINTS = 131072,   /* of the walk at the bottleneck */
    SHORT_WALK = 32768,     /* of one before it */
    PERIODIC_POINTS = 512,  /* over the services beside the bottleneck */
    PERIODIC_FINEST = 2048, /* and over those of a chain with periodic arrivals */
    LINDLEY_POINTS = 8192,  /* of a walk behind arrivals that are not Poisson, or with little time to spare */
    TILTED_POINTS = 4096,   /* of a law behind a tilted bottleneck */
    BOUNDS = 6,             /* of a law's tail */
    SUMS = 24,              /* exponents that are tried for a sum */
    FLOORED = 40,           /* bisections for a decay with a floor */
    SUM_POINTS = 4096,      /* lattice of the sum of the other stages' services */
    BEHIND_POINTS = 4096,   /* of an exponential part and one behind it, at most */
    FOLLOWED_POINTS = 512,  /* of a lower end's two stages at once, */
    FOLLOWED_LEADS = 96     /* and steps by which one may lead */
};
static const double ROUGH = 0.02;       /* share of a probability that a lattice may cost */
static const double WORK = 4e7;         /* multiply-adds of one addition of a random stage */
static const double COARSE = 1.0 / 32;  /* effort of a trial */
static const double TRIAL = 2;          /* times what is known that a trial may be */
static const double PAIR_TRIAL = 1.4;   /* the same of two stages at once, */
static const double PAIR_WIDE = 4;      /* of ends that are this far apart at most */
static const double FURTHEST = 55;      /* decay times after which a sojourn time's lattice ends */
static const double FURTHER = 30;       /* beyond which a bound of moments has to be small, decay times */
static const double NEARER = 10;        /* and more than this at least */
static const double AHEAD = 16;         /* decay times up to which a first stage is followed */
static const double APART = 0.75;       /* of the exponents that are tried for a sum, from the decay */
static const double MARGIN = 20;        /* where a mean is taken, decay times of its weight */
static const double MGF_ERROR = 1e-5;   /* of the logarithm */
static const double LIGHT = 0.7;        /* load below which periodic laws are swept, too */
static const double NEAR = 1.5;         /* times the least decay: a lower end may come from there, too */
static const double FAR = 3;            /* and an upper end from here */
static const double CLOSE = 1.02;       /* the same behind renewal arrivals */
static const double SHIFTED = 1 - 1e-8; /* by more than a law's shift may change a probability */
static const double FAIR = 1.05;        /* upper / lower below which no more is tried */
static const double TILTED_FAIR = 1.1;  /* the same before a tilted law */
static const double PAIR_NEAR = 1.25;   /* times the least decay: where two stages are followed at once */
static const double PAIR_REACH = 30;    /* decay times at which the lattice of that ends */
static const double BEHIND_WORK = 4e8;  /* multiply-adds behind an exponential part */
static const double LEAST_SHARE = 0.3;  /* of a law from below that is worth while */
static const double LOOSE = 15;        /* decay times from a lattice's end, within which a law is too large */
static const double JOINT_NEAR = 0.06; /* of each other's time: constant stages of joint.h */
static const double PAIR_FAR = 6;      /* times each other's decay: two stages whose upper end is tried */
static const double PAIR_CLASSES[] = {9, 17, 32};    /* decay times up to which deadlines share a lattice, */
static const size_t PAIR_POINTS[] = {160, 256, 400}; /* and its steps; TIGHT: twice as many */

/* What a trial comes to at the probes: the sum of its logarithms, and the least ratio to what is known. */
typedef struct {
    double sum, ratio;
} outcome;

/* A random stage, or adjacent deterministic ones. */
typedef struct {
    const ei_service *service; /* NULL: deterministic */
    double once, again;        /* s: all their times, and the longest */
    double mean, decay;        /* s; 1/s, of this part alone */
    size_t end;                /* stages up to the last one of the part */
} part;

typedef struct {
    const ei_batch *batch;
    const ei_service *stages;
    part *parts;
    size_t count;
    const ei_service *leading; /* exponential, but for such as take no time: see chain.h */
    size_t leading_count;
    double constant;    /* s */
    double sum_step;    /* s: of the lattice of a sum, at least */
    double effort;      /* share of the points and the work of an upper end */
    double laws_effort; /* the same of the laws that are kept */
    size_t pair_points; /* of the lattice for two stages at once; 0: they are not */
    int known;          /* whether `tilted` takes the law up to its part and not V */
    outcome *score;     /* not NULL: takes what upper ends come to, which stay */
    const part *before; /* not NULL: what comes first where this is the chain in the opposite order, */
    double floor;       /* s, under its first part */
    ei_upper_law *laws; /* [count][count], of the sojourn times in a run of parts, as they are asked for */
} chain;

static void free_laws(chain *self) {
    for (size_t i = 0; self->laws != NULL && i < self->count * self->count; i++)
        ei_upper_law_free(&self->laws[i]);
    free(self->laws);
    self->laws = NULL;
}

static void chain_free(chain *self) {
    free_laws(self);
    free(self->parts);
}

static int chain_init(chain *self, const ei_batch *batch, const ei_service *stages, size_t stage_count) {
    *self = (chain){.batch = batch, .stages = stages, .effort = 1, .laws_effort = 1};
    self->parts = calloc(stage_count + 1, sizeof *self->parts);
    if (self->parts == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < stage_count; k++) {
        int deterministic = stages[k].kind == EI_SERVICE_DETERMINISTIC;
        part *last = self->count > 0 ? &self->parts[self->count - 1] : NULL;
        double mean = ei_service_mean(&stages[k]);
        if (mean == 0) {
            if (last != NULL)
                last->end = k + 1;
            continue;
        }
        if (!deterministic || last == NULL || last->service != NULL)
            last = &self->parts[self->count++];
        last->service = deterministic ? NULL : &stages[k];
        last->mean = fmax(last->mean, mean);
        last->end = k + 1;
        if (deterministic) {
            last->once += mean;
            last->again = last->mean;
            self->constant += mean;
        }
    }
    for (size_t k = 0; k < self->count; k++) {
        part *one = &self->parts[k];
        ei_service alone = {.kind = EI_SERVICE_DETERMINISTIC, .time = one->again};
        int status =
            ei_decay_rate(one->service != NULL ? one->service : &alone, 1, &batch->arrival, &one->decay);
        if (status != EI_OK)
            return status;
    }
    self->laws = calloc(self->count * self->count + 1, sizeof *self->laws);
    return self->laws == NULL ? EI_ERR_NO_MEMORY : EI_OK;
}

/* The chain behind the exponential stages that come first. Poisson arrivals. */
static int chain_behind(chain *self, const ei_batch *batch, const ei_service *stages, size_t stage_count) {
    size_t leading = 0;
    while (leading < stage_count &&
           (stages[leading].kind == EI_SERVICE_EXPONENTIAL || ei_service_mean(&stages[leading]) == 0))
        leading++;
    int status = chain_init(self, batch, stages + leading, stage_count - leading);
    self->leading = stages;
    self->leading_count = leading;
    return status;
}

/* The law of Y, bounded from one side, with the sojourn time in an exponential stage added. */
static void add_sojourn(const chain *self, const ei_service *stage, ei_end end, ei_lattice *law) {
    double idle = 1 - self->batch->arrival_rate * stage->time, error = 4 * DBL_EPSILON / idle;
    if (stage->kind == EI_SERVICE_EXPONENTIAL)
        ei_lattice_add_exponential(law, idle / stage->time * (end == EI_LOWER ? 1 + error : 1 - error), end);
}

static void add_leading(const chain *self, ei_end end, ei_lattice *law) {
    for (size_t k = 0; k < self->leading_count; k++)
        add_sojourn(self, &self->leading[k], end, law);
}

static int is_exponential(const part *self) {
    return self->service != NULL && self->service->kind == EI_SERVICE_EXPONENTIAL;
}

/* ---- lower */

/* The sum of one service of every random part but `except`, rounded down. Empty: 0. */
static int sum_of_others(const chain *self, size_t except, ei_lattice *sum) {
    double reach = 0;
    int status = EI_OK;
    memset(sum, 0, sizeof *sum);
    for (size_t k = 0; k < self->count; k++)
        if (k != except && self->parts[k].service != NULL)
            reach += ei_service_reach(self->parts[k].service);
    double step = fmax(reach / SUM_POINTS, self->sum_step);
    for (size_t k = 0; k < self->count && status == EI_OK; k++) {
        const ei_service *service = self->parts[k].service;
        ei_lattice one = {0}, both = {0};
        if (k == except || service == NULL)
            continue;
        size_t count = (size_t)(ei_service_reach(service) / step) + 2;
        status = ei_lattice_service(&one, service, 0, step, count, EI_LOWER);
        if (status == EI_OK && sum->sf != NULL)
            status = ei_lattice_sum_lower(&both, sum, &one);
        if (status != EI_OK || sum->sf != NULL) {
            ei_lattice_free(&one);
            ei_lattice_free(sum);
            *sum = both;
        } else {
            *sum = one;
        }
    }
    return status;
}

/* A lattice up to the horizon, of that step where the law is empty. */
static int lengthen(ei_lattice *law, double step, double horizon) {
    if (law->sf != NULL)
        step = law->step;
    size_t count = (size_t)(horizon / step) + 2, known = law->sf != NULL ? law->count : 0;
    if (count <= known)
        return EI_OK;
    double *sf = realloc(law->sf, count * sizeof *sf);
    if (sf == NULL)
        return EI_ERR_NO_MEMORY;
    memset(sf + known, 0, (count - known) * sizeof *sf);
    *law = (ei_lattice){step, count, sf};
    return EI_OK;
}

/* The sojourn times in the leading stages and in the exponential parts before b, and one service of every
 * other random part but b, rounded down; b may be the number of parts. Empty: 0. */
static int sum_beside(const chain *self, size_t b, ei_lattice *sum) {
    chain others = *self;
    size_t sojourns = 0;
    for (size_t k = 0; k < b; k++)
        sojourns += (size_t)is_exponential(&self->parts[k]);
    for (size_t k = 0; k < self->leading_count; k++)
        sojourns += self->leading[k].kind == EI_SERVICE_EXPONENTIAL;
    if (sojourns == 0)
        return sum_of_others(self, b, sum);
    /* A sum that is only read may be finer. */
    others.sum_step = self->batch->horizon / (b == self->count ? SHORT_WALK : SUM_POINTS);
    others.parts = malloc(self->count * sizeof *others.parts + 1);
    if (others.parts == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < self->count; k++) {
        others.parts[k] = self->parts[k];
        if (k < b && is_exponential(&self->parts[k]))
            others.parts[k].service = NULL;
    }
    int status = sum_of_others(&others, b, sum);
    if (status == EI_OK)
        status = lengthen(sum, others.sum_step, self->batch->horizon);
    if (status == EI_OK) {
        add_leading(self, EI_LOWER, sum);
        for (size_t k = 0; k < b; k++)
            if (is_exponential(&self->parts[k]))
                add_sojourn(self, self->parts[k].service, EI_LOWER, sum);
    }
    free(others.parts);
    return status;
}

/* Of exponential stages' sojourn times alone. */
static int lower_exponential(const chain *self) {
    const ei_batch *batch = self->batch;
    ei_lattice sum;
    int status = sum_beside(self, self->count, &sum);
    for (size_t i = 0; i < batch->count && status == EI_OK && sum.sf != NULL; i++) {
        size_t at = batch->index[i];
        ei_raise_lower(batch, at, ei_lattice_lower(&sum, batch->deadline[at] - self->constant),
                       EI_BRACKET_EXPONENTIAL);
    }
    ei_lattice_free(&sum);
    return status;
}

static ei_added_stage stage_of(const part *self, double floor) {
    return (ei_added_stage){self->service, floor, self->again};
}

static void raise_by(const chain *self, const ei_lattice *sojourn, const ei_lattice *others, int method) {
    const ei_batch *batch = self->batch;
    for (size_t i = 0; i < batch->count; i++) {
        size_t at = batch->index[i];
        ei_raise_lower(batch, at,
                       ei_lattice_plus_lower(sojourn, others, batch->deadline[at] - self->constant), method);
    }
}

static int lower_ends(const chain *self, size_t b) {
    const ei_batch *batch = self->batch;
    const part *one = &self->parts[b];
    ei_lattice others, sojourn[2] = {{.sf = NULL}, {.sf = NULL}};
    ei_md1 waiting = {0};
    int status = sum_beside(self, b, &others);
    if (status != EI_OK)
        goto out;
    if (one->service == NULL) {
        status = ei_md1_init(&waiting, batch->arrival_rate, one->again, batch->horizon);
    } else {
        ei_shape alone = {0, 0, 0, one->service};
        ei_batch single = *batch;
        single.pipeline = &alone;
        status = ei_sojourn_ends(&single, 0, batch->horizon, EI_LOWER, EI_LOWER, sojourn);
    }
    for (size_t i = 0; i < batch->count && status == EI_OK; i++) {
        size_t at = batch->index[i];
        double rest = batch->deadline[at] - self->constant;
        double value;
        if (one->service == NULL)
            value = others.sf == NULL ? ei_md1_waiting_sf(&waiting, rest)
                                      : ei_waiting_plus_sf(&waiting, &others, rest, EI_LOWER);
        else
            value = ei_lattice_plus_lower(&sojourn[0], &others, rest);
        ei_raise_lower(batch, at, value, one->service == NULL ? EI_BRACKET_QUEUE : EI_BRACKET_LINK);
    }
out:
    ei_md1_free(&waiting);
    ei_lattice_free(&others);
    ei_lattice_free(&sojourn[0]);
    return status;
}

/* One service of every random part from `first` to before `last`, rounded down; empty: 0. */
static int sum_of_parts(const chain *self, size_t first, size_t last, ei_lattice *sum) {
    chain some = *self;
    some.parts += first;
    some.count = last - first;
    return sum_of_others(&some, some.count, sum);
}

/* Raises by a law of the parts from `first` to `last`, and of the others as in lower_ends with b. */
static int raise_beside(const chain *self, const ei_lattice *law, size_t b, size_t first, size_t last) {
    ei_lattice others = {.sf = NULL};
    chain beside = *self;
    beside.parts = malloc(self->count * sizeof *beside.parts);
    if (beside.parts == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < self->count; k++) {
        beside.parts[k] = self->parts[k];
        if (k >= first && k <= last)
            beside.parts[k].service = NULL;
    }
    int status = sum_beside(&beside, b, &others);
    if (status == EI_OK)
        raise_by(self, law, &others, EI_BRACKET_TWO_STAGES);
    free(beside.parts);
    ei_lattice_free(&others);
    return status;
}

/* The law of two stages at once, and what it is alone with the second one (pair.h). */
static int followed_law(const chain *self, ei_pair *pair, size_t first, size_t one, size_t other,
                        ei_lattice *law, ei_lattice *alone) {
    ei_lattice between = {.sf = NULL}, ahead = {.sf = NULL};
    pair->first = stage_of(&self->parts[one], 0);
    pair->second = stage_of(&self->parts[other], 0);
    int status = sum_of_parts(self, first, one, &ahead);
    if (status == EI_OK)
        status = sum_of_parts(self, one + 1, other, &between);
    pair->between = &between;
    pair->ahead = &ahead;
    if (status == EI_OK)
        status = ei_pair_lower(law, alone, pair);
    ei_lattice_free(&between);
    ei_lattice_free(&ahead);
    return status;
}

/* two_stages: b with a before it and c behind it, each of which may be the number of parts for none; the
 * parts from `first` on and those between them are passed where the path leaves them, those before `first` as
 * in lower_ends. */
static int lower_pair(const chain *self, size_t b, size_t first, size_t a, size_t c) {
    const size_t none = self->count;
    ei_lattice law = {.sf = NULL}, alone = {.sf = NULL}, next = {.sf = NULL};
    double mean = 0;
    int status = EI_OK;
    for (size_t k = 0; k < self->count; k++)
        mean += self->parts[k].mean;
    ei_pair pair = {.arrival_rate = self->batch->arrival_rate,
                    .decay = self->parts[b].decay,
                    .horizon = fmin(self->batch->horizon, mean + PAIR_REACH / self->parts[b].decay),
                    .points = FOLLOWED_POINTS,
                    .leads = FOLLOWED_LEADS,
                    .monitor = self->batch->monitor};
    if (a != none) {
        status = followed_law(self, &pair, first, a, b, &law, &alone);
        if (status == EI_OK)
            status = raise_beside(self, &law, b, first, b);
        pair.alone = &alone;
    }
    if (c != none && status == EI_OK) {
        ei_lattice_free(&law);
        status = followed_law(self, &pair, first, b, c, &law, &next);
        if (status == EI_OK)
            status = raise_beside(self, &law, b, first, c);
    }
    ei_lattice_free(&law);
    ei_lattice_free(&alone);
    ei_lattice_free(&next);
    return status;
}

/* The part from `first` to before `last` whose queue decays the slowest; the number of parts: none. */
static size_t slowest_of(const chain *self, size_t first, size_t last, int exponential_too) {
    size_t slowest = self->count;
    for (size_t k = first; k < last; k++)
        if ((exponential_too || !is_exponential(&self->parts[k])) &&
            (slowest == self->count || self->parts[k].decay < self->parts[slowest].decay))
            slowest = k;
    return slowest;
}

/* The first part behind the last exponential one before part k. */
static size_t behind_exponential(const chain *self, size_t k) {
    while (k > 0 && !is_exponential(&self->parts[k - 1]))
        k--;
    return k;
}

/* Exponential stages before b have all their sojourn times where those before them have one service. */
static int lower_pairs(const chain *self, size_t b) {
    const size_t first = behind_exponential(self, b), c = slowest_of(self, b + 1, self->count, 1),
                 near = slowest_of(self, first, b, 1), far = slowest_of(self, 0, b, 0);
    int status = EI_OK;
    if (first < b || c < self->count)
        status = lower_pair(self, b, first, near, c);
    if (status == EI_OK && far != near && far < self->count)
        status = lower_pair(self, b, behind_exponential(self, far), far, c);
    return status;
}

/* ---- upper */

/* Chernoff's bound on the sojourn time in the parts from `first` to `last` beyond `time`, delays left out,
 * and its exponent. */
static int bound_beyond(const chain *self, size_t first, size_t last, double time, double *bound,
                        double *theta) {
    static const ei_bound_method methods[] = {EI_BOUND_UNION, EI_BOUND_LUNDBERG};
    const size_t from = first > 0 ? self->parts[first - 1].end : 0;
    *bound = *theta = 0;
    for (size_t k = first; k <= last; k++)
        time += self->parts[k].once;
    for (size_t m = 0; m < 2; m++) {
        double rate = self->batch->arrival_rate, value, exponent;
        int status = ei_violation_bound(self->stages + from, self->parts[last].end - from, methods[m],
                                        &self->batch->arrival, 1, 1, &rate, &time, &value, &exponent,
                                        self->batch->monitor);
        if (status != EI_OK)
            return status;
        if (value < *bound) {
            *bound = value + MGF_ERROR;
            *theta = exponent;
        }
    }
    return EI_OK;
}

/* log of how much more of the requests that meet a phase than of all may be late, at most. */
static double log_of_any_phase(const chain *self) {
    const ei_arrival *arrival = &self->batch->arrival;
    double least = 1;
    for (size_t i = 0; arrival->kind == EI_ARRIVAL_MARKOV_MODULATED && i < arrival->count; i++)
        if (arrival->rates[i] > 0)
            least = fmin(least, arrival->stationary[i] * arrival->rates[i] * ei_arrival_mean(arrival));
    return -log(least * (1 - 1e-9));
}

static int bound_tail(const chain *self, size_t first, size_t last, ei_upper_law *law) {
    double end = (double)law->lattice.count * law->lattice.step, bound, exponent;
    int status = bound_beyond(self, first, last, end, &bound, &exponent);
    /* Where these say nothing the law may have its own. */
    if (status == EI_OK && (exponent > 0 || !(law->decay > 0))) {
        law->log_scale = bound + exponent * end + log_of_any_phase(self);
        law->decay = exponent;
    }
    return status;
}

/* A part to be added to an upper end on so many points: a constant service of less than a step lasts one. */
static ei_added_stage slowed(const part *one, double floor, double horizon, double points) {
    ei_added_stage stage = stage_of(one, floor);
    stage.again = fmax(stage.again, horizon / points);
    return stage;
}

/* A lattice on which deterministic services and floors are not rounded. */
static double lindley_step(const ei_added_stage *stage, double horizon, size_t points) {
    double exact = stage->law != NULL ? stage->floor : stage->again, step = horizon / (double)points;
    return exact > 0 ? exact / ceil(exact / step) : step;
}

/* Adds part k behind arrivals that are not Poisson. */
static int add_lindley(const chain *self, size_t k, double floor, double horizon, ei_upper_law *law) {
    const part *one = &self->parts[k];
    size_t points = self->effort < 1 ? LINDLEY_POINTS / 8 : LINDLEY_POINTS;
    ei_added_stage stage = slowed(one, floor, horizon, (double)points);
    ei_upper_law next;
    int status = ei_add_stage_lindley(&next, law, &stage, &self->batch->arrival,
                                      lindley_step(&stage, horizon, points), points, self->batch->monitor);
    ei_upper_law_free(law);
    *law = next;
    return status;
}

/* The better one of two bounds of one law, at each point. */
static void take_better(ei_upper_law *law, const ei_upper_law *other) {
    for (size_t j = 0; j < law->lattice.count; j++)
        law->lattice.sf[j] = fmin(law->lattice.sf[j], ei_upper_law_sf(other, (double)j * law->lattice.step));
    law->shift = fmax(law->shift, other->shift + 1e-9 * other->lattice.step);
}

/* Whether a lattice of the first order costs more than some share of a probability, as the server of a part
 * has little time to spare. */
static int is_rough(const chain *self, const part *one, double floor, double horizon, double step) {
    const double spare = 1 / self->batch->arrival_rate - fmax(one->mean, floor);
    const int slow = one->service != NULL || one->again * LINDLEY_POINTS >= horizon;
    return slow && step * one->decay * horizon >= ROUGH * spare;
}

/* Cuts the law of part k behind `before` where its lattice is rough by lindley.h, which is of the second
 * order. */
static int refine(const chain *self, size_t k, double floor, double horizon, const ei_upper_law *before,
                  ei_upper_law *law) {
    const part *one = &self->parts[k];
    const ei_added_stage stage = stage_of(one, floor);
    ei_upper_law other;
    if (self->effort < 1 || !is_rough(self, one, floor, horizon, law->lattice.step))
        return EI_OK;
    int status = ei_add_stage_lindley(&other, before, &stage, &self->batch->arrival,
                                      lindley_step(&stage, horizon, LINDLEY_POINTS), LINDLEY_POINTS,
                                      self->batch->monitor);
    if (status == EI_OK)
        take_better(law, &other);
    ei_upper_law_free(&other);
    return ei_no_bound(status) ? EI_OK : status;
}

/* The law of an exponential stage alone behind renewal arrivals, geometric.h. */
static int geometric_law(const chain *self, const ei_service *service, double horizon, ei_upper_law *law) {
    const double theta = ei_geometric_rate(service, &self->batch->arrival, EI_UPPER);
    if (!(theta > 0))
        return EI_ERR_UNSTABLE;
    law->lattice = (ei_lattice){horizon / LINDLEY_POINTS, LINDLEY_POINTS + 1, NULL};
    law->lattice.sf = malloc(law->lattice.count * sizeof *law->lattice.sf);
    if (law->lattice.sf == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t j = 0; j < law->lattice.count; j++)
        law->lattice.sf[j] = fmin(exp(-theta * (double)j * law->lattice.step) * (1 + 1e-11), 1);
    law->log_scale = 1e-11;
    law->decay = theta;
    return EI_OK;
}

/* The law of part k alone, on a lattice over `horizon`: waiting time or sojourn time. */
static int first_law(const chain *self, size_t k, double floor, double horizon, ei_upper_law *law) {
    const part *first = &self->parts[k];
    double rate = self->batch->arrival_rate;
    int status;
    if (is_exponential(first) && !(floor > 0) && ei_arrival_is_renewal(&self->batch->arrival) &&
        self->batch->arrival.kind != EI_ARRIVAL_POISSON)
        return geometric_law(self, first->service, horizon, law);
    if (self->batch->arrival.kind != EI_ARRIVAL_POISSON)
        return add_lindley(self, k, floor, horizon, law);
    if (first->service == NULL) {
        ei_md1 waiting;
        if ((status = ei_md1_init(&waiting, rate, first->again, horizon)) == EI_OK) {
            law->lattice = (ei_lattice){horizon / DELAY_POINTS, DELAY_POINTS + 1, NULL};
            law->lattice.sf = malloc(law->lattice.count * sizeof(double));
            status = law->lattice.sf == NULL ? EI_ERR_NO_MEMORY : EI_OK;
        }
        for (size_t i = 0; i <= DELAY_POINTS && status == EI_OK; i++)
            law->lattice.sf[i] =
                fmin(ei_md1_waiting_sf(&waiting, (double)i * law->lattice.step) * (1 + 1e-11), 1);
        ei_md1_free(&waiting);
        return status;
    }
    double reach = fmax(ei_service_reach(first->service), floor * 1.001);
    horizon = fmax(horizon, reach);
    double points = fmin(sqrt(self->effort * WORK * horizon / reach), self->effort * WALK_POINTS);
    double step = horizon / points;
    size_t cells = (size_t)(reach / step) + 3;
    ei_lattice service;
    const ei_upper_law none = {.decay = 0};
    if ((status = ei_lattice_service(&service, first->service, floor, step / EI_MG1_FINE, cells * EI_MG1_FINE,
                                     EI_UPPER)) == EI_OK)
        status =
            ei_mg1_sojourn(&law->lattice, &service, rate, (size_t)points + 2, EI_UPPER, self->batch->monitor);
    ei_lattice_free(&service);
    return status == EI_OK ? refine(self, k, floor, horizon, &none, law) : status;
}

/* The lattice of a walk of a random part, of so many points or of as many as its services allow. */
static double walk_step(const chain *self, const part *one, double floor, double horizon, double points) {
    const double reach = fmax(ei_service_reach(one->service), floor);
    return horizon / fmin(points, sqrt(self->effort * WORK * horizon / reach));
}

/* Adds part k to the law of the parts before it, which is replaced. */
static int add_part(const chain *self, size_t k, double floor, double horizon, double points,
                    ei_upper_law *law) {
    const part *one = &self->parts[k];
    ei_upper_law next;
    double step;
    if (self->batch->arrival.kind != EI_ARRIVAL_POISSON)
        return add_lindley(self, k, floor, horizon, law);
    if (is_exponential(one) && !(floor > 0)) {
        int added = ei_add_stage_exponential(&next, law, one->service->time, self->batch->arrival_rate,
                                             horizon / points, (size_t)points + 2);
        ei_upper_law_free(law);
        *law = next;
        return added;
    }
    points *= self->effort;
    const ei_added_stage stage = slowed(one, floor, horizon, points);
    /* Deterministic services are not rounded. */
    step = one->service != NULL ? walk_step(self, one, floor, horizon, points)
                                : stage.again / ceil(stage.again * points / horizon * (1 - 1e-12));
    size_t count = (size_t)fmin(horizon / step, 4.0 * WALK_POINTS) + 2;
    int status = ei_add_stage_poisson(&next, law, &stage, self->batch->arrival_rate, step, count,
                                      self->batch->monitor);
    if (status == EI_OK)
        status = refine(self, k, floor, horizon, law, &next);
    ei_upper_law_free(law);
    *law = next;
    return status;
}

static int law_of(const chain *self, size_t first, size_t last, ei_upper_law *law);
static int fed_periodically(const chain *self, size_t first, size_t last, double period, size_t finest,
                            ei_upper_law *law);
static double quantile(const ei_service *service, double chance);
static int log_moment_behind(const chain *self, size_t b, size_t last, double rate, double theta,
                             double *value);

/* added_stage: part `last` behind those from `first` on. */
static int added_law(const chain *self, size_t first, size_t last, double horizon, double points,
                     ei_upper_law *law) {
    if (first == last)
        return first_law(self, first, 0, horizon, law);
    int status = law_of(self, first, last - 1, law);
    return status == EI_OK ? add_part(self, last, 0, horizon, points, law) : status;
}

/* Keeps a lattice's every so many points, as a horizon far beyond a short stage's own would take too many of
 * its steps: the law is that of the point before. */
static void thin(ei_lattice *law, double horizon) {
    const double every = ceil(horizon / law->step / WALK_POINTS);
    if (!(every > 1))
        return;
    law->step *= every;
    size_t kept = 1;
    for (; (double)kept * every < (double)law->count; kept++)
        law->sf[kept] = law->sf[(size_t)((double)kept * every)];
    law->count = kept;
}

/* Lengthens the lattice up to the horizon, by Chernoff's bound. */
static int stretch(ei_upper_law *law, double step, double horizon) {
    if (law->lattice.sf != NULL)
        thin(&law->lattice, horizon);
    const size_t known = law->lattice.sf != NULL ? law->lattice.count : 0;
    int status = lengthen(&law->lattice, step, horizon);
    for (size_t j = known; known > 0 && j < law->lattice.count && status == EI_OK; j++)
        law->lattice.sf[j] = fmin(law->lattice.sf[known - 1],
                                  exp(law->log_scale - law->decay * (double)j * law->lattice.step));
    return status;
}

/* Chernoff's bound on the sum of exchange.h beyond `time`, all parts, delays left out, and its exponent. */
static int bound_sum(const chain *self, double time, double *bound, double *theta) {
    const ei_arrival *arrival = &self->batch->arrival;
    double *cumulant = malloc(2 * self->count * sizeof *cumulant), *slope = cumulant + self->count;
    int status = cumulant == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    *bound = *theta = 0;
    for (int i = 1; i <= SUMS && status == EI_OK; i++) {
        const double tried = self->parts[0].decay * (1 - pow(APART, i));
        double once = 0, paths = 0, unused;
        for (size_t k = 0; k < self->count && status == EI_OK; k++) {
            const ei_added_stage stage = stage_of(&self->parts[k], k == 0 ? self->floor : 0);
            status = ei_added_stage_log_moment(&stage, tried, &cumulant[k]);
            cumulant[k] += MGF_ERROR * fabs(cumulant[k]);
            slope[k] = 0;
            once += stage.law != NULL ? cumulant[k] : 0;
            paths -= log1p(-exp(cumulant[k] - ei_arrival_exponent(arrival, tried, &unused)));
        }
        if (status == EI_OK && arrival->kind == EI_ARRIVAL_MARKOV_MODULATED)
            status = ei_modulated_paths(arrival, tried, self->count, cumulant, slope, NULL, &paths, &unused);
        if (status == EI_OK && once + paths - tried * time + MGF_ERROR < *bound) {
            *bound = once + paths - tried * time + MGF_ERROR;
            *theta = tried;
        }
    }
    free(cumulant);
    return status;
}

/* What is known of the sojourn time in the parts from `first` to `last` beyond times up to the furthest:
 * Chernoff's bounds at some of these, which hold at all others. */
static int choose_tail(const chain *self, size_t first, size_t last, ei_tail *tail) {
    int status = EI_OK;
    for (size_t e = 0; e < EI_TAIL_ENDS; e++)
        tail->log_beyond[e] = 0;
    for (size_t i = 1; i <= BOUNDS && status == EI_OK; i++) {
        const double at = tail->furthest * (double)i / BOUNDS;
        double bound, exponent;
        status = self->before != NULL ? bound_sum(self, at, &bound, &exponent)
                                      : bound_beyond(self, first, last, at, &bound, &exponent);
        for (size_t e = 0; e < EI_TAIL_ENDS && status == EI_OK; e++)
            tail->log_beyond[e] =
                fmin(tail->log_beyond[e], bound - exponent * (ei_tail_end(tail, e) - at) + 1e-9);
    }
    return status;
}

/* exponential: the parts from `first` to `last` by the exponential part b between them. */
static int exponential_law(const chain *self, size_t first, size_t b, size_t last, double horizon,
                           double points, ei_upper_law *law) {
    const ei_service *service = self->parts[b].service;
    const double theta = 1 / service->time - self->batch->arrival_rate;
    ei_upper_law known = {.decay = 0}, rest = {.decay = 0};
    ei_tail tail = {.furthest = horizon + FURTHER / theta};
    double *once = NULL;
    horizon = tail.furthest;
    int status = added_law(self, first, b, horizon, points, law);
    if (status == EI_OK && first < b)
        status = law_of(self, first, b, &known);
    if (status == EI_OK && first < b)
        take_better(law, &known);
    if (status == EI_OK)
        status = law_of(self, b + 1, last, &rest);
    if (status == EI_OK)
        status = stretch(&rest, 0, horizon);
    if (status != EI_OK)
        goto out;
    add_sojourn(self, service, EI_UPPER, &rest.lattice);
    const double *v = law->lattice.sf, step = law->lattice.step;
    const size_t count = law->lattice.count;
    if ((once = malloc(2 * count * sizeof *once)) == NULL)
        status = EI_ERR_NO_MEMORY;
    if (status != EI_OK || (status = choose_tail(self, first, last, &tail)) != EI_OK)
        goto out;
    for (size_t e = 0; e < EI_TAIL_ENDS; e++) {
        const double at = ceil(ei_tail_end(&tail, e) / step);
        tail.slope[e] = at < (double)count ? v[(size_t)at] * exp(theta * at * step) * (1 + 1e-6) : INFINITY;
    }
    for (size_t j = 0; j < count; j++) {
        const double time = (double)j * step, alone = exp(-theta * time) * (1 - 1e-11);
        once[j] = v[j];
        once[count + j] = fmax(ei_upper_law_sf(&rest, time) - alone, 0);
    }
    law->shift += rest.shift + 1e-9 * rest.lattice.step;
    for (size_t j = 0; j < count; j++)
        law->lattice.sf[j] = 1;
    ei_split_tail(law, once, once + count, &tail);
out:
    free(once);
    ei_upper_law_free(&known);
    ei_upper_law_free(&rest);
    return status;
}

/* Whether to take part b of those from `first` to `last`, not the last, for their bottleneck. */
static int is_candidate(const chain *self, size_t first, size_t b, size_t last) {
    const size_t slowest = slowest_of(self, first, last + 1, 1);
    return is_exponential(&self->parts[b]) && self->parts[b].decay <= NEAR * self->parts[slowest].decay;
}

/* Where two parts are nearly as slow as each other: the part before `last` to be followed with it; the number
 * of parts: none. */
static size_t pair_before(const chain *self, size_t first, size_t last) {
    const part *b = &self->parts[last];
    const size_t a = first < last ? slowest_of(self, first, last, 1) : self->count;
    if (a == self->count || (self->parts[a].service == NULL && b->service == NULL))
        return self->count;
    const double ratio = self->parts[a].decay / b->decay;
    return ratio <= PAIR_FAR && ratio >= 1 / PAIR_FAR ? a : self->count;
}

/* two_stages: the parts from `first` to `last`, a and the last one followed at once, up to the horizon. */
static int pair_law(const chain *self, size_t first, size_t a, size_t last, double horizon, double floor,
                    double last_floor, size_t points, ei_upper_law *law) {
    const part *slow = &self->parts[last], *near = &self->parts[a];
    const int stay_before = near->service == NULL || slow->service != NULL;
    const double period = stay_before ? fmax(near->again, floor) : slow->again;
    ei_upper_law ahead = {.decay = 0}, between = {.decay = 0};
    const ei_pair_walk walk = {.arrival_rate = self->batch->arrival_rate,
                               .decay = fmin(near->decay, slow->decay),
                               .horizon = horizon,
                               .points = points,
                               .before = stage_of(near, floor),
                               .bottleneck = stage_of(slow, last_floor),
                               .between = &between,
                               .ahead = &ahead,
                               .monitor = self->batch->monitor};
    int status = first < a ? law_of(self, first, a - 1, &ahead) : EI_OK;
    if (status == EI_OK && a + 1 < last)
        status = stay_before ? fed_periodically(self, a + 1, last - 1, period, PERIODIC_POINTS, &between)
                             : fed_periodically(self, last - 1, a + 1, period, PERIODIC_POINTS, &between);
    if (status == EI_OK)
        status = ei_pair_upper(law, &walk);
    ei_upper_law_free(&ahead);
    ei_upper_law_free(&between);
    return status;
}

/* The better one of the law that is known and that of two parts at once, which may not exist. */
static int cut_by_pair(const chain *self, size_t first, size_t last, double horizon, ei_upper_law *law) {
    static const double chances[] = {0.9, 0.6, 0.3};
    const size_t a = self->pair_points > 0 ? pair_before(self, first, last) : self->count;
    double floor = 0, best = INFINITY;
    if (a == self->count)
        return EI_OK;
    const int try_floors =
        a + 1 < last && self->parts[a].service != NULL && self->parts[last].service != NULL;
    for (size_t f = 0; f < sizeof chances / sizeof *chances && try_floors; f++) {
        const double tried = quantile(self->parts[a].service, chances[f]);
        ei_upper_law other = {.decay = 0};
        double score = 0;
        int status = pair_law(self, first, a, last, horizon, tried, 0, self->pair_points / 3, &other);
        for (int i = 1; i < 4 && status == EI_OK; i++)
            score += log(fmax(ei_upper_law_sf(&other, horizon * i / 4), DBL_MIN));
        ei_upper_law_free(&other);
        if (status != EI_OK && !ei_no_bound(status))
            return status;
        if (status == EI_OK && score < best) {
            best = score;
            floor = tried;
        }
    }
    if (try_floors && isinf(best))
        return EI_OK;
    ei_upper_law other = {.decay = 0};
    int status = pair_law(self, first, a, last, horizon, floor, 0, self->pair_points, &other);
    if (status == EI_OK)
        take_better(law, &other);
    ei_upper_law_free(&other);
    return ei_no_bound(status) ? EI_OK : status;
}

/* V of tilted.h for the random part b, up to `reach`, from both sides behind Poisson arrivals. */
static int enclose(const chain *self, size_t b, double reach, const ei_upper_law *before, ei_upper_law *v,
                   double **least) {
    const part *one = &self->parts[b];
    const ei_added_stage stage = stage_of(one, self->floor);
    const ei_batch *batch = self->batch;
    const size_t points = self->effort < 1 ? LINDLEY_POINTS / 8 : LINDLEY_POINTS;
    if (batch->arrival.kind != EI_ARRIVAL_POISSON)
        return ei_add_stage_enclosed(v, NULL, before, &stage, &batch->arrival,
                                     lindley_step(&stage, reach, points), points, batch->monitor);
    const double step = walk_step(self, one, 0, reach, self->effort * WALK_POINTS);
    const int rough = self->known || is_rough(self, one, 0, reach, step);
    const size_t count = rough ? points : (size_t)(reach / step) + 2;
    *least = malloc(count * sizeof **least);
    if (*least == NULL)
        return EI_ERR_NO_MEMORY;
    if (rough)
        return ei_add_stage_enclosed(v, *least, before, &stage, &batch->arrival, reach / (double)points,
                                     count, batch->monitor);
    int status = ei_add_stage_poisson(v, before, &stage, batch->arrival_rate, step, count, batch->monitor);
    /* Constant between the points. */
    if (status == EI_OK)
        memcpy(*least, v->lattice.sf, count * sizeof **least);
    return status;
}

/* From the law of the chain in the opposite order, V of its first part, to that of the chain. */
static int exchange(const chain *self, const ei_upper_law *v, ei_upper_law *law) {
    const part *before = self->before;
    const ei_added_stage stage = stage_of(before, 0);
    double factor;
    int status = ei_exchange_factor(&factor, v, &stage, before->mean + AHEAD / before->decay,
                                    &self->batch->arrival, self->batch->monitor);
    for (size_t j = 0; j < law->lattice.count && status == EI_OK; j++)
        law->lattice.sf[j] = fmin(law->lattice.sf[j] * factor, 1);
    return status;
}

/* The law of the parts from `first` to b from above, where that is better, in the place of V, and from below
 * by b alone. */
static int enclose_known(const chain *self, size_t first, size_t b, ei_upper_law *v, double *least) {
    const ei_added_stage stage = stage_of(&self->parts[b], 0);
    const size_t count = v->lattice.count;
    ei_upper_law known = {.decay = 0};
    ei_lattice alone = {.sf = NULL};
    int status = law_of(self, first, b, &known);
    if (status == EI_OK)
        status = ei_lindley_sojourn_lower(&alone, NULL, &stage, &self->batch->arrival, v->lattice.step, count,
                                          self->batch->monitor);
    if (status == EI_OK)
        take_better(v, &known);
    for (size_t j = 0; j < count && status == EI_OK; j++)
        least[j] = j + 1 < count ? alone.sf[j + 1] * SHIFTED : 0;
    ei_upper_law_free(&known);
    ei_lattice_free(&alone);
    return status;
}

/* tilted: the parts from `first` to `last` by the random part b, which is not the last. */
static int tilted_beyond(const chain *self, size_t first, size_t b, size_t last, double horizon,
                         double further, ei_upper_law *law) {
    const part *one = &self->parts[b];
    const ei_batch *batch = self->batch;
    const ei_added_stage stage = stage_of(one, self->floor);
    ei_tilted given = {.service = one->service,
                       .floor = self->floor,
                       .arrival = &batch->arrival,
                       .rest_count = last - b,
                       .horizon = horizon,
                       .points = self->effort < 1 ? TILTED_POINTS / 8 : TILTED_POINTS,
                       .monitor = batch->monitor};
    const double margin = batch->arrival.kind == EI_ARRIVAL_POISSON
                              ? MARGIN / (batch->arrival_rate + one->decay)
                              : 1 / one->decay,
                 reach = horizon + further / one->decay + margin;
    double log_moment;
    ei_added_stage *rest = malloc((last - b) * sizeof *rest);
    ei_upper_law before = {.decay = 0}, v = {.decay = 0};
    double *least = NULL;
    int status = rest == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    for (size_t k = b + 1; k <= last && status == EI_OK; k++)
        rest[k - b - 1] = stage_of(&self->parts[k], 0);
    given.tail.furthest = horizon + further / one->decay;
    given.tail.log_of_phase = log_of_any_phase(self);
    given.tail.is_sum = self->before != NULL;
    if (status == EI_OK)
        status = ei_tilted_exponent(&stage, &batch->arrival, one->decay, &given.theta);
    if (status == EI_OK && batch->arrival.kind != EI_ARRIVAL_POISSON && is_exponential(one) &&
        !(self->floor > 0)) {
        given.log_moment = &log_moment;
        status = log_moment_behind(self, b, last, (1 / one->service->time - given.theta) * (1 + 1e-12),
                                   given.theta, &log_moment);
    }
    if (status == EI_OK)
        status = choose_tail(self, first, last, &given.tail);
    if (b > first && status == EI_OK)
        status = law_of(self, first, b - 1, &before);
    if (status == EI_OK)
        status = enclose(self, b, reach, &before, &v, &least);
    if (status == EI_OK && self->known)
        status = enclose_known(self, first, b, &v, least);
    if (status == EI_OK) {
        given.rest = rest;
        given.v = &v;
        given.least = least;
        status = ei_tilted_law(law, &given);
    }
    if (status == EI_OK && self->before != NULL)
        status = exchange(self, &v, law);
    ei_upper_law_free(&before);
    ei_upper_law_free(&v);
    free(least);
    free(rest);
    return status;
}

/* The same: beyond e^{-60} or so rounding leaves no certificate of b's own law, which may then end sooner. */
static int tilted_law(const chain *self, size_t first, size_t b, size_t last, double horizon,
                      ei_upper_law *law) {
    int status = EI_ERR_ACCURACY;
    for (double further = FURTHER; status == EI_ERR_ACCURACY && further > NEARER; further -= NEARER / 2)
        status = tilted_beyond(self, first, b, last, horizon, further, law);
    return status;
}

/* Whether it is worth while, by a trial: where it may cut *law, or upper ends where that is NULL. */
static int is_worthwhile(const chain *self, size_t first, size_t b, size_t last, double horizon,
                         const ei_upper_law *law, int *worth) {
    const ei_batch *batch = self->batch;
    chain coarse = *self;
    ei_upper_law trial = {.decay = 0};
    coarse.effort = COARSE;
    int status = tilted_law(&coarse, first, b, last, horizon, &trial);
    *worth = 0;
    if (status == EI_OK && law == NULL)
        add_leading(self, EI_UPPER, &trial.lattice);
    for (size_t i = 0; i < EI_PROBES && status == EI_OK; i++) {
        double time = horizon * (double)(i + 1) / (EI_PROBES + 1), known;
        if (law != NULL) {
            known = ei_upper_law_sf(law, time);
        } else {
            time = batch->deadline[batch->index[i]] - self->constant;
            known = TRIAL * batch->upper[batch->index[i]];
        }
        *worth |= isfinite(time) && ei_upper_law_sf(&trial, time) < known;
    }
    ei_upper_law_free(&trial);
    return ei_no_bound(status) ? EI_OK : status;
}

static int cut_by_tilted(const chain *self, size_t first, size_t b, size_t last, double horizon,
                         ei_upper_law *law) {
    ei_upper_law other = {.decay = 0};
    /* In a trial it would be the same law twice. */
    int worth = self->effort < 1, status = EI_OK;
    if (!worth)
        status = is_worthwhile(self, first, b, last, horizon, law, &worth);
    if (status == EI_OK && worth)
        status = tilted_law(self, first, b, last, horizon, &other);
    if (status == EI_OK && worth)
        take_better(law, &other);
    ei_upper_law_free(&other);
    return ei_no_bound(status) ? EI_OK : status;
}

/* Whether to take part b of those from `first` to `last`, not the last, for one whose services are tilted: it
 * has to be slower than those behind it. */
static int may_be_tilted(const chain *self, size_t first, size_t b, size_t last) {
    const size_t slowest = slowest_of(self, first, last + 1, 1);
    const int poisson = self->batch->arrival.kind == EI_ARRIVAL_POISSON;
    return self->parts[b].service != NULL && !(poisson && is_exponential(&self->parts[b])) &&
           slowest_of(self, b, last + 1, 1) == b && self->parts[b].decay <= NEAR * self->parts[slowest].decay;
}

static int find_law(const chain *self, size_t first, size_t last, ei_upper_law *law) {
    const int poisson = self->batch->arrival.kind == EI_ARRIVAL_POISSON;
    double mean = 0, decay = INFINITY;
    int status = EI_OK;
    for (size_t k = first; k <= last; k++) {
        mean += self->parts[k].mean;
        decay = fmin(decay, self->parts[k].decay);
    }
    const double horizon = fmin(mean + FURTHEST / decay, self->batch->horizon);
    if (poisson && is_exponential(&self->parts[first])) {
        if (first < last)
            status = law_of(self, first + 1, last, law);
        if (status == EI_OK)
            status = stretch(law, horizon / SHORT_WALK, horizon);
        if (status == EI_OK)
            add_sojourn(self, self->parts[first].service, EI_UPPER, &law->lattice);
    } else {
        status = added_law(self, first, last, horizon, SHORT_WALK, law);
        for (size_t b = first + 1; poisson && b < last && status == EI_OK; b++) {
            ei_upper_law other = {.decay = 0};
            if (!is_candidate(self, first, b, last))
                continue;
            status = exponential_law(self, first, b, last, horizon, SHORT_WALK, &other);
            if (status == EI_OK)
                take_better(law, &other);
            ei_upper_law_free(&other);
            status = ei_no_bound(status) ? EI_OK : status;
        }
        /* The whole chain's has its own name. */
        const int whole = first == 0 && last + 1 == self->count;
        for (size_t b = first; poisson && !whole && b < last && status == EI_OK; b++)
            if (may_be_tilted(self, first, b, last))
                status = cut_by_tilted(self, first, b, last, horizon, law);
        if (poisson && status == EI_OK)
            status = cut_by_pair(self, first, last, horizon, law);
    }
    return status == EI_OK ? bound_tail(self, first, last, law) : status;
}

/* The sojourn time in the parts from `first` to `last`, fed by the chain's own arrivals; *law is empty. */
static int law_of(const chain *self, size_t first, size_t last, ei_upper_law *law) {
    ei_upper_law *known = &self->laws[first * self->count + last];
    if (known->lattice.sf == NULL) {
        /* Kept for others than one trial. */
        chain whole = *self;
        whole.effort = self->laws_effort;
        int status = find_law(&whole, first, last, known);
        if (status != EI_OK) {
            ei_upper_law_free(known);
            return status;
        }
    }
    const size_t size = known->lattice.count * sizeof(double), phases = known->phases * size;
    double *sf = malloc(size), *by_phase = known->by_phase != NULL ? malloc(phases) : NULL;
    if (sf == NULL || (by_phase == NULL && known->by_phase != NULL)) {
        free(sf);
        free(by_phase);
        return EI_ERR_NO_MEMORY;
    }
    memcpy(sf, known->lattice.sf, size);
    if (by_phase != NULL)
        memcpy(by_phase, known->by_phase, phases);
    *law = *known;
    law->lattice.sf = sf;
    law->by_phase = by_phase;
    return EI_OK;
}

/* The sojourn time in the parts from `first` to `last`, upwards or downwards, fed every `period`. */
static int fed_periodically(const chain *self, size_t first, size_t last, double period, size_t finest,
                            ei_upper_law *law) {
    size_t count = first < last ? last - first + 1 : first - last + 1;
    double reach = period;
    int status = EI_OK;
    for (size_t i = 0; i < count; i++) {
        const part *one = &self->parts[first < last ? first + i : first - i];
        if (one->service != NULL)
            reach = fmax(reach, ei_service_reach(one->service));
    }
    if (!(period > 0))
        return EI_ERR_UNSTABLE;
    size_t points = (size_t)fmax(ceil(period * (double)finest / reach), 1);
    for (size_t i = 0; i < count && status == EI_OK; i++) {
        const part *one = &self->parts[first < last ? first + i : first - i];
        ei_upper_law next;
        ei_added_stage stage = stage_of(one, 0);
        status = ei_add_stage_periodic(&next, law, &stage, period, points, 8 * finest, self->batch->monitor);
        ei_upper_law_free(law);
        *law = next;
    }
    return status;
}

static void cut_by(const chain *self, const ei_upper_law *before, const ei_upper_law *after, int method) {
    const ei_batch *batch = self->batch;
    size_t count = self->score != NULL ? EI_PROBES : batch->count;
    for (size_t i = 0; i < count; i++) {
        size_t at = batch->index[i];
        double rest = batch->deadline[at] - self->constant;
        if (!isfinite(rest))
            continue;
        double value = ei_upper_law_plus_sf(before, after, rest);
        if (self->score == NULL) {
            ei_cut_upper(batch, at, value, method);
            continue;
        }
        self->score->sum += log(fmax(value, DBL_MIN));
        self->score->ratio = fmin(self->score->ratio, value / batch->upper[at]);
    }
}

/* bottleneck_first, with the parts before b fed by Poisson arrivals, added_stage where b is the last part, or
 * periodically. */
static int upper_ends(const chain *self, size_t b, double floor, int periodic) {
    const part *one = &self->parts[b];
    double horizon = self->batch->horizon, period = one->service != NULL ? floor : one->again;
    const size_t last = self->count - 1, finest = self->effort < 1 ? PERIODIC_POINTS / 2 : PERIODIC_POINTS;
    ei_upper_law before = {.decay = 0}, after = {.decay = 0};
    int status = EI_OK;
    if (b < last)
        status = fed_periodically(self, b + 1, last, period, finest, &after);
    if (b > 0 && status == EI_OK)
        status = periodic ? fed_periodically(self, b - 1, 0, period, finest, &before)
                          : law_of(self, 0, b - 1, &before);
    if (status == EI_OK)
        status = b > 0 ? add_part(self, b, floor, horizon, WALK_POINTS, &before)
                       : first_law(self, b, floor, horizon, &before);
    if (status == EI_OK)
        add_leading(self, EI_UPPER, &before.lattice);
    if (status == EI_OK)
        cut_by(self, &before, &after,
               b == last && !periodic ? EI_BRACKET_ADDED_STAGE : EI_BRACKET_BOTTLENECK_FIRST);
    ei_upper_law_free(&before);
    ei_upper_law_free(&after);
    return ei_no_bound(status) ? EI_OK : status;
}

/* Time that the service exceeds with probability `chance`. */
static double quantile(const ei_service *service, double chance) {
    double low = 0, high = ei_service_extent(service);
    for (int i = 0; i < 40; i++) {
        double middle = low + (high - low) / 2;
        if (ei_service_sf(service, middle) >= chance)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The chain with little effort for all of its laws, for a trial. */
static int begin_trial(chain *self, const chain *whole) {
    *self = *whole;
    self->effort = self->laws_effort = COARSE;
    self->pair_points /= 3;
    self->laws = calloc(self->count * self->count, sizeof *self->laws);
    return self->laws == NULL ? EI_ERR_NO_MEMORY : EI_OK;
}

/* The best floor under a random bottleneck, found with little effort, with all of it if that may cut ends. */
static int bottleneck_ends(const chain *self, size_t b, int periodic) {
    static const double chances[] = {0.98, 0.94, 0.9, 0.86, 0.82, 0.78, 0.74, 0.7, 0.6, 0.5, 0.3, 0.1};
    const ei_service *service = self->parts[b].service;
    double best = 0, floor = -1;
    outcome score = {0, INFINITY};
    chain coarse;
    if (service == NULL)
        return upper_ends(self, b, 0, periodic);
    int status = begin_trial(&coarse, self);
    coarse.score = &score;
    for (size_t f = 0; f < sizeof chances / sizeof *chances && status == EI_OK; f++) {
        const double tried = quantile(service, chances[f]);
        score.sum = 0;
        status = upper_ends(&coarse, b, tried, periodic);
        if (score.sum < best) {
            best = score.sum;
            floor = tried;
        }
    }
    free_laws(&coarse);
    return status != EI_OK || floor < 0 || score.ratio > TRIAL ? status
                                                               : upper_ends(self, b, floor, periodic);
}

/* added_stage, if a trial may cut ends or comes to nothing. */
static int added_ends(const chain *self) {
    outcome score = {0, INFINITY};
    chain coarse;
    int status = begin_trial(&coarse, self);
    coarse.score = &score;
    if (status == EI_OK)
        status = upper_ends(&coarse, self->count - 1, 0, 0);
    free_laws(&coarse);
    return status != EI_OK || (score.ratio > TRIAL && isfinite(score.ratio))
               ? status
               : upper_ends(self, self->count - 1, 0, 0);
}

/* exponential, for the exponential part b with others behind it. */
static int exponential_ends(const chain *self, size_t b) {
    ei_upper_law law = {.decay = 0}, none = {.decay = 0};
    int status = exponential_law(self, 0, b, self->count - 1, self->batch->horizon, WALK_POINTS, &law);
    if (status == EI_OK) {
        add_leading(self, EI_UPPER, &law.lattice);
        cut_by(self, &law, &none, EI_BRACKET_EXPONENTIAL);
    }
    ei_upper_law_free(&law);
    return ei_no_bound(status) ? EI_OK : status;
}

/* tilted, for the random part b with others behind it. */
static int tilted_ends(const chain *self, size_t b) {
    ei_upper_law law = {.decay = 0}, none = {.decay = 0};
    const double horizon = self->batch->horizon;
    const size_t last = self->count - 1;
    /* Behind other arrivals it is the first that is tried. */
    int worth = self->batch->arrival.kind != EI_ARRIVAL_POISSON,
        status = worth ? EI_OK : is_worthwhile(self, 0, b, last, horizon, NULL, &worth);
    if (status == EI_OK && worth)
        status = tilted_law(self, 0, b, last, horizon, &law);
    if (status == EI_OK && worth) {
        add_leading(self, EI_UPPER, &law.lattice);
        cut_by(self, &law, &none, EI_BRACKET_TILTED);
    }
    ei_upper_law_free(&law);
    return ei_no_bound(status) ? EI_OK : status;
}

/* The part whose queue decays the slowest of those not yet `used`. */
static size_t next_bottleneck(const chain *self, const unsigned char *used) {
    size_t slowest = self->count;
    for (size_t k = 0; k < self->count; k++)
        if (!used[k] && (slowest == self->count || self->parts[k].decay < self->parts[slowest].decay))
            slowest = k;
    return slowest;
}

/* Exponential stages alone. */
static int upper_exponential(const chain *self) {
    ei_upper_law law = {.decay = 0}, none = {.decay = 0};
    size_t count = (size_t)WALK_POINTS + 2;
    law.lattice = (ei_lattice){self->batch->horizon / WALK_POINTS, count, calloc(count, sizeof(double))};
    if (law.lattice.sf == NULL)
        return EI_ERR_NO_MEMORY;
    add_leading(self, EI_UPPER, &law.lattice);
    cut_by(self, &law, &none, EI_BRACKET_EXPONENTIAL);
    ei_upper_law_free(&law);
    return EI_OK;
}

/* The stages, the slowest of neighbouring exponential ones first, see chain.h: the caller's to free; NULL: no
 * memory. */
static ei_service *slowest_first(const ei_service *given, size_t stage_count) {
    ei_service *stages = malloc(stage_count * sizeof *stages);
    if (stages == NULL)
        return NULL;
    memcpy(stages, given, stage_count * sizeof *stages);
    for (size_t k = 1; k < stage_count; k++)
        for (size_t i = k;
             i > 0 && stages[i].kind == EI_SERVICE_EXPONENTIAL &&
             stages[i - 1].kind == EI_SERVICE_EXPONENTIAL && stages[i].time > stages[i - 1].time;
             i--) {
            ei_service faster = stages[i - 1];
            stages[i - 1] = stages[i];
            stages[i] = faster;
        }
    return stages;
}

static int has_pair(const chain *self) {
    for (size_t last = 1; last < self->count; last++)
        if (pair_before(self, 0, last) < self->count)
            return 1;
    return 0;
}

/* bottleneck_first with the law of part b and those before it from following two of them at once. */
static int pair_first(const chain *self, size_t b, double floor, size_t points, ei_upper_law *before,
                      ei_upper_law *after) {
    const part *one = &self->parts[b];
    const size_t a = pair_before(self, 0, b);
    const part *near = &self->parts[a];
    const double between = a + 1 < b && near->service != NULL ? quantile(near->service, 0.6) : 0;
    int status = fed_periodically(self, b + 1, self->count - 1, one->service != NULL ? floor : one->again,
                                  PERIODIC_POINTS, after);
    if (status == EI_OK)
        status = pair_law(self, 0, a, b, self->batch->horizon, between, floor, points, before);
    if (status == EI_OK)
        status = bound_tail(self, 0, b, before);
    return status;
}

/* What a trial comes to, at least, over what is known of each element. */
static void try_on(const chain *self, const ei_upper_law *before, const ei_upper_law *after, double *ratio) {
    const ei_batch *batch = self->batch;
    for (size_t i = 0; i < batch->count; i++) {
        const size_t at = batch->index[i];
        const double value = ei_upper_law_plus_sf(before, after, batch->deadline[at] - self->constant);
        ratio[i] = fmin(ratio[i], value / batch->upper[at]);
    }
}

/* Leaves the elements of a batch that a trial comes near to; where ends are wide, it may be further off. */
static void leave_hopeful(ei_batch *batch, size_t *index, const double *ratio) {
    size_t left = 0;
    for (size_t i = 0; i < batch->count; i++) {
        const size_t at = batch->index[i];
        if (ratio[i] <= PAIR_TRIAL * fmax(batch->upper[at] / batch->lower[at] / PAIR_WIDE, 1))
            index[left++] = at;
    }
    batch->index = index;
    batch->count = left;
}

static int pair_first_ends(const chain *self, size_t b, double *ratio, size_t *index) {
    static const double chances[] = {1, 0.95, 0.85, 0.7, 0.5, 0.3};
    const ei_service *service = self->parts[b].service;
    ei_batch hopeful = *self->batch;
    chain some = *self;
    double best = service != NULL ? INFINITY : 0, floor = 0;
    int status = EI_OK;
    for (size_t i = 0; i < hopeful.count; i++)
        ratio[i] = best;
    for (size_t f = 0; f < sizeof chances / sizeof *chances && service != NULL && status == EI_OK; f++) {
        ei_upper_law before = {.decay = 0}, after = {.decay = 0};
        const double tried = f > 0 ? quantile(service, chances[f]) : ei_service_minimum(service);
        double score = 0;
        status = pair_first(self, b, tried, self->pair_points / 3, &before, &after);
        for (int i = 1; i < 4 && status == EI_OK; i++)
            score += log(fmax(ei_upper_law_plus_sf(&before, &after, self->batch->horizon * i / 4), DBL_MIN));
        if (status == EI_OK && score < best) {
            best = score;
            floor = tried;
        }
        if (status == EI_OK) {
            add_leading(self, EI_UPPER, &before.lattice);
            try_on(self, &before, &after, ratio);
        }
        ei_upper_law_free(&before);
        ei_upper_law_free(&after);
        status = ei_no_bound(status) ? EI_OK : status;
    }
    leave_hopeful(&hopeful, index, ratio);
    some.batch = &hopeful;
    if (status == EI_OK && hopeful.count > 0) {
        ei_upper_law before = {.decay = 0}, after = {.decay = 0};
        status = pair_first(self, b, floor, self->pair_points, &before, &after);
        if (status == EI_OK) {
            add_leading(self, EI_UPPER, &before.lattice);
            cut_by(&some, &before, &after, EI_BRACKET_TWO_STAGES);
        }
        ei_upper_law_free(&before);
        ei_upper_law_free(&after);
    }
    return ei_no_bound(status) ? EI_OK : status;
}

/* two_stages with all parts added to the two. */
static int pair_added_ends(const chain *self, double *ratio, size_t *index) {
    ei_upper_law law = {.decay = 0}, none = {.decay = 0};
    ei_batch hopeful = *self->batch;
    chain coarse, some = *self;
    int status = begin_trial(&coarse, self);
    if (status == EI_OK)
        status = law_of(&coarse, 0, self->count - 1, &law);
    for (size_t i = 0; i < hopeful.count; i++)
        ratio[i] = status == EI_OK ? INFINITY : 0;
    if (status == EI_OK) {
        add_leading(self, EI_UPPER, &law.lattice);
        try_on(self, &law, &none, ratio);
    }
    free_laws(&coarse);
    ei_upper_law_free(&law);
    status = ei_no_bound(status) ? EI_OK : status;
    leave_hopeful(&hopeful, index, ratio);
    some.batch = &hopeful;
    if (status == EI_OK && hopeful.count > 0)
        status = law_of(self, 0, self->count - 1, &law);
    if (status == EI_OK && hopeful.count > 0) {
        add_leading(self, EI_UPPER, &law.lattice);
        cut_by(&some, &law, &none, EI_BRACKET_TWO_STAGES);
    }
    ei_upper_law_free(&law);
    return ei_no_bound(status) ? EI_OK : status;
}

/* tilted, for the random part b with others behind it, by what is known of the law up to it. */
static int known_ends(const chain *self, size_t b) {
    ei_upper_law law = {.decay = 0}, none = {.decay = 0};
    chain some = *self;
    some.known = 1;
    int status = tilted_law(&some, 0, b, self->count - 1, self->batch->horizon, &law);
    if (status == EI_OK) {
        add_leading(self, EI_UPPER, &law.lattice);
        cut_by(self, &law, &none, EI_BRACKET_TILTED);
    }
    ei_upper_law_free(&law);
    return ei_no_bound(status) ? EI_OK : status;
}

/* two_stages, for the deadlines of one class after the other, whose ends are still wide. */
static int pair_ends(const chain *self) {
    const size_t classes = sizeof PAIR_CLASSES / sizeof *PAIR_CLASSES;
    size_t *index = malloc(2 * self->batch->count * sizeof *index);
    double mean = 0, decay = INFINITY, *ratio = malloc(self->batch->count * sizeof *ratio);
    int status = index == NULL || ratio == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    for (size_t k = 0; k < self->count; k++) {
        mean += self->parts[k].mean;
        decay = fmin(decay, self->parts[k].decay);
    }
    /* Paths of fewer jobs cost less. */
    const double finer = fmin(fmax(cbrt(2 * decay / self->batch->arrival_rate), 1), 2);
    for (size_t k = 0; k < classes && status == EI_OK; k++) {
        const double from = k > 0 ? mean + PAIR_CLASSES[k - 1] / decay : -INFINITY;
        ei_batch batch = *self->batch;
        chain one = *self;
        batch.index = index;
        batch.count = 0;
        batch.horizon = mean + PAIR_CLASSES[k] / decay;
        for (size_t i = EI_PROBES; i < self->batch->count; i++) {
            const size_t at = self->batch->index[i];
            const double rest = batch.deadline[at] - self->constant;
            if (rest > from && rest <= batch.horizon && batch.upper[at] > FAIR * batch.lower[at])
                index[batch.count++] = at;
        }
        if (batch.count == 0)
            continue;
        one.batch = &batch;
        one.pair_points =
            (size_t)(finer * (double)PAIR_POINTS[k]) * (batch.effort == EI_EFFORT_TIGHT ? 2 : 1);
        one.laws = calloc(one.count * one.count, sizeof *one.laws);
        status =
            one.laws == NULL ? EI_ERR_NO_MEMORY : pair_added_ends(&one, ratio, index + self->batch->count);
        for (size_t b = 1; b + 1 < one.count && status == EI_OK; b++)
            if (one.parts[b].decay <= NEAR * decay && pair_before(&one, 0, b) < one.count)
                status = pair_first_ends(&one, b, ratio, index + self->batch->count);
        for (size_t b = 1; b + 1 < one.count && status == EI_OK; b++)
            if (may_be_tilted(&one, 0, b, one.count - 1) && pair_before(&one, 0, b) < one.count)
                status = known_ends(&one, b);
        free_laws(&one);
    }
    free(index);
    free(ratio);
    return status;
}

int ei_chain_ends(const ei_batch *self, const ei_service *given, size_t stage_count) {
    chain all = {.parts = NULL};
    unsigned char *used = calloc(stage_count, 1);
    ei_service *stages = slowest_first(given, stage_count);
    int status = used == NULL || stages == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    if (status != EI_OK)
        goto out;
    if ((status = chain_behind(&all, self, stages, stage_count)) != EI_OK)
        goto out;
    if ((status = lower_exponential(&all)) != EI_OK)
        goto out;
    if (all.count == 0) {
        status = upper_exponential(&all);
        goto out;
    }
    size_t first = next_bottleneck(&all, used), last = all.count - 1;
    double least = all.parts[first].decay;
    for (size_t b = 0; b < last; b++)
        if (is_candidate(&all, 0, b, last) && (status = exponential_ends(&all, b)) != EI_OK)
            goto out;
    for (size_t k = 0; k < all.count; k++)
        if (all.parts[k].decay <= NEAR * least && (status = lower_ends(&all, k)) != EI_OK)
            goto out;
    for (size_t b = first; b < all.count && all.parts[b].decay <= FAR * least;
         b = next_bottleneck(&all, used)) {
        if (!ei_is_wide(self, FAIR) || (status = bottleneck_ends(&all, b, 1)) != EI_OK)
            goto out;
        used[b] = 1;
    }
    for (size_t b = 0; b < last && ei_is_wide(self, TILTED_FAIR); b++)
        if (may_be_tilted(&all, 0, b, last) && (status = tilted_ends(&all, b)) != EI_OK)
            goto out;
    if (first > 0 && first < last && ei_is_wide(self, FAIR) &&
        (status = bottleneck_ends(&all, first, 0)) != EI_OK)
        goto out;
    if (last > 0 && ei_is_wide(self, FAIR))
        status = added_ends(&all);
    /* For one random stage between constant ones, none of which is far faster, there is joint.h. */
    const int joint = all.count == 3 && all.parts[0].service == NULL && all.parts[2].service == NULL &&
                      fmin(all.parts[0].again, all.parts[2].again) >=
                          JOINT_NEAR * fmax(all.parts[0].again, all.parts[2].again);
    for (size_t k = 0; k < all.count && !joint && status == EI_OK && ei_is_wide(self, FAIR); k++)
        if (all.parts[k].decay <= PAIR_NEAR * least)
            status = lower_pairs(&all, k);
    if (status == EI_OK && !joint && has_pair(&all))
        status = pair_ends(&all);
out:
    free(used);
    free(stages);
    chain_free(&all);
    return status;
}

/* ---- renewal arrivals */

/* Whether nothing else takes any time. */
static int is_lone_exponential(const chain *self) {
    return self->count == 1 && self->parts[0].service != NULL &&
           self->parts[0].service->kind == EI_SERVICE_EXPONENTIAL && self->constant == 0;
}

/* As lower_ends. */
static int renewal_lower(const chain *self, size_t b) {
    const ei_batch *batch = self->batch;
    const part *one = &self->parts[b];
    const ei_added_stage stage = stage_of(one, 0);
    ei_lattice others = {.sf = NULL}, sojourn = {.sf = NULL};
    int status = sum_of_others(self, b, &others);
    if (status == EI_OK)
        status = ei_lindley_sojourn_lower(&sojourn, NULL, &stage, &batch->arrival,
                                          lindley_step(&stage, batch->horizon, LINDLEY_POINTS),
                                          LINDLEY_POINTS, batch->monitor);
    if (status == EI_OK)
        raise_by(self, &sojourn, &others, one->service == NULL ? EI_BRACKET_QUEUE : EI_BRACKET_LINK);
    ei_lattice_free(&others);
    ei_lattice_free(&sojourn);
    return ei_no_bound(status) ? EI_OK : status;
}

/* The queue of part b from below by the overshoot of its walk, see chain.h; and one service of each part. */
static int lower_overshoot(const chain *self, size_t b) {
    const ei_batch *batch = self->batch;
    const part *one = &self->parts[b];
    const ei_service constant = {.kind = EI_SERVICE_DETERMINISTIC, .time = one->again};
    const ei_service *service = one->service != NULL ? one->service : &constant;
    const int transfer = service->kind == EI_SERVICE_TRANSFER;
    double theta = 0, moment, slope, excess = -1;
    chain coarse = *self;
    ei_lattice law = {.sf = NULL};
    /* Of others moments are known from above alone. */
    if (service->kind == EI_SERVICE_COMPOUND || service->kind == EI_SERVICE_REPETITION)
        return EI_OK;
    for (double more = 1e-9; more < 1e-1 && !(excess >= 0); more *= 4) {
        theta = one->decay * (1 + more);
        int status = ei_service_log_mgf(service, theta, &moment, NULL);
        if (status != EI_OK)
            return status;
        moment -= transfer ? MGF_ERROR * moment : DBL_EPSILON * (double)(service->sample_count + 16);
        excess = moment - ei_arrival_exponent(&batch->arrival, theta, &slope) * (1 + 1e-12);
    }
    const double most =
        (transfer ? ei_service_extent(service) : ei_service_maximum(service)) -
        (batch->arrival.kind == EI_ARRIVAL_DETERMINISTIC ? ei_arrival_mean(&batch->arrival) : 0);
    const double share =
        (service->kind == EI_SERVICE_EXPONENTIAL ? 1 - theta * service->time : exp(-theta * fmax(most, 0))) *
        (1 - 1e-9);
    if (!(excess >= 0) || !(share > LEAST_SHARE))
        return EI_OK;
    coarse.sum_step = batch->horizon / SHORT_WALK;
    int status = sum_of_others(&coarse, self->count, &law);
    if (status == EI_OK)
        status = lengthen(&law, coarse.sum_step, batch->horizon);
    if (status == EI_OK) {
        ei_lattice_add_exponential(&law, theta, EI_LOWER);
        for (size_t j = 0; j < law.count; j++)
            law.sf[j] *= share;
        raise_by(self, &law, &(ei_lattice){.sf = NULL},
                 one->service == NULL ? EI_BRACKET_QUEUE : EI_BRACKET_LINK);
    }
    ei_lattice_free(&law);
    return status;
}

/* exponential: part b and the slowest behind it. */
static int lower_geometric(const chain *self, size_t b) {
    const size_t a = slowest_of(self, b + 1, self->count, 1);
    ei_lattice others = {.sf = NULL}, sojourn = {.sf = NULL};
    if (a == self->count)
        return EI_OK;
    const ei_service *law = self->parts[a].service;
    const ei_added_stage behind = stage_of(&self->parts[a], 0);
    const double mean = self->parts[a].mean + self->parts[b].mean,
                 horizon = mean + PAIR_REACH / self->parts[b].decay,
                 share = law != NULL ? fmin(ei_service_reach(law) / horizon, 1) : 0,
                 points = law != NULL ? fmin(cbrt(BEHIND_WORK / share), BEHIND_POINTS) : BEHIND_POINTS;
    int status = sum_of_others(self, b, &others);
    if (status == EI_OK)
        status = ei_geometric_behind(&sojourn, self->parts[b].service, &self->batch->arrival, &behind,
                                     lindley_step(&behind, horizon, (size_t)points), (size_t)points,
                                     self->batch->monitor);
    if (status == EI_OK)
        raise_by(self, &sojourn, &others, EI_BRACKET_EXPONENTIAL);
    ei_lattice_free(&others);
    ei_lattice_free(&sojourn);
    return ei_no_bound(status) ? EI_OK : status;
}

/* log E e^{theta Q} of the parts behind b, fed by Poisson arrivals of that rate. */
static int log_moment_behind(const chain *self, size_t b, size_t last, double rate, double theta,
                             double *value) {
    const size_t from = self->parts[b].end, end = self->parts[last].end;
    ei_batch batch = *self->batch;
    ei_upper_law law = {.decay = 0};
    chain rest;
    batch.arrival = (ei_arrival){.kind = EI_ARRIVAL_POISSON, .parameter = {rate}};
    batch.arrival_rate = rate;
    batch.horizon = INFINITY;
    for (size_t k = b + 1; k <= last; k++)
        if (!(rate * self->parts[k].mean < 1))
            return EI_ERR_UNSTABLE;
    int status = chain_init(&rest, &batch, self->stages + from, end - from);
    if (status == EI_OK)
        status = law_of(&rest, 0, rest.count - 1, &law);
    if (status == EI_OK && !(law.decay > theta))
        status = EI_ERR_UNSTABLE;
    if (status == EI_OK)
        *value = ei_upper_law_log_moment(&law, theta) + theta * (law.shift + 2e-9 * law.lattice.step);
    ei_upper_law_free(&law);
    chain_free(&rest);
    return status;
}

static int periodic_upper(const chain *self, ei_upper_law *law);

/* The largest -v' e^{theta y} / theta up to what is far enough from the lattice's end to fall as it should,
 * and the logarithm of what is left beyond. */
static int steepest(const chain *self, const ei_upper_law *law, double theta, double *most, double *beyond) {
    const ei_lattice *v = &law->lattice;
    const double step = v->step, end = (double)v->count - LOOSE / (theta * step);
    double exponent, last = 0;
    *most = 0;
    for (size_t j = 0; (double)j + 2 < end && j + 1 < v->count; j++) {
        last = (double)(j + 1) * step;
        *most = fmax(*most, (v->sf[j] - v->sf[j + 1]) * exp(theta * last));
    }
    *most *= (1 + 1e-9) / (theta * step);
    return bound_beyond(self, 0, self->count - 1, last, beyond, &exponent);
}

/* exponential: part b with others behind it. */
static int upper_geometric(const chain *self, size_t b) {
    const ei_batch *batch = self->batch;
    const double theta = ei_geometric_rate(self->parts[b].service, &batch->arrival, EI_UPPER),
                 rate = (1 / self->parts[b].service->time - theta) * (1 + 1e-12);
    double moment = 0, most = 1, beyond = -INFINITY;
    ei_upper_law law = {.decay = 0};
    const ei_upper_law none = {.decay = 0};
    int status =
        theta > 0 ? log_moment_behind(self, b, self->count - 1, rate, theta, &moment) : EI_ERR_UNSTABLE;
    chain some = *self;
    some.count = b + 1;
    if (b > 0 && status == EI_OK)
        status = periodic_upper(&some, &law);
    if (b > 0 && status == EI_OK)
        status = steepest(self, &law, theta, &most, &beyond);
    for (size_t i = 0; i < batch->count && status == EI_OK; i++) {
        const size_t at = batch->index[i];
        const double rest = batch->deadline[at] - self->constant,
                     shorter = rest - law.shift - 1e-9 * law.lattice.step;
        if (!isfinite(rest) || shorter < 0)
            continue;
        const double alone = b > 0 ? ei_upper_law_plus_sf(&law, &none, rest) : exp(-theta * rest);
        ei_cut_upper(batch, at,
                     (alone + most * exp(-theta * shorter) * expm1(moment)) * (1 + 1e-9) + exp(beyond),
                     EI_BRACKET_EXPONENTIAL);
    }
    ei_upper_law_free(&law);
    return ei_no_bound(status) ? EI_OK : status;
}

/* Whether the upper end of part b is `exponential`. */
static int is_geometric(const chain *self, size_t b) {
    const ei_arrival_kind kind = self->batch->arrival.kind;
    return is_exponential(&self->parts[b]) && kind != EI_ARRIVAL_MARKOV_MODULATED &&
           (b == 0 || kind == EI_ARRIVAL_DETERMINISTIC);
}

/* exponential, for each part near to the slowest with others behind it. */
static int geometric_ends(const chain *self) {
    int status = EI_OK;
    for (size_t b = 0; b + 1 < self->count && status == EI_OK; b++) {
        if (!is_candidate(self, 0, b, self->count - 1))
            continue;
        status = lower_geometric(self, b);
        if (status == EI_OK && is_geometric(self, b))
            status = upper_geometric(self, b);
    }
    return status;
}

/* Whether the law of a sojourn time may be drawn afresh at each request: lindley.h. */
static int may_be_drawn(const chain *self) {
    const ei_arrival *arrival = &self->batch->arrival;
    return arrival->kind != EI_ARRIVAL_MARKOV_MODULATED || ei_modulated_is_monotone(arrival);
}

static double shortest(const part *self) {
    return self->service != NULL ? ei_service_minimum(self->service) : self->again;
}

/* bottleneck_first at heavy loads: part b alone by Lundberg's bound, where those before it hold no job up
 * that its shortest services feed. */
static int upper_heavy(const chain *self, size_t b) {
    const double period = shortest(&self->parts[b]), end = self->batch->horizon;
    ei_upper_law law = {.decay = 0}, before = {.decay = 0}, after = {.decay = 0};
    int status = b > 0 ? fed_periodically(self, b - 1, 0, period, PERIODIC_POINTS, &before) : EI_OK;
    if (status == EI_OK && before.lattice.sf != NULL)
        status = EI_ERR_ACCURACY;
    if (status == EI_OK && b + 1 < self->count)
        status = fed_periodically(self, b + 1, self->count - 1, period, PERIODIC_POINTS, &after);
    if (status == EI_OK)
        status = bound_beyond(self, b, b, end, &law.log_scale, &law.decay);
    if (status == EI_OK)
        status = stretch(&law, end / SHORT_WALK, end);
    if (status == EI_OK) {
        law.log_scale += law.decay * end + 1e-9;
        for (size_t j = 0; j < law.lattice.count; j++)
            law.lattice.sf[j] = exp(fmin(law.log_scale - law.decay * (double)j * law.lattice.step, 0));
        cut_by(self, &law, &after, EI_BRACKET_BOTTLENECK_FIRST);
    }
    ei_upper_law_free(&law);
    ei_upper_law_free(&before);
    ei_upper_law_free(&after);
    return ei_no_bound(status) ? EI_OK : status;
}

/* The decay of part b with a floor under it, from below; 0 where it is unstable. */
static int floored_decay(const chain *self, size_t b, double floor, double *decay) {
    const ei_added_stage stage = stage_of(&self->parts[b], floor);
    double high = self->parts[b].decay, moment, slope;
    *decay = floor > 0 ? 0 : high;
    for (int i = 0; i < FLOORED && floor > 0; i++) {
        const double middle = *decay + (high - *decay) / 2;
        int status = ei_added_stage_log_moment(&stage, middle, &moment);
        if (status != EI_OK)
            return status;
        if (moment * (1 + MGF_ERROR) < ei_arrival_exponent(&self->batch->arrival, middle, &slope))
            *decay = middle;
        else
            high = middle;
    }
    return EI_OK;
}

/* The floor under part b that is about the best, where the parts from `first` on, which come behind b, are
 * fed by it; and the law of their sojourn time. */
static int choose_floor(const chain *self, size_t b, size_t first, double *floor, ei_upper_law *after) {
    static const double chances[] = {1, 0.98, 0.95, 0.9, 0.8, 0.65, 0.5};
    const ei_service *service = self->parts[b].service;
    double best = INFINITY;
    int status = EI_OK;
    for (size_t f = 0; f < sizeof chances / sizeof *chances && status == EI_OK; f++) {
        const double tried = f > 0 ? quantile(service, chances[f]) : ei_service_minimum(service);
        ei_upper_law law = {.decay = 0};
        double decay, score = INFINITY;
        status = floored_decay(self, b, tried, &decay);
        if (status == EI_OK && decay > 0)
            status = fed_periodically(self, first, self->count - 1, tried, PERIODIC_POINTS, &law);
        if (status == EI_OK && decay > 0 && (law.lattice.sf == NULL || law.decay > decay))
            score = ei_upper_law_log_moment(&law, decay) - decay * self->batch->horizon / 2;
        if (score < best) {
            best = score;
            *floor = tried;
            ei_upper_law_free(after);
            *after = law;
            law = (ei_upper_law){.decay = 0};
        }
        ei_upper_law_free(&law);
        status = ei_no_bound(status) ? EI_OK : status;
    }
    return status == EI_OK && isinf(best) ? EI_ERR_UNSTABLE : status;
}

/* tilted, for the random part b by the chain up to it in the opposite order, exchange.h, or bottleneck_first
 * where others are behind it. Exponential parts that follow b are put before it where b is one of them. */
static int exchanged_ends(const chain *self, size_t b) {
    size_t first = b + 1, at = 0;
    while (is_exponential(&self->parts[b]) && first < self->count && is_exponential(&self->parts[first]))
        first++;
    if (first == 1)
        return EI_OK;
    chain opposite = {.parts = NULL};
    ei_upper_law law = {.decay = 0}, after = {.decay = 0};
    double floor = 0, decay = 0;
    ei_service *stages = malloc(self->parts[first - 1].end * sizeof *stages);
    int status = stages == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    for (size_t n = 0; n < first && status == EI_OK; n++) {
        /* b, those behind it, and those before it, backwards. */
        const size_t k = n == 0 ? b : n < first - b ? first - n : first - 1 - n;
        for (size_t i = k > 0 ? self->parts[k - 1].end : 0; i < self->parts[k].end; i++)
            stages[at++] = self->stages[i];
    }
    if (status == EI_OK && first < self->count)
        status = choose_floor(self, b, first, &floor, &after);
    if (status == EI_OK)
        status = floored_decay(self, b, floor, &decay);
    if (status == EI_OK)
        status = chain_init(&opposite, self->batch, stages, at);
    if (status == EI_OK) {
        opposite.before = &self->parts[b > 0 ? 0 : 1];
        opposite.floor = floor;
        opposite.parts[0].decay = decay;
        if (may_be_tilted(&opposite, 0, 0, opposite.count - 1))
            status = tilted_law(&opposite, 0, 0, opposite.count - 1, self->batch->horizon, &law);
    }
    if (status == EI_OK && law.lattice.sf != NULL)
        cut_by(self, &law, &after, first < self->count ? EI_BRACKET_BOTTLENECK_FIRST : EI_BRACKET_TILTED);
    ei_upper_law_free(&law);
    ei_upper_law_free(&after);
    chain_free(&opposite);
    free(stages);
    return ei_no_bound(status) ? EI_OK : status;
}

static int renewal_upper(const chain *self, size_t slowest) {
    const int modulated = self->batch->arrival.kind == EI_ARRIVAL_MARKOV_MODULATED,
              drawn = may_be_drawn(self);
    const size_t last = self->count - 1;
    const part *one = &self->parts[slowest];
    int status = EI_OK;
    for (size_t b = 0; b < last && status == EI_OK && ei_is_wide(self->batch, CLOSE); b++)
        if ((b == 0 || drawn) && !is_geometric(self, b) && may_be_tilted(self, 0, b, last))
            status = tilted_ends(self, b);
    /* A last part that is much quicker is better behind a tilted one. */
    const int quick = modulated && may_be_tilted(self, 0, slowest, last) &&
                      self->parts[last].decay > NEAR * self->parts[slowest].decay;
    if (status == EI_OK && (last == 0 || drawn) && !quick && ei_is_wide(self->batch, CLOSE))
        status = upper_ends(self, last, 0, 0);
    if (last > 0 && one->service != NULL && ei_may_exchange(&self->batch->arrival) && status == EI_OK &&
        ei_is_wide(self->batch, FAIR))
        status = exchanged_ends(self, slowest);
    if (!modulated && last > 0 && status == EI_OK && ei_is_wide(self->batch, CLOSE))
        status = upper_ends(self, slowest, one->service != NULL ? quantile(one->service, 0.9) : 0, 1);
    if (!modulated && last > 0 && status == EI_OK && ei_is_wide(self->batch, CLOSE))
        status = upper_heavy(self, slowest);
    return status;
}

static int ends_behind_renewal(const chain *self) {
    unsigned char *used = calloc(self->count, 1);
    if (used == NULL)
        return EI_ERR_NO_MEMORY;
    const int modulated = self->batch->arrival.kind == EI_ARRIVAL_MARKOV_MODULATED;
    const size_t slowest = next_bottleneck(self, used), last = self->count - 1;
    const double least = self->parts[slowest].decay;
    int status = EI_OK;
    for (size_t k = 0; k < self->count && status == EI_OK; k++)
        if (self->parts[k].decay <= NEAR * least) {
            status = renewal_lower(self, k);
            if (status == EI_OK && !modulated)
                status = lower_overshoot(self, k);
        }
    if (!modulated && status == EI_OK)
        status = geometric_ends(self);
    if (status == EI_OK && ei_is_wide(self->batch, CLOSE))
        status = renewal_upper(self, slowest);
    for (size_t b = slowest; modulated && last > 0 && status == EI_OK && b < self->count &&
                             self->parts[b].decay <= FAR * least && ei_is_wide(self->batch, FAIR);
         b = next_bottleneck(self, used)) {
        status = bottleneck_ends(self, b, 1);
        used[b] = 1;
    }
    free(used);
    return status;
}

/* ---- periodic arrivals */

/* A path that stays on part b: the parts before it at the job where it begins, b's shortest service at each
 * job after that, and from job 0 on b and the parts behind it. */
static int periodic_lower(const chain *self, size_t b, double interval) {
    const ei_batch *batch = self->batch;
    const double fall = interval - shortest(&self->parts[b]);
    ei_lattice before = {.sf = NULL}, rest = {.sf = NULL};
    int status = sum_of_parts(self, 0, b, &before);
    if (status == EI_OK)
        status = sum_of_parts(self, b, self->count, &rest);
    if (status == EI_OK && before.sf != NULL)
        ei_lattice_supremum_lower(&before, fall);
    for (size_t i = 0; i < batch->count && status == EI_OK; i++) {
        double time = batch->deadline[batch->index[i]] - self->constant, value = time < 0;
        if (before.sf != NULL)
            value = ei_lattice_plus_lower(&before, &rest, time);
        else if (rest.sf != NULL)
            value = ei_lattice_lower(&rest, time);
        ei_raise_lower(batch, batch->index[i], value, EI_BRACKET_QUEUE);
    }
    ei_lattice_free(&before);
    ei_lattice_free(&rest);
    return status;
}

/* Whether a request every `interval` ever waits for part b, beyond what rounding can tell. */
static int has_queue(const part *one, double interval) {
    return one->service != NULL && ei_service_sf(one->service, interval) > 1e-15;
}

/* The lattice of a walk over `mean` and what the decay asks for behind it, on which the interval is not
 * rounded where it is longer than a step. */
static double periodic_step(const ei_service *service, double interval, double mean, double decay) {
    double horizon = mean + fmax(FURTHEST / decay, ei_service_reach(service));
    double step = horizon / (double)LINDLEY_POINTS;
    return interval > step ? interval / ceil(interval / step) : step;
}

/* One part's own queue, and one service of every other. */
static int periodic_queue_lower(const chain *self, size_t b) {
    const ei_batch *batch = self->batch;
    const part *one = &self->parts[b];
    const ei_added_stage stage = {one->service, 0, 0};
    const ei_arrival *arrival = &batch->arrival;
    const double interval = ei_arrival_mean(arrival);
    ei_lattice sojourn = {.sf = NULL}, others = {.sf = NULL};
    if (!has_queue(one, interval))
        return EI_OK;
    int status = ei_lindley_sojourn_lower(&sojourn, NULL, &stage, arrival,
                                          periodic_step(one->service, interval, one->mean, one->decay),
                                          LINDLEY_POINTS, batch->monitor);
    const int solved = status == EI_OK;
    if (solved || ei_no_bound(status))
        status = sum_of_others(self, b, &others);
    if (status == EI_OK && solved)
        raise_by(self, &sojourn, &others, EI_BRACKET_LINK);
    if (status == EI_OK && (!solved || one->mean < LIGHT * interval)) {
        ei_lattice_free(&sojourn);
        if ((status = ei_periodic_sojourn_lower(&sojourn, one->service, interval)) == EI_OK)
            raise_by(self, &sojourn, &others, EI_BRACKET_LINK);
    }
    ei_lattice_free(&sojourn);
    ei_lattice_free(&others);
    return status;
}

/* As fed_periodically from the first part to the last, with the equation that a part adds solved where
 * requests wait for it (lindley.h). EI_ERR_ACCURACY and the like where it cannot be. */
static int periodic_upper(const chain *self, ei_upper_law *law) {
    const ei_arrival *arrival = &self->batch->arrival;
    const double interval = ei_arrival_mean(arrival);
    double mean = 0, least = INFINITY;
    int status = EI_OK;
    for (size_t k = 0; k < self->count && status == EI_OK; k++) {
        const part *one = &self->parts[k];
        const ei_added_stage stage = stage_of(one, 0);
        ei_upper_law next;
        mean += one->mean;
        if (!has_queue(one, interval)) {
            double reach = fmax(one->service != NULL ? ei_service_reach(one->service) : 0, interval);
            size_t points = (size_t)fmax(ceil(interval * PERIODIC_FINEST / reach), 1);
            status = ei_add_stage_periodic(&next, law, &stage, interval, points, 8 * PERIODIC_FINEST,
                                           self->batch->monitor);
        } else {
            least = fmin(least, one->decay);
            status = ei_add_stage_lindley(&next, law, &stage, arrival,
                                          periodic_step(one->service, interval, mean, least), LINDLEY_POINTS,
                                          self->batch->monitor);
        }
        ei_upper_law_free(law);
        *law = next;
    }
    return status;
}

/* bottleneck_first, with nothing put under part b. */
static int periodic_bottleneck(const chain *self, size_t b) {
    ei_upper_law before = {.decay = 0}, after = {.decay = 0};
    chain some = *self;
    some.count = b + 1;
    int status =
        fed_periodically(self, b + 1, self->count - 1, shortest(&self->parts[b]), PERIODIC_FINEST, &after);
    if (status == EI_OK)
        status = periodic_upper(&some, &before);
    if (status == EI_OK)
        cut_by(self, &before, &after, EI_BRACKET_BOTTLENECK_FIRST);
    ei_upper_law_free(&before);
    ei_upper_law_free(&after);
    return ei_no_bound(status) ? EI_OK : status;
}

static int periodic_ends(const chain *self) {
    const double interval = ei_arrival_mean(&self->batch->arrival);
    ei_upper_law law = {.decay = 0}, none = {.decay = 0};
    double slowest = 0;
    int status = EI_OK;
    for (size_t k = 0; k < self->count; k++)
        slowest = fmax(slowest, self->parts[k].service != NULL ? self->parts[k].mean : 0);
    for (size_t b = 0; b < self->count && status == EI_OK; b++) {
        if ((status = periodic_lower(self, b, interval)) == EI_OK)
            status = periodic_queue_lower(self, b);
        if (status == EI_OK && has_queue(&self->parts[b], interval))
            status = lower_overshoot(self, b);
    }
    if (status == EI_OK)
        status = geometric_ends(self);
    if (status != EI_OK)
        goto out;
    if ((status = periodic_upper(self, &law)) == EI_OK)
        cut_by(self, &law, &none, EI_BRACKET_ADDED_STAGE);
    /* Where that has no end, or where it costs little. */
    if (ei_no_bound(status) || (status == EI_OK && slowest > 0 && slowest < LIGHT * interval)) {
        ei_upper_law_free(&law);
        law = none;
        status = fed_periodically(self, 0, self->count - 1, interval, PERIODIC_FINEST, &law);
        if (status == EI_OK)
            cut_by(self, &law, &none, EI_BRACKET_ADDED_STAGE);
    }
    const size_t b = slowest_of(self, 0, self->count, 1);
    if (ei_no_bound(status))
        status = EI_OK;
    if (status == EI_OK && b + 1 < self->count && ei_is_wide(self->batch, CLOSE))
        status = periodic_bottleneck(self, b);
    if (status == EI_OK && self->count > 1 && ei_is_wide(self->batch, CLOSE))
        status = upper_heavy(self, b);
out:
    ei_upper_law_free(&law);
    return status;
}

int ei_renewal_ends(const ei_batch *self, const ei_service *given, size_t stage_count) {
    chain all = {.parts = NULL};
    ei_service *stages = slowest_first(given, stage_count);
    if (stages == NULL)
        return EI_ERR_NO_MEMORY;
    int status = chain_init(&all, self, stages, stage_count);
    if (status == EI_OK && self->arrival.kind != EI_ARRIVAL_MARKOV_MODULATED && is_lone_exponential(&all))
        ei_geometric_ends(self, all.parts[0].service, &self->arrival);
    else if (status == EI_OK && self->arrival.kind == EI_ARRIVAL_DETERMINISTIC)
        status = periodic_ends(&all);
    else if (status == EI_OK && all.count > 0)
        status = ends_behind_renewal(&all);
    free(stages);
    chain_free(&all);
    return status;
}
