/* Streams over lanes equal scalar streams, and sampling gives the same bits in vectors of every width that
 * the processor has, against one digest. */
#include "check.h"

#include "edgeinfer/lanes.h"
#include "edgeinfer/sampler.h"
#include "edgeinfer/tandem.h"

#include <stdlib.h>

static const uint64_t entropy[4] = {1, 2, 3, 4};
static const ei_monitor quiet = {NULL, NULL};

static void test_lanes_are_streams(void) {
    enum { ROWS = EI_BLOCK + 7 };
    ei_row rows[ROWS];
    for (int width = 2; width <= 8; width *= 2) {
        const ei_lane_loops *loops = ei_lane_loops_of(width);
        if (loops == NULL)
            continue;
        ei_lanes lanes;
        ei_lanes_init(&lanes, entropy, 5);
        loops->rates(&lanes, (size_t)ROWS * EI_LANES, 1.26, 1, rows[0].lane);
        int equal = 1;
        for (int l = 0; l < EI_LANES; l++) {
            ei_rng rng;
            ei_rng_init(&rng, entropy, 5 + (uint64_t)l);
            for (int j = 0; j < ROWS; j++)
                equal &= rows[j].lane[l] == ei_sample_slot(1.26, &rng);
            ei_rng left = ei_lanes_take(&lanes, l);
            equal &= memcmp(&left, &rng, sizeof rng) == 0;
        }
        CHECK(equal);
    }
    CHECK(ei_lane_loops_of(2) != NULL && ei_lane_loops_of(0) != NULL && ei_lane_loops_of(3) == NULL);
}

/* A transfer drawn over lanes takes the slots that its stream has next, however the other lanes fare. */
static void test_transfers_are_streams(void) {
    enum { JOBS = 150, REPLICATIONS = 19 };
    ei_transfer *law;
    ei_sampler sampler;
    CHECK(ei_transfer_new(&law, 1.0486e6, 1e7, 1.26, 0.01, quiet) == EI_OK);
    ei_service link = {.kind = EI_SERVICE_TRANSFER, .transfer = law};
    CHECK(ei_sampler_init(&sampler, &link, EI_LINK_SLOTS) == EI_OK);
    double waiting[REPLICATIONS], busy[REPLICATIONS], elapsed[REPLICATIONS];
    ei_tandem model = {.stages = &link,
                       .stage_count = 1,
                       .arrival = {EI_ARRIVAL_DETERMINISTIC, {1}},
                       .jobs = JOBS,
                       .replications = REPLICATIONS,
                       .batches = 1,
                       .link = EI_LINK_SLOTS,
                       .entropy = {1, 2, 3, 4},
                       .threads = 1};
    CHECK(ei_tandem_run(&model, &(ei_tandem_result){NULL, waiting, busy, elapsed, NULL}, quiet) == EI_OK);
    for (uint64_t k = 0; k < REPLICATIONS; k++) {
        ei_rng rng;
        ei_rng_init(&rng, entropy, k);
        double sum = 0;
        for (int j = 0; j < JOBS; j++)
            sum += ei_sampler_draw(&sampler, &rng);
        CHECK_RELATIVE((waiting[k] + busy[k]) / JOBS, sum / JOBS, 1e-12); /* the order of the sum differs */
    }
    ei_sampler_free(&sampler);
    ei_transfer_free(law);
}

static uint64_t digest(uint64_t hash, const void *data, size_t size) {
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
    return hash;
}

static void test_the_same_bits_everywhere(int width) {
    if (ei_lane_loops_of(width) == NULL)
        return;
    enum { RATES = 1000, REPLICATIONS = 21, DEADLINES = 2, STAGES = 4 };
    static double rate[RATES], sojourn[REPLICATIONS * STAGES], waiting[REPLICATIONS * STAGES],
        busy[REPLICATIONS * STAGES], elapsed[REPLICATIONS], violations[REPLICATIONS * DEADLINES * STAGES];
    const double samples[] = {0.1, 0.2, 0.4}, deadlines[DEADLINES] = {1, 4};
    ei_transfer *law;
    CHECK(ei_transfer_new(&law, 1.0486e6, 1e7, 1.26, 0.01, quiet) == EI_OK);
    const ei_service stages[STAGES] = {{.kind = EI_SERVICE_DETERMINISTIC, .time = 0.6},
                                       {.kind = EI_SERVICE_TRANSFER, .transfer = law},
                                       {.kind = EI_SERVICE_EXPONENTIAL, .time = 0.05},
                                       {.kind = EI_SERVICE_SAMPLES, .samples = samples, .sample_count = 3}};
    uint64_t hash = 0xcbf29ce484222325u;
    ei_lanes streams;
    ei_lanes_init(&streams, entropy, 0);
    ei_lane_loops_of(width)->rates(&streams, RATES, 1.95, 1e7, rate);
    hash = digest(hash, rate, sizeof rate);
    for (int serial = 0; serial < 2; serial++)
        for (int wall = 0; wall < 2; wall++) {
            ei_tandem model = {.stages = stages,
                               .stage_count = STAGES,
                               .arrival = {EI_ARRIVAL_POISSON, {0.8}},
                               .deadlines = deadlines,
                               .deadline_count = DEADLINES,
                               .jobs = 300,
                               .warmup = 45,
                               .replications = REPLICATIONS,
                               .batches = 1,
                               .serial = serial,
                               .link = wall ? EI_LINK_WALL_CLOCK : EI_LINK_SLOTS,
                               .entropy = {1, 2, 3, 4},
                               .threads = 2,
                               .width = width};
            CHECK(ei_tandem_run(&model, &(ei_tandem_result){violations, waiting, busy, elapsed, NULL},
                                quiet) == EI_OK);
            for (int i = 0; i < REPLICATIONS; i++) {
                double sum = 0;
                for (int k = i * STAGES; k < (i + 1) * STAGES; k++) {
                    sum += waiting[k] + busy[k];
                    sojourn[k] = sum / 300;
                    waiting[k] /= 300;
                    busy[k] /= elapsed[i];
                }
            }
            for (int i = 0; i < REPLICATIONS * DEADLINES * STAGES; i++)
                violations[i] /= 300;
            hash = digest(hash, sojourn, sizeof sojourn);
            hash = digest(hash, violations, sizeof violations);
            hash = digest(hash, waiting, sizeof waiting);
            hash = digest(hash, busy, sizeof busy);
        }
    ei_transfer_free(law);
    /* A new value here means new random numbers for every user: say so in the commit. */
    CHECK(hash == 0xec9d41afc8098902u);
}

/* Every point of the table is the law's quantile, from 1/2 to 1e-15, as far as the time resolves it: to 2e-16
 * of a slot where the law changes within a millionth of it. Between points the probability is off by less
 * than half the 128th that they are apart, even where the law has a corner. */
static void test_table_is_the_quantile(void) {
    static const double carry[] = {1e-6, 1e-2, 1, 10}, mean_snr[] = {1e-2, 1, 1e2, 1e5};
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 4; b++) {
            if (carry[a] > 100 * mean_snr[b])
                continue;
            ei_transfer *law;
            ei_sampler sampler;
            CHECK(ei_transfer_new(&law, carry[a] * 1e5, 1e7, mean_snr[b], 0.01, quiet) == EI_OK);
            ei_service service = {.kind = EI_SERVICE_TRANSFER, .transfer = law};
            CHECK(ei_sampler_init(&sampler, &service, EI_LINK_TABLE) == EI_OK);
            double worst = 0, worst_between = 0;
            for (int upper = 0; upper < 2; upper++)
                for (int i = 4 * EI_QUANTILE_CELLS; i < EI_QUANTILE_TABLE - 1; i++) {
                    const double *point = sampler.quantile + 2 * (i + upper * EI_QUANTILE_TABLE);
                    double v[2], time[] = {point[0], point[0] + point[1] / 2};
                    for (int j = 0; j < 2; j++) {
                        v[j] = upper ? ei_transfer_sf(law, time[j]) : ei_transfer_cdf(law, time[j]);
                        v[j] /= ldexp(1 + (i % EI_QUANTILE_CELLS + j / 2.0) / EI_QUANTILE_CELLS,
                                      i / EI_QUANTILE_CELLS - EI_QUANTILE_OCTAVES - 1);
                    }
                    worst = fmax(worst, fabs(v[0] - 1));
                    worst_between = fmax(worst_between, fabs(v[1] - 1));
                }
            CHECK(worst < (carry[a] < 1e-3 ? 1e-5 : 1e-9));
            CHECK(worst_between < 0.5 / EI_QUANTILE_CELLS);
            ei_sampler_free(&sampler);
            ei_transfer_free(law);
        }
}

int main(void) {
    test_table_is_the_quantile();
    test_lanes_are_streams();
    test_transfers_are_streams();
    for (int width = 0; width <= 8; width += 2)
        test_the_same_bits_everywhere(width);
    return check_report();
}
