#include "edgeinfer/group.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

enum {
    PER_OCTAVE = 32, /* tabulated exponents */
    LOWEST = -1074,  /* octave */
    OCTAVES = 2098,
    BISECTIONS = 52
};

void ei_groups_free(ei_groups *self) {
    if (self->groups != NULL)
        for (size_t k = 0; k < self->count; k++)
            free(self->groups[k].table);
    free(self->groups);
}

int ei_groups_init(ei_groups *self, const ei_service *stages, size_t count) {
    self->count = 0;
    self->groups = calloc(count, sizeof *self->groups);
    if (self->groups == NULL)
        return EI_ERR_NO_MEMORY;
    for (size_t k = 0; k < count; k++) {
        int deterministic = stages[k].kind == EI_SERVICE_DETERMINISTIC;
        ei_group *last = self->count > 0 ? &self->groups[self->count - 1] : NULL;
        if (deterministic && last != NULL && last->service == NULL) {
            last->once += stages[k].time;
            last->again = fmax(last->again, stages[k].time);
            continue;
        }
        ei_group *added = &self->groups[self->count++];
        added->service = deterministic ? NULL : &stages[k];
        added->once = added->again = deterministic ? stages[k].time : 0;
        added->abscissa = deterministic ? INFINITY : ei_service_abscissa(&stages[k]);
    }
    return EI_OK;
}

int ei_group_log_mgf(const ei_group *self, double theta, double *value, double *slope) {
    if (self->service == NULL) {
        *value = theta * self->again;
        *slope = self->again;
        return EI_OK;
    }
    return ei_service_log_mgf(self->service, theta, value, slope);
}

static int node(const ei_group *self, size_t i, const double **values) {
    double *at = self->table + 2 * i;
    *values = at;
    if (at[1] != 0)
        return EI_OK;
    double fraction = 0.5 + (double)(i % PER_OCTAVE) / (2 * PER_OCTAVE);
    return ei_group_log_mgf(self, ldexp(fraction, (int)(i / PER_OCTAVE) + LOWEST), &at[0], &at[1]);
}

/* Cubic Hermite interpolation between values at fixed exponents, which are computed when first asked for:
 * near enough for a search, and the same whatever else is asked for. */
int ei_group_quick_log_mgf(const ei_group *self, double theta, double *value, double *slope) {
    if (self->table == NULL || !(theta > 0))
        return ei_group_log_mgf(self, theta, value, slope);
    int octave, status;
    double position = (frexp(theta, &octave) - 0.5) * 2 * PER_OCTAVE, x = position - floor(position);
    size_t i = (size_t)(octave - LOWEST) * PER_OCTAVE + (size_t)position;
    const double *left, *right;
    if ((status = node(self, i, &left)) != EI_OK || (status = node(self, i + 1, &right)) != EI_OK)
        return status;
    if (!(right[0] < INFINITY))
        return ei_group_log_mgf(self, theta, value, slope);
    double step = ldexp(1, octave) / (2 * PER_OCTAVE), rise = right[0] - left[0];
    double up = left[1] * step, down = right[1] * step, b = 3 * rise - 2 * up - down,
           c = up + down - 2 * rise;
    *value = left[0] + x * (up + x * (b + x * c));
    *slope = (up + x * (2 * b + x * 3 * c)) / step;
    return EI_OK;
}

/* kappa, and its slope. */
static int kappa_of(const ei_group *self, const ei_arrival *arrival, double theta, double kappa[2]) {
    double slope;
    int status = ei_group_log_mgf(self, theta, &kappa[0], &kappa[1]);
    kappa[0] -= ei_arrival_exponent(arrival, theta, &slope);
    kappa[1] -= slope;
    return status;
}

/* The root of kappa beyond 0, or the abscissa: theta must stay below. Infinite for no work at all. kappa is
 * convex, so that tangents from above and chords from below come nearer from their sides; every third step
 * halves, where neither does. */
static int exponent_limit(const ei_group *self, const ei_arrival *arrival, double *limit) {
    double low = 0, value, mean, below = 0, above[2] = {INFINITY, 0}, kappa[2];
    *limit = 0;
    int status = ei_group_log_mgf(self, 0, &value, &mean);
    if (status != EI_OK)
        return status;
    if (!(ei_arrival_rate(arrival) * mean < 1))
        return EI_OK;
    if (mean == 0)
        *limit = INFINITY;
    double high = 1 / mean;
    for (int i = 0; i < 2000 && mean > 0; i++) {
        if (high >= self->abscissa)
            high = self->abscissa;
        if ((status = kappa_of(self, arrival, high, above)) != EI_OK)
            return status;
        if (!(above[0] < 0) || high >= self->abscissa)
            break;
        low = high;
        below = above[0];
        high *= 2;
    }
    if (above[0] < 0)
        low = high * (1 - DBL_EPSILON); /* the abscissa */
    for (int i = 0; i < 3 * BISECTIONS && mean > 0 && high - low > DBL_EPSILON * high; i++) {
        double theta =
            i % 3 == 0 ? high - above[0] / above[1] : low - below * (high - low) / (above[0] - below);
        if (i % 3 == 2 || !(theta > low && theta < high))
            theta = low + (high - low) / 2;
        if ((status = kappa_of(self, arrival, theta, kappa)) != EI_OK)
            return status;
        if (kappa[0] < 0) {
            low = theta;
            below = kappa[0];
        } else {
            high = theta;
            above[0] = kappa[0];
            above[1] = kappa[1];
        }
    }
    if (mean > 0)
        *limit = low;
    return EI_OK;
}

int ei_group_tabulate(ei_group *self) {
    if (self->service == NULL || self->service->kind == EI_SERVICE_EXPONENTIAL)
        return EI_OK;
    self->table = calloc(2 * (OCTAVES * PER_OCTAVE + 1), sizeof *self->table);
    return self->table == NULL ? EI_ERR_NO_MEMORY : EI_OK;
}

/* The least of the limits of all groups. */
int ei_groups_decay_rate(const ei_groups *list, const ei_arrival *arrival, double *value) {
    *value = INFINITY;
    for (size_t k = 0; k < list->count; k++) {
        double limit;
        int status = exponent_limit(&list->groups[k], arrival, &limit);
        if (status != EI_OK)
            return status;
        *value = fmin(*value, limit);
    }
    return EI_OK;
}
