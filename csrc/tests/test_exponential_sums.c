/* Sums of weighted exponentials: single terms and whole sums beside the library's, and exponents beyond the
 * ends. */
#include "inputs.h"

#include "edgeinfer/exponential_sums.h"

/* The largest relative error of the single terms e^{theta time[i]}, each with all the weight. */
static double error_of_terms(const double *time, double theta) {
    double largest = 0;
    for (size_t i = 0; i < EI_EXPONENTIALS; i++) {
        double weight[EI_EXPONENTIALS] = {0}, sums[2];
        weight[i] = 1;
        ei_exponential_sums(EI_EXPONENTIALS, time, weight, theta, 0, sums);
        largest = fmax(largest, fabs(sums[0] / exp(theta * time[i]) - 1));
        largest = fmax(largest, fabs(sums[1] / (exp(theta * time[i]) * time[i]) - 1));
    }
    return largest;
}

int main(void) {
    enum { COUNT = 4 * EI_EXPONENTIALS };
    double time[COUNT], weight[COUNT], sums[2], first = 0, second = 0, largest = 0;
    for (int run = 1; run < 4000; run++) {
        for (size_t i = 0; i < EI_EXPONENTIALS; i++)
            time[i] = (double)run * (1 + (double)i / 17);
        largest = fmax(largest, fmax(error_of_terms(time, -1e-4), error_of_terms(time, -0.115)));
    }
    CHECK(largest <= 1e-15); /* 4e-16, a product and what the library rounds */
    for (size_t i = 0; i < COUNT; i++) {
        time[i] = 0.1 * (double)(i + 1);
        weight[i] = 1 / (double)(i + 2);
        first += weight[i] * exp(3 * time[i] - 9.7);
        second += weight[i] * exp(3 * time[i] - 9.7) * time[i];
    }
    ei_exponential_sums(COUNT, time, weight, 3, 9.7, sums);
    CHECK_RELATIVE(sums[0], first, 1e-14);
    CHECK_RELATIVE(sums[1], second, 1e-14);
    /* Far below the peak a term is 1e-304 at most; above it only what has no weight may stand. */
    weight[COUNT - 1] = 0;
    ei_exponential_sums(COUNT, time, weight, 1e9, 1e9 * time[COUNT - 2], sums);
    CHECK_RELATIVE(sums[0], weight[COUNT - 2], 1e-15);
    ei_exponential_sums(COUNT, time, weight, 0, 0, sums);
    CHECK(sums[0] > 0 && sums[1] > 0);
    ei_exponential_sums(COUNT, time, weight, -INFINITY, -INFINITY, sums);
    CHECK(isnan(sums[0]) && isnan(sums[1]));
    return check_report();
}
