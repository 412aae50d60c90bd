#include "edgeinfer/pair_rows.h"

#include "edgeinfer/multiversion.h"
#include "edgeinfer/split.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 8, TILE = 4, TERMS = 64 };
enum { PARTS = 128 };                /* of a step, to which times are rounded */
static const double FINER = 1.25;    /* times the fewest steps to an interval: the most that are tried, */
static const double LESS_BENT = 0.7; /* where that makes samples bend less */

typedef double lanes __attribute__((vector_size(LANES * sizeof(double)), aligned(sizeof(double)), may_alias));

/* The clones of a function that other files call would be seen outside of the library. */
EI_MULTIVERSION
static void add_products(double *restrict to, const double *restrict from, double factor, size_t count) {
    for (size_t i = 0; i < count; i++)
        to[i] += factor * from[i];
}

void ei_add_products(double *restrict to, const double *restrict from, double factor, size_t count) {
    add_products(to, from, factor, count);
}

void ei_add_shifted(double *restrict to, const double *restrict from, double factor, ptrdiff_t shift,
                    ptrdiff_t count, ptrdiff_t known) {
    const ptrdiff_t first = shift > 0 ? shift : 0, last = count < known + shift ? count : known + shift;
    if (factor > 0 && first < last)
        add_products(to + first, from + first - shift, factor, (size_t)(last - first));
}

/* to[t down + i] += factor[n + t] from[n stride + i], t < TILE, i < LANES, n < terms. */
EI_MULTIVERSION
static void add_tile(double *restrict to, ptrdiff_t down, const double *restrict from, ptrdiff_t stride,
                     const double *restrict factor, ptrdiff_t terms) {
    lanes *first = (lanes *)to, *second = (lanes *)(to + down), *third = (lanes *)(to + 2 * down),
          *fourth = (lanes *)(to + 3 * down), a = *first, b = *second, c = *third, d = *fourth;
    for (ptrdiff_t n = 0; n < terms; n++, from += stride) {
        const lanes x = *(const lanes *)from;
        a += factor[n] * x;
        b += factor[n + 1] * x;
        c += factor[n + 2] * x;
        d += factor[n + 3] * x;
    }
    *first = a;
    *second = b;
    *third = c;
    *fourth = d;
}

/* to[i] += sum of factor[c] from[i + c], c < terms, i < TILE LANES. */
EI_MULTIVERSION
static void add_block(double *restrict to, const double *restrict from, const double *restrict factor,
                      ptrdiff_t terms) {
    lanes *at = (lanes *)to, a = at[0], b = at[1], c = at[2], d = at[3];
    for (ptrdiff_t n = 0; n < terms; n++, from++) {
        const lanes *x = (const lanes *)from;
        a += factor[n] * x[0];
        b += factor[n] * x[1];
        c += factor[n] * x[2];
        d += factor[n] * x[3];
    }
    at[0] = a;
    at[1] = b;
    at[2] = c;
    at[3] = d;
}

void ei_add_ahead(double *restrict to, const double *restrict from, const double *restrict factor,
                  ptrdiff_t terms, ptrdiff_t count) {
    double end[TILE * LANES] = {0};
    const ptrdiff_t whole = count - count % (TILE * LANES);
    const size_t rest = (size_t)(count - whole) * sizeof *to;
    for (ptrdiff_t i = 0; i < whole; i += TILE * LANES)
        add_block(to + i, from + i, factor, terms);
    memcpy(end, to + whole, rest);
    if (rest > 0)
        add_block(end, from + whole, factor, terms);
    memcpy(to + whole, end, rest);
}

/* The same for i < width, and with factor[n + t - (TILE - 1)], which is 0 outside of its range. */
static void add_rows(double *restrict to, ptrdiff_t down, const double *restrict from, ptrdiff_t stride,
                     const double *restrict factor, ptrdiff_t count, ptrdiff_t terms, ptrdiff_t width) {
    double part[TERMS + TILE - 1], end[TILE * LANES] = {0};
    const ptrdiff_t whole = width - width % LANES;
    const size_t rest = (size_t)(width - whole) * sizeof *to;
    if (terms > count + TILE - 1)
        terms = count + TILE - 1;
    for (ptrdiff_t n = 0; n < terms; n += TERMS, from += TERMS * stride) {
        const ptrdiff_t some = terms - n < TERMS ? terms - n : TERMS;
        int any = 0;
        for (ptrdiff_t j = 0; j < some + TILE - 1; j++) {
            const ptrdiff_t c = n + j - (TILE - 1);
            part[j] = c >= 0 && c < count ? factor[c] : 0;
            any |= part[j] > 0;
        }
        if (!any)
            continue;
        for (ptrdiff_t i = 0; i < whole; i += LANES)
            add_tile(to + i, down, from + i, stride, part, some);
        for (ptrdiff_t t = 0; t < TILE && rest > 0; t++)
            memcpy(end + t * LANES, to + t * down + whole, rest);
        if (rest > 0)
            add_tile(end, LANES, from + whole, stride, part, some);
        for (ptrdiff_t t = 0; t < TILE && rest > 0; t++)
            memcpy(to + t * down + whole, end + t * LANES, rest);
    }
}

void ei_add_served(double *restrict to, const double *restrict from, const double *restrict factor,
                   ptrdiff_t count, ptrdiff_t end, ptrdiff_t points) {
    const ptrdiff_t stride = points - 1; /* to the next row at the same k + i */
    ptrdiff_t k = -1;
    for (; k + TILE <= end; k += TILE) {
        const ptrdiff_t last = k + TILE - 1, most = end - k;
        const ptrdiff_t beyond = k + points, from_all = end - 1 > last ? end - 1 : last;
        /* The places k + i that all rows of the tile have; those before the first full row one after the
         * other. */
        ptrdiff_t y = last;
        for (; y < beyond && y < from_all; y += LANES) {
            const ptrdiff_t width = beyond - y < LANES ? beyond - y : LANES;
            add_rows(to + last * stride + y, -stride, from + k * stride + y, stride, factor, count, y - k + 1,
                     width);
            for (ptrdiff_t r = y + 1; r < y + width && r < end; r++)
                for (ptrdiff_t t = r - count < k ? k : r - count + 1; t <= last; t++)
                    for (ptrdiff_t x = r; x < y + width; x++)
                        to[t * stride + x] += factor[r - t] * from[r * stride + x];
        }
        if (y < beyond)
            add_rows(to + last * stride + y, -stride, from + k * stride + y, stride, factor, count, most,
                     beyond - y);
        for (ptrdiff_t t = k; t <= last; t++)
            for (ptrdiff_t c = 0; c < count && t + c < end; c++) {
                for (ptrdiff_t x = t + c; x < last; x++)
                    to[t * stride + x] += factor[c] * from[(t + c) * stride + x];
                for (ptrdiff_t x = beyond > t + c ? beyond : t + c; x < t + points; x++)
                    to[t * stride + x] += factor[c] * from[(t + c) * stride + x];
            }
    }
    for (; k < end; k++)
        for (ptrdiff_t c = 0; c < count && k + c < end; c++)
            ei_add_shifted(to + k * points, from + (k + c) * points, factor[c], c, points, points);
}

void ei_add_drained(double *restrict to, const double *restrict from, const double *restrict factor,
                    ptrdiff_t count, ptrdiff_t first, ptrdiff_t end, ptrdiff_t points) {
    ptrdiff_t k = 0;
    for (; k + TILE <= end; k += TILE)
        add_rows(to + k * points, points, from + (k + TILE - 1) * points, -points, factor, count,
                 k + TILE - first, points);
    for (; k < end; k++)
        for (ptrdiff_t c = 0; c < count && k - c >= first; c++)
            ei_add_shifted(to + k * points, from + (k - c) * points, factor[c], 0, points, points);
}

EI_MULTIVERSION
static void raise_row(double *restrict to, const double *restrict from, size_t count) {
    for (size_t i = 0; i < count; i++)
        to[i] = from[i] > to[i] ? from[i] : to[i];
}

void ei_raise_row(double *restrict to, const double *restrict from, size_t count) {
    raise_row(to, from, count);
}

EI_MULTIVERSION
static void find_bend(double *restrict to, const double *restrict before, const double *restrict here,
                      const double *restrict after, double ratio, double sign, size_t count) {
    for (size_t i = 0; i < count; i++) {
        double bend = sign * (before[i] - (1 + ratio) * here[i] + ratio * after[i]);
        to[i] = bend > 0 ? bend : 0;
    }
}

void ei_find_bend(double *restrict to, const double *restrict before, const double *restrict here,
                  const double *restrict after, double ratio, size_t count, ei_end end) {
    find_bend(to, before, here, after, ratio, end == EI_LOWER ? 1 : -1, count);
}

double ei_most_bend(double ratio) {
    const double root = sqrt(ratio) + 1;
    return 1 / (root * root);
}

void ei_continue_row(double *restrict below, const double *restrict first, const double *restrict next,
                     double ratio, ptrdiff_t points) {
    for (ptrdiff_t i = 0; i + 1 < points; i++)
        below[i + 1] = ((1 + ratio) * first[i] - (i > 0 ? next[i - 1] : 1)) / ratio;
}

void ei_add_bends(double *restrict to, const double *restrict along, const double *restrict across,
                  int before_first, ptrdiff_t points) {
    for (ptrdiff_t i = 0; i < points; i++) {
        to[i] = along[i] + across[i];
        if (before_first && i > 0)
            to[i] = fmax(to[i], along[i - 1] + across[i - 1]);
    }
}

double ei_relative_change(const double *old, const double *new, ptrdiff_t count, double nothing) {
    double most = 0;
    for (ptrdiff_t j = 0; j < count; j++)
        if (new[j] > nothing)
            most = fmax(most, fabs(new[j] - old[j]) / new[j]);
    return most;
}

static double bend_of(const ei_added_stage *stage, double step) {
    return stage->law != NULL ? ei_split_bend(stage->law, stage->less, step) : 0;
}

ptrdiff_t ei_pair_interval(const ei_arrival *arrival, const ei_added_stage *first,
                           const ei_added_stage *second, double step) {
    const double interval = ei_arrival_mean(arrival), fewest = ceil(interval / step);
    double best = INFINITY, found = fewest;
    if (arrival->kind != EI_ARRIVAL_DETERMINISTIC)
        return 0;
    for (double points = fewest; points <= fmax(FINER * fewest, fewest + 4); points++) {
        const double bend = bend_of(first, interval / points) + bend_of(second, interval / points);
        if (bend < LESS_BENT * best) {
            best = bend;
            found = points;
        }
    }
    return (ptrdiff_t)found;
}

ei_wait_weights ei_wait_weights_of(double rate, double exponent) {
    const double e = exponent, r = 1 / exp(e), all = -expm1(-rate), whole = -expm1(-e);
    const double once = rate / (rate + e) * -expm1(-rate - e),
                 twice = rate / (rate + 2 * e) * -expm1(-rate - 2 * e);
    const double near = (once - r * all) / whole,
                 nearest = (twice - 2 * r * once + r * r * all) / (whole * whole);
    return (ei_wait_weights){exp(-rate), near, all - near, near - nearest, nearest, all - 2 * near + nearest};
}

void ei_wait_law_free(ei_wait_law *self) {
    free(self->line);
    *self = (ei_wait_law){.count = 0};
}

void ei_wait_row(const ei_wait_law *self, const double *here, const double *beside, const double *bent,
                 double most, ptrdiff_t points, double *restrict to, double *restrict more) {
    memset(to, 0, (size_t)points * sizeof *to);
    memset(more, 0, (size_t)points * sizeof *more);
    ei_add_ahead(to, here, self->own, self->count, points);
    ei_add_ahead(to, beside, self->beside, self->count, points);
    ei_add_ahead(more, bent, self->chance, self->count, points);
    for (ptrdiff_t i = 0; i < points; i++)
        more[i] *= most;
}

/* A time of c + z steps. */
static void put_time(ei_wait_law *self, double exponent, double place, double mass) {
    const double cell = floor(place), part = place - cell,
                 near = (expm1(-exponent * part) - expm1(-exponent)) / -expm1(-exponent), far = 1 - near;
    const size_t c = (size_t)cell;
    self->line[c] += mass * near;
    self->line[c + 1] += mass * far;
    self->own[c] += mass * near * near;
    self->own[c + 1] += mass * far * far;
    self->beside[c] += mass * near * far;
    self->chance[c] += part > 0 ? mass : 0;
}

int ei_wait_law_init(ei_wait_law *self, const ei_arrival *arrival, double step, double exponent, size_t limit,
                     ei_end end) {
    const size_t count = limit + 2;
    const int upper = end == EI_UPPER;
    double above = 1;
    *self = (ei_wait_law){.count = 0};
    if (arrival->kind == EI_ARRIVAL_POISSON || arrival->kind == EI_ARRIVAL_DETERMINISTIC)
        return EI_OK;
    if ((self->line = calloc(4 * count, sizeof(double))) == NULL)
        return EI_ERR_NO_MEMORY;
    self->own = self->line + count;
    self->beside = self->own + count;
    self->chance = self->beside + count;
    size_t j = 1;
    for (; above > 0 && j <= limit * PARTS; j++) {
        const double sf = ei_time_sf(arrival, (double)j * step / PARTS);
        if (isnan(sf))
            return EI_ERR_ACCURACY;
        const double left = fmin(fmax(sf + (upper ? -EI_TIME_ERROR : EI_TIME_ERROR), 0), above);
        if (above > left)
            put_time(self, exponent, (double)(upper ? j - 1 : j) / PARTS, above - left);
        above = left;
        if (!upper && sf < EI_TIME_ERROR)
            break;
    }
    if (upper && above > 0)
        put_time(self, exponent, (double)(j - 1) / PARTS, above);
    self->count = (ptrdiff_t)fmin((double)(j / PARTS + 2), (double)count);
    return EI_OK;
}
