/* The allocations of a call failing in turn, each of the first and ever fewer of those that follow, which are
 * the same ones again: no leak, and EI_ERR_NO_MEMORY or the full answer. */
#ifndef EDGEINFER_SWEEP_H
#define EDGEINFER_SWEEP_H

#include "check.h"
#include "failing_malloc.h"

#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

enum { SWEEP_ALL = 12 };

typedef int (*sweep_call)(const ei_service *stages, size_t count);

static inline void sweep_allocations(sweep_call target, const char *name, const ei_service *stages,
                                     size_t count) {
    long before = failing_malloc_alive(), k = 1;
    for (; k < 2000; k += 1 + k / SWEEP_ALL) {
        failing_malloc_arm(k);
        int status = target(stages, count);
        int fired = failing_malloc_fired();
        failing_malloc_arm(0);
        CHECK(failing_malloc_alive() == before);
        if (!fired) {
            CHECK(status == EI_OK);
            break;
        }
        /* Threads that cannot be had are done without. */
        CHECK(status == EI_ERR_NO_MEMORY || status == EI_OK);
    }
    if (k == 1 || k == 2000)
        fprintf(stderr, "%s: %ld allocations\n", name, k);
    CHECK(k > 1 && k < 2000);
}

#endif
