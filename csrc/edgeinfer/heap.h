/* A heap of (key, order): the least key first, and of equal keys the least order. Four children a node. */
#ifndef EDGEINFER_HEAP_H
#define EDGEINFER_HEAP_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "edgeinfer/status.h"

typedef struct {
    double key; /* not NaN */
    uint64_t order;
    uint64_t item;
} ei_heap_entry;

/* All zero is an empty heap. */
typedef struct {
    ei_heap_entry *entries; /* [capacity], owned */
    size_t count, capacity;
} ei_heap;

static inline void ei_heap_free(ei_heap *self) {
    free(self->entries);
    *self = (ei_heap){.entries = NULL};
}

static inline int ei_heap_before(const ei_heap_entry *a, const ei_heap_entry *b) {
    return (a->key < b->key) | ((a->key == b->key) & (a->order < b->order));
}

/* Sinks `entry` from the first place. */
static inline void ei_heap_sink(ei_heap *self, ei_heap_entry entry) {
    ei_heap_entry *entries = self->entries;
    const size_t count = self->count;
    size_t at = 0;
    for (;;) {
        const size_t child = 4 * at + 1;
        size_t least = child;
        if (child + 4 <= count) {
            /* In pairs, so that the comparisons do not wait for each other. */
            const size_t left = child + (size_t)ei_heap_before(&entries[child + 1], &entries[child]),
                         right = child + 2 + (size_t)ei_heap_before(&entries[child + 3], &entries[child + 2]);
            least = ei_heap_before(&entries[right], &entries[left]) ? right : left;
        } else if (child < count) {
            for (size_t i = child + 1; i < count; i++)
                least = ei_heap_before(&entries[i], &entries[least]) ? i : least;
        } else {
            break;
        }
        if (!ei_heap_before(&entries[least], &entry))
            break;
        entries[at] = entries[least];
        at = least;
    }
    entries[at] = entry;
}

/* Replaces the first entry; the heap must not be empty. */
static inline void ei_heap_replace(ei_heap *self, double key, uint64_t order, uint64_t item) {
    ei_heap_sink(self, (ei_heap_entry){key, order, item});
}

/* Takes the first entry; the heap must not be empty. */
static inline ei_heap_entry ei_heap_pop(ei_heap *self) {
    ei_heap_entry first = self->entries[0];
    self->count--;
    if (self->count > 0)
        ei_heap_sink(self, self->entries[self->count]);
    return first;
}

/* Status: EI_ERR_NO_MEMORY, the heap then as it was. */
EI_WARN_UNUSED static inline int ei_heap_push(ei_heap *self, double key, uint64_t order, uint64_t item) {
    if (self->count == self->capacity) {
        const size_t capacity = self->capacity > 0 ? 2 * self->capacity : 16;
        ei_heap_entry *entries = realloc(self->entries, capacity * sizeof *entries);
        if (entries == NULL)
            return EI_ERR_NO_MEMORY;
        self->entries = entries;
        self->capacity = capacity;
    }
    const ei_heap_entry entry = {key, order, item};
    size_t at = self->count++;
    while (at > 0 && ei_heap_before(&entry, &self->entries[(at - 1) / 4])) {
        self->entries[at] = self->entries[(at - 1) / 4];
        at = (at - 1) / 4;
    }
    self->entries[at] = entry;
    return EI_OK;
}

/* The least key, or INFINITY. */
static inline double ei_heap_first(const ei_heap *self) {
    return self->count > 0 ? self->entries[0].key : (double)__builtin_inf();
}

#endif
