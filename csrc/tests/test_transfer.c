/* The law of a transfer: wrong inputs, extremes, interruption, every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/transfer.h"

/* Laws within one slot, of some slots, and of so many that panels are of many slots each. */
static void test_grid(void) {
    enum { POINTS = 2000 };
    const double bits[] = {1e3, 3e5, 1e6, 1e9};
    double sf[POINTS];
    for (int k = 0; k < 4; k++) {
        ei_transfer *law;
        CHECK(ei_transfer_new(&law, bits[k], 1e7, 1.26, 0.01, quiet) == EI_OK);
        int equal = 1;
        for (double step = 1.01 * ei_transfer_extent(law) / POINTS; step > 1e-9; step /= 37) {
            ei_transfer_sf_grid(law, step, POINTS, sf);
            for (int i = 0; i < POINTS; i++)
                equal &= sf[i] == ei_transfer_sf(law, i * step);
        }
        CHECK(equal);
        ei_transfer_free(law);
    }
}

static void test_transfer(void) {
    ei_transfer *law;
    for (int i = 0; i < BAD; i++) {
        CHECK(ei_transfer_new(&law, bad[i], 1e7, 1, 0.01, quiet) == EI_ERR_DOMAIN && law == NULL);
        CHECK(ei_transfer_new(&law, 1e6, bad[i], 1, 0.01, quiet) == EI_ERR_DOMAIN && law == NULL);
        CHECK(ei_transfer_new(&law, 1e6, 1e7, bad[i], 0.01, quiet) == EI_ERR_DOMAIN && law == NULL);
        CHECK(ei_transfer_new(&law, 1e6, 1e7, 1, bad[i], quiet) == EI_ERR_DOMAIN && law == NULL);
    }
    ei_gain gain = ei_gain_rayleigh();
    double *field[] = {&gain.shape, &gain.scale, &gain.users};
    for (int i = 0; i < BAD; i++)
        for (int k = 0; k < 3; k++) {
            gain = ei_gain_rayleigh();
            *field[k] = bad[i];
            CHECK(ei_transfer_new_faded(&law, 1e6, 1e7, 1, &gain, 0.01, quiet) == EI_ERR_DOMAIN &&
                  law == NULL);
        }
    gain = (ei_gain){1.5, 1, 1, 1}; /* a line of sight with a broken number of branches */
    CHECK(ei_transfer_new_faded(&law, 1e6, 1e7, 1, &gain, 0.01, quiet) == EI_ERR_DOMAIN && law == NULL);
    ei_transfer_free(NULL);
    CHECK(ei_transfer_new(&law, 3e5, 1e7, 1.26, 0.01, quiet) == EI_OK);
    double value;
    CHECK(ei_transfer_log_mgf(law, NAN, &value, NULL) == EI_ERR_DOMAIN);
    CHECK(isnan(ei_transfer_sf(law, NAN)) && isnan(ei_transfer_cdf(law, NAN)));
    ei_transfer_free(law);
    /* P(X > 1 slot) = 1 - exp(-(2^c - 1) / s) where all but a 1e-6th of a slot is to spare, and on a weak
     * link. */
    CHECK(ei_transfer_new(&law, 1, 1e8, 1e3, 0.01, quiet) == EI_OK);
    CHECK_RELATIVE(ei_transfer_sf(law, 0.01), 6.931474e-10, 1e-6);
    CHECK(ei_transfer_sf(law, 0.01 + 1e-15) <= ei_transfer_sf(law, 0.01) * (1 + 1e-9));
    ei_transfer_free(law);
    CHECK(ei_transfer_new(&law, 1e5, 1e7, 1e-2, 0.01, quiet) == EI_OK);
    CHECK(ei_transfer_cdf(law, 0.2) > 0 && ei_transfer_cdf(law, 0.2) < 1e-9);
    ei_transfer_free(law);
    /* 7e7 slots are too many, 1e-8 of a slot and 7e5 slots are not. */
    CHECK(ei_transfer_new(&law, 1e10, 1e7, 1e-3, 0.01, quiet) == EI_ERR_ACCURACY && law == NULL);
    CHECK(ei_transfer_new(&law, 1e-3, 1e7, 1, 0.01, quiet) == EI_OK);
    CHECK_RELATIVE(ei_transfer_sf(law, 0.01), 6.931471805599453e-9, 1e-7);
    ei_transfer_free(law);
    CHECK(ei_transfer_new(&law, 1e8, 1e7, 1e-3, 0.01, quiet) == EI_OK);
    CHECK(ei_transfer_size(law) < 1000000 && ei_transfer_sf(law, 1e3) == 1 && ei_transfer_sf(law, 1e5) == 0);
    CHECK_RELATIVE(ei_transfer_sf(law, ei_transfer_mean(law)), 0.5, 1e-3);
    ei_transfer_free(law);
    int polled = 0;
    CHECK(ei_transfer_new(&law, 1e8, 1e7, 1e-3, 0.01, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED);
    CHECK(ei_transfer_new(&law, 3e5, 1e7, 1.26, 0.01, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED);
    CHECK(law == NULL && polled == 2);
    for (int sign = -1; sign <= 1; sign += 2) {
        int status = ei_transfer_new(&law, 1e5, 1e7, pow(10, sign * 300), 0.01, quiet);
        CHECK(status == EI_OK || status == EI_ERR_ACCURACY);
        ei_transfer_free(law);
    }
}

static int call_many_slots(const ei_service *stages, size_t count) {
    (void)stages;
    (void)count;
    ei_transfer *law;
    int status = ei_transfer_new(&law, 2e8, 1e7, 1.26, 0.01, quiet);
    ei_transfer_free(law);
    return status;
}

static int call_transfer(const ei_service *stages, size_t count) {
    (void)stages;
    (void)count;
    ei_transfer *law;
    int status = ei_transfer_new(&law, 2e5, 1e7, 1.26, 0.01, quiet);
    ei_transfer_free(law);
    return status;
}

/* A weak link of c = 1e-4: n slots are not enough with the chance x^n / n! of n exponential gains that add up
 * to less than x = c ln 2 / s, but for a share n x, as log2(1 + s g) bends. Where other links' tables end
 * both laws agree. */
static void test_tail(void) {
    ei_transfer *law, *tail;
    const double x = 1e-4 * M_LN2 / 3;
    CHECK(ei_transfer_new(&law, 10, 1e7, 3, 0.01, quiet) == EI_OK);
    CHECK(ei_transfer_new_tail(&tail, law, 1e-289, quiet) == EI_OK);
    CHECK(ei_transfer_tail(law) == 1e-20 && ei_transfer_tail(tail) == 1e-289);
    for (int n = 1; n <= 50; n++) {
        double log_chance = n * log(x) - lgamma(n + 1.0);
        CHECK(fabs(log(ei_transfer_sf(tail, 0.01 * n)) - log_chance) < 2 * n * x + 1e-6);
        if (log_chance < log(1e-280))
            break;
    }
    ei_transfer_free(tail);
    ei_transfer_free(law);
    /* Laws slot by slot, and of many slots. */
    const double bits[] = {1e3, 3e5, 1e6, 1e9};
    for (int k = 0; k < 4; k++) {
        CHECK(ei_transfer_new(&law, bits[k], 1e7, 1.26, 0.01, quiet) == EI_OK);
        CHECK(ei_transfer_new_tail(&tail, law, 1e-289, quiet) == EI_OK);
        CHECK(ei_transfer_extent(tail) > ei_transfer_extent(law));
        double step = ei_transfer_extent(tail) / 3000, before = 1, ratio = 0;
        for (int i = 0; i < 3000; i++) {
            double sf = ei_transfer_sf(tail, i * step), other = ei_transfer_sf(law, i * step);
            CHECK(sf > 0 && sf <= before * (1 + 1e-6));
            if (other > 1e-15)
                ratio = fmax(ratio, fabs(sf / other - 1));
            before = sf;
        }
        CHECK(ratio < 1e-6 && before < 1e-280);
        ei_transfer_free(tail);
        ei_transfer_free(law);
    }
    /* Fading so narrow that rates below its least would count: the tail ends there. */
    const ei_gain narrow = {100, 0, 0.01, 1};
    CHECK(ei_transfer_new_faded(&law, 3e6, 1e6, 3, &narrow, 0.1, quiet) == EI_OK);
    CHECK(ei_transfer_new_tail(&tail, law, 1e-289, quiet) == EI_OK);
    CHECK(ei_transfer_tail(tail) > 1e-150 && ei_transfer_tail(tail) < 1e-20);
    ei_transfer_free(tail);
    ei_transfer_free(law);
}

/* Beyond the tables moments are bounded from above: those of the law whose tables go on lie below, and are
 * the same as long as what lies beyond does not count. */
static void test_moments_beyond(void) {
    const ei_gain rician = {1, 3, 1, 1};
    const double bits[] = {1e3, 3e5, 1e6, 1e8};
    for (int k = 0; k < 8; k++) {
        ei_transfer *law, *tail;
        CHECK((k < 4 ? ei_transfer_new(&law, bits[k], 1e7, 1.26, 0.01, quiet)
                     : ei_transfer_new_faded(&law, bits[k - 4], 1e7, 1.26, &rician, 0.01, quiet)) == EI_OK);
        CHECK(ei_transfer_new_tail(&tail, law, 1e-289, quiet) == EI_OK);
        const double abscissa = ei_transfer_abscissa(law);
        CHECK(abscissa * ei_transfer_extent(law) > 40);
        for (int i = 1; i <= 100; i++) {
            double theta = fmin(abscissa, ei_transfer_abscissa(tail)) * i / 101, value, slope, exact;
            CHECK(ei_transfer_log_mgf(law, theta, &value, &slope) == EI_OK);
            CHECK(ei_transfer_log_mgf(tail, theta, &exact, NULL) == EI_OK);
            CHECK(value >= exact - 1e-6 * (1 + theta * ei_transfer_extent(law)) && slope > 0);
            if (theta * ei_transfer_extent(law) < 15)
                CHECK(fabs(value - exact) < 1e-6);
            CHECK(value - exact < 14 || theta * ei_transfer_extent(law) > 150);
        }
        double beyond, slope_beyond;
        CHECK(ei_transfer_log_mgf(law, abscissa * 1.001, &beyond, &slope_beyond) == EI_OK);
        CHECK(isinf(beyond) && isinf(slope_beyond));
        ei_transfer_free(tail);
        ei_transfer_free(law);
    }
}

static int call_tail(const ei_service *stages, size_t count) {
    (void)count;
    ei_transfer *tail;
    int status = ei_transfer_new_tail(&tail, stages->transfer, 1e-289, quiet);
    ei_transfer_free(tail);
    return status;
}

int main(void) {
    ei_transfer *law;
    ei_service link[3];
    make_link(link, &law);
    test_transfer();
    test_tail();
    test_moments_beyond();
    test_grid();
    sweep_allocations(call_tail, "tail", &link[1], 1);
    ei_transfer_free(law);
    sweep_allocations(call_transfer, "transfer", NULL, 0);
    sweep_allocations(call_many_slots, "transfer of many slots", NULL, 0);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
