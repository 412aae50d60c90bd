#include "edgeinfer/lattice.h"

#include <math.h>
#include <stdlib.h>

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

int ei_lattice_service(ei_lattice *self, const ei_service *service, double floor, double step, size_t count,
                       ei_end end) {
    double relative = 1e-14, absolute = 0;
    self->sf = NULL;
    self->step = step;
    self->count = count;
    if (!(step > 0) || count < 2)
        return EI_ERR_DOMAIN;
    self->sf = malloc(count * sizeof *self->sf);
    if (self->sf == NULL)
        return EI_ERR_NO_MEMORY;
    if (service->kind == EI_SERVICE_TRANSFER) {
        relative = ei_transfer_accuracy(service->transfer);
        absolute = 1e-21;
    }
    double previous = 1;
    for (size_t i = 0; i < count; i++) {
        /* A hair to the safe side, so that an atom on a lattice point is not missed by rounding. */
        double time = (double)i * step, value;
        if (end == EI_UPPER)
            value = time * (1 - 1e-14) < floor
                        ? 1
                        : ei_service_sf(service, time * (1 - 1e-14)) * (1 + relative) + absolute;
        else
            value = time * (1 + 1e-14) < floor
                        ? 1
                        : ei_service_sf(service, time * (1 + 1e-14)) * (1 - relative) - absolute;
        value = fmin(fmax(value, 0), previous);
        self->sf[i] = value;
        previous = value;
    }
    return EI_OK;
}
