/* The loops over lanes in vectors of 256 bits. */
#include "edgeinfer/multiversion.h"

#ifdef EI_INSTRUCTION_SETS
/* Before all else, so that what is inlined has the same target. */
#pragma GCC target("avx2,bmi,bmi2")

#define EI_WIDTH 4
#define EI_LANE_LOOPS ei_lane_loops_avx2
#include "edgeinfer/lane_loops.inc"

#endif
