/* One queue and what is independent of it: M/M/1 in closed form, M/D/1 as queue.h has it, delays, loads,
 * wrong inputs, every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/queue.h"
#include "edgeinfer/single.h"

enum { TIMES = 6 };

typedef struct {
    double lower[TIMES], upper[TIMES];
    uint8_t lower_method[TIMES], upper_method[TIMES];
} answer;

static int bracket(const ei_service *queue, const ei_service *others, size_t count, double rate,
                   const double *times, answer *found, ei_monitor monitor) {
    double rates[TIMES];
    for (int i = 0; i < TIMES; i++)
        rates[i] = rate;
    return ei_single_bracket(queue, others, count, TIMES, rates, times, found->lower, found->upper,
                             found->lower_method, found->upper_method, monitor);
}

static void check_truth(const answer *found, const double *truth, double width) {
    for (int i = 0; i < TIMES; i++) {
        CHECK(found->lower[i] <= truth[i] * (1 + 1e-12) && truth[i] <= found->upper[i] * (1 + 1e-12));
        CHECK(found->upper[i] <= found->lower[i] * (1 + width));
    }
}

/* The sojourn time is exponential; with an independent exponential delay it is a sum of two. */
static void test_exponential(void) {
    const ei_service services[] = {{.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5},
                                   {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.4}};
    for (double rate = 0.1; rate < 1.9; rate += 0.4) {
        const double decay = 2 - rate, other = 1 / services[1].time;
        double times[TIMES], truth[TIMES];
        answer found;
        for (int i = 0; i < TIMES; i++)
            times[i] = (i == 0 ? 0 : pow(2, i - 1)) / decay;
        CHECK(bracket(services, services, 1, rate, times, &found, quiet) == EI_OK);
        for (int i = 0; i < TIMES; i++)
            truth[i] = exp(-decay * times[i]);
        check_truth(&found, truth, 0.01);
        CHECK(bracket(services, services, 2, rate, times, &found, quiet) == EI_OK);
        for (int i = 0; i < TIMES; i++)
            truth[i] = (other * exp(-decay * times[i]) - decay * exp(-other * times[i])) / (other - decay);
        check_truth(&found, truth, 0.01);
    }
}

/* Near capacity, where a height is short beside the lattice's step. */
static void test_heavy_load(void) {
    const ei_service service = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    const double loads[] = {0.95, 0.99, 0.999}, widths[] = {0.05, 0.1, 2};
    for (int k = 0; k < 3; k++) {
        const double rate = loads[k] / service.time, decay = (1 - loads[k]) / service.time;
        double times[TIMES], truth[TIMES];
        answer found;
        for (int i = 0; i < TIMES; i++) {
            times[i] = pow(2, i - 1) / decay;
            truth[i] = exp(-decay * times[i]);
        }
        CHECK(bracket(&service, &service, 1, rate, times, &found, quiet) == EI_OK);
        check_truth(&found, truth, widths[k]);
    }
}

static void test_deterministic(void) {
    const ei_service service = {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.5};
    const double times[TIMES] = {0.2, 0.5, 0.9, 2, 4, 9};
    ei_md1 waiting;
    answer found;
    double truth[TIMES];
    CHECK(bracket(&service, &service, 1, 1.2, times, &found, quiet) == EI_OK);
    CHECK(ei_md1_init(&waiting, 1.2, 0.5, 20) == EI_OK);
    for (int i = 0; i < TIMES; i++)
        truth[i] = times[i] < 0.5 ? 1 : ei_md1_waiting_sf(&waiting, times[i] - 0.5);
    ei_md1_free(&waiting);
    check_truth(&found, truth, 1e-3);
}

static void test_edges(void) {
    const ei_service service = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5};
    const double times[TIMES] = {-1, 0, 1, INFINITY, 1e6, 5}, wrong[TIMES] = {0, 1, NAN, 1, 1, 1};
    answer found;
    CHECK(bracket(&service, &service, 1, 1, times, &found, quiet) == EI_OK);
    CHECK(found.lower[0] == 1 && found.upper[0] == 1 && found.upper[3] == 0 && found.lower[3] == 0);
    CHECK(found.lower[4] >= 0 && found.lower[4] <= found.upper[4]);
    CHECK(bracket(&service, &service, 1, 2, times, &found, quiet) == EI_OK);
    CHECK(found.lower[2] == 1 && found.upper[2] == 1 && found.lower_method[2] == EI_BRACKET_UNSTABLE);
    CHECK(bracket(&service, &service, 1, 1, wrong, &found, quiet) == EI_ERR_DOMAIN);
    CHECK(bracket(&service, &service, 1, -1, times, &found, quiet) == EI_ERR_DOMAIN);
    int polled = 0;
    CHECK(bracket(&service, &service, 1, 1, times, &found, (ei_monitor){stop, &polled}) ==
          EI_ERR_INTERRUPTED);
    CHECK(polled > 0);
}

static int call(const ei_service *stages, size_t count) {
    static const double times[TIMES] = {0.2, 0.5, 0.9, 2, 4, 9};
    answer found;
    return count == 0 ? EI_ERR_EMPTY : bracket(&stages[0], stages, count, 1, times, &found, quiet);
}

int main(void) {
    ei_transfer *law;
    ei_service stages[3];
    make_link(stages, &law);
    test_exponential();
    test_heavy_load();
    test_deterministic();
    test_edges();
    check_bad_stages(call);
    sweep_allocations(call, "single", stages, 2);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
