#include "edgeinfer/gmres.h"

#include "edgeinfer/lattice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void add(double *restrict to, double factor, const double *restrict from, size_t size) {
    for (size_t i = 0; i < size; i++)
        to[i] += factor * from[i];
}

/* Turns the column's end to 0 with the earlier turns and a new one. */
static void rotate(double *column, double *turns, double *rest, size_t last) {
    for (size_t i = 0; i < last; i++) {
        double c = turns[2 * i], s = turns[2 * i + 1], above = column[i], below = column[i + 1];
        column[i] = c * above + s * below;
        column[i + 1] = c * below - s * above;
    }
    double length = sqrt(column[last] * column[last] + column[last + 1] * column[last + 1]);
    double c = length > 0 ? column[last] / length : 1, s = length > 0 ? column[last + 1] / length : 0;
    turns[2 * last] = c;
    turns[2 * last + 1] = s;
    column[last] = length;
    rest[last + 1] = -s * rest[last];
    rest[last] *= c;
}

int ei_gmres(ei_product product, void *context, size_t size, double *vector, size_t most, double tolerance) {
    double length = sqrt(ei_dot(vector, vector, size));
    if (!(length > 0) || !isfinite(length) || most == 0)
        return EI_OK;
    const size_t rows = most + 1;
    double *basis = malloc((rows * size + most * rows + 2 * most + rows) * sizeof *basis);
    if (basis == NULL)
        return EI_ERR_NO_MEMORY;
    double *columns = basis + rows * size, *turns = columns + most * rows, *rest = turns + 2 * most;
    size_t count = 0;
    rest[0] = length;
    for (size_t i = 0; i < size; i++)
        basis[i] = vector[i] / length;
    while (count < most && fabs(rest[count]) > tolerance * length) {
        double *next = basis + (count + 1) * size, *column = columns + count * rows;
        product(context, basis + count * size, next);
        for (size_t i = 0; i <= count; i++) {
            column[i] = ei_dot(basis + i * size, next, size);
            add(next, -column[i], basis + i * size, size);
        }
        column[count + 1] = sqrt(ei_dot(next, next, size));
        for (size_t i = 0; i < size && column[count + 1] > 0; i++)
            next[i] /= column[count + 1];
        int exact = !(column[count + 1] > 0);
        rotate(column, turns, rest, count++);
        if (exact)
            break;
    }
    memset(vector, 0, size * sizeof *vector);
    for (size_t i = count; i-- > 0;) {
        for (size_t j = i + 1; j < count; j++)
            rest[i] -= columns[j * rows + i] * rest[j];
        rest[i] = columns[i * rows + i] != 0 ? rest[i] / columns[i * rows + i] : 0;
        add(vector, rest[i], basis + i * size, size);
    }
    free(basis);
    return EI_OK;
}
