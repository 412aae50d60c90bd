#include "edgeinfer/pair_rows.h"

#include "check.h"

#include <stdlib.h>
#include <string.h>

enum { MARGIN = 4, NUMBERS = 80 * 60 };

/* Without any order among them. */
static double number(size_t i) {
    return (double)(i * 2654435761u % 1000003u) / 1e6;
}

/* Sums over many rows have the bits of one row added after the other, and rows beyond stay. */
static void check_sums(ptrdiff_t points, ptrdiff_t rows, ptrdiff_t count, int drained) {
    double *memory = malloc(4 * NUMBERS * sizeof *memory);
    if (memory == NULL)
        return;
    double *sum = memory, *plain = sum + NUMBERS, *from = plain + NUMBERS, *factor = from + NUMBERS;
    for (size_t i = 0; i < NUMBERS; i++) {
        sum[i] = plain[i] = number(i);
        from[i] = number(i + 77);
        factor[i] = i % 3 == 1 ? 0 : number(i + 777);
    }
    const ptrdiff_t at = MARGIN * points, first = -1;
    if (drained)
        ei_add_drained(sum + at, from + at, factor, count, first, rows, points);
    else
        ei_add_served(sum + at, from + at, factor, count, rows, points);
    for (ptrdiff_t k = drained ? 0 : first; k < rows; k++)
        for (ptrdiff_t c = 0; c < count; c++) {
            const ptrdiff_t other = drained ? k - c : k + c;
            if (other >= first && other < rows)
                ei_add_shifted(plain + at + k * points, from + at + other * points, factor[c],
                               drained ? 0 : c, points, points);
        }
    CHECK(memcmp(sum, plain, NUMBERS * sizeof *sum) == 0);
    free(memory);
}

/* A row's sums the same. */
static void check_ahead(ptrdiff_t count, ptrdiff_t terms) {
    double sum[200], plain[200], from[400], factor[100];
    for (size_t i = 0; i < 400; i++) {
        from[i] = number(i);
        sum[i % 200] = plain[i % 200] = number(i % 200 + 7);
        factor[i % 100] = number(i % 100 + 77);
    }
    ei_add_ahead(sum, from, factor, terms, count);
    for (ptrdiff_t c = 0; c < terms; c++)
        ei_add_shifted(plain, from, factor[c], -c, count, 400);
    CHECK(memcmp(sum, plain, sizeof sum) == 0);
}

/* Times around exponential ones: E e^{-x t}, and E e^{-2 x t} as of a function along the diagonal. */
static void check_times(void) {
    const ei_arrival arrival = {.kind = EI_ARRIVAL_ERLANG, .parameter = {1, 1}};
    const double step = 0.1, exponent = 0.05;
    for (int end = 0; end < 2; end++) {
        ei_wait_law law;
        double once = 0, twice = 0;
        CHECK(ei_wait_law_init(&law, &arrival, step, exponent, 400, (ei_end)end) == EI_OK);
        for (ptrdiff_t c = 0; c < law.count; c++) {
            const double far = exp(-exponent * (double)c);
            once += law.line[c] * far;
            twice += (law.own[c] + 2 * law.beside[c] * exp(-exponent)) * far * far;
        }
        const double first = once * (1 + exponent / step) - 1, second = twice * (1 + 2 * exponent / step) - 1;
        CHECK(end == EI_UPPER ? first >= 0 && first < 1e-3 : first <= 0 && first > -1e-3);
        CHECK(end == EI_UPPER ? second >= 0 && second < 1e-3 : second <= 0 && second > -1e-3);
        ei_wait_law_free(&law);
    }
}

int main(void) {
    static const ptrdiff_t points[] = {8, 23, 48, 64}, rows[] = {4, 7, 22}, counts[] = {1, 3, 12, 70, 200};
    for (size_t p = 0; p < sizeof points / sizeof *points; p++)
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
                for (int drained = 0; drained < 2 && rows[r] <= points[p]; drained++)
                    check_sums(points[p], rows[r], counts[c], drained);
    for (ptrdiff_t count = 1; count <= 200; count += 13)
        for (ptrdiff_t terms = 1; terms <= 100; terms += 33)
            check_ahead(count, terms);
    check_times();
    return check_report();
}
