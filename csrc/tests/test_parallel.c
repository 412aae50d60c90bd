/* Tasks over threads: each once, errors and interruption end a run, no memory for threads. */
#include "inputs.h"

#include "edgeinfer/parallel.h"

#include <stdlib.h>

enum { TASKS = 1000 };

typedef struct {
    atomic_int times[TASKS];
    size_t failing; /* this task returns an error */
    int endless;    /* tasks wait until they are told to stop */
} work;

static int task(void *context, size_t index, ei_parallel *run) {
    work *self = context;
    atomic_fetch_add(&self->times[index], 1);
    while (self->endless && !ei_parallel_stopped(run))
        continue;
    return index == self->failing ? EI_ERR_ACCURACY : EI_OK;
}

static void test_each_once(void) {
    static const size_t threads[] = {0, 1, 2, 7, 2 * TASKS};
    for (int i = 0; i < 5; i++) {
        static const work fresh = {.failing = TASKS};
        static work all;
        all = fresh;
        size_t count = i < 4 ? TASKS : 3;
        CHECK(ei_parallel_for(task, &all, count, threads[i], quiet) == EI_OK);
        int once = 1;
        for (size_t k = 0; k < TASKS; k++)
            once &= atomic_load(&all.times[k]) == (k < count);
        CHECK(once);
    }
    CHECK(ei_parallel_for(task, NULL, 0, 4, quiet) == EI_OK);
}

/* Alone, the tasks after the one that fails are not begun; beside others, those that have begun end. */
static void test_errors(void) {
    for (size_t threads = 1; threads <= 3; threads++) {
        work *all = calloc(1, sizeof *all);
        all->failing = 10;
        CHECK(ei_parallel_for(task, all, TASKS, threads, quiet) == EI_ERR_ACCURACY);
        CHECK(atomic_load(&all->times[10]) == 1);
        if (threads == 1)
            CHECK(atomic_load(&all->times[11]) == 0);
        free(all);
    }
}

static void test_interruption(void) {
    for (size_t threads = 1; threads <= 3; threads++) {
        work *all = calloc(1, sizeof *all);
        int polled = 0;
        all->failing = TASKS;
        all->endless = 1;
        CHECK(ei_parallel_for(task, all, TASKS, threads, (ei_monitor){stop, &polled}) == EI_ERR_INTERRUPTED);
        CHECK(polled >= 1);
        int begun = 0;
        for (int k = 0; k < TASKS; k++)
            begun += atomic_load(&all->times[k]);
        CHECK(begun >= 1 && (size_t)begun <= threads);
        free(all);
    }
}

static int short_task(void *context, size_t index, ei_parallel *run) {
    (void)context;
    (void)index;
    (void)run;
    return EI_OK;
}

/* More tasks than would ever end, of which none asks. */
static void test_interruption_between_tasks(void) {
    for (size_t threads = 1; threads <= 3; threads++) {
        int polled = 0;
        CHECK(ei_parallel_for(short_task, NULL, SIZE_MAX / 2, threads, (ei_monitor){stop, &polled}) ==
              EI_ERR_INTERRUPTED);
        CHECK(polled >= 1);
    }
}

static int call(const ei_service *stages, size_t count) {
    (void)stages;
    (void)count;
    static work all;
    all.failing = TASKS;
    return ei_parallel_for(task, &all, TASKS, 3, quiet);
}

int main(void) {
    test_each_once();
    test_errors();
    test_interruption();
    test_interruption_between_tasks();
    sweep_allocations(call, "parallel", NULL, 0);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
