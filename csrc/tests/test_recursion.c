/* The recursion over slots: one slot exactly, two by quadrature, whole slots as fractions of one, the lattice
 * that is too large, every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/recursion.h"

static double logit(double below, double above) {
    return log(below) - log(above);
}

/* int_0^c p(y) F(c - y) dy, and with 1 - F and what one slot carries alone: 8 panels of 40 Gauss-Legendre
 * nodes, both factors analytic, far below 1e-13. */
static void two_slots(const ei_rate *rate, double carry, double *below, double *above) {
    enum { NODES = 40, PANELS = 8 };
    double node[NODES], weight[NODES];
    ei_gauss_legendre(NODES, node, weight);
    *below = 0;
    *above = ei_rate_sf(rate, carry);
    for (int panel = 0; panel < PANELS; panel++)
        for (int i = 0; i < NODES; i++) {
            double y = carry * (panel + (1 + node[i]) / 2) / PANELS;
            double mass = ei_rate_density(rate, y) * weight[i] / 2 * carry / PANELS;
            *below += mass * ei_rate_cdf(rate, carry - y);
            *above += mass * ei_rate_sf(rate, carry - y);
        }
}

static void test_few_slots(void) {
    const ei_gain branches = {2, 0, 0.5, 1};
    for (int faded = 0; faded < 2; faded++)
        for (double carry = 0.5; carry < 7; carry *= 2) {
            ei_rate rate = ei_rate_of(1.26);
            ei_recursion *self;
            if (faded)
                CHECK(ei_rate_init(&rate, 1.26, &branches) == EI_OK);
            CHECK(ei_recursion_new(&self, &rate, carry, 1e-20) == EI_OK);
            double below = ei_rate_cdf(&rate, carry), above = ei_rate_sf(&rate, carry);
            CHECK_RELATIVE(ei_recursion_below(self), below, 1e-14);
            CHECK(fabs(ei_recursion_logit(self, 0) - logit(below, above)) < 1e-10);
            two_slots(&rate, carry, &below, &above);
            CHECK(fabs(ei_recursion_logit(self, 1) - logit(below, above)) < 1e-9);
            double whole[6];
            for (int n = 0; n < 6; n++) {
                if (n > 0)
                    CHECK(fabs(ei_recursion_logit(self, 0) - whole[n - 1]) < 1e-8);
                whole[n] = ei_recursion_logit(self, 1);
                double part = ei_recursion_logit(self, 0.5);
                CHECK(part < ei_recursion_logit(self, 0) && part > whole[n]);
                ei_recursion_advance(self);
                if (n == 0)
                    CHECK_RELATIVE(ei_recursion_below(self), below, 1e-10);
            }
            ei_recursion_free(self);
        }
}

static int call(const ei_service *stages, size_t count) {
    (void)stages;
    (void)count;
    ei_rate rate = ei_rate_of(1.26);
    ei_recursion *self;
    int status = ei_recursion_new(&self, &rate, 2, 1e-20);
    CHECK((status == EI_OK) == (self != NULL));
    ei_recursion_free(self);
    return status;
}

int main(void) {
    test_few_slots();
    ei_rate rate = ei_rate_of(1);
    ei_recursion *self;
    CHECK(ei_recursion_new(&self, &rate, 1e7, 1e-20) == EI_ERR_TOO_LARGE && self == NULL);
    CHECK(ei_recursion_work(&rate, 20, 20, 0.6) > 2 * ei_recursion_work(&rate, 5, 5, 0.6));
    ei_recursion_free(NULL);
    sweep_allocations(call, "recursion", NULL, 0);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
