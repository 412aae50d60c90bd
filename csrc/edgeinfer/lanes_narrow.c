/* The loops over lanes in vectors of 128 bits: SSE2, NEON. */
#define EI_WIDTH 2
#define EI_LANE_LOOPS ei_lane_loops_narrow
#include "edgeinfer/lane_loops.inc"
