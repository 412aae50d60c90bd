#include "edgeinfer/geometric.h"

#include "edgeinfer/multiversion.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

static const double ROUNDINGS = 16 * DBL_EPSILON; /* of both terms of f */
static const double LEAST_LOG = -700;             /* of s: there may be less than that */
static const double EXPONENTIAL = 1e-12; /* error of e^{-theta t} down to the least double, relative */
static const double NEGLIGIBLE = 1e-20;  /* probability of more work in a step than is looked at */

/* f, and *error. */
static double excess(const ei_service *service, const ei_arrival *arrival, double theta, double *error) {
    double slope, served = -log1p(-theta * service->time),
                  waited = ei_arrival_exponent(arrival, theta, &slope);
    *error = ROUNDINGS * (served * exp(served) + waited * exp(waited));
    return served - waited;
}

/* Whether theta is certainly on that side of the root. */
static int is_beyond(const ei_service *service, const ei_arrival *arrival, double theta, ei_end end) {
    double error, value = excess(service, arrival, theta, &error);
    return end == EI_UPPER ? value <= -error : value >= error;
}

/* theta above half of mu, by log s. */
static double rate_by_share(const ei_service *service, const ei_arrival *arrival, ei_end end) {
    const int upper = end == EI_UPPER;
    double low = LEAST_LOG, high = -M_LN2, slope;
    for (int i = 0; i < 200; i++) {
        const double middle = low + (high - low) / 2,
                     waited = ei_arrival_exponent(arrival, -expm1(middle) / service->time, &slope),
                     error = ROUNDINGS * (waited - middle);
        if (middle + waited < (upper ? error : -error))
            low = middle;
        else
            high = middle;
    }
    return -expm1(upper             ? high
                  : low > LEAST_LOG ? low
                                    : -INFINITY) /
           service->time * (upper ? 1 - ROUNDINGS : 1 + ROUNDINGS);
}

double ei_geometric_rate(const ei_service *service, const ei_arrival *arrival, ei_end end) {
    const double most = 1 / service->time;
    double low = 0, high = most, error;
    for (int i = 0; i < 2000; i++) {
        double middle = low + (high - low) / 2;
        if (!(low < middle && middle < high))
            break;
        if (excess(service, arrival, middle, &error) < 0)
            low = middle;
        else
            high = middle;
    }
    if (low > most / 2)
        return rate_by_share(service, arrival, end);
    double slower = low, faster = high;
    for (double moved = DBL_EPSILON;
         end == EI_UPPER && slower > 0 && !is_beyond(service, arrival, slower, EI_UPPER); moved *= 2)
        slower = fmax(low * (1 - moved), 0);
    for (double moved = DBL_EPSILON;
         end == EI_LOWER && faster < most && !is_beyond(service, arrival, faster, EI_LOWER); moved *= 2)
        faster = fmin(high * (1 + moved), most);
    return end == EI_UPPER ? slower : faster * (1 + 2 * DBL_EPSILON);
}

void ei_geometric_ends(const ei_batch *self, const ei_service *service, const ei_arrival *arrival) {
    const double slower = ei_geometric_rate(service, arrival, EI_UPPER),
                 faster = ei_geometric_rate(service, arrival, EI_LOWER);
    for (size_t i = 0; i < self->count; i++) {
        const size_t at = self->index[i];
        const double time = self->deadline[at];
        if (!isfinite(time))
            continue;
        /* e^{-745} is no normal number any more, and the truth is positive. */
        double above = time < 0 ? 1 : fmax(exp(-slower * time) * (1 + EXPONENTIAL), DBL_MIN);
        double below = time < 0 ? 1 : exp(-faster * time) * (1 - EXPONENTIAL);
        ei_cut_upper(self, at, above, EI_BRACKET_EXPONENTIAL);
        ei_raise_lower(self, at, below > DBL_MIN ? below : 0, EI_BRACKET_EXPONENTIAL);
    }
}

/* Masses of what comes to the stage behind in one step, a Poisson number of services of that mean, each
 * rounded down, by Panjer's recursion; what is beyond *count points counts as nothing. */
static int arriving_work(const ei_added_stage *behind, double mean, double step, size_t *count,
                         double **mass) {
    const ei_service *law = behind->law;
    double reach = law != NULL ? ei_service_reach(law) : behind->again * (1 + 1e-9), beyond = 0;
    const size_t cells = (size_t)fmin(reach / step, (double)*count) + 2;
    double *work = calloc(*count + cells, sizeof *work), *weight = work + *count;
    ei_lattice service = {.sf = NULL};
    int status = work == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    if (status == EI_OK && law != NULL)
        status = ei_lattice_service(&service, law, 0, step, cells, EI_LOWER);
    if (status != EI_OK)
        goto out;
    if (law == NULL)
        weight[cells - 2] = 1;
    for (size_t k = 1; k < cells && law != NULL; k++)
        weight[k] = service.sf[k] - (k + 1 < cells ? service.sf[k + 1] : 0);
    work[0] = exp(-mean * (law != NULL ? service.sf[1] : cells > 2)) * (1 - ROUNDINGS);
    for (size_t j = 1; j < *count; j++) {
        for (size_t k = 1; k < cells && k <= j; k++)
            work[j] += (double)k * weight[k] * work[j - k];
        work[j] *= mean / (double)j;
    }
    while (*count > 1 && (beyond += work[*count - 1]) < NEGLIGIBLE)
        --*count;
out:
    ei_lattice_free(&service);
    if (status != EI_OK) {
        free(work);
        work = NULL;
    }
    *mass = work;
    return status;
}

EI_MULTIVERSION
static void add_scaled(double *restrict sum, double scale, const double *restrict term, size_t count) {
    for (size_t i = 0; i < count; i++)
        sum[i] += scale * term[i];
}

/* P(V > i h) one step further back, for i < count, from those for i <= count. */
static void go_back(const double *mass, const double *above, size_t cells, const double *late, double *next,
                    size_t count) {
    for (size_t i = 0; i < count; i++)
        next[i] = i + 1 < cells ? above[i + 1] : 0;
    add_scaled(next, mass[0], late + 1, count);
    for (size_t x = 1; x < cells && x <= count; x++)
        if (mass[x] > 0)
            add_scaled(next + (x - 1), mass[x], late, count - (x - 1));
}

int ei_geometric_behind(ei_lattice *self, const ei_service *service, const ei_arrival *arrival,
                        const ei_added_stage *behind, double step, size_t count, ei_monitor monitor) {
    const double theta = ei_geometric_rate(service, arrival, EI_LOWER), rate = 1 / service->time - theta;
    size_t cells = count;
    double *mass = NULL, *above = calloc(3 * count, sizeof *above), *late = above + count,
           *next = late + count;
    *self = (ei_lattice){step, count, calloc(count, sizeof(double))};
    int status = self->sf == NULL || above == NULL ? EI_ERR_NO_MEMORY : EI_OK;
    if (status == EI_OK && !(rate > 0))
        status = EI_ERR_ACCURACY;
    if (status == EI_OK)
        status = arriving_work(behind, rate * step, step, &cells, &mass);
    if (status != EI_OK)
        goto out;
    for (size_t x = cells; x-- > 1;)
        above[x - 1] = above[x] + mass[x];
    for (size_t k = 0; k + 1 < count; k++) {
        double *swap = late, from = exp(-theta * (double)k * step) * -expm1(-theta * step);
        /* V of at least (j - k) h after k steps. */
        add_scaled(self->sf + k + 1, from, late, count - k - 1);
        go_back(mass, above, cells, late, next, count - k - 2);
        late = next;
        next = swap;
        if (k % 256 == 255 && ei_stopped(monitor)) {
            status = EI_ERR_INTERRUPTED;
            goto out;
        }
    }
    const double rounding = 1 - EXPONENTIAL - DBL_EPSILON * (double)count * (double)(cells + 4);
    for (size_t j = 0; j < count; j++)
        self->sf[j] =
            fmin((self->sf[j] + exp(-theta * (double)j * step)) * rounding, j > 0 ? self->sf[j - 1] : 1);
out:
    free(mass);
    free(above);
    return status;
}
