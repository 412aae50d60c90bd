/* Discrete Fourier transforms of complex numbers, and how far rounding can move them.
 *
 * Radix 4 and 2 in Stockham's order. An output is a sum of inputs times one factor a pass, of modulus 1 and
 * right to 2 u, u = 2^-53; a pass takes at most one product (error sqrt(5) u) and two sums (u each), so that
 * each summand comes out right to 7 u a pass, and the output to ei_fourier_error times the sum of the inputs'
 * moduli. */
#ifndef EDGEINFER_FOURIER_H
#define EDGEINFER_FOURIER_H

#include <stddef.h>

#include "edgeinfer/status.h"

typedef struct {
    size_t length; /* a power of 2, >= 4 */
    double *turn;  /* [2 length], cos and sin of 2 pi j / length; owned, with the room behind them */
    double *room;  /* [2 length] */
} ei_fourier;

/* Status: EI_ERR_NO_MEMORY. free is legal after a failure and for a zeroed one. */
EI_WARN_UNUSED int ei_fourier_init(ei_fourier *self, size_t length);
void ei_fourier_free(ei_fourier *self);

/* data[2 length]: real parts, then imaginary ones; X_k = sum_j x_j e^{-2 pi i j k / length}, in its place.
 * The same bits whatever the vectors' width. */
void ei_fourier_forward(const ei_fourier *self, double *data);
/* The conjugate factors, not divided by the length. */
void ei_fourier_backward(const ei_fourier *self, double *data);

/* Largest error of an output over the sum of the inputs' moduli. */
double ei_fourier_error(const ei_fourier *self);

/* The transforms at k, 0 <= k <= length / 2, of two real sequences that were transformed as real and
 * imaginary part of one: re and im of the first, then of the second. */
void ei_fourier_split(const ei_fourier *self, const double *data, size_t k, double parts[4]);
/* The other way round, for all k of 0 .. length / 2 with k and length - k set at once. */
void ei_fourier_join(const ei_fourier *self, const double parts[4], size_t k, double *data);

#endif
