#include "edgeinfer/modulated.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SQUARINGS = 60, MOST_EVENTS = 4096, MOST = EI_ARRIVAL_PHASES * EI_ARRIVAL_PHASES };
static const double SETTLED = 1e-15;  /* change of a power of largest entry 1 */
static const double SAME = 1e-12;     /* rates that differ by rounding, over the largest */
static const double ROUNDING = 1e-13; /* of a transform and what is eliminated, relative */

void ei_modulated_reversed(const ei_arrival *self, double *matrix) {
    const size_t n = self->count;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t j = 0; j < n; j++) {
            if (i == j)
                continue;
            matrix[i * n + j] = self->stationary[j] * self->generator[j * n + i] / self->stationary[i];
            sum += matrix[i * n + j];
        }
        matrix[i * n + i] = -sum - self->rates[i];
    }
}

int ei_modulated_is_monotone(const ei_arrival *self) {
    const size_t n = self->count;
    double matrix[MOST], largest = 0;
    size_t order[EI_ARRIVAL_PHASES];
    if (n > EI_ARRIVAL_PHASES)
        return 0;
    ei_modulated_reversed(self, matrix);
    for (size_t i = 0; i < n; i++) {
        size_t k = i;
        for (; k > 0 && self->rates[order[k - 1]] > self->rates[i]; k--)
            order[k] = order[k - 1];
        order[k] = i;
        largest = fmax(largest, -matrix[i * n + i]);
    }
    for (size_t i = 0; i + 1 < n; i++) {
        const double *below = matrix + order[i] * n, *above = matrix + order[i + 1] * n;
        double sum = 0;
        for (size_t k = 0; k < i; k++)
            if ((sum += below[order[k]] - above[order[k]]) < -SAME * largest)
                return 0;
        sum = 0;
        for (size_t k = n; k-- > i + 2;)
            if ((sum += above[order[k]] - below[order[k]]) < -SAME * largest)
                return 0;
    }
    return 1;
}

/* (theta - D)^{-1} of `columns` columns, in place. matrix: [count][count], scratch. */
static void resolve(const ei_arrival *self, double theta, double *matrix, double *right, size_t columns) {
    const size_t n = self->count;
    ei_modulated_reversed(self, matrix);
    for (size_t i = 0; i < n * n; i++)
        matrix[i] = -matrix[i];
    for (size_t i = 0; i < n; i++)
        matrix[i * n + i] += theta;
    /* Diagonally dominant: no pivots. */
    for (size_t k = 0; k < n; k++)
        for (size_t i = k + 1; i < n; i++) {
            double factor = matrix[i * n + k] / matrix[k * n + k];
            for (size_t j = k; j < n; j++)
                matrix[i * n + j] -= factor * matrix[k * n + j];
            for (size_t j = 0; j < columns; j++)
                right[i * columns + j] -= factor * right[k * columns + j];
        }
    for (size_t k = n; k-- > 0;)
        for (size_t j = 0; j < columns; j++) {
            for (size_t i = k + 1; i < n; i++)
                right[k * columns + j] -= matrix[k * n + i] * right[i * columns + j];
            right[k * columns + j] /= matrix[k * n + k];
        }
}

int ei_modulated_transform(const ei_arrival *self, double theta, double *transform) {
    const size_t n = self->count;
    double matrix[MOST];
    if (n > EI_ARRIVAL_PHASES)
        return EI_ERR_TOO_LARGE;
    for (size_t i = 0; i < n * n; i++)
        transform[i] = i % (n + 1) == 0 ? self->rates[i / n] : 0;
    resolve(self, theta, matrix, transform, n);
    return EI_OK;
}

void ei_modulated_multiply(const double *left, const double *right, double *product, size_t n) {
    memset(product, 0, n * n * sizeof *product);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            for (size_t j = 0; j < n; j++)
                product[i * n + j] += left[i * n + k] * right[k * n + j];
}

double ei_modulated_exponent(const ei_arrival *self, double theta, double *eigenvector, double *transform) {
    const size_t n = self->count;
    double own[MOST], power[MOST], square[MOST], largest = 0;
    if (transform == NULL)
        transform = own;
    if (ei_modulated_transform(self, theta, transform) != EI_OK)
        return NAN;
    /* A high power of a positive matrix is the product of its eigenvectors. */
    memcpy(power, transform, n * n * sizeof *power);
    for (int k = 0; k < SQUARINGS; k++) {
        double most = 0, change = 0;
        ei_modulated_multiply(power, power, square, n);
        for (size_t i = 0; i < n * n; i++)
            most = fmax(most, square[i]);
        for (size_t i = 0; i < n * n; i++) {
            change = fmax(change, fabs(square[i] / most - power[i]));
            power[i] = square[i] / most;
        }
        if (change < SETTLED)
            break;
    }
    size_t column = 0;
    double least = INFINITY;
    for (size_t j = 1; j < n; j++)
        if (power[j] > power[column])
            column = j;
    for (size_t i = 0; i < n; i++) {
        eigenvector[i] = power[i * n + column];
        if (self->rates[i] > 0)
            least = fmin(least, eigenvector[i]);
    }
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t j = 0; j < n; j++)
            sum += transform[i * n + j] * eigenvector[j];
        largest = fmax(largest, sum / eigenvector[i]);
    }
    for (size_t i = 0; i < n; i++)
        eigenvector[i] /= least;
    return -log(largest);
}

/* From the likeliest number on, in both directions, so that all keep their accuracy. */
static void poisson(double mean, double *chance, size_t count) {
    const size_t middle = (size_t)mean;
    double sum = 0;
    chance[middle] = 1;
    for (size_t m = middle; m-- > 0;)
        chance[m] = chance[m + 1] * (double)(m + 1) / mean;
    for (size_t m = middle + 1; m < count; m++)
        chance[m] = chance[m - 1] * mean / (double)m;
    for (size_t m = 0; m < count; m++)
        sum += chance[m];
    for (size_t m = 0; m < count; m++)
        chance[m] /= sum;
}

int ei_modulated_step(const ei_arrival *self, double step, double *decay, double *first, double *second) {
    const size_t n = self->count;
    double rate = 0;
    for (size_t i = 0; i < n; i++)
        rate = fmax(rate, self->rates[i] - self->generator[i * n + i]);
    /* Poisson(events) events in a step; beyond `last` below 1e-18 of any. */
    const double events = rate * step;
    if (!(events < MOST_EVENTS))
        return EI_ERR_TOO_LARGE;
    const size_t last = (size_t)(events + 12 * sqrt(events) + 24);
    double *chain = malloc((3 * n * n + 2 * (last + 3)) * sizeof *chain);
    if (chain == NULL)
        return EI_ERR_NO_MEMORY;
    double *power = chain + n * n, *next = power + n * n, *chance = next + n * n, *above = chance + last + 3;
    ei_modulated_reversed(self, chain);
    for (size_t i = 0; i < n * n; i++) {
        chain[i] /= rate;
        power[i] = decay[i] = first[i] = second[i] = 0;
    }
    for (size_t i = 0; i < n; i++) {
        chain[i * n + i] = fmax(1 + chain[i * n + i], 0);
        power[i * n + i] = 1;
    }
    poisson(events, chance, last + 3);
    above[last + 2] = 0;
    for (size_t m = last + 2; m-- > 0;)
        above[m] = above[m + 1] + chance[m + 1];
    for (size_t m = 0; m <= last; m++) {
        /* int of P(m events before t) t / h, and of the rest. */
        double late = (double)(m + 1) * above[m + 1] / (rate * events), early = above[m] / rate - late;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                decay[i * n + j] += chance[m] * power[i * n + j];
                first[i * n + j] += fmax(early, 0) * power[i * n + j] * self->rates[j];
                second[i * n + j] += late * power[i * n + j] * self->rates[j];
            }
        ei_modulated_multiply(power, chain, next, n);
        memcpy(power, next, n * n * sizeof *power);
    }
    free(chain);
    return EI_OK;
}

/* (1 - growth M)^{-1} of a vector and of its derivative in theta, d growth M / d theta = slope growth M -
 * growth (theta - D)^{-1} M. 0 where the sum does not converge. matrix: M, [2][count][count] more and
 * [count], scratch. */
static int add_jobs(const ei_arrival *self, double theta, double growth, double slope, double *matrix,
                    double *vector, double *change) {
    const size_t n = self->count;
    double *work = matrix + n * n, *scratch = work + n * n;
    for (size_t i = 0; i < n * n; i++)
        work[i] = (i % (n + 1) == 0) - growth * matrix[i];
    for (size_t k = 0; k < n; k++) {
        if (!(work[k * n + k] > 0))
            return 0;
        for (size_t i = k + 1; i < n; i++) {
            double factor = work[i * n + k] / work[k * n + k];
            for (size_t j = k + 1; j < n; j++)
                work[i * n + j] -= factor * work[k * n + j];
            work[i * n + k] = factor;
        }
    }
    for (int which = 0; which < 2; which++) {
        double *right = which == 0 ? vector : change;
        for (size_t k = 0; k < n; k++)
            for (size_t i = 0; i < k; i++)
                right[k] -= work[k * n + i] * right[i];
        for (size_t k = n; k-- > 0;) {
            for (size_t i = k + 1; i < n; i++)
                right[k] -= work[k * n + i] * right[i];
            right[k] /= work[k * n + k];
        }
        if (which == 1)
            break;
        double *moved = scratch + n * n;
        for (size_t i = 0; i < n; i++) {
            moved[i] = 0;
            for (size_t j = 0; j < n; j++)
                moved[i] += growth * matrix[i * n + j] * vector[j];
            change[i] += slope * moved[i];
        }
        resolve(self, theta, scratch, moved, 1);
        for (size_t i = 0; i < n; i++)
            change[i] -= moved[i];
    }
    return 1;
}

int ei_modulated_paths(const ei_arrival *self, double theta, size_t stages, const double *cumulant,
                       const double *slope, const double *end, double *value, double *derivative) {
    const size_t n = self->count;
    const double mean = ei_arrival_mean(self);
    double *matrix = malloc((3 * n * n + 3 * n) * sizeof *matrix);
    int status = matrix == NULL ? EI_ERR_NO_MEMORY : ei_modulated_transform(self, theta, matrix);
    *value = *derivative = INFINITY;
    if (status != EI_OK)
        goto out;
    double *vector = matrix + 3 * n * n + n, *change = vector + n, sum = 0, moment = 0;
    for (size_t i = 0; i < n; i++) {
        vector[i] = end != NULL ? exp(theta * end[i]) : 1;
        change[i] = end != NULL ? end[i] * vector[i] : 0;
    }
    for (size_t k = 0; k < stages; k++)
        if (!add_jobs(self, theta, exp(cumulant[k]) * (1 + ROUNDING), slope[k], matrix, vector, change))
            goto out;
    for (size_t i = 0; i < n; i++) {
        double share = self->stationary[i] * self->rates[i] * mean;
        sum += share * vector[i];
        moment += share * change[i];
    }
    *value = log(sum) + ROUNDING;
    *derivative = moment / sum;
out:
    free(matrix);
    return status;
}
