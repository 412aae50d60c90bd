/* Three exponential servers and more behind renewal arrivals: Poisson ones, where the law is a sum of
 * exponential times; requests that never meet; a last stage of next to no time, where the law is that of two;
 * equal and nearly equal rates; what there are no ends for; more than three at once, and each allocation
 * failing in turn. */
#include "inputs.h"

#include "edgeinfer/chain_parts.h"
#include "edgeinfer/exponentials.h"
#include "edgeinfer/two_exponentials.h"

enum { DEADLINES = 6 };
static const double deadlines[DEADLINES] = {0.5, 1, 4, 10, 15, 25};
static const ei_arrival poisson = {.kind = EI_ARRIVAL_POISSON, .parameter = {1}},
                        periodic = {.kind = EI_ARRIVAL_DETERMINISTIC, .parameter = {1}},
                        erlang = {.kind = EI_ARRIVAL_ERLANG, .parameter = {1, 4}},
                        gamma = {.kind = EI_ARRIVAL_GAMMA, .parameter = {1, 5}},
                        bursty = {.kind = EI_ARRIVAL_HYPEREXPONENTIAL, .parameter = {0.9, 1.8, 0.2}};

static void find(const double *times, size_t count, const ei_arrival *arrival, ei_exponentials ends[2]) {
    for (int end = EI_LOWER; end <= EI_UPPER; end++)
        CHECK(ei_exponentials_init(&ends[end], (ei_end)end, times, count, arrival) == EI_OK);
}

static void check_around(const ei_exponentials ends[2], double time, double exact, double width) {
    const double lower = ei_exponentials_sf(&ends[EI_LOWER], time),
                 upper = ei_exponentials_sf(&ends[EI_UPPER], time);
    CHECK(lower <= exact * (1 + 1e-12) && exact <= upper * (1 + 1e-12) && upper <= width * lower);
}

/* P(Erlang time > time). */
static double erlang_sf(size_t count, double rate, double time) {
    double term = exp(-rate * time), sum = 0;
    for (size_t k = 0; k < count; k++) {
        sum += term;
        term *= rate * time / (double)(k + 1);
    }
    return sum;
}

/* Independent sojourn times of rates 1 / time - 1. */
static void test_poisson(void) {
    static const double apart[] = {0.9, 0.85, 0.8}, equal[] = {0.8, 0.8, 0.8};
    ei_exponentials ends[2];
    find(equal, 3, &poisson, ends);
    for (double time = 0; time < 100; time += 9)
        check_around(ends, time, erlang_sf(3, 0.25, time), 1 + 1e-6);
    find(apart, 3, &poisson, ends);
    for (double time = 0; time < 200; time += 9) {
        double exact = 0;
        for (int i = 0; i < 3; i++) {
            double weight = 1;
            for (int j = 0; j < 3; j++)
                if (j != i)
                    weight *= (1 / apart[j] - 1) / (1 / apart[j] - 1 / apart[i]);
            exact += weight * exp(-(1 / apart[i] - 1) * time);
        }
        check_around(ends, time, exact, 1 + 1e-6);
    }
}

/* Of services of 0.01 s every second a request meets another in e^{-100} of cases. */
static void test_alone(void) {
    double times[EI_EXPONENTIALS];
    for (size_t count = 3; count <= EI_EXPONENTIALS; count++) {
        ei_exponentials ends[2];
        for (size_t i = 0; i < count; i++)
            times[i] = 0.01;
        find(times, count, &periodic, ends);
        for (double time = 0; time < 0.3; time += 0.03)
            check_around(ends, time, erlang_sf(count, 100, time), count < 6 ? 1 + 1e-6 : 1.01);
    }
}

/* No more than three, and what two take, within the time of the third. */
static void test_beside_two(void) {
    const ei_arrival *arrivals[] = {&periodic, &erlang, &gamma, &bursty};
    static const double pairs[][2] = {{0.9, 0.9}, {0.6, 0.62}};
    for (int a = 0; a < 4; a++)
        for (int p = 0; p < 2; p++) {
            const ei_service one = {.kind = EI_SERVICE_EXPONENTIAL, .time = pairs[p][0]},
                             other = {.kind = EI_SERVICE_EXPONENTIAL, .time = pairs[p][1]};
            const double three[] = {pairs[p][0], pairs[p][1], 1e-9}, near[] = {pairs[p][0], pairs[p][1], 0.6};
            ei_exponentials ends[2], more[2];
            ei_two_exponentials two[2];
            find(near, 3, arrivals[a], more);
            for (int end = EI_LOWER; end <= EI_UPPER; end++)
                CHECK(ei_two_exponentials_init(&two[end], (ei_end)end, &one, &other, arrivals[a]) == EI_OK);
            if (a == 0)
                find(three, 3, arrivals[a], ends);
            for (double time = 0; time < 300; time += 20) {
                const double low = ei_two_exponentials_sf(&two[EI_LOWER], time),
                             high = ei_two_exponentials_sf(&two[EI_UPPER], time);
                CHECK(low <= ei_exponentials_sf(&more[EI_UPPER], time) &&
                      ei_exponentials_sf(&more[EI_LOWER], time) <= ei_exponentials_sf(&more[EI_UPPER], time));
                if (a == 0)
                    CHECK(ei_exponentials_sf(&ends[EI_LOWER], time) <= high * (1 + 1e-7) &&
                          low * (1 - 1e-7) <= ei_exponentials_sf(&ends[EI_UPPER], time));
            }
        }
}

/* Rates that come nearer to each other, in any order; lower ends fall. */
static void test_nearly_equal(void) {
    const ei_arrival *arrivals[] = {&periodic, &erlang, &gamma, &bursty};
    for (int a = 0; a < 4; a++) {
        const double same[] = {0.7, 0.7, 0.7};
        ei_exponentials equal[2], ends[2], turned[2];
        find(same, 3, arrivals[a], equal);
        for (double less = 1e-2; less > 1e-16; less /= 10) {
            const double times[] = {0.7, 0.7 * (1 - less), 0.7 * (1 - less / 3)},
                         order[] = {times[1], times[2], times[0]};
            double last[2] = {1, 1};
            find(times, 3, arrivals[a], ends);
            find(order, 3, arrivals[a], turned);
            for (double time = 0; time < 300; time += 7)
                for (int end = EI_LOWER; end <= EI_UPPER; end++) {
                    const double value = ei_exponentials_sf(&ends[end], time),
                                 limit = ei_exponentials_sf(&equal[end], time);
                    CHECK(value <= last[end] * (1 + 1e-9) && value == ei_exponentials_sf(&turned[end], time));
                    last[end] = value;
                    /* Services are shorter by `less` at most, or by what counts as equal. */
                    if (limit > 1e-30)
                        CHECK_RELATIVE(value, limit, 3e-3 + 3 * (less + 1e-5) * (1 + time));
                }
        }
    }
}

/* A time between arrivals later: of Poisson and of periodic ones exactly, of bursty ones by a sum over it. */
static void test_behind(void) {
    static const double times[] = {0.9, 0.85, 0.8};
    ei_exponentials ends[2];
    for (double time = 0; time < 200; time += 40) {
        double exact = 0, least = 0, most = 0;
        for (int i = 0; i < 3; i++) {
            const double decay = 1 / times[i] - 1;
            double weight = exp(-decay * time) / (1 + decay);
            for (int j = 0; j < 3; j++)
                if (j != i)
                    weight *= (1 / times[j] - 1) / (1 / times[j] - 1 / times[i]);
            exact += weight;
        }
        find(times, 3, &poisson, ends);
        const double lower = ei_exponentials_behind(&ends[EI_LOWER], &poisson, time);
        CHECK(lower <= exact && exact <= lower * (1 + 1e-6));
        find(times, 3, &periodic, ends);
        CHECK_RELATIVE(ei_exponentials_behind(&ends[EI_LOWER], &periodic, time),
                       ei_exponentials_sf(&ends[EI_LOWER], time + 1), 1e-9);
        find(times, 3, &bursty, ends);
        for (double t = 0.005; t < 60; t += 0.01) {
            const double share = 0.01 * (0.9 * 1.8 * exp(-1.8 * t) + 0.1 * 0.2 * exp(-0.2 * t));
            least += share * ei_exponentials_sf(&ends[EI_LOWER], time + t);
            most += share * ei_exponentials_sf(&ends[EI_UPPER], time + t);
        }
        const double behind = ei_exponentials_behind(&ends[EI_LOWER], &bursty, time);
        CHECK(behind <= most * (1 + 1e-3) && (time < 100 || behind >= 0.9 * least));
    }
}

static void test_none(void) {
    static const double nine[] = {0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5};
    ei_exponentials ends[2];
    CHECK(ei_exponentials_init(ends, EI_UPPER, nine, 9, &periodic) == EI_ERR_ACCURACY);
    CHECK(ei_exponentials_init(ends, EI_UPPER, nine, 2, &periodic) == EI_ERR_ACCURACY);
    CHECK(ei_exponentials_init(ends, EI_UPPER, nine, 4, &gamma) == EI_ERR_ACCURACY);
    find(nine, 8, &periodic, ends);
    for (int end = EI_LOWER; end <= EI_UPPER; end++)
        CHECK(ei_exponentials_sf(&ends[end], -1) == 1);
    CHECK(ei_exponentials_sf(&ends[EI_LOWER], 1e6) == 0 && ei_exponentials_sf(&ends[EI_UPPER], 1e6) > 0);
}

/* Ends of four equal stages, which those of any three are below, and of three before a constant one. */
static int call_chain(const ei_service *stages, size_t count, double lower[DEADLINES],
                      double upper[DEADLINES]) {
    size_t index[DEADLINES];
    uint8_t methods[2 * DEADLINES];
    ei_batch batch = make_batch(erlang, DEADLINES, deadlines, lower, upper, index, methods);
    ei_chain chain;
    batch.horizon = 60;
    int status = ei_chain_init(&chain, &batch, stages, count);
    if (status == EI_OK)
        status = ei_chain_geometric_ends(&chain);
    ei_chain_free(&chain);
    return status;
}

static void test_chains(void) {
    const ei_service one = {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.6},
                     constant = {.kind = EI_SERVICE_DETERMINISTIC, .time = 0.3};
    const ei_service chains[][4] = {{one, one, one, one}, {one, one, one, constant}};
    static const double times[] = {0.6, 0.6, 0.6};
    const long alive = failing_malloc_alive();
    ei_exponentials three[2];
    find(times, 3, &erlang, three);
    for (int c = 0; c < 2; c++) {
        double lower[DEADLINES], upper[DEADLINES];
        CHECK(call_chain(chains[c], 4, lower, upper) == EI_OK);
        for (int i = 0; i < DEADLINES; i++) {
            const double least = ei_exponentials_sf(&three[EI_LOWER], deadlines[i] - (c == 1 ? 0.3 : 0));
            CHECK(lower[i] <= upper[i] && upper[i] >= least * (1 - 1e-9) && lower[i] >= 0.9 * least);
            CHECK(deadlines[i] < 10 || upper[i] <= 60 * lower[i]);
        }
        int status = EI_ERR_NO_MEMORY;
        for (long k = 1; status != EI_OK && k < 1000; k += k < 20 ? 1 : 61) {
            failing_malloc_arm(k);
            status = call_chain(chains[c], 4, lower, upper);
            failing_malloc_arm(0);
            CHECK(status == EI_OK || status == EI_ERR_NO_MEMORY);
        }
        CHECK(status == EI_OK && failing_malloc_alive() == alive);
    }
}

int main(void) {
    test_poisson();
    test_alone();
    test_beside_two();
    test_nearly_equal();
    test_behind();
    test_none();
    test_chains();
    return check_report();
}
