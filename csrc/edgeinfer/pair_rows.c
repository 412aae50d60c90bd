#include "edgeinfer/pair_rows.h"

#include "edgeinfer/multiversion.h"

#include <math.h>

EI_MULTIVERSION
void ei_add_products(double *restrict to, const double *restrict from, double factor, size_t count) {
    for (size_t i = 0; i < count; i++)
        to[i] += factor * from[i];
}

void ei_add_shifted(double *restrict to, const double *restrict from, double factor, ptrdiff_t shift,
                    ptrdiff_t count, ptrdiff_t known) {
    const ptrdiff_t first = shift > 0 ? shift : 0, last = count < known + shift ? count : known + shift;
    if (factor > 0 && first < last)
        ei_add_products(to + first, from + first - shift, factor, (size_t)(last - first));
}

EI_MULTIVERSION
void ei_raise_row(double *restrict to, const double *restrict from, size_t count) {
    for (size_t i = 0; i < count; i++)
        to[i] = from[i] > to[i] ? from[i] : to[i];
}

double ei_relative_change(const double *old, const double *new, ptrdiff_t count, double nothing) {
    double most = 0;
    for (ptrdiff_t j = 0; j < count; j++)
        if (new[j] > nothing)
            most = fmax(most, fabs(new[j] - old[j]) / new[j]);
    return most;
}

ei_wait_weights ei_wait_weights_of(double rate, double exponent) {
    const double e = exponent, r = 1 / exp(e), all = -expm1(-rate), whole = -expm1(-e);
    const double once = rate / (rate + e) * -expm1(-rate - e),
                 twice = rate / (rate + 2 * e) * -expm1(-rate - 2 * e);
    const double near = (once - r * all) / whole,
                 nearest = (twice - 2 * r * once + r * r * all) / (whole * whole);
    return (ei_wait_weights){exp(-rate), near, all - near, near - nearest, nearest, all - 2 * near + nearest};
}
