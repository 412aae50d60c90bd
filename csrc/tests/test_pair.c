/* Two stages followed at once: against exponential sojourn times, wrong inputs, every allocation failing. */
#include "check.h"
#include "failing_malloc.h"

#include "edgeinfer/pair.h"

static const ei_monitor quiet = {NULL, NULL};
static const ei_lattice none = {.sf = NULL};

static int stop(void *context) {
    (void)context;
    return 1;
}

static ei_pair exponential_pair(const ei_service *slow, size_t phases) {
    return (ei_pair){.arrival_rate = 1,
                     .decay = 1 / slow->time - 1,
                     .horizon = 30 / (1 / slow->time - 1),
                     .phases = phases,
                     .bottleneck = {slow, 0, 0},
                     .between = &none,
                     .ahead = &none,
                     .monitor = quiet};
}

/* Reich: the sum of two independent exponential times, whichever stage comes first. */
static void test_exponential_tandem(void) {
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5},
                     fast = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.4};
    const ei_added_stage other = {&fast, 0, 0};
    const double a = 1 / slow.time - 1, b = 1 / fast.time - 1;
    for (int behind = 0; behind < 2; behind++) {
        ei_pair pair = exponential_pair(&slow, EI_PAIR_PHASES);
        ei_lattice law;
        if (behind)
            pair.behind = &other;
        else
            pair.before = &other;
        CHECK(ei_pair_lower(&law, &pair) == EI_OK);
        for (double time = 0; time < 20; time += 0.61) {
            double exact = (b * exp(-a * time) - a * exp(-b * time)) / (b - a),
                   value = ei_lattice_lower(&law, time);
            CHECK(value <= exact && value >= (behind ? 0.82 : 0.68) * exact);
        }
        ei_lattice_free(&law);
    }
}

/* Alone it is M/M/1, and with a stage that is passed where the path ends a sum or more. */
static void test_one_stage(void) {
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.6};
    double passed[] = {1, 1, 0};
    const ei_lattice ahead = {0.25, 3, passed};
    ei_pair pair = exponential_pair(&slow, 2);
    ei_lattice law;
    CHECK(ei_pair_lower(&law, &pair) == EI_OK);
    for (double time = 0; time < 20; time += 0.61) {
        double exact = exp(-pair.decay * time), value = ei_lattice_lower(&law, time);
        CHECK(value <= exact && value >= 0.97 * exact);
    }
    ei_lattice_free(&law);
    pair.ahead = &ahead; /* 0.25 s */
    CHECK(ei_pair_lower(&law, &pair) == EI_OK);
    for (double time = 0; time < 20; time += 0.61) {
        double exact = fmin(exp(-pair.decay * (time - 0.25)), 1), value = ei_lattice_lower(&law, time);
        CHECK(value <= exact && value >= 0.96 * exact);
    }
    ei_lattice_free(&law);
}

static void test_failures(void) {
    static const double samples[] = {0.2, 0.3, 0.5};
    const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.3},
                     measured = {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 3};
    const ei_added_stage before = {&measured, 0, 0}, behind = {NULL, 0, 0.2};
    ei_pair pair = exponential_pair(&slow, 2);
    ei_lattice law;
    long alive = failing_malloc_alive(), k = 1;
    pair.before = &before;
    pair.behind = &behind;
    for (; k < 200; k++) {
        failing_malloc_arm(k);
        int status = ei_pair_lower(&law, &pair), fired = failing_malloc_fired();
        failing_malloc_arm(0);
        ei_lattice_free(&law);
        CHECK(failing_malloc_alive() == alive);
        CHECK(status == (fired ? EI_ERR_NO_MEMORY : EI_OK));
        if (!fired)
            break;
    }
    CHECK(k > 10 && k < 200);
    pair.monitor = (ei_monitor){stop, NULL};
    CHECK(ei_pair_lower(&law, &pair) == EI_ERR_INTERRUPTED);
    pair = exponential_pair(&slow, 1);
    CHECK(ei_pair_lower(&law, &pair) == EI_ERR_DOMAIN);
    pair.phases = EI_PAIR_PHASES + 1;
    CHECK(ei_pair_lower(&law, &pair) == EI_ERR_DOMAIN);
    pair.phases = 2;
    pair.horizon = 0;
    CHECK(ei_pair_lower(&law, &pair) == EI_ERR_DOMAIN);
    CHECK(failing_malloc_alive() == alive);
}

int main(void) {
    test_exponential_tandem();
    test_one_stage();
    test_failures();
    return check_report();
}
