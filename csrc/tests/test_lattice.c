/* Laws on lattices: wrong inputs, ends on either side of a law, and of a sum of two. */
#include "inputs.h"

#include "edgeinfer/lattice.h"

int main(void) {
    ei_lattice lattice;
    ei_service service = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    CHECK(ei_lattice_service(&lattice, &service, 0, 0, 10, EI_UPPER) == EI_ERR_DOMAIN);
    CHECK(ei_lattice_service(&lattice, &service, 0, 0.1, 1, EI_UPPER) == EI_ERR_DOMAIN);
    /* The sum of two exponential times: P(X + Y > t) = (1 + t / m) e^{-t / m}. */
    ei_lattice one, sum;
    CHECK(ei_lattice_service(&lattice, &service, 0, 0.01, 1000, EI_UPPER) == EI_OK);
    CHECK(ei_lattice_service(&one, &service, 0, 0.01, 1000, EI_LOWER) == EI_OK);
    CHECK(ei_lattice_sum_lower(&sum, &one, &one) == EI_OK);
    for (double time = 0.005; time < 5; time += 0.25) {
        double exact = exp(-2 * time), both = (1 + 2 * time) * exact;
        CHECK(ei_lattice_upper(&lattice, time) >= exact && ei_lattice_lower(&one, time) <= exact);
        CHECK_RELATIVE(ei_lattice_upper(&lattice, time), exact, 0.05);
        CHECK_RELATIVE(ei_lattice_lower(&one, time), exact, 0.05);
        CHECK(ei_lattice_lower(&sum, time) <= both);
        CHECK_RELATIVE(ei_lattice_plus_lower(&one, &one, time), both, 0.1);
    }
    ei_lattice_free(&lattice);
    ei_lattice_free(&one);
    ei_lattice_free(&sum);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
