/* Simulation of tandems: wrong inputs, interruption, every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/compound.h"
#include "edgeinfer/tandem.h"

#include <math.h>
#include <string.h>

static const uint64_t entropy[4] = {1, 2, 3, 4};

static int run_tandem(const ei_service *stages, size_t count, uint64_t jobs, ei_monitor monitor) {
    double violations[9], waiting[9], busy[9], elapsed[3], deadline = 3;
    ei_tandem model = {.stages = stages,
                       .stage_count = count,
                       .arrival = {EI_ARRIVAL_POISSON, {1, 0, 0}},
                       .deadlines = &deadline,
                       .deadline_count = 1,
                       .jobs = jobs,
                       .replications = 3,
                       .batches = 1,
                       .threads = 2};
    memcpy(model.entropy, entropy, sizeof entropy);
    ei_tandem_result result = {violations, waiting, busy, elapsed, NULL};
    return ei_tandem_run(&model, &result, monitor);
}

static int call_tandem(const ei_service *stages, size_t count) {
    return run_tandem(stages, count, 100, quiet);
}

static void test_interruption(const ei_service *stages, size_t count) {
    int polled = 0;
    CHECK(run_tandem(stages, count, 100000000, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED);
    CHECK(polled >= 1);
}

/* Delays move the sojourn times behind them, deadlines that move along count the same jobs, and no queue
 * feels them; a negative one is refused. Times that are sums of powers of two, so that nothing rounds. */
static void test_delays(void) {
    const ei_service stages[2] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = 0.5},
                                  {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.25}};
    const double delays[2] = {2, 4}, wrong[2] = {0, -1}, deadlines[4] = {1, 3, 1, 7};
    double violations[8], waiting[2], busy[2], elapsed;
    ei_tandem model = {.stages = stages,
                       .stage_count = 2,
                       .arrival = {EI_ARRIVAL_POISSON, {1, 0, 0}},
                       .deadlines = deadlines,
                       .deadline_count = 2,
                       .jobs = 1000,
                       .replications = 1,
                       .batches = 1,
                       .threads = 1};
    memcpy(model.entropy, entropy, sizeof entropy);
    ei_tandem_result result = {violations, waiting, busy, &elapsed, NULL};
    CHECK(ei_tandem_run(&model, &result, quiet) == EI_OK);
    const double first = violations[0], last = violations[1], waited = waiting[0] + waiting[1];
    CHECK(first > 0 && last > first);
    model.delays = delays;
    model.deadlines = deadlines + 1;
    model.deadline_count = 1;
    CHECK(ei_tandem_run(&model, &result, quiet) == EI_OK);
    CHECK(fabs(violations[0] - first) <= 2 && fabs(waiting[0] + waiting[1] - waited) < 1e-9);
    model.deadlines = deadlines + 3;
    CHECK(ei_tandem_run(&model, &result, quiet) == EI_OK);
    CHECK(fabs(violations[1] - last) <= 2 && violations[0] < first);
    model.serial = 1;
    CHECK(ei_tandem_run(&model, &result, quiet) == EI_ERR_UNSTABLE);
    model.serial = 0;
    model.delays = wrong;
    CHECK(ei_tandem_run(&model, &result, quiet) == EI_ERR_DOMAIN);
}

/* Nodes with a fork of one branch, a review that all need and a delay of no time change no bit; each width
 * gives the same bits of a program with all kinds of nodes; programs that are not well formed are refused. */
static void test_nodes(const ei_service *given) {
    const double rounds[] = {0, 0.5, 0.5};
    ei_compound *law;
    CHECK(ei_compound_new(&law, given, 3, rounds, 3, quiet) == EI_OK);
    const ei_service stages[] = {given[0],
                                 given[1],
                                 {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.2},
                                 {.kind = EI_SERVICE_COMPOUND, .compound = law}};
    const ei_node all[] = {{.kind = EI_NODE_DELAY, .service = 1},
                           {.kind = EI_NODE_SERVER, .service = 0},
                           {.kind = EI_NODE_FORK, .count = 3, .needed = 2},
                           {.kind = EI_NODE_BRANCH, .count = 2},
                           {.kind = EI_NODE_SERVER, .service = 2},
                           {.kind = EI_NODE_SERVER, .service = 0},
                           {.kind = EI_NODE_BRANCH, .count = 1},
                           {.kind = EI_NODE_SERVER, .service = 3},
                           {.kind = EI_NODE_BRANCH, .count = 1},
                           {.kind = EI_NODE_FORK, .count = 1, .needed = 1},
                           {.kind = EI_NODE_BRANCH, .count = 1},
                           {.kind = EI_NODE_SERVER, .service = 1},
                           {.kind = EI_NODE_SERVERS, .service = 0, .count = 3},
                           {.kind = EI_NODE_REVIEW, .service = 2, .probability = 0.3},
                           {.kind = EI_NODE_DELAY, .service = 2}};
    enum { NODES = sizeof all / sizeof *all, WIDTH = 6 };
    double violations[2][3 * WIDTH], waiting[2][3 * WIDTH], busy[2][3 * WIDTH], elapsed[2][3], deadline = 1;
    ei_tandem model = {.stages = stages,
                       .stage_count = 4,
                       .nodes = all,
                       .node_count = NODES,
                       .arrival = {EI_ARRIVAL_POISSON, {0.6, 0, 0}},
                       .deadlines = &deadline,
                       .deadline_count = 1,
                       .jobs = 500,
                       .replications = 3,
                       .batches = 1,
                       .threads = 1};
    memcpy(model.entropy, entropy, sizeof entropy);
    CHECK(ei_tandem_width(&model) == WIDTH);
    int first = 1;
    for (int width = 2; width <= 8; width *= 2) {
        ei_tandem_result result = {violations[!first], waiting[!first], busy[!first], elapsed[!first], NULL};
        model.width = width;
        int status = ei_tandem_run(&model, &result, quiet);
        CHECK(status == EI_OK || (width > 2 && status == EI_ERR_DOMAIN));
        if (status == EI_OK && !first)
            CHECK(memcmp(violations[0], violations[1], sizeof *violations) == 0 &&
                  memcmp(waiting[0], waiting[1], sizeof *waiting) == 0 &&
                  memcmp(busy[0], busy[1], sizeof *busy) == 0);
        first = 0;
    }
    for (int i = 0; i < 3 * WIDTH; i++)
        CHECK(waiting[0][i] >= -1e-9 && busy[0][i] > 0);
    model.width = 0;
    ei_compound_free(law);
}

/* A fork of one branch is its stages; programs that are not well formed are refused. */
static void test_wrong_nodes(const ei_service *stages) {
    double violations[2][6], waiting[2][6], busy[2][6], elapsed[2][3], deadline = 1;
    ei_tandem model = {.stages = stages,
                       .stage_count = 2,
                       .arrival = {EI_ARRIVAL_POISSON, {0.6, 0, 0}},
                       .deadlines = &deadline,
                       .deadline_count = 1,
                       .jobs = 500,
                       .replications = 3,
                       .batches = 1,
                       .threads = 1};
    memcpy(model.entropy, entropy, sizeof entropy);
    const ei_node one[] = {{.kind = EI_NODE_SERVER, .service = 0},
                           {.kind = EI_NODE_FORK, .count = 1, .needed = 1},
                           {.kind = EI_NODE_BRANCH, .count = 1},
                           {.kind = EI_NODE_SERVER, .service = 1}};
    ei_tandem_result plain = {violations[0], waiting[0], busy[0], elapsed[0], NULL},
                     forked = {violations[1], waiting[1], busy[1], elapsed[1], NULL};
    model.nodes = one;
    model.node_count = 4;
    CHECK(ei_tandem_width(&model) == 2 && ei_tandem_run(&model, &forked, quiet) == EI_OK);
    model.nodes = NULL;
    CHECK(ei_tandem_run(&model, &plain, quiet) == EI_OK);
    CHECK(memcmp(violations[0], violations[1], 6 * sizeof **violations) == 0);
    /* One of several is one. */
    ei_node several[4];
    memcpy(several, one, sizeof one);
    several[0] = (ei_node){.kind = EI_NODE_SERVERS, .service = 0, .count = 1};
    model.nodes = several;
    model.node_count = 4;
    CHECK(ei_tandem_run(&model, &forked, quiet) == EI_OK);
    for (int i = 0; i < 6; i++)
        CHECK(violations[0][i] == violations[1][i] && fabs(waiting[0][i] - waiting[1][i]) < 1e-9);
    /* More needed than there are, a service that is not there, no branch, no servers, several of a random
     * service, a chance above 1, too short, serial. */
    ei_node wrong[4];
    for (int i = 0; i < 6; i++) {
        memcpy(wrong, one, sizeof one);
        if (i == 0)
            wrong[1].needed = 2;
        else if (i == 1)
            wrong[3].service = 4;
        else if (i == 2)
            wrong[2].kind = EI_NODE_SERVER;
        else if (i == 3)
            wrong[0].kind = EI_NODE_SERVERS;
        else if (i == 4)
            wrong[3] = (ei_node){.kind = EI_NODE_SERVERS, .service = 1, .count = 2};
        else
            wrong[0] = (ei_node){.kind = EI_NODE_REVIEW, .service = 0, .probability = 1.5};
        model.nodes = wrong;
        model.node_count = 4;
        CHECK(ei_tandem_run(&model, &forked, quiet) == EI_ERR_DOMAIN);
    }
    model.nodes = one;
    model.node_count = 3;
    CHECK(ei_tandem_width(&model) == 0 && ei_tandem_run(&model, &forked, quiet) == EI_ERR_DOMAIN);
    model.node_count = 4;
    model.serial = 1;
    CHECK(ei_tandem_run(&model, &forked, quiet) == EI_ERR_DOMAIN);
}

int main(void) {
    ei_transfer *law;
    ei_service stages[3];
    make_link(stages, &law);
    test_delays();
    test_nodes(stages);
    test_wrong_nodes(stages);
    check_bad_stages(call_tandem);
    sweep_allocations(call_tandem, "tandem", stages, 3);
    test_interruption(stages, 3);
    ei_transfer_free(law);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
