/* Makes the k-th allocation of the code under test fail and counts what is alive. The C tests are linked with
 * failing_malloc.c and -Wl,--wrap for malloc, calloc, realloc, aligned_alloc and free. */
#ifndef EDGEINFER_FAILING_MALLOC_H
#define EDGEINFER_FAILING_MALLOC_H

#include <stdbool.h>

/* The allocation number `k` (from 1) from now on fails, and those after it succeed; 0: none fails. */
void failing_malloc_arm(long k);
/* Whether the armed failure has happened. */
bool failing_malloc_fired(void);
/* Blocks allocated through the wrapped functions and not yet freed. */
long failing_malloc_alive(void);

#endif
