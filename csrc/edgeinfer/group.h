/* The stages of a pipeline as bounds by moments see them: adjacent deterministic ones as one, of which the
 * first job of its part of a path takes `once`, and every further one `again`. */
#ifndef EDGEINFER_GROUP_H
#define EDGEINFER_GROUP_H

#include <stddef.h>

#include "edgeinfer/arrival.h"
#include "edgeinfer/service.h"
#include "edgeinfer/status.h"

typedef struct {
    const ei_service *service; /* NULL: deterministic; not owned */
    double once, again;        /* s, for a deterministic stage */
    double abscissa;           /* 1/s */
    double *table; /* log MGF and slope at tabulated exponents, 0 where not yet asked for; NULL, or owned */
} ei_group;

typedef struct {
    ei_group *groups; /* [count]; owned */
    size_t count;
} ei_groups;

/* The stages outlive the groups. Free is legal after a failed init. Status: EI_ERR_NO_MEMORY. */
EI_WARN_UNUSED int ei_groups_init(ei_groups *self, const ei_service *stages, size_t count);
void ei_groups_free(ei_groups *self);

/* log E e^{theta S} and its derivative in theta, which may be NULL. Status: EI_ERR_DOMAIN for a NaN. */
EI_WARN_UNUSED int ei_group_log_mgf(const ei_group *self, double theta, double *value, double *slope);

/* The same, near enough for a search, once `tabulate` has made room for its table. */
EI_WARN_UNUSED int ei_group_tabulate(ei_group *self);
EI_WARN_UNUSED int ei_group_quick_log_mgf(const ei_group *self, double theta, double *value, double *slope);

/* The least root of a kappa, or abscissa, of all groups, 1/s: theta must stay below; 0 where one is unstable,
 * infinite without any work. arrival: a renewal process. */
EI_WARN_UNUSED int ei_groups_decay_rate(const ei_groups *self, const ei_arrival *arrival, double *value);

#endif
