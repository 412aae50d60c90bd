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
        ei_add_served(sum + at, from + at, factor, count, first, rows, points);
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

int main(void) {
    static const ptrdiff_t points[] = {8, 23, 48, 64}, rows[] = {4, 7, 22}, counts[] = {1, 3, 12, 70, 200};
    for (size_t p = 0; p < sizeof points / sizeof *points; p++)
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
                for (int drained = 0; drained < 2 && rows[r] <= points[p]; drained++)
                    check_sums(points[p], rows[r], counts[c], drained);
    return check_report();
}
