/* Channels: what is refused, recorded rates followed by hand, and the law of the state after many slots. */
#include "inputs.h"

#include "edgeinfer/channel.h"

static const double rates[3] = {4, 0, 1};

static ei_channel recorded(double offset) {
    return (ei_channel){.rates = rates, .count = 3, .slot = 0.5, .offset = offset, .mean_rate = 5.0 / 3};
}

static void test_verify(void) {
    static const double start[3] = {0.5, 0.75, 1}, wrong[3] = {0.5, 0.25, 1}, short_law[3] = {0.5, 0.75, 0.9};
    static const double jumps[9] = {0.5, 0.75, 1, 0.5, 0.75, 1, 0.5, 0.75, 1}, none[3] = {0, 0, 0};
    ei_channel channel = recorded(NAN);
    CHECK(ei_channel_verify(&channel) == EI_OK);
    channel.start = start;
    CHECK(ei_channel_verify(&channel) == EI_ERR_DOMAIN);
    channel.jumps = jumps;
    channel.levels = 1;
    CHECK(ei_channel_verify(&channel) == EI_OK);
    channel.levels = EI_CHANNEL_LEVELS + 1;
    CHECK(ei_channel_verify(&channel) == EI_ERR_DOMAIN);
    channel.levels = 1;
    channel.start = wrong;
    CHECK(ei_channel_verify(&channel) == EI_ERR_DOMAIN);
    channel.start = short_law;
    CHECK(ei_channel_verify(&channel) == EI_ERR_DOMAIN);
    for (int j = 0; j < BAD; j++) {
        channel = recorded(NAN);
        channel.slot = bad[j];
        CHECK(ei_channel_verify(&channel) == EI_ERR_DOMAIN);
        channel = recorded(NAN);
        channel.mean_rate = bad[j];
        CHECK(ei_channel_verify(&channel) == EI_ERR_DOMAIN);
    }
    channel = recorded(-1);
    CHECK(ei_channel_verify(&channel) == EI_ERR_DOMAIN);
    channel = recorded(NAN);
    channel.rates = none;
    CHECK(ei_channel_verify(&channel) == EI_ERR_DOMAIN);
    channel.count = 0;
    CHECK(ei_channel_verify(&channel) == EI_ERR_EMPTY);
}

/* Half seconds that carry 2, 0 and 0.5 bits, over again; begun 1.25 s into the record. */
static void test_recorded(void) {
    const ei_channel channel = recorded(1.25 + 3 * 1.5);
    ei_rng rng;
    const uint64_t entropy[4] = {1, 2, 3, 4};
    ei_rng_init(&rng, entropy, 0);
    ei_wall_clock clock = ei_channel_start(&channel, &rng);
    CHECK(clock.state == 2 && clock.rate == 1 && clock.into == -0.25);
    /* 0.25 bits in what is left of the slot, 2 in the next, nothing in the next, 0.5 in the next. */
    CHECK_RELATIVE(ei_channel_serve(&channel, 0.125, 0, &clock, &rng), 0.125, 1e-15);
    CHECK_RELATIVE(ei_channel_serve(&channel, 0.125 + 1, 0.125, &clock, &rng), 0.125 + 0.25, 1e-15);
    CHECK_RELATIVE(ei_channel_serve(&channel, 1 + 0.25, 0.5, &clock, &rng), 0.25 + 0.5 + 0.25, 1e-15);
    CHECK(clock.state == 2 && clock.into == 1.25);
    /* Ends with its slot, though nothing is carried in the slot behind it. */
    CHECK_RELATIVE(ei_channel_serve(&channel, 2 + 0.25, 1.5, &clock, &rng), 0.75, 1e-15);
    /* Idle for 1000 periods. */
    CHECK_RELATIVE(ei_channel_serve(&channel, 0.25, 1.25 + 1500, &clock, &rng), 0.25, 1e-12);
    CHECK(clock.state == 2);
}

/* A state that is left for good odds: after 1, 2, 3, 5 slots and many, to five standard errors. */
static void test_jumps(void) {
    static const double start[2] = {0.25, 1}, two[2] = {1, 2};
    static const double jumps[4][2][2] = {{{0.7, 1}, {0.1, 1}},
                                          {{0.52, 1}, {0.16, 1}},
                                          {{0.3472, 1}, {0.2176, 1}},
                                          {{0.25 + 0.75 * 0.01679616, 1}, {0.25 - 0.25 * 0.01679616, 1}}};
    const ei_channel channel = {.rates = two,
                                .count = 2,
                                .start = start,
                                .jumps = &jumps[0][0][0],
                                .levels = 4,
                                .slot = 1,
                                .offset = NAN,
                                .mean_rate = 1.75};
    static const double slots[] = {1, 2, 3, 5, 15, 1e6};
    const uint64_t entropy[4] = {5, 6, 7, 8};
    ei_rng rng;
    ei_rng_init(&rng, entropy, 0);
    CHECK(ei_channel_verify(&channel) == EI_OK);
    for (int i = 0; i < 6; i++) {
        const int count = 40000;
        int stays = 0;
        for (int j = 0; j < count; j++) {
            ei_wall_clock clock = {.into = 0, .rate = 1, .state = 0};
            ei_channel_serve(&channel, 1e-3, slots[i] + 0.5, &clock, &rng);
            stays += clock.state == 0;
        }
        const double p = 0.25 + 0.75 * pow(0.6, slots[i]);
        CHECK(fabs(stays - count * p) < 5 * sqrt(count * p * (1 - p)));
    }
}

int main(void) {
    test_verify();
    test_recorded();
    test_jumps();
    return check_report();
}
