/* The factor by which a chain whose slowest stage comes last is bounded, against its closed form behind
 * Poisson arrivals, in the four ways to write these; every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/exchange.h"
#include "edgeinfer/lindley.h"

#include <stdlib.h>

enum { COUNT = 2048, FEW = 128 };

static const double rate = 0.5, rates[] = {0.5, 0.5}, generator[] = {-0.1, 0.1, 0.3, -0.3},
                    stationary[] = {0.75, 0.25};
static const ei_arrival arrivals[] = {
    {.kind = EI_ARRIVAL_HYPEREXPONENTIAL, .parameter = {0.3, 0.5, 0.5}},
    {.kind = EI_ARRIVAL_GAMMA, .parameter = {0.5, 1}},
    {.kind = EI_ARRIVAL_MARKOV_MODULATED,
     .count = 2,
     .rates = rates,
     .generator = generator,
     .stationary = stationary},
    {.kind = EI_ARRIVAL_POISSON, .parameter = {0.5}},
};
static const ei_service slow = {.kind = EI_SERVICE_EXPONENTIAL, .time = 1.2},
                        quick = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.6};
static const ei_added_stage last = {&slow, 0, 0, 0},
                            stages[] = {{&quick, 0, 0, 0}, {NULL, 0, 0.8, 0}, {&slow, 0, 0, 0}};
static const double means[] = {0.6, 0.8, 1.2};

static int call(double *factor, const ei_added_stage *first, const ei_arrival *arrival, size_t count) {
    const ei_upper_law none = {.decay = 0};
    ei_upper_law v = {.decay = 0};
    int status = ei_add_stage_enclosed(&v, NULL, &none, &last, arrival, 120.0 / (double)count, count, quiet);
    if (status == EI_OK)
        status = ei_exchange_factor(factor, &v, first, 30, arrival, quiet);
    ei_upper_law_free(&v);
    return status;
}

/* Of the arrivals that `count` says. */
static int call_once(const ei_service *unused, size_t count) {
    double factor;
    (void)unused;
    return call(&factor, &stages[0], &arrivals[count], FEW);
}

int main(void) {
    for (size_t a = 0; a < 4; a++) {
        CHECK(ei_may_exchange(&arrivals[a]));
        /* A chance falls by rate times a step of each lattice, at most, where one is read late and one early;
         * renewal times have a further one between the points of e, and a last one that is rougher. */
        for (size_t s = 0; s < 3; s++) {
            const double exact = (1 - rate * means[s]) / (1 - rate * last.law->time);
            double factor = 0;
            CHECK(call(&factor, &stages[s], &arrivals[a], COUNT) == EI_OK);
            CHECK(factor >= exact);
            CHECK(factor <= exact * (1 + 3 * rate * (120.0 / COUNT + 30.0 / 1024)));
        }
        sweep_allocations(call_once, "a stage put first", NULL, a);
    }
    CHECK(!ei_may_exchange(&(ei_arrival){.kind = EI_ARRIVAL_ERLANG, .parameter = {1, 4}}));
    CHECK(!ei_may_exchange(&(ei_arrival){.kind = EI_ARRIVAL_GAMMA, .parameter = {1, 0.5}}));
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
