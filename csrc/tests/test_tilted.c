/* Stages behind a bottleneck by its tilted services, against sums of independent sojourn times; interruption,
 * every allocation failing in turn. */
#include "inputs.h"

#include "edgeinfer/exponentials.h"
#include "edgeinfer/lindley.h"
#include "edgeinfer/queue.h"
#include "edgeinfer/tilted.h"

#include <stdlib.h>
#include <string.h>

enum { POINTS = 3000, LEVELS = 512, FEW = 256, FINE = 16 };

static const ei_service bottleneck = {.kind = EI_SERVICE_EXPONENTIAL, .time = 1},
                        second = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.5},
                        third = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.7};
static const ei_added_stage random_stages[] = {{&second, 0, 0, 0}, {&third, 0, 0, 0}},
                            quicker_last[] = {{&third, 0, 0, 0}, {&second, 0, 0, 0}},
                            constant_stage[] = {{NULL, 0, 0.6, 0}};
static const double rate = 0.5, horizon = 40, reach = 120, furthest = 70;

/* Of an exponential bottleneck and `count` stages behind it; rounded: V on a lattice of first order. */
static int call(ei_upper_law *law, const ei_added_stage *rest, size_t count, int rounded, size_t points,
                size_t levels, ei_monitor monitor) {
    const ei_added_stage first = {&bottleneck, 0, 0, 0};
    const ei_arrival poisson = {.kind = EI_ARRIVAL_POISSON, .parameter = {rate}};
    const double decay = 1 / bottleneck.time - rate, step = reach / (double)points;
    ei_upper_law v, empty = {.decay = 0};
    ei_tilted given = {.v = &v,
                       .service = &bottleneck,
                       .arrival = &poisson,
                       .alone = !rounded,
                       .rest = rest,
                       .rest_count = count,
                       .tail = {.furthest = furthest},
                       .horizon = horizon,
                       .points = levels,
                       .monitor = monitor};
    double *least = malloc(points * sizeof *least);
    *law = empty;
    if (least == NULL)
        return EI_ERR_NO_MEMORY;
    /* More than the truth by two decay times. */
    for (size_t e = 0; e < EI_TAIL_ENDS && rounded; e++)
        given.tail.log_beyond[e] = fmin(4 - decay * ei_tail_end(&given.tail, e), 0);
    int status = rounded ? ei_add_stage_poisson(&v, &empty, &first, rate, step, points, monitor)
                         : ei_add_stage_enclosed(&v, least, &empty, &first, &poisson, step, points, monitor);
    if (status == EI_OK && rounded)
        memcpy(least, v.lattice.sf, points * sizeof *least);
    given.least = least;
    if (status == EI_OK)
        status = ei_tilted_exponent(&(ei_added_stage){&bottleneck, 0, 0, 0}, &poisson, decay, &given.theta);
    if (status == EI_OK)
        status = ei_tilted_law(law, &given);
    ei_upper_law_free(&v);
    free(least);
    return status;
}

/* The same behind phases that all have one rate, which are Poisson arrivals. */
static int call_behind_phases(ei_upper_law *law, const ei_service *service, size_t points, size_t levels) {
    static const double rates[] = {0.5, 0.5}, generator[] = {-0.1, 0.1, 0.3, -0.3},
                        stationary[] = {0.75, 0.25};
    const ei_arrival phases = {.kind = EI_ARRIVAL_MARKOV_MODULATED,
                               .count = 2,
                               .rates = rates,
                               .generator = generator,
                               .stationary = stationary};
    const ei_added_stage first = {service, 0, 0, 0};
    const double step = reach / (double)points, decay = 1 / bottleneck.time - rate;
    ei_upper_law v, empty = {.decay = 0};
    ei_tilted given = {.v = &v,
                       .service = service,
                       .arrival = &phases,
                       .rest = random_stages,
                       .rest_count = 1,
                       .tail = {.furthest = furthest, .log_of_phase = log(4)},
                       .horizon = horizon,
                       .points = levels,
                       .monitor = quiet};
    *law = empty;
    for (size_t e = 0; e < EI_TAIL_ENDS; e++)
        given.tail.log_beyond[e] = fmin(4 - decay * ei_tail_end(&given.tail, e), 0);
    int status = ei_add_stage_enclosed(&v, NULL, &empty, &first, &phases, step, points, quiet);
    if (status == EI_OK)
        status = ei_tilted_exponent(&(ei_added_stage){service, 0, 0, 0}, &phases, decay, &given.theta);
    if (status == EI_OK)
        status = ei_tilted_law(law, &given);
    ei_upper_law_free(&v);
    return status;
}

/* By Burke and Reich W is a sum of independent sojourn times: exponential ones, and that of M/D/1. From
 * below, FINE points a level. */
static void find_truth(ei_lattice *truth, const ei_added_stage *rest, size_t count) {
    ei_md1 waiting = {0};
    *truth = (ei_lattice){horizon / LEVELS / FINE, LEVELS * FINE + 1, NULL};
    truth->sf = calloc(truth->count, sizeof(double));
    CHECK(truth->sf != NULL);
    for (size_t k = 0; k < count; k++)
        if (rest[k].law == NULL) {
            CHECK(ei_md1_init(&waiting, rate, rest[k].again, horizon) == EI_OK);
            for (size_t j = 0; j < truth->count; j++)
                truth->sf[j] = ei_md1_waiting_sf(&waiting, (double)j * truth->step);
            ei_md1_free(&waiting);
        }
    for (size_t k = 0; k < count; k++)
        if (rest[k].law != NULL)
            ei_lattice_add_exponential(truth, 1 / rest[k].law->time - rate, EI_LOWER);
    ei_lattice_add_exponential(truth, 1 / bottleneck.time - rate, EI_LOWER);
}

/* Errors of the first order: a level h and two steps g of N_0, which is read early once and once late, each
 * of the truth times theta; D by (rate + theta) times V's step. With V rounded it decays at theta less some
 * (mu^2
 * + rate^2) / 2 times its step, up to the z that is best, 10 s further on; near 0 D
 * is looser. Two stages behind are no sum of
 * independent times for lindley.h: there the end is only above the truth. */
static void test_sums(const ei_added_stage *rest, size_t count, int rounded, size_t points) {
    const double mu = 1 / bottleneck.time, theta = mu - rate, step = reach / (double)points,
                 h = horizon / LEVELS;
    double g = 0;
    ei_upper_law law;
    ei_lattice truth;
    CHECK(call(&law, rest, count, rounded, points, LEVELS, quiet) == EI_OK);
    find_truth(&truth, rest, count);
    for (size_t k = 0; k < count; k++)
        g += rest[k].law != NULL ? ei_service_reach(rest[k].law) * 2 / LEVELS : 0;
    for (size_t j = 0; j <= LEVELS && law.lattice.sf != NULL; j++) {
        const double time = (double)j * h, exact = truth.sf[j * FINE];
        const double decay = rounded ? (mu * mu + rate * rate) / 2 * step : 0;
        CHECK(law.lattice.sf[j] >= exact);
        if (count == 1 && time > 5 && time < 35)
            CHECK(law.lattice.sf[j] <=
                  exact * exp(theta * (h + 2 * g) + (rate + theta) * step + decay * (time + 10)));
    }
    ei_lattice_free(&truth);
    ei_upper_law_free(&law);
}

/* The quicker stage behind the slower one: no more than with F of two runs of one stage. The tilted services
 * are exponential, so that P(W > x) of a stage fed by them, another one with probability kept, is e^{-s x},
 * M(s) kept rate / (rate + s) = 1: e^{theta W} has the mean s / (s - theta). */
static void test_runs(void) {
    const ei_added_stage *rest = quicker_last;
    const double mu = 1 / bottleneck.time, theta = mu - rate, step = reach / POINTS, h = horizon / LEVELS;
    double feed = mu - theta, transform = feed / (feed + theta), kept = 1, moments = 1, once = 1, g = 0;
    for (size_t k = 0; k < 2; k++) {
        const double one = 1 / rest[k].law->time, half = (one - feed) / 2,
                     s = half + sqrt(half * half + one * feed * (1 - kept));
        moments *= s / (s - theta);
        once *= one / (one - theta);
        kept = one / (one - theta) * transform;
        feed = one - theta;
        g += ei_service_reach(rest[k].law) * 2 / LEVELS;
    }
    ei_upper_law law;
    ei_lattice sum = {horizon / LEVELS / FINE, LEVELS * FINE + 1, calloc(LEVELS * FINE + 1, sizeof(double))};
    CHECK(sum.sf != NULL && call(&law, rest, 2, 0, POINTS, LEVELS, quiet) == EI_OK);
    ei_lattice_add_exponential(&sum, theta, EI_UPPER);
    for (size_t k = 0; k < 2; k++)
        ei_lattice_add_exponential(&sum, 1 / rest[k].law->time, EI_UPPER);
    for (size_t j = 0; j <= LEVELS && law.lattice.sf != NULL; j++) {
        const double time = (double)j * h, most = sum.sf[j * FINE] + (moments - once) * exp(-theta * time);
        if (time > 5 && time < 35)
            CHECK(law.lattice.sf[j] <= most * exp(theta * (h + 2 * g) + (rate + theta) * step));
    }
    ei_lattice_free(&sum);
    ei_upper_law_free(&law);
}

/* The bounds of `test_sums` and, between the points of V, its slope. */
static void test_phases(void) {
    const double mu = 1 / bottleneck.time, theta = mu - rate, step = reach / POINTS, h = horizon / LEVELS,
                 g = ei_service_reach(&second) * 2 / LEVELS;
    ei_upper_law law;
    ei_lattice truth;
    CHECK(call_behind_phases(&law, &bottleneck, POINTS, LEVELS) == EI_OK);
    find_truth(&truth, random_stages, 1);
    for (size_t j = 0; j <= LEVELS && law.lattice.sf != NULL; j++) {
        const double time = (double)j * h, exact = truth.sf[j * FINE];
        CHECK(law.lattice.sf[j] >= exact);
        if (time > 5 && time < 35)
            CHECK(law.lattice.sf[j] <= exact * exp(theta * (h + 2 * g) + (rate + theta) * 2 * step));
    }
    ei_lattice_free(&truth);
    ei_upper_law_free(&law);
}

/* Three exponential stages fed every second, of which the law is known. */
static void test_periodic(void) {
    static const double times[] = {0.7, 0.5, 0.3};
    const ei_service last = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.3};
    const ei_added_stage stages[] = {quicker_last[0], quicker_last[1], {&last, 0, 0, 0}};
    const ei_arrival periodic = {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {1}};
    ei_exponentials truth;
    ei_upper_law law;
    CHECK(ei_exponentials_init(&truth, EI_LOWER, times, 3, &periodic) == EI_OK);
    CHECK(ei_tilted_run(&law, stages, 3, 1, horizon, POINTS, quiet) == EI_OK);
    for (size_t j = 0; j < law.lattice.count && law.lattice.sf != NULL; j++) {
        const double time = (double)j * law.lattice.step, exact = ei_exponentials_sf(&truth, time);
        CHECK(law.lattice.sf[j] >= exact);
        if (time > 5 && time < 25)
            CHECK(law.lattice.sf[j] <= 1.25 * exact);
    }
    ei_upper_law_free(&law);
    CHECK(ei_tilted_run(&law, quicker_last, 2, 0.6, horizon, POINTS, quiet) == EI_ERR_UNSTABLE);
    CHECK(law.lattice.sf == NULL);
}

static int call_once(const ei_service *stages, size_t count) {
    ei_upper_law law;
    int status = count == 3       ? ei_tilted_run(&law, quicker_last, 2, 1, horizon, FEW, quiet)
                 : stages == NULL ? call(&law, quicker_last, 2, 0, FEW, FEW, quiet)
                 : count == 1     ? call(&law, constant_stage, 1, 1, 2 * FEW, FEW, quiet)
                                  : call_behind_phases(&law, stages, FEW, FEW);
    ei_upper_law_free(&law);
    return status;
}

int main(void) {
    ei_upper_law law;
    int polls = 0;
    for (int rounded = 0; rounded < 2; rounded++) {
        const size_t points = rounded ? 4 * POINTS : POINTS;
        test_sums(random_stages, 1, rounded, points);
        test_sums(random_stages, 2, rounded, points);
        test_sums(quicker_last, 2, rounded, points);
        test_sums(constant_stage, 1, rounded, points);
    }
    CHECK(call(&law, random_stages, 1, 0, POINTS, LEVELS, (ei_monitor){stop, &polls}) == EI_ERR_INTERRUPTED);
    CHECK(law.lattice.sf == NULL && polls == 1);
    sweep_allocations(call_once, "a tilted bottleneck", NULL, 0);
    sweep_allocations(call_once, "a tilted bottleneck, rounded", &bottleneck, 1);
    const double samples[] = {0.2, 0.9, 1.3, 1.4};
    const ei_service measured = {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 4};
    test_runs();
    test_periodic();
    sweep_allocations(call_once, "a run that is fed periodically", NULL, 3);
    test_phases();
    sweep_allocations(call_once, "a tilted bottleneck behind phases", &bottleneck, 2);
    sweep_allocations(call_once, "a tilted bottleneck that is measured behind phases", &measured, 2);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
