#include "edgeinfer/blocks.h"

#include "edgeinfer/group.h"

#include <float.h>
#include <math.h>

enum {
    ORDERS = 6,     /* of norms, */
    EXPONENTS = 15, /* thetas, */
    FASTER = 8,     /* etas, */
    TIMES = 24,     /* c's, */
    LENGTHS = 24    /* and n's, powers of two, that are tried */
};

static const double WIDE = 2; /* upper / lower, below which nothing is tried */
static const double ORDER[ORDERS] = {1.5, 2, 3, 6, 20, 100};
static const double ROUNDING = 1e-12;                  /* of an arrival exponent, relative */
static const double NEAREST = 2e-3, FURTHEST = 0.6;    /* of thetas to the decay, relative */
static const double LEAST_TIME = 0.01, MOST_TIME = 10; /* of c's, in units of 1 / decay */

/* Logarithms at one theta. */
typedef struct {
    double theta, arrivals;                                  /* -log D, from above */
    double least[EI_BLOCKS_STAGES], level[EI_BLOCKS_STAGES]; /* of M D, from both sides */
    size_t orders;                                           /* of which moments are finite */
    double excess[ORDERS][EI_BLOCKS_STAGES];                 /* M(r theta)^{1/r} / M */
    double rise[ORDERS][EI_BLOCKS_STAGES];                   /* M(r theta) / (M((r - 1) theta) M) */
} moments;

/* Constants of e^{-theta T}, logarithms, by the number of stages that are left out: of P', and of R. */
typedef struct {
    size_t left_out;
    double theta[EXPONENTS], late[EXPONENTS], visits[EXPONENTS];
    double eta[FASTER], before[FASTER]; /* log a */
} constants;

/* log E e^{theta X} from both sides. */
static int log_moment(const ei_group *self, double theta, double ends[2]) {
    const ei_service *service = self->service;
    double value, slope;
    int status = ei_group_log_mgf(self, theta, &value, &slope);
    double error = (64 + (service != NULL ? (double)service->sample_count : 0)) * DBL_EPSILON * (1 + value);
    ends[EI_LOWER] = value - error;
    if (service != NULL && service->kind == EI_SERVICE_TRANSFER) {
        error += EI_SERVICE_MGF_ERROR * value;
        ends[EI_LOWER] = value - error;
    } else if (service != NULL &&
               (service->kind == EI_SERVICE_COMPOUND || service->kind == EI_SERVICE_REPETITION)) {
        error += EI_SERVICE_MGF_ERROR * value;
        ends[EI_LOWER] = theta * ei_service_mean(service) * (1 - ei_service_mean_error(service));
    }
    ends[EI_UPPER] = value + error;
    return status;
}

static int find_moments(moments *self, const ei_groups *list, const ei_arrival *arrival, double theta) {
    double slope, one[2], high[2], low[2];
    const double exponent = ei_arrival_exponent(arrival, theta, &slope);
    int status = EI_OK;
    self->theta = theta;
    self->arrivals = exponent * (1 + ROUNDING);
    self->orders = ORDERS;
    for (size_t k = 0; k < list->count && status == EI_OK; k++) {
        const ei_group *group = &list->groups[k];
        status = log_moment(group, theta, one);
        self->least[k] = one[EI_LOWER] - self->arrivals;
        self->level[k] = one[EI_UPPER] - exponent * (1 - ROUNDING);
        for (size_t r = 0; r < self->orders && status == EI_OK; r++) {
            if ((status = log_moment(group, ORDER[r] * theta, high)) != EI_OK ||
                (status = log_moment(group, (ORDER[r] - 1) * theta, low)) != EI_OK)
                break;
            if (!isfinite(high[EI_UPPER]))
                self->orders = r;
            self->excess[r][k] = fmax(high[EI_UPPER] / ORDER[r] - one[EI_LOWER], 0);
            self->rise[r][k] = fmax(high[EI_UPPER] - low[EI_LOWER] - one[EI_LOWER], 0);
        }
    }
    return status;
}

/* |H| D^i <= e^{constant + growth i} over `count` stages from `from` on, up or down, stage `first` slowed to
 * M D = 1. */
static void find_norm(const moments *self, size_t r, size_t first, size_t from, int down, size_t count,
                      double *growth, double *constant) {
    double level[EI_BLOCKS_STAGES] = {0};
    for (size_t i = count; i-- > 0;) {
        const size_t k = down ? from - i : from + i;
        level[i] = k == first ? 0 : self->level[k];
        if (i + 1 < count)
            level[i] = fmax(level[i], level[i + 1] + self->rise[r][down ? k - 1 : k + 1]);
    }
    *growth = self->excess[r][from] + level[0];
    *constant = 0;
    for (size_t i = 1; i < count; i++) {
        const double one = self->excess[r][down ? from - i : from + i] + level[i];
        double factor = ORDER[r] / (ORDER[r] - 1);
        if (one < *growth)
            factor = fmin(factor, -1 / expm1(one - *growth));
        *constant += log(factor) + one + self->arrivals;
    }
}

/* What all lengths of blocks share. */
typedef struct {
    double growth[EI_BLOCKS_STAGES][EI_BLOCKS_STAGES][2 * ORDERS],
        constant[EI_BLOCKS_STAGES][EI_BLOCKS_STAGES][2 * ORDERS];
} norms;

/* log c by the length of blocks, of stages `first` to before `count`; infinite where there is none. */
typedef struct {
    double log_c[LENGTHS][EI_BLOCKS_STAGES];
} weights;

static void find_weights(const moments *self, size_t first, size_t count, weights *all) {
    norms each;
    int known = self->orders > 0 && self->level[first] <= 0;
    for (size_t q = first; q < count; q++) {
        known = known && (q == first || self->level[q] < 0);
        for (size_t p = q + 1; p < count; p++)
            for (size_t r = 0; r < 2 * self->orders; r++)
                find_norm(self, r / 2, first, r % 2 ? p : q, r % 2, p - q + 1, &each.growth[q][p][r],
                          &each.constant[q][p][r]);
    }
    for (size_t i = 0; i < LENGTHS; i++) {
        double *log_c = all->log_c[i], n = ldexp(1, (int)i);
        log_c[first] = known ? 0 : INFINITY;
        for (size_t p = first + 1; p < count; p++) {
            double term[EI_BLOCKS_STAGES], most = -INFINITY, sum = 0;
            log_c[p] = INFINITY;
            for (size_t q = first; q < p && known; q++) {
                double phi = INFINITY;
                for (size_t r = 0; r < 2 * self->orders; r++)
                    phi = fmin(phi, n * each.growth[q][p][r] + each.constant[q][p][r]);
                term[q] = log_c[q] + phi;
                most = fmax(most, term[q]);
            }
            for (size_t q = first; q < p && known; q++)
                sum += exp(term[q] - most);
            if (known)
                log_c[p] = most + log(sum) - log(-expm1(n * self->level[p]));
        }
    }
}

/* log of c_N / D, the least over the lengths of blocks. */
static double late_of(const moments *self, const weights *all, size_t count) {
    double least = INFINITY;
    for (size_t i = 0; i < LENGTHS; i++)
        least = fmin(least, all->log_c[i][count - 1] + self->arrivals);
    return least;
}

/* log R of theta by a lesser theta'. */
static double visits_of(const moments *self, const weights *all, const moments *less, const weights *less_all,
                        size_t first, size_t count) {
    double least = INFINITY;
    for (size_t i = 0; i < LENGTHS && less->level[first] < 0; i++) {
        const double n = ldexp(1, (int)i), last = all->log_c[i][count - 1];
        double sum = 0;
        for (size_t p = first; p < count && last < INFINITY; p++)
            sum += exp(less_all->log_c[i][p]) * (1 + exp(-all->log_c[i][p]));
        sum *= exp(-(n - 1) * less->least[first]) / -expm1(n * less->level[first]);
        if (last < INFINITY && sum < INFINITY)
            least = fmin(least, last + self->arrivals + log(n) + log1p(sum));
    }
    return least;
}

/* log a: by the sum over all paths but for the ends of those in the first stage, or as for P'. */
static int find_before(constants *self, const ei_groups *list, const ei_arrival *arrival) {
    const ei_groups some = {list->groups, self->left_out};
    double limit;
    int status = ei_groups_decay_rate(&some, arrival, &limit);
    for (size_t i = 0; i < FASTER && status == EI_OK; i++) {
        moments at;
        weights all;
        self->eta[i] = limit * (i == 0 ? 1 - 1e-9 : 1 - exp2(-0.75 * (double)(FASTER - i)));
        self->before[i] = INFINITY;
        if (!isfinite(limit) || (status = find_moments(&at, &some, arrival, self->eta[i])) != EI_OK)
            continue;
        double paths = at.level[0] <= 0 ? 0 : INFINITY;
        for (size_t k = 0; k < some.count; k++) {
            paths += at.level[k] + at.arrivals;
            if (k > 0)
                paths += at.level[k] < 0 ? -log(-expm1(at.level[k])) : INFINITY;
        }
        find_weights(&at, 0, some.count, &all);
        self->before[i] = fmin(paths, some.count > 1 ? late_of(&at, &all, some.count) : INFINITY);
    }
    return status;
}

/* The logarithm of the bound at one deadline. */
static double log_bound(const constants *self, double decay, double deadline) {
    double least = INFINITY;
    for (int j = 0; j < (self->left_out > 0 ? TIMES : 1); j++) {
        const double time =
            self->left_out > 0 ? LEAST_TIME * pow(MOST_TIME / LEAST_TIME, j / (TIMES - 1.0)) / decay : 0;
        double late = INFINITY, rest = self->left_out > 0 ? INFINITY : -INFINITY;
        if (time >= deadline)
            break;
        for (size_t i = 0; i < EXPONENTS; i++) {
            late = fmin(late, self->late[i] - self->theta[i] * (deadline - time));
            for (size_t e = 0; e < FASTER && self->left_out > 0; e++)
                if (self->eta[e] > self->theta[i])
                    rest = fmin(rest, self->visits[i] - self->theta[i] * (deadline - time) + self->before[e] -
                                          self->eta[e] * time - log1p(-self->theta[i] / self->eta[e]));
        }
        const double most = fmax(late, rest);
        if (most < INFINITY)
            least = fmin(least, most + log1p(exp(fmin(late, rest) - most)));
    }
    return least;
}

static void cut(const ei_batch *self, const constants *best, double decay, double constant) {
    for (size_t i = 0; i < self->count; i++) {
        const size_t at = self->index[i];
        const double rest = self->deadline[at] - constant;
        if (!isfinite(rest) || !(rest > 0))
            continue;
        const double value = log_bound(best, decay, rest);
        ei_cut_upper(self, at, exp(value + 1e-9 + 1e-12 * fabs(value)), EI_BRACKET_BLOCKS);
    }
}

static int cut_all(const ei_batch *self, const ei_groups *list, double decay, double constant) {
    moments at[EXPONENTS];
    weights all[EXPONENTS];
    int status = EI_OK;
    size_t slowest = 0;
    for (size_t i = 0; i < EXPONENTS && status == EI_OK; i++) {
        const double less =
            i == 0 ? 1e-9 : NEAREST * pow(FURTHEST / NEAREST, (double)(i - 1) / (EXPONENTS - 2));
        status = find_moments(&at[i], list, &self->arrival, decay * (1 - less));
    }
    for (size_t k = 1; k < list->count && status == EI_OK; k++)
        slowest = at[0].level[k] >= at[0].level[slowest] ? k : slowest;
    for (size_t first = 0; first <= slowest && status == EI_OK; first++) {
        constants best = {.left_out = first};
        for (size_t i = 0; i < EXPONENTS; i++) {
            best.theta[i] = at[i].theta;
            find_weights(&at[i], first, list->count, &all[i]);
            best.late[i] = late_of(&at[i], &all[i], list->count);
        }
        for (size_t i = 0; i < EXPONENTS && first > 0; i++) {
            best.visits[i] = INFINITY;
            for (size_t j = i + 1; j < EXPONENTS; j++)
                best.visits[i] =
                    fmin(best.visits[i], visits_of(&at[i], &all[i], &at[j], &all[j], first, list->count));
        }
        if (first > 0)
            status = find_before(&best, list, &self->arrival);
        if (status == EI_OK)
            cut(self, &best, decay, constant);
        if (status == EI_OK && ei_stopped(self->monitor))
            status = EI_ERR_INTERRUPTED;
    }
    return status;
}

int ei_blocks_ends(const ei_batch *self, const ei_service *stages, size_t stage_count) {
    ei_groups list = {NULL, 0};
    double decay = 0, constant = 0;
    if (stage_count < 2 || !ei_arrival_is_renewal(&self->arrival) || !ei_is_wide(self, WIDE))
        return EI_OK;
    int status = ei_groups_init(&list, stages, stage_count);
    if (status == EI_OK && list.count > 1 && list.count <= EI_BLOCKS_STAGES)
        status = ei_groups_decay_rate(&list, &self->arrival, &decay);
    for (size_t k = 0; k < list.count; k++)
        constant += list.groups[k].service == NULL ? list.groups[k].once - list.groups[k].again : 0;
    if (status == EI_OK && decay > 0 && isfinite(decay))
        status = cut_all(self, &list, decay, constant);
    ei_groups_free(&list);
    return status;
}
