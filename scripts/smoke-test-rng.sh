#!/bin/sh
# One-off smoke test of the random streams: words of sixteen neighbouring streams in turn, as the simulator uses them, through
# dieharder's tests (Debian: apt-get install dieharder). Takes about ten minutes; every line should say PASSED, and with some 60
# tests one or two WEAK (p < 0.005) are what a good generator gives. Run it after a change of csrc/edgeinfer/rng.h.
set -eu
cd "$(dirname "$0")/.."
mkdir -p build
cat >build/stream.c <<'C'
#include "edgeinfer/rng.h"
#include <stdio.h>

int main(void) {
    enum { STREAMS = 16, ROWS = 512 };
    static const uint64_t entropy[4] = {20261124, 1, 2, 3};
    static uint64_t words[ROWS][STREAMS];
    ei_rng streams[STREAMS];
    for (uint64_t k = 0; k < STREAMS; k++)
        ei_rng_init(&streams[k], entropy, k);
    for (;;) {
        for (int j = 0; j < ROWS; j++)
            for (int k = 0; k < STREAMS; k++)
                words[j][k] = ei_rng_next(&streams[k]);
        if (fwrite(words, sizeof words, 1, stdout) != 1)
            return 0;
    }
}
C
"${CC:-gcc}" -std=c11 -O2 -Icsrc build/stream.c csrc/edgeinfer/rng.c -o build/stream
for test in ${TESTS:-0 1 2 3 4 8 9 10 11 12 13 15 16 100 101 102 200 201 202 203 204 205 206 207 208 209}; do
    build/stream | dieharder -g 200 -d "$test" | grep -v '^#\|^ *test_name\|rng_name'
done
