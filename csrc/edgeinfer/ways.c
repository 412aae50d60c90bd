#include "edgeinfer/ways.h"

#include "edgeinfer/backward.h"
#include "edgeinfer/tilt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_LEVELS = 320,
    MOST_JOBS = 1 << 14,
    SPARE = 9,          /* levels beyond the best one that stay in question */
    POLL_JOBS = 1 << 12 /* jobs between two looks at the monitor */
};

static const double LOWEST = 0.05;  /* tilt times deadline */
static const double HIGHEST = 2e5;  /* the same */
static const double APART = 1.05;   /* ratio of tilts */
static const double NEAREST = 1e-9; /* relative step towards a transform's abscissa */
static const double NEAR = 0.05;    /* of a logarithm, for which the tilt of the length before is kept */
static const double LEFT_OUT = 34;  /* -log of the share of longer paths */
static const double START = 1e-200; /* of densities, which may reach e^800 */

/* A tilt; see ways.h. */
typedef struct {
    double sigma; /* 1/s */
    ei_backward arrivals;
    double growth; /* log g */
    double start;  /* log of prod M_k e^{-sigma T} */
    double *stay;  /* x_k, [count] */
    double *way;   /* f_k, [count]: for one J at a time */
    size_t last;   /* largest J; SIZE_MAX: none */
    ei_tilt *tilt; /* [count] */
    double *ways;  /* f_k(j), [last + 1][count] */
} level;

struct ei_ways {
    size_t count; /* stages */
    ei_tilted_law *laws;
    const ei_arrival *arrival;
    double deadline, log_bound;
    double highest;      /* of the tilts tried, 1/s */
    size_t levels, jobs; /* of those in use, once they are; J < jobs */
    level *level;
    double *numbers;    /* of the levels' stay and way */
    uint16_t *level_of; /* [jobs], of J */
    double *log_chance; /* [jobs], log b_J */
    double *log_mean;   /* [jobs], log N_J */
    double *up_to;      /* [jobs], sum of b_J / S */
    size_t capacity;
};

static void free_level(const ei_ways *self, level *one) {
    for (size_t k = 0; k < self->count && one->tilt != NULL; k++)
        ei_tilt_free(&one->tilt[k]);
    ei_backward_free(&one->arrivals);
    free(one->tilt);
    free(one->ways);
}

void ei_ways_free(ei_ways *self) {
    if (self == NULL)
        return;
    for (size_t l = 0; l < MOST_LEVELS && self->level != NULL; l++)
        free_level(self, &self->level[l]);
    for (size_t k = 0; k < self->count && self->laws != NULL; k++)
        ei_tilted_law_free(&self->laws[k]);
    free(self->laws);
    free(self->level);
    free(self->numbers);
    free(self->level_of);
    free(self->log_chance);
    free(self->log_mean);
    free(self->up_to);
    free(self);
}

/* Fills the next level; its mean sum of one service of each stage. INFINITY where a transform is, NAN without
 * memory. */
static double fill_level(ei_ways *self, double sigma) {
    level *one = &self->level[self->levels];
    double slope, mean = 0, most = -INFINITY;
    one->sigma = sigma;
    ei_backward_free(&one->arrivals);
    if (ei_backward_init(&one->arrivals, self->arrival, sigma) != EI_OK ||
        ei_backward_keep(&one->arrivals, 0) != EI_OK)
        return NAN;
    one->start = -sigma * self->deadline;
    one->stay = self->numbers + 2 * self->count * self->levels;
    one->way = one->stay + self->count;
    for (size_t k = 0; k < self->count; k++) {
        one->stay[k] = ei_tilted_log_mgf(&self->laws[k], sigma, &slope);
        if (!(one->stay[k] < INFINITY))
            return INFINITY;
        one->start += one->stay[k];
        most = fmax(most, one->stay[k]);
        mean += slope;
    }
    for (size_t k = 0; k < self->count; k++)
        one->stay[k] = exp(one->stay[k] - most);
    one->growth = most - one->arrivals.log_step;
    return mean;
}

/* From tilts that hardly matter to the one under which a single job is late, if there is. */
static int lay_levels(ei_ways *self, double mean, ei_monitor monitor) {
    const double unit = fmax(self->deadline, mean);
    self->level = calloc(MOST_LEVELS, sizeof *self->level);
    self->numbers = malloc(2 * MOST_LEVELS * self->count * sizeof *self->numbers);
    if (self->level == NULL || self->numbers == NULL)
        return EI_ERR_NO_MEMORY;
    double sigma = 0, next = LOWEST / unit;
    while (self->levels < MOST_LEVELS && next <= HIGHEST / unit) {
        if (ei_stopped(monitor))
            return EI_ERR_INTERRUPTED;
        mean = fill_level(self, next);
        while (isinf(mean) && next - sigma > NEAREST * next)
            mean = fill_level(self, next = sigma + (next - sigma) / 2);
        if (isnan(mean))
            return EI_ERR_NO_MEMORY;
        if (isinf(mean))
            break;
        self->levels++;
        if (mean >= self->deadline)
            break;
        sigma = next;
        next *= APART;
    }
    return self->levels > 0 ? EI_OK : EI_ERR_TOO_LARGE;
}

static int reserve_job(ei_ways *self) {
    if (self->jobs < self->capacity)
        return EI_OK;
    const size_t larger = 2 * self->capacity + 64;
    uint16_t *level_of = realloc(self->level_of, larger * sizeof *level_of);
    self->level_of = level_of != NULL ? level_of : self->level_of;
    double *log_chance = realloc(self->log_chance, larger * sizeof *log_chance);
    self->log_chance = log_chance != NULL ? log_chance : self->log_chance;
    double *log_mean = realloc(self->log_mean, larger * sizeof *log_mean);
    self->log_mean = log_mean != NULL ? log_mean : self->log_mean;
    if (level_of == NULL || log_chance == NULL || log_mean == NULL)
        return EI_ERR_NO_MEMORY;
    self->capacity = larger;
    return EI_OK;
}

/* f_k of one job more. */
static void add_job(size_t count, const double *restrict stay, const double *before, double *way) {
    for (size_t k = 0; k < count; k++)
        way[k] = (before != NULL ? stay[k] * before[k] : 0) + (k > 0 ? way[k - 1] : before == NULL);
}

/* Lengths of paths with their tilts and bounds, until longer ones hardly count. */
static int take_lengths(ei_ways *self, ei_monitor monitor) {
    size_t least = 0, best = 0, tried = self->levels;
    self->log_bound = -INFINITY;
    for (size_t l = 1; l < self->levels; l++)
        if (self->level[l].growth < self->level[least].growth)
            least = l;
    for (;;) {
        double most = INFINITY, kept = INFINITY, beyond = INFINITY, mean = 0, kept_mean = 0;
        const size_t before = best;
        int status = reserve_job(self);
        if (status != EI_OK)
            return status;
        if (ei_stopped(monitor))
            return EI_ERR_INTERRUPTED;
        for (size_t l = 0; l < tried; l++) {
            level *one = &self->level[l];
            add_job(self->count, one->stay, self->jobs > 0 ? one->way : NULL, one->way);
            const double steps = (double)self->jobs, met = ei_backward_extend(&one->arrivals),
                         all = one->start + steps * one->growth + log(one->way[self->count - 1]),
                         value = all + met + steps * one->arrivals.log_step;
            if (value < most) {
                most = value;
                mean = met;
                best = l;
            }
            if (l == before) {
                kept = value;
                kept_mean = met;
            }
            beyond = l == least ? all + one->arrivals.log_start : beyond;
        }
        if (self->jobs > 0 && kept <= most + NEAR) {
            most = kept;
            mean = kept_mean;
            best = before;
        }
        /* The best tilt falls with the length, to that of the least growth. */
        const size_t needed = (best > least ? best : least) + SPARE;
        tried = needed < tried ? needed : tried;
        self->log_mean[self->jobs] = mean;
        self->level_of[self->jobs] = (uint16_t)best;
        self->log_chance[self->jobs++] = most;
        const double high = fmax(self->log_bound, most), low = fmin(self->log_bound, most);
        self->log_bound = high + log1p(exp(low - high));
        const double ratio =
            exp(self->level[least].growth) * (double)(self->jobs + self->count - 1) / (double)self->jobs;
        if (ratio < 1 && beyond + log(ratio / (1 - ratio)) < self->log_bound - LEFT_OUT)
            return EI_OK;
        if (self->jobs == MOST_JOBS)
            return EI_ERR_TOO_LARGE;
    }
}

/* Leaves the levels that some length has, and sums the components' chances. */
static int choose_levels(ei_ways *self) {
    uint16_t place[MOST_LEVELS];
    double sum = 0;
    size_t kept = 0;
    self->highest = self->level[self->levels - 1].sigma;
    self->up_to = malloc(self->jobs * sizeof *self->up_to);
    if (self->up_to == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t l = 0; l < self->levels; l++)
        self->level[l].last = SIZE_MAX;
    for (size_t j = 0; j < self->jobs; j++) {
        self->level[self->level_of[j]].last = j;
        self->up_to[j] = sum += exp(self->log_chance[j] - self->log_bound);
    }
    for (size_t l = 0; l < self->levels; l++) {
        if (self->level[l].last == SIZE_MAX) {
            free_level(self, &self->level[l]);
            continue;
        }
        place[l] = (uint16_t)kept;
        self->level[kept++] = self->level[l];
    }
    memset(self->level + kept, 0, (MOST_LEVELS - kept) * sizeof *self->level);
    self->levels = kept;
    for (size_t j = 0; j < self->jobs; j++)
        self->level_of[j] = place[self->level_of[j]];
    return EI_OK;
}

static int fill_ways(ei_ways *self, size_t l) {
    level *one = &self->level[l];
    const size_t count = self->count, rows = one->last + 1;
    one->tilt = calloc(count, sizeof *one->tilt);
    one->ways = malloc(rows * count * sizeof *one->ways);
    if (one->tilt == NULL || one->ways == NULL || ei_backward_keep(&one->arrivals, rows) != EI_OK)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < count; k++) {
        int status = ei_tilt_init(&one->tilt[k], &self->laws[k], one->sigma);
        if (status != EI_OK)
            return status;
    }
    for (size_t j = 0; j < rows; j++) {
        add_job(count, one->stay, j > 0 ? one->ways + (j - 1) * count : NULL, one->ways + j * count);
        ei_backward_extend(&one->arrivals);
    }
    return EI_OK;
}

int ei_ways_new(ei_ways **result, const ei_service *stages, size_t stage_count, const ei_arrival *arrival,
                double deadline, int with_tail, ei_monitor monitor) {
    ei_ways *self = calloc(1, sizeof *self);
    int status = EI_ERR_NO_MEMORY;
    double mean = 0;
    *result = NULL;
    if (self == NULL)
        goto out;
    self->arrival = arrival;
    self->deadline = deadline;
    self->laws = calloc(stage_count, sizeof *self->laws);
    if (self->laws == NULL)
        goto out;
    status = EI_ERR_DOMAIN;
    if (!ei_backward_takes(arrival))
        goto out;
    for (size_t k = 0; k < stage_count; k++) {
        if (!(ei_service_mean(&stages[k]) > 0))
            continue;
        mean += ei_service_mean(&stages[k]);
        if ((status = ei_tilted_law_init(&self->laws[self->count++], &stages[k], with_tail, monitor)) !=
            EI_OK)
            goto out;
    }
    if ((status = lay_levels(self, mean, monitor)) != EI_OK ||
        (status = take_lengths(self, monitor)) != EI_OK || (status = choose_levels(self)) != EI_OK)
        goto out;
    for (size_t l = 0; l < self->levels; l++)
        if ((status = fill_ways(self, l)) != EI_OK)
            goto out;
    *result = self;
    self = NULL;
out:
    ei_ways_free(self);
    return status;
}

double ei_ways_log_bound(const ei_ways *self) {
    return self->log_bound;
}

int ei_ways_ends_short(const ei_ways *self, size_t k, double *known) {
    return ei_tilted_ends_short(&self->laws[k], self->highest, known);
}

/* Lengths of the paths, and sums over ways, of each stage. */
size_t ei_ways_scratch(const ei_ways *self) {
    return self->count * (1 + self->levels);
}

/* A path as a component draws it, and what is known of all. */
typedef struct {
    size_t length, job, hidden; /* J, i, and the stage that the tilt is on */
    const level *level;
    ei_arrival_state state;
    double interval, *paths, *sums;
} walk;

static double *sums_of(const ei_ways *self, const walk *at, size_t l) {
    return at->sums + l * self->count;
}

static int is_alive(const level *one, size_t job) {
    return one->last >= job;
}

/* D where a path is beyond the deadline at `stage`. */
static double density(const ei_ways *self, const walk *at, size_t stage) {
    const size_t count = self->count;
    double sum = 0;
    for (size_t j = at->job; j < self->jobs; j++) {
        const size_t l = self->level_of[j], left = j - at->job;
        const level *one = &self->level[l];
        const double *way = one->ways + left * count, *sums = sums_of(self, at, l);
        double part = 0;
        for (size_t k = 0; k < count; k++)
            if (k <= stage)
                part += sums[k] * way[k];
            else if (left > 0)
                part += sums[k] * one->stay[k] * way[k - count];
        double log_scale, value = ei_backward_left(&one->arrivals, left, &at->state, &log_scale);
        sum += part / one->ways[(j + 1) * count - 1] * value *
               exp(self->log_chance[j] - self->log_bound - self->log_mean[j] + log_scale -
                   (double)at->job * one->arrivals.log_step);
    }
    return sum;
}

/* One job's services from the last stage backwards; D where a path is beyond the deadline, else 0. */
static double serve(const ei_ways *self, ei_rng *rng, walk *at) {
    const size_t count = self->count, left = at->length - at->job;
    double reached = at->job > 0 ? -INFINITY : 0;
    for (size_t k = count; k-- > 0;) {
        double middle, service = ei_tilted_draw(&self->laws[k], at->hidden == k ? &at->level->tilt[k] : NULL,
                                                rng, &middle);
        at->paths[k] = reached =
            service + (at->job > 0 ? fmax(at->paths[k] - at->interval, reached) : reached);
        for (size_t l = 0; l < self->levels; l++) {
            const level *one = &self->level[l];
            if (!is_alive(one, at->job))
                continue;
            const ei_tilt *tilt = &one->tilt[k];
            double *sums = sums_of(self, at, l);
            /* In halves, since the ratio may exceed a double's range. */
            const double half = exp((tilt->tilt * middle - tilt->log_mgf) / 2);
            double entering = k + 1 < count ? sums[k + 1] : 0;
            if (k + 1 == count && at->job == 0)
                entering = START;
            sums[k] = (sums[k] + entering) * half * half;
        }
        if (reached > self->deadline)
            return density(self, at, k);
        const double *ways = at->level->ways + left * count;
        if (at->hidden == k && k > 0 && ei_rng_uniform(rng) * ways[k] <= ways[k - 1])
            at->hidden--;
    }
    return 0;
}

double ei_ways_draw(const ei_ways *self, ei_rng *rng, double *restrict scratch, uint64_t *jobs,
                    ei_parallel *run) {
    size_t low = 0, high = self->jobs - 1;
    const double u = ei_rng_uniform(rng) * self->up_to[high];
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (self->up_to[middle] < u)
            low = middle + 1;
        else
            high = middle;
    }
    walk at = {
        .length = low,
        .hidden = self->count - 1,
        .level = &self->level[self->level_of[low]],
        .state = ei_backward_start(&self->level[self->level_of[low]].arrivals, low, self->log_mean[low], rng),
        .paths = scratch,
        .sums = scratch + self->count};
    for (size_t i = 0; i < ei_ways_scratch(self); i++)
        scratch[i] = 0;
    for (;;) {
        const double sum = serve(self, rng, &at);
        if (sum > 0) {
            const double half = exp(-self->log_bound / 2);
            return sum < INFINITY ? START * half / sum * half : 0;
        }
        if (++*jobs % POLL_JOBS == 0 && ei_parallel_stopped(run))
            return EI_ERR_INTERRUPTED;
        if (at.job == at.length)
            return 0;
        at.interval = ei_backward_next(&at.level->arrivals, at.length - at.job, &at.state, rng);
        at.job++;
        for (size_t l = 0; l < self->levels; l++) {
            const level *one = &self->level[l];
            if (!is_alive(one, at.job))
                continue;
            const double factor = exp(one->arrivals.log_step - one->sigma * at.interval);
            double *sums = sums_of(self, &at, l);
            for (size_t k = 0; k < self->count; k++)
                sums[k] *= factor * one->stay[k];
        }
    }
}
