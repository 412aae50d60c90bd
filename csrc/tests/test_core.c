/* One wrong input at a time, and every allocation failing in turn, for each entry of the core. */
#include "check.h"
#include "sweep.h"

#include "edgeinfer/bound.h"
#include "edgeinfer/bracket.h"
#include "edgeinfer/fading.h"
#include "edgeinfer/interval.h"
#include "edgeinfer/parallel.h"
#include "edgeinfer/queue.h"
#include "edgeinfer/tandem.h"
#include "edgeinfer/transfer.h"

#include <string.h>

static const double bad[] = {0, -1, NAN, INFINITY, -INFINITY};
enum { BAD = sizeof bad / sizeof *bad };
static const ei_monitor quiet = {NULL, NULL};

static int stop(void *context) {
    ++*(int *)context;
    return 1;
}
static const uint64_t entropy[4] = {1, 2, 3, 4};

static void test_fading(void) {
    double rate, value, slope;
    for (int i = 0; i < BAD; i++) {
        CHECK(ei_ergodic_rate(bad[i], 1, &rate) == EI_ERR_DOMAIN && isnan(rate));
        CHECK(ei_ergodic_rate(1, bad[i], &rate) == EI_ERR_DOMAIN && isnan(rate));
        CHECK(ei_log_slot_mgf(1, bad[i], &value, &slope) == EI_ERR_DOMAIN && isnan(value) && isnan(slope));
    }
    CHECK(ei_log_slot_mgf(-1, 1, &value, NULL) == EI_ERR_DOMAIN);
    CHECK(ei_log_slot_mgf(NAN, 1, NULL, &slope) == EI_ERR_DOMAIN);
    CHECK(ei_log_slot_mgf(0, 1, &value, NULL) == EI_OK && fabs(value) < 1e-12);
    /* E[log2(1 + g)] = e E1(1) / ln 2 */
    CHECK(ei_ergodic_rate(1, 1, &rate) == EI_OK);
    CHECK_RELATIVE(rate, 0.8599, 2e-3);
    CHECK(isnan(ei_student_quantile(0, 3)) && isnan(ei_student_quantile(0.5, 0)));
    CHECK_RELATIVE(ei_student_quantile(0.975, 1), 12.706204736, 1e-8);
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
    /* P(g > x) = 1 - (1 - e^-x)^3, and both of its tails far out. */
    double below, above;
    gain = (ei_gain){1, 0, 1, 3};
    ei_gain_tails(&gain, 50, &below, &above);
    CHECK_RELATIVE(above, 3 * exp(-50.0), 1e-12);
    ei_gain_tails(&gain, 1e-9, &below, &above);
    CHECK_RELATIVE(below, 1e-27, 1e-8);
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

static void test_queue(void) {
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
    ei_lattice lattice;
    ei_service service = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    CHECK(ei_lattice_service(&lattice, &service, 0, 0, 10, EI_UPPER) == EI_ERR_DOMAIN);
    CHECK(ei_lattice_service(&lattice, &service, 0, 0.1, 1, EI_UPPER) == EI_ERR_DOMAIN);
}

static int call_bound(const ei_service *stages, size_t count) {
    double rate[40], deadline[40], log_bound[40], theta[40];
    for (int i = 0; i < 40; i++) {
        rate[i] = 1;
        deadline[i] = 3 + i;
    }
    return ei_violation_bound(stages, count, EI_BOUND_UNION, 0.01, 40, rate, deadline, log_bound, theta,
                              quiet);
}

static int call_corrected(const ei_service *stages, size_t count) {
    double rate = 1, deadline = 5, log_bound, theta;
    return ei_violation_bound(stages, count, EI_BOUND_CORRECTED, 0.05, 1, &rate, &deadline, &log_bound,
                              &theta, quiet);
}

static int call_bracket(const ei_service *stages, size_t count) {
    double rate = 1, deadline = 5, lower, upper;
    uint8_t lower_method, upper_method;
    return ei_violation_bracket(stages, count, 1, &rate, &deadline, &lower, &upper, &lower_method,
                                &upper_method, quiet);
}

static int call_link_bracket(const ei_service *stages, size_t count) {
    double rate = 0.8 / ei_service_mean(&stages[1]), deadline = 20 / rate, lower, upper;
    uint8_t lower_method, upper_method;
    ei_service part[3] = {stages[0], stages[1], stages[2]};
    part[0].time = 0.8 * ei_service_mean(&stages[1]);
    part[2].time = 0.9 * ei_service_mean(&stages[1]);
    int status = ei_violation_bracket(part, count, 1, &rate, &deadline, &lower, &upper, &lower_method,
                                      &upper_method, quiet);
    CHECK(status != EI_OK || (upper_method == EI_BRACKET_FIRST_HANDOVER && lower > 0 && lower <= upper));
    return status;
}

static int call_tandem(const ei_service *stages, size_t count) {
    double violations[9], waiting[9], busy[9], elapsed[3], deadline = 3;
    ei_tandem model = {.stages = stages,
                       .stage_count = count,
                       .arrival = {EI_ARRIVAL_POISSON, {1, 0, 0}},
                       .deadlines = &deadline,
                       .deadline_count = 1,
                       .jobs = 100,
                       .replications = 3,
                       .batches = 1,
                       .threads = 2};
    memcpy(model.entropy, entropy, sizeof entropy);
    ei_tandem_result result = {violations, waiting, busy, elapsed, NULL};
    return ei_tandem_run(&model, &result, quiet);
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

static void test_bad_pipelines(void) {
    static const sweep_call calls[] = {call_bound, call_bracket, call_tandem};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        ei_service stage = {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.1};
        CHECK(calls[i](&stage, 0) == EI_ERR_EMPTY);
        for (int j = 1; j < BAD; j++) {
            stage.time = bad[j];
            CHECK(calls[i](&stage, 1) == EI_ERR_DOMAIN);
        }
        static const double samples[] = {2, 1};
        stage = (ei_service){.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 0};
        CHECK(calls[i](&stage, 1) == EI_ERR_EMPTY);
        stage.sample_count = 2;
        CHECK(calls[i](&stage, 1) == EI_ERR_DOMAIN);
        stage = (ei_service){.kind = EI_SERVICE_TRANSFER};
        CHECK(calls[i](&stage, 1) == EI_ERR_DOMAIN);
    }
}

static void test_interruption(const ei_service *stages, size_t count) {
    int polled = 0;
    double violations[9], waiting[9], busy[9], elapsed[3], deadline = 3;
    ei_tandem model = {.stages = stages,
                       .stage_count = count,
                       .arrival = {EI_ARRIVAL_POISSON, {1, 0, 0}},
                       .deadlines = &deadline,
                       .deadline_count = 1,
                       .jobs = 100000000,
                       .replications = 3,
                       .batches = 1,
                       .threads = 2};
    memcpy(model.entropy, entropy, sizeof entropy);
    ei_tandem_result result = {violations, waiting, busy, elapsed, NULL};
    CHECK(ei_tandem_run(&model, &result, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED);
    CHECK(polled >= 1);
    double rate = 0.7 / ei_service_mean(&stages[1]), lower, upper;
    uint8_t lower_method, upper_method;
    CHECK(ei_violation_bracket(stages + 1, 1, 1, &rate, &deadline, &lower, &upper, &lower_method,
                               &upper_method, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED);
}

int main(void) {
    ei_transfer *law;
    test_fading();
    test_transfer();
    test_queue();
    test_bad_pipelines();
    CHECK(ei_transfer_new(&law, 2e5, 1e7, 1.26, 0.05, quiet) == EI_OK);
    ei_service stages[] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = 0.3},
                           {.kind = EI_SERVICE_TRANSFER, .transfer = law},
                           {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.4}};
    sweep_allocations(call_transfer, "transfer", stages, 3);
    sweep_allocations(call_many_slots, "transfer of many slots", stages, 3);
    sweep_allocations(call_bound, "bound", stages, 3);
    sweep_allocations(call_corrected, "corrected", stages, 3);
    sweep_allocations(call_bracket, "bracket", stages, 3);
    sweep_allocations(call_link_bracket, "bracket of a link", stages, 3);
    sweep_allocations(call_tandem, "tandem", stages, 3);
    test_interruption(stages, 3);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
