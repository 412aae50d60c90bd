#include "edgeinfer/fourier.h"

#include "edgeinfer/multiversion.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int ei_fourier_init(ei_fourier *self, size_t length) {
    const double pi = 3.14159265358979323846;
    const size_t quarter = length / 4;
    *self = (ei_fourier){length, malloc(4 * length * sizeof(double)), NULL};
    if (self->turn == NULL)
        return EI_ERR_NO_MEMORY;
    self->room = self->turn + 2 * length;
    double *cosine = self->turn, *sine = cosine + length;
    for (size_t j = 0; j <= quarter / 2; j++) {
        double angle = 2 * pi * (double)j / (double)length, c = cos(angle), s = sin(angle);
        cosine[j] = sine[quarter - j] = c;
        sine[j] = cosine[quarter - j] = s;
    }
    for (size_t j = 0; j < quarter; j++) {
        cosine[quarter + j] = -sine[j];
        sine[quarter + j] = cosine[j];
    }
    for (size_t j = 0; j < 2 * quarter; j++) {
        cosine[2 * quarter + j] = -cosine[j];
        sine[2 * quarter + j] = -sine[j];
    }
    return EI_OK;
}

void ei_fourier_free(ei_fourier *self) {
    free(self->turn);
    self->turn = self->room = NULL;
}

double ei_fourier_error(const ei_fourier *self) {
    double passes = ceil(log2((double)self->length) / 2) + 1;
    return 7 * DBL_EPSILON / 2 * passes * 1.01;
}

/* One factor of a pass and its multiples. */
typedef struct {
    double c1, s1, c2, s2, c3, s3;
} factors;

/* Four parts of `step` numbers each, `apart` from each other, to four that follow each other. sign: of i. */
EI_MULTIVERSION
static void four(const double *restrict re, const double *restrict im, double *restrict to_re,
                 double *restrict to_im, size_t step, size_t apart, const factors *w, double sign) {
    for (size_t q = 0; q < step; q++) {
        double ar = re[q], ai = im[q], br = re[q + apart], bi = im[q + apart];
        double cr = re[q + 2 * apart], ci = im[q + 2 * apart], dr = re[q + 3 * apart], di = im[q + 3 * apart];
        double pr = ar + cr, pi = ai + ci, mr = ar - cr, mi = ai - ci;
        double sr = br + dr, si = bi + di, er = sign * (bi - di), ei = sign * (dr - br);
        to_re[q] = pr + sr;
        to_im[q] = pi + si;
        double xr = mr + er, xi = mi + ei;
        to_re[q + step] = xr * w->c1 - xi * w->s1;
        to_im[q + step] = xr * w->s1 + xi * w->c1;
        xr = pr - sr;
        xi = pi - si;
        to_re[q + 2 * step] = xr * w->c2 - xi * w->s2;
        to_im[q + 2 * step] = xr * w->s2 + xi * w->c2;
        xr = mr - er;
        xi = mi - ei;
        to_re[q + 3 * step] = xr * w->c3 - xi * w->s3;
        to_im[q + 3 * step] = xr * w->s3 + xi * w->c3;
    }
}

EI_MULTIVERSION
static void two(const double *restrict re, const double *restrict im, double *restrict to_re,
                double *restrict to_im, size_t step) {
    for (size_t q = 0; q < step; q++) {
        to_re[q] = re[q] + re[q + step];
        to_im[q] = im[q] + im[q + step];
        to_re[q + step] = re[q] - re[q + step];
        to_im[q + step] = im[q] - im[q + step];
    }
}

static void transform(const ei_fourier *self, double *data, double sign) {
    const size_t length = self->length;
    const double *cosine = self->turn, *sine = cosine + length;
    double *from = data, *to = self->room;
    size_t left = length, step = 1;
    for (; left >= 4; left /= 4, step *= 4) {
        size_t quarter = left / 4;
        for (size_t p = 0; p < quarter; p++) {
            size_t one = p * step;
            factors w = {cosine[one],           -sign * sine[one], cosine[2 * one],
                         -sign * sine[2 * one], cosine[3 * one],   -sign * sine[3 * one]};
            four(from + step * p, from + length + step * p, to + 4 * step * p, to + length + 4 * step * p,
                 step, step * quarter, &w, sign);
        }
        double *other = from;
        from = to;
        to = other;
    }
    if (left == 2) {
        two(from, from + length, to, to + length, step);
        from = to;
    }
    if (from != data)
        memcpy(data, from, 2 * length * sizeof *data);
}

void ei_fourier_forward(const ei_fourier *self, double *data) {
    transform(self, data, 1);
}

void ei_fourier_backward(const ei_fourier *self, double *data) {
    transform(self, data, -1);
}

void ei_fourier_split(const ei_fourier *self, const double *data, size_t k, double parts[4]) {
    const size_t length = self->length, mirror = k == 0 ? 0 : length - k;
    const double *im = data + length;
    parts[0] = (data[k] + data[mirror]) / 2;
    parts[1] = (im[k] - im[mirror]) / 2;
    parts[2] = (im[k] + im[mirror]) / 2;
    parts[3] = (data[mirror] - data[k]) / 2;
}

void ei_fourier_join(const ei_fourier *self, const double parts[4], size_t k, double *data) {
    const size_t length = self->length, mirror = k == 0 ? 0 : length - k;
    double *im = data + length;
    data[mirror] = parts[0] + parts[3];
    im[mirror] = parts[2] - parts[1];
    data[k] = parts[0] - parts[3];
    im[k] = parts[1] + parts[2];
}
