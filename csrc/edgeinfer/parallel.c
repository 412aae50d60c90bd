#define _POSIX_C_SOURCE 200809L
#include "edgeinfer/parallel.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* Seconds of tasks between two looks at the monitor, which may have to wait for its lock. */
static const double UNPOLLED = 0.01;

struct ei_parallel {
    ei_task task;
    void *context;
    size_t count;
    atomic_size_t next;
    atomic_int status;
    pthread_t caller;
    ei_monitor monitor;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    size_t running; /* helpers; guarded by the mutex */
};

int ei_parallel_stopped(ei_parallel *run) {
    if (run->monitor.poll != NULL && pthread_equal(pthread_self(), run->caller) &&
        run->monitor.poll(run->monitor.context) != 0)
        atomic_store(&run->status, EI_ERR_INTERRUPTED);
    return atomic_load(&run->status) < 0;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void work(ei_parallel *run) {
    double polled = seconds();
    for (;;) {
        size_t index = atomic_fetch_add(&run->next, 1);
        if (index >= run->count || atomic_load(&run->status) < 0)
            return;
        int status = run->task(run->context, index, run);
        int expected = EI_OK;
        if (status < 0)
            atomic_compare_exchange_strong(&run->status, &expected, status);
        else if (seconds() - polled > UNPOLLED) {
            ei_parallel_stopped(run);
            polled = seconds();
        }
    }
}

static void *help(void *argument) {
    ei_parallel *run = argument;
    work(run);
    pthread_mutex_lock(&run->mutex);
    run->running--;
    pthread_cond_signal(&run->ended);
    pthread_mutex_unlock(&run->mutex);
    return NULL;
}

/* The caller's own tasks may end long before the others': it goes on polling. */
static void await_helpers(ei_parallel *run) {
    pthread_mutex_lock(&run->mutex);
    while (run->running > 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 20000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&run->ended, &run->mutex, &until);
        pthread_mutex_unlock(&run->mutex);
        ei_parallel_stopped(run);
        pthread_mutex_lock(&run->mutex);
    }
    pthread_mutex_unlock(&run->mutex);
}

int ei_parallel_for(ei_task task, void *context, size_t count, size_t threads, ei_monitor monitor) {
    ei_parallel run = {
        .task = task, .context = context, .count = count, .caller = pthread_self(), .monitor = monitor};
    atomic_init(&run.next, 0);
    atomic_init(&run.status, EI_OK);
    if (threads > count)
        threads = count;
    if (threads <= 1) {
        work(&run);
        return atomic_load(&run.status);
    }
    size_t started = 0;
    pthread_t *handles = malloc((threads - 1) * sizeof *handles);
    if (handles == NULL)
        return EI_ERR_NO_MEMORY;
    pthread_mutex_init(&run.mutex, NULL);
    pthread_cond_init(&run.ended, NULL);
    run.running = threads - 1;
    while (started < threads - 1 && pthread_create(&handles[started], NULL, help, &run) == 0)
        started++;
    pthread_mutex_lock(&run.mutex);
    run.running -= threads - 1 - started;
    pthread_mutex_unlock(&run.mutex);
    work(&run);
    await_helpers(&run);
    for (size_t i = 0; i < started; i++)
        pthread_join(handles[i], NULL);
    pthread_cond_destroy(&run.ended);
    pthread_mutex_destroy(&run.mutex);
    free(handles);
    return atomic_load(&run.status);
}
