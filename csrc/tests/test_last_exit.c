/* A constant stage behind one of five service times, of tenths of the interval between requests: the law of
 * the time in both by its Markov chain, R and Z after each request, R' = max(R - 10, 0) + X, Z' = max(R', Z -
 * f). */
#include "failing_malloc.h"
#include "inputs.h"

#include "edgeinfer/last_exit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { INTERVAL = 10, SERVICES = 5, STATES = 120, ROUNDS = 500, SHOWN = 80 };

typedef struct {
    int time[SERVICES]; /* of the random stage, rising */
    int constant;
    double horizon; /* intervals: 55 decay times */
} tandem;

/* sf[STATES]: P(Z > z). */
static void follow(const tandem *self, double *sf) {
    double *here = calloc(2 * STATES * STATES, sizeof *here), *next = here + STATES * STATES;
    const int fall = INTERVAL - self->constant;
    here[self->time[0] * STATES + self->time[0]] = 1;
    for (int round = 0; round < ROUNDS; round++) {
        memset(next, 0, STATES * STATES * sizeof *next);
        for (int r = 0; r < STATES; r++)
            for (int z = r; z < STATES; z++) {
                const double mass = here[r * STATES + z];
                for (int x = 0; x < SERVICES && mass > 0; x++) {
                    int later = (r > INTERVAL ? r - INTERVAL : 0) + self->time[x],
                        longest = z - fall > later ? z - fall : later;
                    later = later < STATES - 1 ? later : STATES - 1;
                    longest = longest < STATES - 1 ? longest : STATES - 1;
                    next[later * STATES + longest] += mass / SERVICES;
                }
            }
        memcpy(here, next, STATES * STATES * sizeof *here);
    }
    memset(sf, 0, STATES * sizeof *sf);
    for (int r = 0; r < STATES; r++)
        for (int z = 0; z < STATES; z++)
            for (int x = 0; x < z; x++)
                sf[x] += here[r * STATES + z];
    free(here);
}

static int call(const tandem *self, ei_monitor monitor, ei_upper_law *above, ei_lattice *below) {
    double samples[SERVICES];
    for (int i = 0; i < SERVICES; i++)
        samples[i] = self->time[i] / (double)INTERVAL;
    const ei_service service = {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = SERVICES};
    const ei_added_stage random = {.law = &service};
    const ei_upper_law none = {.decay = 0};
    const ei_last_exit given = {.random = &random,
                                .before = &none,
                                .interval = 1,
                                .time = self->constant / (double)INTERVAL,
                                .horizon = self->horizon,
                                .monitor = monitor};
    int status = ei_last_exit_upper(above, &given);
    if (status == EI_OK)
        status = ei_last_exit_lower(below, &given);
    return status;
}

static void test_exact(void) {
    static const tandem all[] = {{{3, 5, 7, 10, 12}, 9, 9},
                                 {{3, 5, 7, 10, 12}, 8, 9},
                                 {{6, 8, 9, 10, 12}, 6, 11},
                                 {{4, 7, 8, 9, 13}, 9, 14}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        double sf[STATES];
        ei_upper_law above = {.decay = 0};
        ei_lattice below = {.sf = NULL};
        follow(&all[i], sf);
        CHECK(call(&all[i], quiet, &above, &below) == EI_OK);
        for (int z = all[i].time[SERVICES - 1]; z < SHOWN && sf[z] > 1e-11; z += 4) {
            /* Between two of the times that there are. */
            const double time = (z + 0.5) / INTERVAL, high = ei_upper_law_sf(&above, time),
                         low = ei_lattice_lower(&below, time);
            CHECK(low <= sf[z] * (1 + 1e-9) && sf[z] <= high * (1 + 1e-9));
            CHECK(high <= 1.01 * sf[z] && low >= sf[z] * (1 - 1.1 * sf[z]) / 1.01);
        }
        ei_upper_law_free(&above);
        ei_lattice_free(&below);
    }
}

static void test_failures(void) {
    static const tandem self = {{3, 5, 7, 10, 12}, 6, 9};
    const long alive = failing_malloc_alive();
    int status = EI_ERR_NO_MEMORY, polls = 0;
    ei_upper_law above = {.decay = 0};
    ei_lattice below = {.sf = NULL};
    for (long k = 1; status != EI_OK && k < 300; k += 1 + k / 8) {
        failing_malloc_arm(k);
        status = call(&self, quiet, &above, &below);
        failing_malloc_arm(0);
        CHECK(status == EI_OK || status == EI_ERR_NO_MEMORY);
        ei_upper_law_free(&above);
        ei_lattice_free(&below);
        CHECK(failing_malloc_alive() == alive);
    }
    CHECK(status == EI_OK);
    CHECK(call(&self, (ei_monitor){stop, &polls}, &above, &below) == EI_ERR_INTERRUPTED);
    ei_upper_law_free(&above);
    ei_lattice_free(&below);
    CHECK(failing_malloc_alive() == alive);
}

int main(void) {
    test_exact();
    test_failures();
    return check_report();
}
