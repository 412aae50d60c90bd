/* Linear equations of which only the product of the matrix with a vector is known: GMRES (Saad and Schultz,
 * 1986), without restarts. */
#ifndef EDGEINFER_GMRES_H
#define EDGEINFER_GMRES_H

#include <stddef.h>

#include "edgeinfer/status.h"

/* y = A x, both of the caller's size. */
typedef void (*ei_product)(void *context, const double *x, double *y);

/* Given: vector[size], the right side; at most `most` products, fewer where the residual has fallen to
 * `tolerance` of the right side, in the 2-norm. Returned: in its place the vector of least residual.
 * Status: EI_ERR_NO_MEMORY. */
EI_WARN_UNUSED int ei_gmres(ei_product product, void *context, size_t size, double *vector, size_t most,
                            double tolerance);

#endif
