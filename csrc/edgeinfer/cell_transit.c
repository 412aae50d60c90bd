#include "edgeinfer/cell_transit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Passages that are sorted by insertion. */
enum { SMALL = 16 };

int ei_transit_reserve(ei_transit *self, size_t more, size_t most) {
    const size_t needed = self->count + more;
    if (needed <= self->capacity)
        return EI_OK;
    if (needed > most)
        return EI_ERR_UNSTABLE;
    const size_t capacity = needed > 2 * self->capacity ? needed : 2 * self->capacity;
    ei_passage *passages = malloc(2 * capacity * sizeof *passages);
    uint32_t *bucket = malloc((2 * capacity + 1) * sizeof *bucket);
    if (passages == NULL || bucket == NULL) {
        free(passages);
        free(bucket);
        return EI_ERR_NO_MEMORY;
    }
    if (self->count > 0)
        memcpy(passages, self->passages, self->count * sizeof *passages);
    free(self->passages);
    free(self->bucket);
    self->passages = passages;
    self->sorted = passages + capacity;
    self->bucket = bucket;
    self->ends = bucket + capacity;
    self->capacity = capacity;
    return EI_OK;
}

void ei_transit_free(ei_transit *self) {
    free(self->passages);
    free(self->bucket);
}

static void sort_insertion(ei_passage *items, size_t count) {
    for (size_t i = 1; i < count; i++) {
        const ei_passage one = items[i];
        size_t at = i;
        for (; at > 0 && items[at - 1].time > one.time; at--)
            items[at] = items[at - 1];
        items[at] = one;
    }
}

/* Stable; spare: [count]. */
static void sort_merging(ei_passage *items, ei_passage *spare, size_t count) {
    if (count <= SMALL) {
        sort_insertion(items, count);
        return;
    }
    const size_t half = count / 2;
    sort_merging(items, spare, half);
    sort_merging(items + half, spare, count - half);
    memcpy(spare, items, half * sizeof *spare);
    for (size_t to = 0, a = 0, b = half; a < half; to++)
        items[to] = b < count && items[b].time < spare[a].time ? items[b++] : spare[a++];
}

size_t ei_transit_sort(ei_transit *self, double horizon) {
    ei_passage *items = self->passages;
    double least = INFINITY, most = -INFINITY;
    size_t number = 0;
    for (size_t i = 0; i < self->count; i++) {
        const double time = items[i].time;
        number += time < horizon;
        least = time < least ? time : least;
        most = time < horizon && time > most ? time : most;
    }
    if (number == 0)
        return 0;
    const double width = most - least, scale = width > 1e-290 ? (double)(number - 1) / width : 0;
    memset(self->ends, 0, (number + 1) * sizeof *self->ends);
    for (size_t i = 0; i < self->count; i++) {
        const double place = (items[i].time - least) * scale;
        self->bucket[i] = items[i].time < horizon ? (uint32_t)place : (uint32_t)number;
        self->ends[self->bucket[i]]++;
    }
    uint32_t sum = 0;
    for (size_t k = 0; k < number; k++) {
        const uint32_t size = self->ends[k];
        self->ends[k] = sum;
        sum += size;
    }
    size_t kept = 0;
    for (size_t i = 0; i < self->count; i++)
        if (self->bucket[i] < number)
            self->sorted[self->ends[self->bucket[i]]++] = items[i];
        else
            items[kept++] = items[i];
    self->count = kept;
    uint32_t begin = 0;
    for (size_t k = 0; k < number; begin = self->ends[k++])
        if (self->ends[k] - begin > 1)
            sort_merging(self->sorted + begin, items + kept, self->ends[k] - begin);
    return number;
}
