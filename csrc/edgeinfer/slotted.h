/* The bounds of bound.h on the slot grid, `corrected` and `printed`. */
#ifndef EDGEINFER_SLOTTED_H
#define EDGEINFER_SLOTTED_H

#include <stddef.h>

#include "edgeinfer/group.h"
#include "edgeinfer/status.h"

/* Arguments as of ei_violation_bound.
 * Status: EI_ERR_DOMAIN (a pipeline whose shape the method does not take), EI_ERR_TOO_LARGE (more than 60
 * groups or 4e6 slots), EI_ERR_NO_MEMORY, EI_ERR_INTERRUPTED */
EI_WARN_UNUSED int ei_slotted_bound(const ei_groups *list, int printed, double slot, size_t count,
                                    const double *arrival_rate, const double *deadline, double *log_bound,
                                    double *theta, ei_monitor monitor);

#endif
