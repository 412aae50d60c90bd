#include "edgeinfer/queue.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { POISSON_TERMS = 64, SETTLING = 128 };
/* Beyond these the law is geometric to rounding. */
static const double LEVELS_LIMIT = 65536;
static const double LEAST_TERM = 1e-290; /* probability of so many arrivals */
enum { LINDLEY_POINTS = 1024, LINDLEY_REACH = 4096, LINDLEY_JOBS = 100 };
static const double LINDLEY_SETTLED = 1e-4;

int ei_md1_init(ei_md1 *self, double arrival_rate, double service_time, double horizon) {
    int status = EI_OK;
    double *law = NULL;
    double load = arrival_rate * service_time;
    memset(self, 0, sizeof *self);
    self->arrival_rate = arrival_rate;
    self->service_time = service_time;
    if (!(arrival_rate > 0) || !(service_time >= 0) || !isfinite(load) || isnan(horizon))
        return EI_ERR_DOMAIN;
    if (!(load < 1))
        return EI_ERR_UNSTABLE;
    if (load == 0)
        return EI_OK;
    size_t count = (size_t)fmin(fmax(horizon, 0) / service_time + SETTLING, LEVELS_LIMIT) + 2;
    /* above[n] = P(more than n arrivals in a service), from the small end, where terms keep their digits. */
    double above[POISSON_TERMS] = {0}, term = exp(-load);
    int terms = 0;
    for (; terms < POISSON_TERMS && term * load / (terms + 1) > LEAST_TERM; terms++)
        term *= load / (terms + 1);
    double sum = 0;
    for (int n = terms; n >= 1; n--) {
        sum += term;
        above[n - 1] = sum;
        term *= n / load;
    }
    law = malloc(count * sizeof *law);
    self->tail = malloc(count * sizeof *self->tail);
    if (law == NULL || self->tail == NULL) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    law[0] = 1 - load;
    double growth = exp(load);
    size_t end = 1;
    for (; end < count; end++) {
        size_t n = end - 1;
        double crossing = n < POISSON_TERMS ? law[0] * above[n] : 0;
        for (size_t back = 1; back <= n && back < POISSON_TERMS; back++)
            crossing += law[n - back + 1] * above[back];
        law[end] = growth * crossing;
        if (law[end] < 1e-300)
            break;
    }
    size_t last = end < count ? end : count - 1;
    double ratio = law[last - 1] > 0 ? fmin(law[last] / law[last - 1], 1 - 1e-12) : 0;
    double tail = law[last] * ratio / (1 - ratio);
    self->levels = last - 1;
    self->decay = ratio;
    for (size_t i = last; i >= 2; i--) {
        tail += law[i];
        self->tail[i - 2] = tail;
    }
out:
    free(law);
    return status;
}

void ei_md1_free(ei_md1 *self) {
    free(self->tail);
    self->tail = NULL;
}

double ei_md1_waiting_sf(const ei_md1 *self, double time) {
    if (time < 0)
        return 1;
    if (self->levels == 0)
        return 0;
    double whole = floor(time / self->service_time), decayed = 1;
    if (!(whole < (double)self->levels)) {
        double known = (double)(self->levels - 1);
        decayed = pow(self->decay, whole - known);
        if (!(decayed > 0))
            return 0;
        time -= (whole - known) * self->service_time;
        whole = known;
    }
    size_t k = (size_t)whole;
    double mean = self->arrival_rate * fmax(self->service_time - (time - whole * self->service_time), 0);
    double weight = exp(-mean), sum = 0;
    for (size_t j = 0; j <= k; j++) {
        double part = weight * self->tail[k - j];
        sum += part;
        weight *= mean / (double)(j + 1);
        if (part < 1e-18 * sum && j > 4)
            return fmin(sum * decayed, 1);
    }
    /* More than k arrivals: from the weights themselves where 1 - .. would cancel. */
    double rest = 0;
    for (size_t j = k + 1; weight > 1e-18 * (sum + rest); j++) {
        rest += weight;
        weight *= mean / (double)(j + 1);
    }
    return fmin((sum + rest) * decayed, 1);
}

int ei_mg1_sojourn(ei_lattice *self, const ei_lattice *service, double arrival_rate, size_t count, ei_end end,
                   ei_monitor monitor) {
    int status = EI_OK;
    size_t fine = service->count - 1, all = (fine + EI_MG1_FINE - 1) / EI_MG1_FINE + 1;
    size_t cells = all < count ? all : count;
    double scale = arrival_rate * service->step, beyond = 0;
    /* kernel[cells - i]: the ladder height's mass at i steps, reversed so that the inner loop runs forward;
     * above[i]: its mass beyond i steps, summed from the small end. */
    double *kernel = calloc(cells + 1, sizeof *kernel);
    double *above = malloc((cells + 1) * sizeof *above);
    self->step = service->step * EI_MG1_FINE;
    self->count = count;
    self->sf = malloc(count * sizeof *self->sf);
    if (self->sf == NULL || kernel == NULL || above == NULL) {
        status = EI_ERR_NO_MEMORY;
        goto out;
    }
    /* From the small end, too. */
    for (size_t i = fine; i-- > 0;) {
        size_t cell = i / EI_MG1_FINE + (end == EI_UPPER ? 1 : 0);
        double mass = scale * service->sf[end == EI_UPPER ? i : i + 1];
        if (cell <= cells)
            kernel[cells - cell] += mass;
        else if (end == EI_UPPER)
            beyond += mass;
    }
    /* What lies beyond the service's lattice is below 1e-19 and decays at least as fast as before it. */
    if (end == EI_UPPER)
        beyond += scale * service->sf[fine] * (double)service->count;
    above[cells] = beyond;
    for (size_t i = cells; i-- > 0;)
        above[i] = above[i + 1] + kernel[cells - i - 1];
    double first = kernel[cells], load = above[0] + first;
    if (!(load < 1)) {
        status = EI_ERR_UNSTABLE;
        goto out;
    }
    double *restrict sf = self->sf;
    for (size_t n = 0; n < count; n++) {
        size_t reach = n < cells ? n : cells;
        double sum = ei_dot(kernel + (cells - reach), sf + (n - reach), reach);
        /* A job that finds the queue empty, with probability 1 - rho. */
        double alone = n * EI_MG1_FINE <= fine ? service->sf[n * EI_MG1_FINE]
                       : end == EI_UPPER       ? service->sf[fine]
                                               : 0;
        sum += (1 - load) * alone + above[n < cells ? n : cells];
        sf[n] = fmin(sum / (1 - first), n > 0 ? sf[n - 1] : 1);
        if (n % 1024 == 1023 && monitor.poll != NULL && monitor.poll(monitor.context) != 0) {
            status = EI_ERR_INTERRUPTED;
            goto out;
        }
    }
out:
    free(kernel);
    free(above);
    return status;
}

int ei_periodic_sojourn_lower(ei_lattice *sojourn, const ei_service *law, double interval) {
    double reach = ei_service_reach(law);
    size_t points = (size_t)fmax(ceil(interval * LINDLEY_POINTS / fmax(reach, interval)), 1);
    double step = interval / (double)points;
    ei_lattice service = {.sf = NULL}, wait = {step, 1, calloc(1, sizeof(double))};
    int status = wait.sf == NULL
                     ? EI_ERR_NO_MEMORY
                     : ei_lattice_service(&service, law, 0, step, (size_t)(reach / step) + 2, EI_LOWER);
    for (int job = 0, settled = 0; status == EI_OK && job < LINDLEY_JOBS && !settled; job++) {
        ei_lattice_free(sojourn);
        if ((status = ei_lattice_sum_lower(sojourn, &wait, &service)) != EI_OK ||
            sojourn->count <= points + 1)
            break;
        ei_lattice next = {step, sojourn->count - points, NULL};
        next.count = next.count < LINDLEY_REACH ? next.count : LINDLEY_REACH;
        next.sf = malloc(next.count * sizeof *next.sf);
        if (next.sf == NULL) {
            status = EI_ERR_NO_MEMORY;
            break;
        }
        settled = 1;
        for (size_t j = 0; j < next.count; j++) {
            double before = j < wait.count ? wait.sf[j] : 0;
            next.sf[j] = sojourn->sf[j + points] * (1 - 1e-12);
            settled &= next.sf[j] <= before * (1 + LINDLEY_SETTLED) + 1e-20;
        }
        ei_lattice_free(&wait);
        wait = next;
    }
    ei_lattice_free(&wait);
    ei_lattice_free(&service);
    return status;
}
