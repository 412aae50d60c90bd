/* Status codes: zero is an answer, negative an error. Every function of the core that can fail returns one,
 * and never prints, exits or touches process-wide state. What it allocated for itself it frees on every path,
 * at one label, `out`, where there is more than one path; a function that fails before it has allocated
 * returns at once. An object that an `init` or `new` fills is the caller's to free, after a failure too,
 * unless its header says otherwise. */
#ifndef EDGEINFER_STATUS_H
#define EDGEINFER_STATUS_H

#include <stddef.h>

#define EI_WARN_UNUSED __attribute__((warn_unused_result))

enum {
    EI_OK = 0,
    EI_ERR_NO_MEMORY = -1,   /* an allocation failed */
    EI_ERR_INTERRUPTED = -2, /* the caller's poll function asked to stop */

    EI_ERR_DOMAIN = -10,   /* an argument is NaN, infinite or outside its range */
    EI_ERR_EMPTY = -11,    /* an array or a pipeline without elements */
    EI_ERR_UNSTABLE = -12, /* a stage's load is >= 1 where a stationary law is asked for */

    EI_ERR_ACCURACY = -20, /* the requested accuracy was not reached within the budget of work */
    EI_ERR_TOO_LARGE = -21 /* the lattice or table would exceed its memory limit */
};

/* Sentence for a status code; a static string, never NULL. */
const char *ei_status_text(int status);

/* Whether a bound failed only in that there is none, or none within the work that is allowed. */
static inline int ei_no_bound(int status) {
    return status == EI_ERR_UNSTABLE || status == EI_ERR_ACCURACY || status == EI_ERR_TOO_LARGE;
}

/* How a long call asks whether to go on. `poll` (may be NULL) is called from the calling thread only, at
 * least every 50 ms of work; a non-zero answer ends the call with EI_ERR_INTERRUPTED. `context` is not owned.
 */
typedef struct {
    int (*poll)(void *context);
    void *context;
} ei_monitor;

/* Whether the caller asks to stop. */
static inline int ei_stopped(ei_monitor self) {
    return self.poll != NULL && self.poll(self.context) != 0;
}

#endif
