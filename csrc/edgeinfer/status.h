/* Status codes: zero or positive is an answer, negative an error. Every function of the core that can fail
 * returns one, clears what it allocated on every path (one label, `out`), and never prints, exits or touches
 * process-wide state. */
#ifndef EDGEINFER_STATUS_H
#define EDGEINFER_STATUS_H

#define EI_WARN_UNUSED __attribute__((warn_unused_result))

enum {
    EI_OK = 0,
    EI_ERR_NO_MEMORY = -1,   /* an allocation failed */
    EI_ERR_INTERRUPTED = -2, /* the caller's poll function asked to stop */
    EI_ERR_THREAD = -3,      /* a thread could not be started */

    EI_ERR_DOMAIN = -10,   /* an argument is NaN, infinite or outside its range */
    EI_ERR_EMPTY = -11,    /* an array or a pipeline without elements */
    EI_ERR_UNSTABLE = -12, /* a stage's load is >= 1 where a stationary law is asked for */

    EI_ERR_ACCURACY = -20, /* the requested accuracy was not reached within the budget of work */
    EI_ERR_TOO_LARGE = -21 /* the lattice or table would exceed its memory limit */
};

/* Sentence for a status code; a static string, never NULL. */
const char *ei_status_text(int status);

/* How a long call asks whether to go on. `poll` (may be NULL) is called from the calling thread only, at
 * least every 50 ms of work; a non-zero answer ends the call with EI_ERR_INTERRUPTED. `context` is not owned.
 */
typedef struct {
    int (*poll)(void *context);
    void *context;
} ei_monitor;

#endif
