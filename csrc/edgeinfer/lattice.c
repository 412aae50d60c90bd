#include "edgeinfer/lattice.h"

#include "edgeinfer/compound.h"
#include "edgeinfer/multiversion.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

static const double NEGLIGIBLE = 1e-18; /* a law's lattice ends here */

void ei_lattice_free(ei_lattice *self) {
    free(self->sf);
    self->sf = NULL;
}

double ei_lattice_upper(const ei_lattice *self, double time) {
    if (time < 0)
        return 1;
    double cell = floor(time / self->step * (1 - 1e-14));
    return self->sf[cell < (double)self->count ? (size_t)cell : self->count - 1];
}

double ei_lattice_lower(const ei_lattice *self, double time) {
    if (time < 0)
        return 1;
    double cell = ceil(time / self->step * (1 + 1e-14));
    return cell < (double)self->count ? self->sf[(size_t)cell] : 0;
}

double ei_service_reach(const ei_service *service) {
    double low = 0, high = ei_service_extent(service);
    while (high - low > 1e-3 * high) {
        double middle = low + (high - low) / 2;
        if (ei_service_sf(service, middle) > NEGLIGIBLE)
            low = middle;
        else
            high = middle;
    }
    return fmax(high, 1e-12);
}

int ei_lattice_service_from(ei_lattice *self, const ei_service *service, double floor, double from,
                            double step, size_t count, ei_end end) {
    const int compound = service->kind == EI_SERVICE_COMPOUND;
    double relative, absolute;
    ei_service_accuracy(service, &relative, &absolute);
    self->sf = NULL;
    self->step = step;
    self->count = count;
    if (!(step > 0) || count < 2)
        return EI_ERR_DOMAIN;
    self->sf = malloc(count * sizeof *self->sf);
    if (self->sf == NULL)
        return EI_ERR_NO_MEMORY;
    double previous = 1;
    for (size_t i = 0; i < count; i++) {
        /* A hair to the safe side, so that an atom on a lattice point is not missed by rounding. */
        double time = from + (double)i * step, value;
        if (end == EI_UPPER)
            value = time * (1 - 1e-14) < floor
                        ? 1
                        : ei_service_sf(service, time * (1 - 1e-14)) * (1 + relative) + absolute;
        else
            value = time * (1 + 1e-14) < floor
                        ? 1
                        : (compound ? ei_compound_lower(service->compound, time * (1 + 1e-14))
                                    : ei_service_sf(service, time * (1 + 1e-14))) *
                                  (1 - relative) -
                              absolute;
        value = fmin(fmax(value, 0), previous);
        self->sf[i] = value;
        previous = value;
    }
    return EI_OK;
}

int ei_lattice_service(ei_lattice *self, const ei_service *service, double floor, double step, size_t count,
                       ei_end end) {
    return ei_lattice_service_from(self, service, floor, 0, step, count, end);
}

int ei_lattice_ends(ei_lattice ends[2], const ei_service *service, double step, size_t count) {
    double relative, absolute;
    ends[EI_LOWER] = ends[EI_UPPER] = (ei_lattice){.sf = NULL};
    if (service->kind != EI_SERVICE_TRANSFER) {
        int status = ei_lattice_service(&ends[EI_LOWER], service, 0, step, count, EI_LOWER);
        return status != EI_OK ? status
                               : ei_lattice_service(&ends[EI_UPPER], service, 0, step, count, EI_UPPER);
    }
    /* A continuous law, so that what rounding does to a point is far within its accuracy. */
    if (!(step > 0) || count < 2)
        return EI_ERR_DOMAIN;
    ei_service_accuracy(service, &relative, &absolute);
    for (int end = 0; end < 2; end++) {
        ends[end] = (ei_lattice){step, count, malloc(count * sizeof(double))};
        if (ends[end].sf == NULL)
            return EI_ERR_NO_MEMORY;
    }
    double low = 1, high = 1, *lower = ends[EI_LOWER].sf, *upper = ends[EI_UPPER].sf;
    ei_transfer_sf_grid(service->transfer, step, count, upper);
    for (size_t i = 0; i < count; i++) {
        const double value = upper[i], less = value * (1 - relative) - absolute,
                     more = value * (1 + relative) + absolute;
        low = less < low ? (less > 0 ? less : 0) : low;
        high = more < high ? more : high;
        lower[i] = low;
        upper[i] = high;
    }
    return EI_OK;
}

/* P(j step < Y <= (j + 1) step), with what lies at 0 and beyond the lattice. */
static double mass_above(const ei_lattice *self, size_t j) {
    return (j == 0 ? 1 : self->sf[j]) - (j + 1 < self->count ? self->sf[j + 1] : 0);
}

EI_MULTIVERSION
static void add_scaled(double *restrict sum, double scale, const double *restrict term, size_t count) {
    for (size_t i = 0; i < count; i++)
        sum[i] += scale * term[i];
}

int ei_lattice_sum_lower(ei_lattice *self, const ei_lattice *left, const ei_lattice *right) {
    *self = (ei_lattice){left->step, left->count + right->count, NULL};
    self->sf = calloc(self->count, sizeof(double));
    if (self->sf == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t j = 0; j < left->count; j++) {
        /* Y alone is beyond its point, but where it may be 0. */
        if (j > 0)
            self->sf[j] += left->sf[j];
        double mass = mass_above(left, j);
        if (j == 0)
            add_scaled(self->sf, mass, right->sf, right->count);
        else
            add_scaled(self->sf + j + 1, mass, right->sf + 1, right->count - 1);
    }
    self->sf[0] = fmax(self->sf[0], left->sf[0]);
    return EI_OK;
}

double ei_lattice_plus_lower(const ei_lattice *self, const ei_lattice *other, double time) {
    if (other->sf == NULL)
        return ei_lattice_lower(self, time);
    double sum = 0;
    for (size_t j = 0; j < other->count; j++) {
        double rest = time - (double)j * other->step;
        if (rest < 0)
            return sum + (j == 0 ? 1 : other->sf[j]);
        sum += mass_above(other, j) * ei_lattice_lower(self, rest);
    }
    return sum;
}

void ei_lattice_add_exponential(ei_lattice *law, double rate, ei_end end) {
    const size_t ahead = end == EI_LOWER;
    const double decayed = exp(-rate * law->step);
    const double rounding = 4 * DBL_EPSILON * ((double)law->count + 2);
    double before = 1, late = 0, last = 1;
    for (size_t j = 0; j < law->count; j++) {
        /* Y lies at this point where it is in the step before it (upper) or after it (lower). */
        double above = j + ahead < law->count ? law->sf[j + ahead] : 0;
        late = late * decayed + (before - above);
        before = above;
        double value = (late + above) * (end == EI_LOWER ? 1 - rounding : 1 + rounding);
        law->sf[j] = last = fmin(value, last);
    }
}

void ei_lattice_supremum_lower(ei_lattice *law, double fall) {
    /* Upwards: what is still read lies further on. */
    for (size_t j = 0; j < law->count; j++) {
        double sum = 0;
        double late = law->sf[j];
        for (double time = (double)j * law->step; late >= 1e-25;) {
            sum += late < 1 ? log1p(-late) : -INFINITY;
            time += fall;
            late = ei_lattice_lower(law, time * (1 + 1e-12));
        }
        law->sf[j] = fmin(-expm1(sum) * (1 - 1e-9), 1);
    }
}

/* Apart from ei_dot, for the symbol of a multiversioned function is exported whatever its visibility. */
EI_MULTIVERSION
static double dot(const double *restrict left, const double *restrict right, size_t count) {
    enum { LANES = 16 };
    double part[LANES] = {0}, sum = 0;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            part[lane] += left[i + lane] * right[i + lane];
    for (; i < count; i++)
        sum += left[i] * right[i];
    for (size_t lane = 0; lane < LANES; lane++)
        sum += part[lane];
    return sum;
}

double ei_dot(const double *restrict left, const double *restrict right, size_t count) {
    return dot(left, right, count);
}
