/* The cell: one wrong input at a time, every allocation failing in turn, interruption, a queue that grows,
 * the same bits on any number of threads, the heap. */
#include "check.h"
#include "failing_malloc.h"
#include "sweep.h"

#include "edgeinfer/cell.h"
#include "edgeinfer/heap.h"
#include "edgeinfer/rng.h"

#include <stdlib.h>
#include <string.h>

static const ei_monitor quiet = {NULL, NULL};
static const double deadlines[] = {0.5, 2};

/* Uplink, one of two nodes, downlink, device; the device alone where a node is full; and a class of its own.
 */
static const ei_cell_stage route[] = {
    {.place = EI_PLACE_BAND, .server = 0, .service = 4}, {.place = EI_PLACE_NODE, .server = 0, .service = 0},
    {.place = EI_PLACE_BAND, .server = 1, .service = 5}, {.place = EI_PLACE_DELAY, .server = 0, .service = 2},
    {.place = EI_PLACE_OWN, .server = 0, .service = 2},  {.place = EI_PLACE_OWN, .server = 0, .service = 3}};
static const ei_cell_stage plain[] = {{.place = EI_PLACE_OWN, .server = 0, .service = 2},
                                      {.place = EI_PLACE_NODE, .server = 0, .service = 0}};
static const ei_cell_class classes[] = {{.count = 4,
                                         .arrival = {EI_ARRIVAL_POISSON, {0.4, 0, 0}},
                                         .stages = route,
                                         .stage_count = 5,
                                         .fallback_count = 1,
                                         .server_count = 1,
                                         .weight = 1,
                                         .deadline = 3},
                                        {.count = 2,
                                         .arrival = {EI_ARRIVAL_DETERMINISTIC, {0.3, 0, 0}},
                                         .stages = plain,
                                         .stage_count = 2,
                                         .server_count = 1,
                                         .weight = 2,
                                         .deadline = INFINITY}};
static const ei_cell_node nodes[] = {
    {.servers = 2,
     .scheduler = EI_NODE_EDF,
     .batch_limit = 2,
     .batch_wait = 0.1,
     .batch_fixed = 0.05,
     .capacity = 4},
    {.servers = 1, .scheduler = EI_NODE_PROCESSOR_SHARING, .batch_limit = 1}};
static const ei_cell_band bands[] = {{EI_BAND_PROPORTIONAL_FAIR, 0.05, 20}, {EI_BAND_EQUAL_SHARE, 0.05, 20}};

static ei_cell example(const ei_service *services, size_t count) {
    return (ei_cell){.classes = classes,
                     .class_count = 2,
                     .services = services,
                     .service_count = count,
                     .nodes = nodes,
                     .node_count = 2,
                     .bands = bands,
                     .band_count = 2,
                     .assignment = EI_ASSIGN_RANDOM,
                     .deadlines = deadlines,
                     .deadline_count = 2,
                     .warmup = 5,
                     .duration = 400,
                     .batches = 3,
                     .replications = 3,
                     .entropy = {1, 2, 3, 4},
                     .threads = 2};
}

enum { MOST = 4096 };
typedef struct {
    double rows[MOST], classes[MOST], nodes[MOST], bands[MOST], fairness[MOST];
    uint64_t histogram[16 * EI_CELL_BINS];
} sums;

static int run(const ei_cell *cell, sums *into, ei_monitor monitor) {
    memset(into, 0, sizeof *into);
    const ei_cell_result result = {into->rows,  into->classes,  into->nodes,
                                   into->bands, into->fairness, into->histogram};
    return ei_cell_run(cell, &result, monitor);
}

static sums first, second;

static int call_cell(const ei_service *services, size_t count) {
    const ei_cell cell = example(services, count);
    return run(&cell, &first, quiet);
}

/* The bits of `first` in vectors of every width that there is. */
static void check_widths(ei_cell cell) {
    for (cell.width = 2; cell.width <= 8; cell.width *= 2) {
        int status = run(&cell, &second, quiet);
        CHECK(status == EI_OK || (cell.width > 2 && status == EI_ERR_DOMAIN));
        CHECK(status != EI_OK || memcmp(&first, &second, sizeof first) == 0);
    }
    cell.width = 3;
    CHECK(run(&cell, &second, quiet) == EI_ERR_DOMAIN);
}

static void test_threads(const ei_service *services, size_t count) {
    ei_cell cell = example(services, count);
    const double width = (double)ei_cell_rows(&cell);
    CHECK(width == 10);
    CHECK(run(&cell, &first, quiet) == EI_OK);
    for (size_t threads = 1; threads <= 7; threads += 3) {
        cell.threads = threads;
        CHECK(run(&cell, &second, quiet) == EI_OK);
        CHECK(memcmp(&first, &second, sizeof first) == 0);
    }
    check_widths(cell);
    /* What comes is answered, but for what is under way: requests of class 0 in all batches. */
    double offered = 0, answered = 0;
    for (size_t b = 0; b < 9; b++) {
        offered += first.classes[b * 2 * (EI_CLASS_SUMS + 2) + EI_CLASS_OFFERED];
        answered += first.rows[(b * 10 + 6) * (EI_SUMS + 2) + EI_SUM_JOBS];
    }
    CHECK(offered > 1500 && fabs(answered / offered - 1) < 0.02);
}

static void test_wrong_cells(const ei_service *services, size_t count) {
    const ei_cell good = example(services, count);
    ei_cell cell = good;
    cell.class_count = 0;
    CHECK(run(&cell, &first, quiet) == EI_ERR_EMPTY);
    cell = good, cell.replications = 0;
    CHECK(run(&cell, &first, quiet) == EI_ERR_EMPTY);
    const double wrong[] = {-1, NAN, INFINITY};
    for (int i = 0; i < 3; i++) {
        cell = good, cell.warmup = wrong[i];
        CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
        cell = good, cell.duration = wrong[i];
        CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
    }
    cell = good, cell.band_count = 1; /* a stage names the other */
    CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
    cell = good, cell.service_count = 1;
    CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
    ei_cell_node node[2] = {nodes[0], nodes[1]};
    node[1].batch_limit = 2; /* with processor sharing */
    cell = good, cell.nodes = node;
    CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
    ei_cell_class class[2] = {classes[0], classes[1]};
    class[1].weight = 0;
    cell = good, cell.classes = class;
    CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
    class[1] = classes[1], class[1].server_count = 0;
    CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
    const uint32_t nearest[] = {0, 2};
    class[1] = classes[1], class[1].nearest = nearest;
    CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
}

static int stop(void *context) {
    return ++*(int *)context > 3;
}

static void test_endings(const ei_service *services, size_t count) {
    ei_cell cell = example(services, count);
    int polled = 0;
    cell.duration = 1e9;
    cell.threads = 1;
    CHECK(run(&cell, &first, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED && polled == 4);
    ei_cell_class heavy = classes[1];
    heavy.arrival.parameter[0] = 100;
    ei_cell_node fifo = {.servers = 2, .scheduler = EI_NODE_FIFO, .batch_limit = 1};
    cell = example(services, count);
    cell.classes = &heavy, cell.class_count = 1, cell.nodes = &fifo, cell.node_count = 1, cell.band_count = 0;
    cell.duration = 1e9;
    heavy.stages = plain + 1, heavy.stage_count = 1;
    CHECK(run(&cell, &first, quiet) == EI_ERR_UNSTABLE);
}

/* A fork of a server and of a review with a delay behind it, passed again by half of the requests, before a
 * node that a third of them pass by; a channel behind it. */
static const ei_cell_part parts[] = {{.kind = EI_NODE_FORK, .count = 2, .needed = 2},
                                     {.kind = EI_NODE_BRANCH, .count = 1},
                                     {.kind = EI_NODE_SERVER, .server = 0, .service = 0},
                                     {.kind = EI_NODE_BRANCH, .count = 2},
                                     {.kind = EI_NODE_REVIEW, .server = 1, .service = 3, .probability = 0.25},
                                     {.kind = EI_NODE_DELAY, .service = 2}};
static const ei_cell_stage composed[] = {{.place = EI_PLACE_PARTS, .parts = parts, .part_count = 6},
                                         {.place = EI_PLACE_NODE, .service = 0, .skip = 1.0 / 3},
                                         {.place = EI_PLACE_OWN, .server = 2, .service = 6, .latency = 0.5}};
static const double rounds[] = {0.5, 0.5}, right[] = {1, 0};
static const double channel_rates[] = {1e6, 4e6, 2e6};

static ei_cell composed_example(const ei_service *services, const ei_cell_class *class) {
    ei_cell cell = example(services, 7);
    cell.classes = class, cell.class_count = 1;
    cell.nodes = nodes, cell.node_count = 1, cell.band_count = 0;
    cell.assignment = EI_ASSIGN_NEAREST;
    return cell;
}

static ei_cell_class composed_class(void) {
    return (ei_cell_class){.count = 3,
                           .arrival = {EI_ARRIVAL_POISSON, {0.5, 0, 0}},
                           .stages = composed,
                           .stage_count = 3,
                           .server_count = 3,
                           .weight = 1,
                           .deadline = 3,
                           .rounds = rounds,
                           .right = right,
                           .round_count = 2,
                           .loop_first = 0,
                           .loop_last = 1};
}

static int call_composed(const ei_service *services, size_t count) {
    (void)count;
    const ei_cell_class class = composed_class();
    const ei_cell cell = composed_example(services, &class);
    return run(&cell, &first, quiet);
}

static void test_composed(const ei_service *services) {
    ei_cell_class class = composed_class();
    ei_cell cell = composed_example(services, &class);
    cell.duration = 4000;
    CHECK(run(&cell, &first, quiet) == EI_OK);
    cell.threads = 5;
    CHECK(run(&cell, &second, quiet) == EI_OK);
    CHECK(memcmp(&first, &second, sizeof first) == 0);
    double answered = 0, left = 0, in_time = 0, late = 0;
    for (size_t b = 0; b < 9; b++) {
        const double *row = first.rows + (b * 4 + 3) * (EI_SUMS + 2);
        answered += row[EI_SUM_JOBS];
        late += row[EI_SUMS];
        left += first.rows[b * 4 * (EI_SUMS + 2) + EI_SUM_JOBS];
        in_time += first.classes[b * (EI_CLASS_SUMS + 2) + EI_CLASS_SUMS + 1];
    }
    /* Each counts once, whatever its rounds; latency alone is 0.5 s; half of the answers are right. */
    CHECK(answered > 15000 && fabs(left / answered - 1) < 0.01 && late == answered);
    CHECK(in_time / answered > 0.1 && in_time / answered < 0.5);
}

static void test_wrong_parts(const ei_service *services) {
    ei_cell_part wrong[6];
    ei_cell_stage stages[3];
    ei_cell_class class = composed_class();
    const ei_cell cell = composed_example(services, &class);
    memcpy(stages, composed, sizeof stages);
    class.stages = stages;
    stages[0].parts = wrong;
    for (int i = 0; i < 9; i++) {
        memcpy(wrong, parts, sizeof wrong);
        stages[0].part_count = 6;
        switch (i) {
        case 0:
            wrong[0].needed = 3;
            break;
        case 1:
            wrong[0].count = 0;
            break;
        case 2:
            wrong[1].kind = EI_NODE_SERVER;
            break;
        case 3:
            wrong[2].server = 3;
            break;
        case 4:
            wrong[2].service = 6;
            break; /* the channel */
        case 5:
            wrong[4].probability = 1.5;
            break;
        case 6:
            wrong[5].kind = EI_NODE_SERVER;
            break; /* behind the review */
        case 7:
            stages[0].part_count = 5;
            break;
        default:
            wrong[3].count = 1;
            break;
        }
        CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
    }
    memcpy(wrong, parts, sizeof wrong);
    stages[0].part_count = 6;
    CHECK(run(&cell, &first, quiet) == EI_OK);
    class.loop_last = 3;
    CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
    class = composed_class(), class.right = channel_rates;
    CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
    class = composed_class(), class.rounds = right + 1, class.round_count = 1;
    CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
    class = composed_class(), class.stages = stages, stages[2].latency = -1;
    CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
    stages[2].latency = 0, stages[1].skip = 2;
    CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
    stages[1] = (ei_cell_stage){.place = EI_PLACE_DELAY, .service = 6};
    CHECK(run(&cell, &first, quiet) == EI_ERR_DOMAIN);
}

/* Cells without events: all kinds of own stages, out of order before the node and behind it; and a class of
 * periodic requests at the same nodes. */
static const ei_cell_stage ahead[] = {{.place = EI_PLACE_PARTS, .parts = parts, .part_count = 6},
                                      {.place = EI_PLACE_OWN, .server = 2, .service = 4, .latency = 0.5},
                                      {.place = EI_PLACE_NODE, .service = 0},
                                      {.place = EI_PLACE_DELAY, .service = 3},
                                      {.place = EI_PLACE_OWN, .server = 3, .service = 2}};
static const uint32_t near[] = {1, 0};
static const ei_cell_class forward_classes[] = {{.count = 5,
                                                 .arrival = {EI_ARRIVAL_POISSON, {0.2, 0, 0}},
                                                 .stages = ahead,
                                                 .stage_count = 5,
                                                 .server_count = 4,
                                                 .weight = 1},
                                                {.count = 3,
                                                 .arrival = {EI_ARRIVAL_POISSON, {0.1, 0, 0}},
                                                 .stages = plain,
                                                 .stage_count = 2,
                                                 .server_count = 1,
                                                 .weight = 1},
                                                {.count = 2,
                                                 .arrival = {EI_ARRIVAL_DETERMINISTIC, {0.3, 0, 0}},
                                                 .stages = plain,
                                                 .stage_count = 2,
                                                 .server_count = 1,
                                                 .weight = 1,
                                                 .nearest = near}};
static const ei_cell_node simple[] = {{.servers = 1, .scheduler = EI_NODE_FIFO, .batch_limit = 1},
                                      {.servers = 1, .scheduler = EI_NODE_FIFO, .batch_limit = 1}};

/* Services: the first four of all, and the channel. */
static ei_cell forward_example(const ei_service *services, size_t class_count) {
    ei_cell cell = example(services, 5);
    cell.classes = forward_classes, cell.class_count = class_count;
    cell.nodes = simple, cell.node_count = class_count == 3 ? 2 : 1, cell.band_count = 0;
    cell.assignment = EI_ASSIGN_NEAREST;
    return cell;
}

static int call_forward(const ei_service *services, size_t count) {
    const ei_cell cell = forward_example(services, count);
    return run(&cell, &first, quiet);
}

static void test_forward(const ei_service *services) {
    for (size_t count = 1; count <= 3; count++) {
        ei_cell cell = forward_example(services, count);
        cell.duration = 4000;
        CHECK(run(&cell, &first, quiet) == EI_OK);
        for (size_t threads = 1; threads <= 7; threads += 3) {
            cell.threads = threads;
            CHECK(run(&cell, &second, quiet) == EI_OK && memcmp(&first, &second, sizeof first) == 0);
        }
        check_widths(cell);
        /* Requests pass each stage once; the servers work as long as services take. */
        const size_t rows = ei_cell_rows(&cell);
        double offered = 0, jobs[5] = {0}, busy = 0, node_busy = 0, histogram = 0;
        for (size_t b = 0; b < 9; b++) {
            const double *row = first.rows + b * rows * (EI_SUMS + 2);
            offered += first.classes[b * count * (EI_CLASS_SUMS + 2) + EI_CLASS_OFFERED];
            for (size_t k = 0; k < 5; k++)
                jobs[k] += row[k * (EI_SUMS + 2) + EI_SUM_JOBS];
            for (size_t k = 2, c = 0; c < count; k = 7 + 3 * c++)
                busy += row[k * (EI_SUMS + 2) + EI_SUM_BUSY];
            for (size_t i = 0; i < cell.node_count; i++)
                node_busy += first.nodes[(b * cell.node_count + i) * EI_NODE_SUMS + EI_NODE_BUSY];
        }
        for (size_t i = 0; i < EI_CELL_BINS; i++)
            histogram += (double)first.histogram[4 * EI_CELL_BINS + i];
        CHECK(fabs(offered / 12000 - 1) < 0.05 && histogram == jobs[4]); /* 5 standard deviations */
        for (size_t k = 0; k < 5; k++)
            CHECK(fabs(jobs[k] / offered - 1) < 0.005);
        CHECK(node_busy > 0 && fabs(busy / node_busy - 1) < 1e-9);
    }
    ei_cell cell = forward_example(services, 3);
    int polled = 0;
    cell.duration = 1e9, cell.threads = 1;
    CHECK(run(&cell, &first, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED && polled == 4);
    cell.class_count = 1, cell.node_count = 1, polled = 0;
    CHECK(run(&cell, &first, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED && polled == 4);
    /* More on their way than there may be. */
    const ei_service slow[] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = 1e9}};
    const ei_cell_stage late[] = {{.place = EI_PLACE_DELAY}, {.place = EI_PLACE_NODE}};
    ei_cell_class class = classes[1];
    class.stages = late;
    cell.classes = &class, cell.services = slow, cell.service_count = 1;
    CHECK(run(&cell, &first, quiet) == EI_ERR_UNSTABLE);
}

static void test_heap(void) {
    ei_heap heap = {.entries = NULL};
    ei_rng rng;
    ei_rng_init(&rng, (const uint64_t[]){1, 2, 3, 4}, 0);
    for (uint64_t i = 0; i < 500; i++)
        CHECK(ei_heap_push(&heap, floor(20 * ei_rng_uniform(&rng)), i, i) == EI_OK);
    for (uint64_t i = 500; i < 1000; i++)
        ei_heap_replace(&heap, heap.entries[0].key + floor(20 * ei_rng_uniform(&rng)), i, i);
    ei_heap_entry last = {-1, 0, 0};
    for (int i = 0; i < 500; i++) {
        ei_heap_entry next = ei_heap_pop(&heap);
        CHECK(!ei_heap_before(&next, &last));
        last = next;
    }
    CHECK(heap.count == 0 && isinf(ei_heap_first(&heap)));
    ei_heap_free(&heap);
}

int main(void) {
    static const double samples[] = {0.1, 0.3};
    ei_transfer *laws[2];
    CHECK(ei_transfer_new(&laws[0], 1e6, 1e7, 1.5, 0.05, quiet) == EI_OK);
    CHECK(ei_transfer_new(&laws[1], 1.5e6, 1e7, 2.5, 0.05, quiet) == EI_OK);
    const ei_service services[] = {
        {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.3},
        {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.2},
        {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 2},
        {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5},
        {.kind = EI_SERVICE_TRANSFER, .transfer = laws[0]},
        {.kind = EI_SERVICE_TRANSFER, .transfer = laws[1]},
        {.kind = EI_SERVICE_CHANNEL,
         .bits = 5e5,
         .channel = {.rates = channel_rates, .count = 3, .slot = 0.1, .offset = NAN, .mean_rate = 7e6 / 3}}};
    test_heap();
    test_threads(services, 6);
    test_wrong_cells(services, 6);
    test_endings(services, 6);
    test_composed(services);
    const ei_service few[] = {services[0], services[1], services[2], services[3], services[6]};
    test_forward(few);
    test_wrong_parts(services);
    sweep_allocations(call_cell, "cell", services, 6);
    sweep_allocations(call_composed, "composed", services, 7);
    sweep_allocations(call_forward, "forward", few, 1);
    sweep_allocations(call_forward, "windows", few, 3);
    ei_transfer_free(laws[0]);
    ei_transfer_free(laws[1]);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
