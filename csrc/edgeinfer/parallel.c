#define _GNU_SOURCE
#include "edgeinfer/parallel.h"

#include <pthread.h>
#include <stdlib.h>

struct ei_parallel {
    ei_task task;
    void *context;
    size_t count;
    atomic_size_t next;
    atomic_int status;
    pthread_t caller;
    ei_monitor monitor;
};

int ei_parallel_stopped(ei_parallel *run) {
    if (run->monitor.poll != NULL && pthread_equal(pthread_self(), run->caller) &&
        run->monitor.poll(run->monitor.context) != 0)
        atomic_store(&run->status, EI_ERR_INTERRUPTED);
    return atomic_load(&run->status) < 0;
}

static void *work(void *argument) {
    ei_parallel *run = argument;
    for (;;) {
        size_t index = atomic_fetch_add(&run->next, 1);
        if (index >= run->count || atomic_load(&run->status) < 0)
            return NULL;
        int status = run->task(run->context, index, run);
        int expected = EI_OK;
        if (status < 0)
            atomic_compare_exchange_strong(&run->status, &expected, status);
    }
}

int ei_parallel_for(ei_task task, void *context, size_t count, size_t threads, ei_monitor monitor) {
    ei_parallel run = {
        .task = task, .context = context, .count = count, .caller = pthread_self(), .monitor = monitor};
    atomic_init(&run.next, 0);
    atomic_init(&run.status, EI_OK);
    if (threads > count)
        threads = count;
    size_t started = 0, helpers = threads > 1 ? threads - 1 : 0;
    pthread_t *handles = NULL;
    if (helpers > 0) {
        handles = malloc(helpers * sizeof *handles);
        if (handles == NULL)
            return EI_ERR_NO_MEMORY;
        while (started < helpers && pthread_create(&handles[started], NULL, work, &run) == 0)
            started++;
    }
    work(&run);
    /* The caller's own tasks may end long before the others': it goes on polling. */
    for (size_t i = 0; i < started; i++) {
        while (monitor.poll != NULL && atomic_load(&run.status) == EI_OK) {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += 20000000;
            if (until.tv_nsec >= 1000000000) {
                until.tv_nsec -= 1000000000;
                until.tv_sec++;
            }
            if (pthread_timedjoin_np(handles[i], NULL, &until) == 0)
                goto joined;
            ei_parallel_stopped(&run);
        }
        pthread_join(handles[i], NULL);
    joined:;
    }
    free(handles);
    return atomic_load(&run.status);
}
