#include "edgeinfer/exponential_sums.h"

#include "edgeinfer/multiversion.h"
#include "edgeinfer/rng.h"

#include <stdint.h>
#include <string.h>

typedef double reals __attribute__((vector_size(8 * EI_EXPONENTIALS)));
typedef uint64_t words __attribute__((vector_size(8 * EI_EXPONENTIALS)));

/* x = n ln 2 + rest, |rest| <= ln(2) / 2, whose series ends where it is 4e-18. A number plus 1.5 2^52 has its
 * whole part n in the last bits, which go to the exponent from there; ln 2 is in two parts, n times the first
 * of which is exact. Beyond [-700, 0] the end counts: above 0 there is only rounding, or no weight. */
EI_INLINE void exponential(const reals *x, reals *result) {
    static const double inverse[] = {1.0 / 6227020800,
                                     1.0 / 479001600,
                                     1.0 / 39916800,
                                     1.0 / 3628800,
                                     1.0 / 362880,
                                     1.0 / 40320,
                                     1.0 / 5040,
                                     1.0 / 720,
                                     1.0 / 120,
                                     1.0 / 24,
                                     1.0 / 6,
                                     0.5,
                                     1,
                                     1};
    const double shift = 6755399441055744.0;
    const reals none = {0}, least = none - 700.0;
    const words above = (words)(*x > none), below = (words)(*x < least);
    const reals inside = (reals)(((words)*x & ~(above | below)) | ((words)least & below)),
                whole = inside * 1.4426950408889634 + shift, steps = whole - shift,
                rest = (inside - steps * 0x1.62e42feep-1) - steps * 0x1.a39ef35793c76p-33;
    reals sum = none;
    for (size_t i = 0; i < sizeof inverse / sizeof *inverse; i++)
        sum = sum * rest + inverse[i];
    *result = (reals)((words)sum + ((words)whole << 52));
}

/* Apart, for the symbol of a multiversioned function is exported whatever its visibility. */
EI_MULTIVERSION static void add_all(size_t count, const double *time, const double *weight, double theta,
                                    double peak, double sums[2]) {
    reals sum = {0}, moment = {0};
    for (size_t i = 0; i < count; i += EI_EXPONENTIALS) {
        reals at, term, power;
        memcpy(&at, time + i, sizeof at);
        memcpy(&term, weight + i, sizeof term);
        const reals x = theta * at - peak;
        exponential(&x, &power);
        term *= power;
        sum += term;
        moment += term * at;
    }
    sums[0] = sums[1] = 0;
    for (int i = 0; i < EI_EXPONENTIALS; i++) {
        sums[0] += sum[i];
        sums[1] += moment[i];
    }
}

void ei_exponential_sums(size_t count, const double *time, const double *weight, double theta, double peak,
                         double sums[2]) {
    add_all(count, time, weight, theta, peak, sums);
}
