#include "edgeinfer/lanes.h"

#include "edgeinfer/multiversion.h"

void ei_lanes_init(ei_lanes *self, const uint64_t entropy[4], uint64_t first) {
    for (int l = 0; l < EI_LANES; l++) {
        ei_rng one;
        ei_rng_init(&one, entropy, first + (uint64_t)l);
        ei_lanes_put(self, l, &one);
    }
}

const ei_lane_loops *ei_lane_loops_of(int width) {
#ifdef EI_INSTRUCTION_SETS
    __builtin_cpu_init();
    if ((width == 0 || width == 8) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd"))
        return &ei_lane_loops_avx512;
    if ((width == 0 || width == 4) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("bmi2"))
        return &ei_lane_loops_avx2;
#endif
    return width == 0 || width == 2 ? &ei_lane_loops_narrow : NULL;
}
