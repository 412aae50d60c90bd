/* Requests on their way to a stage that must meet them in order of time (cell_forward.c). Seconds. */
#ifndef EDGEINFER_CELL_TRANSIT_H
#define EDGEINFER_CELL_TRANSIT_H

#include "edgeinfer/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    double time, born, service;
    uint32_t terminal, class_index;
} ei_passage;

/* Starts as zeros. */
typedef struct {
    ei_passage *passages, *sorted; /* [capacity] each, in one allocation */
    uint32_t *bucket, *ends;       /* [capacity], [capacity + 1], in one allocation */
    size_t count, capacity;
    size_t stage;   /* of the class, where all are of one */
    uint32_t class; /* EI_NOBODY: of several, to the nodes */
} ei_transit;

/* Makes room for `more` passages. Status: EI_ERR_NO_MEMORY; EI_ERR_UNSTABLE: these would be above `most`. */
EI_WARN_UNUSED int ei_transit_reserve(ei_transit *self, size_t more, size_t most);
void ei_transit_free(ei_transit *self);

/* Takes what comes before the horizon to `sorted`, in order of time, requests of equal times in the order in
 * which they were drawn; returns their number. By buckets of equal widths, as many as requests. */
size_t ei_transit_sort(ei_transit *self, double horizon);

#endif
