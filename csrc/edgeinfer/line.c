#include "edgeinfer/line.h"

#include "edgeinfer/multiversion.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FINER = 16, BLOCK = 32 }; /* times EI_LINE_FINE for moments; sums of a convolution at once */

void ei_line_table_free(ei_line_table *self) {
    free(self->mass);
    self->mass = NULL;
}

static int table_reserve(ei_line_table *self, size_t cells, size_t points, size_t rows) {
    self->cells = cells;
    self->mass = calloc(3 * cells + 3 * points + rows, sizeof(double));
    if (self->mass == NULL)
        return EI_ERR_NO_MEMORY;
    self->bend = self->mass + cells;
    self->slack = self->bend + cells;
    self->beyond = self->slack + cells;
    self->late = self->beyond + points;
    self->again = self->late + points;
    self->idle = self->again + points;
    return EI_OK;
}

double ei_line_place(const ei_line *self, double z) {
    return expm1(self->exponent * self->step * z) / (self->ratio - 1);
}

static double bend_at(const ei_line *self, double z) {
    const double p = exp(self->exponent * self->step * z), r = self->ratio;
    return (p - 1) * (r - p) / (p * (r - 1) * (r - 1));
}

double ei_line_most_bent(const ei_line *self) {
    const double root = sqrt(self->ratio) + 1;
    return 1 / (root * root);
}

double ei_line_bend_near(const ei_line *self, size_t i) {
    const double one = (double)i / EI_LINE_FINE, other = (double)(i + 1) / EI_LINE_FINE;
    return one <= 0.5 && other >= 0.5 - 0.02 ? ei_line_most_bent(self)
                                             : fmax(bend_at(self, one), bend_at(self, other));
}

static int exponential_table(const ei_line *self, ei_end end, ei_line_table *table) {
    int status = table_reserve(table, 2, self->top + 1, self->rows);
    if (status != EI_OK)
        return status;
    const double mean = self->service->time, x = self->exponent, r = self->ratio,
                 fall = exp(-self->step / mean), power = 1 / (mean * x);
    const double first = x * mean / ((1 - x * mean) * (r - 1)), beyond = (1 - r * fall) * first;
    table->exact = 1;
    table->decay = fall;
    table->mass[0] = 1 - beyond;
    table->mass[1] = beyond * (1 - fall);
    for (size_t i = 0; i < EI_LINE_FINE; i++)
        table->bend[0] += (exp(-self->step * (double)i / EI_LINE_FINE / mean) -
                           exp(-self->step * (double)(i + 1) / EI_LINE_FINE / mean)) *
                          ei_line_bend_near(self, i);
    table->bend[1] = table->bend[0] * fall;
    /* A power of e^{-x y} is convex. */
    const double bent =
        end == EI_UPPER ? 0 : (r - 1) * (r - 1) / 8 * power * (power - 1) * fmax(1, pow(r, power - 2));
    for (size_t n = 0; n <= self->top; n++) {
        const double above = exp(-(double)n * self->step / mean);
        table->beyond[n] = above * beyond;
        table->late[n] = above * fmax(1 - bent, 0);
    }
    return 1 - x * mean > 0 && r * fall < 1 && power >= 1 && table->mass[0] >= 0 ? EI_OK : EI_ERR_ACCURACY;
}

/* Adds a mass at z of cell k. */
static void add_mass(const ei_line *self, ei_line_table *table, size_t k, double z, double mass) {
    const double later = ei_line_place(self, z);
    table->mass[k] += mass * (1 - later);
    if (k + 1 < table->cells)
        table->mass[k + 1] += mass * later;
}

static int samples_table(const ei_line *self, ei_line_table *table) {
    const ei_service *law = self->service;
    const double share = 1 / (double)law->sample_count;
    int status = table_reserve(table, (size_t)(law->samples[law->sample_count - 1] / self->step) + 3,
                               self->top + 1, self->rows);
    for (size_t i = 0; i < law->sample_count && status == EI_OK; i++) {
        const double time = law->samples[i] / self->step, k = floor(time);
        add_mass(self, table, (size_t)k, time - k, share);
        table->bend[(size_t)k] += share * bend_at(self, time - k) * (1 + EI_LINE_ROUNDING);
    }
    table->exact = 1;
    return status;
}

/* Any other law: fine points, rounded up with some probability and down else, so that the moment of x is no
 * less (upper) or no more. */
static int other_table(const ei_line *self, ei_end end, ei_line_table *table) {
    const size_t cells = (size_t)(1.1 * ei_service_reach(self->service) / self->step) + 3,
                 each = EI_LINE_FINE * FINER, fine = (cells - 2) * each;
    ei_lattice ends[2] = {{.sf = NULL}, {.sf = NULL}};
    double moment, *sums = calloc(2 * (cells + 1), sizeof *sums);
    int status = sums == NULL ? EI_ERR_NO_MEMORY : table_reserve(table, cells, self->top + 1, self->rows);
    if (status == EI_OK)
        status = ei_service_log_mgf(self->service, self->exponent, &moment, NULL);
    if (status == EI_OK)
        status = ei_lattice_ends(ends, self->service, self->step / (double)each, fine + 1);
    if (status != EI_OK)
        goto out;
    const double *up = ends[EI_UPPER].sf, *down = ends[EI_LOWER].sf;
    double first[2] = {0, 0};
    for (int side = 0; side < 2; side++) {
        double *sum = sums + (size_t)side * (cells + 1), above = 0;
        for (size_t k = cells; k-- > 0;) {
            double part = 0, inside = 0;
            for (size_t i = 0; i < each && k * each + i <= fine; i++) {
                const size_t at = k * each + i;
                const double mass = side == EI_UPPER ? (at > 0 ? up[at - 1] : 1) - up[at]
                                                     : down[at] - (at < fine ? down[at + 1] : 0);
                const double kept = side == EI_LOWER && at == 0 ? mass + 1 - down[0] : mass;
                inside += kept;
                part += kept * ei_line_place(self, (double)i / (double)each);
            }
            sum[k] = part + above + self->ratio * sum[k + 1];
            above += inside;
        }
        first[side] = sum[0];
    }
    const double most =
        expm1(moment + (end == EI_UPPER ? EI_SERVICE_MGF_ERROR : -EI_SERVICE_MGF_ERROR)) / (self->ratio - 1);
    const double share = fmin(fmax((most - first[EI_LOWER]) / (first[EI_UPPER] - first[EI_LOWER]), 0), 1);
    for (size_t k = 0; k < cells; k++) {
        table->slack[k] = fmax(sums[cells + 1 + k] - sums[k], 0) * (1 + EI_LINE_ROUNDING);
        for (size_t i = 0; i < each && k * each + i <= fine; i++) {
            const size_t at = k * each + i;
            const double rounded_up = (at > 0 ? up[at - 1] : 1) - up[at],
                         rounded_down = (at == 0 ? 1 : down[at]) - (at < fine ? down[at + 1] : 0);
            add_mass(self, table, k, (double)i / (double)each,
                     share * rounded_up + (1 - share) * rounded_down);
            if (at < fine)
                table->bend[k] += (up[at] - down[at + 1]) * ei_line_bend_near(self, i / FINER);
        }
        table->bend[k] += table->slack[k];
    }
    /* What is longer than all fine points. */
    table->mass[cells - 1] += end == EI_UPPER ? up[fine] : 0;
out:
    ei_lattice_free(&ends[0]);
    ei_lattice_free(&ends[1]);
    free(sums);
    return status;
}

/* A polygon on its side of a function that falls and is between low and high at fine points, zero from the
 * last of these on (lower), or as there; `points` values. */
static void find_polygon(const ei_line *self, ei_end end, const double *low, const double *high, size_t fine,
                         double *value, size_t points) {
    const double *at = end == EI_UPPER ? high : low;
    double before = 0;
    for (size_t n = 0; n < points; n++) {
        double off = 0;
        const double left = n * EI_LINE_FINE < fine ? at[n * EI_LINE_FINE]
                            : end == EI_UPPER       ? high[fine]
                                                    : 0,
                     right = (n + 1) * EI_LINE_FINE <= fine ? at[(n + 1) * EI_LINE_FINE]
                             : end == EI_UPPER              ? high[fine]
                                                            : 0;
        for (size_t i = 0; i < EI_LINE_FINE && n * EI_LINE_FINE + i < fine; i++) {
            const double z = (double)i / EI_LINE_FINE, ahead = (double)(i + 1) / EI_LINE_FINE;
            const double weight = ei_line_place(self, 1 - (end == EI_UPPER ? ahead : z)),
                         chord = right + (left - right) * weight;
            off = fmax(off, end == EI_UPPER ? high[n * EI_LINE_FINE + i] - chord
                                            : chord - low[n * EI_LINE_FINE + i + 1]);
        }
        value[n] = end == EI_UPPER ? (left + fmax(before, off)) * (1 + EI_LINE_ROUNDING)
                                   : (left - fmax(before, off)) * (1 - EI_LINE_ROUNDING);
        before = off;
    }
}

/* psi and what follows from it: late, again, idle. */
static int find_late(const ei_line *self, ei_end end, ei_line_table *table) {
    const size_t fine = table->cells * EI_LINE_FINE, ahead = self->per_service * EI_LINE_FINE;
    const double part = self->step / EI_LINE_FINE, rate = self->rate, idle = -expm1(-rate * part);
    ei_lattice ends[2] = {{.sf = NULL}, {.sf = NULL}};
    const size_t both = 2 * fine;
    double *sums = calloc(2 * (both + 1), sizeof *sums), *low = sums, *high = sums + both + 1;
    int status = sums == NULL ? EI_ERR_NO_MEMORY : ei_lattice_ends(ends, self->service, part, fine + 1);
    if (status != EI_OK)
        goto out;
    const double *up = ends[EI_UPPER].sf, *down = ends[EI_LOWER].sf;
    table->split = 1;
    table->at_once = end == EI_UPPER ? up[ahead < fine ? ahead : fine] : ahead <= fine ? down[ahead] : 0;
    find_polygon(self, end, down, up, fine, table->late, self->top + 1);
    double last[2] = {0, up[fine]};
    for (size_t k = fine + 1; k-- > 0;) {
        last[0] = k < fine ? idle * down[k + 1] + (1 - idle) * last[0] : 0;
        last[1] = k < fine ? idle * up[k] + (1 - idle) * last[1] : up[fine];
        low[k] = last[0];
        high[k] = last[1];
    }
    find_polygon(self, end, low, high, fine, table->idle, self->rows);
    for (size_t k = 0; k <= both; k++) {
        double sum = 0;
        for (size_t m = 0; m <= k && m <= fine; m++) {
            const double mass = end == EI_UPPER ? (m > 0 ? up[m - 1] : 1) - up[m]
                                                : (m > 0 ? down[m] : 1) - (m < fine ? down[m + 1] : 0);
            const size_t at = k - m + ahead;
            sum += mass * (end == EI_UPPER ? up[at < fine ? at : fine] : at <= fine ? down[at] : 0);
        }
        const double rest = end == EI_UPPER ? up[k < fine ? k : fine] : k < fine ? down[k + 1] : 0;
        low[k] = high[k] = sum + rest * table->at_once;
    }
    find_polygon(self, end, low, high, both, table->again, self->top + 1);
out:
    ei_lattice_free(&ends[0]);
    ei_lattice_free(&ends[1]);
    free(sums);
    return status;
}

int ei_line_table_init(ei_line_table *table, const ei_line *self, ei_end end) {
    if (self->service->kind == EI_SERVICE_EXPONENTIAL)
        return exponential_table(self, end, table);
    int status = self->service->kind == EI_SERVICE_SAMPLES ? samples_table(self, table)
                                                           : other_table(self, end, table);
    if (status != EI_OK)
        return status;
    double sum = 0;
    size_t k = table->cells;
    for (size_t n = self->top + 1; n-- > 0;) {
        while (k > n + 1)
            sum += table->mass[--k];
        table->beyond[n] = sum;
    }
    return find_late(self, end, table);
}

/* ---- one service after the other */

/* to[n] = sum over k <= n of kernel[k] from[n - k], rows of `width`. */
EI_MULTIVERSION static void convolve(const double *kernel, size_t cells, double decay,
                                     const double *restrict from, double *restrict to, size_t count,
                                     size_t width) {
    if (decay > 0) {
        double sum[EI_LINE_WIDTH] = {0};
        size_t n = 0;
        /* One function: four points at once, so that a sum does not wait for the one before. */
        const double two = decay * decay, three = two * decay, four = two * two;
        for (; width == 1 && n + 4 <= count; n += 4) {
            const double *at = from + n, before = *sum;
            to[n] = kernel[0] * at[0] + kernel[1] * before;
            to[n + 1] = kernel[0] * at[1] + kernel[1] * (decay * before + at[0]);
            to[n + 2] = kernel[0] * at[2] + kernel[1] * (two * before + (decay * at[0] + at[1]));
            to[n + 3] =
                kernel[0] * at[3] + kernel[1] * (three * before + (two * at[0] + decay * at[1] + at[2]));
            *sum = four * before + (three * at[0] + two * at[1] + (decay * at[2] + at[3]));
        }
        for (; n < count; n++)
            for (size_t i = 0; i < width; i++) {
                to[n * width + i] = kernel[0] * from[n * width + i] + kernel[1] * sum[i];
                sum[i] = decay * sum[i] + from[n * width + i];
            }
        return;
    }
    const size_t size = count * width, whole = cells * width < size ? cells * width : size;
    for (size_t at = 0; at < size; at++) {
        /* From where on all of the kernel counts, blocks that stay in registers. */
        if (at >= whole && at + BLOCK <= size) {
            double sum[BLOCK] = {0};
            for (size_t k = 0; k < cells; k++)
                for (size_t i = 0; i < BLOCK; i++)
                    sum[i] += kernel[k] * from[at - k * width + i];
            memcpy(to + at, sum, sizeof sum);
            at += BLOCK - 1;
            continue;
        }
        double sum = 0;
        for (size_t k = 0; k < cells && k * width <= at; k++)
            sum += kernel[k] * from[at - k * width];
        to[at] = sum;
    }
}

/* The clones of a function that other files call would be seen outside of the library. */
EI_MULTIVERSION static void find_kinks(double ratio, ei_end end, const double *restrict from,
                                       double *restrict bent, double *restrict other, size_t count,
                                       size_t width) {
    const double sign = end == EI_UPPER ? 1 : -1;
    for (size_t i = 0; i < width; i++) {
        const double kink = sign * ratio * (from[i] - from[width + i]);
        bent[i] = kink > 0 ? kink : 0;
        other[i] = kink < 0 ? -kink : 0;
    }
    for (size_t at = width; at < (count - 1) * width; at++) {
        const double kink = sign * (ratio * (from[at] - from[at + width]) - (from[at - width] - from[at]));
        bent[at] = kink > 0 ? kink : 0;
        other[at] = kink < 0 ? -kink : 0;
    }
}

void ei_line_kinks(double ratio, ei_end end, const double *from, double *bent, double *other, size_t count) {
    find_kinks(ratio, end, from, bent, other, count, 1);
}

static inline void put_rows(const ei_line_server *self, const double *restrict jump,
                            const double *restrict start, double *restrict to, size_t width) {
    const size_t top = self->line->top;
    const double *restrict beyond = self->table->beyond, *restrict bends = self->bends;
    const double *restrict fresh = self->table->split ? self->table->again : self->table->late;
    const double sign = self->end == EI_UPPER ? 1 : -1;
    for (size_t n = 0; n <= top; n++)
        for (size_t i = 0; i < width; i++) {
            const size_t at = n * width + i;
            const double before = bends[at], here = bends[at + width], bend = before > here ? before : here;
            const double value = to[at] + start[i] * beyond[n] + jump[i] * fresh[n] + sign * bend;
            to[at] = value + sign * EI_LINE_ROUNDING * (value > 0 ? value : -value);
        }
}

/* bends: of the cells before and behind each point. */
EI_MULTIVERSION static void put_together(const ei_line_server *self, const double *restrict jump,
                                         const double *restrict start, double *restrict to, size_t width) {
    if (width == 1)
        put_rows(self, jump, start, to, 1);
    else
        put_rows(self, jump, start, to, EI_LINE_WIDTH);
}

void ei_line_serve(ei_line_server *self, const double *from, double *to, size_t width) {
    const size_t count = self->line->top + 1;
    const ei_line_table *table = self->table;
    double fresh[EI_LINE_WIDTH];
    double *bends = self->bends + width;
    find_kinks(self->line->ratio, self->end, from, self->bent, self->other, count, width);
    memset(self->bends, 0, width * sizeof *bends);
    convolve(table->bend, table->cells, table->decay, self->bent, bends, count - 1, width);
    memset(bends + (count - 1) * width, 0, width * sizeof *bends);
    if (!table->exact) {
        convolve(table->slack, table->cells, 0, self->other, self->more, count - 1, width);
        for (size_t at = 0; at < (count - 1) * width; at++)
            bends[at] += self->more[at];
    }
    convolve(table->mass, table->cells, table->decay, from, to, count, width);
    for (size_t i = 0; i < width; i++) {
        const double jump = fmax(1 - from[i] - self->apart[i] * table->at_once, 0);
        fresh[i] = table->split ? self->apart[i] : jump;
        self->apart[i] = table->split ? jump : 0;
    }
    put_together(self, fresh, from, to, width);
    for (size_t i = 0; i < width && self->end == EI_LOWER; i++)
        to[(count - 1) * width + i] = fmin(to[(count - 1) * width + i], 0);
}
