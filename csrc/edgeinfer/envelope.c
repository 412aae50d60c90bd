#include "edgeinfer/envelope.h"

#include <math.h>
#include <string.h>

enum { PIVOTS = 400, WIDTH = EI_ENVELOPE_WIDTH };
static const double VIOLATED = 1e-10;

/* Gauss's elimination of matrix x = right, with pivots; transposed: of the transposed matrix. */
static void solve(const double matrix[WIDTH][WIDTH], int transposed, const double *right, size_t n,
                  double *x) {
    double work[WIDTH][WIDTH + 1];
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++)
            work[i][j] = transposed ? matrix[j][i] : matrix[i][j];
        work[i][n] = right[i];
    }
    for (size_t k = 0; k < n; k++) {
        size_t pivot = k;
        for (size_t i = k + 1; i < n; i++)
            if (fabs(work[i][k]) > fabs(work[pivot][k]))
                pivot = i;
        for (size_t j = k; j <= n; j++) {
            const double moved = work[k][j];
            work[k][j] = work[pivot][j];
            work[pivot][j] = moved;
        }
        for (size_t i = k + 1; i < n; i++) {
            const double factor = work[i][k] / work[k][k];
            for (size_t j = k; j <= n; j++)
                work[i][j] -= factor * work[k][j];
        }
    }
    for (size_t k = n; k-- > 0;) {
        x[k] = work[k][n];
        for (size_t j = k + 1; j < n; j++)
            x[k] -= work[k][j] * x[j];
        x[k] /= work[k][k];
    }
}

void ei_envelope_fit(const double *rows, const double *target, size_t count, size_t width,
                     const double *weight, double limit, double *x) {
    double basis[WIDTH][WIDTH] = {{0}}, bound[WIDTH], price[WIDTH], share[WIDTH], row[WIDTH];
    for (size_t i = 0; i < width; i++) {
        basis[i][i] = 1;
        bound[i] = i == 0 ? 0 : -limit;
        price[i] = weight[i];
    }
    for (int pivots = 0; pivots < PIVOTS; pivots++) {
        double most = VIOLATED, aim = 0;
        solve((const double (*)[WIDTH])basis, 0, bound, width, x);
        for (size_t k = 0; k < count + width; k++) {
            double above = k < count ? target[k] : x[k - count] - limit;
            for (size_t i = 0; i < width && k < count; i++)
                above -= rows[k * width + i] * x[i];
            if (!(above > most))
                continue;
            most = above;
            aim = k < count ? target[k] : -limit;
            for (size_t i = 0; i < width; i++)
                row[i] = k < count ? rows[k * width + i] : -(double)(i == k - count);
        }
        if (most == VIOLATED)
            return;
        /* row = sum of share_i basis_i: what leaves keeps all prices >= 0. */
        solve((const double (*)[WIDTH])basis, 1, row, width, share);
        size_t leaves = width;
        for (size_t i = 0; i < width; i++)
            if (share[i] > 1e-12 && (leaves == width || price[i] * share[leaves] < price[leaves] * share[i]))
                leaves = i;
        if (leaves == width)
            return;
        const double entered = price[leaves] / share[leaves];
        for (size_t i = 0; i < width; i++)
            price[i] = i == leaves ? entered : fmax(price[i] - entered * share[i], 0);
        memcpy(basis[leaves], row, sizeof row);
        bound[leaves] = aim;
    }
}
