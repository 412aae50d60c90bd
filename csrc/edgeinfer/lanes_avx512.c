/* The loops over lanes in vectors of 512 bits. */
#include "edgeinfer/multiversion.h"

#ifdef EI_INSTRUCTION_SETS
/* Before all else, so that what is inlined has the same target. */
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx512cd")

#define EI_WIDTH 8
#define EI_LANE_LOOPS ei_lane_loops_avx512
#include "edgeinfer/lane_loops.inc"

#endif
