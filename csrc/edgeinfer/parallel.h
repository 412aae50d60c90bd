/* Independent tasks over threads. */
#ifndef EDGEINFER_PARALLEL_H
#define EDGEINFER_PARALLEL_H

#include <stdatomic.h>
#include <stddef.h>

#include "edgeinfer/status.h"

/* A task's view of the run: tasks call ei_parallel_stopped every few milliseconds and return when it is true;
 * those that take less need not, as it is called between tasks, too. */
typedef struct ei_parallel ei_parallel;

typedef int (*ei_task)(void *context, size_t index, ei_parallel *run);

/* Runs task(context, 0 .. count - 1), each once, on `threads` threads of which the caller's is one. The first
 * negative status ends the run and is returned. Status: also EI_ERR_INTERRUPTED, EI_ERR_NO_MEMORY. Where
 * fewer threads can be had than asked for, those do the work. */
EI_WARN_UNUSED int ei_parallel_for(ei_task task, void *context, size_t count, size_t threads,
                                   ei_monitor monitor);

/* Whether the task should return at once; polls the monitor when the calling thread is the one that may. */
int ei_parallel_stopped(ei_parallel *run);

#endif
