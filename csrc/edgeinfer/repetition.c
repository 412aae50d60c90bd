#include "edgeinfer/repetition.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

static const double NEGLIGIBLE = 1e-290; /* of the largest mass */
static const double END = 1e-20;

struct ei_repetition {
    size_t blocks, first, count; /* slots of the first mass, and masses */
    double outage, slot, extent;
    double *mass, *above; /* [count] each, in one allocation: P(N = first + i), P(N > first + i) */
};

static double ratio(const ei_repetition *self, double slots) {
    return self->outage * slots / (slots - (double)self->blocks + 1);
}

/* The first and the last number of slots whose mass is not negligible beside that at `mode`. */
static void find_ends(ei_repetition *self, double mode, double *last) {
    const double least = (double)self->blocks;
    double mass = 1, first = mode;
    while (first > least && mass > NEGLIGIBLE)
        mass /= ratio(self, --first);
    self->first = (size_t)first;
    *last = mode;
    for (mass = 1; mass > NEGLIGIBLE; ++*last)
        mass *= ratio(self, *last);
}

static void fill(ei_repetition *self, double mode) {
    const size_t top = (size_t)mode - self->first;
    double sum = 1, above = 0;
    self->mass[top] = 1;
    for (size_t i = top; i-- > 0;)
        sum += self->mass[i] = self->mass[i + 1] / ratio(self, (double)(self->first + i));
    for (size_t i = top + 1; i < self->count; i++)
        sum += self->mass[i] = self->mass[i - 1] * ratio(self, (double)(self->first + i - 1));
    for (size_t i = self->count; i-- > 0;) {
        self->mass[i] /= sum;
        self->above[i] = above;
        above += self->mass[i];
    }
    /* Rounding must not leave more than all. */
    for (size_t i = 0; i < self->count && self->above[i] > 1; i++)
        self->above[i] = 1;
    size_t end = 0;
    while (end + 1 < self->count && self->above[end] >= END)
        end++;
    self->extent = self->slot * (double)(self->first + end);
}

int ei_repetition_new(ei_repetition **result, size_t blocks, double outage, double slot) {
    *result = NULL;
    if (blocks == 0 || !(outage >= 0) || !(outage <= EI_REPETITION_OUTAGE) ||
        !((double)blocks / (1 - outage) <= EI_REPETITION_SLOTS) || !(slot > 0) || !isfinite(slot))
        return EI_ERR_DOMAIN;
    ei_repetition *self = calloc(1, sizeof *self);
    if (self == NULL)
        return EI_ERR_NO_MEMORY;
    self->blocks = blocks;
    self->outage = outage;
    self->slot = slot;
    /* Where the ratio comes down to 1. */
    double mode = (double)blocks + floor((double)(blocks - 1) * outage / (1 - outage)), last = mode;
    find_ends(self, mode, &last);
    self->count = (size_t)last - self->first + 1;
    self->mass = malloc(2 * self->count * sizeof *self->mass);
    if (self->mass == NULL) {
        ei_repetition_free(self);
        return EI_ERR_NO_MEMORY;
    }
    self->above = self->mass + self->count;
    fill(self, mode);
    *result = self;
    return EI_OK;
}

void ei_repetition_free(ei_repetition *self) {
    if (self != NULL)
        free(self->mass);
    free(self);
}

double ei_repetition_sf(const ei_repetition *self, double time) {
    /* An end of a slot as it is rounded is that end. */
    const double slots = time / self->slot, nearest = floor(slots + 0.5),
                 whole = fabs(slots - nearest) <= 4 * DBL_EPSILON * slots ? nearest : floor(slots);
    if (isnan(time))
        return NAN;
    if (!(whole >= (double)self->first))
        return 1;
    return whole - (double)self->first < (double)self->count ? self->above[(size_t)whole - self->first] : 0;
}

double ei_repetition_accuracy(const ei_repetition *self) {
    return 4 * DBL_EPSILON * (double)(self->count + 1);
}

double ei_repetition_mean(const ei_repetition *self) {
    return self->slot * (double)self->blocks / (1 - self->outage);
}

double ei_repetition_variance(const ei_repetition *self) {
    const double success = 1 - self->outage;
    return self->slot * self->slot * (double)self->blocks * self->outage / success / success;
}

double ei_repetition_minimum(const ei_repetition *self) {
    return self->slot * (double)self->blocks;
}

double ei_repetition_extent(const ei_repetition *self) {
    return self->extent;
}

double ei_repetition_abscissa(const ei_repetition *self) {
    return self->outage > 0 ? -log(self->outage) / self->slot : INFINITY;
}

int ei_repetition_log_mgf(const ei_repetition *self, double theta, double *value, double *derivative) {
    if (isnan(theta))
        return EI_ERR_DOMAIN;
    /* 1 - q e^{theta slot} */
    const double left = -expm1(log(self->outage) + theta * self->slot), blocks = (double)self->blocks;
    const int finite = left > 0;
    if (value != NULL)
        *value = finite ? blocks * (log1p(-self->outage) + theta * self->slot - log(left)) : INFINITY;
    if (derivative != NULL)
        *derivative = finite ? blocks * self->slot / left : INFINITY;
    return EI_OK;
}

const double *ei_repetition_masses(const ei_repetition *self, size_t *first, size_t *count) {
    *first = self->first;
    *count = self->count;
    return self->mass;
}

double ei_repetition_slot(const ei_repetition *self) {
    return self->slot;
}

double ei_repetition_quantile(const ei_repetition *self, double u) {
    size_t low = 0, high = self->count - 1;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (self->above[middle] < u)
            high = middle;
        else
            low = middle + 1;
    }
    return self->slot * (double)(self->first + low);
}
