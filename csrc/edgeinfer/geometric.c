#include "edgeinfer/geometric.h"

#include <float.h>
#include <math.h>

static const double ROUNDINGS = 16 * DBL_EPSILON; /* of both terms of f */
static const double EXPONENTIAL = 1e-12; /* error of e^{-theta t} down to the least double, relative */

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

void ei_geometric_ends(const ei_batch *self, const ei_service *service, const ei_arrival *arrival) {
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
    double slower = low, faster = high;
    for (double moved = DBL_EPSILON; slower > 0 && !is_beyond(service, arrival, slower, EI_UPPER); moved *= 2)
        slower = fmax(low * (1 - moved), 0);
    for (double moved = DBL_EPSILON; faster < most && !is_beyond(service, arrival, faster, EI_LOWER);
         moved *= 2)
        faster = fmin(high * (1 + moved), most);
    faster *= 1 + 2 * DBL_EPSILON;
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
