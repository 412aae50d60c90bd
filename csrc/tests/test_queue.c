/* The M/D/1 queue: wrong inputs, its law within and beyond the horizon. */
#include "inputs.h"

#include "edgeinfer/queue.h"

/* P(Wq > whole services) as a power series of the load, from sum_j (-y)^j e^y / j!, y = load (whole - j); its
 * first terms cancel. */
static double waiting(int whole, double load) {
    double sum = 0, before = 1, power = load;
    for (int n = 1; n <= 40; n++, power *= load) {
        double here = 0;
        for (int j = 0; j <= whole && j <= n; j++)
            here += (j % 2 == 0 ? 1 : -1) * pow(whole - j, n) / (tgamma(j + 1) * tgamma(n - j + 1));
        sum += n > whole ? (before - here) * power : 0;
        before = here;
    }
    return sum;
}

/* Each term of the series adds rounding errors of some 1e-14 to its coefficient, whose first is 1 / (n + 1)!.
 */
static void test_light_loads(void) {
    for (double load = 0.3; load > 1e-12; load /= 10)
        for (int whole = 1; whole <= 4; whole++) {
            ei_md1 queue;
            CHECK(ei_md1_init(&queue, load, 1, 5) == EI_OK);
            CHECK_RELATIVE(ei_md1_waiting_sf(&queue, whole), waiting(whole, load), 1e-10);
            ei_md1_free(&queue);
        }
}

int main(void) {
    test_light_loads();
    ei_md1 queue;
    CHECK(ei_md1_init(&queue, 1, 1, 5) == EI_ERR_UNSTABLE);
    ei_md1_free(&queue);
    CHECK(ei_md1_init(&queue, NAN, 1, 5) == EI_ERR_DOMAIN);
    CHECK(ei_md1_init(&queue, 1, -1, 5) == EI_ERR_DOMAIN);
    /* Beyond the horizon the law goes on geometrically, to nothing at last. */
    double beyond[2];
    for (int i = 0; i < 2; i++) {
        CHECK(ei_md1_init(&queue, 1, 0.9, i * 300) == EI_OK);
        beyond[i] = ei_md1_waiting_sf(&queue, 250);
        CHECK(ei_md1_waiting_sf(&queue, 1e300) == 0);
        ei_md1_free(&queue);
    }
    CHECK(beyond[1] > 0);
    CHECK_RELATIVE(beyond[0], beyond[1], 1e-10);
    CHECK(ei_md1_init(&queue, 1, 0, 5) == EI_OK);
    CHECK(ei_md1_waiting_sf(&queue, 0) == 0 && ei_md1_waiting_sf(&queue, -1) == 1);
    ei_md1_free(&queue);
    CHECK(ei_md1_init(&queue, 1, 0.5, 20) == EI_OK);
    CHECK_RELATIVE(ei_md1_waiting_sf(&queue, 0), 0.5, 1e-12);
    ei_md1_free(&queue);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
