#include "edgeinfer/ladder.h"

#include "edgeinfer/modulated.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
    MOST = EI_ARRIVAL_PHASES * EI_ARRIVAL_PHASES,
    LARGER = (EI_ARRIVAL_PHASES + 1) * (EI_ARRIVAL_PHASES + 1),
    NEWTON = 200,
    DOUBLINGS = 60,
    WIDER = 20, /* times that an enclosure is made twice as wide */
    TERMS = 20, /* of an exponential function of at most 1 */
    STEPS = 64  /* powers of a matrix that are looked at one by one */
};
static const double SETTLED = 1e-15;
static const double FAR = 1e-280;

/* A^{-1} of the matrix A that is -beside beside its diagonal and has the sums of rows `sums`; both are
 * overwritten. */
static void invert(double *beside, double *sums, double *inverse, size_t n) {
    for (size_t i = 0; i < n * n; i++)
        inverse[i] = i % (n + 1) == 0;
    for (size_t k = 0; k < n; k++) {
        double pivot = sums[k];
        for (size_t j = k + 1; j < n; j++)
            pivot += beside[k * n + j];
        beside[k * n + k] = pivot;
        for (size_t i = k + 1; i < n; i++) {
            const double factor = beside[i * n + k] / pivot;
            for (size_t j = k + 1; j < n; j++)
                beside[i * n + j] += factor * beside[k * n + j];
            for (size_t j = 0; j < n; j++)
                inverse[i * n + j] += factor * inverse[k * n + j];
            sums[i] += factor * sums[k];
        }
    }
    for (size_t k = n; k-- > 0;)
        for (size_t j = 0; j < n; j++) {
            for (size_t i = k + 1; i < n; i++)
                inverse[k * n + j] += beside[k * n + i] * inverse[i * n + j];
            inverse[k * n + j] /= beside[k * n + k];
        }
}

/* mu (mu - D - mu V)^{-1} and Psi(V), and their relative error; infinite: that is no M-matrix. */
static double psi(double rate, const ei_arrival *arrival, const double *matrix, double *inverse,
                  double *value) {
    const size_t n = arrival->count;
    double beside[MOST], sums[EI_ARRIVAL_PHASES], error = 0;
    ei_modulated_reversed(arrival, beside);
    for (size_t i = 0; i < n; i++) {
        double stays = 1;
        for (size_t j = 0; j < n; j++) {
            beside[i * n + j] += rate * matrix[i * n + j];
            stays -= matrix[i * n + j];
        }
        sums[i] = rate * stays + arrival->rates[i];
        if (!(stays > 0))
            return INFINITY;
        error = fmax(error, (double)(n + 4) * rate / sums[i]);
    }
    invert(beside, sums, inverse, n);
    for (size_t i = 0; i < n * n; i++) {
        value[i] = inverse[i] * arrival->rates[i % n];
        inverse[i] *= rate;
    }
    return (error + 8 * (double)(n * n) + 16) * DBL_EPSILON;
}

/* X = E + left X right in the place of E; left and right are overwritten. */
static void solve_stein(double *left, double *right, double *x, size_t n) {
    double product[MOST], more[MOST];
    for (int k = 0; k < DOUBLINGS; k++) {
        double change = 0;
        ei_modulated_multiply(left, x, product, n);
        ei_modulated_multiply(product, right, more, n);
        for (size_t i = 0; i < n * n; i++) {
            if (more[i] > 0)
                change = fmax(change, more[i] / (x[i] + more[i]));
            x[i] += more[i];
        }
        if (change < SETTLED)
            break;
        ei_modulated_multiply(left, left, product, n);
        memcpy(left, product, n * n * sizeof *left);
        ei_modulated_multiply(right, right, product, n);
        memcpy(right, product, n * n * sizeof *right);
    }
}

/* U by Newton's steps from 0 on, and X of the header. */
static int find_root(double rate, const ei_arrival *arrival, double *root, double *width) {
    const size_t n = arrival->count;
    double inverse[MOST], value[MOST];
    memset(root, 0, n * n * sizeof *root);
    for (int k = 0; k < NEWTON; k++) {
        const double error = psi(rate, arrival, root, inverse, value);
        double change = 0;
        if (!isfinite(error))
            return EI_ERR_ACCURACY;
        for (size_t i = 0; i < n * n; i++) {
            width[i] = fmax(value[i] - root[i], 0);
            if (value[i] > 0)
                change = fmax(change, width[i] / value[i]);
        }
        const int last = change <= 2 * error || k == NEWTON - 1;
        if (last)
            for (size_t i = 0; i < n * n; i++) {
                root[i] = value[i];
                width[i] = 2.5 * error * value[i];
            }
        solve_stein(inverse, value, width, n);
        if (last)
            return EI_OK;
        for (size_t i = 0; i < n * n; i++)
            root[i] += width[i];
    }
    return EI_ERR_ACCURACY;
}

int ei_ladder_init(ei_ladder *self, const ei_arrival *arrival, double rate) {
    const size_t n = arrival->count;
    double root[MOST], width[MOST], inverse[MOST], value[MOST];
    if (n > EI_ARRIVAL_PHASES)
        return EI_ERR_TOO_LARGE;
    *self = (ei_ladder){.count = n, .rate = rate};
    for (size_t i = 0; i < n; i++)
        self->shares[i] = arrival->stationary[i] * arrival->rates[i] * ei_arrival_mean(arrival);
    int status = find_root(rate, arrival, root, width);
    for (int k = 0; k < WIDER && status == EI_OK; k++) {
        int holds = 1;
        for (int end = EI_LOWER; end <= EI_UPPER && holds; end++) {
            double *ladder = self->ladder[end];
            for (size_t i = 0; i < n * n; i++)
                ladder[i] = fmax(end == EI_LOWER ? root[i] - width[i] : root[i] + width[i], 0);
            const double error = psi(rate, arrival, ladder, inverse, value);
            holds = isfinite(error);
            for (size_t i = 0; i < n * n && holds; i++)
                holds = end == EI_LOWER ? ladder[i] <= value[i] * (1 - error)
                                        : value[i] * (1 + error) <= ladder[i];
        }
        if (holds)
            return EI_OK;
        for (size_t i = 0; i < n * n; i++)
            width[i] *= 2;
    }
    return EI_ERR_ACCURACY;
}

void ei_ladder_climb(const ei_ladder *self, ei_end end, double *vector) {
    const size_t n = self->count;
    double moved[EI_ARRIVAL_PHASES];
    for (size_t i = 0; i < n; i++) {
        moved[i] = 0;
        for (size_t j = 0; j < n; j++)
            moved[i] += self->ladder[end][i * n + j] * vector[j];
    }
    memcpy(vector, moved, n * sizeof *vector);
}

void ei_ladder_survive(const double *matrix, size_t n, ei_end end, double x, double *vector) {
    double power[LARGER], next[LARGER], error = (double)(TERMS * (n + 3)) * DBL_EPSILON + 1e-14;
    int halvings = 0;
    for (; x > 1; halvings++)
        x /= 2;
    /* e^{-x} times the exponential function of x M, from the last term on. */
    for (size_t i = 0; i < n * n; i++)
        power[i] = i % (n + 1) == 0;
    for (int k = TERMS; k > 0; k--) {
        ei_modulated_multiply(matrix, power, next, n);
        for (size_t i = 0; i < n * n; i++)
            power[i] = next[i] * x / k + (i % (n + 1) == 0);
    }
    for (size_t i = 0; i < n * n; i++)
        power[i] = exp(-x) * (power[i] + (end == EI_UPPER ? 1e-19 : 0));
    for (int k = 0; k < halvings; k++) {
        ei_modulated_multiply(power, power, next, n);
        memcpy(power, next, n * n * sizeof *power);
        error = 2 * error + (double)(n + 2) * DBL_EPSILON;
    }
    for (size_t i = 0; i < n; i++) {
        vector[i] = 0;
        for (size_t j = 0; j < n; j++)
            vector[i] += power[i * n + j];
        vector[i] *= end == EI_UPPER ? 1 + error : 1 - error;
    }
}

void ei_ladder_tails(const ei_ladder *self, ei_end end, double time, double *sojourn, double *wait) {
    double vector[EI_ARRIVAL_PHASES];
    ei_ladder_survive(self->ladder[end], self->count, end, self->rate * time, vector);
    for (int which = 0; which < 2; which++) {
        double sum = 0;
        for (size_t i = 0; i < self->count; i++)
            sum += self->shares[i] * vector[i];
        *(which == 0 ? sojourn : wait) = sum * (end == EI_UPPER ? 1 + 1e-14 : 1 - 1e-14);
        ei_ladder_climb(self, end, vector);
    }
}

double ei_ladder_sf(const ei_ladder *self, ei_end end, double time) {
    double sojourn, wait;
    if (!(time >= 0))
        return 1;
    ei_ladder_tails(self, end, time, &sojourn, &wait);
    /* Below that, powers may have lost what counts. */
    if (end == EI_UPPER && sojourn < FAR)
        sojourn = FAR;
    return fmin(sojourn, 1);
}

/* vector = matrix vector times a factor; whether no entry has grown. */
static int move(const double *matrix, size_t n, double factor, const double *vector, double *moved) {
    int falls = 1;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t j = 0; j < n; j++)
            sum += matrix[i * n + j] * vector[j];
        moved[i] = sum * factor;
        falls &= moved[i] <= vector[i];
    }
    return falls;
}

/* The matrix's square in its place, times a factor. */
static void square(double *matrix, size_t n, double factor) {
    double product[MOST];
    ei_modulated_multiply(matrix, matrix, product, n);
    for (size_t i = 0; i < n * n; i++)
        matrix[i] = product[i] * factor;
}

/* No less than any power of the matrix, which is overwritten, times the vector, in the place of this one, and
 * the most that such a one times `shares` may be. */
static int raise_to_all(double *matrix, size_t n, const double *shares, double *vector, double *most) {
    const double rounding = 1 + (double)(n + 4) * DBL_EPSILON;
    double one[EI_ARRIVAL_PHASES], next[EI_ARRIVAL_PHASES];
    int falls = 0;
    memcpy(one, vector, n * sizeof *one);
    *most = 0;
    for (int k = 0; k < STEPS && !falls; k++) {
        double mean = 0;
        for (size_t i = 0; i < n; i++) {
            mean += shares[i] * one[i];
            vector[i] = fmax(vector[i], one[i]);
        }
        *most = fmax(*most, mean * rounding);
        falls = move(matrix, n, rounding, one, next);
        memcpy(one, next, n * sizeof *one);
    }
    if (falls)
        return EI_OK;
    for (int k = 1; k < STEPS; k *= 2)
        square(matrix, n, rounding);
    for (int k = 0; k < DOUBLINGS; k++) {
        double mean = 0;
        falls = move(matrix, n, rounding, vector, next);
        if (falls)
            return isfinite(*most) ? EI_OK : EI_ERR_ACCURACY;
        for (size_t i = 0; i < n; i++) {
            mean += shares[i] * next[i];
            vector[i] = fmax(vector[i], next[i]);
        }
        *most = fmax(*most, mean * rounding);
        square(matrix, n, rounding);
    }
    return EI_ERR_ACCURACY;
}

int ei_ladder_most(const ei_ladder *self, const ei_arrival *arrival, double theta, int slope, double *most) {
    const size_t n = self->count;
    const double scale = self->rate / (self->rate - theta) * (1 + 1e-12);
    double matrix[MOST], x[EI_ARRIVAL_PHASES];
    for (size_t i = 0; i < n; i++) {
        double stays = 1 + 1e-15;
        for (size_t j = 0; j < n; j++)
            stays -= self->ladder[EI_LOWER][i * n + j];
        x[i] = slope ? stays * self->rate / theta : 1;
    }
    for (size_t i = 0; i < n * n; i++)
        matrix[i] = scale * self->ladder[EI_UPPER][i];
    int status = raise_to_all(matrix, n, self->shares, x, most);
    if (status == EI_OK)
        status = ei_modulated_transform(arrival, theta, matrix);
    for (size_t i = 0; i < n * n && status == EI_OK; i++)
        matrix[i] *= scale;
    return status == EI_OK ? raise_to_all(matrix, n, self->shares, x, most) : status;
}
