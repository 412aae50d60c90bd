#include "edgeinfer/compound.h"

#include "edgeinfer/fourier.h"
#include "edgeinfer/lattice.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    TILTS = 10,         /* theta of Chernoff's bound, at most; all but the last are the lattice's, too */
    BISECTIONS = 24,    /* for each */
    SHORTEST = 1 << 15, /* transforms */
    LONGEST = 1 << 19
};
static const double END = 1e-17; /* Chernoff's bound where the lattice ends */
static const double LARGEST =
    0.65; /* of the theta whose bound that is: what lies beyond the transform vanishes */
static const double LEAST = 0.3; /* likewise, and less where the weights' logarithm would exceed FIRST */
static const double FIRST = 8;
static const double RATIO = 3; /* of successive theta, at most */
static const double EXTENT = 1e-20;
static const double FINE = 400;         /* points wanted on the mean of a random service */
static const double NEGLIGIBLE = 1e-24; /* mass of a service's end that is left out, and counted */
static const double SUM_ERROR = 1e-9;   /* of the probabilities of the rounds */
static const double HAIR = 1e-14;       /* by which a lattice is read to the safe side */

struct ei_compound {
    ei_service *stages;
    double *rounds;
    size_t stage_count, round_count, random_count;
    double constant; /* of a round, s */
    double mean, variance, least, most, extent, abscissa;
    double absolute;                       /* error of the services' laws, in all */
    double theta[TILTS], log_scale[TILTS]; /* P(S > t) <= e^{log_scale - theta t} */
    int tilts;
    size_t count; /* of the lattice; 0: no random service */
    double step;
    double *upper, *lower; /* [count] each, in one allocation */
};

void ei_compound_free(ei_compound *self) {
    if (self == NULL)
        return;
    free(self->stages);
    free(self->rounds);
    free(self->upper);
    free(self);
}

static int is_random(const ei_service *stage) {
    return stage->kind != EI_SERVICE_DETERMINISTIC;
}

int ei_compound_log_mgf(const ei_compound *self, double theta, double *value, double *derivative) {
    double round = 0, slope = 0, sum = 0, moment = 0;
    if (isnan(theta))
        return EI_ERR_DOMAIN;
    for (size_t k = 0; k < self->stage_count && self->round_count > 1; k++) {
        double part, part_slope;
        int status = ei_service_log_mgf(&self->stages[k], theta, &part, &part_slope);
        if (status != EI_OK)
            return status;
        round += part;
        slope += part_slope;
    }
    size_t last = self->round_count - 1;
    double peak = fmax(round * (double)last, 0);
    for (size_t n = 0; n < self->round_count && peak < INFINITY; n++)
        if (self->rounds[n] > 0) {
            double term = self->rounds[n] * exp((double)n * round - peak);
            sum += term;
            moment += (double)n * term;
        }
    if (value != NULL)
        *value = peak < INFINITY ? peak + log(sum) : INFINITY;
    if (derivative != NULL)
        *derivative = peak < INFINITY ? slope * (moment / sum) : INFINITY;
    return EI_OK;
}

static double chernoff(const ei_compound *self, double time) {
    double least = 0;
    for (int e = 0; e < self->tilts; e++)
        least = fmin(least, self->log_scale[e] - self->theta[e] * time);
    return exp(least);
}

/* The theta at which Chernoff's bound first comes down to END: where theta (log M)' - log M = -log END, or
 * for a law of bounded support one that comes near its end. */
static int choose_theta(const ei_compound *self, double *theta) {
    double low = 0, high = 1 / self->mean, value, slope;
    int status;
    if (!(high < self->abscissa / 2))
        high = self->abscissa / 2;
    for (int i = 0; i < 60; i++) {
        if ((status = ei_compound_log_mgf(self, high, &value, &slope)) != EI_OK)
            return status;
        if (high * slope - value > -log(END) || !(value < 600) || high * self->mean > 1e4)
            break;
        low = high;
        high = fmin(2 * high, high + (self->abscissa - high) / 2);
    }
    for (int i = 0; i < BISECTIONS; i++) {
        double middle = low + (high - low) / 2;
        if ((status = ei_compound_log_mgf(self, middle, &value, &slope)) != EI_OK)
            return status;
        if (middle * slope - value > -log(END) || !(value < 600))
            high = middle;
        else
            low = middle;
    }
    *theta = low > 0 ? low : high / 2;
    return EI_OK;
}

static int add_tilt(ei_compound *self, double theta) {
    double value = 0;
    int status = ei_compound_log_mgf(self, theta, &value, NULL);
    self->theta[self->tilts] = theta;
    self->log_scale[self->tilts++] =
        value + EI_SERVICE_MGF_ERROR * (double)(self->round_count * self->random_count);
    return status;
}

static int choose_tilts(ei_compound *self) {
    double last = 0, value = 0, theta;
    int status = choose_theta(self, &last);
    theta = LEAST * last;
    for (int i = 0; i < 60 && status == EI_OK; i++) {
        if ((status = ei_compound_log_mgf(self, theta, &value, NULL)) != EI_OK ||
            value - theta * self->least <= FIRST)
            break;
        theta /= 2;
    }
    while (status == EI_OK && theta < LARGEST * last && self->tilts + 2 < TILTS) {
        status = add_tilt(self, theta);
        theta *= fmin(RATIO, fmax(LARGEST * last / theta, 1.01));
    }
    if (status == EI_OK && (status = add_tilt(self, LARGEST * last)) == EI_OK)
        status = add_tilt(self, last);
    return status;
}

static double time_at(const ei_compound *self, double level) {
    double least = INFINITY;
    for (int e = 0; e < self->tilts; e++)
        least = fmin(least, (self->log_scale[e] - log(level)) / self->theta[e]);
    return least;
}

/* ---- the lattice */

typedef struct {
    const ei_compound *law;
    ei_fourier fourier;
    size_t pad;       /* points before time 0: the most steps that lower ends are rounded down */
    double *masses;   /* [random_count][points] */
    size_t *points;   /* [random_count]: services' lattices end here */
    double *weighed;  /* [2 length], a pair of laws, and what comes out at last */
    double *product;  /* [length + 2]: re and im of the product of the transforms at k */
    double left_out;  /* probability of services beyond their lattices, in all */
    double log_round; /* logarithm of the product of the sums of the weighed masses */
} build;

static void build_free(build *self) {
    ei_fourier_free(&self->fourier);
    free(self->masses);
    free(self->points);
    free(self->weighed);
}

static int build_masses(build *self) {
    const ei_compound *law = self->law;
    size_t which = 0, room = law->count;
    for (size_t k = 0; k < law->stage_count; k++) {
        if (!is_random(&law->stages[k]))
            continue;
        double *mass = self->masses + which * room, before = 1;
        size_t i = 0;
        for (; i < room && before > NEGLIGIBLE; i++) {
            double after = fmin(ei_service_sf(&law->stages[k], (double)i * law->step), before);
            mass[i] = before - after;
            before = after;
        }
        /* What is longer than S's lattice, Chernoff's bound on S covers. */
        if (i < room)
            self->left_out += before * (double)law->round_count;
        self->points[which++] = i;
    }
    return EI_OK;
}

/* Weighs the masses of one law by e^{theta t} into every number of `data`; the logarithm of their sum, to
 * which they are scaled. */
static double weigh(const build *self, size_t which, double theta, double *data) {
    const size_t count = self->points[which];
    const double *mass = self->masses + which * self->law->count;
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += data[i] = mass[i] * exp(theta * self->law->step * (double)i);
    for (size_t i = 0; i < count; i++)
        data[i] /= sum;
    memset(data + count, 0, (self->fourier.length - count) * sizeof *data);
    return log(sum);
}

/* The product of all services' transforms. */
static void multiply_services(build *self, double theta) {
    const size_t half = self->fourier.length / 2, count = self->law->random_count;
    double *data = self->weighed, *product = self->product, parts[4];
    self->log_round = 0;
    for (size_t k = 0; k <= half; k++) {
        product[2 * k] = 1;
        product[2 * k + 1] = 0;
    }
    for (size_t which = 0; which < count; which += 2) {
        int both = which + 1 < count;
        self->log_round += weigh(self, which, theta, data);
        if (both)
            self->log_round += weigh(self, which + 1, theta, data + self->fourier.length);
        else
            memset(data + self->fourier.length, 0, self->fourier.length * sizeof *data);
        ei_fourier_forward(&self->fourier, data);
        for (size_t k = 0; k <= half; k++) {
            ei_fourier_split(&self->fourier, data, k, parts);
            double re = product[2 * k], im = product[2 * k + 1];
            for (int second = 0; second <= both; second++) {
                double next = re * parts[2 * second] - im * parts[2 * second + 1];
                im = re * parts[2 * second + 1] + im * parts[2 * second];
                re = next;
            }
            product[2 * k] = re;
            product[2 * k + 1] = im;
        }
    }
}

/* Steps by which n rounds are moved beside their random services. */
static double shift_of(const ei_compound *law, size_t n, ei_end end) {
    double steps = (double)n * law->constant / law->step;
    return end == EI_UPPER ? ceil(steps * (1 + HAIR))
                           : floor(steps * (1 - HAIR)) - (double)(n * law->random_count);
}

/* Both ends' weighed masses, `pad` points late: upper ones as real, lower ones as imaginary part. log_sum: of
 * each. */
static int mix_rounds(build *self, double theta, double log_sum[2]) {
    const ei_compound *law = self->law;
    const size_t length = self->fourier.length, mask = length - 1, rounds = law->round_count;
    const double *cosine = self->fourier.turn, *sine = cosine + length;
    double *weight = malloc(2 * rounds * sizeof *weight);
    size_t *turns = malloc(2 * rounds * sizeof *turns);
    if (weight == NULL || turns == NULL) {
        free(weight);
        free(turns);
        return EI_ERR_NO_MEMORY;
    }
    for (int end = 0; end < 2; end++) {
        double *w = weight + (size_t)end * rounds, peak = -INFINITY, sum = 0;
        for (size_t n = 0; n < rounds; n++) {
            double shift = shift_of(law, n, (ei_end)end);
            w[n] = log(law->rounds[n]) + (double)n * self->log_round + theta * law->step * shift;
            peak = fmax(peak, w[n]);
            turns[(size_t)end * rounds + n] = (size_t)(shift + (double)self->pad);
        }
        for (size_t n = 0; n < rounds; n++)
            sum += w[n] = exp(w[n] - peak);
        for (size_t n = 0; n < rounds; n++)
            w[n] /= sum;
        log_sum[end] = peak + log(sum);
    }
    for (size_t k = 0; k <= length / 2; k++) {
        double re = 1, im = 0, parts[4] = {0};
        for (size_t n = 0; n < rounds; n++) {
            for (int end = 0; end < 2; end++) {
                const double w = weight[(size_t)end * rounds + n];
                const size_t turn = k * turns[(size_t)end * rounds + n] & mask;
                double *part = parts + (end == EI_UPPER ? 0 : 2);
                part[0] += w * (re * cosine[turn] + im * sine[turn]);
                part[1] += w * (im * cosine[turn] - re * sine[turn]);
            }
            double next = re * self->product[2 * k] - im * self->product[2 * k + 1];
            im = re * self->product[2 * k + 1] + im * self->product[2 * k];
            re = next;
        }
        ei_fourier_join(&self->fourier, parts, k, self->weighed);
    }
    free(weight);
    free(turns);
    ei_fourier_backward(&self->fourier, self->weighed);
    return EI_OK;
}

/* Cuts the upper ends and raises the lower ones by what one theta says. */
static void take_ends(build *self, ei_compound *law, int level, const double log_sum[2]) {
    const size_t length = self->fourier.length, count = law->count;
    const double theta = law->theta[level], step = law->step,
                 products = (double)(law->round_count * law->random_count);
    const double *raised = self->weighed + self->pad, *lowered = raised + length;
    const double delta = 2 * ei_fourier_error(&self->fourier) * (products + 2) +
                         8 * DBL_EPSILON * (products + (double)law->round_count);
    const double reached = (double)(length - self->pad - law->random_count * law->round_count - 1) * step;
    const double alias = law->most < reached ? 0
                                             : exp(law->log_scale[law->tilts - 1] - log_sum[EI_LOWER] -
                                                   (law->theta[law->tilts - 1] - theta) * reached);
    double above = chernoff(law, (double)(count - self->pad - 2) * step) + self->left_out, below = 0;
    for (size_t i = count; i-- > 0;) {
        law->upper[i] = fmin(law->upper[i], above);
        law->lower[i] = fmax(law->lower[i], below);
        double exponent = -theta * step * (double)i, scale = 1 / (double)length;
        above += (fmax(raised[i] * scale, 0) + delta) * exp(exponent + log_sum[EI_UPPER]);
        below += fmax(lowered[i] * scale - delta - alias, 0) * exp(exponent + log_sum[EI_LOWER]);
    }
}

/* The accuracy of the services' laws, and of the sums. */
static void finish_ends(ei_compound *law) {
    double relative = 1e-11;
    for (size_t k = 0; k < law->stage_count; k++) {
        double one, more;
        ei_service_accuracy(&law->stages[k], &one, &more);
        relative += one * (double)law->round_count;
        law->absolute += more * (double)law->round_count;
    }
    for (size_t i = 0; i < law->count; i++)
        law->upper[i] = fmin(law->upper[i] * (1 + relative) + law->absolute, i > 0 ? law->upper[i - 1] : 1);
    for (size_t i = law->count; i-- > 0;)
        law->lower[i] = fmax(fmin(law->lower[i] * (1 - relative) - law->absolute, 1),
                             i + 1 < law->count ? law->lower[i + 1] : 0);
}

static int make_lattice(ei_compound *law, ei_monitor monitor) {
    build all = {.law = law, .pad = (law->round_count - 1) * law->random_count + 1};
    const double end = time_at(law, END);
    size_t length = SHORTEST;
    double mean = 0;
    int status = EI_ERR_TOO_LARGE;
    for (size_t k = 0; k < law->stage_count; k++)
        mean += is_random(&law->stages[k]) ? ei_service_mean(&law->stages[k]) : 0;
    while (length < LONGEST && (double)(length / 2) * mean < FINE * end * (double)law->random_count)
        length *= 2;
    if (all.pad > length / 16)
        goto out;
    law->count = length / 2;
    law->step = end / (double)(law->count - all.pad - 2);
    status = EI_ERR_NO_MEMORY;
    law->upper = malloc(2 * law->count * sizeof *law->upper);
    all.masses = malloc(law->random_count * law->count * sizeof *all.masses);
    all.points = malloc(law->random_count * sizeof *all.points);
    all.weighed = malloc((3 * length + 2) * sizeof *all.weighed);
    if (law->upper == NULL || all.masses == NULL || all.points == NULL || all.weighed == NULL ||
        (status = ei_fourier_init(&all.fourier, length)) != EI_OK)
        goto out;
    all.product = all.weighed + 2 * length;
    law->lower = law->upper + law->count;
    for (size_t i = 0; i < law->count; i++) {
        law->upper[i] = 1;
        law->lower[i] = 0;
    }
    if ((status = build_masses(&all)) != EI_OK)
        goto out;
    for (int level = 0; level + 1 < law->tilts; level++) {
        double log_sum[2];
        multiply_services(&all, law->theta[level]);
        if ((status = mix_rounds(&all, law->theta[level], log_sum)) != EI_OK)
            goto out;
        take_ends(&all, law, level, log_sum);
        if (ei_stopped(monitor)) {
            status = EI_ERR_INTERRUPTED;
            goto out;
        }
    }
    finish_ends(law);
out:
    build_free(&all);
    return status;
}

/* ---- */

static int verify(const ei_service *stages, size_t stage_count, const double *rounds, size_t round_count) {
    double sum = 0;
    if (stage_count == 0 || round_count == 0)
        return EI_ERR_EMPTY;
    for (size_t k = 0; k < stage_count; k++) {
        int status =
            stages[k].kind == EI_SERVICE_COMPOUND ? EI_ERR_DOMAIN : ei_service_verify_independent(&stages[k]);
        if (status != EI_OK)
            return status;
    }
    for (size_t n = 0; n < round_count; n++) {
        if (!(rounds[n] >= 0) || !isfinite(rounds[n]))
            return EI_ERR_DOMAIN;
        sum += rounds[n];
    }
    return fabs(sum - 1) <= SUM_ERROR ? EI_OK : EI_ERR_DOMAIN;
}

/* Moments, and the first number of rounds that can be. */
static void describe(ei_compound *self) {
    double number = 0, square = 0, mean = 0, variance = 0, minimum = 0, maximum = 0;
    size_t first = 0;
    while (self->rounds[first] == 0)
        first++;
    for (size_t n = 1; n < self->round_count; n++) {
        number += (double)n * self->rounds[n];
        square += (double)(n * n) * self->rounds[n];
    }
    self->abscissa = INFINITY;
    for (size_t k = 0; k < self->stage_count; k++) {
        mean += ei_service_mean(&self->stages[k]);
        variance += ei_service_variance(&self->stages[k]);
        minimum += ei_service_minimum(&self->stages[k]);
        maximum += ei_service_maximum(&self->stages[k]);
        if (self->round_count > 1)
            self->abscissa = fmin(self->abscissa, ei_service_abscissa(&self->stages[k]));
        self->random_count += (size_t)is_random(&self->stages[k]);
        self->constant += is_random(&self->stages[k]) ? 0 : self->stages[k].time;
    }
    self->mean = number * mean;
    self->variance = number * variance + fmax(square - number * number, 0) * mean * mean;
    self->least = first > 0 ? (double)first * minimum : 0;
    self->most = self->round_count > 1 ? (double)(self->round_count - 1) * maximum : 0;
}

int ei_compound_new(ei_compound **result, const ei_service *stages, size_t stage_count, const double *rounds,
                    size_t round_count, ei_monitor monitor) {
    *result = NULL;
    int status = verify(stages, stage_count, rounds, round_count);
    if (status != EI_OK)
        return status;
    ei_compound *self = calloc(1, sizeof *self);
    if (self == NULL)
        return EI_ERR_NO_MEMORY;
    double sum = 0;
    for (size_t n = 0; n < round_count; n++) {
        sum += rounds[n];
        if (rounds[n] > 0)
            self->round_count = n + 1;
    }
    status = EI_ERR_NO_MEMORY;
    self->stages = malloc(stage_count * sizeof *stages);
    self->rounds = malloc(self->round_count * sizeof *rounds);
    if (self->stages == NULL || self->rounds == NULL)
        goto out;
    memcpy(self->stages, stages, stage_count * sizeof *stages);
    self->stage_count = stage_count;
    for (size_t n = 0; n < self->round_count; n++)
        self->rounds[n] = rounds[n] / sum;
    describe(self);
    self->extent = (double)(self->round_count - 1) * self->constant;
    status = EI_OK;
    if (self->random_count == 0 || self->round_count == 1 || !(self->mean > 0))
        goto out;
    if ((status = choose_tilts(self)) != EI_OK || (status = make_lattice(self, monitor)) != EI_OK)
        goto out;
    self->extent = time_at(self, EXTENT);
out:
    if (status != EI_OK)
        ei_compound_free(self);
    else
        *result = self;
    return status;
}

/* P(S > time) without random services. */
static double steps_above(const ei_compound *self, double time) {
    double sum = 0;
    for (size_t n = self->round_count; n-- > 1 && (double)n * self->constant > time;)
        sum += self->rounds[n];
    return fmin(sum, 1);
}

double ei_compound_upper(const ei_compound *self, double time) {
    if (time < 0)
        return 1;
    if (self->count == 0)
        return steps_above(self, time);
    double cell = floor(time / self->step * (1 - HAIR));
    if (cell < (double)self->count)
        return self->upper[(size_t)cell];
    return fmin(self->upper[self->count - 1], chernoff(self, time) + self->absolute);
}

double ei_compound_lower(const ei_compound *self, double time) {
    if (time < 0)
        return 1;
    if (self->count == 0)
        return steps_above(self, time);
    double cell = floor(time / self->step * (1 + HAIR));
    return cell < (double)self->count ? self->lower[(size_t)cell] : 0;
}

double ei_compound_mean(const ei_compound *self) {
    return self->mean;
}

double ei_compound_variance(const ei_compound *self) {
    return self->variance;
}

double ei_compound_minimum(const ei_compound *self) {
    return self->least;
}

double ei_compound_maximum(const ei_compound *self) {
    return self->most;
}

double ei_compound_extent(const ei_compound *self) {
    return self->extent;
}

double ei_compound_abscissa(const ei_compound *self) {
    return self->abscissa;
}

const ei_service *ei_compound_stages(const ei_compound *self, size_t *count) {
    *count = self->stage_count;
    return self->stages;
}

const double *ei_compound_rounds(const ei_compound *self, size_t *count) {
    *count = self->round_count;
    return self->rounds;
}

size_t ei_compound_size(const ei_compound *self) {
    return sizeof *self + 2 * self->count * sizeof *self->upper + self->stage_count * sizeof *self->stages +
           self->round_count * sizeof *self->rounds;
}
