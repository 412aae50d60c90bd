/* Transforms against sums written out, there and back, and two real sequences in one. */
#include "inputs.h"

#include "edgeinfer/fourier.h"

#include <stdlib.h>
#include <string.h>

/* Some numbers without a pattern. */
static double number(size_t i) {
    return sin(1 + 12.9898 * (double)i) * exp(-0.01 * (double)(i % 97));
}

static void test_sums(size_t length) {
    const double pi = 3.14159265358979323846;
    ei_fourier fourier;
    CHECK(ei_fourier_init(&fourier, length) == EI_OK);
    double *data = malloc(4 * length * sizeof *data), *given = data + 2 * length, all = 0;
    for (size_t i = 0; i < 2 * length; i++)
        given[i] = number(i);
    for (size_t i = 0; i < length; i++)
        all += hypot(given[i], given[length + i]);
    memcpy(data, given, 2 * length * sizeof *data);
    ei_fourier_forward(&fourier, data);
    const double error = ei_fourier_error(&fourier) * all;
    CHECK(error < 1e-13 * all);
    for (size_t k = 0; k < length; k += 1 + length / 64) {
        double re = 0, im = 0;
        for (size_t j = 0; j < length; j++) {
            double angle = -2 * pi * (double)(j * k % length) / (double)length, c = cos(angle),
                   s = sin(angle);
            re += given[j] * c - given[length + j] * s;
            im += given[j] * s + given[length + j] * c;
        }
        /* The sum here rounds, too. */
        CHECK(hypot(data[k] - re, data[length + k] - im) <= error + 1e-16 * (double)length * all);
        double parts[4], back[2] = {data[k], data[length + k]};
        if (k <= length / 2) {
            ei_fourier_split(&fourier, data, k, parts);
            ei_fourier_join(&fourier, parts, k, data);
            CHECK(fabs(data[k] - back[0]) < 1e-12 && fabs(data[length + k] - back[1]) < 1e-12);
        }
    }
    ei_fourier_backward(&fourier, data);
    for (size_t i = 0; i < 2 * length; i++)
        CHECK(fabs(data[i] / (double)length - given[i]) <= 4 * error);
    free(data);
    ei_fourier_free(&fourier);
}

/* The parts of two real sequences are the transforms of each alone. */
static void test_pairs(void) {
    enum { LENGTH = 64 };
    double both[2 * LENGTH], first[2 * LENGTH] = {0}, second[2 * LENGTH] = {0};
    ei_fourier fourier;
    CHECK(ei_fourier_init(&fourier, LENGTH) == EI_OK);
    for (size_t i = 0; i < LENGTH; i++) {
        first[i] = both[i] = number(i);
        second[i] = both[LENGTH + i] = number(i + 1000);
    }
    ei_fourier_forward(&fourier, both);
    ei_fourier_forward(&fourier, first);
    ei_fourier_forward(&fourier, second);
    for (size_t k = 0; k <= LENGTH / 2; k++) {
        double parts[4];
        ei_fourier_split(&fourier, both, k, parts);
        CHECK(fabs(parts[0] - first[k]) < 1e-12 && fabs(parts[1] - first[LENGTH + k]) < 1e-12);
        CHECK(fabs(parts[2] - second[k]) < 1e-12 && fabs(parts[3] - second[LENGTH + k]) < 1e-12);
    }
    ei_fourier_free(&fourier);
}

static int call(const ei_service *stages, size_t count) {
    (void)stages;
    (void)count;
    ei_fourier fourier;
    int status = ei_fourier_init(&fourier, 256);
    ei_fourier_free(&fourier);
    return status;
}

int main(void) {
    for (size_t length = 4; length <= 4096; length *= 2)
        test_sums(length);
    test_pairs();
    sweep_allocations(call, "fourier", NULL, 0);
    CHECK(failing_malloc_alive() == 0);
    return check_report();
}
