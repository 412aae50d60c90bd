/* Several servers of one queue: one server is M/D/1, servers that a constant stage keeps from waiting, wrong
 * inputs, a call that is stopped, every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/queue.h"
#include "edgeinfer/several_servers.h"

#include <math.h>

enum { TIMES = 5 };
static const ei_arrival poisson = {.kind = EI_ARRIVAL_POISSON, .parameter = {1}};

static void test_one_server(void) {
    const ei_service service = {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.6};
    const size_t servers = 1;
    const double times[TIMES] = {-1, 0.3, 1, 4, INFINITY};
    double deadlines[TIMES], lower[TIMES], upper[TIMES];
    ei_md1 exact;
    for (int i = 0; i < TIMES; i++)
        deadlines[i] = times[i] + service.time;
    CHECK(ei_several_servers_upper(&service, &servers, 1, &poisson, TIMES, deadlines, upper, quiet) == EI_OK);
    CHECK(ei_several_servers_wait_lower(service.time, 1, &poisson, TIMES, times, lower, quiet) == EI_OK);
    CHECK(upper[0] == 1 && lower[0] == 1 && upper[TIMES - 1] == 0 && lower[TIMES - 1] == 0);
    CHECK(ei_md1_init(&exact, 1, service.time, 5) == EI_OK);
    for (int i = 1; i < TIMES - 1; i++) {
        double truth = ei_md1_waiting_sf(&exact, times[i]);
        CHECK(lower[i] <= truth * (1 + 1e-9) && truth <= upper[i] * (1 + 1e-9));
        /* A step of the lattice is 46 / 8192 decay times. */
        CHECK(upper[i] < 1.02 * lower[i]);
    }
    ei_md1_free(&exact);
}

/* Jobs come to three servers of 0.85 s no faster than every 0.3 s, and so never wait there. */
static void test_kept_from_waiting(void) {
    const ei_service stages[] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = 0.3},
                                 {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.85}};
    const size_t servers[] = {1, 3};
    const double alone[] = {0.5, 1.3}, both[] = {1.35, 2.15};
    double first[2], all[2];
    CHECK(ei_several_servers_upper(stages, servers, 1, &poisson, 2, alone, first, quiet) == EI_OK);
    CHECK(ei_several_servers_upper(stages, servers, 2, &poisson, 2, both, all, quiet) == EI_OK);
    for (int i = 0; i < 2; i++)
        CHECK_RELATIVE(all[i], first[i], 0.01);
}

static void test_edges(const ei_service *link) {
    const ei_service service = {.kind = EI_SERVICE_DETERMINISTIC, .time = 2.5};
    const size_t none = 0, two = 2, three = 3;
    const double deadline = 9;
    double end;
    int polled = 0;
    CHECK(ei_several_servers_upper(&service, &none, 1, &poisson, 1, &deadline, &end, quiet) == EI_ERR_DOMAIN);
    CHECK(ei_several_servers_upper(link, &two, 1, &poisson, 1, &deadline, &end, quiet) == EI_ERR_DOMAIN);
    CHECK(ei_several_servers_wait_lower(0, 2, &poisson, 1, &deadline, &end, quiet) == EI_ERR_DOMAIN);
    CHECK(ei_several_servers_wait_lower(1, 0, &poisson, 1, &deadline, &end, quiet) == EI_ERR_DOMAIN);
    /* Too slow, and an interarrival time whose sums are of no kind. */
    CHECK(ei_several_servers_upper(&service, &two, 1, &poisson, 1, &deadline, &end, quiet) == EI_OK &&
          end == 1);
    CHECK(ei_several_servers_wait_lower(2.5, 2, &poisson, 1, &deadline, &end, quiet) == EI_OK);
    CHECK(end >= 0 && end <= 1);
    const ei_arrival mixed = {.kind = EI_ARRIVAL_HYPEREXPONENTIAL, .parameter = {0.5, 0.8, 1.5}};
    CHECK(ei_several_servers_upper(&service, &three, 1, &mixed, 1, &deadline, &end, quiet) == EI_OK &&
          end == 1);
    CHECK(ei_several_servers_wait_lower(2.5, 3, &mixed, 1, &deadline, &end, quiet) == EI_OK && end == 0);
    CHECK(ei_several_servers_upper(&service, &three, 1, &poisson, 1, &deadline, &end,
                                   (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED);
    CHECK(polled > 0);
}

static int call(const ei_service *stages, size_t count) {
    const size_t servers[] = {2, 1, 1};
    const double deadlines[] = {1, 3};
    double upper[2];
    return ei_several_servers_upper(stages, servers + (count == 1), count, &poisson, 2, deadlines, upper,
                                    quiet);
}

static int call_lower(const ei_service *stages, size_t count) {
    const double time = 0.1;
    double lower;
    (void)count;
    return ei_several_servers_wait_lower(stages[0].time, 2, &poisson, 1, &time, &lower, quiet);
}

int main(void) {
    ei_transfer *law;
    ei_service stages[3];
    make_link(stages, &law);
    test_one_server();
    test_kept_from_waiting();
    test_edges(&stages[1]);
    check_bad_stages(call);
    sweep_allocations(call, "several_servers", stages, 3);
    sweep_allocations(call_lower, "several_servers_lower", stages, 3);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
