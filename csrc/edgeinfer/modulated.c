#include "edgeinfer/modulated.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SQUARINGS = 60, MOST_EVENTS = 4096 };

/* D of the header, [count][count]. */
static void reversed(const ei_arrival *self, double *matrix) {
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

int ei_modulated_transform(const ei_arrival *self, double theta, double *transform) {
    const size_t n = self->count;
    double *matrix = malloc(n * n * sizeof *matrix);
    if (matrix == NULL)
        return EI_ERR_NO_MEMORY;
    reversed(self, matrix);
    for (size_t i = 0; i < n * n; i++) {
        matrix[i] = -matrix[i];
        transform[i] = 0;
    }
    for (size_t i = 0; i < n; i++) {
        matrix[i * n + i] += theta;
        transform[i * n + i] = self->rates[i];
    }
    /* Diagonally dominant: no pivots. */
    for (size_t k = 0; k < n; k++)
        for (size_t i = k + 1; i < n; i++) {
            double factor = matrix[i * n + k] / matrix[k * n + k];
            for (size_t j = k; j < n; j++)
                matrix[i * n + j] -= factor * matrix[k * n + j];
            for (size_t j = 0; j < n; j++)
                transform[i * n + j] -= factor * transform[k * n + j];
        }
    for (size_t k = n; k-- > 0;)
        for (size_t j = 0; j < n; j++) {
            for (size_t i = k + 1; i < n; i++)
                transform[k * n + j] -= matrix[k * n + i] * transform[i * n + j];
            transform[k * n + j] /= matrix[k * n + k];
        }
    free(matrix);
    return EI_OK;
}

static void multiply(const double *left, const double *right, double *product, size_t n) {
    memset(product, 0, n * n * sizeof *product);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            for (size_t j = 0; j < n; j++)
                product[i * n + j] += left[i * n + k] * right[k * n + j];
}

double ei_modulated_exponent(const ei_arrival *self, double theta) {
    const size_t n = self->count;
    double *power = malloc(2 * n * n * sizeof *power), log_norm = 0, share = 1;
    if (power == NULL || ei_modulated_transform(self, theta, power) != EI_OK) {
        free(power);
        return INFINITY;
    }
    /* The logarithm of a norm of the 2^k-th power over 2^k. */
    double *square = power + n * n;
    for (int k = 0; k < SQUARINGS; k++, share /= 2) {
        double most = 0;
        for (size_t i = 0; i < n * n; i++)
            most = fmax(most, power[i]);
        log_norm += share * log(most);
        for (size_t i = 0; i < n * n; i++)
            power[i] /= most;
        multiply(power, power, square, n);
        memcpy(power, square, n * n * sizeof *power);
    }
    free(power);
    return -log_norm;
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
    reversed(self, chain);
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
        multiply(power, chain, next, n);
        memcpy(power, next, n * n * sizeof *power);
    }
    free(chain);
    return EI_OK;
}
